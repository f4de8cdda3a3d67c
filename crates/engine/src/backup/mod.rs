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
//! * [`drill`]: restores one to a machine apart, sees whether it comes up, and removes it.
//! * [`disk`]: the disks, between `qemu-nbd` and the repository; [`job`]: work on a repository as an operation;
//!   [`turns`]: who works on one.
//!
//! Invariants: a backup is of one instant; it is there when it is whole; no process outlives its work. Its snapshot is known by its
//! reason: one that a kill leaves is removed at the next start.

mod disk;
mod drill;
mod job;
mod keep;
mod open;
mod restore;
mod run;
mod turns;

pub(crate) use drill::{drill, remove_left_over};
pub(crate) use keep::{forget, ids, init, list, of_machine, verify};
pub(crate) use open::open as open_repository;
pub(crate) use restore::restore;
pub(crate) use run::run;
pub(crate) use turns::Turns;
