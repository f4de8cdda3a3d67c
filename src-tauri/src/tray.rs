//! The icon in the tray: the way back to the window and out of the app, and, while there is no window, the one to notice
//! that a machine has crashed.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use tauri::menu::{Menu, MenuItem, PredefinedMenuItem};
use tauri::tray::TrayIconBuilder;
use tauri::{AppHandle, Manager as _, Wry};
use tauri_plugin_notification::NotificationExt as _;
use voidvm_model::{ErrorBody, Event, StreamItem, VmId, VmState, VmView};

use crate::engine::Engine;
use crate::window;
use crate::words::Tongue;

/// Pause before the machines are looked at again after the engine was gone.
const PAUSE: Duration = Duration::from_secs(2);

/// The icon's menu, where there is an icon.
pub(crate) struct Tray(Option<Items>);

struct Items {
    open: MenuItem<Wry>,
    running: MenuItem<Wry>,
    quit: MenuItem<Wry>,
}

impl Tray {
    pub(crate) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    fn say(&self, tongue: Tongue, running: usize) {
        let Some(items) = &self.0 else { return };
        let said = items
            .open
            .set_text(tongue.open())
            .and_then(|()| items.running.set_text(tongue.running(running)))
            .and_then(|()| items.quit.set_text(tongue.quit()));
        if let Err(error) = said {
            tracing::warn!(%error, "the tray's menu could not be changed");
        }
    }
}

/// Puts the icon there. A desktop without a tray is no failure: closing the window then ends the app.
pub(crate) fn build(app: &AppHandle) {
    let items = match icon(app) {
        Ok(items) => Some(items),
        Err(error) => {
            tracing::warn!(%error, "there is no tray");
            None
        }
    };
    app.manage(Tray(items));
    tauri::async_runtime::spawn(watch(app.clone()));
}

fn icon(app: &AppHandle) -> tauri::Result<Items> {
    let tongue = Tongue::English;
    let open = MenuItem::with_id(app, "open", tongue.open(), true, None::<&str>)?;
    let running = MenuItem::with_id(app, "running", tongue.running(0), false, None::<&str>)?;
    let quit = MenuItem::with_id(app, "quit", tongue.quit(), true, None::<&str>)?;
    let line = PredefinedMenuItem::separator(app)?;
    let menu = Menu::with_items(app, &[&open, &running, &line, &quit])?;
    let mut builder =
        TrayIconBuilder::with_id("voidvm").menu(&menu).tooltip("voidVM").on_menu_event(|app, event| {
            match event.id().as_ref() {
                "open" => window::show(app),
                "quit" => window::quit(app),
                _ => {}
            }
        });
    if let Some(icon) = app.default_window_icon() {
        builder = builder.icon(icon.clone());
    }
    builder.build(app)?;
    Ok(Items { open, running, quit })
}

/// Keeps the menu's count true and tells of crashes, for as long as the app lives.
async fn watch(app: AppHandle) {
    loop {
        if let Err(error) = follow(&app).await {
            tracing::debug!(code = ?error.code, "the tray cannot follow the machines");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow(app: &AppHandle) -> Result<(), ErrorBody> {
    let engine = app.state::<Engine>();
    // Listening first: what changes while the list is read comes after it.
    let mut stream = engine.subscribe(None).await?;
    let mut tongue = Tongue::of(engine.settings().await?.language);
    let mut states = states(&engine).await?;
    let mut said = None;
    loop {
        let running = states.values().filter(|state| state.is_live()).count();
        if said != Some((tongue, running)) {
            app.state::<Tray>().say(tongue, running);
            said = Some((tongue, running));
        }
        match stream.next().await {
            None => return Ok(()),
            Some(StreamItem::Resync { .. }) => states = self::states(&engine).await?,
            Some(StreamItem::Event(envelope)) => match envelope.event {
                Event::VmChanged { vm } => {
                    let before = states.insert(vm.id, vm.state);
                    if vm.state == VmState::Crashed && before.is_some_and(VmState::is_live) {
                        tell_crash(app, tongue, &vm);
                    }
                }
                Event::VmRemoved { id } => drop(states.remove(&id)),
                Event::SettingsChanged => tongue = Tongue::of(engine.settings().await?.language),
                Event::OperationChanged { .. } => {}
            },
        }
    }
}

async fn states(engine: &Engine) -> Result<HashMap<VmId, VmState>, ErrorBody> {
    Ok(engine.machines().await?.into_iter().map(|vm| (vm.id, vm.state)).collect())
}

/// With a window open the page tells it; two notices of one crash would be one too many.
fn tell_crash(app: &AppHandle, tongue: Tongue, vm: &VmView) {
    if app.get_webview_window(window::LABEL).is_some() {
        return;
    }
    if let Err(error) = app.notification().builder().title("voidVM").body(tongue.crashed(&vm.name)).show() {
        tracing::warn!(%error, "the notice of a crash could not be shown");
    }
}
