//! A scheduler on a real store, a clock moved by hand, and snapshots that take as long and fail as often as a test says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use voidvm_model::schedule::{
    Recurrence, Retention, Schedule, ScheduleCreateRequest, ScheduleOptions, ScheduleRun,
    ScheduleRunsRequest, ScheduleTarget, ScheduledBackup,
};
use voidvm_model::{Bytes, ErrorBody, ErrorCode, Origin, ScheduleId, SnapshotId, VmId};
use voidvm_store::Store;
use voidvm_testkit::ManualClock;

use crate::bus::EventBus;
use crate::schedule::{
    KeptId, ScheduledMachine, Scheduler, Snapshots, TakenSnapshot, WallClock, WantedSnapshot,
};

#[derive(Debug, Default)]
pub(super) struct TestClock(pub(super) ManualClock);

#[async_trait]
impl WallClock for TestClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn zone(&self) -> TimeZone {
        self.0.zone()
    }

    async fn wait(&self, until: Option<Timestamp>) {
        self.0.until(until).await;
    }

    async fn pause(&self, time: Duration) {
        self.0.pause(time).await;
    }
}

/// How an attempt comes out: after so long, and with an error or not.
pub(super) type Script = fn(ScheduleId, Timestamp, &World) -> (Duration, Option<ErrorCode>);

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) machines: Vec<ScheduledMachine>,
    pub(super) snapshots: BTreeMap<VmId, Vec<TakenSnapshot>>,
    pub(super) unchanged: BTreeSet<VmId>,
    pub(super) free: u64,
    /// When each attempt began.
    pub(super) attempts: Vec<(ScheduleId, Timestamp)>,
    pub(super) names: BTreeMap<&'static str, ScheduleId>,
}

#[derive(Debug)]
pub(super) struct Fake {
    clock: Arc<TestClock>,
    pub(super) world: Mutex<World>,
    script: Script,
}

impl Fake {
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }
}

#[async_trait]
impl Snapshots for Fake {
    fn machines(&self) -> Vec<ScheduledMachine> {
        self.world().machines.clone()
    }

    async fn list(&self, vm: VmId) -> Result<Vec<TakenSnapshot>, ErrorBody> {
        Ok(self.world().snapshots.get(&vm).cloned().unwrap_or_default())
    }

    async fn changed(&self, vm: VmId) -> Result<bool, ErrorBody> {
        Ok(!self.world().unchanged.contains(&vm))
    }

    async fn take(&self, wanted: &[WantedSnapshot]) -> Result<Vec<KeptId>, ErrorBody> {
        let now = self.clock.now();
        let (takes, fails) = {
            let mut world = self.world();
            world.attempts.push((wanted[0].schedule, now));
            (self.script)(wanted[0].schedule, now, &world)
        };
        self.clock.pause(takes).await;
        if let Some(code) = fails {
            return Err(ErrorBody::new(code, "As the test says."));
        }
        let mut world = self.world();
        let mut taken = Vec::new();
        for one in wanted {
            let all = world.snapshots.entry(one.vm).or_default();
            if all.iter().any(|other| other.name == one.name) {
                return Err(ErrorBody::new(ErrorCode::NameTaken, "It is taken."));
            }
            let parent = all.iter_mut().find(|other| other.current).map(|other| {
                other.current = false;
                other.id
            });
            let id = KeptId::Snapshot(SnapshotId::new());
            all.push(TakenSnapshot {
                id,
                name: one.name.clone(),
                created_at: now,
                schedule: Some(one.schedule),
                keep: false,
                group: None,
                parent,
                current: true,
                frees: Bytes(10),
            });
            taken.push(id);
        }
        world.free = world.free.saturating_sub(10 * wanted.len() as u64);
        Ok(taken)
    }

    async fn delete(&self, vm: VmId, snapshots: &[KeptId]) -> Result<(), ErrorBody> {
        let &[snapshot] = snapshots else { panic!("one at a time") };
        let mut world = self.world();
        let all = world.snapshots.get_mut(&vm).unwrap();
        let at = all.iter().position(|one| one.id == snapshot).unwrap();
        let gone = all.remove(at);
        for one in all.iter_mut().filter(|one| one.parent == Some(snapshot)) {
            one.parent = gone.parent;
        }
        if gone.current
            && let Some(parent) = all.iter_mut().find(|one| Some(one.id) == gone.parent)
        {
            parent.current = true;
        }
        world.free += gone.frees.0;
        Ok(())
    }

    async fn free(&self, _: VmId) -> Result<Bytes, ErrorBody> {
        Ok(Bytes(self.world().free))
    }

    fn backups(&self, _: &ScheduledBackup) -> Arc<dyn Snapshots> {
        // A repository of its own, with nothing in it.
        Arc::new(Self { clock: Arc::clone(&self.clock), world: Mutex::default(), script: self.script })
    }

