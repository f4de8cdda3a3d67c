//! Checks that everything backups need is there, and is what was written.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use voidvm_model::ErrorBody;

use crate::error;
use crate::folder::{Folder, Kind};
use crate::id::Id;
use crate::index::{Blobs, Index, Listing};
use crate::lock::Lock;
use crate::pack;
use crate::record::{Config, IndexBlob, LockFile};
use crate::repository::{README, README_FILE, Repository, password_in};
use crate::restore::each_on_threads;
use crate::sealed::{self, Opener};
use crate::source::{Progress, Stage, Watch};

/// How much is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// That everything is there and belongs together; the data are not read.
    Structure,
    /// Every byte.
    Data,
}

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    /// What is wrong; nothing, when all is well.
    pub problems: Vec<ErrorBody>,
    /// How many backups there are, with those of other programs.
    pub backups: usize,
    /// How many bytes there are.
    pub size: u64,
    /// How many of them no backup needs, because a backup was cut off; pruning removes them.
    pub leftover: u64,
}

impl Repository {
    /// Checks the repository.
    ///
    /// # Errors
    /// When it cannot be checked, or somebody cancels. What is wrong with it is no error but among what was found.
    pub fn verify(&self, depth: Depth, watch: &dyn Watch) -> Result<Verification, ErrorBody> {
        let lock = Lock::for_reading(&self.folder, &self.key)?;
        let go_on = || {
            if watch.cancelled() {
                return Err(error::cancelled());
            }
            lock.as_ref().map_or(Ok(()), Lock::check)
        };
        let mut found = Verification::default();
        self.verify_papers(&mut found)?;

        let mut listing = Listing::read(&self.folder, &self.key)?;
        found.problems.append(&mut listing.problems);
        let there: BTreeMap<Id, u64> = self.folder.list(Kind::Pack)?.into_iter().collect();
        for (id, blobs) in &listing.packs {
            let wrong = match there.get(id) {
                None => "is missing",
                Some(size) if *size != pack::length(blobs) => "has another length than was written",
                Some(_) => continue,
            };
            found.problems.push(error::damaged(format!("The pack {id} {wrong}.")));
        }
        found.size = there.values().sum();
        found.leftover = self.folder.strangers()?.iter().map(|stranger| stranger.size).sum::<u64>()
            + there
                .iter()
                .filter(|(id, _)| !listing.packs.contains_key(id))
                .map(|(_, size)| size)
                .sum::<u64>();

        let index = Index::of(&listing)?;
        let blobs = Blobs::new(&self.folder, &self.key, &index);
        let mut opener = blobs.opener()?;
        let mut seen = HashSet::new();
        let snapshots = self.folder.list(Kind::Snapshot)?;
        found.backups = snapshots.len();
        for (done, (id, _)) in snapshots.iter().enumerate() {
            go_on()?;
            match self.snapshot(*id) {
                Ok(snapshot) => {
                    let mut tell = |wrong| found.problems.push(wrong);
                    crate::walk::every(&blobs, &mut opener, snapshot.tree, &mut seen, &mut tell);
                }
                Err(problem) => found.problems.push(problem),
            }
            if depth == Depth::Structure {
                let (done, total) = (done as u64 + 1, snapshots.len() as u64);
                watch.progress(Progress { stage: Stage::Verifying, done, total });
            }
        }
        if depth == Depth::Data {
            let packs: Vec<(Id, u64)> = there.into_iter().collect();
            self.verify_packs(&packs, &listing, &mut found, watch, &go_on)?;
        }
        Ok(found)
    }

    /// What is neither index, backup nor pack.
    fn verify_papers(&self, found: &mut Verification) -> Result<(), ErrorBody> {
        let problems = &mut found.problems;
        let config = self.folder.read_named("config")?;
        if config.and_then(|config| sealed::open_document::<Config>(&self.key, &config)).is_none() {
            problems.push(error::damaged("The file config is not what was written."));
        }
        for (id, _) in self.folder.list(Kind::Key)? {
            problems.extend(self.folder.read(Kind::Key, id).err());
        }
        for (id, _) in self.folder.list(Kind::Lock)? {
            let read = self.folder.read(Kind::Lock, id);
            // Given back meanwhile.
            if !self.folder.path(Kind::Lock, id).exists() {
                continue;
            }
            let lock = read.map(|lock| sealed::open_document::<LockFile>(&self.key, &lock));
            match lock {
                Ok(Some(_)) => {}
                Ok(None) => problems.push(error::damaged(format!("The lock {id} is not what was written."))),
                Err(problem) => problems.push(problem),
            }
        }
        problems.extend(password_in(&self.folder).err());
        if self.folder.read_named(README_FILE)?.is_some_and(|text| text != README.as_bytes()) {
            problems.push(error::damaged(format!("{README_FILE} is not what was written.")));
        }
        Ok(())
    }

    fn verify_packs(
        &self,
        packs: &[(Id, u64)],
        listing: &Listing,
        found: &mut Verification,
        watch: &dyn Watch,
        go_on: &(dyn Fn() -> Result<(), ErrorBody> + Sync),
    ) -> Result<(), ErrorBody> {
        let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
        let (total, problems) = (found.size, Mutex::new(Vec::new()));
        each_on_threads(&|failed| {
            let mut opener = Opener::new(&self.key)?;
            while let Some((id, size)) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                if failed.load(Ordering::Relaxed) {
                    return Ok(());
                }
                go_on()?;
                if let Err(problem) = verify_pack(&self.folder, &mut opener, *id, listing.packs.get(id)) {
                    problems.lock().unwrap_or_else(PoisonError::into_inner).push(problem);
                }
                let done = done.fetch_add(*size, Ordering::Relaxed) + size;
                watch.progress(Progress { stage: Stage::Verifying, done, total });
            }
            Ok(())
        })?;
        found.problems.append(&mut problems.into_inner().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }
}

/// A pack as a whole, its header, and every blob in it.
fn verify_pack(
    folder: &Folder,
    opener: &mut Opener<'_>,
    id: Id,
    indexed: Option<&Vec<IndexBlob>>,
) -> Result<(), ErrorBody> {
    let content = folder.read(Kind::Pack, id)?;
    let blobs = pack::blobs(opener.key(), &content)
        .ok_or_else(|| error::damaged(format!("The pack {id} has no list of what is in it.")))?;
    if indexed.is_some_and(|indexed| !same(indexed, &blobs)) {
        return Err(error::damaged(format!("The pack {id} has other blocks than the index says.")));
    }
    for blob in &blobs {
        let (start, end) = (blob.offset as usize, blob.offset as usize + blob.length as usize);
        let sealed = content.get(start..end).unwrap_or_default();
        opener.open(blob.id, sealed, blob.uncompressed_length)?;
    }
    Ok(())
}

/// Whether two lists have the same, in any order.
fn same(one: &[IndexBlob], other: &[IndexBlob]) -> bool {
    let sorted = |blobs: &[IndexBlob]| {
        let mut blobs = blobs.to_vec();
        blobs.sort_by_key(|blob| blob.offset);
        blobs
    };
    sorted(one) == sorted(other)
}
