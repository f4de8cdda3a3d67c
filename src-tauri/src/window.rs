//! The one window, its closing, and what is remembered of it.
//!
//! ```text
//! none ─show─► open ─close─► (setting) ─tray─► none, and the tray's process takes over
//!               ▲               │ask     └quit─► the app ends
//!               └────stay──── asked ──close again, or the page does not answer──► the app ends
//! ```
//! Machines go on in every case, so ending is never refused: a page that hangs cannot hold the window open.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Deserialize;
use tauri::utils::config::Color;
use tauri::webview::{NewWindowResponse, PageLoadEvent};
use tauri::{
    AppHandle, Emitter as _, Manager as _, State, Theme, WebviewUrl, WebviewWindow, WebviewWindowBuilder,
    WindowEvent,
};
use tauri_plugin_window_state::{AppHandleExt as _, StateFlags};
use voidvm_model::ErrorBody;
use voidvm_model::settings::CloseAction;
use voidvm_tray::Engine;

use crate::events::Subscriptions;
use crate::tray::Tray;

/// The window's name for Tauri and its capabilities.
pub(crate) const LABEL: &str = "main";
/// How long the engine may take to say what closing means before the window closes all the same.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether the page has been asked what closing shall do, and has not answered.
#[derive(Default)]
pub(crate) struct CloseQuestion(AtomicBool);

/// The page's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CloseChoice {
    Tray,
    Quit,
    Stay,
}

pub(crate) fn manage(app: &AppHandle) {
    app.manage(CloseQuestion::default());
}

/// What is kept of the window from one time to the next.
pub(crate) fn remembered() -> StateFlags {
    StateFlags::SIZE | StateFlags::POSITION | StateFlags::MAXIMIZED
}

/// Brings the window to the front, making it first when there is none.
pub(crate) fn show(app: &AppHandle) {
    let window = app.get_webview_window(LABEL).map_or_else(|| build(app), Ok);
    let shown = window.and_then(|window| {
        window.unminimize()?;
        window.show()?;
        window.set_focus()
    });
    if let Err(error) = shown {
        tracing::error!(%error, "the window could not be shown");
    }
}

/// Notes in the log that the first page with machines stands: the end of a cold start.
#[tauri::command]
pub(crate) fn painted() {
    tracing::info!("page painted");
}

fn build(app: &AppHandle) -> tauri::Result<WebviewWindow> {
    let window = WebviewWindowBuilder::new(app, LABEL, WebviewUrl::App("index.html".into()))
        .title("voidVM")
        .inner_size(1200.0, 800.0)
        .min_inner_size(360.0, 480.0)
        .center()
        // The page is the app's own and nothing else is ever loaded here.
        .on_navigation(|url| url.scheme() == "tauri" || url.host_str() == Some("tauri.localhost"))
        .on_new_window(|_, _| NewWindowResponse::Deny)
        .on_page_load(|window, load| {
            if load.event() == PageLoadEvent::Started {
                window.state::<Subscriptions>().clear();
            }
        })
        .build()?;
    // Before the page has painted, the window has the colour the page will have.
    let background = match window.theme() {
        Ok(Theme::Dark) => Color(0x14, 0x15, 0x1a, 0xff),
        _ => Color(0xff, 0xff, 0xff, 0xff),
    };
    window.set_background_color(Some(background))?;
    let app = app.clone();
    window.on_window_event(move |event| match event {
        WindowEvent::CloseRequested { api, .. } => {
            api.prevent_close();
            tauri::async_runtime::spawn(close_asked(app.clone()));
        }
        WindowEvent::Destroyed => app.state::<Subscriptions>().clear(),
        _ => {}
    });
    Ok(window)
}

async fn close_asked(app: AppHandle) {
    if app.state::<CloseQuestion>().0.swap(true, Ordering::AcqRel) {
        return quit(&app);
    }
    let settings = tokio::time::timeout(PATIENCE, async { app.state::<Engine>().settings().await }).await;
    match settings.map(|settings| settings.map(|settings| settings.close_action)) {
        Ok(Ok(CloseAction::Ask)) => {
            if app.emit_to(LABEL, "close-asked", ()).is_err() {
                quit(&app);
            }
        }
        Ok(Ok(CloseAction::Tray)) => to_tray(&app),
        Ok(Ok(CloseAction::Quit) | Err(_)) | Err(_) => quit(&app),
    }
}

/// Ends the question what closing shall do; with `remember` the answer becomes the setting.
///
/// # Errors
/// When the setting could not be stored; the choice itself is carried out all the same.
#[tauri::command]
pub(crate) async fn close_choice(
    app: AppHandle,
    engine: State<'_, Engine>,
    choice: CloseChoice,
    remember: bool,
) -> Result<(), ErrorBody> {
    app.state::<CloseQuestion>().0.store(false, Ordering::Release);
    let action = match choice {
        CloseChoice::Tray => CloseAction::Tray,
        CloseChoice::Quit => CloseAction::Quit,
        CloseChoice::Stay => return Ok(()),
    };
    let stored = if remember { engine.remember_close(action).await } else { Ok(()) };
    match choice {
        CloseChoice::Tray => to_tray(&app),
        CloseChoice::Quit | CloseChoice::Stay => quit(&app),
    }
    stored
}

/// Closes the window and leaves the icon; without an icon nobody would find the app again, so it ends. What follows the
/// window's end is `tray::hand_over`.
fn to_tray(app: &AppHandle) {
    app.state::<CloseQuestion>().0.store(false, Ordering::Release);
    if !app.state::<Tray>().is_there() {
        return quit(app);
    }
    // On the main thread: saved from another one, the window's place deadlocks with a move of the window.
    let closer = app.clone();
    let close = move || {
        if let Err(error) = closer.save_window_state(remembered()) {
            tracing::warn!(%error, "the window's place could not be saved");
        }
        if let Some(window) = closer.get_webview_window(LABEL)
            && let Err(error) = window.destroy()
        {
            tracing::warn!(%error, "the window could not be closed");
        }
    };
    if let Err(error) = app.run_on_main_thread(close) {
        tracing::warn!(%error, "the window could not be closed");
    }
}

/// Ends the app; machines go on.
pub(crate) fn quit(app: &AppHandle) {
    app.exit(0);
}
