//! Making a machine: everything that can be known is checked before the answer; the disk is made afterwards, with progress.
//!
//! ```text
//! checked, name and file reserved ─▶ row of the operation ─▶ (answer)
//!   ─▶ turn among the builds ─▶ intent ─▶ directory, disk, variables ─▶ row of the machine ─▶ intent ended ─▶ supervisor
//! ```
//! Invariant: until the machine's row is written there is no machine, and whatever ends this earlier (an error, a cancel, a crash)
//! leaves no file of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use voidvm_model::contract::{CreateSource, VmCreateRequest};
use voidvm_model::spec::{
    Accel, Cdrom, DISK_SIZE, Disk, DiskFormat, FileOwner, Firmware, MacAddr, NetworkBackend, Nic,
    validate_name, validate_path,
};
use voidvm_model::system::{ImageInfo, ImageKind};
use voidvm_model::{
    Bytes, DeviceId, ErrorBody, ErrorCode, MachineSpec, Operation, OperationKind, Origin, VmId, VmState,
};
use voidvm_qemu::firmware::{self, Ovmf};
use voidvm_qemu::image::{CopyProgress, QemuImg};
use voidvm_store::{Intent, IntentAction, VmRow};

use super::{files, launch, update};
use crate::fleet::Reservation;
use crate::ledger::{Cancel, Failure, Outcome, Subject, Ticket};
use crate::platform;
use crate::shared::Shared;
use crate::supervisor::{self, Begin, Order};

/// What stays free when a disk is copied.
const SPARE: u64 = 64 << 20;

/// How the first disk comes to be.
enum DiskPlan {
    /// Nothing to make.
    None,
    /// An empty one.
    Empty(Bytes),
    /// A copy, then grown.
    Copy { from: PathBuf, format: DiskFormat, size: Bytes, grow: Option<Bytes> },
}

/// A creation that was found possible.
struct Plan {
    vm: VmRow,
    disk: DiskPlan,
    firmware: Option<Ovmf>,
    img: QemuImg,
    dir: PathBuf,
    origin: Origin,
    start: bool,
}

/// Why a creation ended early.
enum Stopped {
    Cancelled,
    Failed(Failure),
}

impl From<ErrorBody> for Stopped {
    fn from(body: ErrorBody) -> Self {
        if body.code == ErrorCode::Cancelled { Self::Cancelled } else { Self::Failed(body.into()) }
    }
}

/// Checks a request and begins the work.
///
/// # Errors
/// What does not hold, with its field; nothing was made then.
pub(crate) async fn create(
    shared: &Arc<Shared>,
    request: VmCreateRequest,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    validate_name(&request.name)?;
    update::check_description(&request.description)?;
    let (plan, reservation) = plan(shared, request, origin).await?;
    if shared.closing.is_cancelled() {
        return Err(ErrorBody::new(ErrorCode::Busy, "voidVM is ending."));
    }
    let named = Subject::Vm(plan.vm.id, &plan.vm.name);
    let ticket = shared.ledger.open_operation(OperationKind::Create, named, origin, Cancel::Heeded).await?;
    let operation = ticket.operation();
    shared.builders.spawn(carry_out(Arc::clone(shared), plan, reservation, ticket));
    operation.ok_or_else(|| ErrorBody::new(ErrorCode::Internal, "The operation was lost."))
}

