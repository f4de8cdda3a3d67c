//! What waits for a machine's next start: the hardware of its run against the hardware it shall have, field by field. Pure.
//!
//! Invariants: two equal specifications differ in nothing; every difference a guest could see is named once, a device that comes
//! or goes as a whole; what only the host cares about (a name of a USB device, whose file a disk is, how the document is
//! written) is no difference.

use serde_json::{Map, Value};
use voidvm_model::vm::PendingChange;
use voidvm_model::{MachineSpec, MiB};

/// Fields that say nothing of the hardware.
const NOT_HARDWARE: [&str; 1] = ["version"];
/// Fields of devices that say nothing of the hardware.
const NOT_THE_DEVICE: [&str; 3] = ["id", "owner", "name"];
/// What stands for a device where it is named as a whole, the first there is.
const FACES: [&str; 7] = ["file", "mac", "folder", "name", "kind", "vendorId", "id"];

/// The differences, by the names of their fields; empty where there is none.
pub(crate) fn changes(running: &MachineSpec, next: &MachineSpec) -> Vec<PendingChange> {
    if running == next {
        return Vec::new();
    }
    let (Ok(Value::Object(before)), Ok(Value::Object(after))) =
        (serde_json::to_value(running), serde_json::to_value(next))
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (field, old) in &before {
        let new = after.get(field).unwrap_or(&Value::Null);
        // A chipset that was not pinned before its first start is the one it was started with.
        let pinned_since = field == "machineVersion" && (old.is_null() || new.is_null());
        if old == new || NOT_HARDWARE.contains(&field.as_str()) || pinned_since {
            continue;
        }
        match (devices(old), devices(new)) {
            (Some(old), Some(new)) => compare_devices(field, &old, &new, &mut found),
            _ => found.push(change(field.clone(), Some(old), Some(new))),
        }
    }
    found.sort_by(|one, other| one.field.cmp(&other.field));
    found
}

fn change(field: String, running: Option<&Value>, next: Option<&Value>) -> PendingChange {
    let text = |value: &Value| shown(&field, value);
    let (running, next) = (running.and_then(text), next.and_then(text));
    PendingChange { field, running, next, problem: None }
}

/// A list whose members have ids; an empty list is one.
fn devices(value: &Value) -> Option<Vec<(&str, &Map<String, Value>)>> {
    let members = value.as_array()?;
    members
        .iter()
        .map(|member| {
            let device = member.as_object()?;
            Some((device.get("id")?.as_str()?, device))
        })
        .collect()
}

fn compare_devices(
    field: &str,
    before: &[(&str, &Map<String, Value>)],
    after: &[(&str, &Map<String, Value>)],
    found: &mut Vec<PendingChange>,
) {
    let in_both =
        |these: &[(&str, &Map<String, Value>)], those: &[(&str, &Map<String, Value>)]| -> Vec<String> {
            let is_there = |id: &str| those.iter().any(|(other, _)| *other == id);
            these.iter().filter(|(id, _)| is_there(id)).map(|(id, _)| (*id).to_owned()).collect()
        };
    for (id, old) in before {
        let path = format!("{field}.{id}");
        match after.iter().find(|(other, _)| other == id) {
            Some((_, new)) => compare_fields(&path, old, new, found),
            None => found.push(change(path, Some(face(old)), None)),
        }
    }
    for (id, new) in after {
        if !before.iter().any(|(other, _)| other == id) {
            found.push(change(format!("{field}.{id}"), None, Some(face(new))));
        }
    }
    // The order of those that stay: what boots first.
    let (old, new) = (in_both(before, after), in_both(after, before));
    if old != new {
        found.push(PendingChange {
            field: field.to_owned(),
            running: Some(old.join(", ")),
            next: Some(new.join(", ")),
            problem: None,
        });
    }
}

fn compare_fields(
    path: &str,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    found: &mut Vec<PendingChange>,
) {
    let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
    for name in names {
        let (old, new) = (before.get(name), after.get(name));
        if old == new || NOT_THE_DEVICE.contains(&name.as_str()) {
            continue;
        }
        let path = format!("{path}.{name}");
        match (old, new) {
            (Some(Value::Object(old)), Some(Value::Object(new))) => compare_fields(&path, old, new, found),
            (old, new) => found.push(change(path, old, new)),
        }
    }
}

fn face(device: &Map<String, Value>) -> &Value {
    FACES.iter().find_map(|name| device.get(*name).filter(|value| !value.is_null())).unwrap_or(&Value::Null)
}

/// A value as text for a person; `None` for nothing.
fn shown(field: &str, value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if matches!(field, "memory" | "maxMemory") => {
            Some(number.as_u64().map_or_else(|| number.to_string(), |mib| MiB(mib).to_string()))
        }
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(members) if members.is_empty() => None,
        Value::Array(members) => {
            Some(members.iter().filter_map(|member| shown("", member)).collect::<Vec<_>>().join(", "))
        }
        Value::Object(of) => Some(forward(of).unwrap_or_else(|| {
            of.values().filter_map(|member| shown("", member)).collect::<Vec<_>>().join(" ")
        })),
    }
}

