//! Groups of machines and their snapshots.

use voidvm_model::group::{
    Group, GroupRef, GroupSnapshot, GroupSnapshotCreateRequest, GroupSnapshotForkRequest, GroupSnapshotRef,
    GroupSnapshotRestoreRequest,
};
use voidvm_model::{ErrorBody, Operation, Origin};

use super::Engine;
use crate::snapshot::group;

impl Engine {
    /// The groups machines stand in, or that there are snapshots of, by name.
    ///
    /// # Errors
    /// The store's.
    pub async fn groups(&self) -> Result<Vec<Group>, ErrorBody> {
        group::groups(&self.0.shared).await
    }

    /// The snapshots of a group, oldest first; none where there is no such group.
    ///
    /// # Errors
    /// The store's.
    pub async fn group_snapshots(&self, request: GroupRef) -> Result<Vec<GroupSnapshot>, ErrorBody> {
        group::snapshots(&self.0.shared, &request.group).await
    }

    /// Takes a snapshot of all machines of a group at one instant: of all of them, or of none.
    ///
    /// # Errors
    /// What does not allow it, with its field.
    pub async fn take_group_snapshot(
        &self,
        request: GroupSnapshotCreateRequest,
        origin: Origin,
    ) -> Result<Operation, ErrorBody> {
        group::create(&self.0.shared, request, origin).await
    }

    /// Takes all machines of a group back to one instant; the present is kept as another snapshot first, unless it may be lost.
    ///
    /// # Errors
    /// No such snapshot; a machine or a file of it that is gone.
    pub async fn restore_group_snapshot(
        &self,
        request: GroupSnapshotRestoreRequest,
        origin: Origin,
    ) -> Result<Operation, ErrorBody> {
        group::restore(&self.0.shared, request, origin).await
    }

    /// Removes a snapshot of a group, with those of its machines.
    ///
    /// # Errors
    /// No such snapshot.
    pub async fn delete_group_snapshot(
        &self,
        request: GroupSnapshotRef,
        origin: Origin,
    ) -> Result<Operation, ErrorBody> {
        group::delete(&self.0.shared, request, origin).await
    }

    /// Makes a new group of machines of a snapshot of one.
    ///
    /// # Errors
    /// What does not hold, with its field.
    pub async fn fork_group_snapshot(
        &self,
        request: GroupSnapshotForkRequest,
        origin: Origin,
    ) -> Result<Operation, ErrorBody> {
        group::fork(&self.0.shared, request, origin).await
    }
}
