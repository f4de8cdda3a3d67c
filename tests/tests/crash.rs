//! The owner is killed at random moments, again and again, while machines start, stop, come and go.
//!
//! After each kill the next owner must know every machine, take over every process, leave none behind, and show what was
//! cut. `VOIDVM_CRASH_ROUNDS` (20) says how often; a failure names the seed, which `VOIDVM_CRASH_SEED` takes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::json;
use voidvm_model::{Operation, OperationStatus, VmId, VmState, VmView};
use voidvm_testkit::{Client, Home, Plan};
use voidvm_tests::{copy_request, crash_plan, create_request, done, make_disk, make_iso};

/// What a machine may be after a kill.
#[derive(Clone, Debug)]
struct Expected {
    name: String,
    states: Vec<VmState>,
    /// It may be gone altogether.
    may_be_gone: bool,
    /// It was left alone while it ran: this must be the same process still.
    untouched: Option<VmView>,
}

impl Expected {
    fn new(view: &VmView, states: &[VmState]) -> Self {
        Self { name: view.name.clone(), states: states.to_vec(), may_be_gone: false, untouched: None }
    }
}

#[test]
fn machines_and_operations_survive_kills_at_any_moment() {
    let (rounds, seed, mut random) = crash_plan(20);
    // Slow enough for a kill to fall into the middle of things.
    let home = Home::with_fake(&Plan { slow_ms: 2, powerdown_ms: 15, ..Plan::default() });
    let iso = make_iso(home.path());
    let image = make_disk(home.path(), 32);

    let mut expected: BTreeMap<VmId, Expected> = BTreeMap::new();
    let mut acknowledged: Vec<Operation> = Vec::new();
    let (mut interrupted, mut adopted, mut longest) = (0, 0, Duration::ZERO);
    for round in 0..=rounds {
        let began = Instant::now();
        let serve = home.serve();
        let views = settled(&serve.client);
        let took = began.elapsed();
        if took > Duration::from_secs(1) {
            eprintln!("round {round}: settled after {took:?}: {views:#?}");
        }
        longest = longest.max(took);
        let context = format!("seed {seed}, round {round}");
        adopted += check_machines((&home, serve.pid()), &views, &expected, &context);
        interrupted += check_operations(&serve.client, &acknowledged, &views, &context);
        if round == rounds {
            break;
        }

        // From any state to: four that run, two that are stopped.
        let views = prepare(&serve.client, &iso, round);
        let (running, stopped) = views.split_at(4);
        expected = views.iter().map(|view| (view.id, Expected::new(view, &[view.state]))).collect();
        let alone = expected.get_mut(&running[0].id).unwrap();
        alone.untouched = Some(running[0].clone());
        let both = [VmState::Running, VmState::Stopped];
        for id in [running[1].id, running[2].id, stopped[0].id] {
            expected.get_mut(&id).unwrap().states = both.to_vec();
        }
        expected.get_mut(&stopped[1].id).unwrap().may_be_gone = true;
        expected.get_mut(&running[3].id).unwrap().states = vec![VmState::Running, VmState::Paused];

        let requests = [
            ("vm.stop", json!({"id": running[1].id})),
            ("vm.stop", json!({"id": running[2].id, "force": true})),
            ("vm.pause", json!({"id": running[3].id})),
            ("vm.start", json!({"id": stopped[0].id})),
            ("vm.delete", json!({"id": stopped[1].id})),
            ("vm.create", create_request(&format!("new-{round}"), &iso)),
            ("vm.create", copy_request(&format!("new-copy-{round}"), &image)),
        ];
        let delay = Duration::from_micros(random.below(90_000));
        acknowledged = std::thread::scope(|scope| {
            let client = &serve.client;
            let threads: Vec<_> = requests
                .iter()
                .map(|(command, payload)| scope.spawn(move || client.try_call(command, payload)))
                .collect();
            std::thread::sleep(delay);
            serve_kill(serve.pid());
            threads.into_iter().filter_map(|thread| thread.join().unwrap()?.ok()).collect::<Vec<_>>()
        })
        .into_iter()
        .map(|answer| serde_json::from_value(answer).unwrap())
        .collect();
        drop(serve);
    }
    eprintln!(
        "{rounds} kills: {adopted} machines adopted, {interrupted} operations interrupted, \
         at most {longest:?} from the start of the owner to its machines settled"
    );
    assert!(interrupted > 0, "no kill fell into an operation: the test shows nothing");
    assert!(adopted > 0);
}

fn serve_kill(pid: u32) {
    voidvm_testkit::fake::kill(pid);
}

/// Every machine, once none is being adopted or stopped and no operation is under way.
fn settled(client: &Client) -> Vec<VmView> {
    voidvm_testkit::wait_until(Duration::from_secs(30), "the machines to settle", || {
        let views = client.vms();
        let unsettled = |view: &VmView| {
            matches!(view.state, VmState::Adopting | VmState::Starting | VmState::Stopping)
                || view.operation.is_some()
        };
        (!views.iter().any(unsettled)).then_some(views)
    })
}

