//! What is asked of a machine: judged, written down, queued; and given up again.

use std::sync::Arc;

use voidvm_model::contract::VmUpdateRequest;
use voidvm_model::{ErrorBody, ErrorCode, Operation, Origin, VmState, VmView};
use voidvm_store::VmRow;

use super::driver::Driver;
use super::lend::starts;
use super::policy::{self, Refusal, Verdict};
use super::work::Job;
use super::{Children, Message, Order};
use crate::hotplug::{self, Problems};
use crate::ledger::{Cancel, Outcome, Subject};
use crate::ops::update;
use crate::pending;
use crate::snapshot;

impl Driver {
    pub(super) async fn on_message(&mut self, message: Message) {
        match message {
            Message::Act { order, origin, reply } => {
                let answer = self.on_order(order, origin).await;
                // Who asked may have gone; what was asked for is done all the same.
                let _ = reply.send(answer);
            }
            Message::Update { request, origin, reply } => {
                let answer = self.on_update(*request, origin).await;
                if answer.is_ok() && self.begin_apply() {
                    self.waiting.push(reply);
                } else {
                    let _ = reply.send(answer);
                }
            }
            Message::Lend { how, reply } => {
                let lent = self.lend(how);
                let _ = reply.send(lent);
            }
            Message::Refilled { reply } => {
                self.look_again();
                let _ = reply.send(Ok(()));
            }
            Message::EndRun { reply } => {
                self.end_run();
                let _ = reply.send(Ok(()));
            }
            Message::Redefine { spec, reply } => {
                let redefined = self.redefine(*spec).await;
                let _ = reply.send(redefined);
            }
            Message::Retire => self.retire(),
        }
    }

    async fn on_order(&mut self, order: Order, origin: Origin) -> Result<Operation, ErrorBody> {
        if self.retiring {
            return Err(ErrorBody::new(ErrorCode::Busy, "voidVM is ending."));
        }
        let actions: Vec<_> = self.queue.iter().map(|job| job.order.action()).collect();
        let action = order.action();
        if self.vm.meta.template && starts(action) {
            return Err(ErrorBody::new(
                ErrorCode::InvalidState,
                format!("“{}” is a template: it is copied, never started.", self.vm.name),
            )
            .with_hint("Clone it and start the clone, or make it a machine again."));
        }
        if self.vm.passing && action == policy::Action::Suspend {
            return Err(snapshot::not_kept(&self.vm));
        }
        if order.is_disposable() && self.vm.state == VmState::Suspended {
            return Err(ErrorBody::new(
                ErrorCode::InvalidState,
                format!("“{}” is suspended; a run that is thrown away begins anew.", self.vm.name),
            )
            .with_hint("Force it off first: its memory is thrown away."));
        }
        match policy::admit(self.vm.state, &actions, action) {
            Verdict::Refuse(refusal) => return Err(self.refused(order, refusal)),
            Verdict::Join
                if self
                    .queue
                    .back()
                    .is_some_and(|job| job.order.is_disposable() != order.is_disposable()) =>
            {
                return Err(self.refused(order, Refusal::Behind(action)));
            }
            Verdict::Join => {
                let joined = self.queue.back().and_then(|job| job.ticket.operation());
                return joined
                    .ok_or_else(|| ErrorBody::new(ErrorCode::Busy, "The operation is just ending."));
            }
            Verdict::Queue => {}
            Verdict::Preempt => {
                self.cut_suspension();
                for job in (0..self.queue.len()).rev() {
                    self.give_up(job);
                }
            }
        }
        let cancel = match order {
            Order::Start
            | Order::StartHeld
            | Order::StartDisposable
            | Order::Stop { .. }
            | Order::Suspend
            // Until nobody stands on it any more.
            | Order::Delete { children: Children::Flatten, .. } => Cancel::Heeded,
            _ => Cancel::Ignored,
        };
        let vm = Subject::Vm(self.vm.id, &self.vm.name);
        let ticket = self.shared.ledger.open_operation(action.kind(), vm, origin, cancel).await?;
        let operation = ticket.operation();
        // Whoever works on it then comes to an end: one who forces it off, or wants to use it, does not wait for tidying up.
        if action == policy::Action::ForceOff || (self.live.is_none() && starts(action)) {
            self.recall();
        }
        self.queue.push_back(Job { order, ticket, origin, permit: None, begun: false, told: false });
        self.because = origin;
        operation.ok_or_else(|| ErrorBody::new(ErrorCode::Internal, "The operation was lost."))
    }

