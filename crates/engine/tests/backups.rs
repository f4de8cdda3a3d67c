//! Backups on the real QEMU, translated, with a guest that is only firmware; restored where there is only the folder.
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

use common::{Rig, row, spec};
use voidvm_model::backup::{
    Backup, BackupConsistency, BackupDrillRequest, BackupForgetRequest, BackupId, BackupInitRequest,
    BackupListRequest, BackupPassword, BackupRestoreRequest, BackupRunRequest, BackupVerifyRequest,
    DrillProof,
};
use voidvm_model::schedule::{
    Recurrence, Retention, ScheduleCreateRequest, ScheduleOptions, SchedulePreviewRequest,
    ScheduleRunsRequest, ScheduleTarget, ScheduledBackup,
};
use voidvm_model::spec::{Disk, DiskFormat, FileOwner};
use voidvm_model::{
    ErrorCode, MachineSpec, OperationKind, OperationResult, OperationStatus, Origin, VmId, VmState, VmView,
};
use voidvm_store::VmRow;
use voidvm_testkit::Plan;

struct Lab {
    /// There, but while it is opened again.
    rig: Option<Rig>,
    id: VmId,
    repository: PathBuf,
}

impl Drop for Lab {
    fn drop(&mut self) {
        let machines = self.rig.iter().flat_map(|rig| rig.engine.list());
        for run in machines.filter_map(|vm| vm.run) {
            voidvm_testkit::fake::kill(run.pid);
        }
    }
}

