//! The key of an encrypted disk: never in an argument, a log or a file. A program that needs it inherits a piece of memory
//! that can be read like a file.

use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, memfd_create};

/// A key, as text without spaces; shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// A key from a text that was kept; none from an empty one.
    #[must_use]
    pub fn new(text: String) -> Option<Self> {
        (!text.is_empty()).then_some(Self(text))
    }

    /// The key itself, for whoever keeps it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The key in memory of its own, to be inherited by a program that reads it under `/dev/fd`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn in_memory(&self) -> io::Result<OwnedFd> {
        let mut file = std::fs::File::from(memfd_create(c"key", MemfdFlags::CLOEXEC)?);
        file.write_all(self.0.as_bytes())?;
        Ok(file.into())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key([redacted])")
    }
}
