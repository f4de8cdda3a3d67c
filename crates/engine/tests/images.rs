//! The image library, with the real `qemu-img`: what comes in, what is refused, who uses it, what a crash leaves.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Rig, SOON, row, spec};
use jiff::Timestamp;
use voidvm_model::image::{
    ImageImportRequest, ImageState, ImageUpdateRequest, ImportMode, LibraryImage, Verification,
};
use voidvm_model::spec::{Cdrom, Disk, DiskFormat, FileOwner};
use voidvm_model::system::ImageKind;
use voidvm_model::{Bytes, ErrorBody, ErrorCode, OperationId, OperationStatus, Origin};
use voidvm_store::{Intent, IntentAction};
use voidvm_testkit::{Plan, SmallDisk, wait_until_async};

/// A raw disk with one partition and some content.
fn raw_disk(path: &Path, mib: usize) {
    let mut bytes: Vec<u8> = (0..mib << 20).map(|at| ((at >> 9) ^ at).to_le_bytes()[0]).collect();
    bytes[..512].fill(0);
    bytes[446] = 0x80;
    bytes[450] = 0x83;
    bytes[454..458].copy_from_slice(&8_u32.to_le_bytes());
    bytes[458..462].copy_from_slice(&u32::try_from((mib << 20) / 512 - 8).unwrap().to_le_bytes());
    bytes[510..512].copy_from_slice(b"\x55\xaa");
    std::fs::write(path, bytes).unwrap();
}

fn iso(path: &Path, volume_id: &str) {
    let mut bytes = vec![0_u8; 64 * 2048];
    bytes[0x8000..0x8007].copy_from_slice(b"\x01CD001\x01");
    bytes[0x8028..0x8048].fill(b' ');
    bytes[0x8028..0x8028 + volume_id.len()].copy_from_slice(volume_id.as_bytes());
    bytes[0x8050..0x8054].copy_from_slice(&64_u32.to_le_bytes());
    bytes[0x8054..0x8058].copy_from_slice(&64_u32.to_be_bytes());
    bytes[0x8080..0x8082].copy_from_slice(&2048_u16.to_le_bytes());
    bytes[0x8082..0x8084].copy_from_slice(&2048_u16.to_be_bytes());
    bytes[0x8800..0x8806].copy_from_slice(b"\xffCD001");
    std::fs::write(path, bytes).unwrap();
}

