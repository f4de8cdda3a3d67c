//! The operation log: a row is written before its work begins, so an operation cut by a crash is there to be seen.

use jiff::Timestamp;
use sqlx::sqlite::SqliteExecutor;
use voidvm_model::contract::OperationListRequest;
use voidvm_model::operation::Progress;
use voidvm_model::{ErrorBody, ErrorCode, Operation, OperationId, OperationKind, OperationStatus, Origin};

use crate::row::{Reader, json, time};
use crate::{Store, StoreError};

/// How many operations are kept; the oldest finished ones go first.
pub const OPERATIONS_KEPT: u32 = 50_000;

/// A page of the list without a limit of its own, and the largest.
const PAGE: u32 = 50;
const PAGE_MAX: u32 = 500;

/// The columns as SQLite gives them.
struct Columns {
    id: String,
    kind: String,
    vm_id: Option<String>,
    image_id: Option<String>,
    pool_id: Option<String>,
    subject: String,
    status: String,
    origin: String,
    requested_at: String,
    started_at: Option<String>,
    finished_at: Option<String>,
    duration_ms: Option<i64>,
    progress_done: Option<i64>,
    progress_total: Option<i64>,
    cancellable: i64,
    result: Option<String>,
    error: Option<String>,
    stderr: Option<String>,
}

/// The table of operations.
#[derive(Clone, Copy, Debug)]
pub struct Operations<'a>(pub(crate) &'a Store);

impl Operations<'_> {
    /// Writes a new operation.
    ///
    /// # Errors
    /// The store's; then its work must not begin.
    pub async fn insert(&self, operation: &Operation) -> Result<(), StoreError> {
        let (id, kind) = (operation.id.to_string(), operation.kind.as_str());
        let vm_id = operation.vm_id.map(|id| id.to_string());
        let image_id = operation.image_id.map(|id| id.to_string());
        let pool_id = operation.pool_id.map(|id| id.to_string());
        let (status, origin) = (operation.status.as_str(), operation.origin.as_str());
        let requested_at = time(operation.requested_at);
        let Changing { started_at, finished_at, duration_ms, done, total, result, error } =
            Changing::of(operation)?;
        sqlx::query!(
            "INSERT INTO operations (id, kind, vm_id, image_id, pool_id, subject, status, origin, requested_at,
                                     started_at, finished_at, duration_ms, progress_done, progress_total, cancellable, result,
                                     error, stderr)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            id,
            kind,
            vm_id,
            image_id,
            pool_id,
            operation.subject,
            status,
            origin,
            requested_at,
            started_at,
            finished_at,
            duration_ms,
            done,
            total,
            operation.cancellable,
            result,
            error,
            operation.stderr
        )
        .execute(self.0.writer())
        .await
        .map(drop)
        .map_err(self.0.failed("log the operation"))
    }

    /// Replaces everything of an operation that changes while it goes on.
    ///
    /// # Errors
    /// [`StoreError::OperationNotFound`], or the store's.
    pub async fn update(&self, operation: &Operation) -> Result<(), StoreError> {
        if update(self.0.writer(), operation).await?.map_err(self.0.failed("log the operation"))? == 0 {
            return Err(StoreError::OperationNotFound { id: operation.id });
        }
        Ok(())
    }

    /// One operation.
    ///
    /// # Errors
    /// The store's.
    pub async fn get(&self, id: OperationId) -> Result<Option<Operation>, StoreError> {
        let id = id.to_string();
        let columns = sqlx::query_as!(Columns, "SELECT * FROM operations WHERE id = ?", id)
            .fetch_optional(self.0.readers())
            .await
            .map_err(self.0.failed("read the operation"))?;
        columns.map(|columns| self.operation(columns)).transpose()
    }

    /// A page of the log, newest first. The page after it begins `before` its last.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(&self, request: &OperationListRequest) -> Result<Vec<Operation>, StoreError> {
        let limit = i64::from(request.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX));
        let before = request.before.map(|id| id.to_string());
        let status = request.status.map(OperationStatus::as_str);
        // Two statements, so that each has its index.
        let rows = if let Some(vm_id) = request.vm_id {
            let vm_id = vm_id.to_string();
            sqlx::query_as!(
                Columns,
                "SELECT * FROM operations
                 WHERE vm_id = ?1 AND (?2 IS NULL OR id < ?2) AND (?3 IS NULL OR status = ?3)
                 ORDER BY id DESC LIMIT ?4",
                vm_id,
                before,
                status,
                limit
            )
            .fetch_all(self.0.readers())
            .await
        } else {
            sqlx::query_as!(
                Columns,
                "SELECT * FROM operations
                 WHERE (?1 IS NULL OR id < ?1) AND (?2 IS NULL OR status = ?2)
                 ORDER BY id DESC LIMIT ?3",
                before,
                status,
                limit
            )
            .fetch_all(self.0.readers())
            .await
        };
        let rows = rows.map_err(self.0.failed("read the operations"))?;
        rows.into_iter().map(|columns| self.operation(columns)).collect()
    }

    /// Every operation that is queued or running, oldest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn unfinished(&self) -> Result<Vec<Operation>, StoreError> {
        let rows = sqlx::query_as!(
            Columns,
            "SELECT * FROM operations WHERE status IN ('queued', 'running') ORDER BY id"
        )
        .fetch_all(self.0.readers())
        .await
        .map_err(self.0.failed("read the operations"))?;
        rows.into_iter().map(|columns| self.operation(columns)).collect()
    }

    /// Marks what the last owner of the store left unfinished as interrupted, as one change, and says what that was. To be
    /// called once, before any operation of this owner. Old operations beyond [`OPERATIONS_KEPT`] go at the same time.
    ///
    /// # Errors
    /// The store's; then nothing has changed.
    pub async fn interrupt_unfinished(&self, now: Timestamp) -> Result<Vec<Operation>, StoreError> {
        let failed = || self.0.failed("mark interrupted operations");
        let mut operations = self.unfinished().await?;
        let mut transaction = self.0.writer().begin().await.map_err(failed())?;
        for operation in &mut operations {
            interrupt(operation, now);
            update(&mut *transaction, operation).await?.map_err(failed())?;
        }
        prune(&mut *transaction, OPERATIONS_KEPT).await.map_err(failed())?;
        transaction.commit().await.map_err(failed())?;
        Ok(operations)
    }

    /// Removes the oldest finished operations beyond the newest `keep`. Says how many those were.
    ///
    /// # Errors
    /// The store's.
    pub async fn prune(&self, keep: u32) -> Result<u64, StoreError> {
        prune(self.0.writer(), keep).await.map_err(self.0.failed("remove old operations"))
    }

    fn operation(&self, columns: Columns) -> Result<Operation, StoreError> {
        let read = Reader::new(self.0.database(), "operations", &columns.id);
        let progress = match (
            read.count("progress_done", columns.progress_done)?,
            read.count("progress_total", columns.progress_total)?,
        ) {
            (Some(done), Some(total)) => Some(Progress { done, total }),
            _ => None,
        };
        Ok(Operation {
            id: read.parse("id", &columns.id)?,
            kind: read.one_of("kind", &columns.kind, &OperationKind::ALL, OperationKind::as_str)?,
            vm_id: read.parse_optional("vm_id", columns.vm_id.as_deref())?,
            image_id: read.parse_optional("image_id", columns.image_id.as_deref())?,
            pool_id: read.parse_optional("pool_id", columns.pool_id.as_deref())?,
            status: read.one_of("status", &columns.status, &OperationStatus::ALL, OperationStatus::as_str)?,
            origin: read.one_of("origin", &columns.origin, &Origin::ALL, Origin::as_str)?,
            requested_at: read.parse("requested_at", &columns.requested_at)?,
            started_at: read.parse_optional("started_at", columns.started_at.as_deref())?,
            finished_at: read.parse_optional("finished_at", columns.finished_at.as_deref())?,
            duration_ms: read.count("duration_ms", columns.duration_ms)?,
            progress,
            cancellable: columns.cancellable != 0,
            result: read.json_optional("result", columns.result.as_deref())?,
            error: read.json_optional("error", columns.error.as_deref())?,
            subject: columns.subject,
            stderr: columns.stderr,
        })
    }
}

