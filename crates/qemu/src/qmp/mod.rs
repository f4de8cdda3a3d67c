//! The monitor's protocol (QMP) over a unix socket: typed commands of `qapi` on a transport of our own.
//!
//! The transport cannot panic, hang or lose the event stream: see [`connection`]. Every command has a deadline; a command
//! given up, or whose future is dropped, leaves the connection as it was.
//!
//! ```text
//! connect ─▶ greeting ─▶ qmp_capabilities ─▶ open ─▶ closed (final; connect anew)
//! ```
//! QEMU serves one client at a time: a second one connects and is never greeted.

pub mod connection;
mod queries;
pub mod wire;

use std::borrow::Cow;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use qapi::Command;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use voidvm_model::{ErrorBody, ErrorCode};

use connection::{Connection, EndReason, Request};
pub use queries::{DiskCounters, GuestMemory};
use wire::{Lines, Message};

/// How long a command may take when nothing else is said.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the monitor did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// Nobody listens on the socket.
    #[error("cannot connect to the monitor at {path}: {source}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The last attempt's error.
        source: io::Error,
    },
    /// Somebody listens and does not greet as QEMU does: it serves another client, hangs, or is no QEMU.
    #[error("the monitor at {path} does not greet: {reason}")]
    Greeting {
        /// The socket.
        path: PathBuf,
        /// What came instead.
        reason: String,
    },
    /// The connection is over.
    #[error("the monitor's connection is closed: {reason}")]
    Closed {
        /// Why.
        reason: String,
    },
    /// No answer before the deadline.
    #[error("no answer to {command} within {within:?}")]
    Timeout {
        /// The command.
        command: String,
        /// The deadline it had.
        within: Duration,
    },
    /// QEMU refused.
    #[error("{command}: {desc}")]
    Command {
        /// The command.
        command: String,
        /// QEMU's error class (`GenericError`, `CommandNotFound`, `DeviceNotFound` …).
        class: String,
        /// QEMU's own words.
        desc: String,
    },
    /// The answer has another form than the command's type says.
    #[error("the answer to {command} does not fit: {source}")]
    Decode {
        /// The command.
        command: String,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// The command or its descriptor cannot be put on the wire.
    #[error("{command} cannot be sent: {reason}")]
    Encode {
        /// The command.
        command: String,
        /// Why.
        reason: String,
    },
}

impl QmpError {
    /// The error as everybody is shown it.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        let text = self.to_string();
        match self {
            Self::Connect { .. } | Self::Greeting { .. } | Self::Timeout { .. } => {
                ErrorBody::new(ErrorCode::QemuUnresponsive, "The machine's process does not answer.")
                    .with_hint("Wait a little; if it stays so, force the machine off.")
            }
            Self::Closed { .. } => ErrorBody::new(ErrorCode::QemuFailed, "The machine's process ended."),
            Self::Command { desc, .. } => {
                ErrorBody::new(ErrorCode::QemuFailed, format!("QEMU refused: {desc}"))
            }
            Self::Decode { .. } | Self::Encode { .. } => {
                ErrorBody::new(ErrorCode::QemuFailed, "QEMU answered in a form voidVM does not know.")
            }
        }
        .with_detail("qmp", text)
    }

    /// Whether QEMU itself said no, with this class.
    #[must_use]
    pub fn is_class(&self, wanted: &str) -> bool {
        matches!(self, Self::Command { class, .. } if class == wanted)
    }
}

/// Something that happened in QEMU.
#[derive(Clone, Debug)]
pub struct QmpEvent {
    /// QEMU's name for it, `SHUTDOWN`.
    pub name: String,
    /// What belongs to it, as it came.
    pub data: Value,
    /// When, by the host's clock.
    pub at: Timestamp,
    /// The event as a type; `None` where this QEMU's form is not the one `qapi` knows.
    pub typed: Option<qapi::qmp::Event>,
}

