//! What is done to volumes: made sparse or full, copied as either format, made compact, compared, made smaller, mended.
//!
//! Everything that could lose bytes is written into another file; only growing, shrinking beyond what is allocated and giving
//! back leaked clusters are done in place, and a kill in the middle of those leaves an image that shows what it showed.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use voidvm_model::Bytes;
use voidvm_model::spec::DiskFormat;

use super::make::Part;
use super::{CheckReport, CopyProgress, ImageError, PATIENCE, QemuImg, absolute, format_name};
use crate::tool;

/// Reading all tables takes minutes for the largest images on slow disks.
const TABLES: Duration = Duration::from_secs(600);

/// How much of the space a new image takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Next to nothing; it grows as it is written to.
    Sparse,
    /// All of it.
    Full,
}

/// What is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Space that is taken and not used is given back; content is never touched.
    Leaks,
    /// Whatever is wrong; content may be lost, so only ever in a copy.
    All,
}

/// A stretch of an image as `qemu-img map` tells it.
#[derive(Deserialize)]
struct Stretch {
    start: u64,
    length: u64,
    #[serde(default)]
    data: bool,
    #[serde(default)]
    present: bool,
    #[serde(default)]
    zero: bool,
}

impl QemuImg {
    /// Makes an empty image that looks `size` large to its guest.
    ///
    /// # Errors
    /// [`ImageError::Exists`], [`ImageError::Cancelled`], or why it could not be made. No part of it is left.
    pub async fn create(
        &self,
        (path, format): (&Path, DiskFormat),
        size: Bytes,
        allocation: Allocation,
        cancel: &CancellationToken,
    ) -> Result<(), ImageError> {
        let part = Part::beside(path)?;
        let (size, never) = (size.0.to_string(), CopyProgress::new(0));
        let options = match allocation {
            Allocation::Sparse => "preallocation=off",
            Allocation::Full => "preallocation=falloc",
        };
        let words = ["create", "-q", "-f", format_name(format), "-o", options];
        let args = words.iter().map(OsStr::new).chain([part.path.as_os_str(), OsStr::new(&size)]);
        let ended = self.long(args, path, &never, cancel).await?;
        if !ended.status.success() {
            return Err(ImageError::Failed { path: path.to_owned(), stderr: ended.stderr });
        }
        part.finish().await
    }

    /// Copies an image into a new file of either format that stands on no other. As [`QemuImg::copy`] otherwise.
    ///
    /// # Errors
    /// As [`QemuImg::copy`].
    pub async fn copy_as(
        &self,
        (source, format): (&Path, DiskFormat),
        (target, target_format): (&Path, DiskFormat),
        progress: &CopyProgress,
        cancel: &CancellationToken,
    ) -> Result<(), ImageError> {
        let to = ["-O", format_name(target_format)];
        self.convert_as(source, format_name(format), target, &to, progress, cancel).await
    }

    /// Copies an image into a new file of the same format that takes no more than its content needs, standing on the same file
    /// as before.
    ///
    /// # Errors
    /// As [`QemuImg::copy`].
    pub async fn compact(
        &self,
        (source, format): (&Path, DiskFormat),
        backing: Option<(&Path, DiskFormat)>,
        target: &Path,
        progress: &CopyProgress,
        cancel: &CancellationToken,
    ) -> Result<(), ImageError> {
        let format = format_name(format);
        let below = backing.and_then(|(file, format)| Some((file.to_str()?, format_name(format))));
        if backing.is_some() && below.is_none() {
            return Err(ImageError::Invalid {
                path: source.to_owned(),
                reason: "The file it stands on has a name that is no text.".to_owned(),
                hint: "Rename that file.",
            });
        }
        match below {
            None => self.convert_as(source, format, target, &["-O", format], progress, cancel).await,
            Some((file, below)) => {
                let to = ["-O", format, "-B", file, "-F", below];
                self.convert_as(source, format, target, &to, progress, cancel).await
            }
        }
    }

