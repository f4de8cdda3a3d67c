//! Devices as QEMU is told of them, on its command line and over the monitor alike: what is plugged in while a machine runs is
//! what its next start has.

use std::path::Path;

use serde_json::{Value, json};
use voidvm_model::Bytes;
use voidvm_model::spec::{
    Cache, Discard, Disk, DiskBus, DiskFormat, NetworkBackend, Nic, NicModel, PortForward, Protocol,
    UsbDevice, UserStack,
};

use super::{ArgsError, text};
use crate::probe::QemuVersion;

/// The most bytes of a disk's serial number on SATA, IDE and NVMe.
const SERIAL: usize = 20;

/// Who sees a piece of the guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// QEMU alone.
    Private,
    /// Programs beside QEMU too.
    Shared,
}

/// Where a device is plugged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seat {
    /// A PCI bus.
    Pci {
        /// The bus.
        bus: String,
        /// Slot and function, where it is not a port with room for one.
        addr: Option<String>,
        /// Whether it is the first function of a slot that others may share.
        first_of_many: bool,
    },
    /// The SCSI controller.
    Scsi {
        /// Its number there.
        target: usize,
    },
    /// The chipset's SATA or IDE.
    Drive {
        /// SATA port or IDE cable.
        bus: String,
        /// First or second of an IDE cable.
        unit: Option<usize>,
    },
}

impl Seat {
    /// A PCI Express port, such as a spare one.
    #[must_use]
    pub fn port(id: &str) -> Self {
        Self::Pci { bus: id.to_owned(), addr: None, first_of_many: false }
    }

    pub(super) fn put(&self, device: &mut Value) {
        match self {
            Self::Pci { bus, addr, first_of_many } => {
                device["bus"] = bus.as_str().into();
                if let Some(addr) = addr {
                    device["addr"] = addr.as_str().into();
                }
                if *first_of_many {
                    device["multifunction"] = true.into();
                }
            }
            Self::Scsi { target } => {
                device["bus"] = "vv.scsi.0".into();
                device["scsi-id"] = (*target).into();
            }
            Self::Drive { bus, unit } => {
                device["bus"] = bus.as_str().into();
                if let Some(unit) = unit {
                    device["unit"] = (*unit).into();
                }
            }
        }
    }
}

/// The id of the secret object that holds an encrypted disk's key; it has to be there before [`disk_node`].
#[must_use]
pub fn disk_key(disk: &Disk) -> String {
    format!("vv.key.{}", disk.id)
}

/// The secret object itself, for the monitor; never for a command line, which every user can read.
#[must_use]
pub fn key_object(disk: &Disk, key: &str) -> Value {
    json!({"qom-type": "secret", "id": disk_key(disk), "data": key})
}

/// A disk's file, `blockdev-add`.
///
/// # Errors
/// [`ArgsError::Path`].
pub fn disk_node(disk: &Disk) -> Result<Value, ArgsError> {
    let discard = match disk.discard {
        Discard::Unmap => "unmap",
        Discard::Ignore => "ignore",
    };
    let mut file = json!({"driver": "file", "filename": text(&disk.file)?, "discard": discard});
    let mut node = json!({"node-name": disk.id.as_str(), "discard": discard});
    match disk.cache {
        Cache::Writeback | Cache::Writethrough => {}
        Cache::None => {
            file["cache"] = json!({"direct": true});
            node["cache"] = json!({"direct": true});
        }
        Cache::Unsafe => {
            file["cache"] = json!({"no-flush": true});
            node["cache"] = json!({"no-flush": true});
        }
    }
    if disk.read_only {
        node["read-only"] = true.into();
    }
    node["driver"] = match (disk.format, &disk.key) {
        (DiskFormat::Qcow2, None) => "qcow2",
        (DiskFormat::Qcow2, Some(_)) => {
            node["encrypt"] = json!({"format": "luks", "key-secret": disk_key(disk)});
            "qcow2"
        }
        (DiskFormat::Raw, None) => "raw",
        (DiskFormat::Raw, Some(_)) => {
            node["key-secret"] = disk_key(disk).into();
            "luks"
        }
    }
    .into();
    node["file"] = file;
    Ok(node)
}

/// The thread a virtio disk wants for itself, `object-add`; before [`disk_device`].
#[must_use]
pub fn disk_thread(disk: &Disk) -> Option<Value> {
    let wanted = disk.iothread && disk.bus == DiskBus::Virtio;
    wanted.then(|| json!({"qom-type": "iothread", "id": thread(disk)}))
}

fn thread(disk: &Disk) -> String {
    format!("vv.thread.{}", disk.id)
}

