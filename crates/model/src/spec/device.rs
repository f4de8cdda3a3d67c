//! Screen, sound, USB, folders and lines.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::ids::DeviceId;

/// Graphics card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum Display {
    /// virtio-vga; the screen can follow the window.
    #[default]
    Virtio,
    /// Plain VGA: any guest.
    Std,
    /// QXL, where this QEMU has it.
    Qxl,
}

/// Sound card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum Audio {
    /// None.
    #[default]
    None,
    /// Intel HD Audio, heard through the host's PipeWire or PulseAudio where there is one.
    Hda,
}

/// A USB device of the host that the guest is lent whenever it is plugged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UsbDevice {
    /// Its id in the machine.
    pub id: DeviceId,
    /// The maker's number, as `lsusb` shows it.
    pub vendor_id: u16,
    /// The product's number.
    pub product_id: u16,
    /// What it called itself when it was chosen.
    #[serde(default)]
    pub name: String,
}

/// A folder of the host that the guest can mount by its tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Share {
    /// Its id in the machine.
    pub id: DeviceId,
    /// What the guest mounts: a letter, then letters, digits, `-` or `_`; 31 at most (9p allows no more).
    pub tag: String,
    /// Absolute path of the folder.
    #[ts(type = "string")]
    pub folder: PathBuf,
    /// How it reaches the guest.
    pub kind: ShareKind,
    /// Whether the guest may only read.
    #[serde(default)]
    pub read_only: bool,
}

/// How a folder reaches the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum ShareKind {
    /// virtiofs: fast, Linux 5.4 or Windows with the virtio drivers; needs virtiofsd and shared memory.
    Virtiofs,
    /// 9p inside QEMU: slower, any Linux.
    NineP,
}

/// A line between the guest and programs on the host: a unix socket in the machine's runtime directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Channel {
    /// Its id in the machine.
    pub id: DeviceId,
    /// What the guest sees.
    pub kind: ChannelKind,
    /// For [`ChannelKind::Virtio`], its name below `/dev/virtio-ports`: letters, digits, `.`, `-`, `_`; 64 at most.
    #[serde(default)]
    pub name: String,
}

/// What a channel is to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum ChannelKind {
    /// A second, third or fourth serial port.
    Serial,
    /// A named virtio port.
    Virtio,
}

/// What happens when the guest's watchdog (i6300esb) is not fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum Watchdog {
    /// The machine is reset.
    Reset,
    /// The guest is asked to shut down.
    Shutdown,
    /// The process ends.
    Poweroff,
    /// The guest is held.
    Pause,
    /// Nothing; it is noted.
    None,
}
