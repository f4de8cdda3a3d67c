//! The two places that listen: the owner's unix socket, always; and the local API's loopback port, when it is wanted.

use std::future::IntoFuture as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::serve::{Listener, ListenerExt as _};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use voidvm_host::Host;
use voidvm_host::remote::UNSENT;
use voidvm_model::{ErrorBody, ErrorCode};

use crate::guard::{App, Transport};
use crate::router::router;
use crate::throttle::Throttle;

/// How long open requests may take when a listener ends.
const FAREWELL: Duration = Duration::from_secs(2);
/// Connections of the loopback port at one time.
const CONNECTIONS: usize = 256;

fn app(host: &Host, transport: Transport, closing: &CancellationToken) -> App {
    App {
        host: host.clone(),
        transport,
        throttle: Arc::new(Throttle::new(std::time::Instant::now())),
        closing: closing.clone(),
    }
}

/// A task that serves until it is told to stop.
#[derive(Debug)]
struct Serving {
    closing: CancellationToken,
    task: JoinHandle<()>,
}

impl Serving {
    fn begin<L>(listener: L, app: App) -> Self
    where
        L: Listener,
        L::Addr: std::fmt::Debug,
    {
        let closing = app.closing.clone();
        let over = closing.clone();
        let serve = axum::serve(listener, router(app)).with_graceful_shutdown(over.cancelled_owned());
        let stopped = closing.clone();
        let task = tokio::spawn(async move {
            let farewell = async {
                stopped.cancelled().await;
                tokio::time::sleep(FAREWELL).await;
            };
            tokio::select! {
                _ = serve.into_future() => {}
                () = farewell => {}
            }
        });
        Self { closing, task }
    }

