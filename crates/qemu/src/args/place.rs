//! Where devices sit.
//!
//! ```text
//! Q35     pcie.0  00 host bridge   01 screen   02.x a port per NIC   03.x 04.x a port per disk   05.x spare ports
//!                 06 USB   07 virtio-serial   08 balloon   09 random numbers   0a SCSI   0b sound   0c watchdog
//!                 0d vsock   0e.x folders   1f LPC, SATA
//! i440FX  pci.0   00 host bridge   01 ISA, IDE, USB 1 (pointer)   02 screen   03 USB   04 virtio-serial   05 balloon
//!                 06 random numbers   07 SCSI   08 sound   09 watchdog   0a vsock   10-17 NICs   18.x 19.x disks
//!                 1a.x folders
//! ```
//! On Q35 NICs and disks sit behind ports so that they can be unplugged; their ports come first so that bus numbers, and with
//! them the guest's names of its network cards, do not depend on other devices.

use serde_json::{Value, json};
use voidvm_model::spec::MachineType;

use super::SPARE_PORTS;
use super::parts::Seat;

/// A device's slot on each chipset.
pub(super) type Slot = [usize; 2];
pub(super) const SCREEN: Slot = [0x01, 0x02];
pub(super) const USB: Slot = [0x06, 0x03];
pub(super) const CHANNELS: Slot = [0x07, 0x04];
pub(super) const BALLOON: Slot = [0x08, 0x05];
pub(super) const RANDOM: Slot = [0x09, 0x06];
pub(super) const SCSI: Slot = [0x0a, 0x07];
pub(super) const SOUND: Slot = [0x0b, 0x08];
pub(super) const WATCHDOG: Slot = [0x0c, 0x09];
pub(super) const VSOCK: Slot = [0x0d, 0x0a];
const SHARES: Slot = [0x0e, 0x1a];
const NICS: Slot = [0x02, 0x10];
const DISKS: Slot = [0x03, 0x18];
const SPARE: usize = 0x05;
/// Chassis numbers only have to differ: one block of 32 for each kind of port.
const NIC_CHASSIS: usize = 0x20;
const DISK_CHASSIS: usize = 0x40;
const SPARE_CHASSIS: usize = 0x60;
/// In which order the drives of the two IDE cables are taken by disks; CD-ROM drives take them from the other end.
const IDE_ORDER: [(usize, usize); 4] = [(0, 0), (0, 1), (1, 1), (1, 0)];

/// The places of one chipset.
#[derive(Clone, Copy)]
pub(super) struct Places {
    pub(super) machine: MachineType,
}

impl Places {
    const fn of(self, slot: Slot) -> usize {
        match self.machine {
            MachineType::Q35 => slot[0],
            MachineType::I440fx => slot[1],
        }
    }

    const fn bus(self) -> &'static str {
        match self.machine {
            MachineType::Q35 => "pcie.0",
            MachineType::I440fx => "pci.0",
        }
    }

    /// A device with a slot to itself.
    pub(super) fn fixed(self, driver: &str, id: &str, slot: Slot) -> Value {
        json!({"driver": driver, "id": id, "bus": self.bus(), "addr": format!("{:#x}", self.of(slot))})
    }

    /// A disk's port, where it has one, and its seat; `index` counts disks on PCI.
    pub(super) fn disk(self, index: usize) -> (Option<Value>, Seat) {
        match self.machine {
            MachineType::Q35 => port(&format!("vv.disk{index}"), DISKS[0], index, DISK_CHASSIS),
            MachineType::I440fx => (None, self.function(DISKS, index)),
        }
    }

    /// A network card's port, where it has one, and its seat.
    pub(super) fn nic(self, index: usize) -> (Option<Value>, Seat) {
        match self.machine {
            MachineType::Q35 => port(&format!("vv.nic{index}"), NICS[0], index, NIC_CHASSIS),
            MachineType::I440fx => {
                let addr = format!("{:#x}", NICS[1] + index);
                (None, Seat::Pci { bus: self.bus().to_owned(), addr: Some(addr), first_of_many: false })
            }
        }
    }

    /// A folder's seat.
    pub(super) fn share(self, index: usize) -> Seat {
        self.function(SHARES, index)
    }

    /// A SATA or IDE disk's seat; `index` counts such disks.
    pub(super) fn chipset_disk(self, index: usize, cdroms: usize) -> Seat {
        match self.machine {
            MachineType::Q35 => Seat::Drive { bus: format!("ide.{}", cdroms + index), unit: None },
            MachineType::I440fx => ide(index),
        }
    }

    /// A CD-ROM drive's seat.
    pub(super) fn cdrom(self, index: usize) -> Seat {
        match self.machine {
            MachineType::Q35 => Seat::Drive { bus: format!("ide.{index}"), unit: None },
            MachineType::I440fx => ide(IDE_ORDER.len() - 1 - index),
        }
    }

    /// Free ports for devices plugged in later; the old chipset has none.
    pub(super) fn spare_ports(self) -> impl Iterator<Item = Value> {
        let count = match self.machine {
            MachineType::Q35 => usize::from(SPARE_PORTS),
            MachineType::I440fx => 0,
        };
        (0..count).map(|index| root_port(&format!("vv.spare{index}"), SPARE, index, SPARE_CHASSIS))
    }

    /// Eight devices share a slot, one per function.
    fn function(self, slot: Slot, index: usize) -> Seat {
        let (slot, function) = (self.of(slot) + index / 8, index % 8);
        Seat::Pci {
            bus: self.bus().to_owned(),
            addr: Some(format!("{slot:#x}.{function:#x}")),
            first_of_many: function == 0,
        }
    }
}

fn ide(position: usize) -> Seat {
    let (cable, unit) = IDE_ORDER[position];
    Seat::Drive { bus: format!("ide.{cable}"), unit: Some(unit) }
}

fn port(id: &str, first_slot: usize, index: usize, chassis: usize) -> (Option<Value>, Seat) {
    (Some(root_port(id, first_slot, index, chassis)), Seat::port(id))
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
