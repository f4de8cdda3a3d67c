//! Machines of every kind, as data: name and specification. Their files are made when one is started.

use voidvm_model::spec::{
    Audio, Cache, Cdrom, Channel, ChannelKind, CpuModel, CpuTopology, Discard, Disk, DiskBus, DiskFormat,
    Display, FileOwner, Firmware, GuestClock, MacAddr, MachineType, NetworkBackend, Nic, NicModel,
    PortForward, Protocol, Share, ShareKind, UsbDevice, UserStack, Watchdog,
};
use voidvm_model::{MachineSpec, MiB, SecretId};

use crate::common::{empty_spec, free_port};

pub(crate) type Row = (String, MachineSpec);

const CHIPSETS: [MachineType; 2] = [MachineType::Q35, MachineType::I440fx];
const CACHES: [Cache; 4] = [Cache::Writeback, Cache::None, Cache::Writethrough, Cache::Unsafe];

fn buses(machine: MachineType) -> [DiskBus; 4] {
    let of_chipset = if machine == MachineType::Q35 { DiskBus::Sata } else { DiskBus::Ide };
    [DiskBus::Virtio, DiskBus::Scsi, DiskBus::Nvme, of_chipset]
}

fn bare(machine: MachineType) -> MachineSpec {
    MachineSpec { machine, ..empty_spec() }
}

/// The file's directory is filled in when the machine is started.
fn disk(n: usize, bus: DiskBus, format: DiskFormat) -> Disk {
    let file = format!("/disk {n},readonly=on.{format:?}").into();
    Disk { bus, ..Disk::new(format!("disk{n}").parse().unwrap(), file, format, FileOwner::Machine) }
}

fn qcow2(n: usize, bus: DiskBus) -> Disk {
    disk(n, bus, DiskFormat::Qcow2)
}

fn cdrom(n: usize, medium: Option<&str>) -> Cdrom {
    Cdrom { id: format!("cd{n}").parse().unwrap(), file: medium.map(Into::into) }
}

fn nic(n: u8, model: NicModel, network: NetworkBackend) -> Nic {
    let id = format!("nic{n}").parse().unwrap();
    Nic { model, ..Nic::new(id, MacAddr::qemu([0, 1, n]), network) }
}

fn with(machine: MachineType, change: impl FnOnce(&mut MachineSpec)) -> MachineSpec {
    let mut spec = bare(machine);
    change(&mut spec);
    spec
}

fn with_disks(machine: MachineType, disks: Vec<Disk>) -> MachineSpec {
    with(machine, |spec| spec.disks = disks)
}

/// Every bus with every cache, every format and discard on the way.
pub(crate) fn disks() -> Vec<Row> {
    let mut rows = Vec::new();
    for machine in CHIPSETS {
        for (at, bus) in buses(machine).into_iter().enumerate() {
            for (and, cache) in CACHES.into_iter().enumerate() {
                let format = if (at + and) % 2 == 0 { DiskFormat::Qcow2 } else { DiskFormat::Raw };
                let discard = if and < 2 { Discard::Unmap } else { Discard::Ignore };
                let disk = Disk { cache, discard, ..disk(0, bus, format) };
                rows.push((format!("{machine:?} {bus:?} {cache:?}"), with_disks(machine, vec![disk])));
            }
            if !matches!(bus, DiskBus::Sata | DiskBus::Ide) {
                let disk = Disk { read_only: true, ..qcow2(0, bus) };
                rows.push((format!("{machine:?} {bus:?} read-only"), with_disks(machine, vec![disk])));
            }
            if matches!(bus, DiskBus::Virtio | DiskBus::Scsi) {
                let disks = (0..2).map(|n| Disk { iothread: true, ..qcow2(n, bus) }).collect();
                rows.push((format!("{machine:?} {bus:?} in a thread"), with_disks(machine, disks)));
            }
            for format in [DiskFormat::Qcow2, DiskFormat::Raw] {
                let disk = Disk { key: Some(SecretId::new()), ..disk(0, bus, format) };
                rows.push((
                    format!("{machine:?} {bus:?} encrypted {format:?}"),
                    with_disks(machine, vec![disk]),
                ));
            }
        }
    }
    rows
}

