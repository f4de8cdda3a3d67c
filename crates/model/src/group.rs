//! Groups of machines, and their snapshots: all machines of a group at one instant.
//!
//! ```text
//!  lab ─┬─ web ── "before" (snapshot of web)  ─┐
//!       ├─ db  ── "before" (snapshot of db)   ─┼─ "before" (snapshot of lab): taken, restored, forked and removed as one
//!       └─ mq  ── "before" (snapshot of mq)   ─┘
//! ```
//! A group is named by its machines and is nothing else. Its snapshot is one snapshot of each of them; each can be looked at and
//! gone back to by itself, and is removed only with the others.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::error::ErrorBody;
use crate::ids::{GroupSnapshotId, SnapshotId, VmId};
use crate::snapshot::{RestoreTo, SnapshotReason};
use crate::units::Bytes;

/// A group that machines stand in, or that there are snapshots of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Its name.
    pub name: String,
    /// The machines that stand in it now, by name.
    pub vms: Vec<VmId>,
    /// How many snapshots of it there are.
    pub snapshots: u32,
}

/// A snapshot of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct GroupSnapshot {
    /// Its id.
    pub id: GroupSnapshotId,
    /// The group, as it was called then.
    pub group: String,
    /// Unique within the group.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Who wanted it.
    pub reason: SnapshotReason,
    /// The instant it shows.
    #[ts(type = "string")]
    pub created_at: Timestamp,
    /// From when the first guest was held to when the last one was, by QEMU's own account, in milliseconds; none where fewer than
    /// two ran.
    pub spread_ms: Option<f64>,
    /// How long making it took, in milliseconds.
    #[ts(type = "number")]
    pub total_ms: u64,
    /// What its machines' snapshots take on the disk.
    pub size: Bytes,
    /// What deleting it gives back.
    pub frees: Bytes,
    /// The machines that were in the group, by name.
    pub members: Vec<GroupMember>,
    /// Why it cannot be restored, where it cannot.
    pub trouble: Option<ErrorBody>,
}

/// A machine of a group's snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct GroupMember {
    /// The machine.
    pub vm_id: VmId,
    /// Its name; the one it had then, when it is gone.
    pub vm_name: String,
    /// Its snapshot; none when the machine is gone.
    pub snapshot: Option<SnapshotId>,
    /// Whether memory is in it.
    pub memory: bool,
    /// How long its guest was held, in milliseconds; none where nothing ran.
    pub pause_ms: Option<f64>,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupRef {
    /// Its name.
    pub group: String,
}

/// Take a snapshot of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupSnapshotCreateRequest {
    /// The group; templates in it are left out.
    pub group: String,
    /// Its name, and that of each machine's snapshot; `snapshot 2026-11-22 14:03` of now without.
    #[serde(default)]
    #[ts(optional)]
    pub name: Option<String>,
    /// Free text.
    #[serde(default)]
    #[ts(optional, as = "Option<String>")]
    pub description: String,
    /// Leave the memory of guests that run out.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub disk_only: bool,
    /// Have the guests' agents freeze their file systems for it; only with `diskOnly`. Refused where one does not answer.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub freeze: bool,
}

/// One snapshot of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupSnapshotRef {
    /// The group.
    pub group: String,
    /// The snapshot's id, or its name.
    pub snapshot: String,
}

/// Go back to a snapshot of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupSnapshotRestoreRequest {
    /// The group.
    pub group: String,
    /// The snapshot's id, or its name.
    pub snapshot: String,
    /// What the machines do afterwards.
    #[serde(default)]
    #[ts(optional, as = "Option<RestoreTo>")]
    pub to: RestoreTo,
    /// Do not keep the present state as a snapshot of the group first: it is lost then.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub discard_present: bool,
}

/// Make a new group of a snapshot of one; its machines share the disks of the old ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupSnapshotForkRequest {
    /// The group.
    pub group: String,
    /// The snapshot's id, or its name.
    pub snapshot: String,
    /// The new group's name; no machine stands in it. Its machines are called as the old ones, with `NAME-` before that.
    pub name: String,
    /// Start them together: with memory they go on from it.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub start: bool,
}
