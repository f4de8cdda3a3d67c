//! Putting a file that was found right into the library, and what a crash on the way leaves.
//!
//! ```text
//! incoming ─▶ intent ─▶ renamed to its name ─▶ row ─▶ intent ended
//!                 └─ a crash from here to the row: the next start removes the file; what it was made of is still there
//! ```

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use voidvm_model::guest_os::GuestOs;
use voidvm_model::image::Verification;
use voidvm_model::system::ImageKind;
use voidvm_model::{Bytes, ErrorBody, Event, ImageId, OperationId, Origin};
use voidvm_store::{ImageRow, Intent, IntentAction, IntentId};

use super::{modified, names};
use crate::ops::files::io_error;
use crate::shared::Shared;

/// A part of a download nobody has asked for again in so long is rubbish.
const FORGOTTEN: Duration = Duration::from_secs(7 * 24 * 3600);

/// What comes into the library.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) id: ImageId,
    pub(super) name: String,
    pub(super) kind: ImageKind,
    pub(super) virtual_size: Bytes,
    pub(super) sha256: Option<String>,
    pub(super) verified: Verification,
    pub(super) os: Option<GuestOs>,
    pub(super) cloud_init: bool,
    pub(super) source: Option<String>,
}

/// How the file gets its name.
pub(super) enum Way {
    /// It is ours, in the incoming directory: renamed.
    Rename(PathBuf),
    /// It is the user's, on the same file system: a second name for it; the first one goes later.
    Link(PathBuf),
    /// It stays the user's.
    Stay(PathBuf),
}

/// Why a file could not get a second name: it has to be copied instead.
pub(super) fn cannot_link(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP | Errno::NOSYS))
}

/// Puts the file into the library; when it fails, the library is as it was.
///
/// # Errors
/// What the file system or the store say.
pub(super) async fn place(
    shared: &Shared,
    operation_id: OperationId,
    origin: Origin,
    arrival: Arrival,
    way: Way,
) -> Result<ImageRow, ErrorBody> {
    let path = match &way {
        Way::Stay(path) => path.clone(),
        Way::Rename(_) | Way::Link(_) => {
            names::file(shared.images.dir(), arrival.id, &arrival.name, arrival.kind)
        }
    };
    let owned = !matches!(way, Way::Stay(_));
    let intent =
        if owned { Some(begin(shared, operation_id, IntentAction::ImageMake, &path).await?) } else { None };
    let placed = async {
        let to = path.clone();
        let metadata = crate::engine::blocking(move || {
            name(&way, &to).and_then(|()| fs::metadata(&to)).map_err(|error| io_error(&to, &error))
        });
        let metadata = metadata.await?;
        let row = ImageRow {
            id: arrival.id,
            name: arrival.name,
            description: String::new(),
            kind: arrival.kind,
            path: path.clone(),
            owned,
            size: Bytes(metadata.len()),
            modified_ns: modified(&metadata),
            virtual_size: arrival.virtual_size,
            sha256: arrival.sha256,
            verified: arrival.verified,
            os: arrival.os,
            cloud_init: arrival.cloud_init,
            source: arrival.source,
            created_at: Timestamp::now(),
        };
        shared.store.images().insert(&row).await.map_err(|error| error.body())?;
        Ok(row)
    };
    let placed = placed.await;
    if placed.is_err() && owned {
        remove(shared.images.dir(), &path);
    }
    end(shared, intent).await;
    if let Ok(row) = &placed {
        // Machines stand on it: nobody shall write to it by mistake. Not before it is ours, since it may be the user's until then.
        if owned && let Err(error) = fs::set_permissions(&row.path, fs::Permissions::from_mode(0o444)) {
            tracing::warn!(path = %row.path.display(), %error, "an image cannot be made read-only");
        }
        shared.bus.publish(origin, Event::ImagesChanged);
        if row.sha256.is_none() {
            shared.images.unhashed.notify_one();
        }
    }
    placed
}

fn name(way: &Way, to: &Path) -> io::Result<()> {
    match way {
        Way::Stay(_) => return Ok(()),
        Way::Link(from) => fs::hard_link(from, to)?,
        Way::Rename(from) => {
            File::open(from)?.sync_all()?;
            match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
                // File systems without that flag; nobody else makes names here.
                Err(rustix::io::Errno::INVAL) => fs::rename(from, to)?,
                other => other?,
            }
        }
    }
    to.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Writes down what is about to be done to a file.
pub(super) async fn begin(
    shared: &Shared,
    operation_id: OperationId,
    action: IntentAction,
    file: &Path,
) -> Result<IntentId, ErrorBody> {
    let intent = Intent { operation_id, vm_id: None, action, files: vec![file.to_owned()] };
    shared.store.journal().begin(&intent, Timestamp::now()).await.map_err(|error| error.body())
}

/// It is done, or undone.
pub(super) async fn end(shared: &Shared, intent: Option<IntentId>) {
    if let Some(id) = intent
        && let Err(error) = shared.store.journal().end(id).await
    {
        tracing::warn!(%error, "the intent about an image stays until the next start");
    }
}

/// Removes a file that lies directly in the library, and no other. One that is gone is fine.
pub(super) fn remove(dir: &Path, file: &Path) -> bool {
    let plain = file.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    if file.parent() != Some(dir) || !plain {
        return file.symlink_metadata().is_err();
    }
    fs::remove_file(file)
        .inspect_err(|error| tracing::error!(path = %file.display(), %error, "a file of the library cannot be removed"))
        .is_ok()
}

/// Finishes or undoes what was begun about an image before a crash.
pub(crate) async fn close_intent(shared: &Shared, id: IntentId, intent: &Intent) {
    let rows = match shared.store.images().list().await {
        Ok(rows) => rows,
        Err(error) => return tracing::error!(%error, "the images cannot be read"),
    };
    // With its row an image is made, and a removal had not begun.
    let mut left = false;
    for file in intent.files.iter().filter(|file| !rows.iter().any(|row| row.path == **file)) {
        left |= !remove(shared.images.dir(), file);
    }
    if !left {
        end(shared, Some(id)).await;
    }
}

/// Makes the library's directories, and clears what earlier runs left on its way in.
///
/// # Errors
/// A directory that cannot be made.
pub(crate) fn tidy(shared: &Shared) -> Result<(), ErrorBody> {
    let images = &shared.images;
    for dir in [images.dir().to_owned(), images.incoming(), images.downloads()] {
        crate::engine::make_dir(&dir)?;
    }
    let old = |path: &Path| {
        let age = fs::metadata(path).and_then(|metadata| metadata.modified());
        age.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > FORGOTTEN))
    };
    for path in files_of(&images.incoming()) {
        remove(&images.incoming(), &path);
    }
    for path in files_of(&images.downloads()).into_iter().filter(|path| old(path)) {
        remove(&images.downloads(), &path);
    }
    Ok(())
}

fn files_of(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