async fn rig() -> Option<Rig> {
    let binary = PathBuf::from("/usr/bin/qemu-system-x86_64");
    if !binary.exists() || !Path::new("/usr/bin/qemu-nbd").exists() {
        eprintln!("skipped: no QEMU here");
        return None;
    }
    let plan = Plan::default();
    let rig = Rig::with(&plan, &[], |config| {
        config.preferences.qemu_binary = Some(binary);
        config.timing.mute_after = Duration::from_secs(20);
        config.timing.heartbeat = Duration::from_secs(2);
    });
    Some(rig.await)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn write(disk: &Path, line: &str) {
    run(Command::new("qemu-io").args(["-f", "qcow2", "-c", line]).arg(disk));
}

/// What a guest sees of a disk.
fn content(disk: &Path, scratch: &Path) -> Vec<u8> {
    let raw = scratch.join("raw");
    run(Command::new("qemu-img").args(["convert", "-U", "-f", "qcow2", "-O", "raw"]).arg(disk).arg(&raw));
    std::fs::read(raw).unwrap()
}

impl Lab {
    /// A machine with two disks, one of them on another image, and an empty repository.
    async fn new(encrypt: bool) -> Option<(Self, Option<BackupPassword>)> {
        let rig = rig().await?;
        let vm = row("lab", spec());
        let dir = rig.config.machine_dir(vm.id);
        std::fs::create_dir_all(&dir).unwrap();
        let disks = ["disk0", "disk1"].map(|name| {
            let file = dir.join(format!("{name}.qcow2"));
            run(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&file).arg("9M"));
            write(&file, "write -P 1 1M 200k");
            Disk::new(name.parse().unwrap(), file, DiskFormat::Qcow2, FileOwner::Machine)
        });
        std::fs::write(dir.join("seed.iso"), b"seed").unwrap();
        let spec = MachineSpec { disks: disks.to_vec(), ..spec() };
        rig.store.vms().insert(&VmRow { spec, description: "mine".into(), ..vm.clone() }).await.unwrap();
        let repository = rig.dir.path().join("backups");
        let lab = Self { rig: Some(rig.reopen().await), id: vm.id, repository };
        let request = BackupInitRequest { directory: lab.directory(), encrypt };
        let made = lab.rig().engine.init_backups(request).await.unwrap();
        assert_eq!((made.password.is_some(), made.remembered), (encrypt, encrypt));
        Some((lab, made.password))
    }

    fn rig(&self) -> &Rig {
        self.rig.as_ref().unwrap()
    }

    async fn reopen(&mut self) {
        self.rig = Some(self.rig.take().unwrap().reopen().await);
        self.rig().engine.ready().await;
    }

    fn directory(&self) -> String {
        self.repository.to_str().unwrap().to_owned()
    }

    fn disk(&self, number: usize) -> PathBuf {
        self.rig().config.machine_dir(self.id).join(format!("disk{number}.qcow2"))
    }

    async fn back_up(&self) -> BackupId {
        let request = BackupRunRequest { id: self.id, directory: self.directory(), password: None };
        let ended = self.rig().succeeded(self.rig().engine.back_up(request, Origin::Cli).await).await;
        assert_eq!((ended.kind, ended.vm_id), (OperationKind::BackupRun, Some(self.id)));
        let Some(OperationResult::BackedUp { backup, size, .. }) = ended.result else { panic!("{ended:?}") };
        assert_eq!(size.0, 18 << 20);
        self.is_clean().await;
        backup
    }

    /// Waits until nothing of a backup is left but the layers the next one stands on: no snapshot, no socket, no other layer. QEMU
    /// knows what it writes to by a layer's name.
    async fn is_clean(&self) {
        let names = |dir: &Path| -> Vec<String> {
            let entries = std::fs::read_dir(dir).unwrap().flatten();
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
        };
        let clean = async || {
            let mut left = names(&self.rig().config.runtime_dir);
            left.extend(names(&self.rig().config.machine_dir(self.id)));
            left.retain(|name| ["nbd-", "snapshots"].iter().any(|start| name.starts_with(start)));
            // One that took the place of another is known to QEMU by its own name too.
            let layers: BTreeSet<u64> = names(&self.rig().config.machine_dir(self.id))
                .into_iter()
                .filter(|name| name.starts_with("base-"))
                .filter_map(|name| std::fs::metadata(self.rig().config.machine_dir(self.id).join(name)).ok())
                .map(|file| std::os::unix::fs::MetadataExt::ino(&file))
                .collect();
            let marks = self.rig().store.backup_marks().of(self.id).await.unwrap();
            let marked: usize = marks.iter().map(|mark| mark.layers.len()).sum();
            let expected =
                if self.rig().engine.get(self.id).unwrap().run.is_some() { 2 + marked } else { marked };
            let snapshots = self.rig().engine.snapshots(self.id).await.unwrap().snapshots;
            (left.is_empty() && layers.len() == expected && snapshots.is_empty()).then_some(())
        };
        voidvm_testkit::wait_until_async(common::SOON, "nothing is left of a backup", clean).await;
    }

    async fn list(&self) -> Vec<Backup> {
        let request = BackupListRequest { directory: self.directory(), password: None };
        let list = self.rig().engine.backups(request).await.unwrap();
        assert!(list.damaged.is_empty());
        list.backups
    }

    fn verify(&self, data: bool) -> BackupVerifyRequest {
        BackupVerifyRequest { directory: self.directory(), password: None, data }
    }

    fn restore(&self, backup: BackupId, password: Option<BackupPassword>) -> BackupRestoreRequest {
        let (directory, name) = (self.directory(), Some("again".to_owned()));
        BackupRestoreRequest { directory, password, backup, machine: None, name, start: false }
    }
}

