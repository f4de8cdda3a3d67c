//! The select loop of one machine.
//!
//! ```text
//! process exit > monitor event > end of the work in hand > a job given up > request > heartbeat
//! ```
//! Invariants: only this task changes the machine's state; what is observed overrides what was wished; the loop never waits for
//! QEMU, only for the store's short writes; nothing that was not identified as this machine's process is ever signalled.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use voidvm_model::{ErrorBody, ErrorCode, Operation, Origin, VmState, VmView};
use voidvm_qemu::process::{Exit, ProcessHandle, RunDir};
use voidvm_qemu::qmp::QmpEvent;
use voidvm_store::VmRow;

use super::policy::{self, Refusal, Turn, Verdict};
use super::publish::Publisher;
use super::work::{InHand, Job, Pulse, Step, finished, given_up};
use super::{MAILBOX, Machine, Message, Order};
use crate::ledger::{Cancel, Outcome};
use crate::ops::delete::{self, Deletion};
use crate::ops::{launch, power, update};
use crate::run::{Live, Run};
use crate::shared::Shared;

/// What a new supervisor begins with.
#[derive(Clone, Debug)]
pub(crate) enum Begin {
    /// A machine just made, by this origin.
    Made(Origin),
    /// A machine of the store that has no process.
    Known,
    /// A machine of the store that may have one; this one, if it was found without a record.
    Adopt(Option<ProcessHandle>),
}

pub(super) struct Driver {
    pub(super) shared: Arc<Shared>,
    /// Definition and observed state; the state is written back as it changes.
    pub(super) vm: VmRow,
    pub(super) live: Option<Live>,
    pub(super) queue: VecDeque<Job>,
    pub(super) work: InHand<Step>,
    pub(super) pulse: InHand<Pulse>,
    /// The state the store had at start-up, and since when.
    pub(super) was: (VmState, Timestamp),
    publisher: Publisher,
    run: watch::Sender<Option<Arc<Run>>>,
    mailbox: mpsc::Receiver<Message>,
    /// Whose doing the change is that will be published next.
    because: Origin,
    retiring: bool,
    removed: bool,
}

enum Happening {
    Exit(Exit),
    Event(Option<QmpEvent>),
    Step(Step),
    GivenUp(usize),
    Message(Option<Message>),
    Pulse(Pulse),
    Heartbeat,
}

/// Starts a machine's supervisor.
pub(crate) fn spawn(shared: Arc<Shared>, mut vm: VmRow, begin: Begin) -> Arc<Machine> {
    let (letters, mailbox) = mpsc::channel(MAILBOX);
    let (run, runs) = watch::channel(None);
    let was = (vm.state, vm.state_since);
    let persisted = vm.clone();
    if matches!(begin, Begin::Adopt(_)) {
        vm.state = VmState::Adopting;
        vm.state_since = Timestamp::now();
    }
    let made_by = if let Begin::Made(origin) = begin { Some(origin) } else { None };
    let first = view(&vm, None, None);
    let publisher = Publisher::new(first, shared.bus.clone(), made_by);
    let machine = Machine { id: vm.id, mailbox: letters, view: publisher.subscribe(), run: runs };
    let mut driver = Driver {
        shared,
        vm,
        live: None,
        queue: VecDeque::new(),
        work: None,
        pulse: None,
        was,
        publisher,
        run,
        mailbox,
        because: Origin::System,
        retiring: false,
        removed: false,
    };
    if let Begin::Adopt(stray) = begin {
        let find = super::adopt::find(Arc::clone(&driver.shared), persisted, stray);
        driver.work = Some(Box::pin(async move { Step::Adopted(Box::new(find.await)) }));
    }
    tokio::spawn(driver.drive());
    Arc::new(machine)
}

/// The view of what a driver knows.
fn view(vm: &VmRow, run: Option<&Run>, operation: Option<Operation>) -> VmView {
    VmView {
        id: vm.id,
        name: vm.name.clone(),
        description: vm.description.clone(),
        os_type: vm.os_type.clone(),
        spec: vm.spec.clone(),
        state: vm.state,
        state_since: vm.state_since,
        operation,
        attention: vm.attention.clone(),
        run: run.map(Run::view),
        restart_pending: run.is_some_and(|run| run.record.spec != vm.spec),
        created_at: vm.created_at,
        updated_at: vm.updated_at,
        generation: 0,
    }
}

