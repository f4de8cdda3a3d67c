//! The files of a machine: where its own are, which it uses, what a deletion takes.
//!
//! Invariant: only a regular file that lies directly in the machine's own directory, and that a machine's specification or a
//! name of ours says is the machine's, is ever removed.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use voidvm_model::spec::{Disk, FileOwner, MachineFile};
use voidvm_model::{Bytes, ErrorBody, ErrorCode, MachineSpec};
use voidvm_store::VmRow;

use crate::config::EngineConfig;

/// UEFI variables.
pub(crate) fn uefi_vars(machine_dir: &Path) -> PathBuf {
    machine_dir.join("uefi-vars.qcow2")
}

/// The last picture of the screen.
pub(crate) fn thumbnail(machine_dir: &Path) -> PathBuf {
    machine_dir.join("thumbnail.png")
}

/// A disk made by us.
pub(crate) fn disk(machine_dir: &Path, number: usize) -> PathBuf {
    machine_dir.join(format!("disk{number}.qcow2"))
}

/// Whether a disk's file goes with the machine: it is said to, and it lies where only our own files do.
pub(crate) fn is_own(machine_dir: &Path, disk: &Disk) -> bool {
    disk.owner == FileOwner::Machine && disk.file.parent() == Some(machine_dir)
}

/// The files a deletion removes, whether they are there or not.
pub(crate) fn own(config: &EngineConfig, vm: &VmRow) -> Vec<PathBuf> {
    let dir = config.machine_dir(vm.id);
    let disks = vm.spec.disks.iter().filter(|disk| is_own(&dir, disk)).map(|disk| disk.file.clone());
    let picture = thumbnail(&dir);
    let unfinished = picture.with_extension("png.part");
    disks.chain([uefi_vars(&dir), picture, unfinished, config.serial_log(vm.id)]).collect()
}

/// The files a machine uses and those it leaves, with what they take on the disk.
pub(crate) fn list(config: &EngineConfig, id: voidvm_model::VmId, spec: &MachineSpec) -> Vec<MachineFile> {
    let dir = config.machine_dir(id);
    let mut files = Vec::new();
    let mut add = |path: &Path, owner| {
        if let Ok(metadata) = std::fs::metadata(path) {
            let size = Bytes(metadata.blocks().saturating_mul(512));
            files.push(MachineFile { path: path.to_string_lossy().into_owned(), size, owner });
        }
    };
    for disk in &spec.disks {
        add(&disk.file, if is_own(&dir, disk) { FileOwner::Machine } else { FileOwner::User });
    }
    for path in [uefi_vars(&dir), thumbnail(&dir)] {
        add(&path, FileOwner::Machine);
    }
    for medium in spec.cdroms.iter().filter_map(|cdrom| cdrom.file.as_deref()) {
        add(medium, FileOwner::User);
    }
    files
}

/// Removes files; those that are gone already are fine.
///
/// # Errors
/// The first that cannot be removed; the others are removed all the same.
pub(crate) fn remove(files: &[PathBuf]) -> Result<(), ErrorBody> {
    let mut first = Ok(());
    for file in files {
        // Never through a link, never a directory.
        let removed = match std::fs::symlink_metadata(file) {
            Ok(metadata) if metadata.is_dir() => continue,
            Ok(_) => std::fs::remove_file(file),
            Err(error) => Err(error),
        };
        if let Err(error) = removed
            && error.kind() != io::ErrorKind::NotFound
            && first.is_ok()
        {
            first = Err(io_error(file, &error));
        }
    }
    first
}

/// Removes a machine's directory if nothing is left in it; a file somebody else put there keeps it.
pub(crate) fn remove_dir(dir: &Path) {
    if let Err(error) = std::fs::remove_dir(dir)
        && !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty)
    {
        tracing::warn!(path = %dir.display(), %error, "a machine's directory cannot be removed");
    }
}

/// Checks that every file a machine uses is there and can be opened as it will be.
///
/// # Errors
/// [`ErrorCode::ImageMissing`], [`ErrorCode::PermissionDenied`], [`ErrorCode::ReadOnly`], with the field.
pub(crate) fn check(spec: &MachineSpec) -> Result<(), ErrorBody> {
    use rustix::fs::Access;
    let disks = spec.disks.iter().enumerate().map(|(at, disk)| {
        (format!("spec.disks[{at}].file"), disk.file.as_path(), Access::READ_OK | Access::WRITE_OK)
    });
    let media = spec.cdroms.iter().enumerate().filter_map(|(at, cdrom)| {
        cdrom.file.as_deref().map(|file| (format!("spec.cdroms[{at}].file"), file, Access::READ_OK))
    });
    for (field, file, access) in disks.chain(media) {
        rustix::fs::access(file, access).map_err(|error| io_error(file, &error.into()).with_field(field))?;
    }
    Ok(())
}

/// An error of the file system about a machine's file.
pub(crate) fn io_error(path: &Path, error: &io::Error) -> ErrorBody {
    let shown = path.display();
    let body = match error.kind() {
        io::ErrorKind::NotFound => ErrorBody::new(ErrorCode::ImageMissing, format!("{shown} is not there."))
            .with_hint("Put the file back, or change the machine's settings."),
        io::ErrorKind::PermissionDenied => {
            ErrorBody::new(ErrorCode::PermissionDenied, format!("This user may not use {shown}."))
                .with_hint("Change the file's owner or mode.")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            ErrorBody::new(ErrorCode::ReadOnly, format!("{shown} cannot be written to."))
                .with_hint("Remount its file system for writing, or move the file.")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ErrorBody::new(ErrorCode::DiskFull, format!("The disk with {shown} is full."))
                .with_hint("Make room on it.")
        }
        _ => ErrorBody::new(ErrorCode::Internal, format!("{shown}: {error}.")),
    };
    body.with_detail("path", path.to_string_lossy().into_owned())
}
