//! Making a backup.
//!
//! ```text
//! turn ─▶ snapshot without memory, frozen where the agent can ─▶ layers opened by qemu-nbd ─▶ read into the repository ─▶ marked
//!                                                                                     snapshot removed, layers merged ◀┘
//! ```
//! The machine is borrowed until its layers are open: it starts, runs and stops while they are read. Whoever would merge one of
//! them meanwhile is refused it by the lock `qemu-nbd` holds, and does it later.
//!
//! Of a disk only that is read which is in the layers above the one that shows the last backup ([`marks`]); all of it where it is not
//! certain that the rest is what it was. Either way the backup is whole.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use voidvm_backup::{
    BackupDone, BackupRequest, Base, Consistency, DiskInput, MachineInput, Repository, SmallFile,
};
use voidvm_model::backup::BackupRunRequest;
use voidvm_model::snapshot::{self, SnapshotReason};
use voidvm_model::spec::DiskFormat;
use voidvm_model::vm::VmMeta;
use voidvm_model::{
    Bytes, DeviceId, ErrorBody, ErrorCode, MachineSpec, Operation, OperationKind, OperationResult, Origin,
    SnapshotId, VmState,
};
use voidvm_qemu::nbd::{Access, Server};
use voidvm_store::{SnapshotRow, VmRow};

use super::disk::{self, Source};
use super::job::Teller;
use super::{keep, open};
use crate::engine::blocking;
use crate::guest;
use crate::ledger::Cancel;
use crate::ops::files;
use crate::shared::Shared;
use crate::snapshot::{
    Job, Memory, Wish, begin_job, forget, kept_dir, kept_files, marks, merge_at_rest, merge_quietly, names,
    take, writable,
};
use crate::supervisor::lend::Loan;

/// The first word of the name of a backup's snapshot, and its tag.
const WORD: &str = "backup";

/// What a backup says of a machine, apart from its files.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Described {
    pub(super) description: String,
    #[serde(default)]
    pub(super) os_type: Option<String>,
    pub(super) meta: VmMeta,
    pub(super) spec: MachineSpec,
}

/// Checks a request and begins the work.
///
/// # Errors
/// What does not hold, with its field; nothing was made then.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    request: BackupRunRequest,
    tags: Vec<String>,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let machine = shared.fleet.get(request.id)?;
    machine.settled().await;
    writable(&shared.config.machine_dir(request.id), &machine.view().spec)?;
    let repository = open::open(shared, &request.directory, request.password).await?;
    begin_job(shared, machine, (OperationKind::BackupRun, origin, Cancel::Heeded), |job| async move {
        let cancelled = || ErrorBody::new(ErrorCode::Cancelled, "Cancelled.");
        let _turn = tokio::select! {
            biased;
            () = job.cancel.cancelled() => return Err(cancelled()),
            permit = job.shared.builds.pass() => permit,
        };
        let turns = job.shared.repositories.of(&repository);
        let _adding = tokio::select! {
            biased;
            () = job.cancel.cancelled() => return Err(cancelled()),
            adding = turns.read() => adding,
        };
        let loan = job.borrow().await?;
        let (vm, id) = (loan.vm.clone(), picture_of(&job, &loan).await?);
        let opened = Picture::open(&job, id, &repository.id()).await;
        drop(loan);
        let known = repository.id();
        let stored = match opened {
            Ok(picture) => picture.store(&job, &vm, repository, tags).await,
            Err(error) => Err(error),
        };
        if let Ok((done, layers)) = &stored {
            // Without it the next one reads everything.
            let marked = marks::put(&job.shared, vm.id, (known, keep::id_of(done.id)?), layers).await;
            marked.unwrap_or_else(|error| tracing::warn!(vm = %vm.id, %error, "a backup is not remembered"));
        }
        clear_away(&job, id).await;
        let (BackupDone { id, size, read, added, .. }, _) = stored?;
        Ok(Some(OperationResult::BackedUp {
            backup: keep::id_of(id)?,
            size: Bytes(size),
            read: Some(Bytes(read)),
            added: Bytes(added),
        }))
    })
    .await
}

