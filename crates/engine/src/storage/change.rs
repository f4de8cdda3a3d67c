//! What changes a volume where it is: another size, less space, mended tables.
//!
//! A new file takes the place of the old one only after both were compared, by one rename. In place is done only what cannot lose
//! a byte: growing, cutting off where nothing is, giving back leaked clusters.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use voidvm_model::spec::DiskFormat;
use voidvm_model::storage::{VolumeCheck, VolumeRef, VolumeResizeRequest};
use voidvm_model::{
    Bytes, DeviceId, ErrorBody, ErrorCode, Operation, OperationKind, OperationResult, Origin,
};
use voidvm_qemu::image::{CheckReport, Repair, header};
use voidvm_store::IntentAction;

use super::job::{self, Came, Job, Named};
use super::make::{check_size, part_of};
use super::partitions::{Layout, layout};
use super::target::{self, Target};
use super::{list, space};
use crate::hotplug;
use crate::ledger::Cancel;
use crate::ops::files;
use crate::run::Run;
use crate::shared::Shared;

/// Changes a volume's size.
///
/// # Errors
/// What does not hold, with its field.
pub(super) async fn resize(
    shared: &Arc<Shared>,
    request: VolumeResizeRequest,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    check_size(request.size)?;
    let target = target::find(shared, request.id, &request.path).await?;
    let format = target.readable()?;
    target.childless()?;
    target.no_image(shared).await?;
    let (now, size) = (target.entry.virtual_size, request.size);
    if size < now && !request.shrink {
        return Err(ErrorBody::invalid("size", format!("The volume has {now}; {size} would cut it."))
            .with_hint("Choose a larger size, or say that it may become smaller."));
    }
    let live = if size > now { live_user(shared, &target)? } else { None };
    if live.is_none() {
        target.at_rest(shared)?;
    }
    let named = Named {
        kind: OperationKind::VolumeResize,
        place: &target.place.clone(),
        name: &target.name(),
        total: size,
        cancel: Cancel::Ignored,
        origin,
    };
    job::begin(shared, named, async move |job| {
        if let Some((run, disk)) = live {
            hotplug::grow(&run, &disk, size).await?;
            drop(target.hold);
            return Ok(None);
        }
        let loans = job.borrow(&target.entry.users).await?;
        let path = target.entry.path.as_path();
        job.img.unused(path, format).await.map_err(|error| error.body())?;
        let done = if size < now {
            may_end_at(&job, (path, format), size).await?;
            job.img.cut((path, format), size).await
        } else {
            job.img.resize(path, format, size).await
        };
        drop((loans, target.hold));
        done.map(|()| None).map_err(|error| error.body())
    })
    .await
}

/// The run that has the volume as a disk it writes to, and as which.
fn live_user(shared: &Shared, target: &Target) -> Result<Option<(Arc<Run>, DeviceId)>, ErrorBody> {
    for user in &target.entry.users {
        let machine = shared.fleet.get(user.id)?;
        let Some(run) = machine.run() else { continue };
        let record = run.record();
        let disk = record.spec.disks.iter().find(|disk| disk.file == target.entry.path && !disk.read_only);
        if let Some(disk) = disk {
            let disk = disk.id.clone();
            return Ok(Some((run, disk)));
        }
    }
    Ok(None)
}

/// Makes sure that a disk can end earlier: neither content nor a partition lies beyond.
async fn may_end_at(job: &Job, at: (&Path, DiskFormat), size: Bytes) -> Result<(), ErrorBody> {
    let failed = |error: voidvm_qemu::image::ImageError| error.body();
    let refuse = |reason: String, hint: &str| {
        Err(ErrorBody::new(ErrorCode::InvalidState, reason).with_field("size").with_hint(hint.to_owned()))
    };
    if let Some(end) = job.img.content_beyond(at, size).await.map_err(failed)? {
        return refuse(
            format!("There is content up to {end}; beyond {size} it would be lost."),
            "Make the file systems and partitions smaller from within the guest, and let it discard what is freed.",
        );
    }
    let scratch = part_of(at.0).with_extension(format!("{}.head", job.operation));
    match layout(&job.img.first_mib(at, &scratch).await.map_err(failed)?) {
        Layout::Table { end, .. } if end <= size.0 => Ok(()),
        Layout::Table { end, gpt: false } => refuse(
            format!("Its partitions reach up to {}.", Bytes(end)),
            "Make the last partition smaller from within the guest first.",
        ),
        Layout::Table { end, gpt: true } => refuse(
            format!("Its partition table (GPT) has its second copy at {}.", Bytes(end)),
            "Copy what is on it to a smaller volume from within a guest.",
        ),
        Layout::Empty if job.img.content_beyond(at, Bytes(0)).await.map_err(failed)?.is_none() => Ok(()),
        Layout::Empty | Layout::Unknown => refuse(
            "It has no partition table that would say where its content ends.".to_owned(),
            "Copy what is on it to a smaller volume from within a guest.",
        ),
    }
}