/// As many drives as there can be, and drives of all kinds together.
pub(crate) fn many_drives() -> Vec<Row> {
    let mut rows = Vec::new();
    for machine in CHIPSETS {
        let [.., of_chipset] = buses(machine);
        for bus in [DiskBus::Virtio, DiskBus::Scsi, DiskBus::Nvme] {
            let disks = (0..16).map(|n| qcow2(n, bus)).collect();
            rows.push((format!("{machine:?} 16 {bus:?}"), with_disks(machine, disks)));
        }
        let room = if machine == MachineType::Q35 { 6 } else { 4 };
        for cdroms in 0..=4 {
            let spec = with(machine, |spec| {
                spec.disks = (0..room - cdroms).map(|n| qcow2(n, of_chipset)).collect();
                spec.cdroms = (0..cdroms).map(|n| cdrom(n, (n % 2 == 0).then_some("/a, b.iso"))).collect();
                spec.boot_from_cdrom = cdroms % 2 == 1;
            });
            rows.push((format!("{machine:?} {cdroms} CD-ROM drives, the rest disks"), spec));
        }
        for first in 0..4 {
            let spec = with(machine, |spec| {
                let all = buses(machine);
                spec.disks = (0..8).map(|n| qcow2(n, all[(first + n) % 4])).collect();
                spec.cdroms = vec![cdrom(0, Some("/install.iso")), cdrom(1, None)];
                spec.boot_from_cdrom = first % 2 == 0;
            });
            rows.push((format!("{machine:?} every bus from {first}"), spec));
        }
    }
    rows
}

/// Every card with every network, plugged in or not.
pub(crate) fn network() -> Vec<Row> {
    let mut rows = Vec::new();
    for machine in CHIPSETS {
        for model in [NicModel::Virtio, NicModel::E1000e] {
            let forwards = || {
                let udp = PortForward { protocol: Protocol::Udp, ..PortForward::tcp(free_port(), 53) };
                vec![PortForward::tcp(free_port(), 80), udp]
            };
            for (kind, network) in [
                ("slirp", NetworkBackend::user(vec![])),
                ("slirp with forwards", NetworkBackend::user(forwards())),
                ("passt", NetworkBackend::User { stack: UserStack::Passt, forwards: vec![] }),
                ("nothing", NetworkBackend::None),
            ] {
                for link in [true, false] {
                    let card = Nic { link, ..nic(0, model, network.clone()) };
                    let spec = with(machine, |spec| spec.nics = vec![card]);
                    // The same forwards twice would be one machine in the way of the other.
                    if link || network.forwards().is_empty() {
                        rows.push((format!("{machine:?} {model:?} on {kind}, link {link}"), spec));
                    }
                }
            }
        }
        let cards = |n: u8| {
            let model = if n.is_multiple_of(2) { NicModel::Virtio } else { NicModel::E1000e };
            nic(n, model, if n % 3 == 2 { NetworkBackend::None } else { NetworkBackend::user(vec![]) })
        };
        rows.push((
            format!("{machine:?} 8 cards"),
            with(machine, |spec| spec.nics = (0..8).map(cards).collect()),
        ));
    }
    rows
}

/// Screens, firmware and TPM.
pub(crate) fn boards() -> Vec<Row> {
    let mut rows = Vec::new();
    for machine in CHIPSETS {
        for firmware in [Firmware::Bios, Firmware::Uefi, Firmware::UefiSecure] {
            if machine == MachineType::I440fx && firmware == Firmware::UefiSecure {
                continue;
            }
            for display in [Display::Virtio, Display::Std, Display::Qxl] {
                let spec = with(machine, |spec| (spec.firmware, spec.display) = (firmware, display));
                rows.push((format!("{machine:?} {firmware:?} {display:?}"), spec));
            }
            let spec = with(machine, |spec| (spec.firmware, spec.tpm) = (firmware, true));
            rows.push((format!("{machine:?} {firmware:?} with a TPM"), spec));
        }
        for minor in ["7.2", "7.1", "7.0", "6.2", "6.1", "6.0"] {
            let chipset = if machine == MachineType::Q35 { "pc-q35" } else { "pc-i440fx" };
            let version = format!("{chipset}-{minor}");
            let spec = with(machine, |spec| {
                spec.machine_version = Some(version.clone().try_into().unwrap());
                spec.nics = vec![nic(0, NicModel::Virtio, NetworkBackend::None)];
            });
            rows.push((version, spec));
        }
    }
    rows
}

