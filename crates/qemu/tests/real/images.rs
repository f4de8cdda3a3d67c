//! Images with the real qemu-img.

use std::path::Path;
use std::process::Command;

use tokio_util::sync::CancellationToken;
use voidvm_model::spec::DiskFormat;
use voidvm_model::system::ImageKind;
use voidvm_model::{Bytes, ErrorCode};
use voidvm_qemu::image::{CopyProgress, ImageError};
use voidvm_testkit::SmallDisk;

use crate::common::qemu_img;

async fn refused(path: &Path) -> (ErrorCode, String) {
    let body = qemu_img().info(path).await.expect_err("refused").body();
    assert!(body.hint.is_some(), "{body:?} has a remedy");
    (body.code, body.message)
}

/// A raw disk with one partition from sector 8 to its end.
fn raw_disk(path: &Path, size: u64) {
    let mut sector = vec![0; 512];
    sector[446] = 0x80;
    sector[450] = 0x83;
    sector[454..458].copy_from_slice(&8_u32.to_le_bytes());
    sector[458..462].copy_from_slice(&u32::try_from(size / 512 - 8).unwrap().to_le_bytes());
    sector[510..].copy_from_slice(b"\x55\xaa");
    std::fs::write(path, &sector).unwrap();
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(size).unwrap();
}

#[tokio::test]
async fn real_images_are_made_looked_at_grown_and_copied() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a \"disk\", of=mine -n.qcow2");
    let tool = qemu_img();
    tool.create_qcow2(&path, Bytes(64 << 20)).await.unwrap();
    assert!(matches!(tool.create_qcow2(&path, Bytes(1 << 20)).await, Err(ImageError::Exists { .. })));
    let info = tool.info(&path).await.unwrap();
    assert_eq!((info.kind, info.virtual_size, info.backing_file), (ImageKind::Qcow2, Bytes(64 << 20), None));
    assert!(info.actual_size.0 < 1 << 20 && info.writable);
    assert!(tool.check(&path).await.unwrap().is_sound());
    tool.resize(&path, DiskFormat::Qcow2, Bytes(128 << 20)).await.unwrap();
    tool.resize(&path, DiskFormat::Qcow2, Bytes(128 << 20)).await.unwrap();
    assert_eq!(tool.info(&path).await.unwrap().virtual_size, Bytes(128 << 20));
    let shrunk = tool.resize(&path, DiskFormat::Qcow2, Bytes(64 << 20)).await;
    assert!(matches!(shrunk, Err(ImageError::Shrinks { now, .. }) if now == 128 << 20));

    let raw = dir.path().join("raw");
    raw_disk(&raw, 8 << 20);
    assert_eq!(tool.info(&raw).await.unwrap().kind, ImageKind::Raw);
    let copy = dir.path().join("copy.qcow2");
    let progress = CopyProgress::new(0);
    tool.copy(&raw, DiskFormat::Raw, &copy, &progress, &CancellationToken::new()).await.unwrap();
    assert_eq!(*progress.borrow(), 10_000);
    let info = tool.info(&copy).await.unwrap();
    assert_eq!((info.kind, info.virtual_size), (ImageKind::Qcow2, Bytes(8 << 20)));
    let again = tool.copy(&raw, DiskFormat::Raw, &copy, &progress, &CancellationToken::new()).await;
    assert!(matches!(again, Err(ImageError::Exists { .. })));
    assert!(
        tool.copy(&raw, DiskFormat::Qcow2, &dir.path().join("no"), &progress, &CancellationToken::new())
            .await
            .is_err()
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3, "no parts are left");
}

