//! What all parts of one engine share.

use std::sync::{Arc, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use voidvm_store::Store;

use crate::backup::Turns;
use crate::bus::EventBus;
use crate::config::{EngineConfig, Preferences};
use crate::fleet::Fleet;
use crate::gate::Gate;
use crate::history::History;
use crate::images::Images;
use crate::ledger::Ledger;
use crate::platform::Platform;
use crate::snapshot::image::Preparing;
use crate::snapshot::recover::Unfinished;
use crate::storage::Holds;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: EngineConfig,
    pub(crate) store: Store,
    pub(crate) bus: EventBus,
    pub(crate) ledger: Ledger,
    pub(crate) fleet: Fleet,
    /// Files that are being worked on.
    pub(crate) holds: Holds,
    /// What the last owner left of its work on snapshots of machines that may have a process.
    pub(crate) unfinished: Unfinished,
    /// Work on snapshots' memory that nobody waits for.
    pub(crate) preparing: Preparing,
    pub(crate) platform: Platform,
    pub(crate) starts: Gate,
    pub(crate) stops: Gate,
    pub(crate) builds: Gate,
    /// Who works on which repository.
    pub(crate) repositories: Turns,
    /// What of the image library is not in the store.
    pub(crate) images: Images,
    /// What was measured.
    pub(crate) history: History,
    /// Creations at work.
    pub(crate) builders: TaskTracker,
    /// Is cancelled when the engine ends.
    pub(crate) closing: CancellationToken,
    preferences: RwLock<Preferences>,
}

impl Shared {
    pub(crate) fn new(config: EngineConfig, store: Store) -> Arc<Self> {
        let preferences = config.preferences.clone();
        let bus = EventBus::new();
        Arc::new(Self {
            ledger: Ledger::open(store.clone(), bus.clone()),
            history: History::new(store.clone()),
            store,
            bus,
            fleet: Fleet::default(),
            holds: Holds::default(),
            unfinished: Unfinished::default(),
            preparing: Preparing::default(),
            platform: Platform::new(config.state_dir.clone()),
            starts: Gate::new(preferences.starts),
            stops: Gate::new(preferences.stops),
            builds: Gate::new(preferences.builds),
            repositories: Turns::default(),
            images: Images::new(&config.data_dir),
            builders: TaskTracker::new(),
            closing: CancellationToken::new(),
            preferences: RwLock::new(preferences),
            config,
        })
    }

    /// What the user prefers now.
    pub(crate) fn preferences(&self) -> Preferences {
        self.preferences.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Other preferences, from now on.
    pub(crate) fn prefer(&self, preferences: Preferences) {
        self.starts.resize(preferences.starts);
        self.stops.resize(preferences.stops);
        self.builds.resize(preferences.builds);
        self.preparing.look_again();
        *self.preferences.write().unwrap_or_else(PoisonError::into_inner) = preferences;
    }
}
