//! One piece of work on the snapshots of a machine, or of several, as an operation: its row, its progress, its end.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use voidvm_model::operation::Progress;
use voidvm_model::{
    ErrorBody, ErrorCode, Event, Operation, OperationId, OperationKind, OperationResult, Origin, VmId,
};
use voidvm_qemu::image::QemuImg;
use voidvm_store::{Intent, IntentAction, IntentId, SnapshotRow};

use crate::ledger::{Cancel, Outcome, Subject, Ticket};
use crate::ops::build::end_with_engine;
use crate::platform;
use crate::shared::Shared;
use crate::supervisor::Machine;
use crate::supervisor::lend::Loan;

/// What the work has in hand.
pub(crate) struct Job {
    pub(crate) shared: Arc<Shared>,
    pub(crate) machine: Arc<Machine>,
    pub(crate) img: QemuImg,
    pub(super) operation: OperationId,
    pub(super) origin: Origin,
    /// Somebody gives it up, or the engine ends.
    pub(crate) cancel: CancellationToken,
    /// How much is done.
    pub(crate) progress: watch::Sender<Option<Progress>>,
    sealing: Arc<Notify>,
}

/// What came of it.
pub(crate) type Came = Result<Option<OperationResult>, ErrorBody>;

impl Job {
    pub(super) fn vm(&self) -> VmId {
        self.machine.id
    }

    pub(crate) fn machine_dir(&self) -> PathBuf {
        self.shared.config.machine_dir(self.machine.id)
    }

    /// From here on it cannot be given up.
    ///
    /// # Errors
    /// [`ErrorCode::Cancelled`] when it was given up already.
    pub(super) fn seal(&self) -> Result<(), ErrorBody> {
        if self.cancel.is_cancelled() {
            return Err(given_up());
        }
        self.sealing.notify_one();
        Ok(())
    }

    /// Borrows the machine as it is.
    ///
    /// # Errors
    /// What is in the way; [`ErrorCode::Cancelled`].
    pub(crate) async fn borrow(&self) -> Result<Loan, ErrorBody> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(given_up()),
            loan = self.machine.lend_as_it_is() => loan,
        }
    }

    /// Writes down what is about to be done to which files.
    ///
    /// # Errors
    /// The store's; then no file may be touched.
    pub(super) async fn intend(
        &self,
        action: IntentAction,
        files: Vec<PathBuf>,
    ) -> Result<IntentId, ErrorBody> {
        let intent = Intent { operation_id: self.operation, vm_id: Some(self.machine.id), action, files };
        self.shared.store.journal().begin(&intent, Timestamp::now()).await.map_err(|error| error.body())
    }

    /// It is done, or undone.
    pub(super) async fn settled(&self, intent: IntentId) {
        if let Err(error) = self.shared.store.journal().end(intent).await {
            tracing::warn!(operation = %self.operation, %error, "an intent stays until the next start");
        }
    }

    /// The machine's snapshots, oldest first.
    pub(crate) async fn rows(&self) -> Result<Vec<SnapshotRow>, ErrorBody> {
        self.shared.store.snapshots().of(self.machine.id).await.map_err(|error| error.body())
    }

    /// They are different.
    pub(super) fn announce(&self) {
        self.shared.bus.publish(self.origin, Event::SnapshotsChanged { vm_id: self.machine.id });
    }
}

pub(super) fn given_up() -> ErrorBody {
    ErrorBody::new(ErrorCode::Cancelled, "The operation was given up.")
}

/// Writes the operation down and begins the work.
///
/// # Errors
/// The store's; [`ErrorCode::Busy`] when the engine ends; no `qemu-img`.
pub(crate) async fn begin<F, Fut>(
    shared: &Arc<Shared>,
    machine: Arc<Machine>,
    how: (OperationKind, Origin, Cancel),
    work: F,
) -> Result<Operation, ErrorBody>
where
    F: FnOnce(Arc<Job>) -> Fut + Send + 'static,
    Fut: Future<Output = Came> + Send + 'static,
{
    let name = machine.view().name.clone();
    let (desk, ticket) = Desk::open(shared, Subject::Vm(machine.id, &name), how).await?;
    let operation = ticket.operation();
    let job = desk.job(machine);
    shared.builders.spawn(desk.carry_out(vec![Arc::clone(&job)], ticket, work(job)));
    operation.ok_or_else(|| ErrorBody::new(ErrorCode::Internal, "The operation was lost."))
}

