//! One description of each program, as it writes them, and the machine it makes here.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use voidvm_foreign::{ForeignError, Kind, read};
use voidvm_model::MiB;
use voidvm_model::spec::{
    Audio, CpuTopology, DiskBus, DiskFormat, Display, Firmware, GuestClock, MacAddr, MachineType, NicModel,
    PortForward, Protocol, ShareKind, Watchdog,
};
use voidvm_model::transfer::ImportPlan;

fn sample(name: &str, kind: Kind) -> ImportPlan {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(Kind::of(&path, &text), Some(kind));
    let mut next = 0;
    let mut mac = || {
        next += 1;
        MacAddr::qemu([0xee, 0, next])
    };
    let plan = read(kind, &text, Path::new("/machines"), &mut mac).unwrap();
    assert_eq!(plan.source, kind.as_str());
    plan.spec.validate().unwrap();
    plan
}

fn disks(plan: &ImportPlan) -> Vec<(&str, DiskBus)> {
    plan.spec.disks.iter().map(|disk| (disk.file.to_str().unwrap(), disk.bus)).collect()
}

fn cards(plan: &ImportPlan) -> Vec<(String, NicModel)> {
    plan.spec.nics.iter().map(|nic| (nic.mac.to_string(), nic.model)).collect()
}

/// Exactly these parts do not come along, in this order.
fn left(plan: &ImportPlan, parts: &[&str]) {
    let whats: Vec<&str> = plan.unsupported.iter().map(|part| part.what.as_str()).collect();
    assert_eq!(whats, parts);
    assert!(plan.unsupported.iter().all(|part| part.why.ends_with('.')));
}

#[test]
fn virtualbox_writes_ovf() {
    let plan = sample("virtualbox.ovf", Kind::Ovf);
    assert_eq!((plan.name.as_str(), plan.spec.cpus, plan.spec.memory), ("web", 2, MiB(2048)));
    assert_eq!((plan.spec.firmware, plan.spec.audio), (Firmware::Uefi, Audio::Hda));
    assert_eq!(disks(&plan), [("/machines/web-disk001.vmdk", DiskBus::Sata)]);
    assert_eq!(plan.spec.cdroms.len(), 1);
    assert_eq!(cards(&plan), [("52:54:00:ee:00:01".to_owned(), NicModel::E1000e)]);
    left(&plan, &["disk2", "network card E1000", "floppy0"]);
}

#[test]
fn libvirt_dumps_a_domain() {
    let plan = sample("libvirt.xml", Kind::Libvirt);
    let spec = &plan.spec;
    assert_eq!((plan.name.as_str(), spec.cpus, spec.memory), ("win11", 4, MiB(8192)));
    assert_eq!((spec.machine, spec.firmware, spec.tpm), (MachineType::Q35, Firmware::UefiSecure, true));
    assert_eq!(spec.machine_version.as_ref().unwrap().as_str(), "pc-q35-7.2");
    assert_eq!(spec.topology, Some(CpuTopology { sockets: 1, cores: 4, threads: 1 }));
    assert_eq!((spec.clock, spec.hyperv, spec.rng), (GuestClock::Local, true, true));
    assert_eq!((spec.display, spec.audio), (Display::Qxl, Audio::Hda));
    assert_eq!(spec.watchdog, Some(Watchdog::Reset));
    assert_eq!(
        disks(&plan),
        [("/var/lib/libvirt/images/win11.qcow2", DiskBus::Sata), ("/srv/data.img", DiskBus::Virtio)]
    );
    assert_eq!((spec.disks[1].format, spec.disks[1].read_only), (DiskFormat::Raw, true));
    assert_eq!(spec.cdroms[0].file, None);
    assert_eq!(
        cards(&plan),
        [
            ("52:54:00:aa:bb:cc".to_owned(), NicModel::E1000e),
            ("52:54:00:aa:bb:cd".to_owned(), NicModel::Virtio)
        ]
    );
    assert_eq!((spec.usb[0].vendor_id, spec.usb[0].product_id), (0x046d, 0x082d));
    assert_eq!((spec.shares[0].tag.as_str(), spec.shares[0].kind), ("share", ShareKind::Virtiofs));
    left(
        &plan,
        &[
            "nvram",
            "disk vdc (block)",
            "/nowhere/virtio-win.iso",
            "network default",
            "SPICE agent channel",
            "host device (pci)",
            "redirdev",
        ],
    );
}

