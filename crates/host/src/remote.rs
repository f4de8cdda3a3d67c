//! A client of the process that owns the data directory: the same commands, over its unix socket.
//!
//! The owner serves there what it serves on the local API, and knows by the kernel's word that we are the same user. One
//! connection for each call: on a unix socket that costs less than keeping one alive.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use voidvm_model::{ErrorBody, ErrorCode, Origin, StreamItem};

use crate::console::{ConsoleLine, carry};

/// The header that says through which face of the product a client of the socket was asked.
pub const ORIGIN_HEADER: &str = "x-voidvm-origin";
/// A detail of an error that says that the owner never heard the request: it can be made again.
pub const UNSENT: &str = "unsent";
/// The largest answer that is read: a screenshot in base64 is the largest there is.
const ANSWER_MAX: usize = 64 << 20;
/// No command takes longer: waiting for an operation is 60 s at most.
const PATIENCE: Duration = Duration::from_secs(90);

/// A client of the owner.
#[derive(Clone, Debug)]
pub struct RemoteClient {
    socket: PathBuf,
}

impl RemoteClient {
    /// A client of the owner at `socket`; connects to nothing yet.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// The owner's socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Runs a command in the owner.
    ///
    /// # Errors
    /// What the owner says, or [`ErrorCode::OwnerUnreachable`].
    pub async fn call(&self, name: &str, payload: &Value, origin: Origin) -> Result<Value, ErrorBody> {
        match tokio::time::timeout(PATIENCE, self.post(name, payload, origin)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.unreachable("it does not answer")),
        }
    }

    async fn post(&self, name: &str, payload: &Value, origin: Origin) -> Result<Value, ErrorBody> {
        let stream = self.connect().await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.unreachable(error))?;
        tokio::spawn(async move {
            // Its end shows in the answer.
            let _ = connection.await;
        });
        let request = Request::post(format!("/api/v1/rpc/{name}"))
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header(ORIGIN_HEADER, origin.as_str())
            .body(Full::new(Bytes::from(payload.to_string())))
            .map_err(|error| {
                ErrorBody::invalid("command", format!("{name:?} cannot be a command: {error}."))
            })?;
        let answer = sender.send_request(request).await.map_err(|error| {
            // Cancelled: the connection was closed before the request was written to it.
            let unsent = error.is_canceled();
            let error = self.unreachable(error);
            if unsent { error.with_detail(UNSENT, true) } else { error }
        })?;
        let body = Limited::new(answer.into_body(), ANSWER_MAX)
            .collect()
            .await
            .map_err(|error| self.unreachable(error))?
            .to_bytes();
        let mut envelope: Value = serde_json::from_slice(&body).map_err(|error| self.unreachable(error))?;
        if let Some(error) = envelope.get_mut("error") {
            return Err(serde_json::from_value(error.take()).map_err(|error| self.unreachable(error))?);
        }
        envelope.get_mut("data").map(Value::take).ok_or_else(|| self.unreachable("its answer is no answer"))
    }

    /// Follows the owner's events; ends when the owner does.
    ///
    /// # Errors
    /// [`ErrorCode::OwnerUnreachable`].
    pub async fn subscribe(&self, since: Option<u64>) -> Result<BoxStream<'static, StreamItem>, ErrorBody> {
        let query = since.map(|seq| format!("?since={seq}")).unwrap_or_default();
        let socket = self.websocket(&format!("/api/v1/events{query}")).await?;
        let items = socket.filter_map(|message| async {
            match message {
                Ok(Message::Text(text)) => serde_json::from_str(&text).ok(),
                _ => None,
            }
        });
        Ok(items.boxed())
    }

    /// Opens the console behind a path of `vm.console`.
    ///
    /// # Errors
    /// [`ErrorCode::OwnerUnreachable`], or that the ticket is used or too old.
    pub async fn console(&self, path: &str) -> Result<ConsoleLine, ErrorBody> {
        Ok(carry(self.websocket(path).await?))
    }

    async fn websocket(&self, path: &str) -> Result<WebSocketStream<UnixStream>, ErrorBody> {
        use tokio_tungstenite::tungstenite::Error;
        let stream = self.connect().await?;
        let request =
            format!("ws://localhost{path}").into_client_request().map_err(|error| self.unreachable(error))?;
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(answer)) => Err(answer
                .body()
                .as_deref()
                .and_then(|body| serde_json::from_slice::<Value>(body).ok())
                .and_then(|mut envelope| serde_json::from_value(envelope.get_mut("error")?.take()).ok())
                .unwrap_or_else(|| self.unreachable(format!("it answers {}", answer.status())))),
            Err(error) => Err(self.unreachable(error)),
        }
    }

    async fn connect(&self) -> Result<UnixStream, ErrorBody> {
        let unheard = |error| self.unreachable(error).with_detail(UNSENT, true);
        UnixStream::connect(&self.socket).await.map_err(unheard)
    }

    fn unreachable(&self, reason: impl std::fmt::Display) -> ErrorBody {
        ErrorBody::new(
            ErrorCode::OwnerUnreachable,
            format!("Another voidVM owns this data directory, and cannot be reached: {reason}."),
        )
        .with_hint("Wait a moment; if it stays so, end that process and try again. Machines go on.")
        .with_detail("socket", self.socket.display().to_string())
    }
}
