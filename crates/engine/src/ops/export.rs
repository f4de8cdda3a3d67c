//! A machine as one file: voidVM's own archive, or an OVA for other programs.
//!
//! ```text
//! held still ─▶ intent ─▶ disks copied, without what they stand on, into NAME.parts/ ─▶ packed into NAME.part ─▶ NAME
//! ```
//! An archive is a tar under zstd: `manifest.json` first, then the files it names, last `checksums.json`. Keys never go along:
//! encrypted disks are refused, the ssh key and the seed with its password's hash stay.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use voidvm_model::spec::{DiskFormat, validate_path};
use voidvm_model::transfer::{ExportFormat, VmExportRequest};
use voidvm_model::{Bytes, ErrorBody, ErrorCode, MachineSpec, Operation, OperationKind, Origin};
use voidvm_qemu::image::{self, CopyProgress, QemuImg};
use voidvm_store::{Intent, IntentAction, VmRow};

use super::archive::{self, Meter, Packer};
use super::build::{self, Share, Stopped};
use super::{clone, files, ovf};
use crate::ledger::{Cancel, Outcome, Subject, Ticket};
use crate::platform;
use crate::shared::Shared;
use crate::supervisor::Machine;

/// The newest archive this build writes and reads.
pub(super) const ARCHIVE: u32 = 1;
pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const CHECKSUMS: &str = "checksums.json";
/// Before the names of the TPM's files.
pub(super) const TPM: &str = "tpm+";

/// What an archive holds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub(super) archive: u32,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) os_type: Option<String>,
    pub(super) spec: MachineSpec,
    pub(super) files: Vec<Content>,
}

/// A file of an archive.
#[derive(Serialize, Deserialize)]
pub(super) struct Content {
    pub(super) name: String,
    pub(super) size: Bytes,
}

/// Checks a request and begins the work.
///
/// # Errors
/// What does not hold, with its field; nothing was made then.
pub(crate) async fn export(
    shared: &Arc<Shared>,
    request: VmExportRequest,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let machine = shared.fleet.get(request.id)?;
    machine.settled().await;
    let view = machine.view();
    clone::check_state(&view.name, view.state)?;
    let path = PathBuf::from(&request.path);
    validate_path("path", &path)?;
    if path.symlink_metadata().is_ok() {
        return Err(ErrorBody::new(ErrorCode::FileInUse, format!("{} exists already.", path.display()))
            .with_field("path")
            .with_hint("Choose another name, or remove the file."));
    }
    let dir = path.parent().unwrap_or(&path);
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK)
        .map_err(|error| files::io_error(dir, &error.into()).with_field("path"))?;
    if let Some(disk) = view.spec.disks.iter().find(|disk| disk.key.is_some()) {
        return Err(ErrorBody::new(
            ErrorCode::Unsupported,
            format!("{} is encrypted, and its key stays in the keychain.", disk.file.display()),
        )
        .with_hint("Copy what is in the guest, or detach the disk first."));
    }
    if shared.closing.is_cancelled() {
        return Err(ErrorBody::new(ErrorCode::Busy, "voidVM is ending."));
    }
    let img = platform::qemu_img(shared.preferences().qemu_binary)?;
    let named = Subject::Vm(request.id, &view.name);
    let ticket = shared.ledger.open_operation(OperationKind::Export, named, origin, Cancel::Heeded).await?;
    let operation = ticket.operation();
    let export = Export { machine, format: request.format, parts: with_end(&path, ".parts"), path, img };
    shared.builders.spawn(carry_out(Arc::clone(shared), export, ticket));
    operation.ok_or_else(|| ErrorBody::new(ErrorCode::Internal, "The operation was lost."))
}

struct Export {
    machine: Arc<Machine>,
    format: ExportFormat,
    path: PathBuf,
    /// Where disks are before they are packed.
    parts: PathBuf,
    img: QemuImg,
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(end);
    name.into()
}

async fn carry_out(shared: Arc<Shared>, export: Export, mut ticket: Ticket) {
    let cancel = ticket.cancel().clone();
    let _watch = build::end_with_engine(&shared, &cancel);
    let permit = tokio::select! {
        biased;
        () = cancel.cancelled() => None,
        permit = shared.builds.pass() => Some(permit),
    };
    let done = if permit.is_some() {
        ticket.begin();
        journaled(&shared, &export, &mut ticket).await
    } else {
        Err(Stopped::Cancelled)
    };
    ticket.end(match done {
        Ok(()) => Outcome::Succeeded,
        Err(stopped) => build::outcome(&shared, stopped),
    });
}

