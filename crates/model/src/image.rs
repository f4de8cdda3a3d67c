//! The image library: disks to copy from, ISOs to boot from, and where they come from.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::guest_os::GuestOs;
use crate::ids::{ImageId, VmId};
use crate::system::ImageKind;
use crate::units::Bytes;

/// An image of the library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct LibraryImage {
    /// Its id.
    pub id: ImageId,
    /// For people; unique.
    pub name: String,
    /// Free text.
    pub description: String,
    /// What it is.
    pub kind: ImageKind,
    /// Absolute path of the file.
    pub path: String,
    /// Whether the file lies in the library and goes with the image; one used in place never does.
    pub owned: bool,
    /// Whether it can be used.
    pub state: ImageState,
    /// What it takes on the disk.
    pub size: Bytes,
    /// What a guest sees of it.
    pub virtual_size: Bytes,
    /// SHA-256 of the file in hexadecimal, once it was computed.
    pub sha256: Option<String>,
    /// How its content was checked when it was downloaded.
    pub verified: Verification,
    /// The operating system on it, as far as known.
    pub os: Option<GuestOs>,
    /// Whether cloud-init is on it, as its catalogue entry says.
    pub cloud_init: bool,
    /// Where it was downloaded from.
    pub source: Option<String>,
    /// The machines that read this very file: linked clones, drives, disks used in place.
    pub used_by: Vec<ImageUser>,
    /// When it came into the library.
    #[ts(type = "string")]
    pub created_at: Timestamp,
}

/// A machine that uses an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImageUser {
    /// Which.
    pub id: VmId,
    /// Its name.
    pub name: String,
}

/// Whether an image can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum ImageState {
    /// It can.
    Ready,
    /// Its file is not where it was.
    Missing,
    /// Its file is not what it was: the size or time differs.
    Changed,
}

/// How a download's content was checked; what does not fit never comes into the library.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// Not at all: there was no checksum, or it was no download.
    #[default]
    None,
    /// By a checksum that was given or downloaded; nobody's signature was checked.
    Checksum,
    /// By a checksum that the maker's signature covers.
    Signature,
}

impl Verification {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::None, Self::Checksum, Self::Signature];

    /// The wire form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Checksum => "checksum",
            Self::Signature => "signature",
        }
    }
}

/// Which image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImageRef {
    /// The image.
    pub id: ImageId,
}

/// A file to bring into the library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageImportRequest {
    /// Absolute path: qcow2, raw, vmdk, vdi, vhdx or ISO, also compressed with gzip, xz, zstd or bzip2.
    pub path: String,
    /// What becomes of the file.
    pub mode: ImportMode,
    /// Its name in the library; the file's without.
    #[serde(default)]
    #[ts(optional)]
    pub name: Option<String>,
}

/// What becomes of an imported file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum ImportMode {
    /// It stays; the library gets a copy in qcow2, an ISO as it is.
    Copy,
    /// It is moved into the library.
    Move,
    /// It is used where it is and never written to.
    InPlace,
}

/// A download into the library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageDownloadRequest {
    /// HTTPS or HTTP address.
    pub url: String,
    /// Other addresses of the same file, tried in turn.
    #[serde(default)]
    #[ts(optional, as = "Option<Vec<String>>")]
    pub mirrors: Vec<String>,
    /// Its name in the library; the file's without.
    #[serde(default)]
    #[ts(optional)]
    pub name: Option<String>,
    /// The expected SHA-256 in hexadecimal.
    #[serde(default)]
    #[ts(optional)]
    pub sha256: Option<String>,
    /// The expected SHA-512 in hexadecimal.
    #[serde(default)]
    #[ts(optional)]
    pub sha512: Option<String>,
    /// A SHA256SUMS or SHA512SUMS file that names it.
    #[serde(default)]
    #[ts(optional)]
    pub checksum_url: Option<String>,
    /// A detached OpenPGP signature of the checksum file. Checked with the keyrings installed here; without a key for it the
    /// image says that it was checked by its checksum alone.
    #[serde(default)]
    #[ts(optional)]
    pub signature_url: Option<String>,
    /// The catalogue entry it is of.
    #[serde(default)]
    #[ts(optional)]
    pub catalogue_id: Option<String>,
}

/// Changes of an image's entry; what is left out stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageUpdateRequest {
    /// The image.
    pub id: ImageId,
    /// A new name.
    #[serde(default)]
    #[ts(optional)]
    pub name: Option<String>,
    /// A new description.
    #[serde(default)]
    #[ts(optional)]
    pub description: Option<String>,
}

/// A well-known image that can be downloaded. Users add their own in `catalogue.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct CatalogueEntry {
    /// Names it: `debian-12-cloud`.
    pub id: String,
    /// For people.
    pub name: String,
    /// The osinfo-db short id, `debian12`.
    pub os: String,
    /// What it is.
    pub kind: ImageKind,
    /// Where it is.
    pub url: String,
    /// Other addresses of it.
    pub mirrors: Vec<String>,
    /// The checksum file that names it.
    pub checksum_url: Option<String>,
    /// The signature of that file.
    pub signature_url: Option<String>,
    /// Whether cloud-init is on it.
    pub cloud_init: bool,
    /// The user cloud-init makes by default.
    pub user: Option<String>,
    /// About what the download takes.
    pub size: Option<Bytes>,
    /// The library's image that was made of it.
    pub image: Option<ImageId>,
}
