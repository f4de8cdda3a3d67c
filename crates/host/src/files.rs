//! The host's files for the browser's file chooser: directories, and files that may be images, packed images or machines.

use std::path::{Path, PathBuf};

use voidvm_model::system::{DirectoryEntry, DirectoryListing};
use voidvm_model::{Bytes, ErrorBody, ErrorCode};

use crate::directories::io_error;

/// Endings of files that are listed: disks and ISOs, packed ones, machines of voidVM and of other programs.
const LISTED: &[&str] = &[
    "qcow2", "qcow", "img", "raw", "iso", "vmdk", "vdi", "vhdx", "gz", "xz", "zst", "bz2", "voidvm", "ova",
    "ovf", "xml", "conf", "vbox", "vmx",
];
/// Most entries of one answer; a person finds nothing in more.
const MOST: usize = 10_000;

/// Lists a directory. Blocks.
///
/// # Errors
/// [`ErrorCode::InvalidInput`] when `path` is not absolute, [`ErrorCode::NotFound`] or [`ErrorCode::PermissionDenied`].
pub fn list(path: &Path) -> Result<DirectoryListing, ErrorBody> {
    if !path.is_absolute() {
        return Err(ErrorBody::invalid("path", "The path does not begin with /."));
    }
    let named = |mut error: ErrorBody| {
        error.field = Some("path".to_owned());
        if error.code == ErrorCode::Internal {
            error.code = ErrorCode::InvalidInput;
        }
        error
    };
    // The real path: a `..` or a link in a listing's `parent` would lead in circles.
    let path: PathBuf = path.canonicalize().map_err(|error| named(io_error("open", path, &error)))?;
    let mut entries: Vec<DirectoryEntry> = std::fs::read_dir(&path)
        .map_err(|error| named(io_error("read", &path, &error)))?
        .filter_map(|entry| describe(&entry.ok()?))
        .take(MOST)
        .collect();
    entries.sort_by(|a, b| {
        b.directory.cmp(&a.directory).then_with(|| a.name.to_lowercase().cmp(&b.name.to_lowercase()))
    });
    Ok(DirectoryListing {
        parent: path.parent().map(|parent| parent.display().to_string()),
        path: path.display().to_string(),
        entries,
    })
}

fn describe(entry: &std::fs::DirEntry) -> Option<DirectoryEntry> {
    // A name that is not Unicode could not be sent back.
    let name = entry.file_name().into_string().ok()?;
    if name.starts_with('.') {
        return None;
    }
    let path = entry.path();
    let meta = std::fs::metadata(&path).ok()?;
    let directory = meta.is_dir();
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    let listed = meta.is_file() && LISTED.contains(&ending.as_str());
    if !directory && !listed {
        return None;
    }
    Some(DirectoryEntry {
        name,
        path: path.into_os_string().into_string().ok()?,
        directory,
        size: (!directory).then_some(Bytes(meta.len())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_first_then_images_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        for name in ["b.ISO", "a.qcow2", "c.img.xz", "notes.txt", ".hidden.iso"] {
            std::fs::write(root.path().join(name), "12345").unwrap();
        }
        std::fs::create_dir(root.path().join("z")).unwrap();
        std::fs::create_dir(root.path().join(".cache")).unwrap();
        let listing = list(root.path()).unwrap();
        let names: Vec<&str> = listing.entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["z", "a.qcow2", "b.ISO", "c.img.xz"]);
        assert_eq!(listing.entries[1].size, Some(Bytes(5)));
        assert_eq!(listing.entries[0].size, None);
        assert!(listing.parent.is_some());
    }

    #[test]
    fn what_cannot_be_listed_says_why() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(list(Path::new("relative")).unwrap_err().code, ErrorCode::InvalidInput);
        let missing = list(&root.path().join("missing")).unwrap_err();
        assert_eq!((missing.code, missing.field.as_deref()), (ErrorCode::NotFound, Some("path")));
        std::fs::write(root.path().join("file"), "").unwrap();
        assert_eq!(list(&root.path().join("file")).unwrap_err().code, ErrorCode::InvalidInput);
        assert_eq!(list(Path::new("/")).unwrap().parent, None);
    }
}
