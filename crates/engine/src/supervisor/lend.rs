//! A machine lent: whoever holds the [`Loan`] works on its files, and its supervisor holds still meanwhile.
//!
//! ```text
//! lend ────────▶ (no process, nothing queued) ─▶ Loan ─▶ dropped ─▶ what was asked for meanwhile begins
//! lend_as_it_is ▶ (it runs, is held or rests) ───┘  └─ recalled: somebody forces the machine off
//!                 └─ else refused
//! ```
//! Of one that runs, the holder may hold the guest for a moment: that is not shown as a pause.
//! Invariants: one loan at a time; while there is one, nothing begins that starts, changes or removes the machine: starts and
//! deletions wait in the queue, edits of its hardware are refused as busy.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{OwnedMutexGuard, oneshot};
use tokio_util::sync::CancellationToken;
use voidvm_model::{ErrorBody, ErrorCode, MachineSpec, VmState};
use voidvm_store::VmRow;

use super::driver::Driver;
use super::policy::{Action, Refusal};
use super::work::InHand;
use super::{Machine, Message, Order};
use crate::run::Run;

/// How long the kernel has to end a process.
const END: Duration = Duration::from_secs(30);

/// The right to work on the files of a machine that has no process. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Loan {
    /// The machine as it is, and stays until the loan ends.
    pub(crate) vm: VmRow,
    /// Its process, where it was lent with one.
    pub(crate) run: Option<Arc<Run>>,
    /// Is cancelled when the machine is wanted back at once.
    pub(crate) recall: CancellationToken,
    /// Dropping it tells the supervisor.
    _back: oneshot::Sender<()>,
    _turn: OwnedMutexGuard<()>,
}

/// What the supervisor gives of a loan.
#[derive(Debug)]
pub(crate) struct Lent {
    vm: VmRow,
    run: Option<Arc<Run>>,
    recall: CancellationToken,
    back: oneshot::Sender<()>,
}

/// What a loan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lending {
    /// Work on files that no process uses.
    AtRest,
    /// Work with the machine as it is, its process included.
    AsItIs,
}

impl Machine {
    /// Borrows the machine; waits for whoever has borrowed it now.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidState`] when it has a process; [`ErrorCode::Busy`] when another operation is in the way.
    pub(crate) async fn lend(&self) -> Result<Loan, ErrorBody> {
        self.lend_for(Lending::AtRest).await
    }

    /// Borrows the machine whether it runs, is held, or rests; waits for whoever has borrowed it now.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidState`] when it does not answer; [`ErrorCode::Busy`] when another operation is in the way.
    pub(crate) async fn lend_as_it_is(&self) -> Result<Loan, ErrorBody> {
        self.lend_for(Lending::AsItIs).await
    }

    async fn lend_for(&self, how: Lending) -> Result<Loan, ErrorBody> {
        self.settled().await;
        let turn = Arc::clone(&self.loans).lock_owned().await;
        let (reply, answer) = oneshot::channel();
        let Lent { vm, run, recall, back } = self.ask(Message::Lend { how, reply }, answer).await?;
        Ok(Loan { vm, run, recall, _back: back, _turn: turn })
    }

    /// Ends the process of a machine on loan; it is gone, and the machine at rest, when this returns.
    ///
    /// # Errors
    /// [`ErrorCode::QemuUnresponsive`] when not even the kernel could end it.
    pub(crate) async fn end_run(&self, loan: &mut Loan) -> Result<(), ErrorBody> {
        let Some(run) = loan.run.take() else { return Ok(()) };
        let (reply, answer) = oneshot::channel();
        self.ask(Message::EndRun { reply }, answer).await?;
        let mut runs = self.run.clone();
        let gone = runs.wait_for(Option::is_none);
        if tokio::time::timeout(END, gone).await.is_err() {
            return Err(crate::run::unresponsive().with_detail("pid", run.process.pid()));
        }
        Ok(())
    }

    /// Changes the hardware of a machine on loan; on the disk when this returns. The loan's own copy stays what it was.
    ///
    /// # Errors
    /// The store's; the machine is gone.
    pub(crate) async fn redefine(&self, _loan: &Loan, spec: MachineSpec) -> Result<(), ErrorBody> {
        let (reply, answer) = oneshot::channel();
        self.ask(Message::Redefine { spec: Box::new(spec), reply }, answer).await
    }

