//! The desktop shell: one window over the engine, a tray icon while there is none, and the desktop's own services.
//!
//! The shell holds no knowledge about machines. The page asks through one bridge command (`rpc`) and listens through one
//! channel (`subscribe`); what else the page may ask for is the desktop: dialogs, notices, closing, updates.
//!
//! Invariants: at most one process of the shell per session; machines never depend on it, however it ends; a page that
//! fails or hangs cannot keep the window open.

mod engine;
mod environment;
mod events;
mod files;
mod rpc;
mod tray;
mod updater;
mod window;
mod words;

use std::process::ExitCode;

use tauri::RunEvent;

use crate::engine::Engine;

/// What the command line asked for; an app of the desktop has no more than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// Open the window.
    Window,
    /// Stay in the tray, as when the session starts.
    Tray,
}

impl Start {
    fn from_args(args: impl Iterator<Item = String>) -> Self {
        if args.skip(1).any(|word| word == "--tray") { Self::Tray } else { Self::Window }
    }
}

/// Runs the app until it is quit.
#[must_use]
pub fn run() -> ExitCode {
    environment::prepare();
    let start = Start::from_args(std::env::args());
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
        .setup(move |app| {
            let handle = app.handle();
            Engine::manage(handle);
            events::manage(handle);
            window::manage(handle);
            updater::manage(handle);
            tray::build(handle);
            if start == Start::Window {
                window::show(handle);
            }
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
        // The last window went to the tray; only `exit` with a code ends the app.
        RunEvent::ExitRequested { code: None, api, .. } => api.prevent_exit(),
        RunEvent::Exit => engine::close(app),
        _ => {}
    });
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::Start;

    #[test]
    fn starts_in_the_tray_only_when_told() {
        let args = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>().into_iter();
        assert_eq!(Start::from_args(args(&["voidvm-desktop"])), Start::Window);
        assert_eq!(Start::from_args(args(&["voidvm-desktop", "--tray"])), Start::Tray);
        assert_eq!(Start::from_args(args(&["--tray"])), Start::Window, "the first word is the program");
    }
}
