//! VirtualBox's .vbox.

use std::collections::HashMap;

use roxmltree::Node;
use voidvm_model::spec::{
    Audio, DiskBus, Firmware, GuestClock, NicModel, PortForward, Protocol, Share, ShareKind,
};

use crate::draft::Draft;
use crate::{ForeignError, all, attribute, child, document};

pub(crate) fn read(text: &str, draft: &mut Draft<'_>) -> Result<(), ForeignError> {
    let document = document(text)?;
    let machine = all(document.root_element(), "Machine")
        .next()
        .ok_or_else(|| ForeignError::Syntax("it describes no machine".to_owned()))?;
    draft.name = attribute(machine, "name").unwrap_or_default().to_owned();
    // A snapshot has a hardware of its own; the machine's is its direct child.
    let hardware =
        child(machine, "Hardware").ok_or_else(|| ForeignError::Syntax("it has no hardware".to_owned()))?;
    let of = |name: &str, at: &str| child(hardware, name).and_then(|node| attribute(node, at));
    draft.cpus(of("CPU", "count"));
    if let Some(mib) = of("Memory", "RAMSize").and_then(|size| size.parse::<u64>().ok()) {
        draft.memory(mib << 20);
    }
    let firmware = of("Firmware", "type")
        .or_else(|| child(child(hardware, "BIOS")?, "Firmware").and_then(|node| attribute(node, "type")));
    let secure = all(hardware, "SecureBoot").any(|boot| attribute(boot, "enabled") == Some("true"));
    draft.spec.firmware = match (firmware.is_some_and(|kind| kind.starts_with("EFI")), secure) {
        (true, true) => Firmware::UefiSecure,
        (true, false) => Firmware::Uefi,
        (false, _) => Firmware::Bios,
    };
    draft.spec.tpm = all(hardware, "TrustedPlatformModule").any(|tpm| attribute(tpm, "type") == Some("v2_0"));
    if of("RTC", "localOrUTC") != Some("UTC") {
        draft.spec.clock = GuestClock::Local;
    }
    draft.spec.hyperv = attribute(machine, "OSType").is_some_and(|os| os.starts_with("Windows"));
    if child(hardware, "AudioAdapter").is_some_and(|audio| attribute(audio, "enabled") != Some("false")) {
        draft.spec.audio = Audio::Hda;
    }
    disks(machine, draft);
    for adapter in child(hardware, "Network").into_iter().flat_map(|network| network.children()) {
        if adapter.tag_name().name() == "Adapter" && attribute(adapter, "enabled") == Some("true") {
            network(adapter, draft);
        }
    }
    for folder in all(hardware, "SharedFolder") {
        let (Some(name), Some(path)) = (attribute(folder, "name"), attribute(folder, "hostPath")) else {
            continue;
        };
        let id = format!("share{}", draft.spec.shares.len()).parse();
        let tag: String =
            name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).take(31).collect();
        match id {
            Ok(id) if path.starts_with('/') && tag.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                draft.spec.shares.push(Share {
                    id,
                    tag,
                    folder: path.into(),
                    kind: ShareKind::NineP,
                    read_only: attribute(folder, "writable") == Some("false"),
                });
                draft
                    .leave(format!("shared folder {name}"), "The guest mounts it with 9p instead of vboxsf.");
            }
            _ => draft.leave(format!("shared folder {name}"), "Its path is one of another system."),
        }
    }
    for (part, why) in
        [("RemoteDisplay", "The screen is voidVM's own."), ("UART", "A serial port is always there.")]
    {
        for node in all(hardware, part).filter(|node| attribute(*node, "enabled") == Some("true")) {
            draft.leave(node.tag_name().name(), why);
        }
    }
    if all(machine, "Snapshot").next().is_some() {
        draft.leave("snapshots", "Only the present state can come along.");
    }
    Ok(())
}

fn disks(machine: Node<'_, '_>, draft: &mut Draft<'_>) {
    let media: HashMap<&str, Node<'_, '_>> = all(machine, "MediaRegistry")
        .flat_map(|registry| registry.descendants())
        .filter(|node| matches!(node.tag_name().name(), "HardDisk" | "Image"))
        .filter_map(|node| Some((attribute(node, "uuid")?, node)))
        .collect();
    let present = |node: &Node<'_, '_>| !node.ancestors().any(|above| above.tag_name().name() == "Snapshot");
    for controller in all(machine, "StorageController").filter(present) {
        let bus = match attribute(controller, "type").unwrap_or_default() {
            "PIIX3" | "PIIX4" | "ICH6" => DiskBus::Ide,
            "NVMe" => DiskBus::Nvme,
            "VirtioSCSI" => DiskBus::Scsi,
            _ => DiskBus::Sata,
        };
        for device in controller.children().filter(|node| node.tag_name().name() == "AttachedDevice") {
            let image = child(device, "Image").and_then(|image| attribute(image, "uuid"));
            let found = image.and_then(|uuid| media.get(uuid)).copied();
            let location = found.and_then(|node| attribute(node, "location"));
            match (attribute(device, "type"), location) {
                (Some("DVD"), location) => draft.cdrom(location),
                (Some("HardDisk"), Some(location)) => {
                    let differs = found
                        .and_then(|node| node.parent())
                        .is_some_and(|above| above.tag_name().name() == "HardDisk");
                    if differs {
                        draft.leave(location, "It holds the changes since a snapshot; delete the snapshots in VirtualBox first.");
                    } else {
                        draft.disk(location, bus);
                    }
                }
                (kind, _) => draft.leave(kind.unwrap_or("a drive"), "It has no file that is known."),
            }
        }
    }
}

fn network(adapter: Node<'_, '_>, draft: &mut Draft<'_>) {
    let model = match attribute(adapter, "type") {
        Some("virtio") => NicModel::Virtio,
        _ => NicModel::E1000e,
    };
    let mut forwards = Vec::new();
    for rule in all(adapter, "Forwarding") {
        let port = |name| attribute(rule, name).and_then(|port| port.parse::<u16>().ok()).unwrap_or(0);
        let protocol = if attribute(rule, "proto") == Some("0") { Protocol::Udp } else { Protocol::Tcp };
        forwards.push(PortForward { protocol, ..PortForward::tcp(port("hostport"), port("guestport")) });
    }
    for kind in ["BridgedInterface", "HostOnlyInterface", "InternalNetwork", "NATNetwork", "GenericInterface"]
    {
        // What an adapter could be as well is listed among the disabled modes.
        if let Some(node) = child(adapter, kind) {
            draft.leave(
                format!("{kind} {}", attribute(node, "name").unwrap_or_default()).trim().to_owned(),
                "The card is on user-mode NAT.",
            );
        }
    }
    draft.nic(model, attribute(adapter, "MACAddress"), forwards);
}
