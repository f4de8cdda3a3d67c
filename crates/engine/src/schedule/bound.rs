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
        let mut begun = Vec::with_capacity(wanted.len());
        for one in wanted {
            begun.push(snapshot::begin(&shared, one.vm, wish(one), Origin::System).await);
        }
        let mut taken = Vec::with_capacity(wanted.len());
        for begun in begun {
            taken.push(match begun {
                Ok(operation) => {
                    ended(&shared, operation).await.and_then(|operation| snapshot_of(&operation))
                }
                Err(error) => Err(error),
            });
        }
        if taken.iter().all(Result::is_ok) {
            return taken.into_iter().collect();
        }
        // All of them, or none.
        for (one, taken) in wanted.iter().zip(&taken) {
            if let Ok(id) = taken
                && let Err(error) = self.delete(one.vm, &[*id]).await
            {
                tracing::error!(vm = %one.vm, snapshot = one.name, %error, "a snapshot without its group's others could not be removed");
            }
        }
        taken.into_iter().collect()
    }

    async fn delete(&self, vm: VmId, snapshots: &[KeptId]) -> Result<(), ErrorBody> {
        let shared = self.shared()?;
        for snapshot in snapshots {
            let KeptId::Snapshot(snapshot) = snapshot else { continue };
            let request = SnapshotRef { id: vm, snapshot: snapshot.to_string() };
            match snapshot::delete(&shared, request, Origin::System).await {
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

fn wish(wanted: &WantedSnapshot) -> snapshot::Wish {
    snapshot::Wish {
        name: Some(wanted.name.clone()),
        description: String::new(),
        tags: Vec::new(),
        reason: voidvm_model::snapshot::SnapshotReason::Schedule,
        schedule_id: Some(wanted.schedule.to_string()),
        memory: match (wanted.disk_only, wanted.freeze) {
            (false, _) => snapshot::Memory::Kept,
            (true, false) => snapshot::Memory::Left,
            (true, true) => snapshot::Memory::LeftFrozen,
        },
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
