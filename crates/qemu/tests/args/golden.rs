//! Golden lists, and what is refused or missing.

use serde_json::Value;
use voidvm_model::spec::{
    Cdrom, DiskBus, DiskFormat, Display, Firmware, MachineType, PortForward, Protocol, ShareKind,
};
use voidvm_model::vm::ActiveAccel;
use voidvm_model::{ErrorCode, MachineSpec, MiB};
use voidvm_qemu::args::{ArgsError, LaunchPaths, build};
use voidvm_qemu::probe::{Capabilities, MachineTypes, Offers};

use crate::common::{caps, disk, everything, everything_old, id, key, nic, on, paths, share, spec};

/// One option a line, as a person would read it.
fn listed(name: &str, spec: &MachineSpec, accel: ActiveAccel, caps: &Capabilities) -> String {
    let args = build(id(), name, spec, accel, &paths(), caps).unwrap();
    let mut text = String::new();
    for arg in args {
        let arg = arg.into_string().unwrap();
        if arg.starts_with('-') && !text.is_empty() {
            text.push('\n');
        } else if !text.is_empty() {
            text.push(' ');
        }
        match serde_json::from_str(&arg) {
            Ok(json) => text.push_str(&sorted(&json)),
            Err(_) => text.push_str(&arg),
        }
    }
    text
}

