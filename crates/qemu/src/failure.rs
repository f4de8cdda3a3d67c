//! What failures of files and programs look like to a person.

use std::io;
use std::path::Path;

use voidvm_model::{ErrorBody, ErrorCode};

/// A program's output as text without characters that a terminal or a log would obey.
pub(crate) fn plain_text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// A file system's refusal, with the path it is about.
pub(crate) fn io_body(error: &io::Error, path: &Path) -> ErrorBody {
    let shown = path.display();
    let body = match error.kind() {
        io::ErrorKind::NotFound => {
            ErrorBody::new(ErrorCode::NotFound, format!("{shown} is not there.")).with_hint("Check the path.")
        }
        io::ErrorKind::PermissionDenied => {
            ErrorBody::new(ErrorCode::PermissionDenied, format!("You may not use {shown}."))
                .with_hint("Give your user access to it.")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ErrorBody::new(ErrorCode::DiskFull, format!("There is no room left for {shown}."))
                .with_hint("Free some space on that disk, or choose another one.")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            ErrorBody::new(ErrorCode::ReadOnly, format!("{shown} is on a read-only file system."))
                .with_hint("Mount it writable, or choose another place.")
        }
        _ => ErrorBody::new(ErrorCode::Internal, format!("{shown}: {error}")),
    };
    body.with_detail("path", path.to_string_lossy()).with_detail("reason", error.to_string())
}
