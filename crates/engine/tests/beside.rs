//! What stands beside QEMU: a TPM's program, networks, folders, keys. The programs are real, QEMU is the fake where no device
//! matters.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Rig, SOON, row, spec};
use voidvm_engine::{SecretFiles, Secrets};
use voidvm_model::contract::{CreateSource, VmCreateRequest, VmDeleteRequest, VmUpdateRequest};
use voidvm_model::spec::{Accel, MacAddr, NetworkBackend, Nic, PortForward, Share, ShareKind, UserStack};
use voidvm_model::{Bytes, ErrorCode, MachineSpec, MiB, Origin, SecretId, VmId, VmState};
use voidvm_qemu::companion::Companions;
use voidvm_qemu::process::RunDir;
use voidvm_store::VmRow;
use voidvm_testkit::{Plan, wait_until_async};

fn with_tpm() -> MachineSpec {
    MachineSpec { tpm: true, ..spec() }
}

fn run_dir(rig: &Rig, id: VmId) -> RunDir {
    RunDir::new(&rig.config.runtime_dir, id)
}

/// The pids of the programs beside a machine.
fn beside(rig: &Rig, id: VmId) -> Vec<u32> {
    Companions::find(run_dir(rig, id)).records().iter().map(|record| record.pid).collect()
}

fn lives(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}/exe")).exists()
}

async fn gone(pids: &[u32]) {
    wait_until_async(SOON, "the end of the programs beside QEMU", async || {
        (!pids.iter().copied().any(lives)).then_some(())
    })
    .await;
}

