//! Encrypted images: qcow2 whose clusters are encrypted as LUKS does it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use voidvm_model::Bytes;

use super::make::Part;
use super::{ImageError, QemuImg, absolute};
use crate::secret::Key;
use crate::tool;

/// qemu-img times its own work to choose how often a key is hashed. Where the kernel counts time in ticks, a fast computer is
/// done within one, and qemu-img gives up; the next time the tick falls elsewhere.
const WITHIN_A_TICK: &str = "Unable to get accurate CPU usage";
/// Timing itself takes qemu-img a second or two of work, which a busy computer stretches.
const TIMED: Duration = Duration::from_secs(120);
/// How often it is tried: each fails about half the time there.
const ATTEMPTS: u32 = 32;

impl QemuImg {
    /// Makes an empty encrypted qcow2 image that looks `size` large to its guest. Without the key nothing in it can be read.
    ///
    /// # Errors
    /// As [`QemuImg::create_qcow2`].
    pub async fn create_luks(&self, path: &Path, size: Bytes, key: &Key) -> Result<(), ImageError> {
        let part = Part::beside(path)?;
        absolute(path)?;
        let io_error = |source| ImageError::Io { path: path.to_owned(), source };
        // The key is random: nothing is won by making it slow to try others, and each start would pay for it.
        let args = [
            "create",
            "-q",
            "-f",
            "qcow2",
            "--object",
            "secret,id=key,file=/dev/stdin",
            "-o",
            "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10",
        ];
        for attempt in 1.. {
            let child = tool::command(self.path())
                .args(args)
                .arg(&part.path)
                .arg(OsStr::new(&size.0.to_string()))
                .stdin(Stdio::from(key.in_memory().map_err(io_error)?))
                .spawn()
                .map_err(|source| ImageError::Exec { program: self.path().to_owned(), source })?;
            let finished = self.ended(tool::finish(child, TIMED).await)?;
            if finished.status.success() {
                break;
            }
            if attempt == ATTEMPTS || !finished.stderr.contains(WITHIN_A_TICK) {
                return Err(ImageError::Failed { path: path.to_owned(), stderr: finished.stderr });
            }
        }
        part.finish().await
    }
}