/// Gives the space a volume no longer needs back.
///
/// # Errors
/// What does not hold.
pub(super) async fn reclaim(
    shared: &Arc<Shared>,
    request: VolumeRef,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let target = target::find(shared, request.id, &request.path).await?;
    let format = target.readable()?;
    target.childless()?;
    target.no_image(shared).await?;
    target.without_snapshots()?;
    target.at_rest(shared)?;
    space::check(&target.place, target.entry.allocated)?;
    let named = Named {
        kind: OperationKind::VolumeReclaim,
        place: &target.place.clone(),
        name: &target.name(),
        total: target.entry.virtual_size,
        cancel: Cancel::Heeded,
        origin,
    };
    job::begin(shared, named, async move |job| {
        let loans = job.borrow(&target.entry.users).await?;
        let path = target.entry.path.clone();
        job.img.unused(&path, format).await.map_err(|error| error.body())?;
        let new = compact_name(&path);
        let intent = job.intend(IntentAction::VolumeWrite, None, vec![new.clone(), part_of(&new)]).await?;
        let came = compacted(&job, &target, format, &new).await;
        if came.is_err() {
            drop(std::fs::remove_file(&new));
        }
        job.settled(intent).await;
        drop((loans, target.hold));
        came
    })
    .await
}

/// What a compact copy is called until it takes the place of the old file; hidden, so that no list shows it.
fn compact_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.compact"))
}

async fn compacted(job: &Job, target: &Target, format: DiskFormat, new: &Path) -> Came {
    let path = target.entry.path.as_path();
    let failed = |error: voidvm_qemu::image::ImageError| error.body();
    let backing = target.entry.backing.as_deref();
    let below = match backing {
        None => None,
        Some(file) => Some((file, list::format_below(file).ok_or_else(|| missing_below(path, file))?)),
    };
    job.img.compact((path, format), below, new, &job.progress, &job.cancel).await.map_err(failed)?;
    same(job, (path, format), (new, format)).await?;
    let before = taken(path)?;
    let after = taken(new)?;
    if after >= before {
        drop(std::fs::remove_file(new));
        return Ok(Some(OperationResult::Reclaimed { before, after: before }));
    }
    job.seal()?;
    replace(new, path).await?;
    Ok(Some(OperationResult::Reclaimed { before, after }))
}

fn missing_below(path: &Path, below: &Path) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::ImageInvalid,
        format!("{} stands on {}, which cannot be read.", path.display(), below.display()),
    )
    .with_hint("Put that file back.")
}

/// Makes sure that two images show the same.
///
/// # Errors
/// [`ErrorCode::Internal`] when they do not; nothing was changed then.
pub(super) async fn same(
    job: &Job,
    old: (&Path, DiskFormat),
    new: (&Path, DiskFormat),
) -> Result<(), ErrorBody> {
    let progress = voidvm_qemu::image::CopyProgress::new(0);
    match job.img.same_content(old, new, &progress, &job.cancel).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(ErrorBody::new(
            ErrorCode::Internal,
            format!("The copy of {} differs from it; the old file stays.", old.0.display()),
        )
        .with_hint("Look at the disk of the host: it may be failing.")),
        Err(error) => Err(error.body()),
    }
}

