//! The owner, and in part QEMU with it, is killed at random moments while it works on snapshots of a real machine.
//!
//! After each kill the next owner must have the machine, every snapshot whole, and the present as it was or as the snapshot that
//! was being restored: old or new, never neither. In the end, with all snapshots removed, nothing but the disk may be left.
//! `VOIDVM_CRASH_ROUNDS` (12) says how often; a failure names the seed, which `VOIDVM_CRASH_SEED` takes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use voidvm_model::snapshot::{Snapshot, SnapshotTree};
use voidvm_model::{Operation, OperationStatus, SnapshotId, VmId, VmState};
use voidvm_testkit::{Client, Home};
use voidvm_tests::copy_request;

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// What a round does, with the most milliseconds it usually takes.
const WORK: [(&str, u64); 5] =
    [("keep", 400), ("keep without memory", 150), ("restore", 900), ("remove", 200), ("keep at rest", 60)];

/// A mark on the disk says which state of it this is.
fn mark(disk: &Path, mark: u8) {
    let line = format!("write -P {mark} 4M 64k");
    let written = Command::new("qemu-io").args(["-f", "qcow2", "-c", &line]).arg(disk).output().unwrap();
    assert!(written.status.success(), "{written:?}");
}

fn shows(image: &Path, mark: u8) -> bool {
    let line = format!("read -P {mark} 4M 64k");
    let read =
        Command::new("qemu-io").args(["-r", "-U", "-f", "qcow2", "-c", &line]).arg(image).output().unwrap();
    assert!(read.status.success() || read.stderr.is_empty(), "{}: {read:?}", image.display());
    !String::from_utf8_lossy(&read.stdout).contains("failed")
}

fn is_sound(image: &Path) -> bool {
    Command::new("qemu-img").args(["check", "-q", "-U"]).arg(image).status().unwrap().success()
}

fn tree(client: &Client, vm: VmId) -> Vec<Snapshot> {
    let tree: SnapshotTree =
        serde_json::from_value(client.call("snapshot.list", &json!({"id": vm})).unwrap()).unwrap();
    tree.snapshots
}

fn done(client: &Client, command: &str, payload: &Value) -> Operation {
    let operation = client.operate(command, payload).unwrap_or_else(|error| panic!("{command}: {error:?}"));
    assert_eq!(operation.status, OperationStatus::Succeeded, "{command}: {operation:?}");
    operation
}

fn rest(client: &Client, vm: VmId) {
    if client.vm(vm).state.is_live() || client.vm(vm).state == VmState::Suspended {
        done(client, "vm.stop", &json!({"id": vm, "force": true}));
    }
}

/// Waits until nobody works on the machine's files any more: layers nobody names are merged when it rests.
fn settle(client: &Client, vm: VmId) {
    voidvm_testkit::wait_until(Duration::from_secs(60), "every layer is merged", || {
        let now: SnapshotTree =
            serde_json::from_value(client.call("snapshot.list", &json!({"id": vm})).unwrap()).unwrap();
        let log = client.call("operation.list", &json!({"vmId": vm, "limit": 20})).unwrap();
        let log: Vec<Operation> = serde_json::from_value(log).unwrap();
        (now.unmerged.0 == 0 && log.iter().all(|one| one.status.is_final())).then_some(())
    });
}

fn run(client: &Client, vm: VmId) {
    if client.vm(vm).state != VmState::Running {
        done(client, "vm.start", &json!({"id": vm}));
    }
}

/// The mark on the layer of a snapshot: its files are known by the store alone, so a fork is asked.
fn check(client: &Client, vm: VmId, snapshot: &Snapshot, marked: u8, number: u64, context: &str) {
    let name = format!("look{number}-{}", snapshot.id.to_string().split_at(30).1);
    let request = json!({"id": vm, "snapshot": snapshot.id, "name": name});
    done(client, "snapshot.fork", &request);
    let fork = client.vms().into_iter().find(|one| one.name == name).unwrap();
    assert!(shows(&fork.spec.disks[0].file, marked), "{context}: {} does not show {marked}", snapshot.name);
    done(client, "vm.delete", &json!({"id": fork.id, "confirm": true}));
}

