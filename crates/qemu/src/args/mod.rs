//! A machine's specification as QEMU's argument list; pure.
//!
//! Invariants:
//! * No input adds an option of its own. Whatever a user can choose (paths, forwards, device ids) goes into JSON values; the
//!   places QEMU offers no JSON for (`-name`, `-chardev`, `-fsdev`) are comma lists in which commas are doubled. The one
//!   exception is what is meant to be one: the user's own arguments, at the end, each a word of its own.
//! * The number of options depends on the shape of the specification alone, never on its texts.
//! * Ids of ours contain a dot, which a [`DeviceId`](voidvm_model::DeviceId) cannot: the two never collide.
//! * QEMU listens nowhere but on unix sockets of ours and on the forwards the specification names.
//! * PCI addresses are fixed per device, so that a change of one device never renames another inside the guest.
//! * No secret: keys are read from files that are named.

mod error;
mod machine;
mod parts;
mod place;
mod platform;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use voidvm_model::spec::{Disk, DiskBus, NetworkBackend, UserStack};
use voidvm_model::vm::ActiveAccel;
use voidvm_model::{DeviceId, MachineSpec, VmId};

use crate::probe::Capabilities;
use place::Places;

pub use error::ArgsError;
pub use machine::{MEMORY_SLOTS, shared_memory};
pub use parts::{
    FileMemory, Seat, Sharing, disk_device, disk_key, disk_node, disk_thread, key_object, memory_backend,
    memory_file, nic_backend, nic_device, usb_device,
};

/// The longest path of a unix socket: `sun_path` less its NUL.
pub const SOCKET_PATH_MAX: usize = 107;
/// The QOM path of the balloon, where the guest's memory statistics are.
pub const BALLOON_PATH: &str = "/machine/peripheral/vv.balloon";
/// Seconds between two reports of the guest's memory statistics.
pub const BALLOON_INTERVAL: u8 = 2;
/// Free PCI Express ports of each machine on Q35, for devices plugged in while it runs: `vv.spare0` to `vv.spare3`.
pub const SPARE_PORTS: u8 = 4;

/// Where the files and sockets of one run are, and what of the host it is given.
///
/// Whatever a specification asks for and this does not hold is an [`ArgsError`], never left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaunchPaths {
    /// The monitor's socket.
    pub qmp: PathBuf,
    /// The serial console's socket.
    pub serial: PathBuf,
    /// What the guest wrote to its serial console; appended to.
    pub serial_log: PathBuf,
    /// The guest agent's socket.
    pub agent: PathBuf,
    /// OVMF's code; needed for UEFI. With Secure Boot, a build that asks for SMM.
    pub uefi_code: Option<PathBuf>,
    /// The machine's own UEFI variables, qcow2; needed for UEFI.
    pub uefi_vars: Option<PathBuf>,
    /// For each encrypted disk a file with its key, the bytes and no more. QEMU reads it while it starts; the file can go as
    /// soon as the monitor answers.
    pub keys: BTreeMap<DeviceId, PathBuf>,
    /// swtpm's control socket; needed for a TPM.
    pub tpm: Option<PathBuf>,
    /// For each card that uses passt, the number of the descriptor QEMU inherits, connected to it.
    pub passt: BTreeMap<DeviceId, u32>,
    /// virtiofsd's socket, for each folder that uses it.
    pub shares: BTreeMap<DeviceId, PathBuf>,
    /// The socket QEMU makes for each channel.
    pub channels: BTreeMap<DeviceId, PathBuf>,
    /// The guest's vsock address, 3 or more; needed for vsock.
    pub vsock_cid: Option<u32>,
    /// Where the guest's sound goes.
    pub sound: HostSound,
}

/// What plays the guest's sound on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostSound {
    /// Nothing: the guest has its card, and nobody hears it.
    #[default]
    Silent,
    /// PipeWire (QEMU 8.1 or newer).
    Pipewire,
    /// PulseAudio, or PipeWire in its place.
    Pulse,
}