/// The columns that change while an operation goes on.
struct Changing {
    started_at: Option<String>,
    finished_at: Option<String>,
    duration_ms: Option<i64>,
    done: Option<i64>,
    total: Option<i64>,
    result: Option<String>,
    error: Option<String>,
}

impl Changing {
    fn of(operation: &Operation) -> Result<Self, StoreError> {
        let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        Ok(Self {
            started_at: operation.started_at.map(time),
            finished_at: operation.finished_at.map(time),
            duration_ms: operation.duration_ms.map(count),
            done: operation.progress.map(|progress| count(progress.done)),
            total: operation.progress.map(|progress| count(progress.total)),
            result: operation.result.as_ref().map(|result| json("operations.result", result)).transpose()?,
            error: operation.error.as_ref().map(|body| json("operations.error", body)).transpose()?,
        })
    }
}

/// Says how many rows there were to change: one or none.
async fn update(
    executor: impl SqliteExecutor<'_>,
    operation: &Operation,
) -> Result<Result<u64, sqlx::Error>, StoreError> {
    let (id, status) = (operation.id.to_string(), operation.status.as_str());
    let Changing { started_at, finished_at, duration_ms, done, total, result, error } =
        Changing::of(operation)?;
    Ok(sqlx::query!(
        "UPDATE operations SET status = ?, started_at = ?, finished_at = ?, duration_ms = ?, progress_done = ?,
                               progress_total = ?, cancellable = ?, result = ?, error = ?, stderr = ? WHERE id = ?",
        status,
        started_at,
        finished_at,
        duration_ms,
        done,
        total,
        operation.cancellable,
        result,
        error,
        operation.stderr,
        id
    )
    .execute(executor)
    .await
    .map(|done| done.rows_affected()))
}

async fn prune(executor: impl SqliteExecutor<'_>, keep: u32) -> Result<u64, sqlx::Error> {
    sqlx::query!(
        "DELETE FROM operations
         WHERE id <= (SELECT id FROM operations ORDER BY id DESC LIMIT 1 OFFSET ?)
           AND status NOT IN ('queued', 'running')",
        keep
    )
    .execute(executor)
    .await
    .map(|done| done.rows_affected())
}

/// The app ended in the middle of it.
fn interrupt(operation: &mut Operation, now: Timestamp) {
    operation.status = OperationStatus::Interrupted;
    operation.finished_at = Some(now);
    operation.duration_ms = operation
        .started_at
        .and_then(|started| now.as_millisecond().checked_sub(started.as_millisecond()))
        .and_then(|elapsed| elapsed.try_into().ok());
    operation.cancellable = false;
    operation.error = Some(
        ErrorBody::new(ErrorCode::Interrupted, "voidVM ended while this was going on.")
            .with_hint("Look at the machine's state, and ask again if it is not as you want it."),
    );
}
