//! A machine without a process, lent: whoever holds the [`Loan`] works on its files, and its supervisor holds still meanwhile.
//!
//! ```text
//! lend ─▶ (no process, nothing queued) ─▶ Loan ─▶ dropped ─▶ what was asked for meanwhile begins
//!                 └─ else refused
//! ```
//! Invariants: one loan at a time; while there is one, nothing begins that starts, changes or removes the machine: starts and
//! deletions wait in the queue, edits of its hardware are refused as busy.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{OwnedMutexGuard, oneshot};
use voidvm_model::{ErrorBody, ErrorCode, MachineSpec, VmState};
use voidvm_store::VmRow;

use super::driver::Driver;
use super::policy::{Action, Refusal};
use super::work::InHand;
use super::{Machine, Message, Order};

/// The right to work on the files of a machine that has no process. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Loan {
    /// The machine as it is, and stays until the loan ends.
    pub(crate) vm: VmRow,
    /// Dropping it tells the supervisor.
    _back: oneshot::Sender<()>,
    _turn: OwnedMutexGuard<()>,
}

/// What the supervisor gives of a loan.
#[derive(Debug)]
pub(crate) struct Lent {
    vm: VmRow,
    back: oneshot::Sender<()>,
}

impl Machine {
    /// Borrows the machine; waits for whoever has borrowed it now.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidState`] when it has a process; [`ErrorCode::Busy`] when another operation is in the way.
    pub(crate) async fn lend(&self) -> Result<Loan, ErrorBody> {
        self.settled().await;
        let turn = Arc::clone(&self.loans).lock_owned().await;
        let (reply, answer) = oneshot::channel();
        let Lent { vm, back } = self.ask(Message::Lend { reply }, answer).await?;
        Ok(Loan { vm, _back: back, _turn: turn })
    }

    /// Changes the hardware of a machine on loan; on the disk when this returns. The loan's own copy stays what it was.
    ///
    /// # Errors
    /// The store's; the machine is gone.
    pub(crate) async fn redefine(&self, _loan: &Loan, spec: MachineSpec) -> Result<(), ErrorBody> {
        let (reply, answer) = oneshot::channel();
        self.ask(Message::Redefine { spec: Box::new(spec), reply }, answer).await
    }
}

impl Driver {
    /// Lends the machine, or says what is in the way.
    pub(super) fn lend(&mut self) -> Result<Lent, ErrorBody> {
        if self.retiring {
            return Err(ErrorBody::new(ErrorCode::Busy, "voidVM is ending."));
        }
        if let Some(first) = self.queue.front() {
            return Err(self.refused(Order::Pause, Refusal::Behind(first.order.action())));
        }
        // Memory that was saved fits the disks as they are.
        let in_use = self.vm.state.is_live() || self.vm.state == VmState::Suspended;
        if in_use || self.live.is_some() {
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
        Ok(Lent { vm: self.vm.clone(), back })
    }

    /// Changes the hardware for whoever has the loan.
    pub(super) async fn redefine(&mut self, spec: MachineSpec) -> Result<(), ErrorBody> {
        let changed = VmRow { spec, updated_at: Timestamp::now(), ..self.vm.clone() };
        self.shared.store.vms().update(&changed).await.map_err(|error| error.body())?;
        self.vm = changed;
        self.publish();
        Ok(())
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
