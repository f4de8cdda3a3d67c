//! Machines as files: writing and reading tar archives, compressed or not, with the checksum of every file in them.
//!
//! Invariants: a name in an archive is one plain name, and only files with names that were expected are written; an entry is never
//! larger than was said beforehand; nothing that was read counts before its checksum fits.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use voidvm_model::{ErrorBody, ErrorCode};

use super::files;

/// The largest description in an archive.
pub(super) const TEXT_MAX: u64 = 4 << 20;

/// How much was done, and whether to go on.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    pub(super) done: watch::Sender<u64>,
    pub(super) cancel: CancellationToken,
}

impl Meter {
    fn add(&self, count: usize) -> io::Result<()> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other(Cancelled));
        }
        self.done.send_modify(|done| *done += count as u64);
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cancelled")]
struct Cancelled;

/// Reads through, counts and hashes.
struct Hashed<'a, R> {
    inner: R,
    hash: Sha256,
    meter: &'a Meter,
}

impl<R: Read> Read for Hashed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.meter.add(count)?;
        Ok(count)
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// An archive being written.
pub(super) struct Packer<W: Write> {
    tar: tar::Builder<W>,
    /// What was written: name and SHA-256.
    pub(super) sums: Vec<(String, String)>,
}

impl<W: Write> Packer<W> {
    pub(super) fn new(to: W) -> Self {
        Self { tar: tar::Builder::new(to), sums: Vec::new() }
    }

    pub(super) fn text(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.tar.append_data(&mut head(content.len() as u64), name, content)?;
        self.sums.push((name.to_owned(), hex(&Sha256::digest(content))));
        Ok(())
    }

    pub(super) fn file(&mut self, name: &str, path: &Path, meter: &Meter) -> io::Result<()> {
        let file = File::open(path)?;
        let mut header = head(file.metadata()?.len());
        let mut content = Hashed { inner: file, hash: Sha256::new(), meter };
        self.tar.append_data(&mut header, name, &mut content)?;
        self.sums.push((name.to_owned(), hex(&content.hash.finalize())));
        Ok(())
    }

    pub(super) fn finish(self) -> io::Result<W> {
        self.tar.into_inner()
    }
}

fn head(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::Regular);
    header
}

/// What became of reading an archive.
pub(super) struct Unpacked {
    /// Texts by name.
    pub(super) texts: BTreeMap<String, Vec<u8>>,
    /// SHA-256 of each file, by name.
    pub(super) sums: BTreeMap<String, String>,
}

/// Reads an archive to its end. `place` says where a file is written; texts (`.json`, `.ovf`, `.mf`) are kept; everything else is
/// refused when `strict`, else passed over.
pub(super) fn unpack(
    from: impl Read,
    place: &dyn Fn(&str) -> Option<PathBuf>,
    strict: Strict,
    meter: &Meter,
) -> Result<Unpacked, ErrorBody> {
    let mut unpacked = Unpacked { texts: BTreeMap::new(), sums: BTreeMap::new() };
    let mut archive = tar::Archive::new(from);
    for entry in archive.entries().map_err(|error| broken(&error))? {
        let mut entry = entry.map_err(|error| broken(&error))?;
        let name = name_of(&entry)?;
        if unpacked.sums.contains_key(&name) {
            return Err(refused(&format!("{name:?} is in it twice")));
        }
        if let Some(path) = place(&name) {
            let mut content = Hashed { inner: &mut entry, hash: Sha256::new(), meter };
            write_new(&path, &mut content).map_err(|error| io_or_cancel(&path, &error))?;
            unpacked.sums.insert(name, hex(&content.hash.finalize()));
        } else if is_text(&name) {
            let text = read_text(&mut entry)?;
            unpacked.sums.insert(name.clone(), hex(&Sha256::digest(&text)));
            unpacked.texts.insert(name, text);
        } else if strict == Strict::Yes {
            return Err(refused(&format!("{name:?} does not belong there")));
        }
    }
    Ok(unpacked)
}

/// Whether an archive may hold what nobody asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Strict {
    Yes,
    No,
}

/// The first text of that ending.
pub(super) fn first_text(from: impl Read, ending: &str) -> Result<Option<(String, Vec<u8>)>, ErrorBody> {
    let mut archive = tar::Archive::new(from);
    for entry in archive.entries().map_err(|error| broken(&error))? {
        let mut entry = entry.map_err(|error| broken(&error))?;
        let name = name_of(&entry)?;
        if name.to_ascii_lowercase().ends_with(ending) {
            return read_text(&mut entry).map(|text| Some((name, text)));
        }
    }
    Ok(None)
}

fn is_text(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    [".json", ".ovf", ".mf"].iter().any(|end| lower.ends_with(end))
}

fn read_text(entry: &mut impl Read) -> Result<Vec<u8>, ErrorBody> {
    let mut text = Vec::new();
    entry.take(TEXT_MAX + 1).read_to_end(&mut text).map_err(|error| broken(&error))?;
    if text.len() as u64 > TEXT_MAX {
        Err(refused("a description in it is larger than 4 MiB"))
    } else {
        Ok(text)
    }
}

/// An entry's name: one plain name of a regular file.
fn name_of<R: Read>(entry: &tar::Entry<'_, R>) -> Result<String, ErrorBody> {
    let path = entry.path().map_err(|error| broken(&error))?;
    let shown = path.display().to_string();
    if !matches!(entry.header().entry_type(), tar::EntryType::Regular | tar::EntryType::Continuous) {
        return Err(refused(&format!("{shown:?} is no ordinary file")));
    }
    let plain = path.strip_prefix("./").unwrap_or(&path);
    match (plain.file_name().and_then(|name| name.to_str()), plain.components().count()) {
        (Some(name), 1) if !name.chars().any(char::is_control) => Ok(name.to_owned()),
        _ => Err(refused(&format!("{shown:?} leads out of it"))),
    }
}

fn write_new(path: &Path, content: &mut impl Read) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    io::copy(content, &mut file)?;
    file.sync_all()
}

/// An error of writing, or the word that it was given up.
pub(super) fn io_or_cancel(path: &Path, error: &io::Error) -> ErrorBody {
    if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync + 'static>::is::<Cancelled>) {
        return ErrorBody::new(ErrorCode::Cancelled, "Cancelled.");
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            broken(error)
        }
        _ => files::io_error(path, error),
    }
}

fn broken(error: &io::Error) -> ErrorBody {
    if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync + 'static>::is::<Cancelled>) {
        return ErrorBody::new(ErrorCode::Cancelled, "Cancelled.");
    }
    ErrorBody::new(ErrorCode::ImageInvalid, "The archive is broken or cut off.")
        .with_field("path")
        .with_hint("Copy or download it again.")
        .with_detail("reason", error.to_string())
}

pub(super) fn refused(why: &str) -> ErrorBody {
    ErrorBody::new(ErrorCode::ImageInvalid, format!("The archive is refused: {why}."))
        .with_field("path")
        .with_hint("Get it from somebody you trust, or export the machine again.")
}