/// Takes the snapshot a backup is made of.
async fn picture_of(job: &Job, loan: &Loan) -> Result<SnapshotId, ErrorBody> {
    let name = names::free(&names::of_now(WORD, Timestamp::now()), &job.rows().await?);
    let wish = |memory| Wish {
        name: Some(name.clone()),
        description: String::new(),
        tags: vec![WORD.to_owned()],
        reason: SnapshotReason::Backup,
        schedule_id: None,
        memory,
    };
    let agent = match &loan.run {
        Some(run) if loan.vm.state == VmState::Running => guest::info(run).await.agent,
        _ => false,
    };
    if agent {
        match take(job, loan, wish(Memory::LeftFrozen)).await {
            Ok(taken) => return Ok(taken.id),
            // A guest that cannot be frozen is backed up as after a power cut, and the backup says so.
            Err(error) if error.field.as_deref() == Some("freeze") => {
                tracing::warn!(vm = %loan.vm.id, %error, "backed up without freezing the guest");
            }
            Err(error) => return Err(error),
        }
    }
    take(job, loan, wish(Memory::Left)).await.map(|taken| taken.id)
}

/// The layers of a snapshot, open.
struct Picture {
    row: SnapshotRow,
    servers: Vec<Server>,
    disks: Vec<Opened>,
}

/// A disk, and what of it need not be read: what is below so many of its files is in that backup.
struct Opened {
    file: String,
    source: Source,
    stands_on: Option<(voidvm_backup::BackupId, u32)>,
}

impl Picture {
    /// Opens the layers of a snapshot. The machine is on loan meanwhile: which file stands on which does not change while it is
    /// looked at, and then not while they are open.
    async fn open(job: &Job, id: SnapshotId, repository: &str) -> Result<Self, ErrorBody> {
        let row = job.rows().await?.into_iter().find(|row| row.id == id);
        let row =
            row.ok_or_else(|| ErrorBody::new(ErrorCode::NotFound, "The snapshot of the backup is gone."))?;
        let machine_dir = job.machine_dir();
        let mark = marks::of_repository(&job.shared, row.vm_id, repository).await?;
        let mut picture = Self { row, servers: Vec::new(), disks: Vec::new() };
        for disk in &picture.row.spec.disks {
            let image = match picture.row.layers.get(&disk.id) {
                Some(layer) => (machine_dir.join(layer), DiskFormat::Qcow2),
                // Nobody writes to it.
                None => (disk.file.clone(), disk.format),
            };
            let (server, client) =
                disk::open(&job.shared, &job.img, (&image.0, image.1), Access::Read).await?;
            let last = mark.as_ref().and_then(|mark| Some((mark.backup, mark.layers.get(&disk.id)?)));
            let stands_on = last.and_then(|(backup, layer)| {
                let above = marks::files_above(&machine_dir, layer, &image.0)?;
                Some((keep::theirs(&backup).ok()?, above))
            });
            picture.servers.push(server);
            let (file, source) = (disk::file_of(&disk.id), Source::new(client));
            picture.disks.push(Opened { file, source, stands_on });
        }
        Ok(picture)
    }

