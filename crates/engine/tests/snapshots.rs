//! Machine snapshots on the real QEMU, translated, with a guest that is only firmware: what its disks hold is written by the
//! test, through a second monitor while it runs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::Rig;
use common::lab::{Hypervisor, Lab, wish};
use voidvm_engine::{Engine, Preferences};
use voidvm_model::contract::{OperationListRequest, VmRef};
use voidvm_model::snapshot::{
    Consistency, RestoreTo, SnapshotBootRequest, SnapshotCompareRequest, SnapshotCreateRequest,
    SnapshotForkRequest, SnapshotRef, SnapshotRestoreRequest, SnapshotUpdateRequest,
};
use voidvm_model::{ErrorCode, Operation, OperationKind, OperationResult, Origin, Settings, VmState};
use voidvm_testkit::wait_until_async;

/// Bytes of a piece the lab writes.
const PIECE: u64 = common::lab::PIECE as u64;

#[tokio::test(flavor = "multi_thread")]
async fn a_real_machine_is_kept_while_it_runs_and_brought_back() {
    let Some(lab) = Lab::new(Hypervisor::Real).await else { return };
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
    assert!(difference.disks.iter().all(|disk| disk.changed.unwrap().0 >= PIECE), "{difference:?}");
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
    let Some(lab) = Lab::new(Hypervisor::Real).await else { return };
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
    let Some(lab) = Lab::new(Hypervisor::Real).await else { return };
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

#[tokio::test(flavor = "multi_thread")]
async fn a_real_snapshot_is_booted_and_gone_when_it_stops() {
    let Some(mut lab) = Lab::new(Hypervisor::Real).await else { return };
    lab.write(0, 1);
    lab.start().await;
    let kept = lab.named("kept").await;
    let (id, snapshot) = (lab.id, kept.id.to_string());
    let booted = async |rig: &Rig, name: Option<&str>| {
        let request = SnapshotBootRequest { id, snapshot: snapshot.clone(), name: name.map(str::to_owned) };
        rig.engine.boot_snapshot(request, Origin::Cli).await
    };
    let ended = lab.rig.succeeded(booted(&lab.rig, None).await).await;
    let Some(OperationResult::Booted { vm }) = ended.result else { panic!("{ended:?}") };
    let view = lab.rig.engine.get(vm).unwrap();
    assert_eq!((view.name.as_str(), view.state, view.passing), ("lab-boot", VmState::Running, true));
    assert!(!lab.rig.engine.get(lab.id).unwrap().passing);
    let refused = lab.rig.engine.suspend(vm, Origin::Cli).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidState);
    lab.write_to(vm, 1, 2);
    lab.rig.force_off(vm).await;
    let gone = async |rig: &Rig, vm| {
        let dir = rig.config.machine_dir(vm);
        wait_until_async(common::SOON, "it is gone", async || {
            (rig.engine.get(vm).is_err() && !dir.exists()).then_some(())
        })
        .await;
    };
    gone(&lab.rig, vm).await;
    assert_eq!(booted(&lab.rig, Some("lab")).await.unwrap_err().code, ErrorCode::NameTaken);

    // One whose process ends while voidVM is away is gone at its next start.
    let ended = lab.rig.succeeded(booted(&lab.rig, Some("second")).await).await;
    let Some(OperationResult::Booted { vm }) = ended.result else { panic!("{ended:?}") };
    let pid = lab.rig.engine.get(vm).unwrap().run.unwrap().pid;
    lab.rig.engine.shutdown().await;
    voidvm_testkit::fake::kill(pid);
    lab.rig.engine = Engine::open(lab.rig.config.clone(), lab.rig.store.clone()).await.unwrap();
    gone(&lab.rig, vm).await;
    lab.rig.until(lab.id, VmState::Running).await;
    lab.rig.force_off(lab.id).await;
    Lab::shows(&lab.dir().join("disk0.qcow2"), &[1, 0, 0, 0, 0, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_deep_chain_is_flattened_while_its_guest_runs() {
    let Some(lab) = Lab::new(Hypervisor::Real).await else { return };
    let binary = lab.rig.config.preferences.qemu_binary.clone();
    let settings = Settings { max_disk_layers: 8, ..Settings::default() };
    lab.rig.engine.apply_preferences(Preferences { qemu_binary: binary, ..Preferences::from(&settings) });
    let mut content = [0; common::lab::PIECES];
    let mut kept = Vec::new();
    for step in 0..11_u8 {
        if step == 4 {
            lab.start().await;
        }
        let piece = usize::from(step) % common::lab::PIECES;
        content[piece] = step + 1;
        lab.write(piece, step + 1);
        let wish = SnapshotCreateRequest { disk_only: true, name: Some(format!("s{step}")), ..wish(lab.id) };
        kept.push((lab.take(wish).await, content));
    }
    let flattened = async |deepest: u32| {
        wait_until_async(common::SOON, "the chain is short", async || {
            let log = OperationListRequest { vm_id: Some(lab.id), ..OperationListRequest::default() };
            let log = lab.rig.engine.operations(log).await.unwrap();
            let over = log.iter().all(|one| one.status.is_final());
            let depth = lab.rig.engine.snapshots(lab.id).await.unwrap().depth;
            let ended = |one: &&Operation| one.kind == OperationKind::SnapshotFlatten;
            let flat = log.iter().filter(ended).count();
            (over && depth <= deepest && flat > 0).then_some(flat)
        })
        .await
    };
    let flat = flattened(8).await;
    let look = async |content: [u8; 8]| {
        for (snapshot, content) in &kept {
            for layer in lab.layers(snapshot).await {
                Lab::shows(&layer, content);
            }
        }
        for disk in ["disk0.qcow2", "disk1.qcow2"] {
            Lab::shows(&lab.dir().join(disk), &content);
        }
    };
    look(content).await;
    // Asked for, it is done however short the chain is; the guest goes on meanwhile and afterwards.
    lab.write(7, 99);
    content[7] = 99;
    lab.rig.succeeded(lab.rig.engine.flatten(VmRef { id: lab.id }, Origin::Cli).await).await;
    assert_eq!(flattened(2).await, flat + 1);
    lab.write(6, 98);
    content[6] = 98;
    look(content).await;
    assert_eq!(lab.state(), VmState::Running);
    lab.restore(&kept[2].0, RestoreTo::AsItWas, true).await;
    look(kept[2].1).await;
    for (snapshot, _) in &kept {
        lab.delete(snapshot).await;
    }
    wait_until_async(common::SOON, "only the disks are left", async || {
        let files = lab.files();
        files.iter().all(|name| !name.starts_with("base-")).then_some(())
    })
    .await;
    for disk in ["disk0.qcow2", "disk1.qcow2"] {
        Lab::shows(&lab.dir().join(disk), &kept[2].1);
    }
}
