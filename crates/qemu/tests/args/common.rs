//! Machines of every shape, and what a run gives them.

use voidvm_model::spec::{
    Audio, Cache, Cdrom, Channel, ChannelKind, CpuModel, CpuTopology, Discard, Disk, DiskBus, DiskFormat,
    Display, FileOwner, Firmware, GuestClock, MacAddr, MachineType, NetworkBackend, Nic, NicModel,
    PortForward, Share, ShareKind, UsbDevice, UserStack, Watchdog,
};
use voidvm_model::{MachineSpec, MiB, SecretId, VmId};
use voidvm_qemu::args::{HostSound, LaunchPaths};
use voidvm_qemu::probe::{Capabilities, MachineTypes, Offers, QemuVersion};

pub(crate) fn id() -> VmId {
    "11111111-2222-4333-8444-555555555555".parse().unwrap()
}

pub(crate) fn caps() -> Capabilities {
    Capabilities {
        binary: "/usr/bin/qemu-system-x86_64".into(),
        version: QemuVersion { major: 7, minor: 2, micro: 0 },
        kvm: true,
        // Whatever is not named may be there.
        devices: Offers::default(),
        netdevs: Offers::default(),
        chardevs: Offers::default(),
        audiodevs: Offers::default(),
        cpu_models: Offers::default(),
        machines: MachineTypes::default(),
    }
}

pub(crate) fn paths() -> LaunchPaths {
    LaunchPaths {
        qmp: "/run/user/1000/voidvm/1/qmp.sock".into(),
        serial: "/run/user/1000/voidvm/1/serial.sock".into(),
        serial_log: "/home/u/.local/share/voidvm/1/serial.log".into(),
        agent: "/run/user/1000/voidvm/1/qga.sock".into(),
        uefi_code: Some("/usr/share/OVMF/OVMF_CODE_4M.fd".into()),
        uefi_vars: Some("/home/u/.local/share/voidvm/1/uefi-vars.qcow2".into()),
        keys: ["e", "f"].map(|id| (id.parse().unwrap(), "/dev/fd/7".into())).into(),
        tpm: Some("/run/user/1000/voidvm/1/tpm.sock".into()),
        passt: [("nic2".parse().unwrap(), 9)].into(),
        shares: [("fs".parse().unwrap(), "/run/user/1000/voidvm/1/fs.sock".into())].into(),
        channels: ["com2", "com3", "port"]
            .map(|id| (id.parse().unwrap(), format!("/run/user/1000/voidvm/1/{id}.sock").into()))
            .into(),
        vsock_cid: Some(5),
        sound: HostSound::Pulse,
    }
}

pub(crate) fn spec() -> MachineSpec {
    MachineSpec {
        disks: vec![disk("disk0", "/home/u/disk.qcow2", DiskFormat::Qcow2)],
        nics: vec![nic("nic0", 1, vec![])],
        ..MachineSpec::new(2, MiB(1024))
    }
}

pub(crate) fn disk(id: &str, file: &str, format: DiskFormat) -> Disk {
    Disk::new(id.parse().unwrap(), file.into(), format, FileOwner::Machine)
}

pub(crate) fn nic(id: &str, tail: u8, forwards: Vec<PortForward>) -> Nic {
    Nic::new(id.parse().unwrap(), MacAddr::qemu([0, 0, tail]), NetworkBackend::user(forwards))
}

/// Something of everything.
pub(crate) fn everything() -> MachineSpec {
    let mut machine = spec();
    machine.machine_version = Some("pc-q35-7.2".to_owned().try_into().unwrap());
    machine.max_cpus = Some(8);
    machine.topology = Some(CpuTopology { sockets: 1, cores: 4, threads: 2 });
    machine.cpu_model = CpuModel::Named { name: "Skylake-Client-v3".to_owned() };
    machine.max_memory = Some(MiB(4096));
    machine.firmware = Firmware::UefiSecure;
    machine.tpm = true;
    machine.hyperv = true;
    machine.clock = GuestClock::Local;
    machine.disks = vec![
        Disk { iothread: true, cache: Cache::None, ..on("a", DiskBus::Virtio) },
        Disk { iothread: true, cache: Cache::Writethrough, ..on("b", DiskBus::Scsi) },
        Disk { cache: Cache::Unsafe, discard: Discard::Ignore, ..on("c", DiskBus::Sata) },
        Disk { read_only: true, ..on("d", DiskBus::Nvme) },
        Disk { key: Some(key()), ..on("e", DiskBus::Virtio) },
        Disk { key: Some(key()), format: DiskFormat::Raw, ..on("f", DiskBus::Scsi) },
    ];
    machine.cdroms = vec![Cdrom { id: "cd0".parse().unwrap(), file: Some("/home/u/win.iso".into()) }];
    machine.nics = vec![
        nic("nic0", 1, vec![PortForward::tcp(2222, 22)]),
        Nic { model: NicModel::E1000e, network: NetworkBackend::None, ..nic("nic1", 2, vec![]) },
        Nic {
            network: NetworkBackend::User {
                stack: UserStack::Passt,
                forwards: vec![PortForward::tcp(2223, 22)],
            },
            ..nic("nic2", 3, vec![])
        },
    ];
    machine.display = Display::Qxl;
    machine.audio = Audio::Hda;
    machine.usb = vec![UsbDevice {
        id: "stick".parse().unwrap(),
        vendor_id: 0x0951,
        product_id: 0x1666,
        name: "A \"stick\", -device x".to_owned(),
    }];
    machine.shares = vec![
        share("fs", ShareKind::Virtiofs, "/home/u/a, b"),
        Share { read_only: true, ..share("plan", ShareKind::NineP, "/home/u/c, readonly=off") },
    ];
    machine.channels = vec![
        channel("com2", ChannelKind::Serial),
        channel("port", ChannelKind::Virtio),
        channel("com3", ChannelKind::Serial),
    ];
    machine.watchdog = Some(Watchdog::Reset);
    machine.vsock = true;
    machine.clipboard = true;
    machine.extra_args = ["-device", "edu", "-smbios", "type=1,serial=a b"].map(str::to_owned).to_vec();
    machine
}

pub(crate) fn key() -> SecretId {
    "33333333-2222-4333-8444-555555555555".parse().unwrap()
}

pub(crate) fn on(id: &str, bus: DiskBus) -> Disk {
    Disk { bus, ..disk(id, &format!("/d/{id}.img"), DiskFormat::Qcow2) }
}

pub(crate) fn share(id: &str, kind: ShareKind, folder: &str) -> Share {
    Share { id: id.parse().unwrap(), tag: format!("{id}-tag"), folder: folder.into(), kind, read_only: false }
}

pub(crate) fn channel(id: &str, kind: ChannelKind) -> Channel {
    let name = if kind == ChannelKind::Virtio { format!("org.example.{id}") } else { String::new() };
    Channel { id: id.parse().unwrap(), kind, name }
}

/// The same without what the old chipset has not.
pub(crate) fn everything_old() -> MachineSpec {
    let mut machine = everything();
    machine.machine = MachineType::I440fx;
    machine.machine_version = Some("pc-i440fx-7.2".to_owned().try_into().unwrap());
    machine.cpus = 8;
    machine.max_cpus = None;
    machine.max_memory = None;
    machine.firmware = Firmware::Uefi;
    machine.disks[2].bus = DiskBus::Ide;
    machine
}