    /// Whether two images show the same to a guest. Of different lengths, the rest of the longer one must be zero.
    ///
    /// # Errors
    /// When they could not be read, or [`ImageError::Cancelled`].
    pub async fn same_content(
        &self,
        (one, one_format): (&Path, DiskFormat),
        (other, other_format): (&Path, DiskFormat),
        progress: &CopyProgress,
        cancel: &CancellationToken,
    ) -> Result<bool, ImageError> {
        absolute(one)?;
        absolute(other)?;
        let words = ["compare", "-p", "-f", format_name(one_format), "-F", format_name(other_format)];
        let args = words.iter().map(OsStr::new).chain([one.as_os_str(), other.as_os_str()]);
        let ended = self.long(args, one, progress, cancel).await?;
        match ended.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(ImageError::Failed { path: one.to_owned(), stderr: ended.stderr }),
        }
    }

    /// Up to where content reaches from `from` on; `None` where nothing is allocated there.
    ///
    /// # Errors
    /// When it cannot be read; also when so much is there that its list is too long.
    pub async fn content_beyond(
        &self,
        (path, format): (&Path, DiskFormat),
        from: Bytes,
    ) -> Result<Option<Bytes>, ImageError> {
        let start = format!("--start-offset={}", from.0);
        let args = ["map", "--output=json", "-f", format_name(format), &start];
        let finished = self.run(&args, &[path], TABLES).await?;
        let failed = |stderr| ImageError::Failed { path: path.to_owned(), stderr };
        if !finished.status.success() {
            return Err(failed(finished.stderr));
        }
        let stretches: Vec<Stretch> = serde_json::from_slice(&finished.stdout)
            .map_err(|error| failed(format!("its list of allocated space does not fit: {error}")))?;
        let ends = stretches.iter().filter(|stretch| stretch.data || (stretch.present && !stretch.zero));
        Ok(ends.map(|stretch| Bytes(stretch.start + stretch.length)).max())
    }

    /// The first MiB a guest sees, by way of the new file `scratch`.
    ///
    /// # Errors
    /// When they cannot be read, or `scratch` cannot be written.
    pub async fn first_mib(
        &self,
        (path, format): (&Path, DiskFormat),
        scratch: &Path,
    ) -> Result<Vec<u8>, ImageError> {
        absolute(path)?;
        absolute(scratch)?;
        let named = |name: &str, path: &Path| {
            let mut word = OsString::from(name);
            word.push(path);
            word
        };
        let (input, output) = (named("if=", path), named("of=", scratch));
        let words = ["dd", "-f", format_name(format), "-O", "raw", "bs=1M", "count=1"];
        let args = words.iter().map(OsStr::new).chain([input.as_os_str(), output.as_os_str()]);
        let finished = self.ended(tool::run(self.path(), args, PATIENCE).await)?;
        let failed = |source| ImageError::Io { path: scratch.to_owned(), source };
        let read = tokio::fs::read(scratch).await;
        let removed = tokio::fs::remove_file(scratch).await;
        if !finished.status.success() {
            return Err(ImageError::Failed { path: path.to_owned(), stderr: finished.stderr });
        }
        removed.map_err(failed)?;
        read.map_err(failed)
    }

    /// Cuts an image down to `size`. The caller has made sure that nothing lies beyond.
    ///
    /// # Errors
    /// Why it could not be cut.
    pub async fn cut(&self, (path, format): (&Path, DiskFormat), size: Bytes) -> Result<(), ImageError> {
        absolute(path)?;
        let size = size.0.to_string();
        let words = ["resize", "-q", "--shrink", "-f", format_name(format)];
        let args = words.iter().map(OsStr::new).chain([path.as_os_str(), OsStr::new(&size)]);
        let finished = self.ended(tool::run(self.path(), args, TABLES).await)?;
        if finished.status.success() {
            return Ok(());
        }
        Err(ImageError::Failed { path: path.to_owned(), stderr: finished.stderr })
    }

    /// Mends a qcow2 image that no machine uses; says what was found and is mended now.
    ///
    /// # Errors
    /// When it could not be.
    pub async fn repair(&self, path: &Path, what: Repair) -> Result<CheckReport, ImageError> {
        let what = match what {
            Repair::Leaks => "leaks",
            Repair::All => "all",
        };
        let args = ["check", "--output=json", "-f", "qcow2", "-r", what];
        let finished = self.run(&args, &[path], TABLES).await?;
        if matches!(finished.status.code(), Some(0 | 2 | 3))
            && let Ok(report) = serde_json::from_slice(&finished.stdout)
        {
            return Ok(report);
        }
        Err(ImageError::Failed { path: path.to_owned(), stderr: finished.stderr })
    }

    /// Makes sure that no process writes to an image: it can be opened by one that shares it with no writer.
    ///
    /// # Errors
    /// [`ImageError::Failed`] with `qemu-img`'s words about the lock; or why it cannot be opened at all.
    pub async fn unused(&self, path: &Path, format: DiskFormat) -> Result<(), ImageError> {
        let args = ["info", "-f", format_name(format)];
        let finished = self.run(&args, &[path], PATIENCE).await?;
        if finished.status.success() {
            return Ok(());
        }
        Err(ImageError::Failed { path: path.to_owned(), stderr: finished.stderr })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

    fn img() -> QemuImg {
        QemuImg::new(PathBuf::from("/usr/bin/qemu-img"))
    }

    fn io(path: &Path, command: &str) {
        let status = Command::new("qemu-io").args(["-f", "qcow2", "-c", command]).arg(path).status();
        assert!(status.unwrap().success(), "{command}");
    }

    #[tokio::test]
    async fn a_compact_copy_shows_the_same_and_takes_less() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let (base, top, new) = (dir.path().join("b"), dir.path().join("t"), dir.path().join("n"));
        let (progress, never) = (CopyProgress::new(0), CancellationToken::new());
        let img = img();
        let size = Bytes(64 << 20);
        img.create((&base, DiskFormat::Qcow2), size, Allocation::Sparse, &never).await.unwrap();
        io(&base, "write -P 1 0 4M");
        super::super::overlay(&top, &base, DiskFormat::Qcow2, size).unwrap();
        io(&top, "write -P 2 1M 1M");
        io(&top, "write -P 1 8M 8M");
        io(&top, "write -z 8M 8M");
        let below = Some((base.as_path(), DiskFormat::Qcow2));
        img.compact((&top, DiskFormat::Qcow2), below, &new, &progress, &never).await.unwrap();
        let same = img.same_content((&top, DiskFormat::Qcow2), (&new, DiskFormat::Qcow2), &progress, &never);
        assert!(same.await.unwrap());
        let taken = |path: &Path| std::fs::metadata(path).unwrap().blocks() * 512;
        assert!(taken(&new) < taken(&top), "{} {}", taken(&new), taken(&top));
        let header = super::super::header(&new).unwrap().unwrap();
        assert_eq!(header.backing, Some(base.clone()), "it still stands on the same file");
        let other =
            img.same_content((&base, DiskFormat::Qcow2), (&new, DiskFormat::Qcow2), &progress, &never);
        assert!(!other.await.unwrap());
    }

    #[tokio::test]
    async fn what_lies_beyond_a_place_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, scratch) = (dir.path().join("d"), dir.path().join("s"));
        let (img, never) = (img(), CancellationToken::new());
        let size = Bytes(100 << 20);
        img.create((&disk, DiskFormat::Qcow2), size, Allocation::Sparse, &never).await.unwrap();
        let at = (disk.as_path(), DiskFormat::Qcow2);
        assert_eq!(img.content_beyond(at, Bytes(0)).await.unwrap(), None);
        io(&disk, "write -P 3 10M 1M");
        io(&disk, "write -P 5 0 64k");
        assert_eq!(img.content_beyond(at, Bytes(10 << 20)).await.unwrap(), Some(Bytes(11 << 20)));
        assert_eq!(img.content_beyond(at, Bytes(11 << 20)).await.unwrap(), None);
        let first = img.first_mib(at, &scratch).await.unwrap();
        assert_eq!((first.len(), first[0], first[70_000]), (1 << 20, 5, 0));
        assert!(!scratch.exists());
        img.cut(at, Bytes(11 << 20)).await.unwrap();
        assert_eq!(super::super::header(&disk).unwrap().unwrap().virtual_size, Bytes(11 << 20));
    }

    #[tokio::test]
    async fn a_full_image_takes_its_space() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let never = CancellationToken::new();
        for (name, format) in [("q", DiskFormat::Qcow2), ("r", DiskFormat::Raw)] {
            let path = dir.path().join(name);
            img().create((&path, format), Bytes(8 << 20), Allocation::Full, &never).await.unwrap();
            assert!(std::fs::metadata(&path).unwrap().blocks() * 512 >= 8 << 20);
        }
    }
}
