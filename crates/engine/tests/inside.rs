//! What stands beside QEMU, seen from inside a real guest under TCG.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::shell::{BOOT, Shell};
use common::{Rig, row, spec};
use voidvm_engine::{SecretFiles, Secrets};
use voidvm_model::contract::VmUpdateRequest;
use voidvm_model::spec::{Disk, DiskFormat, FileOwner, Firmware, Share, ShareKind};
use voidvm_model::{Bytes, MachineSpec, MiB, Origin, SecretId};
use voidvm_qemu::image::QemuImg;
use voidvm_qemu::secret::Key;
use voidvm_store::VmRow;
use voidvm_testkit::Plan;

/// Whether Secure Boot is in force: four bytes of attributes, then the value.
const SECURE_BOOT: &str = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// A disk, a copy of one; `None`, said so, where a real guest is not wanted.
fn copy_of(image: &Path, dir: &Path, format: DiskFormat) -> Disk {
    let copy = dir.join("guest.img");
    std::fs::copy(image, &copy).unwrap();
    Disk::new("disk0".parse().unwrap(), copy, format, FileOwner::User)
}

fn wanted() -> bool {
    let wanted = std::env::var_os("VOIDVM_FULL").is_some();
    if !wanted {
        eprintln!("skipped: a real guest takes its time; tests/full/35-beside.sh runs this");
    }
    wanted
}

async fn rig(rows: &[VmRow]) -> Rig {
    Rig::with(&Plan::default(), rows, |config| {
        config.preferences.qemu_binary = Some("/usr/bin/qemu-system-x86_64".into());
        config.timing.mute_after = Duration::from_secs(20);
        config.timing.heartbeat = Duration::from_secs(2);
    })
    .await
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

fn share(tag: &str, kind: ShareKind, folder: PathBuf) -> Share {
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("from-host"), format!("host to {tag}")).unwrap();
    Share { id: tag.parse().unwrap(), tag: tag.to_owned(), folder, kind, read_only: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_has_a_tpm_folders_and_a_locked_disk_and_no_clipboard_unless_asked_for() {
    if !wanted() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (key, key_id) = (Key::new("a key of this test".to_owned()).unwrap(), SecretId::new());
    let locked = dir.path().join("locked.qcow2");
    QemuImg::new("/usr/bin/qemu-img".into()).create_luks(&locked, Bytes(16 << 20), &key).await.unwrap();
    let locked = Disk {
        key: Some(key_id),
        ..Disk::new("disk1".parse().unwrap(), locked, DiskFormat::Qcow2, FileOwner::User)
    };
    let shares = vec![
        share("fast", ShareKind::Virtiofs, dir.path().join("fast")),
        share("plain", ShareKind::NineP, dir.path().join("plain")),
    ];
    let guest = voidvm_testkit::guest::guest().join("disk.qcow2");
    let vm = row(
        "vm",
        MachineSpec {
            memory: MiB(256),
            tpm: true,
            disks: vec![copy_of(&guest, dir.path(), DiskFormat::Qcow2), locked.clone()],
            shares,
            ..spec()
        },
    );
    let rig = rig(std::slice::from_ref(&vm)).await;
    let _ended = Ended(&rig);
    SecretFiles::new(rig.config.data_dir.join("secrets")).put(key_id, &key).await.unwrap();
    rig.start(vm.id).await;
    let mut shell = Shell::open(&rig, vm.id).await;

    let version = shell.run("cat /sys/class/tpm/tpm0/tpm_version_major").await;
    assert!(version.lines().any(|line| line.trim() == "2"), "{version}");

    for (tag, options) in [("fast", "-t virtiofs"), ("plain", "-t 9p -o trans=virtio,version=9p2000.L")] {
        let folder = dir.path().join(tag);
        let said = shell
            .run(&format!("mkdir /tmp/{tag}; mount {options} {tag} /tmp/{tag}; cat /tmp/{tag}/from-host"))
            .await;
        assert!(said.contains(&format!("host to {tag}")), "{said}");
        shell
            .run(&format!("echo guest-wrote-$((6*7)) > /tmp/{tag}/from-guest; sync; umount /tmp/{tag}"))
            .await;
        let text = std::fs::read_to_string(folder.join("from-guest")).unwrap();
        assert_eq!(text, "guest-wrote-42\n");
    }

    let ports = shell.run("cat /sys/class/virtio-ports/*/name").await;
    assert!(ports.contains("org.qemu.guest_agent.0") && !ports.contains("com.redhat.spice.0"), "{ports}");

    // In the clear inside, nothing of it in the file. In one piece, for `dd` makes a block of each.
    shell
        .run("printf '%s%s\\n' plain text-of-the-guest | dd of=/dev/vdb bs=512 conv=sync 2>/dev/null; sync")
        .await;
    rig.force_off(vm.id).await;
    let bytes = std::fs::read(&locked.file).unwrap();
    assert!(!bytes.windows(17).any(|window| window == b"text-of-the-guest"));

    let asked = MachineSpec { clipboard: true, ..rig.engine.get(vm.id).unwrap().spec };
    let change = VmUpdateRequest { spec: Some(asked), ..VmUpdateRequest::new(vm.id) };
    rig.engine.update(change, Origin::Cli).await.unwrap();
    rig.start(vm.id).await;
    let mut shell = Shell::open(&rig, vm.id).await;
    let text = shell.run("head -c 22 /dev/vdb").await;
    assert!(text.contains("plaintext-of-the-guest"), "{text}");
    let ports = shell.run("cat /sys/class/virtio-ports/*/name").await;
    assert!(ports.contains("com.redhat.spice.0"), "{ports}");
    rig.force_off(vm.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secure_boot_starts_what_is_signed_and_nothing_else() {
    if !wanted() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (signed, unsigned) = (dir.path().join("signed"), dir.path().join("unsigned"));
    std::fs::create_dir(&signed).unwrap();
    std::fs::create_dir(&unsigned).unwrap();
    let image = PathBuf::from(std::env::var_os("VOIDVM_SIGNED_DISK").unwrap());
    let secure = |disk| MachineSpec {
        memory: MiB(512),
        firmware: Firmware::UefiSecure,
        tpm: true,
        disks: vec![disk],
        ..spec()
    };
    let yes = row("signed", secure(copy_of(&image, &signed, DiskFormat::Raw)));
    let guest = voidvm_testkit::guest::guest().join("disk.qcow2");
    let no = row("unsigned", secure(copy_of(&guest, &unsigned, DiskFormat::Qcow2)));
    let rig = rig(&[yes.clone(), no.clone()]).await;
    let _ended = Ended(&rig);

    rig.start(yes.id).await;
    let mut shell = Shell::open(&rig, yes.id).await;
    let value = shell.run(&format!("od -An -tx1 {SECURE_BOOT}")).await;
    assert!(value.contains("06 00 00 00 01"), "{value}");
    let version = shell.run("cat /sys/class/tpm/tpm0/tpm_version_major").await;
    assert!(version.lines().any(|line| line.trim() == "2"), "{version}");
    rig.force_off(yes.id).await;

    // The small guest's own loader is signed by nobody: the firmware says so.
    rig.start(no.id).await;
    let mut shell = Shell::again(&rig, no.id).await;
    shell.until("Access Denied", BOOT).await;
    rig.force_off(no.id).await;
}
