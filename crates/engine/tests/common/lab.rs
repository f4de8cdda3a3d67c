//! Machines whose disks the test writes to itself, running or not: by the real QEMU's second monitor, or in the files of the fake.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use voidvm_model::snapshot::{
    RestoreTo, Snapshot, SnapshotCreateRequest, SnapshotRef, SnapshotRestoreRequest,
};
use voidvm_model::spec::{Disk, DiskFormat, FileOwner};
use voidvm_model::{MachineSpec, OperationResult, Origin, VmId, VmState};
use voidvm_store::VmRow;
use voidvm_testkit::Plan;

use super::{Rig, row, spec};

/// Pieces of a disk, each holding one byte over and over.
pub const PIECES: usize = 8;
/// Bytes of one.
pub const PIECE: usize = 128 << 10;
pub type Content = [u8; PIECES];

/// What the machines run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hypervisor {
    Real,
    Fake,
}

/// The same QEMU with a monitor for the test beside the engine's, one for each machine.
fn with_second_monitor(binary: &Path, dir: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let script = dir.join("qemu-with-monitor");
    let (binary, dir) = (binary.display(), dir.display());
    let text = format!(
        "#!/bin/sh\nfor word; do [ \"$last\" = -uuid ] && uuid=$word; last=$word; done\n\
         [ -n \"$uuid\" ] && exec {binary} \"$@\" -qmp \"unix:{dir}/m.$uuid,server=on,wait=off\"\nexec {binary} \"$@\"\n"
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
}

/// An engine with a machine that has two disks of its own.
pub struct Lab {
    pub rig: Rig,
    pub id: VmId,
    hypervisor: Hypervisor,
}

impl Drop for Lab {
    fn drop(&mut self) {
        for vm in self.rig.engine.list() {
            if let Some(run) = vm.run {
                voidvm_testkit::fake::kill(run.pid);
            }
        }
    }
}

impl Lab {
    /// None, with the reason on stderr, where there is no QEMU.
    #[expect(clippy::print_stderr, reason = "a test says what it skips")]
    pub async fn new(hypervisor: Hypervisor) -> Option<Self> {
        let binary = PathBuf::from("/usr/bin/qemu-system-x86_64");
        if !binary.exists() {
            eprintln!("skipped: no QEMU here");
            return None;
        }
        let vm = row("lab", spec());
        let rig = Rig::with(&Plan::default(), &[], |config| {
            if hypervisor == Hypervisor::Real {
                config.preferences.qemu_binary =
                    Some(with_second_monitor(&binary, config.data_dir.parent().unwrap()));
                config.timing.mute_after = Duration::from_secs(20);
                config.timing.heartbeat = Duration::from_secs(2);
                // Memory is prepared and packed in the middle of everything.
                config.timing.prepare_after = Duration::from_millis(50);
                config.timing.pack_after = Duration::from_millis(500);
            }
        })
        .await;
        let dir = rig.config.machine_dir(vm.id);
        std::fs::create_dir_all(&dir).unwrap();
        let disks = ["disk0", "disk1"].map(|name| {
            let file = dir.join(format!("{name}.qcow2"));
            run(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&file).arg("8M"));
            Disk::new(name.parse().unwrap(), file, DiskFormat::Qcow2, FileOwner::Machine)
        });
        let spec = MachineSpec { disks: disks.to_vec(), ..spec() };
        rig.store.vms().insert(&VmRow { spec, ..vm.clone() }).await.unwrap();
        Some(Self { rig: rig.reopen().await, id: vm.id, hypervisor })
    }

    pub fn dir(&self) -> PathBuf {
        self.rig.config.machine_dir(self.id)
    }

    pub fn state(&self) -> VmState {
        self.rig.state(self.id)
    }

    pub async fn start(&self) {
        self.rig.start(self.id).await;
    }

    pub async fn take(&self, request: SnapshotCreateRequest) -> Snapshot {
        let id = request.id;
        let ended = self.rig.succeeded(self.rig.engine.take_snapshot(request, Origin::Cli).await).await;
        let Some(OperationResult::Snapshotted { snapshot, .. }) = ended.result else { panic!("{ended:?}") };
        self.tree_of(id).await.into_iter().find(|taken| taken.id == snapshot).unwrap()
    }

    pub async fn named(&self, name: &str) -> Snapshot {
        self.take(SnapshotCreateRequest { name: Some(name.to_owned()), ..wish(self.id) }).await
    }

    pub async fn tree(&self) -> Vec<Snapshot> {
        self.tree_of(self.id).await
    }

    pub async fn tree_of(&self, id: VmId) -> Vec<Snapshot> {
        self.rig.engine.snapshots(id).await.unwrap().snapshots
    }

    pub async fn restore(&self, snapshot: &Snapshot, to: RestoreTo, discard_present: bool) {
        self.restore_of(self.id, snapshot, to, discard_present).await;
    }

    pub async fn restore_of(&self, id: VmId, snapshot: &Snapshot, to: RestoreTo, discard_present: bool) {
        let request = SnapshotRestoreRequest { id, snapshot: snapshot.id.to_string(), to, discard_present };
        self.rig.succeeded(self.rig.engine.restore_snapshot(request, Origin::Cli).await).await;
    }

    pub async fn delete(&self, snapshot: &Snapshot) {
        self.delete_of(self.id, snapshot).await;
    }

    pub async fn delete_of(&self, id: VmId, snapshot: &Snapshot) {
        let request = SnapshotRef { id, snapshot: snapshot.id.to_string() };
        self.rig.succeeded(self.rig.engine.delete_snapshot(request, Origin::Cli).await).await;
    }

    /// Writes a piece of both disks, whether the machine runs or not.
    pub fn write(&self, piece: usize, byte: u8) {
        self.write_to(self.id, piece, byte);
    }

    pub fn write_to(&self, id: VmId, piece: usize, byte: u8) {
        let vm = self.rig.engine.get(id).unwrap();
        for disk in &vm.spec.disks {
            let line = format!("write -P {byte} {} {PIECE}", piece * PIECE);
            if vm.state == VmState::Running && self.hypervisor == Hypervisor::Real {
                let device = format!("/machine/peripheral/{}/virtio-backend", disk.id);
                self.monitor(id, &format!("qemu-io -d {device} \"{line}\""));
                // Nothing of it stays in memory alone.
                self.monitor(id, &format!("qemu-io -d {device} \"flush\""));
            } else {
                // Layers may be merged just now.
                voidvm_testkit::wait_until(super::SOON, "a disk nobody works on", || {
                    is_free(&disk.file).then_some(())
                });
                io(&disk.file, &[line], &[]);
            }
        }
    }

    /// Says a line to QEMU through the second monitor.
    fn monitor(&self, id: VmId, line: &str) {
        let stream = UnixStream::connect(self.rig.dir.path().join(format!("m.{id}"))).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        lines.next().unwrap().unwrap();
        let command = serde_json::json!({
            "execute": "human-monitor-command", "arguments": {"command-line": line},
        });
        for question in [r#"{"execute":"qmp_capabilities"}"#.to_owned(), command.to_string()] {
            (&stream).write_all(format!("{question}\n").as_bytes()).unwrap();
            let answer = lines.by_ref().map(Result::unwrap).find(|line| !line.contains("\"event\"")).unwrap();
            let said = answer.to_lowercase();
            assert!(!said.contains("error") && !said.contains("failed"), "{line}: {answer}");
        }
    }

    /// Makes sure that an image of a machine shows this, and holds together.
    pub fn shows(image: &Path, content: &Content) {
        let lines: Vec<String> = content
            .iter()
            .enumerate()
            .map(|(piece, byte)| format!("read -P {byte} {} {PIECE}", piece * PIECE))
            .collect();
        // Between its opening the image and what that stands on, layers may be merged.
        let end = std::time::Instant::now() + super::SOON;
        while !Command::new("qemu-img").args(["check", "-q", "-U"]).arg(image).status().unwrap().success() {
            assert!(std::time::Instant::now() < end, "{} does not hold together", image.display());
        }
        io(image, &lines, &["-r", "-U"]);
    }

    /// The names of the files in the machine's directory.
    pub fn files(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.dir()).unwrap().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    pub async fn layers(&self, snapshot: &Snapshot) -> Vec<PathBuf> {
        self.layers_of(self.id, snapshot).await
    }

    pub async fn layers_of(&self, id: VmId, snapshot: &Snapshot) -> Vec<PathBuf> {
        let rows = self.rig.store.snapshots().of(id).await.unwrap();
        let row = rows.into_iter().find(|row| row.id == snapshot.id).unwrap();
        row.layers.values().map(|name| self.rig.config.machine_dir(id).join(name)).collect()
    }
}

pub fn wish(id: VmId) -> SnapshotCreateRequest {
    SnapshotCreateRequest {
        id,
        name: None,
        description: String::new(),
        tags: Vec::new(),
        disk_only: false,
        freeze: false,
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("failed"), "{command:?}: {said}");
}

/// Whether an image can be opened for writing.
fn is_free(image: &Path) -> bool {
    let opened = Command::new("qemu-io").args(["-f", "qcow2", "-c", "length"]).arg(image).output().unwrap();
    opened.status.success()
}

fn io(image: &Path, lines: &[String], options: &[&str]) {
    let mut command = Command::new("qemu-io");
    command.args(options).args(["-f", "qcow2"]);
    for line in lines {
        command.args(["-c", line]);
    }
    run(command.arg(image));
}
