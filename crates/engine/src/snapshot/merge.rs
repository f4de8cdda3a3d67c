//! Layers nobody names any more, merged with what stands on them.
//!
//! ```text
//! upper ─▶ lower ─▶ below          lower is named by no snapshot, and only upper stands on it
//!
//! commit  what upper has is written into lower, and lower takes upper's name        copies as much as upper has
//! rebase  what upper lacks of lower is written into upper, which stands on below    copies as much as lower has
//! ```
//! Of a machine that runs, QEMU does the same (`block-commit`, `block-stream`). Invariants: at every instant each image shows what
//! it showed, so that what was cut is only done again; a layer two images stand on stays; nothing is merged into another
//! machine's disk.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use voidvm_model::operation::Progress;
use voidvm_model::spec::DiskFormat;
use voidvm_model::{
    ErrorBody, ErrorCode, Event, MachineSpec, OperationKind, Origin, StreamItem, VmId, VmState,
};
use voidvm_qemu::image::{self, CopyProgress};
use voidvm_qemu::qmp::Qmp;

use super::job::{self, Job, blocking, given_up};
use super::list::allocated;
use super::switch::{self, call, node_of};
use super::{layers, marks};
use crate::fleet::same_file;
use crate::ledger::Cancel;
use crate::ops::{build, clone, files};
use crate::run::Run;
use crate::shared::Shared;
use crate::step::step;
use crate::storage::{self, Standing};
use crate::supervisor::Machine;
use crate::supervisor::lend::Loan;

/// What a running machine copies without being asked, in bytes, however little it gives back.
const SMALL: u64 = 1 << 30;
/// After so long without news what could not be merged is tried again.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(600);
/// The job of QEMU's that merges.
const JOB: &str = "vv.merge";

/// A layer nobody names, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fold {
    /// Nothing stands on it.
    Drop(PathBuf),
    /// One image of the machine does.
    Into { lower: PathBuf, upper: PathBuf },
}

impl Fold {
    fn lower(&self) -> &Path {
        match self {
            Self::Drop(lower) | Self::Into { lower, .. } => lower,
        }
    }
}

/// The layers of a machine that nobody names and that can go.
async fn folds(shared: &Shared, vm: VmId) -> Result<Vec<Fold>, ErrorBody> {
    let standing = storage::standing(shared).await?;
    folds_of(shared, vm, &standing).await
}

async fn folds_of(shared: &Shared, vm: VmId, standing: &Standing) -> Result<Vec<Fold>, ErrorBody> {
    let dir = shared.config.machine_dir(vm);
    let machine = shared.fleet.get(vm)?;
    let (spec, running) = (machine.view().spec.clone(), machine.run().is_some());
    let rows = shared.store.snapshots().of(vm).await.map_err(|error| error.body())?;
    let mut named: BTreeSet<PathBuf> =
        rows.iter().flat_map(|row| row.layers.values()).map(|name| dir.join(name)).collect();
    named.extend(marks::kept(shared, vm, &spec).await?);
    let mut folds = Vec::new();
    for lower in files::bases(&dir).into_iter().filter(|base| !named.contains(base)) {
        // A second name of what is written to.
        if spec.disks.iter().any(|disk| same_file(&disk.file, &lower)) {
            continue;
        }
        let children = standing.on(&lower);
        // A file may have more names, of which QEMU knows one and those that stand on it another.
        let by_name = |child: &PathBuf| matches!(image::header(child), Ok(Some(header)) if header.backing.as_deref() == Some(lower.as_path()));
        let children: Vec<PathBuf> = children
            .iter()
            .map(|(child, _)| child.clone())
            .filter(by_name)
            .filter(|child| is_its_name(child, &spec))
            .collect();
        match children.as_slice() {
            [] if running && names_of(&lower) > 1 => {}
            [] => folds.push(Fold::Drop(lower)),
            [upper] if is_ours_alone(standing, &dir, upper) => {
                folds.push(Fold::Into { lower, upper: upper.clone() });
            }
            _ => {}
        }
    }
    Ok(folds)
}

