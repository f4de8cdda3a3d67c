//! What an owner that was killed left of its work on snapshots.
//!
//! ```text
//! taking     no row: there is no snapshot; a disk that was switched stays on its new layer, which is merged away later
//! restoring  no guest has run since: all of it is done again
//! removing   the row is gone: so are the files
//! ```
//! Of a machine without a process this is done before it gets its supervisor; of one that was found running, before anything
//! else is done with it.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::json;
use voidvm_model::snapshot::SnapshotReason;
use voidvm_model::{ErrorBody, VmId};
use voidvm_store::{Intent, IntentAction, OpenIntent, SnapshotRow};

use super::restore::Plan;
use super::switch::{self, call};
use super::{image, kept, layers, merge, stream};
use crate::ops::files;
use crate::run::{GuestStatus, Run};
use crate::shared::Shared;

/// What was left of the work on machines that may have a process, until that is known.
#[derive(Debug, Default)]
pub(crate) struct Unfinished(Mutex<HashMap<VmId, Vec<OpenIntent>>>);

impl Unfinished {
    pub(crate) fn add(&self, vm: VmId, open: OpenIntent) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(vm).or_default().push(open);
    }

    /// Whoever takes it finishes it.
    pub(crate) fn take(&self, vm: VmId) -> Vec<OpenIntent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&vm).unwrap_or_default()
    }
}

/// Whether an intent is about snapshots.
pub(crate) const fn is_ours(action: IntentAction) -> bool {
    matches!(
        action,
        IntentAction::SnapshotTake | IntentAction::SnapshotRestore | IntentAction::SnapshotRemove
    )
}

/// Finishes with a machine that has no process.
pub(crate) async fn at_rest(shared: &Shared, open: &OpenIntent) {
    let done = match open.intent.action {
        IntentAction::SnapshotTake => {
            for names in layers::of_files(&open.intent.files) {
                layers::settle(names);
            }
            forget(shared, &open.intent).await
        }
        IntentAction::SnapshotRestore => restore_again(shared, &open.intent).await,
        IntentAction::SnapshotRemove => forget(shared, &open.intent).await,
        _ => return,
    };
    close(shared, open, done).await;
}

async fn close(shared: &Shared, open: &OpenIntent, done: Result<(), ErrorBody>) {
    if let Err(error) = done {
        // The intent stays: the next start tries again.
        tracing::error!(action = ?open.intent.action, %error, "a snapshot's work could not be finished");
        return;
    }
    if let Err(error) = shared.store.journal().end(open.id).await {
        tracing::error!(%error, "an intent could not be closed");
    }
}

/// Finishes with a machine whose process has just ended.
pub(crate) async fn after_exit(shared: &Shared, vm: VmId) {
    for open in shared.unfinished.take(vm) {
        at_rest(shared, &open).await;
    }
}

/// Removes a snapshot's directory, unless there is a snapshot.
async fn forget(shared: &Shared, intent: &Intent) -> Result<(), ErrorBody> {
    let (Some(vm), Some(dir)) = (intent.vm_id, intent.files.first()) else { return Ok(()) };
    let rows = shared.store.snapshots().of(vm).await.map_err(|error| error.body())?;
    if rows.iter().any(|row| Some(row.id) == kept::id_of(dir)) { Ok(()) } else { kept::remove(dir) }
}

async fn restore_again(shared: &Shared, intent: &Intent) -> Result<(), ErrorBody> {
    let (Some(vm), Some(dir)) = (intent.vm_id, intent.files.first()) else { return Ok(()) };
    let store = &shared.store;
    let rows = store.snapshots().of(vm).await.map_err(|error| error.body())?;
    let row = rows.into_iter().find(|row| Some(row.id) == kept::id_of(dir));
    let machine = store.vms().get(vm).await.map_err(|error| error.body())?;
    let (Some(row), Some(mut machine)) = (row, machine) else { return Ok(()) };
    tracing::info!(%vm, snapshot = row.name, "a restore that was cut is done again");
    let machine_dir = shared.config.machine_dir(vm);
    let id = row.id;
    let plan = Plan { dir: dir.clone(), machine_dir, row, with_memory: intent.files.len() > 1 };
    machine.spec = plan.put_in_place(&machine.spec)?;
    store.vms().update(&machine).await.map_err(|error| error.body())?;
    store.snapshots().make_current(vm, id).await.map_err(|error| error.body())
}

