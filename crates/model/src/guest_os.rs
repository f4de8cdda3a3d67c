//! Operating systems as the distribution's osinfo-db knows them, and what they want of a machine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::spec::Firmware;
use crate::units::{Bytes, MiB};

/// An operating system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct GuestOs {
    /// osinfo-db's short id, `debian12`, `win11`.
    pub id: String,
    /// For people.
    pub name: String,
    /// `linux`, `windows`, `bsd` …
    pub family: String,
    /// Its version.
    pub version: Option<String>,
}

/// What an operating system wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct OsPreset {
    /// Which.
    pub os: GuestOs,
    /// Virtual CPUs.
    pub cpus: u16,
    /// Memory.
    pub memory: MiB,
    /// Size of a new disk.
    pub disk_size: Bytes,
    /// Firmware.
    pub firmware: Firmware,
    /// Whether it wants a TPM 2.0.
    pub tpm: bool,
    /// Whether it runs better with Hyper-V enlightenments.
    pub hyperv: bool,
    /// Whether it has drivers for virtio disks and cards of its own.
    pub virtio: bool,
}

/// A medium to recognise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OsDetectRequest {
    /// Absolute path of an ISO.
    pub path: String,
}

/// Which operating systems.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct OsListRequest {
    /// Only those whose name or id has these letters.
    #[serde(default)]
    #[ts(optional)]
    pub search: Option<String>,
}
