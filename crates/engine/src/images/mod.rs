//! The image library: disks to copy from or to stand on, ISOs to boot from, and how they come in.
//!
//! ```text
//! import   ─▶ look ─▶ unpack, convert, copy, link ─┐                    row
//! download ─▶ fetch ─▶ checksum, signature ─▶ look ┴─▶ incoming ─▶ place ─▶ images/NAME ─▶ (used, checked, deleted)
//! ```
//! Invariants:
//! * A file lies under its name in `images/` only when it was found whole and right; until then it is in `images/.incoming` or
//!   `images/.downloads`. An entry without a file, or a file without an entry, is what a journaled intent speaks of.
//! * A file that machines read is never removed; they are found by the files they open (device and inode), not by names.
//! * Files of users are only read; they go when the user said *move*, and then after the library has them.

mod catalogue;
mod delete;
mod download;
mod face;
mod hash;
mod import;
mod names;
pub(crate) mod os;
mod place;
mod unpack;
mod users;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OnceCell};
use voidvm_model::image::{CatalogueEntry, ImageState, LibraryImage};
use voidvm_model::{Bytes, ErrorBody, ErrorCode, ImageId};
use voidvm_osinfo::OsDb;
use voidvm_store::ImageRow;

pub(crate) use hash::keep_up;
pub(crate) use place::{close_intent, tidy};

use crate::shared::Shared;
use users::Users;

/// What of the library is not in the store.
#[derive(Debug)]
pub(crate) struct Images {
    dir: PathBuf,
    /// Names and addresses promised to what is at work.
    promised: Arc<Mutex<BTreeSet<String>>>,
    uses: Arc<Mutex<Uses>>,
    os: OnceCell<Option<Arc<OsDb>>>,
    /// An image without a checksum came in.
    unhashed: Arc<Notify>,
}

/// Who is at an image that no machine shows yet.
#[derive(Debug, Default)]
struct Uses {
    held: BTreeMap<ImageId, usize>,
    going: BTreeSet<ImageId>,
}

/// An image that is not removed while this is there.
#[derive(Debug)]
pub(crate) struct Held {
    /// The image.
    pub(crate) image: LibraryImage,
    uses: Arc<Mutex<Uses>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut uses = lock(&self.uses);
        if let Some(count) = uses.held.get_mut(&self.image.id) {
            *count -= 1;
            if *count == 0 {
                uses.held.remove(&self.image.id);
            }
        }
    }
}

impl Images {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self {
            dir: data_dir.join("images"),
            promised: Arc::default(),
            uses: Arc::default(),
            os: OnceCell::new(),
            unhashed: Arc::default(),
        }
    }

    /// Where the library's own files are.
    fn dir(&self) -> &Path {
        &self.dir
    }

    /// Files on their way in; of the run that made them alone.
    fn incoming(&self) -> PathBuf {
        self.dir.join(".incoming")
    }

    /// Parts of downloads, which outlive a run.
    fn downloads(&self) -> PathBuf {
        self.dir.join(".downloads")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every image, in the order of their names.
///
/// # Errors
/// The store's.
pub(crate) async fn list(shared: &Shared) -> Result<Vec<LibraryImage>, ErrorBody> {
    let rows = shared.store.images().list().await.map_err(|error| error.body())?;
    let machines = shared.fleet.views();
    crate::engine::blocking(move || {
        let users = Users::look(machines.iter().map(AsRef::as_ref));
        Ok(rows.into_iter().map(|row| view(row, &users)).collect())
    })
    .await
}

/// One image.
///
/// # Errors
/// [`ErrorCode::NotFound`], or the store's.
pub(crate) async fn get(shared: &Shared, id: ImageId) -> Result<LibraryImage, ErrorBody> {
    list(shared).await?.into_iter().find(|image| image.id == id).ok_or_else(|| {
        ErrorBody::new(ErrorCode::NotFound, format!("The library has no image {id}."))
            .with_hint("It may have been removed; look at the list.")
    })
}

/// One image to make a machine of: it is there, and stays until the answer is dropped.
///
/// # Errors
/// [`ErrorCode::NotFound`], [`ErrorCode::ImageMissing`], [`ErrorCode::Busy`] when it is being removed, or the store's.
pub(crate) async fn hold(shared: &Shared, id: ImageId) -> Result<Held, ErrorBody> {
    let image = get(shared, id).await?;
    if image.state == ImageState::Missing {
        return Err(ErrorBody::new(
            ErrorCode::ImageMissing,
            format!("The file of “{}” is not there.", image.name),
        )
        .with_hint("Put it back, or remove the image from the library.")
        .with_detail("path", image.path));
    }
    let mut uses = lock(&shared.images.uses);
    if uses.going.contains(&id) {
        return Err(ErrorBody::new(ErrorCode::Busy, format!("“{}” is being removed.", image.name)));
    }
    *uses.held.entry(id).or_default() += 1;
    Ok(Held { image, uses: Arc::clone(&shared.images.uses) })
}

/// The catalogue, with what the library has of it.
///
/// # Errors
/// [`ErrorCode::ConfigInvalid`] for the user's own file, or the store's.
pub(crate) async fn catalogue(shared: &Shared) -> Result<Vec<CatalogueEntry>, ErrorBody> {
    let file = shared.config.catalogue_file();
    let items = crate::engine::blocking(move || catalogue::read(file.as_deref())).await?;
    let rows = shared.store.images().list().await.map_err(|error| error.body())?;
    let image_of = |url: &str| rows.iter().find(|row| row.source.as_deref() == Some(url)).map(|row| row.id);
    Ok(items
        .into_iter()
        .map(|item| CatalogueEntry { image: image_of(&item.entry.url), ..item.entry })
        .collect())
}

fn view(row: ImageRow, users: &Users) -> LibraryImage {
    let metadata = std::fs::metadata(&row.path).ok();
    let state = match &metadata {
        None => ImageState::Missing,
        Some(metadata) if modified(metadata) == row.modified_ns && metadata.len() == row.size.0 => {
            ImageState::Ready
        }
        Some(_) => ImageState::Changed,
    };
    LibraryImage {
        id: row.id,
        used_by: metadata.as_ref().map(|metadata| users.of(metadata)).unwrap_or_default(),
        size: metadata.map_or(row.size, |metadata| Bytes(metadata.blocks().saturating_mul(512))),
        path: row.path.to_string_lossy().into_owned(),
        state,
        name: row.name,
        description: row.description,
        kind: row.kind,
        owned: row.owned,
        virtual_size: row.virtual_size,
        sha256: row.sha256,
        verified: row.verified,
        os: row.os,
        cloud_init: row.cloud_init,
        source: row.source,
        created_at: row.created_at,
    }
}

/// The time of modification in nanoseconds since 1970.
fn modified(metadata: &std::fs::Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec())
}