/// Finishes with a machine that was found running: QEMU says whether it had switched, and its guest goes on.
///
/// # Errors
/// What QEMU says; the guest may be held then.
pub(crate) async fn running(
    shared: &Shared,
    run: &Run,
    status: &GuestStatus,
    open: Vec<OpenIntent>,
) -> Result<(), ErrorBody> {
    let qmp = run.qmp()?;
    merge::end_job(&qmp).await;
    for open in open {
        let done = match open.intent.action {
            IntentAction::SnapshotTake => {
                stream::reset(run, &qmp).await;
                settle_running(run, &qmp, &open.intent).await?;
                // What holds it is the snapshot: nothing else of ours was going on.
                let reason = if let GuestStatus::Held(reason) = status { reason.as_str() } else { "" };
                if matches!(reason, "finish-migrate" | "postmigrate" | "paused") {
                    stream::go_on(&qmp).await?;
                }
                forget(shared, &open.intent).await
            }
            IntentAction::SnapshotRemove => forget(shared, &open.intent).await,
            // Its process was to be ended first, and was not: the present goes on.
            _ => Ok(()),
        };
        close(shared, &open, done).await;
    }
    Ok(())
}

async fn settle_running(run: &Run, qmp: &voidvm_qemu::qmp::Qmp, intent: &Intent) -> Result<(), ErrorBody> {
    let roots = switch::roots(qmp).await?;
    let record = run.record();
    for names in layers::of_files(&intent.files) {
        let [file, base, over] = names;
        let Some(disk) = record.spec.disks.iter().find(|disk| disk.file == file) else { continue };
        let overlay = layers::node_of(over);
        let root = roots.get(disk.id.as_str()).map(|root| root.node.as_str());
        if root == Some(overlay.as_str()) {
            if record.root(&disk.id) != overlay {
                switch::settle(run, qmp, &disk.id, names).await?;
            }
            continue;
        }
        drop(call(qmp, "blockdev-del", json!({"node-name": overlay})).await);
        let opened_by_name = root == Some(disk.id.as_str());
        let unused = std::iter::once(over).chain(opened_by_name.then_some(base)).map(Path::to_owned);
        files::remove(&unused.collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Removes the snapshots of backups that were cut, but those that are just being restored; and answers whose they were. Their
/// directories, which have no row then, go with the others of that kind.
///
/// # Errors
/// The store's.
pub(crate) async fn remove_cut_backups(
    shared: &Shared,
    open: &[OpenIntent],
) -> Result<BTreeSet<VmId>, ErrorBody> {
    let restored = |row: &SnapshotRow| {
        let mut restores = open.iter().filter(|open| open.intent.action == IntentAction::SnapshotRestore);
        restores.any(|open| open.intent.files.first().and_then(|dir| kept::id_of(dir)) == Some(row.id))
    };
    let snapshots = shared.store.snapshots();
    let rows = snapshots.all().await.map_err(|error| error.body())?;
    let mut whose = BTreeSet::new();
    for row in rows.iter().filter(|row| row.reason == SnapshotReason::Backup && !restored(row)) {
        tracing::warn!(vm = %row.vm_id, snapshot = row.name, "a backup was cut: its snapshot is removed");
        snapshots.remove(row.id).await.map_err(|error| error.body())?;
        whose.insert(row.vm_id);
    }
    Ok(whose)
}

/// Directories of snapshots there are no rows of, and that no work is about: an owner that could not finish left them.
pub(crate) async fn remove_strays(shared: &Shared, vms: impl Iterator<Item = VmId>, busy: &[PathBuf]) {
    for vm in vms {
        let dirs = kept::dirs(&shared.config.machine_dir(vm));
        if dirs.is_empty() {
            continue;
        }
        dirs.iter().for_each(|dir| image::tidy(dir));
        let Ok(rows) = shared.store.snapshots().of(vm).await else { continue };
        for dir in dirs.iter().filter(|dir| !busy.contains(dir)) {
            if !rows.iter().any(|row| Some(row.id) == kept::id_of(dir)) {
                tracing::warn!(path = %dir.display(), "what is left of a snapshot is removed");
                drop(kept::remove(dir));
            }
        }
    }
}
