//! All that schedules know of machines, their snapshots and their backups.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use voidvm_model::backup::BackupId;
use voidvm_model::schedule::ScheduledBackup;
use voidvm_model::{Bytes, ErrorBody, GroupSnapshotId, ScheduleId, SnapshotId, VmId};
use voidvm_schedule::judge::Candidate;

/// Which snapshot, or which backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeptId {
    /// A snapshot.
    Snapshot(SnapshotId),
    /// A backup.
    Backup(BackupId),
}

/// A machine, as far as schedules care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledMachine {
    /// Which.
    pub id: VmId,
    /// Its name.
    pub name: String,
    /// The group it stands in.
    pub group: Option<String>,
    /// Words it can be found by.
    pub tags: Vec<String>,
    /// Whether its guest runs.
    pub running: bool,
}

/// A snapshot or a backup, as far as schedules care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenSnapshot {
    /// Which.
    pub id: KeptId,
    /// Its name.
    pub name: String,
    /// The instant it shows.
    pub created_at: Timestamp,
    /// The schedule that took it.
    pub schedule: Option<ScheduleId>,
    /// Whether it is marked to be kept.
    pub keep: bool,
    /// The snapshot of a group that it is part of: it is removed with that alone.
    pub group: Option<GroupSnapshotId>,
    /// The one it came after.
    pub parent: Option<KeptId>,
    /// Whether the present came after it.
    pub current: bool,
    /// What deleting it gives back.
    pub frees: Bytes,
}

impl TakenSnapshot {
    pub(super) fn candidate(self, schedule: Option<ScheduleId>) -> Candidate<KeptId> {
        Candidate {
            ours: schedule.is_some() && self.schedule == schedule,
            id: self.id,
            name: self.name,
            created_at: self.created_at,
            pinned: self.keep,
            parent: self.parent,
            current: self.current,
            frees: self.frees,
        }
    }
}

/// A snapshot to be taken, or a backup to be made, for a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedSnapshot {
    /// Of which machine.
    pub vm: VmId,
    /// Its name; a backup has none.
    pub name: String,
    /// For whom; retention knows it again by that.
    pub schedule: ScheduleId,
    /// Leave a running guest's memory out.
    pub disk_only: bool,
    /// Have the guest's agent freeze its file systems.
    pub freeze: bool,
    /// The group whose machines are taken together.
    pub group: Option<String>,
}

/// Who takes and removes snapshots; or makes and removes backups in one repository.
#[async_trait]
pub trait Snapshots: std::fmt::Debug + Send + Sync {
    /// The machines there are, without templates; by name.
    fn machines(&self) -> Vec<ScheduledMachine>;

    /// A machine's snapshots.
    async fn list(&self, vm: VmId) -> Result<Vec<TakenSnapshot>, ErrorBody>;

    /// Whether a machine has changed since its last snapshot; yes where that cannot be told.
    async fn changed(&self, vm: VmId) -> Result<bool, ErrorBody>;

    /// Takes a snapshot of a machine, or of those of a group at one instant: all of them, or none. Returns when they are taken, in
    /// the same order.
    async fn take(&self, wanted: &[WantedSnapshot]) -> Result<Vec<KeptId>, ErrorBody>;

    /// Removes snapshots, each with those of the other machines where it is part of a group's, and returns when they are gone. One
    /// that is gone already is no error.
    async fn delete(&self, vm: VmId, snapshots: &[KeptId]) -> Result<(), ErrorBody>;

    /// Sees that a backup comes up.
    async fn drill(&self, _backup: BackupId) -> Result<(), ErrorBody> {
        Ok(())
    }

    /// What is free where a machine's disks are; or where the backups are.
    async fn free(&self, vm: VmId) -> Result<Bytes, ErrorBody>;

    /// The same for backups.
    fn backups(&self, to: &ScheduledBackup) -> Arc<dyn Snapshots>;

    /// Makes sure that backups can be made there.
    async fn check_backups(&self, to: &ScheduledBackup) -> Result<(), ErrorBody>;
}
