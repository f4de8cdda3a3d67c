//! One run: machines are chosen, snapshots taken, if need be at the fourth attempt, and what retention no longer keeps is removed.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use jiff::tz::TimeZone;
use tokio_util::sync::CancellationToken;
use voidvm_model::schedule::{MachineRun, RunOutcome, ScheduleRun, ScheduleTarget, SkipReason};
use voidvm_model::{ErrorBody, ErrorCode, OperationKind, Origin};
use voidvm_schedule::naming::Naming;
use voidvm_store::ScheduleRow;

use super::{Clockwork, KeptId, ScheduledMachine, Scheduler, WantedSnapshot};
use crate::ledger::{Cancel, Outcome, Subject, Ticket};

/// Before the second attempt; twice as long before each that follows.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Attempts after the first.
const RETRIES: usize = 3;

/// A run, and all it needs to know.
#[derive(Debug)]
pub(super) struct Work {
    /// The schedule as it was when the run began.
    pub(super) row: ScheduleRow,
    pub(super) zone: TimeZone,
    pub(super) clockwork: Clockwork,
    pub(super) run: ScheduleRun,
    /// Its operation, from when it is known that there is something to do.
    pub(super) ticket: Option<Ticket>,
}

/// Carries a run out, and writes down what came of it.
pub(super) async fn carry_out(scheduler: Scheduler, mut work: Work) {
    let parts = scheduler.0.parts.clone();
    let came = tokio::select! {
        biased;
        () = parts.closing.cancelled() => Err(ErrorBody::new(ErrorCode::Interrupted, "voidVM ended while this was going on.")),
        came = work.go(&scheduler) => came,
    };
    work.run.ended_at = Some(parts.clock.now());
    let failed = work.run.machines.iter().find_map(|machine| machine.error.clone());
    match came.err().or(failed) {
        Some(error) => {
            let cut = error.code == ErrorCode::Interrupted && parts.closing.is_cancelled();
            work.run.outcome = if cut { RunOutcome::Interrupted } else { RunOutcome::Failed };
            work.run.error = Some(error);
        }
        None if work.run.skipped.is_some() => work.run.outcome = RunOutcome::Skipped,
        None => work.run.outcome = RunOutcome::Succeeded,
    }
    let Work { row, run, ticket, .. } = work;
    report(&row.name, &run);
    if let Err(error) = parts.store.schedules().end_run(&run).await {
        tracing::error!(schedule = row.name, %error, "the end of a scheduled run could not be written down");
    }
    let outcome = match (&run.outcome, run.error.clone()) {
        (RunOutcome::Interrupted, _) => Outcome::Interrupted,
        (_, Some(error)) if error.code == ErrorCode::Cancelled => Outcome::Cancelled,
        (_, Some(error)) => Outcome::Failed(error.into()),
        _ => Outcome::Succeeded,
    };
    if let Some(entry) = scheduler.entries().get_mut(&row.id) {
        entry.running = false;
        entry.last_run = Some(run);
    }
    if let Some(ticket) = ticket {
        ticket.end(outcome);
    }
    scheduler.changed(Origin::System);
}

fn report(schedule: &str, run: &ScheduleRun) {
    let made = |machine: &&MachineRun| machine.snapshot.is_some() || machine.backup.is_some();
    let taken = run.machines.iter().filter(made).count();
    let pruned: usize = run.machines.iter().map(|machine| machine.pruned.len()).sum();
    if let Some(error) = &run.error {
        tracing::warn!(
            schedule, due = %run.due_at, taken, code = ?error.code, trace_id = error.trace_id, message = error.message,
            "a scheduled run failed"
        );
    } else {
        tracing::info!(
            schedule, due = %run.due_at, taken, pruned, caught_up = run.caught_up, outcome = run.outcome.as_str(),
            "a scheduled run ended"
        );
    }
}

