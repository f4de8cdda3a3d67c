//! The engine's own snapshots, as schedules see them.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use voidvm_model::schedule::ScheduledBackup;
use voidvm_model::snapshot::SnapshotRef;
use voidvm_model::{
    Bytes, ErrorBody, ErrorCode, Operation, OperationResult, OperationStatus, Origin, ScheduleId, SnapshotId,
    VmId, VmState,
};

use super::backups::EngineBackups;
use super::{KeptId, ScheduledMachine, Snapshots, TakenSnapshot, WantedSnapshot};
use crate::engine::blocking;
use crate::ops::files;
use crate::shared::Shared;
use crate::snapshot;

/// How long one look at an operation waits for its end.
const LOOK: Duration = Duration::from_secs(3600);

/// Snapshots of an engine; it may be gone.
#[derive(Debug)]
pub(crate) struct EngineSnapshots(pub(crate) Weak<Shared>);

impl EngineSnapshots {
    pub(super) fn shared(&self) -> Result<Arc<Shared>, ErrorBody> {
        self.0.upgrade().ok_or_else(|| ErrorBody::new(ErrorCode::Interrupted, "voidVM is ending."))
    }
}

#[async_trait]
impl Snapshots for EngineSnapshots {
    fn machines(&self) -> Vec<ScheduledMachine> {
        let Some(shared) = self.0.upgrade() else { return Vec::new() };
        let views = shared.fleet.views();
        let of = |view: &Arc<voidvm_model::VmView>| ScheduledMachine {
            id: view.id,
            name: view.name.clone(),
            group: view.meta.group.clone(),
            tags: view.meta.tags.clone(),
            running: view.state == VmState::Running,
        };
        views.iter().filter(|view| !view.meta.template).map(of).collect()
    }

    async fn list(&self, vm: VmId) -> Result<Vec<TakenSnapshot>, ErrorBody> {
        let shared = self.shared()?;
        let tree = snapshot::tree(&shared, vm).await?;
        let rows = shared.store.snapshots().of(vm).await.map_err(|error| error.body())?;
        // A snapshot between the two is one that is just being made or removed.
        let schedule = |id: SnapshotId| -> Option<ScheduleId> {
            rows.iter().find(|row| row.id == id)?.schedule_id.as_ref()?.parse().ok()
        };
        let of = |one: voidvm_model::snapshot::Snapshot| TakenSnapshot {
            schedule: schedule(one.id),
            id: KeptId::Snapshot(one.id),
            name: one.name,
            created_at: one.created_at,
            keep: one.keep,
            group: one.group_snapshot,
            parent: one.parent.map(KeptId::Snapshot),
            current: one.current,
            frees: one.frees,
        };
        Ok(tree.snapshots.into_iter().map(of).collect())
    }

    async fn changed(&self, vm: VmId) -> Result<bool, ErrorBody> {
        let shared = self.shared()?;
        let view = shared.fleet.get(vm)?.view();
        if view.state.is_live() {
            return Ok(true);
        }
        let rows = shared.store.snapshots().of(vm).await.map_err(|error| error.body())?;
        let last = rows.iter().find(|row| row.current);
        // What has not run and was not redefined since is as it was.
        Ok(last.is_none_or(|last| last.created_at < view.state_since.max(view.updated_at)))
    }

    async fn take(&self, wanted: &[WantedSnapshot]) -> Result<Vec<KeptId>, ErrorBody> {
        let shared = self.shared()?;
        let Some(first) = wanted.first() else { return Ok(Vec::new()) };
        if let Some(group) = &first.group {
            return take_group(&shared, group, wanted).await;
        }
        let mut taken = Vec::with_capacity(wanted.len());
        for one in wanted {
            let operation = snapshot::begin(&shared, one.vm, wish(one), Origin::System).await?;
            taken.push(snapshot_of(&ended(&shared, operation).await?)?);
        }
        Ok(taken)
    }

