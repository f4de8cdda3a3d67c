//! Taking a snapshot.
//!
//! ```text
//! intent ─▶ directory, overlays ─▶ (at rest: layers put on │ running: see `stream`, `switch`) ─▶ row ─▶ intent ended
//!   └── cut before the row: no snapshot; the disks show what they showed, on one layer more at most
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use voidvm_model::snapshot::{Consistency, SnapshotCreateRequest, SnapshotReason};
use voidvm_model::{
    DeviceId, ErrorBody, ErrorCode, MachineSpec, Operation, OperationKind, OperationResult, Origin,
    SnapshotId, VmId, VmState,
};
use voidvm_store::{Intent, IntentAction, IntentId, OpenIntent, SnapshotRow};

use super::job::{self, Job, blocking};
use super::layers::{self, Layer};
use super::{kept, merge, names, recover, stream, switch};
use crate::ledger::Cancel;
use crate::ops::{clone, files, update};
use crate::run::Run;
use crate::screen;
use crate::shared::Shared;
use crate::step::step;
use crate::supervisor::lend::Loan;

/// How a snapshot is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// None: one is made.
    pub(crate) name: Option<String>,
    pub(crate) description: String,
    pub(crate) tags: Vec<String>,
    pub(crate) reason: SnapshotReason,
    pub(crate) schedule_id: Option<String>,
    pub(crate) memory: Memory,
}

/// What becomes of a running guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// It is in the snapshot.
    Kept,
    /// It is left out.
    Left,
    /// It is left out, and the guest's agent freezes its file systems first.
    LeftFrozen,
}

impl Wish {
    fn of(request: SnapshotCreateRequest) -> Result<(VmId, Self), ErrorBody> {
        if request.freeze && !request.disk_only {
            return Err(ErrorBody::invalid(
                "freeze",
                "Freezing the guest's file systems is for snapshots without memory.",
            )
            .with_hint("Ask for diskOnly too, or leave freeze out: with memory nothing is lost."));
        }
        update::check_description(&request.description)?;
        update::check_tags("tags", &request.tags)?;
        let memory = match (request.disk_only, request.freeze) {
            (false, _) => Memory::Kept,
            (true, false) => Memory::Left,
            (true, true) => Memory::LeftFrozen,
        };
        let wish = Self {
            name: request.name,
            description: request.description,
            tags: request.tags,
            reason: SnapshotReason::Manual,
            schedule_id: None,
            memory,
        };
        Ok((request.id, wish))
    }
}

/// A snapshot that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) id: SnapshotId,
    pub(crate) pause_ms: Option<f64>,
}

/// Checks a request and begins the work.
///
/// # Errors
/// What does not hold, with its field; nothing was made then.
pub(crate) async fn create(
    shared: &Arc<Shared>,
    request: SnapshotCreateRequest,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let (id, wish) = Wish::of(request)?;
    begin(shared, id, wish, origin).await
}

/// Checks a wish and begins the work.
///
/// # Errors
/// What does not hold, with its field; nothing was made then.
pub(crate) async fn begin(
    shared: &Arc<Shared>,
    id: VmId,
    wish: Wish,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let machine = shared.fleet.get(id)?;
    if let Some(name) = &wish.name {
        let rows = shared.store.snapshots().of(id).await.map_err(|error| error.body())?;
        names::check(name, &rows)?;
    }
    layers::writable(&shared.config.machine_dir(id), &machine.view().spec)?;
    job::begin(shared, machine, (OperationKind::SnapshotCreate, origin, Cancel::Heeded), |job| async move {
        let loan = job.borrow().await?;
        let taken = take(&job, &loan, wish).await?;
        drop(loan);
        Ok(Some(OperationResult::Snapshotted { snapshot: taken.id, pause_ms: taken.pause_ms }))
    })
    .await
}

/// What came of the work on the disks.
pub(super) struct Held {
    pub(super) at: Timestamp,
    pub(super) memory: bool,
    pub(super) consistency: Consistency,
    pub(super) pause_ms: Option<f64>,
}

/// Takes a snapshot of a machine on loan.
///
/// # Errors
/// What does not allow it, or why it failed: then there is no snapshot and the machine goes on.
pub(crate) async fn take(job: &Job, loan: &Loan, wish: Wish) -> Result<Taken, ErrorBody> {
    let (began, machine_dir) = (Instant::now(), job.machine_dir());
    let rows = job.rows().await?;
    let name = match &wish.name {
        Some(name) => {
            names::check(name, &rows)?;
            name.clone()
        }
        None => names::free(&names::of_now("snapshot", Timestamp::now()), &rows),
    };
    let spec = spec_of(loan)?;
    let disks = layers::writable(&machine_dir, &spec)?;
    let id = SnapshotId::new();
    let dir = kept::dir(&machine_dir, id);
    let layers = layers::plan(&machine_dir, &disks, loan.run.as_ref().map(|run| run.record()).as_deref());
    let files = layers::to_files(dir.clone(), &layers);
    let intent = job.intend(IntentAction::SnapshotTake, files).await?;
    step("take: intended");
    let done = async {
        kept::make(&dir)?;
        step("take: directory made");
        let (held, layers) = if let Some(run) = &loan.run {
            take_picture(run, &dir).await;
            (live(job, loan, run, &dir, &layers, wish.memory).await?, layers.clone())
        } else {
            let layers = at_rest(&machine_dir, &dir, layers.clone()).await?;
            let held =
                Held { at: Timestamp::now(), memory: false, consistency: Consistency::Whole, pause_ms: None };
            (held, layers)
        };
        {
            let dir = dir.clone();
            blocking(move || kept::sync(&dir)).await?;
        }
        step("take: synced");
        let row = SnapshotRow {
            id,
            vm_id: job.vm(),
            name,
            description: wish.description,
            tags: wish.tags,
            reason: wish.reason,
            schedule_id: wish.schedule_id,
            keep: false,
            parent: rows.iter().find(|row| row.current).map(|row| row.id),
            current: true,
            created_at: held.at,
            memory: held.memory,
            consistency: held.consistency,
            pause_ms: held.pause_ms,
            total_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            spec: spec.clone(),
            layers: layers.iter().map(|layer| (layer.disk.clone(), layer.name())).collect::<BTreeMap<_, _>>(),
        };
        job.shared.store.snapshots().insert(&row).await.map_err(|error| error.body())?;
        step("take: in the store");
        Ok(Taken { id, pause_ms: held.pause_ms })
    };
    let done: Result<Taken, ErrorBody> = done.await;
    if done.is_ok() {
        job.settled(intent).await;
    } else {
        undo(job, loan, (intent, &dir), &layers).await;
        // A layer that was put on all the same is nobody's.
        merge::quietly(job, loan).await;
    }
    job.announce();
    done
}