/// As [`begin`], of all machines of a group; each has a job of its own, and they share the operation.
///
/// # Errors
/// As [`begin`].
pub(super) async fn begin_together<F, Fut>(
    shared: &Arc<Shared>,
    (group, machines): (&str, Vec<Arc<Machine>>),
    how: (OperationKind, Origin, Cancel),
    work: F,
) -> Result<Operation, ErrorBody>
where
    F: FnOnce(Vec<Arc<Job>>) -> Fut + Send + 'static,
    Fut: Future<Output = Came> + Send + 'static,
{
    let (desk, ticket) = Desk::open(shared, Subject::Group(group), how).await?;
    let operation = ticket.operation();
    let jobs: Vec<_> = machines.into_iter().map(|machine| desk.job(machine)).collect();
    shared.builders.spawn(desk.carry_out(jobs.clone(), ticket, work(jobs)));
    operation.ok_or_else(|| ErrorBody::new(ErrorCode::Internal, "The operation was lost."))
}

/// What all jobs of one operation share.
struct Desk {
    shared: Arc<Shared>,
    img: QemuImg,
    operation: OperationId,
    origin: Origin,
    cancel: CancellationToken,
    progress: watch::Sender<Option<Progress>>,
    sealing: Arc<Notify>,
}

impl Desk {
    async fn open(
        shared: &Arc<Shared>,
        subject: Subject<'_>,
        (kind, origin, cancel): (OperationKind, Origin, Cancel),
    ) -> Result<(Self, Ticket), ErrorBody> {
        if shared.closing.is_cancelled() {
            return Err(ErrorBody::new(ErrorCode::Busy, "voidVM is ending."));
        }
        let img = platform::qemu_img(shared.preferences().qemu_binary)?;
        let ticket = shared.ledger.open_operation(kind, subject, origin, cancel).await?;
        let desk = Self {
            shared: Arc::clone(shared),
            img,
            operation: ticket.id(),
            origin,
            cancel: ticket.cancel().clone(),
            progress: watch::Sender::new(None),
            sealing: Arc::new(Notify::new()),
        };
        Ok((desk, ticket))
    }

    fn job(&self, machine: Arc<Machine>) -> Arc<Job> {
        Arc::new(Job {
            shared: Arc::clone(&self.shared),
            machine,
            img: self.img.clone(),
            operation: self.operation,
            origin: self.origin,
            cancel: self.cancel.clone(),
            progress: self.progress.clone(),
            sealing: Arc::clone(&self.sealing),
        })
    }

    async fn carry_out(
        self,
        jobs: Vec<Arc<Job>>,
        mut ticket: Ticket,
        work: impl Future<Output = Came> + Send,
    ) {
        let _watch = end_with_engine(&self.shared, &self.cancel);
        ticket.begin();
        let came = self.watched(&mut ticket, work).await;
        // Whoever hears of the change finds it there.
        jobs.iter().for_each(|job| job.announce());
        if let Ok(Some(result)) = &came {
            ticket.result(*result);
        }
        ticket.end(match came {
            Ok(_) => Outcome::Succeeded,
            Err(error) if error.code == ErrorCode::Cancelled && self.shared.closing.is_cancelled() => {
                Outcome::Interrupted
            }
            Err(error) if error.code == ErrorCode::Cancelled => Outcome::Cancelled,
            Err(error) => Outcome::Failed(error.into()),
        });
    }

    /// Runs the work, and tells its progress as it goes on.
    async fn watched(&self, ticket: &mut Ticket, work: impl Future<Output = Came> + Send) -> Came {
        let mut done = self.progress.subscribe();
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                came = &mut work => return came,
                () = self.sealing.notified() => ticket.seal(),
                Ok(()) = done.changed() => {
                    let now = *done.borrow_and_update();
                    if let Some(now) = now {
                        ticket.progress(now.done, now.total);
                    }
                }
            }
        }
    }
}

/// Work on files, away from the threads that answer.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ErrorBody> + Send + 'static,
) -> Result<T, ErrorBody> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(ErrorBody::new(ErrorCode::Internal, format!("The work ended early: {error}.")))
    })
}
