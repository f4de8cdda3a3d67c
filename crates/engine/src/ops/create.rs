//! Making a machine: everything that can be known is checked before the answer; the files are made afterwards, with progress
//! (see [`build`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use voidvm_model::contract::{CloudInit, CreateSource, VmCreateRequest};
use voidvm_model::guest_os::OsPreset;
use voidvm_model::spec::{
    Accel, Cdrom, DISK_SIZE, Disk, DiskBus, DiskFormat, Display, FileOwner, Firmware, GuestClock, MacAddr,
    MachineType, NetworkBackend, Nic, NicModel, validate_name, validate_path,
};
use voidvm_model::system::{ImageInfo, ImageKind};
use voidvm_model::{
    Bytes, DeviceId, ErrorBody, ErrorCode, MachineSpec, Operation, OperationKind, Origin, SecretId, VmId,
    VmState,
};
use voidvm_qemu::firmware::{self, Ovmf};
use voidvm_qemu::image::{self, CopyProgress, QemuImg};
use voidvm_qemu::secret::Key;
use voidvm_store::VmRow;

use super::build::{self, Line, Made, Plan, Recipe, Share, Site, Stopped};
use super::{clone, files, launch, login, update};
use crate::images::{self, Held};
use crate::ledger::Ticket;
use crate::shared::Shared;
use crate::storage;
use crate::{platform, secrets};

/// How the first disk comes to be.
enum DiskPlan {
    /// Nothing to make.
    None,
    /// An empty one.
    Empty(Bytes),
    /// A copy, then grown.
    Copy { from: PathBuf, kind: ImageKind, size: Bytes, grow: Option<Bytes> },
    /// What differs from an image that stays where it is.
    Overlay { on: PathBuf, format: DiskFormat, size: Bytes },
}

/// A creation that was found possible.
struct Creation {
    vm: VmRow,
    disk: DiskPlan,
    firmware: Option<Ovmf>,
    img: QemuImg,
    cloud_init: Option<CloudInit>,
    /// The image it is made of stays until it is.
    _image: Option<Held>,
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
    if let Some(meta) = &request.meta {
        update::check_meta(meta)?;
    }
    if let Some(cloud_init) = &request.cloud_init {
        voidvm_seed::validate(cloud_init, &request.name)?;
    }
    let start = request.start;
    let (creation, in_place) = plan(shared, request).await?;
    let vm = &creation.vm;
    let plan = Plan {
        id: vm.id,
        reservation: shared.fleet.reserve(vm.id, &vm.name, in_place.as_deref())?,
        name: vm.name.clone(),
        kind: OperationKind::Create,
        line: if matches!(creation.disk, DiskPlan::Copy { .. }) { Line::Waits } else { Line::Passes },
        origin,
        start,
    };
    build::begin(shared, plan, creation).await
}

