//! The argument builder: golden lists, and the proof that no input adds an option of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::Value;
use voidvm_model::spec::{
    Accel, Cdrom, Disk, DiskFormat, FileOwner, Firmware, MacAddr, MachineType, NetworkBackend, Nic,
    PortForward, Protocol, SPEC_VERSION,
};
use voidvm_model::vm::ActiveAccel;
use voidvm_model::{MachineSpec, MiB, VmId};
use voidvm_qemu::args::{ArgsError, LaunchPaths, build};
use voidvm_qemu::probe::{Capabilities, QemuVersion};

fn id() -> VmId {
    "11111111-2222-4333-8444-555555555555".parse().unwrap()
}

fn caps() -> Capabilities {
    Capabilities {
        binary: "/usr/bin/qemu-system-x86_64".into(),
        version: QemuVersion { major: 7, minor: 2, micro: 0 },
        virtio_vga: true,
        kvm: true,
    }
}

fn paths() -> LaunchPaths {
    LaunchPaths {
        qmp: "/run/user/1000/voidvm/1/qmp.sock".into(),
        serial: "/run/user/1000/voidvm/1/serial.sock".into(),
        serial_log: "/home/u/.local/share/voidvm/1/serial.log".into(),
        agent: "/run/user/1000/voidvm/1/qga.sock".into(),
        uefi_code: Some("/usr/share/OVMF/OVMF_CODE_4M.fd".into()),
        uefi_vars: Some("/home/u/.local/share/voidvm/1/uefi-vars.qcow2".into()),
        ..LaunchPaths::default()
    }
}

fn spec() -> MachineSpec {
    MachineSpec {
        disks: vec![disk("disk0", "/home/u/disk.qcow2", DiskFormat::Qcow2)],
        nics: vec![nic("nic0", 1, vec![])],
        ..MachineSpec::new(2, MiB(1024))
    }
}

fn disk(id: &str, file: &str, format: DiskFormat) -> Disk {
    Disk::new(id.parse().unwrap(), file.into(), format, FileOwner::Machine)
}

fn nic(id: &str, tail: u8, forwards: Vec<PortForward>) -> Nic {
    Nic::new(id.parse().unwrap(), MacAddr::qemu([0, 0, tail]), NetworkBackend::user(forwards))
}

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

#[test]
fn golden_qemu_without_the_virtio_screen() {
    let caps = Capabilities { virtio_vga: false, ..caps() };
    insta::assert_snapshot!(listed("web", &spec(), ActiveAccel::Tcg, &caps));
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

/// Options that take no word after them; all others take exactly one.
const FLAGS: &[&str] = &["-S", "-nodefaults", "-no-user-config"];

/// A reader of QEMU's command line that shares nothing with the builder.
fn read_options(args: &[String]) -> Vec<(String, Option<String>)> {
    let mut options = Vec::new();
    let mut words = args.iter();
    while let Some(option) = words.next() {
        let known = option.strip_prefix('-').is_some_and(|name| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic() || c == '-')
        });
        assert!(known, "{option:?} where an option should be");
        let value = (!FLAGS.contains(&option.as_str())).then(|| words.next().expect("a value").clone());
        options.push((option.clone(), value));
    }
    options
}

/// QEMU's comma list (`QemuOpts`): a doubled comma is a comma.
fn read_list(text: &str) -> Vec<(String, String)> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            ',' if rest.peek() == Some(&',') => {
                rest.next();
                part.push(',');
            }
            ',' => parts.push(std::mem::take(&mut part)),
            _ => part.push(c),
        }
    }
    parts.push(part);
    let pair = |part: String| {
        part.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).unwrap_or((part, String::new()))
    };
    parts.into_iter().map(pair).collect()
}

