//! The image library's entries.

use std::path::PathBuf;

use jiff::Timestamp;
use voidvm_model::guest_os::GuestOs;
use voidvm_model::image::Verification;
use voidvm_model::system::ImageKind;
use voidvm_model::{Bytes, ImageId};

use crate::error::is_unique_violation;
use crate::row::{Reader, json, time};
use crate::{Store, StoreError};

/// An image as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRow {
    /// Its id.
    pub id: ImageId,
    /// Unique, compared exactly.
    pub name: String,
    /// Free text.
    pub description: String,
    /// What it is.
    pub kind: ImageKind,
    /// Absolute path; unique.
    pub path: PathBuf,
    /// Whether the file is the library's own.
    pub owned: bool,
    /// Length of the file when it was looked at.
    pub size: Bytes,
    /// Its time of modification then, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// What a guest sees.
    pub virtual_size: Bytes,
    /// SHA-256 of the file in hexadecimal, once it was computed.
    pub sha256: Option<String>,
    /// How a download was checked.
    pub verified: Verification,
    /// The operating system on it.
    pub os: Option<GuestOs>,
    /// Whether cloud-init is on it.
    pub cloud_init: bool,
    /// Where it was downloaded from.
    pub source: Option<String>,
    /// When it came into the library.
    pub created_at: Timestamp,
}

/// The columns as SQLite gives them.
struct Columns {
    id: String,
    name: String,
    description: String,
    kind: String,
    path: String,
    owned: i64,
    size: i64,
    modified_ns: i64,
    virtual_size: i64,
    sha256: Option<String>,
    verified: String,
    os: Option<String>,
    cloud_init: i64,
    source: Option<String>,
    created_at: String,
}

/// The table of images.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a>(pub(crate) &'a Store);

impl Images<'_> {
    /// Adds an image.
    ///
    /// # Errors
    /// [`StoreError::ImageTaken`] when its name or path is another one's, or the store's.
    pub async fn insert(&self, row: &ImageRow) -> Result<(), StoreError> {
        let (id, kind, path) = (row.id.to_string(), row.kind.as_str(), path(row)?);
        let (size, virtual_size) = (bytes(row.size)?, bytes(row.virtual_size)?);
        let os = row.os.as_ref().map(|os| json("images.os", os)).transpose()?;
        let (verified, created_at) = (row.verified.as_str(), time(row.created_at));
        sqlx::query!(
            "INSERT INTO images (id, name, description, kind, path, owned, size, modified_ns, virtual_size, sha256, verified,
                                 os, cloud_init, source, created_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            id,
            row.name,
            row.description,
            kind,
            path,
            row.owned,
            size,
            row.modified_ns,
            virtual_size,
            row.sha256,
            verified,
            os,
            row.cloud_init,
            row.source,
            created_at
        )
        .execute(self.0.writer())
        .await
        .map(drop)
        .map_err(|source| self.name_or(&row.name, "add the image", source))
    }

    /// Changes what people may change: name and description. One that is gone is no error.
    ///
    /// # Errors
    /// [`StoreError::ImageTaken`], or the store's.
    pub async fn rename(&self, id: ImageId, name: &str, description: &str) -> Result<(), StoreError> {
        let id = id.to_string();
        sqlx::query!("UPDATE images SET name = ?, description = ? WHERE id = ?", name, description, id)
            .execute(self.0.writer())
            .await
            .map(drop)
            .map_err(|source| self.name_or(name, "change the image", source))
    }

    /// Remembers an image's checksum. One that is gone is no error.
    ///
    /// # Errors
    /// The store's.
    pub async fn set_sha256(&self, id: ImageId, sha256: &str) -> Result<(), StoreError> {
        let id = id.to_string();
        sqlx::query!("UPDATE images SET sha256 = ? WHERE id = ?", sha256, id)
            .execute(self.0.writer())
            .await
            .map(drop)
            .map_err(self.0.failed("remember the image's checksum"))
    }

    /// Removes an image's entry. One that is gone already is no error.
    ///
    /// # Errors
    /// The store's.
    pub async fn delete(&self, id: ImageId) -> Result<(), StoreError> {
        let id = id.to_string();
        sqlx::query!("DELETE FROM images WHERE id = ?", id)
            .execute(self.0.writer())
            .await
            .map(drop)
            .map_err(self.0.failed("remove the image"))
    }

    /// One image.
    ///
    /// # Errors
    /// The store's.
    pub async fn get(&self, id: ImageId) -> Result<Option<ImageRow>, StoreError> {
        Ok(self.list().await?.into_iter().find(|row| row.id == id))
    }

    /// Every image, in the order of their names.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(&self) -> Result<Vec<ImageRow>, StoreError> {
        let rows = sqlx::query_as!(
            Columns,
            "SELECT id, name, description, kind, path, owned, size, modified_ns, virtual_size, sha256, verified, os, cloud_init,
                    source, created_at
             FROM images ORDER BY name"
        )
        .fetch_all(self.0.readers())
        .await
        .map_err(self.0.failed("read the images"))?;
        rows.into_iter().map(|columns| self.row(columns)).collect()
    }

    fn row(&self, columns: Columns) -> Result<ImageRow, StoreError> {
        let read = Reader::new(self.0.database(), "images", &columns.id);
        let bytes = |column, value| Ok(Bytes(read.count(column, Some(value))?.unwrap_or_default()));
        Ok(ImageRow {
            id: read.parse("id", &columns.id)?,
            kind: read.one_of("kind", &columns.kind, &ImageKind::ALL, ImageKind::as_str)?,
            path: PathBuf::from(columns.path),
            owned: columns.owned != 0,
            size: bytes("size", columns.size)?,
            modified_ns: columns.modified_ns,
            virtual_size: bytes("virtual_size", columns.virtual_size)?,
            sha256: columns.sha256,
            verified: read.one_of("verified", &columns.verified, &Verification::ALL, Verification::as_str)?,
            os: read.json_optional("os", columns.os.as_deref())?,
            cloud_init: columns.cloud_init != 0,
            source: columns.source,
            created_at: read.parse("created_at", &columns.created_at)?,
            name: columns.name,
            description: columns.description,
        })
    }

    fn name_or(&self, name: &str, doing: &'static str, source: sqlx::Error) -> StoreError {
        if is_unique_violation(&source) {
            StoreError::ImageTaken { name: name.to_owned() }
        } else {
            self.0.failed(doing)(source)
        }
    }
}

fn path(row: &ImageRow) -> Result<&str, StoreError> {
    row.path.to_str().ok_or_else(|| StoreError::Unstorable {
        what: "images.path",
        reason: "it is no Unicode text".to_owned(),
    })
}

fn bytes(value: Bytes) -> Result<i64, StoreError> {
    i64::try_from(value.0)
        .map_err(|error| StoreError::Unstorable { what: "a size of an image", reason: error.to_string() })
}
