//! Pools: directories of disks; volumes: the disks in them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::error::ErrorBody;
use crate::ids::{PoolId, VmId};
use crate::spec::DiskFormat;
use crate::units::Bytes;

/// A directory of volumes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// Its id.
    pub id: PoolId,
    /// For people; unique.
    pub name: String,
    /// Absolute path.
    pub path: String,
    /// Whether it is voidVM's own place for machines, which cannot be removed.
    pub builtin: bool,
    /// Size of the file system.
    pub capacity: Bytes,
    /// What is free of it.
    pub free: Bytes,
    /// What its volumes take.
    pub allocated: Bytes,
    /// Free space that is kept: below it nothing new is made and a warning stands.
    pub floor: Bytes,
    /// Whether it can be used.
    pub health: PoolHealth,
    /// What is wrong, where something is.
    pub problem: Option<ErrorBody>,
}

/// Whether a pool can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum PoolHealth {
    /// It can.
    Ok,
    /// Less is free than its floor.
    Low,
    /// It cannot be written to.
    ReadOnly,
    /// It is not there.
    Missing,
}

/// A new pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolCreateRequest {
    /// For people; unique.
    pub name: String,
    /// Absolute path of a directory; made when it is not there.
    pub path: String,
    /// Free space that is kept; 2 GiB without.
    #[serde(default)]
    #[ts(optional)]
    pub floor: Option<Bytes>,
}

/// Changes of a pool; what is left out stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolUpdateRequest {
    /// The pool.
    pub id: PoolId,
    /// A new name.
    #[serde(default)]
    #[ts(optional)]
    pub name: Option<String>,
    /// Free space that is kept.
    #[serde(default)]
    #[ts(optional)]
    pub floor: Option<Bytes>,
}

/// Which pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct PoolRef {
    /// The pool.
    pub id: PoolId,
}

/// A disk image in a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// The pool it lies in.
    pub pool: PoolId,
    /// Absolute path; names the volume.
    pub path: String,
    /// File name.
    pub name: String,
    /// Its format; none of a file that is not understood.
    pub format: Option<DiskFormat>,
    /// What a guest sees of it.
    pub virtual_size: Bytes,
    /// What it takes on the disk.
    pub allocated: Bytes,
    /// The file it stands on.
    pub backing_file: Option<String>,
    /// Volumes that stand on it.
    pub children: Vec<String>,
    /// The machine it belongs to.
    pub vm: Option<VmId>,
    /// Its name.
    pub vm_name: Option<String>,
    /// Whether it lies in voidVM's own place and nobody claims it.
    pub orphaned: bool,
    /// Whether it is encrypted (LUKS).
    pub encrypted: bool,
}

/// Which volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRef {
    /// The pool.
    pub id: PoolId,
    /// Its absolute path.
    pub path: String,
}

/// A new volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeCreateRequest {
    /// The pool.
    pub id: PoolId,
    /// File name, without a directory.
    pub name: String,
    /// What a guest sees.
    pub size: Bytes,
    /// Its format.
    pub format: DiskFormat,
    /// Take all of the space at once.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub full: bool,
}

/// A new size of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeResizeRequest {
    /// The pool.
    pub id: PoolId,
    /// The volume.
    pub path: String,
    /// What a guest sees then.
    pub size: Bytes,
    /// Allow it to become smaller: refused unless nothing lies beyond the new end.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub shrink: bool,
}

/// A copy of a volume, also in another format or pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeCopyRequest {
    /// The pool.
    pub id: PoolId,
    /// The volume.
    pub path: String,
    /// The pool of the copy.
    pub target: PoolId,
    /// Its file name.
    pub name: String,
    /// Its format.
    pub format: DiskFormat,
}

/// A volume's move to another pool; the machine that uses it follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeMoveRequest {
    /// The pool.
    pub id: PoolId,
    /// The volume.
    pub path: String,
    /// The other pool.
    pub target: PoolId,
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct VolumeCheck {
    /// Errors in the structure.
    pub corruptions: u32,
    /// Clusters nobody refers to.
    pub leaks: u32,
    /// Whether it was mended.
    pub repaired: bool,
}
