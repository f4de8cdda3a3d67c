//! Overlays: qcow2 images that hold only what differs from the image they stand on; read and made without a process.
//!
//! Starting `qemu-img` takes longer than everything else a linked clone needs, and an empty overlay is five clusters that are
//! known beforehand:
//!
//! ```text
//! header, backing name │ refcount table │ refcount block │ first-level table (all zero: nothing written yet) …
//! ```
//! Invariants: the format of the image below is always stated in the header; the path is absolute; nothing is replaced.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use voidvm_model::Bytes;
use voidvm_model::spec::DiskFormat;

use super::{ImageError, absolute, format_name};

const MAGIC: &[u8; 4] = b"QFI\xfb";
/// 64 KiB, what `qemu-img` makes as well.
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Bytes one first-level entry stands for: a cluster full of second-level entries.
const PER_L1: u64 = CLUSTER / 8 * CLUSTER;
const HEADER_LENGTH: u32 = 104;
const BACKING_FORMAT: u32 = 0xe279_2aca;
/// The feature bit of an image whose content is in another file.
const EXTERNAL_DATA: u64 = 1 << 2;
/// The longest name of a backing file, as the format says.
const NAME_MAX: usize = 1023;

/// What is read of a qcow2 header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What a guest sees.
    pub virtual_size: Bytes,
    /// What it stands on, as it is written there.
    pub backing: Option<PathBuf>,
    /// Whether nothing was ever written to it: it shows exactly what it stands on.
    pub untouched: bool,
    /// Whether its content is encrypted.
    pub encrypted: bool,
    /// Snapshots inside the file; a copy of the image does not have them.
    pub snapshots: u32,
    /// Whether its content is in another file.
    pub external_data: bool,
}

/// Reads a qcow2 file's header; `None` when it is no qcow2 file.
///
/// # Errors
/// What the file system says.
pub fn header(path: &Path) -> io::Result<Option<Header>> {
    let mut file = File::open(path)?;
    let mut head = [0_u8; 104];
    let read = read_up_to(&mut file, &mut head)?;
    if read < 72 || !head.starts_with(MAGIC) {
        return Ok(None);
    }
    let word = |at: usize| u64::from(u32_at(&head, at));
    let long = |at: usize| (word(at) << 32) | word(at + 4);
    let (name_at, name_length) = (long(8), word(16));
    let backing = if name_at == 0 || name_length == 0 || name_length > NAME_MAX as u64 {
        None
    } else {
        let mut name = vec![0; usize::try_from(name_length).unwrap_or_default()];
        file.seek(SeekFrom::Start(name_at))?;
        file.read_exact(&mut name)?;
        String::from_utf8(name).ok().map(PathBuf::from)
    };
    let untouched = long(40) != 0 && {
        let entries = usize::try_from(word(36)).unwrap_or(usize::MAX).min(4 << 20);
        file.seek(SeekFrom::Start(long(40)))?;
        let mut table = vec![0; entries * 8];
        let read = read_up_to(&mut file, &mut table)?;
        // Internal snapshots keep tables of their own.
        read == table.len() && table.iter().all(|byte| *byte == 0) && word(60) == 0
    };
    // Version 2 has no feature bits.
    let features = if word(4) >= 3 { long(72) } else { 0 };
    Ok(Some(Header {
        virtual_size: Bytes(long(24)),
        backing,
        untouched,
        encrypted: word(32) != 0,
        snapshots: u32_at(&head, 60),
        external_data: features & EXTERNAL_DATA != 0,
    }))
}

/// A file of a chain that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct ChainError {
    /// Which.
    pub path: PathBuf,
    /// What the file system says.
    pub source: io::Error,
}

/// The file and all it stands on, outermost first. Only what qcow2 headers say is followed, 200 files deep at most.
///
/// # Errors
/// The file of the chain that cannot be read, and why.
pub fn backing_files(path: &Path) -> Result<Vec<PathBuf>, ChainError> {
    Chains::default().backing_files(path)
}

/// Reads chains that have files in common: each header once.
#[derive(Debug, Default)]
pub struct Chains(HashMap<PathBuf, Option<PathBuf>>);

impl Chains {
    /// As [`backing_files`].
    ///
    /// # Errors
    /// As [`backing_files`].
    pub fn backing_files(&mut self, path: &Path) -> Result<Vec<PathBuf>, ChainError> {
        let mut files = Vec::new();
        let mut next = Some(path.to_owned());
        while let Some(path) = next.take_if(|_| files.len() < 200) {
            next = match self.0.get(&path) {
                Some(below) => below.clone(),
                None => self.read(&path)?,
            };
            files.push(path);
        }
        Ok(files)
    }

    fn read(&mut self, path: &Path) -> Result<Option<PathBuf>, ChainError> {
        let found = header(path).map_err(|source| ChainError { path: path.to_owned(), source })?;
        // A name without a directory is beside the file that has it.
        let below = found
            .and_then(|header| header.backing)
            .map(|below| path.parent().map_or_else(|| below.clone(), |dir| dir.join(&below)));
        self.0.insert(path.to_owned(), below.clone());
        Ok(below)
    }
}

