//! Consoles over WebSockets: `/console/{ticket}`, where the ticket is the permission (one use, 30 seconds).
//!
//! Two places serve it: the local API, for its own page; and [`ConsoleListener`] for the desktop window, on a loopback port
//! that is open only while a console is, or is about to be.
//!
//! ```text
//! ConsoleListener: closed ── address() ──▶ open ── no console and no ticket that could still come ──▶ closed
//! ```

use std::future::IntoFuture as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::header::ORIGIN;
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt as _;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use voidvm_host::Access;
use voidvm_host::console::ConsoleLine;
use voidvm_model::contract::ConsoleTicket;
use voidvm_model::{ErrorBody, ErrorCode};

use crate::envelope::Refusal;
use crate::guard::{App, Transport, check_host, check_page};

/// The largest message of a viewer: a paste into the serial port.
const MESSAGE_MAX: usize = 1 << 20;
/// Buffers of one connection; pictures pass through without being copied into them.
const BUFFER: usize = 16 << 10;

/// A console for the page of the local API, or for a client of the owner's socket.
pub(crate) async fn console(
    State(app): State<App>,
    Path(ticket): Path<String>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    if let Transport::Loopback(_) = app.transport {
        check_page(&headers, check_host(&headers)?)?;
    }
    let line = app.host.console(&ticket).await?;
    let mut renewals = app.host.token().renewals();
    Ok(sized(upgrade).on_upgrade(async move |socket| {
        let ended = async {
            tokio::select! {
                () = app.closing.cancelled() => "the engine ends",
                _ = renewals.changed() => "the token was renewed",
            }
        };
        pump(socket, line, ended).await;
    }))
}

fn sized(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .max_message_size(MESSAGE_MAX)
        .max_frame_size(MESSAGE_MAX)
        .read_buffer_size(BUFFER)
        .write_buffer_size(0)
}

/// The close code of a console that ended by itself; the reason is the code of its error.
const ENDED: u16 = 4000;

/// Carries messages both ways until one end is gone.
async fn pump(socket: WebSocket, line: ConsoleLine, ended: impl Future<Output = &'static str>) {
    let ConsoleLine { mut to_viewer, from_viewer, ended: how } = line;
    let (mut write, mut read) = socket.split();
    // Each direction by itself: a viewer that reads slowly is still heard.
    let hear = async {
        while let Some(Ok(message)) = read.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes.to_vec(),
                Message::Text(text) => text.as_bytes().to_vec(),
                Message::Ping(_) | Message::Pong(_) => continue,
                Message::Close(_) => return,
            };
            if from_viewer.send(bytes).await.is_err() {
                // The console has ended, and `show` tells how.
                return std::future::pending().await;
            }
        }
    };
    let show = async {
        while let Some(bytes) = to_viewer.recv().await {
            if write.send(Message::Binary(bytes)).await.is_err() {
                return None;
            }
        }
        Some(how.await)
    };
    let close = tokio::select! {
        () = hear => return,
        reason = ended => CloseFrame { code: close_code::AWAY, reason: reason.into() },
        shown = show => match shown {
            None => return,
            Some(Ok(Ok(()))) => CloseFrame { code: close_code::NORMAL, reason: "".into() },
            Some(Ok(Err(error))) => CloseFrame { code: ENDED, reason: code_name(error.code).into() },
            Some(Err(_)) => CloseFrame { code: ENDED, reason: code_name(ErrorCode::ConsoleUnavailable).into() },
        },
    };
    // The viewer may be gone already.
    let _ = write.send(Message::Close(Some(close))).await;
}

/// The wire form of a code.
fn code_name(code: ErrorCode) -> String {
    serde_json::to_value(code)
        .ok()
        .and_then(|value| value.as_str().map(ToOwned::to_owned))
        .unwrap_or_default()
}

