//! A snapshot's own directory: what is not a layer of a disk.
//!
//! ```text
//! snapshots/ID/  memory   what QEMU wrote of RAM and devices         screen.png   the screen, small
//!                machine.json   the run it was, to go on from it      uefi-vars.qcow2 …, tpm/   as they were
//!                memory.zst, memory.json   the memory packed, its checksum ([`packed`](super::packed))
//!                image.…   the memory as it is mapped ([`image`](super::image))
//! ```
//! Invariant: only files under these names are ever removed from it.

use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use voidvm_model::{ErrorBody, ErrorCode, SnapshotId};
use voidvm_qemu::process::RunRecord;

use super::{image, packed};
use crate::ops::{build, files};
use crate::run::Run;

const HOME: &str = "snapshots";
pub(super) const MEMORY: &str = "memory";
const MACHINE: &str = "machine.json";
const PICTURE: &str = "screen.png";

/// What the machine was, where it ran.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WhatRan {
    /// Its run; the arguments of a machine that its memory fits.
    pub(super) record: RunRecord,
}

impl WhatRan {
    pub(super) fn of(run: &Run) -> Self {
        Self { record: RunRecord::clone(&run.record()) }
    }
}

pub(crate) fn dir(machine_dir: &Path, id: SnapshotId) -> PathBuf {
    machine_dir.join(HOME).join(id.to_string())
}

/// The snapshot whose directory this is.
pub(super) fn id_of(dir: &Path) -> Option<SnapshotId> {
    dir.file_name()?.to_str()?.parse().ok()
}

/// The memory, packed or not.
pub(crate) fn memory(dir: &Path) -> PathBuf {
    let packed = dir.join(packed::PACKED);
    if packed.exists() { packed } else { unpacked(dir) }
}

/// The memory as QEMU wrote it.
pub(super) fn unpacked(dir: &Path) -> PathBuf {
    dir.join(MEMORY)
}

pub(super) fn picture(dir: &Path) -> PathBuf {
    dir.join(PICTURE)
}

/// The directories of all snapshots of a machine.
pub(crate) fn dirs(machine_dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(machine_dir.join(HOME)) else { return Vec::new() };
    let dirs = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut dirs: Vec<_> = dirs.map(|entry| entry.path()).filter(|dir| id_of(dir).is_some()).collect();
    dirs.sort();
    dirs
}

/// What of a snapshot's directory is ours, whether it is there or not.
pub(crate) fn files_in(dir: &Path) -> Vec<PathBuf> {
    let named = [
        MEMORY,
        packed::PACKED,
        packed::NOTE,
        image::RAM,
        image::STATE,
        image::DESCRIPTION,
        image::USED,
        MACHINE,
        PICTURE,
        "uefi-vars.qcow2",
        "uefi-secure-vars.qcow2",
    ];
    let tpm = std::fs::read_dir(files::tpm(dir)).into_iter().flatten().flatten();
    let mut found: Vec<_> = named.iter().map(|name| dir.join(name)).collect();
    found.extend(named.iter().map(|name| build::part_of(&dir.join(name))));
    found.extend(
        tpm.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file())).map(|entry| entry.path()),
    );
    found
}

/// What the directory takes on the disk.
pub(super) fn size(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    files_in(dir).iter().filter_map(|file| std::fs::metadata(file).ok()).map(|file| file.blocks() * 512).sum()
}

/// Makes the directory, for this user alone.
pub(super) fn make(dir: &Path) -> Result<(), ErrorBody> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| files::io_error(dir, &error))
}

/// Removes the directory and what of it is ours.
///
/// # Errors
/// A file that cannot be removed; the others are.
pub(crate) fn remove(dir: &Path) -> Result<(), ErrorBody> {
    let removed = files::remove(&files_in(dir));
    files::remove_dir(&files::tpm(dir));
    files::remove_dir(dir);
    if let Some(home) = dir.parent() {
        // As soon as nothing is left in it.
        let _ = std::fs::remove_dir(home);
    }
    removed
}

/// Writes down what ran.
pub(super) fn write(dir: &Path, what: &WhatRan) -> Result<(), ErrorBody> {
    let bytes = serde_json::to_vec(what)
        .map_err(|error| ErrorBody::new(ErrorCode::Internal, format!("What ran cannot be kept: {error}.")))?;
    build::write_file(&dir.join(MACHINE), &bytes)
}

/// Reads what ran.
///
/// # Errors
/// When it cannot be read: the snapshot's memory is lost then.
pub(super) fn read(dir: &Path) -> Result<WhatRan, ErrorBody> {
    let path = dir.join(MACHINE);
    let bytes = std::fs::read(&path).map_err(|error| files::io_error(&path, &error))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        ErrorBody::new(ErrorCode::ImageInvalid, format!("The snapshot's memory cannot be used: {error}."))
            .with_hint("Restore it to a stopped machine.")
    })
}

/// Copies UEFI variables and the TPM's state between a machine's directory and a snapshot's. What is not there is not copied; a
/// TPM's state that is there is replaced as a whole.
///
/// Nothing is forced to the disk here: whoever needs that calls [`sync`].
///
/// # Errors
/// What the file system says.
pub(super) fn copy_state(from: &Path, to: &Path) -> io::Result<()> {
    for name in ["uefi-vars.qcow2", "uefi-secure-vars.qcow2"] {
        let (source, target) = (from.join(name), to.join(name));
        if !source.exists() {
            continue;
        }
        let part = build::part_of(&target);
        std::fs::copy(&source, &part)?;
        std::fs::rename(&part, &target)?;
    }
    let (source, target) = (files::tpm(from), files::tpm(to));
    let entries = match std::fs::read_dir(&source) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&target)?;
    let mut copied = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() && files::is_tpm_state(&entry.path()) {
            let part = target.join(".part");
            std::fs::copy(entry.path(), &part)?;
            std::fs::rename(&part, target.join(entry.file_name()))?;
            copied.push(entry.file_name());
        }
    }
    for entry in std::fs::read_dir(&target)?.flatten() {
        let surplus = !copied.contains(&entry.file_name()) && files::is_tpm_state(&entry.path());
        if entry.file_type()?.is_file() && surplus {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Forces what is in a directory, and the directory, to the disk.
pub(super) fn sync(dir: &Path) -> Result<(), ErrorBody> {
    let failed = |error: io::Error| files::io_error(dir, &error);
    for file in files_in(dir).iter().filter(|file| file.exists()) {
        File::open(file).and_then(|file| file.sync_all()).map_err(failed)?;
    }
    for dir in [dir, dir.parent().unwrap_or(dir)] {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    }
    Ok(())
}