#[test]
fn real_machines_snapshots_survive_kills_at_any_moment() {
    if !Path::new("/usr/bin/qemu-system-x86_64").exists() {
        return;
    }
    let rounds = number("VOIDVM_CRASH_ROUNDS").unwrap_or(12);
    let seed = number("VOIDVM_CRASH_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("seed {seed}");
    let mut random = Random(seed);
    let home = Home::new();
    let content = voidvm_tests::make_disk(home.path(), 16);
    let mut serve = home.serve();
    let pool: Vec<Value> =
        serde_json::from_value(serve.client.call("pool.list", &json!({})).unwrap()).unwrap();
    serve.client.call("pool.update", &json!({"id": pool[0]["id"], "floor": 0})).unwrap();
    done(&serve.client, "vm.create", &copy_request("kept", &content));
    let vm = serve.client.vms().remove(0);
    let (id, disk): (VmId, PathBuf) = (vm.id, vm.spec.disks[0].file.clone());
    let mut marks: BTreeMap<SnapshotId, u8> = BTreeMap::new();
    let mut present = 1;
    mark(&disk, present);
    let mut cut = 0;
    for round in 0..rounds {
        let (work, longest) = WORK[usize::try_from(round).unwrap() % WORK.len()];
        let context = format!("seed {seed}, round {round}, {work}");
        let client = &serve.client;
        // A state of its own for each round.
        rest(client, id);
        settle(client, id);
        present = u8::try_from(2 + round % 250).unwrap();
        mark(&disk, present);
        if tree(client, id).is_empty() {
            let taken =
                done(client, "snapshot.create", &json!({"id": id, "name": format!("ground {round}")}));
            drop(taken);
            marks.insert(tree(client, id)[0].id, present);
        }
        if work != "keep at rest" {
            run(client, id);
        }
        let known = tree(client, id);
        let one = &known[usize::try_from(random.below(known.len() as u64)).unwrap()];
        let (command, payload) = match work {
            "keep without memory" => {
                ("snapshot.create", json!({"id": id, "name": format!("s{round}"), "diskOnly": true}))
            }
            "restore" => ("snapshot.restore", json!({"id": id, "snapshot": one.id})),
            "remove" => ("snapshot.delete", json!({"id": id, "snapshot": one.id})),
            _ => ("snapshot.create", json!({"id": id, "name": format!("s{round}")})),
        };
        let delay = Duration::from_micros(random.below(longest * 1000));
        let both = random.below(3) == 0;
        let pid = client.vm(id).run.map(|run| run.pid);
        std::thread::scope(|scope| {
            let client = &serve.client;
            let thread = scope.spawn(|| client.try_call(command, &payload));
            std::thread::sleep(delay);
            voidvm_testkit::fake::kill(serve.pid());
            if let Some(pid) = pid.filter(|_| both) {
                voidvm_testkit::fake::kill(pid);
            }
            drop(thread.join().unwrap());
        });
        drop(serve);
        serve = home.serve();
        let client = &serve.client;
        let now = client.wait_vm(id, "to be known", |vm| vm.state != VmState::Adopting);
        assert_ne!(now.state, VmState::Broken, "{context}: {now:?}");
        let newest = client.call("operation.list", &json!({"vmId": id, "limit": 20})).unwrap();
        let newest: Vec<Operation> = serde_json::from_value(newest).unwrap();
        let last = newest.iter().find(|one| one.kind.as_str().starts_with("snapshot_"));
        cut += u64::from(last.is_some_and(|one| one.status == OperationStatus::Interrupted));
        if pid.is_some() && !both && work != "restore" {
            assert_eq!(now.state, VmState::Running, "{context}: the guest goes on: {now:?}");
        }
        rest(client, id);
        settle(client, id);
        let restored = marks.get(&one.id).copied().filter(|_| work == "restore");
        let shown = [Some(present), restored].into_iter().flatten().find(|mark| shows(&disk, *mark));
        let shown = shown.unwrap_or_else(|| panic!("{context}: the disk shows neither the old nor the new"));
        assert!(is_sound(&disk), "{context}");
        for snapshot in tree(client, id) {
            assert_eq!(snapshot.trouble, None, "{context}: {}", snapshot.name);
            // One that is new shows what was the present then.
            let marked = *marks.entry(snapshot.id).or_insert(present);
            check(client, id, &snapshot, marked, round, &context);
        }
        present = shown;
    }
    eprintln!("{rounds} kills; {cut} of them in the middle of an operation");
    let client = &serve.client;
    for snapshot in tree(client, id) {
        done(client, "snapshot.delete", &json!({"id": id, "snapshot": snapshot.id}));
    }
    voidvm_testkit::wait_until(Duration::from_secs(60), "only the disk is left", || {
        let left = std::fs::read_dir(disk.parent().unwrap()).unwrap().flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        left.iter().all(|name| name == "disk0.qcow2" || name == "thumbnail.png").then_some(())
    });
    assert!(shows(&disk, present), "seed {seed}: the disk shows the present");
}
