//! Starting a machine: check, build the arguments, make ready what stands beside QEMU, spawn, write the record, reach the
//! monitor. The guest does not run yet when this ends: the driver lets it go once it watches the process.
//!
//! Invariants: when it fails or is given up, no process is left; the record is on its place before the guest can run; nothing
//! is probed that has not changed since the last start.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use voidvm_model::spec::{Accel, PortForward, Protocol};
use voidvm_model::vm::ActiveAccel;
use voidvm_model::{ErrorBody, ErrorCode, MachineSpec, VmId};
use voidvm_qemu::args;
use voidvm_qemu::companion::{CompanionKind, CompanionRecord, Companions};
use voidvm_qemu::process::{self, Holes, RunDir, RunRecord, boot_id};
use voidvm_store::VmRow;

use super::files;
use super::outfit::{self, Outfit};
use crate::hotplug;
use crate::ledger::Failure;
use crate::platform::Qemu;
use crate::run::{Attached, Came, EXIT_FOLLOWS, Run};
use crate::shared::Shared;
use crate::snapshot::image::{self, Prepared};
use crate::supervisor::adopt::{AttachError, LAST_WORDS, attach};
use crate::suspend::{self, Suspended};
use crate::{disposable, platform};

/// Why a machine was not started.
pub(crate) enum Refused {
    /// It was given up.
    Cancelled,
    /// It cannot be started until somebody mends it.
    Broken(ErrorBody),
    /// It did not work this time.
    Failed(Failure),
}

impl From<ErrorBody> for Refused {
    fn from(body: ErrorBody) -> Self {
        Self::Failed(body.into())
    }
}

/// How a machine is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// From power on.
    Fresh,
    /// From power on, and what the guest writes is thrown away.
    Disposable,
    /// From where it was suspended.
    Resumed,
}

/// The command line of a machine's next start.
pub(crate) struct CommandLine {
    pub(crate) qemu: Arc<Qemu>,
    pub(crate) accel: ActiveAccel,
    /// The hardware, with everything settled that the specification leaves open for the first start.
    pub(crate) spec: MachineSpec,
    pub(crate) argv: Vec<OsString>,
}

/// Builds the command line of the next start; touches nothing.
///
/// # Errors
/// No usable QEMU, firmware or acceleration, or a specification that cannot be expressed.
pub(crate) async fn command_line(
    shared: &Shared,
    (id, name, spec): (VmId, &str, &MachineSpec),
    home: &Path,
    suspended: Option<&Suspended>,
) -> Result<CommandLine, ErrorBody> {
    let qemu = shared.platform.qemu(shared.preferences().qemu_binary).await?;
    if let Some(Suspended { record, .. }) = suspended {
        // Its memory fits the very machine it was; what is in it was settled when that was started.
        let words = record.now.as_ref().unwrap_or(&record.argv).clone();
        let words = image::without_image(words).into_iter().map(OsString::from);
        let argv = words.chain(["-incoming".into(), "defer".into()]).collect();
        return Ok(CommandLine { qemu, accel: record.accel, spec: record.spec.clone(), argv });
    }
    let accel = accel(shared, &qemu, spec).await?;
    let spec = outfit::settled(spec, &qemu.capabilities);
    let paths = outfit::paths(shared, id, &spec, &qemu.capabilities, home)?;
    let argv =
        args::build(id, name, &spec, accel, &paths, &qemu.capabilities).map_err(|error| error.body())?;
    Ok(CommandLine { qemu, accel, spec, argv })
}

