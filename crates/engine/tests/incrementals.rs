//! Backups that stand on the one before, on the real QEMU, translated, with a guest that is only firmware: whatever was done to the
//! disks in between, each backup is what the disks showed, read independently of it; and it reads no more than it must.
//!
//! `VOIDVM_BACKUP_STEPS` (30) says how many random steps are taken; a failure names the seed, which `VOIDVM_BACKUP_SEED` takes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Rig, row, spec};
use voidvm_backup::{Depth, Repository, SparseFile};
use voidvm_model::backup::{BackupForgetRequest, BackupId, BackupInitRequest, BackupRunRequest};
use voidvm_model::contract::OperationListRequest;
use voidvm_model::snapshot::{
    RestoreTo, Snapshot, SnapshotCreateRequest, SnapshotRef, SnapshotRestoreRequest,
};
use voidvm_model::spec::{Disk, DiskFormat, FileOwner};
use voidvm_model::{MachineSpec, OperationResult, Origin, VmId, VmState};
use voidvm_store::VmRow;
use voidvm_testkit::Plan;

/// A disk, in mebibytes; a backup reads blocks of one.
const DISK: u64 = 32;
const MIB: u64 = 1 << 20;

/// SplitMix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
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

/// QEMU with a monitor for the test beside the engine's.
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

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("failed"), "{command:?}: {said}");
}

/// A machine with a disk of its own, and two repositories.
struct Lab {
    /// There, but while it is opened again.
    rig: Option<Rig>,
    id: VmId,
    repositories: [PathBuf; 2],
    scratch: tempfile::TempDir,
}

impl Drop for Lab {
    fn drop(&mut self) {
        let machines = self.rig.iter().flat_map(|rig| rig.engine.list());
        for run in machines.filter_map(|vm| vm.run) {
            voidvm_testkit::fake::kill(run.pid);
        }
    }
}

impl Lab {
    async fn new() -> Option<Self> {
        let binary = PathBuf::from("/usr/bin/qemu-system-x86_64");
        if !binary.exists() || !Path::new("/usr/bin/qemu-nbd").exists() {
            eprintln!("skipped: no QEMU here");
            return None;
        }
        let plan = Plan::default();
        let rig = Rig::with(&plan, &[], |config| {
            let dir = config.data_dir.parent().unwrap();
            config.preferences.qemu_binary = Some(with_second_monitor(&binary, dir));
            config.timing.mute_after = Duration::from_secs(20);
            config.timing.heartbeat = Duration::from_secs(2);
        });
        let rig = rig.await;
        let vm = row("lab", spec());
        let dir = rig.config.machine_dir(vm.id);
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("disk0.qcow2");
        run(Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2"])
            .arg(&file)
            .arg(format!("{DISK}M")));
        let disk = Disk::new("disk0".parse().unwrap(), file, DiskFormat::Qcow2, FileOwner::Machine);
        let spec = MachineSpec { disks: vec![disk], ..spec() };
        rig.store.vms().insert(&VmRow { spec, ..vm.clone() }).await.unwrap();
        let repositories = ["one", "other"].map(|name| rig.dir.path().join(name));
        let scratch = tempfile::tempdir().unwrap();
        let lab = Self { rig: Some(rig.reopen().await), id: vm.id, repositories, scratch };
        for repository in &lab.repositories {
            let directory = repository.to_str().unwrap().to_owned();
            lab.rig().engine.init_backups(BackupInitRequest { directory, encrypt: false }).await.unwrap();
        }
        lab.write(&format!("write -P 1 0 {}M", DISK / 2));
        Some(lab)
    }

    fn rig(&self) -> &Rig {
        self.rig.as_ref().unwrap()
    }

    fn disk(&self) -> PathBuf {
        self.rig().config.machine_dir(self.id).join("disk0.qcow2")
    }

    fn runs(&self) -> bool {
        self.rig().state(self.id) == VmState::Running
    }

    /// Writes to the disk, whether the machine runs or not.
    fn write(&self, line: &str) {
        if !self.runs() {
            return run(Command::new("qemu-io")
                .args(["-d", "unmap", "-f", "qcow2", "-c", line])
                .arg(self.disk()));
        }
        for line in [line, "flush"] {
            let line = format!("qemu-io -d /machine/peripheral/disk0/virtio-backend \"{line}\"");
            let stream = UnixStream::connect(self.rig().dir.path().join("m")).unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            lines.next().unwrap().unwrap();
            let command = serde_json::json!({
                "execute": "human-monitor-command", "arguments": {"command-line": line},
            });
            for question in [r#"{"execute":"qmp_capabilities"}"#.to_owned(), command.to_string()] {
                (&stream).write_all(format!("{question}\n").as_bytes()).unwrap();
                let mut answers = lines.by_ref().map(Result::unwrap);
                let answer = answers.find(|line| !line.contains("\"event\"")).unwrap();
                let said = answer.to_lowercase();
                assert!(!said.contains("error") && !said.contains("failed"), "{line}: {answer}");
            }
        }
    }

