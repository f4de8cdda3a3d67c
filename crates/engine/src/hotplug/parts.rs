//! Devices as the monitor takes them: what the argument builder would say of them, for one port.

use serde_json::{Value, json};
use voidvm_model::spec::{
    Cache, Discard, Disk, DiskBus, DiskFormat, NetworkBackend, Nic, NicModel, PortForward, Protocol,
    UsbDevice,
};

/// What ids of CPUs that were plugged in begin with.
pub(super) const CPU: &str = "vv.cpu";
/// What ids of memory that was plugged in begin with.
pub(super) const DIMM: &str = "vv.dimm";
/// The controller of SCSI disks.
pub(super) const SCSI: &str = "vv.scsi";

/// The drive of a disk; its node has the disk's id.
pub(super) fn disk_node(disk: &Disk) -> Value {
    let format = match disk.format {
        DiskFormat::Qcow2 => "qcow2",
        DiskFormat::Raw => "raw",
    };
    let discard = match disk.discard {
        Discard::Unmap => "unmap",
        Discard::Ignore => "ignore",
    };
    let cache = json!({
        "direct": disk.cache == Cache::None, "no-flush": disk.cache == Cache::Unsafe,
    });
    json!({
        "driver": format, "node-name": disk.id.as_str(), "discard": discard, "read-only": disk.read_only, "cache": cache,
        "file": {"driver": "file", "filename": disk.file, "discard": discard, "read-only": disk.read_only, "cache": cache},
    })
}

/// A disk on a bus or in a port.
pub(super) fn disk_device(disk: &Disk, bus: &str) -> Value {
    let driver = match disk.bus {
        DiskBus::Virtio => "virtio-blk-pci",
        DiskBus::Scsi => "scsi-hd",
        DiskBus::Nvme => "nvme",
        DiskBus::Sata | DiskBus::Ide => "ide-hd",
    };
    let id = disk.id.as_str();
    let mut device = json!({
        "driver": driver, "id": id, "bus": bus, "drive": id,
        "write-cache": if disk.cache == Cache::Writethrough { "off" } else { "on" },
    });
    if disk.bus == DiskBus::Nvme {
        device["serial"] = id.into();
        // It has neither a write policy of its own nor a cache to switch.
        if let Some(device) = device.as_object_mut() {
            device.remove("write-cache");
        }
    } else {
        device["werror"] = "enospc".into();
        device["rerror"] = "report".into();
    }
    device
}

/// A medium for a CD-ROM drive.
pub(super) fn medium_node(name: &str, file: &std::path::Path) -> Value {
    json!({
        "driver": "raw", "node-name": name, "read-only": true,
        "file": {"driver": "file", "filename": file, "read-only": true},
    })
}

/// What a card is plugged into; `None` for nothing.
pub(super) fn netdev(nic: &Nic) -> Option<Value> {
    let NetworkBackend::User { forwards, .. } = &nic.network else { return None };
    let mut netdev = json!({"type": "user", "id": nic.id.as_str()});
    if !forwards.is_empty() {
        netdev["hostfwd"] = hostfwds(forwards);
    }
    Some(netdev)
}

/// The forwards of a network as its options say them.
pub(super) fn hostfwds(forwards: &[PortForward]) -> Value {
    forwards.iter().map(|forward| json!({"str": hostfwd(forward)})).collect()
}

/// A card in a port.
pub(super) fn nic_device(nic: &Nic, bus: &str) -> Value {
    let driver = match nic.model {
        NicModel::Virtio => "virtio-net-pci",
        NicModel::E1000e => "e1000e",
    };
    let mut device = json!({"driver": driver, "id": nic.id.as_str(), "bus": bus, "mac": nic.mac.to_string(), "romfile": ""});
    if netdev(nic).is_some() {
        device["netdev"] = nic.id.as_str().into();
    }
    device
}

/// A device of the host; QEMU takes it whenever it is plugged in.
pub(super) fn usb_device(usb: &UsbDevice) -> Value {
    json!({
        "driver": "usb-host", "id": usb.id.as_str(), "bus": "vv.usb.0",
        "vendorid": usb.vendor_id, "productid": usb.product_id,
    })
}

/// libslirp's notation of a forward.
pub(super) fn hostfwd(forward: &PortForward) -> String {
    format!("{}-:{}", host_side(forward), forward.guest_port)
}

/// The half of it that names the host's port.
pub(super) fn host_side(forward: &PortForward) -> String {
    let protocol = match forward.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    format!("{protocol}:{}:{}", forward.host_address, forward.host_port)
}
