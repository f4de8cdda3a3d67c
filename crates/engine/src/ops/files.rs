//! The files of a machine: where its own are, which it uses, what a deletion takes.
//!
//! Invariant: only a regular file that lies directly in the machine's own directory, and that a machine's specification or a
//! name of ours says is the machine's, is ever removed.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use voidvm_model::spec::{Disk, DiskFormat, FileOwner, Firmware, MachineFile};
use voidvm_model::{Bytes, ErrorBody, ErrorCode, MachineSpec};
use voidvm_store::VmRow;

use crate::config::EngineConfig;

/// UEFI variables.
pub(crate) fn uefi_vars(machine_dir: &Path) -> PathBuf {
    machine_dir.join("uefi-vars.qcow2")
}

/// UEFI variables with the keys of Secure Boot: others, since without them nothing is enforced.
pub(crate) fn secure_vars(machine_dir: &Path) -> PathBuf {
    machine_dir.join("uefi-secure-vars.qcow2")
}

/// The variables of this firmware; none of BIOS.
pub(crate) fn vars(machine_dir: &Path, firmware: Firmware) -> Option<PathBuf> {
    match firmware {
        Firmware::Bios => None,
        Firmware::Uefi => Some(uefi_vars(machine_dir)),
        Firmware::UefiSecure => Some(secure_vars(machine_dir)),
    }
}

/// The directory of the TPM's state.
pub(crate) fn tpm(machine_dir: &Path) -> PathBuf {
    machine_dir.join("tpm")
}

/// Whether a file in a TPM's directory is of its state: a lock, a socket or a log belongs to a run.
pub(crate) fn is_tpm_state(file: &Path) -> bool {
    let hidden = file.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    !hidden && file.extension().is_none_or(|end| end != "lock" && end != "pid" && end != "log")
}

/// What is beside a machine's disks and goes with a copy of it: firmware variables, the seed for cloud-init, the ssh key.
pub(crate) const COMPANIONS: [&str; 6] =
    ["uefi-vars.qcow2", "uefi-secure-vars.qcow2", SEED, LOGIN, KEY, "id_ed25519.pub"];
const SEED: &str = "seed.iso";
const LOGIN: &str = "login.json";
const KEY: &str = "id_ed25519";

/// The CD that tells cloud-init what to do.
pub(crate) fn seed(machine_dir: &Path) -> PathBuf {
    machine_dir.join(SEED)
}

/// Who can log in: written when cloud-init was told to make a user.
pub(crate) fn login(machine_dir: &Path) -> PathBuf {
    machine_dir.join(LOGIN)
}

/// The machine's own ssh key; the public half beside it ends in `.pub`.
pub(crate) fn ssh_key(machine_dir: &Path) -> PathBuf {
    machine_dir.join(KEY)
}

/// What ssh knows of the guest.
pub(crate) fn known_hosts(machine_dir: &Path) -> PathBuf {
    machine_dir.join("known_hosts")
}

/// A new name for what linked clones and their parent stand on.
pub(crate) fn new_base(machine_dir: &Path) -> PathBuf {
    let id = uuid::Uuid::new_v4().simple().to_string();
    machine_dir.join(format!("base-{}.qcow2", &id[..12]))
}

/// Whether this is what linked clones of the machine in that directory stand on.
pub(crate) fn is_base(machine_dir: Option<&Path>, file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    file.parent() == machine_dir && name.starts_with("base-") && name.ends_with(".qcow2")
}

/// The bases in a machine's directory.
pub(crate) fn bases(machine_dir: &Path) -> Vec<PathBuf> {
    entries(machine_dir).into_iter().filter(|file| is_base(Some(machine_dir), file)).collect()
}

/// The files directly in a directory, in the order of their names.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let files = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()));
    let mut files: Vec<_> = files.map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// Whatever in a machine's directory bears a name of ours. Of a machine that is not to be: nobody else puts anything there.
