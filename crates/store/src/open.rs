//! Opening the store: find the file, refuse what is newer, copy before changing, migrate, and open for reading.
//!
//! ```text
//! create or find ─▶ one connection ─▶ newer? refuse ─▶ older? copy ─▶ migrate ─▶ open the readers
//! ```

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use crate::error::{classify, classify_io};
use crate::{
    BackupMarks, History, Images, Journal, Operations, Pools, Schedules, SettingsTable, Snapshots,
    StoreError, Vms,
};

/// The database's name in the data directory.
pub const DATABASE_FILE: &str = "voidvm.db";

static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// How long a statement waits for another connection's lock. Only a program of somebody else's can hold it that long.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that only read.
const READERS: u32 = 3;

/// The newest schema version this build knows.
#[must_use]
pub fn known_version() -> i64 {
    newest(&MIGRATOR)
}

fn newest(migrator: &Migrator) -> i64 {
    migrator.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// The open store. Cheap to clone; the last clone closes the file.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    writer: SqlitePool,
    readers: SqlitePool,
    database: PathBuf,
}

impl Store {
    /// Opens, creates or migrates `voidvm.db` in `data_dir` (made when it is not there, for this user only).
    ///
    /// # Errors
    /// [`StoreError::Newer`], [`ReadOnly`](StoreError::ReadOnly), [`PermissionDenied`](StoreError::PermissionDenied),
    /// [`DiskFull`](StoreError::DiskFull), [`Corrupt`](StoreError::Corrupt), or [`Failed`](StoreError::Failed). A store that
    /// cannot be opened is left as it was.
    pub async fn open(data_dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(data_dir, &MIGRATOR).await
    }

    async fn open_with(data_dir: &Path, migrator: &Migrator) -> Result<Self, StoreError> {
        let database = data_dir.join(DATABASE_FILE);
        touch(data_dir, &database)?;
        let options = SqliteConnectOptions::new()
            .filename(&database)
            .create_if_missing(false)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options.clone())
            .await
            .map_err(|source| classify("open the database", &database, source))?;
        if let Err(error) = migrate(&writer, &database, migrator).await {
            writer.close().await;
            return Err(error);
        }
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .min_connections(0)
            .idle_timeout(Duration::from_secs(60))
            .connect_lazy_with(options.pragma("query_only", "on"));
        Ok(Self(Arc::new(Inner { writer, readers, database })))
    }

    /// Closes every connection after what they are doing; the log is folded into the file. Other clones fail from now on.
    pub async fn close(&self) {
        self.0.readers.close().await;
        self.0.writer.close().await;
    }

    /// The machines' table.
    #[must_use]
    pub const fn vms(&self) -> Vms<'_> {
        Vms(self)
    }

    /// Machine snapshots.
    #[must_use]
    pub const fn snapshots(&self) -> Snapshots<'_> {
        Snapshots(self)
    }

    /// What backups stand on.
    #[must_use]
    pub const fn backup_marks(&self) -> BackupMarks<'_> {
        BackupMarks(self)
    }

    /// Schedules and their runs.
    #[must_use]
    pub const fn schedules(&self) -> Schedules<'_> {
        Schedules(self)
    }

    /// What was measured.
    #[must_use]
    pub const fn history(&self) -> History<'_> {
        History(self)
    }

    /// The operation log.
    #[must_use]
    pub const fn operations(&self) -> Operations<'_> {
        Operations(self)
    }

    /// What the user set.
    #[must_use]
    pub const fn settings(&self) -> SettingsTable<'_> {
        SettingsTable(self)
    }

    /// The images' table.
    #[must_use]
    pub const fn images(&self) -> Images<'_> {
        Images(self)
    }

    /// The pools' table.
    #[must_use]
    pub const fn pools(&self) -> Pools<'_> {
        Pools(self)
    }

    /// Intents about files.
    #[must_use]
    pub const fn journal(&self) -> Journal<'_> {
        Journal(self)
    }

    /// The file.
    #[must_use]
    pub fn database(&self) -> &Path {
        &self.0.database
    }

    pub(crate) fn writer(&self) -> &SqlitePool {
        &self.0.writer
    }

    pub(crate) fn readers(&self) -> &SqlitePool {
        &self.0.readers
    }

    /// Turns an error of SQLite into ours.
    pub(crate) fn failed(&self, doing: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
        move |source| classify(doing, &self.0.database, source)
    }
}

/// Makes the directory and the file where they are missing, readable by this user alone. SQLite would do it too, with the
/// process's umask and without a reason when it cannot.
fn touch(dir: &Path, database: &Path) -> Result<(), StoreError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| {
            let mut file = std::fs::OpenOptions::new();
            file.read(true).write(true).create(true).truncate(false).mode(0o600).open(database)
        })
        .map(drop)
        .map_err(|error| classify_io(dir, &error))
}

