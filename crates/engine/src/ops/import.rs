//! Machines from files: voidVM's archives, OVAs, and descriptions other programs wrote.
//!
//! ```text
//! look ─▶ plan (what would be made, what would not) ─▶ build: unpack and verify, or convert each disk ─▶ machine
//! ```
//! Invariants: a stranger's file decides neither where something is written nor which file of this computer a guest is shown; a
//! checksum that does not fit ends the import; nothing outside the new machine's directory is changed.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;
use voidvm_foreign::{ForeignError, Kind};
use voidvm_model::spec::{
    DiskFormat, FileOwner, MacAddr, NetworkBackend, PortForward, validate_name, validate_path,
};
use voidvm_model::system::ImageKind;
use voidvm_model::transfer::{ImportPlan, Unsupported, VmImportRequest};
use voidvm_model::vm::VmMeta;
use voidvm_model::{
    Bytes, ErrorBody, ErrorCode, MachineSpec, Operation, OperationKind, Origin, VmId, VmState,
};
use voidvm_qemu::image::QemuImg;
use voidvm_store::VmRow;

use super::archive::{self, Meter, Strict};
use super::build::{self, Line, Made, Plan, Recipe, Share, Site, Stopped};
use super::create::{random_mac, usable_format};
use super::export::{self, ARCHIVE, CHECKSUMS, MANIFEST, Manifest};
use super::{clone, files, launch};
use crate::engine::blocking;
use crate::fleet::file_in_use;
use crate::ledger::Ticket;
use crate::platform;
use crate::shared::Shared;

/// What a file is, with what it says of the machine.
enum Found {
    Archive(Box<Manifest>),
    Ova(ImportPlan),
    Described(ImportPlan),
}

/// Looks at a file: what importing it would make.
///
/// # Errors
/// What is wrong with it.
pub(crate) async fn inspect(path: PathBuf) -> Result<ImportPlan, ErrorBody> {
    validate_path("path", &path)?;
    blocking(move || {
        Ok(match look(&path)? {
            Found::Archive(manifest) => {
                let mut spec = manifest.spec;
                let unsupported = leave_host(&mut spec);
                ImportPlan { source: "voidvm".to_owned(), name: manifest.name, spec, unsupported }
            }
            Found::Ova(plan) | Found::Described(plan) => plan,
        })
    })
    .await
}

/// Checks a request and begins the work.
///
/// # Errors
/// What does not hold, with its field; nothing was made then.
pub(crate) async fn import(
    shared: &Arc<Shared>,
    request: VmImportRequest,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let path = PathBuf::from(&request.path);
    validate_path("path", &path)?;
    let looked = path.clone();
    let found = blocking(move || look(&looked)).await?;
    let (plan_name, spec) = match &found {
        Found::Archive(manifest) => (&manifest.name, &manifest.spec),
        Found::Ova(plan) | Found::Described(plan) => (&plan.name, &plan.spec),
    };
    let name = request.name.unwrap_or_else(|| plan_name.clone());
    validate_name(&name)?;
    launch::check_memory(spec)?;
    let img = platform::qemu_img(shared.preferences().qemu_binary)?;
    if let Found::Described(plan) = &found {
        for disk in &plan.spec.disks {
            let image = img.info(&disk.file).await.map_err(|error| error.body().with_field("path"))?;
            if request.in_place
                && usable_format(&image).is_ok()
                && let Some(user) = shared.fleet.user_of(&disk.file, None)
            {
                return Err(file_in_use(&disk.file, &user).with_field("path"));
            }
        }
    }
    let id = VmId::new();
    let plan = Plan {
        id,
        reservation: shared.fleet.reserve(id, &name, None)?,
        name: name.clone(),
        kind: OperationKind::Import,
        line: Line::Waits,
        origin,
        start: false,
    };
    let place = if request.in_place { Place::Stay } else { Place::Copy };
    build::begin(shared, plan, Import { found, path, name, place, img }).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Copy,
    Stay,
}

struct Import {
    found: Found,
    path: PathBuf,
    name: String,
    place: Place,
    img: QemuImg,
}

