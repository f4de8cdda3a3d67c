//! Making a new machine of a backup.
//!
//! Invariant, as of everything from elsewhere: a backup decides neither where something is written nor which file of this computer a
//! guest is shown.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;
use voidvm_backup::{Machine, Repository};
use voidvm_model::backup::BackupRestoreRequest;
use voidvm_model::spec::{DiskFormat, FileOwner, validate_name};
use voidvm_model::vm::VmMeta;
use voidvm_model::{Bytes, ErrorBody, ErrorCode, Operation, OperationKind, Origin, VmId, VmState};
use voidvm_qemu::image::QemuImg;
use voidvm_qemu::nbd::Access;
use voidvm_store::VmRow;

use super::disk::{self, Sink};
use super::drill;
use super::job::{Teller, shown_while};
use super::run::Described;
use super::{keep, open};
use crate::engine::blocking;
use crate::ledger::Ticket;
use crate::ops::build::{self, Line, Made, Plan, Recipe, Site, Stopped};
use crate::ops::{files, import, launch};
use crate::platform;
use crate::shared::Shared;
use crate::storage::Room;

/// Checks a request and begins the work.
///
/// # Errors
/// What does not hold, with its field; nothing was made then.
pub(crate) async fn restore(
    shared: &Arc<Shared>,
    request: BackupRestoreRequest,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let start = request.start;
    let (plan, recipe) = plan(shared, request, (VmId::new(), origin), false).await?;
    build::begin(shared, Plan { start, ..plan }, recipe).await
}

/// What is to be done for a request; `apart`: for a machine that reaches nobody, and is marked as one that is to be removed.
///
/// # Errors
/// As [`restore`].
pub(super) async fn plan(
    shared: &Arc<Shared>,
    request: BackupRestoreRequest,
    (id, origin): (VmId, Origin),
    apart: bool,
) -> Result<(Plan, Restore), ErrorBody> {
    let repository = Arc::new(open::open(shared, &request.directory, request.password).await?);
    let (backup, wanted) = (keep::theirs(&request.backup)?, request.machine);
    let looked = Arc::clone(&repository);
    let machine = blocking(move || choose(looked.find(backup)?.machines, wanted.as_deref())).await?;
    let described: Described =
        serde_json::from_value(machine.record.specification.clone()).map_err(|error| {
            ErrorBody::new(ErrorCode::Unsupported, "The machine of this backup cannot be read.")
                .with_hint("Update voidVM, or restore its disks with restic.")
                .with_detail("reason", error.to_string())
        })?;
    let name = request.name.unwrap_or_else(|| machine.record.name.clone());
    validate_name(&name)?;
    launch::check_memory(&described.spec)?;
    let plan = Plan {
        id,
        reservation: shared.fleet.reserve(id, &name, None)?,
        name: name.clone(),
        kind: OperationKind::BackupRestore,
        line: Line::Waits,
        origin,
        start: false,
    };
    let img = platform::qemu_img(shared.preferences().qemu_binary)?;
    Ok((plan, Restore { repository, backup, machine, described, name, img, apart }))
}

/// The machine that is wanted of a backup.
fn choose(machines: Vec<Machine>, wanted: Option<&str>) -> Result<Machine, ErrorBody> {
    let names: Vec<_> = machines.iter().map(|machine| machine.directory.clone()).collect();
    let alone = machines.len() == 1;
    let mut fits =
        machines.into_iter().filter(|machine| wanted.map_or(alone, |wanted| machine.directory == wanted));
    fits.next().ok_or_else(|| {
        let code = if wanted.is_some() { ErrorCode::NotFound } else { ErrorCode::InvalidInput };
        ErrorBody::new(code, "The backup does not say which machine is meant.")
            .with_field("machine")
            .with_hint(format!("It holds: {}.", names.join(", ")))
    })
}

pub(super) struct Restore {
    repository: Arc<Repository>,
    backup: voidvm_backup::BackupId,
    machine: Machine,
    described: Described,
    name: String,
    img: QemuImg,
    apart: bool,
}