    async fn stop(&mut self) {
        self.closing.cancel();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// The owner's unix socket: what the CLI and a second window talk to.
#[derive(Debug)]
pub struct OwnerSocket {
    path: PathBuf,
    serving: Serving,
    /// The same socket, for those who wait in it when it ends.
    waiting: std::os::unix::net::UnixListener,
}

impl OwnerSocket {
    /// Listens in the host's runtime directory, which is the user's alone. A socket that an owner before left there is
    /// replaced: we hold the lock, so it is dead.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub async fn start(host: &Host) -> Result<Self, ErrorBody> {
        let path = host.directories().socket();
        let failed = |error: io::Error| {
            ErrorBody::new(ErrorCode::Internal, format!("Could not listen on {}: {error}.", path.display()))
                .with_hint("See what `voidvm doctor` says of the runtime directory.")
        };
        let listener = bind_private(&path).map_err(failed)?;
        let waiting = rustix::io::dup(&listener).map_err(|error| failed(error.into()))?.into();
        let closing = CancellationToken::new();
        let app = app(host, Transport::Private, &closing);
        Ok(Self { path, serving: Serving::begin(SameUser(listener), app), waiting })
    }

    /// Stops listening and ends open streams. Who connected too late to be heard is told so, and can ask the next owner.
    pub async fn stop(mut self) {
        let _ = std::fs::remove_file(&self.path);
        self.serving.stop().await;
        let Ok(waiting) = self.waiting.try_clone() else { return };
        let told = tokio::task::spawn_blocking(move || {
            while let Ok((stream, _)) = waiting.accept() {
                if let Err(error) = turn_away(stream) {
                    tracing::debug!(%error, "who came too late could not be told");
                }
            }
        });
        if let Err(error) = told.await {
            tracing::debug!(%error, "who came too late was not told");
        }
    }
}

impl Drop for OwnerSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Answers a request that was not read.
fn turn_away(mut stream: std::os::unix::net::UnixStream) -> io::Result<()> {
    use std::io::{Read as _, Write as _};
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(FAREWELL))?;
    stream.set_write_timeout(Some(FAREWELL))?;
    let error =
        ErrorBody::new(ErrorCode::OwnerUnreachable, "This voidVM is ending.").with_detail(UNSENT, true);
    let body = serde_json::json!({ "code": 503, "message": error.message, "error": error }).to_string();
    write!(
        stream,
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // What it sent is read, or the kernel would reset the connection and throw the answer away.
    io::copy(&mut stream.take(1 << 20), &mut io::sink()).map(drop)
}

fn bind_private(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt as _;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Accepts connections of this user alone, by the kernel's word.
struct SameUser(UnixListener);

impl Listener for SameUser {
    type Io = UnixStream;
    type Addr = tokio::net::unix::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.0).await;
            match stream.peer_cred() {
                Ok(peer) if peer.uid() == rustix::process::getuid().as_raw() => return (stream, address),
                Ok(peer) => tracing::warn!(uid = peer.uid(), "another user was turned away"),
                Err(error) => tracing::warn!("who connects cannot be told: {error}"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// The local API on a loopback port.
#[derive(Debug)]
pub struct LocalApi {
    host: Host,
    address: SocketAddr,
    serving: Serving,
}

impl LocalApi {
    /// Listens on a loopback address; port 0 takes any.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidInput`] when the address is not a loopback one, [`ErrorCode::PortInUse`] when somebody else listens
    /// there.
    pub async fn start(host: &Host, address: SocketAddr) -> Result<Self, ErrorBody> {
        Self::check(address)?;
        let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                ErrorBody::new(ErrorCode::PortInUse, format!("Something else listens on {address}."))
                    .with_hint("Choose another port.")
                    .with_field("listen")
            }
            io::ErrorKind::PermissionDenied => {
                ErrorBody::new(ErrorCode::PermissionDenied, format!("You may not listen on {address}."))
                    .with_hint("Choose a port from 1024 to 65535.")
                    .with_field("listen")
            }
            _ => ErrorBody::new(ErrorCode::NetworkFailed, format!("Could not listen on {address}: {error}.")),
        })?;
        let address = listener.local_addr().map_err(|error| {
            ErrorBody::new(ErrorCode::NetworkFailed, format!("The port cannot be told: {error}."))
        })?;
        let closing = CancellationToken::new();
        let app = app(host, Transport::Loopback(address), &closing);
        let listener = Limited { listener, permits: Arc::new(Semaphore::new(CONNECTIONS)) };
        let listener = listener.tap_io(|io: &mut Counted| {
            // Small answers and console messages go out at once.
            let _ = io.stream.set_nodelay(true);
        });
        let api = Self { host: host.clone(), address, serving: Serving::begin(listener, app) };
        host.set_local_api(Some(api.url()));
        tracing::info!(%address, "the local API listens");
        Ok(api)
    }

    /// Refuses addresses that others could reach.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidInput`].
    pub fn check(address: SocketAddr) -> Result<(), ErrorBody> {
        if address.ip().is_loopback() {
            return Ok(());
        }
        let hint = "The API has no TLS and is for this computer alone. From another one use: ssh -L 7770:127.0.0.1:7770";
        Err(ErrorBody::invalid("listen", format!("{} is not a loopback address.", address.ip()))
            .with_hint(hint))
    }

    /// `http://127.0.0.1:7770`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening and ends open streams.
    pub async fn stop(mut self) {
        self.serving.stop().await;
    }

    /// Listens while the setting says so, on the port the setting says, until the returned task is aborted. For the desktop
    /// app, where the API is off until somebody turns it on.
    pub fn follow(host: Host) -> JoinHandle<()> {
        tokio::spawn(async move {
            let mut settings = host.settings();
            let mut running: Option<Self> = None;
            loop {
                let wanted = {
                    let settings = settings.borrow_and_update().settings();
                    settings.local_api.then_some(settings.local_api_port)
                };
                if running.as_ref().map(|api| api.address.port()) != wanted {
                    if let Some(api) = running.take() {
                        api.stop().await;
                    }
                    if let Some(port) = wanted {
                        match Self::start(&host, SocketAddr::from(([127, 0, 0, 1], port))).await {
                            Ok(api) => running = Some(api),
                            Err(error) => tracing::error!("the local API cannot listen: {error}"),
                        }
                    }
                }
                if settings.changed().await.is_err() {
                    return;
                }
            }
        })
    }
}

impl Drop for LocalApi {
    fn drop(&mut self) {
        self.host.set_local_api(None);
    }
}

/// Accepts no more than so many connections at one time; others wait in the kernel's queue.
struct Limited {
    listener: TcpListener,
    permits: Arc<Semaphore>,
}

impl Listener for Limited {
    type Io = Counted;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // Never fails: the semaphore is never closed.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Counted { stream, _permit: permit }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that counts while it is open.
struct Counted {
    stream: tokio::net::TcpStream,
    _permit: Option<tokio::sync::OwnedSemaphorePermit>,
}

impl tokio::io::AsyncRead for Counted {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl tokio::io::AsyncWrite for Counted {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
