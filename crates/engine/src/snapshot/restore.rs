//! Going back to a snapshot.
//!
//! ```text
//! (present kept as a snapshot) ─▶ process ended ─▶ intent ─▶ overlays on the snapshot's layers, state copied, memory linked ─▶
//! definition, tree ─▶ intent ended ─▶ started, where that was asked for
//!            └── cut after the intent: the next start does all of it again, since no guest has run
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use voidvm_model::snapshot::{RestoreTo, SnapshotReason, SnapshotRestoreRequest};
use voidvm_model::spec::DiskFormat;
use voidvm_model::{
    ErrorBody, ErrorCode, MachineSpec, Operation, OperationKind, OperationStatus, Origin, VmState,
};
use voidvm_qemu::image::{self as disks, Chains};
use voidvm_store::{IntentAction, SnapshotRow};

use super::job::{self, Came, Job, blocking};
use super::take::{Memory, Wish, layer_files, take};
use super::{image, kept, merge, names, packed};
use crate::ledger::Cancel;
use crate::ops::{build, clone, files};
use crate::shared::Shared;
use crate::step::step;
use crate::supervisor::Order;
use crate::supervisor::lend::Loan;
use crate::suspend;

/// How long a start may take before nobody waits for it any more.
pub(super) const START: Duration = Duration::from_secs(120);

/// Checks a request and begins the work.
///
/// # Errors
/// What does not hold, with its field; nothing was changed then.
pub(crate) async fn restore(
    shared: &Arc<Shared>,
    request: SnapshotRestoreRequest,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let machine = shared.fleet.get(request.id)?;
    let rows = shared.store.snapshots().of(request.id).await.map_err(|error| error.body())?;
    let row = names::find(&rows, &request.snapshot)?;
    check_whole(&shared.config.machine_dir(request.id), row)?;
    if machine.view().meta.template && request.to == RestoreTo::Running {
        return Err(ErrorBody::new(ErrorCode::InvalidState, "A template is never started.")
            .with_field("to")
            .with_hint("Restore it to a stopped machine, or fork the snapshot."));
    }
    let id = row.id;
    let kind = OperationKind::SnapshotRestore;
    job::begin(shared, machine, (kind, origin, Cancel::Heeded), move |job| async move {
        let rows = job.rows().await?;
        let row = names::find(&rows, &id.to_string())?.clone();
        carry_out(&job, &row, request.to, request.discard_present).await
    })
    .await
}

/// Makes sure that everything a snapshot needs is there.
///
/// # Errors
/// [`ErrorCode::ImageMissing`] with the file.
pub(super) fn check_whole(machine_dir: &Path, row: &SnapshotRow) -> Result<(), ErrorBody> {
    check_chains(machine_dir, row, &mut Chains::default())
}

/// As [`check_whole`], of one of several snapshots that have files in common.
///
/// # Errors
/// As [`check_whole`].
pub(super) fn check_chains(
    machine_dir: &Path,
    row: &SnapshotRow,
    chains: &mut Chains,
) -> Result<(), ErrorBody> {
    let lost = |path: &Path, error: &std::io::Error| {
        files::io_error(path, error)
            .with_hint(format!("The snapshot “{}” cannot be used without it; put it back.", row.name))
    };
    for file in layer_files(machine_dir, row).values() {
        chains.backing_files(file).map_err(|missing| lost(&missing.path, &missing.source))?;
    }
    if row.memory {
        let memory = kept::memory(&kept::dir(machine_dir, row.id));
        std::fs::metadata(&memory).map_err(|error| lost(&memory, &error))?;
    }
    Ok(())
}

async fn carry_out(job: &Arc<Job>, row: &SnapshotRow, to: RestoreTo, discard_present: bool) -> Came {
    let mut loan = job.borrow().await?;
    check_whole(&job.machine_dir(), row)?;
    let was = loan.vm.state;
    if !discard_present && was != VmState::Suspended && was != VmState::Broken && !runs_disposable(&loan) {
        let name = names::free(&safety_name(&row.name), &job.rows().await?);
        let wish = Wish {
            name: Some(name),
            description: String::new(),
            tags: Vec::new(),
            reason: SnapshotReason::Safety,
            schedule_id: None,
            memory: Memory::Kept,
        };
        take(job, &loan, wish).await?;
    } else if !discard_present && was == VmState::Suspended {
        return Err(would_be_lost(&loan));
    }
    let with_memory = row.memory && to != RestoreTo::Stopped;
    let dir = kept::dir(&job.machine_dir(), row.id);
    if with_memory {
        packed::check(&job.shared, &dir).await?;
    }
    job.seal()?;
    step("restore: present kept");
    let machine = Arc::clone(&job.machine);
    machine.end_run(&mut loan).await?;
    step("restore: run ended");
    let plan = Plan { dir: dir.clone(), machine_dir: job.machine_dir(), row: row.clone(), with_memory };
    let intent = job.intend(IntentAction::SnapshotRestore, plan.to_files()).await?;
    step("restore: intended");
    put(job, &loan, &plan).await?;
    job.settled(intent).await;
    merge::quietly(job, &loan).await;
    drop(loan);
    job.announce();
    if with_memory || to == RestoreTo::Running {
        start(job).await?;
    }
    if with_memory {
        image::note_use(&dir);
        job.shared.preparing.take_up(row.id);
    }
    Ok(None)
}

