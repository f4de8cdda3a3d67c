//! How a console session can fail.

use voidvm_model::{ErrorBody, ErrorCode};

/// Why a session could not be opened, or ended before the viewer left.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The machine's display did not finish its greeting in time.
    #[error("the machine's display does not answer")]
    Mute,
    /// The greeting went wrong.
    #[error("the machine's display could not be opened: {0}")]
    Greeting(#[source] vnc::VncError),
    /// The display is gone: the machine ended or its process did.
    #[error("the machine's display was closed")]
    Closed,
    /// The display sent what cannot be shown, or a screen larger than 3840 × 2160.
    #[error("the machine's display sent something that cannot be shown: {0}")]
    Undecodable(String),
    /// The viewer sent what no viewer of ours sends.
    #[error("the viewer sent something that is not understood: {0}")]
    Viewer(String),
}

impl ConsoleError {
    /// The same, as the wire has it.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        match self {
            Self::Viewer(_) => ErrorBody::new(ErrorCode::InvalidInput, self.to_string()),
            Self::Undecodable(_) => ErrorBody::new(ErrorCode::ConsoleUnavailable, self.to_string())
                .with_hint("Screens up to 3840 × 2160 can be shown; choose a smaller one in the guest."),
            Self::Mute | Self::Greeting(_) | Self::Closed => {
                ErrorBody::new(ErrorCode::ConsoleUnavailable, self.to_string())
                    .with_hint("Open the console again once the machine runs.")
            }
        }
    }
}
