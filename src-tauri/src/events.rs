//! The event stream on its way to the page: one task per subscription, which outlives the owner of the engine.
//!
//! ```text
//! subscribe ─► forwarding ─(stream ends: the owner is gone)─► waiting ─► forwarding, from the last number on
//!                  └────────(unsubscribe, page reloads, window closes)──────────► ended
//! ```
//! A new owner numbers anew, so what follows the gap begins with a resync; the page never sees the gap itself.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tauri::async_runtime::JoinHandle;
use tauri::ipc::Channel;
use tauri::{AppHandle, Manager as _, State};
use voidvm_model::{ErrorBody, StreamItem};

use voidvm_tray::Engine;

/// Longest pause between two tries to find an owner.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The subscriptions there are, by the number of their channel.
#[derive(Default)]
pub(crate) struct Subscriptions(Mutex<HashMap<u32, JoinHandle<()>>>);

impl Subscriptions {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<u32, JoinHandle<()>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends all of them: the page that listened is gone.
    pub(crate) fn clear(&self) {
        for (_, task) in self.with(std::mem::take) {
            task.abort();
        }
    }
}

pub(crate) fn manage(app: &AppHandle) {
    app.manage(Subscriptions::default());
}

/// Sends events after number `since` (all new ones without) to `channel` until told otherwise.
///
/// # Errors
/// When the engine could not be opened.
#[tauri::command]
pub(crate) async fn subscribe(
    app: AppHandle,
    engine: State<'_, Engine>,
    subscriptions: State<'_, Subscriptions>,
    since: Option<u64>,
    channel: Channel<StreamItem>,
) -> Result<(), ErrorBody> {
    let stream = engine.subscribe(since).await?;
    let id = channel.id();
    let task = tauri::async_runtime::spawn(forward(app, stream, since, channel));
    subscriptions.with(|tasks| tasks.insert(id, task));
    Ok(())
}

/// Ends the subscription of `channel`; one that has ended already is well.
#[tauri::command]
#[expect(clippy::needless_pass_by_value, reason = "the form in which Tauri gives arguments")]
pub(crate) fn unsubscribe(subscriptions: State<'_, Subscriptions>, channel: u32) {
    if let Some(task) = subscriptions.with(|tasks| tasks.remove(&channel)) {
        task.abort();
    }
}

async fn forward(
    app: AppHandle,
    mut stream: voidvm_tray::Events,
    mut since: Option<u64>,
    channel: Channel<StreamItem>,
) {
    loop {
        while let Some(item) = stream.next().await {
            since = Some(match &item {
                StreamItem::Event(envelope) => envelope.seq,
                StreamItem::Resync { seq } => *seq,
            });
            if channel.send(item).is_err() {
                return;
            }
        }
        stream = again(&app, since).await;
    }
}

/// Waits until there is an owner again: another process, or this one.
async fn again(app: &AppHandle, since: Option<u64>) -> voidvm_tray::Events {
    let mut pause = Duration::from_millis(200);
    loop {
        tokio::time::sleep(pause).await;
        match app.state::<Engine>().subscribe(since).await {
            Ok(stream) => return stream,
            Err(error) => tracing::debug!(code = ?error.code, "no owner to listen to yet"),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
