//! Work on a repository as an operation: its row, its turn, its progress, its end.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use voidvm_backup::{Progress, Repository, Watch};
use voidvm_model::{ErrorBody, ErrorCode, Operation, OperationKind, OperationResult, Origin, operation};

use crate::engine::blocking;
use crate::ledger::{Cancel, Outcome, Subject, Ticket};
use crate::ops::build::end_with_engine;
use crate::shared::Shared;

/// Where what is done is told, and where it is asked whether to go on.
#[derive(Clone, Debug)]
pub(super) struct Teller {
    pub(super) progress: watch::Sender<Option<operation::Progress>>,
    pub(super) cancel: CancellationToken,
}

impl Watch for Teller {
    fn progress(&self, progress: Progress) {
        let Progress { done, total, .. } = progress;
        self.progress.send_replace(Some(operation::Progress { done, total }));
    }

    fn cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

/// What is done to a repository, and where that is.
pub(super) struct Work<'a> {
    pub(super) kind: OperationKind,
    pub(super) directory: &'a str,
    pub(super) repository: Repository,
    pub(super) origin: Origin,
}

/// Writes the operation down and begins the work when its turn comes.
///
/// # Errors
/// The store's; [`ErrorCode::Busy`] when the engine ends.
pub(super) async fn begin(
    shared: &Arc<Shared>,
    Work { kind, directory, repository, origin }: Work<'_>,
    work: impl FnOnce(&Repository, &Teller) -> Result<OperationResult, ErrorBody> + Send + 'static,
) -> Result<Operation, ErrorBody> {
    if shared.closing.is_cancelled() {
        return Err(ErrorBody::new(ErrorCode::Busy, "voidVM is ending."));
    }
    let subject = Subject::Backups(directory);
    let ticket = shared.ledger.open_operation(kind, subject, origin, Cancel::Heeded).await?;
    let operation = ticket.operation();
    let teller = Teller { progress: watch::Sender::new(None), cancel: ticket.cancel().clone() };
    let shared_too = Arc::clone(shared);
    shared.builders.spawn(async move {
        let mut ticket = ticket;
        let _watch = end_with_engine(&shared_too, &teller.cancel);
        let permit = tokio::select! {
            biased;
            () = teller.cancel.cancelled() => None,
            permit = shared_too.builds.pass() => Some(permit),
        };
        let turns = shared_too.repositories.of(&repository);
        let turn = async {
            if kind == OperationKind::BackupForget {
                (None, Some(turns.write().await))
            } else {
                (Some(turns.read().await), None)
            }
        };
        let turn = tokio::select! {
            biased;
            () = teller.cancel.cancelled() => None,
            turn = turn => permit.is_some().then_some(turn),
        };
        let came = if turn.is_some() {
            ticket.begin();
            let (shown, done) = (teller.clone(), blocking(move || work(&repository, &teller)));
            shown_while(&shown.progress, &mut ticket, done).await
        } else {
            Err(ErrorBody::new(ErrorCode::Cancelled, "Cancelled."))
        };
        if let Ok(result) = came {
            ticket.result(result);
        }
        ticket.end(match came {
            Ok(_) => Outcome::Succeeded,
            Err(error) if error.code == ErrorCode::Cancelled && shared_too.closing.is_cancelled() => {
                Outcome::Interrupted
            }
            Err(error) if error.code == ErrorCode::Cancelled => Outcome::Cancelled,
            Err(error) => Outcome::Failed(error.into()),
        });
    });
    operation.ok_or_else(|| ErrorBody::new(ErrorCode::Internal, "The operation was lost."))
}

/// Shows how far work is until it ends.
pub(super) async fn shown_while<T>(
    progress: &watch::Sender<Option<operation::Progress>>,
    ticket: &mut Ticket,
    work: impl Future<Output = T>,
) -> T {
    let mut done = progress.subscribe();
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            came = &mut work => return came,
            Ok(()) = done.changed() => {
                let now = *done.borrow_and_update();
                if let Some(now) = now {
                    ticket.progress(now.done, now.total);
                }
            }
        }
    }
}