async fn journaled(shared: &Arc<Shared>, export: &Export, ticket: &mut Ticket) -> Result<(), Stopped> {
    let loan = tokio::select! {
        biased;
        () = ticket.cancel().cancelled() => return Err(Stopped::Cancelled),
        loan = export.machine.lend() => loan?,
    };
    clone::check_state(&loan.vm.name, loan.vm.state)?;
    let files = vec![export.parts.clone(), build::part_of(&export.path)];
    if let Some(there) = files.iter().find(|file| file.symlink_metadata().is_ok()) {
        let body = ErrorBody::new(ErrorCode::FileInUse, format!("{} is in the way.", there.display()));
        return Err(body.with_field("path").with_hint("Choose another name, or remove it.").into());
    }
    let action = IntentAction::Export;
    let intent = Intent { operation_id: ticket.id(), vm_id: Some(loan.vm.id), action, files };
    let journal = shared.store.journal();
    let entry = journal.begin(&intent, Timestamp::now()).await.map_err(|error| error.body())?;
    let done = write(shared, export, &loan.vm, ticket).await;
    undo(&intent);
    if let Err(error) = journal.end(entry).await {
        tracing::warn!(%error, "the intent of an export stays until the next start");
    }
    done
}

/// Removes what an export needs only while it is made.
pub(crate) fn undo(intent: &Intent) {
    let [parts, part] = intent.files.as_slice() else { return };
    let inside = std::fs::read_dir(parts).into_iter().flatten().flatten().map(|entry| entry.path());
    let all: Vec<_> = inside.chain([part.clone()]).collect();
    if let Err(error) = files::remove(&all) {
        tracing::error!(%error, "a part of an export is left");
    }
    files::remove_dir(parts);
}

async fn write(shared: &Shared, export: &Export, vm: &VmRow, ticket: &mut Ticket) -> Result<(), Stopped> {
    let dir = &shared.config.machine_dir(vm.id);
    build::make_dir(&export.parts)?;
    let sizes: Vec<u64> =
        vm.spec.disks.iter().map(|disk| clone::allocated(&disk.file)).collect::<Result<_, _>>()?;
    let total: u64 = sizes.iter().sum();
    // The parts, and the file that is packed from them.
    build::check_space(shared, &export.parts, Bytes(total.saturating_mul(2))).await?;
    let cancel = ticket.cancel().clone();
    let mut disks = Vec::new();
    let mut before = 0;
    for (at, (disk, size)) in vm.spec.disks.iter().zip(sizes).enumerate() {
        let (progress, share) = (CopyProgress::new(0), Share { before, size, total: total * 2 });
        let end = if export.format == ExportFormat::Ova { "vmdk" } else { "qcow2" };
        let to = export.parts.join(format!("disk{at}.{end}"));
        let from = disk.file.as_path();
        match export.format {
            ExportFormat::Archive => {
                let kind = build::kind_of(disk.format);
                let copying = export.img.copy_kind(from, kind, &to, &progress, &cancel);
                build::follow(copying, &progress, share, ticket).await?;
            }
            ExportFormat::Ova => {
                let copying = export.img.copy_to_vmdk(from, disk.format, &to, &progress, &cancel);
                build::follow(copying, &progress, share, ticket).await?;
            }
        }
        before += size;
        let virtual_size = match disk.format {
            DiskFormat::Qcow2 => clone::header(from)?.virtual_size,
            DiskFormat::Raw => {
                Bytes(std::fs::metadata(from).map_err(|error| files::io_error(from, &error))?.len())
            }
        };
        disks.push((to, virtual_size));
    }
    let meter = Meter { done: watch::Sender::new(0), cancel };
    let mut done = meter.done.subscribe();
    let (format, to, vm, dir) = (export.format, export.path.clone(), vm.clone(), dir.to_owned());
    let packing = tokio::task::spawn_blocking(move || pack(format, &to, (&vm, &dir), &disks, &meter));
    tokio::pin!(packing);
    loop {
        tokio::select! {
            biased;
            packed = &mut packing => {
                packed.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))??;
                return Ok(());
            }
            Ok(()) = done.changed() => {
                let done = *done.borrow_and_update();
                ticket.progress((total + done).min(total * 2), total * 2);
            }
        }
    }
}