fn look(path: &Path) -> Result<Found, ErrorBody> {
    let failed = |error: &std::io::Error| files::io_error(path, error).with_field("path");
    let metadata = std::fs::metadata(path).map_err(|error| failed(&error))?;
    if !metadata.is_file() {
        return Err(unknown(path));
    }
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(512).read_to_end(&mut head))
        .map_err(|error| failed(&error))?;
    if head.starts_with(b"\x28\xb5\x2f\xfd") {
        let (name, text) = archive::first_text(decoder(path)?, ".json")?.ok_or_else(|| unknown(path))?;
        let manifest: Manifest = serde_json::from_slice(&text)
            .ok()
            .filter(|_| name == MANIFEST)
            .ok_or_else(|| archive::refused("it has no manifest"))?;
        if manifest.archive > ARCHIVE {
            return Err(ErrorBody::new(ErrorCode::Unsupported, "The archive was written by a newer voidVM.")
                .with_field("path")
                .with_hint("Update voidVM."));
        }
        return Ok(Found::Archive(Box::new(manifest)));
    }
    let dir = path.parent().unwrap_or(path);
    if head.get(257..262) == Some(b"ustar") {
        let file = File::open(path).map_err(|error| failed(&error))?;
        let (_, text) = archive::first_text(file, ".ovf")?.ok_or_else(|| unknown(path))?;
        let mut plan = describe(Kind::Ovf, &String::from_utf8_lossy(&text), dir)?;
        "ova".clone_into(&mut plan.source);
        return Ok(Found::Ova(plan));
    }
    if metadata.len() > archive::TEXT_MAX {
        return Err(unknown(path));
    }
    let bytes = std::fs::read(path).map_err(|error| failed(&error))?;
    let text = String::from_utf8_lossy(&bytes);
    let kind = Kind::of(path, &text).ok_or_else(|| unknown(path))?;
    describe(kind, &text, dir).map(Found::Described)
}

fn describe(kind: Kind, text: &str, dir: &Path) -> Result<ImportPlan, ErrorBody> {
    voidvm_foreign::read(kind, text, dir, &mut random_mac).map_err(|error| match error {
        ForeignError::Syntax(reason) => {
            ErrorBody::new(ErrorCode::ImageInvalid, format!("The description cannot be read: {reason}."))
                .with_field("path")
                .with_hint("Export the machine again in the program it comes from.")
        }
        ForeignError::Machine(body) => body,
    })
}

fn unknown(path: &Path) -> ErrorBody {
    ErrorBody::new(ErrorCode::ImageInvalid, format!("{} describes no machine voidVM knows.", path.display()))
        .with_field("path")
        .with_hint(
            "Choose a .voidvm archive, an OVA or OVF, libvirt XML, a quickemu .conf, a .vbox or a .vmx; create a machine \
             from a disk image instead.",
        )
}

fn decoder(path: &Path) -> Result<impl Read, ErrorBody> {
    let file = File::open(path).map_err(|error| files::io_error(path, &error))?;
    zstd::stream::read::Decoder::new(file).map_err(|error| files::io_error(path, &error))
}

/// Takes out what is of the computer the machine comes from and not of this one.
pub(crate) fn leave_host(spec: &mut MachineSpec) -> Vec<Unsupported> {
    let mut left = Vec::new();
    spec.shares.retain(|share| {
        let there = share.folder.is_dir();
        if !there {
            left.push(Unsupported {
                what: share.folder.to_string_lossy().into_owned(),
                why: "The shared folder is not on this computer.".to_owned(),
            });
        }
        there
    });
    if !spec.extra_args.is_empty() {
        left.push(Unsupported {
            what: spec.extra_args.join(" "),
            why: "Arguments for QEMU from elsewhere are not taken over.".to_owned(),
        });
        spec.extra_args.clear();
    }
    left
}

impl Recipe for Import {
    async fn make(self, site: &Site<'_>, ticket: &mut Ticket) -> Result<Made, Stopped> {
        let now = Timestamp::now();
        let mut vm = VmRow {
            id: site.id,
            name: self.name.clone(),
            description: String::new(),
            os_type: None,
            spec: MachineSpec::new(1, voidvm_model::MiB(64)),
            state: VmState::Stopped,
            state_since: now,
            attention: None,
            meta: VmMeta::default(),
            parent: None,
            passing: false,
            created_at: now,
            updated_at: now,
        };
        vm.spec = match &self.found {
            Found::Archive(manifest) => {
                vm.description.clone_from(&manifest.description);
                vm.os_type.clone_from(&manifest.os_type);
                self.unpack_archive(manifest, site, ticket).await?
            }
            Found::Ova(plan) => self.unpack_ova(plan, site, ticket).await?,
            Found::Described(plan) => self.convert(plan.spec.clone(), site, ticket).await?,
        };
        refresh(site.shared, &mut vm.spec);
        vm.spec.validate()?;
        Ok(Made { vm, of: None })
    }
}

