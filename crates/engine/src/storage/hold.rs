//! Files that are being worked on, each by one piece of work.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use voidvm_model::{ErrorBody, ErrorCode};

/// The files that are held; clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holds(Arc<Mutex<BTreeSet<PathBuf>>>);

/// A file held; free again when dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    holds: Holds,
    file: PathBuf,
}

impl Holds {
    fn files(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a file.
    ///
    /// # Errors
    /// [`ErrorCode::Busy`] when it is held.
    pub(crate) fn hold(&self, file: &Path) -> Result<Hold, ErrorBody> {
        if self.files().insert(file.to_owned()) {
            return Ok(Hold { holds: self.clone(), file: file.to_owned() });
        }
        Err(busy(file))
    }

    /// Makes sure that nobody works on a file.
    ///
    /// # Errors
    /// [`ErrorCode::Busy`].
    pub(crate) fn check(&self, file: &Path) -> Result<(), ErrorBody> {
        if self.files().contains(file) { Err(busy(file)) } else { Ok(()) }
    }

    /// Whether a file in this directory is held.
    pub(crate) fn any_in(&self, dir: &Path) -> bool {
        self.files().iter().any(|file| file.starts_with(dir))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holds.files().remove(&self.file);
    }
}

fn busy(file: &Path) -> ErrorBody {
    ErrorBody::new(ErrorCode::Busy, format!("{} is being worked on.", file.display()))
        .with_hint("Wait for that to end, or give it up.")
        .with_detail("path", file.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_held_once() {
        let holds = Holds::default();
        let (one, other) = (Path::new("/a/one"), Path::new("/a/other"));
        let held = holds.hold(one).unwrap();
        let _other = holds.hold(other).unwrap();
        assert_eq!(holds.hold(one).unwrap_err().code, ErrorCode::Busy);
        assert!(holds.check(one).is_err() && holds.any_in(Path::new("/a")) && !holds.any_in(Path::new("/b")));
        drop(held);
        assert!(holds.check(one).is_ok() && holds.hold(one).is_ok());
    }
}
