//! New volumes: empty ones, and copies.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use voidvm_model::spec::{DISK_SIZE, DiskFormat};
use voidvm_model::storage::{VolumeCopyRequest, VolumeCreateRequest};
use voidvm_model::{Bytes, ErrorBody, ErrorCode, Operation, OperationKind, Origin};
use voidvm_qemu::image::Allocation;
use voidvm_store::IntentAction;

use super::hold::Hold;
use super::job::{self, Came, Job, Named};
use super::pools::{self, Place};
use super::space::{self, NEXT_TO_NOTHING};
use super::target;
use crate::ledger::Cancel;
use crate::ops::files;
use crate::shared::Shared;

/// What an image takes that nobody has written to.
/// The longest file name, in bytes, with room for `.part`.
const NAME_MAX: usize = 200;

/// A file that is to be made: its name is kept while it is.
pub(super) struct NewFile {
    pub(super) path: PathBuf,
    pub(super) hold: Hold,
}

impl NewFile {
    /// A new volume of that name. The format ends the name: it says for good how the file is to be read.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidInput`], [`ErrorCode::NameTaken`] with the field `name`; [`ErrorCode::Busy`].
    pub(super) fn of(
        shared: &Shared,
        place: &Place,
        name: &str,
        format: DiskFormat,
    ) -> Result<Self, ErrorBody> {
        let wrong =
            |message: &str, hint: &str| Err(ErrorBody::invalid("name", message).with_hint(hint.to_owned()));
        if name.trim().is_empty() {
            return wrong("The name is empty.", "Give the volume a name.");
        }
        if name.contains('/') || name.starts_with('.') || name.chars().any(char::is_control) {
            return wrong(
                "No file can be called that here.",
                "Use a name without a slash that begins with a letter.",
            );
        }
        if name.len() > NAME_MAX {
            return wrong("The name is too long.", "Use at most 200 letters.");
        }
        let (end, others): (_, &[&str]) = match format {
            DiskFormat::Qcow2 => ("qcow2", &["raw", "img"]),
            DiskFormat::Raw => ("raw", &["qcow2"]),
        };
        let given = Path::new(name).extension().and_then(|end| end.to_str()).map(str::to_ascii_lowercase);
        if given.as_deref().is_some_and(|given| others.contains(&given)) {
            return wrong("The name says another format.", "Leave the end of the name away.");
        }
        let fits =
            given.as_deref() == Some(end) || (format == DiskFormat::Raw && given.as_deref() == Some("img"));
        let file = if fits { name.to_owned() } else { format!("{name}.{end}") };
        let path = place.volumes().join(&file);
        if path.symlink_metadata().is_ok() {
            return Err(ErrorBody::new(
                ErrorCode::NameTaken,
                format!("“{file}” is in “{}” already.", place.name),
            )
            .with_field("name")
            .with_hint("Choose another name."));
        }
        Ok(Self { hold: shared.holds.hold(&path)?, path })
    }

    /// What lies beside it while it is written.
    pub(super) fn part(&self) -> PathBuf {
        part_of(&self.path)
    }
}

/// What lies beside a file while it is written.
pub(super) fn part_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Makes voidVM's own directory of volumes where it is not there yet.
///
/// # Errors
/// What the file system says.
pub(super) fn make_dir(place: &Place) -> Result<(), ErrorBody> {
    use std::os::unix::fs::DirBuilderExt;
    let dir = place.volumes();
    if !place.is_own() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .map_err(|error| files::io_error(&dir, &error))
}

/// Makes a volume.
///
/// # Errors
/// What does not hold, with its field.
pub(super) async fn create(
    shared: &Arc<Shared>,
    request: VolumeCreateRequest,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let place = pools::find(shared, request.id).await?;
    check_size(request.size)?;
    let allocation = if request.full { Allocation::Full } else { Allocation::Sparse };
    let needed = if request.full { request.size } else { NEXT_TO_NOTHING };
    space::check(&place, needed).map_err(|error| error.with_field("size"))?;
    make_dir(&place)?;
    let new = NewFile::of(shared, &place, &request.name, request.format)?;
    let named = Named {
        kind: OperationKind::VolumeCreate,
        place: &place,
        name: &file_name(&new.path),
        total: request.size,
        cancel: Cancel::Heeded,
        origin,
    };
    job::begin(shared, named, async move |job| {
        let intent = job.intend(IntentAction::VolumeWrite, None, vec![new.part()]).await?;
        let made = job.img.create((&new.path, request.format), request.size, allocation, &job.cancel).await;
        job.settled(intent).await;
        drop(new.hold);
        made.map(|()| None).map_err(|error| error.body())
    })
    .await
}

/// Copies a volume.
///
/// # Errors
/// What does not hold, with its field.
pub(super) async fn copy(
    shared: &Arc<Shared>,
    request: VolumeCopyRequest,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let source = target::find(shared, request.id, &request.path).await?;
    let from = source.readable()?;
    source.at_rest(shared)?;
    let place = pools::find(shared, request.target).await.map_err(|error| error.with_field("target"))?;
    space::check(&place, source.content()).map_err(|error| error.with_field("target"))?;
    make_dir(&place)?;
    let new = NewFile::of(shared, &place, &request.name, request.format)?;
    let named = Named {
        kind: OperationKind::VolumeCopy,
        place: &place,
        name: &file_name(&new.path),
        total: source.entry.virtual_size,
        cancel: Cancel::Heeded,
        origin,
    };
    job::begin(shared, named, async move |job| {
        let loans = job.borrow(&source.entry.users).await?;
        let intent = job.intend(IntentAction::VolumeWrite, None, vec![new.part()]).await?;
        let made = copied(&job, (&source.entry.path, from), (&new.path, request.format)).await;
        job.settled(intent).await;
        drop((loans, source.hold, new.hold));
        made
    })
    .await
}

async fn copied(job: &Job, from: (&Path, DiskFormat), to: (&Path, DiskFormat)) -> Came {
    let copied = job.img.copy_as(from, to, &job.progress, &job.cancel).await;
    copied.map(|()| None).map_err(|error| error.body())
}

/// Checks a size that a disk can have.
///
/// # Errors
/// [`ErrorCode::InvalidInput`] with the field `size`.
pub(super) fn check_size(size: Bytes) -> Result<(), ErrorBody> {
    if !DISK_SIZE.contains(&size.0) {
        return Err(ErrorBody::invalid("size", format!("A disk of {size} cannot be made."))
            .with_hint("Choose 1 MiB to 64 TiB."));
    }
    if !size.0.is_multiple_of(512) {
        return Err(ErrorBody::invalid("size", "A disk is made of whole sectors.")
            .with_hint("Choose a multiple of 512 bytes."));
    }
    Ok(())
}

/// The last part of a path, for people.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
