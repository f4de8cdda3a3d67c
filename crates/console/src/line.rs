//! One console as messages both ways, whatever carries them: a WebSocket, a connection to another voidVM, a terminal.
//!
//! Both channels hold one message, so that a slow side is felt by the other and nothing piles up.

use bytes::Bytes;
use futures_util::stream;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::PollSender;
use voidvm_model::ErrorBody;
use voidvm_model::input::InputEvent;

use crate::drive::drive;

/// The end where the viewer is. Dropping it ends the console.
#[derive(Debug)]
pub struct ConsoleLine {
    /// What the viewer is to be given: [`crate::wire`] of a screen, the bytes themselves of a serial port. Ends with the console.
    pub to_viewer: mpsc::Receiver<Bytes>,
    /// What the viewer says: [`voidvm_model::input::ViewerMessage`] as JSON to a screen, the bytes themselves to a serial port.
    pub from_viewer: mpsc::Sender<Vec<u8>>,
    /// How it ended, once `to_viewer` has: `Ok` when the viewer left.
    pub ended: oneshot::Receiver<Result<(), ErrorBody>>,
}

/// The end where the console is.
#[derive(Debug)]
pub struct ConsoleEnd {
    /// Messages for the viewer.
    pub to_viewer: mpsc::Sender<Bytes>,
    /// Messages of the viewer; ends when it leaves.
    pub from_viewer: mpsc::Receiver<Vec<u8>>,
    /// Takes how it ended.
    pub ended: oneshot::Sender<Result<(), ErrorBody>>,
}

impl ConsoleLine {
    /// A line and its other end.
    #[must_use]
    pub fn new() -> (Self, ConsoleEnd) {
        let (for_viewer, to_viewer) = mpsc::channel(1);
        let (from_viewer, of_viewer) = mpsc::channel(1);
        let (end, ended) = oneshot::channel();
        let line = Self { to_viewer, from_viewer, ended };
        (line, ConsoleEnd { to_viewer: for_viewer, from_viewer: of_viewer, ended: end })
    }

    /// The screen behind `display`, a new connection to QEMU; what the person does goes to `input`, in order. Needs a Tokio
    /// runtime: a task of its own runs it until one side leaves.
    #[must_use]
    pub fn screen(display: UnixStream, input: mpsc::Sender<Vec<InputEvent>>) -> Self {
        let (line, ConsoleEnd { to_viewer, mut from_viewer, ended }) = Self::new();
        tokio::spawn(async move {
            let incoming = stream::poll_fn(move |context| from_viewer.poll_recv(context));
            let outcome = drive(display, incoming, PollSender::new(to_viewer), input).await;
            // Nobody may be left who wants to know.
            let _ = ended.send(outcome.map_err(|error| error.body()));
        });
        line
    }
}