/// Starts the process of a machine.
pub(crate) async fn launch(
    shared: Arc<Shared>,
    mut vm: VmRow,
    how: How,
    cancel: CancellationToken,
) -> Result<Box<Attached>, Refused> {
    let machine_dir = shared.config.machine_dir(vm.id);
    let suspended = match how {
        How::Resumed => Some(suspend::read(&machine_dir)?),
        How::Fresh | How::Disposable => None,
    };
    if let Some(suspended) = &suspended {
        vm.spec.clone_from(&suspended.record.spec);
    }
    files::check(&vm.spec).map_err(Refused::Broken)?;
    check_memory(&vm.spec)?;
    check_ports(&shared, &vm)?;
    let home = if how == How::Disposable { disposable::home(&machine_dir) } else { machine_dir.clone() };
    let plain = match how {
        How::Disposable => {
            let img = platform::qemu_img(shared.preferences().qemu_binary)?;
            disposable::prepare(&img, &machine_dir, &vm.spec).await?
        }
        How::Fresh | How::Resumed => vm.spec.clone(),
    };
    let CommandLine { qemu, accel, spec, argv } =
        command_line(&shared, (vm.id, &vm.name, &plain), &home, suspended.as_ref()).await?;
    if cancel.is_cancelled() {
        return Err(Refused::Cancelled);
    }
    let started_with = spec.clone();
    let spec = MachineSpec { machine_version: spec.machine_version, ..vm.spec.clone() };
    if vm.spec != spec && how != How::Resumed {
        // Before anything runs: the guest never sees another machine type than the one that is remembered.
        vm.spec = spec;
        settle(&shared, vm.clone()).await?;
    }
    let plan = Attempt { shared: &shared, vm: &vm, how, qemu, accel, started_with, home, suspended, cancel };
    let prepared = plan.suspended.as_ref().and_then(|suspended| suspended.kept.as_ref());
    let prepared = prepared.and_then(|dir| image::find(&shared, dir, &plan.qemu));
    if let Some(prepared) = prepared {
        match plan.carry_out(&argv, Some(prepared)).await {
            Err(Refused::Failed(failure)) => {
                tracing::warn!(vm = %vm.id, error = %failure.error, "prepared memory does not do: the kept one is loaded");
            }
            done => return done,
        }
    }
    plan.carry_out(&argv, None).await
}

/// What a process is started with.
struct Attempt<'a> {
    shared: &'a Arc<Shared>,
    vm: &'a VmRow,
    how: How,
    qemu: Arc<Qemu>,
    accel: ActiveAccel,
    started_with: MachineSpec,
    home: PathBuf,
    suspended: Option<Suspended>,
    cancel: CancellationToken,
}

impl Attempt<'_> {
    /// Starts it, with its memory from an image where there is one. When this fails, no process is left.
    async fn carry_out(
        &self,
        argv: &[OsString],
        prepared: Option<Prepared>,
    ) -> Result<Box<Attached>, Refused> {
        let (shared, vm) = (self.shared, self.vm);
        let machine_dir = shared.config.machine_dir(vm.id);
        let boot_id = boot_id().map_err(|error| internal("the boot id cannot be read", &error))?;
        let dir = RunDir::new(&shared.config.runtime_dir, vm.id);
        // Those of a start that was cut.
        Companions::find(dir.clone()).end(Duration::ZERO).await;
        prepare(&dir, &shared.config.serial_log(vm.id))?;
        if self.how != How::Resumed {
            // Memory that fits the disks as they are now would not fit them any more.
            suspend::discard(&machine_dir);
        }
        let Outfit { mut inherited, mut companions } =
            outfit::ready(shared, vm.id, &self.started_with, &self.home).await?;
        let mut argv: Vec<String> = argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let (mut holes, mut came, mut state) = (Holes::Allowed, Came::Launched, None);
        if let Some(prepared) = prepared {
            holes = prepared.holes();
            let Prepared { ram, state: devices, .. } = &prepared;
            let number = ram.try_clone().map(|ram| inherited.add(ram.into()));
            let words = number.ok().and_then(|number| prepared.words(argv.clone(), number));
            let Some(words) = words else {
                companions.end(Duration::ZERO).await;
                return Err(ErrorBody::new(ErrorCode::Unsupported, "The image is of another machine.").into());
            };
            (argv, came, state) = (words, Came::Prepared, devices.try_clone().ok());
        }
        let words: Vec<OsString> = argv.iter().map(OsString::from).collect();
        let spawned = match process::spawn(&self.qemu.binary, &words, &dir, inherited, holes) {
            Ok(spawned) => spawned,
            Err(error) => {
                companions.end(Duration::ZERO).await;
                return Err(error.body().into());
            }
        };
        let process = spawned.handle;
        let was = self.suspended.as_ref().map(|suspended| &suspended.record);
        let record = RunRecord {
            uuid: vm.id,
            pid: process.pid(),
            start_ticks: spawned.start_ticks,
            boot_id,
            started_at: spawned.started_at,
            qemu_version: self.qemu.version(),
            accel: self.accel,
            binary: self.qemu.binary.clone(),
            argv,
            spec: vm.spec.clone(),
            now: was.map(|was| was.now.clone().unwrap_or_else(|| was.argv.clone())),
            disposable: self.how == How::Disposable,
            roots: BTreeMap::new(),
            layers: BTreeMap::new(),
        };
        remember(shared, vm.id, &record);
        let reached = async {
            record.write(&dir.record()).map_err(|error| Refused::from(error.body()))?;
            let patience = shared.config.timing.greeting;
            let attached = match attach(process.clone(), record, dir.clone(), came, patience).await {
                Ok((attached, _)) => attached,
                // A process that dies closes its monitor first: its own words say more than the closed door.
                Err(error) => {
                    return match tokio::time::timeout(LAST_WORDS, process.wait_exit()).await {
                        Ok(exit) => Err(died(exit, &dir)),
                        Err(_) => Err(not_reached(&error, &dir)),
                    };
                }
            };
            if let Some(state) = &state {
                image::load(&attached.run, state).await?;
            }
            Ok(Box::new(attached))
        };
        let mut outcome = tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Refused::Cancelled),
            exit = process.wait_exit() => {
                tracing::warn!(vm = %vm.id, ?exit, "QEMU ended before it could be reached");
                Err(died(exit, &dir))
            }
            // QEMU waits for one that has ended without a word.
            ended = companions.next_end(EXIT_FOLLOWS) => Err(companion_failed(&ended, &dir)),
            reached = reached => reached,
        };
        if let Ok(attached) = &mut outcome
            && let Err(body) = cables(&attached.run, &vm.spec).await
        {
            outcome = Err(body.into());
        }
        if let Ok(attached) = &mut outcome {
            attached.companions = companions;
        } else {
            end(&process, &dir).await;
            companions.end(Duration::ZERO).await;
        }
        outcome
    }
}