impl Driver {
    async fn drive(mut self) {
        let mut heartbeat = tokio::time::interval(self.shared.config.timing.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.advance();
            self.publish();
            if self.removed || (self.retiring && self.queue.is_empty()) {
                break;
            }
            // A job already told to stop is not told again, or this loop would spin.
            let waiting = self.queue.iter().enumerate().filter(|(_, job)| !job.told);
            let tokens = waiting.map(|(at, job)| (at, job.ticket.cancel().clone())).collect();
            let asleep = self.live.is_none() || self.pulse.is_some();
            let Self { live, work, pulse, mailbox, .. } = &mut self;
            let (process, events) = Live::split(live);
            let happening = tokio::select! {
                biased;
                exit = Live::exited(process) => Happening::Exit(exit),
                event = Live::next_event(events) => Happening::Event(event),
                step = finished(work) => Happening::Step(step),
                job = given_up(tokens) => Happening::GivenUp(job),
                message = mailbox.recv() => Happening::Message(message),
                pulse = finished(pulse) => Happening::Pulse(pulse),
                _ = heartbeat.tick(), if !asleep => Happening::Heartbeat,
            };
            match happening {
                Happening::Exit(exit) => self.on_exit(exit).await,
                Happening::Event(event) => self.on_event(event),
                Happening::Step(step) => self.on_step(step),
                Happening::GivenUp(job) => self.give_up(job),
                Happening::Message(Some(message)) => self.on_message(message).await,
                // The engine was dropped without a word.
                Happening::Message(None) => self.retire(),
                Happening::Pulse(pulse) => self.on_pulse(pulse),
                Happening::Heartbeat => self.ask_pulse(),
            }
        }
        if self.removed {
            self.publisher.remove(self.vm.id, self.because);
            self.shared.fleet.forget(self.vm.id);
        }
    }

    /// Publishes the view, if it says anything new.
    fn publish(&mut self) {
        let operation = self.queue.front().and_then(|job| job.ticket.operation());
        let run = self.live.as_ref().map(|live| Arc::clone(&live.run));
        self.run.send_if_modified(|now| {
            let same = now.as_ref().map(Arc::as_ptr) == run.as_ref().map(Arc::as_ptr);
            now.clone_from(&run);
            !same
        });
        if !self.removed {
            self.publisher.publish(view(&self.vm, run.as_deref(), operation), self.because);
        }
        self.because = Origin::System;
    }

    /// Enters a state, and remembers it.
    pub(super) fn enter(&mut self, state: VmState) {
        if self.vm.state != state {
            tracing::info!(vm = %self.vm.id, from = %self.vm.state, to = %state, "state");
            self.vm.state = state;
            self.vm.state_since = Timestamp::now();
            self.remember();
        }
    }

    /// Sets or clears what a person should know.
    pub(super) fn attend(&mut self, attention: Option<ErrorBody>) {
        if self.vm.attention != attention {
            self.vm.attention = attention;
            self.remember();
        }
    }

    pub(super) fn run_dir(&self) -> RunDir {
        RunDir::new(&self.shared.config.runtime_dir, self.vm.id)
    }

    pub(super) fn remember(&self) {
        let attention = self.vm.attention.clone();
        self.shared.ledger.remember(self.vm.id, self.vm.state, self.vm.state_since, attention);
    }

