//! Bringing a file of this computer into the library.
//!
//! ```text
//! looked at ─▶ row of the operation ─▶ (answer) ─▶ turn among the builds
//!   ─▶ unpacked, if packed ─▶ looked at ─▶ converted | copied | linked | left ─▶ placed ─▶ (moved: the old name goes)
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use voidvm_model::image::{ImageImportRequest, ImportMode, Verification};
use voidvm_model::spec::validate_path;
use voidvm_model::system::{ImageInfo, ImageKind};
use voidvm_model::{Bytes, ErrorBody, ErrorCode, ImageId, Operation, OperationKind, Origin};
use voidvm_qemu::image::{Packing, QemuImg, packing};

use super::names::{self, Promise};
use super::place::{self, Arrival, Way};
use super::users::Users;
use super::work::{Job, Reporter, Stopped, carry_out};
use super::{os, unpack};
use crate::fleet::same_file;
use crate::ledger::{Cancel, Subject};
use crate::ops::files::io_error;
use crate::platform;
use crate::shared::Shared;
use crate::storage::Room;

/// An import that was found possible.
struct Plan {
    id: ImageId,
    name: String,
    path: PathBuf,
    mode: ImportMode,
    found: Found,
    img: QemuImg,
    origin: Origin,
    /// Its name, and the file itself: nobody else imports it meanwhile.
    _promises: [Promise; 2],
}

enum Found {
    Packed(Packing),
    Image(ImageInfo),
}

/// Checks a request and begins the work.
///
/// # Errors
/// What does not hold, with its field; nothing was made then.
pub(super) async fn import(
    shared: &Arc<Shared>,
    request: ImageImportRequest,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let path = PathBuf::from(&request.path);
    validate_path("path", &path)?;
    let img = platform::qemu_img(shared.preferences().qemu_binary)?;
    let found = look(&img, &path).await.map_err(|error| error.with_field("path"))?;
    check_mode(&found, request.mode)?;
    check_use(shared, &path, request.mode).await?;
    let file = names::promise(shared, format!("file {}", path.display()))
        .ok_or_else(|| ErrorBody::new(ErrorCode::Busy, "This file is being imported already."))?;
    let (name, named) =
        names::reserve(shared, request.name.as_deref(), &names::of_file(&request.path)).await?;
    if shared.closing.is_cancelled() {
        return Err(ErrorBody::new(ErrorCode::Busy, "voidVM is ending."));
    }
    let id = ImageId::new();
    let subject = Subject::Image(id, &name);
    let ticket =
        shared.ledger.open_operation(OperationKind::ImageImport, subject, origin, Cancel::Heeded).await?;
    let operation = ticket.operation();
    let plan = Plan { id, name, path, mode: request.mode, found, img, origin, _promises: [file, named] };
    let work = async move |shared: &Arc<Shared>, job: &mut Job| make(shared, plan, job).await;
    shared.builders.spawn(carry_out(Arc::clone(shared), ticket, work));
    operation.ok_or_else(|| ErrorBody::new(ErrorCode::Internal, "The operation was lost."))
}

async fn look(img: &QemuImg, path: &Path) -> Result<Found, ErrorBody> {
    let file = path.to_owned();
    let packed = crate::engine::blocking(move || match std::fs::metadata(&file) {
        // A FIFO or device is refused by the look below, which opens nothing.
        Ok(metadata) if metadata.is_file() => packing(&file).map_err(|error| io_error(&file, &error)),
        _ => Ok(None),
    });
    match packed.await? {
        Some(packing) => Ok(Found::Packed(packing)),
        None => img.info(path).await.map(Found::Image).map_err(|error| error.body()),
    }
}

fn check_mode(found: &Found, mode: ImportMode) -> Result<(), ErrorBody> {
    if mode != ImportMode::InPlace {
        return Ok(());
    }
    let what = match found {
        Found::Image(info) if matches!(info.kind, ImageKind::Qcow2 | ImageKind::Raw | ImageKind::Iso) => {
            return Ok(());
        }
        Found::Image(_) => "a disk of another program",
        Found::Packed(_) => "packed",
    };
    Err(ErrorBody::invalid("mode", format!("The file is {what}: it cannot be used where it is."))
        .with_hint("Copy it into the library instead."))
}

