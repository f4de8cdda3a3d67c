//! Where a disk's content comes from, and who watches while it is taken.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::SeekFrom;
use voidvm_model::ErrorBody;

use crate::error;

/// The content of a disk as it was at one instant, read at offsets: a raw file, an NBD export, a chain of qcow2 images behind a
/// program that reads it. It is asked from one thread, in ascending order, and never for more than [`crate::BLOCK`] bytes.
///
/// An [`io::Error`] that carries an [`ErrorBody`] reaches the user as that.
pub trait DiskSource: Send {
    /// The disk's size; it does not change while it is read.
    fn size(&self) -> u64;

    /// Fills the buffer with what is at `offset`.
    ///
    /// # Errors
    /// When it cannot be read; the backup is given up then.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Whether a range is known to read as zeros without reading it: a hole, an unallocated cluster. No is always a right answer.
    ///
    /// # Errors
    /// When it cannot be told; the backup is given up then.
    fn is_zero(&mut self, _range: Range<u64>) -> io::Result<bool> {
        Ok(false)
    }
}

/// A raw file, read around its holes.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    size: u64,
    /// From here up to there the file is known to be a hole.
    hole: Range<u64>,
}

impl FileSource {
    /// Opens a raw file.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, ErrorBody> {
        let opened = || -> io::Result<Self> {
            let file = File::open(path)?;
            // The size of a block device is where it ends.
            let size = rustix::fs::seek(&file, SeekFrom::End(0))?;
            Ok(Self { file, size, hole: 0..0 })
        };
        opened().map_err(|failed| error::io(path, &failed))
    }
}

impl DiskSource for FileSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn is_zero(&mut self, range: Range<u64>) -> io::Result<bool> {
        if !self.hole.contains(&range.start) {
            let end = match rustix::fs::seek(&self.file, SeekFrom::Data(range.start)) {
                Ok(data) => data,
                // No data from here on.
                Err(rustix::io::Errno::NXIO) => self.size,
                // A file system that does not tell.
                Err(_) => range.start,
            };
            self.hole = range.start..end;
        }
        Ok(range.end <= self.hole.end)
    }
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Disks are read; the numbers are bytes of them.
    Reading,
    /// What was read is made a backup.
    Finishing,
    /// Disks are written.
    Restoring,
    /// What is there is checked; the numbers are bytes of the repository, or backups where no data are read.
    Verifying,
    /// What is still needed is found; the numbers are backups.
    Marking,
    /// What is needed is moved out of what is not; the numbers are bytes of the repository.
    Repacking,
    /// What is not needed is removed; the numbers are files.
    Removing,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// With what.
    pub stage: Stage,
    /// Up to here.
    pub done: u64,
    /// Out of this.
    pub total: u64,
}

/// Watches work that takes long. It is asked and told often, from any thread; `()` watches nothing.
pub trait Watch: Sync {
    /// How far it is.
    fn progress(&self, _progress: Progress) {}

    /// Whether it is to end.
    fn cancelled(&self) -> bool {
        false
    }
}

impl Watch for () {}