fn run(program: &str, args: &[&str], dir: &Path) {
    let done = Command::new(program).args(args).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn request(path: &Path, mode: ImportMode) -> ImageImportRequest {
    ImageImportRequest { path: path.to_str().unwrap().to_owned(), mode, name: None }
}

async fn import(rig: &Rig, path: &Path, mode: ImportMode) -> LibraryImage {
    let operation = rig.succeeded(rig.engine.image_import(request(path, mode), Origin::Cli).await).await;
    rig.engine.image(operation.image_id.unwrap()).await.unwrap()
}

async fn refused(rig: &Rig, path: &Path, mode: ImportMode) -> ErrorBody {
    let asked = rig.engine.image_import(request(path, mode), Origin::Cli).await;
    let error = match asked {
        Err(error) => error,
        Ok(operation) => {
            let ended = rig.end(&operation).await;
            assert_eq!(ended.status, OperationStatus::Failed, "{ended:?}");
            ended.error.unwrap()
        }
    };
    assert!(error.hint.is_some(), "{error:?} has a remedy");
    assert!(rig.engine.images().await.unwrap().is_empty(), "{error:?}");
    error
}

/// Files of the library: those under their names, and those on their way.
fn files(rig: &Rig) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let dir = rig.config.data_dir.join("images");
    let list = |dir: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path());
        entries.filter(|path| path.is_file()).collect()
    };
    let coming = [".incoming", ".downloads"].iter().flat_map(|name| list(&dir.join(name))).collect();
    (list(&dir), coming)
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_become_qcow2_and_show_the_same() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let dir = rig.dir.path();
    raw_disk(&dir.join("disk.raw"), 4);
    for (name, to) in
        [("disk.qcow2", "qcow2"), ("disk.vmdk", "vmdk"), ("disk.vdi", "vdi"), ("disk.vhdx", "vhdx")]
    {
        run("qemu-img", &["convert", "-f", "raw", "-O", to, "disk.raw", name], dir);
    }
    for program in ["gzip", "xz", "zstd", "bzip2"] {
        run(program, &["-k", "-q", "disk.raw"], dir);
    }
    run("xz", &["-k", "-q", "disk.qcow2"], dir);
    let sources = [
        "disk.raw",
        "disk.qcow2",
        "disk.vmdk",
        "disk.vdi",
        "disk.vhdx",
        "disk.raw.gz",
        "disk.raw.xz",
        "disk.raw.zst",
        "disk.raw.bz2",
        "disk.qcow2.xz",
    ];
    for (number, source) in sources.into_iter().enumerate() {
        let image = import(&rig, &dir.join(source), ImportMode::Copy).await;
        let name = if number == 0 { "disk".to_owned() } else { format!("disk {}", number + 1) };
        assert_eq!((image.name, image.kind, image.owned), (name, ImageKind::Qcow2, true), "{source}");
        assert_eq!((image.state, image.virtual_size), (ImageState::Ready, Bytes(4 << 20)), "{source}");
        assert_eq!(image.verified, Verification::None);
        run("qemu-img", &["compare", "-q", "-f", "raw", "-F", "qcow2", "disk.raw", &image.path], dir);
        assert_eq!(std::fs::metadata(&image.path).unwrap().permissions().mode() & 0o777, 0o444);
        assert!(dir.join(source).exists());
    }
    let (there, coming) = files(&rig);
    assert_eq!((there.len(), coming.len()), (sources.len(), 0), "{coming:?}");
    assert!(rig.store.journal().open().await.unwrap().is_empty());
    // Checksums come by themselves.
    let hashed = wait_until_async(SOON, "checksums", || async {
        let images = rig.engine.images().await.unwrap();
        images.iter().all(|image| image.sha256.is_some()).then_some(images)
    });
    let first = hashed.await.remove(0);
    let said = Command::new("sha256sum").arg(&first.path).output().unwrap().stdout;
    assert!(String::from_utf8(said).unwrap().starts_with(&first.sha256.unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_iso_stays_as_it_is_and_its_system_is_known() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let path = rig.dir.path().join("some.iso");
    iso(&path, "Debian 11.5.0 amd64 n");
    let image = import(&rig, &path, ImportMode::Copy).await;
    assert_eq!(image.kind, ImageKind::Iso);
    assert_eq!(std::fs::read(&image.path).unwrap(), std::fs::read(&path).unwrap());
    if Path::new("/usr/share/osinfo/os").exists() {
        assert_eq!(image.os.unwrap().id, "debian11");
        let preset = rig.engine.detect_os(&path).await.unwrap().unwrap();
        assert_eq!((preset.os.id.as_str(), preset.virtio), ("debian11", true));
        iso(&path, "HOLIDAYS");
        assert_eq!(rig.engine.detect_os(&path).await.unwrap(), None);
        let found = rig.engine.operating_systems(Some("ubuntu 24.04")).await.unwrap();
        assert_eq!(found[0].os.id, "ubuntu24.04");
    } else {
        eprintln!("osinfo-db is not installed: systems are not looked at");
        let error = rig.engine.operating_systems(None).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::ProgramMissing);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_small_guests_iso_is_of_no_known_system() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let Some(guest) = std::env::var_os("VOIDVM_TEST_GUEST").map(PathBuf::from) else {
        return eprintln!("skipped: VOIDVM_TEST_GUEST is not set");
    };
    if Path::new("/usr/share/osinfo/os").exists() {
        assert_eq!(rig.engine.detect_os(&guest.join("guest.iso")).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_file_is_the_very_same_and_one_in_place_stays() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let dir = rig.dir.path();
    let (moved, kept, foreign) = (dir.join("moved.raw"), dir.join("kept.raw"), dir.join("foreign.vmdk"));
    raw_disk(&moved, 1);
    raw_disk(&kept, 1);
    run("qemu-img", &["convert", "-f", "raw", "-O", "vmdk", "kept.raw", "foreign.vmdk"], dir);
    let inode = std::fs::metadata(&moved).unwrap().ino();
    let image = import(&rig, &moved, ImportMode::Move).await;
    assert_eq!((image.kind, std::fs::metadata(&image.path).unwrap().ino()), (ImageKind::Raw, inode));
    assert!(!moved.exists());
    let image = import(&rig, &foreign, ImportMode::Move).await;
    assert_eq!(image.kind, ImageKind::Qcow2);
    assert!(!foreign.exists());

    let image = import(&rig, &kept, ImportMode::InPlace).await;
    assert_eq!((image.owned, Path::new(&image.path)), (false, kept.as_path()));
    for mode in [ImportMode::InPlace, ImportMode::Move] {
        let again = rig.engine.image_import(request(&kept, mode), Origin::Cli).await.unwrap_err();
        assert_eq!((again.code, again.field.as_deref()), (ErrorCode::FileInUse, Some("path")));
    }
    rig.succeeded(rig.engine.image_delete(image.id, Origin::Cli).await).await;
    assert!(kept.exists());
    assert_eq!(rig.engine.image(image.id).await.unwrap_err().code, ErrorCode::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_image_or_not_whole_is_refused_and_nothing_is_left() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let dir = rig.dir.path();
    let at = |name: &str| dir.join(name);
    raw_disk(&at("disk.raw"), 4);
    run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", "disk.raw", "disk.qcow2"], dir);
    run("qemu-img", &["convert", "-f", "raw", "-O", "vdi", "disk.raw", "disk.vdi"], dir);
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", "disk.qcow2", "-F", "qcow2", "top.qcow2"], dir);
    for program in ["gzip", "xz", "zstd", "bzip2"] {
        run(program, &["-k", "-q", "disk.raw"], dir);
    }
    let cut = |name: &str, length: u64| {
        let file = std::fs::OpenOptions::new().write(true).open(at(name)).unwrap();
        file.set_len(length).unwrap();
    };
    std::fs::write(at("page"), "<!DOCTYPE html><html>404</html>").unwrap();
    run("gzip", &["-k", "-q", "page"], dir);
    std::fs::write(at("text"), "hello\n".repeat(1000)).unwrap();
    std::fs::copy(at("disk.qcow2"), at("short.qcow2")).unwrap();
    cut("short.qcow2", 70_000);
    cut("disk.vdi", 2 << 20);
    for name in ["disk.raw.gz", "disk.raw.xz", "disk.raw.zst", "disk.raw.bz2"] {
        let length = std::fs::metadata(at(name)).unwrap().len();
        cut(name, length - length / 4);
    }
    for name in [
        "page",
        "page.gz",
        "text",
        "short.qcow2",
        "disk.vdi",
        "disk.raw.gz",
        "disk.raw.xz",
        "disk.raw.zst",
        "disk.raw.bz2",
        ".",
    ] {
        for mode in [ImportMode::Copy, ImportMode::Move] {
            let error = refused(&rig, &at(name), mode).await;
            assert_eq!(error.code, ErrorCode::ImageInvalid, "{name}: {error:?}");
            assert!(at(name).exists());
        }
    }
    assert_eq!(refused(&rig, &at("none"), ImportMode::Copy).await.code, ErrorCode::ImageMissing);
    assert_eq!(refused(&rig, Path::new("relative"), ImportMode::Copy).await.code, ErrorCode::InvalidInput);
    run("qemu-img", &["convert", "-f", "raw", "-O", "vdi", "disk.raw", "whole.vdi"], dir);
    let error = refused(&rig, &at("whole.vdi"), ImportMode::InPlace).await;
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::InvalidInput, Some("mode")));
    let (there, coming) = files(&rig);
    assert!(there.is_empty() && coming.is_empty(), "{there:?} {coming:?}");
    // One that stands on others becomes whole.
    let image = import(&rig, &at("top.qcow2"), ImportMode::Move).await;
    let info = rig.engine.inspect_image(Path::new(&image.path)).await.unwrap();
    assert_eq!(info.backing_file, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_unique_and_can_be_changed() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let path = rig.dir.path().join("disk.raw");
    raw_disk(&path, 1);
    let named =
        |name: &str| ImageImportRequest { name: Some(name.to_owned()), ..request(&path, ImportMode::Copy) };
    rig.succeeded(rig.engine.image_import(named("One"), Origin::Cli).await).await;
    for (name, code) in
        [("One", ErrorCode::NameTaken), ("", ErrorCode::InvalidInput), ("a\nb", ErrorCode::InvalidInput)]
    {
        let error = rig.engine.image_import(named(name), Origin::Cli).await.unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (code, Some("name")), "{name:?}");
    }
    let two = import(&rig, &path, ImportMode::Copy).await;
    let change = |name: &str| ImageUpdateRequest {
        id: two.id,
        name: Some(name.to_owned()),
        description: Some("for tests".to_owned()),
    };
    let error = rig.engine.image_update(change("One"), Origin::Cli).await.unwrap_err();
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::NameTaken, Some("name")));
    let changed = rig.engine.image_update(change("Two"), Origin::Cli).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.description.as_str()), ("Two", "for tests"));
    assert_eq!(changed.state, ImageState::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_machines_use_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    raw_disk(&at("disk.raw"), 1);
    run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", "disk.raw", "base.qcow2"], dir.path());
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "middle.qcow2"],
        dir.path(),
    );
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-b", "middle.qcow2", "-F", "qcow2", "top.qcow2"],
        dir.path(),
    );
    iso(&at("cd.iso"), "CD");
    let mut clone = row("clone", spec());
    let disk = Disk::new("disk0".parse().unwrap(), at("top.qcow2"), DiskFormat::Qcow2, FileOwner::User);
    clone.spec.disks = vec![disk];
    let mut live = row("live", spec());
    live.spec.cdroms = vec![Cdrom { id: "cd0".parse().unwrap(), file: Some(at("cd.iso")) }];
    let rig = Rig::new(&Plan::default(), &[clone, live.clone()]).await;
    let base = import(&rig, &at("base.qcow2"), ImportMode::InPlace).await;
    let cd = import(&rig, &at("cd.iso"), ImportMode::InPlace).await;
    for (image, user) in [(&base, "clone"), (&cd, "live")] {
        assert_eq!(image.used_by.iter().map(|user| user.name.as_str()).collect::<Vec<_>>(), [user]);
        let error = rig.engine.image_delete(image.id, Origin::Cli).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::FileInUse);
        assert!(error.message.contains(user), "{error:?}");
    }
    // A disk somebody writes to is no image; nor does anything move that somebody reads.
    for (name, mode) in [
        ("top.qcow2", ImportMode::InPlace),
        ("top.qcow2", ImportMode::Move),
        ("middle.qcow2", ImportMode::Move),
    ] {
        let error = rig.engine.image_import(request(&at(name), mode), Origin::Cli).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::FileInUse, "{name} {mode:?}");
    }
    rig.succeeded(
        rig.engine.delete(voidvm_model::contract::VmDeleteRequest::new(live.id), Origin::Cli).await,
    )
    .await;
    rig.succeeded(rig.engine.image_delete(cd.id, Origin::Cli).await).await;
    // What happens to the file is seen without being told.
    std::fs::OpenOptions::new().append(true).open(at("base.qcow2")).unwrap().set_len(9 << 20).unwrap();
    assert_eq!(rig.engine.image(base.id).await.unwrap().state, ImageState::Changed);
    std::fs::remove_file(at("base.qcow2")).unwrap();
    assert_eq!(rig.engine.image(base.id).await.unwrap().state, ImageState::Missing);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_leaves_an_image_or_none() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let source = rig.dir.path().join("disk.raw");
    raw_disk(&source, 1);
    let image = import(&rig, &source, ImportMode::Copy).await;
    let removed = import(&rig, &source, ImportMode::Copy).await;
    let dir = rig.config.data_dir.join("images");
    let (half, part) = (dir.join("half.qcow2"), dir.join(".incoming/x.qcow2.part"));
    std::fs::write(&half, "half").unwrap();
    std::fs::write(&part, "part").unwrap();
    let begin = async |action, file: &Path| {
        let intent =
            Intent { operation_id: OperationId::new(), vm_id: None, action, files: vec![file.to_owned()] };
        rig.store.journal().begin(&intent, Timestamp::now()).await.unwrap();
    };
    // Named, and no row yet; named, and the row is there; nobody's file at all.
    begin(IntentAction::ImageMake, &half).await;
    begin(IntentAction::ImageMake, Path::new(&image.path)).await;
    begin(IntentAction::ImageMake, &source).await;
    // To be removed, and the row is still there; and gone already.
    begin(IntentAction::ImageRemove, Path::new(&image.path)).await;
    begin(IntentAction::ImageRemove, Path::new(&removed.path)).await;
    rig.store.images().delete(removed.id).await.unwrap();
    let rig = rig.reopen().await;
    assert!(Path::new(&image.path).exists() && source.exists());
    assert!(!half.exists() && !part.exists() && !Path::new(&removed.path).exists());
    assert_eq!(rig.engine.images().await.unwrap().len(), 1);
    let open = rig.store.journal().open().await.unwrap();
    assert_eq!(open.len(), 1, "what is not ours is left to people: {open:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_given_up_or_finds_no_room_leaves_nothing() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let source = rig.dir.path().join("disk.raw");
    raw_disk(&source, 192);
    run("gzip", &["-k", "-1", "-q", "disk.raw"], rig.dir.path());
    for source in [source.clone(), rig.dir.path().join("disk.raw.gz")] {
        let operation =
            rig.engine.image_import(request(&source, ImportMode::Move), Origin::Cli).await.unwrap();
        let ended = match rig.engine.cancel(operation.id).await {
            Ok(_) => rig.end(&operation).await,
            Err(error) => panic!("{error:?}"),
        };
        assert_eq!(ended.status, OperationStatus::Cancelled);
        assert!(source.exists());
        let (there, coming) = files(&rig);
        assert!(there.is_empty() && coming.is_empty(), "{there:?} {coming:?}");
    }
    let Some(disk) = SmallDisk::mount(90 << 10) else {
        return eprintln!("skipped: no small disk can be mounted");
    };
    let rig = Rig::with(&Plan::default(), &[], |config| {
        config.data_dir = disk.path().join("data");
        config.floor = Bytes(64 << 20);
    })
    .await;
    let error = refused(&rig, &source, ImportMode::Copy).await;
    assert_eq!(error.code, ErrorCode::DiskFull, "{error:?}");
}
