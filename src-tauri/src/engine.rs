//! The way to the engine: this process owns it, or is a client of the process that does.
//!
//! ```text
//! closed ─first call─► owner            (this process took the data directory's lock)
//!    ▲                └► client ─(the owner is gone)─┐
//!    └────────────────────────────────────────────────┘ the next call opens anew, and may become the owner
//! ```
//! Opening can fail (a newer database, a directory that is read-only): each call then answers with that error, and tries
//! again, so that the page can show it and offer *Try again*.

use futures_util::stream::BoxStream;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tauri::{AppHandle, Manager as _};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use voidvm_host::{Access, Config, Overrides};
use voidvm_model::contract::ConsoleTicket;
use voidvm_model::settings::{CloseAction, SettingsView};
use voidvm_model::{ErrorBody, ErrorCode, Origin, Settings, StreamItem, VmView};
use voidvm_server::{ConsoleListener, LocalApi, OwnerSocket};

/// Events, in their order.
pub(crate) type Events = BoxStream<'static, StreamItem>;

/// The engine, opened when it is first needed.
#[derive(Default)]
pub(crate) struct Engine(Mutex<Option<Open>>);

struct Open {
    access: Access,
    /// The window's consoles: a loopback listener that is there only while one is open or about to be.
    consoles: ConsoleListener,
    faces: Option<Faces>,
}

/// Where others reach the engine that this process owns.
struct Faces {
    socket: OwnerSocket,
    /// Listens while the setting says so.
    local_api: JoinHandle<()>,
}

impl Open {
    async fn new() -> Result<Self, ErrorBody> {
        let access = Access::open(Config::load(&Overrides::default())?).await?;
        let faces = match &access {
            Access::Owner(host) => Some(Faces {
                socket: OwnerSocket::start(host).await?,
                local_api: LocalApi::follow(host.clone()),
            }),
            Access::Client(_) => None,
        };
        Ok(Self { consoles: ConsoleListener::new(access.clone()), access, faces })
    }

    async fn close(self) {
        if let Some(faces) = self.faces {
            faces.local_api.abort();
            faces.socket.stop().await;
        }
        if let Access::Owner(host) = self.access {
            host.close().await;
        }
    }
}

impl Engine {
    /// Puts the engine into the app's state and begins to open it.
    pub(crate) fn manage(app: &AppHandle) {
        app.manage(Self::default());
        let app = app.clone();
        tauri::async_runtime::spawn(async move {
            if let Err(error) = app.state::<Self>().access().await {
                tracing::error!(code = ?error.code, %error, "the engine could not be opened");
            }
        });
    }

    async fn with<T>(&self, take: impl FnOnce(&Open) -> T) -> Result<T, ErrorBody> {
        let mut open = self.0.lock().await;
        if let Some(open) = &*open {
            return Ok(take(open));
        }
        Ok(take(open.insert(Open::new().await?)))
    }

    async fn access(&self) -> Result<Access, ErrorBody> {
        self.with(|open| open.access.clone()).await
    }

    /// Carries out a command of the contract.
    pub(crate) async fn call(&self, name: &str, payload: Value) -> Result<Value, ErrorBody> {
        let access = self.access().await?;
        let reply = access.call(name, payload, Origin::Desktop).await;
        if reply.as_ref().is_err_and(|error| error.code == ErrorCode::OwnerUnreachable) {
            self.forget_owner().await;
        }
        reply
    }

    /// Events after number `since`; the stream ends with the owner.
    pub(crate) async fn subscribe(&self, since: Option<u64>) -> Result<Events, ErrorBody> {
        let access = self.access().await?;
        let stream = access.subscribe(since).await;
        if stream.is_err() {
            self.forget_owner().await;
        }
        stream
    }

    /// Makes the paths of a reply of `vm.console` addresses that the window can open now.
    pub(crate) async fn reachable(&self, ticket: Value) -> Result<Value, ErrorBody> {
        let consoles = self.with(|open| open.consoles.clone()).await?;
        let ticket = consoles.address(read::<ConsoleTicket>(ticket)?).await?;
        serde_json::to_value(ticket).map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))
    }

    /// The settings in force.
    pub(crate) async fn settings(&self) -> Result<Settings, ErrorBody> {
        Ok(self.ask::<SettingsView>("settings.get").await?.settings)
    }

    /// Makes what was chosen at closing the setting.
    pub(crate) async fn remember_close(&self, action: CloseAction) -> Result<(), ErrorBody> {
        let settings = Settings { close_action: action, ..self.settings().await? };
        self.call("settings.update", json!({ "settings": settings })).await.map(drop)
    }

    /// Every machine.
    pub(crate) async fn machines(&self) -> Result<Vec<VmView>, ErrorBody> {
        self.ask("vm.list").await
    }

    async fn ask<Reply: DeserializeOwned>(&self, query: &str) -> Result<Reply, ErrorBody> {
        read(self.call(query, json!({})).await?)
    }

    /// Lets go of an owner that is gone; being the owner itself is not let go of.
    async fn forget_owner(&self) {
        let mut open = self.0.lock().await;
        if open.as_ref().is_some_and(|open| matches!(open.access, Access::Client(_))) {
            *open = None;
        }
    }
}

fn read<Reply: DeserializeOwned>(reply: Value) -> Result<Reply, ErrorBody> {
    serde_json::from_value(reply).map_err(|error| {
        ErrorBody::new(ErrorCode::Internal, format!("the engine's reply is not its type: {error}"))
    })
}

/// Lets go of the engine before the process ends: what is to be written is written, and the lock is free.
pub(crate) fn close(app: &AppHandle) {
    let engine = app.state::<Engine>();
    tauri::async_runtime::block_on(async {
        if let Some(open) = engine.0.lock().await.take() {
            open.close().await;
        }
    });
}
