//! Bytes of the monitor's protocol as messages; pure, total and bounded: any input gives messages or an error.
//!
//! A line is one JSON object. What is no JSON is [`Message::Undecodable`] and is skipped by the connection; a line that never
//! ends is an error, since nothing after it can be trusted.

use serde_json::{Map, Value};

/// The longest line that is read; QEMU's longest answer (its schema) has some 200 kB.
pub const LINE_MAX: usize = 16 << 20;

/// A line was longer than [`LINE_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line of more than {LINE_MAX} bytes")]
pub struct LineTooLong;

/// Cuts a stream of bytes into lines, however it arrives.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: Vec<u8>,
    /// Start of what was not handed out yet.
    start: usize,
    /// Up to where no line end was found.
    scanned: usize,
}

impl Lines {
    /// Adds what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line without its end, if there is one.
    ///
    /// # Errors
    /// [`LineTooLong`]: the buffer is dropped and the stream should be given up.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, LineTooLong> {
        let Some(found) = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') else {
            self.scanned = self.buffer.len();
            if self.buffer.len() - self.start > LINE_MAX {
                *self = Self::default();
                return Err(LineTooLong);
            }
            return Ok(None);
        };
        let end = self.scanned + found;
        let line = self.start..end;
        self.start = end + 1;
        self.scanned = self.start;
        if line.len() > LINE_MAX {
            return Err(LineTooLong);
        }
        Ok(Some(self.buffer[line].trim_ascii()))
    }

    /// Bytes that are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.buffer.len() - self.start
    }
}

/// One message of the monitor.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// The first one: QEMU's version.
    Greeting {
        /// `major.minor.micro`.
        version: [u64; 3],
    },
    /// The answer to the request with this id.
    Reply {
        /// The request's id, where it is one of ours.
        id: Option<u64>,
        /// QEMU's answer, or its error's class and description.
        outcome: Result<Value, (String, String)>,
    },
    /// Something happened.
    Event {
        /// QEMU's name for it.
        name: String,
        /// What belongs to it.
        data: Value,
        /// Seconds and microseconds since 1970, by the host's clock.
        at: (i64, i32),
    },
    /// None of these.
    Undecodable,
}

impl Message {
    /// Reads one line. Never fails: see [`Message::Undecodable`].
    #[must_use]
    pub fn decode(line: &[u8]) -> Self {
        match serde_json::from_slice(line) {
            Ok(Value::Object(object)) => Self::from_object(object),
            Ok(_) => Self::Undecodable,
            // A guest can put bytes that are no Unicode into names QEMU repeats.
            Err(_) => match serde_json::from_str(&String::from_utf8_lossy(line)) {
                Ok(Value::Object(object)) => Self::from_object(object),
                _ => Self::Undecodable,
            },
        }
    }

    fn from_object(mut object: Map<String, Value>) -> Self {
        if let Some(Value::String(name)) = object.remove("event") {
            let stamp = |field| object.get("timestamp").and_then(|at| at.get(field)).and_then(Value::as_i64);
            let micros = i32::try_from(stamp("microseconds").unwrap_or(0)).unwrap_or(0);
            let at = (stamp("seconds").unwrap_or(0), micros.clamp(0, 999_999));
            return Self::Event { name, data: object.remove("data").unwrap_or(Value::Null), at };
        }
        let id = object.get("id").and_then(Value::as_u64);
        if let Some(answer) = object.remove("return") {
            return Self::Reply { id, outcome: Ok(answer) };
        }
        let word =
            |value: &Value, field| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        if let Some(error) = object.get("error").filter(|error| error.is_object()) {
            return Self::Reply { id, outcome: Err((word(error, "class"), word(error, "desc"))) };
        }
        if let Some(version) = object.get("QMP").and_then(|qmp| qmp.get("version")?.get("qemu")) {
            let part = |field| version.get(field).and_then(Value::as_u64).unwrap_or(0);
            return Self::Greeting { version: [part("major"), part("minor"), part("micro")] };
        }
        Self::Undecodable
    }
}
