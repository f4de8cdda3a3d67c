//! Removing a volume that nobody uses.
//!
//! ```text
//! intent written ─▶ file removed ─▶ intent ended
//!        └─ a crash from here on: the next start finishes the removal, unless somebody uses the file
//! ```

use std::path::Path;
use std::sync::Arc;

use voidvm_model::storage::VolumeRef;
use voidvm_model::{ErrorBody, Operation, OperationKind, OperationResult, Origin};
use voidvm_store::IntentAction;

use super::job::{self, Named};
use super::target;
use crate::ledger::Cancel;
use crate::ops::files;
use crate::shared::Shared;

/// Removes a volume.
///
/// # Errors
/// When a machine or the library has it, or images stand on it.
pub(super) async fn remove(
    shared: &Arc<Shared>,
    request: VolumeRef,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let target = target::find(shared, request.id, &request.path).await?;
    target.without_user()?;
    target.childless()?;
    target.no_image(shared).await?;
    let named = Named {
        kind: OperationKind::VolumeDelete,
        place: &target.place.clone(),
        name: &target.name(),
        total: target.entry.allocated,
        cancel: Cancel::Ignored,
        origin,
    };
    job::begin(shared, named, async move |job| {
        let path = target.entry.path.clone();
        // A process that is none of ours may have it open.
        if let (Some(format), false) = (target.entry.format, target.entry.encrypted) {
            job.img.unused(&path, format).await.map_err(|error| error.body())?;
        }
        let intent = job.intend(IntentAction::VolumeRemove, None, vec![path.clone()]).await?;
        let (machines, file) = (job.shared.config.data_dir.join("vms"), path.clone());
        let removed = job::blocking(move || {
            let removed = files::remove(std::slice::from_ref(&file));
            tidy(&machines, &file);
            removed
        });
        let removed = removed.await;
        job.settled(intent).await;
        drop(target.hold);
        removed.map(|()| Some(OperationResult::Removed { bytes: target.entry.allocated }))
    })
    .await
}

/// Removes the directories that are empty now, up to that of the machines.
pub(super) fn tidy(machines: &Path, file: &Path) {
    let dirs = file.ancestors().skip(1).take_while(|dir| dir.starts_with(machines) && *dir != machines);
    for dir in dirs {
        // One that is not empty stays, and so do those above it.
        if std::fs::remove_dir(dir).is_err() {
            return;
        }
    }
}
