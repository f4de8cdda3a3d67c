//! A live machine as it is asked and told while devices come and go.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use voidvm_model::{ErrorBody, ErrorCode};
use voidvm_qemu::process::RunRecord;
use voidvm_qemu::qmp::{COMMAND_TIMEOUT, Qmp};

use super::words::Words;
use crate::run::Run;

/// An event can be lost with its connection: what is waited for is also asked for this often.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// A live machine.
pub(super) struct Guest {
    pub(super) run: Arc<Run>,
    qmp: Qmp,
    /// How long the guest has to let go of something.
    pub(super) patience: Duration,
}

impl Guest {
    /// # Errors
    /// Without a monitor.
    pub(super) fn new(run: Arc<Run>, patience: Duration) -> Result<Self, ErrorBody> {
        let qmp = run.qmp()?;
        Ok(Self { run, qmp, patience })
    }

    /// Whether nothing more can be asked.
    pub(super) fn is_gone(&self) -> bool {
        self.qmp.is_closed()
    }

    /// Carries a monitor command out.
    pub(super) async fn call(&self, name: &'static str, arguments: Value) -> Result<Value, ErrorBody> {
        let arguments = if let Value::Object(arguments) = arguments { Some(arguments) } else { None };
        self.qmp.execute_raw(name, arguments, COMMAND_TIMEOUT).await.map_err(|error| error.body())
    }

    /// A command of the human monitor; what it says.
    pub(super) async fn say(&self, line: &str) -> Result<String, ErrorBody> {
        let answer = self.call("human-monitor-command", json!({"command-line": line})).await?;
        Ok(answer.as_str().unwrap_or_default().trim().to_owned())
    }

    /// The ids of the devices there are.
    pub(super) async fn devices(&self) -> Result<BTreeSet<String>, ErrorBody> {
        let answer = self.call("qom-list", json!({"path": "/machine/peripheral"})).await?;
        let members = answer.as_array().map(Vec::as_slice).unwrap_or_default();
        let is_device = |member: &&Value| text(member, "type").is_some_and(|kind| kind.starts_with("child<"));
        Ok(members.iter().filter(is_device).filter_map(|member| text(member, "name")).collect())
    }

    /// The names of the block nodes there are.
    pub(super) async fn nodes(&self) -> Result<BTreeSet<String>, ErrorBody> {
        let answer = self.call("query-named-block-nodes", json!({"flat": true})).await?;
        let nodes = answer.as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(nodes.iter().filter_map(|node| text(node, "node-name")).collect())
    }

    /// A PCI Express port nothing is plugged into.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidState`] when all are taken.
    pub(super) async fn free_port(&self) -> Result<String, ErrorBody> {
        let answer = self.call("query-pci", json!({})).await?;
        let buses = answer.as_array().map(Vec::as_slice).unwrap_or_default();
        let devices = buses.iter().filter_map(|bus| bus.get("devices")?.as_array()).flatten();
        let free = devices.filter_map(|device| {
            let port = text(device, "qdev_id")?;
            let plugged = device.get("pci_bridge")?.get("devices").and_then(Value::as_array);
            let ours = ["vv.spare", "vv.disk", "vv.nic"].iter().any(|kind| port.starts_with(kind));
            (ours && plugged.is_none_or(Vec::is_empty)).then_some(port)
        });
        // Those kept free for this first; the others have places the guest's names of cards may depend on.
        free.min_by_key(|port| !port.starts_with("vv.spare")).ok_or_else(|| {
            ErrorBody::new(ErrorCode::InvalidState, "Nothing more can be plugged in while the machine runs.")
                .with_hint("It is added at the next start.")
        })
    }

    /// A number on the SCSI controller that no device has.
    pub(super) fn free_target(&self) -> usize {
        let record = self.run.record();
        let words = Words::new(record.now.clone().unwrap_or_else(|| record.argv.clone()));
        let taken = words.numbers("scsi-id");
        (0..).find(|number| !taken.contains(number)).unwrap_or(0)
    }

    /// Asks again with everything QEMU says, until there is an answer or the guest's patience is over.
    pub(super) async fn until<T, F>(&self, ask: impl Fn() -> F + Send) -> Result<Option<T>, ErrorBody>
    where
        F: Future<Output = Result<Option<T>, ErrorBody>> + Send,
        T: Send,
    {
        let end = Instant::now() + self.patience;
        let mut news = self.run.news();
        loop {
            news.mark_unchanged();
            if let Some(answer) = ask().await? {
                return Ok(Some(answer));
            }
            let now = Instant::now();
            if now >= end {
                return Ok(None);
            }
            // Either is a reason to ask again.
            let _ = tokio::time::timeout_at(end.min(now + ASK_AGAIN), news.changed()).await;
        }
    }

    /// Asks the guest to let go of a device, and waits until it has.
    ///
    /// # Errors
    /// [`ErrorCode::Timeout`] when the guest does not; it may still, later.
    pub(super) async fn unplug(&self, id: &str, what: &str) -> Result<(), ErrorBody> {
        if !self.devices().await?.contains(id) {
            return Ok(());
        }
        if let Err(error) = self.call("device_del", json!({"id": id})).await {
            // Asked before, and not done yet: that is waited for as well.
            if !error.message.contains("in the process of unplug") && self.devices().await?.contains(id) {
                return Err(error);
            }
        }
        let gone =
            self.until(|| async move { Ok((!self.devices().await?.contains(id)).then_some(())) }).await?;
        gone.ok_or_else(|| {
            ErrorBody::new(ErrorCode::Timeout, format!("The guest does not let go of {what} {id}."))
                .with_hint("Stop using it inside the guest (unmount it), or wait for the next start.")
                .with_detail("device", id)
        })
    }

    /// Adds to the arguments the machine could be made with.
    pub(super) fn note(&self, change: impl FnOnce(&mut Words)) {
        self.run.amend(|record| note(record, change));
    }
}

/// Changes the arguments a run could be made with.
pub(super) fn note(record: &mut RunRecord, change: impl FnOnce(&mut Words)) {
    let before = record.now.take().unwrap_or_else(|| record.argv.clone());
    let mut words = Words::new(before);
    change(&mut words);
    record.now = Some(words.into_argv()).filter(|now| *now != record.argv);
}

pub(super) fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}
