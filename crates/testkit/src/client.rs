//! A client of a running `voidvm serve`: the owner's unix socket, as the command line uses it. Blocking, one connection a call.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use voidvm_model::{ErrorBody, Operation, VmId, VmView};

use crate::wait::wait_until;

/// No call takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// An HTTP answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The head, as it came.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

/// A client of the owner's socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of this socket; nothing is connected yet.
    #[must_use]
    pub const fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// One HTTP request as it is. An error when the owner is not there or goes away.
    ///
    /// # Errors
    /// The socket's.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<Answer> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nx-voidvm-origin: rest\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        parse(&bytes).ok_or_else(|| std::io::Error::other("no whole HTTP answer"))
    }

    /// A command by its wire name; `None` when the owner went away in the middle of it.
    ///
    /// # Panics
    /// When the answer has not the envelope's shape.
    #[must_use]
    pub fn try_call(&self, command: &str, payload: &Value) -> Option<Result<Value, ErrorBody>> {
        let answer = self.request("POST", &format!("/api/v1/rpc/{command}"), Some(payload)).ok()?;
        let mut envelope: Value = serde_json::from_slice(&answer.body)
            .unwrap_or_else(|error| panic!("{command}: {error}: {answer:?}"));
        if let Some(error) = envelope.get_mut("error") {
            let error = serde_json::from_value(error.take()).expect("the error shape");
            return Some(Err(error));
        }
        assert_eq!(answer.status, 200, "{command}: {envelope}");
        Some(Ok(envelope["data"].take()))
    }

    /// A command by its wire name.
    ///
    /// # Errors
    /// The owner's.
    ///
    /// # Panics
    /// When the owner is not there.
    pub fn call(&self, command: &str, payload: &Value) -> Result<Value, ErrorBody> {
        self.try_call(command, payload).unwrap_or_else(|| panic!("{command}: the owner went away"))
    }

    /// Every machine.
    ///
    /// # Panics
    /// When the owner refuses.
    #[must_use]
    pub fn vms(&self) -> Vec<VmView> {
        let list = self.call("vm.list", &json!({})).expect("the list");
        serde_json::from_value(list).expect("machines")
    }

    /// One machine.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn vm(&self, id: VmId) -> VmView {
        let view = self.call("vm.get", &json!({"id": id})).expect("the machine");
        serde_json::from_value(view).expect("a machine")
    }

    /// Asks for an operation and waits for its end, whatever that is.
    ///
    /// # Errors
    /// When it was refused.
    ///
    /// # Panics
    /// When it has not ended after a minute.
    pub fn operate(&self, command: &str, payload: &Value) -> Result<Operation, ErrorBody> {
        let operation: Operation =
            serde_json::from_value(self.call(command, payload)?).expect("an operation");
        Ok(wait_until(PATIENCE, "the operation's end", || {
            let answer = self.call("operation.get", &json!({"id": operation.id, "waitSeconds": 10}));
            let now: Operation =
                serde_json::from_value(answer.expect("the operation")).expect("an operation");
            now.status.is_final().then_some(now)
        }))
    }

    /// Waits until `hold` holds of a machine's view, and gives it.
    ///
    /// # Panics
    /// After 30 seconds, with the last view.
    pub fn wait_vm(&self, id: VmId, what: &str, hold: impl Fn(&VmView) -> bool) -> VmView {
        let mut last = None;
        let end = std::time::Instant::now() + Duration::from_secs(30);
        loop {
            let view = self.vm(id);
            if hold(&view) {
                return view;
            }
            assert!(
                std::time::Instant::now() < end,
                "waited for {what}; the machine is {view:?}, was {last:?}"
            );
            last = Some(view.state);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Head and body of an answer, chunked or not.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut rest = &bytes[end + 4..];
    let lower = head.to_ascii_lowercase();
    let header = |name: &str| lower.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if header("transfer-encoding:") == Some("chunked") {
        let mut body = Vec::new();
        loop {
            let line = rest.windows(2).position(|window| window == b"\r\n")?;
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?.trim(), 16).ok()?;
            if size == 0 {
                return Some(Answer { status, head, body });
            }
            body.extend_from_slice(rest.get(line + 2..line + 2 + size)?);
            rest = rest.get(line + 4 + size..)?;
        }
    }
    let length = header("content-length:").map_or(Some(rest.len()), |text| text.parse().ok())?;
    Some(Answer { status, head, body: rest.get(..length)?.to_vec() })
}
