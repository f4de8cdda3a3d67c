//! Disks, drives, network cards, USB, folders and lines: each by itself, and where they share a bus.

use super::super::{
    Channel, ChannelKind, Disk, DiskBus, MachineSpec, MachineType, Nic, PortForward, Share, UsbDevice,
};
use super::{Ids, Once, refuse, validate_path};
use crate::error::ErrorBody;

/// Ports of Q35's SATA controller.
const SATA_PORTS: usize = 6;
/// Drives of the i440FX's two IDE cables.
const IDE_DRIVES: usize = 4;
/// Serial ports beside the console.
const SERIAL_PORTS: usize = 3;
/// Names of virtio ports that the machine already has, or has once the clipboard is shared.
const TAKEN_PORTS: [&str; 2] = ["org.qemu.guest_agent.0", "com.redhat.spice.0"];
/// The longest tag: virtiofs has 36 bytes, 9p 32 with its end.
const TAG: usize = 31;
/// The longest name of a virtio port.
const PORT_NAME: usize = 64;

pub(super) fn validate(spec: &MachineSpec) -> Result<(), ErrorBody> {
    // First, so that the rest is short work whatever was sent.
    for (field, count, most) in [
        ("spec.disks", spec.disks.len(), 16),
        ("spec.cdroms", spec.cdroms.len(), 4),
        ("spec.nics", spec.nics.len(), 8),
        ("spec.usb", spec.usb.len(), 7),
        ("spec.shares", spec.shares.len(), 8),
        ("spec.channels", spec.channels.len(), 16),
    ] {
        if count > most {
            return refuse(field, format!("{count} are too many; at most {most}."), "Remove some.");
        }
    }
    let mut ids = Ids::new("The device id is used twice.", "Give each device an id of its own.");
    disks(spec, &mut ids)?;
    for (index, cdrom) in spec.cdroms.iter().enumerate() {
        ids.take(format!("spec.cdroms[{index}].id"), &cdrom.id)?;
        if let Some(file) = &cdrom.file {
            validate_path(&format!("spec.cdroms[{index}].file"), file)?;
        }
    }
    nics(&spec.nics, &mut ids)?;
    usb(&spec.usb, &mut ids)?;
    shares(&spec.shares, &mut ids)?;
    channels(&spec.channels, &mut ids)
}

fn disks<'a>(spec: &'a MachineSpec, ids: &mut Ids<'a>) -> Result<(), ErrorBody> {
    let mut files = Once::new("The same file is used for two disks.", "Choose another file.");
    // CD-ROM drives are on the chipset's own controller, before the disks.
    let mut on_chipset = spec.cdroms.len();
    for (index, disk) in spec.disks.iter().enumerate() {
        ids.take(format!("spec.disks[{index}].id"), &disk.id)?;
        let field = format!("spec.disks[{index}].file");
        validate_path(&field, &disk.file)?;
        files.take(field, &disk.file)?;
        bus(&format!("spec.disks[{index}]"), disk, spec.machine)?;
        if matches!(disk.bus, DiskBus::Sata | DiskBus::Ide) {
            on_chipset += 1;
            let most = if spec.machine == MachineType::Q35 { SATA_PORTS } else { IDE_DRIVES };
            if on_chipset > most {
                return refuse(
                    format!("spec.disks[{index}].bus"),
                    format!("The chipset has room for {most} drives, CD-ROM drives among them."),
                    "Choose another bus for this disk, or remove a drive.",
                );
            }
        }
    }
    Ok(())
}

fn bus(field: &str, disk: &Disk, machine: MachineType) -> Result<(), ErrorBody> {
    match (disk.bus, machine) {
        (DiskBus::Sata, MachineType::I440fx) => {
            return refuse(
                format!("{field}.bus"),
                "The i440FX chipset has no SATA.",
                "Choose IDE or another bus, or the Q35 chipset.",
            );
        }
        (DiskBus::Ide, MachineType::Q35) => {
            return refuse(
                format!("{field}.bus"),
                "The Q35 chipset has no IDE.",
                "Choose SATA or another bus, or the i440FX chipset.",
            );
        }
        _ => {}
    }
    if disk.iothread && !matches!(disk.bus, DiskBus::Virtio | DiskBus::Scsi) {
        return refuse(
            format!("{field}.iothread"),
            "A disk on this bus cannot have a thread of its own.",
            "Choose virtio or SCSI, or turn the thread off.",
        );
    }
    if disk.read_only && matches!(disk.bus, DiskBus::Sata | DiskBus::Ide) {
        return refuse(
            format!("{field}.readOnly"),
            "A SATA or IDE disk cannot be read-only.",
            "Choose another bus, or let the guest write.",
        );
    }
    Ok(())
}

