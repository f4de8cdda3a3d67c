//! Commands to a live machine: hold, go on, reset, shut down, force off.

use std::sync::Arc;
use std::time::Duration;

use voidvm_model::{ErrorBody, ErrorCode, VmState};
use voidvm_qemu::process::Signal;
use voidvm_qemu::qmp::Qmp;

use crate::run::{EXIT_FOLLOWS, Run, unresponsive};
use crate::supervisor::Step;

/// A command that is over as soon as QEMU answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Command {
    Pause,
    Resume,
    Reset,
}

/// Carries a command out.
pub(crate) async fn command(qmp: Option<Qmp>, command: Command) -> Step {
    let Some(qmp) = qmp else { return Step::Done(Err(unresponsive())) };
    let name = match command {
        Command::Pause => "stop",
        Command::Resume => "cont",
        Command::Reset => "system_reset",
    };
    let answer = qmp.execute_raw(name, None, voidvm_qemu::qmp::COMMAND_TIMEOUT).await;
    if answer.is_err() && qmp.is_closed() {
        // The process ends: its exit, which the driver sees first, says more than this error.
        tokio::time::sleep(EXIT_FOLLOWS).await;
    }
    Step::Done(answer.map(drop).map_err(|error| error.body()))
}

/// Asks the guest to shut down, once more halfway, and waits; the process's exit, which the driver sees, ends it before.
///
/// A guest that is held runs on first: it could not shut down otherwise. Early in its boot a guest does not hear the first
/// request, which is what the second is for.
pub(crate) async fn shut_down(qmp: Option<Qmp>, was: VmState, patience: Duration) -> Step {
    let Some(qmp) = qmp else { return Step::Done(Err(unresponsive())) };
    let asked = async {
        if was == VmState::Paused {
            qmp.execute_raw("cont", None, patience).await?;
        }
        qmp.execute_raw("system_powerdown", None, patience).await
    };
    // A monitor that closes in the middle of it means the exit is near.
    if let Err(error) = asked.await
        && !qmp.is_closed()
    {
        return Step::Done(Err(error.body()));
    }
    tokio::time::sleep(patience / 2).await;
    drop(qmp.execute_raw("system_powerdown", None, patience / 2).await);
    tokio::time::sleep(patience / 2).await;
    Step::Expired
}

/// The guest is still there.
pub(crate) fn did_not_stop(name: &str) -> ErrorBody {
    ErrorBody::new(ErrorCode::GuestDidNotStop, format!("“{name}” has not shut down in its time."))
        .with_hint("Wait longer, look at its console, or force it off.")
}

/// Ends the process: `quit`, then SIGTERM, then SIGKILL, each after the one before had its time. The exit, which the driver
/// sees, ends it before; when this returns, not even the kernel could end the process.
pub(crate) async fn force(run: Arc<Run>, step: Duration) -> Result<(), ErrorBody> {
    if let Some(qmp) = run.monitor() {
        let quit = qmp.execute_raw("quit", None, step);
        if quit.await.is_ok() || qmp.is_closed() {
            tokio::time::sleep(step).await;
        }
    }
    for signal in [Signal::Term, Signal::Kill] {
        tracing::info!(pid = run.process.pid(), ?signal, "forcing off");
        if let Err(error) = run.process.signal(signal) {
            tracing::warn!(pid = run.process.pid(), %error, "the signal was not sent");
        }
        tokio::time::sleep(step).await;
    }
    Err(ErrorBody::new(ErrorCode::QemuUnresponsive, "The kernel cannot end the machine's process.")
        .with_hint("It waits for a disk or network file system that does not answer.")
        .with_detail("pid", run.process.pid()))
}
