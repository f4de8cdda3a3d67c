//! The runtime directory of one machine: sockets, record, QEMU's stderr. Its path is short, since a socket's path ends at
//! 107 bytes, and only the user can enter it.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use voidvm_model::{DeviceId, VmId};

/// The most of QEMU's stderr that is shown or stored.
const STDERR_MAX: u64 = 64 << 10;

/// Where the run of one machine keeps its sockets and files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// The directory of machine `id` below the app's runtime directory; nothing is made yet.
    #[must_use]
    pub fn new(runtime: &Path, id: VmId) -> Self {
        Self(runtime.join(id.0.simple().to_string()))
    }

    /// Makes the directory, for this user alone.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)
    }

    /// Makes the directory and removes what an earlier run left in it, so that no old socket answers for a new process.
    /// Only for a machine whose process is known to be gone.
    ///
    /// # Errors
    /// What the file system says.
    pub fn prepare(&self) -> io::Result<()> {
        self.create()?;
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                continue;
            }
            match fs::remove_file(entry.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes the directory and all in it. It is fine if it is not there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The monitor's socket.
    #[must_use]
    pub fn qmp(&self) -> PathBuf {
        self.0.join("qmp.sock")
    }

    /// The serial console's socket.
    #[must_use]
    pub fn serial(&self) -> PathBuf {
        self.0.join("serial.sock")
    }

    /// The guest agent's socket.
    #[must_use]
    pub fn agent(&self) -> PathBuf {
        self.0.join("qga.sock")
    }

    /// swtpm's control socket.
    #[must_use]
    pub fn tpm(&self) -> PathBuf {
        self.0.join("tpm.sock")
    }

    /// virtiofsd's socket for a shared folder.
    #[must_use]
    pub fn share(&self, id: &DeviceId) -> PathBuf {
        self.0.join(format!("share-{id}.sock"))
    }

    /// The socket of a channel.
    #[must_use]
    pub fn channel(&self, id: &DeviceId) -> PathBuf {
        self.0.join(format!("channel-{id}.sock"))
    }

    /// The programs beside QEMU, written down.
    #[must_use]
    pub fn companions(&self) -> PathBuf {
        self.0.join("companions.json")
    }

    /// The [`RunRecord`](super::RunRecord).
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.0.join("run.json")
    }

    /// What QEMU writes to its stderr.
    #[must_use]
    pub fn stderr(&self) -> PathBuf {
        self.0.join("stderr")
    }

    /// The end of what QEMU wrote to its stderr, 64 KiB at most, without characters a terminal would obey. Empty where there
    /// is none.
    #[must_use]
    pub fn stderr_tail(&self) -> String {
        read_tail(&self.stderr(), STDERR_MAX).unwrap_or_default()
    }
}

/// The end of a file of a program's words, `most` bytes of it.
pub(crate) fn read_tail(path: &Path, most: u64) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(crate::failure::plain_text(&bytes))
}
