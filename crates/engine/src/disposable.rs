//! A run whose writes are thrown away at its end.
//!
//! Its disks, UEFI variables and TPM are in `throwaway/` in the machine's directory: overlays that stand on the machine's own files,
//! and copies of what is small. Invariants: nothing of the machine's own is written to; the directory is made anew for each run
//! and means nothing without a process, so that whoever finds it without one removes it.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use voidvm_model::spec::{Disk, DiskFormat};
use voidvm_model::{ErrorBody, ErrorCode, MachineSpec};
use voidvm_qemu::image::{QemuImg, overlay};

use crate::ops::files;

/// Where the files of such a run are.
pub(crate) fn home(machine_dir: &Path) -> PathBuf {
    machine_dir.join("throwaway")
}

/// Makes the files of such a run; the hardware to start it with.
///
/// # Errors
/// A disk that is encrypted, or what the file system says; then no file is left.
pub(crate) async fn prepare(
    img: &QemuImg,
    machine_dir: &Path,
    spec: &MachineSpec,
) -> Result<MachineSpec, ErrorBody> {
    discard(machine_dir);
    let made = make(img, machine_dir, spec).await;
    if made.is_err() {
        discard(machine_dir);
    }
    made
}

async fn make(img: &QemuImg, machine_dir: &Path, spec: &MachineSpec) -> Result<MachineSpec, ErrorBody> {
    let home = home(machine_dir);
    let failed = |error: io::Error| files::io_error(&home, &error);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&home).map_err(failed)?;
    let mut thrown_away = spec.clone();
    for (at, disk) in thrown_away.disks.iter_mut().enumerate().filter(|(_, disk)| !disk.read_only) {
        if disk.key.is_some() {
            return Err(ErrorBody::new(
                ErrorCode::Unsupported,
                "What an encrypted disk's guest writes cannot be thrown away: it would be on this computer's disk in the clear.",
            )
            .with_field(format!("spec.disks[{at}].key"))
            .with_hint("Start the machine as usual, or a clone of it."));
        }
        *disk = on_top(img, disk, home.join(format!("{}.qcow2", disk.id))).await?;
    }
    if let (Some(vars), Some(copy)) =
        (files::vars(machine_dir, spec.firmware), files::vars(&home, spec.firmware))
        && vars.exists()
    {
        std::fs::copy(&vars, &copy).map_err(failed)?;
    }
    if spec.tpm {
        copy_dir(&files::tpm(machine_dir), &files::tpm(&home)).map_err(failed)?;
    }
    Ok(thrown_away)
}

async fn on_top(img: &QemuImg, disk: &Disk, file: PathBuf) -> Result<Disk, ErrorBody> {
    let size = img.info(&disk.file).await.map_err(|error| error.body())?.virtual_size;
    overlay(&file, &disk.file, disk.format, size).map_err(|error| error.body())?;
    Ok(Disk { file, format: DiskFormat::Qcow2, ..disk.clone() })
}

/// The state of a TPM is a few small files.
fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Throws away what such a run has left; its process is gone.
pub(crate) fn discard(machine_dir: &Path) {
    let home = home(machine_dir);
    if let Err(error) = std::fs::remove_dir_all(&home)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::error!(path = %home.display(), %error, "what was to be thrown away is left");
    }
}
