//! Pools and volumes: directories of disks, and what can be done to a disk that no process uses.
//!
//! voidVM's own pool is its data directory: machines' disks in `vms/ID/`, free volumes in `volumes/`. Every other pool is a
//! directory the user has named; the disk images that lie directly in it are its volumes.
//!
//! ```text
//! asked ─▶ volume found in its pool, held, its users lent ─▶ row of the operation ─▶ (answer)
//!   ─▶ turn among the builds ─▶ intent ─▶ new file written beside, verified ─▶ renamed ─▶ intent ended
//! ```
//! Invariants:
//! * Only what a listing of a pool shows is ever touched, and only while it is held: one piece of work on a file at a time, and
//!   the machines that use it hold still ([`crate::supervisor::lend`]).
//! * A file is replaced by one that was compared with it, in one rename; a kill leaves the old one or the new one.
//! * A file that another image stands on is never changed or removed.
//! * Less than a pool's floor is never left by work of ours.

mod change;
mod hold;
mod job;
mod list;
mod make;
mod partitions;
mod pools;
mod recover;
mod relocate;
mod remove;
mod space;
mod target;

use std::sync::Arc;

use voidvm_model::contract::Done;
use voidvm_model::storage::{
    Pool, PoolCreateRequest, PoolUpdateRequest, Volume, VolumeCopyRequest, VolumeCreateRequest,
    VolumeMoveRequest, VolumeRef, VolumeResizeRequest,
};
use voidvm_model::{ErrorBody, Operation, Origin, PoolId};

use crate::shared::Shared;

pub(crate) use hold::Holds;
pub(crate) use list::{Standing, format_below, standing};
pub(crate) use recover::recover;
pub(crate) use space::{NEXT_TO_NOTHING, Room, watch};
pub(crate) use target::check_childless;

/// Pools and volumes of an engine; clones are the same.
#[derive(Clone, Debug)]
pub struct Storage(Arc<Shared>);

impl Storage {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Every pool, voidVM's own first, then by name.
    ///
    /// # Errors
    /// The store's.
    pub async fn pools(&self) -> Result<Vec<Pool>, ErrorBody> {
        pools::list(&self.0).await
    }

    /// Makes a directory a pool.
    ///
    /// # Errors
    /// A name or directory that is taken or cannot be used, with its field.
    pub async fn create_pool(&self, request: PoolCreateRequest, origin: Origin) -> Result<Pool, ErrorBody> {
        pools::create(&self.0, request, origin).await
    }

    /// Changes a pool's name or floor.
    ///
    /// # Errors
    /// No such pool; a name that is taken.
    pub async fn update_pool(&self, request: PoolUpdateRequest, origin: Origin) -> Result<Pool, ErrorBody> {
        pools::update(&self.0, request, origin).await
    }

    /// Forgets a pool; its directory and files stay.
    ///
    /// # Errors
    /// No such pool; voidVM's own; one that is being worked in.
    pub async fn delete_pool(&self, id: PoolId, origin: Origin) -> Result<Done, ErrorBody> {
        pools::delete(&self.0, id, origin).await
    }

    /// The volumes of a pool, by name.
    ///
    /// # Errors
    /// No such pool, or a directory that cannot be read.
    pub async fn volumes(&self, id: PoolId) -> Result<Vec<Volume>, ErrorBody> {
        let place = pools::find(&self.0, id).await?;
        list::volumes(&self.0, place).await
    }

    /// Makes a volume.
    ///
    /// # Errors
    /// What does not hold, with its field, as all that follow.
    pub async fn create(&self, request: VolumeCreateRequest, origin: Origin) -> Result<Operation, ErrorBody> {
        make::create(&self.0, request, origin).await
    }

    /// Copies a volume, also into another format or pool. What it stands on is copied into it.
    ///
    /// # Errors
    /// As [`Storage::create`].
    pub async fn copy(&self, request: VolumeCopyRequest, origin: Origin) -> Result<Operation, ErrorBody> {
        make::copy(&self.0, request, origin).await
    }

    /// Changes a volume's size: of a running machine's disk at once, and only to a larger one.
    ///
    /// # Errors
    /// As [`Storage::create`].
    pub async fn resize(&self, request: VolumeResizeRequest, origin: Origin) -> Result<Operation, ErrorBody> {
        change::resize(&self.0, request, origin).await
    }

    /// Gives the space a volume no longer needs back.
    ///
    /// # Errors
    /// As [`Storage::create`].
    pub async fn reclaim(&self, request: VolumeRef, origin: Origin) -> Result<Operation, ErrorBody> {
        change::reclaim(&self.0, request, origin).await
    }

    /// Checks a volume and mends it.
    ///
    /// # Errors
    /// As [`Storage::create`].
    pub async fn check(&self, request: VolumeRef, origin: Origin) -> Result<Operation, ErrorBody> {
        change::check(&self.0, request, origin).await
    }

    /// Moves a volume to another pool; the machine that uses it follows.
    ///
    /// # Errors
    /// As [`Storage::create`].
    pub async fn relocate(&self, request: VolumeMoveRequest, origin: Origin) -> Result<Operation, ErrorBody> {
        relocate::relocate(&self.0, request, origin).await
    }

    /// Removes a volume that nobody uses.
    ///
    /// # Errors
    /// As [`Storage::create`].
    pub async fn remove(&self, request: VolumeRef, origin: Origin) -> Result<Operation, ErrorBody> {
        remove::remove(&self.0, request, origin).await
    }
}
