//! The pools there are: voidVM's own, and the directories the user has named.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use voidvm_model::contract::Done;
use voidvm_model::spec::{validate_name, validate_path};
use voidvm_model::storage::{Pool, PoolCreateRequest, PoolUpdateRequest};
use voidvm_model::{Bytes, ErrorBody, ErrorCode, Event, Origin, PoolId};
use voidvm_store::PoolRow;

use super::{list, space};
use crate::config::EngineConfig;
use crate::fleet::same_file;
use crate::ops::files;
use crate::shared::Shared;

/// voidVM's own pool: the same in every data directory.
pub(super) const OWN: PoolId = PoolId(uuid::Uuid::nil());
/// What it is called until somebody calls it otherwise.
const OWN_NAME: &str = "voidVM";

/// A pool, without a look at its file system.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) id: PoolId,
    pub(crate) name: String,
    /// The directory that is shown, and whose file system counts.
    pub(crate) root: PathBuf,
    pub(crate) floor: Bytes,
}

impl Place {
    /// Whether it is voidVM's own.
    pub(super) fn is_own(&self) -> bool {
        self.id == OWN
    }

    /// Where its free volumes are, and new ones go.
    pub(super) fn volumes(&self) -> PathBuf {
        if self.is_own() { self.root.join("volumes") } else { self.root.clone() }
    }
}

/// Every pool, voidVM's own first, then by name.
///
/// # Errors
/// The store's.
pub(super) async fn places(shared: &Shared) -> Result<Vec<Place>, ErrorBody> {
    let rows = shared.store.pools().list().await.map_err(|error| error.body())?;
    let EngineConfig { data_dir, floor, .. } = &shared.config;
    let mut own = Place { id: OWN, name: OWN_NAME.to_owned(), root: data_dir.clone(), floor: *floor };
    let mut others = Vec::new();
    for row in rows {
        if row.id == OWN {
            (own.name, own.floor) = (row.name, row.floor);
        } else {
            others.push(Place { id: row.id, name: row.name, root: row.path.into(), floor: row.floor });
        }
    }
    others.insert(0, own);
    Ok(others)
}

/// One pool.
///
/// # Errors
/// [`ErrorCode::NotFound`], or the store's.
pub(super) async fn find(shared: &Shared, id: PoolId) -> Result<Place, ErrorBody> {
    places(shared).await?.into_iter().find(|place| place.id == id).ok_or_else(|| {
        ErrorBody::new(ErrorCode::NotFound, format!("No pool has the id {id}.")).with_field("id")
    })
}

pub(super) async fn list(shared: &Arc<Shared>) -> Result<Vec<Pool>, ErrorBody> {
    let places = places(shared).await?;
    let taken = list::allocated(shared, places.clone()).await?;
    super::job::blocking(move || {
        Ok(places.iter().zip(taken).map(|(place, allocated)| view(place, allocated)).collect())
    })
    .await
}

async fn one(shared: &Arc<Shared>, id: PoolId) -> Result<Pool, ErrorBody> {
    let pools = list(shared).await?;
    pools
        .into_iter()
        .find(|pool| pool.id == id)
        .ok_or_else(|| ErrorBody::new(ErrorCode::NotFound, "Somebody else forgot the pool in the meantime."))
}

fn view(place: &Place, allocated: Bytes) -> Pool {
    let look = space::look(place);
    Pool {
        id: place.id,
        name: place.name.clone(),
        path: place.root.to_string_lossy().into_owned(),
        builtin: place.is_own(),
        capacity: look.capacity,
        free: look.free,
        allocated,
        floor: place.floor,
        health: look.health,
        problem: look.problem,
    }
}

