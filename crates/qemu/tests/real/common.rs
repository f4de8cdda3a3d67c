//! Machines of every shape, and a QEMU that ends with the test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{OnceCell, mpsc};
use voidvm_model::spec::{
    Accel, Cdrom, Disk, DiskFormat, FileOwner, MacAddr, NetworkBackend, Nic, PortForward, ShareKind,
    UserStack,
};
use voidvm_model::vm::ActiveAccel;
use voidvm_model::{Bytes, MachineSpec, MiB, VmId};
use voidvm_qemu::args::{self, LaunchPaths};
use voidvm_qemu::companion::{self, Companions, Virtiofsd};
use voidvm_qemu::image::QemuImg;
use voidvm_qemu::probe::{self, Capabilities};
use voidvm_qemu::process::{self, Inherited, LaunchError, ProcessHandle, RunDir, RunRecord, Signal};
use voidvm_qemu::qmp::{Qmp, QmpEvent};
use voidvm_qemu::secret::Key;

/// No step of a test takes longer on the slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The QEMU under test: the installed one, or `VOIDVM_TEST_QEMU`.
pub(crate) fn qemu() -> PathBuf {
    probe::locate(&std::env::var("VOIDVM_TEST_QEMU").unwrap_or_default()).unwrap()
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
    /// End with QEMU.
    _companions: Companions,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.handle.signal(Signal::Kill);
    }
}

/// The key of every encrypted disk of a test.
pub(crate) fn key() -> Key {
    Key::new("not-so-secret".to_owned()).unwrap()
}

/// What a run of this machine needs, with the programs beside it started.
async fn outfit(
    base: &Path,
    dir: &RunDir,
    spec: &MachineSpec,
    inherited: &mut Inherited,
    companions: &mut Companions,
) -> LaunchPaths {
    let mut paths = LaunchPaths {
        qmp: dir.qmp(),
        serial: dir.serial(),
        serial_log: dir.path().join("serial.log"),
        agent: dir.agent(),
        channels: spec.channels.iter().map(|line| (line.id.clone(), dir.channel(&line.id))).collect(),
        vsock_cid: spec.vsock.then(|| std::process::id() & 0xffff | 0x10000),
        ..LaunchPaths::default()
    };
    if spec.firmware.is_uefi() {
        let ovmf = voidvm_qemu::firmware::find(spec.firmware).unwrap();
        let vars = base.join(format!("vars, of \"{:?}\" machine {}.qcow2", spec.firmware, VmId::new()));
        voidvm_qemu::firmware::make_vars(&qemu_img(), &ovmf, &vars).await.unwrap();
        paths.uefi_code = Some(ovmf.code);
        paths.uefi_vars = Some(vars);
    }
    for disk in spec.disks.iter().filter(|disk| disk.key.is_some()) {
        let number = inherited.add(key().in_memory().unwrap());
        paths.keys.insert(disk.id.clone(), format!("/dev/fd/{number}").into());
    }
    if spec.tpm {
        companion::swtpm(companions, dir, &dir.path().join("tpm")).unwrap();
        paths.tpm = Some(dir.tpm());
    }
    for nic in &spec.nics {
        if let NetworkBackend::User { stack: UserStack::Passt, forwards } = &nic.network {
            let ours = companion::passt(companions, &nic.id, forwards).unwrap();
            paths.passt.insert(nic.id.clone(), inherited.add(ours).try_into().unwrap());
        }
    }
    for share in spec.shares.iter().filter(|share| share.kind == ShareKind::Virtiofs) {
        let program = Virtiofsd::probe().await.unwrap();
        companion::virtiofsd(companions, dir, &program, share).unwrap();
        paths.shares.insert(share.id.clone(), dir.share(&share.id));
    }
    paths
}

/// What the QEMU under test can do; asked once.
pub(crate) async fn caps() -> &'static Capabilities {
    static CAPS: OnceCell<Capabilities> = OnceCell::const_new();
    CAPS.get_or_init(async || Capabilities::of(&qemu()).await.unwrap()).await
}

/// Starts a machine in `base` and holds it as the engine does; fails with QEMU's own words.
pub(crate) async fn start(base: &Path, name: &str, spec: MachineSpec) -> Result<Machine, String> {
    let caps = caps().await;
    let id = VmId::new();
    let dir = RunDir::new(base, id);
    dir.prepare().unwrap();
    let (mut inherited, mut companions) = (Inherited::default(), Companions::none(dir.clone()));
    let paths = outfit(base, &dir, &spec, &mut inherited, &mut companions).await;
    let args = args::build(id, name, &spec, ActiveAccel::Tcg, &paths, caps).unwrap();
    let spawned = process::spawn(&caps.binary, &args, &dir, inherited, process::Holes::Allowed).unwrap();
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
        roots: BTreeMap::new(),
        layers: BTreeMap::new(),
    };
    record.write(&dir.record()).unwrap();
    let handle = spawned.handle;
    match process::greet(&handle, &dir, PATIENCE).await {
        Ok((qmp, events)) => Ok(Machine { id, dir, handle, record, qmp, events, _companions: companions }),
        Err(LaunchError::Died { stderr, .. }) => Err(stderr),
        Err(LaunchError::Mute(error)) => panic!("{error}"),
    }
}