/// Addresses and ports nobody here has.
pub(crate) fn refresh(shared: &Shared, spec: &mut MachineSpec) {
    let views = shared.fleet.views();
    let macs: Vec<MacAddr> = views.iter().flat_map(|view| view.spec.nics.iter().map(|nic| nic.mac)).collect();
    let mut taken: Vec<PortForward> =
        views.iter().flat_map(|view| view.spec.forwards().copied().collect::<Vec<_>>()).collect();
    for nic in &mut spec.nics {
        if macs.contains(&nic.mac) {
            nic.mac = random_mac();
        }
        let NetworkBackend::User { forwards, .. } = &mut nic.network else { continue };
        for forward in forwards {
            *forward = clone::free_port(*forward, &taken);
            taken.push(*forward);
        }
    }
}

impl Import {
    async fn unpack_archive(
        &self,
        manifest: &Manifest,
        site: &Site<'_>,
        ticket: &mut Ticket,
    ) -> Result<MachineSpec, Stopped> {
        let mut spec = manifest.spec.clone();
        leave_host(&mut spec);
        let total: u64 = manifest.files.iter().map(|file| file.size.0).sum();
        build::check_space(site.shared, site.dir, Bytes(total)).await?;
        let mut places = Vec::new();
        for file in &manifest.files {
            places.push((file.name.clone(), place_of(&file.name, site.dir)?));
        }
        if places.iter().any(|(_, path)| path.parent() != Some(site.dir)) {
            build::make_dir(&files::tpm(site.dir))?;
        }
        let path = self.path.clone();
        let reader = move |meter: &Meter| {
            let place =
                |name: &str| places.iter().find(|(known, _)| known == name).map(|(_, path)| path.clone());
            archive::unpack(decoder(&path)?, &place, Strict::Yes, meter)
        };
        let unpacked = with_progress(reader, total, site, ticket).await?;
        let sums: std::collections::BTreeMap<String, String> = unpacked
            .texts
            .get(CHECKSUMS)
            .and_then(|text| serde_json::from_slice(text).ok())
            .ok_or_else(|| archive::refused("it has no checksums: it is cut off"))?;
        let files = manifest.files.iter().map(|file| file.name.as_str()).chain([MANIFEST]);
        for name in files {
            fits(name, sums.get(name), unpacked.sums.get(name))?;
        }
        for disk in &mut spec.disks {
            let name = disk.file.to_string_lossy().into_owned();
            if !manifest.files.iter().any(|file| file.name == name) {
                return Err(archive::refused(&format!("the disk {name:?} is missing")).into());
            }
            disk.file = place_of(&name, site.dir)?;
            disk.format = DiskFormat::Qcow2;
            disk.owner = FileOwner::Machine;
            disk.key = None;
            let image = self.img.info(&disk.file).await.map_err(|error| error.body())?;
            if image.kind != ImageKind::Qcow2 {
                return Err(archive::refused("a disk in it is no qcow2 image").into());
            }
            export::stands_alone(&disk.file)?;
        }
        spec.cdroms.iter_mut().for_each(|cdrom| cdrom.file = None);
        Ok(spec)
    }

    async fn unpack_ova(
        &self,
        plan: &ImportPlan,
        site: &Site<'_>,
        ticket: &mut Ticket,
    ) -> Result<MachineSpec, Stopped> {
        let mut spec = plan.spec.clone();
        let mut places = Vec::new();
        for (at, disk) in spec.disks.iter_mut().enumerate() {
            let name =
                disk.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            disk.file = site.dir.join(format!("disk{at}.vmdk"));
            places.push((name, disk.file.clone()));
        }
        let size = std::fs::metadata(&self.path).map_err(|error| files::io_error(&self.path, &error))?.len();
        build::check_space(site.shared, site.dir, Bytes(size)).await?;
        let (path, wanted) = (self.path.clone(), places.clone());
        let reader = move |meter: &Meter| {
            let place =
                |name: &str| wanted.iter().find(|(known, _)| known == name).map(|(_, path)| path.clone());
            let file = File::open(&path).map_err(|error| files::io_error(&path, &error))?;
            archive::unpack(file, &place, Strict::No, meter)
        };
        let unpacked = with_progress(reader, size * 2, site, ticket).await?;
        let manifest = unpacked.texts.iter().find(|(name, _)| name.to_ascii_lowercase().ends_with(".mf"));
        if let Some((_, text)) = manifest {
            // Other sums than SHA-256 are of programs too old to be compared with.
            for (name, sum) in String::from_utf8_lossy(text).lines().filter_map(manifest_line) {
                if unpacked.sums.contains_key(&name) {
                    fits(&name, Some(&sum), unpacked.sums.get(&name))?;
                }
            }
        }
        if let Some((missing, _)) = places.iter().find(|(name, _)| !unpacked.sums.contains_key(name)) {
            return Err(archive::refused(&format!("the disk {missing:?} is missing")).into());
        }
        let spec = self.convert(spec, site, ticket).await?;
        let parts: Vec<PathBuf> = places.into_iter().map(|(_, path)| path).collect();
        files::remove(&parts)?;
        Ok(spec)
    }