    async fn delete(&self, vm: VmId, snapshots: &[KeptId]) -> Result<(), ErrorBody> {
        let shared = self.shared()?;
        for snapshot in snapshots {
            let KeptId::Snapshot(snapshot) = *snapshot else { continue };
            let rows = shared.store.snapshots().of(vm).await.map_err(|error| error.body())?;
            let group = rows.iter().find(|row| row.id == snapshot).and_then(|row| row.group_snapshot);
            let begun = if let Some(group) = group {
                snapshot::group::remove(&shared, group, Origin::System).await
            } else {
                let request = SnapshotRef { id: vm, snapshot: snapshot.to_string() };
                snapshot::delete(&shared, request, Origin::System).await
            };
            match begun {
                Ok(operation) => ended(&shared, operation).await.map(drop)?,
                Err(error) if error.code == ErrorCode::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn free(&self, vm: VmId) -> Result<Bytes, ErrorBody> {
        free_at(self.shared()?.config.machine_dir(vm)).await
    }

    fn backups(&self, to: &ScheduledBackup) -> Arc<dyn Snapshots> {
        Arc::new(EngineBackups { snapshots: Self(Weak::clone(&self.0)), to: to.clone() })
    }

    async fn check_backups(&self, to: &ScheduledBackup) -> Result<(), ErrorBody> {
        super::backups::check(&*self.shared()?, to).await
    }
}

/// What is free where a directory is.
pub(super) async fn free_at(dir: PathBuf) -> Result<Bytes, ErrorBody> {
    blocking(move || {
        let stats = rustix::fs::statvfs(&dir).map_err(|error| files::io_error(&dir, &error.into()))?;
        Ok(Bytes(stats.f_bavail.saturating_mul(stats.f_frsize)))
    })
    .await
}

/// All machines of a group at one instant; under the name of the first, where there is none of that name.
async fn take_group(
    shared: &Arc<Shared>,
    group: &str,
    wanted: &[WantedSnapshot],
) -> Result<Vec<KeptId>, ErrorBody> {
    let vms: Vec<VmId> = wanted.iter().map(|one| one.vm).collect();
    let Some(first) = wanted.first() else { return Ok(Vec::new()) };
    let name = snapshot::group::free_name(shared, group, &vms, &first.name).await?;
    let wish = snapshot::group::GroupWish {
        group: group.to_owned(),
        name: Some(name),
        description: String::new(),
        reason: voidvm_model::snapshot::SnapshotReason::Schedule,
        schedule_id: Some(first.schedule.to_string()),
        memory: memory(first),
    };
    let operation = snapshot::group::begin(shared, wish, &vms, Origin::System).await?;
    let result = ended(shared, operation).await?.result;
    let Some(OperationResult::GroupSnapshotted { snapshot: taken, .. }) = result else {
        return Err(ErrorBody::new(ErrorCode::Internal, "The operation did not say what it took."));
    };
    let rows = shared.store.snapshots().all().await.map_err(|error| error.body())?;
    let part = |vm: VmId| rows.iter().find(|row| row.vm_id == vm && row.group_snapshot == Some(taken));
    let parts = vms.into_iter().map(|vm| part(vm).map(|row| KeptId::Snapshot(row.id)));
    parts
        .collect::<Option<_>>()
        .ok_or_else(|| ErrorBody::new(ErrorCode::NotFound, "A part of the snapshot has just been removed."))
}

const fn memory(wanted: &WantedSnapshot) -> snapshot::Memory {
    match (wanted.disk_only, wanted.freeze) {
        (false, _) => snapshot::Memory::Kept,
        (true, false) => snapshot::Memory::Left,
        (true, true) => snapshot::Memory::LeftFrozen,
    }
}

fn wish(wanted: &WantedSnapshot) -> snapshot::Wish {
    snapshot::Wish {
        name: Some(wanted.name.clone()),
        description: String::new(),
        tags: Vec::new(),
        reason: voidvm_model::snapshot::SnapshotReason::Schedule,
        schedule_id: Some(wanted.schedule.to_string()),
        memory: memory(wanted),
    }
}

/// Waits for the end of an operation, and says why where it is no good one.
pub(super) async fn ended(shared: &Shared, mut operation: Operation) -> Result<Operation, ErrorBody> {
    while !operation.status.is_final() {
        operation = shared.ledger.wait(operation.id, LOOK).await?;
    }
    match operation.status {
        OperationStatus::Succeeded => Ok(operation),
        status => Err(operation.error.unwrap_or_else(|| {
            ErrorBody::new(ErrorCode::Internal, format!("The operation ended as {}.", status.as_str()))
        })),
    }
}

fn snapshot_of(operation: &Operation) -> Result<KeptId, ErrorBody> {
    match operation.result {
        Some(OperationResult::Snapshotted { snapshot, .. }) => Ok(KeptId::Snapshot(snapshot)),
        _ => Err(ErrorBody::new(ErrorCode::Internal, "The operation did not say which snapshot it took.")),
    }
}