pub(crate) fn ours_in(machine_dir: &Path) -> Vec<PathBuf> {
    let ours = |file: &PathBuf| {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let whole = name.strip_suffix(".part").unwrap_or(name);
        let numbered = whole
            .strip_prefix("disk")
            .and_then(|rest| rest.strip_suffix(".qcow2").or_else(|| rest.strip_suffix(".vmdk")))
            .is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()));
        numbered
            || *file == drill_mark(machine_dir)
            || is_base(Some(machine_dir), &machine_dir.join(whole))
            || COMPANIONS.contains(&whole)
    };
    let mut files = entries(machine_dir);
    files.retain(ours);
    files.extend(entries(&tpm(machine_dir)));
    files
}

/// Says that the machine is one of a restore drill, and to be removed.
pub(crate) fn drill_mark(machine_dir: &Path) -> PathBuf {
    machine_dir.join("drill")
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
    let drill = drill_mark(&dir);
    let unfinished = picture.with_extension("png.part");
    let companions = COMPANIONS.iter().map(|name| dir.join(name));
    let kept = crate::snapshot::kept_dirs(&dir);
    disks
        .chain(bases(&dir))
        .chain(kept.iter().flat_map(|dir| crate::snapshot::kept_files(dir)))
        .chain(companions)
        .chain(entries(&tpm(&dir)))
        .chain(crate::suspend::files(&dir))
        .chain([
            known_hosts(&dir),
            drill,
            picture,
            unfinished,
            config.serial_log(vm.id),
            config.last_command(vm.id),
        ])
        .collect()
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
    for path in bases(&dir).into_iter().chain(COMPANIONS.iter().map(|name| dir.join(name))) {
        add(&path, FileOwner::Machine);
    }
    let kept = crate::snapshot::kept_dirs(&dir);
    let kept = kept.iter().flat_map(|dir| crate::snapshot::kept_files(dir));
    for path in entries(&tpm(&dir)).into_iter().chain([thumbnail(&dir)]).chain(kept) {
        add(&path, FileOwner::Machine);
    }
    // What linked clones stand on is somebody else's.
    let below =
        spec.disks.iter().filter_map(|disk| voidvm_qemu::image::backing_files(&disk.file).ok()).flatten();
    for path in below.filter(|file| file.parent() != Some(&dir)).collect::<std::collections::BTreeSet<_>>() {
        if !spec.disks.iter().any(|disk| disk.file == path) {
            add(&path, FileOwner::User);
        }
    }
    let seed = seed(&dir);
    for medium in spec.cdroms.iter().filter_map(|cdrom| cdrom.file.as_deref()).filter(|file| *file != seed) {
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

/// Removes a machine's directory and the TPM's in it, as far as nothing is left in them; a file somebody else put there keeps
/// them.
pub(crate) fn remove_dirs(dir: &Path) {
    for kept in crate::snapshot::kept_dirs(dir) {
        remove_dir(&tpm(&kept));
        remove_dir(&kept);
    }
    remove_dir(&dir.join("snapshots"));
    remove_dir(&tpm(dir));
    remove_dir(dir);
}

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
        let access = if disk.read_only { Access::READ_OK } else { Access::READ_OK | Access::WRITE_OK };
        (format!("spec.disks[{at}].file"), disk.file.as_path(), access)
    });
    let media = spec.cdroms.iter().enumerate().filter_map(|(at, cdrom)| {
        cdrom.file.as_deref().map(|file| (format!("spec.cdroms[{at}].file"), file, Access::READ_OK))
    });
    for (field, file, access) in disks.chain(media) {
        rustix::fs::access(file, access).map_err(|error| io_error(file, &error.into()).with_field(field))?;
    }
    for (at, disk) in spec.disks.iter().enumerate().filter(|(_, disk)| disk.format == DiskFormat::Qcow2) {
        if let Err(missing) = voidvm_qemu::image::backing_files(&disk.file) {
            return Err(io_error(&missing.path, &missing.source).with_field(format!("spec.disks[{at}].file")));
        }
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
