//! Backups of a real disk to a file system that fills up, at several sizes: said, nothing of it left, and gone on with when there is room.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod common;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Rig, row, spec};
use voidvm_backup::{Depth, Repository, SparseFile};
use voidvm_model::backup::{BackupInitRequest, BackupRunRequest};
use voidvm_model::spec::{Disk, DiskFormat, FileOwner};
use voidvm_model::{ErrorCode, MachineSpec, OperationResult, Origin};
use voidvm_store::VmRow;
use voidvm_testkit::Plan;

/// What the disk holds, in mebibytes, none of it compressible.
const HELD: u64 = 24;

/// A small file system of its own.
struct Mounted(PathBuf);

impl Mounted {
    /// None where this user may mount nothing.
    fn new(at: &Path, mebibytes: u64) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={mebibytes}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output().ok()?;
        mounted.status.success().then(|| Self(at.to_owned()))
    }

    fn grow(&self, mebibytes: u64) {
        run(Command::new("mount").args(["-o", &format!("remount,size={mebibytes}m")]).arg(&self.0));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", self.0.display());
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_backup_that_finds_no_room_leaves_nothing_and_is_gone_on_with() {
    let binary = PathBuf::from("/usr/bin/qemu-system-x86_64");
    if !binary.exists() || !Path::new("/usr/bin/qemu-nbd").exists() {
        eprintln!("skipped: no QEMU here");
        return;
    }
    let plan = Plan::default();
    let rig = Rig::with(&plan, &[], |config| config.preferences.qemu_binary = Some(binary)).await;
    let vm = row("lab", spec());
    let dir = rig.config.machine_dir(vm.id);
    std::fs::create_dir_all(&dir).unwrap();
    let (raw, file) = (rig.dir.path().join("raw"), dir.join("disk0.qcow2"));
    let mut content = vec![0; usize::try_from(HELD << 20).unwrap()];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut content).unwrap();
    std::fs::write(&raw, &content).unwrap();
    run(Command::new("qemu-img").args(["convert", "-f", "raw", "-O", "qcow2"]).arg(&raw).arg(&file));
    let disk = Disk::new("disk0".parse().unwrap(), file, DiskFormat::Qcow2, FileOwner::Machine);
    let spec = MachineSpec { disks: vec![disk], ..spec() };
    rig.store.vms().insert(&VmRow { spec, ..vm.clone() }).await.unwrap();
    let rig = rig.reopen().await;
    for size in [1, 2, 5, 11, 17, 23, 24] {
        let at = rig.dir.path().join(format!("small-{size}"));
        let Some(mounted) = Mounted::new(&at, size) else {
            eprintln!("skipped: no file system can be mounted here");
            return;
        };
        let repository = at.join("backups");
        let directory = repository.to_str().unwrap().to_owned();
        let init = BackupInitRequest { directory: directory.clone(), encrypt: false };
        rig.engine.init_backups(init).await.unwrap();
        let request = || BackupRunRequest { id: vm.id, directory: directory.clone(), password: None };
        let (code, ended) = rig.failed(rig.engine.back_up(request(), Origin::Cli).await).await;
        assert_eq!(code, ErrorCode::DiskFull, "{size} MiB: {ended:?}");
        assert!(rig.engine.snapshots(vm.id).await.unwrap().snapshots.is_empty());
        let opened = Repository::open(&repository, None).unwrap();
        assert!(opened.backups().unwrap().backups.is_empty());
        let marks = rig.store.backup_marks().of(vm.id).await.unwrap();
        assert!(marks.iter().all(|mark| mark.repository != opened.id()), "what was not made is not stood on");

        mounted.grow(2 * HELD);
        let ended = rig.succeeded(rig.engine.back_up(request(), Origin::Cli).await).await;
        let Some(OperationResult::BackedUp { backup, .. }) = ended.result else { panic!("{ended:?}") };
        let out = rig.dir.path().join(format!("out-{size}"));
        let sink = SparseFile::create(&out).unwrap();
        let backup = backup.to_string().parse().unwrap();
        opened.restore(backup, ("lab", "disk0.raw"), &sink, &()).unwrap();
        assert!(std::fs::read(&out).unwrap() == content, "{size} MiB");
        std::fs::remove_file(out).unwrap();
        opened.prune(&()).unwrap();
        let verified = opened.verify(Depth::Data, &()).unwrap();
        assert!(verified.problems.is_empty() && verified.leftover == 0, "{size} MiB: {verified:?}");
    }
}
