//! A clock that stands still until a test moves it, and knows who waits for it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{oneshot, watch};

/// A clock a test moves by hand; starts at 2026-01-01T00:00:00Z, in UTC.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<State>,
    /// Changes whenever somebody begins to wait, or is woken.
    moved: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    wall: Timestamp,
    zone: TimeZone,
    /// What has gone by, however the wall clock was set.
    gone: Duration,
    sleepers: BTreeMap<u64, Sleeper>,
    next: u64,
}

#[derive(Debug)]
struct Sleeper {
    until: Until,
    wake: oneshot::Sender<()>,
}

#[derive(Clone, Copy, Debug)]
enum Until {
    /// The wall clock shows so much, or never; and whenever it is set.
    Wall(Option<Timestamp>),
    /// So much has gone by.
    Gone(Duration),
}

impl Default for ManualClock {
    fn default() -> Self {
        let wall = "2026-01-01T00:00:00Z".parse().expect("a time");
        let state =
            State { wall, zone: TimeZone::UTC, gone: Duration::ZERO, sleepers: BTreeMap::new(), next: 0 };
        Self { state: Mutex::new(state), moved: watch::Sender::new(0) }
    }
}

impl ManualClock {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.state().wall
    }

    /// The zone it is in.
    #[must_use]
    pub fn zone(&self) -> TimeZone {
        self.state().zone.clone()
    }

    /// Moves it on, as time does.
    ///
    /// # Panics
    /// When it would be moved beyond the year 9999.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state();
        state.wall += SignedDuration::try_from(by).expect("a short step");
        state.gone += by;
        self.wake(&mut state, false);
    }

    /// Sets it: nothing goes by, and who waits for the wall clock is woken. So does a sleep of the computer look.
    pub fn set(&self, wall: Timestamp) {
        let mut state = self.state();
        state.wall = wall;
        self.wake(&mut state, true);
    }

    /// Moves to another zone; who waits for the wall clock is woken.
    ///
    /// # Panics
    /// When there is no such zone.
    pub fn travel(&self, zone: &str) {
        let mut state = self.state();
        state.zone = TimeZone::get(zone).expect("a zone");
        self.wake(&mut state, true);
    }

    fn wake(&self, state: &mut State, set: bool) {
        let (wall, gone) = (state.wall, state.gone);
        let due = |sleeper: &Sleeper| match sleeper.until {
            Until::Wall(until) => set || until.is_some_and(|until| until <= wall),
            Until::Gone(until) => until <= gone,
        };
        let woken: Vec<u64> =
            state.sleepers.iter().filter(|(_, sleeper)| due(sleeper)).map(|(id, _)| *id).collect();
        for id in woken {
            // Gone from the list at once: who is woken is no sleeper, though it may not have been its turn yet.
            if let Some(sleeper) = state.sleepers.remove(&id) {
                let _ = sleeper.wake.send(());
            }
        }
        self.moved.send_modify(|moved| *moved += 1);
    }

    /// Waits until it shows so much, or for ever; or until it is set.
    pub async fn until(&self, wall: Option<Timestamp>) {
        self.sleep(|state| (wall.is_none_or(|wall| wall > state.wall)).then_some(Until::Wall(wall))).await;
    }

    /// Waits for so much to go by.
    pub async fn pause(&self, time: Duration) {
        self.sleep(|state| (!time.is_zero()).then(|| Until::Gone(state.gone + time))).await;
    }

    async fn sleep(&self, until: impl FnOnce(&State) -> Option<Until>) {
        let (id, woken) = {
            let mut state = self.state();
            let Some(until) = until(&state) else { return };
            let (wake, woken) = oneshot::channel();
            state.next += 1;
            let id = state.next;
            state.sleepers.insert(id, Sleeper { until, wake });
            (id, woken)
        };
        self.moved.send_modify(|moved| *moved += 1);
        let _gone = Awake { clock: self, id };
        let _ = woken.await;
    }

    /// How many wait for it.
    #[must_use]
    pub fn sleepers(&self) -> usize {
        self.state().sleepers.len()
    }

    /// How long until the first of them is woken.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        let state = self.state();
        let left = |sleeper: &Sleeper| match sleeper.until {
            Until::Wall(until) => Duration::try_from(until?.duration_since(state.wall)).ok(),
            Until::Gone(until) => Some(until.saturating_sub(state.gone)),
        };
        state.sleepers.values().filter_map(left).min()
    }

    /// Changes whenever somebody begins to wait, or is woken.
    pub fn moved(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }
}

/// Takes a sleeper off the list when he no longer waits.
struct Awake<'a> {
    clock: &'a ManualClock,
    id: u64,
}

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        if self.clock.state().sleepers.remove(&self.id).is_some() {
            self.clock.moved.send_modify(|moved| *moved += 1);
        }
    }
}