    fn content(&self, image: &Path) -> Vec<u8> {
        let raw = self.scratch.path().join("raw");
        run(Command::new("qemu-img")
            .args(["convert", "-U", "-f", "qcow2", "-O", "raw"])
            .arg(image)
            .arg(&raw));
        std::fs::read(raw).unwrap()
    }

    /// Makes a backup, and makes sure that it is what the disk shows. How much was read for it.
    async fn back_up(&self, number: usize) -> (BackupId, u64) {
        let directory = self.repositories[number].to_str().unwrap().to_owned();
        let request = BackupRunRequest { id: self.id, directory, password: None };
        let ended = self.rig().succeeded(self.rig().engine.back_up(request, Origin::Cli).await).await;
        let Some(OperationResult::BackedUp { backup, read: Some(read), .. }) = ended.result else {
            panic!("{ended:?}")
        };
        let repository = Repository::open(&self.repositories[number], None).unwrap();
        let out = self.scratch.path().join("out");
        drop(std::fs::remove_file(&out));
        let sink = SparseFile::create(&out).unwrap();
        let theirs = backup.to_string().parse().unwrap();
        repository.restore(theirs, ("lab", "disk0.raw"), &sink, &()).unwrap();
        assert!(
            std::fs::read(out).unwrap() == self.content(&self.disk()),
            "the backup is not what the disk shows"
        );
        assert!(self.tree().await.iter().all(|one| one.reason.as_str() != "backup"));
        (backup, read.0)
    }

    async fn tree(&self) -> Vec<Snapshot> {
        self.rig().engine.snapshots(self.id).await.unwrap().snapshots
    }

    async fn keep(&self) -> Snapshot {
        let request = SnapshotCreateRequest {
            id: self.id,
            name: None,
            description: String::new(),
            tags: Vec::new(),
            disk_only: true,
            freeze: false,
        };
        let ended = self.rig().succeeded(self.rig().engine.take_snapshot(request, Origin::Cli).await).await;
        let Some(OperationResult::Snapshotted { snapshot, .. }) = ended.result else { panic!("{ended:?}") };
        self.tree().await.into_iter().find(|taken| taken.id == snapshot).unwrap()
    }

    async fn restore(&self, snapshot: &Snapshot) {
        let snapshot = snapshot.id.to_string();
        let request =
            SnapshotRestoreRequest { id: self.id, snapshot, to: RestoreTo::Stopped, discard_present: true };
        self.rig().succeeded(self.rig().engine.restore_snapshot(request, Origin::Cli).await).await;
    }

    async fn delete(&self, snapshot: &Snapshot) {
        let request = SnapshotRef { id: self.id, snapshot: snapshot.id.to_string() };
        self.rig().succeeded(self.rig().engine.delete_snapshot(request, Origin::Cli).await).await;
    }

