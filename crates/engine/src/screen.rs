//! The guest's screen: a descriptor for each viewer, and pictures.
//!
//! QEMU never listens: a viewer's socket is one half of a pair, the other half handed to QEMU over its monitor.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use voidvm_model::contract::Picture;
use voidvm_model::{ErrorBody, ErrorCode};
use voidvm_qemu::qmp::QmpError;

use crate::picture::{self, Pixels};
use crate::run::Run;

/// How long QEMU may take to hand the screen over or to draw it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Names of descriptors and files, unique in this process.
static NUMBER: AtomicU64 = AtomicU64::new(0);

fn arguments(value: Value) -> Option<Map<String, Value>> {
    if let Value::Object(arguments) = value { Some(arguments) } else { None }
}

fn unavailable(error: &QmpError) -> ErrorBody {
    let body = error.body();
    if body.code == ErrorCode::QemuUnresponsive {
        return body;
    }
    ErrorBody::new(ErrorCode::ConsoleUnavailable, "The machine's screen cannot be opened.")
        .with_hint("Try again; if it stays so, restart the machine.")
        .with_detail("reason", error.to_string())
}

/// Opens the screen for one viewer: a socket that speaks RFB, without a password, on nobody else's hands.
pub(crate) async fn open(run: &Run) -> Result<UnixStream, ErrorBody> {
    let qmp = run.qmp()?;
    let (ours, theirs) = UnixStream::pair()
        .map_err(|error| ErrorBody::new(ErrorCode::Internal, format!("No socket can be had: {error}.")))?;
    let name = format!("vv.screen{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let getfd = qapi_getfd(&name);
    qmp.execute_with_fd(&getfd, theirs.as_fd()).await.map_err(|error| unavailable(&error))?;
    drop(theirs);
    let client = json!({"protocol": "vnc", "fdname": name, "skipauth": true});
    if let Err(error) = qmp.execute_raw("add_client", arguments(client), PATIENCE).await {
        // QEMU keeps what nobody took.
        drop(qmp.execute_raw("closefd", arguments(json!({"fdname": name})), PATIENCE).await);
        return Err(unavailable(&error));
    }
    Ok(ours)
}

fn qapi_getfd(name: &str) -> qapi::qmp::getfd {
    qapi::qmp::getfd { fdname: name.to_owned() }
}

/// The screen as it is now.
pub(crate) async fn capture(run: &Run) -> Result<Vec<u8>, ErrorBody> {
    let qmp = run.qmp()?;
    let file = run.dir.path().join(format!("screen-{}.png", NUMBER.fetch_add(1, Ordering::Relaxed)));
    let _removed = RemovedAtLast(&file);
    let name = file.to_string_lossy();
    qmp.screendump(&name, PATIENCE).await.map_err(|error| unavailable(&error))?;
    std::fs::read(&file).map_err(|error| {
        ErrorBody::new(ErrorCode::ConsoleUnavailable, "QEMU drew no picture.")
            .with_detail("reason", error.to_string())
    })
}

struct RemovedAtLast<'a>(&'a Path);

impl Drop for RemovedAtLast<'_> {
    fn drop(&mut self) {
        // Not there when QEMU refused.
        drop(std::fs::remove_file(self.0));
    }
}

/// A PNG as it is sent.
pub(crate) fn wrap(png: &[u8], (width, height): (u32, u32), at: Timestamp) -> Picture {
    Picture { png: base64::engine::general_purpose::STANDARD.encode(png), width, height, at }
}

/// The whole screen.
pub(crate) async fn screenshot(run: &Run) -> Result<Picture, ErrorBody> {
    let png = capture(run).await?;
    let size = picture::size(&png)?;
    Ok(wrap(&png, size, Timestamp::now()))
}

/// A small picture of the screen, as PNG with its size.
pub(crate) async fn small(run: &Run) -> Result<(Vec<u8>, (u32, u32)), ErrorBody> {
    let png = capture(run).await?;
    let scaled = tokio::task::spawn_blocking(move || Pixels::decode(&png)?.shrink().encode());
    scaled.await.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?
}
