//! An engine in a directory of its own, on the fake QEMU, with machines made beforehand.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

pub mod lab;
pub mod shell;

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use voidvm_engine::{Engine, EngineConfig, Timing};
use voidvm_model::contract::VmStopRequest;
use voidvm_model::spec::{Accel, NetworkBackend, Nic, PortForward};
use voidvm_model::vm::VmMeta;
use voidvm_model::{
    Bytes, ErrorBody, ErrorCode, MachineSpec, MiB, Operation, OperationStatus, Origin, VmId, VmState, VmView,
};
use voidvm_store::{Store, VmRow};
use voidvm_testkit::{FakeQemu, Plan, wait_until_async};

/// Long enough for a busy machine; a test that works never waits for it.
pub const SOON: Duration = Duration::from_secs(20);

pub struct Rig {
    pub engine: Engine,
    pub store: Store,
    pub config: EngineConfig,
    pub fake: FakeQemu,
    pub dir: tempfile::TempDir,
}

pub fn spec() -> MachineSpec {
    MachineSpec { accel: Accel::Tcg, ..MachineSpec::new(1, MiB(64)) }
}

/// A machine with a port forward.
pub fn forwarding(port: u16) -> MachineSpec {
    let network = NetworkBackend::user(vec![PortForward::tcp(port, 80)]);
    let mac = "52:54:00:00:00:01".to_owned().try_into().unwrap();
    MachineSpec { nics: vec![Nic::new("nic0".parse().unwrap(), mac, network)], ..spec() }
}

pub fn row(name: &str, spec: MachineSpec) -> VmRow {
    let now = Timestamp::now();
    VmRow {
        id: VmId::new(),
        name: name.to_owned(),
        description: String::new(),
        os_type: None,
        spec,
        state: VmState::Stopped,
        state_since: now,
        attention: None,
        meta: VmMeta::default(),
        parent: None,
        passing: false,
        created_at: now,
        updated_at: now,
    }
}

/// Deadlines short enough for tests, long enough for a loaded computer.
pub fn timing() -> Timing {
    Timing {
        greeting: Duration::from_secs(15),
        adoption: Duration::from_secs(2),
        heartbeat: Duration::from_millis(150),
        mute_after: Duration::from_millis(1000),
        force_step: Duration::from_millis(700),
        unplug: Duration::from_secs(1),
        sample_watched: Duration::from_millis(100),
        sample_idle: Duration::from_millis(500),
        ..Timing::default()
    }
}

impl Rig {
    /// An engine whose store holds these machines.
    pub async fn new(plan: &Plan, rows: &[VmRow]) -> Self {
        Self::with(plan, rows, |_| ()).await
    }

    pub async fn with(plan: &Plan, rows: &[VmRow], change: impl FnOnce(&mut EngineConfig)) -> Self {
        let dir = tempfile::Builder::new().prefix("vv-").tempdir().unwrap();
        let fake = FakeQemu::install_with(&dir.path().join("bin"), plan);
        let at = |name: &str| -> PathBuf { dir.path().join(name) };
        std::fs::create_dir_all(at("data")).unwrap();
        let mut config = EngineConfig::new(at("data"), at("run"), at("state"));
        config.timing = timing();
        // What else is on the disk is no matter of most tests.
        config.floor = Bytes(0);
        config.preferences.qemu_binary = Some(fake.binary());
        config.preferences.stop_timeout = Duration::from_secs(30);
        change(&mut config);
        let store = Store::open(&config.data_dir).await.unwrap();
        for row in rows {
            store.vms().insert(row).await.unwrap();
        }
        let engine = Engine::open(config.clone(), store.clone()).await.unwrap();
        Self { engine, store, config, fake, dir }
    }

    /// The app is gone without a word, and started again. (Its tasks stop as its runtime does.)
    pub async fn reopen(self) -> Self {
        let Self { engine, store, config, fake, dir } = self;
        engine.shutdown().await;
        drop(engine);
        store.close().await;
        let store = Store::open(&config.data_dir).await.unwrap();
        let engine = Engine::open(config.clone(), store.clone()).await.unwrap();
        Self { engine, store, config, fake, dir }
    }

    pub fn state(&self, id: VmId) -> VmState {
        self.engine.get(id).unwrap().state
    }

    /// Waits for a state.
    pub async fn until(&self, id: VmId, state: VmState) -> VmView {
        self.until_within(id, state, SOON).await
    }

    /// Waits for a state, for so long.
    pub async fn until_within(&self, id: VmId, state: VmState, patience: Duration) -> VmView {
        let mut watch = self.engine.watch(id).unwrap();
        let view = tokio::time::timeout(patience, watch.wait_for(|view| view.state == state)).await;
        match view {
            Ok(view) => VmView::clone(&view.unwrap()),
            Err(_) => panic!("waited for {state}, it is {:?}", self.engine.get(id)),
        }
    }

    /// Waits for the end of an operation.
    pub async fn end(&self, operation: &Operation) -> Operation {
        let ended = self.engine.operation_wait(operation.id, SOON).await.unwrap();
        assert!(ended.status.is_final(), "{ended:?}");
        ended
    }

    pub async fn succeeded(&self, operation: Result<Operation, ErrorBody>) -> Operation {
        let ended = self.end(&operation.unwrap()).await;
        assert_eq!(ended.status, OperationStatus::Succeeded, "{ended:?}");
        ended
    }

    /// Waits for a failure; its code.
    pub async fn failed(&self, operation: Result<Operation, ErrorBody>) -> (ErrorCode, Operation) {
        let ended = self.end(&operation.unwrap()).await;
        assert_eq!(ended.status, OperationStatus::Failed, "{ended:?}");
        (ended.error.as_ref().unwrap().code, ended)
    }

    pub async fn start(&self, id: VmId) -> Operation {
        self.succeeded(self.engine.start(id, Origin::Cli).await).await
    }

    pub async fn force_off(&self, id: VmId) -> Operation {
        self.succeeded(self.engine.stop(stop(id, true), Origin::Cli).await).await
    }

    /// The fake's processes are gone.
    pub async fn no_processes(&self) {
        wait_until_async(SOON, "the end of every process", async || {
            self.fake.processes().is_empty().then_some(())
        })
        .await;
    }
}

pub const fn stop(id: VmId, force: bool) -> VmStopRequest {
    VmStopRequest { id, force, timeout_seconds: None }
}