    async fn check_backups(&self, _: &ScheduledBackup) -> Result<(), ErrorBody> {
        Ok(())
    }
}

pub(super) struct Rig {
    pub(super) clock: Arc<TestClock>,
    pub(super) fake: Arc<Fake>,
    pub(super) scheduler: Scheduler,
    store: Store,
    dir: tempfile::TempDir,
}

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

impl Rig {
    pub(super) async fn new(script: Script) -> Self {
        let clock = Arc::new(TestClock::default());
        let fake = Fake { clock: Arc::clone(&clock), world: Mutex::default(), script };
        // In memory where there is such a place: a year is some ten thousand commits.
        let memory = std::path::Path::new("/dev/shm");
        let dir = tempfile::Builder::new().tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap();
        let (store, fake) = (Store::open(dir.path()).await.unwrap(), Arc::new(fake));
        let scheduler = open(&store, &clock, &fake).await;
        scheduler.run_always();
        Self { clock, fake, scheduler, store, dir }
    }

    pub(super) fn machine(&self, name: &str, group: Option<&str>, tags: &[&str]) -> VmId {
        let id = VmId::new();
        self.fake.world().machines.push(ScheduledMachine {
            id,
            name: name.to_owned(),
            group: group.map(str::to_owned),
            tags: tags.iter().map(ToString::to_string).collect(),
            running: false,
        });
        id
    }

    pub(super) async fn add(&self, request: ScheduleCreateRequest) -> Schedule {
        self.scheduler.create(request, Origin::Cli).await.unwrap()
    }

    /// The owner is killed, and another one takes over; what was at work is cut.
    pub(super) async fn reopen(&mut self) {
        // Nothing of it is told: the tasks end without a word, as a kill ends them.
        self.scheduler.shutdown().await;
        self.store.close().await;
        self.store = Store::open(self.dir.path()).await.unwrap();
        self.scheduler = open(&self.store, &self.clock, &self.fake).await;
        self.scheduler.run_always();
    }

    /// Returns when there is nothing to do until time goes on: whoever works waits for the clock.
    pub(super) async fn settle(&self) {
        let (mut pulse, mut moved) = (self.scheduler.pulse(), self.clock.0.moved());
        let settled = async {
            loop {
                moved.borrow_and_update();
                let now = *pulse.borrow_and_update();
                let heard = now.heard == self.scheduler.asked();
                if now.waiting && heard && self.clock.0.sleepers() == 1 + now.running {
                    return;
                }
                tokio::select! {
                    _ = pulse.changed() => {}
                    _ = moved.changed() => {}
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), settled).await.expect("the scheduler settles");
    }

    /// Lets time go by, from one thing that happens to the next.
    pub(super) async fn until(&self, then: Timestamp) {
        loop {
            self.settle().await;
            let left = Duration::try_from(then.duration_since(self.clock.now())).unwrap_or(Duration::ZERO);
            if left.is_zero() {
                return;
            }
            self.clock.0.advance(self.clock.0.next_wake().map_or(left, |next| next.min(left)));
        }
    }

    pub(super) async fn pass(&self, seconds: i64) {
        self.until(self.clock.now() + jiff::SignedDuration::from_secs(seconds)).await;
    }

    /// Oldest first.
    pub(super) async fn runs(&self, id: ScheduleId) -> Vec<ScheduleRun> {
        let (mut all, mut before) = (Vec::new(), None);
        loop {
            let request = ScheduleRunsRequest { id, before, limit: Some(500) };
            let page = self.scheduler.runs(request).await.unwrap();
            let Some(last) = page.last() else { break };
            before = Some(last.id);
            all.extend(page);
        }
        all.reverse();
        all
    }

    pub(super) fn taken(&self, vm: VmId) -> Vec<TakenSnapshot> {
        self.fake.world().snapshots.get(&vm).cloned().unwrap_or_default()
    }
}

async fn open(store: &Store, clock: &Arc<TestClock>, fake: &Arc<Fake>) -> Scheduler {
    let (clock, fake) = (Arc::clone(clock) as Arc<dyn WallClock>, Arc::clone(fake) as Arc<dyn Snapshots>);
    Scheduler::open(store.clone(), EventBus::new(), clock, fake).await.unwrap()
}

/// A schedule of one machine.
pub(super) fn schedule(name: &str, vm: VmId, cron: &str) -> ScheduleCreateRequest {
    ScheduleCreateRequest {
        name: name.to_owned(),
        target: ScheduleTarget::Vm { id: vm },
        when: Recurrence::Cron { expression: cron.to_owned() },
        time_zone: None,
        retention: Retention::default(),
        options: ScheduleOptions::default(),
        name_template: None,
        backup: None,
        enabled: None,
    }
}
