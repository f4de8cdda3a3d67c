//! The way to the engine: this process owns it, or is a client of the process that does.
//!
//! ```text
//! closed ─first call─► owner            (this process took the data directory's lock)
//!    ▲                └► client ─(the owner is gone)─┐
//!    └────────────────────────────────────────────────┘ the next call opens anew, and may become the owner
//! any ─close─► ended                    (for good: the data directory is somebody else's now)
//! ```
//! Opening can fail (a newer database, a directory that is read-only): each call then answers with that error, and tries
//! again, so that the page can show it and offer *Try again*.

use futures_util::stream::BoxStream;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use voidvm_host::{Access, Config, Overrides};
use voidvm_model::contract::ConsoleTicket;
use voidvm_model::settings::{CloseAction, SettingsView};
use voidvm_model::{ErrorBody, ErrorCode, OperationStatus, Origin, Settings, StreamItem, VmView};
use voidvm_server::{ConsoleListener, LocalApi, OwnerSocket};

/// Events, in their order.
pub type Events = BoxStream<'static, StreamItem>;

/// How often a process that wants to leave looks whether it may.
const GLANCE: Duration = Duration::from_millis(500);

/// The engine, opened when it is first needed. Cheap to clone; clones are one.
#[derive(Clone, Default)]
pub struct Engine(Arc<Mutex<Way>>);

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

#[derive(Default)]
enum Way {
    #[default]
    Closed,
    Open(Open),
    Ended,
}

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
            Access::Owner(host) => {
                let socket = OwnerSocket::start(host).await?;
                host.engine().autostart();
                host.engine().schedules().run_always();
                Some(Faces { socket, local_api: LocalApi::follow(host.clone()) })
            }
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
    /// Opens the way before it is needed, so that the first call need not wait.
    pub async fn open(&self) {
        if let Err(error) = self.access().await {
            tracing::error!(code = ?error.code, %error, "the engine could not be opened");
        }
    }

    async fn with<T>(&self, take: impl FnOnce(&Open) -> T) -> Result<T, ErrorBody> {
        let mut way = self.0.lock().await;
        if matches!(*way, Way::Closed) {
            *way = Way::Open(Open::new().await?);
        }
        match &*way {
            Way::Open(open) => Ok(take(open)),
            Way::Closed | Way::Ended => {
                Err(ErrorBody::new(ErrorCode::OwnerUnreachable, "This voidVM is ending."))
            }
        }
    }

    async fn access(&self) -> Result<Access, ErrorBody> {
        self.with(|open| open.access.clone()).await
    }

    /// Carries out a command of the contract.
    ///
    /// # Errors
    /// What the command says, and why the engine cannot be opened.
    pub async fn call(&self, name: &str, payload: Value) -> Result<Value, ErrorBody> {
        let access = self.access().await?;
        let reply = access.call(name, payload, Origin::Desktop).await;
        if reply.as_ref().is_err_and(|error| error.code == ErrorCode::OwnerUnreachable) {
            self.forget_owner().await;
        }
        reply
    }

    /// Events after number `since`; the stream ends with the owner.
    ///
    /// # Errors
    /// Why the engine cannot be opened.
    pub async fn subscribe(&self, since: Option<u64>) -> Result<Events, ErrorBody> {
        let access = self.access().await?;
        let stream = access.subscribe(since).await;
        if stream.is_err() {
            self.forget_owner().await;
        }
        stream
    }

    /// Makes the paths of a reply of `vm.console` addresses that the window can open now.
    ///
    /// # Errors
    /// `ConsoleUnavailable` when no loopback port can be had.
    pub async fn reachable(&self, ticket: Value) -> Result<Value, ErrorBody> {
        let consoles = self.with(|open| open.consoles.clone()).await?;
        let ticket = consoles.address(read::<ConsoleTicket>(ticket)?).await?;
        serde_json::to_value(ticket).map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))
    }

    /// The settings in force.
    ///
    /// # Errors
    /// As [`Engine::call`].
    pub async fn settings(&self) -> Result<Settings, ErrorBody> {
        Ok(self.ask::<SettingsView>("settings.get").await?.settings)
    }

    /// Makes what was chosen at closing the setting.
    ///
    /// # Errors
    /// As [`Engine::call`].
    pub async fn remember_close(&self, action: CloseAction) -> Result<(), ErrorBody> {
        let settings = Settings { close_action: action, ..self.settings().await? };
        self.call("settings.update", json!({ "settings": settings })).await.map(drop)
    }

    /// Every machine.
    ///
    /// # Errors
    /// As [`Engine::call`].
    pub async fn machines(&self) -> Result<Vec<VmView>, ErrorBody> {
        self.ask("vm.list").await
    }

    async fn ask<Reply: DeserializeOwned>(&self, query: &str) -> Result<Reply, ErrorBody> {
        read(self.call(query, json!({})).await?)
    }

    /// Waits until no operation is in work that ends with this process: none at all where another process is the owner.
    pub async fn idle(&self) {
        while self.works().await {
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Whether this process is the owner and has operations in work.
    pub async fn works(&self) -> bool {
        let owner =
            matches!(&*self.0.lock().await, Way::Open(open) if matches!(open.access, Access::Owner(_)));
        if !owner {
            return false;
        }
        for status in [OperationStatus::Running, OperationStatus::Queued] {
            let some = self.call("operation.list", json!({ "status": status, "limit": 1 })).await;
            if some.is_ok_and(|some| some.as_array().is_some_and(|some| !some.is_empty())) {
                return true;
            }
        }
        false
    }

    /// Lets go of the engine: what is to be written is written, and the data directory is free for the next owner.
    pub async fn close(&self) {
        let way = std::mem::replace(&mut *self.0.lock().await, Way::Ended);
        if let Way::Open(open) = way {
            open.close().await;
        }
    }

    /// Lets go of an owner that is gone; being the owner itself is not let go of.
    async fn forget_owner(&self) {
        let mut way = self.0.lock().await;
        if matches!(&*way, Way::Open(open) if matches!(open.access, Access::Client(_))) {
            *way = Way::Closed;
        }
    }
}

fn read<Reply: DeserializeOwned>(reply: Value) -> Result<Reply, ErrorBody> {
    serde_json::from_value(reply).map_err(|error| {
        ErrorBody::new(ErrorCode::Internal, format!("the engine's reply is not its type: {error}"))
    })
}