/// A rig on the real QEMU; `None`, said so, where there is none.
async fn real(rows: &[VmRow]) -> Option<Rig> {
    let binary = PathBuf::from("/usr/bin/qemu-system-x86_64");
    if !binary.exists() {
        eprintln!("skipped: no QEMU here");
        return None;
    }
    let plan = Plan::default();
    let rig = Rig::with(&plan, rows, |config| {
        config.preferences.qemu_binary = Some(binary);
        config.timing.mute_after = Duration::from_secs(10);
        config.timing.heartbeat = Duration::from_secs(1);
    });
    Some(rig.await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tpm_lives_with_its_machine_across_engines_and_ends_with_it() {
    let vm = row("vm", with_tpm());
    let rig = Rig::new(&Plan::default(), std::slice::from_ref(&vm)).await;
    rig.start(vm.id).await;
    let pids = beside(&rig, vm.id);
    assert_eq!(pids.len(), 1);
    let rig = rig.reopen().await;
    rig.engine.ready().await;
    assert_eq!(beside(&rig, vm.id), pids, "it went on");
    assert!(lives(pids[0]));
    assert_eq!(rig.engine.get(vm.id).unwrap().attention, None);
    rig.force_off(vm.id).await;
    gone(&pids).await;
    // Its state stays for the next start.
    let state = rig.config.machine_dir(vm.id).join("tpm");
    assert!(state.is_dir());
    rig.start(vm.id).await;
    let again = beside(&rig, vm.id);
    rig.force_off(vm.id).await;
    gone(&again).await;
    rig.succeeded(rig.engine.delete(VmDeleteRequest::new(vm.id), Origin::Cli).await).await;
    assert!(!state.exists(), "it goes with the machine");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_one_that_was_needed_is_told() {
    let vm = row("vm", with_tpm());
    let rig = Rig::new(&Plan::default(), std::slice::from_ref(&vm)).await;
    rig.start(vm.id).await;
    voidvm_testkit::fake::kill(beside(&rig, vm.id)[0]);
    let attention =
        wait_until_async(SOON, "the attention", async || rig.engine.get(vm.id).unwrap().attention).await;
    assert_eq!(attention.code, ErrorCode::CompanionFailed);
    assert_eq!(attention.details.unwrap()["program"], "swtpm");
    assert_eq!(rig.state(vm.id), VmState::Running, "the guest goes on without it");
    rig.force_off(vm.id).await;
    assert_eq!(rig.engine.get(vm.id).unwrap().attention, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_of_a_start_that_failed_are_ended() {
    let vm = row("vm", with_tpm());
    let plan = Plan { die_at: Some("sockets".to_owned()), ..Plan::default() };
    let rig = Rig::new(&plan, std::slice::from_ref(&vm)).await;
    rig.failed(rig.engine.start(vm.id, Origin::Cli).await).await;
    assert!(beside(&rig, vm.id).is_empty());
    assert!(!run_dir(&rig, vm.id).companions().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tpm_whose_state_is_broken_refuses_the_start() {
    let vm = row("vm", with_tpm());
    let Some(rig) = real(std::slice::from_ref(&vm)).await else { return };
    let state = rig.config.machine_dir(vm.id).join("tpm");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("tpm2-00.permall"), b"no state of a TPM").unwrap();
    let (code, operation) = rig.failed(rig.engine.start(vm.id, Origin::Cli).await).await;
    assert_eq!(code, ErrorCode::QemuFailed, "{operation:?}");
    assert!(operation.stderr.unwrap().contains("tpm"));
    assert_eq!(rig.state(vm.id), VmState::Stopped);
    assert!(beside(&rig, vm.id).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn passt_opens_the_forwards_and_a_folder_that_is_not_there_is_named() {
    if !voidvm_testkit::host::namespaces() {
        return;
    }
    let port = voidvm_testkit::port::free();
    let network =
        NetworkBackend::User { stack: UserStack::Passt, forwards: vec![PortForward::tcp(port, 80)] };
    let nic = Nic::new("nic0".parse().unwrap(), MacAddr::qemu([1, 2, 3]), network);
    let vm = row("vm", MachineSpec { nics: vec![nic], ..spec() });
    let share = Share {
        id: "share0".parse().unwrap(),
        tag: "work".to_owned(),
        folder: PathBuf::from("/nowhere/at/all"),
        kind: ShareKind::Virtiofs,
        read_only: false,
    };
    let lost = row("lost", MachineSpec { shares: vec![share], ..spec() });
    let rig = Rig::new(&Plan::default(), &[vm.clone(), lost.clone()]).await;
    rig.start(vm.id).await;
    wait_until_async(SOON, "the forward", async || std::net::TcpStream::connect(("127.0.0.1", port)).ok())
        .await;
    let pids = beside(&rig, vm.id);
    rig.force_off(vm.id).await;
    gone(&pids).await;
    let (code, operation) = rig.failed(rig.engine.start(lost.id, Origin::Cli).await).await;
    assert_eq!(code, ErrorCode::NotFound);
    assert_eq!(operation.error.unwrap().field.as_deref(), Some("spec.shares[0].folder"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_settles_the_machine_type() {
    let vm = row("vm", spec());
    let Some(rig) = real(std::slice::from_ref(&vm)).await else { return };
    assert_eq!(rig.engine.get(vm.id).unwrap().spec.machine_version, None);
    rig.start(vm.id).await;
    let view = rig.engine.get(vm.id).unwrap();
    let version = view.spec.machine_version.clone().unwrap();
    assert!(version.as_str().starts_with("pc-q35-"), "{version:?}");
    assert!(!view.restart_pending, "{:?}", view.pending);
    assert_eq!(rig.store.vms().get(vm.id).await.unwrap().unwrap().spec.machine_version, Some(version));
    rig.force_off(vm.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_disk_is_read_with_its_key_alone() {
    let Some(rig) = real(&[]).await else { return };
    let request = VmCreateRequest {
        memory: Some(MiB(64)),
        accel: Some(Accel::Tcg),
        encrypt: true,
        ..VmCreateRequest::new("locked", CreateSource::Empty { disk_size: Bytes(64 << 20) })
    };
    let made = rig.succeeded(rig.engine.create(request.clone(), Origin::Cli).await).await;
    let id = made.vm_id.unwrap();
    let view = rig.engine.get(id).unwrap();
    let (disk, key_id) = (view.spec.disks[0].clone(), view.spec.disks[0].key.unwrap());
    let secrets = SecretFiles::new(rig.config.data_dir.join("secrets"));
    let key = secrets.get(key_id).await.unwrap().unwrap();

    // It opens with the key, and QEMU knows it by memory alone.
    rig.start(id).await;
    let command = rig.engine.command(id).await.unwrap();
    let words = command.running.unwrap().join(" ");
    assert!(words.contains("/dev/fd/64") && !words.contains(key.reveal()), "{words}");
    rig.force_off(id).await;

    // Without it the file cannot be read.
    let read = std::process::Command::new("qemu-io")
        .args([
            "-r",
            "-c",
            "read 0 512",
            &format!(
                "json:{{\"driver\":\"qcow2\",\"file\":{{\"driver\":\"file\",\"filename\":{:?}}}}}",
                disk.file
            ),
        ])
        .output()
        .unwrap();
    assert!(!read.status.success(), "{read:?}");
    secrets.remove(key_id).await.unwrap();
    let (code, operation) = rig.failed(rig.engine.start(id, Origin::Cli).await).await;
    assert_eq!(code, ErrorCode::NotFound);
    assert_eq!(operation.error.unwrap().field.as_deref(), Some("spec.disks[0].key"));

    // Nor with another.
    let other = voidvm_qemu::secret::Key::new("another".to_owned()).unwrap();
    secrets.put(key_id, &other).await.unwrap();
    let (code, _) = rig.failed(rig.engine.start(id, Origin::Cli).await).await;
    assert_eq!(code, ErrorCode::QemuFailed);

    // A copy of an image is encrypted on its way, and larger at once.
    let image = rig.dir.path().join("image, raw.raw");
    let mut bytes = vec![0_u8; 4 << 20];
    bytes[1 << 20..2 << 20].fill(7);
    (bytes[510], bytes[511]) = (0x55, 0xaa);
    std::fs::write(&image, bytes).unwrap();
    let source = CreateSource::ImageCopy {
        path: image.to_str().unwrap().to_owned(),
        disk_size: Some(Bytes(16 << 20)),
    };
    let copy = VmCreateRequest { name: "copied".to_owned(), source, ..request.clone() };
    let made = rig.succeeded(rig.engine.create(copy, Origin::Cli).await).await;
    let copied = rig.engine.get(made.vm_id.unwrap()).unwrap().spec.disks[0].clone();
    let header = voidvm_qemu::image::header(&copied.file).unwrap().unwrap();
    assert_eq!((header.virtual_size, header.encrypted), (Bytes(16 << 20), true));
    let its_key = secrets.get(copied.key.unwrap()).await.unwrap().unwrap();
    let file = rig.dir.path().join("its key");
    std::fs::write(&file, its_key.reveal()).unwrap();
    let read = std::process::Command::new("qemu-io")
        .args(["-r", "-c", "read -P 7 1M 1M", "-c", "read -P 0 8M 1M", "--object"])
        .arg(format!("secret,id=k,file={}", file.display()))
        .arg("--image-opts")
        .arg(format!("driver=qcow2,encrypt.key-secret=k,file.filename={}", copied.file.display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&read.stdout);
    assert!(read.status.success() && !said.contains("verification failed"), "{read:?}");
    std::fs::remove_file(file).unwrap();
    assert_eq!(
        files_with(&rig.config.machine_dir(made.vm_id.unwrap()), &"\u{7}".repeat(16)),
        Vec::<PathBuf>::new()
    );

    // The key goes with the disk; nothing anywhere has its text.
    secrets.put(key_id, &key).await.unwrap();
    rig.succeeded(rig.engine.delete(VmDeleteRequest::new(id), Origin::Cli).await).await;
    assert_eq!(secrets.get(key_id).await.unwrap(), None);
    assert_eq!(files_with(rig.dir.path(), key.reveal()), Vec::<PathBuf>::new());

    let whole = VmCreateRequest {
        source: CreateSource::ImageCopy { path: "/x".to_owned(), disk_size: None },
        ..request
    };
    assert!(rig.engine.create(whole, Origin::Cli).await.is_err());
}

/// The files below `dir` that have this text in them.
fn files_with(dir: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if let Ok(bytes) = std::fs::read(&path)
            && bytes.windows(text.len()).any(|window| window == text.as_bytes())
        {
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn secure_boot_gets_variables_of_its_own() {
    use voidvm_model::spec::Firmware;
    let vm = row("vm", MachineSpec { firmware: Firmware::Uefi, ..spec() });
    let Some(rig) = real(std::slice::from_ref(&vm)).await else { return };
    rig.start(vm.id).await;
    rig.force_off(vm.id).await;
    let secure =
        MachineSpec { firmware: Firmware::UefiSecure, tpm: true, ..rig.engine.get(vm.id).unwrap().spec };
    let change = VmUpdateRequest { spec: Some(secure), ..VmUpdateRequest::new(vm.id) };
    rig.engine.update(change, Origin::Cli).await.unwrap();
    rig.start(vm.id).await;
    let words = rig.engine.command(vm.id).await.unwrap().running.unwrap().join(" ");
    assert!(words.contains("uefi-secure-vars.qcow2") && words.contains("smm=on"), "{words}");
    let dir = rig.config.machine_dir(vm.id);
    assert!(dir.join("uefi-vars.qcow2").exists() && dir.join("uefi-secure-vars.qcow2").exists());
    rig.force_off(vm.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_nobody_has_is_named() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("disk.qcow2");
    std::fs::write(&file, b"").unwrap();
    let mut disk = voidvm_model::spec::Disk::new(
        "disk0".parse().unwrap(),
        file,
        voidvm_model::spec::DiskFormat::Qcow2,
        voidvm_model::spec::FileOwner::User,
    );
    disk.key = Some(SecretId::new());
    let vm = row("vm", MachineSpec { disks: vec![disk], ..spec() });
    let rig = Rig::new(&Plan::default(), std::slice::from_ref(&vm)).await;
    let (code, operation) = rig.failed(rig.engine.start(vm.id, Origin::Cli).await).await;
    assert_eq!(code, ErrorCode::NotFound);
    assert_eq!(operation.error.unwrap().field.as_deref(), Some("spec.disks[0].key"));
}
