//! VMDK disks in several files: a small text names them, and could name any file of this computer.
//!
//! ```text
//! RW 4192256 SPARSE "disk-s001.vmdk"
//! RW 8388608 FLAT "disk-flat.vmdk" 0
//! ```
//! Invariant: only files beside the description are taken, by plain names, and all have to be there.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::ImageError;

/// Descriptions are a few hundred bytes; QEMU reads 20 sectors at most.
const TEXT_MAX: u64 = 64 << 10;

/// Checks what a description names; a disk in one file names nothing that is opened.
///
/// # Errors
/// [`ImageError::Invalid`] when it names what is not beside it.
pub(super) fn check_extents(path: &Path) -> Result<(), ImageError> {
    let failed = |source: io::Error| ImageError::Io { path: path.to_owned(), source };
    let mut text = Vec::new();
    File::open(path).map_err(failed)?.take(TEXT_MAX).read_to_end(&mut text).map_err(failed)?;
    if text.starts_with(b"KDMV") {
        return Ok(());
    }
    let invalid = |reason: String, hint| ImageError::Invalid { path: path.to_owned(), reason, hint };
    let text = String::from_utf8_lossy(&text);
    for name in text.lines().filter_map(extent) {
        if name.is_empty() || name.contains('/') || name == ".." {
            return Err(invalid(
                format!("The disk names a part that is not beside it: {name}."),
                "Choose a disk whose parts lie in one directory.",
            ));
        }
        let part = path.with_file_name(name);
        // Never through a link: it could lead to any file.
        match part.symlink_metadata() {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => {
                return Err(invalid(
                    format!("The disk's part {name} is no ordinary file."),
                    "Copy the part itself.",
                ));
            }
            Err(_) => {
                return Err(invalid(
                    format!("A part of the disk, {name}, is not there."),
                    "Put all files of the disk into one directory.",
                ));
            }
        }
    }
    Ok(())
}

/// The file a line names, if it is about an extent that has one.
fn extent(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let access = ["RW ", "RDONLY ", "NOACCESS "].into_iter().find(|access| line.starts_with(access))?;
    let rest = &line[access.len()..];
    let (_, rest) = rest.split_once('"')?;
    Some(rest.split_once('"').map_or(rest, |(name, _)| name))
}