/// Whether only images of the machine itself stand on one of its own: another machine may have all it stands on open.
pub(super) fn is_ours_alone(standing: &Standing, dir: &Path, image: &Path) -> bool {
    let (mut seen, mut next) = (BTreeSet::new(), vec![image.to_owned()]);
    while let Some(image) = next.pop() {
        if image.parent() != Some(dir) {
            return false;
        }
        let children = standing.on(&image).iter().map(|(child, _)| child.clone()).collect::<Vec<_>>();
        if seen.insert(image) {
            next.extend(children);
        }
    }
    true
}

/// Whether an image is not only the second name of a disk that is written to.
fn is_its_name(file: &Path, spec: &MachineSpec) -> bool {
    !spec.disks.iter().any(|disk| disk.file != *file && same_file(&disk.file, file))
}

fn names_of(file: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(file).map_or(0, |file| file.nlink())
}

/// What layers nobody names take.
pub(super) async fn unmerged(shared: &Shared, vm: VmId, standing: &Standing) -> Result<u64, ErrorBody> {
    Ok(folds_of(shared, vm, standing).await?.iter().map(|fold| allocated(fold.lower())).sum())
}

/// Merges what can be merged; what cannot is tried again later.
pub(crate) async fn quietly(job: &Job, loan: &Loan) {
    if let Err(error) = tidy(job, loan).await
        && error.code != ErrorCode::Cancelled
    {
        tracing::warn!(vm = %job.vm(), %error, "layers nobody names are left for later");
    }
}

async fn tidy(job: &Job, loan: &Loan) -> Result<(), ErrorBody> {
    let mut passed: BTreeSet<PathBuf> = BTreeSet::new();
    loop {
        let next =
            folds(&job.shared, job.vm()).await?.into_iter().find(|fold| !passed.contains(fold.lower()));
        let Some(fold) = next else { return Ok(()) };
        if job.cancel.is_cancelled() || loan.recall.is_cancelled() {
            return Err(given_up());
        }
        passed.insert(fold.lower().to_owned());
        marks::forget_others(&job.shared, job.vm(), &job.machine.view().spec).await?;
        match &fold {
            Fold::Drop(lower) => drop_layer(loan.run.as_deref(), lower).await?,
            Fold::Into { lower, upper } => {
                let marked = marks::sound(&job.shared, job.vm()).await?;
                match &loan.run {
                    Some(run) if is_open(run, upper) => live(job, loan, run, lower, upper).await?,
                    _ => at_rest(job, loan, lower, upper).await?,
                }
                marks::look_again(&job.shared, job.vm(), marked).await?;
            }
        }
    }
}

/// Removes a layer that nothing stands on under this name; it may be in use under another.
async fn drop_layer(run: Option<&Run>, lower: &Path) -> Result<(), ErrorBody> {
    tracing::info!(file = %lower.display(), "a layer nobody needs is removed");
    if let Some(run) = run {
        close(run, lower).await;
    }
    files::remove(&[lower.to_owned()])?;
    step("merge: unneeded layer removed");
    Ok(())
}

/// Removes a layer that was merged away, under every name it has in the machine's directory.
fn remove_all_names(layer: &Path) -> Result<(), ErrorBody> {
    let dir = layer.parent().unwrap_or(layer);
    let names: Vec<PathBuf> = if names_of(layer) > 1 {
        files::bases(dir).into_iter().filter(|other| same_file(other, layer)).collect()
    } else {
        vec![layer.to_owned()]
    };
    files::remove(&names)
}

/// The image's own part of a chain, with what is below it.
fn below(lower: &Path) -> Result<Option<(PathBuf, DiskFormat)>, ErrorBody> {
    let header = clone::header(lower)?;
    let Some(backing) = header.backing else { return Ok(None) };
    let format = storage::format_below(&backing).unwrap_or(DiskFormat::Raw);
    Ok(Some((backing, format)))
}

/// Whether writing the upper into the lower copies less, and gives an image of the same size.
fn downwards(lower: &Path, upper: &Path) -> Result<bool, ErrorBody> {
    let (one, other) = (clone::header(lower)?, clone::header(upper)?);
    Ok(other.virtual_size >= one.virtual_size && allocated(upper) <= allocated(lower))
}

