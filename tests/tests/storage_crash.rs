//! The owner is killed at random moments while it works on disks: convert, grow, reclaim, move, copy, remove.
//!
//! After each kill the next owner must have the old file or the new one, never neither and never half of one, with the same
//! bytes for the guest, and nothing half made may be left. `VOIDVM_CRASH_ROUNDS` (24) says how often; a failure names the seed,
//! which `VOIDVM_CRASH_SEED` takes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use voidvm_model::storage::{Pool, Volume};
use voidvm_model::{Operation, OperationStatus, PoolId, VmView};
use voidvm_testkit::{Client, Home, Plan};
use voidvm_tests::{copy_request, crash_plan, done, make_disk, no_rests, tool};

/// What a guest has written; the rest of its disk is zero.
const CONTENT_MIB: u32 = 48;

/// What a round does, with the most milliseconds it usually takes.
const WORK: [(&str, u64); 6] = [
    ("volume.move", 500),
    ("volume.reclaim", 500),
    ("volume.copy", 300),
    ("convert", 300),
    ("volume.resize", 40),
    ("volume.delete", 15),
];

struct World {
    pools: Vec<Pool>,
    /// What every disk must show, whatever became of it.
    content: PathBuf,
    vm: VmView,
    size: u64,
}

impl World {
    fn other(&self, pool: PoolId) -> PoolId {
        self.pools.iter().find(|one| one.id != pool).unwrap().id
    }
}

fn volumes(client: &Client, pool: PoolId) -> Vec<Volume> {
    serde_json::from_value(client.call("volume.list", &json!({"id": pool})).unwrap()).unwrap()
}

/// The machine's disk as the pools list it.
fn disk(client: &Client, world: &World) -> Volume {
    let all = world.pools.iter().flat_map(|pool| volumes(client, pool.id));
    all.into_iter().find(|volume| volume.vm == Some(world.vm.id)).unwrap()
}

#[test]
fn disks_survive_kills_at_any_moment() {
    let (rounds, seed, mut random) = crash_plan(24);
    let home = Home::with_fake(&Plan::default());
    let content = make_disk(home.path(), CONTENT_MIB);
    // Another file system where there is one: a move is a copy then.
    let far = tempfile::Builder::new().prefix("vv-").tempdir_in("/dev/shm");
    let far_path = far.as_ref().map_or_else(|_| home.path().join("far"), |dir| dir.path().to_owned());

    let mut serve = home.serve();
    let client = &serve.client;
    client.call("pool.create", &json!({"name": "far", "path": far_path, "floor": 0})).unwrap();
    let pools: Vec<Pool> = serde_json::from_value(client.call("pool.list", &json!({})).unwrap()).unwrap();
    done(client, "vm.create", &copy_request("web", &content));
    let vm = client.vms().remove(0);
    let mut world = World { pools, content, vm, size: 512 << 20 };
    let volume = disk(client, &world);
    done(client, "volume.resize", &json!({"id": volume.pool, "path": volume.path, "size": world.size}));

    let mut cut = [0; WORK.len()];
    for round in 0..rounds {
        let which = usize::try_from(round).unwrap() % WORK.len();
        let (work, longest) = WORK[which];
        let context = format!("seed {seed}, round {round}, {work}");
        let (command, payload) = prepare(&serve.client, &mut world, work, round);
        let delay = Duration::from_micros(random.below(longest * 1000));
        let acknowledged = std::thread::scope(|scope| {
            let client = &serve.client;
            let thread = scope.spawn(|| client.try_call(command, &payload));
            std::thread::sleep(delay);
            voidvm_testkit::fake::kill(serve.pid());
            thread.join().unwrap()
        });
        drop(serve);
        serve = home.serve();
        let operation = acknowledged.map(|answer| {
            let answer = answer.unwrap_or_else(|error| panic!("{context}: {error:?}"));
            let id = serde_json::from_value::<Operation>(answer).unwrap().id;
            let now = serve.client.call("operation.get", &json!({"id": id})).unwrap();
            serde_json::from_value::<Operation>(now).unwrap()
        });
        let status = operation.map(|operation| operation.status);
        cut[which] += usize::from(status == Some(OperationStatus::Interrupted));
        check(&serve.client, &world, (&home, &far_path), (work, status, &payload), &context);
    }
    eprintln!(
        "{rounds} kills; cut in the middle: {:?}",
        WORK.map(|(work, _)| work).iter().zip(cut).collect::<Vec<_>>()
    );
    assert!(cut.iter().sum::<usize>() > 0, "no kill fell into an operation: the test shows nothing");
}

