//! Full and linked clones, and what deleting their relatives does: with the real `qemu-img`, and patterns written by `qemu-io`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Rig, forwarding, row};
use jiff::Timestamp;
use voidvm_model::contract::{CreateSource, VmCreateRequest, VmDeleteRequest};
use voidvm_model::spec::{Cdrom, Disk, DiskFormat, FileOwner};
use voidvm_model::transfer::VmCloneRequest;
use voidvm_model::{Bytes, ErrorCode, OperationId, OperationStatus, Origin, VmId, VmState, VmView};
use voidvm_store::{Intent, IntentAction};
use voidvm_testkit::{Plan, wait_until_async};

/// Runs a tool on disks; layers may be merged just now, which is waited for.
fn run(program: &str, args: &[&str]) -> String {
    voidvm_testkit::wait_until(common::SOON, "disks nobody works on", || {
        let output = Command::new(program).args(args).output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if text.contains("Failed to get") {
            return None;
        }
        assert!(output.status.success(), "{program} {args:?}: {text}");
        Some(text)
    })
}

/// Writes a pattern into one MiB of a disk.
fn write(disk: &Path, mib: u32, pattern: u8) {
    let command = format!("write -P {pattern} {mib}M 1M");
    run("qemu-io", &["-f", "qcow2", "-c", &command, disk.to_str().unwrap()]);
}

/// The disk is sound and has these patterns.
fn holds(disk: &Path, patterns: &[(u32, u8)]) {
    let name = disk.to_str().unwrap();
    run("qemu-img", &["check", "-q", "-f", "qcow2", name]);
    for (mib, pattern) in patterns {
        let text =
            run("qemu-io", &["-f", "qcow2", "-r", "-c", &format!("read -P {pattern} {mib}M 1M"), name]);
        assert!(!text.contains("verification failed"), "{name} at {mib} MiB is not {pattern}: {text}");
    }
}

async fn machine(rig: &Rig, name: &str) -> VmView {
    let request = VmCreateRequest::new(name, CreateSource::Empty { disk_size: Bytes(64 << 20) });
    let made = rig.succeeded(rig.engine.create(request, Origin::Cli).await).await;
    rig.engine.get(made.vm_id.unwrap()).unwrap()
}

fn request(of: &VmView, name: &str, linked: bool) -> VmCloneRequest {
    VmCloneRequest { id: of.id, name: name.to_owned(), linked, start: false }
}

async fn copy(rig: &Rig, of: &VmView, name: &str, linked: bool) -> VmView {
    let done = rig.succeeded(rig.engine.clone_machine(request(of, name, linked), Origin::Cli).await).await;
    rig.engine.get(done.vm_id.unwrap()).unwrap()
}

async fn delete(rig: &Rig, vm: &VmView, flatten: bool) {
    let request = VmDeleteRequest { flatten_children: flatten, ..VmDeleteRequest::new(vm.id) };
    rig.succeeded(rig.engine.delete(request, Origin::Cli).await).await;
}

fn disk(vm: &VmView) -> &Path {
    &vm.spec.disks[0].file
}