async fn plan(
    shared: &Arc<Shared>,
    request: VmCreateRequest,
    origin: Origin,
) -> Result<(Plan, Reservation), ErrorBody> {
    let preferences = shared.preferences();
    let id = VmId::new();
    let dir = shared.config.machine_dir(id);
    let img = platform::qemu_img(preferences.qemu_binary)?;
    let firmware = request.firmware.unwrap_or(Firmware::Bios);
    let mut spec = MachineSpec {
        firmware,
        accel: request.accel.unwrap_or(Accel::Auto),
        cdroms: vec![Cdrom { id: device("cd0")?, file: None }],
        nics: vec![Nic::new(device("nic0")?, random_mac(), NetworkBackend::user(request.forwards))],
        ..MachineSpec::new(
            request.cpus.unwrap_or(preferences.default_cpus),
            request.memory.unwrap_or(preferences.default_memory),
        )
    };
    // What needs no file first: it is quicker to say.
    spec.validate()?;
    launch::check_memory(&spec)?;
    let source = Source::of(shared, request.source)?;
    let image = inspect(&img, &source).await?;
    let own = Disk::new(device("disk0")?, files::disk(&dir, 0), DiskFormat::Qcow2, FileOwner::Machine);
    let disk = match &source {
        Source::Iso { path, disk_size } => {
            spec.cdroms[0].file = Some(path.clone());
            spec.boot_from_cdrom = true;
            spec.disks.extend(disk_size.is_some().then_some(own));
            disk_size.map_or(DiskPlan::None, DiskPlan::Empty)
        }
        Source::Copy { path, disk_size, .. } => {
            spec.disks.push(own);
            let size = image.virtual_size;
            if let Some(wanted) = disk_size.filter(|wanted| *wanted < size) {
                return Err(ErrorBody::invalid(
                    "source.diskSize",
                    format!("The image has {size}; {wanted} would cut it."),
                )
                .with_hint("Choose a larger size, or leave it as it is."));
            }
            check_space(&shared.config.data_dir, image.actual_size)?;
            let grow = disk_size.filter(|wanted| *wanted > size);
            DiskPlan::Copy { from: path.clone(), format: format_of(&image), size, grow }
        }
        Source::InPlace { path } => {
            if !image.writable {
                return Err(ErrorBody::new(
                    ErrorCode::PermissionDenied,
                    format!("This user may not write to {}.", path.display()),
                )
                .with_field("source.path")
                .with_hint("Copy the image instead, or change the file's owner or mode."));
            }
            let format = format_of(&image);
            spec.disks.push(Disk { file: path.clone(), format, owner: FileOwner::User, ..own });
            DiskPlan::None
        }
    };
    spec.validate()?;
    let in_place = matches!(source, Source::InPlace { .. }).then_some(image.path.as_ref());
    let reservation = shared.fleet.reserve(id, &request.name, in_place)?;
    let firmware = match firmware {
        Firmware::Bios => None,
        Firmware::Uefi | Firmware::UefiSecure => Some(platform::firmware()?),
    };
    let now = Timestamp::now();
    let vm = VmRow {
        id,
        name: request.name,
        description: request.description,
        os_type: matches!(source, Source::Copy { demo: true, .. }).then(|| "linux".to_owned()),
        spec,
        state: VmState::Stopped,
        state_since: now,
        attention: None,
        meta: request.meta.unwrap_or_default(),
        parent: None,
        created_at: now,
        updated_at: now,
    };
    Ok((Plan { vm, disk, firmware, img, dir, origin, start: request.start }, reservation))
}

/// Where the first disk or medium comes from, with paths that can be used.
enum Source {
    Iso { path: PathBuf, disk_size: Option<Bytes> },
    Copy { path: PathBuf, disk_size: Option<Bytes>, demo: bool },
    InPlace { path: PathBuf },
}

impl Source {
    fn of(shared: &Shared, source: CreateSource) -> Result<Self, ErrorBody> {
        let usable = |path: String| {
            let path = PathBuf::from(path);
            validate_path("source.path", &path).map(|()| path)
        };
        let sized = |size: Option<Bytes>| match size {
            Some(size) if !DISK_SIZE.contains(&size.0) => {
                Err(ErrorBody::invalid("source.diskSize", format!("A disk of {size} cannot be made."))
                    .with_hint("Choose 1 MiB to 64 TiB."))
            }
            size => Ok(size),
        };
        Ok(match source {
            CreateSource::Iso { path, disk_size } => {
                Self::Iso { path: usable(path)?, disk_size: sized(disk_size)? }
            }
            CreateSource::ImageCopy { path, disk_size } => {
                Self::Copy { path: usable(path)?, disk_size: sized(disk_size)?, demo: false }
            }
            CreateSource::Library { .. } | CreateSource::Empty { .. } => {
                return Err(ErrorBody::new(ErrorCode::Unsupported, "UNBUILT"));
            }
            CreateSource::ImageInPlace { path } => Self::InPlace { path: usable(path)? },
            CreateSource::Demo => {
                let path = shared.config.demo_disk.clone().ok_or_else(|| {
                    ErrorBody::new(ErrorCode::ImageMissing, "The small Linux guest is not prepared.")
                        .with_field("source")
                        .with_hint("Run ./dev guest once, or choose an image or ISO of your own.")
                })?;
                Self::Copy { path, disk_size: None, demo: true }
            }
        })
    }

