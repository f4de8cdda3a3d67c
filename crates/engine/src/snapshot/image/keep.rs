//! Which snapshots have an image of their memory, and when memory is packed: looked at whenever a machine's snapshots have
//! changed and then been left alone for a moment.
//!
//! Of each machine the newest few with memory have one (the setting says how many; none of those a schedule takes, which would be
//! made for nothing each time), and the one that was last gone on from. One is made at a time, the others wait. An image that is
//! not wanted any more goes.
//!
//! [`Marker`] tells an unclean end of the computer: what was written before one is looked at again before it is used.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use voidvm_model::operation::Progress;
use voidvm_model::snapshot::SnapshotReason;
use voidvm_model::{
    Bytes, ErrorBody, ErrorCode, Event, Operation, OperationKind, OperationResult, Origin, StreamItem, VmId,
};
use voidvm_qemu::process::boot_id;
use voidvm_store::SnapshotRow;

use super::{USED, bake, drop_image};
use crate::ledger::Cancel;
use crate::ops::build;
use crate::platform::Qemu;
use crate::shared::Shared;
use crate::snapshot::job::{self, Job, given_up};
use crate::snapshot::{kept, packed};

/// How long nobody has to want a machine's memory before it is packed; the images come first.
const UNHURRIED: Duration = Duration::from_secs(3600);

/// Keeps the images of all machines, for as long as the engine is open.
pub(crate) async fn keep_images(shared: Weak<Shared>) {
    let mut due: HashMap<VmId, Instant> = HashMap::new();
    let (mut events, other) = match shared.upgrade() {
        Some(shared) => {
            all_due(&shared, &mut due);
            (shared.bus.subscribe(None), Arc::clone(&shared.preparing.other))
        }
        None => return,
    };
    loop {
        let next = due.iter().min_by_key(|(_, at)| **at).map(|(id, at)| (*id, *at));
        let until = next.map_or_else(|| Instant::now() + UNHURRIED, |(_, at)| at);
        tokio::select! {
            item = events.next() => {
                let (Some(item), Some(shared)) = (item, shared.upgrade()) else { return };
                match item {
                    StreamItem::Event(envelope) => {
                        if let Event::SnapshotsChanged { vm_id } = envelope.event {
                            due.insert(vm_id, Instant::now() + shared.config.timing.prepare_after);
                        }
                    }
                    // Something was missed.
                    StreamItem::Resync { .. } => all_due(&shared, &mut due),
                }
            }
            () = other.notified() => {
                let Some(shared) = shared.upgrade() else { return };
                all_due(&shared, &mut due);
            }
            () = tokio::time::sleep_until(until) => {
                let Some(shared) = shared.upgrade() else { return };
                let Some((vm, _)) = next else { continue };
                due.remove(&vm);
                if let Some(again) = look(&shared, vm).await {
                    due.entry(vm).or_insert(Instant::now() + again);
                }
            }
        }
    }
}

fn all_due(shared: &Shared, due: &mut HashMap<VmId, Instant>) {
    let soon = Instant::now() + shared.config.timing.prepare_after;
    due.extend(shared.fleet.all().iter().map(|machine| (machine.id, soon)));
}

