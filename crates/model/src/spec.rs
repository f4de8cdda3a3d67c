//! What a machine is: the versioned specification that is stored, validated and turned into QEMU arguments.
//!
//! A specification holds nothing of a run (pids, sockets) and nothing of this host but file paths. [`MachineSpec::validate`]
//! checks what can be checked without I/O; whether files exist and memory suffices is asked at create and at start.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::error::ErrorBody;
use crate::ids::DeviceId;
use crate::units::{Bytes, MiB};

/// The newest [`MachineSpec::version`] this build writes; a newer one is refused, an older one is read.
pub const SPEC_VERSION: u32 = 1;
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
    /// Virtual CPUs, [`CPUS`].
    pub cpus: u16,
    /// Memory, [`MEMORY`].
    pub memory: MiB,
    /// What starts the guest.
    pub firmware: Firmware,
    /// Which acceleration to use.
    pub accel: Accel,
    /// Fixed disks, in boot order.
    pub disks: Vec<Disk>,
    /// CD-ROM drives; booted before the disks when [`MachineSpec::boot_from_cdrom`] says so.
    pub cdroms: Vec<Cdrom>,
    /// Network cards.
    pub nics: Vec<Nic>,
    /// Whether a CD-ROM with a medium comes before the disks at boot.
    pub boot_from_cdrom: bool,
}

/// Chipset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum MachineType {
    /// PCI Express, the present standard.
    Q35,
}

/// What starts the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF, with variables of the machine's own in a qcow2 file.
    Uefi,
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

/// A fixed disk (virtio-blk).
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
}

/// A CD-ROM drive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cdrom {
    /// Its id in the machine.
    pub id: DeviceId,
    /// Absolute path of the ISO in it; empty drive without.
    #[ts(type = "string | null")]
    pub file: Option<PathBuf>,
}

/// A network card (virtio-net).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Nic {
    /// Its id in the machine.
    pub id: DeviceId,
    /// Its hardware address.
    pub mac: MacAddr,
    /// What it is plugged into.
    pub network: NetworkBackend,
}

/// What a network card is plugged into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind", deny_unknown_fields)]
pub enum NetworkBackend {
    /// User-mode NAT inside QEMU (libslirp), no root.
    User {
        /// Host ports that lead into the guest.
        forwards: Vec<PortForward>,
    },
}

/// Transport protocol of a forward.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, TS,
)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A host port that leads to a port of the guest.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, TS,
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortForward {
    /// Transport protocol.
    pub protocol: Protocol,
    /// The host's address to bind; loopback by default.
    #[serde(default = "loopback")]
    #[schemars(with = "String")]
    #[ts(type = "string")]
    pub host_address: Ipv4Addr,
    /// The host's port, 1024 to 65535 (an ordinary user cannot bind below).
    pub host_port: u16,
    /// The guest's port, 1 to 65535.
    pub guest_port: u16,
}

const fn loopback() -> Ipv4Addr {
    Ipv4Addr::LOCALHOST
}

impl PortForward {
    /// A TCP forward from loopback.
    #[must_use]
    pub const fn tcp(host_port: u16, guest_port: u16) -> Self {
        Self { protocol: Protocol::Tcp, host_address: Ipv4Addr::LOCALHOST, host_port, guest_port }
    }

    /// Whether both cannot be bound at the same time.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.host_port == other.host_port
            && (self.host_address == other.host_address
                || self.host_address.is_unspecified()
                || other.host_address.is_unspecified())
    }
}

impl std::str::FromStr for PortForward {
    type Err = ErrorBody;

    /// Reads the command line's `HOSTPORT:GUESTPORT[/udp]`, bound to loopback.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            ErrorBody::invalid("forward", format!("{text:?} is not a port forward"))
                .with_hint("Write HOSTPORT:GUESTPORT, or HOSTPORT:GUESTPORT/udp.")
        };
        let (ports, protocol) = match text.rsplit_once('/') {
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some(_) => return Err(wrong()),
            None => (text, Protocol::Tcp),
        };
        let (host, guest) = ports.split_once(':').ok_or_else(wrong)?;
        let port = |digits: &str| digits.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
        Ok(Self {
            protocol,
            host_address: Ipv4Addr::LOCALHOST,
            host_port: port(host)?,
            guest_port: port(guest)?,
        })
    }
}

