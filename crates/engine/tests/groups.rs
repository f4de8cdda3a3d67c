//! Groups of machines on the real QEMU, translated: snapshots of all of them at one instant.
//!
//! Most guests here are only firmware, and what their disks hold is written by the test. With `VOIDVM_FULL` three real guests send
//! each other numbered messages, and say themselves when one comes out of turn.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::shell::Shell;
use common::{Rig, forwarding, row, spec};
use voidvm_model::contract::VmDeleteRequest;
use voidvm_model::group::{
    GroupRef, GroupSnapshot, GroupSnapshotCreateRequest, GroupSnapshotForkRequest, GroupSnapshotRef,
    GroupSnapshotRestoreRequest,
};
use voidvm_model::snapshot::{RestoreTo, Snapshot, SnapshotReason, SnapshotRef};
use voidvm_model::spec::{Disk, DiskFormat, FileOwner};
use voidvm_model::vm::VmMeta;
use voidvm_model::{
    ErrorBody, ErrorCode, MachineSpec, MiB, Operation, OperationResult, OperationStatus, Origin, VmId,
    VmState,
};
use voidvm_store::VmRow;
use voidvm_testkit::{Plan, wait_until_async};

/// For what takes long on a busy computer.
const LONG: Duration = Duration::from_secs(180);

struct Lab {
    rig: Rig,
    ids: Vec<VmId>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        for vm in self.rig.engine.list() {
            if let Some(run) = vm.run {
                voidvm_testkit::fake::kill(run.pid);
            }
        }
    }
}