impl QmpEvent {
    /// An event as it came off the wire; total: a form `qapi` does not know is kept untyped.
    #[must_use]
    pub fn new(name: String, data: Value, (seconds, micros): (i64, i32)) -> Self {
        let mut whole = serde_json::json!({
            "event": name, "timestamp": {"seconds": seconds, "microseconds": micros},
        });
        if !data.is_null() {
            whole["data"] = data.clone();
        }
        let typed = serde_json::from_value(whole)
            .inspect_err(|error| tracing::debug!(name, %error, "an event is kept in its raw form"))
            .ok();
        let at = Timestamp::new(seconds, micros.saturating_mul(1000)).unwrap_or_else(|_| Timestamp::now());
        Self { name, data, at, typed }
    }
}

/// A monitor, as many times as it is cloned. The connection ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Qmp {
    requests: mpsc::Sender<Request>,
    end: EndReason,
    version: [u64; 3],
}

impl Qmp {
    /// Connects, reads the greeting and leaves negotiation mode, all before `deadline`.
    ///
    /// A socket that is not there yet is waited for: QEMU makes it some milliseconds after its start. Race this against the
    /// process's exit. The receiver gets every event until the connection ends, which closes it.
    ///
    /// # Errors
    /// [`QmpError::Connect`], [`QmpError::Greeting`], or what `qmp_capabilities` met.
    pub async fn connect(
        path: &Path,
        deadline: Duration,
    ) -> Result<(Self, mpsc::Receiver<QmpEvent>), QmpError> {
        let end = Instant::now() + deadline;
        let stream = connect_stream(path, end).await?;
        let (lines, version) = timeout_at(end, greeting(&stream))
            .await
            .unwrap_or(Err("silence".into()))
            .map_err(|reason| QmpError::Greeting { path: path.to_owned(), reason: reason.into_owned() })?;
        let (requests, inbox) = mpsc::channel(64);
        let (events, receiver) = mpsc::channel(connection::EVENT_BACKLOG);
        let reason = EndReason::default();
        tokio::spawn(Connection::new(stream, lines, inbox, events, Arc::clone(&reason)).run());
        let qmp = Self { requests, end: reason, version };
        qmp.raw("qmp_capabilities", None, None, end.saturating_duration_since(Instant::now())).await?;
        Ok((qmp, receiver))
    }

    /// QEMU's version as it greeted: major, minor, micro.
    #[must_use]
    pub const fn version(&self) -> [u64; 3] {
        self.version
    }

    /// Executes a typed command within [`COMMAND_TIMEOUT`].
    ///
    /// # Errors
    /// [`QmpError::Command`] when QEMU refuses, [`QmpError::Decode`] when its answer has fields the type does not know;
    /// [`QmpError::Timeout`] and [`QmpError::Closed`] when there is none.
    pub async fn execute<C: Command>(&self, command: &C) -> Result<C::Ok, QmpError> {
        self.execute_within(command, COMMAND_TIMEOUT).await
    }

