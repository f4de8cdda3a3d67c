//! The guest's serial port: one connection to QEMU's socket, its last output replayed to whoever comes, then live to all.
//!
//! ```text
//! idle ─(first viewer)─▶ connected ─(socket ends)─▶ idle
//! ```
//! Invariants: QEMU serves one client on that socket, so there is one task that reads it; it always reads, so a viewer cannot stop
//! the guest; a viewer that falls behind loses the oldest output, never memory.

use std::collections::VecDeque;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex as Lock, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, broadcast, mpsc};
use voidvm_model::{ErrorBody, ErrorCode};

/// Output replayed to a new viewer.
pub const SERIAL_REPLAY: usize = 64 << 10;
/// Pieces of output a slow viewer may lag behind.
const BACKLOG: usize = 256;

/// The serial port of one run.
#[derive(Debug, Default)]
pub(crate) struct Serial {
    port: Mutex<Option<Port>>,
}

#[derive(Clone, Debug)]
struct Port {
    input: mpsc::Sender<Bytes>,
    output: broadcast::Sender<Bytes>,
    /// Guards the order of replay and live output: a viewer subscribes while it copies.
    replay: Arc<Lock<VecDeque<u8>>>,
}

/// One viewer of a serial port.
#[derive(Debug)]
pub struct SerialAttach {
    output: SerialOutput,
    input: SerialInput,
}

/// What the guest writes, the replay first.
#[derive(Debug)]
pub struct SerialOutput {
    replay: Bytes,
    pieces: broadcast::Receiver<Bytes>,
}

/// What is typed into the port; any number of clones.
#[derive(Clone, Debug)]
pub struct SerialInput(mpsc::Sender<Bytes>);

impl SerialAttach {
    /// The two directions, to be used side by side.
    #[must_use]
    pub fn split(self) -> (SerialOutput, SerialInput) {
        (self.output, self.input)
    }
}

impl SerialOutput {
    /// The next output; `None` when the port is gone. Output that this viewer was too slow for is left out. Safe to drop.
    pub async fn next(&mut self) -> Option<Bytes> {
        if !self.replay.is_empty() {
            return Some(std::mem::take(&mut self.replay));
        }
        loop {
            match self.pieces.recv().await {
                Ok(piece) => return Some(piece),
                Err(broadcast::error::RecvError::Lagged(pieces)) => {
                    tracing::debug!(pieces, "a viewer of a serial port is too slow");
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl SerialInput {
    /// Types into the port; waits while the guest reads nothing.
    ///
    /// # Errors
    /// [`ErrorCode::ConsoleUnavailable`] when the port is gone.
    pub async fn write(&self, bytes: Bytes) -> Result<(), ErrorBody> {
        self.0.send(bytes).await.map_err(|_| gone())
    }
}

fn gone() -> ErrorBody {
    ErrorBody::new(ErrorCode::ConsoleUnavailable, "The machine's serial port is gone.")
        .with_hint("Start the machine.")
}

impl Serial {
    /// A new viewer; the first one connects.
    ///
    /// # Errors
    /// [`ErrorCode::ConsoleUnavailable`].
    pub(crate) async fn attach(&self, socket: &Path, log: &Path) -> Result<SerialAttach, ErrorBody> {
        let mut port = self.port.lock().await;
        if let Some(port) = port.as_ref().filter(|port| !port.input.is_closed()) {
            return Ok(port.view());
        }
        let stream = UnixStream::connect(socket).await.map_err(|error| {
            ErrorBody::new(ErrorCode::ConsoleUnavailable, "The machine's serial port cannot be opened.")
                .with_hint("Another program may hold it; close it and try again.")
                .with_detail("reason", error.to_string())
        })?;
        let replay = catch_up(&stream, log);
        let (input, typed) = mpsc::channel(32);
        let output = broadcast::Sender::new(BACKLOG);
        let opened = Port { input, output: output.clone(), replay: Arc::new(Lock::new(replay)) };
        let view = opened.view();
        tokio::spawn(carry(stream, typed, output, Arc::clone(&opened.replay)));
        *port = Some(opened);
        Ok(view)
    }
}

impl Port {
    fn view(&self) -> SerialAttach {
        let replay = self.replay.lock().unwrap_or_else(PoisonError::into_inner);
        let pieces = self.output.subscribe();
        let replay = replay.iter().copied().collect();
        SerialAttach { output: SerialOutput { replay, pieces }, input: SerialInput(self.input.clone()) }
    }
}

/// What was said before the connection, from the log. Whatever arrives on the socket meanwhile is in the log as well, so it is
/// taken from there; a guest that never pauses may be heard twice for a moment, and nothing of it is lost.
fn catch_up(stream: &UnixStream, log: &Path) -> VecDeque<u8> {
    let mut replay = tail(log);
    let mut scratch = vec![0; 4096];
    for _ in 0..8 {
        match stream.try_read(&mut scratch) {
            Ok(count) if count > 0 => replay = tail(log),
            _ => break,
        }
    }
    replay
}

fn tail(log: &Path) -> VecDeque<u8> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(SERIAL_REPLAY as u64)))?;
        let mut bytes = Vec::new();
        file.take(SERIAL_REPLAY as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    // Without a log there is nothing to replay.
    read().unwrap_or_default().into()
}

async fn carry(
    mut stream: UnixStream,
    mut typed: mpsc::Receiver<Bytes>,
    output: broadcast::Sender<Bytes>,
    replay: Arc<Lock<VecDeque<u8>>>,
) {
    let (mut from, mut to) = stream.split();
    let read = async {
        let mut scratch = vec![0; 4096];
        loop {
            let count = match from.read(&mut scratch).await {
                Ok(0) | Err(_) => return,
                Ok(count) => count,
            };
            let piece = Bytes::copy_from_slice(&scratch[..count]);
            let mut replay = replay.lock().unwrap_or_else(PoisonError::into_inner);
            replay.extend(piece.iter());
            let over = replay.len().saturating_sub(SERIAL_REPLAY);
            replay.drain(..over);
            // Nobody looks on: the replay keeps it.
            drop(output.send(piece));
        }
    };
    let write = async {
        while let Some(bytes) = typed.recv().await {
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    // The guest may read nothing for long; that must not keep its output back.
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}