fn odd_text() -> impl Strategy<Value = String> {
    let bits = prop::sample::select(vec![
        ",",
        ",,",
        "=",
        "-",
        "--",
        "\"",
        "'",
        "\\",
        " ",
        "$(x)",
        "`",
        ";",
        "|",
        "&",
        "{",
        "}",
        "[",
        "]",
        ":",
        "%n",
        "readonly=on",
        ",file=/etc/passwd",
        "-drive",
        "-device",
        "path=",
        "json:",
        "nbd:",
        "ü",
        "你",
        "\u{202f}",
        "🙂",
        "server=on",
        "/",
        "a",
        "Z",
        "0",
        "~",
        "#",
        "?",
        "*",
        "!",
        "<",
        ">",
        "^",
        "@",
    ]);
    prop_oneof![prop::collection::vec(bits, 1..8).prop_map(|bits| bits.concat()), "[^\\p{C}]{1,30}",]
}

fn odd_path() -> impl Strategy<Value = PathBuf> {
    odd_text().prop_map(|text| PathBuf::from(format!("/{}", text.replace("..", "_").replace('\u{0}', "_"))))
}

fn forwards() -> impl Strategy<Value = Vec<PortForward>> {
    prop::collection::vec((any::<bool>(), any::<[u8; 4]>(), 1_u16..), 0..4).prop_map(|list| {
        let each = |(at, (udp, address, guest_port)): (usize, (bool, [u8; 4], u16))| PortForward {
            protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
            host_address: address.into(),
            host_port: 20_000 + u16::try_from(at).unwrap(),
            guest_port,
        };
        list.into_iter().enumerate().map(each).collect()
    })
}

fn machines() -> impl Strategy<Value = MachineSpec> {
    (
        prop::collection::vec((odd_path(), any::<bool>()), 0..5),
        prop::collection::vec(prop::option::of(odd_path()), 0..4),
        forwards(),
        0..3_u8,
        any::<[bool; 2]>(),
        (1..=255_u16, 32..=4_194_304_u64),
    )
        .prop_map(|(disks, cdroms, forwards, more_nics, [uefi, from_cdrom], (cpus, memory))| {
            let mut machine = spec();
            machine.cpus = cpus;
            machine.memory = MiB(memory);
            machine.firmware = if uefi { Firmware::Uefi } else { Firmware::Bios };
            machine.boot_from_cdrom = from_cdrom;
            machine.disks = disks
                .into_iter()
                .enumerate()
                .map(|(n, (file, raw))| Disk {
                    // Paths of one machine differ.
                    file: format!("{}-{n}", file.display()).into(),
                    ..disk(&format!("d{n}"), "", if raw { DiskFormat::Raw } else { DiskFormat::Qcow2 })
                })
                .collect();
            machine.cdroms = cdroms
                .into_iter()
                .enumerate()
                .map(|(n, file)| Cdrom { id: format!("c{n}").parse().unwrap(), file })
                .collect();
            machine.nics = vec![nic("n0", 0, forwards)];
            machine.nics.extend((1..=more_nics).map(|n| nic(&format!("n{n}"), n, vec![])));
            machine
        })
}