fn dir(rig: &Rig, id: VmId) -> PathBuf {
    rig.config.machine_dir(id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_has_the_content_and_identities_of_its_own() {
    let mut original = row("original", forwarding(18_080));
    original.description = "kept".to_owned();
    original.meta.tags = vec!["lab".to_owned()];
    original.meta.favourite = true;
    let rig = Rig::new(&Plan::default(), &[original.clone()]).await;
    let vm = rig.engine.get(original.id).unwrap();
    std::fs::create_dir_all(dir(&rig, vm.id).join("tpm")).unwrap();
    let file = dir(&rig, vm.id).join("disk0.qcow2");
    run("qemu-img", &["create", "-q", "-f", "qcow2", file.to_str().unwrap(), "64M"]);
    for (name, content) in
        [("uefi-vars.qcow2", "vars"), ("tpm/tpm2-00.permall", "tpm"), ("tpm/.lock", ""), ("seed.iso", "seed")]
    {
        std::fs::write(dir(&rig, vm.id).join(name), content).unwrap();
    }
    let mut spec = vm.spec.clone();
    let id = |id: &str| id.parse().unwrap();
    spec.disks.push(Disk::new(id("disk0"), file.clone(), DiskFormat::Qcow2, FileOwner::Machine));
    spec.cdroms.push(Cdrom { id: id("cd0"), file: Some(dir(&rig, vm.id).join("seed.iso")) });
    let edit = voidvm_model::contract::VmUpdateRequest {
        spec: Some(spec),
        ..voidvm_model::contract::VmUpdateRequest::new(vm.id)
    };
    let vm = rig.engine.update(edit, Origin::Cli).await.unwrap();
    write(&file, 3, 7);
    for (name, linked) in [("full", false), ("linked", true)] {
        let made = copy(&rig, &vm, name, linked).await;
        assert_eq!(made.parent, linked.then_some(vm.id));
        assert_eq!((made.description.as_str(), made.meta.tags.len()), ("kept", 1));
        assert!(!made.meta.favourite);
        assert_ne!(made.spec.nics[0].mac, vm.spec.nics[0].mac);
        let port = made.spec.forwards().next().unwrap().host_port;
        assert!(port > 18_080, "both can run at one time: {port}");
        let own = dir(&rig, made.id);
        assert_eq!(disk(&made), own.join("disk0.qcow2"));
        assert_eq!(made.spec.cdroms[0].file.as_deref(), Some(own.join("seed.iso").as_path()));
        holds(disk(&made), &[(3, 7), (4, 0)]);
        assert_eq!(std::fs::read_to_string(own.join("uefi-vars.qcow2")).unwrap(), "vars");
        assert_eq!(std::fs::read_to_string(own.join("tpm/tpm2-00.permall")).unwrap(), "tpm");
        // Neither sees what the other writes.
        write(disk(&made), 4, 9);
        holds(&file, &[(3, 7), (4, 0)]);
        delete(&rig, &made, false).await;
        assert!(!own.exists());
        holds(&file, &[(3, 7), (4, 0)]);
    }
    assert_eq!(rig.engine.get(vm.id).unwrap().spec, vm.spec, "the original's definition is what it was");
    // Everything of it is ours, the base too.
    delete(&rig, &vm, false).await;
    assert!(!dir(&rig, vm.id).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn clones_of_a_machine_that_was_not_written_to_share_one_base() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let parent = machine(&rig, "template").await;
    write(disk(&parent), 0, 1);
    for name in ["a", "b", "c"] {
        copy(&rig, &parent, name, true).await;
    }
    let bases = |rig: &Rig| {
        let names = std::fs::read_dir(dir(rig, parent.id)).unwrap();
        names.filter(|name| name.as_ref().unwrap().file_name().to_string_lossy().starts_with("base-")).count()
    };
    assert_eq!(bases(&rig), 1);
    write(disk(&parent), 1, 2);
    let later = copy(&rig, &parent, "later", true).await;
    assert_eq!(bases(&rig), 2);
    holds(disk(&later), &[(0, 1), (1, 2)]);
    // Five at once, of one parent.
    let many =
        (0..5).map(|at| rig.engine.clone_machine(request(&parent, &format!("m{at}"), true), Origin::Cli));
    for operation in futures_util::future::join_all(many).await {
        rig.succeeded(operation).await;
    }
    assert_eq!(rig.engine.list().len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_generations_lose_a_parent_in_each_place_and_no_data() {
    for place in 0..3 {
        let rig = Rig::new(&Plan::default(), &[]).await;
        let first = machine(&rig, "first").await;
        write(disk(&first), 0, 10);
        let second = copy(&rig, &first, "second", true).await;
        write(disk(&second), 1, 11);
        let third = copy(&rig, &second, "third", true).await;
        write(disk(&third), 2, 12);
        write(disk(&second), 3, 13);
        write(disk(&first), 4, 14);
        let expected: [&[(u32, u8)]; 3] = [
            &[(0, 10), (1, 0), (4, 14)],
            &[(0, 10), (1, 11), (2, 0), (3, 13), (4, 0)],
            &[(0, 10), (1, 11), (2, 12), (3, 0), (4, 0)],
        ];
        let family = [&first, &second, &third];
        let children: [&[&str]; 3] = [&["second", "third"], &["third"], &[]];
        let goes = family[place];
        if !children[place].is_empty() {
            let error = rig.engine.delete(VmDeleteRequest::new(goes.id), Origin::Cli).await.unwrap_err();
            assert_eq!(error.code, ErrorCode::HasChildren);
            assert_eq!(error.details.unwrap()["children"], serde_json::json!(children[place]));
        }
        delete(&rig, goes, true).await;
        assert!(!dir(&rig, goes.id).exists());
        for (at, vm) in family.iter().enumerate().filter(|(at, _)| *at != place) {
            holds(disk(vm), expected[at]);
            assert_eq!(rig.state(vm.id), VmState::Stopped, "generation {at}");
        }
        // And again: the one that stays last is whole without the others.
        let last = if place == 2 { 1 } else { 2 };
        let other = family.iter().enumerate().find(|(at, _)| *at != place && *at != last).unwrap().1;
        delete(&rig, other, true).await;
        holds(disk(family[last]), expected[last]);
        let rig = rig.reopen().await;
        assert_eq!(rig.state(family[last].id), VmState::Stopped);
        delete(&rig, family[last], false).await;
        assert!(rig.store.journal().open().await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_neither_copied_nor_copied_free_and_a_template_never_runs() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let parent = machine(&rig, "parent").await;
    let child = copy(&rig, &parent, "child", true).await;
    rig.start(child.id).await;
    let error = rig.engine.clone_machine(request(&child, "x", true), Origin::Cli).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidState);
    let flatten = VmDeleteRequest { flatten_children: true, ..VmDeleteRequest::new(parent.id) };
    let (code, _) = rig.failed(rig.engine.delete(flatten, Origin::Cli).await).await;
    assert_eq!(code, ErrorCode::InvalidState);
    rig.force_off(child.id).await;
    holds(disk(&child), &[(0, 0)]);
    let mut edit = voidvm_model::contract::VmUpdateRequest::new(parent.id);
    edit.meta = Some(voidvm_model::vm::VmMeta { template: true, ..parent.meta.clone() });
    rig.engine.update(edit, Origin::Cli).await.unwrap();
    assert_eq!(rig.engine.start(parent.id, Origin::Cli).await.unwrap_err().code, ErrorCode::InvalidState);
    let made = copy(&rig, &parent, "of a template", true).await;
    rig.start(made.id).await;
    rig.force_off(made.id).await;
    let taken = rig.engine.clone_machine(request(&parent, "child", false), Origin::Cli).await.unwrap_err();
    assert_eq!((taken.code, taken.field.as_deref()), (ErrorCode::NameTaken, Some("name")));
    assert!(rig.engine.list().iter().all(|vm| vm.state == VmState::Stopped));
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_disks_stay_with_all_they_stand_on() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let parent = machine(&rig, "parent").await;
    write(disk(&parent), 0, 5);
    let child = copy(&rig, &parent, "child", true).await;
    let keep = VmDeleteRequest { keep_disks: true, ..VmDeleteRequest::new(parent.id) };
    rig.succeeded(rig.engine.delete(keep, Origin::Cli).await).await;
    holds(disk(&parent), &[(0, 5)]);
    holds(disk(&child), &[(0, 5)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_that_is_given_up_leaves_nothing() {
    let rig = Rig::with(&Plan::default(), &[], |config| config.preferences.builds = 1).await;
    let parent = machine(&rig, "parent").await;
    for mib in 0..48 {
        write(disk(&parent), mib, 3);
    }
    let before = std::fs::read_dir(rig.config.data_dir.join("vms")).unwrap().count();
    let operation = rig.engine.clone_machine(request(&parent, "copy", false), Origin::Cli).await.unwrap();
    if rig.engine.cancel(operation.id).await.is_ok()
        && rig.end(&operation).await.status == OperationStatus::Cancelled
    {
        assert_eq!(std::fs::read_dir(rig.config.data_dir.join("vms")).unwrap().count(), before);
        assert_eq!(rig.engine.list().len(), 1);
    }
    assert!(rig.store.journal().open().await.unwrap().is_empty());
    rig.start(parent.id).await;
    rig.force_off(parent.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_a_base_is_made_leaves_the_disk_as_it_was_or_on_its_base() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let parent = machine(&rig, "parent").await;
    write(disk(&parent), 0, 5);
    let base = dir(&rig, parent.id).join("base-0123456789ab.qcow2");
    let part = dir(&rig, parent.id).join("disk0.qcow2.part");
    // After the second name, before the rename.
    std::fs::hard_link(disk(&parent), &base).unwrap();
    std::fs::write(&part, "half").unwrap();
    let intent = Intent {
        operation_id: OperationId::new(),
        vm_id: Some(parent.id),
        action: IntentAction::Freeze,
        files: vec![disk(&parent).to_owned(), base.clone()],
    };
    rig.store.journal().begin(&intent, Timestamp::now()).await.unwrap();
    let rig = rig.reopen().await;
    assert!(!base.exists() && !part.exists());
    holds(disk(&parent), &[(0, 5)]);
    // After the rename, before the end of the intent.
    let child = copy(&rig, &parent, "child", true).await;
    let stands_on = voidvm_qemu::image::header(disk(&parent)).unwrap().unwrap().backing.unwrap();
    let intent = Intent { files: vec![disk(&parent).to_owned(), stands_on.clone()], ..intent };
    rig.store.journal().begin(&intent, Timestamp::now()).await.unwrap();
    let rig = rig.reopen().await;
    assert!(stands_on.exists());
    holds(disk(&parent), &[(0, 5)]);
    holds(disk(&child), &[(0, 5)]);
    assert!(rig.store.journal().open().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn cloud_init_gets_its_cd_a_key_and_a_way_in() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let mut request = VmCreateRequest::new("cloud", CreateSource::Empty { disk_size: Bytes(64 << 20) });
    request.cloud_init = Some(
        serde_json::from_str(r#"{"user": "ada", "generateKey": true, "password": "correct horse"}"#).unwrap(),
    );
    let made = rig.succeeded(rig.engine.create(request.clone(), Origin::Cli).await).await;
    let vm = rig.engine.get(made.vm_id.unwrap()).unwrap();
    let seed = vm.spec.cdroms[1].file.clone().unwrap();
    assert!(!String::from_utf8_lossy(&std::fs::read(&seed).unwrap()).contains("correct horse"));
    let access = rig.engine.ssh(vm.id).await.unwrap().unwrap();
    let forward = vm.spec.forwards().next().unwrap();
    assert_eq!((access.user.as_str(), access.port, forward.guest_port), ("ada", forward.host_port, 22));
    assert!(Path::new(&access.key_file.unwrap()).exists());
    let copied = copy(&rig, &vm, "copy", true).await;
    let other = rig.engine.ssh(copied.id).await.unwrap().unwrap();
    assert_ne!(other.port, access.port);
    assert!(other.key_file.unwrap().contains(&copied.id.to_string()));
    // cloud-init takes the copy for a machine of its own.
    let instance_of = |vm: &VmView| {
        let seed = std::fs::read(vm.spec.cdroms[1].file.as_ref().unwrap()).unwrap();
        String::from_utf8_lossy(&seed).lines().find(|line| line.contains("instance-id: ")).unwrap().to_owned()
    };
    assert!(instance_of(&vm).contains(&format!("iid-{}", vm.id)));
    assert!(instance_of(&copied).contains(&format!("iid-{}", copied.id)));
    delete(&rig, &vm, true).await;
    assert!(!dir(&rig, vm.id).exists(), "{:?}", std::fs::read_dir(dir(&rig, vm.id)).map(Iterator::count));
    request.cloud_init = Some(serde_json::from_str(r#"{"user": "Root!"}"#).unwrap());
    let error = rig.engine.create(request, Origin::Cli).await.unwrap_err();
    assert_eq!(error.field.as_deref(), Some("cloudInit.user"));
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_start_with_the_engine_in_their_order_and_once_for_each_boot() {
    let mut rows = Vec::new();
    for (name, order) in [("second", Some(7)), ("first", Some(3)), ("never", None)] {
        let mut machine = row(name, common::spec());
        machine.meta.autostart = order.map(|order| voidvm_model::vm::Autostart { order, delay_seconds: 0 });
        rows.push(machine);
    }
    let rig = Rig::new(&Plan::default(), &rows).await;
    rig.engine.autostart();
    rig.until(rows[0].id, VmState::Running).await;
    assert_eq!((rig.state(rows[1].id), rig.state(rows[2].id)), (VmState::Running, VmState::Stopped));
    let log = rig.engine.operations(voidvm_model::contract::OperationListRequest::default()).await.unwrap();
    let started: Vec<&str> = log.iter().rev().map(|operation| operation.subject.as_str()).collect();
    assert_eq!(started, ["first", "second"]);
    // What a person stops stays stopped, also when the engine is opened again.
    rig.force_off(rows[0].id).await;
    let rig = rig.reopen().await;
    rig.engine.autostart();
    rig.engine.ready().await;
    let log = rig.engine.operations(voidvm_model::contract::OperationListRequest::default()).await.unwrap();
    assert_eq!(log.iter().filter(|operation| operation.subject == "second").count(), 2, "a start and a stop");
    rig.force_off(rows[1].id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copying_a_clone_free_says_how_far_it_is_and_can_be_given_up() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let source = CreateSource::Empty { disk_size: Bytes(512 << 20) };
    let made =
        rig.succeeded(rig.engine.create(VmCreateRequest::new("parent", source), Origin::Cli).await).await;
    let parent = rig.engine.get(made.vm_id.unwrap()).unwrap();
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 5 0 256M", disk(&parent).to_str().unwrap()]);
    let child = copy(&rig, &parent, "child", true).await;
    let flatten = || VmDeleteRequest { flatten_children: true, ..VmDeleteRequest::new(parent.id) };
    let operation = rig.engine.delete(flatten(), Origin::Cli).await.unwrap();
    assert!(operation.cancellable);
    let now = wait_until_async(common::SOON, "the copy under way", async || {
        let now = rig.engine.operation_wait(operation.id, Duration::ZERO).await.unwrap();
        (now.progress.is_some_and(|progress| progress.done > 0) || now.status.is_final()).then_some(now)
    })
    .await;
    let progress = now.progress.unwrap();
    assert!(progress.total >= 256 << 20 && progress.done <= progress.total, "{progress:?}");
    if rig.engine.cancel(operation.id).await.is_ok() {
        assert_eq!(rig.end(&operation).await.status, OperationStatus::Cancelled);
        // All is as it was, and can be done once more. What the copy has left in the file is no error.
        let status = Command::new("qemu-img").args(["check", "-q", "-f", "qcow2"]).arg(disk(&child)).status();
        assert!(matches!(status.unwrap().code(), Some(0 | 3)));
        let read = ["-f", "qcow2", "-r", "-c", "read -P 5 0 256M", disk(&child).to_str().unwrap()];
        assert!(!run("qemu-io", &read).contains("verification failed"));
        assert_eq!((rig.state(parent.id), rig.state(child.id)), (VmState::Stopped, VmState::Stopped));
        delete(&rig, &parent, true).await;
    }
    assert!(!dir(&rig, parent.id).exists());
    holds(disk(&child), &[(0, 5), (255, 5), (256, 0)]);
}
