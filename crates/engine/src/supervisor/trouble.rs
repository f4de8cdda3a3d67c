//! What QEMU says of a guest in trouble, in words for a person. Pure but for the question how much room a file system has.

use voidvm_model::{ErrorBody, ErrorCode, MachineSpec};
use voidvm_qemu::qmp::QmpEvent;

use crate::stats;

/// What a reason of QEMU's for holding the guest means to a person; `None` for a wished pause.
pub(super) fn of_status(reason: &str) -> Option<ErrorBody> {
    match reason {
        "io-error" => Some(
            ErrorBody::new(ErrorCode::DiskFull, "The guest is held: its disk could not be read or written.")
                .with_hint("Make room on the disk that holds its image, then resume it."),
        ),
        "guest-panicked" => Some(panicked()),
        "internal-error" => Some(
            ErrorBody::new(ErrorCode::QemuFailed, "The guest is held: the acceleration failed.")
                .with_hint("Force it off and choose software emulation (TCG)."),
        ),
        "watchdog" => Some(ErrorBody::new(ErrorCode::QemuFailed, "The guest is held: its watchdog ran out.")),
        _ => None,
    }
}

pub(super) fn panicked() -> ErrorBody {
    ErrorBody::new(ErrorCode::QemuFailed, "The guest's operating system crashed.")
        .with_hint("Reset the machine, or look at its console first.")
}

/// A disk that could not be read or written; where its file system is full, which file it is and what is free there.
pub(super) fn of_disk(event: &QmpEvent, spec: Option<&MachineSpec>) -> ErrorBody {
    let text = |name: &str| event.data.get(name).and_then(|value| value.as_str()).unwrap_or_default();
    let device =
        [text("node-name"), text("device")].into_iter().find(|name| !name.is_empty()).unwrap_or_default();
    let full = event.data.get("nospace").and_then(serde_json::Value::as_bool) == Some(true);
    let file = spec
        .and_then(|spec| spec.disks.iter().find(|disk| disk.id.as_str() == device))
        .map(|disk| &disk.file);
    let body = match (full, file) {
        (true, Some(file)) => ErrorBody::new(
            ErrorCode::DiskFull,
            format!("The guest is held: the file system with {} is full.", file.display()),
        ),
        (true, None) => {
            ErrorBody::new(ErrorCode::DiskFull, "The guest is held: the disk that holds its image is full.")
        }
        (false, _) => {
            ErrorBody::new(ErrorCode::QemuFailed, format!("The guest's disk failed: {}.", text("reason")))
        }
    };
    let mut body = body.with_detail("device", device).with_hint(if full {
        "Make room there, then resume the machine; nothing is lost."
    } else {
        "Look at the file system that holds the image."
    });
    if let Some(file) = file {
        body = body.with_detail("path", file.to_string_lossy());
        // Of the file itself: a link may lead to another file system than its directory's.
        if let Some((size, free)) = stats::space(file) {
            body = body.with_detail("available", free.0).with_detail("capacity", size.0);
        }
    }
    body
}
