//! What can go wrong with the store, and how a person is told.

use std::path::{Path, PathBuf};

use voidvm_model::{ErrorBody, ErrorCode, OperationId, VmId};

/// Why the store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file was written by a newer voidVM; it was not touched.
    #[error("{path} has schema {found}; this voidVM knows {known}")]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest this build knows.
        known: i64,
    },
    /// The file system or the file refuses writes.
    #[error("{path} cannot be written to: {reason}")]
    ReadOnly {
        /// The data directory.
        path: PathBuf,
        /// In the system's words.
        reason: String,
    },
    /// This user may not.
    #[error("{path} may not be used by this user: {reason}")]
    PermissionDenied {
        /// The data directory.
        path: PathBuf,
        /// In the system's words.
        reason: String,
    },
    /// No space left for the file or its log.
    #[error("the disk with {path} is full")]
    DiskFull {
        /// The data directory.
        path: PathBuf,
    },
    /// The file is no database, or a damaged one, or holds what no voidVM wrote.
    #[error("{path} is damaged: {reason}")]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// Another image has the name, or is the same file.
    #[error("an image named {name:?} exists")]
    ImageTaken {
        /// The name.
        name: String,
    },
    /// Another machine has the name.
    #[error("a machine named {name:?} exists")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// Another pool has the name or the directory.
    #[error("a pool {name:?} exists")]
    PoolTaken {
        /// The name.
        name: String,
    },
    /// Another snapshot of the machine has the name.
    #[error("a snapshot named {name:?} exists")]
    SnapshotNameTaken {
        /// The name.
        name: String,
    },
    /// Another schedule has the name.
    #[error("a schedule named {name:?} exists")]
    ScheduleTaken {
        /// The name.
        name: String,
    },
    /// No such machine.
    #[error("no machine {id}")]
    VmNotFound {
        /// Its id.
        id: VmId,
    },
    /// No such operation.
    #[error("no operation {id}")]
    OperationNotFound {
        /// Its id.
        id: OperationId,
    },
    /// A value has no form the store can hold.
    #[error("{what} cannot be stored: {reason}")]
    Unstorable {
        /// Which value.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// Anything else SQLite says.
    #[error("could not {doing}: {source}")]
    Failed {
        /// What was tried.
        doing: &'static str,
        /// SQLite's words.
        #[source]
        source: sqlx::Error,
    },
}

impl StoreError {
    /// The error as every transport shows it.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        let with_path =
            |body: ErrorBody, path: &Path| body.with_detail("path", path.to_string_lossy().into_owned());
        match self {
            Self::Newer { path, found, known } => with_path(
                ErrorBody::new(
                    ErrorCode::DatabaseNewer,
                    format!(
                        "The data was written by a newer voidVM (schema {found}, this one knows {known})."
                    ),
                )
                .with_hint("Update voidVM. Nothing was changed; your machines are safe.")
                .with_detail("found", *found)
                .with_detail("known", *known),
                path,
            ),
            Self::ReadOnly { path, reason } => with_path(
                ErrorBody::new(
                    ErrorCode::ReadOnly,
                    format!("The data directory {} cannot be written to: {reason}.", path.display()),
                )
                .with_hint(
                    "Remount its file system for writing, or choose another directory with --data-dir.",
                ),
                path,
            ),
            Self::PermissionDenied { path, reason } => with_path(
                ErrorBody::new(
                    ErrorCode::PermissionDenied,
                    format!("This user may not write to the data directory {}: {reason}.", path.display()),
                )
                .with_hint("Make it your own (chown), or choose another directory with --data-dir."),
                path,
            ),
            Self::DiskFull { path } => with_path(
                ErrorBody::new(ErrorCode::DiskFull, format!("The disk with {} is full.", path.display()))
                    .with_hint("Free some space on it; what was stored before is safe."),
                path,
            ),
            Self::Corrupt { path, reason } => with_path(
                ErrorBody::new(
                    ErrorCode::DatabaseFailed,
                    format!("The database {} is damaged: {reason}.", path.display()),
                )
                .with_hint(
                    "Restore the newest copy (voidvm.db.bak-…) beside it, or move it away to begin anew; \
                     disk images are not affected.",
                ),
                path,
            ),
            Self::ImageTaken { name } => {
                ErrorBody::new(ErrorCode::NameTaken, format!("An image named “{name}” exists already."))
                    .with_field("name")
                    .with_hint("Choose another name.")
            }
            Self::NameTaken { name } => {
                ErrorBody::new(ErrorCode::NameTaken, format!("A machine named “{name}” exists already."))
                    .with_field("name")
                    .with_hint("Choose another name.")
            }
            Self::PoolTaken { name } => {
                ErrorBody::new(ErrorCode::NameTaken, format!("A pool named “{name}” exists already."))
                    .with_field("name")
                    .with_hint("Choose another name.")
            }
            Self::ScheduleTaken { name } => {
                ErrorBody::new(ErrorCode::NameTaken, format!("A schedule named “{name}” exists already."))
                    .with_field("name")
                    .with_hint("Choose another name.")
            }
            Self::SnapshotNameTaken { name } => {
                ErrorBody::new(ErrorCode::NameTaken, format!("There is a snapshot named “{name}” already."))
                    .with_field("name")
                    .with_hint("Choose another name.")
            }
            Self::VmNotFound { id } => {
                ErrorBody::new(ErrorCode::VmNotFound, format!("No machine has the id {id}."))
            }
            Self::OperationNotFound { id } => {
                ErrorBody::new(ErrorCode::OperationNotFound, format!("No operation has the id {id}."))
            }
            Self::Unstorable { .. } => ErrorBody::new(ErrorCode::Internal, format!("{self}.")),
            Self::Failed { .. } => {
                ErrorBody::new(ErrorCode::DatabaseFailed, format!("The database failed: {self}."))
            }
        }
    }
}