/// A file machines write to is no image; one that anybody reads does not move.
async fn check_use(shared: &Shared, path: &Path, mode: ImportMode) -> Result<(), ErrorBody> {
    let (views, file) = (shared.fleet.views(), path.to_owned());
    let rows = shared.store.images().list().await.map_err(|error| error.body())?;
    let in_use = |who: &str| {
        ErrorBody::new(ErrorCode::FileInUse, format!("{} is used by “{who}”.", path.display()))
            .with_field("path")
            .with_hint("Copy it into the library instead.")
            .with_detail("usedBy", who)
    };
    let (user, known) = crate::engine::blocking(move || {
        let metadata = std::fs::metadata(&file).map_err(|error| io_error(&file, &error))?;
        let user = match mode {
            ImportMode::Copy => None,
            // Used in place it is only ever read: a disk that a machine writes to cannot be that.
            ImportMode::InPlace => views
                .iter()
                .find(|view| view.spec.disks.iter().any(|disk| same_file(&disk.file, &file)))
                .map(|view| view.name.clone()),
            ImportMode::Move => {
                let users = Users::look(views.iter().map(AsRef::as_ref)).of(&metadata);
                users.into_iter().next().map(|user| user.name)
            }
        };
        Ok((user, rows.into_iter().find(|row| same_file(&row.path, &file))))
    })
    .await?;
    if let Some(user) = user {
        return Err(in_use(&user));
    }
    match known {
        Some(row) if mode != ImportMode::Copy => Err(ErrorBody::new(
            ErrorCode::FileInUse,
            format!("It is in the library already, as “{}”.", row.name),
        )
        .with_field("path")
        .with_hint("Use that image.")),
        _ => Ok(()),
    }
}

async fn make(shared: &Arc<Shared>, plan: Plan, job: &mut Job) -> Result<(), Stopped> {
    let Plan { id, name, path, mode, found, img, origin, .. } = &plan;
    let incoming = Incoming::new(shared, *id).await?;
    let (way, kind, virtual_size) = match found {
        Found::Packed(packing) => {
            let (file, info) = unpacked(&incoming, img, path, *packing, job).await?;
            settle(&incoming, img, file, info, job).await?
        }
        Found::Image(info) if *mode == ImportMode::InPlace => {
            (Way::Stay(path.clone()), info.kind, info.virtual_size)
        }
        Found::Image(info) if *mode == ImportMode::Move && keeps_its_form(info) => {
            let way = if same_disk(path, shared.images.dir()) {
                Way::Link(path.clone())
            } else {
                Way::Rename(copied(&incoming, path, job).await?)
            };
            (way, info.kind, info.virtual_size)
        }
        Found::Image(info) if info.kind == ImageKind::Iso => {
            (Way::Rename(copied(&incoming, path, job).await?), info.kind, info.virtual_size)
        }
        Found::Image(info) => {
            let file = converted(&incoming, img, path, info, job).await?;
            (Way::Rename(file), ImageKind::Qcow2, info.virtual_size)
        }
    };
    let file = match &way {
        Way::Rename(file) | Way::Link(file) | Way::Stay(file) => file.clone(),
    };
    let os = if kind == ImageKind::Iso { os::on_iso(shared, &file).await } else { None };
    if job.cancel.is_cancelled() {
        return Err(Stopped::Cancelled);
    }
    job.ticket.seal();
    let arrival = Arrival {
        id: *id,
        name: name.clone(),
        kind,
        virtual_size,
        sha256: None,
        verified: Verification::None,
        os,
        cloud_init: false,
        source: None,
    };
    place::place(shared, job.ticket.id(), *origin, arrival, way).await?;
    if *mode == ImportMode::Move {
        let path = path.clone();
        crate::engine::blocking(move || {
            std::fs::remove_file(&path).map_err(|error| {
                let body = io_error(&path, &error);
                let message = format!("The image is in the library; the old file stays: {}", body.message);
                ErrorBody { message, ..body }
            })
        })
        .await?;
    }
    Ok(())
}

