//! Files written with progress: unpacked, or copied byte by byte. Blocks of zeros become holes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use voidvm_model::{Bytes, ErrorBody, ErrorCode};
use voidvm_qemu::image::Packing;

use super::work::{Reporter, Stopped};
use crate::ops::files::io_error;
use crate::storage::Room;

/// Read and written at a time.
const PIECE: usize = 1 << 20;
/// Zeros shorter than this are written.
const BLOCK: usize = 64 << 10;
/// The same, as a step of the file.
const HOLE: i64 = 64 << 10;
/// The free space is looked at after so much was written.
pub(super) const LOOK_EVERY: u64 = 64 << 20;

/// Unpacks `source` into the new file `target`; progress is in bytes of the source.
pub(super) fn unpack(
    source: &Path,
    packing: Packing,
    (target, room): (&Path, &Room),
    report: &Reporter,
) -> Result<(), Stopped> {
    let read = Arc::new(AtomicU64::new(0));
    let file = File::open(source).map_err(|error| io_error(source, &error))?;
    let counted = Counted { file: BufReader::with_capacity(PIECE, file), read: Arc::clone(&read) };
    let decoder: Box<dyn Read> = match packing {
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(counted)),
        Packing::Xz => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(counted)),
        Packing::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(counted)),
        Packing::Zstd => {
            Box::new(zstd::Decoder::with_buffer(counted).map_err(|error| io_error(source, &error))?)
        }
    };
    pour(decoder, source, (target, room), &mut |_| report.done(read.load(Ordering::Relaxed)))
}

/// Copies `source` into the new file `target`, as a second name for the same blocks where the file system can.
pub(super) fn copy(source: &Path, (target, room): (&Path, &Room), report: &Reporter) -> Result<(), Stopped> {
    let from = File::open(source).map_err(|error| io_error(source, &error))?;
    let to = create(target).map_err(|error| io_error(target, &error))?;
    if rustix::fs::ioctl_ficlone(&to, &from).is_ok() {
        return to.sync_all().map_err(|error| io_error(target, &error).into());
    }
    drop(to);
    std::fs::remove_file(target).map_err(|error| io_error(target, &error))?;
    pour(from, source, (target, room), &mut |written| report.done(written))
}

fn create(target: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().write(true).create_new(true).mode(0o600).open(target)
}

/// A reader that knows how far it is.
struct Counted {
    file: BufReader<File>,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(into)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl BufRead for Counted {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.file.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.read.fetch_add(amount as u64, Ordering::Relaxed);
        self.file.consume(amount);
    }
}

/// Writes all that comes into the new file `target`; nothing of it is left when this fails.
fn pour(
    mut from: impl Read,
    source: &Path,
    (target, room): (&Path, &Room),
    report: &mut dyn FnMut(u64) -> Result<(), Stopped>,
) -> Result<(), Stopped> {
    let poured = pour_into(&mut from, source, (target, room), report);
    if poured.is_err()
        && let Err(error) = std::fs::remove_file(target)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %target.display(), %error, "a part cannot be removed");
    }
    poured
}

fn pour_into(
    from: &mut impl Read,
    source: &Path,
    (target, room): (&Path, &Room),
    report: &mut dyn FnMut(u64) -> Result<(), Stopped>,
) -> Result<(), Stopped> {
    let unwritable = |error: io::Error| io_error(target, &error);
    let mut to = create(target).map_err(unwritable)?;
    let (mut piece, mut length, mut looked) = (vec![0; PIECE], 0_u64, 0_u64);
    loop {
        let filled = fill(from, &mut piece).map_err(|error| broken(source, &error))?;
        for block in piece[..filled].chunks(BLOCK) {
            if block.len() == BLOCK && block.iter().all(|byte| *byte == 0) {
                to.seek(SeekFrom::Current(HOLE)).map_err(unwritable)?;
            } else {
                to.write_all(block).map_err(unwritable)?;
            }
        }
        length += filled as u64;
        report(length)?;
        if filled < PIECE {
            to.set_len(length).map_err(unwritable)?;
            return to.sync_all().map_err(|error| unwritable(error).into());
        }
        if length - looked >= LOOK_EVERY {
            looked = length;
            room.check(Bytes(0))?;
        }
    }
}

/// Fills the piece as far as there is something.
fn fill(from: &mut impl Read, piece: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < piece.len() {
        match from.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// What a packed file that ends too early, or was changed on the way, looks like.
fn broken(source: &Path, error: &io::Error) -> ErrorBody {
    if error.raw_os_error().is_some() {
        return io_error(source, error);
    }
    ErrorBody::new(ErrorCode::ImageInvalid, "The packed file is broken or cut off.")
        .with_hint("Download or copy it again.")
        .with_detail("path", source.to_string_lossy().into_owned())
        .with_detail("reason", error.to_string())
}
