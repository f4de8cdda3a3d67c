//! A snapshot's memory on the disk: packed once nobody has wanted it for a while, and with a checksum, so that what a crash of the
//! computer has damaged is not taken for memory.
//!
//! ```text
//! memory ─▶ memory.zst.part ─▶ memory.json ─▶ memory.zst ─▶ memory removed
//!    └─ packing saves next to nothing: it stays, with its checksum
//! ```
//! Invariants: at every instant one whole file is there under one of the two names; the checksum is of the file as it lies
//! there; packing is work for a thread that gives way to everybody.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use voidvm_model::{Bytes, ErrorBody, ErrorCode};

use super::job::given_up;
use super::kept;
use crate::ops::{build, files};
use crate::shared::Shared;

pub(super) const NOTE: &str = "memory.json";
pub(super) const PACKED: &str = "memory.zst";
/// What packing must save to be worth it: a tenth.
const WORTH: u64 = 10;
/// Fast; more saves little of what memory holds.
const LEVEL: i32 = 1;
const PIECE: usize = 1 << 20;
/// As nice as an ordinary user's work in the background.
const NICENESS: i32 = 10;
/// How a packed file begins.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What is known of the memory's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Note {
    /// Its name.
    file: String,
    size: u64,
    /// SHA-256 of the file, in hexadecimal.
    checksum: String,
    /// When that was seen to be so.
    seen_at: Timestamp,
}

impl Note {
    fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(dir.join(NOTE)).ok()?).ok()
    }

    fn write(&self, dir: &Path) -> Result<(), ErrorBody> {
        let bytes = serde_json::to_vec(self).map_err(|error| {
            ErrorBody::new(ErrorCode::Internal, format!("A checksum cannot be written down: {error}."))
        })?;
        build::write_file(&dir.join(NOTE), &bytes)
    }
}

/// Whether a snapshot's memory has been packed, or found not to be worth it.
pub(super) fn is_done(dir: &Path) -> bool {
    Note::read(dir).is_some()
}

pub(super) fn is_packed(dir: &Path) -> bool {
    dir.join(PACKED).exists()
}

/// Removes what a kill has left.
pub(super) fn tidy(dir: &Path) {
    let packed = dir.join(PACKED);
    drop(files::remove(&[build::part_of(&packed), build::part_of(&dir.join(NOTE))]));
    if packed.exists() {
        // It has its name, so it is whole.
        drop(files::remove(&[kept::unpacked(dir)]));
    }
}

/// What packing came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) before: Bytes,
    pub(super) after: Bytes,
}

