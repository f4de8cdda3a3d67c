//! VMware's .vmx: one `key = "value"` a line.

use std::collections::BTreeMap;

use voidvm_model::spec::{Audio, CpuTopology, DiskBus, Firmware, GuestClock, NicModel};

use crate::ForeignError;
use crate::draft::Draft;

pub(crate) fn read(text: &str, draft: &mut Draft<'_>) -> Result<(), ForeignError> {
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    for line in text.lines() {
        if let Some((key, value)) = line.split_once('=') {
            values.insert(key.trim().to_ascii_lowercase(), unquoted(value.trim()));
        }
    }
    if !values.keys().any(|key| key == "virtualhw.version" || key == "displayname" || key == "memsize") {
        return Err(ForeignError::Syntax("it describes no machine".to_owned()));
    }
    let get = |key: &str| values.get(key).map(String::as_str).filter(|value| !value.is_empty());
    let is = |key: &str| get(key).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    draft.name = get("displayname").unwrap_or_default().to_owned();
    draft.cpus(get("numvcpus"));
    if let Some(mib) = get("memsize").and_then(|size| size.parse::<u64>().ok()) {
        draft.memory(mib << 20);
    }
    if let Some(cores) = get("cpuid.corespersocket").and_then(|cores| cores.parse::<u16>().ok())
        && cores > 1
        && draft.spec.cpus.is_multiple_of(cores)
    {
        draft.spec.topology = Some(CpuTopology { sockets: draft.spec.cpus / cores, cores, threads: 1 });
    }
    draft.spec.firmware = match (get("firmware"), is("uefi.secureboot.enabled")) {
        (Some("efi"), true) => Firmware::UefiSecure,
        (Some("efi"), false) => Firmware::Uefi,
        _ => Firmware::Bios,
    };
    draft.spec.tpm = is("vtpm.present");
    let windows = get("guestos").is_some_and(|os| os.starts_with("win"));
    draft.spec.hyperv = windows;
    if windows {
        draft.spec.clock = GuestClock::Local;
    }
    if is("sound.present") {
        draft.spec.audio = Audio::Hda;
    }
    let mut places: Vec<&str> = values
        .keys()
        .filter_map(|key| key.split_once('.').map(|(device, _)| device))
        .filter(|device| device.contains(':'))
        .collect();
    places.dedup();
    for device in places {
        let of = |name: &str| get(&format!("{device}.{name}"));
        let bus = match device.trim_end_matches(|c: char| c.is_ascii_digit() || c == ':') {
            "ide" => DiskBus::Ide,
            "nvme" => DiskBus::Nvme,
            "sata" | "scsi" => DiskBus::Sata,
            _ => continue,
        };
        if of("present").is_some_and(|present| present.eq_ignore_ascii_case("false")) {
            continue;
        }
        let kind = of("devicetype").unwrap_or("disk").to_ascii_lowercase();
        match of("filename") {
            _ if kind == "cdrom-raw" || kind == "atapi-cdrom" => draft.cdrom(None),
            file if kind == "cdrom-image" => draft.cdrom(file),
            Some(file) if kind.contains("rawdisk") => {
                draft.leave(file, "Disks of the host do not come along.");
            }
            Some(file) => draft.disk(file, bus),
            None => {}
        }
    }
    for number in 0..10 {
        let of = |name: &str| get(&format!("ethernet{number}.{name}"));
        if !of("present").is_some_and(|present| present.eq_ignore_ascii_case("true")) {
            continue;
        }
        let kind = of("connectiontype").unwrap_or("bridged");
        if kind != "nat" {
            draft.leave(format!("ethernet{number} ({kind})"), "The card is on user-mode NAT.");
        }
        if let Some(card) = of("virtualdev").filter(|card| !matches!(*card, "e1000" | "e1000e")) {
            draft.leave(format!("network card {card}"), "It becomes an Intel 82574L (e1000e).");
        }
        draft.nic(NicModel::E1000e, of("address").or_else(|| of("generatedaddress")), Vec::new());
    }
    for (key, what, why) in [
        ("floppy0.present", "floppy0", "Floppy drives are not supported."),
        (
            "sharedfolder0.present",
            "shared folders",
            "Choose the folders anew; the guest mounts them with virtiofs or 9p.",
        ),
        ("pcipassthru0.present", "a PCI device of the host", "Only USB devices of the host can be lent."),
        ("serial0.present", "serial0", "A serial port is always there; its other end is voidVM's own."),
    ] {
        if is(key) {
            draft.leave(what, why);
        }
    }
    if get("encryption.keysafe").is_some() {
        draft.leave(
            "encryption",
            "Remove the encryption in VMware first: the disks cannot be read otherwise.",
        );
    }
    Ok(())
}

fn unquoted(value: &str) -> String {
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    // Characters that would end a value are written as |22.
    let mut plain = String::new();
    let mut rest = inner;
    while let Some((before, after)) = rest.split_once('|') {
        plain.push_str(before);
        let code = after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        if let Some(code) = code {
            plain.push(char::from(code));
            rest = &after[2..];
        } else {
            plain.push('|');
            rest = after;
        }
    }
    plain.push_str(rest);
    plain
}
