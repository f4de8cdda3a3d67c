//! The engine on the real QEMU, translated, with a guest that is only firmware.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod common;

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use common::{Rig, SOON, row, spec, stop};
use voidvm_engine::Engine;
use voidvm_model::contract::{CreateSource, LogKind, VmCreateRequest, VmLogsRequest};
use voidvm_model::input::InputEvent;
use voidvm_model::spec::Firmware;
use voidvm_model::vm::ActiveAccel;
use voidvm_model::{ErrorCode, MachineSpec, MiB, OperationStatus, Origin, VmState};
use voidvm_store::VmRow;
use voidvm_testkit::{Plan, wait_until_async};

/// A rig on the real QEMU; `None`, said so, where there is none.
async fn rig(rows: &[VmRow]) -> Option<Rig> {
    let binary = PathBuf::from("/usr/bin/qemu-system-x86_64");
    if !binary.exists() {
        eprintln!("skipped: no QEMU here");
        return None;
    }
    let plan = Plan::default();
    let real = Rig::with(&plan, rows, |config| {
        config.preferences.qemu_binary = Some(binary);
        config.timing.mute_after = Duration::from_secs(10);
        config.timing.heartbeat = Duration::from_secs(1);
    });
    Some(real.await)
}

/// Ends the test's machines whatever happens.
struct Ended<'a>(&'a Rig);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        for vm in self.0.engine.list() {
            if let Some(run) = vm.run {
                voidvm_testkit::fake::kill(run.pid);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_lives_is_seen_and_typed_to_survives_the_engine_and_ends() {
    let vm = row("real, with \"odd\",id=name", spec());
    let Some(rig) = rig(std::slice::from_ref(&vm)).await else { return };
    rig.start(vm.id).await;
    let run = rig.engine.get(vm.id).unwrap().run.unwrap();
    assert_eq!(run.accel, ActiveAccel::Tcg);

    let shot = rig.engine.screenshot(vm.id).await.unwrap();
    let png = base64::engine::general_purpose::STANDARD.decode(&shot.png).unwrap();
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    assert!(shot.width >= 640 && shot.height >= 400);
    let small = rig.engine.thumbnail(vm.id).await.unwrap().unwrap();
    assert!(small.width <= 320 && small.height <= 240);
    assert!(!rig.config.runtime_dir.join("screen-0.png").exists());

    // Two viewers at once, each on a socket of its own.
    for _ in 0..2 {
        let mut screen = rig.engine.open_screen(vm.id).await.unwrap();
        screen.set_read_timeout(Some(SOON)).unwrap();
        let mut hello = [0; 12];
        screen.read_exact(&mut hello).unwrap();
        assert_eq!(&hello, b"RFB 003.008\n");
    }

    rig.engine.keys(vm.id, vec!["ctrl".into(), "alt".into(), "delete".into()]).await.unwrap();
    rig.engine.type_text(vm.id, "Hello, World!\n").await.unwrap();
    rig.engine.input(vm.id, vec![InputEvent::Pointer { x: 100, y: 32_767 }]).await.unwrap();
    let unknown = rig.engine.keys(vm.id, vec!["hyper".into()]).await.unwrap_err();
    assert_eq!(unknown.code, ErrorCode::InvalidInput);
    let umlaut = rig.engine.type_text(vm.id, "\u{e4}").await.unwrap_err();
    assert_eq!(umlaut.field.as_deref(), Some("text"));
    let (_output, input) = rig.engine.serial(vm.id).await.unwrap().split();
    let (_second, _) = rig.engine.serial(vm.id).await.unwrap().split();
    input.write("x".into()).await.unwrap();

    assert!(!rig.engine.guest(vm.id).await.unwrap().agent);
    wait_until_async(SOON, "a reading", async || {
        let samples = rig.engine.metrics(vm.id, None).unwrap();
        samples.iter().any(|sample| sample.cpu.is_some() && sample.disk_read.is_some()).then_some(())
    })
    .await;

    rig.succeeded(rig.engine.pause(vm.id, Origin::Cli).await).await;
    let rig = rig.reopen().await;
    let _ended = Ended(&rig);
    rig.engine.ready().await;
    let view = rig.engine.get(vm.id).unwrap();
    assert_eq!(view.state, VmState::Paused);
    let adopted = view.run.unwrap();
    assert_eq!((adopted.pid, adopted.started_at, adopted.adopted), (run.pid, run.started_at, true));
    rig.succeeded(rig.engine.resume(vm.id, Origin::Cli).await).await;
    rig.succeeded(rig.engine.reset(vm.id, Origin::Cli).await).await;
    rig.force_off(vm.id).await;
    assert_eq!(rig.engine.get(vm.id).unwrap().attention, None);
    assert!(rig.engine.thumbnail(vm.id).await.unwrap().is_some(), "the last picture is kept");
    assert!(rig.engine.screenshot(vm.id).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_from_outside_and_ends_unseen_are_told_apart() {
    let (killed, ended, seen) = (row("killed", spec()), row("ended", spec()), row("seen", spec()));
    let Some(rig) = rig(&[killed.clone(), ended.clone(), seen.clone()]).await else { return };
    for vm in [&killed, &ended, &seen] {
        rig.start(vm.id).await;
    }
    let pid = |vm: &VmRow| rig.engine.get(vm.id).unwrap().run.unwrap().pid;
    let (killed_pid, ended_pid) = (pid(&killed), pid(&ended));
    voidvm_testkit::fake::kill(pid(&seen));
    let view = rig.until(seen.id, VmState::Crashed).await;
    assert!(view.attention.is_some());
    let log = VmLogsRequest { id: seen.id, log: LogKind::Qemu, tail: None };
    assert!(rig.engine.logs(log).await.is_ok());

    let Rig { engine, store, config, fake, dir } = rig;
    engine.shutdown().await;
    drop(engine);
    voidvm_testkit::fake::kill(killed_pid);
    let ended_pid = rustix::process::Pid::from_raw(i32::try_from(ended_pid).unwrap()).unwrap();
    rustix::process::kill_process(ended_pid, rustix::process::Signal::TERM).unwrap();
    // Both are our children still: their exit is waited for, as the app's end would leave it to init.
    for pid in [rustix::process::Pid::from_raw(i32::try_from(killed_pid).unwrap()).unwrap(), ended_pid] {
        wait_until_async(SOON, "its end", async || {
            let waited = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG);
            (!matches!(waited, Ok(None))).then_some(())
        })
        .await;
    }
    let engine = Engine::open(config, store).await.unwrap();
    engine.ready().await;
    assert_eq!(engine.get(killed.id).unwrap().state, VmState::Crashed);
    assert_eq!(engine.get(ended.id).unwrap().state, VmState::Stopped, "its sockets went with it");
    drop((fake, dir));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_qemu_refuses_is_said_in_its_words() {
    let broken = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(broken.path(), "this is no qcow2").unwrap();
    let disk = voidvm_model::spec::Disk::new(
        "disk0".parse().unwrap(),
        broken.path().to_owned(),
        voidvm_model::spec::DiskFormat::Qcow2,
        voidvm_model::spec::FileOwner::User,
    );
    let vm = row("broken", MachineSpec { disks: vec![disk], ..spec() });
    let Some(rig) = rig(std::slice::from_ref(&vm)).await else { return };
    let (code, operation) = rig.failed(rig.engine.start(vm.id, Origin::Cli).await).await;
    assert_eq!(code, ErrorCode::ImageInvalid);
    assert!(operation.stderr.unwrap().contains("not in qcow2 format"));
    assert_eq!(rig.state(vm.id), VmState::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn firmware_that_ignores_the_button_is_stopped_by_force_alone() {
    let firmware = MachineSpec { memory: MiB(128), firmware: Firmware::Bios, ..spec() };
    let vm = row("firmware", firmware);
    let Some(rig) = rig(std::slice::from_ref(&vm)).await else { return };
    let _ended = Ended(&rig);
    rig.start(vm.id).await;
    let mut request = stop(vm.id, false);
    request.timeout_seconds = Some(1);
    let (code, _) = rig.failed(rig.engine.stop(request, Origin::Cli).await).await;
    assert_eq!(code, ErrorCode::GuestDidNotStop);
    let forced = rig.force_off(vm.id).await;
    assert_eq!(forced.status, OperationStatus::Succeeded);
    assert!(forced.duration_ms.unwrap() < 2000, "{forced:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn uefi_firmware_starts_with_variables_of_the_machines_own() {
    let Some(rig) = rig(&[]).await else { return };
    let _ended = Ended(&rig);
    let source = rig.dir.path().join("empty, disk.qcow2");
    let mut make = std::process::Command::new("qemu-img");
    make.args(["create", "-q", "-f", "qcow2"]).arg(&source).arg("64M");
    assert!(make.status().unwrap().success());
    let request = VmCreateRequest {
        memory: Some(MiB(128)),
        firmware: Some(Firmware::Uefi),
        accel: Some(voidvm_model::spec::Accel::Tcg),
        start: true,
        ..VmCreateRequest::new(
            "uefi",
            CreateSource::ImageCopy { path: source.to_str().unwrap().to_owned(), disk_size: None },
        )
    };
    let made = match rig.engine.create(request, Origin::Cli).await {
        Err(error) if error.code == ErrorCode::FirmwareMissing => {
            eprintln!("skipped: no UEFI firmware here");
            return;
        }
        made => rig.succeeded(made).await,
    };
    let id = made.vm_id.unwrap();
    rig.until(id, VmState::Running).await;
    let files = rig.engine.files(id).await.unwrap();
    assert!(files.iter().any(|file| file.path.ends_with("/uefi-vars.qcow2") && file.size.0 > 0));
    rig.force_off(id).await;
    assert_eq!(rig.engine.get(id).unwrap().attention, None);
}
