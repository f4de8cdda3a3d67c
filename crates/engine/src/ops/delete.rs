//! Deleting a machine that has no process.
//!
//! ```text
//! let_go: linked clones copied free of it (can be given up) ─▶ intent written ─▶ row removed ─▶ files removed ─▶ intent ended
//!                                                                  │               └─ a crash from here on: the next start finishes the removal
//!                                                                  └─ a crash before: the next start drops the intent, the machine is whole
//! to the trash:  intent written ─▶ directory moved there ─▶ row removed ─▶ intent ended
//!                                         └─ a crash from here on: the next start removes the row
//! ```
//! Invariant: no file goes that another machine's disk stands on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use voidvm_model::{ErrorBody, ErrorCode, OperationId};
use voidvm_qemu::process::RunDir;
use voidvm_store::{Intent, IntentAction, VmRow};

use super::family::{self, Pace};
use super::files;
use crate::shared::Shared;
use crate::snapshot;
use crate::supervisor::lend::Loan;
use crate::supervisor::{Children, Disks};

/// How a deletion came out.
pub(crate) enum Deletion {
    /// Nothing is left.
    Done,
    /// The machine is gone; a file could not be removed, and will be tried again at the next start.
    FilesLeft(ErrorBody),
    /// The machine is whole.
    Refused(ErrorBody),
}

/// What comes first: nobody may stand on what goes. Whoever did is held still until the loans are dropped.
///
/// # Errors
/// As [`family::let_go`].
pub(crate) async fn let_go(
    shared: Arc<Shared>,
    vm: VmRow,
    (disks, children): (Disks, Children),
    pace: Pace,
) -> Result<Vec<Loan>, ErrorBody> {
    // Disks that stay are there for whoever stands on them.
    if disks == Disks::Keep { Ok(Vec::new()) } else { family::let_go(&shared, &vm, children, &pace).await }
}

/// Deletes the machine's row and, unless they are kept, the files that are its own.
pub(crate) async fn delete(
    shared: Arc<Shared>,
    vm: VmRow,
    operation_id: OperationId,
    disks: Disks,
) -> Deletion {
    snapshot::image::stop_all(&shared, &shared.config.machine_dir(vm.id)).await;
    let mut removed = files::own(&shared.config, &vm);
    if disks == Disks::Keep {
        let stays = |file: &PathBuf| {
            files::is_base(file.parent(), file) || vm.spec.disks.iter().any(|disk| disk.file == *file)
        };
        removed.retain(|file| !stays(file));
    }
    let action = if disks == Disks::Trash { IntentAction::Trash } else { IntentAction::Delete };
    let journal = shared.store.journal();
    let intent = Intent { operation_id, vm_id: Some(vm.id), action, files: removed };
    let id = match journal.begin(&intent, Timestamp::now()).await {
        Ok(id) => id,
        Err(error) => return Deletion::Refused(error.body()),
    };
    if disks == Disks::Trash
        && let Err(body) = to_trash(shared.config.machine_dir(vm.id)).await
    {
        drop(journal.end(id).await);
        return Deletion::Refused(body);
    }
    if let Err(error) = shared.store.vms().delete(vm.id).await {
        // The intent alone, with the row there, would be dropped at the next start as well.
        drop(journal.end(id).await);
        return Deletion::Refused(error.body());
    }
    // What began before there was no machine any more.
    snapshot::image::stop_all(&shared, &shared.config.machine_dir(vm.id)).await;
    let finished = finish(&shared, &intent);
    // What lies in the trash can come back, and needs its key then.
    if disks == Disks::Remove {
        forget_keys(&shared, &vm).await;
    }
    if let Err(body) = finished {
        return Deletion::FilesLeft(body);
    }
    if let Err(error) = journal.end(id).await {
        tracing::warn!(vm = %vm.id, %error, "the intent of a finished deletion stays until the next start");
    }
    Deletion::Done
}

/// Keys of disks that are gone.
async fn forget_keys(shared: &Shared, vm: &VmRow) {
    let dir = shared.config.machine_dir(vm.id);
    for disk in vm.spec.disks.iter().filter(|disk| files::is_own(&dir, disk) && !disk.file.exists()) {
        if let Some(key) = disk.key
            && let Err(error) = shared.config.secrets.remove(key).await
        {
            tracing::warn!(vm = %vm.id, %error, "the key of a deleted disk is still kept");
        }
    }
}

/// Removes what a deletion removes once the row is gone.
///
/// # Errors
/// A file that cannot be removed; the others are.
pub(crate) fn finish(shared: &Shared, intent: &Intent) -> Result<(), ErrorBody> {
    let result = files::remove(&intent.files);
    let Some(vm) = intent.vm_id else { return result };
    files::remove_dirs(&shared.config.machine_dir(vm));
    let run_dir = RunDir::new(&shared.config.runtime_dir, vm);
    if let Err(error) = run_dir.remove() {
        tracing::warn!(path = %run_dir.path().display(), %error, "a runtime directory cannot be removed");
    }
    result
}

/// Whether a deletion into the trash had come so far that the machine's files are there.
pub(crate) fn is_trashed(dir: &Path) -> bool {
    matches!(dir.try_exists(), Ok(false))
}

/// Moves a machine's directory to the desktop's trash: all of it, in one step.
async fn to_trash(dir: PathBuf) -> Result<(), ErrorBody> {
    let shown = dir.display().to_string();
    let moved =
        tokio::task::spawn_blocking(move || if dir.exists() { trash::delete(&dir) } else { Ok(()) }).await;
    let why = match moved {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    Err(ErrorBody::new(ErrorCode::Unsupported, format!("{shown} cannot be moved to the trash."))
        .with_hint("Delete the machine for good, or keep its disks.")
        .with_detail("reason", why))
}
