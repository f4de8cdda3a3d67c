//! Machines that start with the engine: in their order, each after the delay of the one before, once for each boot of the computer,
//! so that an engine that is started again does not start what a person has stopped.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use voidvm_model::vm::Autostart;
use voidvm_model::{Origin, VmId, VmState};
use voidvm_qemu::process::boot_id;

use super::Engine;
use crate::supervisor::Order;

/// How long the next one waits for a start that does not end.
const PATIENCE: Duration = Duration::from_secs(120);

impl Engine {
    /// Begins to start the machines that start with the engine, unless that was done since the computer was started. For the
    /// engine that stays; one that is opened for a single command starts nothing.
    pub fn autostart(&self) {
        match first_of_boot(&self.0.shared.config.state_dir.join("autostart.boot")) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                return tracing::error!(%error, "whether machines were started since boot is not known");
            }
        }
        let engine = self.clone();
        let closing = self.0.shared.closing.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = closing.cancelled() => {}
                () = engine.start_in_order() => {}
            }
        });
    }

    async fn start_in_order(&self) {
        self.ready().await;
        for (id, autostart) in self.order() {
            let Ok(machine) = self.machine(id) else { continue };
            let begun = machine.act(Order::Start, Origin::System).await;
            match begun {
                Ok(operation) => drop(self.0.shared.ledger.wait(operation.id, PATIENCE).await),
                Err(error) => tracing::warn!(vm = %id, %error, "a machine was not started with the engine"),
            }
            tokio::time::sleep(Duration::from_secs(autostart.delay_seconds.into())).await;
        }
    }

    fn order(&self) -> Vec<(VmId, Autostart)> {
        let views = self.0.shared.fleet.views();
        let stopped = |state| matches!(state, VmState::Stopped | VmState::Crashed | VmState::Suspended);
        let mut order: Vec<_> = views
            .iter()
            .filter(|view| stopped(view.state) && !view.meta.template)
            .filter_map(|view| Some((view.id, view.meta.autostart?, Arc::clone(view))))
            .collect();
        order.sort_by(|(_, a, one), (_, b, other)| a.order.cmp(&b.order).then(one.name.cmp(&other.name)));
        order.into_iter().map(|(id, autostart, _)| (id, autostart)).collect()
    }
}

/// Whether this is the first time since the computer was started; remembered in `stamp`.
fn first_of_boot(stamp: &Path) -> io::Result<bool> {
    let now = boot_id()?;
    if std::fs::read_to_string(stamp).is_ok_and(|then| then.trim() == now) {
        return Ok(false);
    }
    std::fs::write(stamp, format!("{now}\n"))?;
    Ok(true)
}
