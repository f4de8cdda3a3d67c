//! Loading an image: its memory is there as soon as the process is, and its devices follow in some milliseconds.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use voidvm_model::{ErrorBody, ErrorCode};
use voidvm_qemu::qmp::Qmp;

use crate::run::Run;
use crate::snapshot::switch::call;

/// The descriptor's name in the monitor.
const DESCRIPTOR: &str = "vv.image";
/// Between two questions whether it is done.
const ASK: Duration = Duration::from_millis(1);
/// Devices are loaded at once, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether memory that is shared, or is there already, is left out of a transfer.
pub(super) async fn leave_out_shared(qmp: &Qmp, on: bool) -> Result<(), ErrorBody> {
    let capabilities = json!([{"capability": "x-ignore-shared", "state": on}]);
    call(qmp, "migrate-set-capabilities", json!({"capabilities": capabilities})).await.map(drop)
}

/// Hands a file to the monitor under a name.
pub(super) async fn hand(qmp: &Qmp, name: &str, file: impl AsFd) -> Result<(), ErrorBody> {
    let getfd = qapi::qmp::getfd { fdname: name.to_owned() };
    qmp.execute_with_fd(&getfd, file.as_fd()).await.map(drop).map_err(|error| error.body())
}

/// Loads the devices of a process whose memory is the image's; the guest can go on when this returns.
///
/// # Errors
/// Why not: the process is of no use then.
pub(crate) async fn load(run: &Run, state: &File) -> Result<(), ErrorBody> {
    let qmp = run.qmp()?;
    leave_out_shared(&qmp, true).await?;
    hand(&qmp, DESCRIPTOR, state).await?;
    call(&qmp, "migrate-incoming", json!({"uri": format!("fd:{DESCRIPTOR}")})).await?;
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = call(&qmp, "query-migrate", json!({})).await?;
        match answer.get("status").and_then(Value::as_str) {
            Some("completed") => break,
            Some("failed") => {
                return Err(ErrorBody::new(ErrorCode::QemuFailed, "The prepared memory was refused."));
            }
            _ if Instant::now() > end => {
                return Err(ErrorBody::new(ErrorCode::Timeout, "The prepared memory is not loaded."));
            }
            _ => tokio::time::sleep(ASK).await,
        }
    }
    // From here on this guest's memory is like any other's.
    leave_out_shared(&qmp, false).await
}
