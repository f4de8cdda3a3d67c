//! Events and consoles over WebSockets, on the local API and on the owner's socket.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod support;

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use support::{Served, serve};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use voidvm_host::{Access, RemoteClient};
use voidvm_model::contract::{ConsoleTicket, VmRef};
use voidvm_model::{ErrorCode, Origin, StreamItem, VmId};
use voidvm_server::{ConsoleListener, OwnerSocket};

const DEADLINE: Duration = Duration::from_secs(10);

async fn open(
    served: &Served,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>, u16> {
    let mut request = format!("ws://{}{path}", served.api.address()).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    match tokio_tungstenite::connect_async(request).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

async fn next(socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>) -> Message {
    tokio::time::timeout(DEADLINE, socket.next()).await.expect("in time").expect("open").expect("whole")
}

async fn set_theme(served: &Served, theme: &str) {
    let view = served.ask("GET", "/api/v1/settings", "").await.json();
    let mut settings = view["data"]["settings"].clone();
    settings["theme"] = json!(theme);
    assert_eq!(
        served.ask("PUT", "/api/v1/settings", &json!({ "settings": settings }).to_string()).await.status,
        200
    );
}

#[tokio::test]
async fn events_reach_those_who_may_listen() {
    let served = serve().await;
    let bearer = format!("Bearer {}", served.token);
    let cookie = served.cookie().await;
    let own = format!("http://{}", served.api.address());
    assert_eq!(open(&served, "/api/v1/events", &[]).await.unwrap_err(), 401);
    assert_eq!(open(&served, "/api/v1/events", &[("cookie", &cookie)]).await.unwrap_err(), 403);
    let foreign = [("cookie", cookie.as_str()), ("origin", "http://evil.example")];
    assert_eq!(open(&served, "/api/v1/events", &foreign).await.unwrap_err(), 403);
    let mut page = open(&served, "/api/v1/events", &[("cookie", &cookie), ("origin", &own)]).await.unwrap();
    let mut program = open(&served, "/api/v1/events", &[("authorization", &bearer)]).await.unwrap();
    set_theme(&served, "dark").await;
    for socket in [&mut page, &mut program] {
        let item: Value = serde_json::from_str(next(socket).await.to_text().unwrap()).unwrap();
        assert_eq!(
            (item["item"].as_str(), item["event"]["type"].as_str()),
            (Some("event"), Some("settings_changed"))
        );
        assert_eq!(item["origin"], "rest");
    }
    // What was missed is replayed.
    let item: StreamItem = {
        set_theme(&served, "light").await;
        serde_json::from_str(next(&mut page).await.to_text().unwrap()).unwrap()
    };
    let StreamItem::Event(last) = item else { panic!("{item:?}") };
    let path = format!("/api/v1/events?since={}", last.seq - 1);
    let mut late = open(&served, &path, &[("authorization", &bearer)]).await.unwrap();
    let replayed: StreamItem = serde_json::from_str(next(&mut late).await.to_text().unwrap()).unwrap();
    assert_eq!(replayed, StreamItem::Event(last));
    // What cannot be replayed is said.
    let mut lost = open(&served, "/api/v1/events?since=1", &[("authorization", &bearer)]).await.unwrap();
    let item: StreamItem = serde_json::from_str(next(&mut lost).await.to_text().unwrap()).unwrap();
    assert!(matches!(item, StreamItem::Resync { .. }), "{item:?}");
}

#[tokio::test]
async fn a_renewed_token_ends_open_streams() {
    let served = serve().await;
    let bearer = format!("Bearer {}", served.token);
    let mut events = open(&served, "/api/v1/events", &[("authorization", &bearer)]).await.unwrap();
    served.ask("POST", "/api/v1/system/api/token", "").await;
    assert!(matches!(next(&mut events).await, Message::Close(Some(_))));
}

#[tokio::test]
async fn a_made_up_ticket_opens_nothing() {
    let served = serve().await;
    let own = format!("http://{}", served.api.address());
    assert_eq!(open(&served, "/console/made-up", &[("origin", &own)]).await.unwrap_err(), 401);
    assert_eq!(
        open(&served, "/console/made-up", &[("origin", "http://evil.example")]).await.unwrap_err(),
        403
    );
}

#[tokio::test]
async fn the_owners_socket_gives_the_same_commands_and_events() {
    let served = serve().await;
    let socket = OwnerSocket::start(&served.host).await.unwrap();
    let path = served.host.directories().socket();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap()) & 0o777, 0o600);
    let Access::Client(client) = Access::open(support::config(served.root.path(), &[])).await.unwrap() else {
        panic!("the directory is owned")
    };
    let mut events = client.subscribe(None).await.unwrap();
    assert_eq!(client.call("vm.list", &json!({}), Origin::Cli).await.unwrap(), json!([]));
    let missing = client.call("vm.get", &json!(VmRef { id: VmId::new() }), Origin::Cli).await.unwrap_err();
    assert_eq!(missing.code, ErrorCode::VmNotFound);
    let unknown = client.call("vm.explode", &json!({}), Origin::Cli).await.unwrap_err();
    assert_eq!(unknown.code, ErrorCode::UnknownCommand);
    let view = client.call("settings.get", &json!({}), Origin::Desktop).await.unwrap();
    let mut settings = view["settings"].clone();
    settings["defaultCpus"] = json!(2);
    client.call("settings.update", &json!({ "settings": settings }), Origin::Desktop).await.unwrap();
    let item = tokio::time::timeout(DEADLINE, events.next()).await.unwrap().unwrap();
    assert!(matches!(&item, StreamItem::Event(envelope) if envelope.origin == Origin::Desktop), "{item:?}");
    let refused = client.console("/console/made-up").await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unauthenticated);
    socket.stop().await;
    assert!(!path.exists());
    let gone = client.call("vm.list", &json!({}), Origin::Cli).await.unwrap_err();
    assert_eq!(gone.code, ErrorCode::OwnerUnreachable);
}

#[tokio::test]
async fn an_owner_that_does_not_answer_is_named() {
    let served = serve().await;
    // It owns the directory and serves no socket.
    let config = support::config(served.root.path(), &[]);
    let error = Access::open_within(config, Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::OwnerUnreachable);
    assert_eq!(error.details.unwrap()["pid"], std::process::id());
}

#[tokio::test]
async fn the_windows_consoles_are_for_the_window_alone() {
    let served = serve().await;
    let consoles = ConsoleListener::new(Access::Owner(served.host.clone()));
    let ticket = || ConsoleTicket { screen: "/console/a".to_owned(), serial: "/console/b".to_owned() };
    let first = consoles.address(ticket()).await.unwrap();
    assert!(first.screen.starts_with("ws://127.0.0.1:") && first.serial.ends_with("/console/b"));
    assert_eq!(consoles.address(ticket()).await.unwrap(), first);
    let status = async |origin: Option<&str>| {
        let mut request = first.screen.as_str().into_client_request().unwrap();
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", origin.parse().unwrap());
        }
        match tokio_tungstenite::connect_async(request).await {
            Err(Error::Http(answer)) => answer.status().as_u16(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(status(None).await, 403);
    assert_eq!(status(Some("http://evil.example")).await, 403);
    // The window may ask; the ticket is made up all the same.
    assert_eq!(status(Some("tauri://localhost")).await, 401);
}

#[tokio::test]
async fn a_client_of_nobody_is_told_so() {
    let root = tempfile::tempdir().unwrap();
    let client = RemoteClient::new(root.path().join("voidvm.sock"));
    let error = client.call("vm.list", &json!({}), Origin::Cli).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::OwnerUnreachable);
    assert!(error.retryable);
}
