//! Chipset, processor, memory; and whether this QEMU has all that is asked for.

use voidvm_model::MachineSpec;
use voidvm_model::spec::{
    Audio, CpuModel, DiskBus, Display, Firmware, GuestClock, MachineType, NetworkBackend, NicModel,
    ShareKind, UserStack,
};
use voidvm_model::vm::ActiveAccel;

use super::parts::{Sharing, memory_backend};
use super::{ArgList, ArgsError};
use crate::probe::Capabilities;

/// How many pieces of memory can be plugged in while a machine runs.
pub const MEMORY_SLOTS: u8 = 16;

/// What Windows is told of a Hyper-V it runs under; Linux 4.20's KVM has all of it.
const HYPERV: &str = ",hv-relaxed,hv-vapic,hv-spinlocks=0x1fff,hv-vpindex,hv-runtime,hv-synic,hv-stimer,hv-time,\
                      hv-frequencies,hv-tlbflush,hv-ipi";

/// Whether the guest's memory is shared with programs beside QEMU: virtiofsd works in it.
#[must_use]
pub fn shared_memory(spec: &MachineSpec) -> Sharing {
    if spec.shares.iter().any(|share| share.kind == ShareKind::Virtiofs) {
        Sharing::Shared
    } else {
        Sharing::Private
    }
}

/// Chipset, processor, memory and clock.
pub(super) fn machine(list: &mut ArgList, spec: &MachineSpec, accel: ActiveAccel) {
    let chipset = match (&spec.machine_version, spec.machine) {
        (Some(version), _) => version.as_str(),
        (None, MachineType::Q35) => "q35",
        (None, MachineType::I440fx) => "pc",
    };
    // The memory backend has the name of the machine's own default, so that a RAM stream fits with and without it.
    let mut machine = format!("{chipset},usb=off,vmport=off,dump-guest-core=off,memory-backend=pc.ram");
    if spec.firmware.is_uefi() {
        machine.push_str(",pflash0=vv.flash0,pflash1=vv.flash1");
    }
    if spec.firmware == Firmware::UefiSecure {
        machine.push_str(",smm=on");
    }
    if spec.hyperv {
        // Windows takes its time from Hyper-V, and this clock only costs.
        machine.push_str(",hpet=off");
    }
    list.option("-machine", machine);
    let (accel, auto, hyperv) = match accel {
        ActiveAccel::Kvm => ("kvm", "host", if spec.hyperv { HYPERV } else { "" }),
        // The translator has no Hyper-V to offer.
        ActiveAccel::Tcg => ("tcg,thread=multi", "max", ""),
    };
    let model = match &spec.cpu_model {
        CpuModel::Auto => auto,
        CpuModel::Named { name } => name,
    };
    list.option("-accel", accel).option("-cpu", format!("{model}{hyperv}"));
    list.option("-smp", processors(spec));
    let size = spec.memory.0;
    match spec.max_memory.filter(|most| *most > spec.memory) {
        Some(most) => list.option("-m", format!("size={size}M,slots={MEMORY_SLOTS},maxmem={}M", most.0)),
        None => list.option("-m", format!("size={size}M")),
    };
    list.json("-object", &memory_backend("pc.ram", spec.memory.bytes(), shared_memory(spec)));
    let clock = match spec.clock {
        GuestClock::Utc => "base=utc",
        GuestClock::Local => "base=localtime",
    };
    list.option("-rtc", clock).option("-boot", "strict=on");
    // A guest that suspends itself to memory cannot be told from a hung one, and cannot be snapshotted.
    let power = match spec.machine {
        MachineType::Q35 => "ICH9-LPC",
        MachineType::I440fx => "PIIX4_PM",
    };
    list.option("-global", format!("{power}.disable_s3=1"))
        .option("-global", format!("{power}.disable_s4=1"));
    if spec.firmware == Firmware::UefiSecure {
        // Only code of the firmware's own, in system management mode, writes its variables.
        list.option("-global", "driver=cfi.pflash01,property=secure,value=on");
    }
}

