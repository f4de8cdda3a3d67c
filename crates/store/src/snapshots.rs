//! Machine snapshots: what each holds, and the tree they form.
//!
//! Invariants: a machine's rows form a forest; at most one of them is what the present came after; a removed one's children,
//! and the present, move to its parent, in the same step. What is part of a group's snapshot comes and goes with it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::{Sqlite, Transaction};
use voidvm_model::snapshot::{Consistency, SnapshotReason};
use voidvm_model::{DeviceId, GroupSnapshotId, MachineSpec, SnapshotId, VmId};

use crate::error::is_unique_violation;
use crate::row::{Reader, json, time};
use crate::{Store, StoreError};

/// A snapshot as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotRow {
    /// Its id.
    pub id: SnapshotId,
    /// The machine.
    pub vm_id: VmId,
    /// Unique within the machine.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Words it can be found by.
    pub tags: Vec<String>,
    /// Who wanted it.
    pub reason: SnapshotReason,
    /// The schedule whose retention may remove it.
    pub schedule_id: Option<String>,
    /// Whether retention leaves it alone.
    pub keep: bool,
    /// The snapshot of a group that it is part of.
    pub group_snapshot: Option<GroupSnapshotId>,
    /// The snapshot it came after.
    pub parent: Option<SnapshotId>,
    /// Whether the present came after it.
    pub current: bool,
    /// The instant it shows.
    pub created_at: Timestamp,
    /// Whether memory is in it.
    pub memory: bool,
    /// How well its disks fit together.
    pub consistency: Consistency,
    /// How long the guest was held, in milliseconds.
    pub pause_ms: Option<f64>,
    /// How long making it took, in milliseconds.
    pub total_ms: u64,
    /// The hardware it had.
    pub spec: MachineSpec,
    /// For each disk it holds the name of the frozen file in the machine's directory.
    pub layers: BTreeMap<DeviceId, String>,
}

/// The columns as SQLite gives them.
struct Columns {
    id: String,
    vm_id: String,
    name: String,
    description: String,
    tags: String,
    reason: String,
    schedule_id: Option<String>,
    keep: i64,
    group_snapshot: Option<String>,
    parent: Option<String>,
    current: i64,
    created_at: String,
    memory: i64,
    consistency: String,
    pause_ms: Option<f64>,
    total_ms: i64,
    spec: String,
    layers: String,
}

/// The table of snapshots.
#[derive(Clone, Copy, Debug)]
pub struct Snapshots<'a>(pub(crate) &'a Store);

