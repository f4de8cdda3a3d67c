//! The disks of a running machine: an overlay ready for each, and the instant at which all of them are put on.
//!
//! ```text
//! prepare: overlays made and opened (nothing uses them) ─▶ guest held ─▶ turn: state copied, one transaction ─▶ guest goes on,
//! and writes to the overlays ─▶ settle: QEMU knows what was frozen by its frozen name, the disks' names lead to the overlays
//! ```
//! Invariant: a name that QEMU knows a file by never comes to mean another one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use voidvm_model::snapshot::Consistency;
use voidvm_model::spec::{Disk, DiskFormat};
use voidvm_model::{Bytes, DeviceId, ErrorBody, ErrorCode};
use voidvm_qemu::args;
use voidvm_qemu::image;
use voidvm_qemu::qmp::{COMMAND_TIMEOUT, Qmp};

use super::job::{Job, given_up};
use super::layers::{self, Layer};
use super::take::Held;
use super::{kept, packets};
use crate::guest;
use crate::ops::files;
use crate::run::{self, GuestStatus, Run};
use crate::step::step;
use crate::supervisor::lend::Loan;

/// How long QEMU may take to say that the guest goes on.
const SAYS: Duration = Duration::from_secs(2);

pub(super) async fn call(qmp: &Qmp, name: &'static str, arguments: Value) -> Result<Value, ErrorBody> {
    let arguments: Option<Map<String, Value>> =
        if let Value::Object(arguments) = arguments { Some(arguments) } else { None };
    qmp.execute_raw(name, arguments, COMMAND_TIMEOUT).await.map_err(|error| error.body())
}

/// What a guest writes to.
#[derive(Clone, Debug)]
pub(super) struct Root {
    pub(super) node: String,
    size: Bytes,
}

/// The node behind each device.
pub(super) async fn roots(qmp: &Qmp) -> Result<BTreeMap<String, Root>, ErrorBody> {
    let answer = call(qmp, "query-block", json!({})).await?;
    let drives = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    let root = |drive: &Value| {
        let qdev = drive.get("qdev")?.as_str()?;
        let device = qdev.strip_prefix("/machine/peripheral/").unwrap_or(qdev).split('/').next()?;
        let inserted = drive.get("inserted")?;
        let node = inserted.get("node-name")?.as_str()?.to_owned();
        let size = Bytes(inserted.get("image")?.get("virtual-size")?.as_u64()?);
        Some((device.to_owned(), Root { node, size }))
    };
    Ok(drives.iter().filter_map(root).collect())
}

/// Overlays that wait to be put on.
pub(super) struct Switch {
    run: Arc<Run>,
    qmp: Qmp,
    machine_dir: PathBuf,
    dir: PathBuf,
    layers: Vec<Layer>,
    /// The overlays QEMU has opened.
    opened: Vec<DeviceId>,
    pub(super) turned: bool,
}

impl Switch {
    /// Makes the overlays and has QEMU open them.
    ///
    /// # Errors
    /// What the file system or QEMU says; then nothing is left of them.
    pub(super) async fn prepare(
        run: &Arc<Run>,
        machine_dir: &Path,
        dir: &Path,
        layers: &[Layer],
    ) -> Result<Self, ErrorBody> {
        let mut switch = Self {
            run: Arc::clone(run),
            qmp: run.qmp()?,
            machine_dir: machine_dir.to_owned(),
            dir: dir.to_owned(),
            layers: layers.to_vec(),
            opened: Vec::new(),
            turned: false,
        };
        match switch.open().await {
            Ok(()) => Ok(switch),
            Err(error) => {
                switch.undo().await;
                Err(error)
            }
        }
    }