#[tokio::test]
async fn real_a_copy_that_is_given_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("source"), dir.path().join("target.qcow2"));
    raw_disk(&source, 64 << 20);
    let cancel = CancellationToken::new();
    cancel.cancel();
    let progress = CopyProgress::new(0);
    let given_up = qemu_img().copy(&source, DiskFormat::Raw, &target, &progress, &cancel).await;
    assert!(matches!(given_up, Err(ImageError::Cancelled)));
    {
        let live = CancellationToken::new();
        let tool = qemu_img();
        let mut copy = Box::pin(tool.copy(&source, DiskFormat::Raw, &target, &progress, &live));
        // Begun, and dropped.
        let _ = futures_util::poll!(&mut copy);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn real_what_is_no_image_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    assert_eq!(refused(&dir.path().join("none")).await.0, ErrorCode::ImageMissing);
    for (path, words) in [
        (file("empty", b""), "empty"),
        (file("page", b"\n <!DOCTYPE html><html><body>404</body></html>"), "web page"),
        (file("disk.img.gz", b"\x1f\x8b\x08\0\0\0"), "gzip"),
        (file("x.zip", b"PK\x03\x04xxxx"), "ZIP"),
        (file("x.vmdk", b"KDMV\x01\0\0\0"), "header"),
        (file("x.ova", &[&[b'a'; 257][..], b"ustar\0", &[0; 512]].concat()), "tar"),
        (file("text", &b"hello\n".repeat(10_000)), "no disk image"),
        (file("zeros", &vec![0; 1 << 20]), "no disk image"),
        (file("qcow2", b"QFI\xfb\0\0\0\x03"), "header"),
        (dir.path().to_owned(), "directory"),
        ("/dev/null".into(), "ordinary"),
    ] {
        let (code, message) = refused(&path).await;
        assert_eq!(code, ErrorCode::ImageInvalid, "{path:?}");
        assert!(message.contains(words), "{path:?}: {message}");
    }
    let raw = dir.path().join("cut");
    raw_disk(&raw, 8 << 20);
    std::fs::OpenOptions::new().write(true).open(&raw).unwrap().set_len(4 << 20).unwrap();
    assert!(refused(&raw).await.1.contains("cut off"));
}

#[tokio::test]
async fn real_a_truncated_or_treacherous_qcow2_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let img = |args: &[&str]| {
        let done = Command::new(qemu_img().path()).current_dir(dir.path()).args(args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    img(&["create", "-q", "-f", "qcow2", "whole.qcow2", "64M"]);
    std::fs::copy(dir.path().join("whole.qcow2"), dir.path().join("cut.qcow2")).unwrap();
    let cut = dir.path().join("cut.qcow2");
    std::fs::OpenOptions::new().write(true).open(&cut).unwrap().set_len(100_000).unwrap();
    assert!(refused(&cut).await.1.contains("cut off"));

    img(&["create", "-q", "-f", "qcow2", "-b", "whole.qcow2", "-F", "qcow2", "overlay.qcow2"]);
    let overlay = qemu_img().info(&dir.path().join("overlay.qcow2")).await.unwrap();
    assert_eq!(overlay.backing_file.as_deref(), dir.path().join("whole.qcow2").to_str());
    img(&["rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", "nbd://127.0.0.1:9/x", "overlay.qcow2"]);
    assert!(refused(&dir.path().join("overlay.qcow2")).await.1.contains("no file"));
    img(&["rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", "/none/such", "overlay.qcow2"]);
    assert!(refused(&dir.path().join("overlay.qcow2")).await.1.contains("not there"));
    img(&[
        "create",
        "-q",
        "-f",
        "qcow2",
        "-o",
        "data_file=elsewhere.raw,data_file_raw=on",
        "split.qcow2",
        "1M",
    ]);
    assert!(refused(&dir.path().join("split.qcow2")).await.1.contains("another file"));
}

#[tokio::test]
async fn real_uefi_variables_are_qcow2() {
    let dir = tempfile::tempdir().unwrap();
    let ovmf = voidvm_qemu::firmware::find(voidvm_model::spec::Firmware::Uefi).expect("OVMF is installed");
    assert!(ovmf.code.to_string_lossy().contains("4M"), "{ovmf:?}");
    let vars = dir.path().join("vars.qcow2");
    voidvm_qemu::firmware::make_vars(&qemu_img(), &ovmf, &vars).await.unwrap();
    let size = std::fs::metadata(&ovmf.vars_template).unwrap().len();
    assert_eq!(qemu_img().info(&vars).await.unwrap().virtual_size, Bytes(size));
}

#[tokio::test]
async fn real_a_full_or_read_only_disk_is_named_and_left_clean() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    raw_disk(&source, 8 << 20);
    let noise: Vec<u8> =
        (0..8_u32 << 18).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    std::io::Write::write_all(&mut std::fs::OpenOptions::new().append(true).open(&source).unwrap(), &noise)
        .unwrap();
    // Where no file system can be mounted there is nothing to prove this on.
    let Some(disk) = SmallDisk::mount(2048) else { return };
    let target = disk.path().join("copy.qcow2");
    let (progress, never) = (CopyProgress::new(0), CancellationToken::new());
    let full =
        qemu_img().copy(&source, DiskFormat::Raw, &target, &progress, &never).await.unwrap_err().body();
    assert_eq!(full.code, ErrorCode::DiskFull, "{full:?}");
    assert_eq!(std::fs::read_dir(disk.path()).unwrap().count(), 0, "its part is gone");
    disk.make_read_only();
    let refused = qemu_img().create_qcow2(&target, Bytes(1 << 20)).await.unwrap_err().body();
    assert_eq!(refused.code, ErrorCode::ReadOnly, "{refused:?}");
}

