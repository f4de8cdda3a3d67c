//! Disk images and ISOs: looked at, made, copied, grown and checked with `qemu-img`.
//!
//! Invariants:
//! * The format is always stated, never guessed by `qemu-img` or QEMU: a guest that writes a qcow2 header into its raw disk gains
//!   nothing.
//! * A file appears under its name only when it is whole: it is written beside as `NAME.part`, synced and renamed, and an existing
//!   file is never replaced.
//! * What is no disk is refused by name (a web page, an archive, a truncated download), not handed to a guest.

mod luks;
mod make;
mod overlay;
mod sniff;
mod vmdk;
mod volume;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use voidvm_model::spec::DiskFormat;
use voidvm_model::system::{ImageInfo, ImageKind};
use voidvm_model::{Bytes, ErrorBody, ErrorCode};

pub use make::CopyProgress;
pub use overlay::{ChainError, Chains, Header, backing_files, header, overlay};
use sniff::Found;
pub use sniff::{Packing, is_web_page, packing};
pub use volume::{Allocation, Repair};

use crate::tool::{self, Finished, RunError};

/// How long a command that reads or writes little may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why an image is not what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// There is no such file.
    #[error("{} is not there", path.display())]
    Missing {
        /// The image.
        path: PathBuf,
    },
    /// It is no image a machine can use.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The image.
        path: PathBuf,
        /// What is wrong with it, as a sentence.
        reason: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The file system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// The file to be made is there already.
    #[error("{} exists", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A disk would become smaller.
    #[error("{} has {now} bytes and can only grow", path.display())]
    Shrinks {
        /// The image.
        path: PathBuf,
        /// Its size.
        now: u64,
    },
    /// `qemu-img` cannot be run.
    #[error("{} cannot be run: {source}", program.display())]
    Exec {
        /// The program.
        program: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// `qemu-img` failed.
    #[error("qemu-img: {stderr}")]
    Failed {
        /// The image.
        path: PathBuf,
        /// Its own words.
        stderr: String,
    },
    /// `qemu-img` did not end in time, and was killed.
    #[error("qemu-img does not come to an end")]
    Hangs,
    /// Somebody gave it up; nothing is left.
    #[error("cancelled")]
    Cancelled,
}

impl ImageError {
    /// The error as everybody is shown it.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        let name = |path: &Path| path.display().to_string();
        match self {
            Self::Missing { path } => {
                ErrorBody::new(ErrorCode::ImageMissing, format!("{} is not there.", name(path)))
                    .with_hint("Check the path, or choose another file.")
                    .with_detail("path", name(path))
            }
            Self::Invalid { path, reason, hint } => ErrorBody::new(ErrorCode::ImageInvalid, reason.as_str())
                .with_hint(*hint)
                .with_detail("path", name(path)),
            Self::Io { path, source } => crate::failure::io_body(source, path),
            Self::Exists { path } => {
                ErrorBody::new(ErrorCode::FileInUse, format!("{} exists already.", name(path)))
                    .with_hint("Choose another name, or remove the file.")
                    .with_detail("path", name(path))
            }
            Self::Shrinks { now, .. } => ErrorBody::new(
                ErrorCode::InvalidInput,
                format!("The disk has {} and can only grow.", Bytes(*now)),
            )
            .with_hint("Choose a larger size."),
            Self::Exec { .. } => ErrorBody::new(ErrorCode::QemuNotFound, "qemu-img cannot be run.")
                .with_hint("Install the package qemu-utils.")
                .with_detail("reason", self.to_string()),
            Self::Failed { path, stderr } => crate::process::explain_words(stderr)
                .unwrap_or_else(|| ErrorBody::new(ErrorCode::QemuImgFailed, "qemu-img failed."))
                .with_detail("path", name(path))
                .with_detail("stderr", stderr.as_str()),
            Self::Hangs => ErrorBody::new(ErrorCode::Timeout, "qemu-img did not come to an end in time.")
                .with_hint("Check that the disk the file is on answers."),
            Self::Cancelled => ErrorBody::new(ErrorCode::Cancelled, "Cancelled."),
        }
    }
}

/// What `qemu-img check` found in a qcow2 image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct CheckReport {
    /// Places where data is, or may be, lost.
    pub corruptions: u64,
    /// Space that is taken and not used: harmless.
    pub leaks: u64,
    /// Places that could not be looked at.
    pub check_errors: u64,
}

impl CheckReport {
    /// Whether the image can be used.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.corruptions == 0 && self.check_errors == 0
    }
}

/// What is read of `qemu-img info`'s answer.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Info {
    virtual_size: u64,
    #[serde(default)]
    actual_size: u64,
    backing_filename: Option<String>,
    full_backing_filename: Option<String>,
    #[serde(default)]
    encrypted: bool,
    #[serde(default)]
    format_specific: FormatSpecific,
}

