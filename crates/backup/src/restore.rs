//! Gives back what was backed up: a disk into a sparse file or at offsets, a small file as bytes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use voidvm_model::{ErrorBody, ErrorCode};

use crate::error;
use crate::id::{BackupId, Id};
use crate::index::{Blobs, Index};
use crate::intake::is_zero;
use crate::lock::Lock;
use crate::record::{BlobKind, Node};
use crate::repository::{Backup, DISKS, Repository};
use crate::source::{Progress, Stage, Watch};
use crate::walk;

/// So much of zeros is left out of a sparse file.
const HOLE: usize = 64 << 10;

/// Where a disk is restored to. It reads as zeros wherever nothing was written. It is written to from several threads, each place
/// once.
pub trait DiskSink: Sync {
    /// How long it will be.
    ///
    /// # Errors
    /// When it cannot be; the restore is given up then.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Writes at an offset.
    ///
    /// # Errors
    /// When it cannot be written; the restore is given up then.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Everything was written.
    ///
    /// # Errors
    /// When it is not safely where it belongs.
    fn finish(&self) -> io::Result<()>;
}

/// A new file with holes where the disk has zeros.
#[derive(Debug)]
pub struct SparseFile(File);

impl SparseFile {
    /// Makes the file.
    ///
    /// # Errors
    /// When it is there already, or cannot be made.
    pub fn create(path: &Path) -> Result<Self, ErrorBody> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        file.map(Self).map_err(|failed| {
            if failed.kind() == io::ErrorKind::AlreadyExists {
                return ErrorBody::new(ErrorCode::FileInUse, format!("{} is there already.", path.display()))
                    .with_hint("Choose another name.");
            }
            error::io(path, &failed)
        })
    }
}

impl DiskSink for SparseFile {
    fn set_size(&self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut at = offset;
        for piece in data.chunks(HOLE) {
            if !is_zero(piece) {
                self.0.write_all_at(piece, at)?;
            }
            at += piece.len() as u64;
        }
        Ok(())
    }

    fn finish(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

/// Where each block of a file begins, and its name.
struct Layout {
    size: u64,
    blocks: Vec<(u64, Id)>,
}

impl Layout {
    fn of(index: &Index, node: &Node) -> Result<Self, ErrorBody> {
        let mut end = 0;
        let mut blocks = Vec::new();
        for id in node.content.iter().flatten() {
            let place = index.get(BlobKind::Data, *id).ok_or_else(|| crate::index::missing(*id))?;
            blocks.push((end, *id));
            end += u64::from(place.plain_length());
        }
        if end == node.size {
            Ok(Self { size: end, blocks })
        } else {
            Err(error::damaged(format!("{} is not as long as it should be.", node.name())))
        }
    }
}

impl Repository {
    /// Restores a disk; `machine` is the machine's directory in the backup.
    ///
    /// # Errors
    /// When it is not there, is damaged, cannot be written, or somebody cancels. What was written so far means nothing then.
    pub fn restore(
        &self,
        backup: BackupId,
        (machine, disk): (&str, &str),
        sink: &dyn DiskSink,
        watch: &dyn Watch,
    ) -> Result<(), ErrorBody> {
        let lock = Lock::for_reading(&self.folder, &self.key)?;
        let index = Index::read(&self.folder, &self.key)?;
        let blobs = Blobs::new(&self.folder, &self.key, &index);
        let root = self.snapshot_of(backup)?.tree;
        let node = walk::file(&blobs, &mut blobs.opener()?, root, &[machine, DISKS, disk])?;
        let layout = Layout::of(&index, &node)?;
        let wrong = |failed: io::Error| error::io(Path::new(disk), &failed);
        sink.set_size(layout.size).map_err(wrong)?;

        let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
        each_on_threads(&|failed| {
            let mut opener = blobs.opener()?;
            let mut zeros = None;
            while let Some((offset, id)) = layout.blocks.get(next.fetch_add(1, Ordering::Relaxed)) {
                if failed.load(Ordering::Relaxed) {
                    return Ok(());
                }
                if watch.cancelled() {
                    return Err(error::cancelled());
                }
                if let Some(lock) = &lock {
                    lock.check()?;
                }
                let length =
                    index.get(BlobKind::Data, *id).map_or(0, |place| u64::from(place.plain_length()));
                if zeros != Some(*id) {
                    let block = blobs.read(&mut opener, BlobKind::Data, *id)?;
                    if is_zero(&block) {
                        zeros = Some(*id);
                    } else {
                        sink.write_at(*offset, &block).map_err(wrong)?;
                    }
                }
                let done = done.fetch_add(length, Ordering::Relaxed) + length;
                watch.progress(Progress { stage: Stage::Restoring, done, total: layout.size });
            }
            Ok(())
        })?;
        sink.finish().map_err(wrong)
    }

    /// A small file of a machine, by its path in the machine's directory.
    ///
    /// # Errors
    /// When it is not there, or damaged.
    pub fn read_file(&self, backup: BackupId, machine: &str, path: &str) -> Result<Vec<u8>, ErrorBody> {
        let index = Index::read(&self.folder, &self.key)?;
        let blobs = Blobs::new(&self.folder, &self.key, &index);
        let mut opener = blobs.opener()?;
        let root = self.snapshot_of(backup)?.tree;
        let whole: Vec<&str> = std::iter::once(machine).chain(path.split('/')).collect();
        let node = walk::file(&blobs, &mut opener, root, &whole)?;
        let mut content = Vec::new();
        for id in node.content.iter().flatten() {
            content.append(&mut blobs.read(&mut opener, BlobKind::Data, *id)?);
        }
        Ok(content)
    }

    /// A disk to be read at offsets without restoring it first, as long as the reader is held.
    ///
    /// # Errors
    /// When it is not there, or damaged.
    pub fn read_disk(
        &self,
        backup: BackupId,
        machine: &str,
        disk: &str,
    ) -> Result<DiskReader<'_>, ErrorBody> {
        let lock = Lock::for_reading(&self.folder, &self.key)?;
        let index = Index::read(&self.folder, &self.key)?;
        let layout = {
            let blobs = Blobs::new(&self.folder, &self.key, &index);
            let root = self.snapshot_of(backup)?.tree;
            let node = walk::file(&blobs, &mut blobs.opener()?, root, &[machine, DISKS, disk])?;
            Layout::of(&index, &node)?
        };
        Ok(DiskReader { repository: self, index, layout, last: Mutex::new(None), _lock: lock })
    }

    /// A backup by its name.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub fn find(&self, id: BackupId) -> Result<Backup, ErrorBody> {
        self.snapshot_of(id)?;
        let found = self.backups()?;
        if let Some((_, problem)) = found.damaged.into_iter().find(|(damaged, _)| *damaged == id) {
            return Err(problem);
        }
        found.backups.into_iter().find(|backup| backup.id == id).ok_or_else(|| {
            ErrorBody::new(ErrorCode::NotFound, format!("{id} is a snapshot of another program."))
        })
    }
}

