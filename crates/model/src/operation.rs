//! Work on a machine, image or volume, as a row that outlives a crash: who asked for what, when, how it ended, and QEMU's own words.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::backup::{BackupId, DrillProof};
use crate::error::ErrorBody;
use crate::event::Origin;
use crate::ids::{GroupSnapshotId, ImageId, OperationId, PoolId, SnapshotId, VmId};
use crate::storage::VolumeCheck;
use crate::units::Bytes;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// Make the machine's files and its row.
    Create,
    /// Change the definition.
    Update,
    /// Start the process and the guest.
    Start,
    /// Ask the guest to shut down.
    Stop,
    /// End the process without asking the guest.
    ForceOff,
    /// Hold the guest.
    Pause,
    /// Let it go on.
    Resume,
    /// Press its reset button.
    Reset,
    /// Take over a process that outlived the app.
    Adopt,
    /// Remove the machine and its files.
    Delete,
    /// Write memory to disk and end the process.
    Suspend,
    /// Make a copy of a machine.
    Clone,
    /// Write a machine to one file.
    Export,
    /// Make a machine of a file of another program.
    Import,
    /// Bring a file into the library.
    ImageImport,
    /// Fetch a file into the library.
    ImageDownload,
    /// Remove an image.
    ImageDelete,
    /// Make a volume.
    VolumeCreate,
    /// Change a volume's size.
    VolumeResize,
    /// Copy a volume.
    VolumeCopy,
    /// Move a volume.
    VolumeMove,
    /// Give freed space of a volume back.
    VolumeReclaim,
    /// Check and mend a volume.
    VolumeCheck,
    /// Remove a volume.
    VolumeDelete,
    /// Take a machine snapshot.
    SnapshotCreate,
    /// Go back to one.
    SnapshotRestore,
    /// Remove one.
    SnapshotDelete,
    /// Make machines of one.
    SnapshotFork,
    /// Start a machine of one that is thrown away when it stops.
    SnapshotBoot,
    /// Merge layers of disks that no snapshot needs any more.
    SnapshotMerge,
    /// Make a snapshot's memory ready to be gone on from, or pack it.
    SnapshotPrepare,
    /// Copy together what a machine's disks stand on.
    SnapshotFlatten,
    /// Take a snapshot of a group of machines.
    GroupSnapshotCreate,
    /// Take a group back to one.
    GroupSnapshotRestore,
    /// Remove one.
    GroupSnapshotDelete,
    /// Make a group of machines of one.
    GroupSnapshotFork,
    /// Take the snapshots of a schedule, and remove those it keeps no longer.
    ScheduleRun,
    /// Back a machine up.
    BackupRun,
    /// Check backups.
    BackupVerify,
    /// Make a machine of a backup.
    BackupRestore,
    /// Remove backups.
    BackupForget,
    /// See whether a backup comes up.
    BackupDrill,
}

impl OperationKind {
    /// Every kind.
    pub const ALL: [Self; 42] = [
        Self::Create,
        Self::Update,
        Self::Start,
        Self::Stop,
        Self::ForceOff,
        Self::Pause,
        Self::Resume,
        Self::Reset,
        Self::Adopt,
        Self::Delete,
        Self::Suspend,
        Self::Clone,
        Self::Export,
        Self::Import,
        Self::ImageImport,
        Self::ImageDownload,
        Self::ImageDelete,
        Self::VolumeCreate,
        Self::VolumeResize,
        Self::VolumeCopy,
        Self::VolumeMove,
        Self::VolumeReclaim,
        Self::VolumeCheck,
        Self::VolumeDelete,
        Self::SnapshotCreate,
        Self::SnapshotRestore,
        Self::SnapshotDelete,
        Self::SnapshotFork,
        Self::SnapshotBoot,
        Self::SnapshotMerge,
        Self::SnapshotPrepare,
        Self::SnapshotFlatten,
        Self::GroupSnapshotCreate,
        Self::GroupSnapshotRestore,
        Self::GroupSnapshotDelete,
        Self::GroupSnapshotFork,
        Self::ScheduleRun,
        Self::BackupRun,
        Self::BackupVerify,
        Self::BackupRestore,
        Self::BackupForget,
        Self::BackupDrill,
    ];

