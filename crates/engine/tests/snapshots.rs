//! Machine snapshots on the real QEMU, translated, with a guest that is only firmware: what its disks hold is written by the
//! test, through a second monitor while it runs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Rig, row, spec};
use voidvm_model::snapshot::{
    Consistency, RestoreTo, Snapshot, SnapshotCompareRequest, SnapshotCreateRequest, SnapshotForkRequest,
    SnapshotRef, SnapshotRestoreRequest, SnapshotUpdateRequest,
};
use voidvm_model::spec::{Disk, DiskFormat, FileOwner};
use voidvm_model::{ErrorCode, MachineSpec, OperationResult, Origin, VmId, VmState};
use voidvm_store::VmRow;
use voidvm_testkit::Plan;

/// Pieces of a disk, each holding one byte over and over.
const PIECES: usize = 8;
const PIECE: usize = 128 << 10;
type Content = [u8; PIECES];

fn qemu() -> Option<PathBuf> {
    let binary = PathBuf::from("/usr/bin/qemu-system-x86_64");
    if binary.exists() {
        return Some(binary);
    }
    eprintln!("skipped: no QEMU here");
    None
}

/// The same QEMU with a monitor for the test beside the engine's.
fn with_second_monitor(binary: &Path, dir: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let script = dir.join("qemu-with-monitor");
    let (binary, monitor) = (binary.display(), dir.join("m"));
    let text = format!(
        "#!/bin/sh\ncase \" $* \" in *\" -uuid \"*) exec {binary} \"$@\" -qmp unix:{},server=on,wait=off;; esac\nexec {binary} \"$@\"\n",
        monitor.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
}

/// A machine with two disks of its own.
struct Lab {
    rig: Rig,
    id: VmId,
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

impl Lab {
    async fn new() -> Option<Self> {
        let binary = qemu()?;
        let vm = row("lab", spec());
        let rig = Rig::with(&Plan::default(), &[], |config| {
            config.preferences.qemu_binary =
                Some(with_second_monitor(&binary, config.data_dir.parent().unwrap()));
            config.timing.mute_after = Duration::from_secs(20);
            config.timing.heartbeat = Duration::from_secs(2);
        })
        .await;
        let dir = rig.config.machine_dir(vm.id);
        std::fs::create_dir_all(&dir).unwrap();
        let disks = ["disk0", "disk1"].map(|name| {
            let file = dir.join(format!("{name}.qcow2"));
            run(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&file).arg("8M"));
            Disk::new(name.parse().unwrap(), file, DiskFormat::Qcow2, FileOwner::Machine)
        });
        let spec = MachineSpec { disks: disks.to_vec(), ..spec() };
        rig.store.vms().insert(&VmRow { spec, ..vm.clone() }).await.unwrap();
        Some(Self { rig: rig.reopen().await, id: vm.id })
    }

    fn dir(&self) -> PathBuf {
        self.rig.config.machine_dir(self.id)
    }

    fn state(&self) -> VmState {
        self.rig.state(self.id)
    }

    async fn start(&self) {
        self.rig.start(self.id).await;
    }

    async fn take(&self, request: SnapshotCreateRequest) -> Snapshot {
        let ended = self.rig.succeeded(self.rig.engine.take_snapshot(request, Origin::Cli).await).await;
        let Some(OperationResult::Snapshotted { snapshot, .. }) = ended.result else { panic!("{ended:?}") };
        self.tree().await.into_iter().find(|taken| taken.id == snapshot).unwrap()
    }

    async fn named(&self, name: &str) -> Snapshot {
        self.take(SnapshotCreateRequest { name: Some(name.to_owned()), ..wish(self.id) }).await
    }

    async fn tree(&self) -> Vec<Snapshot> {
        self.rig.engine.snapshots(self.id).await.unwrap().snapshots
    }

    async fn restore(&self, snapshot: &Snapshot, to: RestoreTo, discard_present: bool) {
        let request =
            SnapshotRestoreRequest { id: self.id, snapshot: snapshot.id.to_string(), to, discard_present };
        self.rig.succeeded(self.rig.engine.restore_snapshot(request, Origin::Cli).await).await;
    }

    async fn delete(&self, snapshot: &Snapshot) {
        let request = SnapshotRef { id: self.id, snapshot: snapshot.id.to_string() };
        self.rig.succeeded(self.rig.engine.delete_snapshot(request, Origin::Cli).await).await;
    }

    /// Writes a piece of both disks, whether the machine runs or not.
    fn write(&self, piece: usize, byte: u8) {
        for disk in ["disk0", "disk1"] {
            let line = format!("write -P {byte} {} {PIECE}", piece * PIECE);
            if self.state() == VmState::Stopped {
                io(&self.dir().join(format!("{disk}.qcow2")), &[line], &[]);
            } else {
                let device = format!("/machine/peripheral/{disk}/virtio-backend");
                self.monitor(&format!("qemu-io -d {device} \"{line}\""));
                // Nothing of it stays in memory alone.
                self.monitor(&format!("qemu-io -d {device} \"flush\""));
            }
        }
    }

    /// Says a line to QEMU through the second monitor.
    fn monitor(&self, line: &str) {
        let stream = UnixStream::connect(self.rig.dir.path().join("m")).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        lines.next().unwrap().unwrap();
        let command = serde_json::json!({
            "execute": "human-monitor-command", "arguments": {"command-line": line},
        });
        for question in [r#"{"execute":"qmp_capabilities"}"#.to_owned(), command.to_string()] {
            (&stream).write_all(format!("{question}\n").as_bytes()).unwrap();
            let answer = lines.by_ref().map(Result::unwrap).find(|line| !line.contains("\"event\"")).unwrap();
            let said = answer.to_lowercase();
            assert!(!said.contains("error") && !said.contains("failed"), "{line}: {answer}");
        }
    }

    /// Makes sure that an image of the machine shows this, and holds together.
    fn shows(image: &Path, content: &Content) {
        let lines: Vec<String> = content
            .iter()
            .enumerate()
            .map(|(piece, byte)| format!("read -P {byte} {} {PIECE}", piece * PIECE))
            .collect();
        io(image, &lines, &["-r", "-U"]);
        run(Command::new("qemu-img").args(["check", "-q", "-U"]).arg(image));
    }

    /// The names of the files in the machine's directory.
    fn files(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.dir()).unwrap().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    async fn layers(&self, snapshot: &Snapshot) -> Vec<PathBuf> {
        let rows = self.rig.store.snapshots().of(self.id).await.unwrap();
        let row = rows.into_iter().find(|row| row.id == snapshot.id).unwrap();
        row.layers.values().map(|name| self.dir().join(name)).collect()
    }
}

fn wish(id: VmId) -> SnapshotCreateRequest {
    SnapshotCreateRequest {
        id,
        name: None,
        description: String::new(),
        tags: Vec::new(),
        disk_only: false,
        freeze: false,
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("failed"), "{command:?}: {said}");
}

fn io(image: &Path, lines: &[String], options: &[&str]) {
    let mut command = Command::new("qemu-io");
    command.args(options).args(["-f", "qcow2"]);
    for line in lines {
        command.args(["-c", line]);
    }
    run(command.arg(image));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_machine_is_kept_while_it_runs_and_brought_back() {
    let Some(lab) = Lab::new().await else { return };
    lab.write(0, 1);
    let first = lab.named("first").await;
    assert_eq!((first.memory, first.consistency, first.current), (false, Consistency::Whole, true));
    lab.start().await;
    lab.write(0, 2);
    let pid = lab.rig.engine.get(lab.id).unwrap().run.unwrap().pid;
    let second = lab.named("second").await;
    assert!(second.memory && second.pause_ms.is_some() && second.parent == Some(first.id), "{second:?}");
    lab.write(1, 3);
    let third = lab.take(SnapshotCreateRequest { disk_only: true, ..wish(lab.id) }).await;
    assert_eq!((third.memory, third.consistency), (false, Consistency::Crash));
    assert_eq!((lab.state(), lab.rig.engine.get(lab.id).unwrap().run.unwrap().pid), (VmState::Running, pid));
    lab.write(2, 4);

    let compared =
        SnapshotCompareRequest { id: lab.id, snapshot: "second".into(), with: Some("first".into()) };
    let difference = lab.rig.engine.compare_snapshots(compared).await.unwrap();
    assert!(difference.disks.iter().all(|disk| disk.changed.unwrap().0 >= PIECE as u64), "{difference:?}");
    assert!(difference.hardware.is_empty());
    let renamed = SnapshotUpdateRequest {
        id: lab.id,
        snapshot: "second".into(),
        name: Some("with memory".into()),
        description: Some("why".into()),
        tags: Some(vec!["a".into()]),
        keep: Some(true),
    };
    let renamed = lab.rig.engine.update_snapshot(renamed, Origin::Cli).await.unwrap();
    assert!(renamed.keep && renamed.name == "with memory" && renamed.size.0 > 0, "{renamed:?}");

    lab.restore(&second, RestoreTo::AsItWas, false).await;
    assert_eq!(lab.state(), VmState::Running);
    assert_ne!(lab.rig.engine.get(lab.id).unwrap().run.unwrap().pid, pid);
    let names: Vec<String> = lab.tree().await.into_iter().map(|snapshot| snapshot.name).collect();
    assert!(names.contains(&"before “with memory”".to_owned()), "{names:?}");
    lab.write(3, 5);
    lab.rig.force_off(lab.id).await;
    Lab::shows(&lab.dir().join("disk0.qcow2"), &[2, 0, 0, 5, 0, 0, 0, 0]);
    for (snapshot, content) in [
        (&first, [1, 0, 0, 0, 0, 0, 0, 0]),
        (&second, [2, 0, 0, 0, 0, 0, 0, 0]),
        (&third, [2, 3, 0, 0, 0, 0, 0, 0]),
    ] {
        for layer in lab.layers(snapshot).await {
            Lab::shows(&layer, &content);
        }
    }

    lab.restore(&first, RestoreTo::AsItWas, true).await;
    assert_eq!(lab.state(), VmState::Stopped);
    Lab::shows(&lab.dir().join("disk1.qcow2"), &[1, 0, 0, 0, 0, 0, 0, 0]);
    for snapshot in lab.tree().await {
        lab.delete(&snapshot).await;
    }
    assert_eq!(lab.files(), ["disk0.qcow2", "disk1.qcow2"].map(str::to_owned).into());
    Lab::shows(&lab.dir().join("disk0.qcow2"), &[1, 0, 0, 0, 0, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn forks_of_a_real_machine_share_its_disks_and_keep_them() {
    let Some(lab) = Lab::new().await else { return };
    lab.write(0, 7);
    let kept = lab.named("kept").await;
    lab.write(0, 8);
    let request = SnapshotForkRequest {
        id: lab.id,
        snapshot: "kept".into(),
        name: "fork".into(),
        count: Some(2),
        start: false,
    };
    lab.rig.succeeded(lab.rig.engine.fork_snapshot(request.clone(), Origin::Cli).await).await;
    let taken = lab.rig.engine.fork_snapshot(request, Origin::Cli).await.unwrap_err();
    assert_eq!(taken.code, ErrorCode::NameTaken);
    let forks: Vec<_> = lab.rig.engine.list().into_iter().filter(|vm| vm.name.starts_with("fork-")).collect();
    assert_eq!(forks.len(), 2);
    lab.delete(&kept).await;
    for fork in &forks {
        Lab::shows(&fork.spec.disks[0].file, &[7, 0, 0, 0, 0, 0, 0, 0]);
    }
    Lab::shows(&lab.dir().join("disk0.qcow2"), &[8, 0, 0, 0, 0, 0, 0, 0]);
    let delete = voidvm_model::contract::VmDeleteRequest::new(lab.id);
    let refused = lab.rig.engine.delete(delete, Origin::Cli).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::HasChildren);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_kept_is_refused_by_name() {
    let Some(lab) = Lab::new().await else { return };
    lab.named("taken").await;
    let named = |name: &str| SnapshotCreateRequest { name: Some(name.to_owned()), ..wish(lab.id) };
    let long = "x".repeat(101);
    for (request, code, field) in [
        (named("taken"), ErrorCode::NameTaken, "name"),
        (named(" "), ErrorCode::InvalidInput, "name"),
        (named(&long), ErrorCode::InvalidInput, "name"),
        (SnapshotCreateRequest { freeze: true, ..wish(lab.id) }, ErrorCode::InvalidInput, "freeze"),
        (
            SnapshotCreateRequest { tags: vec!["a,b".into()], ..wish(lab.id) },
            ErrorCode::InvalidInput,
            "tags[0]",
        ),
    ] {
        let refused = lab.rig.engine.take_snapshot(request, Origin::Cli).await.unwrap_err();
        assert_eq!((refused.code, refused.field.as_deref()), (code, Some(field)), "{refused:?}");
    }
    let unknown = SnapshotRef { id: lab.id, snapshot: "nothing".into() };
    let unknown = lab.rig.engine.delete_snapshot(unknown, Origin::Cli).await.unwrap_err();
    assert_eq!((unknown.code, unknown.field.as_deref()), (ErrorCode::NotFound, Some("snapshot")));

    // A guest without an agent cannot freeze, and goes on.
    lab.start().await;
    let frozen = SnapshotCreateRequest { disk_only: true, freeze: true, ..wish(lab.id) };
    let (code, _) = lab.rig.failed(lab.rig.engine.take_snapshot(frozen, Origin::Cli).await).await;
    assert_eq!((code, lab.state(), lab.tree().await.len()), (ErrorCode::Unsupported, VmState::Running, 1));
    lab.rig.force_off(lab.id).await;
    assert_eq!(lab.files().iter().filter(|name| name.starts_with("base-")).count(), 2);

    // A file that is gone is named.
    let kept = lab.tree().await.remove(0);
    std::fs::remove_file(&lab.layers(&kept).await[0]).unwrap();
    assert_eq!(lab.tree().await[0].trouble.as_ref().unwrap().code, ErrorCode::ImageMissing);
    let request = SnapshotRestoreRequest {
        id: lab.id,
        snapshot: "taken".into(),
        to: RestoreTo::Stopped,
        discard_present: true,
    };
    let refused = lab.rig.engine.restore_snapshot(request, Origin::Cli).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::ImageMissing);
}

/// A small generator: the same steps for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }
}

/// Random trees against a model that holds what every disk should show.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_machines_random_tree_holds_what_it_should() {
    let Some(lab) = Lab::new().await else { return };
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
    };
    let (seed, steps) = (number("VOIDVM_SEED", 7), number("VOIDVM_STEPS", 40));
    let mut dice = Dice(seed.max(1));
    let mut present: Content = [0; PIECES];
    let mut kept: BTreeMap<String, (Snapshot, Content)> = BTreeMap::new();
    let mut log = Vec::new();
    for step in 0..steps {
        let pick = |dice: &mut Dice, kept: &BTreeMap<String, (Snapshot, Content)>| {
            (!kept.is_empty()).then(|| kept.keys().nth(dice.roll(kept.len())).unwrap().clone())
        };
        match dice.roll(10) {
            0..=3 => {
                let (piece, byte) = (dice.roll(PIECES), u8::try_from(1 + dice.roll(250)).unwrap());
                log.push(format!("write {piece} {byte}"));
                lab.write(piece, byte);
                present[piece] = byte;
            }
            4..=5 => {
                let request = SnapshotCreateRequest {
                    name: Some(format!("s{step}")),
                    disk_only: dice.roll(2) == 0,
                    ..wish(lab.id)
                };
                log.push(format!("take s{step}, disk only {}", request.disk_only));
                let taken = lab.take(request).await;
                kept.insert(taken.name.clone(), (taken, present));
            }
            6 => {
                let Some(name) = pick(&mut dice, &kept) else { continue };
                let (snapshot, content) = kept[&name].clone();
                let discard = dice.roll(2) == 0;
                let to = [RestoreTo::AsItWas, RestoreTo::Running, RestoreTo::Stopped][dice.roll(3)];
                log.push(format!("restore {name}, to {to:?}, discard {discard}"));
                lab.restore(&snapshot, to, discard).await;
                if !discard {
                    let tree = lab.tree().await;
                    let safety =
                        tree.into_iter().find(|other| !kept.values().any(|(known, _)| known.id == other.id));
                    let safety = safety.unwrap();
                    kept.insert(safety.name.clone(), (safety, present));
                }
                present = content;
            }
            7..=8 => {
                let Some(name) = pick(&mut dice, &kept) else { continue };
                log.push(format!("delete {name}"));
                let (snapshot, _) = kept.remove(&name).unwrap();
                lab.delete(&snapshot).await;
            }
            _ => {
                log.push("start or stop".to_owned());
                if lab.state() == VmState::Stopped {
                    lab.start().await;
                } else {
                    lab.rig.force_off(lab.id).await;
                }
            }
        }
        let last = log.last().unwrap().clone();
        let at = format!("seed {seed}, step {step}, {last}, {}, before it {log:?}", lab.state());
        let tree: BTreeSet<String> = lab.tree().await.into_iter().map(|snapshot| snapshot.name).collect();
        assert_eq!(tree, kept.keys().cloned().collect(), "{at}");
        eprintln!("{at}");
        for disk in ["disk0.qcow2", "disk1.qcow2"] {
            Lab::shows(&lab.dir().join(disk), &present);
        }
        for (snapshot, content) in kept.values() {
            for layer in lab.layers(snapshot).await {
                Lab::shows(&layer, content);
            }
        }
    }
    if lab.state() != VmState::Stopped {
        lab.rig.force_off(lab.id).await;
    }
    for snapshot in lab.tree().await {
        lab.delete(&snapshot).await;
    }
    voidvm_testkit::wait_until_async(common::SOON, "the merge of every layer", async || {
        let files = lab.files();
        (files == ["disk0.qcow2", "disk1.qcow2", "thumbnail.png"].map(str::to_owned).into()
            || files == ["disk0.qcow2", "disk1.qcow2"].map(str::to_owned).into())
        .then_some(())
    })
    .await;
    for disk in ["disk0.qcow2", "disk1.qcow2"] {
        Lab::shows(&lab.dir().join(disk), &present);
    }
}