impl Work {
    async fn go(&mut self, scheduler: &Scheduler) -> Result<(), ErrorBody> {
        let parts = &scheduler.0.parts;
        // Its closing is the end of the engine, and that was seen to.
        let _turn = scheduler.0.turns.acquire().await;
        let chosen = self.choose(scheduler).await?;
        if chosen.is_empty() && !self.run.by_hand {
            return Ok(());
        }
        if self.ticket.is_none() {
            let subject = Subject::Schedule(&self.row.name);
            let ticket = parts
                .ledger
                .open_operation(OperationKind::ScheduleRun, subject, Origin::System, Cancel::Heeded)
                .await?;
            self.run.operation_id = Some(ticket.id());
            self.ticket = Some(ticket);
        }
        let cancel = self.ticket.as_ref().map(|ticket| ticket.cancel().clone()).unwrap_or_default();
        if let Some(ticket) = &self.ticket {
            ticket.begin();
        }
        // Each backup is one of its own.
        let together = matches!(self.row.target, ScheduleTarget::Group { .. }) && self.row.backup.is_none();
        let (total, mut done) = (chosen.len(), 0);
        for batch in chosen.chunks(if together { total.max(1) } else { 1 }) {
            self.snapshots(scheduler, batch, &cancel).await?;
            done += batch.len();
            if let Some(ticket) = &mut self.ticket {
                ticket.progress(done as u64, total as u64);
            }
        }
        Ok(())
    }

    /// The machines that are to have a snapshot; those that are not are written down with the reason.
    async fn choose(&mut self, scheduler: &Scheduler) -> Result<Vec<ScheduledMachine>, ErrorBody> {
        let snapshots = scheduler.0.parts.kept(&self.row);
        let machines = targets(&self.row.target, snapshots.machines());
        if machines.is_empty() {
            self.run.skipped = Some(SkipReason::NoMachine);
        }
        let mut chosen = Vec::new();
        for machine in machines {
            // A person who asks for a run wants it.
            let options = (!self.run.by_hand).then_some(self.row.options);
            let skipped = if options.is_some_and(|options| options.only_when_running) && !machine.running {
                Some(SkipReason::NotRunning)
            } else if options.is_some_and(|options| options.only_when_changed)
                && !snapshots.changed(machine.id).await?
            {
                Some(SkipReason::Unchanged)
            } else {
                None
            };
            match skipped {
                None => chosen.push(machine),
                Some(_) => self.run.machines.push(MachineRun { skipped, ..of(&machine) }),
            }
        }
        if chosen.is_empty() {
            let why = self.run.machines.iter().find_map(|machine| machine.skipped);
            self.run.skipped = why.or(self.run.skipped);
        }
        Ok(chosen)
    }

    /// Takes snapshots of one machine, or of several at one instant, and prunes theirs.
    async fn snapshots(
        &mut self,
        scheduler: &Scheduler,
        batch: &[ScheduledMachine],
        cancel: &CancellationToken,
    ) -> Result<(), ErrorBody> {
        let mut patience = Patience::new(cancel);
        let mut done: Vec<MachineRun> = batch.iter().map(of).collect();
        let taken = loop {
            done.iter_mut().for_each(|machine| machine.attempts += 1);
            match self.attempt(scheduler, batch, &mut done).await {
                Ok(()) => break true,
                Err(error) if patience.again(scheduler, &error).await => {
                    tracing::info!(
                        schedule = self.row.name,
                        message = error.message,
                        "a scheduled snapshot is tried again"
                    );
                }
                Err(error) => {
                    done.iter_mut().for_each(|machine| machine.error = Some(error.clone()));
                    break false;
                }
            }
        };
        if taken && self.drills() {
            for machine in &mut done {
                let Some(backup) = machine.backup else { continue };
                machine.error = scheduler.0.parts.kept(&self.row).drill(backup).await.err();
            }
        }
        // Backups go machine by machine. One that does not come up takes the place of none.
        let together = if self.row.backup.is_some() { 1 } else { done.len().max(1) };
        let whole = |part: &&mut [MachineRun]| part.iter().all(|machine| machine.error.is_none());
        for part in done.chunks_mut(together).filter(|_| taken).filter(whole) {
            let mut patience = Patience::new(cancel);
            let error = loop {
                match self.prune(scheduler, part).await {
                    Ok(()) => break None,
                    Err(error) if patience.again(scheduler, &error).await => {}
                    Err(error) => break Some(error),
                }
            };
            part.iter_mut().for_each(|machine| machine.error.clone_from(&error));
        }
        self.run.machines.append(&mut done);
        if cancel.is_cancelled() {
            return Err(ErrorBody::new(ErrorCode::Cancelled, "The run was given up."));
        }
        Ok(())
    }