#[derive(Default, Deserialize)]
struct FormatSpecific {
    #[serde(default)]
    data: FormatData,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct FormatData {
    data_file: Option<String>,
    #[serde(default)]
    corrupt: bool,
}

/// The `qemu-img` program.
#[derive(Clone, Debug)]
pub struct QemuImg(PathBuf);

impl QemuImg {
    /// The program at `path` (see [`probe::locate_qemu_img`](crate::probe::locate_qemu_img)).
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where the program is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Looks at an image: what it is, how large, on what it stands. Works on images in use. `used_by` is left to the engine.
    ///
    /// # Errors
    /// [`ImageError::Missing`], [`ImageError::Invalid`] with what the file is instead, or why it could not be read.
    pub async fn info(&self, path: &Path) -> Result<ImageInfo, ImageError> {
        let owned = path.to_owned();
        let found = tokio::task::spawn_blocking(move || sniff::look(&owned))
            .await
            .map_err(|error| ImageError::Io { path: path.to_owned(), source: error.into() })??;
        let (kind, volume_id) = match found {
            Found::Qcow2 => (ImageKind::Qcow2, None),
            Found::Raw => (ImageKind::Raw, None),
            Found::Iso { volume_id } => (ImageKind::Iso, volume_id),
            Found::Foreign(kind) => (kind, None),
        };
        if kind == ImageKind::Vmdk {
            vmdk::check_extents(path)?;
        }
        let info: Info = self.json(path, &["info", "--output=json", "-U", "-f", kind_name(kind)]).await?;
        let invalid = |reason: &str, hint| {
            Err(ImageError::Invalid { path: path.to_owned(), reason: reason.to_owned(), hint })
        };
        if info.encrypted {
            return invalid("The image is encrypted.", "Decrypt it with qemu-img convert first.");
        }
        if info.format_specific.data.data_file.is_some() {
            return invalid(
                "The image keeps its data in another file.",
                "Convert it with qemu-img convert first.",
            );
        }
        if info.format_specific.data.corrupt {
            return invalid("The image is marked corrupt.", "Repair it with qemu-img check -r all.");
        }
        if info.virtual_size == 0 {
            return invalid("The image has no size.", "Choose another file.");
        }
        let backing_file = match info.full_backing_filename.or(info.backing_filename) {
            Some(_) if kind != ImageKind::Qcow2 => {
                return invalid(
                    "The disk stands on another one, as a snapshot's does.",
                    "Merge the snapshots in the program it comes from, then try again.",
                );
            }
            // A file that came from elsewhere could name any file, or any server, to be shown to the guest.
            Some(backing) if !Path::new(&backing).is_absolute() => {
                return invalid(
                    "The image stands on something that is no file.",
                    "Convert it with qemu-img convert first.",
                );
            }
            Some(backing) if !Path::new(&backing).is_file() => {
                return Err(ImageError::Invalid {
                    path: path.to_owned(),
                    reason: format!("The image stands on {backing}, which is not there."),
                    hint: "Put the missing file back, or choose another image.",
                });
            }
            backing => backing,
        };
        Ok(ImageInfo {
            path: path.to_string_lossy().into_owned(),
            kind,
            virtual_size: Bytes(info.virtual_size),
            actual_size: Bytes(info.actual_size),
            backing_file,
            volume_id,
            writable: rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok(),
            used_by: None,
        })
    }

    /// Checks the structure of a qcow2 image that no machine uses.
    ///
    /// # Errors
    /// When it could not be checked; what is wrong with it is in the report.
    pub async fn check(&self, path: &Path) -> Result<CheckReport, ImageError> {
        let args = ["check", "--output=json", "-f", "qcow2"];
        // Reads all tables: minutes for the largest images on slow disks.
        let finished = self.run(&args, &[path], Duration::from_secs(600)).await?;
        // 0 sound, 2 corrupt, 3 leaks only; the report says the same.
        if matches!(finished.status.code(), Some(0 | 2 | 3))
            && let Ok(report) = serde_json::from_slice(&finished.stdout)
        {
            return Ok(report);
        }
        Err(ImageError::Failed { path: path.to_owned(), stderr: finished.stderr })
    }

    async fn json<T: serde::de::DeserializeOwned>(
        &self,
        path: &Path,
        args: &[&str],
    ) -> Result<T, ImageError> {
        let finished = self.run(args, &[path], PATIENCE).await?;
        let failed = |stderr| ImageError::Failed { path: path.to_owned(), stderr };
        if !finished.status.success() {
            return Err(failed(finished.stderr));
        }
        serde_json::from_slice(&finished.stdout)
            .map_err(|error| failed(format!("its answer does not fit: {error}")))
    }

    async fn run(&self, args: &[&str], paths: &[&Path], within: Duration) -> Result<Finished, ImageError> {
        for path in paths {
            absolute(path)?;
        }
        let all = args.iter().map(std::ffi::OsStr::new).chain(paths.iter().map(|path| path.as_os_str()));
        self.ended(tool::run(&self.0, all, within).await)
    }

    fn ended(&self, outcome: Result<Finished, RunError>) -> Result<Finished, ImageError> {
        outcome.map_err(|error| match error {
            RunError::Hangs => ImageError::Hangs,
            RunError::Io(source) => ImageError::Exec { program: self.0.clone(), source },
        })
    }
}

/// An absolute path can be neither an option nor a protocol (`nbd:`, `json:`) to `qemu-img`.
fn absolute(path: &Path) -> Result<(), ImageError> {
    if path.is_absolute() {
        return Ok(());
    }
    Err(ImageError::Invalid {
        path: path.to_owned(),
        reason: "The path is not absolute.".to_owned(),
        hint: "Begin the path with /.",
    })
}

const fn format_name(format: DiskFormat) -> &'static str {
    match format {
        DiskFormat::Qcow2 => "qcow2",
        DiskFormat::Raw => "raw",
    }
}

/// What `qemu-img` calls a kind of image.
const fn kind_name(kind: ImageKind) -> &'static str {
    match kind {
        ImageKind::Qcow2 => "qcow2",
        ImageKind::Raw | ImageKind::Iso => "raw",
        ImageKind::Vmdk => "vmdk",
        ImageKind::Vdi => "vdi",
        ImageKind::Vhdx => "vhdx",
    }
}
