//! Removing a snapshot: the row first, then its files, then what its layers were is merged away.

use std::sync::Arc;

use voidvm_model::snapshot::SnapshotRef;
use voidvm_model::{
    Bytes, ErrorBody, ErrorCode, Operation, OperationKind, OperationResult, Origin, SnapshotId,
};
use voidvm_store::{IntentAction, SnapshotRow};

use super::job::{self, Job, blocking};
use super::{kept, merge, names};
use crate::ledger::Cancel;
use crate::shared::Shared;
use crate::step::step;
use crate::supervisor::lend::Loan;

/// Checks a request and begins the work.
///
/// # Errors
/// No such machine or snapshot; what is in the way.
pub(crate) async fn delete(
    shared: &Arc<Shared>,
    request: SnapshotRef,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let machine = shared.fleet.get(request.id)?;
    let rows = shared.store.snapshots().of(request.id).await.map_err(|error| error.body())?;
    let row = names::find(&rows, &request.snapshot)?;
    let id = row.id;
    if row.group_snapshot.is_some() {
        return Err(of_group(shared, row).await?);
    }
    let kind = OperationKind::SnapshotDelete;
    job::begin(shared, machine, (kind, origin, Cancel::Heeded), move |job| async move {
        let loan = job.borrow().await?;
        let before = super::list::taken(&job.shared, job.vm()).await?;
        remove(&job, &loan, id).await?;
        let after = super::list::taken(&job.shared, job.vm()).await?;
        Ok(Some(OperationResult::Removed { bytes: Bytes(before.saturating_sub(after)) }))
    })
    .await
}

/// Says with what it is removed.
async fn of_group(shared: &Shared, row: &SnapshotRow) -> Result<ErrorBody, ErrorBody> {
    let groups = shared.store.groups().all().await.map_err(|error| error.body())?;
    let group = groups.into_iter().find(|group| Some(group.id) == row.group_snapshot);
    let (of, name) = group.map(|group| (group.group, group.name)).unwrap_or_default();
    Ok(ErrorBody::new(
        ErrorCode::InvalidState,
        format!("“{}” is part of the snapshot “{name}” of the group “{of}”.", row.name),
    )
    .with_field("snapshot")
    .with_hint("Delete the group's snapshot: it goes as a whole.")
    .with_detail("group", of)
    .with_detail("groupSnapshot", row.group_snapshot.map(|id| id.to_string()).unwrap_or_default()))
}

/// Removes a snapshot of a machine on loan.
///
/// # Errors
/// The store's: then it is still there; a file of it that cannot be removed.
async fn remove(job: &Job, loan: &Loan, id: SnapshotId) -> Result<(), ErrorBody> {
    forget(job, id).await?;
    // The snapshot is gone; what is left of its layers can be merged later as well.
    merge::quietly(job, loan).await;
    Ok(())
}

/// Removes a snapshot, and leaves its layers to whoever merges next.
///
/// # Errors
/// As [`remove`].
pub(crate) async fn forget(job: &Job, id: SnapshotId) -> Result<(), ErrorBody> {
    let dir = kept::dir(&job.machine_dir(), id);
    let intent = job.intend(IntentAction::SnapshotRemove, vec![dir.clone()]).await?;
    step("delete: intended");
    let removed = job.shared.store.snapshots().remove(id).await.map_err(|error| error.body());
    if let Err(error) = removed {
        job.settled(intent).await;
        return Err(error);
    }
    job.announce();
    step("delete: out of the store");
    job.shared.preparing.stop(id).await;
    blocking(move || kept::remove(&dir)).await?;
    step("delete: files removed");
    job.settled(intent).await;
    Ok(())
}
