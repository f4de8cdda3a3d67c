//! What has to be settled before WebKit starts, and where to complain when it cannot.

use std::path::Path;

/// Must run first, while the process has one thread.
///
/// Without a render node, WebKit's DMA-BUF renderer copies every frame through software and holds more memory: it is
/// switched off there, unless the user has said otherwise.
pub(crate) fn prepare() {
    const RENDERER: &str = "WEBKIT_DISABLE_DMABUF_RENDERER";
    if std::env::var_os(RENDERER).is_none() && !has_render_node(Path::new("/dev/dri")) {
        #[expect(
            unsafe_code,
            reason = "the first statement of main: no other thread reads the environment yet"
        )]
        // SAFETY: no thread has been started.
        unsafe {
            std::env::set_var(RENDERER, "1");
        }
    }
}

fn has_render_node(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("renderD"))
    })
}

/// Says why there will be no window, to whoever started the app from a terminal.
pub(crate) fn complain(error: &dyn std::error::Error) {
    tracing::error!(error = %error, "the window could not be opened");
    #[expect(clippy::print_stderr, reason = "there is no window to say it in")]
    {
        eprintln!("voidVM could not open its window: {error}\nWithout a display, use: voidvm serve");
    }
}

#[cfg(test)]
mod tests {
    use super::has_render_node;

    #[test]
    fn a_card_alone_is_no_render_node() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!has_render_node(&dir.path().join("absent")));
        std::fs::write(dir.path().join("card0"), "").unwrap();
        assert!(!has_render_node(dir.path()));
        std::fs::write(dir.path().join("renderD128"), "").unwrap();
        assert!(has_render_node(dir.path()));
    }
}