/// Processors and memory.
pub(crate) fn processors() -> Vec<Row> {
    let mut rows = Vec::new();
    for cpus in [2, 3, 16, 64] {
        for machine in CHIPSETS {
            rows.push((format!("{machine:?} {cpus} CPUs"), with(machine, |spec| spec.cpus = cpus)));
        }
    }
    for (cpus, max, sockets, cores, threads) in [
        (2, None, 2, 1, 1),
        (2, None, 1, 1, 2),
        (4, None, 1, 2, 2),
        (6, None, 2, 3, 1),
        (1, Some(2), 1, 1, 2),
        (1, Some(8), 2, 2, 2),
        (3, Some(12), 4, 3, 1),
        (2, Some(64), 64, 1, 1),
        (1, Some(255), 1, 255, 1),
        (4, Some(128), 2, 32, 2),
    ] {
        let spec = with(MachineType::Q35, |spec| {
            (spec.cpus, spec.max_cpus) = (cpus, max);
            spec.topology = Some(CpuTopology { sockets, cores, threads });
        });
        rows.push((format!("{cpus} of {max:?} CPUs as {sockets}×{cores}×{threads}"), spec));
    }
    for max in [2, 7] {
        let spec = with(MachineType::Q35, |spec| spec.max_cpus = Some(max));
        rows.push((format!("1 of {max} CPUs"), spec));
    }
    let models = [
        "qemu64",
        "qemu32",
        "kvm64",
        "Nehalem",
        "Skylake-Client-v3",
        "Icelake-Server-v1",
        "EPYC-v1",
        "Haswell-noTSX",
    ];
    for (n, model) in models.into_iter().enumerate() {
        let spec = with(CHIPSETS[n % 2], |spec| spec.cpu_model = CpuModel::Named { name: model.to_owned() });
        rows.push((model.to_owned(), spec));
    }
    for (memory, max) in [
        (32, None),
        (33, None),
        (100, Some(100)),
        (1000, None),
        (64, Some(65)),
        (64, Some(1024)),
        (512, Some(4096)),
        (64, Some(65536)),
        (5000, None),
    ] {
        let spec = with(MachineType::Q35, |spec| {
            (spec.memory, spec.max_memory) = (MiB(memory), max.map(MiB));
        });
        rows.push((format!("{memory} of {max:?} MiB"), spec));
    }
    rows.push(("old with 5000 MiB".to_owned(), with(MachineType::I440fx, |spec| spec.memory = MiB(5000))));
    rows
}

fn share(n: usize, kind: ShareKind) -> Share {
    Share {
        id: format!("share{n}").parse().unwrap(),
        tag: format!("tag{n}"),
        folder: format!("/folder {n}, readonly=on").into(),
        kind,
        read_only: false,
    }
}

fn line(n: usize, kind: ChannelKind) -> Channel {
    let name = if kind == ChannelKind::Virtio { format!("org.example.{n}") } else { String::new() };
    Channel { id: format!("line{n}").parse().unwrap(), kind, name }
}

fn stick(n: u16) -> UsbDevice {
    // Numbers nobody has: it waits for a device that never comes.
    UsbDevice {
        id: format!("stick{n}").parse().unwrap(),
        vendor_id: 0xfff0,
        product_id: 0xfff0 + n,
        name: String::new(),
    }
}