#[tokio::test]
async fn real_disks_of_other_programs_are_read_whole_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let img = |args: &[&str]| {
        let done = Command::new(qemu_img().path()).current_dir(dir.path()).args(args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    raw_disk(&at("raw"), 8 << 20);
    let noise: Vec<u8> = (0..1_u32 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let raw = std::fs::OpenOptions::new().write(true).open(at("raw")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&raw, &noise, 1 << 20).unwrap();
    for (name, args, kind) in [
        ("sparse.vmdk", &["-O", "vmdk"][..], ImageKind::Vmdk),
        ("stream.vmdk", &["-O", "vmdk", "-o", "subformat=streamOptimized"], ImageKind::Vmdk),
        ("split.vmdk", &["-O", "vmdk", "-o", "subformat=twoGbMaxExtentSparse"], ImageKind::Vmdk),
        ("flat.vmdk", &["-O", "vmdk", "-o", "subformat=monolithicFlat"], ImageKind::Vmdk),
        ("disk.vdi", &["-O", "vdi"], ImageKind::Vdi),
        ("disk.vhdx", &["-O", "vhdx"], ImageKind::Vhdx),
    ] {
        img(&[&["convert", "-f", "raw"], args, &["raw", name]].concat());
        let info = qemu_img().info(&at(name)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((info.kind, info.virtual_size), (kind, Bytes(8 << 20)), "{name}");
        let copy = at(&format!("{name}.qcow2"));
        let (progress, never) = (CopyProgress::new(0), CancellationToken::new());
        qemu_img().copy_kind(&at(name), kind, &copy, &progress, &never).await.unwrap();
        img(&["compare", "-q", "-f", "raw", "-F", "qcow2", "raw", &format!("{name}.qcow2")]);
        if name.starts_with("split") || name.starts_with("flat") {
            continue;
        }
        let length = std::fs::metadata(at(name)).unwrap().len();
        for cut in [length / 2, length - 70_000] {
            std::fs::OpenOptions::new().write(true).open(at(name)).unwrap().set_len(cut).unwrap();
            let (code, message) = refused_any(&at(name)).await;
            assert!(
                matches!(code, ErrorCode::ImageInvalid | ErrorCode::QemuImgFailed),
                "{name} cut to {cut} of {length}: {code:?} {message}"
            );
        }
    }
    let describe = |name: &str| {
        std::fs::write(at("evil.vmdk"), format!("# Disk DescriptorFile\nRW 100 FLAT \"{name}\" 0\n"))
            .unwrap();
    };
    std::os::unix::fs::symlink("/etc/passwd", at("link")).unwrap();
    for (name, words) in
        [("/etc/passwd", "not beside"), ("../x", "not beside"), ("none", "not there"), ("link", "ordinary")]
    {
        describe(name);
        assert!(refused(&at("evil.vmdk")).await.1.contains(words), "{name}");
    }
}

async fn refused_any(path: &Path) -> (ErrorCode, String) {
    let body = qemu_img().info(path).await.expect_err(&format!("{} refused", path.display())).body();
    (body.code, body.message)
}
