//! A QEMU that works for us for a moment: it ends with us, gives way to everybody, and nobody takes it over.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::process::Child;

use super::{RunDir, SpawnError};
use crate::tool;

/// As nice as an ordinary user's work in the background.
const NICENESS: i32 = 10;
/// The kernel's lowest priority among those that get something: best effort, the last of eight.
const READS_LAST: libc::c_int = (2 << 13) | 7;

/// The process; it is killed when this is dropped.
#[derive(Debug)]
pub struct Brief(Child);

impl Brief {
    /// Starts `binary` with its words in the directory's file for them. To be called on a thread of the runtime: the process
    /// ends with the thread.
    ///
    /// # Errors
    /// [`SpawnError`].
    pub fn spawn(binary: &Path, args: &[OsString], dir: &RunDir) -> Result<Self, SpawnError> {
        let words = dir.stderr();
        let stderr = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&words)
            .map_err(|source| SpawnError::RunDir { path: words, source })?;
        let mut command = tool::command(binary);
        command.args(args).stdout(Stdio::null()).stderr(stderr);
        gives_way(&mut command);
        let failed = |source| SpawnError::Exec { binary: PathBuf::from(binary), source };
        command.spawn().map(Self).map_err(failed)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.0.wait().await
    }

    /// Ends it; it is gone when this returns.
    pub async fn kill(&mut self) {
        if let Err(error) = self.0.kill().await {
            tracing::warn!(%error, "a process that works in the background could not be ended");
        }
    }
}

#[expect(unsafe_code, reason = "the only way to do something between fork and exec")]
fn gives_way(command: &mut tokio::process::Command) {
    // SAFETY: between fork and exec only system calls are made: no allocation, no lock.
    unsafe {
        command.pre_exec(|| {
            // Neither is needed.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            libc::syscall(libc::SYS_ioprio_set, 1, 0, READS_LAST);
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
            Ok(())
        });
    }
}
