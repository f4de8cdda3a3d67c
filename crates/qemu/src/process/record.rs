//! `run.json`: what is needed to know a QEMU process again after the app ended, however it ended.
//!
//! Written with a rename, so a reader sees a whole record or none. It is not synced to the disk: it means nothing after the
//! computer restarts, which is what the boot id is for.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use voidvm_model::vm::ActiveAccel;
use voidvm_model::{DeviceId, ErrorBody, ErrorCode, MachineSpec, VmId};

/// The longest record that is read; a machine with all its devices has some 20 kB.
const RECORD_MAX: usize = 1 << 20;

/// One run of one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    /// The machine; QEMU's `-uuid`.
    pub uuid: VmId,
    /// QEMU's process id.
    pub pid: u32,
    /// When the process started, in clock ticks since boot: with the pid, unique within a boot.
    pub start_ticks: u64,
    /// The kernel's id of this boot.
    pub boot_id: String,
    /// When the process was started, by the host's clock.
    pub started_at: Timestamp,
    /// QEMU's version, `7.2.22`.
    pub qemu_version: String,
    /// The acceleration it was started with.
    pub accel: ActiveAccel,
    /// The program that was run.
    pub binary: PathBuf,
    /// Its arguments.
    pub argv: Vec<String>,
    /// The hardware it has: as it was launched, and what was plugged in or out since. Another one in the store waits for the
    /// next start.
    pub spec: MachineSpec,
    /// Arguments that would make the machine as it is now, where that is no longer what [`RunRecord::argv`] says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<Vec<String>>,
    /// Whether what the guest writes is thrown away at its end.
    #[serde(default)]
    pub disposable: bool,
    /// The block node each disk's guest writes to, of disks of which a snapshot was taken in this run; of others it has the
    /// disk's id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub roots: BTreeMap<DeviceId, String>,
    /// The file behind each node that was frozen in this run: QEMU knows it by the name it was opened with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub layers: BTreeMap<String, PathBuf>,
}

impl RunRecord {
    /// The block node a disk's guest writes to.
    #[must_use]
    pub fn root<'a>(&'a self, disk: &'a DeviceId) -> &'a str {
        self.roots.get(disk).map_or(disk.as_str(), String::as_str)
    }
}

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The record.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// It is no record.
    #[error("{path} is not a run record: {reason}")]
    Invalid {
        /// The record.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
}

impl RecordError {
    /// The error as everybody is shown it.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        match self {
            Self::Io { source, path } => crate::failure::io_body(source, path),
            Self::Invalid { .. } => {
                ErrorBody::new(ErrorCode::Internal, "The record of the machine's process cannot be read.")
                    .with_detail("reason", self.to_string())
            }
        }
    }
}

impl RunRecord {
    /// Reads a record's text; total and bounded.
    ///
    /// # Errors
    /// Why it is no record.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > RECORD_MAX {
            return Err(format!("{} bytes are too many", bytes.len()));
        }
        let record: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if record.pid == 0 || i32::try_from(record.pid).is_err() {
            return Err(format!("{} is no process id", record.pid));
        }
        Ok(record)
    }

    /// Reads the record at `path`; `None` where there is no file.
    ///
    /// # Errors
    /// [`RecordError`]: the file is there and cannot be used. The process may live: see [`scan`](super::scan).
    pub fn read(path: &Path) -> Result<Option<Self>, RecordError> {
        let io_error = |source| RecordError::Io { path: path.to_owned(), source };
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(error)),
        };
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, RECORD_MAX as u64 + 1), &mut bytes)
            .map_err(io_error)?;
        Self::decode(&bytes)
            .map(Some)
            .map_err(|reason| RecordError::Invalid { path: path.to_owned(), reason })
    }

    /// Writes the record beside `path` and puts it there in one step.
    ///
    /// # Errors
    /// [`RecordError::Io`]; an older record is then still there.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        let io_error = |source| RecordError::Io { path: path.to_owned(), source };
        let beside = path.with_extension("json.part");
        let bytes = serde_json::to_vec(self).map_err(|error| io_error(error.into()))?;
        let write = || {
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&beside)?;
            file.write_all(&bytes)?;
            std::fs::rename(&beside, path)
        };
        write().map_err(io_error)
    }
}

/// The kernel's id of this boot.
///
/// # Errors
/// Without `/proc`, which voidVM cannot do without.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
