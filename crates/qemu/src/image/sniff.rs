//! What a file is, by its own bytes.
//!
//! Raw disks have no mark of their own, so they are taken only with a boot sector or a partition table that fits into the
//! file; everything that is known to be something else is named.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use voidvm_model::system::ImageKind;

use super::ImageError;

/// Up to the end of the first volume descriptor of an ISO 9660 file system.
const HEAD: usize = 0x8800;
const ISO_AT: usize = 0x8000;
/// Some programs count padding at the end into an ISO's size and do not write it.
const ISO_SLACK: u64 = 512 << 10;

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// QEMU's own format.
    Qcow2,
    /// Plain bytes of a disk.
    Raw,
    /// A CD or DVD.
    Iso {
        /// Its name.
        volume_id: Option<String>,
    },
    /// A disk of another program: to be converted.
    Foreign(ImageKind),
}

/// Disks of other programs that `qemu-img` reads.
const FOREIGN: &[(usize, &[u8], ImageKind)] = &[
    (0, b"KDMV", ImageKind::Vmdk),
    (0, b"# Disk DescriptorFile", ImageKind::Vmdk),
    (64, b"\x7f\x10\xda\xbe", ImageKind::Vdi),
    (0, b"vhdxfile", ImageKind::Vhdx),
];

/// What a file is packed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// gzip, also in several members.
    Gzip,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
    /// bzip2.
    Bzip2,
}

const PACKINGS: &[(&[u8], Packing)] = &[
    (b"\x1f\x8b", Packing::Gzip),
    (b"\xfd7zXZ\0", Packing::Xz),
    (b"\x28\xb5\x2f\xfd", Packing::Zstd),
    (b"BZh", Packing::Bzip2),
];

/// What a file is packed with, if it is.
///
/// # Errors
/// The file system's.
pub fn packing(path: &Path) -> io::Result<Option<Packing>> {
    let mut head = Vec::with_capacity(8);
    File::open(path)?.take(8).read_to_end(&mut head)?;
    Ok(PACKINGS.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, packing)| *packing))
}

/// Whether bytes are the beginning of a web page: what servers send instead of a file that is not there.
#[must_use]
pub fn is_web_page(head: &[u8]) -> bool {
    let start = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    [&b"<!doctype"[..], b"<html", b"<?xml", b"<head", b"<!--"]
        .iter()
        .any(|word| start.get(..word.len()).is_some_and(|text| text.eq_ignore_ascii_case(word)))
}

/// Formats that are disks and not ours, and files people take for disks.
const OTHERS: &[(usize, &[u8], &str, &str)] = &[
    (0, b"conectix", "a Hyper-V disk (VHD)", "Convert it with qemu-img convert -O qcow2."),
    (0, b"QED\0", "a QED disk", "Convert it with qemu-img convert -O qcow2."),
    (0, b"LUKS\xba\xbe", "an encrypted disk (LUKS)", "Decrypt it first."),
    (0, b"\x1f\x8b", "packed with gzip", "Unpack it with gunzip first."),
    (0, b"\xfd7zXZ\0", "packed with xz", "Unpack it with unxz first."),
    (0, b"\x28\xb5\x2f\xfd", "packed with zstd", "Unpack it with unzstd first."),
    (0, b"BZh", "packed with bzip2", "Unpack it with bunzip2 first."),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "Unpack it first."),
    (0, b"PK\x03\x04", "a ZIP archive", "Unpack it first."),
    (0, b"Rar!", "a RAR archive", "Unpack it first."),
    (257, b"ustar", "a tar archive", "An OVA is a whole machine: import it as one. Unpack any other."),
    (0, b"%PDF", "a PDF document", "Choose a disk image or an ISO."),
    (0, b"\x7fELF", "a program", "Choose a disk image or an ISO."),
];

/// Looks at a file's bytes; `path` must be absolute.
pub(super) fn look(path: &Path) -> Result<Found, ImageError> {
    super::absolute(path)?;
    let io_error = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            ImageError::Missing { path: path.to_owned() }
        }
        _ => ImageError::Io { path: path.to_owned(), source },
    };
    // Asked before it is opened: opening a FIFO waits, opening a device does something.
    let metadata = std::fs::metadata(path).map_err(io_error)?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a directory" } else { "no ordinary file" };
        return Err(invalid(path, format!("This is {what}."), "Choose a disk image or an ISO."));
    }
    let mut file = File::open(path).map_err(io_error)?;
    let mut head = Vec::with_capacity(HEAD);
    (&mut file).take(HEAD as u64).read_to_end(&mut head).map_err(io_error)?;
    let length = metadata.len();
    judge(&head, length, &mut file).map_err(|(reason, hint)| invalid(path, reason, hint))
}

