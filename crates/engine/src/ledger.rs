//! The operations there are: each a row before it acts, a watch value while it goes on, and a row again when it has ended.
//!
//! ```text
//! open ─▶ queued ─▶ running ─▶ succeeded | failed | cancelled | interrupted
//!  (row)             (watch value, events)   (row, then event)
//! ```
//! Invariants: nothing begins before its row is on the disk; an end is written before it is announced; every ticket ends, if
//! need be by being dropped. One task writes, in the order in which things happened; what waits for it is bounded by the
//! operations there are, and those by the machines' queues.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use voidvm_model::contract::OperationListRequest;
use voidvm_model::operation::Progress;
use voidvm_model::{
    ErrorBody, ErrorCode, Event, ImageId, Operation, OperationId, OperationKind, OperationResult,
    OperationStatus, Origin, PoolId, VmId, VmState,
};
use voidvm_store::Store;

use crate::bus::EventBus;

/// Progress is announced no more often than this.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// The operations; clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    bus: EventBus,
    live: Mutex<HashMap<OperationId, Live>>,
    writer: mpsc::UnboundedSender<Entry>,
}

#[derive(Debug)]
struct Live {
    now: watch::Sender<Operation>,
    cancel: CancellationToken,
}

#[derive(Debug)]
enum Entry {
    Began(Operation),
    Ended(Operation),
    State { id: VmId, state: VmState, since: Timestamp, attention: Option<ErrorBody> },
    Flush(oneshot::Sender<()>),
}

/// How an operation ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Done.
    Succeeded,
    /// Not done.
    Failed(Failure),
    /// Given up because somebody said so.
    Cancelled,
    /// The app ends in the middle of it.
    Interrupted,
}

/// Why an operation failed, with QEMU's own words where there were any.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The error.
    pub(crate) error: ErrorBody,
    /// QEMU's stderr.
    pub(crate) stderr: Option<String>,
}

impl From<ErrorBody> for Failure {
    fn from(error: ErrorBody) -> Self {
        let stderr = error.details.as_ref().and_then(|details| details.get("stderr"));
        let stderr = stderr.and_then(|text| text.as_str()).filter(|text| !text.is_empty()).map(str::to_owned);
        Self { error, stderr }
    }
}

impl<E: Into<Failure>> From<Result<(), E>> for Outcome {
    fn from(result: Result<(), E>) -> Self {
        result.map_or_else(|failure| Self::Failed(failure.into()), |()| Self::Succeeded)
    }
}

impl Ledger {
    /// Opens the ledger on a store; its writer ends when the last clone is dropped.
    pub(crate) fn open(store: Store, bus: EventBus) -> Self {
        let (writer, entries) = mpsc::unbounded_channel();
        let inner = Inner { store: store.clone(), bus, live: Mutex::default(), writer };
        let inner = Arc::new(inner);
        tokio::spawn(write(store, entries, Arc::downgrade(&inner)));
        Self { inner }
    }

