//! The way to a data directory: as its owner, or as a client of the owner. Who calls need not know which.
//!
//! ```text
//! open ─▶ lock free? ─yes─▶ Owner(Host)
//!            no ─▶ owner answers? ─yes─▶ Client(RemoteClient)
//!                       no ─▶ again, until PATIENCE is over ─▶ OwnerUnreachable
//! ```

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use serde_json::Value;
use tokio::time::Instant;
use voidvm_model::{ErrorBody, ErrorCode, Origin, StreamItem};

use crate::config::Config;
use crate::console::ConsoleLine;
use crate::handlers::{Answer, Caller, dispatch};
use crate::host::Host;
use crate::owner::{OwnerLock, Ownership};
use crate::remote::RemoteClient;

/// How long an owner may take to answer: it may just be starting, or ending.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts to become the owner or reach it.
const AGAIN: Duration = Duration::from_millis(50);

/// The way to a data directory. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Access {
    /// This process owns it.
    Owner(Host),
    /// Another process owns it.
    Client(RemoteClient),
}

impl Access {
    /// Becomes the owner, or finds it.
    ///
    /// # Errors
    /// [`ErrorCode::OwnerUnreachable`] when somebody owns the directory and does not answer; what keeps the owner from starting
    /// (directories, store, engine) otherwise.
    pub async fn open(config: Config) -> Result<Self, ErrorBody> {
        Self::open_within(config, PATIENCE).await
    }

    /// As [`Access::open`], with another patience for an owner that does not answer.
    ///
    /// # Errors
    /// As [`Access::open`].
    pub async fn open_within(mut config: Config, patience: Duration) -> Result<Self, ErrorBody> {
        config.directories.make()?;
        let deadline = Instant::now() + patience;
        loop {
            let record = match OwnerLock::take(&mut config.directories)? {
                Ownership::Owned(lock) => return Host::open(config, lock).await.map(Self::Owner),
                Ownership::Held(record) => record,
            };
            let directory = record.as_ref().map_or(&config.directories.runtime, |record| &record.runtime_dir);
            let client = RemoteClient::new(directory.join("voidvm.sock"));
            let left = deadline.saturating_duration_since(Instant::now());
            let hello = client.call("settings.get", &Value::Null, Origin::System);
            let error = match tokio::time::timeout(left, hello).await {
                Ok(Ok(_)) => return Ok(Self::Client(client)),
                Ok(Err(error)) => error,
                Err(_) => ErrorBody::new(
                    ErrorCode::OwnerUnreachable,
                    "Another voidVM owns this data directory, and does not answer.",
                )
                .with_hint("End that process and try again. Machines go on."),
            };
            if Instant::now() + AGAIN > deadline {
                return Err(match record {
                    Some(record) => error.with_detail("pid", record.pid),
                    None => error,
                });
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Runs a command.
    ///
    /// # Errors
    /// What the command's handler says; as a client [`ErrorCode::OwnerUnreachable`] too.
    pub async fn call(&self, name: &str, payload: Value, origin: Origin) -> Result<Value, ErrorBody> {
        match self {
            Self::Owner(host) => {
                dispatch(host, name, payload, &Caller::new(origin)).await.map(|answer| answer.value())
            }
            Self::Client(client) => client.call(name, &payload, origin).await,
        }
    }

    /// Runs a command and gives its answer as JSON text, for those who only carry it on.
    ///
    /// # Errors
    /// As [`Access::call`].
    pub async fn call_text(&self, name: &str, payload: Value, origin: Origin) -> Result<String, ErrorBody> {
        match self {
            Self::Owner(host) => {
                dispatch(host, name, payload, &Caller::new(origin)).await.map(Answer::into_text)
            }
            Self::Client(client) => client.call(name, &payload, origin).await.map(|value| value.to_string()),
        }
    }

    /// Follows events after number `since`, or from now on.
    ///
    /// # Errors
    /// As a client [`ErrorCode::OwnerUnreachable`].
    pub async fn subscribe(&self, since: Option<u64>) -> Result<BoxStream<'static, StreamItem>, ErrorBody> {
        match self {
            Self::Owner(host) => Ok(host.subscribe(since).boxed()),
            Self::Client(client) => client.subscribe(since).await,
        }
    }

    /// Opens the console behind a path of `vm.console`, using its ticket up.
    ///
    /// # Errors
    /// [`ErrorCode::Unauthenticated`] when the ticket was used or is too old; why the console cannot be opened else.
    pub async fn console(&self, path: &str) -> Result<ConsoleLine, ErrorBody> {
        match self {
            Self::Owner(host) => host.console(path).await,
            Self::Client(client) => client.console(path).await,
        }
    }

    /// The host, where this process is the owner.
    #[must_use]
    pub fn host(&self) -> Option<&Host> {
        match self {
            Self::Owner(host) => Some(host),
            Self::Client(_) => None,
        }
    }
}
