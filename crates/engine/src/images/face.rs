//! The library as the host uses it.

use std::path::Path;

use voidvm_model::guest_os::OsPreset;
use voidvm_model::image::{
    CatalogueEntry, ImageDownloadRequest, ImageImportRequest, ImageUpdateRequest, LibraryImage,
};
use voidvm_model::spec::validate_path;
use voidvm_model::{ErrorBody, Event, ImageId, Operation, Origin};
use voidvm_store::StoreError;

use super::{delete, download, import, names, os};
use crate::Engine;

/// Longest description.
const DESCRIPTION_MAX: usize = 10_000;

impl Engine {
    /// Every image of the library, by name.
    ///
    /// # Errors
    /// The store's.
    pub async fn images(&self) -> Result<Vec<LibraryImage>, ErrorBody> {
        super::list(self.shared()).await
    }

    /// One image.
    ///
    /// # Errors
    /// No such image, or the store's.
    pub async fn image(&self, id: ImageId) -> Result<LibraryImage, ErrorBody> {
        super::get(self.shared(), id).await
    }

    /// Brings a file into the library.
    ///
    /// # Errors
    /// What is wrong with the request or the file.
    pub async fn image_import(
        &self,
        request: ImageImportRequest,
        origin: Origin,
    ) -> Result<Operation, ErrorBody> {
        import::import(self.shared(), request, origin).await
    }

    /// Fetches a file into the library; one that was cut before is gone on with.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub async fn image_download(
        &self,
        request: ImageDownloadRequest,
        origin: Origin,
    ) -> Result<Operation, ErrorBody> {
        download::download(self.shared(), request, origin).await
    }

    /// Changes an image's name or description.
    ///
    /// # Errors
    /// No such image, a name that is taken or none, or the store's.
    pub async fn image_update(
        &self,
        request: ImageUpdateRequest,
        origin: Origin,
    ) -> Result<LibraryImage, ErrorBody> {
        let shared = self.shared();
        let image = super::get(shared, request.id).await?;
        let name = request.name.unwrap_or(image.name);
        let description = request.description.unwrap_or(image.description);
        names::check(&name)?;
        if description.chars().count() > DESCRIPTION_MAX {
            return Err(ErrorBody::invalid("description", "The description is too long.")
                .with_hint("Use at most 10,000 characters."));
        }
        let renamed = shared.store.images().rename(request.id, &name, &description).await;
        renamed.map_err(|error| match error {
            StoreError::ImageTaken { .. } => names::taken(&name),
            other => other.body(),
        })?;
        shared.bus.publish(origin, Event::ImagesChanged);
        super::get(shared, request.id).await
    }

    /// Takes an image out of the library, with its file where that is the library's own.
    ///
    /// # Errors
    /// [`FileInUse`](voidvm_model::ErrorCode::FileInUse) with the names of the machines that use it; no such image.
    pub async fn image_delete(&self, id: ImageId, origin: Origin) -> Result<Operation, ErrorBody> {
        delete::delete(self.shared(), id, origin).await
    }

    /// Well-known images that can be downloaded.
    ///
    /// # Errors
    /// [`ConfigInvalid`](voidvm_model::ErrorCode::ConfigInvalid) for the user's own file.
    pub async fn catalogue(&self) -> Result<Vec<CatalogueEntry>, ErrorBody> {
        super::catalogue(self.shared()).await
    }

    /// Operating systems a machine can be prepared for.
    ///
    /// # Errors
    /// [`ProgramMissing`](voidvm_model::ErrorCode::ProgramMissing) where osinfo-db is not installed.
    pub async fn operating_systems(&self, search: Option<&str>) -> Result<Vec<OsPreset>, ErrorBody> {
        os::list(self.shared(), search).await
    }

    /// The operating system on an ISO, and what it wants.
    ///
    /// # Errors
    /// [`ProgramMissing`](voidvm_model::ErrorCode::ProgramMissing) where osinfo-db is not installed; a file that cannot be read.
    pub async fn detect_os(&self, path: &Path) -> Result<Option<OsPreset>, ErrorBody> {
        validate_path("path", path)?;
        os::detect(self.shared(), path).await
    }
}
