//! Intents about files: written before the first file is made or removed, taken away after the last.
//!
//! ```text
//! begin ─▶ (files are touched) ─▶ end
//!   └── found at start-up: the owner was killed in between; the files named here, and no others, are finished with
//! ```

use std::path::PathBuf;

use jiff::Timestamp;
use sqlx::{Sqlite, Transaction};
use voidvm_model::{OperationId, VmId};

use crate::row::{Reader, json, time};
use crate::{Store, StoreError};

/// What is about to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntentAction {
    /// The files are being made; without the machine's row they are rubbish.
    Create,
    /// The files are being removed; nobody may count on them any more.
    Delete,
    /// The second file is becoming what the first, a disk, and linked clones stand on.
    Freeze,
    /// The files are being moved to the desktop's trash, and the machine goes with them.
    Trash,
    /// The files are parts of a machine that is being written to one file.
    Export,
    /// Of an image: its file is getting its name in the library; without the row it is rubbish.
    ImageMake,
    /// Of an image: its file is being removed; without the row nobody counts on it.
    ImageRemove,
    /// Of a volume: the files are parts that are being written beside it; rubbish once nobody writes them.
    VolumeWrite,
    /// Of a volume: the first file is becoming the second; the machine's definition says which of them counts.
    VolumeMove,
    /// Of a volume: the files are being removed; nobody uses them any more.
    VolumeRemove,
    /// A machine's snapshot is being taken: its directory, then each disk with what it is becoming.
    SnapshotTake,
    /// The files of a snapshot are being removed; without its row nobody counts on them.
    SnapshotRemove,
    /// A machine's present is becoming what a snapshot, named by its directory, shows.
    SnapshotRestore,
    /// Machines are being made of a group's snapshot, in these directories: all of them, or none.
    GroupMake,
}

impl IntentAction {
    const ALL: [Self; 14] = [
        Self::Create,
        Self::Delete,
        Self::Freeze,
        Self::Trash,
        Self::Export,
        Self::VolumeWrite,
        Self::VolumeMove,
        Self::VolumeRemove,
        Self::ImageMake,
        Self::ImageRemove,
        Self::SnapshotTake,
        Self::SnapshotRemove,
        Self::SnapshotRestore,
        Self::GroupMake,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Freeze => "freeze",
            Self::Trash => "trash",
            Self::Export => "export",
            Self::ImageMake => "image_make",
            Self::ImageRemove => "image_remove",
            Self::VolumeWrite => "volume_write",
            Self::VolumeMove => "volume_move",
            Self::VolumeRemove => "volume_remove",
            Self::SnapshotTake => "snapshot_take",
            Self::SnapshotRemove => "snapshot_remove",
            Self::SnapshotRestore => "snapshot_restore",
            Self::GroupMake => "group_make",
        }
    }
}

/// An intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The operation it is part of.
    pub operation_id: OperationId,
    /// The machine, where it is about one.
    pub vm_id: Option<VmId>,
    /// What is about to be done.
    pub action: IntentAction,
    /// The files and directories it is done to, absolute.
    pub files: Vec<PathBuf>,
}

/// Names an intent of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntentId(i64);

/// An intent that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenIntent {
    /// Its id, for [`Journal::end`].
    pub id: IntentId,
    /// The intent.
    pub intent: Intent,
    /// When it was written.
    pub begun_at: Timestamp,
}

/// The table of intents.
#[derive(Clone, Copy, Debug)]
pub struct Journal<'a>(pub(crate) &'a Store);

