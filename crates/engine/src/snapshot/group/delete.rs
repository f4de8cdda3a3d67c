//! Removing a group's snapshot: the rows of all its machines in one step, then their files, then what their layers were is merged.

use std::sync::Arc;

use jiff::Timestamp;
use voidvm_model::group::GroupSnapshotRef;
use voidvm_model::{Bytes, ErrorBody, GroupSnapshotId, Operation, OperationKind, OperationResult, Origin};
use voidvm_store::{Intent, IntentAction};

use super::super::job::{self, Came, Job, blocking};
use super::super::{kept, list, merge};
use super::{Found, borrow, find};
use crate::ledger::Cancel;
use crate::shared::Shared;

/// Checks a request and begins the work.
///
/// # Errors
/// No such snapshot; what is in the way.
pub(crate) async fn delete(
    shared: &Arc<Shared>,
    request: GroupSnapshotRef,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let found = find(shared, &request.group, &request.snapshot).await?;
    begin(shared, found, origin).await
}

/// The same, of the snapshot with this id.
///
/// # Errors
/// As [`delete`]; [`voidvm_model::ErrorCode::NotFound`] when it is gone.
pub(crate) async fn remove(
    shared: &Arc<Shared>,
    id: GroupSnapshotId,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let rows = shared.store.groups().all().await.map_err(|error| error.body())?;
    let group = rows.into_iter().find(|row| row.id == id).map(|row| row.group).unwrap_or_default();
    let found = find(shared, &group, &id.to_string()).await?;
    begin(shared, found, origin).await
}

async fn begin(shared: &Arc<Shared>, found: Found, origin: Origin) -> Result<Operation, ErrorBody> {
    let machines = found.parts.iter().map(|part| shared.fleet.get(part.vm_id));
    let machines = machines.collect::<Result<Vec<_>, _>>()?;
    let kind = (OperationKind::GroupSnapshotDelete, origin, Cancel::Heeded);
    let (group, id) = (found.row.group.clone(), found.row.id.to_string());
    job::begin_together(shared, (&found.row.group, machines), kind, |jobs| async move {
        carry_out(&jobs, &group, &id).await
    })
    .await
}

async fn carry_out(jobs: &[Arc<Job>], group: &str, id: &str) -> Came {
    let Some(first) = jobs.first() else { return Ok(None) };
    let shared = &first.shared;
    let members = borrow(jobs).await?;
    let found = find(shared, group, id).await?;
    let mut before = 0;
    let mut doomed = Vec::with_capacity(members.len());
    for member in &members {
        before += list::taken(shared, member.job.vm()).await?;
        let part = found.part(&member.job.machine)?;
        doomed.push((part.id, kept::dir(&member.job.machine_dir(), part.id)));
    }
    let intents: Vec<Intent> = members
        .iter()
        .zip(&doomed)
        .map(|(member, (_, dir))| Intent {
            operation_id: member.job.operation,
            vm_id: Some(member.job.vm()),
            action: IntentAction::SnapshotRemove,
            files: vec![dir.clone()],
        })
        .collect();
    let journal = shared.store.journal();
    let ids = journal.begin_all(&intents, Timestamp::now()).await.map_err(|error| error.body())?;
    let parts: Vec<_> = doomed.iter().map(|(part, _)| *part).collect();
    let removed = shared.store.groups().remove(&parts).await.map_err(|error| error.body());
    if let Err(error) = removed {
        for (member, intent) in members.iter().zip(&ids) {
            member.job.settled(*intent).await;
        }
        return Err(error);
    }
    jobs.iter().for_each(|job| job.announce());
    let mut left = Ok(());
    for ((member, intent), (_, dir)) in members.iter().zip(&ids).zip(doomed) {
        match blocking(move || kept::remove(&dir)).await {
            Ok(()) => member.job.settled(*intent).await,
            // The next start tries again.
            Err(error) => left = Err(error),
        }
        // It is gone; what is left of its layers can be merged later as well.
        merge::quietly(&member.job, &member.loan).await;
    }
    left?;
    let mut after = 0;
    for member in &members {
        after += list::taken(shared, member.job.vm()).await?;
    }
    Ok(Some(OperationResult::Removed { bytes: Bytes(before.saturating_sub(after)) }))
}