/// What is to be made, and the file that is used where it is.
async fn plan(
    shared: &Arc<Shared>,
    request: VmCreateRequest,
) -> Result<(Creation, Option<PathBuf>), ErrorBody> {
    let preferences = shared.preferences();
    let id = VmId::new();
    let dir = shared.config.machine_dir(id);
    let img = platform::qemu_img(preferences.qemu_binary)?;
    let (source, image) = Source::of(shared, request.source).await?;
    let os = request.os.or_else(|| image.as_ref()?.image.os.as_ref().map(|os| os.id.clone()));
    let preset = match &os {
        Some(os) => images::os::preset(shared, os).await,
        None => None,
    };
    let wish = preset.as_ref();
    let firmware = request.firmware.or_else(|| wish.map(|os| os.firmware)).unwrap_or(Firmware::Bios);
    let mut forwards = request.forwards;
    if request.cloud_init.is_some() && !forwards.iter().any(|forward| forward.guest_port == 22) {
        forwards.push(clone::ssh_forward(shared));
    }
    let mut spec = MachineSpec {
        firmware,
        tpm: request.tpm.or_else(|| wish.map(|os| os.tpm)).unwrap_or(false),
        accel: request.accel.unwrap_or(Accel::Auto),
        cdroms: vec![Cdrom { id: device("cd0")?, file: None }],
        nics: vec![Nic::new(device("nic0")?, random_mac(), NetworkBackend::user(forwards))],
        ..MachineSpec::new(
            request.cpus.or_else(|| wish.map(|os| os.cpus)).unwrap_or(preferences.default_cpus),
            request.memory.or_else(|| wish.map(|os| os.memory)).unwrap_or(preferences.default_memory),
        )
    };
    if let Some(preset) = &preset {
        suit(&mut spec, preset)?;
    }
    if request.cloud_init.is_some() {
        let id = device(&format!("cd{}", spec.cdroms.len()))?;
        spec.cdroms.push(Cdrom { id, file: Some(files::seed(&dir)) });
    }
    // What needs no file first: it is quicker to say.
    spec.validate()?;
    launch::check_memory(&spec)?;
    let (disk, in_place) = source.plan(shared, &img, &dir, &mut spec).await?;
    if preset.as_ref().is_some_and(|preset| !preset.virtio) {
        let bus = if spec.machine == MachineType::Q35 { DiskBus::Sata } else { DiskBus::Ide };
        spec.disks.iter_mut().for_each(|disk| disk.bus = bus);
    }
    if request.encrypt {
        lock(&disk, &mut spec)?;
    }
    spec.validate()?;
    let firmware = match firmware {
        Firmware::Bios => None,
        Firmware::Uefi | Firmware::UefiSecure => Some(platform::firmware(firmware)?),
    };
    let now = Timestamp::now();
    let vm = VmRow {
        id,
        name: request.name,
        description: request.description,
        os_type: os.or_else(|| matches!(source, Source::Copy { demo: true, .. }).then(|| "linux".to_owned())),
        spec,
        state: VmState::Stopped,
        state_since: now,
        attention: None,
        meta: request.meta.unwrap_or_default(),
        parent: None,
        passing: false,
        created_at: now,
        updated_at: now,
    };
    Ok((Creation { vm, disk, firmware, img, cloud_init: request.cloud_init, _image: image }, in_place))
}

/// Where the first disk or medium comes from, with paths that can be used.
enum Source {
    Iso { path: PathBuf, disk_size: Option<Bytes> },
    Copy { path: PathBuf, disk_size: Option<Bytes>, demo: bool },
    InPlace { path: PathBuf },
    Linked { path: PathBuf, disk_size: Option<Bytes> },
    Empty { disk_size: Bytes },
}

