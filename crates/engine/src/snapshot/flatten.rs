//! A chain of layers that has become deep is made short for the present: what its newest layer stands on is copied into it.
//!
//! ```text
//! disk0 ─▶ base-40 ─▶ base-39 ─▶ … ─▶ base-1          disk0 ─▶ base-40, which has all of it now
//!                                                     base-39 ─▶ … ─▶ base-1      (kept: snapshots name them)
//! ```
//! Each image shows what it showed, at every instant: a copy that is cut is done again. It takes room, and gives none back: layers
//! that snapshots name are theirs. A layer that another machine's disk stands on is left alone, since its process may have it open;
//! where there is no other, the disk itself takes the copy. A machine with snapshots that stand on another machine's layers stays as it
//! is: those snapshots would need the other one without its chain saying so.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use voidvm_model::contract::VmRef;
use voidvm_model::operation::Progress;
use voidvm_model::spec::DiskFormat;
use voidvm_model::{Bytes, ErrorBody, ErrorCode, Operation, OperationKind, Origin, VmId};
use voidvm_qemu::image::{self, CopyProgress};

use super::job::{self, Came, Job};
use super::list::allocated;
use super::merge;
use crate::ledger::Cancel;
use crate::ops::{build, clone, files};
use crate::shared::Shared;
use crate::storage;
use crate::supervisor::lend::Loan;

/// A chain that is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cut {
    /// The image that takes what is below it.
    into: PathBuf,
    /// What that is, from the top.
    below: Vec<PathBuf>,
}

/// Where a chain is cut: below its newest frozen layer that may be written to, or below the disk. Pure.
fn cut(chain: &[PathBuf], deeper_than: usize, may_take: impl Fn(&Path) -> bool) -> Option<Cut> {
    if chain.len() <= deeper_than.max(1) {
        return None;
    }
    let frozen =
        (1..chain.len()).take(deeper_than / 2).find(|at| chain.get(*at).is_some_and(|file| may_take(file)));
    let at = frozen.filter(|at| at + 1 < chain.len()).unwrap_or(0);
    let (into, below) = chain.get(at..)?.split_first()?;
    Some(Cut { into: into.clone(), below: below.to_vec() })
}

/// The chains of a machine's disks that are deeper than so many layers.
async fn cuts(shared: &Shared, vm: VmId, deeper_than: usize) -> Result<Vec<Cut>, ErrorBody> {
    let (dir, standing) = (shared.config.machine_dir(vm), storage::standing(shared).await?);
    let spec = shared.fleet.get(vm)?.view().spec.clone();
    let can = |disk: &&voidvm_model::spec::Disk| {
        !disk.read_only && disk.format == DiskFormat::Qcow2 && disk.key.is_none() && files::is_own(&dir, disk)
    };
    let may_take =
        |file: &Path| files::is_base(Some(&dir), file) && merge::is_ours_alone(&standing, &dir, file);
    let chains = spec.disks.iter().filter(can).filter_map(|disk| image::backing_files(&disk.file).ok());
    let chains: Vec<_> = chains.collect();
    if stays(shared, vm, &chains).await? {
        return Ok(Vec::new());
    }
    Ok(chains.iter().filter_map(|chain| cut(chain, deeper_than, may_take)).collect())
}

/// Whether snapshots of a machine stand on what is another's.
async fn stays(shared: &Shared, vm: VmId, chains: &[Vec<PathBuf>]) -> Result<bool, ErrorBody> {
    let dir = shared.config.machine_dir(vm);
    let leaves = chains.iter().flatten().any(|file| file.parent() != Some(dir.as_path()));
    Ok(leaves && !shared.store.snapshots().of(vm).await.map_err(|error| error.body())?.is_empty())
}

impl Cut {
    /// The most the copy takes.
    fn needed(&self) -> Result<Bytes, ErrorBody> {
        let below: u64 = self.below.iter().map(|file| allocated(file)).sum();
        Ok(Bytes(below.min(clone::header(&self.into)?.virtual_size.0)))
    }
}

/// Checks a request and begins the work: all that the machine's disks stand on is copied, however short the chains are.
///
/// # Errors
/// No such machine; [`ErrorCode::Unsupported`] when its snapshots stand on another's layers.
pub(crate) async fn flatten(
    shared: &Arc<Shared>,
    request: VmRef,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let spec = shared.fleet.get(request.id)?.view().spec.clone();
    let chains = spec.disks.iter().filter_map(|disk| image::backing_files(&disk.file).ok());
    if stays(shared, request.id, &chains.collect::<Vec<_>>()).await? {
        return Err(ErrorBody::new(
            ErrorCode::Unsupported,
            "Snapshots of this machine stand on layers of another one: they would still need it.",
        )
        .with_field("id")
        .with_hint("Delete its snapshots first, or make a full clone of it."));
    }
    begin(shared, request.id, 1, origin).await
}

