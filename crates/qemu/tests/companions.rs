//! Programs beside QEMU, for real: they run, are found again, and end.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use voidvm_model::VmId;
use voidvm_model::spec::{PortForward, Share, ShareKind};
use voidvm_qemu::companion::{self, CompanionKind, Companions, Virtiofsd};
use voidvm_qemu::process::RunDir;

const SOON: Duration = Duration::from_secs(10);

fn run_dir() -> (tempfile::TempDir, RunDir) {
    let root = tempfile::Builder::new().prefix("vv-").tempdir().unwrap();
    let dir = RunDir::new(root.path(), VmId::new());
    dir.prepare().unwrap();
    (root, dir)
}

fn lives(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}/exe")).exists()
}

#[tokio::test]
async fn a_tpm_answers_is_found_again_and_ends_with_qemu() {
    let (root, dir) = run_dir();
    // A comma, which swtpm's own options could not say.
    let state = root.path().join("a, b/tpm");
    let mut companions = Companions::none(dir.clone());
    companion::swtpm(&mut companions, &dir, &state).unwrap();
    let records = companions.records();
    assert_eq!(records[0].kind, CompanionKind::Tpm);
    drop(companions);
    assert!(lives(records[0].pid), "it outlives who started it");
    let mut found = Companions::find(dir.clone());
    assert_eq!(found.records(), records);
    let chardev = format!("socket,id=tpm,path={}", dir.tpm().display());
    let mut qemu = std::process::Command::new("qemu-system-x86_64")
        .args(["-S", "-nodefaults", "-display", "none", "-machine", "q35", "-chardev", &chardev])
        .args(["-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm", "-qmp", "stdio"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // It greets when its TPM has answered.
    let mut greeting = [0; 16];
    qemu.stdout.as_mut().unwrap().read_exact(&mut greeting).unwrap();
    qemu.kill().unwrap();
    qemu.wait().unwrap();
    let ended = tokio::time::timeout(SOON, found.next_end(Duration::ZERO)).await.unwrap();
    assert_eq!(ended, records[0]);
    assert!(!lives(records[0].pid));
    assert!(state.is_dir());
}

#[tokio::test]
async fn one_that_does_not_end_is_ended() {
    let (root, dir) = run_dir();
    let mut companions = Companions::none(dir.clone());
    companion::swtpm(&mut companions, &dir, &root.path().join("tpm")).unwrap();
    let pid = companions.records()[0].pid;
    companions.end(Duration::ZERO).await;
    assert!(!lives(pid));
    assert!(!dir.companions().exists());
    assert!(Companions::find(dir).records().is_empty());
}

#[tokio::test]
async fn a_record_of_a_process_that_is_another_now_is_left_alone() {
    let (_root, dir) = run_dir();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let us = std::process::id();
    let text = format!(
        r#"{{"bootId": "{}", "companions": [{{"kind": "tpm", "device": null, "pid": {us}, "startTicks": 1}}]}}"#,
        boot.trim()
    );
    std::fs::write(dir.companions(), text).unwrap();
    assert!(Companions::find(dir).records().is_empty());
}

#[tokio::test]
async fn a_network_listens_and_ends_with_qemus_end_of_it() {
    if !voidvm_testkit::host::namespaces() {
        return;
    }
    let (_root, dir) = run_dir();
    let port = voidvm_testkit::port::free();
    let mut companions = Companions::none(dir.clone());
    let forwards = [PortForward::tcp(port, 80), PortForward::tcp(voidvm_testkit::port::free(), 22)];
    let ours = companion::passt(&mut companions, &"nic0".parse().unwrap(), &forwards).unwrap();
    let record = companions.records().remove(0);
    for forward in forwards {
        let address = (forward.host_address, forward.host_port);
        let deadline = tokio::time::Instant::now() + SOON;
        while std::net::TcpStream::connect(address).is_err() {
            assert!(tokio::time::Instant::now() < deadline, "{}", record.words(&dir));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    drop(ours);
    assert_eq!(tokio::time::timeout(SOON, companions.next_end(Duration::ZERO)).await.unwrap(), record);
}

#[tokio::test]
async fn a_taken_port_ends_it_with_its_words() {
    let (_root, dir) = run_dir();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut companions = Companions::none(dir.clone());
    let forward = PortForward::tcp(taken.local_addr().unwrap().port(), 80);
    let _ours = companion::passt(&mut companions, &"nic0".parse().unwrap(), &[forward]).unwrap();
    let ended = tokio::time::timeout(SOON, companions.next_end(Duration::ZERO)).await.unwrap();
    assert!(!ended.words(&dir).is_empty());
}

#[tokio::test]
async fn a_folder_is_served_whatever_its_name() {
    if !voidvm_testkit::host::namespaces() {
        return;
    }
    let (root, dir) = run_dir();
    let folder = root.path().join("a, b\\c");
    std::fs::create_dir(&folder).unwrap();
    let program = Virtiofsd::probe().await.unwrap();
    let share = Share {
        id: "share0".parse().unwrap(),
        tag: "share".to_owned(),
        folder,
        kind: ShareKind::Virtiofs,
        read_only: false,
    };
    let mut companions = Companions::none(dir.clone());
    companion::virtiofsd(&mut companions, &dir, &program, &share).unwrap();
    let record = companions.records().remove(0);
    // GET_FEATURES of vhost-user: request 1, version 1, no payload; the answer has eight bytes of it.
    let mut line = UnixStream::connect(dir.share(&share.id)).unwrap();
    line.set_read_timeout(Some(SOON)).unwrap();
    line.write_all(&[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    let mut answer = [0; 20];
    line.read_exact(&mut answer).unwrap_or_else(|error| panic!("{error}: {}", record.words(&dir)));
    assert_eq!(answer[0], 1);
    drop(line);
    assert_eq!(tokio::time::timeout(SOON, companions.next_end(Duration::ZERO)).await.unwrap(), record);
}
