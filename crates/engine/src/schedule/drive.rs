//! The one task: sleeps until the next run is due or something changes, and starts what is due.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use voidvm_model::schedule::{RunOutcome, ScheduleRun, SkipReason};
use voidvm_model::{Origin, ScheduleId, ScheduleRunId};
use voidvm_schedule::due::{Due, due};

use super::run::{Work, carry_out};
use super::{Entry, Pulse, Scheduler};

pub(super) async fn drive(scheduler: Scheduler) {
    let parts = scheduler.0.parts.clone();
    let mut asked = scheduler.0.asked.subscribe();
    let mut seen: Option<(Timestamp, TimeZone)> = None;
    loop {
        // Marked as heard before the schedules are looked at: what comes after that wakes the wait below.
        let heard = *asked.borrow_and_update();
        let (now, zone) = (parts.clock.now(), parts.clock.zone());
        let mut begun = Vec::new();
        let look = match &seen {
            Some((_, there)) if *there != zone => {
                // What the clock of the old zone had due until now counts; from here on that of the new one does.
                begun = scheduler.gather(now, there, Look::AtAll);
                scheduler.begin_anew(now);
                Look::AtAll
            }
            Some((then, _)) if now >= *then => Look::AtDue,
            _ => Look::AtAll,
        };
        begun.extend(scheduler.gather(now, &zone, look));
        for work in begun {
            scheduler.begin(work, now).await;
        }
        seen = Some((now, zone));
        let until = {
            let entries = scheduler.entries();
            let until = entries.values().filter_map(|entry| entry.next).min();
            let running = entries.values().filter(|entry| entry.running).count();
            scheduler.0.pulse.send_replace(Pulse { heard, until, waiting: true, running });
            until
        };
        tokio::select! {
            biased;
            () = parts.closing.cancelled() => return,
            changed = asked.changed() => if changed.is_err() { return },
            () = parts.clock.wait(until) => {}
        }
        scheduler.0.pulse.send_modify(|pulse| pulse.waiting = false);
    }
}

/// Which schedules are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Those whose next run is due by what was found before.
    AtDue,
    /// All of them: the clock was set back, or is in another zone.
    AtAll,
}

impl Scheduler {
    /// Takes what is due out of the schedules; their times are dealt with from here on.
    fn gather(&self, now: Timestamp, zone: &TimeZone, look: Look) -> Vec<Work> {
        let mut begun = Vec::new();
        for entry in self.entries().values_mut() {
            if look == Look::AtAll {
                entry.look(now, zone);
            }
            if entry.next.is_some_and(|next| next <= now) {
                begun.extend(entry.turn(now, zone));
                entry.look(now, zone);
            }
        }
        begun
    }

    /// The computer is in another zone: the times of the schedules that go by its clock are dealt with up to now.
    fn begin_anew(&self, now: Timestamp) {
        for entry in self.entries().values_mut().filter(|entry| entry.row.time_zone.is_none()) {
            entry.row.done_until = entry.row.done_until.max(now);
        }
    }

    /// Writes a run down and begins it.
    async fn begin(&self, work: Work, done_until: Timestamp) {
        let id = work.run.schedule_id;
        let written = {
            let _one_at_a_time = self.0.writing.lock().await;
            self.0.parts.store.schedules().begin_run(&work.run, done_until).await
        };
        let mut run = work.run.clone();
        match written {
            Ok(()) if run.outcome == RunOutcome::Running => {
                self.0.parts.tasks.spawn(carry_out(self.clone(), work));
            }
            Ok(()) => tracing::warn!(
                schedule = work.row.name, due = %run.due_at, why = run.skipped.map(SkipReason::as_str),
                "a scheduled run was left out"
            ),
            Err(error) => {
                tracing::error!(schedule = work.row.name, %error, "a scheduled run could not be written down, and was not done");
                run.outcome = RunOutcome::Failed;
                run.ended_at = Some(run.started_at);
                run.error = Some(error.body());
            }
        }
        if let Some(entry) = self.entries().get_mut(&id) {
            if run.outcome == RunOutcome::Failed {
                entry.running = false;
            }
            if run.outcome != RunOutcome::Skipped || !entry.running {
                entry.last_run = Some(run);
            }
        }
        self.0.parts.bus.publish(Origin::System, voidvm_model::Event::SchedulesChanged);
    }
}

impl Entry {
    /// What its turn is; none when nothing is due after all.
    fn turn(&mut self, now: Timestamp, computer: &TimeZone) -> Option<Work> {
        let clockwork = self.clockwork.as_ref().ok()?.clone();
        let zone = clockwork.zone(computer);
        let owed = self.owed.take();
        let (due_at, missed, late) = match (due(&clockwork.times, &zone, self.row.done_until, now), owed) {
            (Due::OnTime { due, missed }, owed) => (due, missed + u32::from(owed.is_some()), false),
            (Due::Missed { due, missed }, owed) => (due, missed + u32::from(owed.is_some()), true),
            (Due::Nothing, Some(due)) => (due, 0, true),
            (Due::Nothing, None) => return None,
        };
        self.row.done_until = self.row.done_until.max(now);
        let skipped = if self.running {
            Some(SkipReason::Overlap)
        } else if late && !self.row.options.catch_up {
            Some(SkipReason::Missed)
        } else {
            None
        };
        let run = ScheduleRun {
            caught_up: late && skipped.is_none(),
            missed,
            ..new_run(self.row.id, due_at, now, skipped)
        };
        self.running |= skipped.is_none();
        Some(Work { row: self.row.clone(), zone, clockwork, run, ticket: None })
    }
}

/// A run that begins now, or is left out.
pub(super) fn new_run(
    schedule_id: ScheduleId,
    due_at: Timestamp,
    now: Timestamp,
    skipped: Option<SkipReason>,
) -> ScheduleRun {
    ScheduleRun {
        id: ScheduleRunId::new(),
        schedule_id,
        due_at,
        started_at: now,
        ended_at: skipped.map(|_| now),
        outcome: if skipped.is_some() { RunOutcome::Skipped } else { RunOutcome::Running },
        caught_up: false,
        by_hand: false,
        missed: 0,
        skipped,
        machines: Vec::new(),
        error: None,
        operation_id: None,
    }
}
