//! Makes the database of which a release's fixture is taken:
//! `cargo run -p voidvm-store --example release_fixture DIR && sqlite3 DIR/voidvm.db .dump > tests/fixtures/VERSION.sql`.

use std::collections::BTreeMap;

use voidvm_model::OperationStatus;
use voidvm_store::{Intent, IntentAction, Store};

#[path = "../tests/common/mod.rs"]
mod common;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args_os().nth(1).ok_or("which directory?")?;
    let store = Store::open(dir.as_ref()).await?;
    let alpha = common::vm("alpha");
    store.vms().insert(&alpha).await?;
    store.vms().insert(&common::vm("第二台")).await?;
    let mut last = None;
    for status in OperationStatus::ALL {
        let operation = common::operation(&alpha, status);
        store.operations().insert(&operation).await?;
        last = Some(operation.id);
    }
    let settings = [("language".to_owned(), "zh-CN".into()), ("defaultMemory".to_owned(), 2048.into())];
    store.settings().replace(&BTreeMap::from(settings)).await?;
    let intent = Intent {
        operation_id: last.ok_or("no operation")?,
        vm_id: Some(alpha.id),
        action: IntentAction::Delete,
        files: vec!["/data/vms/alpha/disk0.qcow2".into()],
    };
    store.journal().begin(&intent, common::at(5)).await?;
    store.close().await;
    Ok(())
}
