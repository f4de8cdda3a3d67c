//! A full backup and many that stand on it, while a real guest with UEFI and a TPM writes; each restored where there is only the folder,
//! and compared with what the disks were at that instant, read from the frozen layers without any of the machinery of backups.
//!
//! `VOIDVM_BACKUPS` (20) says how many follow the first. `tests/full/60-backups.sh` runs this: it takes its time.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::shell::{AT_ONCE, BOOT, Shell};
use common::{Rig, row, spec};
use voidvm_model::backup::{
    BackupDrillRequest, BackupId, BackupInitRequest, BackupRestoreRequest, BackupRunRequest,
    BackupVerifyRequest, DrillProof,
};
use voidvm_model::spec::{Disk, DiskFormat, FileOwner, Firmware};
use voidvm_model::{MachineSpec, MiB, OperationResult, OperationStatus, Origin, VmId};
use voidvm_store::VmRow;
use voidvm_testkit::Plan;

async fn rig() -> Rig {
    let plan = Plan::default();
    let rig = Rig::with(&plan, &[], |config| {
        config.preferences.qemu_binary = Some("/usr/bin/qemu-system-x86_64".into());
        config.timing.mute_after = Duration::from_secs(60);
        config.timing.heartbeat = Duration::from_secs(5);
        config.timing.greeting = Duration::from_secs(60);
    });
    rig.await
}

/// Ends the test's machines whatever happens.
struct Ended<'a>(&'a Rig);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        for run in self.0.engine.list().into_iter().filter_map(|vm| vm.run) {
            voidvm_testkit::fake::kill(run.pid);
        }
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The checksum of what an image shows.
fn shows(image: &Path, scratch: &Path) -> String {
    let raw = scratch.join("raw");
    run(Command::new("qemu-img").args(["convert", "-U", "-f", "qcow2", "-O", "raw"]).arg(image).arg(&raw));
    sum(&raw)
}

fn sum(file: &Path) -> String {
    run(Command::new("sha256sum").arg(file)).split(' ').next().unwrap().to_owned()
}

/// A backup, and what it must be: the checksum of each disk.
struct Proof {
    backup: BackupId,
    disks: Vec<String>,
}

