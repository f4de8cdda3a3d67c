//! The owner, and in part QEMU with it, is killed at random moments while a real machine is backed up.
//!
//! After each kill the next owner must have no snapshot of a backup and no layer but those the next backup stands on; the backups that
//! were made before are whole, by `restic`'s word too; and the next one, which may stand on one of them, is what the disk shows.
//! `VOIDVM_CRASH_ROUNDS` (8) says how often; a failure names the seed, which `VOIDVM_CRASH_SEED` takes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use voidvm_model::snapshot::SnapshotTree;
use voidvm_model::{Operation, OperationResult, OperationStatus, VmId, VmState};
use voidvm_testkit::{Client, Home, wait_until};
use voidvm_tests::{copy_request, crash_plan};

const PATIENCE: Duration = Duration::from_secs(120);

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn done(client: &Client, command: &str, payload: &Value) -> Operation {
    let operation = client.operate(command, payload).unwrap_or_else(|error| panic!("{command}: {error:?}"));
    assert_eq!(operation.status, OperationStatus::Succeeded, "{command}: {operation:?}");
    operation
}

/// Writes to a disk at rest: every round elsewhere.
fn write(disk: &Path, round: u64) {
    let line = format!("write -P {} {}k 96k", 1 + round % 250, 200 + round % 50 * 240);
    run(Command::new("qemu-io").args(["-f", "qcow2", "-c", &line]).arg(disk));
}

/// What a guest would see of a disk.
fn content(disk: &Path, scratch: &Path) -> Vec<u8> {
    let raw = scratch.join("raw");
    run(Command::new("qemu-img").args(["convert", "-U", "-f", "qcow2", "-O", "raw"]).arg(disk).arg(&raw));
    std::fs::read(raw).unwrap()
}

fn restic(repository: &Path) -> Command {
    let mut command = Command::new("restic");
    command.args(["--no-cache", "--quiet", "--repo"]).arg(repository);
    command.arg("--password-file").arg(repository.join("password.txt"));
    command
}

fn tree(client: &Client, vm: VmId) -> SnapshotTree {
    serde_json::from_value(client.call("snapshot.list", &json!({"id": vm})).unwrap()).unwrap()
}

/// Waits until nobody works on the machine any more.
fn settle(client: &Client, vm: VmId) {
    wait_until(PATIENCE, "every layer is merged", || {
        let log = client.call("operation.list", &json!({"vmId": vm, "limit": 20})).unwrap();
        let log: Vec<Operation> = serde_json::from_value(log).unwrap();
        (tree(client, vm).unmerged.0 == 0 && log.iter().all(|one| one.status.is_final())).then_some(())
    });
}

#[test]
fn real_machines_backups_survive_kills_at_any_moment() {
    let there = |program: &str| Path::new(program).exists();
    if !there("/usr/bin/qemu-system-x86_64") || !there("/usr/bin/qemu-nbd") || !there("/usr/bin/restic") {
        return;
    }
    let (rounds, seed, mut random) = crash_plan(8);
    let (home, scratch) = (Home::new(), tempfile::tempdir().unwrap());
    let disk = voidvm_tests::make_disk(home.path(), 24);
    let mut serve = home.serve();
    let pool: Vec<Value> =
        serde_json::from_value(serve.client.call("pool.list", &json!({})).unwrap()).unwrap();
    serve.client.call("pool.update", &json!({"id": pool[0]["id"], "floor": 0})).unwrap();
    done(&serve.client, "vm.create", &copy_request("lab", &disk));
    let vm = serve.client.vms().remove(0);
    let (id, disk): (VmId, PathBuf) = (vm.id, vm.spec.disks[0].file.clone());
    let repository = home.path().join("backups");
    let request = json!({"id": id, "directory": repository});
    serve.client.call("backup.init", &json!({"directory": repository})).unwrap();
    done(&serve.client, "backup.run", &request);
    let (mut cut, mut short) = (0, 0);
    for round in 0..rounds {
        let context = format!("seed {seed}, round {round}");
        let client = &serve.client;
        if client.vm(id).state.is_live() {
            done(client, "vm.stop", &json!({"id": id, "force": true}));
        }
        settle(client, id);
        write(&disk, round);
        let runs = random.below(2) == 0;
        if runs {
            done(client, "vm.start", &json!({"id": id}));
        }
        let delay = Duration::from_micros(random.below(1_200_000));
        let both = random.below(3) == 0;
        let pid = client.vm(id).run.map(|run| run.pid);
        std::thread::scope(|scope| {
            let client = &serve.client;
            let thread = scope.spawn(|| client.try_call("backup.run", &request));
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
        assert!(tree(client, id).snapshots.is_empty(), "{context}: a snapshot of the backup stays");
        let log = client.call("operation.list", &json!({"vmId": id, "limit": 20})).unwrap();
        let log: Vec<Operation> = serde_json::from_value(log).unwrap();
        let last = log.iter().find(|one| one.kind.as_str() == "backup_run").unwrap();
        cut += u64::from(last.status == OperationStatus::Interrupted);
        settle(client, id);
        // What another program holds is not of a lock that a kill left.
        run(restic(&repository).arg("unlock"));
        run(restic(&repository).args(["check", "--read-data"]));
        let Some(OperationResult::BackedUp { backup, read: Some(read), size, .. }) =
            done(client, "backup.run", &request).result
        else {
            panic!("{context}: nothing is said of the backup")
        };
        short += u64::from(read.0 < size.0 / 2);
        let restored =
            run(restic(&repository).arg("dump").arg(backup.to_string()).arg("/lab/disks/disk0.raw"));
        assert!(
            restored == content(&disk, scratch.path()),
            "{context}: the backup is not what the disk shows"
        );
    }
    eprintln!("{rounds} kills, {cut} in the middle of a backup; {short} backups after them read little");
    // A kill between two steps may cost what was known: then all is read, which is always right.
    assert!(
        2 * short >= rounds,
        "what was known of the last backup is mostly still known: {short} of {rounds}"
    );
    let client = &serve.client;
    done(client, "backup.verify", &json!({"directory": repository, "data": true}));
    if client.vm(id).state.is_live() {
        done(client, "vm.stop", &json!({"id": id, "force": true}));
    }
}
