//! What no specification may say: a table, each line with the field that is named. Whatever is refused says what to do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it expects by panicking")]

use std::collections::BTreeSet;

use voidvm_model::ErrorCode;
use voidvm_model::spec::{
    Cdrom, Channel, ChannelKind, CpuModel, CpuTopology, Disk, DiskBus, DiskFormat, FileOwner, Firmware,
    MacAddr, MachineSpec, MachineType, NetworkBackend, Nic, PortForward, Protocol, Share, ShareKind,
    UsbDevice,
};
use voidvm_model::units::MiB;

fn disk(n: usize) -> Disk {
    Disk::new(
        format!("disk{n}").parse().unwrap(),
        format!("/vms/disk{n}.qcow2").into(),
        DiskFormat::Qcow2,
        FileOwner::Machine,
    )
}

fn on(n: usize, bus: DiskBus) -> Disk {
    Disk { bus, ..disk(n) }
}

fn cdrom(n: usize) -> Cdrom {
    Cdrom { id: format!("cd{n}").parse().unwrap(), file: None }
}

fn nic(n: u8, forwards: Vec<PortForward>) -> Nic {
    Nic::new(format!("nic{n}").parse().unwrap(), MacAddr::qemu([0, 0, n]), NetworkBackend::user(forwards))
}

fn usb(n: u16) -> UsbDevice {
    UsbDevice {
        id: format!("usb{n}").parse().unwrap(),
        vendor_id: 0x1234,
        product_id: 0x10 + n,
        name: "A stick".to_owned(),
    }
}

fn share(n: usize) -> Share {
    Share {
        id: format!("share{n}").parse().unwrap(),
        tag: format!("tag{n}"),
        folder: "/home/u/shared".into(),
        kind: ShareKind::NineP,
        read_only: false,
    }
}

fn line(n: usize) -> Channel {
    Channel {
        id: format!("line{n}").parse().unwrap(),
        kind: ChannelKind::Virtio,
        name: format!("org.example.{n}"),
    }
}

fn serial(n: usize) -> Channel {
    Channel { kind: ChannelKind::Serial, name: String::new(), ..line(n) }
}

/// A machine with something of everything.
fn spec() -> MachineSpec {
    MachineSpec {
        firmware: Firmware::Uefi,
        disks: vec![disk(0), disk(1)],
        cdroms: vec![cdrom(0)],
        nics: vec![nic(0, vec![PortForward::tcp(8080, 80)]), nic(1, vec![])],
        usb: vec![usb(0)],
        shares: vec![share(0)],
        channels: vec![line(0)],
        extra_args: vec!["-device".to_owned(), "edu".to_owned()],
        ..MachineSpec::new(2, MiB(1024))
    }
}

/// The same on the old chipset.
fn old(change: impl FnOnce(&mut MachineSpec) + 'static) -> Change {
    Box::new(|spec| {
        spec.machine = MachineType::I440fx;
        change(spec);
    })
}

fn forwards(spec: &mut MachineSpec) -> &mut Vec<PortForward> {
    let NetworkBackend::User { forwards, .. } = &mut spec.nics[0].network else { panic!("no forwards") };
    forwards
}

type Change = Box<dyn FnOnce(&mut MachineSpec)>;

/// One line of the table for each value.
fn each<T: 'static>(
    field: &str,
    values: impl IntoIterator<Item = T>,
    change: impl Fn(&mut MachineSpec, T) + Clone + 'static,
) -> Vec<(String, Change)> {
    values
        .into_iter()
        .map(|value| {
            let change = change.clone();
            let change: Change = Box::new(move |spec| change(spec, value));
            (field.to_owned(), change)
        })
        .collect()
}

fn one(field: &str, change: impl FnOnce(&mut MachineSpec) + 'static) -> Vec<(String, Change)> {
    vec![(field.to_owned(), Box::new(change))]
}

fn topology(sockets: u16, cores: u16, threads: u16) -> Option<CpuTopology> {
    Some(CpuTopology { sockets, cores, threads })
}