/// Remembers what the first start has settled.
///
/// In a task of its own: the driver does not poll a launch while it writes down a request itself, and would wait for ever for a
/// connection that the launch has been given.
async fn settle(shared: &Arc<Shared>, vm: VmRow) -> Result<(), ErrorBody> {
    let shared = Arc::clone(shared);
    let stored =
        tokio::spawn(async move { shared.store.vms().update(&vm).await.map_err(|error| error.body()) });
    stored.await.unwrap_or_else(|error| {
        Err(ErrorBody::new(
            ErrorCode::Internal,
            format!("The machine type could not be remembered: {error}."),
        ))
    })
}

/// Takes the cables out that are not to be in.
async fn cables(run: &Run, spec: &MachineSpec) -> Result<(), ErrorBody> {
    hotplug::cables(&run.qmp()?, spec).await
}

/// The words of the last start, for a page that compares; nothing secret is ever in them.
fn remember(shared: &Shared, id: VmId, record: &RunRecord) {
    let file = shared.config.last_command(id);
    let words: Vec<_> = std::iter::once(record.binary.to_string_lossy().into_owned())
        .chain(record.argv.iter().cloned())
        .collect();
    let written = serde_json::to_vec(&words).map_err(std::io::Error::other).and_then(|bytes| {
        std::fs::create_dir_all(file.parent().unwrap_or(&file))?;
        std::fs::write(&file, bytes)
    });
    if let Err(error) = written {
        tracing::warn!(path = %file.display(), %error, "the command of a start cannot be kept");
    }
}

/// What the last start ran, where it is known.
pub(crate) fn last_command(shared: &Shared, id: VmId) -> Option<Vec<String>> {
    serde_json::from_slice(&std::fs::read(shared.config.last_command(id)).ok()?).ok()
}

/// A program beside QEMU ended before the machine ran.
fn companion_failed(record: &CompanionRecord, dir: &RunDir) -> Refused {
    let (program, what) = match record.kind {
        CompanionKind::Tpm => ("swtpm", "The TPM"),
        CompanionKind::Share => ("virtiofsd", "A shared folder"),
        CompanionKind::Network => ("passt", "The network"),
    };
    let words = record.words(dir);
    let mut body = ErrorBody::new(
        ErrorCode::CompanionFailed,
        format!("{what} could not be had: {program} ended at once."),
    )
    .with_hint("Its own words say why; the doctor page may, too.")
    .with_detail("program", program);
    if let Some(device) = &record.device {
        body = body.with_detail("device", device.to_string());
    }
    Refused::Failed(Failure {
        stderr: Some(words.clone()).filter(|words| !words.is_empty()),
        error: body.with_detail("stderr", words),
    })
}

/// Ends a process whose guest never ran, and waits until it is gone.
async fn end(process: &process::ProcessHandle, dir: &RunDir) {
    if let Err(error) = process.signal(process::Signal::Kill) {
        tracing::error!(pid = process.pid(), %error, "a process that should not be cannot be ended");
    }
    if let Err(error) = process.wait_exit().await {
        tracing::error!(pid = process.pid(), %error, "the end of a process cannot be seen");
    }
    // Without the record nobody looks for the process; it is gone.
    let _ = std::fs::remove_file(dir.record());
}