async fn at_rest(job: &Job, loan: &Loan, lower: &Path, upper: &Path) -> Result<(), ErrorBody> {
    let down = downwards(lower, upper)?;
    tracing::info!(lower = %lower.display(), upper = %upper.display(), down, "layers are merged");
    let needed = voidvm_model::Bytes(if down { allocated(upper) } else { allocated(lower) });
    build::check_space(&job.shared, lower.parent().unwrap_or(lower), needed).await?;
    let cancel = either(&job.cancel, &loan.recall);
    let progress = CopyProgress::new(0);
    if down {
        job.img.commit(upper, &progress, &cancel).await.map_err(|error| error.body())?;
        step("merge: committed");
        takes_name(lower, upper).await?;
        step("merge: name taken");
        return Ok(());
    }
    let below = below(lower)?;
    let below = below.as_ref().map(|(file, format)| (file.as_path(), *format));
    job.img.rebase(upper, below, &progress, &cancel).await.map_err(|error| error.body())?;
    step("merge: rebased");
    remove_all_names(lower)?;
    step("merge: layer removed");
    Ok(())
}

/// The lower, which has all of it now, takes the upper's name, and with it everything that stands on that.
async fn takes_name(lower: &Path, upper: &Path) -> Result<(), ErrorBody> {
    let (lower, upper) = (lower.to_owned(), upper.to_owned());
    blocking(move || {
        let renamed = std::fs::rename(&lower, &upper)
            .and_then(|()| std::fs::File::open(upper.parent().unwrap_or(&upper))?.sync_all());
        renamed.map_err(|error| files::io_error(&upper, &error))
    })
    .await
}

/// Is cancelled with either of two.
pub(super) fn either(one: &CancellationToken, other: &CancellationToken) -> CancellationToken {
    let both = one.child_token();
    let (seen, end) = (other.clone(), both.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = seen.cancelled() => end.cancel(),
            () = end.cancelled() => {}
        }
    });
    both
}

/// Whether a machine that runs has this image open.
pub(super) fn is_open(run: &Run, file: &Path) -> bool {
    let record = run.record();
    let chains = record.spec.disks.iter().filter_map(|disk| image::backing_files(&disk.file).ok());
    chains.flatten().any(|open| open == file)
}

/// Closes the nodes of an image that nothing uses any more; those that QEMU opened by itself are closed already.
async fn close(run: &Run, file: &Path) {
    let Some(qmp) = run.monitor() else { return };
    let record = run.record();
    let known = record.layers.iter().find(|(_, layer)| layer.as_path() == file).map(|(node, _)| node.clone());
    for node in known.iter().cloned().chain([layers::node_of(file), switch::file_node(file)]) {
        if let Err(error) = call(&qmp, "blockdev-del", json!({"node-name": node})).await {
            tracing::trace!(node, %error, "there is no such node");
        }
    }
    if let Some(known) = known {
        run.amend(|record| drop(record.layers.remove(&known)));
    }
}

