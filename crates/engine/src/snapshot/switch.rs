//! The disks of a running machine: an overlay ready for each, and the instant at which all of them are put on.
//!
//! ```text
//! prepare: overlays made and opened (nothing uses them) ─▶ guest held ─▶ turn: state copied, one transaction, names swapped ─▶
//! guest goes on, and writes to the overlays
//! ```
//! Invariant: names are swapped only after QEMU has switched, and before the guest runs again; so a process that ends between
//! the two leaves overlays nobody wrote to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use voidvm_model::snapshot::Consistency;
use voidvm_model::spec::DiskFormat;
use voidvm_model::{Bytes, DeviceId, ErrorBody, ErrorCode};
use voidvm_qemu::args;
use voidvm_qemu::image;
use voidvm_qemu::qmp::{COMMAND_TIMEOUT, Qmp};

use super::job::{Job, given_up};
use super::kept;
use super::layers::{self, Layer};
use super::take::Held;
use crate::guest;
use crate::ops::{build, files};
use crate::run::{self, GuestStatus, Run};
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
    roots: BTreeMap<DeviceId, String>,
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
            roots: BTreeMap::new(),
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
            let part = build::part_of(&layer.file);
            files::remove(std::slice::from_ref(&part))?;
            image::overlay(&part, &layer.base, DiskFormat::Qcow2, root.size).map_err(|error| error.body())?;
            let overlay = voidvm_model::spec::Disk { file: part, format: DiskFormat::Qcow2, ..disk.clone() };
            let mut node = args::disk_node(&overlay).map_err(|error| error.body())?;
            node["node-name"] = layers::node_on(&layer.base).into();
            // What it stands on is put below it at the switch.
            node["backing"] = Value::Null;
            call(&self.qmp, "blockdev-add", node).await?;
            self.roots.insert(layer.disk.clone(), root.node.clone());
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
        let actions: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| {
                let node = self.roots.get(&layer.disk);
                json!({
                    "type": "blockdev-snapshot",
                    "data": {"node": node, "overlay": layers::node_on(&layer.base)},
                })
            })
            .collect();
        if actions.is_empty() {
            self.turned = true;
            return Ok(());
        }
        call(&self.qmp, "transaction", json!({"actions": actions})).await?;
        self.turned = true;
        for layer in &self.layers {
            layers::swap(&layer.file, &layer.base).map_err(|error| files::io_error(&layer.file, &error))?;
        }
        Ok(())
    }

    /// Writes down what the nodes of the run are now. Not while the guest is held: it takes its time.
    pub(super) fn note(&self) {
        self.run.amend(|record| {
            for layer in &self.layers {
                if let Some(root) = self.roots.get(&layer.disk) {
                    record.layers.insert(root.clone(), layer.base.clone());
                }
                record.roots.insert(layer.disk.clone(), layers::node_on(&layer.base));
            }
        });
        if let Err(error) = std::fs::File::open(&self.machine_dir).and_then(|dir| dir.sync_all()) {
            tracing::warn!(path = %self.machine_dir.display(), %error, "a directory was not forced to the disk");
        }
    }

    /// Takes overlays away that were not put on.
    pub(super) async fn undo(&self) {
        if self.turned {
            return;
        }
        for layer in &self.layers {
            let node = json!({"node-name": layers::node_on(&layer.base)});
            if self.roots.contains_key(&layer.disk)
                && let Err(error) = call(&self.qmp, "blockdev-del", node).await
            {
                tracing::debug!(disk = %layer.disk, %error, "an overlay nobody uses stays open");
            }
            if let Err(error) = files::remove(&[build::part_of(&layer.file)]) {
                tracing::warn!(%error, "an overlay nobody uses is left");
            }
        }
    }
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
    if taken.is_err() {
        switch.undo().await;
    }
    if switch.turned {
        switch.note();
    }
    taken
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
        return Err(ErrorBody::new(ErrorCode::InvalidState, "A guest that is held cannot freeze its file systems.")
            .with_field("freeze")
            .with_hint("Resume it first, or take the snapshot without freezing."));
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
            call(&qmp, "stop", json!({})).await?;
        }
        let at = Timestamp::now();
        let turned = switch.turn().await;
        if running {
            call(&qmp, "cont", json!({})).await?;
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
