//! Files that leave the page: a screenshot, a log. The person picks the place; the page never names a path.

use std::path::PathBuf;

use tauri::ipc::{InvokeBody, Request};
use tauri::{AppHandle, Manager as _};
use tauri_plugin_dialog::DialogExt as _;
use voidvm_model::{ErrorBody, ErrorCode};

/// Asks where to put the request's body and writes it there; false when nothing was chosen.
///
/// The body is the raw content. Headers, percent-encoded: `title` of the dialog, `name` proposed.
///
/// # Errors
/// `InvalidInput` for another kind of body; the file system's failure as the code that fits it.
#[tauri::command]
pub(crate) async fn save_file(app: AppHandle, request: Request<'_>) -> Result<bool, ErrorBody> {
    let InvokeBody::Raw(content) = request.body() else {
        return Err(ErrorBody::new(ErrorCode::InvalidInput, "the content of the file is missing"));
    };
    let header = |name: &str| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        percent_decoded(value)
    };
    let mut dialog = app.dialog().file().set_title(header("title")).set_file_name(header("name"));
    if let Some(window) = app.get_webview_window(crate::window::LABEL) {
        dialog = dialog.set_parent(&window);
    }
    let (answer, chosen) = tokio::sync::oneshot::channel();
    dialog.save_file(move |path| drop(answer.send(path)));
    let Some(path) = chosen.await.ok().flatten().and_then(|path| path.into_path().ok()) else {
        return Ok(false);
    };
    write(&path, content).await.map(|()| true)
}

async fn write(path: &PathBuf, content: &[u8]) -> Result<(), ErrorBody> {
    tokio::fs::write(path, content).await.map_err(|error| {
        let code = match error.kind() {
            std::io::ErrorKind::StorageFull => ErrorCode::DiskFull,
            std::io::ErrorKind::ReadOnlyFilesystem => ErrorCode::ReadOnly,
            std::io::ErrorKind::PermissionDenied => ErrorCode::PermissionDenied,
            std::io::ErrorKind::NotFound => ErrorCode::NotFound,
            _ => ErrorCode::Internal,
        };
        ErrorBody::new(code, format!("{} could not be written: {error}", path.display()))
    })
}

fn percent_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::{percent_decoded, write};
    use voidvm_model::ErrorCode;

    #[test]
    fn decodes_names_in_any_script() {
        assert_eq!(percent_decoded("web-01%20%E5%B1%8F%E5%B9%95.png"), "web-01 屏幕.png");
        assert_eq!(percent_decoded("100%"), "100%");
        assert_eq!(percent_decoded("%zz%4"), "%zz%4");
    }

    #[tokio::test]
    async fn tells_why_a_file_was_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("screen.png");
        write(&path, b"png").await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"png");
        let error = write(&dir.path().join("absent/screen.png"), b"png").await.unwrap_err();
        assert_eq!(error.code, ErrorCode::NotFound);
    }
}