impl Source {
    /// The source, and the image of the library it is, held.
    async fn of(shared: &Shared, source: CreateSource) -> Result<(Self, Option<Held>), ErrorBody> {
        let usable = |path: String| {
            let path = PathBuf::from(path);
            validate_path("source.path", &path).map(|()| path)
        };
        let source = match source {
            CreateSource::Iso { path, disk_size } => {
                Self::Iso { path: usable(path)?, disk_size: sized(disk_size)? }
            }
            CreateSource::ImageCopy { path, disk_size } => {
                Self::Copy { path: usable(path)?, disk_size: sized(disk_size)?, demo: false }
            }
            CreateSource::Library { image, disk_size, linked } => {
                let disk_size = sized(disk_size)?;
                let held =
                    images::hold(shared, image).await.map_err(|error| error.with_field("source.image"))?;
                let path = PathBuf::from(&held.image.path);
                let source = match (held.image.kind, linked) {
                    (ImageKind::Iso, _) => Self::Iso { path, disk_size },
                    (_, true) => Self::Linked { path, disk_size },
                    (_, false) => Self::Copy { path, disk_size, demo: false },
                };
                return Ok((source, Some(held)));
            }
            CreateSource::Empty { disk_size } => {
                sized(Some(disk_size))?;
                Self::Empty { disk_size }
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
        };
        Ok((source, None))
    }

    /// Adds the disk or medium to the machine, and says how its file comes to be; with the file that is used where it is.
    async fn plan(
        &self,
        shared: &Shared,
        img: &QemuImg,
        dir: &Path,
        spec: &mut MachineSpec,
    ) -> Result<(DiskPlan, Option<PathBuf>), ErrorBody> {
        let own = Disk::new(device("disk0")?, files::disk(dir, 0), DiskFormat::Qcow2, FileOwner::Machine);
        Ok(match self {
            Self::Empty { disk_size } => {
                spec.disks.push(own);
                (DiskPlan::Empty(*disk_size), None)
            }
            Self::Iso { path, disk_size } => {
                inspect(img, path, Wanted::Iso).await?;
                spec.cdroms[0].file = Some(path.clone());
                spec.boot_from_cdrom = true;
                spec.disks.extend(disk_size.is_some().then_some(own));
                (disk_size.map_or(DiskPlan::None, DiskPlan::Empty), None)
            }
            Self::Copy { path, disk_size, .. } => {
                let image = inspect(img, path, Wanted::Disk).await?;
                spec.disks.push(own);
                let size = image.virtual_size;
                let grow = larger(&image, *disk_size)?.filter(|wanted| *wanted > size);
                build::check_space(shared, &shared.config.data_dir, image.actual_size)
                    .await
                    .map_err(|error| error.with_hint("Make room on that disk, or use the image in place."))?;
                (DiskPlan::Copy { from: path.clone(), kind: image.kind, size, grow }, None)
            }
            Self::Linked { path, disk_size } => {
                let image = inspect(img, path, Wanted::Disk).await?;
                let format = usable_format(&image)?;
                let size = larger(&image, *disk_size)?.unwrap_or(image.virtual_size);
                spec.disks.push(own);
                (DiskPlan::Overlay { on: path.clone(), format, size }, None)
            }
            Self::InPlace { path } => {
                let image = inspect(img, path, Wanted::Disk).await?;
                if !image.writable {
                    return Err(ErrorBody::new(
                        ErrorCode::PermissionDenied,
                        format!("This user may not write to {}.", path.display()),
                    )
                    .with_field("source.path")
                    .with_hint("Copy the image instead, or change the file's owner or mode."));
                }
                // Nobody works on it, and nobody stands on it: the guest will write to it.
                let field = |error: ErrorBody| error.with_field("source.path");
                shared.holds.check(path).map_err(field)?;
                storage::check_childless(shared, path).await.map_err(field)?;
                let format = usable_format(&image)?;
                spec.disks.push(Disk { file: path.clone(), format, owner: FileOwner::User, ..own });
                (DiskPlan::None, Some(path.clone()))
            }
        })
    }
}

/// Gives the new disk a key's name; the key itself is made with the disk.
fn lock(disk: &DiskPlan, spec: &mut MachineSpec) -> Result<(), ErrorBody> {
    match (disk, spec.disks.first_mut()) {
        (DiskPlan::Empty(_) | DiskPlan::Copy { .. }, Some(disk)) => {
            disk.key = Some(SecretId::new());
            Ok(())
        }
        _ => Err(ErrorBody::invalid("encrypt", "Only a disk of the machine's own can be encrypted.")
            .with_hint(
                "Create the machine with an empty disk or a copy of an image, or leave it unencrypted.",
            )),
    }
}

/// The key of a new disk, kept before there is anything to lose.
async fn new_key(shared: &Shared, id: SecretId) -> Result<Key, ErrorBody> {
    let key = secrets::new_key()?;
    shared.config.secrets.put(id, &key).await?;
    Ok(key)
}

/// The key of a disk that was not made.
async fn forget_key(shared: &Shared, id: SecretId) {
    if let Err(error) = shared.config.secrets.remove(id).await {
        tracing::warn!(%error, "the key of a disk that was not made is still kept");
    }
}

/// Gives the machine what an operating system gets along with best.
fn suit(spec: &mut MachineSpec, preset: &OsPreset) -> Result<(), ErrorBody> {
    spec.hyperv = preset.hyperv;
    if preset.os.family.starts_with("win") {
        spec.clock = GuestClock::Local;
        // For the drivers of virtio devices, beside the medium to install from.
        spec.cdroms.push(Cdrom { id: device("cd1")?, file: None });
    }
    if !preset.virtio {
        spec.display = Display::Std;
        spec.nics.iter_mut().for_each(|nic| nic.model = NicModel::E1000e);
    }
    Ok(())
}

fn sized(size: Option<Bytes>) -> Result<Option<Bytes>, ErrorBody> {
    match size {
        Some(size) if !DISK_SIZE.contains(&size.0) => {
            Err(ErrorBody::invalid("source.diskSize", format!("A disk of {size} cannot be made."))
                .with_hint("Choose 1 MiB to 64 TiB."))
        }
        size => Ok(size),
    }
}

/// A size that does not cut the image.
fn larger(image: &ImageInfo, wanted: Option<Bytes>) -> Result<Option<Bytes>, ErrorBody> {
    let size = image.virtual_size;
    match wanted {
        Some(wanted) if wanted < size => Err(ErrorBody::invalid(
            "source.diskSize",
            format!("The image has {size}; {wanted} would cut it."),
        )
        .with_hint("Choose a larger size, or leave it as it is.")),
        wanted => Ok(wanted),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    Iso,
    Disk,
}

async fn inspect(img: &QemuImg, path: &Path, wanted: Wanted) -> Result<ImageInfo, ErrorBody> {
    let image = img.info(path).await.map_err(|error| error.body().with_field("source.path"))?;
    let wrong = |message: &str, hint: &str| {
        Err(ErrorBody::new(ErrorCode::ImageInvalid, format!("{} {message}", path.display()))
            .with_field("source.path")
            .with_hint(hint))
    };
    match (wanted, image.kind) {
        (Wanted::Iso, kind) if kind != ImageKind::Iso => {
            wrong("is a disk image, not an ISO.", "Create the machine from a disk image instead.")
        }
        (Wanted::Disk, ImageKind::Iso) => {
            wrong("is an ISO, not a disk image.", "Create the machine from an ISO instead.")
        }
        _ => Ok(image),
    }
}

/// The format of an image that a machine can use where it is.
pub(crate) fn usable_format(image: &ImageInfo) -> Result<DiskFormat, ErrorBody> {
    match image.kind {
        ImageKind::Qcow2 => Ok(DiskFormat::Qcow2),
        ImageKind::Raw => Ok(DiskFormat::Raw),
        ImageKind::Iso | ImageKind::Vmdk | ImageKind::Vdi | ImageKind::Vhdx => Err(ErrorBody::new(
            ErrorCode::ImageInvalid,
            format!("{} is a disk of another program, which cannot be used where it is.", image.path),
        )
        .with_field("source.path")
        .with_hint("Copy it instead: the copy is converted.")),
    }
}

pub(crate) fn device(id: &str) -> Result<DeviceId, ErrorBody> {
    id.parse().map_err(|error| ErrorBody::new(ErrorCode::Internal, format!("{error}")))
}

pub(crate) fn random_mac() -> MacAddr {
    let [a, b, c, ..] = *uuid::Uuid::new_v4().as_bytes();
    MacAddr::qemu([a, b, c])
}

impl Recipe for Creation {
    async fn make(self, site: &Site<'_>, ticket: &mut Ticket) -> Result<Made, Stopped> {
        let secret = self.vm.spec.disks.first().and_then(|disk| disk.key);
        let key = match secret {
            Some(id) => Some(new_key(site.shared, id).await?),
            None => None,
        };
        let made = self.make_files(site, key.as_ref(), ticket).await;
        if let (Err(_), Some(id)) = (&made, secret) {
            forget_key(site.shared, id).await;
        }
        made.map(|()| Made { vm: self.vm, of: None })
    }
}

impl Creation {
    async fn make_files(
        &self,
        site: &Site<'_>,
        key: Option<&Key>,
        ticket: &mut Ticket,
    ) -> Result<(), Stopped> {
        let target = files::disk(site.dir, 0);
        match &self.disk {
            DiskPlan::None => {}
            DiskPlan::Empty(size) => {
                let made = match key {
                    Some(key) => self.img.create_luks(&target, *size, key).await,
                    None => self.img.create_qcow2(&target, *size).await,
                };
                made.map_err(|error| error.body())?;
            }
            DiskPlan::Overlay { on, format, size } => {
                image::overlay(&target, on, *format, *size).map_err(|error| error.body())?;
            }
            DiskPlan::Copy { from, kind, size, grow } => {
                let share = Share { before: 0, size: size.0, total: size.0 };
                if let Some(key) = key {
                    let (progress, to) = (CopyProgress::new(0), (target.as_path(), grow.unwrap_or(*size)));
                    let copying = self.img.copy_to_luks((from, *kind), to, key, &progress, site.cancel);
                    build::follow(copying, &progress, share, ticket).await?;
                } else {
                    build::copy_disk(&self.img, (from, *kind), &target, share, ticket, site.cancel).await?;
                }
                if let (Some(grow), None) = (grow, key) {
                    let grown = self.img.resize(&target, DiskFormat::Qcow2, *grow).await;
                    grown.map_err(|error| error.body())?;
                }
            }
        }
        if let Some(ovmf) = &self.firmware
            && let Some(vars) = files::vars(site.dir, self.vm.spec.firmware)
        {
            firmware::make_vars(&self.img, ovmf, &vars).await.map_err(|error| error.body())?;
        }
        if let Some(cloud_init) = &self.cloud_init {
            login::make_seed(site.dir, (self.vm.id, &self.vm.name), cloud_init)?;
        }
        Ok(())
    }
}
