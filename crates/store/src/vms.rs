//! Machines: their definitions and the last state known of each.

use jiff::Timestamp;
use voidvm_model::vm::VmMeta;
use voidvm_model::{ErrorBody, MachineSpec, VmId, VmState};

use crate::error::is_unique_violation;
use crate::row::{Reader, json, time};
use crate::{Store, StoreError};

/// A machine as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct VmRow {
    /// Its id.
    pub id: VmId,
    /// Unique, compared exactly.
    pub name: String,
    /// Free text.
    pub description: String,
    /// The guest's operating system as far as known.
    pub os_type: Option<String>,
    /// Its hardware.
    pub spec: MachineSpec,
    /// The last state known. Of a live one this says only what it was; whoever adopts it asks.
    pub state: VmState,
    /// Since when.
    pub state_since: Timestamp,
    /// Why it was in trouble.
    pub attention: Option<ErrorBody>,
    /// What it is sorted, marked and started by.
    pub meta: VmMeta,
    /// The machine a linked clone was made of.
    pub parent: Option<VmId>,
    /// Whether it is removed when it stops. Said when it is made.
    pub passing: bool,
    /// When it was defined.
    pub created_at: Timestamp,
    /// When its definition last changed.
    pub updated_at: Timestamp,
}

/// The columns as SQLite gives them.
struct Columns {
    id: String,
    name: String,
    description: String,
    os_type: Option<String>,
    spec: String,
    state: String,
    state_since: String,
    attention: Option<String>,
    meta: String,
    parent: Option<String>,
    passing: i64,
    created_at: String,
    updated_at: String,
}

/// The table of machines.
#[derive(Clone, Copy, Debug)]
pub struct Vms<'a>(pub(crate) &'a Store);