fn invalid(path: &Path, reason: String, hint: &'static str) -> ImageError {
    ImageError::Invalid { path: path.to_owned(), reason, hint }
}

fn judge(head: &[u8], length: u64, file: &mut (impl Read + Seek)) -> Result<Found, (String, &'static str)> {
    const AGAIN: &str = "Download or copy it again.";
    const CHOOSE: &str = "Choose a disk image or an ISO.";
    let cut = |what: &str| Err((format!("The {what} is cut off: the file ends too early."), AGAIN));
    if length == 0 {
        return Err(("The file is empty.".to_owned(), AGAIN));
    }
    if head.starts_with(b"QFI\xfb") {
        return match qcow2_end(head) {
            Some(end) if end <= length => Ok(Found::Qcow2),
            Some(_) => cut("image"),
            None => Err(("The image's header is broken.".to_owned(), AGAIN)),
        };
    }
    // An ISO that also starts from a USB stick has a partition table too: it is an ISO all the same.
    if head.get(ISO_AT + 1..ISO_AT + 6) == Some(b"CD001") {
        let blocks = le(head, ISO_AT + 80, 4).unwrap_or(0);
        let block = le(head, ISO_AT + 128, 2).unwrap_or(2048);
        if blocks.saturating_mul(block) > length.saturating_add(ISO_SLACK) {
            return cut("ISO");
        }
        let name = head.get(ISO_AT + 40..ISO_AT + 72).map(|name| String::from_utf8_lossy(name).into_owned());
        let volume_id = name
            .map(|name| {
                name.trim_matches([' ', '\0']).chars().filter(|c| !c.is_control()).collect::<String>()
            })
            .filter(|name| !name.is_empty());
        return Ok(Found::Iso { volume_id });
    }
    for (at, magic, kind) in FOREIGN {
        if head.get(*at..*at + magic.len()) == Some(*magic) {
            return match foreign_end(*kind, head, file) {
                Some(end) if end <= length => Ok(Found::Foreign(*kind)),
                Some(_) => cut("disk"),
                None => Err(("The disk's header is broken, or the file is cut off.".to_owned(), AGAIN)),
            };
        }
    }
    for (at, magic, what, hint) in OTHERS {
        if head.get(*at..*at + magic.len()) == Some(*magic) {
            return Err((format!("This is {what}, not a disk image or an ISO."), hint));
        }
    }
    if is_web_page(head) {
        return Err((
            "This is a web page, not a disk image or an ISO.".to_owned(),
            "The download went wrong: get the file itself.",
        ));
    }
    match disk_end(head, file) {
        Some(end) if end <= length => Ok(Found::Raw),
        Some(_) => cut("disk"),
        None => Err((
            "This is no disk image and no ISO: it has no boot sector and no partition table.".to_owned(),
            CHOOSE,
        )),
    }
}

/// Up to where a qcow2 file must reach for its tables; `None` for a header that does not hold.
fn qcow2_end(head: &[u8]) -> Option<u64> {
    let version = be(head, 4, 4)?;
    let cluster_bits = be(head, 20, 4)?;
    if !(2..=3).contains(&version) || !(9..=21).contains(&cluster_bits) {
        return None;
    }
    let l1_entries = be(head, 36, 4)?;
    let l1_at = be(head, 40, 8)?;
    let refcounts_at = be(head, 48, 8)?;
    let refcount_clusters = be(head, 56, 4)?;
    let l1_end = l1_at.checked_add(l1_entries.checked_mul(8)?)?;
    // The last cluster of a table may be short where the file ends.
    let refcounts_end = refcounts_at.checked_add(refcount_clusters.saturating_sub(1) << cluster_bits)?;
    Some(l1_end.max(refcounts_end))
}

