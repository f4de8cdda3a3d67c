//! Packets for a guest that is being held.
//!
//! Between deciding to hold a guest and holding it QEMU throws away what has come in for it (`net_vm_change_state_handler`), and
//! whoever sent that sends again seconds later. A `filter-buffer` at each network keeps it until the guest goes on: it lets
//! packets through by a timer of the guest's own time, which stands still with the guest.

use serde_json::json;
use voidvm_qemu::qmp::Qmp;

use super::switch::call;
use crate::run::Run;

/// Microseconds of the guest's time a packet waits at most.
const INTERVAL: u32 = 500;

fn name(nic: &str) -> String {
    format!("vv.wait.{nic}")
}

/// Has packets wait from here on. A network that cannot do without them, as one the kernel carries, goes without.
pub(super) async fn wait(run: &Run, qmp: &Qmp) {
    for nic in &run.record().spec.nics {
        let filter = json!({
            "qom-type": "filter-buffer", "id": name(nic.id.as_str()), "netdev": nic.id.as_str(), "queue": "tx",
            "interval": INTERVAL,
        });
        if let Err(error) = call(qmp, "object-add", filter).await {
            tracing::debug!(nic = %nic.id, %error, "packets do not wait here");
        }
    }
}

/// Lets them through again as they come.
pub(super) async fn pass(run: &Run, qmp: &Qmp) {
    for nic in &run.record().spec.nics {
        if let Err(error) = call(qmp, "object-del", json!({"id": name(nic.id.as_str())})).await {
            tracing::debug!(nic = %nic.id, %error, "no packets waited here");
        }
    }
}
