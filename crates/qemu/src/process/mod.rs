//! One QEMU process: its runtime directory, its record, its start, and how it is known again later.
//!
//! A process is ours only if this boot's pid, its start time and its command line all say so; whatever is not is never
//! signalled. Signals go through a pidfd, so a reused pid cannot be hit.
//!
//! ```text
//! spawn ─▶ record written ─▶ live ─▶ exited            identify: Ours │ Gone │ Foreign
//!   └─ the app ends before the record ─▶ scan by uuid
//! ```

mod brief;
mod explain;
mod greet;
mod handle;
mod holes;
mod identify;
mod record;
mod run_dir;
mod spawn;

pub use brief::Brief;
pub use explain::{explain, explain_words};
pub use greet::{LaunchError, greet};
pub use handle::{Exit, ProcessHandle, Signal};
pub use holes::can_be_refused as holes_can_be_refused;
pub(crate) use identify::hold;
pub use identify::{ForeignReason, Identity, identify, identify_listener, scan};
pub use record::{RecordError, RunRecord, boot_id};
pub use run_dir::RunDir;
pub(crate) use run_dir::read_tail;
pub(crate) use spawn::start;
pub use spawn::{FIRST_INHERITED, Holes, Inherited, SpawnError, Spawned, spawn};
