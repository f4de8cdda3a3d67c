//! Typed calls of the contract's commands, machines by name, and waiting for operations.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Mutex;
use voidvm_host::handlers::read_reply;
use voidvm_host::remote::UNSENT;
use voidvm_host::{Access, Config, Host};
use voidvm_model::contract::{
    CommandKind, OperationGetRequest, OperationListRequest, OperationRef, VmListRequest, VmRef, command,
};
use voidvm_model::{ErrorBody, ErrorCode, Operation, OperationStatus, Origin, VmId, VmState, VmView};
use voidvm_server::OwnerSocket;

use crate::output::watched;

/// Seconds of one question for an operation's end; short enough for a lively progress bar.
const WAIT_WATCHED: u32 = 1;
const WAIT: u32 = 30;

/// How long an owner that has just begun may take to find out what a machine does.
const ADOPTION: Duration = Duration::from_secs(10);
/// How often a call looks for a new owner when the one it knew has ended.
const OWNERS: usize = 5;

/// The engine: in this process, or in the one that owns the data directory. An owner that is another command ends when it is
/// done; then the next one of us becomes the owner, or finds it.
#[derive(Debug)]
pub(crate) struct Client {
    config: Config,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    access: Access,
    /// While this process is the owner, others may need it.
    socket: Option<OwnerSocket>,
}

impl State {
    async fn open(config: Config) -> Result<Self, ErrorBody> {
        let access = Access::open(config).await?;
        let socket = match access.host() {
            Some(host) => {
                let socket = OwnerSocket::start(host).await?;
                host.engine().ready().await;
                Some(socket)
            }
            None => None,
        };
        Ok(Self { access, socket })
    }
}

impl Client {
    /// Becomes the owner or its client. As the owner, waits until it is known what each machine does.
    pub(crate) async fn open(config: Config) -> Result<Self, ErrorBody> {
        config.check()?;
        let state = Mutex::new(State::open(config.clone()).await?);
        Ok(Self { config, state })
    }

    /// Lets go; machines go on. An owner first lets the others finish what they have begun here.
    pub(crate) async fn close(self) {
        let State { access, socket } = self.state.into_inner();
        let Access::Owner(host) = access else { return };
        settle(&host).await;
        if let Some(socket) = socket {
            socket.stop().await;
        }
        // What was asked for while the socket was being closed.
        settle(&host).await;
        host.close().await;
    }

