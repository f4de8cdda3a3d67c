//! The desktop shell: one window over the engine, an icon in the tray, and the desktop's own services.
//!
//! The shell holds no knowledge about machines. The page asks through one bridge command (`rpc`) and listens through one
//! channel (`subscribe`); what else the page may ask for is the desktop: dialogs, notices, closing, updates.
//!
//! Invariants: at most one process of the shell per session; machines never depend on it, however it ends; a page that
//! fails or hangs cannot keep the window open.

mod environment;
mod events;
mod files;
mod rpc;
mod tray;
mod updater;
mod window;

use std::process::ExitCode;

use tauri::{AppHandle, Manager as _, RunEvent};
use tokio::signal::unix::{SignalKind, signal};
use voidvm_tray::Engine;

/// Runs the app until it is quit.
#[must_use]
pub fn run() -> ExitCode {
    environment::prepare();
    let app = tauri::Builder::default()
        .plugin(tauri_plugin_single_instance::init(|app, _, _| window::show(app)))
        .plugin(tauri_plugin_window_state::Builder::default().with_state_flags(window::remembered()).build())
        .plugin(tauri_plugin_dialog::init())
        .plugin(tauri_plugin_opener::init())
        .plugin(tauri_plugin_notification::init())
        .plugin(tauri_plugin_updater::Builder::new().build())
        .invoke_handler(tauri::generate_handler![
            rpc::rpc,
            events::subscribe,
            events::unsubscribe,
            files::save_file,
            window::close_choice,
            window::painted,
            updater::updater_check,
            updater::updater_install,
            updater::updater_restart,
        ])
        .setup(|app| {
            let handle = app.handle();
            let engine = Engine::default();
            app.manage(engine.clone());
            tauri::async_runtime::spawn(async move { engine.open().await });
            tauri::async_runtime::spawn(end_when_told(handle.clone()));
            events::manage(handle);
            window::manage(handle);
            updater::manage(handle);
            tray::manage(handle);
            window::show(handle);
            Ok(())
        })
        .build(tauri::generate_context!());
    let app = match app {
        Ok(app) => app,
        Err(error) => {
            environment::complain(&error);
            return ExitCode::FAILURE;
        }
    };
    app.run(|app, event| match event {
        // The window is gone and the tray takes over; only `exit` with a code ends the app.
        RunEvent::ExitRequested { code: None, api, .. } => {
            api.prevent_exit();
            tauri::async_runtime::spawn(tray::hand_over(app.clone()));
        }
        RunEvent::Exit => {
            let engine = app.state::<Engine>();
            tauri::async_runtime::block_on(engine.close());
            tray::end(app);
        }
        _ => {}
    });
    ExitCode::SUCCESS
}

/// The end of the session, or of the terminal, is an end like any other.
async fn end_when_told(app: AppHandle) {
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        let app = app.clone();
        match signal(kind) {
            Ok(mut told) => drop(tauri::async_runtime::spawn(async move {
                told.recv().await;
                window::quit(&app);
            })),
            Err(error) => tracing::warn!(%error, "a signal cannot be listened to"),
        }
    }
}
