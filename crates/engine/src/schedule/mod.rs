//! The scheduler: snapshots and backups nobody asks for, on time, whether or not anybody looks on.
//!
//! One task sleeps until the next run is due or something changes, and starts what is due; a run is a task of its own.
//! ```text
//! due ─▶ the run before still at work? ─▶ skipped (overlap)
//!   │ ─▶ none on time, nothing made up for? ─▶ skipped (missed)
//!   ▼
//! running (row) ─▶ machines chosen ─▶ none? ─▶ skipped (not running, unchanged, no machine)
//!                      ▼
//!                 taken, three times more if need be ─▶ failed (told)
//!                      ▼
//!                 pruned ─▶ succeeded
//! ```
//! Invariants:
//! * Each instant a schedule names is dealt with once: by a run, by one that makes up for it, or by a row that says why not.
//! * A run is a row before it acts, and the same write says that its time is dealt with. One that a kill cut is made up for.
//! * Pruning touches only what [`judge`](voidvm_schedule::judge) says, and only after a snapshot was taken; or before, for its space.
//! * There is one scheduler for a data directory: its owner's. It runs only in an engine that stays ([`Scheduler::run_always`]).

mod backups;
mod bound;
mod check;
mod clock;
mod commands;
mod drive;
mod prune;
mod run;
mod snapshots;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use voidvm_model::schedule::{RunOutcome, Schedule, ScheduleRun};
use voidvm_model::{ErrorBody, ErrorCode, Event, Origin, ScheduleId};
use voidvm_schedule::Times;
use voidvm_store::{ScheduleRow, Store};

use crate::bus::EventBus;
use crate::ledger::Ledger;

pub(crate) use bound::EngineSnapshots;
pub use clock::{SystemClock, WallClock};
pub use snapshots::{KeptId, ScheduledMachine, Snapshots, TakenSnapshot, WantedSnapshot};

/// Runs at work at one time; the others wait their turn.
const AT_ONCE: usize = 2;

/// The scheduler; clones are the same.
#[derive(Clone, Debug)]
pub struct Scheduler(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: SchedulerParts,
    entries: Mutex<BTreeMap<ScheduleId, Entry>>,
    turns: Semaphore,
    /// Whether the task was started.
    always: AtomicBool,
    /// Schedules are written one after the other: each is made from the one before.
    writing: tokio::sync::Mutex<()>,
    /// Grows when something changed that the task has to look at.
    asked: watch::Sender<u64>,
    pulse: watch::Sender<Pulse>,
}

/// What the scheduler stands on.
#[derive(Clone, Debug)]
pub(crate) struct SchedulerParts {
    pub(crate) store: Store,
    pub(crate) bus: EventBus,
    pub(crate) ledger: Ledger,
    pub(crate) clock: Arc<dyn WallClock>,
    pub(crate) snapshots: Arc<dyn Snapshots>,
    /// Is cancelled when the engine ends.
    pub(crate) closing: CancellationToken,
    /// Runs at work.
    pub(crate) tasks: TaskTracker,
}

impl SchedulerParts {
    /// Where a schedule's snapshots are, or its backups.
    fn kept(&self, row: &ScheduleRow) -> Arc<dyn Snapshots> {
        row.backup.as_ref().map_or_else(|| Arc::clone(&self.snapshots), |to| self.snapshots.backups(to))
    }
}

/// What the scheduler is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Up to which change it has looked.
    pub heard: u64,
    /// When it will look again; none while it looks, or when nothing will ever be due.
    pub until: Option<Timestamp>,
    /// Whether it waits.
    pub waiting: bool,
    /// Runs at work or waiting for their turn.
    pub running: usize,
}

/// A schedule, and what is known of it.
#[derive(Debug)]
struct Entry {
    row: ScheduleRow,
    clockwork: Result<Clockwork, ErrorBody>,
    /// The next run, by the zone and the clock that were seen last.
    next: Option<Timestamp>,
    /// A run that a kill cut and that is to be made up for.
    owed: Option<Timestamp>,
    running: bool,
    last_run: Option<ScheduleRun>,
}

/// When a schedule runs.
#[derive(Clone, Debug)]
struct Clockwork {
    times: Times,
    /// The computer's without.
    zone: Option<TimeZone>,
}

impl Clockwork {
    fn of(row: &ScheduleRow) -> Result<Self, ErrorBody> {
        let times = check::times(&row.when)?;
        let zone = row.time_zone.as_deref().map(check::zone).transpose()?;
        Ok(Self { times, zone })
    }

    fn zone(&self, computer: &TimeZone) -> TimeZone {
        self.zone.clone().unwrap_or_else(|| computer.clone())
    }
}

impl Entry {
    fn new(row: ScheduleRow) -> Self {
        let clockwork = Clockwork::of(&row);
        Self { row, clockwork, next: None, owed: None, running: false, last_run: None }
    }