    pub(crate) async fn access(&self) -> Access {
        self.state.lock().await.access.clone()
    }

    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        name: &str,
        request: &impl Serialize,
    ) -> Result<T, ErrorBody> {
        let payload = serde_json::to_value(request).map_err(|error| {
            ErrorBody::new(ErrorCode::Internal, format!("The request cannot be written: {error}."))
        })?;
        let reads = command(name).is_some_and(|command| command.kind == CommandKind::Query);
        for _ in 0..OWNERS {
            let access = self.access().await;
            match access.call(name, payload.clone(), Origin::Cli).await {
                Err(error) if error.code == ErrorCode::OwnerUnreachable && (reads || unsent(&error)) => {
                    self.reopen(&access).await?;
                }
                outcome => return read_reply(outcome?),
            }
        }
        read_reply(self.access().await.call(name, payload, Origin::Cli).await?)
    }

    /// Finds the next owner, unless another call has found it meanwhile.
    async fn reopen(&self, lost: &Access) -> Result<(), ErrorBody> {
        let mut state = self.state.lock().await;
        let still_lost = match (lost, &state.access) {
            (Access::Client(lost), Access::Client(now)) => lost.socket() == now.socket(),
            _ => false,
        };
        if still_lost {
            *state = State::open(self.config.clone()).await?;
        }
        Ok(())
    }

    /// The machine of that name or id, as soon as it is known what it does.
    pub(crate) async fn find(&self, vm: &str) -> Result<VmView, ErrorBody> {
        let found: VmView = if let Ok(id) = vm.parse::<VmId>() {
            self.call("vm.get", &VmRef { id }).await?
        } else {
            let request = VmListRequest { name: Some(vm.to_owned()), state: None };
            let found: Vec<VmView> = self.call("vm.list", &request).await?;
            found.into_iter().next().ok_or_else(|| {
                ErrorBody::new(ErrorCode::VmNotFound, format!("There is no machine “{vm}”."))
                    .with_field("vm")
                    .with_hint("See the names with: voidvm list")
            })?
        };
        if found.state != VmState::Adopting {
            return Ok(found);
        }
        self.until(found.id, ADOPTION, |vm| vm.state != VmState::Adopting).await
    }

    /// Waits until an operation has ended, showing how far it is; Ctrl+C gives it up.
    ///
    /// # Errors
    /// Why it failed, was cancelled or interrupted.
    pub(crate) async fn finish(&self, mut operation: Operation) -> Result<Operation, ErrorBody> {
        let mut bar: Option<ProgressBar> = None;
        let mut given_up = false;
        while !operation.status.is_final() {
            if let Some(progress) = operation.progress.filter(|_| watched()) {
                let bar = bar.get_or_insert_with(|| progress_bar(&operation));
                bar.set_length(progress.total);
                bar.set_position(progress.done);
            }
            let wait_seconds = Some(if watched() { WAIT_WATCHED } else { WAIT });
            let request = OperationGetRequest { id: operation.id, wait_seconds };
            operation = tokio::select! {
                next = self.call("operation.get", &request) => next?,
                _ = tokio::signal::ctrl_c(), if !given_up => {
                    given_up = true;
                    self.call("operation.cancel", &OperationRef { id: operation.id }).await?
                }
            };
        }
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        outcome(operation)
    }

    /// Waits until the machine is in one of these states.
    pub(crate) async fn until(
        &self,
        id: VmId,
        patience: Duration,
        reached: impl Fn(&VmView) -> bool,
    ) -> Result<VmView, ErrorBody> {
        let wait = async {
            let mut events = self.access().await.subscribe(None).await?;
            loop {
                let vm: VmView = self.call("vm.get", &VmRef { id }).await?;
                if reached(&vm) {
                    return Ok(vm);
                }
                if futures_util::StreamExt::next(&mut events).await.is_none() {
                    return Err(ErrorBody::new(
                        ErrorCode::OwnerUnreachable,
                        "The owner of the machines has ended.",
                    ));
                }
            }
        };
        tokio::time::timeout(patience, wait)
            .await
            .unwrap_or_else(|_| Err(ErrorBody::new(ErrorCode::Timeout, "The machine is not there yet.")))
    }
}

/// Waits until nothing is under way.
async fn settle(host: &Host) {
    for status in [OperationStatus::Running, OperationStatus::Queued] {
        loop {
            let request = OperationListRequest {
                status: Some(status),
                limit: Some(1),
                ..OperationListRequest::default()
            };
            let Ok(operations) = host.engine().operations(request).await else { return };
            let Some(operation) = operations.first() else { break };
            let wait = Duration::from_secs(u64::from(WAIT));
            if host.engine().operation_wait(operation.id, wait).await.is_err() {
                return;
            }
        }
    }
}

/// Whether the owner never heard the request.
fn unsent(error: &ErrorBody) -> bool {
    error.details.as_ref().is_some_and(|details| details.contains_key(UNSENT))
}

fn progress_bar(operation: &Operation) -> ProgressBar {
    let bar = ProgressBar::new(0);
    let words = format!("{} {}", operation.kind.as_str(), operation.subject);
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {percent:>3} %  {binary_bytes_per_sec}")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(words);
    bar
}

fn outcome(operation: Operation) -> Result<Operation, ErrorBody> {
    let fallback = match operation.status {
        OperationStatus::Queued | OperationStatus::Running | OperationStatus::Succeeded => {
            return Ok(operation);
        }
        OperationStatus::Cancelled => ErrorBody::new(ErrorCode::Cancelled, "The operation was cancelled."),
        OperationStatus::Interrupted => {
            ErrorBody::new(ErrorCode::Interrupted, "The engine ended while the operation ran.")
                .with_hint("Look at the machine, then try again.")
        }
        OperationStatus::Failed => {
            ErrorBody::new(ErrorCode::Internal, "The operation failed and did not say why.")
        }
    };
    let mut error = operation.error.unwrap_or(fallback);
    let said = error.details.as_ref().is_some_and(|details| details.contains_key("stderr"));
    if let Some(stderr) = operation.stderr.filter(|stderr| !said && !stderr.trim().is_empty()) {
        error = error.with_detail("stderr", Value::String(stderr));
    }
    Err(error)
}