fn platform() -> Vec<(String, Change)> {
    let mut table = Vec::new();
    table.extend(each("spec.version", [0, 3, 4, u32::MAX], |s, v| s.version = v));
    table.extend(one("spec.machineVersion", |s| {
        s.machine_version = Some("pc-i440fx-7.2".to_owned().try_into().unwrap());
    }));
    table.push((
        "spec.machineVersion".to_owned(),
        old(|s| s.machine_version = Some("pc-q35-7.2".to_owned().try_into().unwrap())),
    ));
    table.extend(each("spec.cpus", [0, 256, 1000, u16::MAX], |s, v| s.cpus = v));
    table.extend(each("spec.maxCpus", [0, 1, 256, u16::MAX], |s, v| s.max_cpus = Some(v)));
    table.push(("spec.maxCpus".to_owned(), old(|s| s.max_cpus = Some(4))));
    table.extend(each("spec.topology.sockets", [0, 65, u16::MAX], |s, v| s.topology = topology(v, 1, 1)));
    table.extend(each("spec.topology.cores", [0, 256, u16::MAX], |s, v| s.topology = topology(1, v, 1)));
    table.extend(each("spec.topology.threads", [0, 3, 4, u16::MAX], |s, v| s.topology = topology(1, 2, v)));
    table.extend(each(
        "spec.topology",
        [(1, 1, 1), (1, 4, 1), (2, 2, 1), (1, 2, 2), (2, 1, 2), (64, 255, 2)],
        |s, (sockets, cores, threads)| s.topology = topology(sockets, cores, threads),
    ));
    // The product of the most CPUs, not of the first.
    table.extend(each("spec.topology", [(1, 2, 1), (2, 1, 1), (2, 4, 2)], |s, (sockets, cores, threads)| {
        s.max_cpus = Some(8);
        s.topology = topology(sockets, cores, threads);
    }));
    // Numbers of more than eight bits.
    table.extend(each("spec.topology", [(3, 85, 1), (5, 51, 1), (17, 15, 1), (3, 33, 2)], |s, (a, b, c)| {
        s.cpus = a * b * c;
        s.topology = topology(a, b, c);
    }));
    let names = [
        "", "host", "max", "-x", ".x", "_x", "a b", "a,b", "a=on", "a,+vmx", "max,-sse", "a/b", "ä", "a\n",
        "a'", "?",
    ];
    table.extend(each("spec.cpuModel.name", names, |s, v| {
        s.cpu_model = CpuModel::Named { name: v.to_owned() }
    }));
    table.extend(one("spec.cpuModel.name", |s| s.cpu_model = CpuModel::Named { name: "x".repeat(65) }));
    table.extend(each("spec.memory", [0, 1, 31, 4 * 1024 * 1024 + 1, u64::MAX], |s, v| s.memory = MiB(v)));
    table.extend(each("spec.maxMemory", [0, 31, 512, 1023, 4 * 1024 * 1024 + 1, u64::MAX], |s, v| {
        s.max_memory = Some(MiB(v));
    }));
    table.push(("spec.maxMemory".to_owned(), old(|s| s.max_memory = Some(MiB(2048)))));
    table.push(("spec.firmware".to_owned(), old(|s| s.firmware = Firmware::UefiSecure)));
    table
}

const PATHS: [&str; 9] =
    ["", "disk.qcow2", "./disk", "../disk", "nbd://host/x", "json:{}", "/a\nb", "/a\u{7}b", "/a/../b"];

