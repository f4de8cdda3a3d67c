//! Making images: whole or not at all.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use voidvm_model::Bytes;
use voidvm_model::spec::DiskFormat;
use voidvm_model::system::ImageKind;

use super::{ImageError, PATIENCE, QemuImg, absolute, format_name, kind_name};
use crate::tool;

/// How much of a copy is done, in hundredths of a per cent: 0 to 10,000. Never goes back.
pub type CopyProgress = watch::Sender<u32>;

impl QemuImg {
    /// Makes an empty qcow2 image that looks `size` large to its guest; takes next to nothing until it is written to.
    ///
    /// # Errors
    /// [`ImageError::Exists`] when the file is there; else why it could not be made. No part of it is left.
    pub async fn create_qcow2(&self, path: &Path, size: Bytes) -> Result<(), ImageError> {
        let part = Part::beside(path)?;
        let size = size.0.to_string();
        let args = ["create", "-q", "-f", "qcow2"];
        absolute(path)?;
        let all = args.iter().map(OsStr::new).chain([part.path.as_os_str(), size.as_ref()]);
        let finished = self.ended(tool::run(self.path(), all, PATIENCE).await)?;
        if !finished.status.success() {
            return Err(ImageError::Failed { path: path.to_owned(), stderr: finished.stderr });
        }
        part.finish().await
    }

    /// Copies an image into a new qcow2 file that stands on no other. The source is only read.
    ///
    /// `cancel` ends it at once; so does dropping the future. Neither leaves a part.
    ///
    /// # Errors
    /// [`ImageError::Cancelled`], [`ImageError::Exists`], or why it failed (a full disk among them).
    pub async fn copy(
        &self,
        source: &Path,
        format: DiskFormat,
        target: &Path,
        progress: &CopyProgress,
        cancel: &CancellationToken,
    ) -> Result<(), ImageError> {
        self.convert_as(source, format_name(format), target, &["-O", "qcow2"], progress, cancel).await
    }

    /// Copies an image of any kind into a new qcow2 file, as [`QemuImg::copy`].
    ///
    /// # Errors
    /// As [`QemuImg::copy`].
    pub async fn copy_kind(
        &self,
        source: &Path,
        kind: ImageKind,
        target: &Path,
        progress: &CopyProgress,
        cancel: &CancellationToken,
    ) -> Result<(), ImageError> {
        self.convert_as(source, kind_name(kind), target, &["-O", "qcow2"], progress, cancel).await
    }

    /// Copies an image into a new file that other programs read: a VMware disk for streaming, as an OVA holds it.
    ///
    /// # Errors
    /// As [`QemuImg::copy`].
    pub async fn copy_to_vmdk(
        &self,
        source: &Path,
        format: DiskFormat,
        target: &Path,
        progress: &CopyProgress,
        cancel: &CancellationToken,
    ) -> Result<(), ImageError> {
        let to = ["-O", "vmdk", "-o", "subformat=streamOptimized"];
        self.convert_as(source, format_name(format), target, &to, progress, cancel).await
    }

    /// Lets a qcow2 image stand on another one, or on none, showing the same as before: what it would lose is copied into it.
    ///
    /// At every instant the file shows what it showed, also when this is cut: the header, which names what is below, is
    /// written last.
    ///
    /// # Errors
    /// When somebody uses the image, or why it failed.
    pub async fn rebase(
        &self,
        path: &Path,
        below: Option<(&Path, DiskFormat)>,
        progress: &CopyProgress,
        cancel: &CancellationToken,
    ) -> Result<(), ImageError> {
        absolute(path)?;
        let mut args: Vec<&OsStr> = ["rebase", "-p", "-f", "qcow2"].map(OsStr::new).to_vec();
        match below {
            Some((below, format)) => {
                absolute(below)?;
                args.extend(["-F", format_name(format), "-b"].map(OsStr::new));
                args.push(below.as_os_str());
            }
            None => args.extend(["-b", ""].map(OsStr::new)),
        }
        args.push(path.as_os_str());
        let ended = self.long(args, path, progress, cancel).await?;
        if !ended.status.success() {
            return Err(ImageError::Failed { path: path.to_owned(), stderr: ended.stderr });
        }
        progress.send_replace(10_000);
        Ok(())
    }