fn died(exit: std::io::Result<process::Exit>, dir: &RunDir) -> Refused {
    process::explain(exit.unwrap_or(process::Exit::Unknown), &dir.stderr_tail()).into()
}

fn internal(what: &str, error: &dyn std::fmt::Display) -> Refused {
    ErrorBody::new(ErrorCode::Internal, format!("{what}: {error}")).into()
}

fn not_reached(error: &AttachError, dir: &RunDir) -> Refused {
    let mut body = error.body();
    let stderr = dir.stderr_tail();
    if !stderr.is_empty() {
        body = body.with_detail("stderr", stderr);
    }
    if body.code == ErrorCode::QemuUnresponsive {
        body.message = "QEMU was started and does not answer.".to_owned();
        body =
            body.with_hint("Look at the doctor page: this QEMU may be broken, or the computer overloaded.");
    }
    body.into()
}

fn prepare(dir: &RunDir, serial_log: &Path) -> Result<(), ErrorBody> {
    dir.prepare().map_err(|error| files::io_error(dir.path(), &error))?;
    let logs = serial_log.parent().unwrap_or(serial_log);
    std::fs::create_dir_all(logs).map_err(|error| files::io_error(logs, &error))?;
    // The log is of the last run.
    match std::fs::remove_file(serial_log) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(files::io_error(serial_log, &error))
        }
        _ => Ok(()),
    }
}

async fn accel(shared: &Shared, qemu: &Arc<Qemu>, spec: &MachineSpec) -> Result<ActiveAccel, ErrorBody> {
    match spec.accel {
        Accel::Tcg => Ok(ActiveAccel::Tcg),
        Accel::Auto => Ok(shared.platform.accel(qemu).await.auto),
        Accel::Kvm => {
            let report = shared.platform.accel(qemu).await;
            if report.kvm_works {
                return Ok(ActiveAccel::Kvm);
            }
            let why = report.reason.unwrap_or_else(|| "no guest runs under it".to_owned());
            Err(ErrorBody::new(ErrorCode::AccelUnavailable, format!("KVM does not work here: {why}"))
                .with_field("spec.accel")
                .with_hint("Choose automatic acceleration or TCG, or see the doctor page."))
        }
    }
}

/// A machine may have as much memory as the host, not more.
///
/// # Errors
/// [`ErrorCode::NotEnoughMemory`].
pub(crate) fn check_memory(spec: &MachineSpec) -> Result<(), ErrorBody> {
    let Some(total) = crate::stats::memory().map(|memory| memory.total) else { return Ok(()) };
    if spec.memory.bytes() <= total {
        return Ok(());
    }
    Err(ErrorBody::new(
        ErrorCode::NotEnoughMemory,
        format!("The machine wants {} of memory; the computer has {total}.", spec.memory),
    )
    .with_field("memory")
    .with_hint("Give the machine less memory.")
    .with_detail("needed", spec.memory.bytes().0)
    .with_detail("available", total.0))
}

fn check_ports(shared: &Shared, vm: &VmRow) -> Result<(), ErrorBody> {
    if let Some((holder, forward)) = shared.fleet.holder_of_ports(&vm.spec, vm.id) {
        return Err(port_in_use(&forward, &format!("“{holder}”")).with_detail("usedBy", holder));
    }
    match vm.spec.forwards().find(|forward| !is_free(forward)) {
        Some(forward) => Err(port_in_use(forward, "another program")),
        None => Ok(()),
    }
}

pub(crate) fn is_free(forward: &PortForward) -> bool {
    let address = (forward.host_address, forward.host_port);
    let bound = match forward.protocol {
        Protocol::Tcp => TcpListener::bind(address).map(drop),
        Protocol::Udp => UdpSocket::bind(address).map(drop),
    };
    // Anything else QEMU will say better.
    !bound.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

fn port_in_use(forward: &PortForward, holder: &str) -> ErrorBody {
    let protocol = match forward.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    };
    ErrorBody::new(
        ErrorCode::PortInUse,
        format!("Host port {} ({protocol}) is in use by {holder}.", forward.host_port),
    )
    .with_hint("Choose another host port in the machine's settings, or end what uses it.")
    .with_detail("port", forward.host_port)
}
