//! Puts blobs into packs and packs into the index, from several threads.
//!
//! Invariants: a blob that is there is not written again; an index names only packs that are on the disk; an index is written at
//! least once a gibibyte, so that a backup that is cut off and begun anew finds most of what it had written.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use voidvm_model::ErrorBody;

use crate::crypto::Key;
use crate::folder::{Folder, Kind};
use crate::id::Id;
use crate::index::Index;
use crate::pack::{self, Pack};
use crate::record::{BlobKind, IndexBlob, IndexFile, IndexPack};
use crate::sealed::{self, SealedBlob, Sealer};

/// So many packs that are in no index yet are written into one.
const PACKS_PER_INDEX: usize = 64;

/// Writes into a repository.
pub(crate) struct Writer<'a> {
    folder: &'a Folder,
    key: &'a Key,
    index: &'a Index,
    /// What is being or was written by this writer.
    claimed: Mutex<HashSet<(BlobKind, Id)>>,
    data: Mutex<Pack>,
    trees: Mutex<Pack>,
    /// Packs that are on the disk and in no index yet.
    loose: Mutex<Vec<IndexPack>>,
    plain: AtomicU64,
    packed: AtomicU64,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(folder: &'a Folder, key: &'a Key, index: &'a Index) -> Self {
        Self {
            folder,
            key,
            index,
            claimed: Mutex::default(),
            data: Mutex::default(),
            trees: Mutex::default(),
            loose: Mutex::default(),
            plain: AtomicU64::new(0),
            packed: AtomicU64::new(0),
        }
    }

    pub(crate) fn sealer(&self) -> Result<Sealer<'a>, ErrorBody> {
        Sealer::new(self.key)
    }

    /// Keeps a blob, and says its name.
    pub(crate) fn put(
        &self,
        sealer: &mut Sealer<'_>,
        kind: BlobKind,
        content: &[u8],
    ) -> Result<Id, ErrorBody> {
        let id = Id::of(content);
        if self.index.get(kind, id).is_some() || !lock(&self.claimed).insert((kind, id)) {
            return Ok(id);
        }
        let blob = sealer.seal(content)?;
        self.plain.fetch_add(content.len() as u64, Ordering::Relaxed);
        self.append(id, kind, &blob)?;
        Ok(id)
    }

    /// Keeps a blob that is sealed already; it was verified by who calls.
    pub(crate) fn append(&self, id: Id, kind: BlobKind, blob: &SealedBlob) -> Result<(), ErrorBody> {
        self.packed.fetch_add(blob.sealed.len() as u64, Ordering::Relaxed);
        let full = {
            let mut pack = lock(self.pack(kind));
            pack.add(id, kind, blob)?;
            pack.is_full().then(|| std::mem::take(&mut *pack))
        };
        full.map_or(Ok(()), |pack| self.write(pack))
    }

    const fn pack(&self, kind: BlobKind) -> &Mutex<Pack> {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        }
    }

    fn write(&self, pack: Pack) -> Result<(), ErrorBody> {
        let (content, blobs) = pack.finish(self.key)?;
        let id = self.folder.write(Kind::Pack, &content)?;
        let full = {
            let mut loose = lock(&self.loose);
            loose.push(IndexPack { id, blobs });
            (loose.len() >= PACKS_PER_INDEX).then(|| std::mem::take(&mut *loose))
        };
        full.map_or(Ok(()), |packs| self.write_index(packs).map(|_| ()))
    }

    /// Writes what is still open. Everything that was put is then on the disk and in the index.
    pub(crate) fn flush(&self) -> Result<(), ErrorBody> {
        for kind in [BlobKind::Data, BlobKind::Tree] {
            let pack = std::mem::take(&mut *lock(self.pack(kind)));
            if !pack.is_empty() {
                self.write(pack)?;
            }
        }
        let loose = std::mem::take(&mut *lock(&self.loose));
        if loose.is_empty() { Ok(()) } else { self.write_index(loose).map(|_| ()) }
    }

    fn write_index(&self, packs: Vec<IndexPack>) -> Result<Id, ErrorBody> {
        write_index(self.folder, self.key, packs)
    }

    /// How many bytes were new, and how many they are as they lie there.
    pub(crate) fn added(&self) -> (u64, u64) {
        (self.plain.load(Ordering::Relaxed), self.packed.load(Ordering::Relaxed))
    }
}

fn write_index(folder: &Folder, key: &Key, packs: Vec<IndexPack>) -> Result<Id, ErrorBody> {
    folder.write(Kind::Index, &sealed::seal_document(key, &IndexFile { packs })?)
}

/// Writes these packs into as many index files as they need.
pub(crate) fn write_indexes(
    folder: &Folder,
    key: &Key,
    packs: impl IntoIterator<Item = (Id, Vec<IndexBlob>)>,
) -> Result<Vec<Id>, ErrorBody> {
    /// As `restic` has in one.
    const BLOBS: usize = 50_000;
    let (mut files, mut part, mut blobs) = (Vec::new(), Vec::new(), 0);
    for (id, content) in packs {
        blobs += content.len();
        part.push(IndexPack { id, blobs: content });
        if blobs >= BLOBS {
            files.push(write_index(folder, key, std::mem::take(&mut part))?);
            blobs = 0;
        }
    }
    if !part.is_empty() {
        files.push(write_index(folder, key, part)?);
    }
    Ok(files)
}

/// The bytes these packs have.
pub(crate) fn size<'p>(packs: impl IntoIterator<Item = &'p Vec<IndexBlob>>) -> u64 {
    packs.into_iter().map(|blobs| pack::length(blobs)).sum()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
