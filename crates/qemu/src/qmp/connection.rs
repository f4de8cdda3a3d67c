//! The task that owns the monitor's socket.
//!
//! ```text
//!  requests ─▶ [held] ─▶ output ─▶ socket ─▶ lines ─▶ replies to those who still wait
//!                                                └──▶ events ─▶ [parked] ─▶ receiver
//! ```
//! Invariants:
//! * A request is removed from the wire's bookkeeping only by its reply or the end of the connection: dropping the future
//!   that waits for it has no effect but that its reply is discarded.
//! * Events are never dropped while somebody receives them. When the receiver is [`EVENT_BACKLOG`] behind, nothing more is
//!   read until it catches up: QEMU holds the rest, replies wait too and time out. So receive events and execute commands
//!   in the same `select!`, or in two tasks.
//! * At most one descriptor is on its way: QEMU keeps only the newest one it received, so the next waits for the answer.
//! * Memory is bounded: [`LINE_MAX`](super::wire::LINE_MAX) for a line, [`EVENT_MAX`] for an event, [`IN_FLIGHT_MAX`] requests.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde_json::Value;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::wire::{Lines, Message};
use super::{QmpError, QmpEvent};

/// Events that may wait for their receiver.
pub const EVENT_BACKLOG: usize = 256;
/// The longest event in bytes; the longest of QEMU's has a few hundred.
pub const EVENT_MAX: usize = 64 << 10;
/// Requests without a reply, those nobody waits for any more included.
pub const IN_FLIGHT_MAX: usize = 256;

/// One request on its way.
pub(super) struct Request {
    /// The command's name, for the log.
    pub name: &'static str,
    /// The whole message but for its id.
    pub message: serde_json::Map<String, Value>,
    /// A descriptor that goes with it.
    pub fd: Option<OwnedFd>,
    /// Where its reply goes.
    pub reply: oneshot::Sender<Result<Value, QmpError>>,
}

/// Why the connection is over, for whoever asks afterwards.
pub(super) type EndReason = Arc<OnceLock<String>>;

struct Output {
    bytes: Vec<u8>,
    written: usize,
    fd: Option<OwnedFd>,
}

struct Waiting {
    name: &'static str,
    reply: oneshot::Sender<Result<Value, QmpError>>,
}

/// What the loop woke up for.
enum Turn {
    Unparked,
    Read,
    Write,
    Request(Option<Request>),
}

pub(super) struct Connection {
    stream: UnixStream,
    lines: Lines,
    requests: mpsc::Receiver<Request>,
    events: mpsc::Sender<QmpEvent>,
    waiting: HashMap<u64, Waiting>,
    next_id: u64,
    output: VecDeque<Output>,
    /// A request with a descriptor while another descriptor is on its way.
    held: Option<Request>,
    /// The request whose descriptor QEMU has not acknowledged.
    descriptor: Option<u64>,
    /// An event the receiver has no room for.
    parked: Option<QmpEvent>,
    end: EndReason,
}

impl Connection {
    pub(super) fn new(
        stream: UnixStream,
        lines: Lines,
        requests: mpsc::Receiver<Request>,
        events: mpsc::Sender<QmpEvent>,
        end: EndReason,
    ) -> Self {
        Self {
            stream,
            lines,
            requests,
            events,
            waiting: HashMap::new(),
            next_id: 1,
            output: VecDeque::new(),
            held: None,
            descriptor: None,
            parked: None,
            end,
        }
    }

