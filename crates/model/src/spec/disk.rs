//! Fixed disks and CD-ROM drives.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::ids::{DeviceId, SecretId};

/// Format of an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum DiskFormat {
    /// QEMU's own, grows as it is written.
    Qcow2,
    /// Plain bytes.
    Raw,
}

/// Whose file a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum FileOwner {
    /// Made by voidVM in the machine's directory; goes with the machine.
    Machine,
    /// The user's own, used in place; never deleted.
    User,
}

/// What a disk is plugged into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum DiskBus {
    /// virtio-blk: the fastest.
    #[default]
    Virtio,
    /// virtio-scsi: many disks on one controller.
    Scsi,
    /// The chipset's SATA (q35): any guest. At most six with the CD-ROM drives.
    Sata,
    /// An NVMe controller of its own.
    Nvme,
    /// The chipset's IDE (i440fx): old guests. At most four with the CD-ROM drives.
    Ide,
}

/// How writes are cached on the host (QEMU's `cache`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum Cache {
    /// The host's page cache; written out when the guest asks.
    #[default]
    Writeback,
    /// Past the page cache (O_DIRECT).
    None,
    /// Each write is on the disk before the guest goes on.
    Writethrough,
    /// What the guest asks to be written out may not be: for throw-away guests.
    Unsafe,
}

/// What becomes of blocks the guest frees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum Discard {
    /// The file gives them back.
    #[default]
    Unmap,
    /// They stay.
    Ignore,
}

/// A fixed disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Disk {
    /// Its id in the machine.
    pub id: DeviceId,
    /// Absolute path of the image.
    #[ts(type = "string")]
    pub file: PathBuf,
    /// Format of the image; always stated to QEMU, never guessed by it.
    pub format: DiskFormat,
    /// Whether the file goes with the machine.
    pub owner: FileOwner,
    /// What it is plugged into.
    #[serde(default)]
    pub bus: DiskBus,
    /// How writes are cached.
    #[serde(default)]
    pub cache: Cache,
    /// What becomes of freed blocks.
    #[serde(default)]
    pub discard: Discard,
    /// Whether a thread of its own does its work; virtio and SCSI only.
    #[serde(default)]
    pub iothread: bool,
    /// Whether the guest may only read; not on SATA or IDE.
    #[serde(default)]
    pub read_only: bool,
    /// Names the key in the keychain, where the image is encrypted (LUKS).
    #[serde(default)]
    pub key: Option<SecretId>,
}

impl Disk {
    /// A disk on virtio-blk with the usual options.
    #[must_use]
    pub const fn new(id: DeviceId, file: PathBuf, format: DiskFormat, owner: FileOwner) -> Self {
        Self {
            id,
            file,
            format,
            owner,
            bus: DiskBus::Virtio,
            cache: Cache::Writeback,
            discard: Discard::Unmap,
            iothread: false,
            read_only: false,
            key: None,
        }
    }
}

/// A CD-ROM drive: SATA on q35, IDE on i440fx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cdrom {
    /// Its id in the machine.
    pub id: DeviceId,
    /// Absolute path of the ISO in it; empty drive without.
    #[ts(type = "string | null")]
    pub file: Option<PathBuf>,
}
