//! What a supervisor has in hand: one future at a time, whose end is a [`Step`], and the question whether QEMU still answers.
//!
//! The futures hold clones of what they need and never the driver, so that the driver stays free to see the process end, take
//! requests and drop the work.

use std::future::{Future, pending};
use std::pin::Pin;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use voidvm_model::operation::Progress;
use voidvm_model::{ErrorBody, Origin};
use voidvm_qemu::qmp::{Qmp, QmpEvent};

use super::lend::Loan;
use super::{Order, adopt};
use crate::gate::Permit;
use crate::ledger::Ticket;
use crate::ops::delete::Deletion;
use crate::ops::launch;
use crate::run::{Attached, GuestStatus};

/// A future of the driver's.
pub(super) type InHand<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// How a piece of work ended.
pub(crate) enum Step {
    /// Its turn among the machines has come.
    Granted(Permit),
    /// The process is up and held before the guest's first instruction; or it is not.
    Launched(Result<Box<Attached>, launch::Refused>),
    /// At start-up: what there is of a process.
    Adopted(Box<adopt::Found>),
    /// A command was carried out.
    Done(Result<(), ErrorBody>),
    /// The guest did not shut down in its time.
    Expired,
    /// Nobody stands on the machine's files any more; or somebody still does.
    LetGo(Result<Vec<Loan>, ErrorBody>),
    /// The machine's row and files are gone; or they are not.
    Deleted(Deletion),
}

/// What asking whether QEMU still answers brought.
pub(super) enum Pulse {
    /// It answers.
    Alive(GuestStatus),
    /// It answers, on a new connection.
    Reconnected(Qmp, mpsc::Receiver<QmpEvent>, GuestStatus),
    /// It does not.
    Mute(ErrorBody),
}

/// An action in the queue.
pub(super) struct Job {
    pub(super) order: Order,
    pub(super) ticket: Ticket,
    pub(super) origin: Origin,
    /// Held while at work, where the class has a limit.
    pub(super) permit: Option<Permit>,
    /// Whether it has begun to act.
    pub(super) begun: bool,
    /// Whether it was told to stop.
    pub(super) told: bool,
}

/// Waits for what is in hand; forever when there is nothing.
pub(super) async fn finished<T>(in_hand: &mut InHand<T>) -> T {
    match in_hand {
        Some(future) => {
            let value = future.await;
            *in_hand = None;
            value
        }
        None => pending().await,
    }
}

/// Waits until somebody gives up one of the jobs; says which place in the queue it has.
pub(super) async fn given_up(tokens: Vec<(usize, CancellationToken)>) -> usize {
    if tokens.is_empty() {
        return pending().await;
    }
    let waits = tokens.into_iter().map(|(at, token)| {
        Box::pin(async move {
            token.cancelled_owned().await;
            at
        })
    });
    futures_util::future::select_all(waits).await.0
}

/// Waits until work says how far it is; forever when none does.
pub(super) async fn moved(progress: &mut Option<watch::Receiver<Option<Progress>>>) {
    match progress {
        Some(receiver) => {
            if receiver.changed().await.is_err() {
                *progress = None;
            }
        }
        None => pending().await,
    }
}
