//! Changes of a machine that runs, seen from inside a real guest under TCG.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::shell::{AT_ONCE, Shell};
use common::{Rig, row, spec};
use voidvm_model::contract::VmUpdateRequest;
use voidvm_model::spec::{
    Cdrom, Disk, DiskFormat, FileOwner, MacAddr, MachineType, NetworkBackend, Nic, PortForward,
};
use voidvm_model::{DeviceId, ErrorCode, MachineSpec, MiB, Origin, VmId, VmState, VmView};
use voidvm_store::VmRow;
use voidvm_testkit::{Plan, SmallDisk};

fn id(id: &str) -> DeviceId {
    id.parse().unwrap()
}

async fn rig(rows: &[VmRow]) -> Rig {
    Rig::with(&Plan::default(), rows, |config| {
        config.preferences.qemu_binary = Some("/usr/bin/qemu-system-x86_64".into());
        config.timing.mute_after = Duration::from_secs(20);
        config.timing.heartbeat = Duration::from_secs(2);
        config.timing.unplug = Duration::from_secs(10);
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

/// A machine on a copy of the small guest's disk; `None`, said so, where there is no QEMU.
fn small_guest(dir: &Path) -> Option<MachineSpec> {
    if std::env::var_os("VOIDVM_FULL").is_none() {
        eprintln!("skipped: a real guest takes its time; tests/full/30-guest.sh runs this");
        return None;
    }
    let copy = dir.join("guest.qcow2");
    std::fs::copy(voidvm_testkit::guest::guest().join("disk.qcow2"), &copy).unwrap();
    let disk = Disk::new(id("disk0"), copy, DiskFormat::Qcow2, FileOwner::User);
    let network = NetworkBackend::user(Vec::new());
    Some(MachineSpec {
        memory: MiB(256),
        max_cpus: Some(2),
        max_memory: Some(MiB(1024)),
        disks: vec![disk],
        cdroms: vec![Cdrom { id: id("cd0"), file: None }],
        nics: vec![Nic::new(id("nic0"), MacAddr::qemu([0, 0, 1]), network)],
        ..spec()
    })
}

fn qcow2(path: &Path, size: &str) -> PathBuf {
    let made =
        Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(path).arg(size).status().unwrap();
    assert!(made.success());
    path.to_owned()
}

/// A CD with one file of this name.
fn cd(dir: &Path, name: &str) -> PathBuf {
    let (content, iso) = (dir.join(name), dir.join(format!("{name}.iso")));
    std::fs::create_dir(&content).unwrap();
    std::fs::write(content.join(format!("{name}.txt")), name).unwrap();
    let made = Command::new("xorriso")
        .args(["-as", "mkisofs", "-quiet", "-R", "-o"])
        .arg(&iso)
        .arg(&content)
        .status()
        .unwrap();
    assert!(made.success());
    iso
}

/// The first bytes of an image, as its guest sees them.
fn content(image: &Path) -> String {
    let read = Command::new("qemu-io")
        .args(["-r", "-f", "qcow2", "-c", "read -v 0 16"])
        .arg(image)
        .output()
        .unwrap();
    String::from_utf8_lossy(&read.stdout).into_owned()
}

async fn change(rig: &Rig, id: VmId, change: impl FnOnce(&mut MachineSpec)) -> VmView {
    let mut spec = rig.engine.get(id).unwrap().spec;
    change(&mut spec);
    let request = VmUpdateRequest { spec: Some(spec), ..VmUpdateRequest::new(id) };
    rig.engine.update(request, Origin::Cli).await.unwrap()
}

fn pending(view: &VmView) -> Vec<String> {
    view.pending.iter().map(|change| format!("{} {:?}", change.field, change.problem)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guest_sees_what_comes_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let Some(spec) = small_guest(dir.path()) else { return };
    let vm = row("guest", spec);
    let rig = rig(std::slice::from_ref(&vm)).await;
    let _ended = Ended(&rig);
    rig.start(vm.id).await;
    let mut shell = Shell::open(&rig, vm.id).await;
    let before = shell.run("cat /proc/partitions; ls /sys/class/net").await;
    assert!(!before.contains("vdb") && !before.contains("eth1"), "{before}");

    // In: a disk, a card, a port.
    let port = voidvm_testkit::port::free();
    let data = qcow2(&dir.path().join("data, \"odd\".qcow2"), "48M");
    let view = change(&rig, vm.id, |spec| {
        spec.disks.push(Disk::new(id("disk1"), data.clone(), DiskFormat::Qcow2, FileOwner::User));
        spec.nics.push(Nic::new(id("nic1"), MacAddr::qemu([0, 0, 2]), NetworkBackend::user(Vec::new())));
        spec.nics[0].network = NetworkBackend::user(vec![PortForward::tcp(port, 80)]);
    })
    .await;
    assert_eq!(pending(&view), [""; 0]);
    shell.sees("cat /proc/partitions", |text| text.contains("49152 vdb")).await;
    shell.sees("ls /sys/class/net", |text| text.contains("eth1")).await;
    shell.sees("cat /sys/class/net/eth1/address", |text| text.contains("52:54:00:00:00:02")).await;
    let url = format!("http://127.0.0.1:{port}/cgi-bin/info");
    let body = Command::new("curl").args(["-fsS", "--max-time", "20", &url]).output().unwrap();
    assert!(body.status.success(), "the new port leads into the guest: {body:?}");
    shell.run("echo written > /dev/vdb; sync").await;

    // The cable out; then everything out again.
    let view = change(&rig, vm.id, |spec| spec.nics[1].link = false).await;
    assert_eq!(pending(&view), [""; 0]);
    shell.run("ip link set eth1 up").await;
    shell.sees("cat /sys/class/net/eth1/carrier", |text| text.contains("\n0")).await;
    let view = change(&rig, vm.id, |spec| {
        spec.disks.truncate(1);
        spec.nics.truncate(1);
    })
    .await;
    assert_eq!(pending(&view), [""; 0]);
    shell.sees("cat /proc/partitions", |text| !text.contains("vdb")).await;
    shell.sees("ls /sys/class/net", |text| !text.contains("eth1")).await;
    assert!(content(&data).contains("written"));

    // More of everything; and some of it back.
    let view = change(&rig, vm.id, |spec| {
        spec.cpus = 2;
        spec.memory = MiB(512);
    })
    .await;
    assert_eq!(pending(&view), [""; 0]);
    shell.sees("ls /sys/devices/system/cpu", |text| text.contains("cpu1")).await;
    shell.run("for state in /sys/devices/system/memory/memory*/state; do echo online > $state; done").await;
    let enough = "test $(grep MemTotal /proc/meminfo | tr -dc 0-9) -gt 400000 && echo enough | tr a-z A-Z";
    shell.sees(enough, |text| text.contains("ENOUGH")).await;
    let view = change(&rig, vm.id, |spec| spec.memory = MiB(384)).await;
    assert_eq!(pending(&view), [""; 0]);

    // What waits is shown with old and new.
    let view = change(&rig, vm.id, |spec| spec.rng = false).await;
    let waits = &view.pending[0];
    let text = (waits.field.as_str(), waits.running.as_deref(), waits.next.as_deref());
    assert_eq!(text, ("rng", Some("true"), Some("false")));
    rig.force_off(vm.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guest_sees_other_media_in_a_sata_drive() {
    other_media(MachineType::Q35).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guest_sees_other_media_in_an_ide_drive() {
    other_media(MachineType::I440fx).await;
}

async fn other_media(machine: MachineType) {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut spec) = small_guest(dir.path()) else { return };
    (spec.machine, spec.max_memory, spec.max_cpus) = (machine, None, None);
    let (one, two) = (cd(dir.path(), "one"), cd(dir.path(), "two"));
    let vm = row("media", spec);
    let rig = rig(std::slice::from_ref(&vm)).await;
    let _ended = Ended(&rig);
    rig.start(vm.id).await;
    let mut shell = Shell::open(&rig, vm.id).await;
    let view = change(&rig, vm.id, |spec| spec.cdroms[0].file = Some(one.clone())).await;
    assert_eq!(pending(&view), [""; 0]);
    shell
        .sees("mkdir -p /cd; mount -t iso9660 /dev/sr0 /cd; cat /cd/one.txt", |text| text.contains("\none"))
        .await;

    // A mounted medium is held: the guest is asked, does not heed it, and that is told.
    let view = change(&rig, vm.id, |spec| spec.cdroms[0].file = Some(two.clone())).await;
    let waits = &view.pending[0];
    assert_eq!((waits.running.as_deref(), waits.next.as_deref()), (one.to_str(), two.to_str()));
    assert!(waits.problem.as_ref().unwrap().message.contains("locked"), "{waits:?}");
    shell.run("umount /cd").await;
    let view = change(&rig, vm.id, |_| ()).await;
    assert_eq!(pending(&view), [""; 0]);
    shell.sees("mount -t iso9660 /dev/sr0 /cd; cat /cd/two.txt", |text| text.contains("\ntwo")).await;
    shell.run("umount /cd").await;
    let view = change(&rig, vm.id, |spec| spec.cdroms[0].file = None).await;
    assert_eq!(pending(&view), [""; 0]);
    rig.force_off(vm.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_guest_goes_on_with_what_was_plugged_in() {
    let dir = tempfile::tempdir().unwrap();
    let Some(spec) = small_guest(dir.path()) else { return };
    let vm = row("sleeps", spec);
    let rig = rig(std::slice::from_ref(&vm)).await;
    let ended = Ended(&rig);
    std::fs::create_dir_all(rig.config.machine_dir(vm.id)).unwrap();
    rig.start(vm.id).await;
    let mut shell = Shell::open(&rig, vm.id).await;
    let data = qcow2(&dir.path().join("data.qcow2"), "48M");
    let view = change(&rig, vm.id, |spec| {
        spec.disks.push(Disk::new(id("disk1"), data.clone(), DiskFormat::Qcow2, FileOwner::User));
        spec.nics.push(Nic::new(id("nic1"), MacAddr::qemu([0, 0, 2]), NetworkBackend::user(Vec::new())));
        spec.cpus = 2;
        spec.memory = MiB(512);
    })
    .await;
    assert_eq!(pending(&view), [""; 0]);
    shell.sees("cat /proc/partitions", |text| text.contains("49152 vdb")).await;
    shell
        .run("dd if=/dev/urandom of=/tmp/memory bs=1M count=24 2>/dev/null; sha256sum /tmp/memory > /tmp/sum")
        .await;
    shell.sees("cat /tmp/sum", |text| text.contains("  /tmp/memory")).await;
    shell.run("echo before > /dev/vdb").await;
    rig.succeeded(rig.engine.suspend(vm.id, Origin::Cli).await).await;
    assert_eq!(rig.state(vm.id), VmState::Suspended);
    drop(ended);
    let rig = rig.reopen().await;
    let _ended = Ended(&rig);
    rig.start(vm.id).await;
    let mut shell = Shell::again(&rig, vm.id).await;
    shell.sees("sha256sum -c /tmp/sum", |text| text.contains("/tmp/memory: OK")).await;
    shell.sees("head -c 6 /dev/vdb", |text| text.contains("before")).await;
    shell.run("echo 3 > /proc/sys/vm/drop_caches; echo after > /dev/vdb; sync").await;
    // What was plugged in before can be taken out after.
    let view = change(&rig, vm.id, |spec| spec.disks.truncate(1)).await;
    assert_eq!(pending(&view), [""; 0]);
    assert!(content(&data).contains("after"));
    rig.force_off(vm.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_disposable_guest_writes_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let Some(spec) = small_guest(dir.path()) else { return };
    let vm = row("thrown-away", spec);
    let rig = rig(std::slice::from_ref(&vm)).await;
    let _ended = Ended(&rig);
    std::fs::create_dir_all(rig.config.machine_dir(vm.id)).unwrap();
    let disk = &vm.spec.disks[0].file;
    let before = std::fs::read(disk).unwrap();
    rig.succeeded(rig.engine.start_disposable(vm.id, Origin::Cli).await).await;
    let mut shell = Shell::open(&rig, vm.id).await;
    shell.run("echo kept > /data/kept; sync").await;
    shell.sees("cat /data/kept", |text| text.contains("\nkept")).await;
    rig.force_off(vm.id).await;
    assert!(std::fs::read(disk).unwrap() == before, "not a byte of the machine's disk has changed");
    assert!(!rig.config.machine_dir(vm.id).join("throwaway").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_holds_the_guest_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut spec) = small_guest(dir.path()) else { return };
    let Some(small) = SmallDisk::mount(48 << 10) else { return };
    let data = qcow2(&small.path().join("data.qcow2"), "64M");
    let ballast = small.path().join("ballast");
    std::fs::write(&ballast, vec![7; 24 << 20]).unwrap();
    spec.disks.push(Disk::new(id("disk1"), data.clone(), DiskFormat::Qcow2, FileOwner::User));
    let vm = row("full", spec);
    let rig = rig(std::slice::from_ref(&vm)).await;
    let _ended = Ended(&rig);
    rig.start(vm.id).await;
    let mut shell = Shell::open(&rig, vm.id).await;
    shell
        .run("dd if=/dev/urandom of=/tmp/data bs=1M count=36 2>/dev/null; sha256sum < /tmp/data > /tmp/sum")
        .await;
    shell.type_in("dd if=/tmp/data of=/dev/vdb bs=1M 2>/dev/null; sync; echo all-$((1+1))-written").await;
    let view = rig.until_within(vm.id, VmState::Paused, AT_ONCE).await;
    let attention = view.attention.or(rig.engine.get(vm.id).unwrap().attention).unwrap();
    assert_eq!(attention.code, ErrorCode::DiskFull);
    let details = attention.details.unwrap();
    assert_eq!(details["path"].as_str(), data.to_str());
    assert!(details["available"].as_u64().unwrap() < 1 << 20, "{details:?}");
    std::fs::remove_file(&ballast).unwrap();
    rig.succeeded(rig.engine.resume(vm.id, Origin::Cli).await).await;
    shell.until("all-2-written", AT_ONCE).await;
    assert_eq!(rig.engine.get(vm.id).unwrap().attention, None);
    shell.run("echo 3 > /proc/sys/vm/drop_caches").await;
    let same = "dd if=/dev/vdb bs=1M count=36 2>/dev/null | sha256sum | cmp - /tmp/sum && echo the same | tr a-z A-Z";
    shell.sees(same, |text| text.contains("THE SAME")).await;
    rig.force_off(vm.id).await;
    let check = Command::new("qemu-img").arg("check").arg(&data).output().unwrap();
    assert!(check.status.success(), "{check:?}");
}