/// Whether a file becomes the library's as it is.
fn keeps_its_form(info: &ImageInfo) -> bool {
    matches!(info.kind, ImageKind::Qcow2 | ImageKind::Raw | ImageKind::Iso) && info.backing_file.is_none()
}

/// Whether a file can get a second name in `dir`: tried with a name that goes at once.
fn same_disk(path: &Path, dir: &Path) -> bool {
    let probe = dir.join(".incoming").join(format!("{}.link", ImageId::new()));
    match std::fs::hard_link(path, &probe) {
        Ok(()) => std::fs::remove_file(&probe).is_ok(),
        Err(error) => !place::cannot_link(&error),
    }
}

/// Names for files on their way in; what is left of them goes with this.
pub(super) struct Incoming {
    dir: PathBuf,
    id: ImageId,
    room: Room,
}

impl Incoming {
    pub(super) async fn new(shared: &Shared, id: ImageId) -> Result<Self, ErrorBody> {
        let dir = shared.images.incoming();
        Ok(Self { room: Room::of(shared, &dir).await?, dir, id })
    }

    /// The room where they are.
    pub(super) fn room(&self) -> &Room {
        &self.room
    }

    pub(super) fn file(&self, ending: &str) -> PathBuf {
        self.dir.join(format!("{}.{ending}", self.id))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let prefix = format!("{}.", self.id);
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)) {
            place::remove(&self.dir, &entry.path());
        }
    }
}

/// Unpacks a file and looks at what was in it.
pub(super) async fn unpacked(
    incoming: &Incoming,
    img: &QemuImg,
    path: &Path,
    packing: Packing,
    job: &mut Job,
) -> Result<(PathBuf, ImageInfo), Stopped> {
    let target = incoming.file("unpacked");
    let total = std::fs::metadata(path).map_err(|error| io_error(path, &error))?.len();
    // Most images grow to three times their packed size and more; the rest is watched while it is written.
    incoming.room.check(Bytes(total))?;
    let (source, file, room) = (path.to_owned(), target.clone(), incoming.room.clone());
    let work = move |report: Reporter| unpack::unpack(&source, packing, (&file, &room), &report);
    job.blocking(total, work).await?;
    let info = img.info(&target).await.map_err(|error| error.body())?;
    Ok((target, info))
}

/// What becomes of a file that is ours already: qcow2 and ISO stay, everything else is converted.
pub(super) async fn settle(
    incoming: &Incoming,
    img: &QemuImg,
    file: PathBuf,
    info: ImageInfo,
    job: &mut Job,
) -> Result<(Way, ImageKind, Bytes), Stopped> {
    if let Some(backing) = &info.backing_file {
        let body =
            ErrorBody::new(ErrorCode::ImageInvalid, format!("The image stands on another file: {backing}."))
                .with_hint("Get an image that is whole by itself.");
        return Err(body.into());
    }
    if matches!(info.kind, ImageKind::Qcow2 | ImageKind::Iso) {
        return Ok((Way::Rename(file), info.kind, info.virtual_size));
    }
    let done = converted(incoming, img, &file, &info, job).await?;
    Ok((Way::Rename(done), ImageKind::Qcow2, info.virtual_size))
}

async fn copied(incoming: &Incoming, path: &Path, job: &mut Job) -> Result<PathBuf, Stopped> {
    let target = incoming.file("copy");
    let total = std::fs::metadata(path).map_err(|error| io_error(path, &error))?.len();
    incoming.room.check(Bytes(total))?;
    let (source, file, room) = (path.to_owned(), target.clone(), incoming.room.clone());
    job.blocking(total, move |report| unpack::copy(&source, (&file, &room), &report)).await?;
    Ok(target)
}

async fn converted(
    incoming: &Incoming,
    img: &QemuImg,
    path: &Path,
    info: &ImageInfo,
    job: &mut Job,
) -> Result<PathBuf, Stopped> {
    let target = incoming.file("qcow2");
    incoming.room.check(info.actual_size)?;
    let copy =
        async |progress: &_, cancel: &_| img.copy_kind(path, info.kind, &target, progress, cancel).await;
    job.copying(info.virtual_size, copy, |error| error.body()).await?;
    Ok(target)
}
