//! The folder of a repository, laid out as `restic` lays out a local one.
//!
//! ```text
//! config   keys/   locks/   snapshots/   index/   data/00 … data/ff   tmp/
//! ```
//! Invariants: a file has its name only when it is whole and on the disk (written in `tmp/`, synchronised, renamed); its name is the
//! SHA-256 of its content, and what does not fit its name is never given out; nothing is written twice.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use voidvm_model::{ErrorBody, ErrorCode};

use crate::error;
use crate::id::Id;

/// What a file of a repository is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Key,
    Lock,
    Snapshot,
    Index,
    Pack,
}

impl Kind {
    const fn dir(self) -> &'static str {
        match self {
            Self::Key => "keys",
            Self::Lock => "locks",
            Self::Snapshot => "snapshots",
            Self::Index => "index",
            Self::Pack => "data",
        }
    }
}

/// The folder.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    /// Tells the files this process is writing from one another.
    serial: AtomicU64,
    /// How many bytes may still be written, where a test says so.
    #[cfg(test)]
    pub(crate) room: Option<AtomicU64>,
}

/// What is where no file of a repository would be.
pub(crate) struct Stranger {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
}

/// What there is of a kind, and among it.
struct Sorted {
    files: Vec<(Id, u64)>,
    strangers: Vec<Stranger>,
}

impl Folder {
    pub(crate) const fn at(root: PathBuf) -> Self {
        Self {
            root,
            serial: AtomicU64::new(0),
            #[cfg(test)]
            room: None,
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the directories, in a folder that is empty or not there.
    pub(crate) fn make(&self) -> Result<(), ErrorBody> {
        match fs::read_dir(&self.root) {
            Ok(mut entries) => {
                if entries.any(|entry| entry.map_or(true, |entry| entry.file_name() != "lost+found")) {
                    let what = if self.root.join("config").exists() {
                        "holds backups already"
                    } else {
                        "is not empty"
                    };
                    return Err(ErrorBody::invalid("folder", format!("{} {what}.", self.root.display()))
                        .with_hint("Choose an empty folder, or use the backups that are there."));
                }
            }
            Err(failed) if failed.kind() == io::ErrorKind::NotFound => {}
            Err(failed) => return Err(error::io(&self.root, &failed)),
        }
        make_dir(&self.root)?;
        for kind in [Kind::Key, Kind::Lock, Kind::Snapshot, Kind::Index, Kind::Pack] {
            make_dir(&self.root.join(kind.dir()))?;
        }
        for first in 0..=u8::MAX {
            make_dir(&self.root.join("data").join(format!("{first:02x}")))?;
        }
        make_dir(&self.root.join("tmp"))
    }

    pub(crate) fn path(&self, kind: Kind, id: Id) -> PathBuf {
        let name = id.to_string();
        let dir = self.root.join(kind.dir());
        if kind == Kind::Pack { dir.join(&name[..2]).join(name) } else { dir.join(name) }
    }

    /// The files of a kind with their sizes, in the order of their names.
    pub(crate) fn list(&self, kind: Kind) -> Result<Vec<(Id, u64)>, ErrorBody> {
        Ok(self.sort(kind)?.files)
    }

    /// What lies among the files of all kinds and is none: what a kill left of a write, most of the time.
    pub(crate) fn strangers(&self) -> Result<Vec<Stranger>, ErrorBody> {
        let mut found = Vec::new();
        for kind in [Kind::Key, Kind::Lock, Kind::Snapshot, Kind::Index, Kind::Pack] {
            found.append(&mut self.sort(kind)?.strangers);
        }
        let tmp = self.root.join("tmp");
        for (path, size) in entries(&tmp)? {
            found.push(Stranger { path, size });
        }
        Ok(found)
    }

    fn sort(&self, kind: Kind) -> Result<Sorted, ErrorBody> {
        let dir = self.root.join(kind.dir());
        let dirs = if kind == Kind::Pack {
            entries(&dir)?.into_iter().map(|(path, _)| path).filter(|path| path.is_dir()).collect()
        } else {
            vec![dir]
        };
        let (mut files, mut strangers) = (Vec::new(), Vec::new());
        for dir in dirs {
            for (path, size) in entries(&dir)? {
                match path.file_name().and_then(|name| name.to_str()).and_then(Id::parse) {
                    Some(id) if path == self.path(kind, id) => files.push((id, size)),
                    _ => strangers.push(Stranger { path, size }),
                }
            }
        }
        files.sort_unstable();
        Ok(Sorted { files, strangers })
    }

    /// A file's content, when it is what its name says.
    pub(crate) fn read(&self, kind: Kind, id: Id) -> Result<Vec<u8>, ErrorBody> {
        let path = self.path(kind, id);
        let content = fs::read(&path).map_err(|failed| unreadable(&path, &failed))?;
        if Id::of(&content) == id { Ok(content) } else { Err(unlike(&path)) }
    }

    /// A file that is named, not by its content.
    pub(crate) fn read_named(&self, name: &str) -> Result<Option<Vec<u8>>, ErrorBody> {
        let path = self.root.join(name);
        match fs::read(&path) {
            Ok(content) => Ok(Some(content)),
            Err(failed) if failed.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(failed) => Err(error::io(&path, &failed)),
        }
    }

    pub(crate) fn open(&self, kind: Kind, id: Id) -> Result<File, ErrorBody> {
        let path = self.path(kind, id);
        File::open(&path).map_err(|failed| unreadable(&path, &failed))
    }

    /// Writes a file under the name of its content. It is on the disk when this returns.
    pub(crate) fn write(&self, kind: Kind, content: &[u8]) -> Result<Id, ErrorBody> {
        let id = Id::of(content);
        self.write_to(&self.path(kind, id), content, 0o400)?;
        Ok(id)
    }

    pub(crate) fn write_named(&self, name: &str, content: &[u8]) -> Result<(), ErrorBody> {
        self.write_to(&self.root.join(name), content, if name == "config" { 0o400 } else { 0o600 })
    }

    fn write_to(&self, path: &Path, content: &[u8], mode: u32) -> Result<(), ErrorBody> {
        let tmp = self.root.join("tmp");
        make_dir(&tmp)?;
        let number = self.serial.fetch_add(1, Ordering::Relaxed);
        let part = tmp.join(format!(
            "{}-{number}-{}",
            std::process::id(),
            crate::id::hex(&crate::crypto::random::<4>()?)
        ));
        #[cfg(test)]
        self.spend(content.len()).map_err(|failed| error::io(path, &failed))?;
        let done = Self::write_part(&part, content, mode).and_then(|()| {
            let dir = path.parent().unwrap_or(&self.root);
            match fs::rename(&part, path) {
                // A directory of `data` that is not there: other programs make them as they are needed.
                Err(failed) if failed.kind() == io::ErrorKind::NotFound => {
                    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
                    fs::rename(&part, path)?;
                }
                renamed => renamed?,
            }
            sync_dir(dir)
        });
        done.map_err(|failed| {
            if let Err(kept) = fs::remove_file(&part)
                && kept.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %part.display(), error = %kept, "the part of a file that failed stays until the next pruning");
            }
            error::io(path, &failed)
        })
    }