/// Makes a machine at rest what the snapshot shows. Its intent is in the journal.
///
/// # Errors
/// What the file system or the store says; done again, it goes on.
pub(super) async fn put(job: &Job, loan: &Loan, plan: &Plan) -> Result<(), ErrorBody> {
    let spec = {
        let (plan, present) = (plan.clone(), job.machine.view().spec.clone());
        blocking(move || plan.put_in_place(&present)).await?
    };
    job.machine.redefine(loan, spec).await?;
    step("restore: defined");
    let current = job.shared.store.snapshots().make_current(job.vm(), plan.row.id).await;
    current.map_err(|error| error.body())?;
    step("restore: current");
    job.machine.refilled(loan).await
}

pub(super) fn runs_disposable(loan: &Loan) -> bool {
    loan.run.as_ref().is_some_and(|run| run.record().disposable)
}

/// What the present is called when it is kept before a restore.
pub(super) fn safety_name(of: &str) -> String {
    format!("before “{}”", of.chars().take(80).collect::<String>())
}

/// Memory of a suspended machine cannot be kept.
pub(super) fn would_be_lost(loan: &Loan) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::InvalidState,
        format!("“{}” is suspended: its memory would be thrown away.", loan.vm.name),
    )
    .with_field("discardPresent")
    .with_hint("Start it first, or say that the present state may be lost.")
}

/// Starts the machine and waits until it runs.
async fn start(job: &Job) -> Result<(), ErrorBody> {
    let operation = job.machine.act(Order::Start, job.origin).await?;
    let ended = job.shared.ledger.wait(operation.id, START).await?;
    match ended.status {
        OperationStatus::Failed | OperationStatus::Cancelled | OperationStatus::Interrupted => Err(ended
            .error
            .unwrap_or_else(|| ErrorBody::new(ErrorCode::QemuFailed, "The machine was not started."))),
        _ => Ok(()),
    }
}

/// What is put where.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) dir: PathBuf,
    pub(super) machine_dir: PathBuf,
    pub(super) row: SnapshotRow,
    pub(super) with_memory: bool,
}

impl Plan {
    /// The files of its intent: the snapshot's directory, and its memory where that is wanted.
    pub(super) fn to_files(&self) -> Vec<PathBuf> {
        let memory = self.with_memory.then(|| kept::memory(&self.dir));
        std::iter::once(self.dir.clone()).chain(memory).collect()
    }

    /// Puts the machine's files where the snapshot's were. Can be done any number of times, as long as no guest runs in between.
    ///
    /// # Errors
    /// What the file system says; done again, it goes on.
    pub(super) fn put_in_place(&self, present: &MachineSpec) -> Result<MachineSpec, ErrorBody> {
        // Memory of the present fits nothing any more.
        suspend::discard(&self.machine_dir);
        let spec = self.row.spec.clone();
        for disk in &spec.disks {
            let Some(layer) = self.row.layers.get(&disk.id) else { continue };
            let base = self.machine_dir.join(layer);
            let part = build::part_of(&disk.file);
            files::remove(std::slice::from_ref(&part))?;
            let size = clone::header(&base)?.virtual_size;
            disks::overlay(&part, &base, DiskFormat::Qcow2, size).map_err(|error| error.body())?;
            step("restore: overlay made");
            std::fs::rename(&part, &disk.file).map_err(|error| files::io_error(&disk.file, &error))?;
            step("restore: disk put back");
        }
        kept::copy_state(&self.dir, &self.machine_dir)
            .map_err(|error| files::io_error(&self.machine_dir, &error))?;
        step("restore: state put back");
        let surplus: Vec<PathBuf> = present
            .disks
            .iter()
            .filter(|disk| files::is_own(&self.machine_dir, disk) && !disk.read_only)
            .filter(|disk| !spec.disks.iter().any(|other| other.file == disk.file))
            .map(|disk| disk.file.clone())
            .collect();
        // What was in them is kept by a snapshot, or was said to be lost.
        files::remove(&surplus)?;
        std::fs::File::open(&self.machine_dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|error| files::io_error(&self.machine_dir, &error))?;
        if self.with_memory {
            let mut record = kept::read(&self.dir)?.record;
            record.spec.clone_from(&spec);
            suspend::plant(&self.machine_dir, &kept::memory(&self.dir), record, self.row.created_at)?;
            step("restore: memory planted");
        }
        Ok(spec)
    }
}
