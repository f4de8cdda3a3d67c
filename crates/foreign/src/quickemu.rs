//! quickemu's .conf: lines of a shell, of which only plain assignments are read; nothing is ever run.

use std::collections::BTreeMap;

use voidvm_model::spec::{Audio, DiskBus, Firmware, GuestClock, NicModel, PortForward, UsbDevice};

use crate::ForeignError;
use crate::draft::{Draft, size};

/// What is read, or says only how quickemu makes the disk.
const KNOWN: [&str; 18] = [
    "disk_img",
    "guest_os",
    "cpu_cores",
    "ram",
    "tpm",
    "boot",
    "secureboot",
    "iso",
    "fixed_iso",
    "port_forwards",
    "ssh_port",
    "network",
    "macaddr",
    "usb_devices",
    "disk_size",
    "preallocation",
    "display",
    "disk_format",
];

pub(crate) fn read(text: &str, draft: &mut Draft<'_>) -> Result<(), ForeignError> {
    let mut values: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            draft.leave(line, "It is no plain assignment.");
            continue;
        };
        if value.contains('$') || value.contains('`') {
            draft.leave(line, "What a shell would make of it is not known.");
            continue;
        }
        values.insert(key.trim(), words(value));
    }
    let one = |key: &str| {
        values.get(key).and_then(|words| words.first()).map(String::as_str).filter(|v| !v.is_empty())
    };
    let many = |key: &str| values.get(key).cloned().unwrap_or_default();
    let on = |key: &str| one(key) == Some("on");
    let Some(disk) = one("disk_img") else {
        return Err(ForeignError::Syntax("it names no disk_img".to_owned()));
    };
    let stem = std::path::Path::new(disk).parent().and_then(|dir| dir.file_name());
    draft.name = stem.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let guest = one("guest_os").unwrap_or("linux");
    draft.spec.cpus = 2;
    draft.cpus(one("cpu_cores"));
    draft.memory(one("ram").and_then(|ram| size(ram, 1 << 30)).unwrap_or(4 << 30));
    draft.spec.tpm = on("tpm");
    draft.spec.firmware = match (one("boot"), on("secureboot")) {
        (Some("legacy" | "bios"), _) => Firmware::Bios,
        (_, true) => Firmware::UefiSecure,
        (_, false) => Firmware::Uefi,
    };
    draft.spec.audio = Audio::Hda;
    if guest.starts_with("windows") {
        draft.spec.clock = GuestClock::Local;
        draft.spec.hyperv = true;
    }
    if guest == "macos" {
        draft.leave("guest_os macos", "macOS needs a boot loader of its own and does not start here.");
    }
    let bus =
        if matches!(guest, "macos" | "kolibrios" | "reactos") { DiskBus::Sata } else { DiskBus::Virtio };
    draft.disk(disk, bus);
    draft.cdrom(one("iso"));
    if let Some(drivers) = one("fixed_iso") {
        draft.cdrom(Some(drivers));
    }
    let mut forwards = Vec::new();
    for forward in many("port_forwards") {
        match forward.parse::<PortForward>() {
            Ok(forward) => forwards.push(forward),
            Err(error) => draft.leave(forward, error.message),
        }
    }
    if let Some(port) = one("ssh_port").and_then(|port| port.parse().ok()) {
        forwards.push(PortForward::tcp(port, 22));
    }
    match one("network") {
        Some("none") => {}
        Some("user" | "restrict") | None => draft.nic(NicModel::Virtio, one("macaddr"), forwards),
        Some(other) => {
            draft.leave(format!("network {other}"), "The card is on user-mode NAT.");
            draft.nic(NicModel::Virtio, one("macaddr"), forwards);
        }
    }
    for device in many("usb_devices") {
        let numbers = device.split_once(':').and_then(|(vendor, product)| {
            Some((u16::from_str_radix(vendor, 16).ok()?, u16::from_str_radix(product, 16).ok()?))
        });
        let id = format!("usb{}", draft.spec.usb.len()).parse();
        match (numbers, id) {
            (Some((vendor_id, product_id)), Ok(id)) => {
                draft.spec.usb.push(UsbDevice { id, vendor_id, product_id, name: String::new() });
            }
            _ => draft.leave(device, "It is no USB device like 046d:082d."),
        }
    }
    for (key, value) in &values {
        if !KNOWN.contains(key) {
            draft.leave(format!("{key}={}", value.join(" ")), "voidVM has no such setting.");
        }
    }
    Ok(())
}

/// The words of a value: one, or a list in parentheses; quotes taken off.
fn words(value: &str) -> Vec<String> {
    let value = value.trim();
    let (inside, list) = match value.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        Some(inside) => (inside, true),
        None => (value, false),
    };
    let mut words = Vec::new();
    let (mut word, mut quote, mut any) = (String::new(), None, false);
    for c in inside.chars() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                any = true;
            }
            (None, '#') if word.is_empty() && !any => break,
            (None, c) if c.is_whitespace() => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                    any = false;
                }
                if !list && !words.is_empty() {
                    break;
                }
            }
            (_, c) => word.push(c),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}
