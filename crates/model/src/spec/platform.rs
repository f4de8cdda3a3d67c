//! Chipset, processor, firmware, clock.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Chipset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum MachineType {
    /// PCI Express, the present standard.
    Q35,
    /// Conventional PCI, for old guests; BIOS or UEFI, no Secure Boot, nothing plugged in while it runs but USB.
    I440fx,
}

/// A chipset's revision as QEMU names it (`pc-q35-7.2`, `pc-i440fx-9.1`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, TS)]
#[serde(try_from = "String", into = "String")]
#[ts(type = "string")]
#[schemars(with = "String")]
pub struct MachineVersion(String);

impl MachineVersion {
    /// As QEMU names it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a revision of this chipset.
    #[must_use]
    pub fn is_of(&self, machine: MachineType) -> bool {
        match machine {
            MachineType::Q35 => self.0.starts_with("pc-q35-"),
            MachineType::I440fx => self.0.starts_with("pc-i440fx-"),
        }
    }
}

impl TryFrom<String> for MachineVersion {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let tail = text.strip_prefix("pc-q35-").or_else(|| text.strip_prefix("pc-i440fx-"));
        let version = |tail: &str| {
            tail.len() <= 16
                && tail.starts_with(|c: char| c.is_ascii_digit())
                && tail.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        };
        if tail.is_some_and(version) {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is not a machine type like pc-q35-7.2"))
        }
    }
}

impl From<MachineVersion> for String {
    fn from(version: MachineVersion) -> Self {
        version.0
    }
}

/// What the virtual CPUs look like to the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum CpuModel {
    /// The host's own under KVM, all that QEMU can do under TCG.
    #[default]
    Auto,
    /// A named model of QEMU's (`qemu64`, `Skylake-Client-v3`): the same on every host.
    Named {
        /// A letter or digit, then letters, digits, `-`, `_` or `.`; 64 at most.
        name: String,
    },
}

/// How virtual CPUs are arranged; the product is the most there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CpuTopology {
    /// Processors, 1 to 64; desktop editions of Windows use two at most.
    pub sockets: u16,
    /// Cores of each, 1 to 255.
    pub cores: u16,
    /// Threads of each core, 1 or 2.
    pub threads: u16,
}

/// What starts the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF, with variables of the machine's own in a qcow2 file.
    Uefi,
    /// OVMF that starts only what Microsoft's keys have signed; q35 only.
    UefiSecure,
}

impl Firmware {
    /// Whether it is OVMF.
    #[must_use]
    pub const fn is_uefi(self) -> bool {
        matches!(self, Self::Uefi | Self::UefiSecure)
    }
}

/// Which acceleration a machine asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum Accel {
    /// KVM where the probe found that guests really run under it, else TCG.
    Auto,
    /// KVM, or fail.
    Kvm,
    /// QEMU's translator: works everywhere, slowly.
    Tcg,
}

/// What the guest's hardware clock shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum GuestClock {
    /// Universal time.
    #[default]
    Utc,
    /// The host's local time, as Windows expects.
    Local,
}
