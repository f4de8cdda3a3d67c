//! Questions whose answers `qapi` types after a newer QEMU than the oldest one supported: only the fields that are needed.

use std::time::Duration;

use qapi::qmp;
use serde::Deserialize;
use serde_json::{Value, json};
use voidvm_model::Bytes;

use super::{COMMAND_TIMEOUT, Qmp, QmpError};
use crate::args::BALLOON_PATH;

/// What one drive has read and written since the process started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskCounters {
    /// The drive's device id.
    pub device: String,
    /// Read by the guest.
    pub read: Bytes,
    /// Written by the guest.
    pub written: Bytes,
    /// How many reads those were.
    pub reads: u64,
    /// How many writes.
    pub writes: u64,
    /// How long all reads took.
    pub read_time: Duration,
    /// How long all writes took.
    pub write_time: Duration,
}

/// What the guest says of its memory; `None` for what its balloon driver does not report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestMemory {
    /// All there is for the guest's kernel.
    pub total: Option<Bytes>,
    /// What programs could still get.
    pub available: Option<Bytes>,
    /// Not used for anything.
    pub free: Option<Bytes>,
}

impl GuestMemory {
    /// What cannot be had any more, where the guest says enough to know.
    #[must_use]
    pub fn used(&self) -> Option<Bytes> {
        Some(self.total?.saturating_sub(self.available.or(self.free)?))
    }
}

#[derive(Deserialize)]
struct BlockStats {
    #[serde(default)]
    qdev: String,
    stats: BlockCounters,
}

#[derive(Deserialize)]
struct BlockCounters {
    rd_bytes: u64,
    wr_bytes: u64,
    #[serde(default)]
    rd_operations: u64,
    #[serde(default)]
    wr_operations: u64,
    #[serde(default)]
    rd_total_time_ns: u64,
    #[serde(default)]
    wr_total_time_ns: u64,
}

impl Qmp {
    /// What each drive has read and written.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub async fn disk_counters(&self) -> Result<Vec<DiskCounters>, QmpError> {
        let stats: Vec<BlockStats> = self.execute_as(&qmp::query_blockstats { query_nodes: None }).await?;
        Ok(stats
            .into_iter()
            .map(|BlockStats { qdev, stats }| DiskCounters {
                device: device_id(&qdev).to_owned(),
                read: Bytes(stats.rd_bytes),
                written: Bytes(stats.wr_bytes),
                reads: stats.rd_operations,
                writes: stats.wr_operations,
                read_time: Duration::from_nanos(stats.rd_total_time_ns),
                write_time: Duration::from_nanos(stats.wr_total_time_ns),
            })
            .collect())
    }

    /// What the guest's balloon driver reported last; all `None` before it has.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub async fn guest_memory(&self) -> Result<GuestMemory, QmpError> {
        let arguments = match json!({"path": BALLOON_PATH, "property": "guest-stats"}) {
            Value::Object(arguments) => Some(arguments),
            _ => None,
        };
        let answer = self.execute_raw("qom-get", arguments, COMMAND_TIMEOUT).await?;
        // QEMU says "not known" with the largest number there is, signed or not.
        let read = |name: &str| {
            let value = answer.get("stats")?.get(name)?.as_u64()?;
            (i64::try_from(value).is_ok()).then_some(Bytes(value))
        };
        Ok(GuestMemory {
            total: read("stat-total-memory"),
            available: read("stat-available-memory"),
            free: read("stat-free-memory"),
        })
    }

    /// The guest's screen as a PNG file, written by QEMU to `file`, which must not have been given to anybody.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub async fn screendump(&self, file: &str, within: Duration) -> Result<(), QmpError> {
        let Value::Object(arguments) = json!({"filename": file, "format": "png"}) else { return Ok(()) };
        self.execute_raw("screendump", Some(arguments), within).await.map(drop)
    }
}

/// `query-blockstats` names a drive by its id, or by its place in QEMU's tree: `/machine/peripheral/disk0/virtio-backend`.
fn device_id(qdev: &str) -> &str {
    qdev.strip_prefix("/machine/peripheral/").and_then(|rest| rest.split('/').next()).unwrap_or(qdev)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drives_are_named_by_their_id() {
        assert_eq!(device_id("/machine/peripheral/disk0/virtio-backend"), "disk0");
        assert_eq!(device_id("cd0"), "cd0");
    }
}
