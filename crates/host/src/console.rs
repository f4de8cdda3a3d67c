//! A machine's console as two streams of messages, whoever the viewer is: a browser's WebSocket, the desktop window, a
//! terminal. What the messages of a screen mean is `voidvm_console`'s matter; a serial port's are plain bytes.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;
use voidvm_console::ticket::ConsoleKind;
use voidvm_engine::Engine;
use voidvm_model::{ErrorBody, ErrorCode, VmId};

/// Messages that wait on the way to a viewer. Few: what waits here is old when it arrives.
const WAITING: usize = 4;

/// One viewer's connection to a console. Dropping either end closes it.
#[derive(Debug)]
pub struct ConsoleLine {
    /// What the viewer is to be given; ends when the console is gone.
    pub to_viewer: mpsc::Receiver<Bytes>,
    /// What the viewer says.
    pub from_viewer: mpsc::Sender<Vec<u8>>,
}

/// The end of a [`ConsoleLine`] that the console holds.
#[derive(Debug)]
pub(crate) struct ConsoleEnd {
    pub(crate) to_viewer: mpsc::Sender<Bytes>,
    pub(crate) from_viewer: mpsc::Receiver<Vec<u8>>,
}

/// Both ends of a new line.
pub(crate) fn line() -> (ConsoleLine, ConsoleEnd) {
    let (to_viewer, shown) = mpsc::channel(WAITING);
    let (said, from_viewer) = mpsc::channel(WAITING);
    (ConsoleLine { to_viewer: shown, from_viewer: said }, ConsoleEnd { to_viewer, from_viewer })
}

/// Opens a console of a machine of this engine.
pub(crate) async fn open(engine: &Engine, id: VmId, kind: ConsoleKind) -> Result<ConsoleLine, ErrorBody> {
    let (line, end) = line();
    match kind {
        ConsoleKind::Screen => screen(engine, id, end).await?,
        ConsoleKind::Serial => serial(engine, id, end).await?,
    }
    Ok(line)
}

async fn screen(engine: &Engine, id: VmId, end: ConsoleEnd) -> Result<(), ErrorBody> {
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
    let ConsoleEnd { to_viewer, mut from_viewer } = end;
    let incoming = Box::pin(futures_util::stream::poll_fn(move |context| from_viewer.poll_recv(context)));
    let outgoing = PollSender::new(to_viewer);
    tokio::spawn(async move {
        match voidvm_console::drive(display, incoming, outgoing, input).await {
            Ok(()) => tracing::debug!(vm = %id, "viewer left"),
            Err(error) => tracing::info!(vm = %id, "console ended: {error}"),
        }
    });
    Ok(())
}

async fn serial(engine: &Engine, id: VmId, end: ConsoleEnd) -> Result<(), ErrorBody> {
    let port = engine.serial(id).await?;
    let ConsoleEnd { to_viewer, mut from_viewer } = end;
    let (mut output, input) = port.split();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                bytes = output.next() => match bytes {
                    Some(bytes) => if to_viewer.send(bytes).await.is_err() { break },
                    None => break,
                },
                typed = from_viewer.recv() => match typed {
                    Some(bytes) => if input.write(bytes.into()).await.is_err() { break },
                    None => break,
                },
            }
        }
    });
    Ok(())
}

/// Carries a line over a WebSocket to the process that owns the machine.
pub(crate) fn carry<S>(socket: tokio_tungstenite::WebSocketStream<S>) -> ConsoleLine
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    use tokio_tungstenite::tungstenite::Message;
    let (line, mut end) = line();
    let (mut write, mut read) = socket.split();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                message = read.next() => match message {
                    Some(Ok(Message::Binary(bytes))) => if end.to_viewer.send(bytes).await.is_err() { break },
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                    Some(Ok(_)) => {}
                },
                said = end.from_viewer.recv() => match said {
                    Some(bytes) => if write.send(Message::Binary(bytes.into())).await.is_err() { break },
                    None => break,
                },
            }
        }
        let _ = write.close().await;
    });
    line
}