/// Pages of the desktop window.
const WINDOW_ORIGINS: &[&str] = &["tauri://localhost", "http://tauri.localhost", "https://tauri.localhost"];
/// The page of `./dev run` while the surface is being developed.
const DEVELOPMENT_ORIGIN: &str = "http://localhost:1420";
/// A ticket that has not come by now will not come.
const TICKET_LIFE: Duration = Duration::from_secs(30);

/// Opens consoles to the desktop window over a loopback port of its own.
#[derive(Clone, Debug)]
pub struct ConsoleListener(Arc<Listening>);

#[derive(Debug)]
struct Listening {
    access: Access,
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    address: SocketAddr,
    /// Until when a console may still be opened.
    expected: watch::Sender<Instant>,
}

impl ConsoleListener {
    /// A listener that does not listen yet.
    #[must_use]
    pub fn new(access: Access) -> Self {
        Self(Arc::new(Listening { access, open: Mutex::new(None) }))
    }

    /// Turns the paths of a ticket into addresses the window can open now.
    ///
    /// # Errors
    /// [`ErrorCode::ConsoleUnavailable`] when no loopback port can be had.
    pub async fn address(&self, ticket: ConsoleTicket) -> Result<ConsoleTicket, ErrorBody> {
        let mut open = self.0.open.lock().await;
        let until = Instant::now() + TICKET_LIFE;
        let address = match open.as_ref() {
            Some(now) if !now.expected.is_closed() => {
                now.expected.send_replace(until);
                now.address
            }
            _ => {
                let fresh = self.listen(until).await.map_err(|error| {
                    ErrorBody::new(
                        ErrorCode::ConsoleUnavailable,
                        format!("No loopback port can be had: {error}."),
                    )
                })?;
                open.insert(fresh).address
            }
        };
        let absolute = |path: &str| format!("ws://{address}{path}");
        Ok(ConsoleTicket { screen: absolute(&ticket.screen), serial: absolute(&ticket.serial) })
    }

    async fn listen(&self, until: Instant) -> std::io::Result<Open> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        // A key is a small message that must not wait for the next one.
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        let (expected, mut deadline) = watch::channel(until);
        let viewers = watch::Sender::new(0_usize);
        let window = Window { access: self.0.access.clone(), viewers: viewers.clone() };
        let router = Router::new().route("/console/{ticket}", any(for_window)).with_state(window);
        let closing = CancellationToken::new();
        let over = closing.clone();
        tokio::spawn(
            axum::serve(listener, router).with_graceful_shutdown(over.cancelled_owned()).into_future(),
        );
        tokio::spawn(async move {
            let mut count = viewers.subscribe();
            loop {
                let until = *deadline.borrow_and_update();
                if *count.borrow_and_update() > 0 {
                    if count.changed().await.is_err() {
                        break;
                    }
                    continue;
                }
                tokio::select! {
                    () = tokio::time::sleep_until(until) => break,
                    _ = count.changed() => {}
                    changed = deadline.changed() => if changed.is_err() { break },
                }
            }
            // From here on `expected` is closed, and the next console opens another port.
            drop(deadline);
            closing.cancel();
        });
        Ok(Open { address, expected })
    }
}

#[derive(Clone)]
struct Window {
    access: Access,
    viewers: watch::Sender<usize>,
}

async fn for_window(
    State(window): State<Window>,
    Path(ticket): Path<String>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    check_host(&headers)?;
    let origin = headers.get(ORIGIN).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let development = cfg!(debug_assertions) && origin == DEVELOPMENT_ORIGIN;
    if !development && !WINDOW_ORIGINS.contains(&origin) {
        return Err(ErrorBody::new(ErrorCode::Forbidden, "Another page asks for this.").into());
    }
    let line = window.access.console(&format!("/console/{ticket}")).await?;
    Ok(sized(upgrade).on_upgrade(async move |socket| {
        window.viewers.send_modify(|count| *count += 1);
        pump(socket, line, std::future::pending()).await;
        window.viewers.send_modify(|count| *count -= 1);
    }))
}