    /// Puts what is in them into the repository.
    async fn store(
        mut self,
        job: &Job,
        vm: &VmRow,
        repository: Repository,
        tags: Vec<String>,
    ) -> Result<(BackupDone, BTreeMap<DeviceId, String>), ErrorBody> {
        let (described, consistency) = (describe(vm, &self.row)?, consistency(vm, &self.row));
        let (taken, id, name) = (self.row.created_at, vm.id, vm.name.clone());
        let dirs = (kept_dir(&job.machine_dir(), self.row.id), job.machine_dir());
        let teller = Teller { progress: job.progress.clone(), cancel: job.cancel.clone() };
        let done = blocking(move || {
            let files = small_files(&dirs.0, &dirs.1)?;
            let disks = self.disks.iter_mut().map(Opened::input).collect();
            let machine = MachineInput { id, name, consistency, specification: described, disks, files };
            let request = BackupRequest { taken, tags, machines: vec![machine] };
            let done = repository.backup(request, &teller);
            self.disks.iter_mut().for_each(|disk| disk.source.leave());
            done
        })
        .await;
        // The layers can be merged when nobody has them open any more.
        for server in self.servers {
            if let Err(error) = server.ended().await {
                tracing::debug!(%error, "a layer was read to its end, and then something was wrong");
            }
        }
        Ok((done?, self.row.layers))
    }
}

impl Opened {
    fn input(&mut self) -> DiskInput<'_> {
        let base = self.stands_on.and_then(|(backup, above)| {
            let dirty = self.source.held_above(above)?;
            Some(Base { backup, dirty })
        });
        DiskInput { file: self.file.clone(), source: &mut self.source, base }
    }
}

/// Removes the snapshot again, also when the backup was given up.
async fn clear_away(job: &Job, id: SnapshotId) {
    if let Err(error) = forget(job, id).await {
        tracing::warn!(vm = %job.machine.id, %error, "the snapshot of a backup stays until the next start");
        return;
    }
    if job.cancel.is_cancelled() && !job.shared.closing.is_cancelled() {
        // Who gave the backup up did not mean the layers, which are merged with the work itself else.
        return merge_at_rest(&job.shared, job.machine.id).await;
    }
    match job.machine.lend_as_it_is().await {
        Ok(loan) => merge_quietly(job, &loan).await,
        Err(error) => {
            tracing::debug!(vm = %job.machine.id, %error, "the layers of a backup are left for later");
        }
    }
}

fn describe(vm: &VmRow, row: &SnapshotRow) -> Result<serde_json::Value, ErrorBody> {
    let described = Described {
        description: vm.description.clone(),
        os_type: vm.os_type.clone(),
        meta: vm.meta.clone(),
        spec: row.spec.clone(),
    };
    serde_json::to_value(described).map_err(|error| {
        ErrorBody::new(ErrorCode::Internal, format!("The machine cannot be described: {error}."))
    })
}

fn consistency(vm: &VmRow, row: &SnapshotRow) -> Consistency {
    match row.consistency {
        snapshot::Consistency::Whole if vm.state == VmState::Stopped => Consistency::Stopped,
        snapshot::Consistency::Frozen => Consistency::Frozen,
        snapshot::Consistency::Whole | snapshot::Consistency::Crash => Consistency::Crash,
    }
}

/// UEFI variables and the TPM's state of the snapshot; what is beside the machine's disks otherwise.
fn small_files(kept: &Path, machine_dir: &Path) -> Result<Vec<SmallFile>, ErrorBody> {
    let tpm = files::tpm(kept);
    let of_snapshot = kept_files(kept).into_iter().filter(|file| file.parent() == Some(&tpm));
    let state = of_snapshot.filter(|file| files::is_tpm_state(file));
    let variables = |name: &str| name.starts_with("uefi-");
    let companions = files::COMPANIONS.iter().map(|name| match variables(name) {
        true => kept.join(name),
        false => machine_dir.join(name),
    });
    let mut found = Vec::new();
    for file in companions.chain(state).filter(|file| file.is_file()) {
        found.push(SmallFile { path: path_of(&file, &tpm), content: content_of(&file)? });
    }
    Ok(found)
}

fn path_of(file: &Path, tpm: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    if file.parent() == Some(tpm) { format!("tpm/{name}") } else { name.into_owned() }
}

fn content_of(file: &Path) -> Result<Vec<u8>, ErrorBody> {
    std::fs::read(file).map_err(|error| files::io_error(file, &error))
}