    /// Writes what an overlay has into the image it stands on, which must have no other image on it; the overlay stays as it is.
    ///
    /// At every instant the overlay shows what it showed, also when this is cut.
    ///
    /// # Errors
    /// When somebody uses an image, or why it failed; [`ImageError::Cancelled`].
    pub async fn commit(
        &self,
        path: &Path,
        progress: &CopyProgress,
        cancel: &CancellationToken,
    ) -> Result<(), ImageError> {
        absolute(path)?;
        let options = ["commit", "-p", "-d", "-f", "qcow2"];
        let args = options.iter().map(OsStr::new).chain([path.as_os_str()]);
        let ended = self.long(args, path, progress, cancel).await?;
        if ended.status.success() {
            return Ok(());
        }
        Err(ImageError::Failed { path: path.to_owned(), stderr: ended.stderr })
    }

    pub(super) async fn convert_as(
        &self,
        source: &Path,
        from: &str,
        target: &Path,
        to: &[&str],
        progress: &CopyProgress,
        cancel: &CancellationToken,
    ) -> Result<(), ImageError> {
        absolute(source)?;
        let part = Part::beside(target)?;
        let options = ["convert", "-p", "-f", from];
        let args =
            options.iter().chain(to).map(OsStr::new).chain([source.as_os_str(), part.path.as_os_str()]);
        let ended = self.long(args, target, progress, cancel).await?;
        if !ended.status.success() {
            return Err(ImageError::Failed { path: target.to_owned(), stderr: ended.stderr });
        }
        part.finish().await?;
        progress.send_replace(10_000);
        Ok(())
    }

    /// Runs a command that may take long, until it ends or is given up; an error is about `path`.
    pub(super) async fn long<'a>(
        &self,
        args: impl IntoIterator<Item = &'a OsStr>,
        path: &Path,
        progress: &CopyProgress,
        cancel: &CancellationToken,
    ) -> Result<Ended, ImageError> {
        let mut command = tool::command(self.path());
        command.args(args);
        self.long_command(command, path, progress, cancel).await
    }

    /// The same of a command that is more than its arguments.
    pub(super) async fn long_command(
        &self,
        mut command: tokio::process::Command,
        path: &Path,
        progress: &CopyProgress,
        cancel: &CancellationToken,
    ) -> Result<Ended, ImageError> {
        let mut child =
            command.spawn().map_err(|source| ImageError::Exec { program: self.path().to_owned(), source })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let work = async {
            let (_, words) = tokio::try_join!(follow(stdout, progress), collect(stderr))?;
            Ok((child.wait().await?, words))
        };
        let ended = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            ended = work => Some(ended),
        };
        let Some(ended) = ended else {
            // The writer must be gone before its file is removed.
            let _ = child.kill().await;
            return Err(ImageError::Cancelled);
        };
        let (status, stderr) =
            ended.map_err(|source: io::Error| ImageError::Io { path: path.to_owned(), source })?;
        Ok(Ended { status, stderr })
    }

    /// Copies a small image into a new qcow2 file, without progress.
    pub(crate) async fn convert(
        &self,
        source: &Path,
        format: DiskFormat,
        target: &Path,
        within: Duration,
    ) -> Result<(), ImageError> {
        let (progress, never) = (CopyProgress::new(0), CancellationToken::new());
        let copy = self.copy(source, format, target, &progress, &never);
        tokio::time::timeout(within, copy).await.unwrap_or(Err(ImageError::Hangs))
    }

    /// Grows an image that no machine uses. The same size is fine.
    ///
    /// # Errors
    /// [`ImageError::Shrinks`] when it is larger already; else why it could not be grown.
    pub async fn resize(&self, path: &Path, format: DiskFormat, size: Bytes) -> Result<(), ImageError> {
        let now = self.info(path).await?.virtual_size;
        if size <= now {
            return if size == now {
                Ok(())
            } else {
                Err(ImageError::Shrinks { path: path.to_owned(), now: now.0 })
            };
        }
        let size = size.0.to_string();
        let args = ["resize", "-q", "-f", format_name(format)];
        let all = args.iter().map(OsStr::new).chain([path.as_os_str(), size.as_ref()]);
        let finished = self.ended(tool::run(self.path(), all, PATIENCE).await)?;
        if finished.status.success() {
            Ok(())
        } else {
            Err(ImageError::Failed { path: path.to_owned(), stderr: finished.stderr })
        }
    }
}

