//! At start-up: finish or undo what the last owner of the data directory was in the middle of, then take every machine over.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use voidvm_model::{ErrorBody, VmId};
use voidvm_qemu::process::{self, ProcessHandle, RunDir, RunRecord};
use voidvm_store::{IntentAction, OpenIntent, VmRow};

use super::{build, clone, delete, export, files};
use crate::images;
use crate::shared::Shared;
use crate::storage;
use crate::supervisor::{self, Begin, adopt};
use crate::{disposable, snapshot, suspend};

/// Brings store, files and machines together again. Adoption goes on when this returns. Answers the machines of which a backup was
/// cut: their layers are to be merged.
///
/// # Errors
/// The store's.
pub(crate) async fn recover(shared: &Arc<Shared>) -> Result<BTreeSet<VmId>, ErrorBody> {
    let store = &shared.store;
    let interrupted =
        store.operations().interrupt_unfinished(Timestamp::now()).await.map_err(|error| error.body())?;
    for operation in &interrupted {
        tracing::warn!(operation = %operation.id, kind = operation.kind.as_str(), subject = operation.subject, "was interrupted");
    }
    let open = store.journal().open().await.map_err(|error| error.body())?;
    for made in open.iter().filter(|open| open.intent.action == IntentAction::GroupMake) {
        snapshot::group::unmake(shared, made).await?;
    }
    for OpenIntent { intent, .. } in &open {
        // Its files went to the trash; the row was to follow.
        if let (IntentAction::Trash, Some(vm)) = (intent.action, intent.vm_id)
            && delete::is_trashed(&shared.config.machine_dir(vm))
        {
            store.vms().delete(vm).await.map_err(|error| error.body())?;
        }
    }
    let rows = store.vms().list().await.map_err(|error| error.body())?;
    let (of_snapshots, open): (Vec<_>, Vec<_>) =
        open.into_iter().partition(|open| snapshot::recover::is_ours(open.intent.action));
    for open in open {
        close_intent(shared, &rows, open).await;
    }
    // A start that was cut may have left a process before its state was written down.
    let cut: BTreeSet<VmId> = interrupted.iter().filter_map(|operation| operation.vm_id).collect();
    let suspects = |row: &VmRow| cut.contains(&row.id) || may_have_process(shared, row);
    let mut strays = strays(shared, rows.iter().filter(|row| suspects(row)));
    let backed_up = snapshot::recover::remove_cut_backups(shared, &of_snapshots).await?;
    let busy: Vec<_> = of_snapshots.iter().flat_map(|open| open.intent.files.first().cloned()).collect();
    snapshot::recover::remove_strays(shared, rows.iter().map(|row| row.id), &busy).await;
    for open in of_snapshots {
        match rows.iter().find(|row| Some(row.id) == open.intent.vm_id) {
            // Its process is asked what became of it.
            Some(row) if strays.contains_key(&row.id) || adopt::is_alive(shared, row.id) => {
                shared.unfinished.add(row.id, open);
            }
            _ => snapshot::recover::at_rest(shared, &open).await,
        }
    }
    let rows = store.vms().list().await.map_err(|error| error.body())?;
    for mut row in rows {
        let begin = if suspects(&row) {
            Begin::Adopt(strays.remove(&row.id))
        } else {
            look_over(shared, &mut row);
            Begin::Known
        };
        shared.fleet.add(supervisor::spawn(Arc::clone(shared), row, begin));
    }
    Ok(backed_up)
}

async fn close_intent(shared: &Shared, rows: &[VmRow], open: OpenIntent) {
    let OpenIntent { id, intent, .. } = open;
    if matches!(
        intent.action,
        IntentAction::VolumeWrite | IntentAction::VolumeMove | IntentAction::VolumeRemove
    ) {
        return storage::recover(shared, rows, id, &intent).await;
    }
    if matches!(intent.action, IntentAction::ImageMake | IntentAction::ImageRemove) {
        return images::close_intent(shared, id, &intent).await;
    }
    let Some(vm) = intent.vm_id else { return };
    let there = rows.iter().any(|row| row.id == vm);
    match intent.action {
        IntentAction::Freeze => clone::unfreeze(&intent),
        IntentAction::Export => export::undo(&intent),
        // The row is the machine: with it a creation was done, and a deletion had not begun.
        _ if there => {}
        // Closed above.
        IntentAction::VolumeWrite
        | IntentAction::VolumeMove
        | IntentAction::VolumeRemove
        | IntentAction::ImageMake
        | IntentAction::ImageRemove
        | IntentAction::SnapshotTake
        | IntentAction::SnapshotRestore
        | IntentAction::SnapshotRemove
        | IntentAction::GroupMake => {}
        IntentAction::Create => build::undo(&shared.config.machine_dir(vm)),
        IntentAction::Delete | IntentAction::Trash => {
            if let Err(error) = delete::finish(shared, &intent) {
                tracing::error!(%vm, %error, "a deletion could not be finished");
                return;
            }
        }
    }
    if let Err(error) = shared.store.journal().end(id).await {
        tracing::error!(%vm, %error, "an intent could not be closed");
    }
}

/// A machine whose last known state had a process, or whose runtime directory says so.
fn may_have_process(shared: &Shared, row: &VmRow) -> bool {
    row.state.is_live() || RunDir::new(&shared.config.runtime_dir, row.id).record().exists()
}

/// Processes of machines that have no readable record: one look through all processes, and only when there is a reason.
fn strays<'a>(shared: &Shared, suspects: impl Iterator<Item = &'a VmRow>) -> HashMap<VmId, ProcessHandle> {
    let runtime = &shared.config.runtime_dir;
    let without: Vec<VmId> = suspects
        .filter(|row| !matches!(RunRecord::read(&RunDir::new(runtime, row.id).record()), Ok(Some(_))))
        .map(|row| row.id)
        .collect();
    if without.is_empty() {
        return HashMap::new();
    }
    process::scan(runtime, &without)
        .inspect_err(|error| tracing::error!(%error, "the processes cannot be looked through"))
        .unwrap_or_default()
}

/// A stopped machine whose files are gone is broken, and one whose files are back is not.
fn look_over(shared: &Shared, row: &mut VmRow) {
    use voidvm_model::VmState::{Broken, Crashed, Stopped, Suspended};
    let dir = shared.config.machine_dir(row.id);
    disposable::discard(&dir);
    let suspended = suspend::is_suspended(&dir);
    if suspended != (row.state == Suspended) {
        row.state = if suspended { Suspended } else { Stopped };
        row.state_since = Timestamp::now();
    }
    match (row.state, files::check(&row.spec)) {
        (Stopped | Crashed, Err(body)) => {
            row.state = Broken;
            row.state_since = Timestamp::now();
            row.attention = Some(body);
        }
        (Broken, Err(body)) => row.attention = Some(body),
        (Broken, Ok(())) => {
            row.state = Stopped;
            row.state_since = Timestamp::now();
            row.attention = None;
        }
        _ => {}
    }
}