/// The arguments QEMU is started with, its own path left out.
///
/// The machine is held (`-S`) until the monitor says `cont`. `caps` says what this QEMU has; the same input gives the same
/// list.
///
/// # Errors
/// [`ArgsError`]: nothing is left out silently.
pub fn build(
    id: VmId,
    name: &str,
    spec: &MachineSpec,
    accel: ActiveAccel,
    paths: &LaunchPaths,
    caps: &Capabilities,
) -> Result<Vec<OsString>, ArgsError> {
    spec.validate().map_err(ArgsError::Spec)?;
    if name.chars().any(char::is_control) {
        return Err(ArgsError::Name(name.to_owned()));
    }
    machine::check(spec, caps)?;
    let places = Places { machine: spec.machine };
    let mut list = ArgList(Vec::with_capacity(128));
    list.option("-name", self::name(name));
    list.option("-uuid", id.to_string());
    list.flag("-S").flag("-nodefaults").flag("-no-user-config");
    list.option("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    list.option("-msg", "timestamp=on");
    machine::machine(&mut list, spec, accel);
    // The screen is handed over later as a socket pair (`add_client`): nothing listens.
    list.option("-display", "none").option("-vnc", "none");
    platform::consoles(&mut list, paths)?;
    if spec.firmware.is_uefi() {
        let (Some(code), Some(vars)) = (&paths.uefi_code, &paths.uefi_vars) else {
            return Err(ArgsError::FirmwareMissing);
        };
        platform::flash(&mut list, code, vars)?;
    }
    platform::screen_and_pointer(&mut list, spec, &places);
    platform::lines(&mut list, spec, paths, &places)?;
    platform::balloon_and_random(&mut list, spec, &places);
    disks(&mut list, spec, paths, &places)?;
    cdroms(&mut list, spec, &places)?;
    nics(&mut list, spec, paths, &places)?;
    for port in places.spare_ports() {
        list.json("-device", &port);
    }
    platform::sound(&mut list, spec, paths, &places);
    for device in &spec.usb {
        list.json("-device", &usb_device(device));
    }
    platform::shares(&mut list, spec, paths, &places)?;
    platform::tpm(&mut list, spec, paths)?;
    platform::watchdog_and_vsock(&mut list, spec, paths, &places)?;
    list.0.extend(spec.extra_args.iter().map(OsString::from));
    Ok(list.0)
}

/// What a process of a machine of this name is called.
#[must_use]
pub fn name(machine: &str) -> String {
    format!("guest={},debug-threads=on", double_commas(machine))
}

/// Fixed disks, on PCI each in a place of its own.
fn disks(
    list: &mut ArgList,
    spec: &MachineSpec,
    paths: &LaunchPaths,
    places: &Places,
) -> Result<(), ArgsError> {
    let on = |bus: DiskBus| spec.disks.iter().filter(move |disk| disk.bus == bus);
    // One controller, so one thread for all SCSI disks.
    if on(DiskBus::Scsi).count() > 0 {
        let mut controller = places.fixed("virtio-scsi-pci", "vv.scsi", place::SCSI);
        if on(DiskBus::Scsi).any(|disk| disk.iothread) {
            list.json("-object", &json!({"qom-type": "iothread", "id": "vv.thread.scsi"}));
            controller["iothread"] = "vv.thread.scsi".into();
        }
        list.json("-device", &controller);
    }
    let before = if spec.boot_from_cdrom { spec.cdroms.len() } else { 0 };
    let (mut on_pci, mut on_scsi, mut on_chipset) = (0, 0, 0);
    let next = |count: &mut usize| std::mem::replace(count, *count + 1);
    for (index, disk) in spec.disks.iter().enumerate() {
        if let Some(key) = key(disk, index, paths)? {
            list.json("-object", &json!({"qom-type": "secret", "id": disk_key(disk), "file": text(key)?}));
        }
        list.json("-blockdev", &disk_node(disk)?);
        let seat = match disk.bus {
            DiskBus::Virtio | DiskBus::Nvme => {
                let (port, seat) = places.disk(next(&mut on_pci));
                if let Some(port) = port {
                    list.json("-device", &port);
                }
                seat
            }
            DiskBus::Scsi => Seat::Scsi { target: next(&mut on_scsi) },
            DiskBus::Sata | DiskBus::Ide => places.chipset_disk(next(&mut on_chipset), spec.cdroms.len()),
        };
        if let Some(thread) = disk_thread(disk) {
            list.json("-object", &thread);
        }
        let mut device = disk_device(disk, &seat);
        device["bootindex"] = (before + index).into();
        list.json("-device", &device);
    }
    Ok(())
}

fn key<'a>(disk: &Disk, index: usize, paths: &'a LaunchPaths) -> Result<Option<&'a Path>, ArgsError> {
    if disk.key.is_none() {
        return Ok(None);
    }
    let key = paths.keys.get(&disk.id);
    key.map(|key| Some(key.as_path()))
        .ok_or_else(|| ArgsError::KeyMissing { field: format!("spec.disks[{index}].key") })
}