    /// The wire form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::ForceOff => "force_off",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Reset => "reset",
            Self::Adopt => "adopt",
            Self::Delete => "delete",
            Self::Suspend => "suspend",
            Self::Clone => "clone",
            Self::Export => "export",
            Self::Import => "import",
            Self::ImageImport => "image_import",
            Self::ImageDownload => "image_download",
            Self::ImageDelete => "image_delete",
            Self::VolumeCreate => "volume_create",
            Self::VolumeResize => "volume_resize",
            Self::VolumeCopy => "volume_copy",
            Self::VolumeMove => "volume_move",
            Self::VolumeReclaim => "volume_reclaim",
            Self::VolumeCheck => "volume_check",
            Self::VolumeDelete => "volume_delete",
            Self::SnapshotCreate => "snapshot_create",
            Self::SnapshotRestore => "snapshot_restore",
            Self::SnapshotDelete => "snapshot_delete",
            Self::SnapshotFork => "snapshot_fork",
            Self::SnapshotBoot => "snapshot_boot",
            Self::SnapshotMerge => "snapshot_merge",
            Self::SnapshotPrepare => "snapshot_prepare",
            Self::SnapshotFlatten => "snapshot_flatten",
            Self::GroupSnapshotCreate => "group_snapshot_create",
            Self::GroupSnapshotRestore => "group_snapshot_restore",
            Self::GroupSnapshotDelete => "group_snapshot_delete",
            Self::GroupSnapshotFork => "group_snapshot_fork",
            Self::ScheduleRun => "schedule_run",
            Self::BackupRun => "backup_run",
            Self::BackupVerify => "backup_verify",
            Self::BackupRestore => "backup_restore",
            Self::BackupForget => "backup_forget",
            Self::BackupDrill => "backup_drill",
        }
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum OperationStatus {
    /// Waits for its turn (the limits of its class).
    Queued,
    /// At work.
    Running,
    /// Done.
    Succeeded,
    /// Not done; `error` says why.
    Failed,
    /// Given up because somebody said so; nothing half done is left.
    Cancelled,
    /// The app ended in the middle of it.
    Interrupted,
}

impl OperationStatus {
    /// Every status.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled, Self::Interrupted];

    /// Whether it will never change again.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// The wire form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }
}

/// How much of it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Units done.
    #[ts(type = "number")]
    pub done: u64,
    /// Units in all.
    #[ts(type = "number")]
    pub total: u64,
}

/// What came of an operation that has more to say than that it is done.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OperationResult {
    /// Space was given back.
    Reclaimed {
        /// What the volume, or the snapshot's memory, took on the disk before.
        before: Bytes,
        /// What it takes now.
        after: Bytes,
    },
    /// A volume was looked through.
    Checked(VolumeCheck),
    /// Something was removed.
    Removed {
        /// What it took on the disk.
        bytes: Bytes,
    },
    /// A snapshot was taken.
    #[serde(rename_all = "camelCase")]
    Snapshotted {
        /// Which.
        snapshot: SnapshotId,
        /// How long the guest was held, in milliseconds; none where nothing ran.
        pause_ms: Option<f64>,
    },
    /// A machine was made and started.
    Booted {
        /// Which.
        vm: VmId,
    },
    /// A snapshot of a group was taken.
    #[serde(rename_all = "camelCase")]
    GroupSnapshotted {
        /// Which.
        snapshot: GroupSnapshotId,
        /// From when the first guest was held to when the last one was, in milliseconds; none where fewer than two ran.
        spread_ms: Option<f64>,
        /// The longest a guest was held, in milliseconds; none where nothing ran.
        pause_ms: Option<f64>,
    },
    /// A machine was backed up.
    BackedUp {
        /// The backup.
        backup: BackupId,
        /// The size of its disks.
        size: Bytes,
        /// What was read of them: the rest has not changed since the backup before. Unknown of older operations.
        #[serde(default)]
        read: Option<Bytes>,
        /// What it added to the repository.
        added: Bytes,
    },
    /// A backup came up.
    Drilled {
        /// How that was seen.
        proof: DrillProof,
        /// After how many seconds from its start.
        seconds: u32,
    },
    /// Backups were checked, and are whole.
    Verified {
        /// How many there are.
        backups: u32,
        /// What they take in the repository.
        size: Bytes,
    },
}

/// One piece of work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// Its id; sorts by time.
    pub id: OperationId,
    /// What is done.
    pub kind: OperationKind,
    /// To which machine, where it is one.
    pub vm_id: Option<VmId>,
    /// To which image of the library, where it is one.
    pub image_id: Option<ImageId>,
    /// In which pool, where it is a volume.
    pub pool_id: Option<PoolId>,
    /// The name of what it is done to, at that time (it may be gone since).
    pub subject: String,
    /// How far it is.
    pub status: OperationStatus,
    /// Who asked for it.
    pub origin: Origin,
    /// When it was asked for.
    #[ts(type = "string")]
    pub requested_at: Timestamp,
    /// When its turn came.
    #[ts(type = "string | null")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[ts(type = "string | null")]
    pub finished_at: Option<Timestamp>,
    /// Milliseconds from its turn to its end.
    #[ts(type = "number | null")]
    pub duration_ms: Option<u64>,
    /// How much is done, where that is known.
    pub progress: Option<Progress>,
    /// Whether a cancel would be heeded now.
    pub cancellable: bool,
    /// What came of it, where there is more to say than its status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub result: Option<OperationResult>,
    /// Why it failed.
    pub error: Option<ErrorBody>,
    /// QEMU's own words, where there were any (last 64 KiB at most).
    pub stderr: Option<String>,
}