    async fn open(&mut self) -> Result<(), ErrorBody> {
        let record = self.run.record();
        let roots = roots(&self.qmp).await?;
        for layer in &self.layers {
            let disk = record.spec.disks.iter().find(|disk| disk.id == layer.disk);
            let (Some(disk), Some(root)) = (disk, roots.get(layer.disk.as_str())) else {
                return Err(ErrorBody::new(
                    ErrorCode::NotFound,
                    format!("The machine that runs has no disk {}.", layer.disk),
                ));
            };
            if root.node != record.root(&layer.disk) {
                return Err(ErrorBody::new(
                    ErrorCode::InvalidState,
                    format!("QEMU writes disk {} to another place than voidVM knows of.", layer.disk),
                )
                .with_hint("Stop the machine and start it again.")
                .with_detail("node", root.node.as_str()));
            }
            layers::also_named(&layer.file, &layer.base)
                .map_err(|error| files::io_error(&layer.base, &error))?;
            image::overlay(&layer.over, &layer.base, DiskFormat::Qcow2, root.size)
                .map_err(|error| error.body())?;
            step("take: overlay made");
            let overlay = Disk { file: layer.over.clone(), format: DiskFormat::Qcow2, ..disk.clone() };
            let mut node = args::disk_node(&overlay).map_err(|error| error.body())?;
            node["node-name"] = layers::node_of(&layer.over).into();
            // What it stands on is put below it at the switch.
            node["backing"] = Value::Null;
            call(&self.qmp, "blockdev-add", node).await?;
            self.opened.push(layer.disk.clone());
            step("take: overlay opened");
        }
        Ok(())
    }

    /// Puts the overlays on; the guest must not run.
    ///
    /// # Errors
    /// What QEMU or the file system says. [`Switch::turned`] says whether the guest writes to the overlays from here on.
    pub(super) async fn turn(&mut self) -> Result<(), ErrorBody> {
        // QEMU has written out what it had of the variables when it held the guest.
        kept::copy_state(&self.machine_dir, &self.dir).map_err(|error| files::io_error(&self.dir, &error))?;
        step("take: guest held");
        let record = self.run.record();
        let actions: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| {
                let data = json!({"node": record.root(&layer.disk), "overlay": layers::node_of(&layer.over)});
                json!({"type": "blockdev-snapshot", "data": data})
            })
            .collect();
        if !actions.is_empty() {
            call(&self.qmp, "transaction", json!({"actions": actions})).await?;
        }
        self.turned = true;
        step("take: disks switched");
        Ok(())
    }

    /// Gives the disks' names to the overlays that were put on; or takes those away that were not.
    ///
    /// # Errors
    /// What QEMU or the file system says; the names are given when the process is gone, then.
    pub(super) async fn settle(&self) -> Result<(), ErrorBody> {
        if !self.turned {
            self.undo().await;
            return Ok(());
        }
        for layer in &self.layers {
            settle(&self.run, &self.qmp, &layer.disk, [&layer.file, &layer.base, &layer.over]).await?;
        }
        let synced = std::fs::File::open(&self.machine_dir).and_then(|dir| dir.sync_all());
        synced.map_err(|error| files::io_error(&self.machine_dir, &error))
    }

    async fn undo(&self) {
        let record = self.run.record();
        for layer in &self.layers {
            if self.opened.contains(&layer.disk) {
                let node = json!({"node-name": layers::node_of(&layer.over)});
                if let Err(error) = call(&self.qmp, "blockdev-del", node).await {
                    // Perhaps it was put on and the answer was lost: then the guest writes to it.
                    tracing::warn!(disk = %layer.disk, %error, "an overlay stays open");
                    continue;
                }
            }
            // What QEMU knows by its own name needs no layer's.
            let base = (record.root(&layer.disk) == layer.disk.as_str()).then_some(&layer.base);
            for file in base.into_iter().chain([&layer.over]) {
                if let Err(error) = files::remove(std::slice::from_ref(file)) {
                    tracing::warn!(%error, "a layer nobody uses is left");
                }
            }
        }
    }
}