    /// Turns each disk into one of ours, or leaves it where it is.
    async fn convert(
        &self,
        mut spec: MachineSpec,
        site: &Site<'_>,
        ticket: &mut Ticket,
    ) -> Result<MachineSpec, Stopped> {
        let mut images = Vec::new();
        for disk in &spec.disks {
            images.push(self.img.info(&disk.file).await.map_err(|error| error.body().with_field("path"))?);
        }
        let stays = |image: &voidvm_model::system::ImageInfo| {
            self.place == Place::Stay && image.writable && usable_format(image).is_ok()
        };
        let total = images.iter().filter(|image| !stays(image)).map(|image| image.actual_size.0).sum();
        build::check_space(site.shared, site.dir, Bytes(total)).await?;
        let mut before = 0;
        for (at, (disk, image)) in spec.disks.iter_mut().zip(&images).enumerate() {
            if stays(image) && !disk.file.starts_with(site.dir) {
                disk.format = usable_format(image)?;
                disk.owner = FileOwner::User;
                continue;
            }
            if image.kind == ImageKind::Iso {
                return Err(archive::refused("a disk of it is an ISO").into());
            }
            let target = files::disk(site.dir, at);
            let share = Share { before, size: image.actual_size.0, total };
            build::copy_disk(&self.img, (&disk.file, image.kind), &target, share, ticket, site.cancel)
                .await?;
            before += image.actual_size.0;
            disk.file = target;
            disk.format = DiskFormat::Qcow2;
            disk.owner = FileOwner::Machine;
        }
        Ok(spec)
    }
}

/// Where a file of an archive belongs in a machine's directory.
fn place_of(name: &str, dir: &Path) -> Result<PathBuf, ErrorBody> {
    let disk = name
        .strip_prefix("disk")
        .and_then(|rest| rest.strip_suffix(".qcow2"))
        .is_some_and(|number| (1..=2).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit()));
    let vars = ["uefi-vars.qcow2", "uefi-secure-vars.qcow2"].contains(&name);
    if disk || vars {
        return Ok(dir.join(name));
    }
    let plain = |rest: &str| !rest.is_empty() && !rest.starts_with('.') && !rest.contains('/');
    match name.strip_prefix(export::TPM).filter(|rest| plain(rest)) {
        Some(rest) => Ok(files::tpm(dir).join(rest)),
        None => Err(archive::refused(&format!("{name:?} does not belong there"))),
    }
}

/// `SHA256(name)= sum`.
fn manifest_line(line: &str) -> Option<(String, String)> {
    let (name, sum) =
        line.trim().strip_prefix("SHA256")?.trim_start().strip_prefix('(')?.rsplit_once(")=")?;
    Some((name.to_owned(), sum.trim().to_ascii_lowercase()))
}

fn fits(name: &str, wanted: Option<&String>, found: Option<&String>) -> Result<(), ErrorBody> {
    if wanted.is_some() && wanted == found {
        return Ok(());
    }
    Err(ErrorBody::new(ErrorCode::ChecksumMismatch, format!("The checksum of {name} does not fit."))
        .with_field("path")
        .with_hint("The file was changed or damaged on its way: get it again."))
}

/// Does blocking work on an archive, showing how far it is.
async fn with_progress<T: Send + 'static>(
    work: impl FnOnce(&Meter) -> Result<T, ErrorBody> + Send + 'static,
    total: u64,
    site: &Site<'_>,
    ticket: &mut Ticket,
) -> Result<T, Stopped> {
    let meter = Meter { done: watch::Sender::new(0), cancel: site.cancel.clone() };
    let mut done = meter.done.subscribe();
    let working = tokio::task::spawn_blocking(move || work(&meter));
    tokio::pin!(working);
    loop {
        tokio::select! {
            biased;
            ended = &mut working => {
                let ended = ended.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?;
                return ended.map_err(Stopped::from);
            }
            Ok(()) = done.changed() => {
                let done = *done.borrow_and_update();
                ticket.progress(done.min(total), total);
            }
        }
    }
}