fn disks() -> Vec<(String, Change)> {
    let mut table = Vec::new();
    table.extend(each("spec.disks[0].file", PATHS, |s, v| s.disks[0].file = v.into()));
    table.extend(one("spec.disks[0].file", |s| s.disks[0].file = format!("/{}", "x".repeat(5000)).into()));
    table.extend(one("spec.disks[0].file", |s| {
        use std::os::unix::ffi::OsStrExt;
        s.disks[0].file = std::ffi::OsStr::from_bytes(b"/a\xff").into();
    }));
    table.extend(one("spec.disks[1].file", |s| s.disks[1].file = s.disks[0].file.clone()));
    table.extend(one("spec.disks[1].id", |s| s.disks[1].id = s.disks[0].id.clone()));
    table.extend(one("spec.disks[1].bus", |s| s.disks[1].bus = DiskBus::Ide));
    table.push(("spec.disks[1].bus".to_owned(), old(|s| s.disks[1].bus = DiskBus::Sata)));
    // Six ports, one of them the CD-ROM drive's; four, and again one of them.
    table.extend(one("spec.disks[5].bus", |s| s.disks = (0..6).map(|n| on(n, DiskBus::Sata)).collect()));
    table.extend(one("spec.disks[7].bus", |s| {
        s.disks = (0..8).map(|n| on(n, if n % 2 == 1 { DiskBus::Sata } else { DiskBus::Nvme })).collect();
        s.cdroms = (0..3).map(cdrom).collect();
    }));
    table.push((
        "spec.disks[3].bus".to_owned(),
        old(|s| s.disks = (0..4).map(|n| on(n, DiskBus::Ide)).collect()),
    ));
    table.push((
        "spec.disks[0].bus".to_owned(),
        old(|s| {
            s.disks = vec![on(0, DiskBus::Ide)];
            s.cdroms = (0..4).map(cdrom).collect();
        }),
    ));
    table.extend(each("spec.disks[1].iothread", [DiskBus::Sata, DiskBus::Nvme], |s, bus| {
        s.disks[1] = Disk { iothread: true, ..on(1, bus) };
    }));
    table.push((
        "spec.disks[1].iothread".to_owned(),
        old(|s| s.disks[1] = Disk { iothread: true, ..on(1, DiskBus::Ide) }),
    ));
    table.extend(one("spec.disks[1].readOnly", |s| {
        s.disks[1] = Disk { read_only: true, ..on(1, DiskBus::Sata) };
    }));
    table.push((
        "spec.disks[0].readOnly".to_owned(),
        old(|s| s.disks[0] = Disk { read_only: true, ..on(0, DiskBus::Ide) }),
    ));
    table.extend(each("spec.disks", [17, 20, 1000], |s, n| s.disks = (0..n).map(disk).collect()));
    table.extend(each("spec.cdroms[0].file", PATHS, |s, v| s.cdroms[0].file = Some(v.into())));
    table.extend(one("spec.cdroms[0].id", |s| s.cdroms[0].id = s.disks[1].id.clone()));
    table.extend(each("spec.cdroms", [5, 100], |s, n| s.cdroms = (0..n).map(cdrom).collect()));
    table
}

fn network() -> Vec<(String, Change)> {
    let mut table = Vec::new();
    table.extend(one("spec.nics[1].id", |s| s.nics[1].id = s.nics[0].id.clone()));
    table.extend(one("spec.nics[0].id", |s| s.nics[0].id = s.cdroms[0].id.clone()));
    table.extend(one("spec.nics[1].mac", |s| s.nics[1].mac = s.nics[0].mac));
    table.extend(each("spec.nics", [9, 200], |s, n| s.nics = (0..n).map(|n| nic(n, vec![])).collect()));
    let first = "spec.nics[0].network.forwards[0]";
    table.extend(each(&format!("{first}.hostPort"), [0, 1, 22, 80, 443, 1023], |s, v| {
        forwards(s)[0].host_port = v;
    }));
    table.extend(one(&format!("{first}.guestPort"), |s| forwards(s)[0].guest_port = 0));
    let second = "spec.nics[0].network.forwards[1].hostPort";
    table.extend(each(
        second,
        [
            PortForward::tcp(8080, 80),
            PortForward::tcp(8080, 81),
            PortForward { host_address: [0, 0, 0, 0].into(), ..PortForward::tcp(8080, 81) },
        ],
        |s, forward| forwards(s).push(forward),
    ));
    table.extend(one(second, |s| {
        forwards(s)[0].protocol = Protocol::Udp;
        forwards(s).push(PortForward { protocol: Protocol::Udp, ..PortForward::tcp(8080, 53) });
    }));
    table.extend(one("spec.nics[1].network.forwards[0].hostPort", |s| {
        s.nics[1].network = NetworkBackend::user(vec![PortForward::tcp(8080, 80)]);
    }));
    table
}

