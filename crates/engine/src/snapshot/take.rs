//! Taking a snapshot.
//!
//! ```text
//! intent ─▶ directory, overlays ─▶ (at rest: layers put on │ running: see `stream`, `switch`) ─▶ row ─▶ intent ended
//!   └── cut before the row: no snapshot; the disks show what they showed, on one layer more at most
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use voidvm_model::snapshot::{Consistency, SnapshotCreateRequest, SnapshotReason};
use voidvm_model::{
    DeviceId, ErrorBody, ErrorCode, GroupSnapshotId, MachineSpec, Operation, OperationKind, OperationResult,
    Origin, SnapshotId, VmId, VmState,
};
use voidvm_store::{Intent, IntentAction, IntentId, OpenIntent, SnapshotRow};

use super::job::{self, Job, blocking};
use super::layers::{self, Layer};
use super::{flatten, kept, merge, names, recover, stream, switch};
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

impl Memory {
    /// As two words of a request say it.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidInput`] when they contradict each other.
    pub(super) fn wanted(disk_only: bool, freeze: bool) -> Result<Self, ErrorBody> {
        match (disk_only, freeze) {
            (false, false) => Ok(Self::Kept),
            (true, false) => Ok(Self::Left),
            (true, true) => Ok(Self::LeftFrozen),
            (false, true) => Err(ErrorBody::invalid(
                "freeze",
                "Freezing the guest's file systems is for snapshots without memory.",
            )
            .with_hint("Ask for diskOnly too, or leave freeze out: with memory nothing is lost.")),
        }
    }
}

impl Wish {
    fn of(request: SnapshotCreateRequest) -> Result<(VmId, Self), ErrorBody> {
        let memory = Memory::wanted(request.disk_only, request.freeze)?;
        update::check_description(&request.description)?;
        update::check_tags("tags", &request.tags)?;
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
        flatten::look(&job.shared, job.vm()).await;
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
    let rows = job.rows().await?;
    let name = match &wish.name {
        Some(name) => {
            names::check(name, &rows)?;
            name.clone()
        }
        None => names::free(&names::of_now("snapshot", Timestamp::now()), &rows),
    };
    let mut attempt = Attempt::begin(job, loan, &rows).await?;
    let done = async {
        attempt.make_ready(loan).await?;
        let held = match &loan.run {
            Some(run) => live(job, loan, run, &attempt, wish.memory).await?,
            None => attempt.at_rest(&job.machine_dir()).await?,
        };
        let row = attempt.finish(job.vm(), Label { name, ..Label::of(wish) }, &held).await?;
        job.shared.store.snapshots().insert(&row).await.map_err(|error| error.body())?;
        step("take: in the store");
        Ok(Taken { id: row.id, pause_ms: held.pause_ms })
    };
    let done: Result<Taken, ErrorBody> = done.await;
    if done.is_ok() {
        job.settled(attempt.intent).await;
    } else {
        attempt.undo(job, loan).await;
    }
    job.announce();
    done
}

/// What a snapshot is called and said of.
#[derive(Clone, Debug)]
pub(super) struct Label {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) tags: Vec<String>,
    pub(super) reason: SnapshotReason,
    pub(super) schedule_id: Option<String>,
    pub(super) group_snapshot: Option<GroupSnapshotId>,
}

impl Label {
    fn of(wish: Wish) -> Self {
        Self {
            name: wish.name.unwrap_or_default(),
            description: wish.description,
            tags: wish.tags,
            reason: wish.reason,
            schedule_id: wish.schedule_id,
            group_snapshot: None,
        }
    }
}

/// A snapshot that is being made: there is none before its row.
pub(super) struct Attempt {
    pub(super) id: SnapshotId,
    pub(super) dir: PathBuf,
    pub(super) layers: Vec<Layer>,
    pub(super) intent: IntentId,
    spec: MachineSpec,
    parent: Option<SnapshotId>,
    began: Instant,
}

