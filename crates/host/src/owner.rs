//! One process owns a data directory.
//!
//! The owner holds a `flock` on `<data>/lock` for its whole life; the kernel lets it go however the process ends. In the file
//! it writes who it is and where its socket is, so that others find it whatever their own environment says.
//!
//! ```text
//! take ─▶ Owned(OwnerLock)      nobody had it
//!      └▶ Held(OwnerRecord)     somebody has: become its client
//! ```

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use voidvm_model::{ErrorBody, ErrorCode};

use crate::directories::{Directories, io_error, private};

/// What the owner writes into the lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerRecord {
    /// The owner's process id, for people.
    pub pid: u32,
    /// The data directory it was written for: a copied directory brings its lock file along.
    pub data_dir: PathBuf,
    /// Where sockets and run records are.
    pub runtime_dir: PathBuf,
}

/// Ownership of a data directory, until dropped.
#[derive(Debug)]
pub struct OwnerLock {
    _file: File,
}

/// How asking for ownership came out.
#[derive(Debug)]
pub enum Ownership {
    /// It is ours.
    Owned(OwnerLock),
    /// Somebody else's; the record is missing when the owner has not written it yet.
    Held(Option<OwnerRecord>),
}

impl OwnerLock {
    /// Asks for ownership of `directories.data`, which must exist. When it is granted, `directories.runtime` becomes the
    /// runtime directory of the owner before, where that still exists: running machines have their sockets there.
    ///
    /// # Errors
    /// [`ErrorCode::ReadOnly`], [`ErrorCode::PermissionDenied`] or [`ErrorCode::DiskFull`] when the lock file cannot be
    /// written.
    pub fn take(directories: &mut Directories) -> Result<Ownership, ErrorBody> {
        let path = directories.data.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| io_error("open", &path, &error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Ownership::Held(read(&mut file, directories))),
            Err(error) => {
                return Err(ErrorBody::new(
                    ErrorCode::Unsupported,
                    format!("Could not lock {}: {error}.", path.display()),
                )
                .with_hint("Use a data directory on a file system that knows locks."));
            }
        }
        if let Some(before) = read(&mut file, directories)
            && before.runtime_dir != directories.runtime
            && before.runtime_dir.is_dir()
            && private(&before.runtime_dir).is_ok()
        {
            directories.runtime = before.runtime_dir;
        }
        let record = OwnerRecord {
            pid: std::process::id(),
            data_dir: directories.data.clone(),
            runtime_dir: directories.runtime.clone(),
        };
        write(&mut file, &record).map_err(|error| io_error("write", &path, &error))?;
        Ok(Ownership::Owned(Self { _file: file }))
    }
}

/// Who owns the data directory now, without asking for ownership; makes nothing.
#[must_use]
pub fn holder(directories: &Directories) -> Option<OwnerRecord> {
    let mut file = File::open(directories.data.join("lock")).ok()?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => read(&mut file, directories),
        _ => None,
    }
}

/// The record, where it is whole and about this data directory.
fn read(file: &mut File, directories: &Directories) -> Option<OwnerRecord> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(64 * 1024).read_to_string(&mut text).ok()?;
    let record: OwnerRecord = serde_json::from_str(&text).ok()?;
    same(&record.data_dir, &directories.data).then_some(record)
}

/// Whether two names lead to one directory.
fn same(one: &Path, two: &Path) -> bool {
    one == two || one.canonicalize().is_ok_and(|one| two.canonicalize().is_ok_and(|two| one == two))
}

fn write(file: &mut File, record: &OwnerRecord) -> std::io::Result<()> {
    let text = serde_json::to_vec(record)?;
    file.seek(SeekFrom::Start(0))?;
    file.set_len(0)?;
    file.write_all(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directories(root: &Path) -> Directories {
        let found = Directories {
            data: root.join("data"),
            state: root.join("state"),
            runtime: root.join("run"),
            config_file: root.join("config.toml"),
        };
        found.make().unwrap();
        found
    }

    #[test]
    fn the_second_one_is_told_who_owns() {
        let root = tempfile::tempdir().unwrap();
        let mut mine = directories(root.path());
        let Ownership::Owned(lock) = OwnerLock::take(&mut mine).unwrap() else {
            panic!("nobody else is there")
        };
        let mut elsewhere = mine.clone();
        elsewhere.runtime = root.path().join("other");
        match OwnerLock::take(&mut elsewhere).unwrap() {
            Ownership::Held(Some(record)) => {
                assert_eq!(record.pid, std::process::id());
                assert_eq!(record.runtime_dir, mine.runtime);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(holder(&mine).unwrap().pid, std::process::id());
        drop(lock);
        assert_eq!(holder(&mine), None);
        assert!(matches!(OwnerLock::take(&mut mine).unwrap(), Ownership::Owned(_)));
    }

    #[test]
    fn the_next_owner_keeps_the_runtime_directory() {
        let root = tempfile::tempdir().unwrap();
        let mut first = directories(root.path());
        drop(OwnerLock::take(&mut first).unwrap());
        let mut second = Directories { runtime: root.path().join("other"), ..first.clone() };
        let Ownership::Owned(_lock) = OwnerLock::take(&mut second).unwrap() else { panic!("free") };
        assert_eq!(second.runtime, first.runtime);
    }

    #[test]
    fn a_copied_lock_file_says_nothing() {
        let root = tempfile::tempdir().unwrap();
        let mut first = directories(root.path());
        drop(OwnerLock::take(&mut first).unwrap());
        let mut copy = Directories {
            data: root.path().join("copy"),
            runtime: root.path().join("run2"),
            ..first.clone()
        };
        copy.make().unwrap();
        std::fs::copy(first.data.join("lock"), copy.data.join("lock")).unwrap();
        let Ownership::Owned(_lock) = OwnerLock::take(&mut copy).unwrap() else { panic!("free") };
        assert_eq!(copy.runtime, root.path().join("run2"));
    }
}
