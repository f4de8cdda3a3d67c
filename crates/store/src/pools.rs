//! Pools: directories of volumes that the user has named, and what of voidVM's own place the user has changed.

use jiff::Timestamp;
use voidvm_model::{Bytes, PoolId};

use crate::error::is_unique_violation;
use crate::row::{Reader, time};
use crate::{Store, StoreError};

/// A pool as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolRow {
    /// Its id.
    pub id: PoolId,
    /// Unique, compared exactly.
    pub name: String,
    /// Absolute; unique.
    pub path: String,
    /// Free space that is kept.
    pub floor: Bytes,
    /// When it became a pool.
    pub created_at: Timestamp,
}

/// The columns as SQLite gives them.
struct Columns {
    id: String,
    name: String,
    path: String,
    floor: i64,
    created_at: String,
}

/// The table of pools.
#[derive(Clone, Copy, Debug)]
pub struct Pools<'a>(pub(crate) &'a Store);

impl Pools<'_> {
    /// Adds a pool, or changes the one that has its id.
    ///
    /// # Errors
    /// [`StoreError::PoolTaken`], or the store's.
    pub async fn put(&self, row: &PoolRow) -> Result<(), StoreError> {
        let (id, created_at) = (row.id.to_string(), time(row.created_at));
        let floor = i64::try_from(row.floor.0).unwrap_or(i64::MAX);
        sqlx::query!(
            "INSERT INTO pools (id, name, path, floor, created_at) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, path = excluded.path, floor = excluded.floor",
            id,
            row.name,
            row.path,
            floor,
            created_at
        )
        .execute(self.0.writer())
        .await
        .map(drop)
        .map_err(|source| {
            if is_unique_violation(&source) {
                StoreError::PoolTaken { name: row.name.clone() }
            } else {
                self.0.failed("remember the pool")(source)
            }
        })
    }

    /// Forgets a pool. One that is gone already is no error.
    ///
    /// # Errors
    /// The store's.
    pub async fn delete(&self, id: PoolId) -> Result<(), StoreError> {
        let id = id.to_string();
        sqlx::query!("DELETE FROM pools WHERE id = ?", id)
            .execute(self.0.writer())
            .await
            .map(drop)
            .map_err(self.0.failed("forget the pool"))
    }

    /// Every pool, in the order of their names.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(&self) -> Result<Vec<PoolRow>, StoreError> {
        let rows =
            sqlx::query_as!(Columns, "SELECT id, name, path, floor, created_at FROM pools ORDER BY name")
                .fetch_all(self.0.readers())
                .await
                .map_err(self.0.failed("read the pools"))?;
        rows.into_iter()
            .map(|columns| {
                let read = Reader::new(self.0.database(), "pools", &columns.id);
                Ok(PoolRow {
                    id: read.parse("id", &columns.id)?,
                    floor: Bytes(read.count("floor", Some(columns.floor))?.unwrap_or_default()),
                    created_at: read.parse("created_at", &columns.created_at)?,
                    name: columns.name,
                    path: columns.path,
                })
            })
            .collect()
    }
}