impl Vms<'_> {
    /// Adds a machine.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`], or the store's.
    pub async fn insert(&self, row: &VmRow) -> Result<(), StoreError> {
        let (id, spec) = (row.id.to_string(), json("vms.spec", &row.spec)?);
        let (state, state_since) = (row.state.as_str(), time(row.state_since));
        let attention = row.attention.as_ref().map(|body| json("vms.attention", body)).transpose()?;
        let (meta, parent) = (json("vms.meta", &row.meta)?, row.parent.map(|id| id.to_string()));
        let (created_at, updated_at) = (time(row.created_at), time(row.updated_at));
        let passing = i64::from(row.passing);
        sqlx::query!(
            "INSERT INTO vms (id, name, description, os_type, spec, state, state_since, attention, meta, parent,
                              passing, created_at, updated_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            id,
            row.name,
            row.description,
            row.os_type,
            spec,
            state,
            state_since,
            attention,
            meta,
            parent,
            passing,
            created_at,
            updated_at
        )
        .execute(self.0.writer())
        .await
        .map(drop)
        .map_err(|source| self.name_or(&row.name, "add the machine", source))
    }

    /// Replaces the definition: name, description, operating system, hardware, sorting, parent, `updated_at`. The state stays.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`], [`StoreError::VmNotFound`], or the store's.
    pub async fn update(&self, row: &VmRow) -> Result<(), StoreError> {
        let (id, spec, updated_at) = (row.id.to_string(), json("vms.spec", &row.spec)?, time(row.updated_at));
        let (meta, parent) = (json("vms.meta", &row.meta)?, row.parent.map(|id| id.to_string()));
        let done = sqlx::query!(
            "UPDATE vms SET name = ?, description = ?, os_type = ?, spec = ?, meta = ?, parent = ?, updated_at = ?
             WHERE id = ?",
            row.name,
            row.description,
            row.os_type,
            spec,
            meta,
            parent,
            updated_at,
            id
        )
        .execute(self.0.writer())
        .await
        .map_err(|source| self.name_or(&row.name, "change the machine", source))?;
        found(row.id, done.rows_affected())
    }

    /// Remembers the state, and why it is trouble where it is.
    ///
    /// # Errors
    /// [`StoreError::VmNotFound`], or the store's.
    pub async fn set_state(
        &self,
        id: VmId,
        state: VmState,
        since: Timestamp,
        attention: Option<&ErrorBody>,
    ) -> Result<(), StoreError> {
        let (key, state, since) = (id.to_string(), state.as_str(), time(since));
        let attention = attention.map(|body| json("vms.attention", body)).transpose()?;
        let done = sqlx::query!(
            "UPDATE vms SET state = ?, state_since = ?, attention = ? WHERE id = ?",
            state,
            since,
            attention,
            key
        )
        .execute(self.0.writer())
        .await
        .map_err(self.0.failed("remember the machine's state"))?;
        found(id, done.rows_affected())
    }

    /// Removes a machine's row. One that is gone already is no error, so that a deletion can be taken up again.
    ///
    /// # Errors
    /// The store's.
    pub async fn delete(&self, id: VmId) -> Result<(), StoreError> {
        let id = id.to_string();
        sqlx::query!("DELETE FROM vms WHERE id = ?", id)
            .execute(self.0.writer())
            .await
            .map(drop)
            .map_err(self.0.failed("remove the machine"))
    }

    /// One machine.
    ///
    /// # Errors
    /// The store's.
    pub async fn get(&self, id: VmId) -> Result<Option<VmRow>, StoreError> {
        let id = id.to_string();
        let columns = sqlx::query_as!(
            Columns,
            "SELECT id, name, description, os_type, spec, state, state_since, attention, meta, parent, passing,
                    created_at, updated_at
             FROM vms WHERE id = ?",
            id
        )
        .fetch_optional(self.0.readers())
        .await
        .map_err(self.0.failed("read the machine"))?;
        columns.map(|columns| self.row(columns)).transpose()
    }

    /// The machine of exactly this name.
    ///
    /// # Errors
    /// The store's.
    pub async fn by_name(&self, name: &str) -> Result<Option<VmRow>, StoreError> {
        let columns = sqlx::query_as!(
            Columns,
            "SELECT id, name, description, os_type, spec, state, state_since, attention, meta, parent, passing,
                    created_at, updated_at
             FROM vms WHERE name = ?",
            name
        )
        .fetch_optional(self.0.readers())
        .await
        .map_err(self.0.failed("read the machine"))?;
        columns.map(|columns| self.row(columns)).transpose()
    }

    /// Every machine, in the order of their names.
    ///
    /// # Errors
    /// The store's; one row that cannot be read fails the whole, since a list without it would be a lie.
    pub async fn list(&self) -> Result<Vec<VmRow>, StoreError> {
        let rows = sqlx::query_as!(
            Columns,
            "SELECT id, name, description, os_type, spec, state, state_since, attention, meta, parent, passing,
                    created_at, updated_at
             FROM vms ORDER BY name"
        )
        .fetch_all(self.0.readers())
        .await
        .map_err(self.0.failed("read the machines"))?;
        rows.into_iter().map(|columns| self.row(columns)).collect()
    }

    fn row(&self, columns: Columns) -> Result<VmRow, StoreError> {
        let read = Reader::new(self.0.database(), "vms", &columns.id);
        Ok(VmRow {
            id: read.parse("id", &columns.id)?,
            spec: read.json("spec", &columns.spec)?,
            state: read.one_of("state", &columns.state, &VmState::ALL, VmState::as_str)?,
            state_since: read.parse("state_since", &columns.state_since)?,
            attention: read.json_optional("attention", columns.attention.as_deref())?,
            meta: read.json("meta", &columns.meta)?,
            parent: read.parse_optional("parent", columns.parent.as_deref())?,
            passing: columns.passing != 0,
            created_at: read.parse("created_at", &columns.created_at)?,
            updated_at: read.parse("updated_at", &columns.updated_at)?,
            name: columns.name,
            description: columns.description,
            os_type: columns.os_type,
        })
    }

    fn name_or(&self, name: &str, doing: &'static str, source: sqlx::Error) -> StoreError {
        if is_unique_violation(&source) {
            StoreError::NameTaken { name: name.to_owned() }
        } else {
            self.0.failed(doing)(source)
        }
    }
}

const fn found(id: VmId, rows: u64) -> Result<(), StoreError> {
    if rows == 0 { Err(StoreError::VmNotFound { id }) } else { Ok(()) }
}
