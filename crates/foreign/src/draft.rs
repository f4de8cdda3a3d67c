//! A machine of ours in the making, and what of the other one does not fit into it.

use std::path::{Component, Path, PathBuf};

use voidvm_model::spec::{
    Cdrom, Disk, DiskBus, DiskFormat, FileOwner, MEMORY, MacAddr, MachineType, NAME_MAX, NetworkBackend, Nic,
    NicModel, PortForward, validate_name,
};
use voidvm_model::transfer::{ImportPlan, Unsupported};
use voidvm_model::{DeviceId, ErrorBody, MachineSpec, MiB};

use crate::ForeignError;

/// SATA ports of q35, and places of the IDE controllers of i440fx.
const SATA: usize = 6;
const IDE: usize = 4;
const CDROMS: usize = 4;
const DISKS: usize = 16;
const NICS: usize = 8;

pub(crate) struct Draft<'a> {
    pub(crate) name: String,
    pub(crate) spec: MachineSpec,
    unsupported: Vec<Unsupported>,
    dir: &'a Path,
    mac: &'a mut dyn FnMut() -> MacAddr,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(dir: &'a Path, mac: &'a mut dyn FnMut() -> MacAddr) -> Self {
        Self { name: String::new(), spec: MachineSpec::new(1, MiB(1024)), unsupported: Vec::new(), dir, mac }
    }

    /// Names a part that does not come along.
    pub(crate) fn leave(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.unsupported.push(Unsupported { what: what.into(), why: why.into() });
    }

    /// A path as the description has it; none, and named, where it leads out of the description's directory by `..`.
    pub(crate) fn path(&mut self, written: &str) -> Option<PathBuf> {
        // Windows writes the other slash.
        let plain = if written.contains('/') { written.to_owned() } else { written.replace('\\', "/") };
        let path = self.dir.join(plain);
        if path.components().any(|part| part == Component::ParentDir) && !path.exists() {
            self.leave(written, "Its path leads out of the directory.");
            return None;
        }
        let clean = path.components().filter(|part| *part != Component::CurDir).collect::<PathBuf>();
        let clean = if clean.components().any(|part| part == Component::ParentDir) {
            clean.canonicalize().unwrap_or(clean)
        } else {
            clean
        };
        Some(clean)
    }

    pub(crate) fn cpus(&mut self, cpus: Option<&str>) {
        match cpus.and_then(|cpus| cpus.trim().parse::<u16>().ok()) {
            Some(cpus @ 1..=255) => self.spec.cpus = cpus,
            Some(_) => self.leave("CPUs", "There are more than 255; it gets one."),
            None => {}
        }
    }

    /// Memory in bytes.
    pub(crate) fn memory(&mut self, bytes: u64) {
        let mib = (bytes >> 20).clamp(*MEMORY.start(), *MEMORY.end());
        self.spec.memory = MiB(mib);
    }

    pub(crate) fn disk(&mut self, written: &str, bus: DiskBus) {
        if self.spec.disks.len() >= DISKS {
            return self.leave(written, "It has more than 16 disks.");
        }
        let Some(file) = self.path(written) else { return };
        if self.spec.disks.iter().any(|disk| disk.file == file) {
            return self.leave(written, "The file is named twice.");
        }
        let raw = file
            .extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("raw") || end.eq_ignore_ascii_case("img"));
        // What it is converted to, or is: whoever opens it looks.
        let format = if raw { DiskFormat::Raw } else { DiskFormat::Qcow2 };
        let Some(id) = id("disk", self.spec.disks.len()) else { return };
        self.spec.disks.push(Disk { bus, ..Disk::new(id, file, format, FileOwner::User) });
    }

    /// A drive, with what is in it.
    pub(crate) fn cdrom(&mut self, written: Option<&str>) {
        if self.spec.cdroms.len() >= CDROMS {
            return self.leave(written.unwrap_or("a CD-ROM drive"), "It has more than 4 CD-ROM drives.");
        }
        let mut file = written.and_then(|written| self.path(written));
        if let Some(missing) = file.take_if(|file| !file.is_file()) {
            self.leave(missing.to_string_lossy(), "The medium is not there; the drive is empty.");
        }
        let Some(id) = id("cd", self.spec.cdroms.len()) else { return };
        self.spec.cdroms.push(Cdrom { id, file });
    }

    /// A card on user-mode NAT; `mac` as the description has it.
    pub(crate) fn nic(&mut self, model: NicModel, mac: Option<&str>, forwards: Vec<PortForward>) {
        if self.spec.nics.len() >= NICS {
            return self.leave("a network card", "It has more than 8.");
        }
        let kept = mac.and_then(address).filter(|mac| !self.spec.nics.iter().any(|nic| nic.mac == *mac));
        let mac = kept.unwrap_or_else(|| (self.mac)());
        let mut taken: Vec<PortForward> = self.spec.forwards().copied().collect();
        let mut fit = Vec::new();
        for forward in forwards {
            if forward.host_port < 1024 || forward.guest_port == 0 {
                let what = format!("forward {}:{}", forward.host_port, forward.guest_port);
                self.leave(what, "An ordinary user cannot open host ports below 1024.");
            } else if taken.iter().any(|other| other.conflicts(&forward)) {
                self.leave(format!("forward {}", forward.host_port), "The host port is forwarded twice.");
            } else {
                taken.push(forward);
                fit.push(forward);
            }
        }
        let Some(id) = id("nic", self.spec.nics.len()) else { return };
        self.spec.nics.push(Nic { model, ..Nic::new(id, mac, NetworkBackend::user(fit)) });
    }

    /// The model of a card by the name another program has for it.
    pub(crate) fn nic_model(&mut self, name: &str) -> NicModel {
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "virtio" | "virtio-net" | "virtio-net-pci" | "virtio-transitional" => NicModel::Virtio,
            "e1000e" | "82574l" | "" => NicModel::E1000e,
            _ => {
                self.leave(format!("network card {name}"), "It becomes an Intel 82574L (e1000e).");
                NicModel::E1000e
            }
        }
    }

    pub(crate) fn finish(mut self, source: &str) -> Result<ImportPlan, ForeignError> {
        self.name = fit_name(&self.name);
        self.place_disks();
        self.spec.boot_from_cdrom = self.spec.disks.is_empty();
        self.spec.validate().map_err(ForeignError::Machine)?;
        Ok(ImportPlan {
            source: source.to_owned(),
            name: self.name,
            spec: self.spec,
            unsupported: self.unsupported,
        })
    }

    /// Puts disks where this chipset has places for them.
    fn place_disks(&mut self) {
        let (from, to, places) = match self.spec.machine {
            MachineType::Q35 => (DiskBus::Ide, DiskBus::Sata, SATA),
            MachineType::I440fx => (DiskBus::Sata, DiskBus::Ide, IDE),
        };
        let mut used = self.spec.cdroms.len();
        let mut moved = Vec::new();
        for disk in &mut self.spec.disks {
            if disk.bus == from {
                disk.bus = to;
            }
            if disk.bus == to {
                if used >= places {
                    disk.bus = DiskBus::Virtio;
                    moved.push(disk.file.to_string_lossy().into_owned());
                }
                used += 1;
            }
        }
        for what in moved {
            self.leave(what, "There is no place left on its controller; it is on virtio.");
        }
    }
}

fn id(prefix: &str, number: usize) -> Option<DeviceId> {
    format!("{prefix}{number}").parse().ok()
}

/// `08002712AB34`, `08:00:27:12:ab:34` or with dashes.
fn address(written: &str) -> Option<MacAddr> {
    let digits: Vec<char> = written.chars().filter(char::is_ascii_hexdigit).collect();
    if digits.len() != 12 {
        return None;
    }
    let pairs: Vec<String> = digits.chunks(2).map(|pair| pair.iter().collect()).collect();
    pairs.join(":").try_into().ok()
}

/// A name of ours made of another.
fn fit_name(name: &str) -> String {
    let fit: String = name.chars().filter(|c| !c.is_control()).take(NAME_MAX).collect();
    let fit = fit.trim().to_owned();
    if validate_name(&fit).is_ok() { fit } else { "imported".to_owned() }
}

/// `8G`, `512M`, `4096` (MiB) as bytes.
pub(crate) fn size(text: &str, unit: u64) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.trim().parse().ok()?;
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => unit,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        "b" | "bytes" => 1,
        _ => return None,
    };
    number.checked_mul(unit)
}

impl From<ErrorBody> for ForeignError {
    fn from(body: ErrorBody) -> Self {
        Self::Machine(body)
    }
}
