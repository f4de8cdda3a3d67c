//! `serve`: the engine without a window, with its page on a loopback port, until SIGINT or SIGTERM.

use std::io::IsTerminal as _;
use std::net::SocketAddr;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use voidvm_host::{Access, Config};
use voidvm_model::{ErrorBody, ErrorCode};
use voidvm_server::{LocalApi, OwnerSocket};

use crate::args::Serve;
use crate::output::{Format, document, line, note};

pub(crate) async fn serve(args: Serve, config: Config, format: Format) -> Result<(), ErrorBody> {
    config.check()?;
    if let Some(address) = args.listen {
        LocalApi::check(address)?;
    }
    let access = Access::open(config).await?;
    let Some(host) = access.host() else {
        return Err(ErrorBody::new(ErrorCode::InvalidState, "The engine runs already, in another process.")
            .with_hint("Use that one, or end it first; machines go on."));
    };
    let served = serve_host(host, &args, format).await;
    host.close().await;
    served
}

async fn serve_host(host: &voidvm_host::Host, args: &Serve, format: Format) -> Result<(), ErrorBody> {
    let no_signals =
        |error| ErrorBody::new(ErrorCode::Internal, format!("Signals cannot be listened to: {error}."));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let socket = OwnerSocket::start(host).await?;
    let port = host.settings().borrow().settings().local_api_port;
    let address = args.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], port)));
    let api = LocalApi::start(host, address).await?;
    announce(host, &api, args, format).await?;
    host.engine().autostart();
    host.engine().schedules().run_always();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    note(format, "The engine ends; machines go on.");
    api.stop().await;
    socket.stop().await;
    Ok(())
}

/// Says where the page is. The token is shown to a person at a terminal, or where it was asked for.
async fn announce(
    host: &voidvm_host::Host,
    api: &LocalApi,
    args: &Serve,
    format: Format,
) -> Result<(), ErrorBody> {
    let url = api.url();
    if !args.print_url && !std::io::stdout().is_terminal() {
        return match format {
            Format::Json => document(&json!({ "url": url, "pid": std::process::id() })),
            Format::Text => line(format_args!("voidVM is at {url}")),
        };
    }
    let (token, kept_in) = host.token().get().await?;
    match format {
        Format::Json => document(&json!({
            "url": url, "pid": std::process::id(), "token": token.reveal(), "keptIn": kept_in.to_string(),
        })),
        Format::Text => line(format_args!("voidVM is at {url}/?token={}", token.reveal())),
    }
}