    fn write_part(part: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part)?;
        file.write_all(content)?;
        // File systems without permissions (FAT, some mounts) refuse; the content does not depend on it.
        if let Err(refused) = file.set_permissions(Permissions::from_mode(mode)) {
            tracing::debug!(path = %part.display(), error = %refused, "no permissions there");
        }
        file.sync_data()
    }

    #[cfg(test)]
    fn spend(&self, bytes: usize) -> io::Result<()> {
        let Some(room) = &self.room else { return Ok(()) };
        let spent = |left: u64| left.checked_sub(bytes as u64);
        room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent)
            .map(|_| ())
            .map_err(|_| io::Error::from(io::ErrorKind::StorageFull))
    }

    /// Removes a file; it is fine if it is not there. Whether it was.
    pub(crate) fn remove(&self, kind: Kind, id: Id) -> Result<bool, ErrorBody> {
        Self::remove_path(&self.path(kind, id))
    }

    pub(crate) fn remove_path(path: &Path) -> Result<bool, ErrorBody> {
        match fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(failed) if failed.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(failed) => Err(error::io(path, &failed)),
        }
    }
}

/// The files and directories in a directory, with their sizes; none where there is no directory.
fn entries(dir: &Path) -> Result<Vec<(PathBuf, u64)>, ErrorBody> {
    let listed = || -> io::Result<Vec<(PathBuf, u64)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            match entry.metadata() {
                Ok(metadata) => found.push((entry.path(), metadata.len())),
                // Somebody else's file, renamed or removed since the directory was read.
                Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
                Err(failed) => return Err(failed),
            }
        }
        Ok(found)
    };
    match listed() {
        Err(failed) if failed.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|failed| error::io(dir, &failed)),
    }
}

fn make_dir(path: &Path) -> Result<(), ErrorBody> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|failed| error::io(path, &failed))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    match File::open(dir)?.sync_all() {
        // Some mounts cannot synchronise a directory; they have no such promise to keep.
        Err(refused)
            if matches!(refused.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// A file the repository speaks of.
fn unreadable(path: &Path, failed: &io::Error) -> ErrorBody {
    if failed.kind() == io::ErrorKind::NotFound {
        return error::damaged(format!("{} is missing.", path.display()))
            .with_detail("path", path.to_string_lossy());
    }
    // The medium itself, at its end.
    if failed.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) {
        return ErrorBody::new(
            ErrorCode::ChecksumMismatch,
            format!("{} cannot be read: {failed}.", path.display()),
        )
        .with_hint("The disk may be failing: copy what can be read, and back up to another one.")
        .with_detail("path", path.to_string_lossy());
    }
    error::io(path, failed)
}

fn unlike(path: &Path) -> ErrorBody {
    error::damaged(format!("{} is not what was written.", path.display()))
        .with_detail("path", path.to_string_lossy())
}
