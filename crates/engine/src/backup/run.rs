//! Making a backup.
//!
//! ```text
//! turn ─▶ snapshot without memory, frozen where the agent can ─▶ layers read through qemu-nbd into the repository ─▶ snapshot removed
//! ```
//! The machine is borrowed for the snapshot only: it starts, runs and stops while its layers are read. Whoever would merge one of
//! them meanwhile is refused it by the lock `qemu-nbd` holds, and does it later.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use voidvm_backup::{BackupDone, BackupRequest, Consistency, DiskInput, MachineInput, Repository, SmallFile};
use voidvm_model::backup::BackupRunRequest;
use voidvm_model::snapshot::{self, SnapshotReason};
use voidvm_model::spec::DiskFormat;
use voidvm_model::vm::VmMeta;
use voidvm_model::{
    Bytes, ErrorBody, ErrorCode, MachineSpec, Operation, OperationKind, OperationResult, Origin, SnapshotId,
    VmState,
};
use voidvm_qemu::nbd::Access;
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
    Job, Memory, Wish, begin_job, kept_dir, kept_files, merge_at_rest, names, remove, take, writable,
};
use crate::supervisor::lend::Loan;

/// The tag of a backup's snapshot, and the first word of its name.
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
        let loan = job.borrow().await?;
        let vm = loan.vm.clone();
        let id = picture_of(&job, &loan).await?;
        drop(loan);
        let stored = store(&job, &vm, id, repository).await;
        clear_away(&job, id).await;
        let done = stored?;
        let backup = keep::id_of(done.id)?;
        Ok(Some(OperationResult::BackedUp { backup, size: Bytes(done.size), added: Bytes(done.added) }))
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
        reason: SnapshotReason::Manual,
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

/// Puts what a snapshot holds into the repository.
async fn store(
    job: &Job,
    vm: &VmRow,
    id: SnapshotId,
    repository: Repository,
) -> Result<BackupDone, ErrorBody> {
    let row = job.rows().await?.into_iter().find(|row| row.id == id);
    let row =
        row.ok_or_else(|| ErrorBody::new(ErrorCode::NotFound, "The snapshot of the backup is gone."))?;
    let machine_dir = job.machine_dir();
    let (mut servers, mut sources) = (Vec::new(), Vec::new());
    for disk in &row.spec.disks {
        let image = match row.layers.get(&disk.id) {
            Some(layer) => (machine_dir.join(layer), DiskFormat::Qcow2),
            // Nobody writes to it.
            None => (disk.file.clone(), disk.format),
        };
        let (server, client) = disk::open(&job.shared, &job.img, (&image.0, image.1), Access::Read).await?;
        servers.push(server);
        sources.push((disk::file_of(&disk.id), Source::new(client)));
    }
    let (described, consistency) = (describe(vm, &row)?, consistency(vm, &row));
    let (taken, id, name) = (row.created_at, vm.id, vm.name.clone());
    let dirs = (kept_dir(&machine_dir, row.id), machine_dir);
    let teller = Teller { progress: job.progress.clone(), cancel: job.cancel.clone() };
    let done = blocking(move || {
        let files = small_files(&dirs.0, &dirs.1)?;
        let disks = sources
            .iter_mut()
            .map(|(file, source)| DiskInput { file: file.clone(), source, base: None })
            .collect();
        let machine = MachineInput { id, name, consistency, specification: described, disks, files };
        let request = BackupRequest { taken, tags: Vec::new(), machines: vec![machine] };
        let done = repository.backup(request, &teller);
        sources.iter_mut().for_each(|(_, source)| source.leave());
        done
    })
    .await;
    // The layers can be merged when nobody has them open any more.
    for server in servers {
        if let Err(error) = server.ended().await {
            tracing::debug!(%error, "a layer was read to its end, and then something was wrong");
        }
    }
    done
}

/// Removes the snapshot again, also when the backup was given up.
async fn clear_away(job: &Job, id: SnapshotId) {
    let cleared = async {
        let loan = job.machine.lend_as_it_is().await?;
        remove(job, &loan, id).await
    };
    if let Err(error) = cleared.await {
        tracing::warn!(vm = %job.machine.id, %error, "the snapshot of a backup is left");
    }
    if job.cancel.is_cancelled() && !job.shared.closing.is_cancelled() {
        // Who gave the backup up did not mean the layers, which are merged with the work itself else.
        merge_at_rest(&job.shared, job.machine.id).await;
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