/// Compares what the owner says with what was expected, with the processes and with the files. Says how many were adopted.
fn check_machines(
    (home, owner): (&Home, u32),
    views: &[VmView],
    expected: &BTreeMap<VmId, Expected>,
    context: &str,
) -> usize {
    let by_id: BTreeMap<VmId, &VmView> = views.iter().map(|view| (view.id, view)).collect();
    for (id, wanted) in expected {
        let Some(view) = by_id.get(id) else {
            assert!(wanted.may_be_gone, "{context}: {} is lost", wanted.name);
            continue;
        };
        assert_eq!(view.name, wanted.name, "{context}");
        assert!(wanted.states.contains(&view.state), "{context}: {wanted:?} is {view:?}");
        if let Some(before) = &wanted.untouched {
            let run = |view: &VmView| view.run.as_ref().map(|run| (run.pid, run.started_at, run.accel));
            assert_eq!(run(view), run(before), "{context}: {} is another process", wanted.name);
        }
    }
    // Processes: one of each live machine, and no other.
    let live: BTreeSet<(VmId, u32)> = views
        .iter()
        .filter(|view| view.state.is_live())
        .map(|view| (view.id, view.run.as_ref().unwrap_or_else(|| panic!("{context}: {view:?}")).pid))
        .collect();
    let processes: BTreeSet<(VmId, u32)> =
        home.fake().processes().into_iter().map(|process| (process.uuid, process.pid)).collect();
    assert_eq!(live, processes, "{context}: machines that live, and processes");
    // Nor anything else the owner before has started (image tools).
    let machines: BTreeSet<u32> = processes.iter().map(|(_, pid)| *pid).collect();
    let others =
        || home.processes().into_iter().filter(|pid| *pid != owner && !machines.contains(pid)).count();
    voidvm_testkit::wait_until(Duration::from_secs(1), "what an owner ran to end with it", || {
        (others() == 0).then_some(())
    });
    // Files: a directory of each machine with its disk, and no other.
    let directories: BTreeSet<String> = std::fs::read_dir(home.data().join("vms"))
        .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    let ids: BTreeSet<String> = views.iter().map(|view| view.id.to_string()).collect();
    assert_eq!(directories, ids, "{context}: directories, and machines");
    for view in views {
        for disk in &view.spec.disks {
            assert!(disk.file.is_file(), "{context}: {} has lost {}", view.name, disk.file.display());
        }
        let unexpected = !expected.contains_key(&view.id);
        assert!(!unexpected || view.name.starts_with("new-"), "{context}: {view:?}");
        assert!(!unexpected || view.state == VmState::Stopped, "{context}: {view:?}");
    }
    views.iter().filter(|view| view.run.as_ref().is_some_and(|run| run.adopted)).count()
}

/// Every operation that was acknowledged is known and has ended; what it says agrees with the machines. Says how many were
/// interrupted.
fn check_operations(client: &Client, acknowledged: &[Operation], views: &[VmView], context: &str) -> usize {
    let mut interrupted = 0;
    for asked in acknowledged {
        let answer = client
            .call("operation.get", &json!({"id": asked.id}))
            .unwrap_or_else(|error| panic!("{context}: {asked:?} is lost: {error:?}"));
        let now: Operation = serde_json::from_value(answer).unwrap();
        let view = views.iter().find(|view| Some(view.id) == now.vm_id);
        match now.status {
            OperationStatus::Interrupted => interrupted += 1,
            OperationStatus::Succeeded => {
                let state = view.map(|view| view.state);
                let agrees = match now.kind.as_str() {
                    "start" => state == Some(VmState::Running),
                    "stop" | "force_off" | "create" => state == Some(VmState::Stopped),
                    "pause" => state == Some(VmState::Paused),
                    "delete" => state.is_none(),
                    _ => true,
                };
                assert!(agrees, "{context}: {now:?} and yet {state:?}");
            }
            other => panic!("{context}: {other:?}: {now:?}"),
        }
    }
    interrupted
}

/// Brings the machines to four that run and two that are stopped, in this order; more are deleted.
fn prepare(client: &Client, iso: &std::path::Path, round: u64) -> Vec<VmView> {
    let mut views = client.vms();
    let mut made = 0;
    while views.len() < 6 {
        made += 1;
        done(client, "vm.create", &create_request(&format!("vm-{round}-{made}"), iso));
        views = client.vms();
    }
    for view in views.split_off(6) {
        if view.state.is_live() {
            done(client, "vm.stop", &json!({"id": view.id, "force": true}));
        }
        done(client, "vm.delete", &json!({"id": view.id}));
    }
    for (index, view) in views.iter().enumerate() {
        match (index < 4, view.state) {
            (true, VmState::Paused) => drop(done(client, "vm.resume", &json!({"id": view.id}))),
            (true, state) if !state.is_live() => drop(done(client, "vm.start", &json!({"id": view.id}))),
            (false, state) if state.is_live() => {
                done(client, "vm.stop", &json!({"id": view.id, "force": true}));
            }
            _ => {}
        }
    }
    views
        .iter()
        .enumerate()
        .map(|(index, view)| {
            let wanted = if index < 4 { VmState::Running } else { VmState::Stopped };
            client.wait_vm(view.id, "its state", |view| view.state == wanted && view.operation.is_none())
        })
        .collect()
}