    /// The machine on loan is at rest and has other files than before: it is stopped, or suspended, as they say.
    pub(crate) async fn refilled(&self, _loan: &Loan) -> Result<(), ErrorBody> {
        let (reply, answer) = oneshot::channel();
        self.ask(Message::Refilled { reply }, answer).await
    }
}

impl Driver {
    /// Whether somebody works with the machine while it runs.
    pub(super) const fn is_lent_live(&self) -> bool {
        self.lent.is_some() && self.recall.is_some() && self.live.is_some()
    }

    /// Asks for the machine back.
    pub(super) fn recall(&self) {
        if let Some(recall) = &self.recall {
            recall.cancel();
        }
    }

    /// The loan is over: what the guest does now is what it does.
    pub(super) fn on_returned(&mut self) {
        if self.recall.take().is_some() {
            self.ask_pulse();
        }
    }

    /// Ends the process for whoever has the machine: nobody else asked for it, and it is no crash.
    pub(super) fn end_run(&mut self) {
        if let Some(live) = &mut self.live {
            live.ending = true;
            live.run.kill();
        }
    }

    /// Lends the machine, or says what is in the way.
    pub(super) fn lend(&mut self, how: Lending) -> Result<Lent, ErrorBody> {
        if self.retiring {
            return Err(ErrorBody::new(ErrorCode::Busy, "voidVM is ending."));
        }
        if let Some(first) = self.queue.front() {
            return Err(self.refused(Order::Pause, Refusal::Behind(first.order.action())));
        }
        let in_use = match how {
            // Memory that was saved fits the disks as they are.
            Lending::AtRest => {
                self.vm.state.is_live() || self.vm.state == VmState::Suspended || self.live.is_some()
            }
            Lending::AsItIs => {
                (self.vm.state.is_live() || self.live.is_some())
                    && !matches!(self.vm.state, VmState::Running | VmState::Paused)
            }
        };
        if in_use && how == Lending::AsItIs {
            return Err(self.refused(Order::Suspend, Refusal::State(self.vm.state)));
        }
        if self.applying.is_some() {
            return Err(ErrorBody::new(
                ErrorCode::Busy,
                format!("Devices of “{}” are being changed.", self.vm.name),
            )
            .with_hint("Try again in a moment."));
        }
        if in_use {
            let (name, state) = (&self.vm.name, self.vm.state);
            return Err(ErrorBody::new(
                ErrorCode::InvalidState,
                format!("“{name}” is {state}; its files can be worked on only while it is stopped."),
            )
            .with_hint("Stop it first.")
            .with_detail("state", state.as_str()));
        }
        let (back, returned) = oneshot::channel::<()>();
        self.lent = Some(Box::pin(async move {
            // The end of the other side is the message.
            let _ = returned.await;
        }));
        let (run, recall) = (self.live.as_ref().map(|live| Arc::clone(&live.run)), CancellationToken::new());
        self.recall = (how == Lending::AsItIs).then(|| recall.clone());
        Ok(Lent { vm: self.vm.clone(), run, recall, back })
    }

    /// Changes the hardware for whoever has the loan.
    pub(super) async fn redefine(&mut self, spec: MachineSpec) -> Result<(), ErrorBody> {
        let changed = VmRow { spec, updated_at: Timestamp::now(), ..self.vm.clone() };
        self.shared.store.vms().update(&changed).await.map_err(|error| error.body())?;
        self.vm = changed;
        self.publish();
        Ok(())
    }

    /// The files of the machine on loan are others than they were: it is what they make of it.
    pub(super) fn look_again(&mut self) {
        if self.live.is_none() {
            self.enter(self.at_rest());
            self.attend(None);
        }
    }

    /// Why an edit of the hardware cannot be now.
    pub(super) fn lent_out(&self) -> ErrorBody {
        ErrorBody::new(ErrorCode::Busy, format!("The files of “{}” are being worked on.", self.vm.name))
            .with_hint("Wait for that to end, or give it up.")
    }
}

/// What waits for the end of a loan.
pub(super) type LoanInHand = InHand<()>;

/// Whether a machine in this state can be copied: what is on its disks is all there is of it.
pub(crate) const fn is_whole(state: VmState) -> bool {
    matches!(state, VmState::Stopped | VmState::Crashed)
}

/// The action a template refuses.
pub(super) const fn starts(action: Action) -> bool {
    matches!(action, Action::Start)
}
