//! Forgets backups, and removes what none of them needs.
//!
//! ```text
//! mark: every blob of every backup ─▶ repack: what is needed out of packs that are mostly not ─▶ new index ─▶ old index, old packs away
//! ```
//! Invariants: nothing is removed unless every backup could be walked as a whole; the new is on the disk and in the index before the
//! old goes; nobody else is at work, by the exclusive lock. A kill between two steps leaves something twice, never too little.

use std::collections::{BTreeMap, HashSet};

use voidvm_model::ErrorBody;

use crate::error;
use crate::folder::{Folder, Kind};
use crate::id::{BackupId, Id};
use crate::index::{Blobs, Index, Listing};
use crate::lock::{Lock, Reach};
use crate::pack;
use crate::record::{BlobKind, IndexBlob};
use crate::repository::Repository;
use crate::sealed::{Opener, SealedBlob};
use crate::source::{Progress, Stage, Watch};
use crate::writer::{self, Writer};

/// So much of what is kept may be of no use, in percent: less costs more to move than it is worth.
const UNUSED_PERCENT: u64 = 5;
/// So many packs far below their size are put together, and so many files of the index.
const SMALL_PACKS: usize = 16;
const INDEX_FILES: usize = 64;

/// What pruning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Bytes that were removed, without those that were moved.
    pub removed: u64,
    /// Bytes that were moved into new packs.
    pub moved: u64,
    /// Bytes that are there now.
    pub kept: u64,
    /// Bytes among the removed that a backup left that was cut off.
    pub leftover: u64,
}

/// What is to become of the packs.
#[derive(Default)]
struct Plan {
    keep: BTreeMap<Id, Vec<IndexBlob>>,
    /// With the blobs that are needed.
    repack: BTreeMap<Id, Vec<IndexBlob>>,
    remove: Vec<Id>,
}

impl Repository {
    /// Forgets backups. Their blocks stay until the next [`Repository::prune`].
    ///
    /// # Errors
    /// When there is no such backup, or somebody else is at work.
    pub fn forget(&self, backups: &[BackupId]) -> Result<(), ErrorBody> {
        let _lock = Lock::take(&self.folder, &self.key, Reach::Exclusive)?;
        for id in backups {
            // A damaged one can be forgotten too.
            if !self.folder.path(Kind::Snapshot, id.0).exists() {
                self.snapshot_of(*id)?;
            }
        }
        for id in backups {
            self.folder.remove(Kind::Snapshot, id.0)?;
        }
        Ok(())
    }

    /// Removes what no backup needs.
    ///
    /// # Errors
    /// When a backup is damaged (nothing is removed then), somebody else is at work, the disk is full, or somebody cancels.
    pub fn prune(&self, watch: &dyn Watch) -> Result<Pruned, ErrorBody> {
        let lock = Lock::take(&self.folder, &self.key, Reach::Exclusive)?;
        let go_on = || {
            if watch.cancelled() {
                return Err(error::cancelled());
            }
            lock.check()
        };
        let mut listing = Listing::read(&self.folder, &self.key)?;
        if let Some(problem) = listing.problems.pop() {
            return Err(problem);
        }
        let there: BTreeMap<Id, u64> = self.folder.list(Kind::Pack)?.into_iter().collect();
        let indexed = listing.packs.len();
        listing.retain_whole(&there);
        let lost = listing.packs.len() != indexed;
        let index = Index::of(&listing)?;
        let used = self.mark(&index, watch, &go_on)?;

        let mut pruned = Pruned::default();
        for stranger in self.folder.strangers()?.iter().filter(|stranger| !stranger.path.is_dir()) {
            if stranger.path.starts_with(self.folder.root().join("tmp")) {
                go_on()?;
                Folder::remove_path(&stranger.path)?;
                pruned.leftover += stranger.size;
            }
        }
        let mut plan = plan(&listing.packs, &index, &used);
        let loose: Vec<Id> = there.keys().filter(|id| !listing.packs.contains_key(id)).copied().collect();
        pruned.leftover += loose.iter().filter_map(|id| there.get(id)).sum::<u64>();
        let changed = lost || !plan.remove.is_empty() || !plan.repack.is_empty();
        let mut gone = std::mem::take(&mut plan.remove);
        if changed || listing.files.len() > INDEX_FILES {
            let empty = Index::default();
            let writer = Writer::new(&self.folder, &self.key, &empty);
            self.repack(&writer, &plan.repack, watch, &go_on)?;
            writer.flush()?;
            pruned.moved = writer.added().1;
            let kept = writer::write_indexes(&self.folder, &self.key, plan.keep)?;
            go_on()?;
            for id in listing.files.iter().filter(|id| !kept.contains(id)) {
                self.folder.remove(Kind::Index, *id)?;
            }
            gone.extend(plan.repack.into_keys());
        }
        gone.extend(loose);
        let total = gone.len() as u64;
        for (done, id) in gone.into_iter().enumerate() {
            // The index does not name it any more; what stays when this is cut off is left over.
            go_on()?;
            self.folder.remove(Kind::Pack, id)?;
            watch.progress(Progress { stage: Stage::Removing, done: done as u64 + 1, total });
        }
        let before = there.values().sum::<u64>();
        pruned.kept = self.folder.list(Kind::Pack)?.iter().map(|(_, size)| size).sum();
        pruned.removed = before.saturating_sub(pruned.kept);
        Ok(pruned)
    }