    async fn on_update(&mut self, request: VmUpdateRequest, origin: Origin) -> Result<VmView, ErrorBody> {
        if self.queue.iter().any(|job| matches!(job.order, Order::Delete { .. })) {
            return Err(self.refused(Order::Start, Refusal::Behind(policy::Action::Delete)));
        }
        if self.lent.is_some() && request.spec.as_ref().is_some_and(|spec| *spec != self.vm.spec) {
            return Err(self.lent_out());
        }
        let other =
            request.spec.as_ref().is_some_and(|spec| !pending::changes(&self.vm.spec, spec).is_empty());
        let suspending = self.queue.iter().any(|job| matches!(job.order, Order::Suspend));
        if other && (self.vm.state == VmState::Suspended || suspending) {
            return Err(ErrorBody::new(
                ErrorCode::InvalidState,
                format!("“{}” is suspended: it goes on with the hardware it has.", self.vm.name),
            )
            .with_field("spec")
            .with_hint("Start it and change it then, or force it off: its memory is thrown away."));
        }
        let changed = update::update(&self.shared, &self.vm, request, origin).await?;
        let mended = self.vm.state == VmState::Broken && changed.spec != self.vm.spec;
        self.vm = VmRow {
            state: self.vm.state,
            state_since: self.vm.state_since,
            attention: self.vm.attention.clone(),
            ..changed
        };
        // Other hardware was checked before it was stored: its files are there.
        if mended {
            self.enter(VmState::Stopped);
            self.attend(None);
        }
        self.because = origin;
        self.publish();
        Ok(self.publisher.newest())
    }

    /// Begins to give a running guest what its machine was given; whether there is anything to wait for.
    pub(super) fn begin_apply(&mut self) -> bool {
        let Some(live) = &self.live else { return false };
        let reachable =
            matches!(self.vm.state, VmState::Running | VmState::Paused) && live.run.monitor().is_some();
        if !reachable || live.run.record().spec == self.vm.spec {
            return false;
        }
        if self.applying.is_some() {
            self.apply_again = true;
        } else {
            let patience = self.shared.config.timing.unplug;
            let apply = hotplug::apply(Arc::clone(&live.run), self.vm.spec.clone(), patience);
            self.applying = Some(Box::pin(apply));
        }
        true
    }

    /// Begins to look which devices there are, unless they are being changed, which begins with that.
    pub(super) fn begin_look(&mut self) {
        let (Some(live), None) = (&self.live, &self.applying) else { return };
        let (look, problems) =
            (hotplug::look(Arc::clone(&live.run), self.vm.spec.clone()), self.problems.clone());
        self.applying = Some(Box::pin(async move {
            look.await;
            problems
        }));
    }

    pub(super) fn on_applied(&mut self, problems: Problems) {
        self.problems = problems;
        if std::mem::take(&mut self.apply_again) {
            self.begin_apply();
        }
    }

    /// Answers those who waited for a change, once it is through and shown.
    pub(super) fn answer(&mut self) {
        if self.applying.is_none() {
            for reply in self.waiting.drain(..) {
                let _ = reply.send(Ok(self.publisher.newest()));
            }
        }
    }