/// An Ethernet hardware address; unicast.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, TS,
)]
#[serde(try_from = "String", into = "String")]
#[ts(type = "string")]
#[schemars(with = "String")]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// An address in QEMU's own range (52:54:00) with the given tail.
    #[must_use]
    pub const fn qemu(tail: [u8; 3]) -> Self {
        Self([0x52, 0x54, 0x00, tail[0], tail[1], tail[2]])
    }
}

impl std::fmt::Display for MacAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

impl TryFrom<String> for MacAddr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = || format!("{text:?} is not a unicast MAC address like 52:54:00:12:34:56");
        let mut bytes = [0_u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let two_digits = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
            let part = parts.next().filter(two_digits).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() || bytes[0] & 1 == 1 {
            return Err(wrong());
        }
        Ok(Self(bytes))
    }
}

/// Checks a machine's name: 1 to [`NAME_MAX`] characters, none of them a control character, no space at either end.
///
/// Names are for people; file names and QEMU get the id instead, so any script and any punctuation is fine.
///
/// # Errors
/// [`ErrorCode::InvalidInput`](crate::ErrorCode::InvalidInput) with the field `name`.
pub fn validate_name(name: &str) -> Result<(), ErrorBody> {
    let wrong = |message: &str, hint: &str| Err(ErrorBody::invalid("name", message).with_hint(hint));
    if name.is_empty() {
        return wrong("The name is empty.", "Give the machine a name.");
    }
    if name.chars().count() > NAME_MAX {
        return wrong("The name is too long.", "Use at most 100 characters.");
    }
    if name.trim() != name {
        return wrong("The name begins or ends with a space.", "Remove the space.");
    }
    if name.chars().any(|c| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
    {
        return wrong(
            "The name has a character that cannot be shown.",
            "Remove line breaks and control characters.",
        );
    }
    if uuid::Uuid::parse_str(name).is_ok() {
        return wrong("The name looks like an id.", "Choose a name that is not a UUID.");
    }
    Ok(())
}

impl MachineSpec {
    /// Checks everything that can be checked without looking at the host.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidInput`](crate::ErrorCode::InvalidInput) with the first field that does not hold, as a path from
    /// `spec`.
    pub fn validate(&self) -> Result<(), ErrorBody> {
        if self.version == 0 || self.version > SPEC_VERSION {
            return Err(ErrorBody::invalid(
                "spec.version",
                format!("This machine was written by a newer voidVM (format {}).", self.version),
            )
            .with_hint("Update voidVM."));
        }
        if !CPUS.contains(&self.cpus) {
            return Err(ErrorBody::invalid("spec.cpus", format!("{} CPUs cannot be had.", self.cpus))
                .with_hint("Choose 1 to 255."));
        }
        if !MEMORY.contains(&self.memory.0) {
            return Err(ErrorBody::invalid(
                "spec.memory",
                format!("{} MiB of memory cannot be had.", self.memory.0),
            )
            .with_hint("Choose 32 MiB to 4 TiB."));
        }
        let mut ids = BTreeSet::new();
        let mut unique = |field: String, id: &DeviceId| {
            if ids.insert(id.clone()) {
                Ok(())
            } else {
                Err(ErrorBody::invalid(field, format!("The device id {id} is used twice.")))
            }
        };
        let mut files = BTreeSet::new();
        for (index, disk) in self.disks.iter().enumerate() {
            unique(format!("spec.disks[{index}].id"), &disk.id)?;
            let field = format!("spec.disks[{index}].file");
            validate_path(&field, &disk.file)?;
            if !files.insert(&disk.file) {
                return Err(ErrorBody::invalid(field, "The same file is used for two disks."));
            }
        }
        for (index, cdrom) in self.cdroms.iter().enumerate() {
            unique(format!("spec.cdroms[{index}].id"), &cdrom.id)?;
            if let Some(file) = &cdrom.file {
                validate_path(&format!("spec.cdroms[{index}].file"), file)?;
            }
        }
        let mut macs = BTreeSet::new();
        let mut forwards: Vec<PortForward> = Vec::new();
        for (index, nic) in self.nics.iter().enumerate() {
            unique(format!("spec.nics[{index}].id"), &nic.id)?;
            if !macs.insert(nic.mac) {
                return Err(ErrorBody::invalid(
                    format!("spec.nics[{index}].mac"),
                    "The MAC address is used twice.",
                ));
            }
            let NetworkBackend::User { forwards: own } = &nic.network;
            for (at, forward) in own.iter().enumerate() {
                validate_forward(&format!("spec.nics[{index}].network.forwards[{at}]"), forward, &forwards)?;
                forwards.push(*forward);
            }
        }
        for (field, count, most) in [
            ("spec.disks", self.disks.len(), 16),
            ("spec.cdroms", self.cdroms.len(), 4),
            ("spec.nics", self.nics.len(), 8),
        ] {
            if count > most {
                return Err(ErrorBody::invalid(field, format!("{count} are too many; at most {most}.")));
            }
        }
        Ok(())
    }

    /// Every port forward of every card.
    pub fn forwards(&self) -> impl Iterator<Item = &PortForward> {
        self.nics.iter().flat_map(|nic| {
            let NetworkBackend::User { forwards } = &nic.network;
            forwards
        })
    }
}

fn validate_forward(field: &str, forward: &PortForward, earlier: &[PortForward]) -> Result<(), ErrorBody> {
    if forward.host_port < 1024 {
        return Err(ErrorBody::invalid(
            format!("{field}.hostPort"),
            format!("An ordinary user cannot open host port {}.", forward.host_port),
        )
        .with_hint("Choose a port from 1024 to 65535."));
    }
    if forward.guest_port == 0 {
        return Err(ErrorBody::invalid(format!("{field}.guestPort"), "Port 0 does not exist.")
            .with_hint("Choose a port from 1 to 65535."));
    }
    if earlier.iter().any(|other| other.conflicts(forward)) {
        return Err(ErrorBody::invalid(
            format!("{field}.hostPort"),
            format!("Host port {} is forwarded twice.", forward.host_port),
        )
        .with_hint("Choose another host port."));
    }
    Ok(())
}

/// Checks that a path can be handed to QEMU: absolute, valid Unicode, without NUL or line breaks, without `.`/`..` steps.
///
/// Commas, quotes, colons and spaces are fine: arguments are JSON, never a comma list, never a shell's.
///
/// # Errors
/// [`ErrorCode::InvalidInput`](crate::ErrorCode::InvalidInput) with `field`.
pub fn validate_path(field: &str, path: &Path) -> Result<(), ErrorBody> {
    let Some(text) = path.to_str() else {
        return Err(ErrorBody::invalid(field, "The path is not valid Unicode.").with_hint("Rename the file."));
    };
    if !path.is_absolute() {
        return Err(ErrorBody::invalid(field, format!("{text:?} is not an absolute path."))
            .with_hint("Begin the path with /."));
    }
    if text.chars().any(char::is_control) {
        return Err(ErrorBody::invalid(field, "The path has a line break or another control character.")
            .with_hint("Rename the file."));
    }
    if path.components().any(|part| matches!(part, std::path::Component::ParentDir)) {
        return Err(
            ErrorBody::invalid(field, "The path has a .. step.").with_hint("Write the path without it.")
        );
    }
    if text.len() > 4095 {
        return Err(ErrorBody::invalid(field, "The path is longer than Linux allows."));
    }
    Ok(())
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