    fn path(&self) -> &Path {
        match self {
            Self::Iso { path, .. } | Self::Copy { path, .. } | Self::InPlace { path } => path,
        }
    }
}

async fn inspect(img: &QemuImg, source: &Source) -> Result<ImageInfo, ErrorBody> {
    let path = source.path();
    let image = img.info(path).await.map_err(|error| error.body().with_field("source.path"))?;
    let wrong = |message: &str, hint: &str| {
        Err(ErrorBody::new(ErrorCode::ImageInvalid, format!("{} {message}", path.display()))
            .with_field("source.path")
            .with_hint(hint))
    };
    match (source, image.kind) {
        (Source::Iso { .. }, kind) if kind != ImageKind::Iso => {
            wrong("is a disk image, not an ISO.", "Create the machine from a disk image instead.")
        }
        (Source::Copy { .. } | Source::InPlace { .. }, ImageKind::Iso) => {
            wrong("is an ISO, not a disk image.", "Create the machine from an ISO instead.")
        }
        _ => Ok(image),
    }
}

const fn format_of(image: &ImageInfo) -> DiskFormat {
    match image.kind {
        ImageKind::Qcow2 => DiskFormat::Qcow2,
        ImageKind::Raw | ImageKind::Iso | ImageKind::Vmdk | ImageKind::Vdi | ImageKind::Vhdx => {
            DiskFormat::Raw
        }
    }
}

fn device(id: &str) -> Result<DeviceId, ErrorBody> {
    id.parse().map_err(|error| ErrorBody::new(ErrorCode::Internal, format!("{error}")))
}

fn random_mac() -> MacAddr {
    let [a, b, c, ..] = *uuid::Uuid::new_v4().as_bytes();
    MacAddr::qemu([a, b, c])
}

fn check_space(data_dir: &Path, needed: Bytes) -> Result<(), ErrorBody> {
    let Some((_, free)) = crate::stats::space(data_dir) else { return Ok(()) };
    if free.0 >= needed.0.saturating_add(SPARE) {
        return Ok(());
    }
    Err(ErrorBody::new(
        ErrorCode::DiskFull,
        format!("The copy takes {needed}; {} has {free} free.", data_dir.display()),
    )
    .with_hint("Make room on that disk, or use the image in place.")
    .with_detail("needed", needed.0)
    .with_detail("available", free.0))
}

async fn carry_out(shared: Arc<Shared>, plan: Plan, reservation: Reservation, mut ticket: Ticket) {
    let cancel = ticket.cancel().clone();
    // The end of the engine gives it up as a person would.
    let closing = shared.closing.clone();
    let given_up = cancel.clone();
    let _watch = AbortOnDropHandle::new(tokio::spawn(async move {
        closing.cancelled().await;
        given_up.cancel();
    }));
    let permit = tokio::select! {
        biased;
        () = cancel.cancelled() => None,
        permit = shared.builds.pass() => Some(permit),
    };
    let made = if permit.is_some() {
        ticket.begin();
        make(&shared, &plan, &mut ticket, &cancel).await
    } else {
        Err(Stopped::Cancelled)
    };
    drop(permit);
    let (id, origin, start) = (plan.vm.id, plan.origin, plan.start);
    match made {
        Ok(()) => {
            let machine = supervisor::spawn(Arc::clone(&shared), plan.vm, Begin::Made(origin));
            shared.fleet.add(Arc::clone(&machine));
            drop(reservation);
            ticket.end(Outcome::Succeeded);
            if start && let Err(error) = machine.act(Order::Start, origin).await {
                tracing::warn!(vm = %id, %error, "the new machine was not started");
            }
        }
        Err(Stopped::Cancelled) if shared.closing.is_cancelled() => ticket.end(Outcome::Interrupted),
        Err(Stopped::Cancelled) => ticket.end(Outcome::Cancelled),
        Err(Stopped::Failed(failure)) => ticket.end(Outcome::Failed(failure)),
    }
}