fn pack(
    format: ExportFormat,
    to: &Path,
    (vm, dir): (&VmRow, &Path),
    disks: &[(PathBuf, Bytes)],
    meter: &Meter,
) -> Result<(), ErrorBody> {
    let part = build::part_of(to);
    let packed = || -> io::Result<()> {
        let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&part)?;
        let file = match format {
            ExportFormat::Archive => pack_archive(file, vm, dir, disks, meter)?,
            ExportFormat::Ova => pack_ova(file, vm, disks, meter)?,
        };
        file.sync_all()?;
        // Nobody else's file is replaced.
        std::fs::hard_link(&part, to).or_else(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists { Err(error) } else { std::fs::rename(&part, to) }
        })?;
        File::open(to.parent().unwrap_or(to))?.sync_all()
    };
    packed().map_err(|error| archive::io_or_cancel(to, &error))
}

fn pack_archive(
    file: File,
    vm: &VmRow,
    dir: &Path,
    disks: &[(PathBuf, Bytes)],
    meter: &Meter,
) -> io::Result<File> {
    let mut spec = vm.spec.clone();
    let mut contents = Vec::new();
    for (disk, (path, _)) in spec.disks.iter_mut().zip(disks) {
        let name = name_of(path);
        disk.file = PathBuf::from(&name);
        contents.push((name, path.clone()));
    }
    for cdrom in &mut spec.cdroms {
        cdrom.file = None;
    }
    if let Some(vars) = files::vars(dir, spec.firmware).filter(|vars| vars.is_file()) {
        contents.push((name_of(&vars), vars));
    }
    let state = std::fs::read_dir(files::tpm(dir)).into_iter().flatten().flatten();
    for entry in state.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file())) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if spec.tpm && !name.ends_with(".lock") && !name.starts_with('.') {
            contents.push((format!("{TPM}{name}"), entry.path()));
        }
    }
    let mut files = Vec::new();
    for (name, path) in &contents {
        files.push(Content { name: name.clone(), size: Bytes(std::fs::metadata(path)?.len()) });
    }
    let manifest = Manifest {
        archive: ARCHIVE,
        name: vm.name.clone(),
        description: vm.description.clone(),
        os_type: vm.os_type.clone(),
        spec,
        files,
    };
    let mut packer = Packer::new(zstd::stream::write::Encoder::new(file, 3)?);
    packer.text(MANIFEST, &serde_json::to_vec_pretty(&manifest)?)?;
    for (name, path) in &contents {
        packer.file(name, path, meter)?;
    }
    let sums: std::collections::BTreeMap<_, _> = packer.sums.iter().cloned().collect();
    packer.text(CHECKSUMS, &serde_json::to_vec_pretty(&sums)?)?;
    packer.finish()?.finish()
}

fn pack_ova(file: File, vm: &VmRow, disks: &[(PathBuf, Bytes)], meter: &Meter) -> io::Result<File> {
    let mut described = Vec::new();
    for (path, capacity) in disks {
        described.push(ovf::Disk {
            name: name_of(path),
            size: std::fs::metadata(path)?.len(),
            capacity: capacity.0,
        });
    }
    let mut packer = Packer::new(file);
    packer.text("machine.ovf", ovf::write(&vm.name, &vm.spec, &described).as_bytes())?;
    for (path, _) in disks {
        packer.file(&name_of(path), path, meter)?;
    }
    let sums: String = packer.sums.iter().map(|(name, sum)| format!("SHA256({name})= {sum}\n")).collect();
    packer.text("machine.mf", sums.as_bytes())?;
    packer.finish()
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The format of an image that stands for itself: what a stranger's file may be.
pub(super) fn stands_alone(path: &Path) -> Result<(), ErrorBody> {
    let found = image::header(path).map_err(|error| files::io_error(path, &error))?;
    match found {
        Some(header) if header.backing.is_none() && !header.encrypted => Ok(()),
        _ => Err(archive::refused("a disk in it stands on another file")),
    }
}
