//! One task owns one machine. Everybody else sends it a request through its bounded mailbox, or watches its view.
//!
//! * [`policy`]: may this request run now, or after those before it? Pure.
//! * [`driver`]: the select loop: process exit > monitor event > end of the work in hand > request > heartbeat.
//! * [`adopt`]: at start-up, whose process is still there?
//! * [`lend`]: a machine without a process, held still for whoever works on its files.
//! * [`publish`]: the view as everybody sees it, with its generation.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use voidvm_model::contract::VmUpdateRequest;
use voidvm_model::{ErrorBody, ErrorCode, MachineSpec, Operation, Origin, VmId, VmState, VmView};

use crate::run::Run;

pub(crate) mod adopt;
mod driver;
pub(crate) mod lend;
mod observe;
pub mod policy;
mod publish;
mod requests;
mod trouble;
mod work;

pub(crate) use driver::{Begin, spawn};
use policy::Action;
pub(crate) use work::Step;

/// Requests that wait in a mailbox; who finds it full waits.
const MAILBOX: usize = 32;

/// What is asked of a machine, with what it takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Start,
    /// A suspended guest is loaded and held: others are to go on with it. Any other is started.
    StartHeld,
    /// What the guest writes is thrown away when it stops.
    StartDisposable,
    Stop {
        patience: Duration,
    },
    ForceOff,
    Pause,
    Resume,
    Reset,
    Suspend,
    Delete {
        disks: Disks,
        children: Children,
    },
}

/// What becomes of a deleted machine's disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disks {
    Remove,
    /// They and everything else of the machine go to the desktop's trash.
    Trash,
    Keep,
}

/// What becomes of linked clones that stand on a deleted machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Children {
    /// They keep it from being deleted.
    Refuse,
    /// What they need is copied into them first.
    Flatten,
}

impl Order {
    pub(crate) const fn is_disposable(self) -> bool {
        matches!(self, Self::StartDisposable)
    }

    pub(crate) const fn action(self) -> Action {
        match self {
            Self::Start | Self::StartHeld | Self::StartDisposable => Action::Start,
            Self::Stop { .. } => Action::Stop,
            Self::ForceOff => Action::ForceOff,
            Self::Pause => Action::Pause,
            Self::Resume => Action::Resume,
            Self::Reset => Action::Reset,
            Self::Suspend => Action::Suspend,
            Self::Delete { .. } => Action::Delete,
        }
    }
}

/// A letter to a supervisor.
#[derive(Debug)]
pub(crate) enum Message {
    Act {
        order: Order,
        origin: Origin,
        reply: oneshot::Sender<Result<Operation, ErrorBody>>,
    },
    Update {
        request: Box<VmUpdateRequest>,
        origin: Origin,
        reply: oneshot::Sender<Result<VmView, ErrorBody>>,
    },
    Lend {
        how: lend::Lending,
        reply: oneshot::Sender<Result<lend::Lent, ErrorBody>>,
    },
    /// Of a machine on loan: its files are others than they were.
    Refilled {
        reply: oneshot::Sender<Result<(), ErrorBody>>,
    },
    /// Of a machine on loan: its process is to end.
    EndRun {
        reply: oneshot::Sender<Result<(), ErrorBody>>,
    },
    /// Of a machine on loan.
    Redefine {
        spec: Box<MachineSpec>,
        reply: oneshot::Sender<Result<(), ErrorBody>>,
    },
    /// The app ends; machines go on.
    Retire,
}

/// A machine as the rest of the engine holds it.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) id: VmId,
    mailbox: mpsc::Sender<Message>,
    view: watch::Receiver<Arc<VmView>>,
    run: watch::Receiver<Option<Arc<Run>>>,
    /// Who may borrow it next.
    loans: Arc<tokio::sync::Mutex<()>>,
}

impl Machine {
    /// The newest view.
    pub(crate) fn view(&self) -> Arc<VmView> {
        Arc::clone(&self.view.borrow())
    }

    /// Watches the view.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<VmView>> {
        self.view.clone()
    }

    /// The live run, where there is one.
    pub(crate) fn run(&self) -> Option<Arc<Run>> {
        self.run.borrow().clone()
    }

    /// The live run.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidState`] when there is no process.
    pub(crate) fn live_run(&self) -> Result<Arc<Run>, ErrorBody> {
        self.run().ok_or_else(|| {
            let view = self.view();
            ErrorBody::new(
                ErrorCode::InvalidState,
                format!("“{}” is {} and has no process.", view.name, view.state),
            )
            .with_hint("Start the machine first.")
            .with_detail("state", view.state.as_str())
        })
    }

    /// Waits until it is known what the machine is doing: at most for as long as an adoption takes.
    pub(crate) async fn settled(&self) {
        let mut view = self.view.clone();
        // A supervisor that is gone has nothing left to find out.
        drop(view.wait_for(|view| view.state != VmState::Adopting).await);
    }

    /// Asks for an action; answers when its operation is on the disk.
    pub(crate) async fn act(&self, order: Order, origin: Origin) -> Result<Operation, ErrorBody> {
        self.settled().await;
        let (reply, answer) = oneshot::channel();
        self.ask(Message::Act { order, origin, reply }, answer).await
    }

    /// Changes the definition.
    pub(crate) async fn update(&self, request: VmUpdateRequest, origin: Origin) -> Result<VmView, ErrorBody> {
        // What is found out to run takes the change at once.
        self.settled().await;
        let (reply, answer) = oneshot::channel();
        self.ask(Message::Update { request: Box::new(request), origin, reply }, answer).await
    }

    /// Ends the supervisor; returns when it is gone.
    pub(crate) async fn retire(&self) {
        // One that is gone already is what is wanted.
        let _ = self.mailbox.send(Message::Retire).await;
        self.mailbox.closed().await;
    }

    async fn ask<T>(
        &self,
        message: Message,
        answer: oneshot::Receiver<Result<T, ErrorBody>>,
    ) -> Result<T, ErrorBody> {
        let gone = |()| self.gone();
        self.mailbox.send(message).await.map_err(|_| gone(()))?;
        answer.await.map_err(|_| gone(()))?
    }

    /// The supervisor has ended: the machine was deleted, or the engine closes.
    fn gone(&self) -> ErrorBody {
        ErrorBody::new(ErrorCode::VmNotFound, format!("No machine has the id {}.", self.id))
    }
}
