//! The icon while this process has the window, and the way to the process without one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tauri::{AppHandle, Manager as _};
use tauri_plugin_notification::NotificationExt as _;
use tokio::sync::mpsc;
use voidvm_tray::program::Program;
use voidvm_tray::{Engine, Icon, Wish, watch};

use crate::window;

/// The icon, where this desktop has a tray, and whether it shall be there after this process.
#[derive(Default)]
pub(crate) struct Tray {
    icon: OnceLock<Icon>,
    leave_behind: AtomicBool,
}

impl Tray {
    /// Whether the app can be found again when the window is gone.
    pub(crate) fn is_there(&self) -> bool {
        self.icon.get().is_some() && Program::Tray.path().is_ok()
    }
}

/// Puts the icon there and follows the machines. A desktop without a tray is no failure: closing the window then ends
/// the app.
pub(crate) fn manage(app: &AppHandle) {
    app.manage(Tray::default());
    tauri::async_runtime::spawn(live(app.clone()));
}

async fn live(app: AppHandle) {
    let (wishes, mut asked) = mpsc::channel(4);
    let icon = match Icon::show(wishes).await {
        Ok(icon) => icon,
        Err(error) => return tracing::info!(%error, "this desktop has no tray"),
    };
    if app.state::<Tray>().icon.set(icon.clone()).is_err() {
        return;
    }
    let engine = app.state::<Engine>().inner().clone();
    let teller = app.clone();
    tauri::async_runtime::spawn(watch::machines(engine, icon, move |words| tell(&teller, &words)));
    while let Some(wish) = asked.recv().await {
        match wish {
            Wish::Open => window::show(&app),
            Wish::Quit => window::quit(&app),
        }
    }
}

/// With a window open the page tells; two notices of one thing would be one too many.
fn tell(app: &AppHandle, words: &str) {
    if app.get_webview_window(window::LABEL).is_some() {
        return;
    }
    if let Err(error) = app.notification().builder().title("voidVM").body(words).show() {
        tracing::warn!(%error, "a notice could not be shown");
    }
}

/// Makes way for the process without a window, as soon as no operation is in work; not at all when the window is wanted
/// again before that.
pub(crate) async fn hand_over(app: AppHandle) {
    app.state::<Engine>().idle().await;
    if app.get_webview_window(window::LABEL).is_some() {
        return;
    }
    let tray = app.state::<Tray>();
    tray.leave_behind.store(true, Ordering::Release);
    if let Some(icon) = tray.icon.get() {
        icon.clone().remove().await;
    }
    window::quit(&app);
}

/// The last act of this process, when the engine is closed: leaves the icon behind, if that was the wish.
pub(crate) fn end(app: &AppHandle) {
    if !app.state::<Tray>().leave_behind.load(Ordering::Acquire) {
        return;
    }
    // Its name on the session bus is the next process's.
    tauri_plugin_single_instance::destroy(app);
    if let Err(error) = Program::Tray.start() {
        tracing::error!(%error, "the tray could not be left behind");
    }
}
