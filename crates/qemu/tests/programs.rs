//! Programs that are not the QEMU or qemu-img they should be, and files that are no records.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;
use voidvm_model::spec::DiskFormat;
use voidvm_model::{Bytes, ErrorCode, VmId};
use voidvm_qemu::image::{CopyProgress, ImageError, QemuImg};
use voidvm_qemu::probe::{self, Capabilities, ProbeError};
use voidvm_qemu::process::{self, Exit, RecordError, RunDir, RunRecord, SpawnError};

fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn each_defect_of_a_qemu_has_its_own_name_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let says = |name: &str, words: &str| script(dir.path(), name, &format!("echo '{words}'"));
    let plain = dir.path().join("plain");
    std::fs::write(&plain, "x").unwrap();
    let cases = [
        (dir.path().join("none"), ErrorCode::QemuNotFound),
        (plain, ErrorCode::QemuFailed),
        (says("old", "QEMU emulator version 6.2.0 (Debian)"), ErrorCode::QemuTooOld),
        (says("other", "GNU ls 9.1"), ErrorCode::QemuFailed),
        (says("empty", ""), ErrorCode::QemuFailed),
        (script(dir.path(), "dies", "echo 'cannot load libfoo' >&2; exit 127"), ErrorCode::QemuFailed),
        (script(dir.path(), "killed", "kill -9 $$"), ErrorCode::QemuFailed),
        (script(dir.path(), "hangs", "exec sleep 1000"), ErrorCode::QemuUnresponsive),
        (script(dir.path(), "endless", "exec cat /dev/zero"), ErrorCode::QemuUnresponsive),
    ];
    // Side by side: those that hang take their whole deadline.
    let each = cases.map(|(binary, code)| async move {
        let error = Capabilities::of(&binary).await.expect_err("refused");
        let body = error.body();
        assert_eq!(body.code, code, "{binary:?}: {error}");
        assert!(body.hint.is_some());
        if binary.ends_with("dies") {
            assert_eq!(body.details.unwrap()["stderr"], "cannot load libfoo\n");
        }
    });
    futures_util::future::join_all(each).await;
    let fake = script(dir.path(), "qemu", "[ \"$1\" = --version ] && echo 'QEMU emulator version 9.1.0'");
    let caps = Capabilities::of(&fake).await.unwrap();
    assert!(caps.version.to_string() == "9.1.0" && !caps.kvm);
    assert!(caps.devices.has("virtio-vga"), "what it did not say, QEMU itself will");
    let report = probe::accel(&caps, &dir.path().join("accel.json")).await;
    assert!(!report.kvm_works && report.reason.unwrap().contains("without KVM"));
}

#[test]
fn the_program_that_is_set_is_the_one_that_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let binary = script(dir.path(), "my qemu", "");
    assert_eq!(probe::locate(binary.to_str().unwrap()).unwrap(), binary);
    for wrong in ["qemu", "/none/qemu", dir.path().to_str().unwrap()] {
        assert!(matches!(probe::locate(wrong), Err(ProbeError::NotFound { .. })), "{wrong}");
    }
    let beside = script(dir.path(), "qemu-img", "");
    assert_eq!(probe::locate_qemu_img(&binary), Some(beside));
}

#[tokio::test]
async fn what_fails_in_qemu_img_is_told_in_its_words() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("disk.qcow2");
    for (tool, code) in [
        (dir.path().join("none"), ErrorCode::QemuNotFound),
        (script(dir.path(), "fails", "echo 'qemu-img: odd' >&2; exit 1"), ErrorCode::QemuImgFailed),
        (
            script(
                dir.path(),
                "full",
                "for f; do :; done; echo 'write: No space left on device' >&2; exit 1",
            ),
            ErrorCode::DiskFull,
        ),
    ] {
        let body = QemuImg::new(tool).create_qcow2(&target, Bytes(1 << 20)).await.unwrap_err().body();
        assert_eq!(body.code, code);
        assert!(!target.exists() && !dir.path().join("disk.qcow2.part").exists());
    }
    // Says it is done, and is not.
    let liar = QemuImg::new(script(dir.path(), "liar", "exit 0"));
    assert!(liar.create_qcow2(&target, Bytes(1 << 20)).await.is_err());
    let odd = QemuImg::new(script(dir.path(), "odd", "echo '{\"virtual-size\": \"many\"}'"));
    std::fs::write(&target, [&[0; 510][..], b"\x55\xaa"].concat()).unwrap();
    assert_eq!(odd.info(&target).await.unwrap_err().body().code, ErrorCode::QemuImgFailed);
}