    pub(super) fn refused(&self, order: Order, refusal: Refusal) -> ErrorBody {
        let (name, state) = (&self.vm.name, self.vm.state);
        let kind = order.action().kind().as_str().replace('_', " ");
        let body = match refusal {
            Refusal::State(VmState::Unresponsive) => ErrorBody::new(
                ErrorCode::InvalidState,
                format!("“{name}” does not answer, so it cannot be asked to {kind}."),
            )
            .with_hint("Wait until it answers, or force it off."),
            Refusal::State(state) => ErrorBody::new(
                ErrorCode::InvalidState,
                format!("“{name}” is {state}: {kind} makes no sense now."),
            ),
            Refusal::Behind(action) => ErrorBody::new(
                ErrorCode::Busy,
                format!("“{name}” has another operation in the way ({}).", action.kind().as_str()),
            )
            .with_hint("Wait for it to end, or give it up."),
            Refusal::Adopting => ErrorBody::new(
                ErrorCode::Busy,
                format!("voidVM is still finding out what “{name}” is doing."),
            )
            .with_hint("Try again in a moment."),
            Refusal::Full => {
                ErrorBody::new(ErrorCode::Busy, format!("Too many operations wait for “{name}” already."))
                    .with_hint("Wait for them to end.")
            }
        };
        body.with_detail("state", state.as_str())
    }

    /// Nobody waits for a suspension when the machine is forced off: what it has written is thrown away with the process.
    fn cut_suspension(&mut self) {
        if self.queue.front().is_some_and(|job| job.begun && matches!(job.order, Order::Suspend)) {
            self.work = None;
            self.end(Outcome::Cancelled);
        }
    }

    pub(super) fn on_progress(&mut self) {
        let now = self.progress.as_mut().and_then(|progress| *progress.borrow_and_update());
        if let (Some(now), Some(job)) = (now, self.queue.front_mut()) {
            job.ticket.progress(now.done, now.total);
        }
    }

    /// Gives a job up: one that waits is taken out, one at work is undone as far as it can be.
    pub(super) fn give_up(&mut self, index: usize) {
        let Some(job) = self.queue.get_mut(index) else { return };
        self.because = job.origin;
        if index > 0 {
            if let Some(job) = self.queue.remove(index) {
                job.ticket.end(Outcome::Cancelled);
            }
            return;
        }
        job.told = true;
        match (job.order, job.begun) {
            // It sees the token, and makes the guest go on, or leaves clones as they are; or it is too late for that.
            (Order::Suspend | Order::Delete { .. }, true) => job.ticket.cancel().cancel(),
            (Order::Start | Order::StartHeld | Order::StartDisposable, true) => match &mut self.live {
                // Its launch sees the token, ends the process it started, and says so.
                None => job.ticket.cancel().cancel(),
                // Held before the guest's first instruction, or just let go.
                Some(live) => {
                    live.ending = true;
                    live.run.kill();
                    self.work = None;
                    self.end(Outcome::Cancelled);
                }
            },
            (order, begun) => {
                self.work = None;
                self.end(Outcome::Cancelled);
                if begun && matches!(order, Order::Stop { .. }) {
                    self.enter(VmState::Running);
                    self.ask_pulse();
                }
            }
        }
    }

    /// The app ends; the machine goes on. What has begun and must not be cut is finished, the rest is interrupted.
    pub(super) fn retire(&mut self) {
        self.retiring = true;
        while self.queue.len() > 1 {
            if let Some(job) = self.queue.pop_back() {
                job.ticket.end(Outcome::Interrupted);
            }
        }
        match self.queue.front_mut() {
            Some(job)
                if job.begun
                    && matches!(
                        job.order,
                        Order::Start
                            | Order::StartHeld
                            | Order::StartDisposable
                            | Order::Suspend
                            | Order::Delete { .. }
                    ) =>
            {
                job.told = true;
                job.ticket.cancel().cancel();
            }
            Some(_) => {
                self.work = None;
                self.end(Outcome::Interrupted);
            }
            None => {}
        }
    }
}