/// JSON with its keys in order, whichever order a map happens to keep.
fn sorted(json: &Value) -> String {
    match json {
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.sort_by_key(|(key, _)| *key);
            let pairs: Vec<_> =
                pairs.iter().map(|(key, value)| format!("{key:?}: {}", sorted(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(sorted).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

#[test]
fn golden_bios() {
    insta::assert_snapshot!(listed("web", &spec(), ActiveAccel::Tcg, &caps()));
}

#[test]
fn golden_kvm() {
    insta::assert_snapshot!(listed("web", &spec(), ActiveAccel::Kvm, &caps()));
}

#[test]
fn golden_uefi() {
    let mut spec = spec();
    spec.firmware = Firmware::Uefi;
    insta::assert_snapshot!(listed("web", &spec, ActiveAccel::Tcg, &caps()));
}

#[test]
fn golden_iso_first_with_an_empty_drive() {
    let mut spec = spec();
    spec.boot_from_cdrom = true;
    spec.cdroms = vec![
        Cdrom { id: "cd0".parse().unwrap(), file: Some("/home/u/a, b.iso".into()) },
        Cdrom { id: "cd1".parse().unwrap(), file: None },
    ];
    insta::assert_snapshot!(listed("install", &spec, ActiveAccel::Tcg, &caps()));
}

#[test]
fn golden_many_devices_and_forwards() {
    let mut spec = spec();
    spec.disks = (0..9).map(|n| disk(&format!("disk{n}"), &format!("/d/{n}.raw"), DiskFormat::Raw)).collect();
    spec.nics = vec![
        nic("lan", 1, vec![]),
        nic(
            "wan",
            2,
            vec![
                PortForward::tcp(8080, 80),
                PortForward {
                    protocol: Protocol::Udp,
                    host_address: "192.168.1.2".parse().unwrap(),
                    host_port: 5353,
                    guest_port: 53,
                },
            ],
        ),
    ];
    insta::assert_snapshot!(listed("many, \"odd\", names", &spec, ActiveAccel::Tcg, &caps()));
}

/// What was stored before there was anything but virtio.
#[test]
fn a_machine_of_the_first_format_has_the_arguments_it_always_had() {
    let stored = r#"{"version":1,"machine":"q35","cpus":2,"memory":1024,"firmware":"bios","accel":"auto","bootFromCdrom":false,
        "disks":[{"id":"disk0","file":"/home/u/disk.qcow2","format":"qcow2","owner":"machine"}],"cdroms":[],
        "nics":[{"id":"nic0","mac":"52:54:00:00:00:01","network":{"kind":"user","forwards":[]}}]}"#;
    let stored: MachineSpec = serde_json::from_str(stored).unwrap();
    let args = |spec: &MachineSpec| listed("web", spec, ActiveAccel::Tcg, &caps());
    assert_eq!(args(&stored), args(&spec()));
}

#[test]
fn golden_everything() {
    insta::assert_snapshot!(listed("all", &everything(), ActiveAccel::Kvm, &caps()));
}

#[test]
fn golden_everything_on_the_old_chipset() {
    insta::assert_snapshot!(listed("all", &everything_old(), ActiveAccel::Tcg, &caps()));
}

#[test]
fn golden_as_little_as_can_be() {
    let mut machine = MachineSpec::new(1, MiB(32));
    machine.machine = MachineType::I440fx;
    machine.display = Display::Std;
    machine.balloon = false;
    machine.rng = false;
    insta::assert_snapshot!(listed("least", &machine, ActiveAccel::Tcg, &caps()));
}

/// Nothing is left out silently: what this QEMU or this run has not is an error that names the field.
#[test]
fn what_is_not_there_is_named() {
    let lacking = |caps: &Capabilities, spec: &MachineSpec| {
        let error = build(id(), "x", spec, ActiveAccel::Tcg, &paths(), caps).unwrap_err();
        let body = error.body();
        assert!(body.hint.is_some_and(|hint| hint.ends_with('.')), "{error}");
        body.field.unwrap()
    };
    let all = everything();
    let without = |device: &str| Capabilities {
        devices: Offers::just(DEVICES.iter().copied().filter(|d| *d != device)),
        ..caps()
    };
    build(id(), "x", &all, ActiveAccel::Tcg, &paths(), &without("")).unwrap();
    for (device, field) in DEVICES.iter().zip(FIELDS) {
        assert_eq!(lacking(&without(device), &all), *field, "{device}");
    }
    assert_eq!(lacking(&without("virtio-vga"), &spec()), "spec.display");
    assert_eq!(lacking(&without("VGA"), &MachineSpec { display: Display::Std, ..spec() }), "spec.display");
    let none = Offers::just([]);
    assert_eq!(lacking(&Capabilities { cpu_models: none.clone(), ..caps() }, &all), "spec.cpuModel.name");
    assert_eq!(lacking(&Capabilities { chardevs: none.clone(), ..caps() }, &all), "spec.clipboard");
    assert_eq!(
        lacking(&Capabilities { netdevs: none.clone(), ..caps() }, &all),
        "spec.nics[0].network.stack"
    );
    let only_user = Offers::just(["user"]);
    assert_eq!(lacking(&Capabilities { netdevs: only_user, ..caps() }, &all), "spec.nics[2].network.stack");
    let mut machines = MachineTypes::default();
    machines.names = none;
    assert_eq!(lacking(&Capabilities { machines, ..caps() }, &all), "spec.machineVersion");

    let without = |change: fn(&mut LaunchPaths)| {
        let mut paths = paths();
        change(&mut paths);
        let body = build(id(), "x", &all, ActiveAccel::Tcg, &paths, &caps()).unwrap_err().body();
        (body.code, body.field.unwrap_or_default())
    };
    let field = |code: ErrorCode, field: &str| (code, field.to_owned());
    assert_eq!(without(|p| p.keys.clear()), field(ErrorCode::KeychainUnavailable, "spec.disks[4].key"));
    assert_eq!(without(|p| p.tpm = None), field(ErrorCode::ProgramMissing, "spec.tpm"));
    assert_eq!(without(|p| p.passt.clear()), field(ErrorCode::ProgramMissing, "spec.nics[2].network.stack"));
    assert_eq!(without(|p| p.shares.clear()), field(ErrorCode::ProgramMissing, "spec.shares[0].kind"));
    assert_eq!(without(|p| p.channels.clear()), field(ErrorCode::Internal, "spec.channels[0]"));
    assert_eq!(without(|p| p.vsock_cid = None), field(ErrorCode::InvalidInput, "spec.vsock"));
    assert_eq!(without(|p| p.uefi_vars = None), field(ErrorCode::FirmwareMissing, ""));
}

const DEVICES: &[&str] = &[
    "qxl-vga",
    "virtio-scsi-pci",
    "nvme",
    "e1000e",
    "vhost-user-fs-pci",
    "virtio-9p-pci",
    "usb-host",
    "hda-output",
    "tpm-crb",
    "i6300esb",
    "vhost-vsock-pci",
];
const FIELDS: &[&str] = &[
    "spec.display",
    "spec.disks[1].bus",
    "spec.disks[3].bus",
    "spec.nics[1].model",
    "spec.shares[0].kind",
    "spec.shares[1].kind",
    "spec.usb",
    "spec.audio",
    "spec.tpm",
    "spec.watchdog",
    "spec.vsock",
];

/// The command line can be read by every user of the computer, and is shown and logged.
#[test]
fn no_key_is_on_the_command_line() {
    let text = listed("all", &everything(), ActiveAccel::Kvm, &caps());
    let secrets: Vec<&str> = text.lines().filter(|line| line.contains("\"secret\"")).collect();
    assert_eq!(secrets.len(), 2);
    for secret in secrets {
        assert!(secret.contains("\"file\": \"/dev/fd/") && !secret.contains("data"), "{secret}");
    }
    assert!(!text.contains(&key().to_string()));
}

/// No two devices in one place, whatever the chipset and however many there are.
#[test]
fn every_device_has_a_place_of_its_own() {
    for machine in [MachineType::Q35, MachineType::I440fx] {
        let old = machine == MachineType::I440fx;
        let buses: &[DiskBus] = if old {
            &[DiskBus::Nvme, DiskBus::Virtio, DiskBus::Scsi, DiskBus::Ide]
        } else {
            &[DiskBus::Nvme, DiskBus::Virtio, DiskBus::Scsi, DiskBus::Sata]
        };
        for first in 0..buses.len() {
            let mut spec = if old { everything_old() } else { everything() };
            spec.machine = machine;
            let bus = |n: usize| if n < 3 { buses[3] } else { buses[(first + n) % 3] };
            spec.disks = (0..16).map(|n| on(&format!("d{n}"), bus(n))).collect();
            spec.nics = (0..8).map(|n| nic(&format!("n{n}"), n, vec![])).collect();
            spec.shares = (0..8).map(|n| share(&format!("s{n}"), ShareKind::NineP, "/f")).collect();
            let args = build(id(), "x", &spec, ActiveAccel::Tcg, &paths(), &caps()).unwrap();
            let devices: Vec<Value> = args
                .iter()
                .filter_map(|arg| serde_json::from_str::<Value>(arg.to_str()?).ok())
                .filter(|value| value["bus"].is_string())
                .collect();
            let place = |device: &Value| {
                let addr = device["addr"]
                    .as_str()
                    .map(|addr| if addr.contains('.') { addr.to_owned() } else { format!("{addr}.0x0") });
                (
                    device["bus"].as_str().unwrap().to_owned(),
                    addr,
                    device["unit"].as_u64(),
                    device["scsi-id"].as_u64(),
                    device["nr"].as_u64(),
                )
            };
            let mut places: Vec<_> = devices
                .iter()
                .filter(|device| !device["bus"].as_str().unwrap().starts_with("vv.usb"))
                .map(place)
                .collect();
            let count = places.len();
            places.sort();
            places.dedup();
            assert_eq!(places.len(), count);
            // A slot whose function 0 is empty is not seen by the guest.
            for (bus, addr, ..) in &places {
                let Some((slot, _)) = addr.as_deref().and_then(|addr| addr.split_once('.')) else { continue };
                // The old board has its ISA bridge there.
                if slot != "0x1" {
                    let zero = format!("{slot}.0x0");
                    assert!(places.iter().any(|(b, a, ..)| b == bus && a.as_ref() == Some(&zero)), "{slot}");
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_handed_over_is_refused() {
    let refused = |spec: &MachineSpec, paths: &LaunchPaths| {
        build(id(), "x", spec, ActiveAccel::Tcg, paths, &caps()).unwrap_err()
    };
    let mut uefi = spec();
    uefi.firmware = Firmware::Uefi;
    let bare = LaunchPaths { uefi_code: None, ..paths() };
    assert_eq!(refused(&uefi, &bare), ArgsError::FirmwareMissing);
    let long = LaunchPaths { qmp: format!("/{}", "x".repeat(107)).into(), ..paths() };
    assert!(matches!(refused(&spec(), &long), ArgsError::SocketPathTooLong(_)));
    let newline = LaunchPaths { serial_log: "/a\nb".into(), ..paths() };
    assert!(matches!(refused(&spec(), &newline), ArgsError::Path(_)));
    let mut relative = spec();
    relative.disks[0].file = "-drive".into();
    assert!(matches!(refused(&relative, &paths()), ArgsError::Spec(_)));
    let name = build(id(), "a\nb", &spec(), ActiveAccel::Tcg, &paths(), &caps());
    assert!(matches!(name, Err(ArgsError::Name(_))));
}