fn run(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn io(image: &Path, line: &str) {
    run(Command::new("qemu-io").args(["-f", "qcow2", "-c", line]).arg(image));
}

fn shows(image: &Path, byte: u8) {
    let line = format!("read -P {byte} 1M 64k");
    let read = Command::new("qemu-io").args(["-r", "-U", "-f", "qcow2", "-c", &line]).arg(image).output();
    let said = String::from_utf8_lossy(&read.unwrap().stdout).into_owned();
    assert!(said.contains("ops") && !said.contains("failed"), "{}: {said}", image.display());
    run(Command::new("qemu-img").args(["check", "-q", "-U"]).arg(image));
}

impl Lab {
    /// Machines of the group `lab`; `disk` makes the disk of each.
    async fn new(specs: &[(&str, MachineSpec)], disk: impl Fn(&Path)) -> Option<Self> {
        let binary = PathBuf::from("/usr/bin/qemu-system-x86_64");
        if !binary.exists() {
            eprintln!("skipped: no QEMU here");
            return None;
        }
        let rig = Rig::with(&Plan::default(), &[], |config| {
            config.preferences.qemu_binary = Some(binary);
            config.timing.mute_after = Duration::from_secs(30);
            config.timing.heartbeat = Duration::from_secs(2);
        })
        .await;
        let mut ids = Vec::new();
        for (name, spec) in specs {
            let vm = row(name, spec.clone());
            let dir = rig.config.machine_dir(vm.id);
            std::fs::create_dir_all(&dir).unwrap();
            let file = dir.join("disk0.qcow2");
            disk(&file);
            let disk = Disk::new("disk0".parse().unwrap(), file, DiskFormat::Qcow2, FileOwner::Machine);
            let spec = MachineSpec { disks: vec![disk], ..spec.clone() };
            let meta = VmMeta { group: Some("lab".to_owned()), ..VmMeta::default() };
            rig.store.vms().insert(&VmRow { spec, meta, ..vm.clone() }).await.unwrap();
            ids.push(vm.id);
        }
        Some(Self { rig: rig.reopen().await, ids })
    }

    async fn small() -> Option<Self> {
        let specs = [("a", spec()), ("b", spec()), ("c", spec())];
        Self::new(&specs, |file| {
            run(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(file).arg("8M"));
        })
        .await
    }

    fn disk(&self, at: usize) -> PathBuf {
        self.rig.config.machine_dir(self.ids[at]).join("disk0.qcow2")
    }

    fn states(&self) -> Vec<VmState> {
        self.ids.iter().map(|id| self.rig.state(*id)).collect()
    }

    async fn end(&self, operation: Result<Operation, ErrorBody>) -> Operation {
        let ended = self.rig.engine.operation_wait(operation.unwrap().id, LONG).await.unwrap();
        assert!(ended.status.is_final(), "{ended:?}");
        ended
    }

    async fn done(&self, operation: Result<Operation, ErrorBody>) -> Operation {
        let ended = self.end(operation).await;
        assert_eq!(ended.status, OperationStatus::Succeeded, "{ended:?}");
        ended
    }

    async fn take(&self, name: &str) -> GroupSnapshot {
        let ended = self.done(self.rig.engine.take_group_snapshot(wish(name), Origin::Cli).await).await;
        let Some(OperationResult::GroupSnapshotted { snapshot, .. }) = ended.result else {
            panic!("{ended:?}")
        };
        self.list().await.into_iter().find(|taken| taken.id == snapshot).unwrap()
    }

    async fn list(&self) -> Vec<GroupSnapshot> {
        self.rig.engine.group_snapshots(GroupRef { group: "lab".to_owned() }).await.unwrap()
    }

    async fn tree(&self, at: usize) -> Vec<Snapshot> {
        self.rig.engine.snapshots(self.ids[at]).await.unwrap().snapshots
    }

    async fn restore(&self, name: &str, to: RestoreTo, discard_present: bool) {
        let (group, snapshot) = ("lab".to_owned(), name.to_owned());
        let request = GroupSnapshotRestoreRequest { group, snapshot, to, discard_present };
        self.done(self.rig.engine.restore_group_snapshot(request, Origin::Cli).await).await;
    }

    async fn delete(&self, name: &str) {
        let request = GroupSnapshotRef { group: "lab".to_owned(), snapshot: name.to_owned() };
        self.done(self.rig.engine.delete_group_snapshot(request, Origin::Cli).await).await;
    }

    /// The names of the files in a machine's directory.
    fn files(&self, at: usize) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.rig.config.machine_dir(self.ids[at])).unwrap().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    /// Nothing but the disks is left once everything nobody names is merged.
    async fn only_disks_are_left(&self) {
        wait_until_async(LONG, "only the disks are left", async || {
            let left = (0..self.ids.len()).flat_map(|at| self.files(at));
            left.into_iter().all(|name| name == "disk0.qcow2" || name == "thumbnail.png").then_some(())
        })
        .await;
    }
}