/// What is to be done next about a machine's snapshots.
#[derive(Debug, PartialEq)]
enum Next<'a> {
    Bake(&'a SnapshotRow),
    Pack(&'a SnapshotRow),
    /// Nothing before so long.
    Later(Duration),
    Nothing,
}

/// Does what is next about a machine's snapshots; when to look again.
async fn look(shared: &Arc<Shared>, vm: VmId) -> Option<Duration> {
    let machine = shared.fleet.get(vm).ok()?;
    let rows = shared.store.snapshots().of(vm).await.ok()?;
    let machine_dir = shared.config.machine_dir(vm);
    let most = shared.preferences().prepared_snapshots;
    let dirs = |row: &SnapshotRow| kept::dir(&machine_dir, row.id);
    let wanted = wanted(&rows, most, |row| used(&dirs(row)));
    for row in &rows {
        let (dir, is_wanted) = (dirs(row), wanted.iter().any(|other| other.id == row.id));
        let spoilt = shared
            .preparing
            .distrusted()
            .is_some_and(|since| super::Description::read(&dir).is_some_and(|image| image.made_at <= since));
        if row.memory && (!is_wanted || spoilt) {
            drop_image(&dir);
        }
    }
    let qemu = shared.platform.qemu(shared.preferences().qemu_binary).await.ok()?;
    let next = next(shared, &rows, &wanted, (&machine_dir, &qemu)).await;
    let operation = match next {
        Next::Nothing => return None,
        Next::Later(when) => return Some(when),
        Next::Bake(row) => {
            let (row, dir) = (row.clone(), machine_dir.clone());
            begin(shared, machine, row, move |job, row, stop| prepare(job, row, dir, qemu, stop)).await
        }
        Next::Pack(row) => {
            let (row, dir) = (row.clone(), machine_dir.clone());
            begin(shared, machine, row, move |job, row, stop| pack(job, row, dir, stop)).await
        }
    };
    match operation {
        // Its end is an event.
        Ok(operation) => drop(shared.ledger.wait(operation.id, UNHURRIED).await),
        Err(error) => tracing::debug!(%vm, %error, "memory is not prepared now"),
    }
    None
}

/// The snapshots of a machine that are to have an image, the most wanted first.
fn wanted(
    rows: &[SnapshotRow],
    most: usize,
    used: impl Fn(&SnapshotRow) -> Option<SystemTime>,
) -> Vec<&SnapshotRow> {
    if most == 0 {
        return Vec::new();
    }
    let with_memory = || rows.iter().filter(|row| row.memory);
    let last =
        with_memory().filter_map(|row| Some((used(row)?, row))).max_by_key(|(at, _)| *at).map(|(_, row)| row);
    let mut newest: Vec<&SnapshotRow> =
        with_memory().filter(|row| row.reason != SnapshotReason::Schedule).collect();
    newest.sort_by_key(|row| std::cmp::Reverse((row.created_at, row.id)));
    newest.truncate(most);
    if let Some(last) = last.filter(|last| !newest.iter().any(|row| row.id == last.id)) {
        newest.push(last);
    }
    newest
}

fn used(dir: &Path) -> Option<SystemTime> {
    std::fs::metadata(dir.join(USED)).ok()?.modified().ok()
}

async fn next<'a>(
    shared: &Arc<Shared>,
    rows: &'a [SnapshotRow],
    wanted: &[&'a SnapshotRow],
    (machine_dir, qemu): (&Path, &Arc<Qemu>),
) -> Next<'a> {
    let dir = |row: &SnapshotRow| kept::dir(machine_dir, row.id);
    let open = |row: &SnapshotRow| !shared.preparing.is_left(row.id) && kept::memory(&dir(row)).exists();
    for &row in wanted {
        let possible = || kept::read(&dir(row)).is_ok_and(|what| bake::is_possible(row, &what.record));
        if super::find(shared, &dir(row), qemu).is_none()
            && open(row)
            && super::can_be_mapped(qemu)
            && possible()
            && bake::is_offered(shared, qemu).await
        {
            return Next::Bake(row);
        }
    }
    let unpacked = rows.iter().filter(|row| row.memory && open(row) && !packed::is_done(&dir(row)));
    let Some(oldest) = unpacked.min_by_key(|row| row.created_at) else { return Next::Nothing };
    let quiet = shared.config.timing.pack_after;
    let age = Timestamp::now().duration_since(oldest.created_at).unsigned_abs();
    if age < quiet { Next::Later(quiet.saturating_sub(age)) } else { Next::Pack(oldest) }
}

/// Begins work on a snapshot's memory that is seen, and that ends when somebody gives it up or the snapshot goes.
async fn begin<F, Fut>(
    shared: &Arc<Shared>,
    machine: Arc<crate::supervisor::Machine>,
    row: SnapshotRow,
    work: F,
) -> Result<Operation, ErrorBody>
where
    F: FnOnce(Arc<Job>, SnapshotRow, CancellationToken) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Option<OperationResult>, ErrorBody>> + Send + 'static,
{
    let kind = (OperationKind::SnapshotPrepare, Origin::System, Cancel::Heeded);
    job::begin(shared, machine, kind, move |job| async move {
        let shared = Arc::clone(&job.shared);
        let id = row.id;
        let known = shared.preparing.begin(id);
        let stop = known.work.stop.clone();
        let _turn = tokio::select! {
            biased;
            () = job.cancel.cancelled() => return Err(given_up()),
            () = stop.cancelled() => return Err(given_up()),
            turn = shared.preparing.gate.pass() => turn,
        };
        // Whoever removes it from here on ends this first.
        if !job.rows().await?.iter().any(|other| other.id == id) {
            return Err(given_up());
        }
        let done = work(Arc::clone(&job), row, stop.clone()).await;
        if done.is_err() && !shared.closing.is_cancelled() {
            shared.preparing.leave(id);
        }
        drop(known);
        done
    })
    .await
}

