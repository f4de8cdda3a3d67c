//! Making and deleting machines, with the real `qemu-img`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Rig, SOON};
use jiff::Timestamp;
use voidvm_model::contract::{
    CreateSource, OperationListRequest, VmCreateRequest, VmDeleteRequest, VmUpdateRequest,
};
use voidvm_model::image::{ImageImportRequest, ImportMode};
use voidvm_model::spec::{DiskFormat, FileOwner, Firmware};
use voidvm_model::storage::PoolUpdateRequest;
use voidvm_model::transfer::{ExportFormat, VmCloneRequest, VmExportRequest, VmImportRequest};
use voidvm_model::{Bytes, ErrorCode, MiB, OperationId, OperationStatus, Origin, VmId, VmState, VmView};
use voidvm_store::{Intent, IntentAction};
use voidvm_testkit::{Plan, SmallDisk, wait_until_async};

fn request(name: &str, source: CreateSource) -> VmCreateRequest {
    VmCreateRequest { memory: Some(MiB(64)), ..VmCreateRequest::new(name, source) }
}

/// A qcow2 image with some data in it.
fn image(rig: &Rig, name: &str, mib: usize) -> PathBuf {
    let raw = rig.dir.path().join("raw");
    let data: Vec<u8> = (0..mib << 20).map(|at| ((at >> 9) ^ at).to_le_bytes()[0]).collect();
    std::fs::write(&raw, data).unwrap();
    let path = rig.dir.path().join(name);
    let status =
        Command::new("qemu-img").args(["convert", "-f", "raw", "-O", "qcow2"]).args([&raw, &path]).status();
    assert!(status.unwrap().success());
    path
}

