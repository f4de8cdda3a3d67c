//! The select loop of one machine.
//!
//! ```text
//! process exit > monitor event > end of the work in hand > a job given up > request > heartbeat
//! ```
//! Invariants: only this task changes the machine's state; what is observed overrides what was wished; the loop never waits for
//! QEMU, only for the store's short writes; nothing that was not identified as this machine's process is ever signalled.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use voidvm_model::operation::Progress;
use voidvm_model::{ErrorBody, ErrorCode, Operation, Origin, VmState, VmView};
use voidvm_qemu::companion::CompanionRecord;
use voidvm_qemu::process::{Exit, ProcessHandle, RunDir};
use voidvm_qemu::qmp::QmpEvent;
use voidvm_store::VmRow;

use super::policy::{self, Refusal, Turn};
use super::publish::Publisher;
use super::work::{InHand, Job, Pulse, Step, finished, given_up, moved};
use super::{MAILBOX, Machine, Message, Order};
use crate::hotplug::Problems;
use crate::ledger::Outcome;
use crate::ops::delete::{self, Deletion};
use crate::ops::family::Pace;
use crate::ops::launch::How;
use crate::ops::{launch, power};
use crate::pending;
use crate::run::{Live, Run};
use crate::shared::Shared;
use crate::suspend::Then;
use crate::{disposable, suspend};

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
    /// While somebody works on its files.
    pub(super) lent: super::lend::LoanInHand,
    /// Tells whoever works on the live machine to come to an end.
    pub(super) recall: Option<CancellationToken>,
    pub(super) pulse: InHand<Pulse>,
    /// A change of the hardware on its way into the running guest.
    pub(super) applying: InHand<Problems>,
    /// The hardware was changed once more meanwhile.
    pub(super) apply_again: bool,
    /// What of the last change the running guest did not take.
    pub(super) problems: Problems,
    /// How far the writing of its memory is, or of what stood on it.
    pub(super) progress: Option<watch::Receiver<Option<Progress>>>,
    /// Whether the start at work goes on from saved memory.
    pub(super) resuming: bool,
    /// Who waits for the end of it.
    pub(super) waiting: Vec<oneshot::Sender<Result<VmView, ErrorBody>>>,
    /// The state the store had at start-up, and since when.
    pub(super) was: (VmState, Timestamp),
    pub(super) publisher: Publisher,
    run: watch::Sender<Option<Arc<Run>>>,
    mailbox: mpsc::Receiver<Message>,
    /// Whose doing the change is that will be published next.
    pub(super) because: Origin,
    pub(super) retiring: bool,
    removed: bool,
}

enum Happening {
    Exit(Exit),
    Event(Option<QmpEvent>),
    Step(Step),
    GivenUp(usize),
    CompanionEnded(CompanionRecord),
    Returned,
    Message(Option<Message>),
    Pulse(Pulse),
    Applied(Problems),
    Progress,
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
    let first = view(&vm, None, &Problems::default(), None);
    let publisher = Publisher::new(first, shared.bus.clone(), made_by);
    let machine = Machine {
        id: vm.id,
        mailbox: letters,
        view: publisher.subscribe(),
        run: runs,
        loans: Arc::default(),
    };
    let mut driver = Driver {
        shared,
        vm,
        live: None,
        queue: VecDeque::new(),
        work: None,
        lent: None,
        recall: None,
        pulse: None,
        applying: None,
        apply_again: false,
        problems: Problems::default(),
        progress: None,
        resuming: false,
        waiting: Vec::new(),
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
fn view(vm: &VmRow, run: Option<&Run>, problems: &Problems, operation: Option<Operation>) -> VmView {
    let mut pending = run.map(|run| pending::changes(&run.record().spec, &vm.spec)).unwrap_or_default();
    problems.explain(&mut pending);
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
        restart_pending: !pending.is_empty(),
        pending,
        meta: vm.meta.clone(),
        parent: vm.parent,
        passing: vm.passing,
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
            self.answer();
            if self.removed || (self.retiring && self.queue.is_empty() && self.applying.is_none()) {
                break;
            }
            // A job already told to stop is not told again, or this loop would spin.
            let waiting = self.queue.iter().enumerate().filter(|(_, job)| !job.told);
            let tokens = waiting.map(|(at, job)| (at, job.ticket.cancel().clone())).collect();
            let asleep = self.live.is_none() || self.pulse.is_some();
            let Self { live, work, lent, pulse, mailbox, applying, progress, .. } = &mut self;
            let (process, events, companions) = Live::split(live);
            let happening = tokio::select! {
                biased;
                exit = Live::exited(process) => Happening::Exit(exit),
                event = Live::next_event(events) => Happening::Event(event),
                step = finished(work) => Happening::Step(step),
                problems = finished(applying) => Happening::Applied(problems),
                job = given_up(tokens) => Happening::GivenUp(job),
                ended = Live::companion_ended(companions) => Happening::CompanionEnded(ended),
                () = finished(lent) => Happening::Returned,
                () = moved(progress) => Happening::Progress,
                message = mailbox.recv() => Happening::Message(message),
                pulse = finished(pulse) => Happening::Pulse(pulse),
                _ = heartbeat.tick(), if !asleep => Happening::Heartbeat,
            };
            match happening {
                Happening::Exit(exit) => self.on_exit(exit).await,
                Happening::Event(event) => self.on_event(event),
                Happening::Step(step) => self.on_step(step),
                Happening::GivenUp(job) => self.give_up(job),
                Happening::CompanionEnded(record) => self.on_companion_ended(&record),
                // What waited for it begins at the top of the loop.
                Happening::Returned => self.on_returned(),
                Happening::Message(Some(message)) => self.on_message(message).await,
                // The engine was dropped without a word.
                Happening::Message(None) => self.retire(),
                Happening::Pulse(pulse) => self.on_pulse(pulse),
                Happening::Applied(problems) => self.on_applied(problems),
                Happening::Progress => self.on_progress(),
                Happening::Heartbeat => self.ask_pulse(),
            }
        }
        if self.removed {
            self.publisher.remove(self.vm.id, self.because);
        }
    }