    /// Waits until nobody works on the machine's files any more.
    async fn settled(&self) {
        let done = async || {
            let request = OperationListRequest { vm_id: Some(self.id), ..OperationListRequest::default() };
            let log = self.rig().engine.operations(request).await.unwrap();
            log.iter().all(|one| one.status.is_final()).then_some(())
        };
        voidvm_testkit::wait_until_async(common::SOON, "nobody works on the machine", done).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_backup_of_a_real_machine_reads_what_changed() {
    let Some(lab) = Lab::new().await else { return };
    let (first, read) = lab.back_up(0).await;
    assert_eq!(read, DISK / 2 * MIB);
    assert_eq!(lab.back_up(0).await.1, 0);
    lab.write("write -P 2 3M 64k");
    assert_eq!(lab.back_up(0).await.1, MIB);
    // Of another repository nothing is known.
    assert!(lab.back_up(1).await.1 >= DISK / 2 * MIB);
    lab.write("discard 5M 1M");
    lab.write("write -z 7M 64k");
    assert!(lab.back_up(0).await.1 <= MIB);

    lab.rig().start(lab.id).await;
    lab.write("write -P 3 9M 64k");
    assert_eq!(lab.back_up(0).await.1, MIB);
    lab.write("write -P 4 10M 64k");
    let kept = lab.keep().await;
    lab.write("write -P 5 11M 64k");
    assert_eq!(lab.back_up(0).await.1, 2 * MIB);
    lab.delete(&kept).await;
    lab.write("write -P 6 12M 64k");
    assert_eq!(lab.back_up(0).await.1, MIB);
    lab.write("write -P 7 13M 64k");
    lab.rig().force_off(lab.id).await;
    lab.settled().await;
    assert_eq!(lab.back_up(0).await.1, MIB);
    // Since the one in the other repository there is more.
    assert!((5 * MIB..DISK / 2 * MIB).contains(&lab.back_up(1).await.1));

    // A base that is gone is none.
    let forget = BackupForgetRequest {
        directory: lab.repositories[1].to_str().unwrap().to_owned(),
        password: None,
        backups: vec![lab.back_up(1).await.0],
    };
    lab.rig().succeeded(lab.rig().engine.forget_backups(forget, Origin::Cli).await).await;
    assert!(lab.back_up(1).await.1 >= DISK / 2 * MIB - MIB);
    assert_ne!(first, lab.back_up(0).await.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_is_not_certain_what_changed_all_of_a_real_disk_is_read() {
    let Some(lab) = Lab::new().await else { return };
    let before = lab.keep().await;
    lab.write("write -P 2 3M 64k");
    lab.back_up(0).await;
    lab.write("write -P 3 4M 64k");
    // The present stands on another layer now.
    lab.restore(&before).await;
    lab.settled().await;
    assert_eq!(lab.back_up(0).await.1, DISK / 2 * MIB);
    assert_eq!(lab.back_up(0).await.1, 0);

    // Somebody has merged the layers by hand.
    lab.write("write -P 4 5M 64k");
    let layer = lab.rig().store.backup_marks().of(lab.id).await.unwrap().remove(0).layers.into_values();
    let layer = lab.rig().config.machine_dir(lab.id).join(layer.map(|layer| layer.name).next().unwrap());
    run(Command::new("qemu-img").args(["commit", "-q", "-f", "qcow2"]).arg(lab.disk()));
    assert!(layer.exists());
    assert_eq!(lab.back_up(0).await.1, DISK / 2 * MIB);

    // The disk has grown, and what was beyond its end is read.
    lab.write("truncate 40M");
    lab.write("write -P 5 39M 1M");
    assert_eq!(lab.back_up(0).await.1, MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_of_real_disks_are_backed_up_as_they_are() {
    let Some(mut lab) = Lab::new().await else { return };
    let seed = number("VOIDVM_BACKUP_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let steps = number("VOIDVM_BACKUP_STEPS").unwrap_or(30);
    eprintln!("seed {seed}");
    let mut dice = Dice(seed);
    let (mut backups, mut short) = (0, 0);
    for step in 0..steps {
        let tree = lab.tree().await;
        let any = |dice: &mut Dice| tree.get(usize::try_from(dice.below(tree.len().max(1) as u64)).unwrap());
        match dice.below(16) {
            0..5 => {
                let (at, length) = (dice.below(DISK * 16 - 8) * 64, 64 * (1 + dice.below(8)));
                let what = ["discard", "write -z", "write -P 7"];
                let byte = format!("write -P {}", 1 + step % 250);
                let what = what.get(usize::try_from(dice.below(6)).unwrap()).copied().unwrap_or(&byte);
                lab.write(&format!("{what} {at}k {length}k"));
            }
            5 => drop(lab.keep().await),
            6 => {
                if let Some(one) = any(&mut dice) {
                    lab.delete(one).await;
                }
            }
            7 => {
                if let Some(one) = any(&mut dice) {
                    lab.restore(one).await;
                }
            }
            8 if lab.runs() => drop(lab.rig().force_off(lab.id).await),
            8 => drop(lab.rig().start(lab.id).await),
            9 => {
                lab.rig = Some(lab.rig.take().unwrap().reopen().await);
                lab.rig().engine.ready().await;
            }
            number => {
                let (_, read) = lab.back_up(usize::from(number > 13)).await;
                backups += 1;
                short += u64::from(read < DISK / 4 * MIB);
            }
        }
        lab.settled().await;
    }
    eprintln!("{backups} backups, {short} of them read little");
    for repository in &lab.repositories {
        let found = Repository::open(repository, None).unwrap().verify(Depth::Data, &()).unwrap();
        assert!(found.problems.is_empty(), "{:?}", found.problems);
    }
    for snapshot in lab.tree().await {
        lab.delete(&snapshot).await;
    }
    if lab.runs() {
        lab.rig().force_off(lab.id).await;
    }
    lab.settled().await;
    let bases = || {
        let files = std::fs::read_dir(lab.disk().parent().unwrap()).unwrap().flatten();
        files.filter(|file| file.file_name().to_str().unwrap().starts_with("base-")).count()
    };
    // One for each repository at most.
    let few = async || (bases() <= 2).then_some(());
    voidvm_testkit::wait_until_async(common::SOON, "layers are merged", few).await;
    run(Command::new("qemu-img").args(["check", "-q"]).arg(lab.disk()));
}
