//! The event stream over a WebSocket: each message is one `StreamItem` as JSON. `?since=SEQ` takes the stream up after a number.
//! A client that reads slowly is caught up by a resync (the bus sees to it), never by a growing queue.

use std::time::Duration;

use axum::Extension;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Query, State};
use axum::response::Response;
use futures_util::StreamExt as _;
use serde::Deserialize;
use voidvm_model::contract::Scope;

use crate::envelope::Refusal;
use crate::guard::{App, Identity};

/// Between two signs of life; a client that is gone without a word is found this way.
const PING: Duration = Duration::from_secs(30);
/// A client of this stream says nothing but pongs.
const MESSAGE_MAX: usize = 4096;

#[derive(Debug, Deserialize)]
pub(crate) struct Since {
    since: Option<u64>,
}

pub(crate) async fn events(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Query(Since { since }): Query<Since>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    identity.require(Scope::Read)?;
    let upgrade = upgrade
        .max_message_size(MESSAGE_MAX)
        .max_frame_size(MESSAGE_MAX)
        .read_buffer_size(MESSAGE_MAX)
        .write_buffer_size(0);
    Ok(upgrade.on_upgrade(move |socket| stream(app, since, socket)))
}

async fn stream(app: App, since: Option<u64>, mut socket: WebSocket) {
    let mut items = app.host.subscribe(since);
    let mut renewals = app.host.token().renewals();
    let mut pings = tokio::time::interval_at(tokio::time::Instant::now() + PING, PING);
    let mut answered = true;
    let reason = loop {
        let message = tokio::select! {
            () = app.closing.cancelled() => break (close_code::AWAY, "the engine ends"),
            _ = renewals.changed() => break (close_code::POLICY, "the token was renewed"),
            item = items.next() => match item.map(|item| serde_json::to_string(&item)) {
                Some(Ok(text)) => Message::Text(text.into()),
                Some(Err(_)) | None => break (close_code::ERROR, "the stream ended"),
            },
            heard = socket.recv() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {
                    answered = true;
                    continue;
                }
            },
            _ = pings.tick() => {
                if !answered {
                    return;
                }
                answered = false;
                Message::Ping(bytes::Bytes::new())
            }
        };
        if socket.send(message).await.is_err() {
            return;
        }
    };
    let (code, reason) = reason;
    let _ = socket.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
}