    /// Looks for the next run anew.
    fn look(&mut self, now: Timestamp, computer: &TimeZone) {
        // Remembered: from a clock that went back far, time goes on as ever.
        self.row.done_until = voidvm_schedule::due::believe(self.row.done_until, now);
        self.next = match &self.clockwork {
            Ok(clockwork) if self.row.enabled => {
                let next =
                    clockwork.times.next(self.row.done_until, &clockwork.zone(computer)).map(|run| run.at);
                if self.owed.is_some() { Some(next.map_or(now, |next| next.min(now))) } else { next }
            }
            _ => None,
        };
    }

    fn view(&self) -> Schedule {
        let row = self.row.clone();
        Schedule {
            id: row.id,
            name: row.name,
            target: row.target,
            cron: row.when.cron(),
            when: row.when,
            time_zone: row.time_zone,
            retention: row.retention,
            options: row.options,
            name_template: row.name_template,
            backup: row.backup,
            enabled: row.enabled,
            running: self.running,
            next_run: self.next,
            last_run: self.last_run.clone(),
            trouble: self.clockwork.as_ref().err().cloned(),
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl Scheduler {
    /// A scheduler with an operation log of its own: for tests and measurements.
    ///
    /// # Errors
    /// The store's.
    pub async fn open(
        store: Store,
        bus: EventBus,
        clock: Arc<dyn WallClock>,
        snapshots: Arc<dyn Snapshots>,
    ) -> Result<Self, ErrorBody> {
        let ledger = Ledger::open(store.clone(), bus.clone());
        let (closing, tasks) = (CancellationToken::new(), TaskTracker::new());
        Self::with(SchedulerParts { store, bus, ledger, clock, snapshots, closing, tasks }).await
    }

    /// Reads the schedules; nothing runs yet. What the last owner was in the middle of is marked as cut.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn with(parts: SchedulerParts) -> Result<Self, ErrorBody> {
        let (now, zone) = (parts.clock.now(), parts.clock.zone());
        let schedules = parts.store.schedules();
        schedules.interrupt_unfinished(now).await.map_err(|error| error.body())?;
        let rows = schedules.list().await.map_err(|error| error.body())?;
        let last = schedules.last_runs().await.map_err(|error| error.body())?;
        let mut last: HashMap<ScheduleId, ScheduleRun> =
            last.into_iter().map(|run| (run.schedule_id, run)).collect();
        let mut entries = BTreeMap::new();
        for row in rows {
            let mut entry = Entry::new(row);
            entry.last_run = last.remove(&entry.row.id);
            entry.owed = entry
                .last_run
                .as_ref()
                .filter(|run| {
                    run.outcome == RunOutcome::Interrupted && !run.by_hand && entry.row.options.catch_up
                })
                .map(|run| run.due_at);
            entry.look(now, &zone);
            entries.insert(entry.row.id, entry);
        }
        Ok(Self(Arc::new(Inner {
            parts,
            entries: Mutex::new(entries),
            turns: Semaphore::new(AT_ONCE),
            always: AtomicBool::new(false),
            writing: tokio::sync::Mutex::new(()),
            asked: watch::Sender::new(0),
            pulse: watch::Sender::new(Pulse::default()),
        })))
    }

    /// Runs what is due, from now until the engine ends. For the engine that stays; one that is opened for a single command runs
    /// nothing by itself. Said again, it changes nothing.
    pub fn run_always(&self) {
        if !self.0.always.swap(true, Ordering::Relaxed) {
            self.0.parts.tasks.spawn(drive::drive(self.clone()));
        }
    }

    /// Ends it: what is at work is cut, and written down as that.
    pub async fn shutdown(&self) {
        self.0.parts.closing.cancel();
        self.0.parts.tasks.close();
        self.0.parts.tasks.wait().await;
        self.0.parts.ledger.flush().await;
    }

    /// What it is doing, now and as it changes.
    #[must_use]
    pub fn pulse(&self) -> watch::Receiver<Pulse> {
        self.0.pulse.subscribe()
    }

    /// The number of the newest change it was told of; [`Pulse::heard`] reaches it.
    #[must_use]
    pub fn asked(&self) -> u64 {
        *self.0.asked.borrow()
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<ScheduleId, Entry>> {
        // A panic cannot leave an entry half changed: what is done under the lock cannot fail.
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the task look again, and tells everybody.
    fn changed(&self, origin: Origin) {
        self.0.asked.send_modify(|asked| *asked += 1);
        self.0.parts.bus.publish(origin, Event::SchedulesChanged);
    }
}

fn not_found(id: ScheduleId) -> ErrorBody {
    ErrorBody::new(ErrorCode::NotFound, format!("No schedule has the id {id}."))
        .with_field("id")
        .with_hint("It may have been removed; look at the list.")
}
