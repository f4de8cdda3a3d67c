//! What a machine is: the versioned specification that is stored, validated and turned into QEMU arguments.
//!
//! A specification holds nothing of a run (pids, sockets) and nothing of this host but file paths. [`MachineSpec::validate`]
//! checks what can be checked without I/O; whether files exist and memory suffices is asked at create and at start.

mod device;
mod disk;
mod network;
mod platform;
mod validate;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::units::{Bytes, MiB};

pub use device::{Audio, Channel, ChannelKind, Display, Share, ShareKind, UsbDevice, Watchdog};
pub use disk::{Cache, Cdrom, Discard, Disk, DiskBus, DiskFormat, FileOwner};
pub use network::{MacAddr, NetworkBackend, Nic, NicModel, PortForward, Protocol, UserStack};
pub use platform::{Accel, CpuModel, CpuTopology, Firmware, GuestClock, MachineType, MachineVersion};
pub use validate::{validate_name, validate_path};

/// The newest [`MachineSpec::version`] this build writes; a newer one is refused, an older one is read: what it lacks has the
/// value it always had.
pub const SPEC_VERSION: u32 = 2;
/// Bounds of [`MachineSpec::cpus`].
pub const CPUS: std::ops::RangeInclusive<u16> = 1..=255;
/// Bounds of [`MachineSpec::memory`]: below 32 MiB no firmware starts.
pub const MEMORY: std::ops::RangeInclusive<u64> = 32..=4 * 1024 * 1024;
/// Bounds of a new disk: 1 MiB to 64 TiB.
pub const DISK_SIZE: std::ops::RangeInclusive<u64> = (1 << 20)..=(64 << 40);
/// The longest name (scope: `name ≤ 100`), in characters.
pub const NAME_MAX: usize = 100;

/// The whole of a machine's hardware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MachineSpec {
    /// Format of this document; [`SPEC_VERSION`].
    pub version: u32,
    /// Chipset.
    pub machine: MachineType,
    /// Which revision of the chipset, pinned so that an upgraded QEMU changes nothing under the guest; set at the first start
    /// when it is not.
    #[serde(default)]
    pub machine_version: Option<MachineVersion>,
    /// Virtual CPUs the guest starts with, [`CPUS`].
    pub cpus: u16,
    /// Virtual CPUs it can be given while it runs; as many as [`MachineSpec::cpus`] without.
    #[serde(default)]
    pub max_cpus: Option<u16>,
    /// How they are arranged; one socket without. Its product is the most virtual CPUs there can be.
    #[serde(default)]
    pub topology: Option<CpuTopology>,
    /// What they look like.
    #[serde(default)]
    pub cpu_model: CpuModel,
    /// Memory the guest starts with, [`MEMORY`].
    pub memory: MiB,
    /// Memory it can be given while it runs; none beyond [`MachineSpec::memory`] without.
    #[serde(default)]
    pub max_memory: Option<MiB>,
    /// Whether the guest can give memory back while it runs (virtio-balloon).
    #[serde(default = "yes")]
    pub balloon: bool,
    /// What starts the guest.
    pub firmware: Firmware,
    /// Whether there is a TPM 2.0 (swtpm; its state is beside the machine).
    #[serde(default)]
    pub tpm: bool,
    /// Which acceleration to use.
    pub accel: Accel,
    /// Whether the guest is told that it runs under Hyper-V: Windows runs better so.
    #[serde(default)]
    pub hyperv: bool,
    /// What the guest's hardware clock shows.
    #[serde(default)]
    pub clock: GuestClock,
    /// Fixed disks, in boot order.
    pub disks: Vec<Disk>,
    /// CD-ROM drives; booted before the disks when [`MachineSpec::boot_from_cdrom`] says so.
    pub cdroms: Vec<Cdrom>,
    /// Network cards.
    pub nics: Vec<Nic>,
    /// Whether a CD-ROM with a medium comes before the disks at boot.
    pub boot_from_cdrom: bool,
    /// Graphics card.
    #[serde(default)]
    pub display: Display,
    /// Sound card.
    #[serde(default)]
    pub audio: Audio,
    /// Devices of the host that the guest is lent.
    #[serde(default)]
    pub usb: Vec<UsbDevice>,
    /// Folders of the host that the guest can mount.
    #[serde(default)]
    pub shares: Vec<Share>,
    /// Lines to programs on the host, each a unix socket.
    #[serde(default)]
    pub channels: Vec<Channel>,
    /// Whether the guest gets the host's random numbers (virtio-rng).
    #[serde(default = "yes")]
    pub rng: bool,
    /// What happens when the guest's watchdog is not fed; no watchdog without.
    #[serde(default)]
    pub watchdog: Option<Watchdog>,
    /// Whether programs in the guest and on the host can reach each other without a network (vhost-vsock).
    #[serde(default)]
    pub vsock: bool,
    /// Whether copied text crosses between guest and host (SPICE agent in the guest).
    #[serde(default)]
    pub clipboard: bool,
    /// More arguments for QEMU, one word each, at the user's own risk; never through a shell.
    #[serde(default)]
    pub extra_args: Vec<String>,
}

const fn yes() -> bool {
    true
}

impl MachineSpec {
    /// A machine with the hardware every guest gets along with, without disk, drive or network card.
    #[must_use]
    pub const fn new(cpus: u16, memory: MiB) -> Self {
        Self {
            version: SPEC_VERSION,
            machine: MachineType::Q35,
            machine_version: None,
            cpus,
            max_cpus: None,
            topology: None,
            cpu_model: CpuModel::Auto,
            memory,
            max_memory: None,
            balloon: true,
            firmware: Firmware::Bios,
            tpm: false,
            accel: Accel::Auto,
            hyperv: false,
            clock: GuestClock::Utc,
            disks: Vec::new(),
            cdroms: Vec::new(),
            nics: Vec::new(),
            boot_from_cdrom: false,
            display: Display::Virtio,
            audio: Audio::None,
            usb: Vec::new(),
            shares: Vec::new(),
            channels: Vec::new(),
            rng: true,
            watchdog: None,
            vsock: false,
            clipboard: false,
            extra_args: Vec::new(),
        }
    }

    /// Every port forward of every card.
    pub fn forwards(&self) -> impl Iterator<Item = &PortForward> {
        self.nics.iter().flat_map(|nic| nic.network.forwards())
    }
}

/// What a machine's files take, each with its size: what a deletion names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct MachineFile {
    /// Absolute path.
    pub path: String,
    /// What it takes on the disk (allocated, not apparent).
    pub size: Bytes,
    /// Whether it goes with the machine.
    pub owner: FileOwner,
}