/// Up to where the content of another program's disk reaches; `None` for a header that does not hold. A disk in several files
/// reaches as far as its description.
///
/// `qemu-img` reads zeros beyond a file's end: without this look a cut disk would become one with holes.
fn foreign_end(kind: ImageKind, head: &[u8], file: &mut (impl Read + Seek)) -> Option<u64> {
    match kind {
        ImageKind::Vmdk if head.starts_with(b"KDMV") => vmdk_end(head, file),
        ImageKind::Vdi => {
            // The blocks there are lie one after the other behind the header.
            let (data_at, block, allocated) = (le(head, 0x158, 4)?, le(head, 0x178, 4)?, le(head, 0x184, 4)?);
            data_at.checked_add(block.checked_mul(allocated)?)
        }
        // Its two headers and two tables; qemu-img checks where its blocks lie.
        ImageKind::Vhdx => Some(1 << 20),
        _ => Some(0),
    }
}

/// A sparse VMDK extent (VMware's Virtual Disk Format 5.0): the end of the last grain that its tables name.
fn vmdk_end(head: &[u8], file: &mut (impl Read + Seek)) -> Option<u64> {
    const SECTOR: u64 = 512;
    let mut header = head.get(..512)?.to_vec();
    if le(&header, 56, 8)? == u64::MAX {
        // Written in one go: the header that counts is near the end, and a file that is cut has none.
        file.seek(SeekFrom::End(-1024)).ok()?;
        file.read_exact(&mut header).ok()?;
        if !header.starts_with(b"KDMV") {
            return None;
        }
    }
    let (capacity, grain) = (le(&header, 12, 8)?, le(&header, 20, 8)?);
    let (entries, directory_at) = (le(&header, 44, 4)?, le(&header, 56, 8)?);
    let per_table = grain.checked_mul(entries).filter(|sectors| *sectors > 0)?;
    let tables = capacity.div_ceil(per_table);
    if tables > 1 << 20 || entries > 1 << 16 {
        return None;
    }
    let mut words = |at: u64, count: u64| {
        let mut bytes = vec![0; usize::try_from(count * 4).ok()?];
        file.seek(SeekFrom::Start(at.checked_mul(SECTOR)?)).ok()?;
        file.read_exact(&mut bytes).ok()?;
        Some(bytes.chunks_exact(4).filter_map(|word| le(word, 0, 4)).collect::<Vec<_>>())
    };
    let mut end = directory_at * SECTOR;
    for table in words(directory_at, tables)?.into_iter().filter(|table| *table != 0) {
        // A grain may be packed and shorter than its room; it begins inside the file all the same.
        let last = words(table, entries)?.into_iter().max().unwrap_or(0);
        end = end.max((last + u64::from(last > 1)) * SECTOR);
    }
    Some(end)
}

/// Up to where a raw disk's partitions reach; `None` where it has neither partitions nor a boot sector.
fn disk_end(head: &[u8], file: &mut (impl Read + Seek)) -> Option<u64> {
    for sector in [512_u64, 4096] {
        let mut header = [0; 40];
        if file.seek(SeekFrom::Start(sector)).is_ok()
            && file.read_exact(&mut header).is_ok()
            && header.starts_with(b"EFI PART")
        {
            // The second copy of the table is in the disk's last sector.
            return le(&header, 32, 8)?.checked_add(1)?.checked_mul(sector);
        }
    }
    if head.get(510..512) != Some(b"\x55\xaa") {
        return None;
    }
    let partitions = (0..4).filter_map(|index| {
        let entry = head.get(446 + 16 * index..462 + 16 * index)?;
        // A status other than these means that the sector holds a boot loader and no table.
        let plausible = matches!(entry.first()?, 0 | 0x80) && *entry.get(4)? != 0;
        plausible.then(|| Some((le(entry, 8, 4)? + le(entry, 12, 4)?) * 512)).flatten()
    });
    let statuses = (0..4).all(|index| matches!(head.get(446 + 16 * index), Some(0 | 0x80)));
    Some(if statuses { partitions.max().unwrap_or(512) } else { 512 })
}

fn le(bytes: &[u8], at: usize, count: usize) -> Option<u64> {
    Some(bytes.get(at..at + count)?.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

fn be(bytes: &[u8], at: usize, count: usize) -> Option<u64> {
    Some(bytes.get(at..at + count)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}