impl Attempt {
    /// Makes sure that there can be one, and writes down what is about to be done.
    ///
    /// # Errors
    /// What does not allow it; then nothing was made.
    pub(super) async fn begin(job: &Job, loan: &Loan, rows: &[SnapshotRow]) -> Result<Self, ErrorBody> {
        let (began, machine_dir) = (Instant::now(), job.machine_dir());
        let spec = spec_of(loan)?;
        let disks = layers::writable(&machine_dir, &spec)?;
        let id = SnapshotId::new();
        let dir = kept::dir(&machine_dir, id);
        let layers = layers::plan(&machine_dir, &disks, loan.run.as_ref().map(|run| run.record()).as_deref());
        let files = layers::to_files(dir.clone(), &layers);
        let intent = job.intend(IntentAction::SnapshotTake, files).await?;
        step("take: intended");
        let parent = rows.iter().find(|row| row.current).map(|row| row.id);
        Ok(Self { id, dir, layers, intent, spec, parent, began })
    }

    /// Makes its directory, with a picture of a machine that runs.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) async fn make_ready(&self, loan: &Loan) -> Result<(), ErrorBody> {
        kept::make(&self.dir)?;
        step("take: directory made");
        if let Some(run) = &loan.run {
            take_picture(run, &self.dir).await;
        }
        Ok(())
    }

    /// Takes the disks of a machine that rests.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) async fn at_rest(&mut self, machine_dir: &Path) -> Result<Held, ErrorBody> {
        self.layers = at_rest(machine_dir, &self.dir, self.layers.clone()).await?;
        Ok(Held { at: Timestamp::now(), memory: false, consistency: Consistency::Whole, pause_ms: None })
    }

    /// Forces all of it to the disk; the row that makes it a snapshot.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) async fn finish(
        &self,
        vm_id: VmId,
        label: Label,
        held: &Held,
    ) -> Result<SnapshotRow, ErrorBody> {
        let dir = self.dir.clone();
        blocking(move || kept::sync(&dir)).await?;
        step("take: synced");
        Ok(SnapshotRow {
            id: self.id,
            vm_id,
            name: label.name,
            description: label.description,
            tags: label.tags,
            reason: label.reason,
            schedule_id: label.schedule_id,
            keep: false,
            group_snapshot: label.group_snapshot,
            parent: self.parent,
            current: true,
            created_at: held.at,
            memory: held.memory,
            consistency: held.consistency,
            pause_ms: held.pause_ms,
            total_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            spec: self.spec.clone(),
            layers: self.layers.iter().map(|layer| (layer.disk.clone(), layer.name())).collect(),
        })
    }

    /// Takes back what was made of it. Of a process that lives, layers that were put on and could not be named are left to
    /// whoever sees its end.
    pub(super) async fn undo(&self, job: &Job, loan: &Loan) {
        if let Err(error) = kept::remove(&self.dir) {
            tracing::error!(%error, "a file of a snapshot that was not taken is left");
        }
        let intent = Intent {
            operation_id: job.operation,
            vm_id: Some(job.vm()),
            action: IntentAction::SnapshotTake,
            files: layers::to_files(self.dir.clone(), &self.layers),
        };
        let open = OpenIntent { id: self.intent, intent, begun_at: Timestamp::now() };
        match loan.run.as_ref().filter(|_| job.machine.run().is_some()) {
            None => recover::at_rest(&job.shared, &open).await,
            Some(run) if switch::is_settled(run, &self.layers).await => job.settled(self.intent).await,
            Some(_) => job.shared.unfinished.add(job.vm(), open),
        }
        // A layer that was put on all the same is nobody's.
        merge::quietly(job, loan).await;
    }
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
    attempt: &Attempt,
    memory: Memory,
) -> Result<Held, ErrorBody> {
    let dir = &attempt.dir;
    let switch = switch::Switch::prepare(run, &job.machine_dir(), dir, &attempt.layers).await?;
    let held = match memory {
        Memory::Kept => stream::take(job, loan, run, dir, switch).await?,
        Memory::Left | Memory::LeftFrozen => {
            switch::take(job, loan, run, switch, memory == Memory::LeftFrozen).await?
        }
    };
    step("take: guest goes on");
    kept::write(dir, &kept::WhatRan::of(run))?;
    Ok(held)
}

async fn take_picture(run: &Run, dir: &Path) {
    match screen::small(run).await {
        Ok((png, _)) => drop(std::fs::write(kept::picture(dir), png)),
        Err(error) => tracing::debug!(%error, "no picture for the snapshot"),
    }
}

/// The frozen file of each disk a snapshot holds.
pub(super) fn layer_files(machine_dir: &Path, row: &SnapshotRow) -> BTreeMap<DeviceId, PathBuf> {
    row.layers.iter().map(|(disk, name)| (disk.clone(), machine_dir.join(name))).collect()
}
