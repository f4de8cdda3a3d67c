//! The proof that no input adds an option of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::Value;
use voidvm_model::spec::{
    Audio, Cache, Cdrom, Channel, ChannelKind, Disk, DiskBus, DiskFormat, Display, Firmware, MachineType,
    NetworkBackend, Nic, NicModel, PortForward, Protocol, Share, ShareKind, UsbDevice, UserStack, Watchdog,
};
use voidvm_model::vm::ActiveAccel;
use voidvm_model::{DeviceId, MachineSpec, MiB};
use voidvm_qemu::args::{LaunchPaths, build};

use crate::common::{caps, disk, id, key, nic, paths, spec};

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

fn named(kind: char, n: usize) -> DeviceId {
    format!("{kind}{n}").parse().unwrap()
}

/// What there was from the beginning.
fn simple_machines() -> impl Strategy<Value = MachineSpec> {
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
            machine.cdroms =
                cdroms.into_iter().enumerate().map(|(n, file)| Cdrom { id: named('c', n), file }).collect();
            machine.nics = vec![nic("n0", 0, forwards)];
            machine.nics.extend((1..=more_nics).map(|n| nic(&format!("n{n}"), n, vec![])));
            machine
        })
}

fn disk_kinds() -> impl Strategy<Value = Vec<(DiskBus, Cache, bool, bool)>> {
    let bus = prop::sample::select(vec![DiskBus::Virtio, DiskBus::Scsi, DiskBus::Nvme, DiskBus::Sata]);
    let cache = prop::sample::select(vec![Cache::Writeback, Cache::None, Cache::Writethrough, Cache::Unsafe]);
    prop::collection::vec((bus, cache, any::<bool>(), any::<bool>()), 5)
}

/// Everything there is.
fn machines() -> impl Strategy<Value = MachineSpec> {
    (
        simple_machines(),
        disk_kinds(),
        prop::collection::vec(0..4_u8, 3),
        prop::collection::vec((odd_path(), any::<[bool; 2]>()), 0..4),
        prop::collection::vec(any::<bool>(), 0..4),
        prop::collection::vec(odd_text(), 0..4),
        (odd_text(), prop::collection::vec(odd_text(), 0..5)),
        any::<[bool; 8]>(),
    )
        .prop_map(|(mut machine, kinds, cards, folders, lines, usb, (value, words), switches)| {
            let [old, clipboard, audio, tpm, watchdog, vsock, balloon, rng] = switches;
            let chipset_bus = if old { DiskBus::Ide } else { DiskBus::Sata };
            let mut room = 4 - machine.cdroms.len();
            for (disk, (bus, cache, iothread, encrypted)) in machine.disks.iter_mut().zip(kinds) {
                disk.bus = match bus {
                    DiskBus::Sata if room > 0 => {
                        room -= 1;
                        chipset_bus
                    }
                    DiskBus::Sata => DiskBus::Virtio,
                    other => other,
                };
                disk.cache = cache;
                disk.iothread = iothread && matches!(disk.bus, DiskBus::Virtio | DiskBus::Scsi);
                disk.key = encrypted.then(key);
            }
            for (card, kind) in machine.nics.iter_mut().zip(cards) {
                match kind {
                    0 => card.network = NetworkBackend::None,
                    1 => card.network = NetworkBackend::User { stack: UserStack::Passt, forwards: vec![] },
                    2 => card.model = NicModel::E1000e,
                    _ => {}
                }
            }
            machine.shares = folders
                .into_iter()
                .enumerate()
                .map(|(n, (folder, [nine_p, read_only]))| Share {
                    id: named('s', n),
                    tag: format!("t{n}"),
                    folder,
                    kind: if nine_p { ShareKind::NineP } else { ShareKind::Virtiofs },
                    read_only,
                })
                .collect();
            machine.channels = lines
                .into_iter()
                .enumerate()
                .map(|(n, virtio)| match virtio {
                    true => Channel { id: named('l', n), kind: ChannelKind::Virtio, name: format!("p.{n}") },
                    false => Channel { id: named('l', n), kind: ChannelKind::Serial, name: String::new() },
                })
                .collect();
            machine.usb = (1..)
                .zip(usb)
                .map(|(n, name)| UsbDevice {
                    id: named('u', usize::from(n)),
                    vendor_id: n,
                    product_id: 0xffff,
                    name,
                })
                .collect();
            machine.machine = if old { MachineType::I440fx } else { MachineType::Q35 };
            machine.display = if old { Display::Std } else { Display::Qxl };
            (machine.clipboard, machine.tpm, machine.vsock) = (clipboard, tpm, vsock);
            (machine.balloon, machine.rng) = (balloon, rng);
            machine.audio = if audio { Audio::Hda } else { Audio::None };
            machine.watchdog = watchdog.then_some(Watchdog::Pause);
            // An option of the user's own, whatever its value says, and words that are no options of ours.
            machine.extra_args = vec!["-append".to_owned(), value.replace('-', "_")];
            machine.extra_args.extend(words.into_iter().map(|word| format!("+{word}")));
            machine
        })
}

