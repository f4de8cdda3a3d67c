//! Machine snapshots: the whole of a machine at one instant, kept as frozen layers of its disks.
//!
//! ```text
//! before          snapshot A                snapshot B                     A restored
//! disk0           disk0 ─▶ base-1           disk0 ─▶ base-2 ─▶ base-1      disk0 ─▶ base-1
//!                          (A)                       (B)       (A)         base-2 ─▶ base-1   (B, kept)
//! ```
//! A disk's file keeps its name: what it held gets another (`base-…`), and an empty overlay takes the first ([`layers`]).
//! Beside the layers a snapshot has a directory, `snapshots/ID/`, with memory, UEFI variables, the TPM's state, a picture and
//! what is needed to go on from it ([`kept`]). Its row in the store is the snapshot: written last, removed first.
//!
//! * [`take`]: of a machine at rest, or of one that runs ([`stream`]: memory by live migration to a file; [`switch`]: the disks).
//! * [`restore`], [`fork`]: what is now, or a new machine, put on the layers of a snapshot; memory becomes that of a suspended
//!   machine, so that a start goes on from it. [`boot`]: such a machine that is thrown away when it stops.
//! * [`packed`], [`image`]: memory made small, and made ready to be gone on from at once; work nobody waits for.
//! * [`group`]: all of this for several machines at one instant.
//! * [`delete`], [`merge`]: a layer that nobody names is merged with the one that stands on it, whichever way copies less.
//! * [`marks`]: layers that stay because the next backup stands on them.
//! * [`flatten`]: a deep chain made short for the present.
//! * [`recover`]: what an owner that was killed left: old or new, never neither.
//!
//! Invariants: a layer is never written to while a snapshot names it or two images stand on it; at every instant each image shows
//! what it showed; files of ours only, in the machine's own directory, are ever removed.

mod boot;
mod compare;
mod delete;
mod flatten;
mod fork;
pub(crate) mod group;
pub(crate) mod image;
mod job;
mod kept;
mod layers;
mod list;
pub(crate) mod marks;
mod merge;
pub(crate) mod names;
mod packed;
mod packets;
pub(crate) mod recover;
mod restore;
mod stream;
mod switch;
mod take;

pub(crate) use boot::{boot, not_kept, remove_passing};
pub(crate) use compare::compare;
pub(crate) use delete::{delete, forget};
pub(crate) use flatten::flatten;
pub(crate) use fork::fork;
pub(crate) use job::{Job, begin as begin_job};
pub(crate) use kept::{dir as kept_dir, dirs as kept_dirs, files_in as kept_files, memory as kept_memory};
pub(crate) use layers::{drop_twins, writable};
pub(crate) use list::{picture, tree, update};
pub(crate) use merge::{look as merge_at_rest, merge_left_over, quietly as merge_quietly};
pub(crate) use packed::open as open_memory;
pub(crate) use restore::restore;
pub(crate) use take::{Memory, Wish, begin, create, take};