    /// The machine is no more; whoever hears of the end of its deletion finds it gone.
    fn gone(&mut self) {
        self.removed = true;
        self.shared.fleet.forget(self.vm.id);
    }

    /// Publishes the view, if it says anything new.
    pub(super) fn publish(&mut self) {
        let operation = self.queue.front().and_then(|job| job.ticket.operation());
        let run = self.live.as_ref().map(|live| Arc::clone(&live.run));
        self.run.send_if_modified(|now| {
            let same = now.as_ref().map(Arc::as_ptr) == run.as_ref().map(Arc::as_ptr);
            now.clone_from(&run);
            !same
        });
        if !self.removed {
            self.publisher.publish(view(&self.vm, run.as_deref(), &self.problems, operation), self.because);
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

    /// Begins the first of the queue, as far as that needs no waiting.
    fn advance(&mut self) {
        while self.work.is_none() && self.lent.is_none() && self.vm.state != VmState::Adopting {
            let Some(job) = self.queue.front() else { return };
            // A machine whose devices come and go cannot be written down.
            if job.begun || (matches!(job.order, Order::Suspend) && self.applying.is_some()) {
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
            Order::Start | Order::StartHeld | Order::StartDisposable => Some(&self.shared.starts),
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
        let qmp = self.live.as_ref().and_then(|live| live.run.monitor());
        match order {
            Order::Start | Order::StartHeld | Order::StartDisposable => {
                let how = match (order, self.vm.state) {
                    (_, VmState::Suspended) => How::Resumed,
                    (Order::StartDisposable, _) => How::Disposable,
                    _ => How::Fresh,
                };
                self.resuming = how == How::Resumed;
                self.enter(VmState::Starting);
                self.attend(None);
                let launch = launch::launch(Arc::clone(&self.shared), self.vm.clone(), how, cancel);
                self.work = Some(Box::pin(async move { Step::Launched(launch.await) }));
            }
            Order::Stop { patience } => {
                let was = self.vm.state;
                self.enter(VmState::Stopping);
                self.work = Some(Box::pin(power::shut_down(qmp, was, patience)));
            }
            Order::ForceOff => {
                let Some(live) = &mut self.live else {
                    // Nothing to end: the process went in the moment before, or is only memory on the disk.
                    suspend::discard(&self.machine_dir());
                    self.attend(None);
                    self.enter(VmState::Stopped);
                    return self.end(Outcome::Succeeded);
                };
                live.ending = true;
                let force = power::force(Arc::clone(&live.run), self.shared.config.timing.force_step);
                self.enter(VmState::Stopping);
                self.work = Some(Box::pin(async move { Step::Done(force.await) }));
            }
            Order::Pause => self.work = Some(Box::pin(power::command(qmp, power::Command::Pause))),
            Order::Resume => self.work = Some(Box::pin(power::command(qmp, power::Command::Resume))),
            Order::Reset => self.work = Some(Box::pin(power::command(qmp, power::Command::Reset))),
            Order::Suspend => {
                let Some(live) = &self.live else { return };
                let (said, progress) = watch::channel(None);
                self.progress = Some(progress);
                let save = suspend::save(Arc::clone(&live.run), self.machine_dir(), said, cancel);
                self.work = Some(Box::pin(async move { Step::Done(save.await) }));
            }
            Order::Delete { disks, children } => {
                let (said, progress) = watch::channel(None);
                self.progress = Some(progress);
                let pace = Pace { progress: said, cancel };
                let free = delete::let_go(Arc::clone(&self.shared), self.vm.clone(), (disks, children), pace);
                self.work = Some(Box::pin(async move { Step::LetGo(free.await) }));
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
            Step::LetGo(Ok(loans)) => self.delete(loans),
            Step::LetGo(Err(body)) if body.code == ErrorCode::Cancelled => {
                self.end(if self.retiring { Outcome::Interrupted } else { Outcome::Cancelled });
            }
            Step::LetGo(Err(body)) | Step::Deleted(Deletion::Refused(body)) => {
                self.end(Outcome::Failed(body.into()));
            }
            Step::Deleted(Deletion::Done) => {
                self.gone();
                self.end(Outcome::Succeeded);
            }
            Step::Deleted(Deletion::FilesLeft(body)) => {
                self.gone();
                self.end(Outcome::Failed(body.into()));
            }
        }
    }

    /// From here on it cannot be given up. Who stood on the machine is held still until it is gone.
    fn delete(&mut self, loans: Vec<super::lend::Loan>) {
        let Some(job) = self.queue.front() else { return };
        let Order::Delete { disks, .. } = job.order else { return };
        job.ticket.seal();
        let delete = delete::delete(Arc::clone(&self.shared), self.vm.clone(), job.ticket.id(), disks);
        self.work = Some(Box::pin(async move {
            let deletion = delete.await;
            drop(loans);
            Step::Deleted(deletion)
        }));
    }

    /// The process is up, held before the guest's first instruction: from here its exit and events are seen. Let it go.
    fn install(&mut self, attached: crate::run::Attached) {
        let run = Arc::clone(&attached.run);
        // The start has settled on a machine type, and written it down.
        self.vm.spec.machine_version.clone_from(&run.record().spec.machine_version);
        self.live = Some(Live::new(attached, &self.shared));
        if let Some(job) = self.queue.front() {
            job.ticket.seal();
            self.because = job.origin;
        }
        self.work = Some(if self.resuming {
            let held = self.queue.front().is_some_and(|job| matches!(job.order, Order::StartHeld));
            let load = suspend::load(run, self.machine_dir(), if held { Then::Held } else { Then::GoesOn });
            Box::pin(async move { Step::Done(load.await) })
        } else {
            Box::pin(power::command(run.monitor(), power::Command::Resume))
        });
    }

    pub(super) fn machine_dir(&self) -> PathBuf {
        self.shared.config.machine_dir(self.vm.id)
    }

    /// What a machine without a process is.
    pub(super) fn at_rest(&self) -> VmState {
        disposable::discard(&self.machine_dir());
        if suspend::is_suspended(&self.machine_dir()) { VmState::Suspended } else { VmState::Stopped }
    }

    fn on_launch_refused(&mut self, refused: launch::Refused) {
        match refused {
            launch::Refused::Cancelled => {
                self.enter(self.at_rest());
                let outcome = if self.retiring { Outcome::Interrupted } else { Outcome::Cancelled };
                self.end(outcome);
            }
            launch::Refused::Broken(body) => {
                let suspended = self.at_rest() == VmState::Suspended;
                self.enter(if suspended { VmState::Suspended } else { VmState::Broken });
                self.attend(Some(body.clone()));
                self.end(Outcome::Failed(body.into()));
            }
            launch::Refused::Failed(failure) => {
                self.enter(self.at_rest());
                self.attend(Some(failure.error.clone()));
                self.end(Outcome::Failed(failure));
            }
        }
    }

    fn on_done(&mut self, result: Result<(), ErrorBody>) {
        let Some(order) = self.queue.front().filter(|job| job.begun).map(|job| job.order) else {
            // Work that nobody asked for: what became of it shows in what the guest does.
            return self.ask_pulse();
        };
        if result.is_ok() {
            // What was asked before this was done says nothing any more.
            self.pulse = None;
            match order {
                // QEMU has said so before it answered, and perhaps that the guest is held again since.
                Order::Resume => self.ask_pulse(),
                Order::Start | Order::StartHeld | Order::StartDisposable => {
                    let held = self.resuming && matches!(order, Order::StartHeld);
                    self.enter(if held { VmState::Paused } else { VmState::Running });
                    // It may have been changed since its arguments were made.
                    self.begin_apply();
                }
                Order::Pause => self.enter(VmState::Paused),
                // The process's exit ends these, not the command's answer.
                Order::ForceOff | Order::Stop { .. } | Order::Reset | Order::Delete { .. } => {}
                // Written down; its process ends, and that ends this.
                Order::Suspend => return,
            }
        }
        match (order, result) {
            (Order::Start | Order::StartHeld | Order::StartDisposable, Err(body)) => {
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
            (Order::Suspend, Err(body)) if body.code == ErrorCode::Cancelled => {
                self.ask_pulse();
                self.end(Outcome::Cancelled);
            }
            (_, result) => {
                if result.is_err() {
                    self.ask_pulse();
                }
                self.end(result.into());
            }
        }
    }
}
