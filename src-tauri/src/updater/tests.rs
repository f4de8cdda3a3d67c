//! The updater against an endpoint on the loopback, with packages signed by the release tool (`fixture/`).

use std::collections::HashMap;

use serde_json::json;
use tauri::test::{MockRuntime, mock_builder, mock_context, noop_assets};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use voidvm_model::ErrorCode;

use super::{OffReason, UpdateState, check, download};

const PACKAGE: &[u8] = include_bytes!("fixture/update.deb");
const KEY: &str = include_str!("fixture/key.pub");
const OTHER_KEY: &str = include_str!("fixture/other-key.pub");
const SIGNED_0_2_0: &str = include_str!("fixture/update-0.2.0.sig");
const SIGNED_WITHOUT_VERSION: &str = include_str!("fixture/update-no-version.sig");

/// An app of version 0.1.0 that carries `key`, and, but for the plain http of these tests, the product's own settings.
fn app(key: &str) -> tauri::App<MockRuntime> {
    let product: serde_json::Value = serde_json::from_str(include_str!("../../../tauri.conf.json")).unwrap();
    let mut config = product["plugins"]["updater"].clone();
    assert_eq!(config["requireSignedVersion"], true, "the product binds a signature to its version");
    assert!(config.get("dangerousInsecureTransportProtocol").is_none(), "the product takes https alone");
    config["pubkey"] = key.into();
    config["dangerousInsecureTransportProtocol"] = true.into();
    let mut context = mock_context(noop_assets());
    context.config_mut().plugins.0.insert("updater".into(), config);
    mock_builder().plugin(tauri_plugin_updater::Builder::new().build()).build(context).unwrap()
}

/// Serves `package` as version `version`; answers the endpoint's address.
async fn publish(version: &str, signature: &str, package: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let platform = json!({ "signature": signature, "url": format!("{base}/update.deb") });
    let release =
        json!({ "version": version, "notes": "What is new.", "platforms": { "linux-x86_64": platform } });
    let files = HashMap::from([("/latest.json", release.to_string().into_bytes()), ("/update.deb", package)]);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let body = &files[head.split(' ').nth(1).unwrap()];
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.write_all(body).await.unwrap();
        }
    });
    format!("{base}/latest.json")
}

/// Looks and downloads, as the person would.
async fn update(key: &str, endpoint: &str) -> Result<Vec<u8>, ErrorCode> {
    let app = app(key);
    let (state, found) = check(app.handle(), endpoint).await.map_err(|error| error.code)?;
    assert_eq!(
        state,
        UpdateState::Available {
            version: "0.2.0".into(),
            current: "0.1.0".into(),
            notes: Some("What is new.".into())
        }
    );
    download(&found.unwrap(), |_| {}).await.map_err(|error| error.code)
}

#[tokio::test]
async fn takes_a_signed_package() {
    let endpoint = publish("0.2.0", SIGNED_0_2_0, PACKAGE.to_vec()).await;
    assert_eq!(update(KEY, &endpoint).await.as_deref(), Ok(PACKAGE));
}

#[tokio::test]
async fn refuses_a_package_with_one_byte_flipped_wherever_it_is() {
    for at in [0, PACKAGE.len() / 2, PACKAGE.len() - 1] {
        let mut package = PACKAGE.to_vec();
        package[at] ^= 1;
        let endpoint = publish("0.2.0", SIGNED_0_2_0, package).await;
        assert_eq!(update(KEY, &endpoint).await, Err(ErrorCode::UpdateRejected), "byte {at}");
    }
}

#[tokio::test]
async fn refuses_an_old_release_under_a_new_number() {
    let unbound = publish("0.2.0", SIGNED_WITHOUT_VERSION, PACKAGE.to_vec()).await;
    assert_eq!(update(KEY, &unbound).await, Err(ErrorCode::UpdateRejected));

    let app = app(KEY);
    let renumbered = publish("0.3.0", SIGNED_0_2_0, PACKAGE.to_vec()).await;
    let (_, found) = check(app.handle(), &renumbered).await.unwrap();
    let refused = download(&found.unwrap(), |_| {}).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::UpdateRejected);
}

#[tokio::test]
async fn refuses_a_signature_of_another_key() {
    let endpoint = publish("0.2.0", SIGNED_0_2_0, PACKAGE.to_vec()).await;
    assert_eq!(update(OTHER_KEY, &endpoint).await, Err(ErrorCode::UpdateRejected));
}

#[tokio::test]
async fn is_current_when_nothing_newer_is_there() {
    let endpoint = publish("0.1.0", SIGNED_0_2_0, PACKAGE.to_vec()).await;
    let (state, found) = check(app(KEY).handle(), &endpoint).await.unwrap();
    assert_eq!(state, UpdateState::Current { version: "0.1.0".into() });
    assert!(found.is_none());
}

#[tokio::test]
async fn is_off_without_an_endpoint_or_a_key() {
    let (state, _) = check(app(KEY).handle(), "").await.unwrap();
    assert_eq!(state, UpdateState::Off { reason: OffReason::NoEndpoint });
    let (state, _) = check(app("").handle(), "https://updates.example/latest.json").await.unwrap();
    assert_eq!(state, UpdateState::Off { reason: OffReason::NoKey });
}

#[tokio::test]
async fn tells_a_wrong_endpoint_from_a_silent_one() {
    let wrong = check(app(KEY).handle(), "no address").await.err().unwrap();
    assert_eq!((wrong.code, wrong.field.as_deref()), (ErrorCode::ConfigInvalid, Some("updateEndpoint")));
    // A port that was free a moment ago and on which nobody listens.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let silent = check(app(KEY).handle(), &format!("http://{free}/latest.json")).await.err().unwrap();
    assert_eq!(silent.code, ErrorCode::NetworkFailed);
}
