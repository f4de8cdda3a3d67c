//! The frame around work on an image: its turn, its progress, and how it ends.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use voidvm_model::{Bytes, ErrorBody, ErrorCode};
use voidvm_qemu::image::CopyProgress;

use crate::ledger::{Failure, Outcome, Ticket};
use crate::shared::Shared;

/// Why work ended early.
#[derive(Debug)]
pub(super) enum Stopped {
    Cancelled,
    Failed(Failure),
}

impl From<ErrorBody> for Stopped {
    fn from(body: ErrorBody) -> Self {
        if body.code == ErrorCode::Cancelled { Self::Cancelled } else { Self::Failed(body.into()) }
    }
}

/// What work has of the operation it is.
pub(super) struct Job {
    pub(super) ticket: Ticket,
    pub(super) cancel: CancellationToken,
}

/// What work that blocks a thread tells, and hears.
#[derive(Clone)]
pub(super) struct Reporter {
    done: watch::Sender<u64>,
    cancel: CancellationToken,
}

impl Reporter {
    /// So much is done.
    ///
    /// # Errors
    /// [`Stopped::Cancelled`] when it shall be given up.
    pub(super) fn done(&self, done: u64) -> Result<(), Stopped> {
        self.done.send_replace(done);
        self.goes_on()
    }

    /// Whether it goes on.
    ///
    /// # Errors
    /// [`Stopped::Cancelled`] when it shall be given up.
    pub(super) fn goes_on(&self) -> Result<(), Stopped> {
        if self.cancel.is_cancelled() { Err(Stopped::Cancelled) } else { Ok(()) }
    }
}

/// Waits for a turn among the builds, does the work and ends the operation as it came out.
pub(super) async fn carry_out<F>(shared: Arc<Shared>, ticket: Ticket, work: F)
where
    F: AsyncFnOnce(&Arc<Shared>, &mut Job) -> Result<(), Stopped>,
{
    let cancel = ticket.cancel().clone();
    // The end of the engine gives it up as a person would.
    let (closing, given_up) = (shared.closing.clone(), cancel.clone());
    let _watch = AbortOnDropHandle::new(tokio::spawn(async move {
        closing.cancelled().await;
        given_up.cancel();
    }));
    let permit = tokio::select! {
        biased;
        () = cancel.cancelled() => None,
        permit = shared.builds.pass() => Some(permit),
    };
    let mut job = Job { ticket, cancel };
    let outcome = if permit.is_some() {
        job.ticket.begin();
        work(&shared, &mut job).await
    } else {
        Err(Stopped::Cancelled)
    };
    drop(permit);
    job.ticket.end(match outcome {
        Ok(()) => Outcome::Succeeded,
        Err(Stopped::Cancelled) if shared.closing.is_cancelled() => Outcome::Interrupted,
        Err(Stopped::Cancelled) => Outcome::Cancelled,
        Err(Stopped::Failed(failure)) => Outcome::Failed(failure),
    });
}

impl Job {
    /// Work that blocks a thread, with its progress of `total`.
    pub(super) async fn blocking<T: Send + 'static>(
        &mut self,
        total: u64,
        work: impl FnOnce(Reporter) -> Result<T, Stopped> + Send + 'static,
    ) -> Result<T, Stopped> {
        let (sender, mut done) = watch::channel(0);
        let reporter = Reporter { done: sender, cancel: self.cancel.clone() };
        let mut working = tokio::task::spawn_blocking(move || work(reporter));
        loop {
            tokio::select! {
                biased;
                worked = &mut working => {
                    return worked.unwrap_or_else(|error| {
                        Err(ErrorBody::new(ErrorCode::Internal, format!("The work ended early: {error}.")).into())
                    });
                }
                Ok(()) = done.changed() => self.ticket.progress(*done.borrow_and_update(), total),
            }
        }
    }

    /// A copy by `qemu-img`, with its progress.
    pub(super) async fn copying<E>(
        &mut self,
        size: Bytes,
        copy: impl AsyncFnOnce(&CopyProgress, &CancellationToken) -> Result<(), E>,
        body: impl FnOnce(E) -> ErrorBody,
    ) -> Result<(), Stopped> {
        let progress = CopyProgress::new(0);
        let mut done = progress.subscribe();
        let cancel = self.cancel.clone();
        let copying = copy(&progress, &cancel);
        tokio::pin!(copying);
        loop {
            tokio::select! {
                biased;
                copied = &mut copying => return copied.map_err(|error| body(error).into()),
                Ok(()) = done.changed() => {
                    let share = u64::from(*done.borrow_and_update());
                    self.ticket.progress(size.0 / 10_000 * share, size.0);
                }
            }
        }
    }
}