async fn back_up(rig: &Rig, id: VmId, directory: &str, scratch: &Path) -> Proof {
    let request = BackupRunRequest { id, directory: directory.to_owned(), password: None };
    let begun = rig.engine.back_up(request, Origin::Cli).await.unwrap();
    let ended = rig.engine.operation_wait(begun.id, Duration::from_secs(600)).await.unwrap();
    let Some(OperationResult::BackedUp { backup, size, read, added }) = ended.result else {
        panic!("{ended:?}")
    };
    eprintln!("{size}, {} read, {added} added, {:?} ms", read.unwrap(), ended.duration_ms);
    // The layers it was made of stay, for the next one.
    let mark = rig.store.backup_marks().of(id).await.unwrap().remove(0);
    assert_eq!(mark.backup, backup);
    let dir = rig.config.machine_dir(id);
    let disks = mark.layers.values().map(|layer| shows(&dir.join(&layer.name), scratch)).collect();
    Proof { backup, disks }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_writes_is_backed_up_as_it_is_each_time() {
    if std::env::var_os("VOIDVM_FULL").is_none() {
        eprintln!("skipped: a real guest takes its time; tests/full/60-backups.sh runs this");
        return;
    }
    let count: usize = std::env::var("VOIDVM_BACKUPS").map_or(20, |count| count.parse().unwrap());
    let (rig, scratch) = (rig().await, tempfile::tempdir().unwrap());
    let vm = row("guest", spec());
    let dir = rig.config.machine_dir(vm.id);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::copy(voidvm_testkit::guest::guest().join("disk.qcow2"), dir.join("disk0.qcow2")).unwrap();
    run(Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(dir.join("disk1.qcow2"))
        .arg("256M"));
    let disk = |name: &str| {
        let file: PathBuf = dir.join(format!("{name}.qcow2"));
        Disk::new(name.parse().unwrap(), file, DiskFormat::Qcow2, FileOwner::Machine)
    };
    let spec = MachineSpec {
        memory: MiB(512),
        firmware: Firmware::Uefi,
        tpm: true,
        disks: vec![disk("disk0"), disk("disk1")],
        ..spec()
    };
    rig.store.vms().insert(&VmRow { spec, ..vm.clone() }).await.unwrap();
    let rig = rig.reopen().await;
    let _ended = Ended(&rig);
    let repository = rig.dir.path().join("backups");
    let directory = repository.to_str().unwrap().to_owned();
    let init = BackupInitRequest { directory: directory.clone(), encrypt: false };
    rig.engine.init_backups(init).await.unwrap();
    rig.start(vm.id).await;
    let mut shell = Shell::again(&rig, vm.id).await;
    shell.until("GUEST-READY", BOOT * 5).await;
    shell.until(":~# ", AT_ONCE).await;
    // Somewhere else each time, for as long as the guest runs.
    shell
        .run("(i=1; while :; do i=$(((i * 1103515245 + 12345) % 4096)); dd if=/dev/urandom of=/dev/vdb bs=65536 seek=$i count=2 conv=notrunc,fsync 2>/dev/null; done) & :")
        .await;
    let mut proofs = Vec::new();
    for _ in 0..=count {
        proofs.push(back_up(&rig, vm.id, &directory, scratch.path()).await);
    }
    let different: std::collections::BTreeSet<_> = proofs.iter().map(|proof| &proof.disks[1]).collect();
    assert!(different.len() > count / 2, "the guest wrote while it was backed up");
    rig.force_off(vm.id).await;
    // At rest the variables and the TPM's state are what the last backup must have.
    let last = back_up(&rig, vm.id, &directory, scratch.path()).await;

    let far = self::rig().await;
    let _far = Ended(&far);
    let small = ["uefi-vars.qcow2", "tpm/tpm2-00.permall"];
    for proof in proofs.iter().chain([&last]) {
        let request = BackupRestoreRequest {
            directory: directory.clone(),
            password: None,
            backup: proof.backup,
            machine: None,
            name: Some(format!("{:.8}", proof.backup)),
            start: false,
        };
        let begun = far.engine.restore_backup(request, Origin::Cli).await.unwrap();
        let ended = far.engine.operation_wait(begun.id, Duration::from_secs(600)).await.unwrap();
        assert_eq!(ended.status, OperationStatus::Succeeded, "{ended:?}");
        let restored = far.engine.get(ended.vm_id.unwrap()).unwrap();
        let disks: Vec<_> =
            restored.spec.disks.iter().map(|disk| shows(&disk.file, scratch.path())).collect();
        assert_eq!(disks, proof.disks);
        let there = far.config.machine_dir(restored.id);
        for file in small {
            assert!(there.join(file).is_file(), "{file} is in the backup");
        }
        if proof.backup == last.backup {
            for file in small {
                assert_eq!(sum(&there.join(file)), sum(&dir.join(file)), "{file}");
            }
        }
    }
    let request = BackupVerifyRequest { directory: directory.clone(), password: None, data: true };
    far.succeeded(far.engine.verify_backups(request, Origin::Cli).await).await;
    let drill = BackupDrillRequest {
        directory,
        password: None,
        backup: proofs[count].backup,
        machine: None,
        seconds: Some(1800),
    };
    let begun = far.engine.drill_backup(drill, Origin::Cli).await.unwrap();
    let ended = far.engine.operation_wait(begun.id, Duration::from_secs(2400)).await.unwrap();
    eprintln!("drill: {:?}", ended.result);
    assert!(
        matches!(ended.result, Some(OperationResult::Drilled { proof: DrillProof::Agent, .. })),
        "{ended:?}"
    );
    assert_eq!(far.engine.list().len(), count + 2);

    if Path::new("/usr/bin/restic").exists() {
        let restic = || {
            let mut command = Command::new("restic");
            command.args(["--no-cache", "--quiet", "--repo"]).arg(&repository);
            command.arg("--password-file").arg(repository.join("password.txt"));
            command
        };
        run(restic().args(["check", "--read-data"]));
        for proof in [&proofs[0], &proofs[count]] {
            let out = scratch.path().join(format!("{:.8}", proof.backup));
            run(restic().arg("restore").arg(proof.backup.to_string()).arg("--target").arg(&out));
            let disks: Vec<_> = ["disk0", "disk1"]
                .iter()
                .map(|disk| sum(&out.join(format!("guest/disks/{disk}.raw"))))
                .collect();
            assert_eq!(disks, proof.disks);
        }
    }
}
