//! Running a small program to its end: bounded in time and output, never through a shell.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// The most of a program's output that is kept.
const OUTPUT_MAX: u64 = 4 << 20;

/// How a program ended, and what it said.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// Why there is no end to tell of.
#[derive(Debug)]
pub(crate) enum RunError {
    /// It could not be run, or its output not read.
    Io(io::Error),
    /// It did not end in time, and was killed.
    Hangs,
}

/// A command with the settings all of them share; it ends when its `Child` is dropped, and when this process is killed.
///
/// To be spawned from a thread of the runtime, not from one of `spawn_blocking`: the program ends with the thread.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    end_with_us(&mut command);
    command
}

/// Without this a copy goes on for as long as the image is large after its owner was killed, into a file nobody wants.
#[expect(unsafe_code, reason = "the only way to do something between fork and exec")]
fn end_with_us(command: &mut Command) {
    let us = rustix::process::getpid();
    // SAFETY: between fork and exec only system calls are made: no allocation, no lock.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            // We may have been killed before that.
            if rustix::process::getppid() == Some(us) {
                Ok(())
            } else {
                Err(io::ErrorKind::Interrupted.into())
            }
        });
    }
}

/// Runs a program to its end.
pub(crate) async fn run<S: AsRef<OsStr>>(
    program: &Path,
    args: impl IntoIterator<Item = S>,
    within: Duration,
) -> Result<Finished, RunError> {
    let child = command(program).args(args).spawn().map_err(RunError::Io)?;
    finish(child, within).await
}

/// Waits for a started program and its output.
pub(crate) async fn finish(mut child: Child, within: Duration) -> Result<Finished, RunError> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let work = async {
        let (stdout, stderr) = tokio::try_join!(read(stdout), read(stderr))?;
        Ok(Finished { status: child.wait().await?, stdout, stderr: crate::failure::plain_text(&stderr) })
    };
    // On a timeout the child is dropped with this future's owner, and killed.
    tokio::time::timeout(within, work).await.map_or(Err(RunError::Hangs), |ended| ended.map_err(RunError::Io))
}

/// Reads a pipe to its end and keeps its beginning, so that a talkative program does not stall.
async fn read(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let Some(mut pipe) = pipe else { return Ok(Vec::new()) };
    let mut kept = Vec::new();
    (&mut pipe).take(OUTPUT_MAX).read_to_end(&mut kept).await?;
    tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    Ok(kept)
}