/// Gives a disk's name to the overlay that was put on, once QEMU knows what it was by its frozen name.
///
/// # Errors
/// What QEMU or the file system says.
pub(super) async fn settle(
    run: &Run,
    qmp: &Qmp,
    disk: &DeviceId,
    [file, base, over]: [&Path; 3],
) -> Result<(), ErrorBody> {
    let record = run.record();
    let was = record.root(disk).to_owned();
    let known = record.spec.disks.iter().find(|known| known.id == *disk);
    if let Some(known) = known.filter(|_| was == disk.as_str()) {
        let frozen = Disk { file: base.to_owned(), ..known.clone() };
        let mut node = args::disk_node(&frozen).map_err(|error| error.body())?;
        let mut storage = node["file"].take();
        let name = file_node(base);
        storage["node-name"] = name.as_str().into();
        // Written to when layers are merged, and only then.
        storage["auto-read-only"] = true.into();
        node["file"] = name.as_str().into();
        node["read-only"] = true.into();
        // What is below it stays, and has to be said.
        if let Some(below) = image::header(base).ok().flatten().and_then(|header| header.backing) {
            node["backing"] = node_of(run, qmp, &below).await?.into();
        }
        // An owner that ended in the middle of it may have done this already, or half of it.
        if !matches!(node_at(qmp, base).await, Ok(known) if known == was) {
            drop(call(qmp, "blockdev-del", json!({"node-name": name})).await);
            call(qmp, "blockdev-add", storage).await?;
            if let Err(error) = call(qmp, "blockdev-reopen", json!({"options": [node]})).await {
                drop(call(qmp, "blockdev-del", json!({"node-name": name})).await);
                return Err(error);
            }
        }
    }
    step("take: opened again");
    layers::also_named(over, file).map_err(|error| files::io_error(file, &error))?;
    step("take: names given");
    run.amend(|record| {
        if was == disk.as_str() {
            record.layers.insert(was, base.to_owned());
        }
        record.roots.insert(disk.clone(), layers::node_of(over));
    });
    Ok(())
}

/// Whether the disks' names lead to what a live process writes to.
pub(super) async fn is_settled(run: &Run, layers: &[Layer]) -> bool {
    let Ok(qmp) = run.qmp() else { return false };
    let Ok(roots) = roots(&qmp).await else { return false };
    let record = run.record();
    layers.iter().all(|layer| {
        let written_to = roots.get(layer.disk.as_str()).map(|root| root.node.as_str());
        written_to == Some(record.root(&layer.disk))
    })
}

/// The node of an image of a running machine.
pub(super) async fn node_of(run: &Run, qmp: &Qmp, file: &Path) -> Result<String, ErrorBody> {
    let record = run.record();
    if let Some(disk) = record.spec.disks.iter().find(|disk| disk.file == *file) {
        return Ok(record.root(&disk.id).to_owned());
    }
    if let Some((node, _)) = record.layers.iter().find(|(_, layer)| layer.as_path() == file) {
        return Ok(node.clone());
    }
    node_at(qmp, file).await
}

/// The file behind QEMU's name of a node, which is a document where a path does not say it all.
fn opened_as(name: &str) -> PathBuf {
    let Some(document) = name.strip_prefix("json:") else { return name.into() };
    let document: Value = serde_json::from_str(document).unwrap_or_default();
    let file = document.get("file").and_then(|file| file.get("filename")).and_then(Value::as_str);
    file.unwrap_or_default().into()
}

/// The node of an image that QEMU opened by this name.
///
/// # Errors
/// [`ErrorCode::NotFound`].
async fn node_at(qmp: &Qmp, file: &Path) -> Result<String, ErrorBody> {
    let answer = call(qmp, "query-named-block-nodes", json!({"flat": true})).await?;
    let nodes = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |node: &Value, key: &str| node.get(key).and_then(Value::as_str).map(str::to_owned);
    let layer = layers::node_of(file);
    let is_it = |node: &&Value| {
        let is_format = matches!(text(node, "drv").as_deref(), Some("qcow2" | "raw"));
        let opened = is_format && text(node, "file").is_some_and(|name| opened_as(&name) == file);
        opened || text(node, "node-name").is_some_and(|name| name == layer)
    };
    nodes.iter().find(is_it).and_then(|node| text(node, "node-name")).ok_or_else(|| {
        ErrorBody::new(ErrorCode::NotFound, format!("QEMU has no node for {}.", file.display()))
    })
}

