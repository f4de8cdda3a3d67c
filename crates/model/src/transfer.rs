//! Copies of whole machines: clones, archives, machines of other programs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::ids::VmId;
use crate::spec::MachineSpec;

/// A copy of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VmCloneRequest {
    /// The machine; stopped.
    pub id: VmId,
    /// The copy's name.
    pub name: String,
    /// Share its disks instead of copying them; the machine cannot lose them then.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub linked: bool,
    /// Start the copy when it is made.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub start: bool,
}

/// A machine as one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VmExportRequest {
    /// The machine; stopped.
    pub id: VmId,
    /// Absolute path of the new file; nothing must be there.
    pub path: String,
    /// Which kind of file.
    pub format: ExportFormat,
}

/// Which kind of file a machine is exported to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    /// voidVM's own: everything, compressed.
    Archive,
    /// OVA: disks, CPUs, memory and cards, for other programs.
    Ova,
}

/// A machine from another program or computer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VmImportRequest {
    /// Absolute path: voidVM archive, OVA, OVF, libvirt XML, quickemu .conf, VirtualBox .vbox, VMware .vmx.
    pub path: String,
    /// Its name here; the one it had without.
    #[serde(default)]
    #[ts(optional)]
    pub name: Option<String>,
    /// Use its disks where they are, where their format allows.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub in_place: bool,
}

/// A foreign machine to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImportInspectRequest {
    /// Absolute path.
    pub path: String,
}

/// What importing a machine would make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImportPlan {
    /// `voidvm`, `ova`, `ovf`, `libvirt`, `quickemu`, `virtualbox`, `vmware`.
    pub source: String,
    /// The name it had.
    pub name: String,
    /// Its hardware here; the files are those found.
    pub spec: MachineSpec,
    /// What it has that does not come along.
    pub unsupported: Vec<Unsupported>,
}

/// A part of a foreign machine that does not come along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct Unsupported {
    /// Which, in the words of its file.
    pub what: String,
    /// One English sentence.
    pub why: String,
}
