//! Machine snapshots.

use voidvm_model::contract::{Picture, VmRef};
use voidvm_model::snapshot::{
    Snapshot, SnapshotBootRequest, SnapshotCompareRequest, SnapshotCreateRequest, SnapshotDifference,
    SnapshotForkRequest, SnapshotRef, SnapshotRestoreRequest, SnapshotTree, SnapshotUpdateRequest,
};
use voidvm_model::{ErrorBody, Operation, Origin, VmId};

use super::Engine;
use crate::snapshot;

impl Engine {
    /// A machine's snapshots.
    ///
    /// # Errors
    /// No such machine; the store's.
    pub async fn snapshots(&self, id: VmId) -> Result<SnapshotTree, ErrorBody> {
        snapshot::tree(&self.0.shared, id).await
    }

    /// Takes a snapshot of the whole machine. A running guest is held for some hundredths of a second.
    ///
    /// # Errors
    /// What does not allow it, with its field.
    pub async fn take_snapshot(
        &self,
        request: SnapshotCreateRequest,
        origin: Origin,
    ) -> Result<Operation, ErrorBody> {
        snapshot::create(&self.0.shared, request, origin).await
    }

    /// Changes what a snapshot is called and said of.
    ///
    /// # Errors
    /// What does not hold, with its field.
    pub async fn update_snapshot(
        &self,
        request: SnapshotUpdateRequest,
        origin: Origin,
    ) -> Result<Snapshot, ErrorBody> {
        snapshot::update(&self.0.shared, request, origin).await
    }

    /// Goes back to a snapshot; the present is kept as another one first, unless it may be lost.
    ///
    /// # Errors
    /// What does not allow it, with its field.
    pub async fn restore_snapshot(
        &self,
        request: SnapshotRestoreRequest,
        origin: Origin,
    ) -> Result<Operation, ErrorBody> {
        snapshot::restore(&self.0.shared, request, origin).await
    }

    /// Removes a snapshot; what others need of it stays.
    ///
    /// # Errors
    /// No such machine or snapshot.
    pub async fn delete_snapshot(
        &self,
        request: SnapshotRef,
        origin: Origin,
    ) -> Result<Operation, ErrorBody> {
        snapshot::delete(&self.0.shared, request, origin).await
    }

    /// Makes new machines of a snapshot, which share its disks.
    ///
    /// # Errors
    /// What does not hold, with its field.
    pub async fn fork_snapshot(
        &self,
        request: SnapshotForkRequest,
        origin: Origin,
    ) -> Result<Operation, ErrorBody> {
        snapshot::fork(&self.0.shared, request, origin).await
    }

    /// Starts a machine made of a snapshot that is thrown away when it stops.
    ///
    /// # Errors
    /// What does not hold, with its field.
    pub async fn boot_snapshot(
        &self,
        request: SnapshotBootRequest,
        origin: Origin,
    ) -> Result<Operation, ErrorBody> {
        snapshot::boot(&self.0.shared, request, origin).await
    }

    /// Copies all that a machine's disks stand on into their newest layers.
    ///
    /// # Errors
    /// No such machine.
    pub async fn flatten(&self, request: VmRef, origin: Origin) -> Result<Operation, ErrorBody> {
        snapshot::flatten(&self.0.shared, request, origin).await
    }

    /// What differs between two snapshots, or between one and the present.
    ///
    /// # Errors
    /// No such machine or snapshot.
    pub async fn compare_snapshots(
        &self,
        request: SnapshotCompareRequest,
    ) -> Result<SnapshotDifference, ErrorBody> {
        snapshot::compare(&self.0.shared, request).await
    }

    /// The screen at the instant of a snapshot.
    ///
    /// # Errors
    /// No such machine or snapshot.
    pub async fn snapshot_picture(&self, request: SnapshotRef) -> Result<Option<Picture>, ErrorBody> {
        snapshot::picture(&self.0.shared, request).await
    }
}
