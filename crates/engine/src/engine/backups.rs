//! Backups.

use voidvm_model::backup::{
    BackupDrillRequest, BackupForgetRequest, BackupInitRequest, BackupList, BackupListRequest,
    BackupRepository, BackupRestoreRequest, BackupRunRequest, BackupVerifyRequest,
};
use voidvm_model::{ErrorBody, Operation, Origin};

use super::Engine;
use crate::backup;

impl Engine {
    /// Begins backups in a directory.
    ///
    /// # Errors
    /// What does not hold, with its field, as all that follow.
    pub async fn init_backups(&self, request: BackupInitRequest) -> Result<BackupRepository, ErrorBody> {
        backup::init(&self.0.shared, request).await
    }

    /// The backups in a directory.
    ///
    /// # Errors
    /// As [`Engine::init_backups`].
    pub async fn backups(&self, request: BackupListRequest) -> Result<BackupList, ErrorBody> {
        backup::list(&self.0.shared, request).await
    }

    /// Backs a machine up as it is now; a running guest goes on.
    ///
    /// # Errors
    /// As [`Engine::init_backups`].
    pub async fn back_up(&self, request: BackupRunRequest, origin: Origin) -> Result<Operation, ErrorBody> {
        backup::run(&self.0.shared, request, Vec::new(), origin).await
    }

    /// Checks that backups are what was written.
    ///
    /// # Errors
    /// As [`Engine::init_backups`].
    pub async fn verify_backups(
        &self,
        request: BackupVerifyRequest,
        origin: Origin,
    ) -> Result<Operation, ErrorBody> {
        backup::verify(&self.0.shared, request, origin).await
    }

    /// Makes a new machine of a backup.
    ///
    /// # Errors
    /// As [`Engine::init_backups`].
    pub async fn restore_backup(
        &self,
        request: BackupRestoreRequest,
        origin: Origin,
    ) -> Result<Operation, ErrorBody> {
        backup::restore(&self.0.shared, request, origin).await
    }

    /// Sees whether a backup comes up, on a machine apart that is removed again.
    ///
    /// # Errors
    /// As [`Engine::init_backups`].
    pub async fn drill_backup(
        &self,
        request: BackupDrillRequest,
        origin: Origin,
    ) -> Result<Operation, ErrorBody> {
        backup::drill(&self.0.shared, request, origin).await
    }

    /// Removes backups, and what none of the others needs.
    ///
    /// # Errors
    /// As [`Engine::init_backups`].
    pub async fn forget_backups(
        &self,
        request: BackupForgetRequest,
        origin: Origin,
    ) -> Result<Operation, ErrorBody> {
        backup::forget(&self.0.shared, request, origin).await
    }
}