/// What a round asks for, once everything is as it needs it.
fn prepare(client: &Client, world: &mut World, work: &str, round: u64) -> (&'static str, Value) {
    let volume = disk(client, world);
    let (id, path) = (volume.pool, volume.path);
    // Copies that earlier rounds finished.
    for pool in &world.pools {
        for volume in volumes(client, pool.id).iter().filter(|volume| volume.vm.is_none()) {
            done(client, "volume.delete", &json!({"id": pool.id, "path": volume.path}));
        }
    }
    let copy = |name: &str, target: PoolId, format: &str| json!({"id": id, "path": path, "target": target, "name": name, "format": format});
    match work {
        "volume.move" => ("volume.move", json!({"id": id, "path": path, "target": world.other(id)})),
        "volume.reclaim" => {
            for byte in [9, 0] {
                let command = format!("write -P {byte} 200M 32M");
                assert_eq!(tool("qemu-io", &["-f", "qcow2", "-c", &command, &path]), Some(0));
            }
            ("volume.reclaim", json!({"id": id, "path": path}))
        }
        "volume.copy" => ("volume.copy", copy("copy.qcow2", world.other(id), "qcow2")),
        "convert" => ("volume.copy", copy("copy.raw", id, "raw")),
        "volume.resize" => {
            // A grow that was cut may have been done or not.
            world.size = volume.virtual_size.0 + (1 << 20);
            ("volume.resize", json!({"id": id, "path": path, "size": world.size}))
        }
        "volume.delete" => {
            let name = format!("doomed-{round}.qcow2");
            done(client, "volume.copy", &copy(&name, id, "qcow2"));
            let doomed = volumes(client, id).into_iter().find(|volume| volume.name == name).unwrap();
            ("volume.delete", json!({"id": id, "path": doomed.path}))
        }
        _ => panic!("{work}"),
    }
}

fn check(
    client: &Client,
    world: &World,
    (home, far): (&Home, &Path),
    (work, status, asked): (&str, Option<OperationStatus>, &Value),
    context: &str,
) {
    // The machine has its disk, once, and the disk has its content.
    let view = client.vm(world.vm.id);
    let file = view.spec.disks[0].file.to_str().unwrap();
    let all: Vec<Volume> = world.pools.iter().flat_map(|pool| volumes(client, pool.id)).collect();
    let own: Vec<&Volume> = all.iter().filter(|volume| volume.vm == Some(view.id)).collect();
    assert!(own.len() == 1 && own[0].path == file, "{context}: {file} and {own:?}");
    let content = world.content.to_str().unwrap();
    assert_eq!(
        tool("qemu-img", &["compare", "-f", "raw", "-F", "qcow2", content, file]),
        Some(0),
        "{context}"
    );
    // Leaks (3) are harmless; anything else is not.
    let sound = tool("qemu-img", &["check", "-f", "qcow2", file]);
    assert!(matches!(sound, Some(0 | 3)), "{context}: {sound:?}");
    assert!(
        own[0].virtual_size.0 <= world.size && own[0].virtual_size.0 >= world.size - (1 << 20),
        "{context}"
    );

    // Beside it at most one whole copy, and nothing that is no volume.
    let asked_path = asked["path"].as_str().unwrap();
    let others: Vec<&Volume> = all.iter().filter(|volume| volume.vm.is_none()).collect();
    match work {
        "volume.copy" | "convert" => {
            assert!(others.len() <= 1, "{context}: {others:?}");
            for copy in &others {
                let format = if work == "convert" { "raw" } else { "qcow2" };
                let same = ["compare", "-f", "qcow2", "-F", format, file, &copy.path];
                assert_eq!(tool("qemu-img", &same), Some(0), "{context}: half a copy");
            }
            assert!(status != Some(OperationStatus::Succeeded) || others.len() == 1, "{context}");
        }
        "volume.delete" => {
            let there = others.iter().any(|volume| volume.path == asked_path);
            assert!(status != Some(OperationStatus::Succeeded) || !there, "{context}");
            assert_eq!(others.len(), usize::from(there), "{context}: {others:?}");
        }
        _ => assert_eq!(others, Vec::<&Volume>::new(), "{context}"),
    }
    let moved = file != asked_path;
    match (work, status) {
        ("volume.move", Some(OperationStatus::Succeeded)) => assert!(moved, "{context}"),
        ("volume.resize", Some(OperationStatus::Succeeded)) => {
            assert_eq!(own[0].virtual_size.0, world.size, "{context}");
        }
        ("volume.move" | "volume.delete", _) => {}
        _ => assert!(!moved, "{context}"),
    }
    for dir in [home.data().as_path(), far] {
        no_rests(dir, context);
    }
}
