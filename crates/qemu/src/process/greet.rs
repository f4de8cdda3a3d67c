//! The first contact with a process that was just started: its monitor greets, or it is dead and its words say why.

use std::time::Duration;

use tokio::sync::mpsc;
use voidvm_model::ErrorBody;

use super::{Exit, ProcessHandle, RunDir, explain};
use crate::qmp::{Qmp, QmpError, QmpEvent};

/// A process that ends closes its socket a moment before it can be seen to have ended.
const LAST_GASP: Duration = Duration::from_secs(2);

/// Why a started process did not greet.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// It ended.
    #[error("QEMU ended ({exit:?}): {stderr}")]
    Died {
        /// How.
        exit: Exit,
        /// Its own words.
        stderr: String,
    },
    /// It lives and does not greet; it is left alone.
    #[error(transparent)]
    Mute(QmpError),
}

impl LaunchError {
    /// The error as everybody is shown it.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        match self {
            Self::Died { exit, stderr } => explain(*exit, stderr),
            Self::Mute(error) => error.body(),
        }
    }
}

/// Connects to the monitor of a live process, within `deadline`; a process that ends meanwhile is told from one that is mute.
///
/// # Errors
/// [`LaunchError`].
pub async fn greet(
    handle: &ProcessHandle,
    dir: &RunDir,
    deadline: Duration,
) -> Result<(Qmp, mpsc::Receiver<QmpEvent>), LaunchError> {
    let socket = dir.qmp();
    let ended = async { handle.wait_exit().await.unwrap_or(Exit::Unknown) };
    tokio::pin!(ended);
    let trouble = tokio::select! {
        biased;
        connected = Qmp::connect(&socket, deadline) => match connected {
            Ok(open) => return Ok(open),
            Err(error) => error,
        },
        exit = &mut ended => return Err(LaunchError::Died { exit, stderr: dir.stderr_tail() }),
    };
    let wait = match trouble {
        QmpError::Timeout { .. } => Duration::ZERO,
        _ => LAST_GASP,
    };
    match tokio::time::timeout(wait, ended).await {
        Ok(exit) => Err(LaunchError::Died { exit, stderr: dir.stderr_tail() }),
        Err(_) => Err(LaunchError::Mute(trouble)),
    }
}