async fn migrate(writer: &SqlitePool, database: &Path, migrator: &Migrator) -> Result<(), StoreError> {
    let failed = |doing| move |source| classify(doing, database, source);
    let has_history = sqlx::query_scalar::<_, i64>(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'",
    )
    .fetch_one(writer)
    .await
    .map_err(failed("read the schema"))?
        > 0;
    let found = if has_history {
        sqlx::query_scalar::<_, i64>("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")
            .fetch_one(writer)
            .await
            .map_err(failed("read the schema's version"))?
    } else {
        0
    };
    let known = newest(migrator);
    if found > known {
        return Err(StoreError::Newer { path: database.to_owned(), found, known });
    }
    if found == known {
        return Ok(());
    }
    if found > 0 {
        back_up(writer, database, found).await?;
    }
    tracing::info!(from = found, to = known, "migrating the database");
    migrator.run(writer).await.map_err(|error| match error {
        MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
            classify("migrate the database", database, source)
        }
        other => StoreError::Corrupt { path: database.to_owned(), reason: other.to_string() },
    })
}

/// Copies the whole database, as of its last commit, to `voidvm.db.bak-<version>`; the copy is complete or not there.
async fn back_up(writer: &SqlitePool, database: &Path, version: i64) -> Result<(), StoreError> {
    let backup = database.with_file_name(format!("{DATABASE_FILE}.bak-{version}"));
    let part = database.with_file_name(format!("{DATABASE_FILE}.bak-{version}.part"));
    let dir = database.parent().unwrap_or(database);
    match std::fs::remove_file(&part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(classify_io(dir, &error)),
        _ => {}
    }
    sqlx::query("VACUUM INTO ?")
        .bind(part.to_string_lossy().into_owned())
        .execute(writer)
        .await
        .map_err(|source| classify("copy the database before migrating it", database, source))?;
    std::fs::rename(&part, &backup).map_err(|error| classify_io(dir, &error))?;
    tracing::info!(backup = %backup.display(), "copied the database before migrating it");
    Ok(())
}

#[cfg(test)]
mod tests {
    use sqlx::SqlSafeStr as _;
    use sqlx::migrate::{Migration, MigrationType};

    use super::*;

    /// This build's migrations, and one of a version to come.
    fn next(statement: &'static str) -> Migrator {
        let mut migrations: Vec<Migration> = MIGRATOR.iter().cloned().collect();
        migrations.push(Migration::new(
            newest(&MIGRATOR) + 1,
            "next".into(),
            MigrationType::Simple,
            statement.into_sql_str(),
            false,
        ));
        Migrator::with_migrations(migrations)
    }

    async fn with_a_setting(dir: &Path) {
        let store = Store::open(dir).await.unwrap();
        let settings = [("language".to_owned(), "en".into())];
        store.settings().replace(&settings.into()).await.unwrap();
        // Not closed: the rows are still in the log beside the file.
    }

    #[tokio::test]
    async fn an_older_database_is_copied_before_it_is_migrated() {
        let dir = tempfile::tempdir().unwrap();
        with_a_setting(dir.path()).await;
        let store =
            Store::open_with(dir.path(), &next("ALTER TABLE vms ADD COLUMN colour TEXT")).await.unwrap();
        sqlx::query("SELECT colour FROM vms").fetch_all(store.readers()).await.unwrap();
        assert_eq!(store.settings().get_all().await.unwrap().len(), 1);
        store.close().await;

        let refused = Store::open(dir.path()).await.unwrap_err();
        assert!(matches!(refused, StoreError::Newer { .. }), "{refused:?}");

        let copy = dir.path().join(format!("{DATABASE_FILE}.bak-{}", known_version()));
        std::fs::rename(copy, dir.path().join(DATABASE_FILE)).unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        assert_eq!(store.settings().get_all().await.unwrap().len(), 1, "the copy is whole");
    }

    #[tokio::test]
    async fn a_migration_that_fails_leaves_the_old_version() {
        let dir = tempfile::tempdir().unwrap();
        with_a_setting(dir.path()).await;
        let broken = next("CREATE TABLE half (done TEXT); INSERT INTO nowhere VALUES (1);");
        let failed = Store::open_with(dir.path(), &broken).await.unwrap_err();
        assert!(matches!(failed, StoreError::Failed { .. }), "{failed:?}");
        let store = Store::open(dir.path()).await.unwrap();
        assert_eq!(store.settings().get_all().await.unwrap().len(), 1);
        sqlx::query("SELECT * FROM half").fetch_all(store.readers()).await.unwrap_err();
    }
}
