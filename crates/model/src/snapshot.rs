//! Machine snapshots: the whole of a machine at one instant, in a tree.
//!
//! ```text
//!  installed ─┬─ updated ─── (present)
//!             └─ before the experiment
//! ```
//! A snapshot holds every writable disk, UEFI variables, the TPM's state, memory and devices where the guest ran, and the
//! specification. Its name is a label: two snapshots of one machine never share one, and renaming touches no data.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::error::ErrorBody;
use crate::ids::{DeviceId, GroupSnapshotId, SnapshotId, VmId};
use crate::spec::MachineSpec;
use crate::units::Bytes;
use crate::vm::PendingChange;

/// The longest name of a snapshot, in characters.
pub const SNAPSHOT_NAME_MAX: usize = 100;
/// Most machines one request forks.
pub const FORKS_MAX: u32 = 50;

/// Who wanted a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotReason {
    /// A person.
    Manual,
    /// A schedule; its retention may remove it.
    Schedule,
    /// voidVM, which kept the present state before it restored another.
    Safety,
    /// A backup, which reads it; it is gone when that ends, however it does.
    Backup,
}

impl SnapshotReason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Manual, Self::Schedule, Self::Safety, Self::Backup];

    /// The wire form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Schedule => "schedule",
            Self::Safety => "safety",
            Self::Backup => "backup",
        }
    }
}

/// How well the disks fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// Memory is in it, or nothing ran: going on from it loses nothing.
    Whole,
    /// The guest's agent had flushed and frozen its file systems.
    Frozen,
    /// As after a power cut: the guest ran, and its memory is not in it.
    Crash,
}

impl Consistency {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Whole, Self::Frozen, Self::Crash];

    /// The wire form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Frozen => "frozen",
            Self::Crash => "crash",
        }
    }
}

/// A snapshot as everybody is shown it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// The machine.
    pub vm_id: VmId,
    /// Unique within the machine.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Words it can be found by.
    pub tags: Vec<String>,
    /// Who wanted it.
    pub reason: SnapshotReason,
    /// Whether retention leaves it alone.
    pub keep: bool,
    /// The snapshot of a group that it is part of: it is removed with that alone.
    pub group_snapshot: Option<GroupSnapshotId>,
    /// The snapshot it came after.
    pub parent: Option<SnapshotId>,
    /// Whether the machine's present state came after it.
    pub current: bool,
    /// The instant it shows.
    #[ts(type = "string")]
    pub created_at: Timestamp,
    /// Whether memory is in it: restored, the guest goes on.
    pub memory: bool,
    /// How well its disks fit together.
    pub consistency: Consistency,
    /// How long the guest was held, by QEMU's own account, in milliseconds; none where nothing ran.
    pub pause_ms: Option<f64>,
    /// How long making it took, in milliseconds.
    #[ts(type = "number")]
    pub total_ms: u64,
    /// What it takes on the disk: its layers, memory and small files.
    pub size: Bytes,
    /// What deleting it gives back; what others need of it stays.
    pub frees: Bytes,
    /// The hardware it had.
    pub spec: MachineSpec,
    /// Why it cannot be restored, where it cannot.
    pub trouble: Option<ErrorBody>,
}

/// A machine's snapshots.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotTree {
    /// All of them, oldest first; parents come before their children.
    pub snapshots: Vec<Snapshot>,
    /// What the layers of all disks that no snapshot names any more still take, until they are merged.
    pub unmerged: Bytes,
    /// The most layers one of the machine's disks stands on, its own included.
    pub depth: u32,
}

/// Take a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotCreateRequest {
    /// The machine.
    pub id: VmId,
    /// Its name; `snapshot 2026-11-22 14:03` of now without.
    #[serde(default)]
    #[ts(optional)]
    pub name: Option<String>,
    /// Free text.
    #[serde(default)]
    #[ts(optional, as = "Option<String>")]
    pub description: String,
    /// Words it can be found by; each at most 40 characters, 20 at most.
    #[serde(default)]
    #[ts(optional, as = "Option<Vec<String>>")]
    pub tags: Vec<String>,
    /// Leave a running guest's memory out.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub disk_only: bool,
    /// Have the guest's agent freeze its file systems for it; only with `diskOnly`. Refused where no agent answers.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub freeze: bool,
}

/// One snapshot of one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotRef {
    /// The machine.
    pub id: VmId,
    /// The snapshot's id, or its name.
    pub snapshot: String,
}

/// Change what a snapshot is called and said of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotUpdateRequest {
    /// The machine.
    pub id: VmId,
    /// The snapshot's id, or its name.
    pub snapshot: String,
    /// Another name.
    #[serde(default)]
    #[ts(optional)]
    pub name: Option<String>,
    /// Another text.
    #[serde(default)]
    #[ts(optional)]
    pub description: Option<String>,
    /// Other tags.
    #[serde(default)]
    #[ts(optional)]
    pub tags: Option<Vec<String>>,
    /// Whether retention leaves it alone.
    #[serde(default)]
    #[ts(optional)]
    pub keep: Option<bool>,
}

/// What a machine does after a snapshot was restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum RestoreTo {
    /// What it did: with memory it runs on, without it is stopped.
    #[default]
    AsItWas,
    /// Run: from its memory where there is some, from power on else.
    Running,
    /// Be stopped; memory is left aside.
    Stopped,
}

/// Go back to a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotRestoreRequest {
    /// The machine.
    pub id: VmId,
    /// The snapshot's id, or its name.
    pub snapshot: String,
    /// What the machine does afterwards.
    #[serde(default)]
    #[ts(optional, as = "Option<RestoreTo>")]
    pub to: RestoreTo,
    /// Do not keep the present state as a snapshot first: it is lost then.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub discard_present: bool,
}

/// Make machines of a snapshot; they share its disks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotForkRequest {
    /// The machine.
    pub id: VmId,
    /// The snapshot's id, or its name.
    pub snapshot: String,
    /// The new machine's name; with more than one, `-1`, `-2` … is put behind it.
    pub name: String,
    /// How many, 1 to [`FORKS_MAX`]; one without.
    #[serde(default)]
    #[ts(optional)]
    pub count: Option<u32>,
    /// Start them: with memory they go on from it.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub start: bool,
}

/// Start a machine made of a snapshot that is thrown away when it stops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotBootRequest {
    /// The machine.
    pub id: VmId,
    /// The snapshot's id, or its name.
    pub snapshot: String,
    /// What it is called while it is there; `web-boot` of a machine `web` without.
    #[serde(default)]
    #[ts(optional)]
    pub name: Option<String>,
}

/// Compare two snapshots, or one with the present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotCompareRequest {
    /// The machine.
    pub id: VmId,
    /// The snapshot's id, or its name.
    pub snapshot: String,
    /// The other snapshot's id, or its name; the present without.
    #[serde(default)]
    #[ts(optional)]
    pub with: Option<String>,
}

/// What differs between two snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotDifference {
    /// For each disk of either how much was written in between.
    pub disks: Vec<DiskDifference>,
    /// What of the hardware differs: `running` is the first, `next` the other.
    pub hardware: Vec<PendingChange>,
}

/// How much of a disk differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct DiskDifference {
    /// The disk.
    pub disk: DeviceId,
    /// Bytes written since the two were one, counted in clusters: the most that can differ. None where only one has the disk,
    /// or they have nothing in common.
    pub changed: Option<Bytes>,
}