    /// Writes a new operation; when this returns it may begin.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn open_operation(
        &self,
        kind: OperationKind,
        subject: Subject<'_>,
        origin: Origin,
        cancel: Cancel,
    ) -> Result<Ticket, ErrorBody> {
        let operation = Operation {
            id: OperationId::new(),
            kind,
            vm_id: subject.vm(),
            image_id: subject.image(),
            pool_id: subject.pool(),
            subject: subject.name().to_owned(),
            status: OperationStatus::Queued,
            origin,
            requested_at: Timestamp::now(),
            started_at: None,
            finished_at: None,
            duration_ms: None,
            progress: None,
            cancellable: cancel == Cancel::Heeded,
            result: None,
            error: None,
            stderr: None,
        };
        self.inner.store.operations().insert(&operation).await.map_err(|error| error.body())?;
        let id = operation.id;
        let live = Live { now: watch::Sender::new(operation.clone()), cancel: CancellationToken::new() };
        let cancel = live.cancel.clone();
        self.inner.live().insert(id, live);
        self.inner.announce(operation);
        Ok(Ticket { inner: Arc::clone(&self.inner), id, cancel, announced: Instant::now(), ended: false })
    }

    /// Remembers a machine's state, in order with the operations' ends.
    pub(crate) fn remember(&self, id: VmId, state: VmState, since: Timestamp, attention: Option<ErrorBody>) {
        self.inner.write(Entry::State { id, state, since, attention });
    }

    /// Returns when everything said so far is on the disk.
    pub(crate) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        self.inner.write(Entry::Flush(done));
        // The writer is gone only when the runtime is.
        let _ = flushed.await;
    }

    /// One operation, as soon as it has ended or after `patience`.
    ///
    /// # Errors
    /// [`ErrorCode::OperationNotFound`], or the store's.
    pub(crate) async fn wait(&self, id: OperationId, patience: Duration) -> Result<Operation, ErrorBody> {
        let watched = self.inner.live().get(&id).map(|live| live.now.subscribe());
        if let Some(mut now) = watched {
            let ended = tokio::time::timeout(patience, now.wait_for(|operation| operation.status.is_final()));
            // The end of the sender and of the patience leave the same: the newest value.
            drop(ended.await);
            return Ok(now.borrow().clone());
        }
        let stored = self.inner.store.operations().get(id).await.map_err(|error| error.body())?;
        stored.ok_or_else(|| {
            ErrorBody::new(ErrorCode::OperationNotFound, format!("No operation has the id {id}."))
        })
    }

    /// A page of the log, newest first, with the present state of what goes on.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn list(&self, request: &OperationListRequest) -> Result<Vec<Operation>, ErrorBody> {
        let mut rows = self.inner.store.operations().list(request).await.map_err(|error| error.body())?;
        let live = self.inner.live();
        for row in &mut rows {
            if let Some(now) = live.get(&row.id) {
                *row = now.now.borrow().clone();
            }
        }
        if let Some(status) = request.status {
            rows.retain(|row| row.status == status);
        }
        Ok(rows)
    }

    /// Asks for an operation to be given up, and gives it a moment to do so.
    ///
    /// # Errors
    /// [`ErrorCode::OperationNotFound`]; [`ErrorCode::InvalidState`] when it has ended or cannot be undone.
    pub(crate) async fn cancel(&self, id: OperationId) -> Result<Operation, ErrorBody> {
        let token = {
            let live = self.inner.live();
            live.get(&id).map(|live| (live.cancel.clone(), live.now.borrow().cancellable))
        };
        match token {
            Some((token, true)) => {
                token.cancel();
                self.wait(id, Duration::from_secs(2)).await
            }
            Some((_, false)) => {
                Err(ErrorBody::new(ErrorCode::InvalidState, "This operation cannot be given up any more."))
            }
            None => {
                let operation = self.wait(id, Duration::ZERO).await?;
                let status = operation.status.as_str();
                Err(ErrorBody::new(
                    ErrorCode::InvalidState,
                    format!("The operation has ended already ({status})."),
                ))
            }
        }
    }
}