struct Hashing<W> {
    to: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Hashing<W> {
    fn new(to: W) -> Self {
        Self { to, hash: Sha256::new(), size: 0 }
    }

    fn note(self, file: &str) -> Note {
        Note {
            file: file.to_owned(),
            size: self.size,
            checksum: hex(&self.hash.finalize()),
            seen_at: Timestamp::now(),
        }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Packs a snapshot's memory, on a thread that gives way.
///
/// # Errors
/// What the file system says; given up. The memory is what it was then.
pub(super) async fn pack(
    dir: PathBuf,
    cancel: CancellationToken,
    progress: impl Fn(u64, u64) + Send + 'static,
) -> Result<Packed, ErrorBody> {
    aside(move || {
        let packed = pack_now(&dir, &cancel, &progress);
        if packed.is_err() {
            drop(files::remove(&[build::part_of(&dir.join(PACKED))]));
        }
        packed
    })
    .await
}

/// Runs something on a thread of its own that gives way to everybody.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ErrorBody> + Send + 'static,
) -> Result<T, ErrorBody> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("memory".to_owned()).spawn(move || {
        // On Linux this is the thread's alone.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        let _ = tell.send(work());
    });
    let lost =
        |why: String| ErrorBody::new(ErrorCode::Internal, format!("The work could not be done: {why}."));
    drop(thread.map_err(|error| lost(error.to_string()))?);
    told.await.unwrap_or_else(|_| Err(lost("it ended early".to_owned())))
}

fn pack_now(
    dir: &Path,
    cancel: &CancellationToken,
    progress: &dyn Fn(u64, u64),
) -> Result<Packed, ErrorBody> {
    let (from, to) = (kept::unpacked(dir), dir.join(PACKED));
    let part = build::part_of(&to);
    let failed = |error: io::Error| files::io_error(&from, &error);
    let mut memory = File::open(&from).map_err(failed)?;
    let before = memory.metadata().map_err(failed)?.len();
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let target = Hashing::new(options.open(&part).map_err(failed)?);
    let mut encoder = zstd::stream::Encoder::new(target, LEVEL).map_err(failed)?;
    encoder.include_checksum(true).map_err(failed)?;
    let mut plain = Hashing::new(io::sink());
    let mut piece = vec![0; PIECE];
    loop {
        if cancel.is_cancelled() {
            return Err(given_up());
        }
        let read = memory.read(&mut piece).map_err(failed)?;
        if read == 0 {
            break;
        }
        plain.write_all(&piece[..read]).map_err(failed)?;
        encoder.write_all(&piece[..read]).map_err(failed)?;
        progress(plain.size, before);
    }
    let packed = encoder.finish().map_err(failed)?;
    let after = packed.size;
    if after > before - before / WORTH {
        drop(packed);
        files::remove(&[part])?;
        plain.note(kept::MEMORY).write(dir)?;
        return Ok(Packed { before: Bytes(before), after: Bytes(before) });
    }
    packed.to.sync_all().map_err(failed)?;
    // Its checksum is there before it is; until then it is of no file that has a name.
    packed.note(PACKED).write(dir)?;
    std::fs::rename(&part, &to).map_err(failed)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    files::remove(&[from])?;
    Ok(Packed { before: Bytes(before), after: Bytes(after) })
}

/// Makes sure that a snapshot's memory is what was written, where the computer has ended uncleanly since.
///
/// # Errors
/// [`ErrorCode::ImageInvalid`] when it is not.
pub(super) async fn check(shared: &Shared, dir: &Path) -> Result<(), ErrorBody> {
    let Some(since) = shared.preparing.distrusted() else { return Ok(()) };
    let Some(note) = Note::read(dir).filter(|note| note.seen_at < since) else { return Ok(()) };
    let (dir, path) = (dir.to_owned(), kept::memory(dir));
    if path.file_name() != Some(std::ffi::OsStr::new(&note.file)) {
        // A kill between the checksum and the name: it says nothing of this file.
        return Ok(());
    }
    super::job::blocking(move || {
        let failed = |error: io::Error| files::io_error(&path, &error);
        let mut sum = Hashing::new(io::sink());
        io::copy(&mut File::open(&path).map_err(failed)?, &mut sum).map_err(failed)?;
        let now = sum.note(&note.file);
        if (now.size, &now.checksum) != (note.size, &note.checksum) {
            return Err(ErrorBody::new(
                ErrorCode::ImageInvalid,
                format!("{} is damaged: its checksum is not the one it was written with.", path.display()),
            )
            .with_hint("The computer went down since. Restore the snapshot to a stopped machine: its disks are not in this file.")
            .with_detail("expected", note.checksum.as_str())
            .with_detail("found", now.checksum.as_str()));
        }
        now.write(&dir)
    })
    .await
}

/// Opens memory to be read by QEMU: the file, or what comes out of it, where it is packed.
///
/// # Errors
/// What the file system says.
pub(crate) fn open(path: &Path) -> Result<OwnedFd, ErrorBody> {
    let failed = |error: io::Error| files::io_error(path, &error);
    let mut file = File::open(path).map_err(failed)?;
    let mut magic = [0; MAGIC.len()];
    let packed = file.read_exact(&mut magic).is_ok() && magic == MAGIC;
    file.rewind().map_err(failed)?;
    if !packed {
        return Ok(file.into());
    }
    let (reader, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    // Best effort: fewer switches between the two.
    let _ = rustix::pipe::fcntl_setpipe_size(&writer, PIECE);
    let shown = path.to_owned();
    let unpack = move || {
        let unpacked = zstd::stream::copy_decode(file, File::from(writer));
        match unpacked {
            // Whoever reads has heard enough: what follows the machine is nothing.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                tracing::error!(path = %shown.display(), %error, "packed memory cannot be read");
            }
            _ => {}
        }
    };
    std::thread::Builder::new().name("memory".to_owned()).spawn(unpack).map_err(failed)?;
    Ok(reader)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn memory(dir: &Path, content: &[u8]) {
        std::fs::write(kept::unpacked(dir), content).unwrap();
    }

    fn noise(size: usize) -> Vec<u8> {
        let mut seed = 7_u64;
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed.to_le_bytes()
        };
        (0..size / 8).flat_map(|_| next()).collect()
    }

    async fn packed(dir: &Path) -> Packed {
        pack(dir.to_owned(), CancellationToken::new(), |_, _| ()).await.unwrap()
    }

    fn read(dir: &Path) -> Vec<u8> {
        let mut content = Vec::new();
        File::from(open(&kept::memory(dir)).unwrap()).read_to_end(&mut content).unwrap();
        content
    }

    #[tokio::test]
    async fn memory_is_packed_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let content = noise(64 << 10).repeat(64);
        memory(dir.path(), &content);
        assert_eq!(read(dir.path()), content);
        let Packed { before, after } = packed(dir.path()).await;
        assert!(after.0 < before.0 / 2, "{after:?}");
        assert!(is_packed(dir.path()) && is_done(dir.path()) && !kept::unpacked(dir.path()).exists());
        assert_eq!(read(dir.path()), content);
        tidy(dir.path());
        assert_eq!(read(dir.path()), content);
    }

    #[tokio::test]
    async fn what_gets_no_smaller_stays_and_has_its_checksum() {
        let dir = tempfile::tempdir().unwrap();
        let content = noise(2 << 20);
        memory(dir.path(), &content);
        let Packed { before, after } = packed(dir.path()).await;
        assert_eq!((before, after), (Bytes(2 << 20), Bytes(2 << 20)));
        assert!(!is_packed(dir.path()) && is_done(dir.path()));
        assert_eq!(Note::read(dir.path()).unwrap().file, kept::MEMORY);
        assert_eq!(read(dir.path()), content);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[tokio::test]
    async fn what_is_given_up_or_cut_leaves_the_memory() {
        let dir = tempfile::tempdir().unwrap();
        let content = vec![1; 3 << 20];
        memory(dir.path(), &content);
        let given_up = CancellationToken::new();
        given_up.cancel();
        let ended = pack(dir.path().to_owned(), given_up, |_, _| ()).await.unwrap_err();
        assert_eq!(ended.code, ErrorCode::Cancelled);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        // Cut before the name, and before the memory was removed.
        std::fs::write(build::part_of(&dir.path().join(PACKED)), "part").unwrap();
        tidy(dir.path());
        assert_eq!(read(dir.path()), content);
        packed(dir.path()).await;
        memory(dir.path(), &content);
        tidy(dir.path());
        assert!(!kept::unpacked(dir.path()).exists());
        assert_eq!(read(dir.path()), content);
    }
}