/// How a long command ended.
pub(super) struct Ended {
    pub(super) status: std::process::ExitStatus,
    pub(super) stderr: String,
}

/// A file on its way to its name; removed when it is dropped before it got there.
pub(crate) struct Part {
    pub(crate) path: PathBuf,
    target: PathBuf,
    finished: bool,
}

impl Part {
    /// The part of `target`. One that an earlier, broken run left is replaced.
    pub(crate) fn beside(target: &Path) -> Result<Self, ImageError> {
        absolute(target)?;
        if target.symlink_metadata().is_ok() {
            return Err(ImageError::Exists { path: target.to_owned() });
        }
        let mut name = target.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(ImageError::Io { path, source }),
            _ => Ok(Self { path, target: target.to_owned(), finished: false }),
        }
    }

    /// Makes the part's bytes durable and gives it its name, unless somebody else took that meanwhile.
    pub(crate) async fn finish(mut self) -> Result<(), ImageError> {
        let (part, target) = (self.path.clone(), self.target.clone());
        let moved = tokio::task::spawn_blocking(move || {
            File::open(&part)?.sync_all()?;
            match renameat_with(CWD, &part, CWD, &target, RenameFlags::NOREPLACE) {
                // File systems without that flag: the small window is theirs.
                Err(rustix::io::Errno::INVAL) if target.symlink_metadata().is_err() => {
                    std::fs::rename(&part, &target)?;
                }
                other => other?,
            }
            match target.parent() {
                Some(parent) => File::open(parent)?.sync_all(),
                None => Ok(()),
            }
        });
        match moved.await.map_err(io::Error::from).flatten() {
            Ok(()) => {
                self.finished = true;
                Ok(())
            }
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
                Err(ImageError::Exists { path: self.target.clone() })
            }
            Err(source) => Err(ImageError::Io { path: self.target.clone(), source }),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.finished {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Reads `qemu-img`'s `    (12.34/100%)` lines, which end with a carriage return.
async fn follow(pipe: Option<impl AsyncRead + Unpin>, progress: &CopyProgress) -> io::Result<()> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    let (mut scratch, mut word) = ([0; 4096], Vec::new());
    loop {
        let count = pipe.read(&mut scratch).await?;
        if count == 0 {
            return Ok(());
        }
        for byte in &scratch[..count] {
            match byte {
                b'(' => word.clear(),
                b'/' => {
                    if let Some(done) = hundredths(&word) {
                        progress.send_if_modified(|now| {
                            done > *now && {
                                *now = done;
                                true
                            }
                        });
                    }
                    word.clear();
                }
                _ if word.len() < 16 => word.push(*byte),
                _ => {}
            }
        }
    }
}

/// `12.34` as 1234.
fn hundredths(word: &[u8]) -> Option<u32> {
    let (whole, part) = std::str::from_utf8(word).ok()?.trim().split_once('.')?;
    if part.len() != 2 {
        return None;
    }
    Some(whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(part.parse().ok()?)?.min(10_000))
}

async fn collect(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let Some(pipe) = pipe else { return Ok(String::new()) };
    let mut bytes = Vec::new();
    pipe.take(64 << 10).read_to_end(&mut bytes).await?;
    Ok(crate::failure::plain_text(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn progress_is_read_however_it_is_cut() {
        let progress = CopyProgress::new(0);
        follow(Some(&b"    (0.00/100%)\r    (12.34/100%)\r   (7.00/100%)\r   (99.9"[..]), &progress)
            .await
            .unwrap();
        assert_eq!(*progress.borrow(), 1234);
        follow(Some(&b"(((100.00/100%)\n"[..]), &progress).await.unwrap();
        assert_eq!(*progress.borrow(), 10_000);
    }
}