/// A disk as the guest sees it, `device_add`; after [`disk_node`].
#[must_use]
pub fn disk_device(disk: &Disk, seat: &Seat) -> Value {
    let id = disk.id.as_str();
    let driver = match disk.bus {
        DiskBus::Virtio => "virtio-blk-pci",
        DiskBus::Scsi => "scsi-hd",
        DiskBus::Sata | DiskBus::Ide => "ide-hd",
        DiskBus::Nvme => "nvme",
    };
    let mut device = json!({"driver": driver, "id": id, "drive": id});
    seat.put(&mut device);
    if disk.bus != DiskBus::Nvme {
        // A full host disk holds the guest until there is room; it does not corrupt its file system. QEMU's NVMe cannot.
        device["werror"] = "enospc".into();
        device["rerror"] = "report".into();
    }
    if disk.bus != DiskBus::Virtio {
        // QEMU's own numbers change with the order of disks.
        device["serial"] = id.chars().take(SERIAL).collect::<String>().into();
    }
    if disk.cache == Cache::Writethrough {
        device["write-cache"] = "off".into();
    }
    if disk_thread(disk).is_some() {
        device["iothread"] = thread(disk).into();
    }
    device
}

/// What a network card is plugged into, `netdev_add`; nothing where it is plugged into nothing. `passt` is the name or number
/// of the descriptor connected to passt.
#[must_use]
pub fn nic_backend(nic: &Nic, passt: Option<u32>) -> Option<Value> {
    let id = nic.id.as_str();
    match (&nic.network, passt) {
        (NetworkBackend::User { stack: UserStack::Slirp, forwards }, _) => {
            let mut backend = json!({"type": "user", "id": id});
            if !forwards.is_empty() {
                backend["hostfwd"] =
                    forwards.iter().map(|forward| json!({"str": hostfwd(*forward)})).collect();
            }
            Some(backend)
        }
        (NetworkBackend::User { stack: UserStack::Passt, .. }, Some(descriptor)) => Some(json!({
            "type": "stream", "id": id, "server": false,
            "addr": {"type": "fd", "str": descriptor.to_string()},
        })),
        (NetworkBackend::User { stack: UserStack::Passt, .. }, None) | (NetworkBackend::None, _) => None,
    }
}

/// A network card as the guest sees it, `device_add`; after [`nic_backend`].
#[must_use]
pub fn nic_device(nic: &Nic, seat: &Seat) -> Value {
    let id = nic.id.as_str();
    let driver = match nic.model {
        NicModel::Virtio => "virtio-net-pci",
        NicModel::E1000e => "e1000e",
    };
    // Without an option ROM the firmware does not spend seconds on network boot.
    let mut device = json!({"driver": driver, "id": id, "mac": nic.mac.to_string(), "romfile": ""});
    if nic.network != NetworkBackend::None {
        device["netdev"] = id.into();
    }
    seat.put(&mut device);
    device
}

/// A device of the host, `device_add`: taken whenever it is plugged in, now or later.
#[must_use]
pub fn usb_device(device: &UsbDevice) -> Value {
    json!({
        "driver": "usb-host", "id": device.id.as_str(), "bus": "vv.usb.0",
        "vendorid": device.vendor_id, "productid": device.product_id,
    })
}

/// Memory of the guest, `object-add`; `shared` where a program beside QEMU has to see it ([`super::shared_memory`]).
#[must_use]
pub fn memory_backend(id: &str, size: Bytes, shared: Sharing) -> Value {
    match shared {
        Sharing::Private => json!({"qom-type": "memory-backend-ram", "id": id, "size": size.0}),
        Sharing::Shared => {
            json!({"qom-type": "memory-backend-memfd", "id": id, "size": size.0, "share": true})
        }
    }
}

/// How a file is the guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileMemory {
    /// What the guest writes is written to the file.
    Written,
    /// The file is only read; what the guest writes stays with QEMU. The file is opened for writing all the same.
    Mapped,
    /// The same, and the file is opened for reading alone.
    MappedReadOnly,
}

impl FileMemory {
    /// How this QEMU reads a file as memory without writing to it.
    ///
    /// Before 8.2 QEMU opened every such file for writing, and punched holes into it for memory that a guest gave back: such a
    /// process must be kept from that ([`Holes::Refused`](crate::process::Holes)).
    #[must_use]
    pub fn mapped_by(version: QemuVersion) -> Self {
        let since = QemuVersion { major: 8, minor: 2, micro: 0 };
        if version >= since { Self::MappedReadOnly } else { Self::Mapped }
    }
}

/// A piece of the guest's memory that is a file of the same size.
///
/// # Errors
/// [`ArgsError::Path`].
pub fn memory_file(id: &str, size: Bytes, file: &Path, how: FileMemory) -> Result<Value, ArgsError> {
    let mut backend = json!({
        "qom-type": "memory-backend-file", "id": id, "size": size.0, "mem-path": text(file)?,
        "share": how == FileMemory::Written,
    });
    if how == FileMemory::MappedReadOnly {
        backend["readonly"] = true.into();
        backend["rom"] = "off".into();
    }
    Ok(backend)
}

/// libslirp's notation; every part is a number, so nothing needs quoting.
fn hostfwd(forward: PortForward) -> String {
    let protocol = match forward.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    format!("{protocol}:{}:{}-:{}", forward.host_address, forward.host_port, forward.guest_port)
}