/// Everything else, one at a time.
pub(crate) fn extras() -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for machine in CHIPSETS {
        let mut row = |name: &str, change: &dyn Fn(&mut MachineSpec)| {
            rows.push((format!("{machine:?} {name}"), with(machine, |spec| change(spec))));
        };
        row("no balloon", &|s| s.balloon = false);
        row("no random numbers", &|s| s.rng = false);
        row("neither", &|s| (s.balloon, s.rng) = (false, false));
        row("Hyper-V", &|s| s.hyperv = true);
        row("local time", &|s| s.clock = GuestClock::Local);
        row("sound", &|s| s.audio = Audio::Hda);
        row("clipboard", &|s| s.clipboard = true);
        row("a USB stick", &|s| s.usb = vec![stick(0)]);
        row("seven USB sticks", &|s| s.usb = (0..7).map(stick).collect());
        for action in
            [Watchdog::Reset, Watchdog::Shutdown, Watchdog::Poweroff, Watchdog::Pause, Watchdog::None]
        {
            row(&format!("watchdog {action:?}"), &|s| s.watchdog = Some(action));
        }
        row("a serial line", &|s| s.channels = vec![line(0, ChannelKind::Serial)]);
        row("three serial lines", &|s| s.channels = (0..3).map(|n| line(n, ChannelKind::Serial)).collect());
        row("a virtio line and the clipboard", &|s| {
            s.channels = vec![line(0, ChannelKind::Virtio)];
            s.clipboard = true;
        });
        row("sixteen lines", &|s| s.channels = (0..16).map(|n| line(n, ChannelKind::Virtio)).collect());
        row("lines of both kinds", &|s| {
            let kind = |n: usize| if n.is_multiple_of(2) { ChannelKind::Serial } else { ChannelKind::Virtio };
            s.channels = (0..6).map(|n| line(n, kind(n))).collect();
        });
        row("a 9p folder", &|s| s.shares = vec![share(0, ShareKind::NineP)]);
        row("a 9p folder to read", &|s| {
            s.shares = vec![Share { read_only: true, ..share(0, ShareKind::NineP) }];
        });
        row("eight 9p folders", &|s| s.shares = (0..8).map(|n| share(n, ShareKind::NineP)).collect());
        row("a virtiofs folder", &|s| s.shares = vec![share(0, ShareKind::Virtiofs)]);
        row("folders of both kinds", &|s| {
            s.shares = vec![
                share(0, ShareKind::NineP),
                share(1, ShareKind::Virtiofs),
                share(2, ShareKind::Virtiofs),
            ];
        });
        row("arguments of the user's own", &|s| {
            s.extra_args = ["-device", "edu,id=user-own,addr=0x1c", "-smbios", "type=1,serial=a b"]
                .map(str::to_owned)
                .to_vec();
        });
        if std::path::Path::new("/dev/vhost-vsock").exists() {
            row("vsock", &|s| s.vsock = true);
        }
        row("nearly everything", &|s| {
            s.cpus = 4;
            s.topology = Some(CpuTopology { sockets: 1, cores: 2, threads: 2 });
            s.cpu_model = CpuModel::Named { name: "Skylake-Client-v3".to_owned() };
            s.firmware = Firmware::Uefi;
            (s.tpm, s.hyperv, s.clipboard) = (true, true, true);
            (s.audio, s.display, s.clock) = (Audio::Hda, Display::Qxl, GuestClock::Local);
            s.disks = buses(machine).into_iter().enumerate().map(|(n, bus)| qcow2(n, bus)).collect();
            s.cdroms = vec![cdrom(0, Some("/install.iso"))];
            s.nics = vec![
                nic(0, NicModel::Virtio, NetworkBackend::user(vec![])),
                nic(1, NicModel::E1000e, NetworkBackend::user(vec![])),
            ];
            s.usb = vec![stick(0)];
            s.shares = vec![share(0, ShareKind::NineP), share(1, ShareKind::Virtiofs)];
            s.channels = vec![line(0, ChannelKind::Serial), line(1, ChannelKind::Virtio)];
            s.watchdog = Some(Watchdog::Reset);
        });
    }
    // A Windows machine and its neighbour, as their presets make them.
    rows.push((
        "Windows 11".to_owned(),
        with(MachineType::Q35, |s| {
            (s.firmware, s.tpm, s.hyperv, s.clock) = (Firmware::UefiSecure, true, true, GuestClock::Local);
            (s.cpus, s.max_cpus, s.max_memory) = (2, Some(8), Some(MiB(8192)));
            s.disks = vec![qcow2(0, DiskBus::Sata)];
            s.cdroms = vec![cdrom(0, Some("/win.iso")), cdrom(1, Some("/virtio-win.iso"))];
            s.nics = vec![nic(0, NicModel::E1000e, NetworkBackend::user(vec![]))];
            s.boot_from_cdrom = true;
            s.audio = Audio::Hda;
        }),
    ));
    rows
}
