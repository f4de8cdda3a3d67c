//! Where every blob is: all files of `index`, read into memory for one piece of work.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use voidvm_model::ErrorBody;

use crate::crypto::Key;
use crate::error;
use crate::folder::{Folder, Kind};
use crate::id::Id;
use crate::pack;
use crate::record::{BlobKind, IndexBlob, IndexFile, Tree};
use crate::sealed::{self, Opener};

/// How many packs are kept open.
const OPEN_PACKS: usize = 64;

/// The files of the index as they are.
pub(crate) struct Listing {
    /// The index files that were read.
    pub(crate) files: Vec<Id>,
    /// What lies in each pack.
    pub(crate) packs: BTreeMap<Id, Vec<IndexBlob>>,
    /// The index files that could not be.
    pub(crate) problems: Vec<ErrorBody>,
}

impl Listing {
    pub(crate) fn read(folder: &Folder, key: &Key) -> Result<Self, ErrorBody> {
        let mut listing = Self { files: Vec::new(), packs: BTreeMap::new(), problems: Vec::new() };
        for (id, _) in folder.list(Kind::Index)? {
            let file = folder.read(Kind::Index, id).and_then(|content| {
                sealed::open_document::<IndexFile>(key, &content)
                    .ok_or_else(|| error::damaged(format!("The index {id} cannot be read.")))
            });
            match file {
                Ok(file) => {
                    listing.files.push(id);
                    listing.packs.extend(file.packs.into_iter().map(|pack| (pack.id, pack.blobs)));
                }
                Err(problem) => listing.problems.push(problem),
            }
        }
        Ok(listing)
    }

    /// Leaves out the packs that are not among those that are there, or are cut.
    pub(crate) fn retain_whole(&mut self, there: &BTreeMap<Id, u64>) {
        self.packs.retain(|id, blobs| there.get(id) == Some(&pack::length(blobs)));
    }
}

/// Where a blob lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pack: u32,
    offset: u32,
    length: u32,
    plain_length: Option<u32>,
}

impl Place {
    /// How long the blob is when opened and unpacked.
    pub(crate) const fn plain_length(&self) -> u32 {
        match self.plain_length {
            Some(length) => length,
            None => self.length.saturating_sub(crate::crypto::OVERHEAD),
        }
    }
}

/// All blobs by name.
#[derive(Default)]
pub(crate) struct Index {
    packs: Vec<Id>,
    blobs: HashMap<(BlobKind, Id), Place>,
}

impl Index {
    /// Reads the index, without the packs that are not there or not whole: what was in them is written again by the next backup
    /// that has it, and found where that wrote it.
    ///
    /// # Errors
    /// When a part of it is damaged: nothing is built on half an index.
    pub(crate) fn read(folder: &Folder, key: &Key) -> Result<Self, ErrorBody> {
        let mut listing = Listing::read(folder, key)?;
        if let Some(problem) = listing.problems.pop() {
            return Err(problem);
        }
        listing.retain_whole(&folder.list(Kind::Pack)?.into_iter().collect());
        Self::of(&listing)
    }

    pub(crate) fn of(listing: &Listing) -> Result<Self, ErrorBody> {
        let mut index = Self::default();
        for (id, blobs) in &listing.packs {
            let pack = u32::try_from(index.packs.len()).map_err(error::internal)?;
            index.packs.push(*id);
            for blob in blobs {
                let place = Place {
                    pack,
                    offset: blob.offset,
                    length: blob.length,
                    plain_length: blob.uncompressed_length,
                };
                index.blobs.entry((blob.kind, blob.id)).or_insert(place);
            }
        }
        Ok(index)
    }

    pub(crate) fn get(&self, kind: BlobKind, id: Id) -> Option<&Place> {
        self.blobs.get(&(kind, id))
    }

    pub(crate) fn pack_of(&self, kind: BlobKind, id: Id) -> Option<Id> {
        self.get(kind, id).and_then(|place| self.packs.get(place.pack as usize)).copied()
    }
}

/// Reads blobs by name, from several threads.
pub(crate) struct Blobs<'a> {
    folder: &'a Folder,
    key: &'a Key,
    pub(crate) index: &'a Index,
    open: Mutex<HashMap<u32, Arc<File>>>,
}

impl<'a> Blobs<'a> {
    pub(crate) fn new(folder: &'a Folder, key: &'a Key, index: &'a Index) -> Self {
        Self { folder, key, index, open: Mutex::default() }
    }

    pub(crate) fn opener(&self) -> Result<Opener<'a>, ErrorBody> {
        Opener::new(self.key)
    }

    /// A blob, when it is there and what its name says.
    pub(crate) fn read(&self, opener: &mut Opener<'_>, kind: BlobKind, id: Id) -> Result<Vec<u8>, ErrorBody> {
        let place = self.index.get(kind, id).ok_or_else(|| missing(id))?;
        let pack = self.index.packs.get(place.pack as usize).copied().ok_or_else(|| missing(id))?;
        let mut sealed = vec![0; place.length as usize];
        self.file(place.pack, pack)?.read_exact_at(&mut sealed, u64::from(place.offset)).map_err(
            |failed| {
                if failed.kind() == std::io::ErrorKind::UnexpectedEof {
                    error::damaged(format!("The pack {pack} is too short."))
                } else {
                    error::io(&self.folder.path(Kind::Pack, pack), &failed)
                }
            },
        )?;
        opener.open(id, &sealed, place.plain_length)
    }

    /// A directory.
    pub(crate) fn tree(&self, opener: &mut Opener<'_>, id: Id) -> Result<Tree, ErrorBody> {
        let text = self.read(opener, BlobKind::Tree, id)?;
        serde_json::from_slice(&text).map_err(|wrong| error::damaged(format!("The directory {id}: {wrong}.")))
    }

    fn file(&self, at: u32, id: Id) -> Result<Arc<File>, ErrorBody> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&at) {
            return Ok(Arc::clone(file));
        }
        if open.len() >= OPEN_PACKS {
            open.clear();
        }
        let file = Arc::new(self.folder.open(Kind::Pack, id)?);
        open.insert(at, Arc::clone(&file));
        Ok(file)
    }
}

pub(crate) fn missing(id: Id) -> ErrorBody {
    error::damaged(format!("The block {id} is missing."))
}
