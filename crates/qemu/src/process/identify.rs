//! Whether a process is the QEMU of a machine of ours.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use rustix::net::sockopt::socket_peercred;
use rustix::process::Pid;
use voidvm_model::VmId;

use super::{ProcessHandle, RunDir, RunRecord, boot_id};

/// What became of a recorded process.
#[derive(Clone, Debug)]
pub enum Identity {
    /// It lives and is this machine's QEMU.
    Ours(ProcessHandle),
    /// There is no such process any more.
    Gone,
    /// There is a process, and it is not this machine's: leave it alone. Ours is gone.
    Foreign(ForeignReason),
}

/// Why a process is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForeignReason {
    /// The record is another machine's.
    #[error("the record names another machine")]
    OtherMachine,
    /// The pid was given to a process that started later.
    #[error("the process id was given to another process")]
    PidReused,
    /// The process is another user's.
    #[error("the process is another user's")]
    OtherUser,
    /// The command line does not name this machine.
    #[error("the process's command line does not name this machine")]
    OtherProgram,
}

/// Looks for the process a record names: this boot, pid, start time, user, and `-uuid` in its command line.
///
/// Must be called within a tokio runtime.
///
/// # Errors
/// Only where `/proc` or a pidfd cannot be had: nothing is known then, and the process may live.
pub fn identify(record: &RunRecord, id: VmId) -> io::Result<Identity> {
    if record.uuid != id {
        return Ok(Identity::Foreign(ForeignReason::OtherMachine));
    }
    if boot_id()? != record.boot_id {
        return Ok(Identity::Gone);
    }
    let Some(pid) = i32::try_from(record.pid).ok().and_then(Pid::from_raw) else { return Ok(Identity::Gone) };
    identify_pid(pid, Some(record.start_ticks), id)
}

/// Who listens on a socket of ours (the kernel's word, not the peer's): for a machine without a record.
///
/// # Errors
/// As [`identify`].
pub fn identify_listener(socket: &Path, id: VmId) -> io::Result<Identity> {
    let Ok(stream) = std::os::unix::net::UnixStream::connect(socket) else { return Ok(Identity::Gone) };
    let pid = socket_peercred(&stream)?.pid;
    drop(stream);
    identify_pid(pid, None, id)
}

/// Looks through all processes for those of the given machines: by `-uuid` and the monitor's socket in the command line.
///
/// Finds what [`identify`] cannot: a process whose start was cut before its record was written. One pass for all machines.
///
/// # Errors
/// As [`identify`].
pub fn scan(runtime: &Path, ids: &[VmId]) -> io::Result<HashMap<VmId, ProcessHandle>> {
    let wanted: HashMap<String, (VmId, PathBuf)> =
        ids.iter().map(|id| (id.to_string(), (*id, RunDir::new(runtime, *id).qmp()))).collect();
    let mut found = HashMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        let Some(line) = command_line(pid) else { continue };
        let Some((id, qmp)) = uuid_argument(&line).and_then(|uuid| wanted.get(uuid)) else { continue };
        let socket = format!("path={},", qmp.to_string_lossy().replace(',', ",,"));
        if !line.iter().any(|argument| argument.contains(&socket)) {
            continue;
        }
        if let Identity::Ours(handle) = identify_pid(pid, None, *id)? {
            found.insert(*id, handle);
        }
    }
    Ok(found)
}

/// The pid is held first and looked at afterwards, so all that is read is about the process that is held.
fn identify_pid(pid: Pid, start_ticks: Option<u64>, id: VmId) -> io::Result<Identity> {
    let handle = match ProcessHandle::open(pid) {
        Ok(handle) => handle,
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            return Ok(Identity::Gone);
        }
        Err(error) => return Err(error),
    };
    let foreign = |reason| Ok(Identity::Foreign(reason));
    let (Some(stat), Some(uid)) = (Stat::read(handle.pid()), user_of(pid)) else { return Ok(Identity::Gone) };
    if start_ticks.is_some_and(|ticks| ticks != stat.start_ticks) {
        return foreign(ForeignReason::PidReused);
    }
    if stat.is_dead() {
        return Ok(Identity::Gone);
    }
    if uid != rustix::process::geteuid().as_raw() {
        return foreign(ForeignReason::OtherUser);
    }
    let names_it =
        command_line(pid).is_some_and(|line| uuid_argument(&line).is_some_and(|uuid| uuid == id.to_string()));
    if handle.has_ended()? {
        return Ok(Identity::Gone);
    }
    if !names_it {
        return foreign(ForeignReason::OtherProgram);
    }
    Ok(Identity::Ours(handle))
}

/// The process that had this pid and started then, if it still lives. The caller proves that the boot is the same.
pub(crate) fn hold(pid: u32, start_ticks: u64) -> io::Result<Option<ProcessHandle>> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    let handle = match ProcessHandle::open(pid) {
        Ok(handle) => handle,
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let same =
        Stat::read(handle.pid()).is_some_and(|stat| stat.start_ticks == start_ticks && !stat.is_dead());
    Ok((same && !handle.has_ended()?).then_some(handle))
}

/// What is needed of `/proc/PID/stat`.
pub(super) struct Stat {
    state: u8,
    pub(super) start_ticks: u64,
    pub(super) cpu_ticks: u64,
    pub(super) resident_pages: u64,
}

impl Stat {
    pub(super) fn read(pid: u32) -> Option<Self> {
        Self::parse(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The command's name, in parentheses, may hold anything; fields are counted after the last parenthesis.
    fn parse(line: &[u8]) -> Option<Self> {
        let end = line.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(line.get(end + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            state: *fields.first()?.as_bytes().first()?,
            cpu_ticks: number(11)?.saturating_add(number(12)?),
            start_ticks: number(19)?,
            resident_pages: number(21)?,
        })
    }

    /// Ended, with its exit status not taken yet.
    fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// The real user of a process.
fn user_of(pid: Pid) -> Option<u32> {
    let status = std::fs::read(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let status = String::from_utf8_lossy(&status);
    status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_ascii_whitespace().next()?.parse().ok())
}

fn command_line(pid: Pid) -> Option<Vec<String>> {
    let bytes = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
    let line: Vec<String> =
        bytes.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    Some(line)
}

/// The word after the first `-uuid`: ours comes before anything a user can choose but the name, which is no word of its own.
fn uuid_argument(line: &[String]) -> Option<&str> {
    let at = line.iter().position(|word| word == "-uuid")?;
    line.get(at + 1).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_does_not_shift_the_fields() {
        let line =
            b"7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 100 23 0 0 20 0 1 0 4711 99 42 18446744073709551615";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.start_ticks, stat.cpu_ticks, stat.resident_pages), (4711, 123, 42));
        assert!(!stat.is_dead());
        for broken in [&b""[..], b")", b"1 (x) Z 1 2", b"\xff) S \xff"] {
            assert!(Stat::parse(broken).is_none());
        }
    }
}
