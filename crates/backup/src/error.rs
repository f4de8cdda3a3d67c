//! What goes wrong, as the one error of every transport.

use std::io;
use std::path::Path;

use voidvm_model::{ErrorBody, ErrorCode};

/// A file or directory of the repository, or one that is restored, could not be used.
pub(crate) fn io(path: &Path, error: &io::Error) -> ErrorBody {
    if let Some(body) = carried(error) {
        return body;
    }
    let shown = path.display();
    let body = match error.kind() {
        io::ErrorKind::NotFound => ErrorBody::new(ErrorCode::NotFound, format!("{shown} is not there."))
            .with_hint("Check that the disk with the backups is mounted."),
        io::ErrorKind::PermissionDenied => {
            ErrorBody::new(ErrorCode::PermissionDenied, format!("You may not use {shown}."))
                .with_hint("Give your user access to it.")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ErrorBody::new(ErrorCode::DiskFull, format!("There is no room left for {shown}."))
                .with_hint("Free some space on that disk, or prune old backups.")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            ErrorBody::new(ErrorCode::ReadOnly, format!("{shown} is on a read-only file system."))
                .with_hint("Mount it writable, or choose another folder.")
        }
        _ => ErrorBody::new(ErrorCode::Internal, format!("{shown}: {error}.")),
    };
    body.with_detail("path", path.to_string_lossy()).with_detail("reason", error.to_string())
}

/// What a source or a sink said of itself, when it did.
fn carried(error: &io::Error) -> Option<ErrorBody> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<ErrorBody>()).cloned()
}

/// The content of a disk could not be read where it is.
pub(crate) fn source(file: &str, offset: u64, error: &io::Error) -> ErrorBody {
    carried(error).unwrap_or_else(|| {
        ErrorBody::new(ErrorCode::Internal, format!("{file} could not be read at {offset}: {error}."))
            .with_detail("file", file)
            .with_detail("offset", offset)
    })
}

/// Something in the repository is not what was written into it.
pub(crate) fn damaged(what: impl Into<String>) -> ErrorBody {
    ErrorBody::new(ErrorCode::ChecksumMismatch, what)
        .with_hint("Verify the backups, and make a new full one to another disk.")
}

/// Somebody asked for the end.
pub(crate) fn cancelled() -> ErrorBody {
    ErrorBody::new(ErrorCode::Cancelled, "The work on the backups was cancelled.")
}

/// Something that cannot fail did.
pub(crate) fn internal(what: impl std::fmt::Display) -> ErrorBody {
    ErrorBody::new(ErrorCode::Internal, what.to_string())
}