/// Reads a disk of a backup at offsets.
pub struct DiskReader<'a> {
    repository: &'a Repository,
    index: Index,
    layout: Layout,
    /// The block that was read last.
    last: Mutex<Option<(Id, Vec<u8>)>>,
    _lock: Option<Lock>,
}

impl DiskReader<'_> {
    /// The disk's size.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.layout.size
    }

    /// Fills the buffer with what is at `offset`.
    ///
    /// # Errors
    /// Beyond the end, and where the backup is damaged.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ErrorBody> {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.layout.size) {
            return Err(ErrorBody::invalid("offset", "That is beyond the end of the disk."));
        }
        let blobs = Blobs::new(&self.repository.folder, &self.repository.key, &self.index);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut at, mut left) = (offset, buffer);
        while !left.is_empty() {
            let block = self.layout.blocks.partition_point(|(start, _)| *start <= at).saturating_sub(1);
            let (start, id) =
                self.layout.blocks.get(block).copied().ok_or_else(|| error::internal("No such block."))?;
            if last.as_ref().is_none_or(|(held, _)| *held != id) {
                *last = Some((id, blobs.read(&mut blobs.opener()?, BlobKind::Data, id)?));
            }
            let content = last.as_ref().map(|(_, content)| content.as_slice()).unwrap_or_default();
            let content =
                usize::try_from(at - start).ok().and_then(|skip| content.get(skip..)).unwrap_or_default();
            let length = content.len().min(left.len());
            if length == 0 {
                return Err(error::internal("An empty block."));
            }
            let (filled, rest) = left.split_at_mut(length);
            filled.copy_from_slice(&content[..length]);
            at += length as u64;
            left = rest;
        }
        Ok(())
    }
}

/// Runs a piece of work on as many threads as there are processors, and gives the first failure. The work takes from what is
/// shared until nothing is left, or until what it is given says that another thread failed.
pub(crate) fn each_on_threads(
    work: &(dyn Fn(&AtomicBool) -> Result<(), ErrorBody> + Sync),
) -> Result<(), ErrorBody> {
    let (failure, failed) = (Mutex::new(None), AtomicBool::new(false));
    let run = || {
        if let Err(wrong) = work(&failed) {
            failed.store(true, Ordering::Relaxed);
            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(wrong);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from).min(8) {
            scope.spawn(run);
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}
