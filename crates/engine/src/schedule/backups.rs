//! The engine's own backups, as schedules see them: those in one repository.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use voidvm_model::backup::{BackupDrillRequest, BackupForgetRequest, BackupId, BackupRunRequest};
use voidvm_model::schedule::ScheduledBackup;
use voidvm_model::{Bytes, ErrorBody, ErrorCode, OperationResult, Origin, ScheduleId, VmId};

use super::bound::{self, EngineSnapshots};
use super::{KeptId, ScheduledMachine, Snapshots, TakenSnapshot, WantedSnapshot};
use crate::backup;
use crate::shared::Shared;

/// More than any disk has: after one backup is removed for its space, it is looked how much there is.
const UNKNOWN: Bytes = Bytes(1 << 62);

/// Backups of an engine in one repository.
#[derive(Debug)]
pub(super) struct EngineBackups {
    pub(super) snapshots: EngineSnapshots,
    pub(super) to: ScheduledBackup,
}

/// Makes sure that there is a repository, and that it opens without anybody being asked.
///
/// # Errors
/// What is wrong with it, with the schedule's field.
pub(super) async fn check(shared: &Shared, to: &ScheduledBackup) -> Result<(), ErrorBody> {
    backup::open_repository(shared, &to.directory, None).await.map(drop).map_err(|error| {
        let hint = "Begin backups there first, or have the keychain know their password: it is not stored with a schedule.";
        match error.field.as_deref() {
            Some("password") => error.with_field("backup.directory").with_hint(hint),
            _ => error.with_field("backup.directory"),
        }
    })
}

#[async_trait]
impl Snapshots for EngineBackups {
    fn machines(&self) -> Vec<ScheduledMachine> {
        self.snapshots.machines()
    }

    async fn list(&self, vm: VmId) -> Result<Vec<TakenSnapshot>, ErrorBody> {
        let found = backup::of_machine(&*self.snapshots.shared()?, &self.to.directory, vm).await?;
        let of = |(backup, tags): (voidvm_model::backup::Backup, Vec<String>)| TakenSnapshot {
            group: None,
            schedule: tags.iter().find_map(|tag| tag.strip_prefix(TAG)?.parse().ok()),
            id: KeptId::Backup(backup.id),
            name: format!("{:.8}", backup.id),
            created_at: backup.taken,
            keep: false,
            parent: None,
            current: false,
            frees: UNKNOWN,
        };
        Ok(found.into_iter().map(of).collect())
    }

    async fn changed(&self, vm: VmId) -> Result<bool, ErrorBody> {
        let view = self.snapshots.shared()?.fleet.get(vm)?.view();
        if view.state.is_live() {
            return Ok(true);
        }
        let last = self.list(vm).await?.into_iter().map(|backup| backup.created_at).max();
        // What has not run and was not redefined since is as it was.
        Ok(last.is_none_or(|last| last < view.state_since.max(view.updated_at)))
    }

    async fn take(&self, wanted: &[WantedSnapshot]) -> Result<Vec<KeptId>, ErrorBody> {
        let shared = self.snapshots.shared()?;
        let mut made = Vec::with_capacity(wanted.len());
        for one in wanted {
            let directory = self.to.directory.clone();
            let request = BackupRunRequest { id: one.vm, directory, password: None };
            let begun = backup::run(&shared, request, vec![tag(one.schedule)], Origin::System).await?;
            let ended = bound::ended(&shared, begun).await?;
            let Some(OperationResult::BackedUp { backup, .. }) = ended.result else {
                let message = "The operation did not say which backup it made.";
                return Err(ErrorBody::new(ErrorCode::Internal, message));
            };
            made.push(KeptId::Backup(backup));
        }
        Ok(made)
    }

    async fn delete(&self, _: VmId, backups: &[KeptId]) -> Result<(), ErrorBody> {
        let shared = self.snapshots.shared()?;
        let named = |id: &KeptId| if let KeptId::Backup(id) = id { Some(*id) } else { None };
        let directory = self.to.directory.clone();
        let there = backup::ids(&shared, &directory).await?;
        let backups = backups.iter().filter_map(named).filter(|id| there.contains(id)).collect::<Vec<_>>();
        if backups.is_empty() {
            return Ok(());
        }
        let request = BackupForgetRequest { directory, password: None, backups };
        let begun = backup::forget(&shared, request, Origin::System).await?;
        bound::ended(&shared, begun).await.map(drop)
    }

    async fn drill(&self, backup: BackupId) -> Result<(), ErrorBody> {
        let shared = self.snapshots.shared()?;
        let directory = self.to.directory.clone();
        let request = BackupDrillRequest { directory, password: None, backup, machine: None, seconds: None };
        let begun = backup::drill(&shared, request, Origin::System).await?;
        bound::ended(&shared, begun).await.map(drop)
    }

    async fn free(&self, _: VmId) -> Result<Bytes, ErrorBody> {
        bound::free_at(PathBuf::from(&self.to.directory)).await
    }

    fn backups(&self, to: &ScheduledBackup) -> Arc<dyn Snapshots> {
        self.snapshots.backups(to)
    }

    async fn check_backups(&self, to: &ScheduledBackup) -> Result<(), ErrorBody> {
        self.snapshots.check_backups(to).await
    }
}

/// What the tag of a schedule's backup begins with.
const TAG: &str = "schedule=";

fn tag(schedule: ScheduleId) -> String {
    format!("{TAG}{schedule}")
}
