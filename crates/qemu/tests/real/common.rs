//! Machines of every shape, and a QEMU that ends with the test.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use voidvm_model::spec::{
    Accel, Cdrom, Disk, DiskFormat, FileOwner, Firmware, MacAddr, MachineType, NetworkBackend, Nic,
    PortForward, SPEC_VERSION,
};
use voidvm_model::vm::ActiveAccel;
use voidvm_model::{Bytes, MachineSpec, MiB, VmId};
use voidvm_qemu::args::{self, LaunchPaths};
use voidvm_qemu::image::QemuImg;
use voidvm_qemu::probe::{self, Capabilities};
use voidvm_qemu::process::{self, LaunchError, ProcessHandle, RunDir, RunRecord, Signal};
use voidvm_qemu::qmp::{Qmp, QmpEvent};

/// No step of a test takes longer on the slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn qemu() -> PathBuf {
    probe::locate("").unwrap()
}

pub(crate) fn qemu_img() -> QemuImg {
    QemuImg::new(probe::locate_qemu_img(&qemu()).unwrap())
}

pub(crate) fn empty_spec() -> MachineSpec {
    MachineSpec { accel: Accel::Tcg, ..MachineSpec::new(1, MiB(64)) }
}

pub(crate) async fn with_disk(mut spec: MachineSpec, file: PathBuf) -> MachineSpec {
    qemu_img().create_qcow2(&file, Bytes(64 << 20)).await.unwrap();
    let id = format!("disk{}", spec.disks.len()).parse().unwrap();
    spec.disks.push(Disk::new(id, file, DiskFormat::Qcow2, FileOwner::Machine));
    spec
}

pub(crate) fn with_cdrom(mut spec: MachineSpec, file: Option<PathBuf>) -> MachineSpec {
    let id = format!("cd{}", spec.cdroms.len()).parse().unwrap();
    spec.cdroms.push(Cdrom { id, file });
    spec
}

pub(crate) fn with_nic(mut spec: MachineSpec, forwards: Vec<PortForward>) -> MachineSpec {
    let index = spec.nics.len();
    spec.nics.push(Nic::new(
        format!("nic{index}").parse().unwrap(),
        MacAddr::qemu([0, 0, u8::try_from(index).unwrap()]),
        NetworkBackend::user(forwards),
    ));
    spec
}

/// A host port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    voidvm_testkit::port::free()
}

/// A running QEMU; killed when it is dropped.
pub(crate) struct Machine {
    pub(crate) id: VmId,
    pub(crate) dir: RunDir,
    pub(crate) handle: ProcessHandle,
    pub(crate) record: RunRecord,
    pub(crate) qmp: Qmp,
    pub(crate) events: mpsc::Receiver<QmpEvent>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.handle.signal(Signal::Kill);
    }
}

pub(crate) fn paths(base: &Path, dir: &RunDir) -> LaunchPaths {
    LaunchPaths {
        qmp: dir.qmp(),
        serial: dir.serial(),
        serial_log: base.join("serial.log"),
        agent: dir.agent(),
        ..LaunchPaths::default()
    }
}

/// Starts a machine in `base` and holds it as the engine does; fails with QEMU's own words.
pub(crate) async fn start(base: &Path, name: &str, spec: MachineSpec) -> Result<Machine, String> {
    let caps = Capabilities::of(&qemu()).await.unwrap();
    let id = VmId::new();
    let dir = RunDir::new(base, id);
    dir.prepare().unwrap();
    let mut paths = paths(base, &dir);
    if spec.firmware == Firmware::Uefi {
        let ovmf = voidvm_qemu::firmware::find(voidvm_model::spec::Firmware::Uefi).unwrap();
        let vars = base.join("vars, of \"this\" machine.qcow2");
        voidvm_qemu::firmware::make_vars(&qemu_img(), &ovmf, &vars).await.unwrap();
        paths.uefi_code = Some(ovmf.code);
        paths.uefi_vars = Some(vars);
    }
    let args = args::build(id, name, &spec, ActiveAccel::Tcg, &paths, &caps).unwrap();
    let spawned = process::spawn(&caps.binary, &args, &dir, process::Inherited::default()).unwrap();
    let record = RunRecord {
        uuid: id,
        pid: spawned.handle.pid(),
        start_ticks: spawned.start_ticks,
        boot_id: process::boot_id().unwrap(),
        started_at: spawned.started_at,
        qemu_version: caps.version.to_string(),
        accel: ActiveAccel::Tcg,
        binary: caps.binary.clone(),
        argv: args.iter().map(|arg| arg.to_str().unwrap().to_owned()).collect(),
        spec,
        now: None,
        disposable: false,
    };
    record.write(&dir.record()).unwrap();
    let handle = spawned.handle;
    match process::greet(&handle, &dir, PATIENCE).await {
        Ok((qmp, events)) => Ok(Machine { id, dir, handle, record, qmp, events }),
        Err(LaunchError::Died { stderr, .. }) => Err(stderr),
        Err(LaunchError::Mute(error)) => panic!("{error}"),
    }
}
