//! What an operating system wants of a machine.

use std::collections::BTreeSet;

use voidvm_model::guest_os::{GuestOs, OsPreset};
use voidvm_model::spec::Firmware;
use voidvm_model::{Bytes, MiB};

use crate::OsDb;
use crate::read::{Entry, Resources};

/// Of an operating system that does not say.
const CPUS: u64 = 1;
const MEMORY: MiB = MiB(1024);
const DISK: Bytes = Bytes(20 << 30);

/// PCI ids of virtio disks: block and SCSI, transitional and modern.
const VIRTIO_DISKS: [&str; 4] = ["1af4/1001", "1af4/1042", "1af4/1004", "1af4/1048"];

impl OsDb {
    pub(crate) fn preset_of(&self, entry: &Entry) -> OsPreset {
        let line = self.ancestors(entry);
        let said = |amount: fn(&Resources) -> Option<u64>| {
            line.iter().find_map(|entry| {
                let resources = [entry.recommended, entry.minimum];
                resources.iter().flatten().find_map(amount)
            })
        };
        let windows = entry.family == "winnt";
        let major = entry
            .version
            .as_deref()
            .map_or(0, |version| version_order(version).first().copied().unwrap_or(0));
        // Windows that starts from UEFI alone is the one that wants Secure Boot and a TPM.
        let strict = windows && !entry.bios;
        OsPreset {
            os: guest_os(entry),
            cpus: said(|r| r.cpus).unwrap_or(CPUS).try_into().unwrap_or(u16::MAX),
            memory: said(|r| r.ram).map_or(MEMORY, |ram| Bytes(ram).mib()),
            disk_size: said(|r| r.storage).map_or(DISK, Bytes),
            firmware: match (strict, entry.bios) {
                (true, _) => Firmware::UefiSecure,
                (false, false) => Firmware::Uefi,
                (false, true) => Firmware::Bios,
            },
            tpm: strict,
            hyperv: windows && major >= 6,
            virtio: line
                .iter()
                .flat_map(|entry| &entry.devices)
                .any(|device| VIRTIO_DISKS.iter().any(|disk| device.ends_with(disk))),
        }
    }

    /// The entry, what it derives from, what that derives from, and so on; the nearest first.
    fn ancestors<'a>(&'a self, entry: &'a Entry) -> Vec<&'a Entry> {
        let mut line = vec![entry];
        let mut seen = BTreeSet::from([entry.id.as_str()]);
        let mut at = 0;
        while let Some(entry) = line.get(at) {
            let parents = entry.parents.iter().filter(|id| seen.insert(id.as_str()));
            let parents: Vec<&Entry> =
                parents.filter_map(|id| self.entries.iter().find(|entry| entry.id == *id)).collect();
            line.extend(parents);
            at += 1;
        }
        line
    }

    /// The preset of a release that is not in the database: that of the newest known before it, under its own name.
    pub(crate) fn relative(&self, short_id: &str) -> Option<OsPreset> {
        let (wanted_stem, wanted) = stem(short_id)?;
        let relatives = self.entries.iter().filter_map(|entry| {
            let (stem, version) = stem(&entry.short_id)?;
            let order = version_order(version);
            (stem == wanted_stem && order < version_order(wanted)).then_some((order, entry))
        });
        let (_, relative) = relatives.max_by(|a, b| a.0.cmp(&b.0))?;
        let mut preset = self.preset_of(relative);
        let known = relative.version.as_deref().unwrap_or_default();
        preset.os = GuestOs {
            id: short_id.to_owned(),
            name: if !known.is_empty() && relative.name.contains(known) {
                relative.name.replacen(known, wanted, 1)
            } else {
                format!("{wanted_stem} {wanted}")
            },
            version: Some(wanted.to_owned()),
            ..preset.os
        };
        Some(preset)
    }
}

fn guest_os(entry: &Entry) -> GuestOs {
    let family = match entry.family.as_str() {
        "winnt" | "win9x" | "win16" => "windows",
        "freebsd" | "netbsd" | "openbsd" | "dragonflybsd" => "bsd",
        other => other,
    };
    GuestOs {
        id: entry.short_id.clone(),
        name: entry.name.clone(),
        family: family.to_owned(),
        version: entry.version.clone(),
    }
}

/// `ubuntu22.04` as `ubuntu` and `22.04`; none without a number at the end.
pub(crate) fn stem(short_id: &str) -> Option<(&str, &str)> {
    let at = short_id.find(|c: char| c.is_ascii_digit())?;
    let (stem, version) = short_id.split_at(at);
    let plain = version.chars().all(|c| c.is_ascii_digit() || c == '.');
    (!stem.is_empty() && plain).then_some((stem, version))
}

/// A version such that newer ones are greater.
pub(crate) fn version_order(version: &str) -> Vec<u64> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}
