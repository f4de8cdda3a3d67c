//! Typed calls of the contract's commands, machines by name, and waiting for operations.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use voidvm_host::handlers::read_reply;
use voidvm_host::{Access, Config};
use voidvm_model::contract::{OperationGetRequest, OperationRef, VmListRequest, VmRef};
use voidvm_model::{ErrorBody, ErrorCode, Operation, OperationStatus, Origin, VmId, VmView};
use voidvm_server::OwnerSocket;

use crate::output::watched;

/// Seconds of one question for an operation's end; short enough for a lively progress bar.
const WAIT_WATCHED: u32 = 1;
const WAIT: u32 = 30;

/// The engine: in this process, or in the one that owns the data directory.
#[derive(Debug)]
pub(crate) struct Client {
    access: Access,
    /// While this process is the owner, others may need it.
    socket: Option<OwnerSocket>,
}

impl Client {
    /// Becomes the owner or its client. As the owner, waits until it is known what each machine does.
    pub(crate) async fn open(config: Config) -> Result<Self, ErrorBody> {
        config.check()?;
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

    /// Lets go; machines go on.
    pub(crate) async fn close(self) {
        if let Some(socket) = self.socket {
            socket.stop().await;
        }
        if let Some(host) = self.access.host() {
            host.close().await;
        }
    }

    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        name: &str,
        request: &impl Serialize,
    ) -> Result<T, ErrorBody> {
        let payload = serde_json::to_value(request).map_err(|error| {
            ErrorBody::new(ErrorCode::Internal, format!("The request cannot be written: {error}."))
        })?;
        read_reply(self.access.call(name, payload, Origin::Cli).await?)
    }

    /// The machine of that name or id.
    pub(crate) async fn find(&self, vm: &str) -> Result<VmView, ErrorBody> {
        if let Ok(id) = vm.parse::<VmId>() {
            return self.call("vm.get", &VmRef { id }).await;
        }
        let request = VmListRequest { name: Some(vm.to_owned()), state: None };
        let found: Vec<VmView> = self.call("vm.list", &request).await?;
        found.into_iter().next().ok_or_else(|| {
            ErrorBody::new(ErrorCode::VmNotFound, format!("There is no machine “{vm}”."))
                .with_field("vm")
                .with_hint("See the names with: voidvm list")
        })
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
            let mut events = self.access.subscribe(None).await?;
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

fn progress_bar(operation: &Operation) -> ProgressBar {
    let bar = ProgressBar::new(0);
    let words = format!("{} {}", operation.kind.as_str(), operation.vm_name);
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