async fn live(job: &Job, loan: &Loan, run: &Run, lower: &Path, upper: &Path) -> Result<(), ErrorBody> {
    let qmp = run.qmp()?;
    let record = run.record();
    let active = record.spec.disks.iter().find(|disk| disk.file == *upper);
    let down = active.is_none() && downwards(lower, upper)?;
    if active.is_some() && allocated(lower) > SMALL && allocated(lower) / 4 > allocated(upper) {
        tracing::info!(lower = %lower.display(), "a large layer is merged when the machine rests");
        return Ok(());
    }
    tracing::info!(lower = %lower.display(), upper = %upper.display(), down, "layers of a running machine are merged");
    let needed = voidvm_model::Bytes(if down { allocated(upper) } else { allocated(lower) });
    build::check_space(&job.shared, lower.parent().unwrap_or(lower), needed).await?;
    let (low, up) = (node_of(run, &qmp, lower).await?, node_of(run, &qmp, upper).await?);
    let name = |file: &Path| file.to_string_lossy().into_owned();
    let cancel = either(&job.cancel, &loan.recall);
    if down {
        let root = record.spec.disks.iter().find(|disk| {
            image::backing_files(&disk.file).is_ok_and(|chain| chain.iter().any(|file| file == upper))
        });
        let root = root.map(|disk| record.root(&disk.id).to_owned()).unwrap_or_default();
        let arguments = json!({
            "device": root, "top-node": up, "base-node": low, "backing-file": name(upper),
        });
        block_job(run, &qmp, ("block-commit", arguments), &cancel, &|_| ()).await?;
        step("merge: committed by QEMU");
        close(run, upper).await;
        step("merge: layer closed");
        // QEMU knows it by its old name, which it keeps until the process is gone.
        layers::also_named(lower, upper).map_err(|error| files::io_error(upper, &error))?;
        step("merge: named again");
        run.amend(|record| drop(record.layers.insert(low, upper.to_owned())));
        step("merge: recorded");
        return Ok(());
    }
    let mut arguments = json!({"device": up});
    if let Some((below, _)) = below(lower)? {
        arguments["base-node"] = node_of(run, &qmp, &below).await?.into();
        arguments["backing-file"] = name(&below).into();
    }
    block_job(run, &qmp, ("block-stream", arguments), &cancel, &|_| ()).await?;
    step("merge: streamed by QEMU");
    flush(&qmp, &up).await?;
    step("merge: flushed");
    close(run, lower).await;
    step("merge: streamed layer closed");
    remove_all_names(lower)?;
    step("merge: streamed layer removed");
    Ok(())
}

/// Copies all that an image of a running machine stands on into it, and closes what it stood on.
///
/// # Errors
/// What QEMU says; the image shows what it showed.
pub(super) async fn stream_all(
    job: &Job,
    loan: &Loan,
    run: &Run,
    (into, below): (&Path, &[PathBuf]),
    told: &(dyn Fn(Progress) + Sync),
) -> Result<(), ErrorBody> {
    let qmp = run.qmp()?;
    let node = node_of(run, &qmp, into).await?;
    let cancel = either(&job.cancel, &loan.recall);
    block_job(run, &qmp, ("block-stream", json!({"device": node})), &cancel, told).await?;
    step("flatten: streamed by QEMU");
    flush(&qmp, &node).await?;
    step("flatten: flushed");
    for file in below.iter().filter(|file| !is_open(run, file)) {
        close(run, file).await;
    }
    Ok(())
}

/// Has QEMU write out what it holds of an image: the tables that say where what was copied is may be in its memory alone, and
/// what they were copied from is removed next.
async fn flush(qmp: &Qmp, node: &str) -> Result<(), ErrorBody> {
    let line = json!({"command-line": format!("qemu-io {node} \"flush\"")});
    let said = call(qmp, "human-monitor-command", line).await?;
    match said.as_str().map(str::trim) {
        None | Some("") => Ok(()),
        Some(words) => {
            Err(ErrorBody::new(ErrorCode::QemuFailed, format!("QEMU could not write it out: {words}")))
        }
    }
}