/// Makes a directory a pool.
///
/// # Errors
/// What does not hold, with its field.
pub(super) async fn create(
    shared: &Arc<Shared>,
    request: PoolCreateRequest,
    origin: Origin,
) -> Result<Pool, ErrorBody> {
    validate_name(&request.name)?;
    let path = PathBuf::from(&request.path);
    validate_path("path", &path)?;
    let known = places(shared).await?;
    if let Some(place) = known.iter().find(|place| place.name == request.name) {
        return Err(name_taken(&place.name));
    }
    let data_dir = shared.config.data_dir.clone();
    let root = super::job::blocking(move || {
        make_usable(&path).map_err(|error| error.with_field("path"))?;
        // What links lead to is what counts when pools are compared.
        let root = path.canonicalize().map_err(|error| files::io_error(&path, &error).with_field("path"))?;
        let own = data_dir.canonicalize().unwrap_or(data_dir);
        if root.starts_with(&own) {
            return Err(ErrorBody::invalid("path", format!("{} is voidVM's own.", root.display()))
                .with_hint("Choose a directory outside of it."));
        }
        if let Some(place) = known.iter().find(|place| same_file(&place.root, &root)) {
            return Err(ErrorBody::invalid(
                "path",
                format!("{} is the pool “{}” already.", root.display(), place.name),
            )
            .with_hint("Choose another directory."));
        }
        Ok(root)
    })
    .await?;
    let path = root.into_os_string().into_string().map_err(|_| {
        ErrorBody::invalid("path", "The directory's name is no text.").with_hint("Choose another directory.")
    })?;
    let row = PoolRow {
        id: PoolId::new(),
        name: request.name,
        path,
        floor: request.floor.unwrap_or(shared.config.floor),
        created_at: Timestamp::now(),
    };
    shared.store.pools().put(&row).await.map_err(|error| error.body())?;
    shared.bus.publish(origin, Event::StorageChanged);
    one(shared, row.id).await
}

/// A directory that can be read and written to; made when it is not there.
fn make_usable(path: &Path) -> Result<(), ErrorBody> {
    use std::os::unix::fs::DirBuilderExt;
    let failed = |error: std::io::Error| files::io_error(path, &error);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        if path.exists() {
            ErrorBody::invalid("path", format!("{} is no directory.", path.display()))
                .with_hint("Choose a directory.")
        } else {
            failed(error)
        }
    })?;
    let all = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(path, all).map_err(|error| failed(error.into()))
}

fn name_taken(name: &str) -> ErrorBody {
    ErrorBody::new(ErrorCode::NameTaken, format!("A pool named “{name}” exists already."))
        .with_field("name")
        .with_hint("Choose another name.")
}

/// Changes a pool's name or floor.
///
/// # Errors
/// What does not hold, with its field.
pub(super) async fn update(
    shared: &Arc<Shared>,
    request: PoolUpdateRequest,
    origin: Origin,
) -> Result<Pool, ErrorBody> {
    let places = places(shared).await?;
    let place = find(shared, request.id).await?;
    let name = request.name.unwrap_or(place.name);
    validate_name(&name)?;
    if places.iter().any(|other| other.id != place.id && other.name == name) {
        return Err(name_taken(&name));
    }
    let row = PoolRow {
        id: place.id,
        name,
        path: place.root.to_string_lossy().into_owned(),
        floor: request.floor.unwrap_or(place.floor),
        // That of the row there is stays.
        created_at: Timestamp::now(),
    };
    shared.store.pools().put(&row).await.map_err(|error| error.body())?;
    shared.bus.publish(origin, Event::StorageChanged);
    one(shared, row.id).await
}

/// Forgets a pool.
///
/// # Errors
/// [`ErrorCode::InvalidState`] for voidVM's own; [`ErrorCode::Busy`] while a volume of it is worked on.
pub(super) async fn delete(shared: &Shared, id: PoolId, origin: Origin) -> Result<Done, ErrorBody> {
    let place = find(shared, id).await?;
    if place.is_own() {
        return Err(ErrorBody::new(
            ErrorCode::InvalidState,
            "This pool is voidVM's own place and cannot be forgotten.",
        ));
    }
    if shared.holds.any_in(&place.root) {
        return Err(ErrorBody::new(
            ErrorCode::Busy,
            format!("A volume of “{}” is being worked on.", place.name),
        )
        .with_hint("Wait for that to end, or give it up."));
    }
    shared.store.pools().delete(id).await.map_err(|error| error.body())?;
    shared.bus.publish(origin, Event::StorageChanged);
    Ok(Done::DONE)
}