/// One socket unless something else is asked for: desktop editions of Windows use two at most.
fn processors(spec: &MachineSpec) -> String {
    let most = spec.max_cpus.unwrap_or(spec.cpus);
    let (sockets, cores, threads) =
        spec.topology.map_or((1, most, 1), |topology| (topology.sockets, topology.cores, topology.threads));
    let later = if most > spec.cpus { format!(",maxcpus={most}") } else { String::new() };
    format!("cpus={}{later},sockets={sockets},cores={cores},threads={threads}", spec.cpus)
}

const OTHER_QEMU: &str = "Choose something else, or install a QEMU that has it.";

/// Whether this QEMU has what the machine asks for; what every QEMU has is not asked.
pub(super) fn check(spec: &MachineSpec, caps: &Capabilities) -> Result<(), ArgsError> {
    let lacks = |field: String, what: &str, hint: &'static str| {
        Err(ArgsError::Lacks { field, what: what.to_owned(), hint })
    };
    if let Some(version) = &spec.machine_version
        && !caps.machines.names.has(version.as_str())
    {
        let hint = "Choose a version this QEMU has: to the guest it is a new board.";
        return lacks("spec.machineVersion".to_owned(), version.as_str(), hint);
    }
    if let CpuModel::Named { name } = &spec.cpu_model
        && !caps.cpu_models.has(name)
    {
        let hint = "Choose a model from the list, or the automatic one.";
        return lacks("spec.cpuModel.name".to_owned(), name, hint);
    }
    let screen = match spec.display {
        Display::Virtio => "virtio-vga",
        Display::Std => "VGA",
        Display::Qxl => "qxl-vga",
    };
    let mut wanted = vec![("spec.display".to_owned(), screen)];
    let mut want = |field: String, driver| wanted.push((field, driver));
    for (index, disk) in spec.disks.iter().enumerate() {
        match disk.bus {
            DiskBus::Scsi => want(format!("spec.disks[{index}].bus"), "virtio-scsi-pci"),
            DiskBus::Nvme => want(format!("spec.disks[{index}].bus"), "nvme"),
            DiskBus::Virtio | DiskBus::Sata | DiskBus::Ide => {}
        }
    }
    for (index, nic) in spec.nics.iter().enumerate() {
        if nic.model == NicModel::E1000e {
            want(format!("spec.nics[{index}].model"), "e1000e");
        }
    }
    for (index, share) in spec.shares.iter().enumerate() {
        let driver = match share.kind {
            ShareKind::Virtiofs => "vhost-user-fs-pci",
            ShareKind::NineP => "virtio-9p-pci",
        };
        want(format!("spec.shares[{index}].kind"), driver);
    }
    if !spec.usb.is_empty() {
        want("spec.usb".to_owned(), "usb-host");
    }
    if spec.audio == Audio::Hda {
        want("spec.audio".to_owned(), "hda-output");
    }
    if spec.tpm {
        want("spec.tpm".to_owned(), tpm_driver(spec));
    }
    if spec.watchdog.is_some() {
        want("spec.watchdog".to_owned(), "i6300esb");
    }
    if spec.vsock {
        want("spec.vsock".to_owned(), "vhost-vsock-pci");
    }
    for (field, driver) in wanted {
        if !caps.devices.has(driver) {
            return lacks(field, driver, OTHER_QEMU);
        }
    }
    for (index, nic) in spec.nics.iter().enumerate() {
        let NetworkBackend::User { stack, .. } = &nic.network else { continue };
        let kind = match stack {
            UserStack::Slirp => "user",
            UserStack::Passt => "stream",
        };
        if !caps.netdevs.has(kind) {
            return lacks(format!("spec.nics[{index}].network.stack"), kind, OTHER_QEMU);
        }
    }
    if spec.clipboard && !caps.chardevs.has("qemu-vdagent") {
        return lacks("spec.clipboard".to_owned(), "qemu-vdagent", OTHER_QEMU);
    }
    Ok(())
}

/// Windows and UEFI want the newer interface; SeaBIOS and old guests know the older one.
pub(super) const fn tpm_driver(spec: &MachineSpec) -> &'static str {
    if spec.firmware.is_uefi() && matches!(spec.machine, MachineType::Q35) { "tpm-crb" } else { "tpm-tis" }
}