fn wish(name: &str) -> GroupSnapshotCreateRequest {
    GroupSnapshotCreateRequest {
        group: "lab".to_owned(),
        name: Some(name.to_owned()),
        description: String::new(),
        disk_only: false,
        freeze: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_group_is_kept_brought_back_forked_and_forgotten_as_one() {
    let Some(lab) = Lab::small().await else { return };
    let engine = &lab.rig.engine;
    (0..3).for_each(|at| io(&lab.disk(at), "write -P 1 1M 64k"));
    lab.rig.start(lab.ids[0]).await;
    lab.rig.start(lab.ids[1]).await;
    let first = lab.take("first").await;
    assert_eq!(lab.states(), [VmState::Running, VmState::Running, VmState::Stopped]);
    let names: Vec<_> = first.members.iter().map(|one| (one.vm_name.as_str(), one.memory)).collect();
    assert_eq!(names, [("a", true), ("b", true), ("c", false)]);
    assert!(first.members.iter().all(|one| one.snapshot.is_some() && one.memory == one.pause_ms.is_some()));
    assert!(first.spread_ms.is_some() && first.trouble.is_none() && first.size.0 > 0);
    eprintln!("spread {:?} ms, pauses {:?}", first.spread_ms, first.members);
    for at in 0..3 {
        let tree = lab.tree(at).await;
        assert_eq!(tree.len(), 1);
        assert_eq!((tree[0].group_snapshot, tree[0].created_at), (Some(first.id), first.created_at));
    }
    let groups = engine.groups().await.unwrap();
    assert_eq!((groups.len(), groups[0].vms.len(), groups[0].snapshots), (1, 3, 1));
    // What is part of it is removed with it alone.
    let part = SnapshotRef { id: lab.ids[0], snapshot: "first".to_owned() };
    let refused = engine.delete_snapshot(part, Origin::Cli).await.unwrap_err();
    assert_eq!((refused.code, refused.field.as_deref()), (ErrorCode::InvalidState, Some("snapshot")));
    let taken = engine.take_group_snapshot(wish("first"), Origin::Cli).await.unwrap_err();
    assert_eq!(taken.code, ErrorCode::NameTaken);

    // All at rest, then changed, then back: two go on from memory, one is stopped.
    for at in [0, 1] {
        lab.rig.force_off(lab.ids[at]).await;
    }
    (0..3).for_each(|at| io(&lab.disk(at), "write -P 2 1M 64k"));
    lab.restore("first", RestoreTo::AsItWas, false).await;
    assert_eq!(lab.states(), [VmState::Running, VmState::Running, VmState::Stopped]);
    (0..3).for_each(|at| shows(&lab.disk(at), 1));
    let all = lab.list().await;
    assert_eq!(all.len(), 2, "the present was kept");
    let safety = all.iter().find(|one| one.reason == SnapshotReason::Safety).unwrap();
    assert_eq!(safety.members.len(), 3);
    // And forth again.
    lab.restore(&safety.id.to_string(), RestoreTo::AsItWas, true).await;
    assert_eq!(lab.states(), [VmState::Stopped; 3]);
    (0..3).for_each(|at| shows(&lab.disk(at), 2));

    let request = GroupSnapshotForkRequest {
        group: "lab".to_owned(),
        snapshot: "first".to_owned(),
        name: "twin".to_owned(),
        start: true,
    };
    lab.done(engine.fork_group_snapshot(request.clone(), Origin::Cli).await).await;
    let twins: Vec<_> =
        engine.list().into_iter().filter(|vm| vm.meta.group.as_deref() == Some("twin")).collect();
    assert_eq!(twins.iter().map(|vm| vm.name.as_str()).collect::<Vec<_>>(), ["twin-a", "twin-b", "twin-c"]);
    let state = |name: &str| twins.iter().find(|vm| vm.name == name).unwrap().id;
    assert_eq!(lab.rig.state(state("twin-a")), VmState::Running);
    assert_eq!(lab.rig.state(state("twin-c")), VmState::Running, "without memory from power on");
    let again = engine.fork_group_snapshot(request, Origin::Cli).await.unwrap_err();
    assert_eq!((again.code, again.field.as_deref()), (ErrorCode::NameTaken, Some("name")));
    for twin in &twins {
        lab.rig.force_off(twin.id).await;
        shows(&twin.spec.disks[0].file, 1);
        lab.done(engine.delete(VmDeleteRequest::new(twin.id), Origin::Cli).await).await;
    }

    let safety = safety.name.clone();
    for name in ["first", &safety] {
        lab.delete(name).await;
    }
    assert!(lab.list().await.is_empty());
    lab.only_disks_are_left().await;
    (0..3).for_each(|at| shows(&lab.disk(at), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_real_group_all_are_kept_or_none() {
    let Some(lab) = Lab::small().await else { return };
    let engine = &lab.rig.engine;
    let nobody = engine
        .take_group_snapshot(
            GroupSnapshotCreateRequest { group: "nobody".to_owned(), ..wish("x") },
            Origin::Cli,
        )
        .await
        .unwrap_err();
    assert_eq!((nobody.code, nobody.field.as_deref()), (ErrorCode::NotFound, Some("group")));
    for id in &lab.ids {
        lab.rig.start(*id).await;
    }
    // One cannot be kept: its memory is on the disk already.
    lab.done(engine.suspend(lab.ids[2], Origin::Cli).await).await;
    lab.rig.until(lab.ids[2], VmState::Suspended).await;
    let failed = lab.end(engine.take_group_snapshot(wish("half"), Origin::Cli).await).await;
    let error = failed.error.unwrap();
    assert_eq!((failed.status, error.code), (OperationStatus::Failed, ErrorCode::InvalidState));
    assert_eq!(error.details.unwrap()["vm"], "c");
    assert!(lab.list().await.is_empty());
    for at in 0..3 {
        assert!(lab.tree(at).await.is_empty());
    }
    assert_eq!(lab.states(), [VmState::Running, VmState::Running, VmState::Suspended]);

    // One ends in the middle of it.
    lab.rig.start(lab.ids[2]).await;
    let operation = engine.take_group_snapshot(wish("cut"), Origin::Cli).await.unwrap();
    let pid = engine.get(lab.ids[1]).unwrap().run.unwrap().pid;
    voidvm_testkit::fake::kill(pid);
    let ended = engine.operation_wait(operation.id, LONG).await.unwrap();
    let taken = lab.list().await;
    for at in 0..3 {
        assert_eq!(lab.tree(at).await.len(), taken.len(), "{ended:?}");
    }
    assert_eq!(taken.len(), usize::from(ended.status == OperationStatus::Succeeded), "{ended:?}");
    lab.rig.until(lab.ids[0], VmState::Running).await;
    lab.rig.until(lab.ids[1], VmState::Crashed).await;
    lab.rig.until(lab.ids[2], VmState::Running).await;
    // Those that live can be kept again, with the one that has ended.
    let later = lab.take("later").await;
    assert_eq!(later.members.iter().filter(|one| one.memory).count(), 2);

    // A machine that is gone makes it less than whole.
    lab.rig.force_off(lab.ids[0]).await;
    lab.done(engine.delete(VmDeleteRequest::new(lab.ids[0]), Origin::Cli).await).await;
    let later = lab.list().await.into_iter().find(|one| one.name == "later").unwrap();
    assert_eq!(later.trouble.unwrap().code, ErrorCode::ImageMissing);
    assert_eq!(later.members.iter().find(|one| one.vm_name == "a").unwrap().snapshot, None);
    let request = GroupSnapshotRestoreRequest {
        group: "lab".to_owned(),
        snapshot: "later".to_owned(),
        to: RestoreTo::AsItWas,
        discard_present: true,
    };
    let refused = engine.restore_group_snapshot(request, Origin::Cli).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::ImageMissing);
    for one in lab.list().await {
        lab.delete(&one.name).await;
    }
    assert!(engine.groups().await.unwrap().iter().all(|group| group.snapshots == 0));
}

/// What a guest does with a message: it says when one comes out of turn. One that was not answered is sent again.
const RECEIVE: &str = r#"#!/bin/sh
eval "$(echo "$QUERY_STRING" | tr '&' ';')"
last=$(cat /run/got-$from 2>/dev/null || echo 0)
[ $n = $last ] || [ $n = $((last+1)) ] || echo "$from sent $n after $last" >> /run/odd
echo $n > /run/got-$from
printf 'Content-Type: text/plain\r\n\r\nreceived\n'
"#;

const SEND: &str = r#"#!/bin/sh
n=0
while :; do
  n=$((n+1))
  echo $n > /run/sent-$2
  until printf 'GET /cgi-bin/receive?from=%s&n=%d HTTP/1.0\r\n\r\n' $1 $n | timeout 4 nc 10.0.2.2 $3 | grep -q received
  do usleep 50000; done
done
"#;

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Three guests that count what they send each other.
struct Talk {
    lab: Lab,
    shells: Vec<Shell>,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl Talk {
    async fn new() -> Option<Self> {
        if std::env::var_os("VOIDVM_FULL").is_none() {
            eprintln!("skipped: real guests take their time; tests/full/55-groups.sh runs this");
            return None;
        }
        let ports = NAMES.map(|_| free_port());
        let guest = voidvm_testkit::guest::guest().join("disk.qcow2");
        let specs: Vec<_> = NAMES
            .iter()
            .zip(ports)
            .map(|(name, port)| (*name, MachineSpec { memory: MiB(128), ..forwarding(port) }))
            .collect();
        let lab = Lab::new(&specs, |file| assert!(std::fs::copy(&guest, file).unwrap() > 0)).await?;
        for id in &lab.ids {
            lab.done(lab.rig.engine.start(*id, Origin::Cli).await).await;
        }
        let mut shells = Vec::new();
        for id in &lab.ids {
            shells.push(Shell::open(&lab.rig, *id).await);
        }
        for shell in &mut shells {
            for (file, text) in [("/data/www/cgi-bin/receive", RECEIVE), ("/run/send", SEND)] {
                shell.run(&format!("rm -f {file}")).await;
                for line in text.lines() {
                    shell.run(&format!("echo '{}' >> {file}", line.replace('\'', r"'\''"))).await;
                }
                shell.run(&format!("chmod 755 {file}")).await;
            }
        }
        for (from, shell) in NAMES.iter().zip(&mut shells) {
            for (to, port) in NAMES.iter().zip(ports).filter(|(to, _)| *to != from) {
                shell.run(&format!("(/run/send {from} {to} {port} >/dev/null 2>&1 &)")).await;
            }
        }
        Some(Self { lab, shells })
    }

    /// What each guest has heard from each other one, all in all.
    async fn heard(&mut self) -> Vec<u64> {
        let mut heard = Vec::new();
        for shell in &mut self.shells {
            let said = shell.run("cat /run/got-*").await;
            heard.push(said.split_whitespace().filter_map(|word| word.parse::<u64>().ok()).sum());
        }
        heard
    }

    /// Waits until every guest has heard more than so much.
    async fn goes_on(&mut self, than: &[u64]) -> Vec<u64> {
        let end = tokio::time::Instant::now() + LONG;
        loop {
            let heard = self.heard().await;
            if heard.iter().zip(than).all(|(now, then)| *now > then + 12) {
                return heard;
            }
            assert!(tokio::time::Instant::now() < end, "heard {heard:?}, wanted more than {than:?}");
        }
    }

    /// The shells of guests that go on from memory.
    async fn again(&mut self) {
        self.shells.clear();
        for id in &self.lab.ids {
            self.shells.push(Shell::again(&self.lab.rig, *id).await);
        }
    }

    async fn odd(&mut self) -> Vec<String> {
        let mut odd = Vec::new();
        for shell in &mut self.shells {
            let said = shell.run("cat /run/odd 2>/dev/null").await;
            odd.extend(said.lines().filter(|line| line.contains(" after ")).map(str::to_owned));
        }
        odd
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_guests_that_count_messages_agree_after_they_were_brought_back() {
    let Some(mut talk) = Talk::new().await else { return };
    let mut before = talk.goes_on(&[0, 0, 0]).await;
    for round in 0..3 {
        let name = format!("round {round}");
        let taken = talk.lab.take(&name).await;
        let pauses: Vec<_> = taken.members.iter().filter_map(|one| one.pause_ms).collect();
        eprintln!("{name}: spread {:.1?} ms, held for {pauses:.1?} ms", taken.spread_ms.unwrap());
        let later = talk.goes_on(&before).await;
        assert_eq!(talk.odd().await, [""; 0]);
        talk.lab.restore(&name, RestoreTo::AsItWas, true).await;
        talk.again().await;
        let back = talk.heard().await;
        before = talk.goes_on(&back.iter().map(|heard| heard + 12).collect::<Vec<_>>()).await;
        eprintln!("{name}: heard {later:?} before, {back:?} after");
        assert_eq!(talk.odd().await, [""; 0], "{name}: messages came out of turn");
    }
}