fn nics<'a>(nics: &'a [Nic], ids: &mut Ids<'a>) -> Result<(), ErrorBody> {
    let mut macs =
        Once::new("The MAC address is used twice.", "Give each network card an address of its own.");
    let mut forwards: Vec<PortForward> = Vec::new();
    for (index, nic) in nics.iter().enumerate() {
        ids.take(format!("spec.nics[{index}].id"), &nic.id)?;
        macs.take(format!("spec.nics[{index}].mac"), nic.mac)?;
        for (at, forward) in nic.network.forwards().iter().enumerate() {
            validate_forward(&format!("spec.nics[{index}].network.forwards[{at}]"), forward, &forwards)?;
            forwards.push(*forward);
        }
    }
    Ok(())
}

fn validate_forward(field: &str, forward: &PortForward, earlier: &[PortForward]) -> Result<(), ErrorBody> {
    if forward.host_port < 1024 {
        return refuse(
            format!("{field}.hostPort"),
            format!("An ordinary user cannot open host port {}.", forward.host_port),
            "Choose a port from 1024 to 65535.",
        );
    }
    if forward.guest_port == 0 {
        return refuse(
            format!("{field}.guestPort"),
            "Port 0 does not exist.",
            "Choose a port from 1 to 65535.",
        );
    }
    if earlier.iter().any(|other| other.conflicts(forward)) {
        return refuse(
            format!("{field}.hostPort"),
            format!("Host port {} is forwarded twice.", forward.host_port),
            "Choose another host port.",
        );
    }
    Ok(())
}

fn usb<'a>(devices: &'a [UsbDevice], ids: &mut Ids<'a>) -> Result<(), ErrorBody> {
    let mut lent = Once::new("The device is lent twice.", "Remove one of the two.");
    for (index, device) in devices.iter().enumerate() {
        let field = format!("spec.usb[{index}]");
        ids.take(format!("{field}.id"), &device.id)?;
        // To QEMU a zero is any device at all.
        for (part, number) in [("vendorId", device.vendor_id), ("productId", device.product_id)] {
            if number == 0 {
                return refuse(
                    format!("{field}.{part}"),
                    "No USB device has the number 0.",
                    "Choose the device from the list, or take its numbers from lsusb.",
                );
            }
        }
        lent.take(format!("{field}.productId"), (device.vendor_id, device.product_id))?;
        if device.name.chars().count() > 200 || device.name.chars().any(char::is_control) {
            return refuse(
                format!("{field}.name"),
                "The device's name cannot be shown.",
                "Use at most 200 characters, no control characters.",
            );
        }
    }
    Ok(())
}

fn shares<'a>(shares: &'a [Share], ids: &mut Ids<'a>) -> Result<(), ErrorBody> {
    let mut tags = Once::new("Two folders have the same tag.", "Give each folder a tag of its own.");
    for (index, share) in shares.iter().enumerate() {
        let field = format!("spec.shares[{index}]");
        ids.take(format!("{field}.id"), &share.id)?;
        let sound = share.tag.len() <= TAG
            && share.tag.starts_with(|c: char| c.is_ascii_alphabetic())
            && share.tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if !sound {
            return refuse(
                format!("{field}.tag"),
                format!("{:?} cannot be the tag of a folder.", share.tag),
                "Use a letter, then letters, digits, - or _; 31 at most.",
            );
        }
        tags.take(format!("{field}.tag"), &share.tag)?;
        validate_path(&format!("{field}.folder"), &share.folder)?;
    }
    Ok(())
}

fn channels<'a>(channels: &'a [Channel], ids: &mut Ids<'a>) -> Result<(), ErrorBody> {
    let mut names = Once::new("Two channels have the same name.", "Give each channel a name of its own.");
    let mut serial_ports = 0;
    for (index, channel) in channels.iter().enumerate() {
        let field = format!("spec.channels[{index}]");
        ids.take(format!("{field}.id"), &channel.id)?;
        match channel.kind {
            ChannelKind::Serial => {
                serial_ports += 1;
                if serial_ports > SERIAL_PORTS {
                    return refuse(
                        format!("{field}.kind"),
                        "A machine has four serial ports, the console among them.",
                        "Choose a virtio channel.",
                    );
                }
                if !channel.name.is_empty() {
                    return refuse(
                        format!("{field}.name"),
                        "A serial port has no name.",
                        "Leave the name empty.",
                    );
                }
            }
            ChannelKind::Virtio => {
                let sound = (1..=PORT_NAME).contains(&channel.name.len())
                    && channel
                        .name
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
                if !sound {
                    return refuse(
                        format!("{field}.name"),
                        format!("{:?} cannot be the name of a channel.", channel.name),
                        "Use letters, digits, ., - or _; 64 at most.",
                    );
                }
                if TAKEN_PORTS.contains(&channel.name.as_str()) {
                    return refuse(
                        format!("{field}.name"),
                        format!("The machine has a channel of the name {} already.", channel.name),
                        "Choose another name.",
                    );
                }
                names.take(format!("{field}.name"), &channel.name)?;
            }
        }
    }
    Ok(())
}
