//! libvirt's domain XML.

use roxmltree::Node;
use voidvm_model::spec::{
    Audio, CpuModel, CpuTopology, Disk, DiskBus, DiskFormat, Display, Firmware, GuestClock, MachineType,
    MachineVersion, Share, ShareKind, UsbDevice, Watchdog,
};

use crate::draft::{Draft, size};
use crate::{ForeignError, all, attribute, child, document, text_of};

pub(crate) fn read(text: &str, draft: &mut Draft<'_>) -> Result<(), ForeignError> {
    let document = document(text)?;
    let domain = all(document.root_element(), "domain")
        .next()
        .ok_or_else(|| ForeignError::Syntax("it describes no domain".to_owned()))?;
    draft.name = text_of(domain, "name").unwrap_or_default().to_owned();
    if let Some(kind) = attribute(domain, "type").filter(|kind| !matches!(*kind, "kvm" | "qemu" | "hvf")) {
        draft.leave(format!("type {kind}"), "It is a machine of another hypervisor.");
    }
    if let Some(memory) = child(domain, "memory") {
        let unit = attribute(memory, "unit").unwrap_or("KiB");
        let amount = format!("{}{unit}", memory.text().unwrap_or_default().trim());
        if let Some(bytes) = size(&amount, 1 << 10) {
            draft.memory(bytes);
        }
    }
    draft.cpus(text_of(domain, "vcpu"));
    if let Some(cpu) = child(domain, "cpu") {
        processor(cpu, draft);
    }
    if let Some(os) = child(domain, "os") {
        firmware(os, draft);
    }
    if child(domain, "clock").and_then(|clock| attribute(clock, "offset")) == Some("localtime") {
        draft.spec.clock = GuestClock::Local;
    }
    draft.spec.hyperv = child(domain, "features").is_some_and(|features| child(features, "hyperv").is_some());
    draft.spec.rng = false;
    draft.spec.display = Display::Std;
    if let Some(devices) = child(domain, "devices") {
        for device in devices.children().filter(Node::is_element) {
            read_device(device, draft);
        }
    }
    for part in ["memtune", "cputune", "numatune", "blkiotune", "iothreads", "launchSecurity", "commandline"]
    {
        if child(domain, part).is_some() {
            draft.leave(part, "voidVM has no such setting.");
        }
    }
    Ok(())
}

fn processor(cpu: Node<'_, '_>, draft: &mut Draft<'_>) {
    if let Some(model) = text_of(cpu, "model").filter(|_| attribute(cpu, "mode") != Some("host-model")) {
        draft.spec.cpu_model = CpuModel::Named { name: model.to_owned() };
    }
    let number = |node: Node<'_, '_>, name| attribute(node, name).and_then(|text| text.parse::<u16>().ok());
    if let Some(topology) = child(cpu, "topology")
        && let (Some(sockets), Some(cores), Some(threads)) =
            (number(topology, "sockets"), number(topology, "cores"), number(topology, "threads"))
        && u32::from(sockets) * u32::from(cores) * u32::from(threads) == u32::from(draft.spec.cpus)
    {
        draft.spec.topology = Some(CpuTopology { sockets, cores, threads });
    }
}

fn firmware(os: Node<'_, '_>, draft: &mut Draft<'_>) {
    if let Some(machine) = child(os, "type").and_then(|kind| attribute(kind, "machine")) {
        if machine.contains("i440fx") || machine == "pc" {
            draft.spec.machine = MachineType::I440fx;
        } else if !machine.contains("q35") {
            draft.leave(format!("machine {machine}"), "It becomes a q35.");
        }
        draft.spec.machine_version = MachineVersion::try_from(machine.to_owned())
            .ok()
            .filter(|version| version.is_of(draft.spec.machine));
    }
    if let Some(arch) = child(os, "type").and_then(|kind| attribute(kind, "arch"))
        && arch != "x86_64"
        && arch != "i686"
    {
        draft.leave(format!("architecture {arch}"), "voidVM runs x86 machines; this one will not start.");
    }
    let loader = child(os, "loader");
    let uefi = attribute(os, "firmware") == Some("efi")
        || loader.is_some_and(|loader| attribute(loader, "type") == Some("pflash"));
    let secure = loader.is_some_and(|loader| attribute(loader, "secure") == Some("yes"))
        || all(os, "feature").any(|feature| {
            attribute(feature, "name") == Some("secure-boot") && attribute(feature, "enabled") == Some("yes")
        });
    draft.spec.firmware = match (uefi, secure && draft.spec.machine == MachineType::Q35) {
        (false, _) => Firmware::Bios,
        (true, true) => Firmware::UefiSecure,
        (true, false) => Firmware::Uefi,
    };
    if child(os, "nvram").is_some() {
        draft.leave(
            "nvram",
            "UEFI variables are made anew; choose the boot entry again where the guest needs one.",
        );
    }
    for part in ["kernel", "initrd", "cmdline"] {
        if child(os, part).is_some() {
            draft.leave(part, "voidVM starts what is on the disks.");
        }
    }
}

