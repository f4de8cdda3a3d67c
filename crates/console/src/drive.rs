//! Runs one viewer's connection: pictures to it, input from it, until one of both ends is gone.
//!
//! ```text
//!            ┌── incoming: drawn → room for a picture; input → pending
//! one loop ──┼── display: advance the session, damage merges
//!            ├── outgoing: flush the message under way
//!            └── input: hand pending events on
//! ```
//! No branch waits for another: a viewer that reads slowly does not hold up its own keys, and an engine that is slow to take
//! input does not hold up the picture.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tracing::debug;
use voidvm_model::input::{InputEvent, ViewerMessage};

use crate::error::ConsoleError;
use crate::held::Held;
use crate::session::Session;
use crate::wire::{self, PictureEncoder};

/// Pictures under way that the viewer has not drawn yet: one on the way while one is being drawn.
const IN_FLIGHT: u8 = 2;

/// Events a viewer may send at once.
const MOST_EVENTS: usize = 256;

/// Events that wait for the engine. A viewer that sends more is not a person.
const MOST_PENDING: usize = 4096;

/// How long the engine has to take the release of held keys when a viewer has left.
const RELEASE: Duration = Duration::from_secs(1);

/// Shows the display behind `stream` to one viewer. `incoming` holds its [`ViewerMessage`]s as JSON, `outgoing` takes
/// [`wire`] messages, `input` gets what the person does, in order; keys left down are released at the end.
///
/// Answers `Ok` when the viewer has left.
///
/// # Errors
/// When the display cannot be opened or is gone, or the viewer sends what is not understood.
pub async fn drive<I, O>(
    stream: UnixStream,
    incoming: I,
    outgoing: O,
    input: mpsc::Sender<Vec<InputEvent>>,
) -> Result<(), ConsoleError>
where
    I: Stream<Item = Vec<u8>> + Unpin,
    O: Sink<Bytes> + Unpin,
{
    let mut viewer = Viewer { pending: Vec::new(), held: Held::default(), in_flight: 0 };
    let ended = match Session::open(stream).await {
        Ok(session) => viewer.run(session, incoming, outgoing, &input).await,
        Err(error) => Err(error),
    };
    let mut last = viewer.pending;
    last.extend(viewer.held.release());
    if !last.is_empty() && tokio::time::timeout(RELEASE, input.send(last)).await.is_err() {
        debug!("held keys could not be released");
    }
    ended
}

struct Viewer {
    pending: Vec<InputEvent>,
    held: Held,
    in_flight: u8,
}

impl Viewer {
    async fn run<I, O>(
        &mut self,
        mut session: Session,
        mut incoming: I,
        mut outgoing: O,
        input: &mpsc::Sender<Vec<InputEvent>>,
    ) -> Result<(), ConsoleError>
    where
        I: Stream<Item = Vec<u8>> + Unpin,
        O: Sink<Bytes> + Unpin,
    {
        let mut encoder = PictureEncoder::default();
        let mut flushing = false;
        loop {
            if !flushing && let Some(message) = self.next_message(&mut session, &mut encoder) {
                if outgoing.feed(message).await.is_err() {
                    return Ok(());
                }
                flushing = true;
            }
            if self.in_flight < IN_FLIGHT && !session.is_asked() {
                session.ask().await?;
            }
            tokio::select! {
                biased;
                message = incoming.next() => match message {
                    Some(message) => self.hear(&message)?,
                    None => return Ok(()),
                },
                permit = input.reserve(), if !self.pending.is_empty() => match permit {
                    Ok(permit) => permit.send(std::mem::take(&mut self.pending)),
                    Err(_) => return Ok(()),
                },
                flushed = outgoing.flush(), if flushing => match flushed {
                    Ok(()) => flushing = false,
                    Err(_) => return Ok(()),
                },
                advanced = session.advance() => advanced?,
            }
        }
    }

    /// What the viewer is to be sent next, when there is something and room for it.
    fn next_message(&mut self, session: &mut Session, encoder: &mut PictureEncoder) -> Option<Bytes> {
        if let Some((width, height)) = session.take_resize() {
            return Some(wire::size(width, height));
        }
        if let Some(cursor) = session.take_cursor() {
            return Some(wire::cursor(cursor.shape, &cursor.bgra));
        }
        if self.in_flight >= IN_FLIGHT || !session.is_damaged() {
            return None;
        }
        let damage = session.take_damage();
        self.in_flight += 1;
        Some(encoder.encode(session.screen(), &damage))
    }

    fn hear(&mut self, message: &[u8]) -> Result<(), ConsoleError> {
        let wrong = |reason: String| ConsoleError::Viewer(reason);
        match serde_json::from_slice(message).map_err(|error| wrong(error.to_string()))? {
            ViewerMessage::Drawn => {
                self.in_flight = self
                    .in_flight
                    .checked_sub(1)
                    .ok_or_else(|| wrong("a picture drawn that was never sent".to_owned()))?;
            }
            ViewerMessage::Input { events } => {
                if events.len() > MOST_EVENTS || self.pending.len() + events.len() > MOST_PENDING {
                    return Err(wrong("too much input at once".to_owned()));
                }
                for event in events {
                    self.take(event);
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, event: InputEvent) {
        if !self.held.note(&event) {
            return;
        }
        // Of two positions in a row only the newer one matters.
        if let (InputEvent::Pointer { .. }, Some(last @ InputEvent::Pointer { .. })) =
            (&event, self.pending.last_mut())
        {
            *last = event;
        } else {
            self.pending.push(event);
        }
    }
}