/// How many options a machine of this shape has, counted from the shape alone.
fn expected_count(machine: &MachineSpec) -> usize {
    let with_medium = machine.cdroms.iter().filter(|cdrom| cdrom.file.is_some()).count();
    let flash = if machine.firmware == Firmware::Uefi { 2 } else { 0 };
    36 + flash + 3 * machine.disks.len() + machine.cdroms.len() + with_medium + 3 * machine.nics.len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_input_adds_or_changes_an_option(
        name in odd_text(),
        machine in machines(),
        log in odd_path(),
        runtime in odd_path(),
    ) {
        let short: String = runtime.to_str().unwrap().chars().take(20).collect();
        let paths = LaunchPaths {
            qmp: format!("{short}/q").into(),
            serial: format!("{short}/s").into(),
            agent: format!("{short}/a").into(),
            serial_log: log.clone(),
            ..paths()
        };
        let args = build(id(), &name, &machine, ActiveAccel::Tcg, &paths, &caps()).unwrap();
        let args: Vec<String> = args.into_iter().map(|arg| arg.into_string().unwrap()).collect();
        let options = read_options(&args);
        prop_assert_eq!(options.len(), expected_count(&machine));
        let values = |option: &str| -> Vec<&str> {
            options.iter().filter(|(name, _)| name == option).map(|(_, value)| value.as_deref().unwrap()).collect()
        };
        let json = |option: &str| -> Vec<Value> {
            values(option).into_iter().map(|text| serde_json::from_str(text).unwrap()).collect()
        };

        prop_assert_eq!(
            read_list(values("-name")[0]),
            [("guest".to_owned(), name), ("debug-threads".to_owned(), "on".to_owned())]
        );
        prop_assert_eq!(values("-uuid"), [id().to_string()]);
        let chardevs: Vec<_> = values("-chardev").into_iter().map(read_list).collect();
        prop_assert_eq!(chardevs.len(), 3);
        for (chardev, path) in chardevs.iter().zip([&paths.qmp, &paths.serial, &paths.agent]) {
            let keys: Vec<&str> = chardev.iter().map(|(key, _)| key.as_str()).collect();
            prop_assert_eq!(&keys[..5], ["socket", "id", "path", "server", "wait"]);
            prop_assert_eq!(chardev[2].1.as_str(), path.to_str().unwrap());
            prop_assert!(keys.len() == 5 || keys[5..] == ["logfile", "logappend"]);
        }
        prop_assert_eq!(chardevs[1][5].1.as_str(), log.to_str().unwrap());

        let blocks = json("-blockdev");
        let filename = |id: &str| {
            let block = blocks.iter().find(|block| block["node-name"] == id).unwrap();
            assert!(block["file"]["driver"] == "file");
            (block["file"]["filename"].as_str().unwrap().to_owned(), block["driver"].clone(), block["read-only"].clone())
        };
        for disk in &machine.disks {
            let format = if disk.format == DiskFormat::Raw { "raw" } else { "qcow2" };
            let wanted = (disk.file.to_str().unwrap().to_owned(), Value::from(format), Value::Null);
            prop_assert_eq!(filename(disk.id.as_str()), wanted);
        }
        for cdrom in &machine.cdroms {
            if let Some(file) = &cdrom.file {
                let wanted = (file.to_str().unwrap().to_owned(), Value::from("raw"), Value::Bool(true));
                prop_assert_eq!(filename(cdrom.id.as_str()), wanted);
            }
        }
        for (backend, nic) in json("-netdev").iter().zip(&machine.nics) {
            let forwards = nic.network.forwards();
            prop_assert_eq!(&backend["type"], "user");
            let told = backend["hostfwd"].as_array().map_or(0, Vec::len);
            prop_assert_eq!(told, forwards.len());
            for (told, wanted) in backend["hostfwd"].as_array().into_iter().flatten().zip(forwards) {
                let text = told["str"].as_str().unwrap();
                prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b":.-".contains(&b)), "{}", text);
                let host_port = wanted.host_port.to_string();
                prop_assert_eq!(text.split([':', '-']).nth(2), Some(host_port.as_str()));
            }
        }
        let devices = json("-device");
        let mut ids: Vec<_> = devices.iter().filter_map(|device| device["id"].as_str()).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(ids.len(), count, "device ids differ");
        let mut places: Vec<_> = devices.iter().filter_map(|device| Some((device["bus"].as_str()?, device["addr"].as_str()?))).collect();
        let count = places.len();
        places.sort_unstable();
        places.dedup();
        prop_assert_eq!(places.len(), count, "no two devices share an address");
        let mut boot: Vec<_> = devices.iter().filter_map(|device| device["bootindex"].as_u64()).collect();
        boot.sort_unstable();
        prop_assert_eq!(boot, (0..(machine.disks.len() + machine.cdroms.len()) as u64).collect::<Vec<_>>());
    }
}
