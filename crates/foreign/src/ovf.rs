//! The Open Virtualization Format, as VirtualBox, VMware and others write it; versions 1 and 2.

use std::collections::HashMap;

use roxmltree::Node;
use voidvm_model::spec::{Audio, DiskBus, Firmware};

use crate::draft::Draft;
use crate::{ForeignError, all, attribute, child, document, text_of};

/// Where a disk's content is.
enum Content<'a> {
    File(&'a str),
    Packed(&'a str),
    Empty,
}

pub(crate) fn read(text: &str, draft: &mut Draft<'_>) -> Result<(), ForeignError> {
    let document = document(text)?;
    let root = document.root_element();
    let mut systems = all(root, "VirtualSystem");
    let system =
        systems.next().ok_or_else(|| ForeignError::Syntax("it describes no virtual machine".to_owned()))?;
    for other in systems {
        draft.leave(
            attribute(other, "id").unwrap_or("another machine"),
            "Only the first of several is imported.",
        );
    }
    let files: HashMap<&str, Node<'_, '_>> =
        all(root, "File").filter_map(|file| Some((attribute(file, "id")?, file))).collect();
    let file = |id: &str| {
        let file = *files.get(id)?;
        let href = attribute(file, "href")?;
        Some(if attribute(file, "compression").is_some_and(|how| how != "identity") {
            Content::Packed(href)
        } else {
            Content::File(href)
        })
    };
    let disks: HashMap<&str, Option<&str>> = all(root, "Disk")
        .filter_map(|disk| Some((attribute(disk, "diskId")?, attribute(disk, "fileRef"))))
        .collect();
    draft.name = text_of(system, "Name").or_else(|| attribute(system, "id")).unwrap_or_default().to_owned();
    let items: Vec<Node<'_, '_>> = system
        .descendants()
        .filter(|node| matches!(node.tag_name().name(), "Item" | "StorageItem" | "EthernetPortItem"))
        // Alternatives for other configurations.
        .filter(|item| attribute(*item, "configuration").is_none())
        .collect();
    // What voidVM has said of its own machine, beside what everybody understands.
    let own: HashMap<&str, &str> = all(system, "Config")
        .filter_map(|config| Some((attribute(config, "key")?, attribute(config, "value")?)))
        .filter(|(key, _)| key.starts_with("voidvm."))
        .collect();
    draft.spec.machine = said(&own, "machine").unwrap_or(draft.spec.machine);
    let (mut disk, mut nic) = (0, 0);
    let mut controllers = HashMap::new();
    for item in &items {
        let bus = match text_of(*item, "ResourceType") {
            Some("5") => DiskBus::Ide,
            Some("20") if subtype(*item).to_ascii_lowercase().contains("nvme") => DiskBus::Nvme,
            // Guests know SATA where they may not know virtio.
            Some("6" | "20") => DiskBus::Sata,
            _ => continue,
        };
        if text_of(*item, "ResourceType") == Some("6") && subtype(*item).eq_ignore_ascii_case("virtio-scsi") {
            controllers.insert(text_of(*item, "InstanceID").unwrap_or_default(), DiskBus::Scsi);
        } else {
            controllers.insert(text_of(*item, "InstanceID").unwrap_or_default(), bus);
        }
    }
    for item in items {
        let quantity = text_of(item, "VirtualQuantity");
        let host = text_of(item, "HostResource").unwrap_or_default();
        let id = host.rsplit('/').next().unwrap_or_default();
        let named =
            || text_of(item, "ElementName").or_else(|| text_of(item, "Caption")).unwrap_or("a device");
        match text_of(item, "ResourceType").unwrap_or_default() {
            "3" => draft.cpus(quantity),
            "4" => {
                let units = text_of(item, "AllocationUnits").unwrap_or("byte * 2^20");
                if let Some(amount) = quantity.and_then(|amount| amount.parse::<u64>().ok()) {
                    draft.memory(amount.saturating_mul(unit(units)));
                }
            }
            "5" | "6" | "20" | "24" | "23" | "13" | "1" => {}
            "10" => {
                let known = said(&own, &format!("nic{nic}.model"));
                nic += 1;
                let model = known.unwrap_or_else(|| draft.nic_model(subtype(item)));
                draft.nic(model, text_of(item, "Address"), Vec::new());
            }
            "14" => draft.leave(named(), "Floppy drives are not supported."),
            "15" | "16" => match file(id) {
                Some(Content::File(href)) => draft.cdrom(Some(href)),
                _ => draft.cdrom(None),
            },
            "17" => {
                let content = disks
                    .get(id)
                    .copied()
                    .map_or_else(|| file(id), |reference| reference.map_or(Some(Content::Empty), &file));
                let theirs = text_of(item, "Parent").and_then(|parent| controllers.get(parent)).copied();
                let bus = said(&own, &format!("disk{disk}.bus")).or(theirs);
                disk += 1;
                match content {
                    Some(Content::File(href)) => draft.disk(href, bus.unwrap_or(DiskBus::Sata)),
                    Some(Content::Packed(href)) => draft.leave(href, "The disk is packed; unpack it first."),
                    Some(Content::Empty) => draft.leave(named(), "The disk is empty; add a new one."),
                    None => draft.leave(named(), "The description does not say where the disk is."),
                }
            }
            "35" => draft.spec.audio = Audio::Hda,
            _ => draft.leave(named(), "voidVM has no such device."),
        }
    }
    let efi = all(system, "Config").any(|config| {
        attribute(config, "key") == Some("firmware") && attribute(config, "value") == Some("efi")
    }) || all(system, "Firmware")
        .any(|firmware| attribute(firmware, "type").is_some_and(|kind| kind.starts_with("EFI")));
    let secure = all(system, "Config").any(|config| {
        attribute(config, "key").is_some_and(|key| key.ends_with("efiSecureBootEnabled"))
            && attribute(config, "value") == Some("true")
    });
    draft.spec.firmware = match (efi, secure) {
        (true, true) => Firmware::UefiSecure,
        (true, false) => Firmware::Uefi,
        (false, _) => Firmware::Bios,
    };
    draft.spec.tpm = own.get("voidvm.tpm") == Some(&"true")
        || all(system, "TrustedPlatformModule").any(|tpm| attribute(tpm, "type") == Some("v2_0"));
    if child(root, "StartupSection").is_some() {
        draft.leave("StartupSection", "The order of several machines is not kept.");
    }
    Ok(())
}

/// What a machine's specification calls it, where voidVM has said so.
fn said<T: serde::de::DeserializeOwned>(own: &HashMap<&str, &str>, key: &str) -> Option<T> {
    let word = own.get(format!("voidvm.{key}").as_str())?;
    serde_json::from_value((*word).into()).ok()
}

fn subtype<'a>(item: Node<'a, '_>) -> &'a str {
    text_of(item, "ResourceSubType").unwrap_or_default()
}

/// `byte * 2^20`, `MegaBytes`, `MB` …
fn unit(units: &str) -> u64 {
    let units = units.to_ascii_lowercase();
    if let Some(power) = units.rsplit_once('^').and_then(|(_, power)| power.trim().parse::<u32>().ok()) {
        return 1_u64.checked_shl(power).unwrap_or(1 << 20);
    }
    match units.trim() {
        "gigabytes" | "gb" => 1 << 30,
        "kilobytes" | "kb" => 1 << 10,
        "byte" | "bytes" => 1,
        _ => 1 << 20,
    }
}