impl Recipe for Restore {
    async fn make(self, site: &Site<'_>, ticket: &mut Ticket) -> Result<Made, Stopped> {
        let mut spec = self.described.spec.clone();
        import::leave_host(&mut spec);
        if self.apart {
            drill::isolate(&mut spec);
            build::write_file(&files::drill_mark(site.dir), b"")?;
        }
        let seed = self.machine.record.files.iter().any(|file| Path::new(file) == Path::new(SEED));
        for cdrom in &mut spec.cdroms {
            let was_seed = cdrom.file.take().is_some_and(|file| file.ends_with(SEED));
            cdrom.file = (seed && was_seed).then(|| files::seed(site.dir));
        }
        let total = self.machine.record.disks.iter().map(|disk| disk.size).sum();
        let mut before = 0;
        for (at, disk) in spec.disks.iter_mut().enumerate() {
            let from = disk::file_of(&disk.id);
            disk.file = files::disk(site.dir, at);
            disk.format = DiskFormat::Qcow2;
            disk.owner = FileOwner::Machine;
            disk.key = None;
            before += self.disk(site, &from, &disk.file, (before, total), ticket).await?;
        }
        self.small_files(site).await?;
        import::refresh(site.shared, &mut spec);
        spec.validate()?;
        let now = Timestamp::now();
        let vm = VmRow {
            id: site.id,
            name: self.name,
            description: self.described.description,
            os_type: self.described.os_type,
            spec,
            state: VmState::Stopped,
            state_since: now,
            attention: None,
            meta: if self.apart {
                VmMeta::default()
            } else {
                VmMeta { autostart: None, ..self.described.meta }
            },
            parent: None,
            passing: false,
            created_at: now,
            updated_at: now,
        };
        Ok(Made { vm, of: None })
    }
}

const SEED: &str = "seed.iso";

impl Restore {
    /// Restores one disk, and answers how long it is.
    async fn disk(
        &self,
        site: &Site<'_>,
        from: &str,
        to: &Path,
        (before, total): (u64, u64),
        ticket: &mut Ticket,
    ) -> Result<u64, Stopped> {
        let record = self.machine.record.disks.iter().find(|disk| disk.file == from);
        let size = record.map(|disk| disk.size).ok_or_else(|| {
            ErrorBody::new(ErrorCode::ChecksumMismatch, format!("The disk {from} is not in the backup."))
                .with_hint("Verify the backups.")
        })?;
        let failed = |error: voidvm_qemu::image::ImageError| error.body();
        self.img.create_qcow2(to, Bytes(size)).await.map_err(failed)?;
        let room = Room::of(site.shared, site.dir).await?;
        let image = (to, DiskFormat::Qcow2);
        let (server, client) = disk::open(site.shared, &self.img, image, Access::Write).await?;
        let sink = Sink::new(client, room);
        let told = watch::Sender::new(None);
        let teller = Teller { progress: watch::Sender::new(None), cancel: site.cancel.clone() };
        let (repository, backup) = (Arc::clone(&self.repository), self.backup);
        let (directory, from, watched) = (self.machine.directory.clone(), from.to_owned(), teller.clone());
        let work = blocking(move || {
            let done = repository.restore(backup, (&directory, &from), &sink, &watched);
            sink.leave();
            done
        });
        let mut done = teller.progress.subscribe();
        let shift = async {
            while done.changed().await.is_ok() {
                let now = *done.borrow_and_update();
                if let Some(now) = now {
                    told.send_replace(Some(voidvm_model::operation::Progress {
                        done: before + now.done,
                        total,
                    }));
                }
            }
            std::future::pending().await
        };
        let both = async {
            tokio::select! {
                biased;
                ended = work => ended,
                never = shift => never,
            }
        };
        shown_while(&told, ticket, both).await?;
        server.ended().await.map_err(failed)?;
        Ok(size)
    }

    /// UEFI variables, the TPM's state, the seed and the key: each where it belongs, and nothing else.
    async fn small_files(&self, site: &Site<'_>) -> Result<(), ErrorBody> {
        let mut wanted: Vec<(String, PathBuf)> = Vec::new();
        for file in &self.machine.record.files {
            if let Some(to) = place_of(file, site.dir) {
                wanted.push((file.clone(), to));
            }
        }
        let (repository, backup) = (Arc::clone(&self.repository), self.backup);
        let (directory, tpm) = (self.machine.directory.clone(), files::tpm(site.dir));
        blocking(move || {
            if wanted.iter().any(|(_, to)| to.parent() == Some(&tpm)) {
                build::make_dir(&tpm)?;
            }
            for (file, to) in wanted {
                build::write_file(&to, &repository.read_file(backup, &directory, &file)?)?;
            }
            Ok(())
        })
        .await
    }
}

/// Where a small file of a backup belongs in a machine's directory.
fn place_of(file: &str, dir: &Path) -> Option<PathBuf> {
    if files::COMPANIONS.contains(&file) {
        return Some(dir.join(file));
    }
    let name = file.strip_prefix("tpm/")?;
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    plain.then(|| files::tpm(dir).join(name))
}
