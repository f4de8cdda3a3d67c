//! The owner, and in part QEMU with it, is killed at random moments while it works on snapshots of a real machine.
//!
//! After each kill the next owner must have the machine, every snapshot whole, and the present as it was or as the snapshot that
//! was being restored: old or new, never neither. In the end, with all snapshots removed, nothing but the disk may be left.
//! `VOIDVM_CRASH_ROUNDS` (12) says how often; a failure names the seed, which `VOIDVM_CRASH_SEED` takes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use voidvm_model::{OperationStatus, SnapshotId, VmState};
use voidvm_testkit::Home;
use voidvm_tests::crash_plan;
use voidvm_tests::snapshots::{Marked, is_sound, mark, shows};

/// What a round does, with the most milliseconds it usually takes.
const WORK: [(&str, u64); 5] =
    [("keep", 400), ("keep without memory", 150), ("restore", 900), ("remove", 200), ("keep at rest", 60)];

#[test]
fn real_machines_snapshots_survive_kills_at_any_moment() {
    if !Path::new("/usr/bin/qemu-system-x86_64").exists() {
        return;
    }
    let (rounds, seed, mut random) = crash_plan(12);
    let home = Home::new();
    let content = voidvm_tests::make_disk(home.path(), 16);
    let mut serve = home.serve();
    let machine = Marked::make(&serve.client, "kept", &content);
    let mut marks: BTreeMap<SnapshotId, u8> = BTreeMap::new();
    let mut present = 1;
    mark(&machine.disk, present);
    let mut cut = 0;
    for round in 0..rounds {
        let (work, longest) = WORK[usize::try_from(round).unwrap() % WORK.len()];
        let context = format!("seed {seed}, round {round}, {work}");
        let client = &serve.client;
        // A state of its own for each round.
        machine.rest(client);
        machine.settle(client);
        present = u8::try_from(2 + round % 250).unwrap();
        mark(&machine.disk, present);
        if machine.tree(client).is_empty() {
            machine.ask(client, "snapshot.create", json!({"name": format!("ground {round}")}));
            marks.insert(machine.tree(client)[0].id, present);
        }
        if work != "keep at rest" {
            machine.run(client);
        }
        let known = machine.tree(client);
        let one = &known[usize::try_from(random.below(known.len() as u64)).unwrap()];
        let (command, payload) = match work {
            "keep without memory" => {
                ("snapshot.create", json!({"id": machine.id, "name": format!("s{round}"), "diskOnly": true}))
            }
            "restore" => ("snapshot.restore", json!({"id": machine.id, "snapshot": one.id})),
            "remove" => ("snapshot.delete", json!({"id": machine.id, "snapshot": one.id})),
            _ => ("snapshot.create", json!({"id": machine.id, "name": format!("s{round}")})),
        };
        let delay = Duration::from_micros(random.below(longest * 1000));
        let both = random.below(3) == 0;
        let pid = client.vm(machine.id).run.map(|run| run.pid);
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
        let now = client.wait_vm(machine.id, "to be known", |vm| vm.state != VmState::Adopting);
        assert_ne!(now.state, VmState::Broken, "{context}: {now:?}");
        let log = machine.log(client);
        let last = log.iter().find(|one| one.kind.as_str().starts_with("snapshot_"));
        cut += u64::from(last.is_some_and(|one| one.status == OperationStatus::Interrupted));
        if pid.is_some() && !both && work != "restore" {
            assert_eq!(now.state, VmState::Running, "{context}: the guest goes on: {now:?}");
        }
        machine.rest(client);
        machine.settle(client);
        let restored = marks.get(&one.id).copied().filter(|_| work == "restore");
        let shown = [Some(present), restored].into_iter().flatten().find(|mark| shows(&machine.disk, *mark));
        let shown = shown.unwrap_or_else(|| panic!("{context}: the disk shows neither the old nor the new"));
        assert!(is_sound(&machine.disk), "{context}");
        for snapshot in machine.tree(client) {
            // One that is new shows what was the present then.
            let marked = *marks.entry(snapshot.id).or_insert(present);
            machine.check(client, &snapshot, marked, &context);
        }
        present = shown;
    }
    eprintln!("{rounds} kills; {cut} of them in the middle of an operation");
    machine.clear(&serve.client, &format!("seed {seed}"));
    assert!(shows(&machine.disk, present), "seed {seed}: the disk shows the present");
}