/// SQLite's result codes that have a meaning of their own here (primary codes: the low byte).
mod sqlite {
    pub(super) const READONLY: i32 = 8;
    pub(super) const IOERR: i32 = 10;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANTOPEN: i32 = 14;
    pub(super) const NOTADB: i32 = 26;
    /// Extended: a UNIQUE constraint.
    pub(super) const UNIQUE: i32 = 2067;
}

fn sqlite_code(source: &sqlx::Error) -> Option<i32> {
    source.as_database_error()?.code()?.parse().ok()
}

/// Whether the statement would have made a second row of one unique value.
pub(crate) fn is_unique_violation(source: &sqlx::Error) -> bool {
    sqlite_code(source) == Some(sqlite::UNIQUE)
}

/// Sorts an error of SQLite into ours. `database` is the file.
pub(crate) fn classify(doing: &'static str, database: &Path, source: sqlx::Error) -> StoreError {
    let dir = database.parent().unwrap_or(database);
    match sqlite_code(&source).map(|code| code & 0xff) {
        Some(sqlite::FULL) => StoreError::DiskFull { path: dir.to_owned() },
        Some(sqlite::CORRUPT | sqlite::NOTADB) => {
            let reason = source.as_database_error().map_or_else(String::new, |e| e.message().to_owned());
            StoreError::Corrupt { path: database.to_owned(), reason }
        }
        // SQLite says little about why a file cannot be opened or extended; the file system says it.
        Some(sqlite::READONLY | sqlite::CANTOPEN | sqlite::IOERR) => match probe_writing(dir) {
            Err(error) => classify_io(dir, &error),
            Ok(()) => StoreError::Failed { doing, source },
        },
        _ => StoreError::Failed { doing, source },
    }
}

/// Sorts an error of the file system into ours.
pub(crate) fn classify_io(dir: &Path, error: &std::io::Error) -> StoreError {
    use std::io::ErrorKind;
    let path = dir.to_owned();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::DiskFull { path },
        ErrorKind::PermissionDenied => StoreError::PermissionDenied { path, reason: error.to_string() },
        _ => StoreError::ReadOnly { path, reason: error.to_string() },
    }
}

/// Writes as much as SQLite's smallest shared-memory file into `dir`, and removes it.
fn probe_writing(dir: &Path) -> std::io::Result<()> {
    let path = dir.join(format!(".probe-{}", std::process::id()));
    let outcome = std::fs::write(&path, [0_u8; 32 * 1024]);
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a probe file could not be removed");
    }
    outcome
}