/// How many options a machine of this shape has, counted from the shape alone.
fn expected_count(machine: &MachineSpec) -> usize {
    let old = machine.machine == MachineType::I440fx;
    // What is always there; the old chipset has a controller for its pointer and no spare ports.
    let mut count = 33 + if old { 1 } else { 4 } - 4;
    count += if machine.balloon { 1 } else { 0 } + if machine.rng { 2 } else { 0 };
    count += if machine.firmware == Firmware::Uefi { 2 } else { 0 };
    count += if machine.clipboard { 2 } else { 0 };
    count += if machine.audio == Audio::Hda { 3 } else { 0 };
    count += if machine.tpm { 3 } else { 0 };
    count += if machine.watchdog.is_some() { 2 } else { 0 };
    count += usize::from(machine.vsock);
    let scsi: Vec<&Disk> = machine.disks.iter().filter(|disk| disk.bus == DiskBus::Scsi).collect();
    count += usize::from(!scsi.is_empty()) + usize::from(scsi.iter().any(|disk| disk.iothread));
    for disk in &machine.disks {
        let on_pci = matches!(disk.bus, DiskBus::Virtio | DiskBus::Nvme);
        count += 2 + usize::from(on_pci && !old) + usize::from(disk.key.is_some());
        count += usize::from(disk.iothread && disk.bus == DiskBus::Virtio);
    }
    count += machine.cdroms.len() + machine.cdroms.iter().filter(|cdrom| cdrom.file.is_some()).count();
    for nic in &machine.nics {
        count += 1 + usize::from(!old) + usize::from(nic.network != NetworkBackend::None);
    }
    count + machine.usb.len() + 2 * machine.shares.len() + 2 * machine.channels.len()
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
        let each = |ids: Vec<&DeviceId>| -> BTreeMap<DeviceId, PathBuf> {
            ids.into_iter().map(|id| (id.clone(), format!("{short}/{id}").into())).collect()
        };
        let paths = LaunchPaths {
            qmp: format!("{short}/q").into(),
            serial: format!("{short}/s").into(),
            agent: format!("{short}/a").into(),
            serial_log: log.clone(),
            keys: each(machine.disks.iter().map(|disk| &disk.id).collect()),
            passt: machine.nics.iter().zip(5..).map(|(nic, fd)| (nic.id.clone(), fd)).collect(),
            shares: each(machine.shares.iter().map(|share| &share.id).collect()),
            channels: each(machine.channels.iter().map(|channel| &channel.id).collect()),
            tpm: Some(format!("{short}/t").into()),
            ..paths()
        };
        let args = build(id(), &name, &machine, ActiveAccel::Tcg, &paths, &caps()).unwrap();
        let mut args: Vec<String> = args.into_iter().map(|arg| arg.into_string().unwrap()).collect();
        // The user's own words are the end of the list, as they were written.
        let own = args.split_off(args.len() - machine.extra_args.len());
        prop_assert_eq!(&own, &machine.extra_args);
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
        let chardevs: BTreeMap<String, Vec<(String, String)>> = values("-chardev")
            .into_iter()
            .map(read_list)
            .map(|list| (list[1].1.clone(), list))
            .collect();
        let mut sockets = vec![("vv.qmp".to_owned(), paths.qmp.clone(), true)];
        sockets.push(("vv.serial".to_owned(), paths.serial.clone(), true));
        sockets.push(("vv.agent".to_owned(), paths.agent.clone(), true));
        let of = |map: &BTreeMap<DeviceId, PathBuf>, id: &DeviceId| map[id].clone();
        for channel in &machine.channels {
            sockets.push((format!("vv.line.{}", channel.id), of(&paths.channels, &channel.id), true));
        }
        for share in machine.shares.iter().filter(|share| share.kind == ShareKind::Virtiofs) {
            sockets.push((format!("vv.folder.{}", share.id), of(&paths.shares, &share.id), false));
        }
        if machine.tpm {
            sockets.push(("vv.swtpm".to_owned(), paths.tpm.clone().unwrap(), false));
        }
        prop_assert_eq!(chardevs.len(), sockets.len() + usize::from(machine.clipboard));
        for (id, path, listens) in sockets {
            let list = &chardevs[&id];
            let keys: Vec<&str> = list.iter().map(|(key, _)| key.as_str()).collect();
            let wanted: &[&str] = match (listens, id.as_str()) {
                (true, "vv.serial") => &["socket", "id", "path", "server", "wait", "logfile", "logappend"],
                (true, _) => &["socket", "id", "path", "server", "wait"],
                (false, _) => &["socket", "id", "path"],
            };
            prop_assert_eq!(keys.as_slice(), wanted);
            prop_assert_eq!(list[2].1.as_str(), path.to_str().unwrap());
        }
        prop_assert_eq!(chardevs["vv.serial"][5].1.as_str(), log.to_str().unwrap());

        let folders: Vec<_> = values("-fsdev").into_iter().map(read_list).collect();
        let nine_p: Vec<&Share> =
            machine.shares.iter().filter(|share| share.kind == ShareKind::NineP).collect();
        prop_assert_eq!(folders.len(), nine_p.len());
        for (list, share) in folders.iter().zip(nine_p) {
            let keys: Vec<&str> = list.iter().map(|(key, _)| key.as_str()).collect();
            prop_assert_eq!(&keys[..5], ["local", "id", "path", "security_model", "multidevs"]);
            prop_assert_eq!(list[2].1.as_str(), share.folder.to_str().unwrap());
            let rest: &[&str] = if share.read_only { &["readonly"] } else { &[] };
            prop_assert_eq!(&keys[5..], rest);
        }

        let blocks = json("-blockdev");
        let node = |id: &str| {
            let block = blocks.iter().find(|block| block["node-name"] == id).unwrap();
            assert!(block["file"]["driver"] == "file");
            (block["file"]["filename"].as_str().unwrap().to_owned(), block.clone())
        };
        for disk in &machine.disks {
            let driver = match (disk.format, &disk.key) {
                (DiskFormat::Raw, None) => "raw",
                (DiskFormat::Raw, Some(_)) => "luks",
                (DiskFormat::Qcow2, _) => "qcow2",
            };
            let (file, block) = node(disk.id.as_str());
            prop_assert_eq!(file.as_str(), disk.file.to_str().unwrap());
            prop_assert_eq!(&block["driver"], driver);
            prop_assert_eq!(&block["read-only"], &Value::Null);
            prop_assert_eq!(block.to_string().contains("key-secret"), disk.key.is_some());
        }
        for cdrom in &machine.cdroms {
            if let Some(wanted) = &cdrom.file {
                let (file, block) = node(cdrom.id.as_str());
                prop_assert_eq!(file.as_str(), wanted.to_str().unwrap());
                prop_assert_eq!((&block["driver"], &block["read-only"]), (&"raw".into(), &true.into()));
            }
        }
        let objects = json("-object");
        let secrets: Vec<&Value> = objects.iter().filter(|object| object["qom-type"] == "secret").collect();
        let encrypted: Vec<&Disk> = machine.disks.iter().filter(|disk| disk.key.is_some()).collect();
        prop_assert_eq!(secrets.len(), encrypted.len());
        for (secret, disk) in secrets.iter().zip(encrypted) {
            prop_assert_eq!(secret["file"].as_str().unwrap(), paths.keys[&disk.id].to_str().unwrap());
            prop_assert!(secret["data"].is_null());
        }
        let plugged: Vec<&Nic> =
            machine.nics.iter().filter(|nic| nic.network != NetworkBackend::None).collect();
        let backends = json("-netdev");
        prop_assert_eq!(backends.len(), plugged.len());
        for (backend, nic) in backends.iter().zip(plugged) {
            if let NetworkBackend::User { stack: UserStack::Passt, .. } = nic.network {
                let fd = paths.passt[&nic.id].to_string();
                prop_assert_eq!(&backend["addr"], &serde_json::json!({"type": "fd", "str": fd}));
                continue;
            }
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
