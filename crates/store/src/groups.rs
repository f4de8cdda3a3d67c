//! Snapshots of groups of machines: what binds the snapshots of several machines to one instant.
//!
//! Invariant: the row is there as long as one of its machines' snapshots is, and they are written, and removed, in one step.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use voidvm_model::snapshot::SnapshotReason;
use voidvm_model::{GroupSnapshotId, SnapshotId, VmId};

use crate::error::is_unique_violation;
use crate::row::{Reader, json, time};
use crate::{SnapshotRow, Store, StoreError};

/// A group's snapshot as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSnapshotRow {
    /// Its id.
    pub id: GroupSnapshotId,
    /// The group, as it was called then.
    pub group: String,
    /// Unique within the group.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Who wanted it.
    pub reason: SnapshotReason,
    /// The schedule whose retention may remove it.
    pub schedule_id: Option<String>,
    /// The instant it shows.
    pub created_at: Timestamp,
    /// From when the first guest was held to when the last one was, in milliseconds.
    pub spread_ms: Option<f64>,
    /// How long making it took, in milliseconds.
    pub total_ms: u64,
    /// The machines it is of; some may be gone since.
    pub members: Vec<GroupMemberRow>,
}

/// A machine of a group, as it was called then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMemberRow {
    /// Which.
    pub id: VmId,
    /// Its name.
    pub name: String,
}

/// The table of groups' snapshots.
#[derive(Clone, Copy, Debug)]
pub struct GroupSnapshots<'a>(pub(crate) &'a Store);

impl GroupSnapshots<'_> {
    /// Adds a group's snapshot with those of its machines: all of it, or nothing.
    ///
    /// # Errors
    /// [`StoreError::SnapshotNameTaken`], or the store's.
    pub async fn insert(&self, row: &GroupSnapshotRow, parts: &[SnapshotRow]) -> Result<(), StoreError> {
        let id = row.id.to_string();
        let (reason, created_at) = (row.reason.as_str(), time(row.created_at));
        let total_ms = i64::try_from(row.total_ms).unwrap_or(i64::MAX);
        let members = json("group_snapshots.members", &row.members)?;
        let failed = |source| {
            if is_unique_violation(&source) {
                StoreError::SnapshotNameTaken { name: row.name.clone() }
            } else {
                self.0.failed("add the group's snapshot")(source)
            }
        };
        let mut whole = self.0.writer().begin().await.map_err(failed)?;
        sqlx::query!(
            "INSERT INTO group_snapshots (id, group_name, name, description, reason, schedule_id, created_at,
                                          spread_ms, total_ms, members)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            id,
            row.group,
            row.name,
            row.description,
            reason,
            row.schedule_id,
            created_at,
            row.spread_ms,
            total_ms,
            members
        )
        .execute(&mut *whole)
        .await
        .map_err(failed)?;
        for part in parts {
            self.0.snapshots().insert_in(&mut whole, part).await?;
        }
        whole.commit().await.map_err(failed)
    }

    /// Removes a group's snapshot with those of its machines, each as [`crate::Snapshots::remove`] does.
    ///
    /// # Errors
    /// The store's; then all of it is still there. What is gone already is no error.
    pub async fn remove(&self, parts: &[SnapshotId]) -> Result<(), StoreError> {
        let failed = |source| self.0.failed("remove the group's snapshot")(source);
        let mut whole = self.0.writer().begin().await.map_err(failed)?;
        for part in parts {
            // With the last of them the group's own row goes.
            self.0.snapshots().remove_in(&mut whole, *part).await?;
        }
        whole.commit().await.map_err(failed)
    }

    /// Every group's snapshots, oldest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn all(&self) -> Result<Vec<GroupSnapshotRow>, StoreError> {
        let rows = sqlx::query!(
            "SELECT id, group_name, name, description, reason, schedule_id, created_at, spread_ms, total_ms, members
             FROM group_snapshots ORDER BY created_at, id"
        )
        .fetch_all(self.0.readers())
        .await
        .map_err(self.0.failed("read the groups' snapshots"))?;
        rows.into_iter()
            .map(|row| {
                let read = Reader::new(self.0.database(), "group_snapshots", &row.id);
                Ok(GroupSnapshotRow {
                    id: read.parse("id", &row.id)?,
                    reason: read.one_of(
                        "reason",
                        &row.reason,
                        &SnapshotReason::ALL,
                        SnapshotReason::as_str,
                    )?,
                    created_at: read.parse("created_at", &row.created_at)?,
                    total_ms: u64::try_from(row.total_ms).unwrap_or_default(),
                    members: read.json("members", &row.members)?,
                    group: row.group_name,
                    name: row.name,
                    description: row.description,
                    schedule_id: row.schedule_id,
                    spread_ms: row.spread_ms,
                })
            })
            .collect()
    }
}
