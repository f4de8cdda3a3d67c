//! Starting QEMU so that it outlives us: a session and process group of its own, no terminal, none of our descriptors but those
//! it is given.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jiff::Timestamp;
use rustix::process::Pid;
use voidvm_model::{ErrorBody, ErrorCode};

use super::holes;
use super::identify::Stat;
use super::{ProcessHandle, RunDir};

/// A process that was just started.
#[derive(Debug)]
pub struct Spawned {
    /// The process; somebody must [`wait_exit`](ProcessHandle::wait_exit), which also takes its exit status.
    pub handle: ProcessHandle,
    /// When it started, in clock ticks since boot.
    pub start_ticks: u64,
    /// When it started, by the host's clock.
    pub started_at: Timestamp,
}

/// The lowest number an inherited descriptor gets: above those a program opens for itself first.
pub const FIRST_INHERITED: RawFd = 64;

/// Descriptors a new process starts with, each under the number that its arguments name: [`FIRST_INHERITED`] and on, in order.
#[derive(Debug, Default)]
pub struct Inherited(Vec<OwnedFd>);

impl Inherited {
    /// Adds a descriptor.
    ///
    /// Returns its number in the new process.
    pub fn add(&mut self, fd: OwnedFd) -> RawFd {
        self.0.push(fd);
        FIRST_INHERITED + RawFd::try_from(self.0.len() - 1).unwrap_or(RawFd::MAX - FIRST_INHERITED)
    }
}

/// Why no process could be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The runtime directory cannot be used.
    #[error("{path}: {source}")]
    RunDir {
        /// What cannot be made.
        path: PathBuf,
        /// What the file system says.
        source: io::Error,
    },
    /// The program cannot be run.
    #[error("{binary} cannot be run: {source}")]
    Exec {
        /// The program.
        binary: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The process was started and cannot be held; it was killed.
    #[error("the new process {pid} cannot be held: {source}")]
    Hold {
        /// Its process id.
        pid: u32,
        /// What the kernel says.
        source: io::Error,
    },
}

impl SpawnError {
    /// The error as everybody is shown it.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        match self {
            Self::RunDir { path, source } => crate::failure::io_body(source, path),
            Self::Exec { binary, source } if source.kind() == io::ErrorKind::NotFound => {
                ErrorBody::new(ErrorCode::QemuNotFound, format!("{} is not there.", binary.display()))
                    .with_hint("Install the package qemu-system-x86, or set another QEMU in the settings.")
            }
            Self::Exec { .. } | Self::Hold { .. } => {
                ErrorBody::new(ErrorCode::QemuFailed, "QEMU could not be started.")
                    .with_hint("Look at the doctor page.")
                    .with_detail("reason", self.to_string())
            }
        }
    }
}

/// What a process may do with the files it has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holes {
    /// Whatever it likes.
    Allowed,
    /// It cannot punch holes into them: a file that is mapped as memory stays what it is. Disks are zeroed by writing zeroes,
    /// as on a file system without holes.
    Refused,
}

/// Starts `binary` in the machine's runtime directory, which must be prepared. Its copies of the descriptors are its own; ours
/// are closed.
///
/// Returns once the program runs (or could not be executed): whether QEMU likes its arguments shows in its exit and in
/// [`RunDir::stderr_tail`]. Must be called within a tokio runtime.
///
/// # Errors
/// [`SpawnError`]; no process is left.
pub fn spawn(
    binary: &Path,
    args: &[OsString],
    dir: &RunDir,
    inherited: Inherited,
    holes: Holes,
) -> Result<Spawned, SpawnError> {
    let mut command = Command::new(binary);
    command.args(args);
    if holes == Holes::Refused {
        holes::refuse(&mut command);
    }
    start(command, &dir.stderr(), inherited)
}

/// Starts a program that outlives us, with its words in the file `stderr`.
pub(crate) fn start(
    mut command: Command,
    stderr: &Path,
    inherited: Inherited,
) -> Result<Spawned, SpawnError> {
    let words = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(stderr)
        .map_err(|source| SpawnError::RunDir { path: stderr.to_owned(), source })?;
    let binary = PathBuf::from(command.get_program());
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(words)
        // QEMU's words are read by programs and quoted to people: in one language.
        .env("LC_ALL", "C.UTF-8")
        // These belong to a service that is us, not to it.
        .env_remove("NOTIFY_SOCKET")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_PID");
    let held = detach(&mut command, &inherited)
        .map_err(|source| SpawnError::Exec { binary: binary.clone(), source })?;
    let started_at = Timestamp::now();
    let spawned = command.spawn();
    drop((held, inherited));
    let mut child = spawned.map_err(|source| SpawnError::Exec { binary, source })?;
    let pid = child.id();
    // The child is not reaped before it is held, so its pid is its own until then.
    let held = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("not a process id"))
        .and_then(ProcessHandle::open)
        .and_then(|handle| {
            let stat = Stat::read(pid).ok_or_else(|| io::Error::other("/proc does not show it"))?;
            Ok(Spawned { handle, start_ticks: stat.start_ticks, started_at })
        });
    held.map_err(|source| {
        let _ = child.kill();
        let _ = child.wait();
        SpawnError::Hold { pid, source }
    })
}

/// The child leaves our session (a closed terminal or a group's signal does not reach it), makes files for its user alone, and
/// takes no descriptor along but those it is to inherit, whichever library of ours forgot to say so.
///
/// The descriptors that are returned are to be held until the child runs: they keep the numbers it will use from being given to
/// the pipe by which it reports that it could not.
#[expect(unsafe_code, reason = "the only way to do something between fork and exec")]
fn detach(command: &mut Command, inherited: &Inherited) -> io::Result<Vec<OwnedFd>> {
    let held = inherited
        .0
        .iter()
        .zip(FIRST_INHERITED..)
        .map(|(fd, number)| rustix::io::fcntl_dupfd_cloexec(fd, number))
        .collect::<Result<Vec<_>, _>>()?;
    // Above every number that is used, so that no copy overwrites one that is still to be made.
    let above = FIRST_INHERITED + RawFd::try_from(held.len()).unwrap_or(RawFd::MAX - FIRST_INHERITED);
    let copies = inherited
        .0
        .iter()
        .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, above))
        .collect::<Result<Vec<_>, _>>()?;
    let sources: Vec<RawFd> = copies.iter().map(AsRawFd::as_raw_fd).collect();
    // SAFETY: between fork and exec only system calls are made: no allocation, no lock.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setsid()?;
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
            // Best effort: kernels before 5.11 do not know the flag, and all descriptors of ours have it already.
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            for (source, number) in sources.iter().zip(FIRST_INHERITED..) {
                // The copy has no close-on-exec flag.
                if libc::dup2(*source, number) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    Ok(held.into_iter().chain(copies).collect())
}