    /// Serves until the socket ends, the peer breaks the protocol or every [`Qmp`](super::Qmp) is dropped.
    pub(super) async fn run(mut self) {
        let reason = match self.serve().await {
            Ok(()) => "every user of it is gone".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => "QEMU closed it".to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::debug!(reason, "monitor connection ended");
        let _ = self.end.set(reason.clone());
        for (_, waiting) in self.waiting.drain() {
            let _ = waiting.reply.send(Err(QmpError::Closed { reason: reason.clone() }));
        }
    }

    async fn serve(&mut self) -> io::Result<()> {
        let mut scratch = vec![0; 64 << 10];
        // What came with the greeting is handled before anything is waited for.
        self.handle_lines()?;
        loop {
            let receiving = self.held.is_none() && self.waiting.len() < IN_FLIGHT_MAX;
            let turn = tokio::select! {
                permit = self.events.reserve(), if self.parked.is_some() => {
                    if let (Some(event), Ok(permit)) = (self.parked.take(), permit) {
                        permit.send(event);
                    }
                    Turn::Unparked
                }
                ready = self.stream.readable(), if self.parked.is_none() => ready.map(|()| Turn::Read)?,
                ready = self.stream.writable(), if !self.output.is_empty() => ready.map(|()| Turn::Write)?,
                request = self.requests.recv(), if receiving => Turn::Request(request),
            };
            match turn {
                Turn::Unparked => self.handle_lines()?,
                Turn::Read => self.read(&mut scratch)?,
                Turn::Write => self.write()?,
                Turn::Request(Some(request)) => self.accept(request),
                Turn::Request(None) => return Ok(()),
            }
        }
    }

    fn read(&mut self, scratch: &mut [u8]) -> io::Result<()> {
        match self.stream.try_read(scratch) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.lines.push(&scratch[..count]);
                self.handle_lines()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Puts a request into the output, unless its turn has not come or nobody waits for it any more.
    fn accept(&mut self, request: Request) {
        if request.reply.is_closed() {
            return;
        }
        if request.fd.is_some() && self.descriptor.is_some() {
            self.held = Some(request);
            return;
        }
        let Request { name, mut message, fd, reply } = request;
        let id = self.next_id;
        self.next_id += 1;
        message.insert("id".to_owned(), id.into());
        let mut bytes = Value::Object(message).to_string().into_bytes();
        bytes.push(b'\n');
        if fd.is_some() {
            self.descriptor = Some(id);
        }
        tracing::trace!(id, name, "monitor request");
        self.waiting.insert(id, Waiting { name, reply });
        self.output.push_back(Output { bytes, written: 0, fd });
    }

    fn write(&mut self) -> io::Result<()> {
        while let Some(next) = self.output.front_mut() {
            let rest = &next.bytes[next.written..];
            let sent = match &next.fd {
                // The descriptor travels with the first byte of its request.
                Some(fd) => self.stream.try_io(Interest::WRITABLE, || {
                    let fds = [fd.as_fd()];
                    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                    let mut ancillary = SendAncillaryBuffer::new(&mut space);
                    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
                    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
                    Ok(rustix::net::sendmsg(&self.stream, &[IoSlice::new(rest)], &mut ancillary, flags)?)
                }),
                None => self.stream.try_write(rest),
            };
            match sent {
                Ok(count) => {
                    next.fd = None;
                    next.written += count;
                    if next.written == next.bytes.len() {
                        self.output.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Handles whole lines until there is none or an event has to wait.
    fn handle_lines(&mut self) -> io::Result<()> {
        while self.parked.is_none() {
            let line =
                self.lines.next_line().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let Some(line) = line else { return Ok(()) };
            let length = line.len();
            match Message::decode(line) {
                Message::Reply { id, outcome } => self.settle(id, outcome),
                Message::Event { .. } if length > EVENT_MAX => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("an event of {length} bytes"),
                    ));
                }
                Message::Event { name, data, at } => self.publish(QmpEvent::new(name, data, at)),
                Message::Greeting { .. } => tracing::warn!("a second greeting of the monitor is ignored"),
                Message::Undecodable if length == 0 => {}
                Message::Undecodable => {
                    tracing::warn!(length, "a line of the monitor that does not decode is skipped");
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, id: Option<u64>, outcome: Result<Value, (String, String)>) {
        let Some(waiting) = id.and_then(|id| self.waiting.remove(&id)) else {
            tracing::warn!(id, "a reply of the monitor to nothing that was asked is ignored");
            return;
        };
        if self.descriptor == id {
            self.descriptor = None;
            if let Some(held) = self.held.take() {
                self.accept(held);
            }
        }
        let outcome = outcome.map_err(|(class, desc)| QmpError::Command {
            command: waiting.name.to_owned(),
            class,
            desc,
        });
        if waiting.reply.send(outcome).is_err() {
            tracing::debug!(id, command = waiting.name, "a late reply of the monitor is discarded");
        }
    }

    fn publish(&mut self, event: QmpEvent) {
        match self.events.try_send(event) {
            // Nobody receives events any more: replies still matter.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(event)) => {
                tracing::debug!(event = event.name, "events wait for their receiver");
                self.parked = Some(event);
            }
        }
    }
}