/// Puts a finished file in the place of an old one, with its mode, in one step that is on the disk when this returns.
async fn replace(new: &Path, old: &Path) -> Result<(), ErrorBody> {
    let (new, old) = (new.to_owned(), old.to_owned());
    job::blocking(move || {
        let work = || {
            let mode = std::fs::metadata(&old)?.permissions().mode();
            std::fs::set_permissions(&new, std::fs::Permissions::from_mode(mode))?;
            File::open(&new)?.sync_all()?;
            std::fs::rename(&new, &old)?;
            old.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
        };
        work().map_err(|error| files::io_error(&old, &error))
    })
    .await
}

fn taken(path: &Path) -> Result<Bytes, ErrorBody> {
    let metadata = std::fs::metadata(path).map_err(|error| files::io_error(path, &error))?;
    Ok(Bytes(metadata.blocks() * 512))
}

/// Checks a volume and mends it.
///
/// Leaked space is given back in place: that touches no content. Anything else is mended in a copy, and the damaged file stays
/// beside it under another name.
///
/// # Errors
/// What does not hold.
pub(super) async fn check(
    shared: &Arc<Shared>,
    request: VolumeRef,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let target = target::find(shared, request.id, &request.path).await?;
    let format = target.readable()?;
    if format != DiskFormat::Qcow2 {
        return Err(ErrorBody::new(
            ErrorCode::Unsupported,
            "A raw disk is its guest's bytes and nothing else: there is nothing to check.",
        )
        .with_field("path"));
    }
    target.at_rest(shared)?;
    let named = Named {
        kind: OperationKind::VolumeCheck,
        place: &target.place.clone(),
        name: &target.name(),
        total: target.entry.allocated,
        cancel: Cancel::Ignored,
        origin,
    };
    job::begin(shared, named, async move |job| {
        let loans = job.borrow(&target.entry.users).await?;
        let came = checked(&job, &target).await;
        drop((loans, target.hold));
        came
    })
    .await
}

async fn checked(job: &Job, target: &Target) -> Came {
    let path = target.entry.path.as_path();
    let failed = |error: voidvm_qemu::image::ImageError| error.body();
    let found = job.img.check(path).await.map_err(failed)?;
    let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let result = |repaired| {
        Ok(Some(OperationResult::Checked(VolumeCheck {
            corruptions: count(found.corruptions.saturating_add(found.check_errors)),
            leaks: count(found.leaks),
            repaired,
        })))
    };
    if found.is_sound() && found.leaks == 0 {
        return result(false);
    }
    if found.is_sound() {
        job.img.repair(path, Repair::Leaks).await.map_err(failed)?;
        return result(job.img.check(path).await.map_err(failed)?.leaks == 0);
    }
    // A mended file may show something else: others must not stand on it.
    target.childless()?;
    target.no_image(&job.shared).await?;
    space::check(&target.place, target.entry.allocated)?;
    let new = path.with_file_name(format!(".{}.mended", target.name()));
    let intent = job.intend(IntentAction::VolumeWrite, None, vec![new.clone()]).await?;
    let mended = mended(job, path, &new).await;
    if !matches!(mended, Ok(true)) {
        drop(std::fs::remove_file(&new));
    }
    job.settled(intent).await;
    result(mended?)
}

/// Mends a copy and puts it in the place of the damaged file, which stays beside it.
async fn mended(job: &Job, path: &Path, new: &Path) -> Result<bool, ErrorBody> {
    let failed = |error: voidvm_qemu::image::ImageError| error.body();
    let (from, to) = (path.to_owned(), new.to_owned());
    job::blocking(move || super::relocate::copy_bytes(&from, &to, &mut |_| true)).await?;
    job.img.repair(new, Repair::All).await.map_err(failed)?;
    let sound: CheckReport = job.img.check(new).await.map_err(failed)?;
    if !sound.is_sound() || !header(new).is_ok_and(|header| header.is_some()) {
        return Err(ErrorBody::new(
            ErrorCode::ImageInvalid,
            format!("{} is damaged and cannot be mended; it was left as it is.", path.display()),
        )
        .with_hint("Restore it from a backup.")
        .with_detail("corruptions", sound.corruptions));
    }
    let kept = path.with_extension(format!("damaged-{}.qcow2", job.operation));
    std::fs::hard_link(path, &kept).map_err(|error| files::io_error(&kept, &error))?;
    replace(new, path).await?;
    tracing::warn!(path = %path.display(), kept = %kept.display(), "a damaged volume was mended; the old file was kept");
    Ok(true)
}