fn read_device(device: Node<'_, '_>, draft: &mut Draft<'_>) {
    let of = |name: &str, at: &str| child(device, name).and_then(|node| attribute(node, at));
    match device.tag_name().name() {
        "disk" => disk(device, draft),
        "interface" => {
            let model = draft.nic_model(of("model", "type").unwrap_or("rtl8139"));
            let kind = attribute(device, "type").unwrap_or("user");
            if kind != "user" {
                let of = of("source", "network")
                    .or_else(|| of("source", "bridge"))
                    .or_else(|| of("source", "dev"));
                draft.leave(format!("{kind} {}", of.unwrap_or_default()), "The card is on user-mode NAT.");
            }
            draft.nic(model, of("mac", "address"), Vec::new());
        }
        "sound" => draft.spec.audio = Audio::Hda,
        "video" => match of("model", "type") {
            Some("virtio") => draft.spec.display = Display::Virtio,
            Some("qxl") => draft.spec.display = Display::Qxl,
            _ => {}
        },
        "tpm" => draft.spec.tpm = true,
        "rng" => draft.spec.rng = true,
        "memballoon" => draft.spec.balloon = attribute(device, "model") != Some("none"),
        "vsock" => draft.spec.vsock = true,
        "watchdog" => {
            draft.spec.watchdog = Some(match attribute(device, "action") {
                Some("shutdown") => Watchdog::Shutdown,
                Some("poweroff") => Watchdog::Poweroff,
                Some("pause") => Watchdog::Pause,
                Some("none") => Watchdog::None,
                _ => Watchdog::Reset,
            });
        }
        "hostdev" => hostdev(device, draft),
        "filesystem" => filesystem(device, draft),
        "channel" => {
            if of("target", "name") == Some("com.redhat.spice.0") {
                draft
                    .leave("SPICE agent channel", "Clipboard sharing is a switch of the machine; it is off.");
            }
        }
        // What every machine of ours has, or what belongs to libvirt's own screen.
        "emulator" | "controller" | "input" | "graphics" | "serial" | "console" | "panic" | "audio"
        | "hub" => {}
        other => draft.leave(other, "voidVM has no such device."),
    }
}

fn disk(device: Node<'_, '_>, draft: &mut Draft<'_>) {
    let source = child(device, "source");
    let file = source.and_then(|source| attribute(source, "file"));
    let target = child(device, "target");
    let named = target.and_then(|target| attribute(target, "dev")).unwrap_or("a disk").to_owned();
    match attribute(device, "device").unwrap_or("disk") {
        "cdrom" => return draft.cdrom(file),
        "disk" => {}
        other => return draft.leave(format!("{other} {named}"), "voidVM has no such drive."),
    }
    let Some(file) = file else {
        let kind = attribute(device, "type").unwrap_or("unknown");
        return draft.leave(format!("disk {named} ({kind})"), "Only disks in files come along.");
    };
    let bus = match target.and_then(|target| attribute(target, "bus")) {
        Some("virtio") | None => DiskBus::Virtio,
        Some("scsi") => DiskBus::Scsi,
        Some("sata") => DiskBus::Sata,
        Some("nvme") => DiskBus::Nvme,
        Some("ide") => DiskBus::Ide,
        Some(other) => {
            draft.leave(format!("disk {named} on {other}"), "It is on SATA.");
            DiskBus::Sata
        }
    };
    if child(device, "encryption").is_some()
        || source.is_some_and(|source| child(source, "encryption").is_some())
    {
        draft.leave(format!("encryption of {named}"), "Its key stays with libvirt; decrypt the disk first.");
    }
    let before = draft.spec.disks.len();
    draft.disk(file, bus);
    let read_only = child(device, "readonly").is_some() && !matches!(bus, DiskBus::Sata | DiskBus::Ide);
    let raw = child(device, "driver").and_then(|driver| attribute(driver, "type")) == Some("raw");
    if let Some(Disk { format, read_only: only, .. }) = draft.spec.disks.get_mut(before) {
        *format = if raw { DiskFormat::Raw } else { DiskFormat::Qcow2 };
        *only = read_only;
    }
}

fn hostdev(device: Node<'_, '_>, draft: &mut Draft<'_>) {
    let number = |name: &'static str| {
        let text = all(device, name).find_map(|node| attribute(node, "id"))?;
        u16::from_str_radix(text.trim_start_matches("0x"), 16).ok()
    };
    let id = format!("usb{}", draft.spec.usb.len()).parse();
    match (attribute(device, "type"), number("vendor"), number("product"), id) {
        (Some("usb"), Some(vendor_id), Some(product_id), Ok(id)) => {
            draft.spec.usb.push(UsbDevice { id, vendor_id, product_id, name: String::new() });
        }
        (kind, ..) => draft.leave(
            format!("host device ({})", kind.unwrap_or("unknown")),
            "Only USB devices of the host can be lent.",
        ),
    }
}

fn filesystem(device: Node<'_, '_>, draft: &mut Draft<'_>) {
    let of = |name: &str, at: &str| child(device, name).and_then(|node| attribute(node, at));
    let kind = if of("driver", "type") == Some("virtiofs") { ShareKind::Virtiofs } else { ShareKind::NineP };
    let id = format!("share{}", draft.spec.shares.len()).parse();
    match (of("source", "dir"), of("target", "dir"), id) {
        (Some(folder), Some(tag), Ok(id)) => draft.spec.shares.push(Share {
            id,
            tag: tag.to_owned(),
            folder: folder.into(),
            kind,
            read_only: child(device, "readonly").is_some(),
        }),
        _ => draft.leave("filesystem", "Only folders of the host can be shared."),
    }
}
