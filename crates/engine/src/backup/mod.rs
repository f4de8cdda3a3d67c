//! Backups: machines in a folder in the restic format (`voidvm-backup`), made of their snapshots.
//!
//! ```text
//! snapshot without memory ─▶ qemu-nbd on each frozen layer ─▶ Repository::backup ─▶ the snapshot is removed
//! Repository::restore ─▶ qemu-nbd on each new disk ─▶ a new machine
//! ```
//! A repository is its directory; nothing of it is in the store. Its password is in the directory itself, or in the keychain under a
//! name that comes from the repository's key file ([`open`]), so that it is found wherever the directory is mounted.
//!
//! * [`run`]: makes one; [`restore`]: makes a machine of one; [`keep`]: begins, lists, checks and forgets.
//! * [`disk`]: the disks, between `qemu-nbd` and the repository; [`job`]: work on a repository as an operation.
//!
//! Invariants: a backup is of one instant; it is there when it is whole; no process outlives its work. Its snapshot is known by its
//! reason: one that a kill leaves is removed at the next start.

mod disk;
mod job;
mod keep;
mod open;
mod restore;
mod run;

pub(crate) use keep::{forget, init, list, verify};
pub(crate) use restore::restore;
pub(crate) use run::run;