async fn prepare(
    job: Arc<Job>,
    row: SnapshotRow,
    machine_dir: PathBuf,
    qemu: Arc<Qemu>,
    stop: CancellationToken,
) -> Result<Option<OperationResult>, ErrorBody> {
    let dir = kept::dir(&machine_dir, row.id);
    let baked = tokio::select! {
        biased;
        () = job.cancel.cancelled() => Err(given_up()),
        () = stop.cancelled() => Err(given_up()),
        baked = bake::bake(&job.shared, (&row, &machine_dir), &qemu, &job.progress) => baked,
    };
    if baked.is_err() {
        // It may have been dropped in the middle.
        drop_image(&dir);
        bake::clear(&job.shared);
    } else if super::find(&job.shared, &dir, &qemu).is_none() {
        // What does not fit at once never will.
        job.shared.preparing.leave(row.id);
    }
    match baked {
        // Nobody asked for it: what it would save is not worth a complaint.
        Err(error) if error.code == ErrorCode::DiskFull => {
            tracing::info!(vm = %job.machine.id, %error, "memory is not prepared");
            Err(given_up())
        }
        baked => baked.map(|()| None),
    }
}

async fn pack(
    job: Arc<Job>,
    row: SnapshotRow,
    machine_dir: PathBuf,
    stop: CancellationToken,
) -> Result<Option<OperationResult>, ErrorBody> {
    let dir = kept::dir(&machine_dir, row.id);
    let size = std::fs::metadata(kept::memory(&dir)).map_or(0, |file| file.len());
    build::check_space(&job.shared, &dir, Bytes(size)).await?;
    let given_up = job.cancel.child_token();
    let (ends, also) = (given_up.clone(), stop);
    let _watch = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        also.cancelled().await;
        ends.cancel();
    }));
    let told = job.progress.clone();
    let progress = move |done, total| {
        told.send_replace(Some(Progress { done, total }));
    };
    let packed::Packed { before, after } = packed::pack(dir, given_up, progress).await?;
    Ok(Some(OperationResult::Reclaimed { before, after }))
}

/// A file that is there while an owner of the data directory lives, with the boot it lives in.
#[derive(Debug)]
pub(crate) struct Marker(PathBuf);

impl Marker {
    /// Sees how the last owner ended, and marks that there is one. One that was killed while the computer went on has left all
    /// it wrote to the kernel; one that ended with the computer may not have.
    pub(crate) fn set(shared: &Shared) -> Self {
        let dir = &shared.config.data_dir;
        let (marker, since) = (dir.join("owner-boot"), dir.join("distrusted-until"));
        let boot = boot_id().unwrap_or_default();
        let unclean = std::fs::read_to_string(&marker).is_ok_and(|last| !last.is_empty() && last != boot);
        if unclean {
            tracing::warn!(
                "the computer went down with voidVM at work: what is kept of memory is checked before it is used"
            );
            if let Err(error) = std::fs::write(&since, Timestamp::now().to_string()) {
                tracing::error!(%error, "an unclean end cannot be written down");
            }
        }
        let distrusted = std::fs::read_to_string(&since).ok().and_then(|text| text.trim().parse().ok());
        *super::lock(&shared.preparing.distrusted) = distrusted;
        if let Err(error) = std::fs::write(&marker, boot) {
            tracing::warn!(path = %marker.display(), %error, "an unclean end would not be noticed");
        }
        Self(marker)
    }

    /// A clean end.
    pub(crate) fn clear(&self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeMap;

    use voidvm_model::snapshot::Consistency;
    use voidvm_model::{MachineSpec, MiB, SnapshotId};

    use super::*;

    fn row(second: i64, reason: SnapshotReason, memory: bool) -> SnapshotRow {
        SnapshotRow {
            group_snapshot: None,
            id: SnapshotId::new(),
            vm_id: VmId::new(),
            name: second.to_string(),
            description: String::new(),
            tags: Vec::new(),
            reason,
            schedule_id: None,
            keep: false,
            parent: None,
            current: false,
            created_at: Timestamp::from_second(second).unwrap(),
            memory,
            consistency: Consistency::Whole,
            pause_ms: None,
            total_ms: 0,
            spec: MachineSpec::new(1, MiB(64)),
            layers: BTreeMap::new(),
        }
    }

    #[test]
    fn the_newest_and_the_last_used_are_wanted() {
        use SnapshotReason::{Manual, Safety, Schedule};
        let rows = [
            row(1, Manual, true),
            row(2, Safety, true),
            row(3, Manual, true),
            row(4, Schedule, true),
            row(5, Manual, false),
        ];
        let names = |most: usize, used: &[(&str, u64)]| -> Vec<String> {
            let at = |row: &SnapshotRow| {
                let (_, at) = used.iter().find(|(name, _)| *name == row.name)?;
                Some(SystemTime::UNIX_EPOCH + Duration::from_secs(*at))
            };
            wanted(&rows, most, at).iter().map(|row| row.name.clone()).collect()
        };
        assert_eq!(names(2, &[]), ["3", "2"]);
        assert_eq!(names(2, &[("1", 10), ("4", 11)]), ["3", "2", "4"]);
        assert_eq!(names(1, &[("3", 12), ("4", 11)]), ["3"]);
        assert!(names(0, &[("1", 10)]).is_empty());
    }
}