impl Snapshots<'_> {
    /// Adds a snapshot that the present came after, in place of whichever it was.
    ///
    /// # Errors
    /// [`StoreError::SnapshotNameTaken`], or the store's.
    pub async fn insert(&self, row: &SnapshotRow) -> Result<(), StoreError> {
        let mut whole = self.0.writer().begin().await.map_err(self.0.failed("add the snapshot"))?;
        self.insert_in(&mut whole, row).await?;
        whole.commit().await.map_err(self.0.failed("add the snapshot"))
    }

    /// As [`Snapshots::insert`], as a part of something larger.
    pub(crate) async fn insert_in(
        &self,
        whole: &mut Transaction<'_, Sqlite>,
        row: &SnapshotRow,
    ) -> Result<(), StoreError> {
        let (id, vm_id) = (row.id.to_string(), row.vm_id.to_string());
        let (tags, layers) = (json("snapshots.tags", &row.tags)?, json("snapshots.layers", &row.layers)?);
        let (reason, consistency) = (row.reason.as_str(), row.consistency.as_str());
        let (keep, memory) = (i64::from(row.keep), i64::from(row.memory));
        let (parent, group) =
            (row.parent.map(|id| id.to_string()), row.group_snapshot.map(|id| id.to_string()));
        let (created_at, spec) = (time(row.created_at), json("snapshots.spec", &row.spec)?);
        let total_ms = i64::try_from(row.total_ms).unwrap_or(i64::MAX);
        let failed = |source| {
            if is_unique_violation(&source) {
                StoreError::SnapshotNameTaken { name: row.name.clone() }
            } else {
                self.0.failed("add the snapshot")(source)
            }
        };
        sqlx::query!("UPDATE snapshots SET current = 0 WHERE vm_id = ? AND current = 1", vm_id)
            .execute(&mut **whole)
            .await
            .map_err(self.0.failed("add the snapshot"))?;
        sqlx::query!(
            "INSERT INTO snapshots (id, vm_id, name, description, tags, reason, schedule_id, keep, group_snapshot,
                                    parent, current, created_at, memory, consistency, pause_ms, total_ms, spec, layers)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?)",
            id,
            vm_id,
            row.name,
            row.description,
            tags,
            reason,
            row.schedule_id,
            keep,
            group,
            parent,
            created_at,
            memory,
            consistency,
            row.pause_ms,
            total_ms,
            spec,
            layers
        )
        .execute(&mut **whole)
        .await
        .map(drop)
        .map_err(failed)
    }

    /// Changes name, text, tags, and whether retention leaves it alone.
    ///
    /// # Errors
    /// [`StoreError::SnapshotNameTaken`], or the store's. One that is gone is no error.
    pub async fn update(&self, row: &SnapshotRow) -> Result<(), StoreError> {
        let (id, tags, keep) = (row.id.to_string(), json("snapshots.tags", &row.tags)?, i64::from(row.keep));
        sqlx::query!(
            "UPDATE snapshots SET name = ?, description = ?, tags = ?, keep = ? WHERE id = ?",
            row.name,
            row.description,
            tags,
            keep,
            id
        )
        .execute(self.0.writer())
        .await
        .map(drop)
        .map_err(|source| {
            if is_unique_violation(&source) {
                StoreError::SnapshotNameTaken { name: row.name.clone() }
            } else {
                self.0.failed("change the snapshot")(source)
            }
        })
    }

    /// Removes a snapshot: its children come after its parent, and so does the present when it came after this one.
    ///
    /// # Errors
    /// The store's. One that is gone is no error.
    pub async fn remove(&self, id: SnapshotId) -> Result<(), StoreError> {
        let failed = |source| self.0.failed("remove the snapshot")(source);
        let mut whole = self.0.writer().begin().await.map_err(failed)?;
        self.remove_in(&mut whole, id).await?;
        whole.commit().await.map_err(failed)
    }

    /// As [`Snapshots::remove`], as a part of something larger.
    pub(crate) async fn remove_in(
        &self,
        whole: &mut Transaction<'_, Sqlite>,
        id: SnapshotId,
    ) -> Result<(), StoreError> {
        let id = id.to_string();
        let failed = |source| self.0.failed("remove the snapshot")(source);
        let gone = sqlx::query!("SELECT parent, current FROM snapshots WHERE id = ?", id)
            .fetch_optional(&mut **whole)
            .await
            .map_err(failed)?;
        let Some(gone) = gone else { return Ok(()) };
        sqlx::query!("UPDATE snapshots SET parent = ? WHERE parent = ?", gone.parent, id)
            .execute(&mut **whole)
            .await
            .map_err(failed)?;
        sqlx::query!("DELETE FROM snapshots WHERE id = ?", id).execute(&mut **whole).await.map_err(failed)?;
        if gone.current == 1 {
            sqlx::query!("UPDATE snapshots SET current = 1 WHERE id = ?", gone.parent)
                .execute(&mut **whole)
                .await
                .map_err(failed)?;
        }
        Ok(())
    }

    /// The present comes after this one from now on.
    ///
    /// # Errors
    /// The store's.
    pub async fn make_current(&self, vm: VmId, id: SnapshotId) -> Result<(), StoreError> {
        let (vm, id) = (vm.to_string(), id.to_string());
        let failed = |source| self.0.failed("change the snapshots")(source);
        let mut whole = self.0.writer().begin().await.map_err(failed)?;
        sqlx::query!("UPDATE snapshots SET current = 0 WHERE vm_id = ? AND current = 1", vm)
            .execute(&mut *whole)
            .await
            .map_err(failed)?;
        sqlx::query!("UPDATE snapshots SET current = 1 WHERE id = ?", id)
            .execute(&mut *whole)
            .await
            .map_err(failed)?;
        whole.commit().await.map_err(failed)
    }

    /// A machine's snapshots, oldest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn of(&self, vm: VmId) -> Result<Vec<SnapshotRow>, StoreError> {
        let vm = vm.to_string();
        let rows = sqlx::query_as!(
            Columns,
            "SELECT id, vm_id, name, description, tags, reason, schedule_id, keep, group_snapshot, parent, current,
                    created_at, memory, consistency, pause_ms, total_ms, spec, layers
             FROM snapshots WHERE vm_id = ? ORDER BY created_at, id",
            vm
        )
        .fetch_all(self.0.readers())
        .await
        .map_err(self.0.failed("read the snapshots"))?;
        rows.into_iter().map(|columns| self.row(columns)).collect()
    }

    /// Every machine's snapshots, oldest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn all(&self) -> Result<Vec<SnapshotRow>, StoreError> {
        let rows = sqlx::query_as!(
            Columns,
            "SELECT id, vm_id, name, description, tags, reason, schedule_id, keep, group_snapshot, parent, current,
                    created_at, memory, consistency, pause_ms, total_ms, spec, layers
             FROM snapshots ORDER BY created_at, id"
        )
        .fetch_all(self.0.readers())
        .await
        .map_err(self.0.failed("read the snapshots"))?;
        rows.into_iter().map(|columns| self.row(columns)).collect()
    }

    fn row(&self, columns: Columns) -> Result<SnapshotRow, StoreError> {
        let read = Reader::new(self.0.database(), "snapshots", &columns.id);
        Ok(SnapshotRow {
            id: read.parse("id", &columns.id)?,
            vm_id: read.parse("vm_id", &columns.vm_id)?,
            tags: read.json("tags", &columns.tags)?,
            reason: read.one_of("reason", &columns.reason, &SnapshotReason::ALL, SnapshotReason::as_str)?,
            keep: columns.keep != 0,
            group_snapshot: read.parse_optional("group_snapshot", columns.group_snapshot.as_deref())?,
            parent: read.parse_optional("parent", columns.parent.as_deref())?,
            current: columns.current != 0,
            created_at: read.parse("created_at", &columns.created_at)?,
            memory: columns.memory != 0,
            consistency: read.one_of(
                "consistency",
                &columns.consistency,
                &Consistency::ALL,
                Consistency::as_str,
            )?,
            pause_ms: columns.pause_ms,
            total_ms: u64::try_from(columns.total_ms).unwrap_or_default(),
            spec: read.json("spec", &columns.spec)?,
            layers: read.json("layers", &columns.layers)?,
            name: columns.name,
            description: columns.description,
            schedule_id: columns.schedule_id,
        })
    }
}