    async fn on_message(&mut self, message: Message) {
        match message {
            Message::Act { order, origin, reply } => {
                let answer = self.on_order(order, origin).await;
                // Who asked may have gone; what was asked for is done all the same.
                let _ = reply.send(answer);
            }
            Message::Update { request, origin, reply } => {
                let answer = self.on_update(*request, origin).await;
                let _ = reply.send(answer);
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
        match policy::admit(self.vm.state, &actions, action) {
            Verdict::Refuse(refusal) => return Err(self.refused(order, refusal)),
            Verdict::Join => {
                let joined = self.queue.back().and_then(|job| job.ticket.operation());
                return joined
                    .ok_or_else(|| ErrorBody::new(ErrorCode::Busy, "The operation is just ending."));
            }
            Verdict::Queue => {}
            Verdict::Preempt => {
                for job in (0..self.queue.len()).rev() {
                    self.give_up(job);
                }
            }
        }
        let cancel = match order {
            Order::Start | Order::Stop { .. } => Cancel::Heeded,
            _ => Cancel::Ignored,
        };
        let vm = (self.vm.id, self.vm.name.as_str());
        let ticket = self.shared.ledger.open_operation(action.kind(), vm, origin, cancel).await?;
        let operation = ticket.operation();
        self.queue.push_back(Job { order, ticket, origin, permit: None, begun: false, told: false });
        self.because = origin;
        operation.ok_or_else(|| ErrorBody::new(ErrorCode::Internal, "The operation was lost."))
    }

    async fn on_update(
        &mut self,
        request: voidvm_model::contract::VmUpdateRequest,
        origin: Origin,
    ) -> Result<VmView, ErrorBody> {
        if self.queue.iter().any(|job| matches!(job.order, Order::Delete { .. })) {
            return Err(self.refused(Order::Start, Refusal::Behind(policy::Action::Delete)));
        }
        let changed = update::update(&self.shared, &self.vm, request, origin).await?;
        self.vm = VmRow {
            state: self.vm.state,
            state_since: self.vm.state_since,
            attention: self.vm.attention.clone(),
            ..changed
        };
        if self.vm.state == VmState::Broken {
            self.enter(VmState::Stopped);
            self.attend(None);
        }
        self.because = origin;
        self.publish();
        Ok(self.publisher.newest())
    }

    fn refused(&self, order: Order, refusal: Refusal) -> ErrorBody {
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

    /// Begins the first of the queue, as far as that needs no waiting.
    fn advance(&mut self) {
        while self.work.is_none() && self.vm.state != VmState::Adopting {
            let Some(job) = self.queue.front() else { return };
            if job.begun {
                return;
            }
            match policy::turn(self.vm.state, job.order.action()) {
                Turn::Moot => {
                    job.ticket.begin();
                    self.end(Outcome::Succeeded);
                }
                Turn::Refuse(state) => {
                    let body = self.refused(job.order, Refusal::State(state));
                    job.ticket.begin();
                    self.end(Outcome::Failed(body.into()));
                }
                Turn::Begin => self.begin(),
            }
        }
    }

    fn begin(&mut self) {
        let Some(job) = self.queue.front_mut() else { return };
        let gate = match job.order {
            Order::Start => Some(&self.shared.starts),
            Order::Stop { .. } => Some(&self.shared.stops),
            _ => None,
        };
        if let (Some(gate), None) = (gate, &job.permit) {
            let gate = gate.clone();
            self.work = Some(Box::pin(async move { Step::Granted(gate.pass().await) }));
            return;
        }
        job.begun = true;
        job.ticket.begin();
        let (order, cancel) = (job.order, job.ticket.cancel().clone());
        self.because = job.origin;
        let operation = job.ticket.id();
        let qmp = self.live.as_ref().and_then(|live| live.run.monitor());
        match order {
            Order::Start => {
                self.enter(VmState::Starting);
                self.attend(None);
                let launch = launch::launch(Arc::clone(&self.shared), self.vm.clone(), cancel);
                self.work = Some(Box::pin(async move { Step::Launched(launch.await) }));
            }
            Order::Stop { patience } => {
                let was = self.vm.state;
                self.enter(VmState::Stopping);
                self.work = Some(Box::pin(power::shut_down(qmp, was, patience)));
            }
            Order::ForceOff => {
                if let Some(live) = &mut self.live {
                    live.ending = true;
                    let force = power::force(Arc::clone(&live.run), self.shared.config.timing.force_step);
                    self.enter(VmState::Stopping);
                    self.work = Some(Box::pin(async move { Step::Done(force.await) }));
                }
            }
            Order::Pause => self.work = Some(Box::pin(power::command(qmp, power::Command::Pause))),
            Order::Resume => self.work = Some(Box::pin(power::command(qmp, power::Command::Resume))),
            Order::Reset => self.work = Some(Box::pin(power::command(qmp, power::Command::Reset))),
            Order::Delete { disks } => {
                let delete = delete::delete(Arc::clone(&self.shared), self.vm.clone(), operation, disks);
                self.work = Some(Box::pin(async move { Step::Deleted(delete.await) }));
            }
        }
    }

    /// Ends the first of the queue.
    pub(super) fn end(&mut self, outcome: Outcome) {
        if let Some(job) = self.queue.pop_front() {
            self.because = job.origin;
            job.ticket.end(outcome);
        }
    }

    fn on_step(&mut self, step: Step) {
        match step {
            Step::Granted(permit) => {
                if let Some(job) = self.queue.front_mut() {
                    job.permit = Some(permit);
                }
            }
            Step::Launched(Ok(attached)) => self.install(*attached),
            Step::Launched(Err(refused)) => self.on_launch_refused(refused),
            Step::Adopted(found) => self.on_found(*found),
            Step::Done(result) => self.on_done(result),
            Step::Expired => {
                // Back to what it was; the pulse asks QEMU for the truth.
                if self.vm.state == VmState::Stopping {
                    self.enter(VmState::Running);
                }
                self.ask_pulse();
                self.end(Outcome::Failed(power::did_not_stop(&self.vm.name).into()));
            }
            Step::Deleted(Deletion::Refused(body)) => self.end(Outcome::Failed(body.into())),
            Step::Deleted(Deletion::Done) => {
                self.removed = true;
                self.end(Outcome::Succeeded);
            }
            Step::Deleted(Deletion::FilesLeft(body)) => {
                self.removed = true;
                self.end(Outcome::Failed(body.into()));
            }
        }
    }

    /// The process is up, held before the guest's first instruction: from here its exit and events are seen. Let it go.
    fn install(&mut self, attached: crate::run::Attached) {
        let run = Arc::clone(&attached.run);
        self.live = Some(Live::new(attached, &self.shared));
        if let Some(job) = self.queue.front() {
            job.ticket.seal();
            self.because = job.origin;
        }
        self.work = Some(Box::pin(power::command(run.monitor(), power::Command::Resume)));
    }

    fn on_launch_refused(&mut self, refused: launch::Refused) {
        match refused {
            launch::Refused::Cancelled => {
                self.enter(VmState::Stopped);
                let outcome = if self.retiring { Outcome::Interrupted } else { Outcome::Cancelled };
                self.end(outcome);
            }
            launch::Refused::Broken(body) => {
                self.enter(VmState::Broken);
                self.attend(Some(body.clone()));
                self.end(Outcome::Failed(body.into()));
            }
            launch::Refused::Failed(failure) => {
                self.enter(VmState::Stopped);
                self.attend(Some(failure.error.clone()));
                self.end(Outcome::Failed(failure));
            }
        }
    }

    fn on_done(&mut self, result: Result<(), ErrorBody>) {
        let Some(order) = self.queue.front().map(|job| job.order) else { return };
        if result.is_ok() {
            match order {
                Order::Start | Order::Resume => self.enter(VmState::Running),
                Order::Pause => self.enter(VmState::Paused),
                // The process's exit ends these, not the command's answer.
                Order::ForceOff | Order::Stop { .. } | Order::Reset | Order::Delete { .. } => {}
            }
        }
        match (order, result) {
            (Order::Start, Err(body)) => {
                // The process lives and the guest never ran: as if it had not been started.
                if let Some(live) = &mut self.live {
                    live.ending = true;
                    live.run.kill();
                }
                self.attend(Some(body.clone()));
                self.end(Outcome::Failed(body.into()));
            }
            (Order::ForceOff, Err(body)) => {
                if let Some(live) = &mut self.live {
                    live.ending = false;
                }
                self.enter(VmState::Unresponsive);
                self.end(Outcome::Failed(body.into()));
            }
            (_, result) => {
                if result.is_err() {
                    self.ask_pulse();
                }
                self.end(result.into());
            }
        }
    }

    /// Gives a job up: one that waits is taken out, one at work is undone as far as it can be.
    fn give_up(&mut self, index: usize) {
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
            (Order::Start, true) => match &mut self.live {
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
            (Order::Delete { .. }, true) => {}
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
    fn retire(&mut self) {
        self.retiring = true;
        while self.queue.len() > 1 {
            if let Some(job) = self.queue.pop_back() {
                job.ticket.end(Outcome::Interrupted);
            }
        }
        match self.queue.front_mut() {
            Some(job) if job.begun && matches!(job.order, Order::Start | Order::Delete { .. }) => {
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
