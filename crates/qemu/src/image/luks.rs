//! Encrypted images: qcow2 whose clusters are encrypted as LUKS does it.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use voidvm_model::Bytes;
use voidvm_model::system::ImageKind;

use super::make::{CopyProgress, Part};
use super::{ImageError, QemuImg, absolute, kind_name};
use crate::secret::Key;
use crate::tool;

/// qemu-img times its own work to choose how often a key is hashed. Where the kernel counts time in ticks, a fast computer is
/// done within one, and qemu-img gives up; the next time the tick falls elsewhere.
const WITHIN_A_TICK: &str = "Unable to get accurate CPU usage";
/// Timing itself takes qemu-img a second or two of work, which a busy computer stretches.
const TIMED: Duration = Duration::from_secs(120);
/// How often it is tried: each fails about half the time there.
const ATTEMPTS: u32 = 32;
/// The key, read from what is inherited in the place of standard input.
const SECRET: &str = "secret,id=key,file=/dev/stdin";

impl QemuImg {
    /// Makes an empty encrypted qcow2 image that looks `size` large to its guest. Without the key nothing in it can be read.
    ///
    /// # Errors
    /// As [`QemuImg::create_qcow2`].
    pub async fn create_luks(&self, path: &Path, size: Bytes, key: &Key) -> Result<(), ImageError> {
        let part = Part::beside(path)?;
        self.create_locked(&part.path, size, key).await?;
        part.finish().await
    }

    /// Copies an image of any kind into a new encrypted qcow2 file that looks `size` large to its guest, which must not be less
    /// than it was. Otherwise as [`QemuImg::copy`].
    ///
    /// # Errors
    /// As [`QemuImg::copy`].
    pub async fn copy_to_luks(
        &self,
        (source, kind): (&Path, ImageKind),
        (target, size): (&Path, Bytes),
        key: &Key,
        progress: &CopyProgress,
        cancel: &CancellationToken,
    ) -> Result<(), ImageError> {
        absolute(source)?;
        let part = Part::beside(target)?;
        self.create_locked(&part.path, size, key).await?;
        // A comma in a name is written twice in options.
        let name =
            part.path.to_str().map(|name| name.replace(',', ",,")).ok_or_else(|| ImageError::Invalid {
                path: target.to_owned(),
                reason: "The path is no text.".to_owned(),
                hint: "Choose another name.",
            })?;
        let mut command = tool::command(self.path());
        command
            .args(["convert", "-p", "-n", "--target-is-zero", "-f", kind_name(kind), "--object", SECRET])
            .arg("--target-image-opts")
            .arg(source)
            .arg(format!("driver=qcow2,encrypt.key-secret=key,file.driver=file,file.filename={name}"))
            .stdin(Stdio::from(in_memory(key, target)?));
        let ended = self.long_command(command, target, progress, cancel).await?;
        if !ended.status.success() {
            return Err(ImageError::Failed { path: target.to_owned(), stderr: ended.stderr });
        }
        part.finish().await?;
        progress.send_replace(10_000);
        Ok(())
    }

    async fn create_locked(&self, path: &Path, size: Bytes, key: &Key) -> Result<(), ImageError> {
        absolute(path)?;
        // The key is random: nothing is won by making it slow to try others, and each start would pay for it.
        let args = [
            "create",
            "-q",
            "-f",
            "qcow2",
            "--object",
            SECRET,
            "-o",
            "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10",
        ];
        for attempt in 1.. {
            let child = tool::command(self.path())
                .args(args)
                .arg(path)
                .arg(OsStr::new(&size.0.to_string()))
                .stdin(Stdio::from(in_memory(key, path)?))
                .spawn()
                .map_err(|source| ImageError::Exec { program: self.path().to_owned(), source })?;
            let finished = self.ended(tool::finish(child, TIMED).await)?;
            if finished.status.success() {
                return Ok(());
            }
            if attempt == ATTEMPTS || !finished.stderr.contains(WITHIN_A_TICK) {
                return Err(ImageError::Failed { path: path.to_owned(), stderr: finished.stderr });
            }
        }
        Ok(())
    }
}

fn in_memory(key: &Key, path: &Path) -> Result<OwnedFd, ImageError> {
    key.in_memory().map_err(|source| ImageError::Io { path: path.to_owned(), source })
}
