//! Deleting a machine that has no process.
//!
//! ```text
//! intent written ─▶ row removed ─▶ files removed ─▶ intent ended
//!        │               └─ a crash from here on: the next start finishes the removal
//!        └─ a crash before: the next start drops the intent, the machine is whole
//! ```

use std::sync::Arc;

use jiff::Timestamp;
use voidvm_model::{ErrorBody, OperationId};
use voidvm_qemu::process::RunDir;
use voidvm_store::{Intent, IntentAction, VmRow};

use super::files;
use crate::shared::Shared;
use crate::supervisor::Disks;

/// How a deletion came out.
pub(crate) enum Deletion {
    /// Nothing is left.
    Done,
    /// The machine is gone; a file could not be removed, and will be tried again at the next start.
    FilesLeft(ErrorBody),
    /// The machine is whole.
    Refused(ErrorBody),
}

/// Deletes the machine's row and, unless they are kept, the files that are its own.
pub(crate) async fn delete(
    shared: Arc<Shared>,
    vm: VmRow,
    operation_id: OperationId,
    disks: Disks,
) -> Deletion {
    let mut removed = files::own(&shared.config, &vm);
    if disks == Disks::Keep {
        removed.retain(|file| !vm.spec.disks.iter().any(|disk| disk.file == *file));
    }
    let journal = shared.store.journal();
    let intent = Intent { operation_id, vm_id: Some(vm.id), action: IntentAction::Delete, files: removed };
    let id = match journal.begin(&intent, Timestamp::now()).await {
        Ok(id) => id,
        Err(error) => return Deletion::Refused(error.body()),
    };
    if let Err(error) = shared.store.vms().delete(vm.id).await {
        // The intent alone, with the row there, would be dropped at the next start as well.
        drop(journal.end(id).await);
        return Deletion::Refused(error.body());
    }
    if let Err(body) = finish(&shared, &intent) {
        return Deletion::FilesLeft(body);
    }
    if let Err(error) = journal.end(id).await {
        tracing::warn!(vm = %vm.id, %error, "the intent of a finished deletion stays until the next start");
    }
    Deletion::Done
}

/// Removes what a deletion removes once the row is gone.
///
/// # Errors
/// A file that cannot be removed; the others are.
pub(crate) fn finish(shared: &Shared, intent: &Intent) -> Result<(), ErrorBody> {
    let result = files::remove(&intent.files);
    let Some(vm) = intent.vm_id else { return result };
    files::remove_dir(&shared.config.machine_dir(vm));
    let run_dir = RunDir::new(&shared.config.runtime_dir, vm);
    if let Err(error) = run_dir.remove() {
        tracing::warn!(path = %run_dir.path().display(), %error, "a runtime directory cannot be removed");
    }
    result
}
