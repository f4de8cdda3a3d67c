//! Disks between `qemu-nbd` and a repository.

use std::io;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use voidvm_backup::{DiskSink, DiskSource};
use voidvm_model::spec::DiskFormat;
use voidvm_model::{Bytes, DeviceId, ErrorBody, ErrorCode};
use voidvm_qemu::image::{ImageError, QemuImg};
use voidvm_qemu::nbd::{Access, Client, QemuNbd, Server};

use crate::shared::Shared;
use crate::storage::Room;

/// What a disk is called in a backup.
pub(super) fn file_of(disk: &DeviceId) -> String {
    format!("{disk}.raw")
}

/// Opens an image for a piece of work of its own.
///
/// # Errors
/// Why it cannot be opened.
pub(super) async fn open(
    shared: &Shared,
    img: &QemuImg,
    image: (&Path, DiskFormat),
    access: Access,
) -> Result<(Server, Client<UnixStream>), ErrorBody> {
    // The runtime directory is the user's alone, and a name of its own keeps two at once apart.
    let name = uuid::Uuid::new_v4().simple().to_string();
    let socket: PathBuf = shared.config.runtime_dir.join(format!("nbd-{}", &name[..12]));
    let nbd = QemuNbd::beside(img);
    nbd.open(image, access, &socket).await.map_err(|error| match error {
        ImageError::Exec { .. } => ErrorBody::new(ErrorCode::QemuNotFound, "qemu-nbd cannot be run.")
            .with_hint("Install the package qemu-utils.")
            .with_detail("reason", error.to_string()),
        other => other.body(),
    })
}

/// A disk that is backed up.
pub(super) struct Source {
    client: Client<UnixStream>,
    /// From here up to there it is known whether all is zeros.
    known: Range<u64>,
    zero: bool,
}

impl Source {
    pub(super) const fn new(client: Client<UnixStream>) -> Self {
        Self { client, known: 0..0, zero: false }
    }

    pub(super) fn leave(&mut self) {
        self.client.leave();
    }

    /// What is in one of so many outermost files of the image. None where that cannot be told.
    pub(super) fn held_above(&mut self, files: u32) -> Option<Vec<Range<u64>>> {
        // Of the image itself there is nothing above.
        if files == 0 {
            return Some(Vec::new());
        }
        let held = self.client.held_above(files);
        held.inspect_err(|error| tracing::warn!(%error, "a disk is read as a whole")).ok().flatten()
    }
}

impl DiskSource for Source {
    fn size(&self) -> u64 {
        self.client.size()
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.client.read_at(offset, buffer)
    }

    fn is_zero(&mut self, range: Range<u64>) -> io::Result<bool> {
        let mut at = range.start;
        while at < range.end {
            if !self.known.contains(&at) {
                let extent = self.client.extent(at, self.size().saturating_sub(at))?;
                (self.known, self.zero) = (at..at + extent.length, extent.zero);
            }
            if !self.zero {
                return Ok(false);
            }
            at = self.known.end;
        }
        Ok(true)
    }
}

/// A new disk that is restored to; the free space its pool is to keep stays.
pub(super) struct Sink {
    client: Mutex<Client<UnixStream>>,
    room: Room,
}

impl Sink {
    pub(super) const fn new(client: Client<UnixStream>, room: Room) -> Self {
        Self { client: Mutex::new(client), room }
    }

    pub(super) fn leave(self) {
        self.client.into_inner().unwrap_or_else(PoisonError::into_inner).leave();
    }
}

impl DiskSink for Sink {
    fn set_size(&self, size: u64) -> io::Result<()> {
        // It was made as large as the backup says its disk is.
        if self.client.lock().unwrap_or_else(PoisonError::into_inner).size() == size {
            return Ok(());
        }
        let wrong =
            ErrorBody::new(ErrorCode::ChecksumMismatch, "A disk of the backup is not as long as it says.")
                .with_hint("Verify the backups.");
        Err(io::Error::other(wrong))
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room.check(Bytes(data.len() as u64)).map_err(io::Error::other)?;
        self.client.lock().unwrap_or_else(PoisonError::into_inner).write_at(offset, data)
    }

    fn finish(&self) -> io::Result<()> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}
