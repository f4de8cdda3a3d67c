//! The owner, and in part a QEMU with it, is killed at random moments while it works on snapshots of a group of real machines.
//!
//! After each kill the next owner must have every snapshot of the group whole or not at all, all machines at their present or all
//! at the snapshot that was being restored, and all machines of a new group or none. In the end nothing but the disks may be left.
//! `VOIDVM_CRASH_ROUNDS` (8) says how often; a failure names the seed, which `VOIDVM_CRASH_SEED` takes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use voidvm_model::group::GroupSnapshot;
use voidvm_model::snapshot::SnapshotTree;
use voidvm_model::{GroupSnapshotId, Operation, OperationStatus, VmId, VmState, VmView};
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
    [("keep", 800), ("keep without memory", 300), ("restore", 2000), ("fork", 500), ("remove", 400)];
const GROUP: &str = "lab";

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

fn ask<T: serde::de::DeserializeOwned>(client: &Client, command: &str, payload: &Value) -> T {
    serde_json::from_value(client.call(command, payload).unwrap()).unwrap()
}

fn done(client: &Client, command: &str, payload: &Value) -> Operation {
    let operation = client.operate(command, payload).unwrap_or_else(|error| panic!("{command}: {error:?}"));
    assert_eq!(operation.status, OperationStatus::Succeeded, "{command}: {operation:?}");
    operation
}

fn snapshots(client: &Client) -> Vec<GroupSnapshot> {
    ask(client, "group.snapshot.list", &json!({"group": GROUP}))
}

fn in_group(client: &Client, group: &str) -> Vec<VmView> {
    client.vms().into_iter().filter(|vm| vm.meta.group.as_deref() == Some(group)).collect()
}

fn rest(client: &Client, vm: VmId) {
    if client.vm(vm).state.is_live() || client.vm(vm).state == VmState::Suspended {
        done(client, "vm.stop", &json!({"id": vm, "force": true}));
    }
}

/// Waits until nobody works on the machine's files any more: layers nobody names are merged when it rests.
fn settle(client: &Client, vm: VmId) {
    voidvm_testkit::wait_until(Duration::from_secs(60), "every layer is merged", || {
        let now: SnapshotTree = ask(client, "snapshot.list", &json!({"id": vm}));
        let log: Vec<Operation> = ask(client, "operation.list", &json!({"limit": 20}));
        (now.unmerged.0 == 0 && log.iter().all(|one| one.status.is_final())).then_some(())
    });
}

/// Looks at what each machine was in a snapshot of the group: its files are known by the store alone, so a fork is asked.
fn check(client: &Client, one: &GroupSnapshot, marked: u8, round: u64, context: &str) {
    assert_eq!(one.trouble, None, "{context}: {}", one.name);
    assert!(one.members.len() == 3 && one.members.iter().all(|part| part.snapshot.is_some()), "{context}");
    let name = format!("look{round}-{}", one.id.to_string().split_at(30).1);
    let request = json!({"group": GROUP, "snapshot": one.id, "name": name});
    done(client, "group.snapshot.fork", &request);
    let forks = in_group(client, &name);
    assert_eq!(forks.len(), 3, "{context}");
    for fork in forks {
        assert!(shows(&fork.spec.disks[0].file, marked), "{context}: {} does not show {marked}", one.name);
        done(client, "vm.delete", &json!({"id": fork.id, "confirm": true}));
    }
}

