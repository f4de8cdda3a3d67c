//! What the next backup of a machine stands on: for each repository the layers that show what the machine's last backup in it holds.
//!
//! A mark is knowledge that may be lost at any time: without one, or with one that does not hold any more, a backup reads everything.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use voidvm_model::backup::BackupId;
use voidvm_model::{DeviceId, VmId};

use crate::row::{Reader, json, time};
use crate::{Store, StoreError};

/// The layers that show what a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupMark {
    /// The machine.
    pub vm_id: VmId,
    /// The repository's own id.
    pub repository: String,
    /// The backup in it.
    pub backup: BackupId,
    /// The layer of each disk.
    pub layers: BTreeMap<DeviceId, MarkedLayer>,
    /// When that was so.
    pub made_at: Timestamp,
}

/// A layer that shows what a backup holds of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MarkedLayer {
    /// The file's name in the machine's directory.
    pub name: String,
    /// What the file looked like: with any other look nothing is known of what it shows.
    pub look: FileLook,
}

/// What changes with a file's content: which file it is, how long, and when it was last written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileLook {
    /// Its number on its file system.
    pub inode: u64,
    /// How long it is.
    pub length: u64,
    /// The seconds of when it was last written to.
    pub seconds: i64,
    /// And the nanoseconds.
    pub nanoseconds: i64,
}

struct Columns {
    vm_id: String,
    repository: String,
    backup: String,
    layers: String,
    made_at: String,
}

/// The table of what backups stand on.
#[derive(Clone, Copy, Debug)]
pub struct BackupMarks<'a>(pub(crate) &'a Store);

impl BackupMarks<'_> {
    /// Writes a mark, in place of the machine's earlier one of the repository.
    ///
    /// # Errors
    /// The store's; then the earlier one stays.
    pub async fn put(&self, mark: &BackupMark) -> Result<(), StoreError> {
        let (vm_id, backup, made_at) = (mark.vm_id.to_string(), mark.backup.to_string(), time(mark.made_at));
        let layers = json("backup_marks.layers", &mark.layers)?;
        sqlx::query!(
            "INSERT INTO backup_marks (vm_id, repository, backup, layers, made_at) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (vm_id, repository) DO UPDATE SET backup = excluded.backup, layers = excluded.layers,
                 made_at = excluded.made_at",
            vm_id,
            mark.repository,
            backup,
            layers,
            made_at
        )
        .execute(self.0.writer())
        .await
        .map(drop)
        .map_err(self.0.failed("remember what a backup stands on"))
    }

    /// A machine's marks, the newest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn of(&self, vm: VmId) -> Result<Vec<BackupMark>, StoreError> {
        let vm = vm.to_string();
        let rows = sqlx::query_as!(
            Columns,
            "SELECT vm_id, repository, backup, layers, made_at FROM backup_marks WHERE vm_id = ?
             ORDER BY made_at DESC, repository",
            vm
        )
        .fetch_all(self.0.readers())
        .await
        .map_err(self.0.failed("read what backups stand on"))?;
        rows.into_iter().map(|columns| self.row(columns)).collect()
    }

    /// Forgets a mark. One that is gone is no error.
    ///
    /// # Errors
    /// The store's.
    pub async fn remove(&self, vm: VmId, repository: &str) -> Result<(), StoreError> {
        let vm = vm.to_string();
        sqlx::query!("DELETE FROM backup_marks WHERE vm_id = ? AND repository = ?", vm, repository)
            .execute(self.0.writer())
            .await
            .map(drop)
            .map_err(self.0.failed("forget what a backup stands on"))
    }

    fn row(&self, columns: Columns) -> Result<BackupMark, StoreError> {
        let read = Reader::new(self.0.database(), "backup_marks", &columns.vm_id);
        let backup = read.parse("backup", &columns.backup)?;
        Ok(BackupMark {
            vm_id: read.parse("vm_id", &columns.vm_id)?,
            backup,
            layers: read.json("layers", &columns.layers)?,
            made_at: read.parse("made_at", &columns.made_at)?,
            repository: columns.repository,
        })
    }
}
