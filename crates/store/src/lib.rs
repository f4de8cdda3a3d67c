//! The SQLite store: one module per table, and the only place with SQL.
//!
//! What is here survives a crash: definitions, the operation log, settings, and intents about files. What belongs to a run
//! (pids, sockets, live state) is not. Rows cross this boundary as domain types; nothing outside sees a column.
//!
//! Invariants:
//! * One connection writes; a few read. WAL, so a reader never waits for the writer.
//! * A commit is on the disk when a method returns (`synchronous = FULL`): an intent is written before its files are touched.
//! * Migrations only go forward; the file is copied to `voidvm.db.bak-<version>` before the first of them runs.
//! * Whoever opens the store owns the data directory; the lock is the caller's.

mod backups;
mod error;
mod groups;
mod history;
mod images;
mod journal;
mod open;
mod operations;
mod pools;
mod row;
mod schedules;
mod settings;
mod snapshots;
mod vms;

pub use backups::{BackupMark, BackupMarks, FileLook, MarkedLayer};
pub use error::StoreError;
pub use groups::{GroupMemberRow, GroupSnapshotRow, GroupSnapshots};
pub use history::{History, HistoryRow};
pub use images::{ImageRow, Images};
pub use journal::{Intent, IntentAction, IntentId, Journal, OpenIntent};
pub use open::{DATABASE_FILE, Store, known_version};
pub use operations::{OPERATIONS_KEPT, Operations};
pub use pools::{PoolRow, Pools};
pub use schedules::{RUNS_KEPT, ScheduleRow, Schedules};
pub use settings::SettingsTable;
pub use snapshots::{SnapshotRow, Snapshots};
pub use vms::{VmRow, Vms};