    /// Executes a typed command within a deadline of its own.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub async fn execute_within<C: Command>(&self, command: &C, within: Duration) -> Result<C::Ok, QmpError> {
        let answer = self.raw(C::NAME, arguments(command)?, None, within).await?;
        decode(C::NAME, answer)
    }

    /// Executes a typed command and reads from its answer only what `T` names: for answers whose type in `qapi` is that of
    /// another QEMU version.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub async fn execute_as<C: Command, T: DeserializeOwned>(&self, command: &C) -> Result<T, QmpError> {
        let answer = self.raw(C::NAME, arguments(command)?, None, COMMAND_TIMEOUT).await?;
        decode(C::NAME, answer)
    }

    /// Executes a typed command that a descriptor goes with (`getfd`); QEMU gets a duplicate.
    ///
    /// # Errors
    /// As [`Qmp::execute`]; [`QmpError::Encode`] when the descriptor cannot be duplicated.
    pub async fn execute_with_fd<C: Command>(
        &self,
        command: &C,
        fd: BorrowedFd<'_>,
    ) -> Result<C::Ok, QmpError> {
        let fd = fd
            .try_clone_to_owned()
            .map_err(|error| QmpError::Encode { command: C::NAME.to_owned(), reason: error.to_string() })?;
        let answer = self.raw(C::NAME, arguments(command)?, Some(fd), COMMAND_TIMEOUT).await?;
        decode(C::NAME, answer)
    }

    /// Executes a command by name.
    ///
    /// # Errors
    /// As [`Qmp::execute`], but for [`QmpError::Decode`].
    pub async fn execute_raw(
        &self,
        name: &'static str,
        arguments: Option<Map<String, Value>>,
        within: Duration,
    ) -> Result<Value, QmpError> {
        self.raw(name, arguments, None, within).await
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }

    async fn raw(
        &self,
        name: &'static str,
        arguments: Option<Map<String, Value>>,
        fd: Option<std::os::fd::OwnedFd>,
        within: Duration,
    ) -> Result<Value, QmpError> {
        let mut message = Map::new();
        message.insert("execute".to_owned(), name.into());
        if let Some(arguments) = arguments {
            message.insert("arguments".to_owned(), Value::Object(arguments));
        }
        let (reply, answer) = oneshot::channel();
        let exchange = async {
            self.requests.send(Request { name, message, fd, reply }).await.map_err(|_| self.closed())?;
            answer.await.unwrap_or_else(|_| Err(self.closed()))
        };
        tokio::time::timeout(within, exchange)
            .await
            .unwrap_or_else(|_| Err(QmpError::Timeout { command: name.to_owned(), within }))
    }

    fn closed(&self) -> QmpError {
        let reason = self.end.get().cloned().unwrap_or_else(|| "it is ending".to_owned());
        QmpError::Closed { reason }
    }
}

fn arguments<C: Command>(command: &C) -> Result<Option<Map<String, Value>>, QmpError> {
    let encode = |reason: String| QmpError::Encode { command: C::NAME.to_owned(), reason };
    match serde_json::to_value(command) {
        Ok(Value::Object(arguments)) if arguments.is_empty() => Ok(None),
        Ok(Value::Object(arguments)) => Ok(Some(arguments)),
        Ok(_) => Err(encode("its arguments are no object".to_owned())),
        Err(error) => Err(encode(error.to_string())),
    }
}

fn decode<T: DeserializeOwned>(command: &str, answer: Value) -> Result<T, QmpError> {
    serde_json::from_value(answer).map_err(|source| QmpError::Decode { command: command.to_owned(), source })
}

/// Connects as soon as somebody listens.
pub(crate) async fn connect_stream(path: &Path, end: Instant) -> Result<UnixStream, QmpError> {
    let began = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        let source = match timeout_at(end, UnixStream::connect(path)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        let may_come = matches!(
            source.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock
        );
        if !may_come || Instant::now() + pause > end {
            return Err(QmpError::Connect { path: path.to_owned(), source });
        }
        // There is nothing to wait on: the socket is made by a process that says nothing before it.
        tokio::time::sleep(pause).await;
        // A start is waited for by a person, and an attempt costs microseconds: seldom only when something is wrong.
        if began.elapsed() > Duration::from_millis(500) {
            pause = (pause * 2).min(Duration::from_millis(16));
        }
    }
}

/// Reads up to the greeting; what follows it stays in the lines.
async fn greeting(stream: &UnixStream) -> Result<(Lines, [u64; 3]), Cow<'static, str>> {
    let mut lines = Lines::default();
    let mut scratch = vec![0; 4096];
    loop {
        stream.readable().await.map_err(|error| error.to_string())?;
        match stream.try_read(&mut scratch) {
            Ok(0) => return Err("the connection was closed".into()),
            Ok(count) => lines.push(&scratch[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.to_string().into()),
        }
        while let Some(line) = lines.next_line().map_err(|error| error.to_string())? {
            return match Message::decode(line) {
                Message::Greeting { version } => Ok((lines, version)),
                Message::Undecodable if line.is_empty() => continue,
                _ => Err("what it says is not QEMU's greeting".into()),
            };
        }
        // A greeting has some hundred bytes; whoever sends more without a line end is no monitor.
        if lines.held() > 64 << 10 {
            return Err("what it says is not QEMU's greeting".into());
        }
    }
}