/// Carries a job of QEMU's out and waits for its end.
async fn block_job(
    run: &Run,
    qmp: &Qmp,
    (command, mut arguments): (&'static str, Value),
    cancel: &CancellationToken,
    far: &(dyn Fn(Progress) + Sync),
) -> Result<(), ErrorBody> {
    arguments["job-id"] = JOB.into();
    arguments["auto-dismiss"] = false.into();
    call(qmp, command, arguments).await?;
    let mut news = run.news();
    let mut told = false;
    loop {
        news.mark_unchanged();
        let jobs = call(qmp, "query-jobs", json!({})).await?;
        let jobs = jobs.as_array().map(Vec::as_slice).unwrap_or_default();
        let text = |job: &Value, key: &str| job.get(key).and_then(Value::as_str).map(str::to_owned);
        let Some(now) = jobs.iter().find(|job| text(job, "id").as_deref() == Some(JOB)) else {
            return Err(ErrorBody::new(
                ErrorCode::QemuFailed,
                "QEMU has forgotten a job in the middle of it.",
            ));
        };
        if text(now, "status").as_deref() == Some("concluded") {
            let error = text(now, "error");
            call(qmp, "job-dismiss", json!({"id": JOB})).await?;
            return match error {
                None if told => Err(given_up()),
                None => Ok(()),
                Some(error) => {
                    Err(ErrorBody::new(ErrorCode::QemuFailed, format!("QEMU could not merge: {error}")))
                }
            };
        }
        let count = |key: &str| now.get(key).and_then(Value::as_u64).unwrap_or(0);
        far(Progress { done: count("current-progress"), total: count("total-progress") });
        if cancel.is_cancelled() && !told {
            told = true;
            drop(call(qmp, "job-cancel", json!({"id": JOB})).await);
        }
        tokio::select! {
            _ = news.changed() => {}
            () = tokio::time::sleep(std::time::Duration::from_millis(100)) => {}
            () = cancel.cancelled(), if !told => {}
        }
    }
}

/// Ends a job that an owner left when it was killed; what it has done stays, and is gone on with later.
pub(super) async fn end_job(qmp: &Qmp) {
    if call(qmp, "job-cancel", json!({"id": JOB})).await.is_ok() {
        tracing::info!("a merge an ended owner had begun is given up");
    }
    drop(call(qmp, "job-dismiss", json!({"id": JOB})).await);
}

/// Merges what was left for later whenever a machine comes to rest or goes, and when nothing happens for a while, for as long as the
/// engine is open; and of machines of which a backup was cut now, whether they rest or not.
pub(crate) async fn merge_left_over(shared: Weak<Shared>, cut: BTreeSet<VmId>) {
    let mut events = match shared.upgrade() {
        Some(shared) => {
            for machine in shared.fleet.all() {
                machine.settled().await;
                if cut.contains(&machine.id) {
                    begin(&shared, machine).await;
                } else {
                    look(&shared, machine.id).await;
                }
            }
            shared.bus.subscribe(None)
        }
        None => return,
    };
    let mut live: BTreeSet<VmId> = BTreeSet::new();
    loop {
        let item = tokio::time::timeout(AGAIN, events.next()).await;
        let Some(shared) = shared.upgrade() else { return };
        let event = match item {
            Ok(None) => return,
            Ok(Some(StreamItem::Event(envelope))) => Some(envelope.event),
            Ok(Some(_)) => continue,
            Err(_) => None,
        };
        match event {
            Some(Event::VmChanged { vm }) if vm.state.is_live() => drop(live.insert(vm.id)),
            Some(Event::VmChanged { vm }) if live.remove(&vm.id) => look(&shared, vm.id).await,
            // What a machine that is gone stood on may be nobody's now; and there may be room where there was none.
            Some(Event::VmRemoved { .. }) | None => {
                for machine in shared.fleet.all() {
                    look(&shared, machine.id).await;
                }
            }
            Some(_) => {}
        }
    }
}

/// Begins to merge a machine's layers, if there is anything to merge and it rests.
pub(crate) async fn look(shared: &Arc<Shared>, id: VmId) {
    let Ok(machine) = shared.fleet.get(id) else { return };
    let rests = matches!(machine.view().state, VmState::Stopped | VmState::Crashed);
    let layered = !files::bases(&shared.config.machine_dir(id)).is_empty();
    if !rests || !layered || !matches!(folds(shared, id).await, Ok(folds) if !folds.is_empty()) {
        return;
    }
    begin(shared, machine).await;
}

async fn begin(shared: &Arc<Shared>, machine: Arc<Machine>) {
    let id = machine.id;
    let kind = (OperationKind::SnapshotMerge, Origin::System, Cancel::Heeded);
    let begun = job::begin(shared, machine, kind, |job| async move {
        let loan = job.borrow().await?;
        tidy(&job, &loan).await?;
        Ok(None)
    });
    if let Err(error) = begun.await {
        tracing::debug!(vm = %id, %error, "layers nobody names are left for later");
    }
}
