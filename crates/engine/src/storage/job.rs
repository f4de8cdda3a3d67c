//! One piece of work on volumes as an operation: its row, its turn, its progress, its end.

use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use voidvm_model::{
    Bytes, ErrorBody, ErrorCode, Event, Operation, OperationId, OperationKind, OperationResult, Origin, VmId,
};
use voidvm_qemu::image::{CopyProgress, QemuImg};
use voidvm_store::{Intent, IntentAction, IntentId};

use super::list::User;
use super::pools::Place;
use crate::ledger::{Cancel, Outcome, Subject, Ticket};
use crate::platform;
use crate::shared::Shared;
use crate::supervisor::lend::Loan;

/// What the work has in hand.
pub(super) struct Job {
    pub(super) shared: Arc<Shared>,
    pub(super) img: QemuImg,
    pub(super) operation: OperationId,
    /// Somebody gives it up, or the engine ends.
    pub(super) cancel: CancellationToken,
    /// How much is done, in hundredths of a per cent.
    pub(super) progress: CopyProgress,
    sealing: Arc<Notify>,
}

/// What came of it.
pub(super) type Came = Result<Option<OperationResult>, ErrorBody>;

impl Job {
    /// From here on it cannot be given up.
    ///
    /// # Errors
    /// [`ErrorCode::Cancelled`] when it was given up already.
    pub(super) fn seal(&self) -> Result<(), ErrorBody> {
        if self.cancel.is_cancelled() {
            return Err(ErrorBody::new(ErrorCode::Cancelled, "Cancelled."));
        }
        self.sealing.notify_one();
        Ok(())
    }

    /// Writes down what is about to be done to which files.
    ///
    /// # Errors
    /// The store's; then no file may be touched.
    pub(super) async fn intend(
        &self,
        action: IntentAction,
        vm: Option<VmId>,
        files: Vec<std::path::PathBuf>,
    ) -> Result<IntentId, ErrorBody> {
        let intent = Intent { operation_id: self.operation, vm_id: vm, action, files };
        self.shared.store.journal().begin(&intent, Timestamp::now()).await.map_err(|error| error.body())
    }

    /// It is done, or undone.
    pub(super) async fn settled(&self, intent: IntentId) {
        if let Err(error) = self.shared.store.journal().end(intent).await {
            tracing::warn!(operation = %self.operation, %error, "an intent stays until the next start");
        }
    }

    /// Borrows the machines that use a volume: they hold still until the loans are dropped.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidState`] when one of them has a process or sleeps; [`ErrorCode::Cancelled`].
    pub(super) async fn borrow(&self, users: &[User]) -> Result<Vec<Loan>, ErrorBody> {
        let mut loans: Vec<Loan> = Vec::new();
        for user in users {
            if loans.iter().any(|loan| loan.vm.id == user.id) {
                continue;
            }
            let machine = self.shared.fleet.get(user.id)?;
            let loan = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(ErrorBody::new(ErrorCode::Cancelled, "Cancelled.")),
                loan = machine.lend() => loan?,
            };
            super::target::check_at_rest(&loan.vm.name, loan.vm.state)?;
            loans.push(loan);
        }
        Ok(loans)
    }
}

/// What an operation is called and how large it is.
pub(super) struct Named<'a> {
    pub(super) kind: OperationKind,
    pub(super) place: &'a Place,
    pub(super) name: &'a str,
    /// What its progress is measured in.
    pub(super) total: Bytes,
    pub(super) cancel: Cancel,
    pub(super) origin: Origin,
}

/// Writes the operation down and begins the work when its turn comes.
///
/// # Errors
/// The store's; [`ErrorCode::Busy`] when the engine ends; no `qemu-img`.
pub(super) async fn begin<F, Fut>(
    shared: &Arc<Shared>,
    named: Named<'_>,
    work: F,
) -> Result<Operation, ErrorBody>
where
    F: FnOnce(Arc<Job>) -> Fut + Send + 'static,
    Fut: Future<Output = Came> + Send + 'static,
{
    if shared.closing.is_cancelled() {
        return Err(ErrorBody::new(ErrorCode::Busy, "voidVM is ending."));
    }
    let img = platform::qemu_img(shared.preferences().qemu_binary)?;
    let subject = Subject::Volume(named.place.id, named.name);
    let ticket = shared.ledger.open_operation(named.kind, subject, named.origin, named.cancel).await?;
    let operation = ticket.operation();
    let job = Job {
        shared: Arc::clone(shared),
        img,
        operation: ticket.id(),
        cancel: ticket.cancel().clone(),
        progress: CopyProgress::new(0),
        sealing: Arc::new(Notify::new()),
    };
    shared.builders.spawn(carry_out(job, ticket, named.total, named.origin, work));
    operation.ok_or_else(|| ErrorBody::new(ErrorCode::Internal, "The operation was lost."))
}

async fn carry_out<F, Fut>(job: Job, mut ticket: Ticket, total: Bytes, origin: Origin, work: F)
where
    F: FnOnce(Arc<Job>) -> Fut + Send + 'static,
    Fut: Future<Output = Came> + Send + 'static,
{
    let job = Arc::new(job);
    let shared = Arc::clone(&job.shared);
    // The end of the engine gives it up as a person would.
    let (closing, given_up) = (shared.closing.clone(), job.cancel.clone());
    let _watch = AbortOnDropHandle::new(tokio::spawn(async move {
        closing.cancelled().await;
        given_up.cancel();
    }));
    let permit = tokio::select! {
        biased;
        () = job.cancel.cancelled() => None,
        permit = shared.builds.pass() => Some(permit),
    };
    let came = if permit.is_some() {
        ticket.begin();
        watched(&job, &mut ticket, total, work(Arc::clone(&job))).await
    } else {
        Err(ErrorBody::new(ErrorCode::Cancelled, "Cancelled."))
    };
    drop(permit);
    // Whoever hears of the change finds it there.
    shared.bus.publish(origin, Event::StorageChanged);
    if let Ok(Some(result)) = came {
        ticket.result(result);
    }
    ticket.end(match came {
        Ok(_) => Outcome::Succeeded,
        Err(error) if error.code == ErrorCode::Cancelled && shared.closing.is_cancelled() => {
            Outcome::Interrupted
        }
        Err(error) if error.code == ErrorCode::Cancelled => Outcome::Cancelled,
        Err(error) => Outcome::Failed(error.into()),
    });
}

/// Runs the work, and tells its progress as it goes on.
async fn watched(
    job: &Job,
    ticket: &mut Ticket,
    total: Bytes,
    work: impl Future<Output = Came> + Send,
) -> Came {
    let mut done = job.progress.subscribe();
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            came = &mut work => return came,
            () = job.sealing.notified() => ticket.seal(),
            Ok(()) = done.changed() => {
                let share = u64::from(*done.borrow_and_update());
                ticket.progress(total.0 / 10_000 * share, total.0);
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