/// The hardware a snapshot has: what runs, or what the next start would have.
fn spec_of(loan: &Loan) -> Result<MachineSpec, ErrorBody> {
    let name = &loan.vm.name;
    if loan.vm.state == VmState::Suspended {
        return Err(ErrorBody::new(
            ErrorCode::InvalidState,
            format!("“{name}” is suspended: what is on its disks is not all there is of it."),
        )
        .with_hint("Start it and take the snapshot then, or force it off: its memory is thrown away."));
    }
    let Some(run) = &loan.run else {
        files::check(&loan.vm.spec)?;
        return Ok(loan.vm.spec.clone());
    };
    let record = run.record();
    if record.disposable {
        return Err(ErrorBody::new(
            ErrorCode::InvalidState,
            format!("“{name}” runs to be thrown away: there is nothing to keep of it."),
        )
        .with_hint("Stop it, and start the machine as usual."));
    }
    Ok(record.spec.clone())
}

/// Of a machine that rests: its disks are what they are. One that was not written to since its last layer needs none.
async fn at_rest(machine_dir: &Path, dir: &Path, mut layers: Vec<Layer>) -> Result<Vec<Layer>, ErrorBody> {
    let (machine_dir, dir) = (machine_dir.to_owned(), dir.to_owned());
    blocking(move || {
        kept::copy_state(&machine_dir, &dir).map_err(|error| files::io_error(&dir, &error))?;
        step("take: state copied");
        let last = files::thumbnail(&machine_dir);
        if last.exists() {
            drop(std::fs::copy(last, kept::picture(&dir)));
        }
        for layer in &mut layers {
            let now = clone::header(&layer.file)?;
            match now.backing.filter(|base| now.untouched && files::is_base(Some(&machine_dir), base)) {
                Some(base) => layer.base = base,
                None => clone::put_overlay(&layer.file, &layer.base, now.virtual_size)?,
            }
            step("take: layer put on");
        }
        Ok(layers)
    })
    .await
}

/// Of a machine with a process.
async fn live(
    job: &Job,
    loan: &Loan,
    run: &Arc<Run>,
    dir: &Path,
    layers: &[Layer],
    memory: Memory,
) -> Result<Held, ErrorBody> {
    let switch = switch::Switch::prepare(run, &job.machine_dir(), dir, layers).await?;
    let held = match memory {
        Memory::Kept => stream::take(job, loan, run, dir, switch).await?,
        Memory::Left | Memory::LeftFrozen => {
            switch::take(job, loan, run, switch, memory == Memory::LeftFrozen).await?
        }
    };
    step("take: guest goes on");
    kept::write(dir, &kept::WhatRan { record: voidvm_qemu::process::RunRecord::clone(&run.record()) })?;
    Ok(held)
}

async fn take_picture(run: &Run, dir: &Path) {
    match screen::small(run).await {
        Ok((png, _)) => drop(std::fs::write(kept::picture(dir), png)),
        Err(error) => tracing::debug!(%error, "no picture for the snapshot"),
    }
}

/// Takes back what was made of a snapshot that is not to be. Of a process that lives, layers that were put on and could not be
/// named are left to whoever sees its end.
async fn undo(job: &Job, loan: &Loan, (id, dir): (IntentId, &Path), layers: &[Layer]) {
    if let Err(error) = kept::remove(dir) {
        tracing::error!(%error, "a file of a snapshot that was not taken is left");
    }
    let intent = Intent {
        operation_id: job.operation,
        vm_id: Some(job.vm()),
        action: IntentAction::SnapshotTake,
        files: layers::to_files(dir.to_owned(), layers),
    };
    let open = OpenIntent { id, intent, begun_at: Timestamp::now() };
    match loan.run.as_ref().filter(|_| job.machine.run().is_some()) {
        None => recover::at_rest(&job.shared, &open).await,
        Some(run) if switch::is_settled(run, layers).await => job.settled(id).await,
        Some(_) => job.shared.unfinished.add(job.vm(), open),
    }
}

/// The frozen file of each disk a snapshot holds.
pub(super) fn layer_files(machine_dir: &Path, row: &SnapshotRow) -> BTreeMap<DeviceId, std::path::PathBuf> {
    row.layers.iter().map(|(disk, name)| (disk.clone(), machine_dir.join(name))).collect()
}
