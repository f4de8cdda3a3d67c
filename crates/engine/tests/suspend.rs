//! Suspend to disk, runs that are thrown away, and guests held by a full disk, on the fake QEMU.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::path::PathBuf;
use std::process::Command;

use common::{Rig, SOON, row, spec, stop};
use voidvm_model::contract::VmUpdateRequest;
use voidvm_model::spec::{Disk, DiskFormat, FileOwner};
use voidvm_model::{ErrorCode, MachineSpec, MiB, OperationKind, OperationStatus, Origin, VmId, VmState};
use voidvm_store::VmRow;
use voidvm_testkit::{Plan, wait_until_async};

fn with_disk(file: PathBuf) -> MachineSpec {
    MachineSpec {
        disks: vec![Disk::new("disk0".parse().unwrap(), file, DiskFormat::Raw, FileOwner::User)],
        ..spec()
    }
}

/// A machine with a disk and a directory of its own.
struct Machine {
    vm: VmRow,
    _disk: tempfile::NamedTempFile,
}

fn machine(name: &str) -> Machine {
    let disk = tempfile::NamedTempFile::new().unwrap();
    disk.as_file().set_len(1 << 20).unwrap();
    Machine { vm: row(name, with_disk(disk.path().to_owned())), _disk: disk }
}

impl Machine {
    async fn rig(&self, plan: &Plan) -> Rig {
        let rig = Rig::new(plan, std::slice::from_ref(&self.vm)).await;
        std::fs::create_dir_all(rig.config.machine_dir(self.vm.id)).unwrap();
        rig
    }
}

fn files(rig: &Rig, id: VmId) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(rig.config.machine_dir(id))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("suspend") || name == "throwaway")
        .collect();
    names.sort();
    names
}