async fn begin(
    shared: &Arc<Shared>,
    vm: VmId,
    deeper_than: usize,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let machine = shared.fleet.get(vm)?;
    let kind = (OperationKind::SnapshotFlatten, origin, Cancel::Heeded);
    job::begin(shared, machine, kind, move |job| async move { carry_out(&job, deeper_than).await }).await
}

async fn carry_out(job: &Job, deeper_than: usize) -> Came {
    let loan = job.borrow().await?;
    let cuts = cuts(&job.shared, job.vm(), deeper_than).await?;
    let mut total = 0;
    for cut in &cuts {
        total += cut.needed()?.0;
    }
    let mut before = 0;
    for cut in &cuts {
        let needed = cut.needed()?;
        build::check_space(&job.shared, &job.machine_dir(), needed).await?;
        tracing::info!(into = %cut.into.display(), layers = cut.below.len(), "a chain is flattened");
        let part = Part { before, size: needed.0, total };
        match &loan.run {
            Some(run) if merge::is_open(run, &cut.into) => {
                let done = |now: Progress| part.tell(job, now.done, now.total);
                merge::stream_all(job, &loan, run, (&cut.into, &cut.below), &done).await?;
            }
            _ => at_rest(job, &loan, cut, &part).await?,
        }
        before += needed.0;
    }
    // What only stood between a snapshot that is gone and the present is nobody's now.
    merge::quietly(job, &loan).await;
    Ok(None)
}

/// One copy of several.
struct Part {
    before: u64,
    size: u64,
    total: u64,
}

impl Part {
    fn tell(&self, job: &Job, done: u64, of: u64) {
        let part = u128::from(self.size) * u128::from(done) / u128::from(of.max(1));
        let done = self.before + u64::try_from(part).unwrap_or(self.size);
        job.progress.send_replace(Some(Progress { done, total: self.total }));
    }
}

async fn at_rest(job: &Job, loan: &Loan, cut: &Cut, part: &Part) -> Result<(), ErrorBody> {
    let hundredths = CopyProgress::new(0);
    let mut done = hundredths.subscribe();
    let cancel = merge::either(&job.cancel, &loan.recall);
    let copying = job.img.rebase(&cut.into, None, &hundredths, &cancel);
    tokio::pin!(copying);
    loop {
        tokio::select! {
            biased;
            copied = &mut copying => return copied.map_err(|error| error.body()),
            Ok(()) = done.changed() => {
                let now = u64::from(*done.borrow_and_update());
                part.tell(job, now, 10_000);
            }
        }
    }
}

/// Begins to flatten a machine's chains, if one is deeper than the settings allow and there is room.
pub(super) async fn look(shared: &Arc<Shared>, vm: VmId) {
    let deeper_than = shared.preferences().layers;
    let begun = async {
        let cuts = cuts(shared, vm, deeper_than).await?;
        if cuts.is_empty() {
            return Ok(());
        }
        for cut in cuts {
            build::check_space(shared, &shared.config.machine_dir(vm), cut.needed()?).await?;
        }
        begin(shared, vm, deeper_than, Origin::System).await.map(drop)
    };
    if let Err(error) = begun.await {
        tracing::warn!(%vm, %error, "a deep chain stays as it is for now");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(length: usize) -> Vec<PathBuf> {
        (0..length).map(|at| PathBuf::from(format!("/{at}"))).collect()
    }

    #[test]
    fn a_chain_is_cut_below_its_newest_layer_that_is_free() {
        assert_eq!(cut(&chain(8), 8, |_| true), None);
        let at =
            |length, deeper_than, free: fn(&Path) -> bool| cut(&chain(length), deeper_than, free).unwrap();
        let deep = at(9, 8, |_| true);
        assert_eq!((deep.into.as_path(), deep.below.len()), (Path::new("/1"), 7));
        assert_eq!(at(9, 8, |file| file == Path::new("/3")).into, Path::new("/3"));
        // What leaves the chain deep is no help, and neither is what stands on nothing.
        assert_eq!(at(9, 8, |file| file == Path::new("/7")).into, Path::new("/0"));
        assert_eq!(at(2, 1, |_| true).into, Path::new("/0"));
        assert_eq!(at(9, 8, |_| false).below.len(), 8);
        assert_eq!(cut(&chain(1), 1, |_| true), None);
    }
}