impl Journal<'_> {
    /// Writes an intent; when this returns it is on the disk.
    ///
    /// # Errors
    /// The store's; then no file may be touched.
    pub async fn begin(&self, intent: &Intent, now: Timestamp) -> Result<IntentId, StoreError> {
        let mut whole = self.0.writer().begin().await.map_err(self.0.failed("write the journal"))?;
        let id = self.begin_in(&mut whole, intent, now).await?;
        whole.commit().await.map_err(self.0.failed("write the journal"))?;
        Ok(id)
    }

    /// Writes several intents in one step: after a crash all of them are found, or none.
    ///
    /// # Errors
    /// As [`Journal::begin`].
    pub async fn begin_all(&self, intents: &[Intent], now: Timestamp) -> Result<Vec<IntentId>, StoreError> {
        let mut whole = self.0.writer().begin().await.map_err(self.0.failed("write the journal"))?;
        let mut ids = Vec::with_capacity(intents.len());
        for intent in intents {
            ids.push(self.begin_in(&mut whole, intent, now).await?);
        }
        whole.commit().await.map_err(self.0.failed("write the journal"))?;
        Ok(ids)
    }

    async fn begin_in(
        &self,
        whole: &mut Transaction<'_, Sqlite>,
        intent: &Intent,
        now: Timestamp,
    ) -> Result<IntentId, StoreError> {
        let operation_id = intent.operation_id.to_string();
        let vm_id = intent.vm_id.map(|id| id.to_string());
        let (action, files) = (intent.action.as_str(), json("journal.files", &intent.files)?);
        let begun_at = time(now);
        let done = sqlx::query!(
            "INSERT INTO journal (operation_id, vm_id, action, files, begun_at) VALUES (?, ?, ?, ?, ?)",
            operation_id,
            vm_id,
            action,
            files,
            begun_at
        )
        .execute(&mut **whole)
        .await
        .map_err(self.0.failed("write the journal"))?;
        Ok(IntentId(done.last_insert_rowid()))
    }

    /// An intent becomes another one, in one step. One that is gone already is no error.
    ///
    /// # Errors
    /// The store's; then it is what it was.
    pub async fn become_next(&self, id: IntentId, next: &Intent) -> Result<(), StoreError> {
        self.become_all(&[(id, next)]).await
    }

    /// Several intents become others, in one step. Those that are gone already are no error.
    ///
    /// # Errors
    /// The store's; then all are what they were.
    pub async fn become_all(&self, changed: &[(IntentId, &Intent)]) -> Result<(), StoreError> {
        let mut whole = self.0.writer().begin().await.map_err(self.0.failed("write the journal"))?;
        for (id, next) in changed {
            let vm_id = next.vm_id.map(|id| id.to_string());
            let (action, files) = (next.action.as_str(), json("journal.files", &next.files)?);
            sqlx::query!(
                "UPDATE journal SET vm_id = ?, action = ?, files = ? WHERE id = ?",
                vm_id,
                action,
                files,
                id.0
            )
            .execute(&mut *whole)
            .await
            .map_err(self.0.failed("write the journal"))?;
        }
        whole.commit().await.map_err(self.0.failed("write the journal"))
    }

    /// Takes an intent away: it is carried out, or undone. One that is gone already is no error.
    ///
    /// # Errors
    /// The store's; the intent is then found again at the next start.
    pub async fn end(&self, id: IntentId) -> Result<(), StoreError> {
        sqlx::query!("DELETE FROM journal WHERE id = ?", id.0)
            .execute(self.0.writer())
            .await
            .map_err(self.0.failed("write the journal"))?;
        Ok(())
    }

    /// Every intent that has not ended, oldest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn open(&self) -> Result<Vec<OpenIntent>, StoreError> {
        let rows =
            sqlx::query!("SELECT id, operation_id, vm_id, action, files, begun_at FROM journal ORDER BY id")
                .fetch_all(self.0.readers())
                .await
                .map_err(self.0.failed("read the journal"))?;
        rows.into_iter()
            .map(|row| {
                let id = row.id.to_string();
                let read = Reader::new(self.0.database(), "journal", &id);
                Ok(OpenIntent {
                    id: IntentId(row.id),
                    begun_at: read.parse("begun_at", &row.begun_at)?,
                    intent: Intent {
                        operation_id: read.parse("operation_id", &row.operation_id)?,
                        vm_id: read.parse_optional("vm_id", row.vm_id.as_deref())?,
                        action: read.one_of(
                            "action",
                            &row.action,
                            &IntentAction::ALL,
                            IntentAction::as_str,
                        )?,
                        files: read.json("files", &row.files)?,
                    },
                })
            })
            .collect()
    }
}
