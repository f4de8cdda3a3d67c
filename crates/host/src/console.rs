//! A machine's console as two streams of messages, whoever the viewer is: a browser's WebSocket, the desktop window, a
//! terminal. What the messages of a screen mean is `voidvm_console`'s matter; a serial port's are plain bytes.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use voidvm_console::ConsoleEnd;
use voidvm_console::ticket::ConsoleKind;
use voidvm_engine::Engine;
use voidvm_model::{ErrorBody, ErrorCode, VmId};

pub use voidvm_console::ConsoleLine;

/// Opens a console of a machine of this engine.
pub(crate) async fn open(engine: &Engine, id: VmId, kind: ConsoleKind) -> Result<ConsoleLine, ErrorBody> {
    match kind {
        ConsoleKind::Screen => screen(engine, id).await,
        ConsoleKind::Serial => serial(engine, id).await,
    }
}

async fn screen(engine: &Engine, id: VmId) -> Result<ConsoleLine, ErrorBody> {
    let gone = |error: std::io::Error| {
        ErrorBody::new(ErrorCode::ConsoleUnavailable, format!("The display cannot be opened: {error}."))
    };
    let display = engine.open_screen(id).await?;
    display.set_nonblocking(true).map_err(gone)?;
    let display = tokio::net::UnixStream::from_std(display).map_err(gone)?;
    let (input, mut typed) = mpsc::channel(16);
    let keyboard = engine.clone();
    tokio::spawn(async move {
        while let Some(events) = typed.recv().await {
            if let Err(error) = keyboard.input(id, events).await {
                tracing::debug!(vm = %id, "input was lost: {error}");
            }
        }
    });
    Ok(ConsoleLine::screen(display, input))
}

async fn serial(engine: &Engine, id: VmId) -> Result<ConsoleLine, ErrorBody> {
    let port = engine.serial(id).await?;
    let (line, ConsoleEnd { to_viewer, mut from_viewer, ended }) = ConsoleLine::new();
    let (mut output, input) = port.split();
    tokio::spawn(async move {
        let how = loop {
            tokio::select! {
                bytes = output.next() => match bytes {
                    Some(bytes) => if to_viewer.send(bytes).await.is_err() { break Ok(()) },
                    None => break Err(closed()),
                },
                typed = from_viewer.recv() => match typed {
                    Some(bytes) => if input.write(bytes.into()).await.is_err() { break Err(closed()) },
                    None => break Ok(()),
                },
            }
        };
        // Nobody may be left who wants to know.
        let _ = ended.send(how);
    });
    Ok(line)
}

fn closed() -> ErrorBody {
    ErrorBody::new(ErrorCode::ConsoleUnavailable, "The serial port was closed.")
        .with_hint("Open the console again once the machine runs.")
}

/// Carries a line over a WebSocket to the process that owns the machine.
pub(crate) fn carry<S>(socket: tokio_tungstenite::WebSocketStream<S>) -> ConsoleLine
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    use tokio_tungstenite::tungstenite::Message;
    let (line, ConsoleEnd { to_viewer, mut from_viewer, ended }) = ConsoleLine::new();
    let (mut write, mut read) = socket.split();
    tokio::spawn(async move {
        let how = loop {
            tokio::select! {
                message = read.next() => match message {
                    Some(Ok(Message::Binary(bytes))) => if to_viewer.send(bytes).await.is_err() { break Ok(()) },
                    Some(Ok(Message::Close(close))) => break Err(told(close.as_ref())),
                    Some(Err(_)) | None => break Err(told(None)),
                    Some(Ok(_)) => {}
                },
                said = from_viewer.recv() => match said {
                    Some(bytes) => if write.send(Message::Binary(bytes.into())).await.is_err() { break Err(told(None)) },
                    None => break Ok(()),
                },
            }
        };
        let _ = ended.send(how);
        let _ = write.close().await;
    });
    line
}

/// Why the owner closed a console: it says the code of the error as the reason.
fn told(close: Option<&CloseFrame>) -> ErrorBody {
    let code = close.and_then(|close| serde_json::from_value(close.reason.as_str().into()).ok());
    ErrorBody::new(code.unwrap_or(ErrorCode::ConsoleUnavailable), "The console was closed.")
}
