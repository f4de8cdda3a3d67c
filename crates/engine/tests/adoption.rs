//! Machines outlive the engine, and the next one takes them over.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod common;

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Rig, row, spec, timing};
use voidvm_engine::{Engine, EngineConfig};
use voidvm_model::contract::OperationListRequest;
use voidvm_model::{Bytes, ErrorCode, OperationKind, OperationStatus, Origin, VmId, VmState};
use voidvm_qemu::process::{RunDir, RunRecord};
use voidvm_store::{Store, VmRow};
use voidvm_testkit::{FakeQemu, Plan, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn live_machines_are_adopted_with_the_same_uptime() {
    let rows: Vec<VmRow> = (0..3).map(|n| row(&format!("vm{n}"), spec())).collect();
    let rig = Rig::new(&Plan::default(), &rows).await;
    for row in &rows {
        rig.start(row.id).await;
    }
    rig.succeeded(rig.engine.pause(rows[1].id, Origin::Cli).await).await;
    let before: Vec<_> = rows.iter().map(|row| rig.engine.get(row.id).unwrap()).collect();
    let rig = rig.reopen().await;
    let began = Instant::now();
    assert_eq!(rig.engine.list().len(), 3, "the list is complete at once");
    rig.engine.ready().await;
    assert!(began.elapsed() < Duration::from_secs(1), "took {:?}", began.elapsed());
    for before in &before {
        let now = rig.engine.get(before.id).unwrap();
        assert_eq!(now.state, before.state);
        assert_eq!(now.state_since, before.state_since);
        let (old, new) = (before.run.clone().unwrap(), now.run.unwrap());
        assert_eq!((new.pid, new.started_at, new.adopted), (old.pid, old.started_at, true));
    }
    let rows_of_log = rig.engine.operations(OperationListRequest::default()).await.unwrap();
    let adopted = rows_of_log.iter().filter(|row| row.kind == OperationKind::Adopt);
    assert_eq!(adopted.filter(|row| row.origin == Origin::System).count(), 3);
    // What was adopted obeys as before, and its orderly end is seen.
    rig.succeeded(rig.engine.resume(rows[1].id, Origin::Cli).await).await;
    for row in &rows {
        rig.succeeded(rig.engine.stop(common::stop(row.id, false), Origin::Cli).await).await;
        assert_eq!(rig.state(row.id), VmState::Stopped);
    }
    rig.no_processes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_while_nobody_looked_is_told_by_what_it_left() {
    let (crashed, stopped) = (row("crashed", spec()), row("stopped", spec()));
    let rig = Rig::new(&Plan::default(), &[crashed.clone(), stopped.clone()]).await;
    rig.start(crashed.id).await;
    rig.start(stopped.id).await;
    let Rig { engine, store, config, fake, dir } = rig;
    engine.shutdown().await;
    drop(engine);
    voidvm_testkit::fake::kill(fake.process_of(crashed.id).pid);
    // SIGTERM ends the other in order: its sockets go with it.
    let pid = fake.process_of(stopped.id).pid;
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    wait_until(common::SOON, "their end", || fake.processes().is_empty().then_some(()));
    let engine = Engine::open(config.clone(), store.clone()).await.unwrap();
    engine.ready().await;
    let view = engine.get(crashed.id).unwrap();
    assert_eq!(view.state, VmState::Crashed);
    assert!(view.attention.is_some());
    assert_eq!(engine.get(stopped.id).unwrap().state, VmState::Stopped);
    drop(dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mute_process_is_unresponsive_and_never_taken_for_stopped() {
    let vm = row("mute", spec());
    let rig = Rig::new(&Plan::default(), std::slice::from_ref(&vm)).await;
    rig.start(vm.id).await;
    rig.fake.plan(&Plan { hang_at: Some("greeting".to_owned()), ..Plan::default() });
    let rig = rig.reopen().await;
    rig.engine.ready().await;
    let view = rig.engine.get(vm.id).unwrap();
    assert_eq!(view.state, VmState::Unresponsive);
    assert!(view.run.is_some() && view.attention.is_some());
    let start = rig.engine.start(vm.id, Origin::Cli).await.unwrap_err();
    assert_eq!(start.code, ErrorCode::InvalidState, "no second process beside it");
    rig.fake.plan(&Plan::default());
    rig.until(vm.id, VmState::Running).await;
    rig.force_off(vm.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reused_pid_and_a_foreign_process_are_left_alone() {
    let vm = row("gone", spec());
    let rig = Rig::new(&Plan::default(), std::slice::from_ref(&vm)).await;
    rig.start(vm.id).await;
    let Rig { engine, store, config, fake, dir } = rig;
    engine.shutdown().await;
    drop(engine);
    voidvm_testkit::fake::kill(fake.process_of(vm.id).pid);
    wait_until(common::SOON, "its end", || fake.processes().is_empty().then_some(()));
    // The pid in the record now is this test's own: very much alive, and not to be touched.
    let path = RunDir::new(&config.runtime_dir, vm.id).record();
    let mut record = RunRecord::read(&path).unwrap().unwrap();
    record.pid = std::process::id();
    record.write(&path).unwrap();
    let engine = Engine::open(config.clone(), store.clone()).await.unwrap();
    engine.ready().await;
    assert_eq!(engine.get(vm.id).unwrap().state, VmState::Crashed);
    drop(dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_qemu_on_our_socket_is_not_adopted() {
    let (vm, other) = (row("ours", spec()), VmId::new());
    let rig = Rig::new(&Plan::default(), std::slice::from_ref(&vm)).await;
    rig.start(vm.id).await;
    let Rig { engine, store, config, fake, dir } = rig;
    engine.shutdown().await;
    drop(engine);
    voidvm_testkit::fake::kill(fake.process_of(vm.id).pid);
    wait_until(common::SOON, "its end", || fake.processes().is_empty().then_some(()));
    // Somebody else's QEMU takes the socket's place, with another machine in it.
    let socket = RunDir::new(&config.runtime_dir, vm.id).qmp();
    std::fs::remove_file(&socket).ok();
    let mut foreign = Command::new(fake.binary())
        .args(["-uuid", &other.to_string(), "-S", "-chardev"])
        .arg(format!("socket,id=m,path={},server=on,wait=off", socket.display()))
        .args(["-mon", "chardev=m,mode=control"])
        .spawn()
        .unwrap();
    wait_until(common::SOON, "its socket", || socket.exists().then_some(()));
    let engine = Engine::open(config.clone(), store.clone()).await.unwrap();
    engine.ready().await;
    assert_eq!(engine.get(vm.id).unwrap().state, VmState::Crashed);
    assert!(foreign.try_wait().unwrap().is_none(), "it lives on");
    foreign.kill().unwrap();
    foreign.wait().unwrap();
    drop(dir);
}

/// The engine in a process of its own, to be killed: started again from this very program.
#[tokio::test(flavor = "multi_thread")]
async fn owner_process() {
    let Ok(dir) = std::env::var("VOIDVM_TEST_OWNER") else { return };
    let dir = std::path::PathBuf::from(dir);
    let _lock = lock(&dir);
    let (engine, _) = open(&dir).await;
    engine.ready().await;
    for vm in engine.list() {
        let engine = engine.clone();
        tokio::spawn(async move {
            loop {
                let step = if vm.name.ends_with('0') {
                    engine.start(vm.id, Origin::Cli).await
                } else {
                    let _ = engine.start(vm.id, Origin::Cli).await;
                    engine.stop(common::stop(vm.id, false), Origin::Cli).await
                };
                if let Ok(operation) = step {
                    let _ = engine.operation_wait(operation.id, common::SOON).await;
                }
                tokio::task::yield_now().await;
            }
        });
    }
    std::fs::write(dir.join("up"), "").unwrap();
    std::future::pending::<()>().await;
}

async fn open(dir: &Path) -> (Engine, Store) {
    let mut config = EngineConfig::new(dir.join("data"), dir.join("run"), dir.join("state"));
    config.timing = timing();
    config.floor = Bytes(0);
    config.preferences.qemu_binary = Some(dir.join("bin/qemu-system-x86_64"));
    let store = Store::open(&config.data_dir).await.unwrap();
    (Engine::open(config, store.clone()).await.unwrap(), store)
}

/// Waits until nobody else has the directory. A process that an owner was starting when it was killed has the lock until it is
/// the program it was to be: before that nobody could find it.
fn lock(dir: &Path) -> File {
    let file = File::create(dir.join("lock")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    file
}

/// An owner in a process of its own; killed when dropped.
struct Owner(Child);

impl Owner {
    fn start(dir: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "owner_process", "--nocapture"]).env("VOIDVM_TEST_OWNER", dir);
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_nothing_is_lost_orphaned_or_wrong() {
    let dir = tempfile::Builder::new().prefix("vv-").tempdir().unwrap();
    let fake = FakeQemu::install(&dir.path().join("bin"));
    std::fs::create_dir_all(dir.path().join("data")).unwrap();
    let rows: Vec<VmRow> = (0..4).map(|n| row(&format!("vm{n}"), spec())).collect();
    {
        let store = Store::open(&dir.path().join("data")).await.unwrap();
        for row in &rows {
            store.vms().insert(row).await.unwrap();
        }
        store.close().await;
    }
    for round in 0..8_u64 {
        let owner = Owner::start(dir.path());
        wait_until(common::SOON, "the owner", || dir.path().join("up").exists().then_some(()));
        // A different moment each round: after this many processes have been seen.
        let mut seen = std::collections::BTreeSet::new();
        wait_until(common::SOON, "work in progress", || {
            seen.extend(fake.processes().iter().map(|process| process.pid));
            (seen.len() as u64 > round).then_some(())
        });
        drop(owner);
        std::fs::remove_file(dir.path().join("up")).unwrap();

        let lock = lock(dir.path());
        let (engine, store) = open(dir.path()).await;
        engine.ready().await;
        let views = engine.list();
        assert_eq!(views.len(), rows.len(), "no machine is lost");
        let processes = fake.processes();
        for view in &views {
            let own: Vec<_> = processes.iter().filter(|process| process.uuid == view.id).collect();
            // Between the two looks a guest may have ended: then the state follows.
            if own.len() != usize::from(view.state.is_live()) {
                let now = wait_until(common::SOON, "state and process to agree", || {
                    let now = engine.get(view.id).unwrap();
                    let count = fake.processes().iter().filter(|process| process.uuid == view.id).count();
                    (count == usize::from(now.state.is_live())).then_some(now)
                });
                assert_ne!(now.state, VmState::Unresponsive, "round {round}: {now:?}");
            }
            assert!(own.len() < 2, "round {round}: two processes of one machine");
        }
        let log = engine.operations(OperationListRequest::default()).await.unwrap();
        assert!(
            log.iter().all(|operation| operation.status.is_final()),
            "what was cut is interrupted: {log:?}"
        );
        assert!(log.iter().any(|operation| operation.status == OperationStatus::Interrupted));
        engine.shutdown().await;
        store.close().await;
        drop(lock);
    }
}