    /// Every blob that is needed.
    fn mark(
        &self,
        index: &Index,
        watch: &dyn Watch,
        go_on: &dyn Fn() -> Result<(), ErrorBody>,
    ) -> Result<HashSet<(BlobKind, Id)>, ErrorBody> {
        let blobs = Blobs::new(&self.folder, &self.key, index);
        let mut opener = blobs.opener()?;
        let mut used = HashSet::new();
        let snapshots = self.folder.list(Kind::Snapshot)?;
        let total = snapshots.len() as u64;
        for (done, (id, _)) in snapshots.into_iter().enumerate() {
            go_on()?;
            let root = self.snapshot(id)?.tree;
            let mut problem = None;
            crate::walk::every(&blobs, &mut opener, root, &mut used, &mut |wrong| {
                problem.get_or_insert(wrong);
            });
            if let Some(problem) = problem {
                return Err(problem.with_detail("backup", id.to_string()));
            }
            watch.progress(Progress { stage: Stage::Marking, done: done as u64 + 1, total });
        }
        Ok(used)
    }

    fn repack(
        &self,
        writer: &Writer<'_>,
        packs: &BTreeMap<Id, Vec<IndexBlob>>,
        watch: &dyn Watch,
        go_on: &dyn Fn() -> Result<(), ErrorBody>,
    ) -> Result<(), ErrorBody> {
        let mut opener = Opener::new(&self.key)?;
        let total = writer::size(packs.values());
        let mut done = 0;
        for (id, blobs) in packs {
            go_on()?;
            let content = self.folder.read(Kind::Pack, *id)?;
            for blob in blobs {
                let (start, end) = (blob.offset as usize, blob.offset as usize + blob.length as usize);
                let sealed = content.get(start..end).unwrap_or_default().to_vec();
                // Only what is whole gets a new place.
                opener.open(blob.id, &sealed, blob.uncompressed_length)?;
                let sealed = SealedBlob { sealed, plain_length: blob.uncompressed_length };
                writer.append(blob.id, blob.kind, &sealed)?;
            }
            done += pack::length(blobs);
            watch.progress(Progress { stage: Stage::Repacking, done, total });
        }
        Ok(())
    }
}

/// What is to become of each pack.
fn plan(packs: &BTreeMap<Id, Vec<IndexBlob>>, index: &Index, used: &HashSet<(BlobKind, Id)>) -> Plan {
    let mut plan = Plan::default();
    let (mut partly, mut small) = (Vec::new(), Vec::new());
    let (mut useful, mut useless) = (0, 0);
    for (id, blobs) in packs {
        // Of a blob that is there twice, the one the index gives is the needed one.
        let needed: Vec<IndexBlob> = blobs
            .iter()
            .filter(|blob| {
                used.contains(&(blob.kind, blob.id)) && index.pack_of(blob.kind, blob.id) == Some(*id)
            })
            .copied()
            .collect();
        let (whole, part) = (pack::length(blobs), pack::length(&needed));
        if needed.is_empty() {
            plan.remove.push(*id);
            continue;
        }
        useful += part;
        if needed.len() < blobs.len() {
            useless += whole - part;
            partly.push((whole - part, *id, needed, blobs));
        } else if whole < pack::TARGET as u64 / 4 {
            small.push((*id, needed));
        } else {
            plan.keep.insert(*id, needed);
        }
    }
    partly.sort_by_key(|(unused, ..)| std::cmp::Reverse(*unused));
    for (unused, id, needed, blobs) in partly {
        if useless * 100 > useful * UNUSED_PERCENT {
            useless -= unused;
            plan.repack.insert(id, needed);
        } else {
            plan.keep.insert(id, blobs.clone());
        }
    }
    if small.len() >= SMALL_PACKS {
        plan.repack.extend(small);
    } else {
        plan.keep.extend(small);
    }
    plan
}