async fn suspend(rig: &Rig, id: VmId) {
    let ended = rig.succeeded(rig.engine.suspend(id, Origin::Cli).await).await;
    assert_eq!(ended.kind, OperationKind::Suspend);
    rig.until(id, VmState::Suspended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_machine_goes_on_after_a_restart_of_everything() {
    let Machine { vm, .. } = &machine("sleeps");
    let rig = machine_rig(vm).await;
    rig.start(vm.id).await;
    suspend(&rig, vm.id).await;
    rig.no_processes().await;
    assert_eq!(files(&rig, vm.id), ["suspend.json", "suspend.ram"]);
    let rig = rig.reopen().await;
    rig.engine.ready().await;
    let view = rig.engine.get(vm.id).unwrap();
    assert_eq!((view.state, view.attention), (VmState::Suspended, None));
    let next = rig.engine.command(vm.id).await.unwrap();
    assert!(next.next.ends_with(&["-incoming".to_owned(), "defer".to_owned()]));
    assert!(next.last.is_some_and(|last| !last.contains(&"-incoming".to_owned())));
    rig.start(vm.id).await;
    assert_eq!(rig.state(vm.id), VmState::Running);
    assert_eq!(files(&rig, vm.id), [""; 0]);
    let told: Vec<_> = rig.fake.commands().into_iter().map(|command| command.execute).collect();
    let (load, run) = (
        told.iter().rposition(|name| name == "migrate-incoming"),
        told.iter().rposition(|name| name == "cont"),
    );
    assert!(load < run && load.is_some());
    // Once more: what was resumed can be suspended, and the words do not grow.
    suspend(&rig, vm.id).await;
    let next = rig.engine.command(vm.id).await.unwrap().next;
    assert_eq!(next.iter().filter(|word| *word == "-incoming").count(), 1);
    rig.start(vm.id).await;
    rig.force_off(vm.id).await;
    assert_eq!(rig.state(vm.id), VmState::Stopped);
}

async fn machine_rig(vm: &VmRow) -> Rig {
    let rig = Rig::new(&Plan::default(), std::slice::from_ref(vm)).await;
    std::fs::create_dir_all(rig.config.machine_dir(vm.id)).unwrap();
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_suspended_is_left_alone_until_it_is_thrown_away() {
    let machine = machine("kept");
    let (vm, rig) = (&machine.vm, machine.rig(&Plan::default()).await);
    rig.start(vm.id).await;
    suspend(&rig, vm.id).await;
    let request = VmUpdateRequest {
        spec: Some(MachineSpec { memory: MiB(128), ..vm.spec.clone() }),
        ..VmUpdateRequest::new(vm.id)
    };
    let refused = rig.engine.update(request, Origin::Cli).await.unwrap_err();
    assert_eq!((refused.code, refused.field.as_deref()), (ErrorCode::InvalidState, Some("spec")));
    let renamed = VmUpdateRequest { name: Some("renamed".to_owned()), ..VmUpdateRequest::new(vm.id) };
    assert_eq!(rig.engine.update(renamed, Origin::Cli).await.unwrap().state, VmState::Suspended);
    assert_eq!(
        rig.engine.start_disposable(vm.id, Origin::Cli).await.unwrap_err().code,
        ErrorCode::InvalidState
    );
    assert_eq!(
        rig.engine.stop(stop(vm.id, false), Origin::Cli).await.unwrap_err().code,
        ErrorCode::InvalidState
    );
    // A disk that somebody has written to meanwhile would not fit the memory.
    std::fs::write(&vm.spec.disks[0].file, vec![1; 1 << 20]).unwrap();
    let (code, operation) = rig.failed(rig.engine.start(vm.id, Origin::Cli).await).await;
    assert_eq!(code, ErrorCode::ImageInvalid);
    assert!(operation.error.unwrap().message.contains("changed since"));
    assert_eq!(rig.state(vm.id), VmState::Suspended);
    rig.force_off(vm.id).await;
    assert_eq!(rig.state(vm.id), VmState::Stopped);
    assert_eq!(files(&rig, vm.id), [""; 0]);
    rig.start(vm.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_that_fails_or_is_cut_leaves_a_guest_that_goes_on() {
    let plan =
        Plan { errors: [("migrate".to_owned(), "9p is in the way".to_owned())].into(), ..Plan::default() };
    let machine = machine("goes-on");
    let (vm, rig) = (&machine.vm, machine.rig(&plan).await);
    rig.start(vm.id).await;
    let (code, operation) = rig.failed(rig.engine.suspend(vm.id, Origin::Cli).await).await;
    assert_eq!(code, ErrorCode::QemuFailed);
    assert!(operation.error.unwrap().message.contains("9p is in the way"));
    rig.until(vm.id, VmState::Running).await;
    assert_eq!(files(&rig, vm.id), [""; 0]);

    // Given up by a person: QEMU does not say how far it is.
    rig.fake.plan(&Plan { hang_at: Some("query-migrate".to_owned()), ..Plan::default() });
    let operation = rig.engine.suspend(vm.id, Origin::Cli).await.unwrap();
    wait_until_async(SOON, "the file to be written", async || (!files(&rig, vm.id).is_empty()).then_some(()))
        .await;
    let plan = Plan::default();
    let (cancelled, ()) = tokio::join!(rig.engine.cancel(operation.id), async { rig.fake.plan(&plan) });
    cancelled.unwrap();
    let ended = rig.end(&operation).await;
    assert!(matches!(ended.status, OperationStatus::Cancelled | OperationStatus::Succeeded), "{ended:?}");
    if ended.status == OperationStatus::Cancelled {
        rig.until(vm.id, VmState::Running).await;
        assert_eq!(files(&rig, vm.id), [""; 0]);
        rig.force_off(vm.id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_killed_in_a_suspension_leaves_one_or_the_other() {
    for whole in [false, true] {
        let machine = machine("cut");
        let (vm, rig) = (&machine.vm, machine.rig(&Plan::default()).await);
        rig.start(vm.id).await;
        suspend(&rig, vm.id).await;
        let dir = rig.config.machine_dir(vm.id);
        let saved = [
            std::fs::read(dir.join("suspend.ram")).unwrap(),
            std::fs::read(dir.join("suspend.json")).unwrap(),
        ];
        rig.start(vm.id).await;
        // As a kill of the owner leaves it: the guest held, its memory on the disk, all of it or a part.
        rig.succeeded(rig.engine.pause(vm.id, Origin::Cli).await).await;
        let name = if whole { "suspend.ram" } else { "suspend.ram.part" };
        std::fs::write(dir.join(name), &saved[0]).unwrap();
        std::fs::write(dir.join("suspend.json"), &saved[1]).unwrap();
        let rig = rig.reopen().await;
        rig.engine.ready().await;
        if whole {
            rig.until(vm.id, VmState::Suspended).await;
            rig.no_processes().await;
            rig.start(vm.id).await;
        } else {
            rig.until(vm.id, VmState::Running).await;
        }
        wait_until_async(SOON, "nothing to be left", async || files(&rig, vm.id).is_empty().then_some(()))
            .await;
        rig.force_off(vm.id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_was_used_is_never_used_again() {
    let machine = machine("used");
    let (vm, rig) = (&machine.vm, machine.rig(&Plan::default()).await);
    rig.start(vm.id).await;
    suspend(&rig, vm.id).await;
    let dir = rig.config.machine_dir(vm.id);
    let memory = std::fs::read(dir.join("suspend.ram")).unwrap();
    rig.start(vm.id).await;
    // Killed between `cont` and the removal, with the computer.
    std::fs::write(dir.join("suspend.used"), memory).unwrap();
    let pid = rig.engine.get(vm.id).unwrap().run.unwrap().pid;
    voidvm_testkit::fake::kill(pid);
    rig.until(vm.id, VmState::Crashed).await;
    assert_eq!(files(&rig, vm.id), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disposable_run_writes_elsewhere_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("disk.qcow2");
    let made = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&file).arg("8M").status();
    if made.is_err() {
        return;
    }
    let mut vm = row("thrown-away", with_disk(file.clone()));
    vm.spec.disks[0].format = DiskFormat::Qcow2;
    let rig = machine_rig(&vm).await;
    rig.succeeded(rig.engine.start_disposable(vm.id, Origin::Cli).await).await;
    let view = rig.engine.get(vm.id).unwrap();
    let run = view.run.unwrap();
    assert!(run.disposable && view.pending.is_empty());
    assert_eq!(
        (&view.spec.disks, &run.spec.disks),
        (&vm.spec.disks, &vm.spec.disks),
        "the machine is what it was"
    );
    let command = rig.engine.command(vm.id).await.unwrap();
    assert!(command.running.unwrap().iter().any(|word| word.contains("throwaway/disk0.qcow2")));
    assert!(!command.next.iter().any(|word| word.contains("throwaway")));
    // Nobody writes to the machine's own disk.
    std::fs::File::open(&file).unwrap().try_lock_shared().unwrap();
    let (code, _) = rig.failed(rig.engine.suspend(vm.id, Origin::Cli).await).await;
    assert_eq!(code, ErrorCode::InvalidState);
    let rig = rig.reopen().await;
    rig.engine.ready().await;
    assert!(rig.engine.get(vm.id).unwrap().run.unwrap().disposable, "the next owner knows");
    rig.force_off(vm.id).await;
    assert_eq!(files(&rig, vm.id), [""; 0]);
    rig.start(vm.id).await;
    assert!(!rig.engine.get(vm.id).unwrap().run.unwrap().disposable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_held_by_a_full_disk_says_which_and_goes_on_when_there_is_room() {
    let machine = machine("full");
    let (vm, rig) = (&machine.vm, machine.rig(&Plan::default()).await);
    rig.start(vm.id).await;
    rig.succeeded(rig.engine.pause(vm.id, Origin::Cli).await).await;
    rig.fake.plan(&Plan { full_disk: Some("disk0".to_owned()), ..Plan::default() });
    rig.succeeded(rig.engine.resume(vm.id, Origin::Cli).await).await;
    rig.until(vm.id, VmState::Paused).await;
    let attention =
        wait_until_async(SOON, "the cause", async || rig.engine.get(vm.id).unwrap().attention).await;
    assert_eq!(attention.code, ErrorCode::DiskFull);
    let details = attention.details.unwrap();
    assert_eq!(details["path"].as_str(), vm.spec.disks[0].file.to_str());
    assert!(details["available"].as_u64().is_some());
    // Still no room: it is held again.
    rig.succeeded(rig.engine.resume(vm.id, Origin::Cli).await).await;
    rig.until(vm.id, VmState::Paused).await;
    // The next owner says it as well.
    let rig = rig.reopen().await;
    rig.engine.ready().await;
    let view = rig.engine.get(vm.id).unwrap();
    assert_eq!(
        (view.state, view.attention.map(|body| body.code)),
        (VmState::Paused, Some(ErrorCode::DiskFull))
    );
    rig.fake.plan(&Plan::default());
    rig.succeeded(rig.engine.resume(vm.id, Origin::Cli).await).await;
    let view = rig.until(vm.id, VmState::Running).await;
    assert_eq!(view.attention, None);
}
