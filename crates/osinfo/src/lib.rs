//! Operating systems and what they want of a machine, as the distribution's osinfo-db knows them. No table of ours: what is not
//! in the database is not known here.
//!
//! ```text
//! directories ─▶ read (XML) ─▶ OsDb ─┬─ detect (identity of an ISO) ─▶ preset
//!                                    └─ preset (short id), list
//! ```
//! Invariants: nothing is asked of the network; a file that does not parse costs its own entries and no others. A release newer
//! than the database is told by the pattern of its newest known relative with another version in its place; what it wants is what
//! that relative wants.

mod detect;
mod iso;
mod preset;
mod read;

use std::path::{Path, PathBuf};

use voidvm_model::guest_os::OsPreset;

pub use iso::IsoIdentity;

use crate::read::Entry;

/// Where osinfo-db's data is, the most general first: later directories add to and replace what is in earlier ones.
pub const DIRECTORIES: [&str; 3] = ["/usr/share/osinfo", "/usr/local/share/osinfo", "/etc/osinfo"];

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
#[error("no osinfo-db in {}", .0.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", "))]
pub struct NoDatabase(pub Vec<PathBuf>);

/// The database.
#[derive(Debug)]
pub struct OsDb {
    entries: Vec<Entry>,
}

impl OsDb {
    /// Reads the data below each directory (`DIR/os/VENDOR/NAME.xml`): some 800 files, a tenth of a second.
    ///
    /// # Errors
    /// When none of them holds an operating system.
    pub fn load<P: AsRef<Path>>(directories: impl IntoIterator<Item = P>) -> Result<Self, NoDatabase> {
        let directories: Vec<PathBuf> = directories.into_iter().map(|dir| dir.as_ref().to_owned()).collect();
        let entries = read::read(&directories);
        if entries.is_empty() { Err(NoDatabase(directories)) } else { Ok(Self { entries }) }
    }

    /// Every operating system for PCs, by distribution, the newest release first.
    #[must_use]
    pub fn list(&self) -> Vec<OsPreset> {
        let mut entries: Vec<&Entry> = self.entries.iter().filter(|entry| entry.is_for_pcs()).collect();
        entries.sort_by(|a, b| {
            a.distro
                .cmp(&b.distro)
                .then_with(|| b.released.cmp(&a.released))
                .then_with(|| a.short_id.cmp(&b.short_id))
        });
        entries.into_iter().map(|entry| self.preset_of(entry)).collect()
    }

    /// What the operating system of this short id wants (`debian12`, `win11`).
    #[must_use]
    pub fn preset(&self, short_id: &str) -> Option<OsPreset> {
        if let Some(entry) = self.entries.iter().find(|entry| entry.short_id == short_id) {
            return Some(self.preset_of(entry));
        }
        self.relative(short_id)
    }

    /// The operating system on a medium, and what it wants.
    #[must_use]
    pub fn detect(&self, identity: &IsoIdentity) -> Option<OsPreset> {
        detect::known(&self.entries, identity)
            .map(|entry| self.preset_of(entry))
            .or_else(|| detect::newer(&self.entries, identity).and_then(|short_id| self.preset(&short_id)))
    }
}