#[test]
fn real_groups_are_whole_or_not_at_all_after_kills_at_any_moment() {
    if !Path::new("/usr/bin/qemu-system-x86_64").exists() {
        return;
    }
    let rounds = number("VOIDVM_CRASH_ROUNDS").unwrap_or(8);
    let seed = number("VOIDVM_CRASH_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("seed {seed}");
    let mut random = Random(seed);
    let home = Home::new();
    let content = voidvm_tests::make_disk(home.path(), 16);
    let mut serve = home.serve();
    let pool: Vec<Value> = ask(&serve.client, "pool.list", &json!({}));
    serve.client.call("pool.update", &json!({"id": pool[0]["id"], "floor": 0})).unwrap();
    for name in ["a", "b", "c"] {
        done(&serve.client, "vm.create", &copy_request(name, &content));
        let vm = serve.client.vms().into_iter().find(|vm| vm.name == name).unwrap();
        serve.client.call("vm.update", &json!({"id": vm.id, "meta": {"group": GROUP}})).unwrap();
    }
    let vms = in_group(&serve.client, GROUP);
    let disks: Vec<PathBuf> = vms.iter().map(|vm| vm.spec.disks[0].file.clone()).collect();
    let mut marks: BTreeMap<GroupSnapshotId, u8> = BTreeMap::new();
    let mut present = 1;
    disks.iter().for_each(|disk| mark(disk, present));
    let mut cut = 0;
    for round in 0..rounds {
        let (work, longest) = WORK[usize::try_from(round).unwrap() % WORK.len()];
        let context = format!("seed {seed}, round {round}, {work}");
        let client = &serve.client;
        // A state of its own for each round.
        vms.iter().for_each(|vm| rest(client, vm.id));
        vms.iter().for_each(|vm| settle(client, vm.id));
        present = u8::try_from(2 + round % 250).unwrap();
        disks.iter().for_each(|disk| mark(disk, present));
        if snapshots(client).is_empty() {
            done(
                client,
                "group.snapshot.create",
                &json!({"group": GROUP, "name": format!("ground {round}")}),
            );
            marks.insert(snapshots(client)[0].id, present);
        }
        // Two run, one rests.
        for vm in vms.iter().take(2) {
            done(client, "vm.start", &json!({"id": vm.id}));
        }
        let known = snapshots(client);
        let one = &known[usize::try_from(random.below(known.len() as u64)).unwrap()];
        let fork = format!("fork{round}");
        let (command, payload) = match work {
            "keep without memory" => (
                "group.snapshot.create",
                json!({"group": GROUP, "name": format!("s{round}"), "diskOnly": true}),
            ),
            "restore" => ("group.snapshot.restore", json!({"group": GROUP, "snapshot": one.id})),
            "remove" => ("group.snapshot.delete", json!({"group": GROUP, "snapshot": one.id})),
            "fork" => ("group.snapshot.fork", json!({"group": GROUP, "snapshot": one.id, "name": fork})),
            _ => ("group.snapshot.create", json!({"group": GROUP, "name": format!("s{round}")})),
        };
        let delay = Duration::from_micros(random.below(longest * 1000));
        let both = random.below(3) == 0;
        let pid = client.vm(vms[0].id).run.map(|run| run.pid);
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
        for vm in &vms {
            let now = client.wait_vm(vm.id, "to be known", |vm| vm.state != VmState::Adopting);
            assert_ne!(now.state, VmState::Broken, "{context}: {now:?}");
        }
        let newest: Vec<Operation> = ask(client, "operation.list", &json!({"limit": 20}));
        let last = newest.iter().find(|one| one.kind.as_str().starts_with("group_snapshot_"));
        cut += u64::from(last.is_some_and(|one| one.status == OperationStatus::Interrupted));
        if work == "keep" && !both {
            for vm in vms.iter().take(2) {
                assert_eq!(client.vm(vm.id).state, VmState::Running, "{context}: the guest goes on");
            }
        }
        vms.iter().for_each(|vm| rest(client, vm.id));
        vms.iter().for_each(|vm| settle(client, vm.id));
        let restored = marks.get(&one.id).copied().filter(|_| work == "restore");
        let all_show = |mark: &u8| disks.iter().all(|disk| shows(disk, *mark));
        let shown = [Some(present), restored].into_iter().flatten().find(all_show);
        present = shown.unwrap_or_else(|| panic!("{context}: not all disks show the old or the new"));
        assert!(disks.iter().all(|disk| is_sound(disk)), "{context}");
        let forks = in_group(client, &fork);
        assert!(forks.is_empty() || forks.len() == 3, "{context}: {forks:?}");
        for fork in forks {
            assert!(shows(&fork.spec.disks[0].file, marks[&one.id]), "{context}");
            rest(client, fork.id);
            done(client, "vm.delete", &json!({"id": fork.id, "confirm": true}));
        }
        let now = snapshots(client);
        for vm in &vms {
            let tree: SnapshotTree = ask(client, "snapshot.list", &json!({"id": vm.id}));
            assert_eq!(
                tree.snapshots.len(),
                now.len(),
                "{context}: parts of {} without the others'",
                vm.name
            );
        }
        let was = if work == "restore" { u8::try_from(2 + round % 250).unwrap() } else { present };
        for snapshot in now {
            // One that is new shows what was the present then.
            let marked = *marks.entry(snapshot.id).or_insert(was);
            check(client, &snapshot, marked, round, &context);
        }
    }
    eprintln!("{rounds} kills; {cut} of them in the middle of an operation");
    let client = &serve.client;
    for snapshot in snapshots(client) {
        done(client, "group.snapshot.delete", &json!({"group": GROUP, "snapshot": snapshot.id}));
    }
    voidvm_testkit::wait_until(Duration::from_secs(60), "only the disks are left", || {
        let left = disks.iter().flat_map(|disk| std::fs::read_dir(disk.parent().unwrap()).unwrap().flatten());
        let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        left.iter().all(|name| name == "disk0.qcow2" || name == "thumbnail.png").then_some(())
    });
    assert!(disks.iter().all(|disk| shows(disk, present)), "seed {seed}: the disks show the present");
}