/// Makes the files and the row; when it fails, nothing is left of them.
async fn make(
    shared: &Shared,
    plan: &Plan,
    ticket: &mut Ticket,
    cancel: &CancellationToken,
) -> Result<(), Stopped> {
    let journal = shared.store.journal();
    let files = vec![files::disk(&plan.dir, 0), files::uefi_vars(&plan.dir)];
    let intent =
        Intent { operation_id: ticket.id(), vm_id: Some(plan.vm.id), action: IntentAction::Create, files };
    let id = journal.begin(&intent, Timestamp::now()).await.map_err(|error| error.body())?;
    let made = async {
        make_files(plan, ticket, cancel).await?;
        if cancel.is_cancelled() {
            return Err(Stopped::Cancelled);
        }
        ticket.seal();
        shared.store.vms().insert(&plan.vm).await.map_err(|error| error.body().into())
    };
    let made = made.await;
    if made.is_err() {
        undo(&plan.dir, &intent);
    }
    if let Err(error) = journal.end(id).await {
        tracing::warn!(vm = %plan.vm.id, %error, "the intent of a creation stays until the next start");
    }
    made
}

/// Removes what a creation that did not come to its end has made.
pub(crate) fn undo(dir: &Path, intent: &Intent) {
    let parts = intent.files.iter().map(|file| {
        let mut part = file.clone().into_os_string();
        part.push(".part");
        PathBuf::from(part)
    });
    let all: Vec<_> =
        intent.files.iter().cloned().chain(parts).filter(|file| file.parent() == Some(dir)).collect();
    if let Err(error) = files::remove(&all) {
        tracing::error!(%error, "a file of a creation that was undone is left");
    }
    files::remove_dir(dir);
}

async fn make_files(plan: &Plan, ticket: &mut Ticket, cancel: &CancellationToken) -> Result<(), Stopped> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&plan.dir)
        .map_err(|error| files::io_error(&plan.dir, &error))?;
    let target = files::disk(&plan.dir, 0);
    match &plan.disk {
        DiskPlan::None => {}
        DiskPlan::Empty(size) => {
            plan.img.create_qcow2(&target, *size).await.map_err(|error| error.body())?;
        }
        DiskPlan::Copy { from, format, size, grow } => {
            copy(&plan.img, (from, *format), &target, *size, ticket, cancel).await?;
            if let Some(grow) = grow {
                plan.img.resize(&target, DiskFormat::Qcow2, *grow).await.map_err(|error| error.body())?;
            }
        }
    }
    if let Some(ovmf) = &plan.firmware {
        let vars = files::uefi_vars(&plan.dir);
        firmware::make_vars(&plan.img, ovmf, &vars).await.map_err(|error| error.body())?;
    }
    Ok(())
}

async fn copy(
    img: &QemuImg,
    (from, format): (&Path, DiskFormat),
    target: &Path,
    size: Bytes,
    ticket: &mut Ticket,
    cancel: &CancellationToken,
) -> Result<(), Stopped> {
    let progress = CopyProgress::new(0);
    let mut done = progress.subscribe();
    let copying = img.copy(from, format, target, &progress, cancel);
    tokio::pin!(copying);
    loop {
        tokio::select! {
            biased;
            copied = &mut copying => return copied.map_err(|error| error.body().into()),
            Ok(()) = done.changed() => {
                let share = u64::from(*done.borrow_and_update());
                ticket.progress(size.0 / 10_000 * share, size.0);
            }
        }
    }
}
