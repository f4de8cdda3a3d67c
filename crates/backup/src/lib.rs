//! Backups of machines in a folder, in the restic format.
//!
//! ```text
//! Repository::backup  ◀─ DiskSource: a disk as it was at one instant, read at offsets; and what changed since another backup
//!            backups  ─▶ Backup: when, how consistent, which machines
//!            restore  ─▶ DiskSink: a sparse file
//!            verify, forget, prune
//! ```
//! The crate knows nothing of QEMU, the engine or the store. What it writes, `restic` reads, and the other way round
//! (`docs/adr/0014`). A backup is a snapshot with a directory per machine:
//!
//! ```text
//! web/machine.json   what the machine was, when, how consistent: [`MachineRecord`]
//! web/disks/disk0.raw
//! web/…              small files: UEFI variables, the TPM's state, notes
//! ```
//! Disks are cut into blocks of one mebibyte, so that a backup that stands on another one takes over the names of the blocks that did
//! not change without reading them. Everything blocks; call it where blocking is allowed.
//!
//! Invariants: a backup is there when it is whole, and not before; a kill leaves nothing but what the next [`Repository::prune`]
//! removes; nothing is given out whose checksum does not fit; nothing is removed that a backup needs.

mod backup;
mod crypto;
mod error;
mod folder;
mod host;
mod id;
mod index;
mod intake;
mod lock;
mod pack;
mod polynomial;
mod prune;
mod record;
mod repository;
mod restore;
mod sealed;
mod source;
mod verify;
mod walk;
mod writer;

pub use backup::{BackupDone, BackupRequest, Base, DiskInput, MachineInput, SmallFile};
pub use crypto::Password;
pub use id::BackupId;
pub use prune::Pruned;
pub use repository::{
    Backup, Backups, Consistency, DiskRecord, Machine, MachineRecord, Protection, Repository,
};
pub use restore::{DiskReader, DiskSink, SparseFile};
pub use source::{DiskSource, FileSource, Progress, Stage, Watch};
pub use verify::{Depth, Verification};

/// How much of a disk is one block.
pub const BLOCK: u64 = 1 << 20;
