//! Devices and where they sit on the PCI bus.
//!
//! ```text
//! pcie.0  00 host bridge   01 screen   02.x a port per NIC   03.x 04.x a port per disk   05.x spare ports
//!         06 USB   07 virtio-serial   08 balloon   09 random numbers   1f LPC, SATA (CD-ROM drives)
//! ```
//! NICs and disks sit behind ports so that they can be unplugged; their ports come first so that bus numbers, and with them
//! the guest's names of its network cards, do not depend on other devices.

use std::path::Path;

use serde_json::{Value, json};
use voidvm_model::MachineSpec;
use voidvm_model::spec::{DiskFormat, PortForward, Protocol};

use super::{ArgList, ArgsError, BALLOON_INTERVAL, SPARE_PORTS, text};
use crate::probe::Capabilities;

const NIC_SLOT: usize = 0x02;
const DISK_SLOT: usize = 0x03;
const SPARE_SLOT: usize = 0x05;
/// Chassis numbers only have to differ: one block of 32 for each kind of port.
const NIC_CHASSIS: usize = 0x20;
const DISK_CHASSIS: usize = 0x40;
const SPARE_CHASSIS: usize = 0x60;

/// OVMF's code, read-only, and the machine's variables.
pub(super) fn flash(list: &mut ArgList, code: &Path, vars: &Path) -> Result<(), ArgsError> {
    list.json(
        "-blockdev",
        &json!({
            "driver": "raw", "node-name": "vv.flash0", "read-only": true,
            "file": {"driver": "file", "filename": text(code)?},
        }),
    );
    list.json(
        "-blockdev",
        &json!({
            "driver": "qcow2", "node-name": "vv.flash1",
            "file": {"driver": "file", "filename": text(vars)?},
        }),
    );
    Ok(())
}

/// What every machine has: screen, pointer, agent line, balloon, random numbers.
pub(super) fn platform(list: &mut ArgList, caps: &Capabilities) {
    let screen = if caps.virtio_vga { "virtio-vga" } else { "VGA" };
    list.json("-device", &json!({"driver": screen, "id": "vv.screen", "bus": "pcie.0", "addr": "0x1"}));
    list.json("-device", &json!({"driver": "qemu-xhci", "id": "vv.usb", "bus": "pcie.0", "addr": "0x6"}));
    list.json("-device", &json!({"driver": "usb-tablet", "id": "vv.tablet", "bus": "vv.usb.0"}));
    list.json(
        "-device",
        &json!({"driver": "virtio-serial-pci", "id": "vv.channels", "bus": "pcie.0", "addr": "0x7"}),
    );
    list.json(
        "-device",
        &json!({
            "driver": "virtserialport", "bus": "vv.channels.0", "nr": 1,
            "chardev": "vv.agent", "name": "org.qemu.guest_agent.0",
        }),
    );
    list.json(
        "-device",
        &json!({
            "driver": "virtio-balloon-pci", "id": "vv.balloon", "bus": "pcie.0", "addr": "0x8",
            "guest-stats-polling-interval": BALLOON_INTERVAL, "free-page-reporting": true,
        }),
    );
    list.json("-object", &json!({"qom-type": "rng-builtin", "id": "vv.random"}));
    list.json(
        "-device",
        &json!({
            "driver": "virtio-rng-pci", "id": "vv.rng", "bus": "pcie.0", "addr": "0x9", "rng": "vv.random",
        }),
    );
}

/// Fixed disks, each in a port of its own.
pub(super) fn disks(list: &mut ArgList, spec: &MachineSpec) -> Result<(), ArgsError> {
    let before = if spec.boot_from_cdrom { spec.cdroms.len() } else { 0 };
    for (index, disk) in spec.disks.iter().enumerate() {
        let id = disk.id.as_str();
        let format = match disk.format {
            DiskFormat::Qcow2 => "qcow2",
            DiskFormat::Raw => "raw",
        };
        let port = format!("vv.disk{index}");
        list.json(
            "-blockdev",
            &json!({
                "driver": format, "node-name": id, "discard": "unmap",
                "file": {"driver": "file", "filename": text(&disk.file)?, "discard": "unmap"},
            }),
        );
        list.json("-device", &root_port(&port, DISK_SLOT, index, DISK_CHASSIS));
        // A full host disk holds the guest until there is room; it does not corrupt its file system.
        list.json(
            "-device",
            &json!({
                "driver": "virtio-blk-pci", "id": id, "bus": port, "drive": id,
                "bootindex": before + index, "werror": "enospc", "rerror": "report",
            }),
        );
    }
    Ok(())
}

/// CD-ROM drives on the chipset's own SATA; a drive may be empty.
pub(super) fn cdroms(list: &mut ArgList, spec: &MachineSpec) -> Result<(), ArgsError> {
    let before = if spec.boot_from_cdrom { 0 } else { spec.disks.len() };
    for (index, cdrom) in spec.cdroms.iter().enumerate() {
        let id = cdrom.id.as_str();
        let mut drive = json!({
            "driver": "ide-cd", "id": id, "bus": format!("ide.{index}"), "bootindex": before + index,
        });
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

/// Network cards, each in a port of its own.
pub(super) fn nics(list: &mut ArgList, spec: &MachineSpec) {
    for (index, nic) in spec.nics.iter().enumerate() {
        let id = nic.id.as_str();
        let forwards: Vec<Value> =
            nic.network.forwards().iter().map(|forward| json!({"str": hostfwd(*forward)})).collect();
        let mut backend = json!({"type": "user", "id": id});
        if !forwards.is_empty() {
            backend["hostfwd"] = forwards.into();
        }
        list.json("-netdev", &backend);
        let port = format!("vv.nic{index}");
        list.json("-device", &root_port(&port, NIC_SLOT, index, NIC_CHASSIS));
        // Without an option ROM the firmware does not spend seconds on network boot.
        list.json(
            "-device",
            &json!({
                "driver": "virtio-net-pci", "id": id, "bus": port, "netdev": id,
                "mac": nic.mac.to_string(), "romfile": "",
            }),
        );
    }
}

/// Free ports for devices plugged in later.
pub(super) fn spare_ports(list: &mut ArgList) {
    for index in 0..usize::from(SPARE_PORTS) {
        list.json("-device", &root_port(&format!("vv.spare{index}"), SPARE_SLOT, index, SPARE_CHASSIS));
    }
}

/// Eight ports share a slot, one per function; function 0 is always there because ports are made in order.
fn root_port(id: &str, first_slot: usize, index: usize, chassis: usize) -> Value {
    let (slot, function) = (first_slot + index / 8, index % 8);
    let mut port = json!({
        "driver": "pcie-root-port", "id": id, "bus": "pcie.0",
        "addr": format!("{slot:#x}.{function:#x}"), "chassis": chassis + index,
    });
    if function == 0 {
        port["multifunction"] = true.into();
    }
    port
}

/// libslirp's notation; every part is a number, so nothing needs quoting.
fn hostfwd(forward: PortForward) -> String {
    let protocol = match forward.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    format!("{protocol}:{}:{}-:{}", forward.host_address, forward.host_port, forward.guest_port)
}