fn iso(rig: &Rig) -> PathBuf {
    let mut bytes = vec![0_u8; 64 * 2048];
    bytes[16 * 2048..16 * 2048 + 6].copy_from_slice(b"\x01CD001");
    bytes[16 * 2048 + 6] = 1;
    bytes[16 * 2048 + 40..16 * 2048 + 48].copy_from_slice(b"TESTDISC");
    bytes[16 * 2048 + 80..16 * 2048 + 84].copy_from_slice(&64_u32.to_le_bytes());
    bytes[16 * 2048 + 84..16 * 2048 + 88].copy_from_slice(&64_u32.to_be_bytes());
    bytes[16 * 2048 + 128..16 * 2048 + 130].copy_from_slice(&2048_u16.to_le_bytes());
    bytes[16 * 2048 + 130..16 * 2048 + 132].copy_from_slice(&2048_u16.to_be_bytes());
    bytes[17 * 2048..17 * 2048 + 6].copy_from_slice(b"\xffCD001");
    let path = rig.dir.path().join("disc.iso");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

async fn create(rig: &Rig, request: VmCreateRequest) -> VmView {
    let name = request.name.clone();
    rig.succeeded(rig.engine.create(request, Origin::Cli).await).await;
    rig.engine.list().into_iter().find(|vm| vm.name == name).unwrap()
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            files.push(entry.path());
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_made_grown_started_and_removed_with_the_machine() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let source = image(&rig, "an image, with \"odd\" name.qcow2", 4);
    let mut wanted =
        request("copied", CreateSource::ImageCopy { path: text(&source), disk_size: Some(Bytes(64 << 20)) });
    wanted.start = true;
    wanted.firmware = Some(Firmware::Uefi);
    let vm = create(&rig, wanted).await;
    // Who only waits for the end of this operation must not end the engine before the start has begun.
    assert!(vm.operation.is_some() || vm.state != VmState::Stopped, "{:?}", vm.state);
    rig.until(vm.id, VmState::Running).await;
    let disk = &vm.spec.disks[0];
    assert_eq!((disk.format, disk.owner), (DiskFormat::Qcow2, FileOwner::Machine));
    let info = rig.engine.inspect_image(&disk.file).await.unwrap();
    assert_eq!((info.virtual_size, info.used_by.as_deref()), (Bytes(64 << 20), Some("copied")));
    let listed = rig.engine.files(vm.id).await.unwrap();
    assert!(listed.iter().any(|file| file.path.ends_with("uefi-vars.qcow2")));
    let live = rig.engine.delete(VmDeleteRequest::new(vm.id), Origin::Cli).await;
    assert_eq!(live.unwrap_err().code, ErrorCode::InvalidState, "it runs");
    rig.force_off(vm.id).await;
    rig.succeeded(rig.engine.delete(VmDeleteRequest::new(vm.id), Origin::Cli).await).await;
    assert!(rig.engine.get(vm.id).is_err());
    assert!(files_below(&rig.config.data_dir.join("vms")).is_empty());
    assert!(source.exists());
    assert!(rig.store.journal().open().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_used_in_place_is_one_machines_alone_and_never_deleted() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let path = image(&rig, "mine.qcow2", 1);
    let source = CreateSource::ImageInPlace { path: text(&path) };
    let vm = create(&rig, request("first", source.clone())).await;
    assert_eq!(vm.spec.disks[0].owner, FileOwner::User);
    let link = rig.dir.path().join("link.qcow2");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for path in [text(&path), text(&link)] {
        let again = request("second", CreateSource::ImageInPlace { path });
        let error = rig.engine.create(again, Origin::Cli).await.unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (ErrorCode::FileInUse, Some("source.path")));
    }
    // Nor can an edit make it the machine's own.
    let mut spec = vm.spec.clone();
    spec.disks[0].owner = FileOwner::Machine;
    let edit = VmUpdateRequest { spec: Some(spec), ..VmUpdateRequest::new(vm.id) };
    assert_eq!(rig.engine.update(edit, Origin::Cli).await.unwrap_err().code, ErrorCode::InvalidInput);
    rig.succeeded(rig.engine.delete(VmDeleteRequest::new(vm.id), Origin::Cli).await).await;
    assert!(path.exists());
    create(&rig, request("second", source)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_iso_comes_with_an_empty_disk_and_kept_disks_stay() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let source = CreateSource::Iso { path: text(&iso(&rig)), disk_size: Some(Bytes(1 << 30)) };
    let vm = create(&rig, request("installer", source)).await;
    assert!(vm.spec.boot_from_cdrom && vm.spec.cdroms[0].file.is_some());
    rig.succeeded(
        rig.engine
            .delete(VmDeleteRequest { keep_disks: true, ..VmDeleteRequest::new(vm.id) }, Origin::Cli)
            .await,
    )
    .await;
    assert!(vm.spec.disks[0].file.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_said_with_its_field_and_nothing_is_made() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let disk = image(&rig, "disk.qcow2", 1);
    let disc = iso(&rig);
    let page = rig.dir.path().join("page.iso");
    std::fs::write(&page, "<!DOCTYPE html><html>not found</html>").unwrap();
    create(&rig, request("taken", CreateSource::ImageCopy { path: text(&disk), disk_size: None })).await;
    let before = files_below(&rig.config.data_dir.join("vms"));
    let copy = |path: &Path| CreateSource::ImageCopy { path: text(path), disk_size: None };
    let iso = |path: &Path| CreateSource::Iso { path: text(path), disk_size: None };
    let mut greedy = request("greedy", copy(&disk));
    greedy.memory = Some(MiB(4 << 20));
    let mut cut = request("cut", copy(&disk));
    cut.source = CreateSource::ImageCopy { path: text(&disk), disk_size: Some(Bytes(1 << 19)) };
    let cases = [
        (request("taken", copy(&disk)), ErrorCode::NameTaken, "name"),
        (request("", copy(&disk)), ErrorCode::InvalidInput, "name"),
        (request("a\nb", copy(&disk)), ErrorCode::InvalidInput, "name"),
        (request("missing", copy(Path::new("/nowhere/x.qcow2"))), ErrorCode::ImageMissing, "source.path"),
        (request("relative", copy(Path::new("x.qcow2"))), ErrorCode::InvalidInput, "source.path"),
        (request("page", iso(&page)), ErrorCode::ImageInvalid, "source.path"),
        (request("disk as iso", iso(&disk)), ErrorCode::ImageInvalid, "source.path"),
        (request("iso as disk", copy(&disc)), ErrorCode::ImageInvalid, "source.path"),
        (greedy, ErrorCode::NotEnoughMemory, "memory"),
        (cut, ErrorCode::InvalidInput, "source.diskSize"),
        (request("demo", CreateSource::Demo), ErrorCode::ImageMissing, "source"),
    ];
    for (request, code, field) in cases {
        let name = request.name.clone();
        let error = rig.engine.create(request, Origin::Cli).await.unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (code, Some(field)), "{name}: {error:?}");
        assert!(error.hint.is_some(), "{name}");
    }
    assert_eq!(files_below(&rig.config.data_dir.join("vms")), before);
    assert_eq!(rig.engine.list().len(), 1);
    assert_eq!(
        rig.engine.operations(OperationListRequest::default()).await.unwrap().len(),
        1,
        "no operation began"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_that_is_given_up_or_fails_leaves_nothing() {
    let rig = Rig::with(&Plan::default(), &[], |config| config.preferences.builds = 1).await;
    let source = image(&rig, "large.qcow2", 192);
    let copy = || CreateSource::ImageCopy { path: text(&source), disk_size: None };
    let first = rig.engine.create(request("first", copy()), Origin::Cli).await.unwrap();
    let second = rig.engine.create(request("second", copy()), Origin::Cli).await.unwrap();
    let taken = rig.engine.create(request("second", copy()), Origin::Cli).await.unwrap_err();
    assert_eq!(taken.code, ErrorCode::NameTaken, "promised to the one that waits");
    // The second waits its turn; the first is cut in the middle.
    rig.engine.cancel(second.id).await.unwrap();
    wait_until_async(SOON, "the copy under way", async || {
        let now = rig.engine.operation_wait(first.id, std::time::Duration::ZERO).await.unwrap();
        (now.progress.is_some_and(|progress| progress.done > 0) || now.status.is_final()).then_some(())
    })
    .await;
    if rig.engine.cancel(first.id).await.is_ok() {
        assert_eq!(rig.end(&first).await.status, OperationStatus::Cancelled);
        assert!(files_below(&rig.config.data_dir.join("vms")).is_empty());
        assert!(rig.engine.list().is_empty());
    }
    assert_eq!(rig.end(&second).await.status, OperationStatus::Cancelled);
    assert!(rig.store.journal().open().await.unwrap().is_empty());
    // The name is free again.
    create(&rig, request("second", copy())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_beforehand_and_a_disk_that_fills_up_leaves_nothing() {
    let Some(small) = SmallDisk::mount(24 << 10) else { return };
    let rig = Rig::with(&Plan::default(), &[], |config| {
        config.data_dir = small.path().to_owned();
        config.floor = Bytes(1 << 20);
    })
    .await;
    let source = image(&rig, "large.qcow2", 96);
    let copy = CreateSource::ImageCopy { path: text(&source), disk_size: None };
    let error = rig.engine.create(request("large", copy), Origin::Cli).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::DiskFull);
    assert!(error.details.unwrap()["needed"].as_u64().unwrap() > 64 << 20);
    assert!(files_below(&small.path().join("vms")).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_new_machine_and_no_image_takes_what_is_to_stay_free() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let source = image(&rig, "small.qcow2", 2);
    let copy = |name: &str| request(name, CreateSource::ImageCopy { path: text(&source), disk_size: None });
    let empty = || request("empty", CreateSource::Empty { disk_size: Bytes(1 << 30) });
    let vm = create(&rig, copy("web")).await;
    let archive = rig.dir.path().join("web.voidvm");
    let export = |path: &Path| VmExportRequest { id: vm.id, path: text(path), format: ExportFormat::Archive };
    rig.succeeded(rig.engine.export(export(&archive), Origin::Cli).await).await;
    let clone = |linked| VmCloneRequest { id: vm.id, name: format!("clone {linked}"), linked, start: false };
    let import = || VmImportRequest { path: text(&archive), name: Some("again".into()), in_place: false };
    let image = || ImageImportRequest { path: text(&source), mode: ImportMode::Copy, name: None };

    let own = rig.engine.storage().pools().await.unwrap().remove(0);
    let floor = |bytes| PoolUpdateRequest { id: own.id, name: None, floor: Some(Bytes(bytes)) };
    rig.engine.storage().update_pool(floor(1 << 60), Origin::Cli).await.unwrap();
    for (what, refused) in [
        ("a copy", rig.engine.create(copy("copy"), Origin::Cli).await),
        ("an empty disk", rig.engine.create(empty(), Origin::Cli).await),
        ("a full clone", rig.engine.clone_machine(clone(false), Origin::Cli).await),
        ("a linked clone", rig.engine.clone_machine(clone(true), Origin::Cli).await),
        ("an archive", rig.engine.import(import(), Origin::Cli).await),
        ("an image", rig.engine.image_import(image(), Origin::Cli).await),
        ("an export beside it", rig.engine.export(export(&rig.dir.path().join("x")), Origin::Cli).await),
    ] {
        let error = match refused {
            Err(error) => error,
            Ok(operation) => rig.failed(Ok(operation)).await.1.error.unwrap(),
        };
        assert_eq!(error.code, ErrorCode::DiskFull, "{what}: {error:?}");
        assert_eq!(error.details.unwrap()["available"], 0, "{what}");
    }
    assert_eq!(rig.engine.list().len(), 1);
    assert_eq!(std::fs::read_dir(rig.config.data_dir.join("vms")).unwrap().count(), 1);

    rig.engine.storage().update_pool(floor(1 << 20), Origin::Cli).await.unwrap();
    create(&rig, copy("copy")).await;
    rig.succeeded(rig.engine.clone_machine(clone(false), Origin::Cli).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_of_a_creation_or_deletion_is_cleared_up() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let vms = rig.config.data_dir.join("vms");
    let (made, gone) = (VmId::new(), VmId::new());
    for id in [made, gone] {
        std::fs::create_dir_all(vms.join(id.to_string())).unwrap();
    }
    let half = vms.join(made.to_string()).join("disk0.qcow2");
    let part = vms.join(made.to_string()).join("disk0.qcow2.part");
    let left = vms.join(gone.to_string()).join("disk0.qcow2");
    let mine = rig.dir.path().join("mine.img");
    for file in [&half, &part, &left, &mine] {
        std::fs::write(file, "x").unwrap();
    }
    for (vm_id, action, files) in [
        (made, IntentAction::Create, vec![half.clone(), mine.clone()]),
        (gone, IntentAction::Delete, vec![left.clone()]),
    ] {
        let intent = Intent { operation_id: OperationId::new(), vm_id: Some(vm_id), action, files };
        rig.store.journal().begin(&intent, Timestamp::now()).await.unwrap();
    }
    let rig = rig.reopen().await;
    assert!(files_below(&vms).is_empty());
    assert!(mine.exists(), "outside the machine's directory nothing is ours");
    assert!(rig.store.journal().open().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_disk_breaks_the_machine_and_its_return_mends_it() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let path = image(&rig, "wandering.qcow2", 1);
    let vm = create(&rig, request("wanderer", CreateSource::ImageInPlace { path: text(&path) })).await;
    let away = path.with_extension("away");
    std::fs::rename(&path, &away).unwrap();
    let (code, _) = rig.failed(rig.engine.start(vm.id, Origin::Cli).await).await;
    assert_eq!(code, ErrorCode::ImageMissing);
    let view = rig.engine.get(vm.id).unwrap();
    assert_eq!((view.state, view.attention.unwrap().code), (VmState::Broken, ErrorCode::ImageMissing));
    let rename = VmUpdateRequest { name: Some("roamer".to_owned()), ..VmUpdateRequest::new(vm.id) };
    assert_eq!(
        rig.engine.update(rename, Origin::Cli).await.unwrap().state,
        VmState::Broken,
        "a name mends nothing"
    );
    let rig = rig.reopen().await;
    assert_eq!(rig.state(vm.id), VmState::Broken);
    std::fs::rename(&away, &path).unwrap();
    rig.start(vm.id).await;
    rig.force_off(vm.id).await;
    let mode = std::fs::metadata(rig.config.data_dir.join("vms")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_engine_interrupts_a_creation_and_leaves_nothing() {
    let rig = Rig::with(&Plan::default(), &[], |config| config.preferences.builds = 1).await;
    let source = image(&rig, "large.qcow2", 192);
    let copy = || CreateSource::ImageCopy { path: text(&source), disk_size: None };
    let first = rig.engine.create(request("first", copy()), Origin::Cli).await.unwrap();
    let second = rig.engine.create(request("second", copy()), Origin::Cli).await.unwrap();
    let rig = rig.reopen().await;
    let ended = |id| rig.engine.operation_wait(id, SOON);
    assert_eq!(ended(second.id).await.unwrap().status, OperationStatus::Interrupted);
    if ended(first.id).await.unwrap().status == OperationStatus::Interrupted {
        assert!(rig.engine.list().is_empty());
        assert!(files_below(&rig.config.data_dir.join("vms")).is_empty());
    }
}