fn around() -> Vec<(String, Change)> {
    let mut table = Vec::new();
    table.extend(one("spec.usb[0].id", |s| s.usb[0].id = s.nics[0].id.clone()));
    table.extend(one("spec.usb[0].vendorId", |s| s.usb[0].vendor_id = 0));
    table.extend(one("spec.usb[0].productId", |s| s.usb[0].product_id = 0));
    table.extend(one("spec.usb[1].productId", |s| s.usb.push(UsbDevice { id: usb(1).id, ..usb(0) })));
    table.extend(each("spec.usb[0].name", ["a\nb".to_owned(), "x".repeat(201)], |s, v| s.usb[0].name = v));
    table.extend(each("spec.usb", [8, 100], |s, n| s.usb = (0..n).map(usb).collect()));

    table.extend(one("spec.shares[0].id", |s| s.shares[0].id = s.usb[0].id.clone()));
    let tags = ["", "1a", "-a", "_a", "a b", "a,b", "a=b", "a/b", "a.b", "ä", "a\n"];
    table.extend(each("spec.shares[0].tag", tags, |s, v| s.shares[0].tag = v.to_owned()));
    table.extend(one("spec.shares[0].tag", |s| s.shares[0].tag = "x".repeat(32)));
    table.extend(one("spec.shares[1].tag", |s| s.shares.push(Share { id: share(1).id, ..share(0) })));
    table.extend(each("spec.shares[0].folder", PATHS, |s, v| s.shares[0].folder = v.into()));
    table.extend(each("spec.shares", [9, 100], |s, n| s.shares = (0..n).map(share).collect()));

    table.extend(one("spec.channels[0].id", |s| s.channels[0].id = s.shares[0].id.clone()));
    let names = ["", "a b", "a,b", "a/b", "ä", "a\n", "org.qemu.guest_agent.0", "com.redhat.spice.0"];
    table.extend(each("spec.channels[0].name", names, |s, v| s.channels[0].name = v.to_owned()));
    table.extend(one("spec.channels[0].name", |s| s.channels[0].name = "x".repeat(65)));
    table.extend(one("spec.channels[1].name", |s| {
        s.channels.push(Channel { id: line(1).id, ..line(0) });
    }));
    table.extend(one("spec.channels[1].name", |s| {
        s.channels.push(Channel { name: "com1".to_owned(), ..serial(1) });
    }));
    table.extend(one("spec.channels[4].kind", |s| s.channels.extend((1..5).map(serial))));
    table.extend(each("spec.channels", [17, 100], |s, n| s.channels = (0..n).map(line).collect()));
    table
}

fn extra() -> Vec<(String, Change)> {
    let mut table = Vec::new();
    let refused = [
        "-S",
        "-daemonize",
        "-qmp",
        "-qmp-pretty",
        "-mon",
        "-monitor",
        "-pidfile",
        "-sandbox",
        "-uuid",
        "-name",
        "-runas",
        "-chroot",
        "-run-with",
        "-preconfig",
        "-incoming",
        "-loadvm",
        "-no-shutdown",
        "-action",
        "-readconfig",
        "-writeconfig",
        "-m",
        "-smp",
        "-accel",
        "-enable-kvm",
        "-vnc",
        "-nographic",
        "-curses",
        "-h",
        "-help",
        "-version",
        "-dump-vmstate",
        "--S",
        "--daemonize",
        "--qmp",
        "--sandbox",
    ];
    table
        .extend(each("spec.extraArgs[0]", refused, |s, v| s.extra_args = vec![v.to_owned(), "x".to_owned()]));
    table.extend(each("spec.extraArgs[2]", refused, |s, v| s.extra_args.push(v.to_owned())));
    let first = ["", "/dev/sda", "edu", " -device", "; rm"];
    table.extend(each("spec.extraArgs[0]", first, |s, v| s.extra_args = vec![v.to_owned()]));
    let odd = ["a\nb", "a\0b", "a\tb", "\u{1b}[0m", "-device\n"];
    table.extend(each("spec.extraArgs[1]", odd, |s, v| s.extra_args[1] = v.to_owned()));
    table.extend(one("spec.extraArgs[1]", |s| s.extra_args[1] = "x".repeat(4097)));
    table.extend(one("spec.extraArgs", |s| s.extra_args = vec!["-device".to_owned(); 129]));
    table
}