/// The node of the file below one that was opened by its disk's name.
pub(super) fn file_node(base: &Path) -> String {
    format!("vvf.{}", base.file_stem().unwrap_or_default().to_string_lossy())
}

/// How long the guest was held the last time; waits until QEMU has said that it goes on.
pub(super) async fn pause(run: &Run) -> Option<(Timestamp, f64)> {
    let mut news = run.news();
    let said = async {
        loop {
            news.mark_unchanged();
            let halt = run.halt();
            if let (Some(held), Some(let_go)) = (halt.held, halt.let_go) {
                return Some((held, (let_go - held).total(jiff::Unit::Millisecond).ok()?));
            }
            news.changed().await.ok()?;
        }
    };
    tokio::time::timeout(SAYS, said).await.ok().flatten()
}

/// Takes the disks of a running machine and leaves its memory out.
pub(super) async fn take(
    job: &Job,
    loan: &Loan,
    run: &Run,
    mut switch: Switch,
    freeze: bool,
) -> Result<Held, ErrorBody> {
    let taken = held_and_turned(job, loan, run, &mut switch, freeze).await;
    switch.settle().await?;
    taken
}

pub(super) fn cannot_freeze() -> ErrorBody {
    ErrorBody::new(ErrorCode::InvalidState, "A guest that is held cannot freeze its file systems.")
        .with_field("freeze")
        .with_hint("Resume it first, or take the snapshot without freezing.")
}

async fn held_and_turned(
    job: &Job,
    loan: &Loan,
    run: &Run,
    switch: &mut Switch,
    freeze: bool,
) -> Result<Held, ErrorBody> {
    let qmp = run.qmp()?;
    let status = run::status(&qmp, COMMAND_TIMEOUT).await.map_err(|error| error.body())?;
    let running = status == GuestStatus::Running;
    if freeze && !running {
        return Err(cannot_freeze());
    }
    if freeze {
        guest::freeze(run).await?;
    }
    let turned = async {
        if job.cancel.is_cancelled() || loan.recall.is_cancelled() {
            return Err(given_up());
        }
        job.seal()?;
        if running {
            packets::wait(run, &qmp).await;
            call(&qmp, "stop", json!({})).await?;
        }
        let at = Timestamp::now();
        let turned = switch.turn().await;
        if running {
            call(&qmp, "cont", json!({})).await?;
            packets::pass(run, &qmp).await;
        }
        turned.map(|()| at)
    };
    let turned = turned.await;
    if freeze {
        guest::thaw(run).await;
    }
    let at = turned?;
    let pause = if running { pause(run).await } else { None };
    Ok(Held {
        at: pause.map_or(at, |(at, _)| at),
        memory: false,
        consistency: if freeze { Consistency::Frozen } else { Consistency::Crash },
        pause_ms: pause.map(|(_, pause)| pause),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_behind_every_name_of_qemus() {
        let plain = "/a/base 1,.qcow2";
        assert_eq!(opened_as(plain), Path::new(plain));
        let document = r#"json:{"backing": {"driver": "qcow2", "file": {"driver": "file", "filename": "/a/base-1.qcow2"}}, "driver": "qcow2", "file": {"driver": "file", "filename": "/a/base-2.qcow2"}}"#;
        assert_eq!(opened_as(document), Path::new("/a/base-2.qcow2"));
        assert_eq!(opened_as("json:{"), Path::new(""));
    }
}