/// CD-ROM drives on the chipset's own SATA or IDE; a drive may be empty.
fn cdroms(list: &mut ArgList, spec: &MachineSpec, places: &Places) -> Result<(), ArgsError> {
    let before = if spec.boot_from_cdrom { 0 } else { spec.disks.len() };
    for (index, cdrom) in spec.cdroms.iter().enumerate() {
        let id = cdrom.id.as_str();
        let mut drive = json!({"driver": "ide-cd", "id": id, "bootindex": before + index});
        places.cdrom(index).put(&mut drive);
        if let Some(file) = &cdrom.file {
            list.json(
                "-blockdev",
                &json!({
                    "driver": "raw", "node-name": id, "read-only": true,
                    "file": {"driver": "file", "filename": text(file)?},
                }),
            );
            drive["drive"] = id.into();
        }
        list.json("-device", &drive);
    }
    Ok(())
}

/// Network cards, each in a place of its own.
fn nics(
    list: &mut ArgList,
    spec: &MachineSpec,
    paths: &LaunchPaths,
    places: &Places,
) -> Result<(), ArgsError> {
    for (index, nic) in spec.nics.iter().enumerate() {
        let passt = match &nic.network {
            NetworkBackend::User { stack: UserStack::Passt, .. } => {
                let missing = || ArgsError::CompanionMissing {
                    field: format!("spec.nics[{index}].network.stack"),
                    program: "passt",
                };
                Some(*paths.passt.get(&nic.id).ok_or_else(missing)?)
            }
            _ => None,
        };
        if let Some(backend) = nic_backend(nic, passt) {
            list.json("-netdev", &backend);
        }
        let (port, seat) = places.nic(index);
        if let Some(port) = port {
            list.json("-device", &port);
        }
        list.json("-device", &nic_device(nic, &seat));
    }
    Ok(())
}

/// Options in order; the only way anything gets on the list.
struct ArgList(Vec<OsString>);

impl ArgList {
    fn flag(&mut self, option: &'static str) -> &mut Self {
        self.0.push(option.into());
        self
    }

    fn option(&mut self, option: &'static str, value: impl Into<String>) -> &mut Self {
        self.0.push(option.into());
        self.0.push(value.into().into());
        self
    }

    fn json(&mut self, option: &'static str, value: &Value) -> &mut Self {
        self.option(option, value.to_string())
    }
}

/// A value of a comma list: QEMU reads two commas as one that does not separate.
fn double_commas(value: &str) -> String {
    value.replace(',', ",,")
}

fn text(path: &Path) -> Result<&str, ArgsError> {
    voidvm_model::spec::validate_path("path", path)
        .ok()
        .and_then(|()| path.to_str())
        .ok_or_else(|| ArgsError::Path(path.to_owned()))
}

fn socket(path: &Path) -> Result<&str, ArgsError> {
    if path.as_os_str().len() > SOCKET_PATH_MAX {
        return Err(ArgsError::SocketPathTooLong(path.to_owned()));
    }
    text(path)
}