#[test]
fn every_wrong_specification_is_refused_by_its_field() {
    spec().validate().unwrap();
    let mut specs = BTreeSet::new();
    let mut wrong = Vec::new();
    let table = [platform(), disks(), network(), around(), extra()];
    for (field, change) in table.into_iter().flatten() {
        let mut spec = spec();
        change(&mut spec);
        let shown = format!("{spec:?}");
        match spec.validate() {
            Ok(()) => wrong.push(format!("{field}: accepted: {shown}")),
            Err(error) => {
                assert_eq!(error.code, ErrorCode::InvalidInput);
                if error.field.as_deref() != Some(field.as_str()) {
                    wrong.push(format!("{field}: named {:?}: {}", error.field, error.message));
                }
                let hint = error.hint.as_deref().unwrap_or_default();
                if !hint.ends_with('.') || !error.message.ends_with('.') {
                    wrong.push(format!("{field}: no sentence, or no remedy: {} {hint}", error.message));
                }
            }
        }
        assert!(specs.insert(shown.clone()), "twice in the table: {field}: {shown}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(specs.len() >= 150, "{}", specs.len());
}

/// The neighbours of what is refused.
#[test]
fn what_is_just_within_bounds_is_accepted() {
    let mut table: Vec<Change> = vec![
        Box::new(|s| s.version = 1),
        Box::new(|s| s.cpus = 1),
        Box::new(|s| s.cpus = 255),
        Box::new(|s| s.max_cpus = Some(2)),
        Box::new(|s| s.max_cpus = Some(255)),
        Box::new(|s| s.topology = topology(2, 1, 1)),
        Box::new(|s| s.topology = topology(1, 1, 2)),
        Box::new(|s| {
            s.max_cpus = Some(16);
            s.topology = topology(2, 4, 2);
        }),
        Box::new(|s| {
            s.cpus = 128;
            s.topology = topology(64, 1, 2);
        }),
        Box::new(|s| s.memory = MiB(32)),
        Box::new(|s| s.memory = MiB(4 << 20)),
        Box::new(|s| s.max_memory = Some(MiB(1024))),
        Box::new(|s| s.max_memory = Some(MiB(4 << 20))),
        Box::new(|s| s.firmware = Firmware::UefiSecure),
        Box::new(|s| s.cpu_model = CpuModel::Named { name: "486-v1".to_owned() }),
        Box::new(|s| s.cpu_model = CpuModel::Named { name: "x".repeat(64) }),
        Box::new(|s| s.disks = (0..16).map(disk).collect()),
        Box::new(|s| s.disks = (0..5).map(|n| on(n, DiskBus::Sata)).collect()),
        Box::new(|s| s.disks[0] = Disk { iothread: true, read_only: true, ..on(0, DiskBus::Scsi) }),
        Box::new(|s| s.disks[0] = Disk { read_only: true, ..on(0, DiskBus::Nvme) }),
        Box::new(|s| s.cdroms = (0..4).map(cdrom).collect()),
        Box::new(|s| s.nics = (0..8).map(|n| nic(n, vec![])).collect()),
        Box::new(|s| forwards(s).push(PortForward { protocol: Protocol::Udp, ..PortForward::tcp(8080, 80) })),
        Box::new(|s| s.usb = (0..7).map(usb).collect()),
        Box::new(|s| s.shares = (0..8).map(share).collect()),
        Box::new(|s| s.shares[0].tag = "x".repeat(31)),
        Box::new(|s| s.channels = (0..16).map(line).collect()),
        Box::new(|s| s.channels.extend((1..4).map(serial))),
        Box::new(|s| s.extra_args = vec![]),
        Box::new(|s| s.extra_args = vec!["-s".to_owned()]),
        Box::new(|s| s.extra_args = vec!["-append".to_owned(), String::new()]),
        Box::new(|s| s.extra_args[1] = "x".repeat(4096)),
    ];
    table.push(old(|s| s.disks = (0..3).map(|n| on(n, DiskBus::Ide)).collect()));
    table.push(old(|s| s.topology = topology(1, 2, 1)));
    table.push(old(|s| s.machine_version = Some("pc-i440fx-7.2".to_owned().try_into().unwrap())));
    for (line, change) in table.into_iter().enumerate() {
        let mut spec = spec();
        change(&mut spec);
        spec.validate().unwrap_or_else(|error| panic!("line {line}: {error}"));
    }
}