async fn restored(rig: &Rig, request: BackupRestoreRequest) -> VmView {
    let ended = rig.succeeded(rig.engine.restore_backup(request, Origin::Cli).await).await;
    rig.engine.get(ended.vm_id.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_machine_comes_back_where_there_is_only_the_folder() {
    let Some((lab, _)) = Lab::new(false).await else { return };
    let scratch = tempfile::tempdir().unwrap();
    let before = [0, 1].map(|disk| content(&lab.disk(disk), scratch.path()));
    let stopped = lab.back_up().await;
    write(&lab.disk(1), "write -P 7 5M 1M");
    let after = content(&lab.disk(1), scratch.path());
    lab.rig().start(lab.id).await;
    let running = lab.back_up().await;
    assert!(lab.rig().engine.get(lab.id).unwrap().run.is_some());
    lab.rig().force_off(lab.id).await;
    lab.is_clean().await;
    let list = lab.list().await;
    let said: Vec<_> = list.iter().map(|backup| (backup.id, backup.machines[0].consistency)).collect();
    assert_eq!(said, [(stopped, BackupConsistency::Stopped), (running, BackupConsistency::Crash)]);
    assert!(list[1].added.unwrap().0 < 100 << 10, "what is there is not stored again: {list:?}");
    for data in [false, true] {
        let ended =
            lab.rig().succeeded(lab.rig().engine.verify_backups(lab.verify(data), Origin::Cli).await).await;
        assert!(matches!(ended.result, Some(OperationResult::Verified { backups: 2, .. })), "{ended:?}");
    }

    let far = rig().await.unwrap();
    let vm = restored(&far, lab.restore(stopped, None)).await;
    assert_eq!((vm.name.as_str(), vm.description.as_str()), ("again", "mine"));
    let dir = far.config.machine_dir(vm.id);
    assert_eq!(std::fs::read(dir.join("seed.iso")).unwrap(), b"seed");
    for (disk, before) in vm.spec.disks.iter().zip(&before) {
        assert_eq!(disk.file.parent(), Some(dir.as_path()));
        assert!(content(&disk.file, scratch.path()) == *before, "{disk:?}");
        run(Command::new("qemu-img").args(["check", "-q"]).arg(&disk.file));
    }
    let request = BackupRestoreRequest { name: Some("later".into()), ..lab.restore(running, None) };
    let later = restored(&far, request).await;
    assert!(content(&later.spec.disks[1].file, scratch.path()) == after);

    let forget = BackupForgetRequest { directory: lab.directory(), password: None, backups: vec![running] };
    let ended = lab.rig().succeeded(lab.rig().engine.forget_backups(forget, Origin::Cli).await).await;
    assert!(matches!(ended.result, Some(OperationResult::Removed { bytes }) if bytes.0 > 0), "{ended:?}");
    assert_eq!(lab.list().await.len(), 1);
    let gone = far.engine.restore_backup(lab.restore(running, None), Origin::Cli).await.unwrap_err();
    assert_eq!(gone.code, ErrorCode::NotFound, "{gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_found_and_what_is_not_sound_makes_no_real_machine() {
    let Some((lab, _)) = Lab::new(false).await else { return };
    let backup = lab.back_up().await;
    let packs = std::fs::read_dir(lab.repository.join("data")).unwrap().flatten();
    let files = packs.flat_map(|dir| std::fs::read_dir(dir.path()).unwrap().flatten());
    for file in files {
        let path = file.path();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        let mut permissions = std::fs::metadata(&path).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
        std::fs::set_permissions(&path, permissions).unwrap();
        std::fs::write(&path, bytes).unwrap();
    }
    let (code, ended) =
        lab.rig().failed(lab.rig().engine.verify_backups(lab.verify(true), Origin::Cli).await).await;
    assert_eq!(code, ErrorCode::ChecksumMismatch);
    assert!(ended.error.unwrap().details.unwrap().contains_key("problems"));
    if let Ok(operation) = lab.rig().engine.restore_backup(lab.restore(backup, None), Origin::Cli).await {
        let (code, ended) = lab.rig().failed(Ok(operation)).await;
        assert_eq!(code, ErrorCode::ChecksumMismatch);
        assert!(!lab.rig().config.machine_dir(ended.vm_id.unwrap()).exists());
    }
    assert_eq!(lab.rig().engine.list().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_backups_of_a_real_machine_open_with_the_keychain_or_the_password() {
    let Some((mut lab, password)) = Lab::new(true).await else { return };
    // Wherever the folder is.
    let moved = lab.rig().dir.path().join("elsewhere");
    std::fs::rename(&lab.repository, &moved).unwrap();
    lab.repository = moved;
    let backup = lab.back_up().await;
    let far = rig().await.unwrap();
    for (given, field) in [(None, "password"), (Some(BackupPassword("other".into())), "password")] {
        let refused = far.engine.restore_backup(lab.restore(backup, given), Origin::Cli).await.unwrap_err();
        assert_eq!(refused.field.as_deref(), Some(field), "{refused:?}");
    }
    restored(&far, lab.restore(backup, password)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_backup_that_is_given_up_leaves_nothing() {
    let Some((lab, _)) = Lab::new(false).await else { return };
    // Long enough to be given up in the middle of it.
    write(&lab.disk(0), "truncate 1G");
    write(&lab.disk(0), "write -P 3 0 800M");
    let request = BackupRunRequest { id: lab.id, directory: lab.directory(), password: None };
    let operation = lab.rig().engine.back_up(request, Origin::Cli).await.unwrap();
    let reads = async || {
        let now = lab.rig().engine.operation_wait(operation.id, Duration::ZERO).await.unwrap();
        now.progress.filter(|progress| progress.done > 0)
    };
    voidvm_testkit::wait_until_async(common::SOON, "the backup reads", reads).await;
    lab.rig().engine.cancel(operation.id).await.unwrap();
    assert_eq!(lab.rig().end(&operation).await.status, OperationStatus::Cancelled);
    assert!(lab.list().await.is_empty());
    lab.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_refused_by_name() {
    let Some((lab, _)) = Lab::new(false).await else { return };
    let init = |directory: &str| {
        lab.rig().engine.init_backups(BackupInitRequest { directory: directory.to_owned(), encrypt: false })
    };
    for directory in ["relative", &lab.directory()] {
        let refused = init(directory).await.unwrap_err();
        assert_eq!(refused.field.as_deref(), Some("directory"), "{refused:?}");
    }
    let nowhere = lab.rig().dir.path().join("nowhere").to_str().unwrap().to_owned();
    let request = BackupRunRequest { id: lab.id, directory: nowhere, password: None };
    let refused = lab.rig().engine.back_up(request, Origin::Cli).await.unwrap_err();
    assert_eq!((refused.code, refused.field.as_deref()), (ErrorCode::NotFound, Some("directory")));
    let forget = BackupForgetRequest { directory: lab.directory(), password: None, backups: Vec::new() };
    let refused = lab.rig().engine.forget_backups(forget, Origin::Cli).await.unwrap_err();
    assert_eq!(refused.field.as_deref(), Some("backups"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedules_real_backups_are_kept_by_its_own_rules_and_others_are_left_alone() {
    let Some((lab, _)) = Lab::new(false).await else { return };
    let by_hand = lab.back_up().await;
    let schedule = |name: &str, directory: String| ScheduleCreateRequest {
        name: name.to_owned(),
        target: ScheduleTarget::Vm { id: lab.id },
        when: Recurrence::Hourly { minute: 0 },
        time_zone: None,
        retention: Retention { keep_last: 2, ..Retention::default() },
        options: ScheduleOptions::default(),
        name_template: None,
        backup: Some(ScheduledBackup { directory, drill: false }),
        enabled: None,
    };
    let schedules = lab.rig().engine.schedules();
    let nowhere = lab.rig().dir.path().join("nowhere").to_str().unwrap().to_owned();
    for (request, field) in [
        (schedule("far", nowhere), "backup.directory"),
        (schedule("far", "relative".to_owned()), "backup.directory"),
        (
            ScheduleCreateRequest {
                retention: Retention { max_depth: Some(3), ..Retention::default() },
                ..schedule("deep", lab.directory())
            },
            "retention.maxDepth",
        ),
        (
            ScheduleCreateRequest {
                options: ScheduleOptions { disk_only: true, ..ScheduleOptions::default() },
                ..schedule("disks", lab.directory())
            },
            "options.diskOnly",
        ),
    ] {
        let refused = schedules.create(request, Origin::Cli).await.unwrap_err();
        assert_eq!(refused.field.as_deref(), Some(field), "{refused:?}");
    }
    let one = schedules.create(schedule("one", lab.directory()), Origin::Cli).await.unwrap();
    let other = schedules.create(schedule("other", lab.directory()), Origin::Cli).await.unwrap();
    let run = async |id| {
        lab.rig().succeeded(schedules.run(id, Origin::Cli).await).await;
        let runs = schedules.runs(ScheduleRunsRequest { id, before: None, limit: Some(1) }).await.unwrap();
        let machine = runs.into_iter().next().unwrap().machines.remove(0);
        (machine.backup.unwrap(), machine.pruned)
    };
    let (others, _) = run(other.id).await;
    let (first, pruned) = run(one.id).await;
    assert!(pruned.is_empty());
    let (second, _) = run(one.id).await;
    let (third, pruned) = run(one.id).await;
    assert_eq!(pruned, [format!("{first:.8}")]);
    let left: BTreeSet<_> = lab.list().await.iter().map(|backup| backup.id).collect();
    assert_eq!(left, [by_hand, others, second, third].into_iter().collect());
    let request = SchedulePreviewRequest { id: Some(one.id), draft: None };
    let preview = schedules.preview(request).await.unwrap();
    let judged: Vec<_> = preview.machines[0].backups.iter().map(|one| (one.id, one.kept)).collect();
    assert_eq!(judged, [(third, true), (second, true)]);
    lab.rig().succeeded(lab.rig().engine.verify_backups(lab.verify(true), Origin::Cli).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_of_a_real_backup_leaves_nothing_however_it_ends() {
    let Some((mut lab, _)) = Lab::new(false).await else { return };
    let backup = lab.back_up().await;
    let drill = BackupDrillRequest {
        directory: lab.directory(),
        password: None,
        backup,
        machine: None,
        seconds: Some(10),
    };
    let short = BackupDrillRequest { seconds: Some(1), ..drill.clone() };
    let refused = lab.rig().engine.drill_backup(short, Origin::Cli).await.unwrap_err();
    assert_eq!(refused.field.as_deref(), Some("seconds"), "{refused:?}");
    let machines = || std::fs::read_dir(lab.rig().config.data_dir.join("vms")).unwrap().count();
    let begun = lab.rig().engine.drill_backup(drill.clone(), Origin::Cli).await.unwrap();
    let ended = lab.rig().engine.operation_wait(begun.id, Duration::from_secs(120)).await.unwrap();
    // Firmware alone says nothing of itself.
    let Some(OperationResult::Drilled { proof, seconds }) = ended.result else { panic!("{ended:?}") };
    assert!(
        ended.status == OperationStatus::Succeeded && proof == DrillProof::Ran && seconds >= 10,
        "{ended:?}"
    );
    assert_eq!((lab.rig().engine.list().len(), machines()), (1, 1));

    // Given up while it is watched, and cut by the end of the engine.
    let long = BackupDrillRequest { seconds: Some(3600), ..drill };
    for cut in [false, true] {
        let begun = lab.rig().engine.drill_backup(long.clone(), Origin::Cli).await.unwrap();
        let runs = async || {
            let runs =
                |vm: &VmView| vm.id != lab.id && vm.state == VmState::Running && vm.spec.nics.is_empty();
            lab.rig().engine.list().iter().any(runs).then_some(())
        };
        voidvm_testkit::wait_until_async(common::SOON * 3, "the drill's machine runs", runs).await;
        if cut {
            break;
        }
        lab.rig().engine.cancel(begun.id).await.unwrap();
        assert_eq!(lab.rig().end(&begun).await.status, OperationStatus::Cancelled);
        assert_eq!((lab.rig().engine.list().len(), machines()), (1, 1));
    }
    lab.reopen().await;
    let gone = async || (lab.rig().engine.list().len() == 1).then_some(());
    voidvm_testkit::wait_until_async(common::SOON * 3, "the drill's machine is gone", gone).await;
}