#[test]
fn quickemu_keeps_a_conf() {
    let plan = sample("quickemu.conf", Kind::Quickemu);
    let spec = &plan.spec;
    assert_eq!((plan.name.as_str(), spec.cpus, spec.memory), ("ubuntu-24.04", 4, MiB(8192)));
    assert_eq!((spec.firmware, spec.tpm), (Firmware::Uefi, true));
    assert_eq!(disks(&plan), [("/machines/ubuntu-24.04/disk.qcow2", DiskBus::Virtio)]);
    let forwards: Vec<PortForward> = spec.forwards().copied().collect();
    assert_eq!(
        forwards,
        [PortForward::tcp(8123, 8123), PortForward::tcp(8888, 80), PortForward::tcp(22220, 22)]
    );
    assert_eq!(spec.usb[0].product_id, 0x082d);
    left(
        &plan,
        &[
            "public_dir=\"$HOME/Public\"",
            "/machines/ubuntu-24.04/ubuntu-24.04-desktop-amd64.iso",
            "forward 80:80",
            "gl=on",
        ],
    );
}

#[test]
fn virtualbox_keeps_a_vbox() {
    let plan = sample("machine.vbox", Kind::VirtualBox);
    let spec = &plan.spec;
    assert_eq!((plan.name.as_str(), spec.cpus, spec.memory), ("Windows 10", 3, MiB(4096)));
    assert_eq!((spec.firmware, spec.tpm, spec.clock), (Firmware::Uefi, true, GuestClock::Local));
    assert_eq!(disks(&plan), [("/machines/Windows 10.vdi", DiskBus::Sata)]);
    assert_eq!(spec.cdroms.len(), 1);
    assert_eq!(
        cards(&plan),
        [
            ("08:00:27:a1:b2:c3".to_owned(), NicModel::E1000e),
            ("08:00:27:a1:b2:c4".to_owned(), NicModel::Virtio)
        ]
    );
    let udp = PortForward { protocol: Protocol::Udp, ..PortForward::tcp(5353, 53) };
    assert_eq!(spec.forwards().copied().collect::<Vec<_>>(), [PortForward::tcp(2222, 22), udp]);
    assert_eq!(spec.shares[0].folder, Path::new("/home/ada/Documents"));
    left(
        &plan,
        &["Snapshots/{33333333}.vmdk", "BridgedInterface eth0", "shared folder docs", "RemoteDisplay"],
    );
}

#[test]
fn vmware_keeps_a_vmx() {
    let plan = sample("machine.vmx", Kind::Vmware);
    let spec = &plan.spec;
    assert_eq!((plan.name.as_str(), spec.cpus, spec.memory), ("Build \"server\"", 4, MiB(4096)));
    assert_eq!((spec.firmware, spec.tpm), (Firmware::UefiSecure, true));
    assert_eq!(spec.topology, Some(CpuTopology { sockets: 2, cores: 2, threads: 1 }));
    let mut found = disks(&plan);
    found.sort_unstable_by_key(|(file, _)| *file);
    assert_eq!(found, [("/machines/Build.vmdk", DiskBus::Sata), ("/vmfs/cache.vmdk", DiskBus::Nvme)]);
    assert_eq!(
        cards(&plan),
        [
            ("00:0c:29:12:34:56".to_owned(), NicModel::E1000e),
            ("52:54:00:ee:00:01".to_owned(), NicModel::E1000e)
        ]
    );
    left(&plan, &["/isos/debian.iso", "network card vmxnet3", "ethernet1 (bridged)", "floppy0"]);
}

#[test]
fn what_is_no_machine_is_refused() {
    let mut mac = || MacAddr::qemu([0, 0, 1]);
    let kinds = [Kind::Ovf, Kind::Libvirt, Kind::Quickemu, Kind::VirtualBox, Kind::Vmware];
    for text in
        ["", "<a/>", "<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><domain>&e;</domain>", "\0\0"]
    {
        for kind in kinds {
            let outcome = read(kind, text, Path::new("/"), &mut mac);
            assert!(matches!(outcome, Err(ForeignError::Syntax(_))), "{kind:?} takes {text:?}: {outcome:?}");
        }
        assert!(Kind::of(Path::new("/x"), text).is_none_or(|kind| kind == Kind::Libvirt));
    }
    // A path that leads out of the directory is not followed.
    let text = "guest_os=\"linux\"\ndisk_img=\"../../nowhere/etc/shadow\"\n";
    let plan = read(Kind::Quickemu, text, Path::new("/machines/a"), &mut mac).unwrap();
    assert!(plan.spec.disks.is_empty());
    left(&plan, &["../../nowhere/etc/shadow"]);
}
