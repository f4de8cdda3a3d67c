//! The host: what it has, how it is, and what is wrong with it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::units::{Bytes, MiB, Percent};

/// One reading of the host, with what the machines take of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct HostStats {
    /// When it was read.
    #[ts(type = "string")]
    pub at: Timestamp,
    /// Host name.
    pub hostname: String,
    /// CPU use of everything on the host since the reading before.
    pub cpu: Option<Percent>,
    /// Logical processors.
    pub cpus: u16,
    /// Load over one minute.
    pub load1: f64,
    /// Memory in all.
    pub memory_total: Bytes,
    /// Memory that could still be had.
    pub memory_available: Bytes,
    /// Virtual CPUs of the live machines.
    pub committed_cpus: u32,
    /// Memory of the live machines.
    pub committed_memory: MiB,
    /// Size of the file system that holds the data directory.
    pub disk_total: Bytes,
    /// What is free on it.
    pub disk_free: Bytes,
    /// Machines by state (wire form of the state).
    pub vms: BTreeMap<String, u32>,
}

/// What doctor looks at. The wire form is also the key of the UI's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum CheckId {
    /// The QEMU binary and its version.
    Qemu,
    /// `qemu-img`.
    QemuImg,
    /// `/dev/kvm`: there, permitted, and guests really run under it.
    Kvm,
    /// Membership of the `kvm` group.
    KvmGroup,
    /// OVMF.
    Firmware,
    /// OVMF with Secure Boot and its keys.
    SecureBoot,
    /// swtpm.
    Tpm,
    /// virtiofsd, and what an ordinary user needs to run it.
    SharedFolders,
    /// passt.
    Passt,
    /// Free space of the data directory.
    FreeSpace,
    /// The data directory can be written to and is the user's own.
    DataDirectory,
    /// The runtime directory: there, short enough for sockets, the user's own.
    RuntimeDirectory,
    /// The log directory can be written to.
    LogDirectory,
    /// The OS keychain.
    Keychain,
    /// The configuration file holds.
    Configuration,
    /// The small Linux guest is prepared.
    DemoGuest,
    /// Not run as root.
    User,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// Works, with a limit.
    Warning,
    /// Something cannot work.
    Failed,
}

/// One finding of doctor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What was looked at.
    pub id: CheckId,
    /// How it came out.
    pub status: CheckStatus,
    /// Which of the check's findings this is (`missing`, `too_old`, `ok` …): with `id`, the key of the UI's words.
    pub finding: String,
    /// One sentence in English.
    pub message: String,
    /// What to do about it, in English.
    pub remedy: Option<String>,
    /// A command that does it, to copy; never run by voidVM.
    pub command: Option<String>,
    /// The facts in the sentence, for the UI's own words.
    pub facts: BTreeMap<String, String>,
}

/// Everything doctor found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct DoctorReport {
    /// The findings, in the order of [`CheckId`].
    pub checks: Vec<Check>,
}

/// Whether the engine is up (scope: `GET /system/health`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// The worst status of the checks that are cheap to make.
    pub status: CheckStatus,
    /// Seconds since the owner process started.
    #[ts(type = "number")]
    pub uptime_seconds: u64,
}

/// What runs here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct VersionInfo {
    /// voidVM's version.
    pub version: String,
    /// Version of the contract: `v1`.
    pub api: String,
    /// QEMU's version, where there is one.
    pub qemu: Option<String>,
    /// The owner process.
    pub pid: u32,
}

/// What a new machine would get, and what it may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct CreateDefaults {
    /// A name nobody has.
    pub name: String,
    /// Virtual CPUs.
    pub cpus: u16,
    /// Most virtual CPUs that make sense: the host's processors.
    pub max_cpus: u16,
    /// Memory.
    pub memory: MiB,
    /// The host's memory.
    pub max_memory: MiB,
    /// Memory that could be had now.
    pub available_memory: MiB,
    /// Size of a new disk.
    pub disk_size: Bytes,
    /// Free space where disks go.
    pub free_space: Bytes,
    /// Where a machine's files go.
    pub vm_directory: String,
    /// Whether UEFI firmware is installed.
    pub uefi: bool,
    /// Whether UEFI firmware with Secure Boot and enrolled keys is installed.
    pub secure_boot: bool,
    /// Whether swtpm is installed.
    pub tpm: bool,
    /// What the probe found of KVM.
    pub accel: AccelReport,
    /// Path of the small Linux guest's disk, where it is prepared.
    pub demo_disk: Option<String>,
    /// Path of the small Linux guest's ISO, where it is prepared.
    pub demo_iso: Option<String>,
}

/// What the acceleration probe found on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct AccelReport {
    /// What `auto` means here.
    pub auto: crate::vm::ActiveAccel,
    /// Whether guests really run under KVM.
    pub kvm_works: bool,
    /// In one English sentence, why not.
    pub reason: Option<String>,
}

/// An image file, looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImageInfo {
    /// Absolute path.
    pub path: String,
    /// What it is.
    pub kind: ImageKind,
    /// What a guest sees of it.
    pub virtual_size: Bytes,
    /// What it takes on the disk.
    pub actual_size: Bytes,
    /// The file it stands on, for a qcow2 overlay.
    pub backing_file: Option<String>,
    /// The volume id of an ISO.
    pub volume_id: Option<String>,
    /// Whether this user may write to it (needed to use a disk in place).
    pub writable: bool,
    /// Name of the machine that uses it, where one does.
    pub used_by: Option<String>,
}

/// What an image file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum ImageKind {
    /// QEMU's own disk format.
    Qcow2,
    /// A plain disk with a boot sector or partition table.
    Raw,
    /// A CD or DVD.
    Iso,
    /// VMware's.
    Vmdk,
    /// VirtualBox's.
    Vdi,
    /// Hyper-V's.
    Vhdx,
}

impl ImageKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [Self::Qcow2, Self::Raw, Self::Iso, Self::Vmdk, Self::Vdi, Self::Vhdx];

    /// The wire form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
            Self::Iso => "iso",
            Self::Vmdk => "vmdk",
            Self::Vdi => "vdi",
            Self::Vhdx => "vhdx",
        }
    }
}

/// One entry of a directory of the host, for the browser's file chooser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryEntry {
    /// Its name.
    pub name: String,
    /// Its absolute path.
    pub path: String,
    /// Whether it is a directory.
    pub directory: bool,
    /// Its size, of a file.
    pub size: Option<Bytes>,
}

/// A directory of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryListing {
    /// Its absolute path.
    pub path: String,
    /// The one above it.
    pub parent: Option<String>,
    /// Directories, then disk images and ISOs, by name; hidden entries are left out.
    pub entries: Vec<DirectoryEntry>,
}

/// A USB device that is plugged into the host now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct HostUsbDevice {
    /// The maker's number.
    pub vendor_id: u16,
    /// The product's number.
    pub product_id: u16,
    /// What it calls itself.
    pub name: String,
    /// Whether this user may open it.
    pub accessible: bool,
    /// Name of the machine that is lent it, where one is.
    pub used_by: Option<String>,
}