    /// Whether each backup is to be seen coming up.
    fn drills(&self) -> bool {
        self.row.backup.as_ref().is_some_and(|to| to.drill)
    }

    async fn attempt(
        &self,
        scheduler: &Scheduler,
        batch: &[ScheduledMachine],
        done: &mut [MachineRun],
    ) -> Result<(), ErrorBody> {
        let (parts, kept) = (&scheduler.0.parts, scheduler.0.parts.kept(&self.row));
        let mut wanted = Vec::with_capacity(batch.len());
        for machine in batch {
            self.make_room(scheduler, machine, done).await?;
        }
        for machine in batch {
            // A backup is known by its time.
            let there = if self.row.backup.is_some() { Vec::new() } else { kept.list(machine.id).await? };
            let naming = naming(&self.row, &self.clockwork, &machine.name);
            let name =
                naming.name(parts.clock.now(), &self.zone, |name| there.iter().any(|one| one.name == name));
            wanted.push(WantedSnapshot {
                vm: machine.id,
                name,
                schedule: self.row.id,
                disk_only: self.row.options.disk_only,
                freeze: self.row.options.freeze,
                group: match &self.row.target {
                    ScheduleTarget::Group { name } => Some(name.clone()),
                    ScheduleTarget::Vm { .. } | ScheduleTarget::Tag { .. } => None,
                },
            });
        }
        let taken = kept.take(&wanted).await?;
        for ((done, wanted), taken) in done.iter_mut().zip(wanted).zip(taken) {
            match taken {
                KeptId::Snapshot(id) => (done.snapshot, done.snapshot_name) = (Some(id), Some(wanted.name)),
                KeptId::Backup(id) => done.backup = Some(id),
            }
        }
        Ok(())
    }
}

/// What names are made of.
pub(super) fn naming<'a>(row: &'a ScheduleRow, clockwork: &Clockwork, vm: &'a str) -> Naming<'a> {
    Naming {
        template: &row.name_template,
        schedule: &row.name,
        vm,
        more_than_daily: clockwork.times.more_than_daily(),
    }
}

/// The machines a schedule is for now.
pub(super) fn targets(target: &ScheduleTarget, machines: Vec<ScheduledMachine>) -> Vec<ScheduledMachine> {
    let fits = |machine: &ScheduledMachine| match target {
        ScheduleTarget::Vm { id } => machine.id == *id,
        ScheduleTarget::Group { name } => machine.group.as_ref() == Some(name),
        ScheduleTarget::Tag { name } => machine.tags.contains(name),
    };
    machines.into_iter().filter(fits).collect()
}

fn of(machine: &ScheduledMachine) -> MachineRun {
    MachineRun {
        vm_id: machine.id,
        vm_name: machine.name.clone(),
        snapshot: None,
        snapshot_name: None,
        backup: None,
        skipped: None,
        attempts: 0,
        error: None,
        pruned: Vec::new(),
    }
}

/// How often something is tried, and with what pauses.
struct Patience {
    pauses: ExponentialBackoff,
    cancel: CancellationToken,
}

impl Patience {
    fn new(cancel: &CancellationToken) -> Self {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(FIRST_PAUSE)
            .with_factor(2.0)
            .with_max_times(RETRIES)
            .build();
        Self { pauses, cancel: cancel.clone() }
    }

    /// Waits before the next attempt. False when there is to be none: it would come out the same, it was tried often enough, or it
    /// was given up.
    async fn again(&mut self, scheduler: &Scheduler, error: &ErrorBody) -> bool {
        let hopeless = matches!(
            error.code,
            ErrorCode::InvalidInput
                | ErrorCode::VmNotFound
                | ErrorCode::Unsupported
                | ErrorCode::DiskFull
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::Cancelled
                | ErrorCode::Interrupted
        );
        let Some(pause) = self.pauses.next().filter(|_| !hopeless && !self.cancel.is_cancelled()) else {
            return false;
        };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => false,
            () = scheduler.0.parts.clock.pause(pause) => true,
        }
    }
}