#[tokio::test]
async fn a_copy_that_is_given_up_half_way_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("copy.qcow2");
    let part = dir.path().join("copy.qcow2.part");
    let words = "for f; do :; done; echo half > \"$f\"; printf '    (50.00/100%%)\\r'; exec sleep 1000";
    let slow = QemuImg::new(script(dir.path(), "slow", words));
    for dropped in [false, true] {
        let (progress, cancel) = (CopyProgress::new(0), CancellationToken::new());
        let mut seen = progress.subscribe();
        {
            let copy = slow.copy(Path::new("/dev/null"), DiskFormat::Raw, &target, &progress, &cancel);
            tokio::pin!(copy);
            tokio::select! {
                ended = &mut copy => panic!("it ended: {ended:?}"),
                half = seen.wait_for(|done| *done == 5000) => drop(half.unwrap()),
            }
            assert!(part.exists());
            if !dropped {
                cancel.cancel();
                assert!(matches!(copy.await, Err(ImageError::Cancelled)));
            }
        }
        assert!(!part.exists() && !target.exists());
    }
    // What a crash left is no obstacle.
    std::fs::write(&part, "left").unwrap();
    let quick = QemuImg::new(script(dir.path(), "quick", "for f; do :; done; echo whole > \"$f\""));
    let (progress, cancel) = (CopyProgress::new(0), CancellationToken::new());
    quick.copy(Path::new("/dev/null"), DiskFormat::Raw, &target, &progress, &cancel).await.unwrap();
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "whole\n");
    assert!(!part.exists());
}

#[tokio::test]
async fn a_process_is_told_by_how_it_ended_and_what_it_said() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::new(dir.path(), VmId::new());
    run.prepare().unwrap();
    let shell = script(dir.path(), "shell", "echo 'last \u{1b}[31mwords' >&2; exit 3");
    let spawned =
        process::spawn(&shell, &[], &run, process::Inherited::default(), process::Holes::Allowed).unwrap();
    assert_eq!(spawned.handle.wait_exit().await.unwrap(), Exit::Code(3));
    assert_eq!(run.stderr_tail(), "last [31mwords\n");
    let body = process::explain(Exit::Code(3), &run.stderr_tail());
    assert_eq!(body.code, ErrorCode::QemuFailed);
    assert_eq!(body.details.unwrap()["stderr"], "last [31mwords\n");
    let missing = process::spawn(
        &dir.path().join("none"),
        &[],
        &run,
        process::Inherited::default(),
        process::Holes::Allowed,
    )
    .unwrap_err();
    assert!(matches!(missing, SpawnError::Exec { .. }) && missing.body().code == ErrorCode::QemuNotFound);
    let nowhere = RunDir::new(&dir.path().join("not made"), VmId::new());
    assert!(matches!(
        process::spawn(&shell, &[], &nowhere, process::Inherited::default(), process::Holes::Allowed),
        Err(SpawnError::RunDir { .. })
    ));
    run.prepare().unwrap();
    assert_eq!(run.stderr_tail(), "", "an earlier run's words are gone");
    run.remove().unwrap();
    run.remove().unwrap();
}

#[test]
fn a_file_that_is_no_record_is_an_error_and_none_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.json");
    assert!(RunRecord::read(&path).unwrap().is_none());
    for text in ["", "{}", "null", "{\"uuid\": 5}", &"[".repeat(100_000), &" ".repeat(2 << 20)] {
        std::fs::write(&path, text).unwrap();
        assert!(matches!(RunRecord::read(&path), Err(RecordError::Invalid { .. })), "{} bytes", text.len());
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(RunRecord::read(&path), Err(RecordError::Io { .. })));
}
