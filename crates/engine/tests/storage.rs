//! Pools and volumes, with the real `qemu-img` and machines on the fake QEMU.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod common;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Rig, row, spec};
use jiff::Timestamp;
use voidvm_engine::Storage;
use voidvm_model::contract::VmUpdateRequest;
use voidvm_model::spec::{Disk, DiskFormat, FileOwner};
use voidvm_model::storage::{
    Pool, PoolCreateRequest, PoolHealth, PoolUpdateRequest, Volume, VolumeCopyRequest, VolumeCreateRequest,
    VolumeMoveRequest, VolumeRef, VolumeResizeRequest,
};
use voidvm_model::{
    Bytes, ErrorBody, ErrorCode, Event, Operation, OperationId, OperationResult, OperationStatus, Origin,
    StreamItem, VmId, VmState,
};
use voidvm_store::IntentAction::{VolumeMove, VolumeRemove, VolumeWrite};
use voidvm_store::{Intent, VmRow};
use voidvm_testkit::Plan;

const MIB: u64 = 1 << 20;
const CLI: Origin = Origin::Cli;

fn qemu_img(args: &[&str]) {
    let output = Command::new("qemu-img").args(args).output().unwrap();
    assert!(output.status.success(), "qemu-img {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Does something to a guest's bytes.
fn io(path: &Path, format: &str, command: &str) {
    let status = Command::new("qemu-io").args(["-f", format, "-c", command]).arg(path).output().unwrap();
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.status.success() && !said.contains("verification failed"), "{command}: {said}");
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn taken(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

fn disk(file: &Path, owner: FileOwner) -> Disk {
    Disk::new("disk0".parse().unwrap(), file.to_owned(), DiskFormat::Qcow2, owner)
}

/// A rig with one machine whose own disk has a pattern in it; its id and the disk.
async fn with_machine(plan: &Plan) -> (Rig, VmId, PathBuf) {
    let mut machine: VmRow = row("web", spec());
    let id = machine.id;
    let rig = Rig::with(plan, &[], |config| {
        let file = config.machine_dir(id).join("disk0.qcow2");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        qemu_img(&["create", "-q", "-f", "qcow2", file.to_str().unwrap(), "64M"]);
        io(&file, "qcow2", "write -P 7 1M 3M");
        machine.spec.disks.push(disk(&file, FileOwner::Machine));
    })
    .await;
    rig.store.vms().insert(&machine).await.unwrap();
    let rig = rig.reopen().await;
    let file = rig.config.machine_dir(id).join("disk0.qcow2");
    (rig, id, file)
}

async fn own(storage: &Storage) -> Pool {
    let pools = storage.pools().await.unwrap();
    assert!(pools[0].builtin);
    pools.into_iter().next().unwrap()
}

async fn user_pool(rig: &Rig, name: &str, dir: &Path) -> Pool {
    let request = PoolCreateRequest { name: name.to_owned(), path: text(dir), floor: Some(Bytes(0)) };
    rig.engine.storage().create_pool(request, CLI).await.unwrap()
}

async fn volume(storage: &Storage, pool: &Pool, name: &str) -> Volume {
    let volumes = storage.volumes(pool.id).await.unwrap();
    volumes
        .iter()
        .find(|volume| volume.name == name)
        .cloned()
        .unwrap_or_else(|| panic!("{name}: {volumes:#?}"))
}

fn refer(volume: &Volume) -> VolumeRef {
    VolumeRef { id: volume.pool, path: volume.path.clone() }
}

fn size(volume: &Volume, mib: u64, shrink: bool) -> VolumeResizeRequest {
    VolumeResizeRequest { id: volume.pool, path: volume.path.clone(), size: Bytes(mib * MIB), shrink }
}

fn new(pool: &Pool, name: &str, format: DiskFormat, full: bool) -> VolumeCreateRequest {
    VolumeCreateRequest { id: pool.id, name: name.to_owned(), size: Bytes(64 * MIB), format, full }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, ErrorBody>, code: ErrorCode) -> ErrorBody {
    let error = answer.unwrap_err();
    assert_eq!(error.code, code, "{error:?}");
    error
}

/// Nothing half made is left anywhere, and no intent.
async fn is_tidy(rig: &Rig) {
    assert_eq!(rig.store.journal().open().await.unwrap(), []);
    let mut dirs = vec![rig.dir.path().to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            let name = text(&path);
            let unfinished = [".part", ".compact", ".mended"].iter().any(|end| name.ends_with(end));
            assert!(!unfinished, "{name} is left");
            if path.is_dir() {
                dirs.push(path);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_made_copied_and_removed() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let storage = rig.engine.storage();
    let pool = own(&storage).await;
    assert_eq!((pool.health, pool.path.as_str()), (PoolHealth::Ok, rig.config.data_dir.to_str().unwrap()));
    rig.succeeded(storage.create(new(&pool, "data", DiskFormat::Qcow2, false), CLI).await).await;
    let data = volume(&storage, &pool, "data.qcow2").await;
    assert_eq!((data.virtual_size, data.format), (Bytes(64 * MIB), Some(DiskFormat::Qcow2)));
    assert!(data.allocated.0 < MIB && !data.orphaned && data.vm.is_none() && !data.encrypted);
    assert_eq!(data.path, text(&rig.config.data_dir.join("volumes/data.qcow2")));
    rig.succeeded(storage.create(new(&pool, "full", DiskFormat::Raw, true), CLI).await).await;
    let full = volume(&storage, &pool, "full.raw").await;
    assert_eq!((full.format, full.allocated), (Some(DiskFormat::Raw), Bytes(64 * MIB)));
    assert!(own(&storage).await.allocated.0 >= 64 * MIB);

    for name in ["data", "data.qcow2"] {
        let error = refused(
            storage.create(new(&pool, name, DiskFormat::Qcow2, false), CLI).await,
            ErrorCode::NameTaken,
        );
        assert_eq!(error.field.as_deref(), Some("name"));
    }
    for name in ["", " ", ".hidden", "a/b", "../up", "a\nb", "x.raw"] {
        refused(
            storage.create(new(&pool, name, DiskFormat::Qcow2, false), CLI).await,
            ErrorCode::InvalidInput,
        );
    }
    for bytes in [0, MIB - 512, (64 << 40) + 512, MIB + 1] {
        let request = VolumeCreateRequest { size: Bytes(bytes), ..new(&pool, "x", DiskFormat::Qcow2, false) };
        let error = refused(storage.create(request, CLI).await, ErrorCode::InvalidInput);
        assert_eq!(error.field.as_deref(), Some("size"));
    }

    io(Path::new(&data.path), "qcow2", "write -P 9 5M 2M");
    let copy = VolumeCopyRequest {
        id: pool.id,
        path: data.path.clone(),
        target: pool.id,
        name: "plain".to_owned(),
        format: DiskFormat::Raw,
    };
    rig.succeeded(storage.copy(copy, CLI).await).await;
    let plain = volume(&storage, &pool, "plain.raw").await;
    assert_eq!(plain.virtual_size, Bytes(64 * MIB));
    io(Path::new(&plain.path), "raw", "read -P 9 5M 2M");
    assert!(plain.allocated.0 < 4 * MIB, "a copy has the holes of what it is a copy of");

    for volume in [&data, &full, &plain] {
        let ended = rig.succeeded(storage.remove(refer(volume), CLI).await).await;
        let Some(OperationResult::Removed { bytes }) = ended.result else { panic!("{ended:?}") };
        assert!(bytes.0 > 0);
        refused(storage.remove(refer(volume), CLI).await, ErrorCode::NotFound);
    }
    assert_eq!(storage.volumes(pool.id).await.unwrap(), []);
    is_tidy(&rig).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_are_directories_with_a_floor() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let storage = rig.engine.storage();
    let dir = rig.dir.path().join("more/disks");
    let pool = user_pool(&rig, "more", &dir).await;
    assert!(dir.is_dir() && !pool.builtin && pool.health == PoolHealth::Ok);
    let request =
        |name: &str, path: &Path| PoolCreateRequest { name: name.into(), path: text(path), floor: None };
    let link = rig.dir.path().join("link");
    std::os::unix::fs::symlink(&dir, &link).unwrap();
    for (name, path, code, field) in [
        ("more", rig.dir.path().join("other"), ErrorCode::NameTaken, "name"),
        ("voidVM", rig.dir.path().join("other"), ErrorCode::NameTaken, "name"),
        ("", rig.dir.path().join("other"), ErrorCode::InvalidInput, "name"),
        ("again", dir.clone(), ErrorCode::InvalidInput, "path"),
        ("again", link, ErrorCode::InvalidInput, "path"),
        ("inside", rig.config.data_dir.join("vms"), ErrorCode::InvalidInput, "path"),
        ("file", rig.config.data_dir.join("voidvm.db"), ErrorCode::InvalidInput, "path"),
        ("relative", PathBuf::from("x"), ErrorCode::InvalidInput, "path"),
    ] {
        let error = refused(storage.create_pool(request(name, &path), CLI).await, code);
        assert_eq!(error.field.as_deref(), Some(field), "{name} {path:?}");
    }

    // What lies there and is a disk is a volume; what is none is not.
    qemu_img(&["create", "-q", "-f", "qcow2", dir.join("old.qcow2").to_str().unwrap(), "1M"]);
    qemu_img(&["create", "-q", "-f", "qcow2", dir.join("no-end").to_str().unwrap(), "2M"]);
    std::fs::write(dir.join("notes.txt"), "text").unwrap();
    std::fs::write(dir.join("README"), "text").unwrap();
    std::fs::write(dir.join("broken.qcow2"), "text").unwrap();
    std::fs::write(dir.join("x.qcow2.part"), "text").unwrap();
    std::fs::create_dir(dir.join("sub.qcow2")).unwrap();
    // A guest can write any header into its raw disk.
    std::fs::copy(dir.join("old.qcow2"), dir.join("guest.raw")).unwrap();
    std::fs::write(dir.join("sealed.raw"), b"LUKS\xba\xbe and more").unwrap();
    let volumes = storage.volumes(pool.id).await.unwrap();
    let seen: Vec<_> =
        volumes.iter().map(|volume| (volume.name.as_str(), volume.format, volume.encrypted)).collect();
    assert_eq!(
        seen,
        [
            ("broken.qcow2", None, false),
            ("guest.raw", Some(DiskFormat::Raw), false),
            ("no-end", Some(DiskFormat::Qcow2), false),
            ("old.qcow2", Some(DiskFormat::Qcow2), false),
            ("sealed.raw", Some(DiskFormat::Raw), true),
        ]
    );
    let named = |name: &str| refer(volumes.iter().find(|volume| volume.name == name).unwrap());
    refused(storage.reclaim(named("sealed.raw"), CLI).await, ErrorCode::Unsupported);
    refused(storage.reclaim(named("broken.qcow2"), CLI).await, ErrorCode::ImageInvalid);
    let foreign = VolumeRef { id: pool.id, path: text(&dir.join("notes.txt")) };
    refused(storage.remove(foreign, CLI).await, ErrorCode::NotFound);

    // More is to stay free than there is.
    let floor = PoolUpdateRequest { id: pool.id, name: Some("low".into()), floor: Some(Bytes(1 << 60)) };
    let low = storage.update_pool(floor, CLI).await.unwrap();
    assert_eq!((low.health, low.name.as_str()), (PoolHealth::Low, "low"));
    assert_eq!(low.problem.unwrap().code, ErrorCode::DiskFull);
    let error =
        refused(storage.create(new(&pool, "x", DiskFormat::Qcow2, false), CLI).await, ErrorCode::DiskFull);
    let details = error.details.unwrap();
    assert_eq!(details["available"], 0);
    assert!(details["needed"].as_u64().unwrap() > 0);
    refused(storage.reclaim(named("old.qcow2"), CLI).await, ErrorCode::DiskFull);

    std::fs::remove_dir_all(&dir).unwrap();
    let pools = storage.pools().await.unwrap();
    assert_eq!(pools[1].health, PoolHealth::Missing);
    refused(storage.create(new(&pool, "x", DiskFormat::Qcow2, false), CLI).await, ErrorCode::NotFound);
    let rig = rig.reopen().await;
    let storage = rig.engine.storage();
    assert_eq!(storage.pools().await.unwrap().len(), 2, "a pool that is not there stays known");
    storage.delete_pool(pool.id, CLI).await.unwrap();
    refused(storage.delete_pool(pool.id, CLI).await, ErrorCode::NotFound);
    let own = own(&storage).await;
    refused(storage.delete_pool(own.id, CLI).await, ErrorCode::InvalidState);
    let floor = PoolUpdateRequest { id: own.id, name: Some("home".into()), floor: Some(Bytes(MIB)) };
    storage.update_pool(floor, CLI).await.unwrap();
    let rig = rig.reopen().await;
    let pools = rig.engine.storage().pools().await.unwrap();
    assert_eq!((pools.len(), pools[0].name.as_str(), pools[0].floor), (1, "home", Bytes(MIB)));
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_change_only_where_nothing_is_lost() {
    let (rig, id, file) = with_machine(&Plan::default()).await;
    let storage = rig.engine.storage();
    let pool = own(&storage).await;
    let volume = volume(&storage, &pool, "disk0.qcow2").await;
    assert_eq!((volume.vm, volume.vm_name.as_deref()), (Some(id), Some("web")));
    let error = refused(storage.resize(size(&volume, 32, false), CLI).await, ErrorCode::InvalidInput);
    assert_eq!(error.field.as_deref(), Some("size"));
    rig.succeeded(storage.resize(size(&volume, 128, false), CLI).await).await;
    let info = rig.engine.inspect_image(&file).await.unwrap();
    assert_eq!(info.virtual_size, Bytes(128 * MIB));
    io(&file, "qcow2", "read -P 7 1M 3M");

    let (code, ended) = rig.failed(storage.resize(size(&volume, 2, true), CLI).await).await;
    assert_eq!(code, ErrorCode::InvalidState, "content lies beyond: {ended:?}");
    let (code, _) = rig.failed(storage.resize(size(&volume, 64, true), CLI).await).await;
    assert_eq!(code, ErrorCode::InvalidState, "no partition table says where content ends");
    // A table with one partition from 1 MiB to 100 MiB, then to 32 MiB.
    let table = |end: u64| {
        let sectors = u32::try_from(end * 2048 - 2048).unwrap();
        let mut sector = vec![0_u8; 512];
        sector[450] = 0x83;
        sector[454..458].copy_from_slice(&2048_u32.to_le_bytes());
        sector[458..462].copy_from_slice(&sectors.to_le_bytes());
        sector[510..512].copy_from_slice(&[0x55, 0xaa]);
        let head = rig.dir.path().join("head");
        std::fs::write(&head, sector).unwrap();
        io(&file, "qcow2", &format!("write -s {} 0 512", head.display()));
    };
    table(100);
    let (code, ended) = rig.failed(storage.resize(size(&volume, 64, true), CLI).await).await;
    assert_eq!(code, ErrorCode::InvalidState);
    assert!(ended.error.unwrap().message.contains("100 MB"));
    table(32);
    rig.succeeded(storage.resize(size(&volume, 32, true), CLI).await).await;
    assert_eq!(rig.engine.inspect_image(&file).await.unwrap().virtual_size, Bytes(32 * MIB));
    io(&file, "qcow2", "read -P 7 1M 3M");
    qemu_img(&["check", "-q", &text(&file)]);
    is_tidy(&rig).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_runs_keeps_its_disks() {
    let (rig, id, file) = with_machine(&Plan::default()).await;
    let storage = rig.engine.storage();
    let pool = own(&storage).await;
    let other = user_pool(&rig, "other", &rig.dir.path().join("other")).await;
    let volume = volume(&storage, &pool, "disk0.qcow2").await;
    rig.start(id).await;
    refused(storage.resize(size(&volume, 32, true), CLI).await, ErrorCode::InvalidState);
    refused(storage.reclaim(refer(&volume), CLI).await, ErrorCode::InvalidState);
    refused(storage.check(refer(&volume), CLI).await, ErrorCode::InvalidState);
    refused(storage.remove(refer(&volume), CLI).await, ErrorCode::FileInUse);
    let relocate = VolumeMoveRequest { id: pool.id, path: volume.path.clone(), target: other.id };
    refused(storage.relocate(relocate, CLI).await, ErrorCode::InvalidState);
    let copy = VolumeCopyRequest {
        id: pool.id,
        path: volume.path.clone(),
        target: other.id,
        name: "copy".into(),
        format: DiskFormat::Qcow2,
    };
    refused(storage.copy(copy, CLI).await, ErrorCode::InvalidState);
    assert!(file.exists());
    rig.force_off(id).await;
    rig.succeeded(storage.check(refer(&volume), CLI).await).await;
    is_tidy(&rig).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn space_that_is_no_longer_needed_is_given_back() {
    let (rig, _, file) = with_machine(&Plan::default()).await;
    let storage = rig.engine.storage();
    let pool = own(&storage).await;
    io(&file, "qcow2", "write -P 3 8M 32M");
    io(&file, "qcow2", "write -P 0 8M 32M");
    let volume = volume(&storage, &pool, "disk0.qcow2").await;
    let before = taken(&file);
    let ended = rig.succeeded(storage.reclaim(refer(&volume), CLI).await).await;
    let Some(OperationResult::Reclaimed { before: said, after }) = ended.result else { panic!("{ended:?}") };
    assert_eq!((said.0, after.0), (before, taken(&file)));
    assert!(before > 32 * MIB && after.0 < 8 * MIB, "{before} {after}");
    io(&file, "qcow2", "read -P 7 1M 3M");
    io(&file, "qcow2", "read -P 0 8M 32M");
    // Once more there is nothing to gain, and the file stays the same one.
    let inode = std::fs::metadata(&file).unwrap().ino();
    let ended = rig.succeeded(storage.reclaim(refer(&volume), CLI).await).await;
    assert!(matches!(ended.result, Some(OperationResult::Reclaimed { before, after }) if before == after));
    assert_eq!(std::fs::metadata(&file).unwrap().ino(), inode);
    is_tidy(&rig).await;
}

/// A cluster that is counted and not used, or used and not counted.
fn damage(file: &Path, leak: bool) {
    use std::os::unix::fs::FileExt;
    let image = std::fs::File::options().read(true).write(true).open(file).unwrap();
    let long = |at: u64| {
        let mut bytes = [0; 8];
        image.read_exact_at(&mut bytes, at).unwrap();
        u64::from_be_bytes(bytes)
    };
    let block = long(long(48));
    let clusters = image.metadata().unwrap().len().div_ceil(65536);
    if leak {
        image.set_len((clusters + 1) * 65536).unwrap();
        image.write_all_at(&[0, 1], block + 2 * clusters).unwrap();
    } else {
        image.write_all_at(&[0, 0], block + 2 * 6).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_volumes_are_mended_in_a_copy() {
    let (rig, _, file) = with_machine(&Plan::default()).await;
    let storage = rig.engine.storage();
    let pool = own(&storage).await;
    let volume = volume(&storage, &pool, "disk0.qcow2").await;
    let check = async || {
        let ended = rig.succeeded(storage.check(refer(&volume), CLI).await).await;
        let Some(OperationResult::Checked(found)) = ended.result else { panic!("{ended:?}") };
        (found.corruptions > 0, found.leaks > 0, found.repaired)
    };
    assert_eq!(check().await, (false, false, false));
    damage(&file, true);
    assert_eq!(check().await, (false, true, true));
    assert_eq!(check().await, (false, false, false));
    damage(&file, false);
    let broken = std::fs::read(&file).unwrap();
    assert_eq!(check().await, (true, false, true));
    assert_eq!(check().await, (false, false, false));
    io(&file, "qcow2", "read -P 7 1M 3M");
    let kept: Vec<PathBuf> = std::fs::read_dir(file.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| text(path).contains("damaged"))
        .collect();
    assert_eq!(kept.len(), 1);
    assert!(std::fs::read(&kept[0]).unwrap() == broken, "the damaged file is kept as it was");
    is_tidy(&rig).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_disk_takes_its_machine_along() {
    let (rig, id, file) = with_machine(&Plan::default()).await;
    let storage = rig.engine.storage();
    let pool = own(&storage).await;
    // One on the same file system, one on another where there is one.
    let far = tempfile::Builder::new().prefix("vv-").tempdir_in("/dev/shm");
    let mut dirs = vec![rig.dir.path().join("near")];
    match &far {
        Ok(far) => dirs.push(far.path().to_owned()),
        Err(error) => eprintln!("no move between file systems: {error}"),
    }
    let (mut from, mut volume) = (pool.clone(), volume(&storage, &pool, "disk0.qcow2").await);
    for (at, dir) in dirs.iter().enumerate() {
        let to = user_pool(&rig, &format!("pool {at}"), dir).await;
        let request = VolumeMoveRequest { id: from.id, path: volume.path.clone(), target: to.id };
        rig.succeeded(storage.relocate(request, CLI).await).await;
        let now = rig.engine.get(id).unwrap().spec.disks[0].clone();
        assert_eq!((now.file.as_path(), now.owner), (dir.join("web-disk0.qcow2").as_path(), FileOwner::User));
        assert!(!Path::new(&volume.path).exists());
        io(&now.file, "qcow2", "read -P 7 1M 3M");
        volume = self::volume(&storage, &to, "web-disk0.qcow2").await;
        assert_eq!(volume.vm, Some(id));
        from = to;
    }
    assert!(!file.exists());
    rig.start(id).await;
    rig.force_off(id).await;
    is_tidy(&rig).await;
    // And back, without a machine: into the own pool's directory of volumes.
    let mut spec = rig.engine.get(id).unwrap().spec;
    spec.disks.clear();
    let request = VmUpdateRequest { spec: Some(spec), ..VmUpdateRequest::new(id) };
    rig.engine.update(request, CLI).await.unwrap();
    let request = VolumeMoveRequest { id: from.id, path: volume.path.clone(), target: pool.id };
    rig.succeeded(storage.relocate(request, CLI).await).await;
    assert!(rig.config.data_dir.join("volumes/web-disk0.qcow2").is_file());
    assert!(!Path::new(&volume.path).exists());
    is_tidy(&rig).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_stand_on_is_left_alone() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let storage = rig.engine.storage();
    let pool = own(&storage).await;
    let dir = rig.dir.path().join("far");
    let other = user_pool(&rig, "far", &dir).await;
    rig.succeeded(storage.create(new(&pool, "base", DiskFormat::Qcow2, false), CLI).await).await;
    let base = volume(&storage, &pool, "base.qcow2").await;
    io(Path::new(&base.path), "qcow2", "write -P 1 0 1M");
    let child = dir.join("child.qcow2");
    qemu_img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &base.path, child.to_str().unwrap()]);
    let base = volume(&storage, &pool, "base.qcow2").await;
    assert_eq!(base.children, [text(&child)]);
    let relocate = VolumeMoveRequest { id: pool.id, path: base.path.clone(), target: other.id };
    for answer in [
        storage.remove(refer(&base), CLI).await,
        storage.reclaim(refer(&base), CLI).await,
        storage.resize(size(&base, 128, false), CLI).await,
        storage.relocate(relocate, CLI).await,
    ] {
        let error = refused(answer, ErrorCode::HasChildren);
        assert_eq!(error.details.unwrap()["children"][0], text(&child));
    }
    // A machine that wrote to it would break the other.
    let machine = row("web", spec());
    let id = machine.id;
    rig.store.vms().insert(&machine).await.unwrap();
    let rig = rig.reopen().await;
    let storage = rig.engine.storage();
    let attach = |file: &str, read_only: bool| {
        let mut spec = spec();
        spec.disks.push(Disk { read_only, ..disk(Path::new(file), FileOwner::User) });
        VmUpdateRequest { spec: Some(spec), ..VmUpdateRequest::new(id) }
    };
    let error = refused(rig.engine.update(attach(&base.path, false), CLI).await, ErrorCode::HasChildren);
    assert_eq!(error.field.as_deref(), Some("spec.disks[0].file"));
    rig.engine.update(attach(&base.path, true), CLI).await.unwrap();
    rig.engine.update(attach(child.to_str().unwrap(), false), CLI).await.unwrap();
    // A compact child still stands on its parent.
    let volume = volume(&storage, &other, "child.qcow2").await;
    assert_eq!((volume.vm, volume.backing_file.as_deref()), (Some(id), Some(base.path.as_str())));
    io(&child, "qcow2", "write -P 2 4M 8M");
    io(&child, "qcow2", "write -P 0 4M 8M");
    rig.succeeded(storage.reclaim(refer(&volume), CLI).await).await;
    assert!(taken(&child) < 2 * MIB);
    io(&child, "qcow2", "read -P 1 0 1M");
    is_tidy(&rig).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_machine_writes_to_a_file_and_several_may_read_it() {
    let (one, other) = (row("one", spec()), row("other", spec()));
    let rig = Rig::new(&Plan::default(), &[one.clone(), other.clone()]).await;
    let storage = rig.engine.storage();
    let pool = own(&storage).await;
    rig.succeeded(storage.create(new(&pool, "shared", DiskFormat::Qcow2, false), CLI).await).await;
    let shared = volume(&storage, &pool, "shared.qcow2").await;
    let attach = |id: VmId, read_only: bool| {
        let mut spec = spec();
        spec.disks.push(Disk { read_only, ..disk(Path::new(&shared.path), FileOwner::User) });
        rig.engine.update(VmUpdateRequest { spec: Some(spec), ..VmUpdateRequest::new(id) }, CLI)
    };
    attach(one.id, false).await.unwrap();
    refused(attach(other.id, false).await, ErrorCode::FileInUse);
    refused(attach(other.id, true).await, ErrorCode::FileInUse);
    attach(one.id, true).await.unwrap();
    attach(other.id, true).await.unwrap();
    refused(attach(one.id, false).await, ErrorCode::FileInUse);
    let error = refused(storage.remove(refer(&shared), CLI).await, ErrorCode::FileInUse);
    assert_eq!(error.details.unwrap()["usedBy"], "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_machines_that_are_gone_have_left_is_found() {
    let (rig, id, file) = with_machine(&Plan::default()).await;
    let storage = rig.engine.storage();
    let pool = own(&storage).await;
    let left = rig.config.machine_dir(VmId::new());
    std::fs::create_dir_all(left.join("tpm")).unwrap();
    qemu_img(&["create", "-q", "-f", "qcow2", left.join("disk0.qcow2").to_str().unwrap(), "1M"]);
    std::fs::write(left.join("tpm/state"), "x").unwrap();
    let volumes = storage.volumes(pool.id).await.unwrap();
    let orphans: Vec<_> = volumes.iter().filter(|volume| volume.orphaned).collect();
    assert_eq!(
        orphans.iter().map(|volume| volume.name.as_str()).collect::<Vec<_>>(),
        ["disk0.qcow2", "state"]
    );
    assert!(volumes.iter().any(|volume| volume.vm == Some(id) && !volume.orphaned));
    for orphan in orphans {
        rig.succeeded(storage.remove(refer(orphan), CLI).await).await;
    }
    assert!(!left.exists() && file.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn work_can_be_given_up_and_leaves_nothing() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let storage = rig.engine.storage();
    let pool = own(&storage).await;
    let mut events = Box::pin(rig.engine.bus().subscribe(None));
    let mut large = new(&pool, "large", DiskFormat::Raw, true);
    large.size = Bytes(512 * MIB);
    rig.succeeded(storage.create(large, CLI).await).await;
    let large = volume(&storage, &pool, "large.raw").await;
    io(Path::new(&large.path), "raw", "write -P 5 0 512M");
    let copy = VolumeCopyRequest {
        id: pool.id,
        path: large.path.clone(),
        target: pool.id,
        name: "copy".into(),
        format: DiskFormat::Qcow2,
    };
    let operation: Operation = storage.copy(copy.clone(), CLI).await.unwrap();
    refused(storage.copy(copy, CLI).await, ErrorCode::Busy);
    refused(storage.remove(refer(&large), CLI).await, ErrorCode::Busy);
    let ended = rig.engine.cancel(operation.id).await.unwrap();
    assert_eq!(ended.status, OperationStatus::Cancelled, "{ended:?}");
    let volumes = storage.volumes(pool.id).await.unwrap();
    assert_eq!(volumes.len(), 1, "{volumes:?}");
    rig.succeeded(storage.remove(refer(&large), CLI).await).await;
    is_tidy(&rig).await;
    let mut changed = 0;
    while let Ok(Some(item)) = tokio::time::timeout(
        std::time::Duration::from_millis(200),
        futures_util::StreamExt::next(&mut events),
    )
    .await
    {
        changed +=
            usize::from(matches!(item, StreamItem::Event(event) if event.event == Event::StorageChanged));
    }
    assert!(changed >= 3, "{changed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_kill_left_is_finished_or_undone() {
    let (rig, id, file) = with_machine(&Plan::default()).await;
    let dir = rig.dir.path().join("far");
    user_pool(&rig, "far", &dir).await;
    let write = |name: &str| {
        let path = dir.join(name);
        std::fs::copy(&file, &path).unwrap();
        path
    };
    let intend = async |action, vm_id, files: Vec<PathBuf>| {
        let intent = Intent { operation_id: OperationId::new(), vm_id, action, files };
        rig.store.journal().begin(&intent, Timestamp::now()).await.unwrap();
    };
    // Being written.
    let (part, finished) = (write("new.qcow2.part"), write("new.qcow2"));
    intend(VolumeWrite, None, vec![part.clone(), finished.clone()]).await;
    // Being removed: one that nobody has, and one that a machine has.
    let doomed = write("doomed.qcow2");
    intend(VolumeRemove, None, vec![doomed.clone()]).await;
    intend(VolumeRemove, None, vec![file.clone()]).await;
    // Being moved: half copied, wholly copied, linked, with a stranger in the way, and with the machine gone over.
    let (old, half) = (write("old.qcow2"), dir.join("half.qcow2"));
    let half_part = write("half.qcow2.part");
    intend(VolumeMove, None, vec![old.clone(), half.clone()]).await;
    let whole = write("whole.qcow2");
    intend(VolumeMove, None, vec![old.clone(), whole.clone()]).await;
    let linked = dir.join("linked.qcow2");
    std::fs::hard_link(&file, &linked).unwrap();
    intend(VolumeMove, Some(id), vec![file.clone(), linked.clone()]).await;
    let (stranger, stranger_part) = (write("stranger.qcow2"), write("stranger.qcow2.part"));
    intend(VolumeMove, None, vec![old.clone(), stranger.clone()]).await;
    let before = write("before.qcow2");
    intend(VolumeMove, Some(id), vec![before.clone(), file.clone()]).await;
    let rig = rig.reopen().await;
    for gone in [&part, &doomed, &half_part, &half, &whole, &linked, &stranger_part, &before] {
        assert!(!gone.exists(), "{}", gone.display());
    }
    for there in [&finished, &file, &old, &stranger] {
        assert!(there.exists(), "{}", there.display());
    }
    is_tidy(&rig).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_volumes_are_listed_in_a_moment() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let storage = rig.engine.storage();
    let dir = rig.dir.path().join("many");
    let pool = user_pool(&rig, "many", &dir).await;
    let one = dir.join("volume-0.qcow2");
    qemu_img(&["create", "-q", "-f", "qcow2", one.to_str().unwrap(), "20G"]);
    for number in 1..1000 {
        std::fs::copy(&one, dir.join(format!("volume-{number}.qcow2"))).unwrap();
    }
    let began = std::time::Instant::now();
    let volumes = storage.volumes(pool.id).await.unwrap();
    let took = began.elapsed();
    eprintln!("1,000 volumes in {took:?}");
    assert_eq!(volumes.len(), 1000);
    assert!(volumes.iter().all(|volume| volume.virtual_size == Bytes(20 << 30)));
    // Far above what it takes on a loaded computer, far below what a thousand processes take.
    assert!(took < std::time::Duration::from_secs(2), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_machine_sees_its_disk_grow_while_it_runs() {
    let binary = PathBuf::from("/usr/bin/qemu-system-x86_64");
    if !binary.exists() {
        eprintln!("skipped: no QEMU here");
        return;
    }
    let (mut rig, id, file) = with_machine(&Plan::default()).await;
    rig.config.preferences.qemu_binary = Some(binary);
    rig.config.timing.mute_after = std::time::Duration::from_secs(10);
    let rig = rig.reopen().await;
    rig.start(id).await;
    let process = rig.engine.get(id).unwrap().run.unwrap().pid;
    let storage = rig.engine.storage();
    let pool = own(&storage).await;
    let volume = volume(&storage, &pool, "disk0.qcow2").await;
    let outcome = async {
        let grown = storage.resize(size(&volume, 96, false), CLI).await?;
        rig.engine.operation_wait(grown.id, common::SOON).await
    };
    let outcome = outcome.await;
    voidvm_testkit::fake::kill(process);
    rig.until(id, VmState::Crashed).await;
    assert_eq!(outcome.unwrap().status, OperationStatus::Succeeded);
    assert_eq!(rig.engine.inspect_image(&file).await.unwrap().virtual_size, Bytes(96 * MIB));
    io(&file, "qcow2", "read -P 7 1M 3M");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_another_program_writes_to_is_left_alone() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let storage = rig.engine.storage();
    let pool = own(&storage).await;
    rig.succeeded(storage.create(new(&pool, "data", DiskFormat::Qcow2, false), CLI).await).await;
    let data = volume(&storage, &pool, "data.qcow2").await;
    let mut writer = Command::new("qemu-io")
        .args(["-f", "qcow2", &data.path])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Its prompt says that it has the file.
    std::io::Read::read_exact(writer.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    let is_refused = async |work: Result<Operation, ErrorBody>| {
        let ended = rig.end(&work.unwrap()).await;
        assert_eq!(ended.status, OperationStatus::Failed, "{ended:?}");
    };
    is_refused(storage.remove(refer(&data), CLI).await).await;
    is_refused(storage.reclaim(refer(&data), CLI).await).await;
    is_refused(storage.resize(size(&data, 128, false), CLI).await).await;
    drop(writer.stdin.take());
    writer.wait().unwrap();
    rig.succeeded(storage.remove(refer(&data), CLI).await).await;
    is_tidy(&rig).await;
}
