//! Starting QEMU so that it outlives us: a session and process group of its own, no terminal, none of our descriptors.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jiff::Timestamp;
use rustix::process::Pid;
use voidvm_model::{ErrorBody, ErrorCode};

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

/// Starts `binary` in the machine's runtime directory, which must be prepared.
///
/// Returns once the program runs (or could not be executed): whether QEMU likes its arguments shows in its exit and in
/// [`RunDir::stderr_tail`]. Must be called within a tokio runtime.
///
/// # Errors
/// [`SpawnError`]; no process is left.
pub fn spawn(binary: &Path, args: &[OsString], dir: &RunDir) -> Result<Spawned, SpawnError> {
    let stderr_path = dir.stderr();
    let stderr = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&stderr_path)
        .map_err(|source| SpawnError::RunDir { path: stderr_path, source })?;
    let mut command = Command::new(binary);
    command
        .args(args)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        // QEMU's words are read by programs and quoted to people: in one language.
        .env("LC_ALL", "C.UTF-8")
        // These belong to a service that is us, not to it.
        .env_remove("NOTIFY_SOCKET")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_PID");
    detach(&mut command);
    let started_at = Timestamp::now();
    let mut child =
        command.spawn().map_err(|source| SpawnError::Exec { binary: binary.to_owned(), source })?;
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
/// takes no descriptor along, whichever library of ours forgot to say so.
#[expect(unsafe_code, reason = "the only way to do something between fork and exec")]
fn detach(command: &mut Command) {
    // SAFETY: between fork and exec only system calls are made: no allocation, no lock.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
            // Best effort: kernels before 5.11 do not know the flag, and all descriptors of ours have it already.
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            Ok(())
        });
    }
}