/// Makes an empty overlay of `size` bytes on `backing`, which need not be there yet; on the disk when this returns.
///
/// # Errors
/// [`ImageError::Exists`] when the file is there; what the file system says else. No part of it is left.
pub fn overlay(path: &Path, backing: &Path, format: DiskFormat, size: Bytes) -> Result<(), ImageError> {
    absolute(path)?;
    absolute(backing)?;
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => ImageError::Exists { path: path.to_owned() },
        _ => ImageError::Io { path: path.to_owned(), source },
    };
    let image = empty(backing, format, size).ok_or_else(|| ImageError::Invalid {
        path: backing.to_owned(),
        reason: "The path of the image is too long to stand on.".to_owned(),
        hint: "Move it to a directory with a shorter path.",
    })?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let written = file.write_all(&image).and_then(|()| file.sync_all());
    if let Err(source) = written {
        let _ = std::fs::remove_file(path);
        return Err(failed(source));
    }
    Ok(())
}

/// The bytes of an empty overlay; `None` when the name does not fit.
fn empty(backing: &Path, format: DiskFormat, size: Bytes) -> Option<Vec<u8>> {
    let name = backing.to_str().filter(|name| name.len() <= NAME_MAX)?;
    let l1_entries = u32::try_from(size.0.div_ceil(PER_L1)).ok()?;
    let l1_clusters = (u64::from(l1_entries) * 8).div_ceil(CLUSTER).max(1);
    let clusters = 3 + l1_clusters;
    // One refcount block counts 32,768 clusters of two bytes each: far more than an empty image has.
    if clusters > CLUSTER / 2 {
        return None;
    }
    let mut header = Vec::with_capacity(4096);
    header.extend_from_slice(MAGIC);
    let mut word = |value: u32| header.extend_from_slice(&value.to_be_bytes());
    let long = |word: &mut dyn FnMut(u32), value: u64| {
        word(u32::try_from(value >> 32).unwrap_or_default());
        word(u32::try_from(value & 0xffff_ffff).unwrap_or_default());
    };
    let format = format_name(format);
    let padded = format.len().div_ceil(8) * 8;
    let name_at = u64::from(HEADER_LENGTH) + 8 + padded as u64 + 8;
    word(3);
    long(&mut word, name_at);
    word(u32::try_from(name.len()).ok()?);
    word(CLUSTER_BITS);
    long(&mut word, size.0);
    word(0);
    word(l1_entries);
    long(&mut word, 3 * CLUSTER);
    long(&mut word, CLUSTER);
    word(1);
    word(0);
    long(&mut word, 0);
    for _feature_set in 0..3 {
        long(&mut word, 0);
    }
    // Refcounts of 16 bits.
    word(4);
    word(HEADER_LENGTH);
    word(BACKING_FORMAT);
    word(u32::try_from(format.len()).ok()?);
    header.extend_from_slice(format.as_bytes());
    header.resize(usize::try_from(name_at).ok()?, 0);
    header.extend_from_slice(name.as_bytes());

    let cluster = usize::try_from(CLUSTER).ok()?;
    header.resize(usize::try_from(clusters * CLUSTER).ok()?, 0);
    // The refcount table names its one block, which counts every cluster once.
    header[cluster..cluster + 8].copy_from_slice(&(2 * CLUSTER).to_be_bytes());
    for at in 0..usize::try_from(clusters).ok()? {
        header[2 * cluster + 2 * at + 1] = 1;
    }
    Some(header)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn qemu(program: &str, args: &[&str]) -> String {
        let output = Command::new(program).args(args).output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {text}");
        text
    }

    #[test]
    fn qemu_img_takes_an_overlay_of_any_size_for_its_own() {
        let dir = tempfile::tempdir().unwrap();
        // An odd size, one of exactly one table, and the largest disk there can be.
        for (size, format) in [(1_048_576 + 512, "qcow2"), (PER_L1, "raw"), (64 << 40, "qcow2")] {
            let base = dir.path().join(format!("base {size}, {format}"));
            let top = dir.path().join(format!("top-{size}"));
            qemu("qemu-img", &["create", "-q", "-f", format, base.to_str().unwrap(), &size.to_string()]);
            qemu("qemu-io", &["-f", format, "-c", "write -P 7 0 64k", base.to_str().unwrap()]);
            let known = if format == "raw" { DiskFormat::Raw } else { DiskFormat::Qcow2 };
            overlay(&top, &base, known, Bytes(size)).unwrap();
            let name = top.to_str().unwrap();
            qemu("qemu-img", &["check", "-q", name]);
            let info = qemu("qemu-img", &["info", "--output=json", name]);
            let info: serde_json::Value = serde_json::from_str(&info).unwrap();
            assert_eq!(info["virtual-size"], size);
            assert_eq!(info["backing-filename"], base.to_str().unwrap());
            assert_eq!(info["backing-filename-format"], format);
            let found = header(&top).unwrap().unwrap();
            assert_eq!(
                found,
                Header {
                    virtual_size: Bytes(size),
                    backing: Some(base.clone()),
                    untouched: true,
                    encrypted: false,
                    snapshots: 0,
                    external_data: false,
                }
            );
            assert_eq!(backing_files(&top).unwrap(), [top.clone(), base.clone()]);
            qemu("qemu-io", &["-c", "read -P 7 0 64k", "-c", "write -P 9 512k 64k", name]);
            qemu("qemu-img", &["check", "-q", name]);
            assert!(!header(&top).unwrap().unwrap().untouched);
            assert!(matches!(overlay(&top, &base, known, Bytes(size)), Err(ImageError::Exists { .. })));
        }
    }

    #[test]
    fn what_is_no_qcow2_has_no_header() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        for content in [&b""[..], b"QFI", b"QFI\xfb", &[7; 4096]] {
            std::fs::write(&file, content).unwrap();
            assert_eq!(header(&file).unwrap(), None);
        }
        assert!(header(&dir.path().join("missing")).is_err());
    }
}