/// What an operation is done to, with its name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject<'a> {
    /// A machine.
    Vm(VmId, &'a str),
    /// An image of the library.
    Image(ImageId, &'a str),
    /// A volume of a pool.
    Volume(PoolId, &'a str),
    /// A schedule.
    Schedule(&'a str),
    /// Backups in a directory.
    Backups(&'a str),
    /// A group of machines.
    Group(&'a str),
}

impl<'a> Subject<'a> {
    const fn vm(self) -> Option<VmId> {
        if let Self::Vm(id, _) = self { Some(id) } else { None }
    }

    const fn image(self) -> Option<ImageId> {
        if let Self::Image(id, _) = self { Some(id) } else { None }
    }

    const fn pool(self) -> Option<PoolId> {
        if let Self::Volume(id, _) = self { Some(id) } else { None }
    }

    const fn name(self) -> &'a str {
        match self {
            Self::Vm(_, name)
            | Self::Image(_, name)
            | Self::Volume(_, name)
            | Self::Schedule(name)
            | Self::Backups(name)
            | Self::Group(name) => name,
        }
    }
}

/// Whether a cancel is heeded, from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancel {
    /// It can be given up.
    Heeded,
    /// It is over too soon, or cannot be undone.
    Ignored,
}

impl Inner {
    fn live(&self) -> MutexGuard<'_, HashMap<OperationId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, operation: Operation) {
        let origin = operation.origin;
        self.bus.publish(origin, Event::OperationChanged { operation: Box::new(operation) });
    }

    fn write(&self, entry: Entry) {
        // The writer ends with the runtime only; then there is nobody left to tell.
        let _ = self.writer.send(entry);
    }
}

async fn write(store: Store, mut entries: mpsc::UnboundedReceiver<Entry>, ledger: std::sync::Weak<Inner>) {
    while let Some(entry) = entries.recv().await {
        match entry {
            Entry::Began(operation) => report(store.operations().update(&operation).await.err()),
            Entry::Ended(operation) => {
                report(store.operations().update(&operation).await.err());
                let Some(ledger) = ledger.upgrade() else { continue };
                let live = ledger.live().remove(&operation.id);
                if let Some(live) = live {
                    live.now.send_replace(operation.clone());
                }
                ledger.announce(operation);
            }
            Entry::State { id, state, since, attention } => {
                report(store.vms().set_state(id, state, since, attention.as_ref()).await.err());
            }
            Entry::Flush(done) => drop(done.send(())),
        }
    }
}

/// What is announced stays true though it could not be written; the log and doctor say why.
fn report(error: Option<voidvm_store::StoreError>) {
    if let Some(error) = error {
        tracing::error!(%error, "what happened could not be written to the store");
    }
}

/// The right and duty to carry an operation out and to end it.
#[derive(Debug)]
pub(crate) struct Ticket {
    inner: Arc<Inner>,
    id: OperationId,
    cancel: CancellationToken,
    announced: Instant,
    ended: bool,
}

impl Ticket {
    /// The operation as it is now.
    pub(crate) fn operation(&self) -> Option<Operation> {
        self.inner.live().get(&self.id).map(|live| live.now.borrow().clone())
    }

    /// Its id.
    pub(crate) const fn id(&self) -> OperationId {
        self.id
    }

    /// Is cancelled when somebody gives the operation up.
    pub(crate) const fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    fn change(&self, change: impl FnOnce(&mut Operation)) -> Option<Operation> {
        let live = self.inner.live();
        let now = &live.get(&self.id)?.now;
        now.send_modify(change);
        Some(now.borrow().clone())
    }

    /// Its turn has come.
    pub(crate) fn begin(&self) {
        let changed = self.change(|operation| {
            operation.status = OperationStatus::Running;
            operation.started_at = Some(Timestamp::now());
        });
        if let Some(operation) = changed {
            self.inner.write(Entry::Began(operation.clone()));
            self.inner.announce(operation);
        }
    }

    /// From here on it cannot be given up.
    pub(crate) fn seal(&self) {
        if let Some(operation) = self.change(|operation| operation.cancellable = false) {
            self.inner.announce(operation);
        }
    }

    /// So much is done.
    pub(crate) fn progress(&mut self, done: u64, total: u64) {
        let changed = self.change(|operation| operation.progress = Some(Progress { done, total }));
        if let Some(operation) = changed
            && self.announced.elapsed() >= PROGRESS_EVERY
        {
            self.announced = Instant::now();
            self.inner.announce(operation);
        }
    }

    /// What came of it; to be said before its end.
    pub(crate) fn result(&self, result: OperationResult) {
        self.change(|operation| operation.result = Some(result));
    }

    /// It has ended.
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.end_as(outcome);
    }

    fn end_as(&mut self, outcome: Outcome) {
        self.ended = true;
        let Some(mut operation) = self.operation() else { return };
        let now = Timestamp::now();
        operation.finished_at = Some(now);
        operation.duration_ms = operation
            .started_at
            .and_then(|started| u64::try_from(now.as_millisecond() - started.as_millisecond()).ok());
        operation.cancellable = false;
        operation.status = match outcome {
            Outcome::Succeeded => OperationStatus::Succeeded,
            Outcome::Failed(failure) => {
                tracing::warn!(
                    operation = %operation.id, kind = operation.kind.as_str(), subject = operation.subject,
                    code = ?failure.error.code, trace_id = failure.error.trace_id, message = failure.error.message,
                    "an operation failed"
                );
                operation.error = Some(failure.error);
                operation.stderr = failure.stderr;
                OperationStatus::Failed
            }
            Outcome::Cancelled => {
                operation.error = Some(ErrorBody::new(ErrorCode::Cancelled, "The operation was given up."));
                OperationStatus::Cancelled
            }
            Outcome::Interrupted => {
                operation.error =
                    Some(ErrorBody::new(ErrorCode::Interrupted, "voidVM ended while this was going on."));
                OperationStatus::Interrupted
            }
        };
        self.inner.write(Entry::Ended(operation));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.ended {
            // Only a task that was torn down comes here: the runtime ends, or a defect ended it.
            self.end_as(Outcome::Interrupted);
        }
    }
}