/// A port forward as the command line writes it, with the address where it is not loopback.
fn forward(of: &Map<String, Value>) -> Option<String> {
    let text = |name: &str| of.get(name).and_then(Value::as_str);
    let port = |name: &str| of.get(name).and_then(Value::as_u64);
    let (protocol, address) = (text("protocol")?, text("hostAddress")?);
    let address = if address == "127.0.0.1" { String::new() } else { format!("{address}:") };
    Some(format!("{address}{}:{}/{protocol}", port("hostPort")?, port("guestPort")?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use voidvm_model::spec::{
        Cdrom, Disk, DiskFormat, FileOwner, MacAddr, NetworkBackend, Nic, PortForward, UsbDevice,
    };

    use super::*;

    fn machine() -> MachineSpec {
        let disk = |id: &str| {
            let file = format!("/images/{id}.qcow2").into();
            Disk::new(id.parse().unwrap(), file, DiskFormat::Qcow2, FileOwner::User)
        };
        let network = NetworkBackend::user(vec![PortForward::tcp(8080, 80)]);
        MachineSpec {
            disks: vec![disk("disk0"), disk("disk1")],
            cdroms: vec![Cdrom { id: "cd0".parse().unwrap(), file: None }],
            nics: vec![Nic::new("nic0".parse().unwrap(), MacAddr::qemu([0, 0, 1]), network)],
            ..MachineSpec::new(2, MiB(1024))
        }
    }

    fn texts(change: impl FnOnce(&mut MachineSpec)) -> Vec<String> {
        let before = machine();
        let mut after = machine();
        change(&mut after);
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        changes(&before, &after)
            .iter()
            .map(|change| format!("{}: {} > {}", change.field, text(&change.running), text(&change.next)))
            .collect()
    }

    #[test]
    fn what_differs_is_named_with_old_and_new() {
        assert_eq!(texts(|_| ()), [""; 0]);
        assert_eq!(texts(|spec| spec.memory = MiB(2048)), ["memory: 1 GB > 2 GB"]);
        assert_eq!(texts(|spec| spec.tpm = true), ["tpm: false > true"]);
        assert_eq!(
            texts(|spec| spec.cdroms[0].file = Some("/iso/a.iso".into())),
            ["cdroms.cd0.file: - > /iso/a.iso"]
        );
        assert_eq!(texts(|spec| drop(spec.disks.pop())), ["disks.disk1: /images/disk1.qcow2 > -"]);
        assert_eq!(texts(|spec| spec.disks.swap(0, 1)), ["disks: disk0, disk1 > disk1, disk0"]);
        assert_eq!(
            texts(|spec| {
                let forwards = vec![PortForward::tcp(8080, 80), PortForward::tcp(2222, 22)];
                spec.nics[0].network = NetworkBackend::user(forwards);
                spec.nics[0].link = false;
            }),
            [
                "nics.nic0.link: true > false",
                "nics.nic0.network.forwards: 8080:80/tcp > 8080:80/tcp, 2222:22/tcp"
            ]
        );
        assert_eq!(
            texts(|spec| spec.nics[0].network = NetworkBackend::None),
            [
                "nics.nic0.network.forwards: 8080:80/tcp > -",
                "nics.nic0.network.kind: user > none",
                "nics.nic0.network.stack: slirp > -"
            ]
        );
        let stick =
            UsbDevice { id: "usb0".parse().unwrap(), vendor_id: 1, product_id: 2, name: "Stick".into() };
        assert_eq!(texts(|spec| spec.usb.push(stick)), ["usb.usb0: - > Stick"]);
    }

    #[test]
    fn what_no_guest_can_see_is_no_change() {
        assert_eq!(texts(|spec| spec.disks[0].owner = FileOwner::Machine), [""; 0]);
        assert_eq!(texts(|spec| spec.version = 1), [""; 0]);
        assert_eq!(texts(|spec| spec.machine_version = "pc-q35-7.2".to_owned().try_into().ok()), [""; 0]);
    }

    proptest! {
        /// Going there and back names the same fields, with old and new exchanged.
        #[test]
        fn the_way_back_is_the_way_there(cpus in 1_u16..8, memory in 32_u64..4096, keep in 0_usize..3, link: bool) {
            let mut other = machine();
            other.cpus = cpus;
            other.memory = MiB(memory);
            other.disks.truncate(keep);
            other.nics[0].link = link;
            let mut there: Vec<_> = changes(&machine(), &other)
                .into_iter()
                .map(|change| (change.field, change.running, change.next))
                .collect();
            let mut back: Vec<_> = changes(&other, &machine())
                .into_iter()
                .map(|change| (change.field, change.next, change.running))
                .collect();
            there.sort();
            back.sort();
            prop_assert_eq!(there, back);
        }
    }
}
