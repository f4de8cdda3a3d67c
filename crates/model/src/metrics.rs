//! What is measured, and its history.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::ids::{PoolId, VmId};

/// What is measured of machines, of the host, and of pools. The wire form is also the key of the UI's words.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, TS,
)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// CPU time, as a share of all (virtual) processors. Machine, host.
    Cpu,
    /// Host memory resident in a machine's process. Machine.
    MemoryResident,
    /// Memory in use: by the guest's own account, or on the host. Machine, host.
    MemoryUsed,
    /// Read from disks. Machine, host.
    DiskRead,
    /// Written to disks. Machine, host.
    DiskWrite,
    /// Reads from disks. Machine.
    DiskReadOps,
    /// Writes to disks. Machine.
    DiskWriteOps,
    /// How long a read took, on average. Machine.
    DiskReadLatency,
    /// How long a write took, on average. Machine.
    DiskWriteLatency,
    /// What a machine's disks take on the host. Machine.
    DiskAllocated,
    /// Received. Machine, host.
    NetworkIn,
    /// Sent. Machine, host.
    NetworkOut,
    /// Load over one minute. Host.
    Load,
    /// Share of the time in which some task waited for a processor (PSI, 10 s). Host.
    CpuPressure,
    /// Share of the time in which some task waited for memory (PSI, 10 s). Host.
    MemoryPressure,
    /// Share of the time in which some task waited for a disk (PSI, 10 s). Host.
    IoPressure,
    /// What is free in a pool. Pool.
    SpaceFree,
}

/// What a metric's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum MetricUnit {
    /// 0 to 100.
    Percent,
    /// Bytes.
    Bytes,
    /// Bytes per second.
    BytesPerSecond,
    /// So many per second.
    PerSecond,
    /// Milliseconds.
    Milliseconds,
    /// A plain number.
    Number,
}

impl Metric {
    /// Every one.
    pub const ALL: [Self; 17] = [
        Self::Cpu,
        Self::MemoryResident,
        Self::MemoryUsed,
        Self::DiskRead,
        Self::DiskWrite,
        Self::DiskReadOps,
        Self::DiskWriteOps,
        Self::DiskReadLatency,
        Self::DiskWriteLatency,
        Self::DiskAllocated,
        Self::NetworkIn,
        Self::NetworkOut,
        Self::Load,
        Self::CpuPressure,
        Self::MemoryPressure,
        Self::IoPressure,
        Self::SpaceFree,
    ];

    /// The number it is stored under; never given to another.
    #[must_use]
    pub const fn key(self) -> u8 {
        match self {
            Self::Cpu => 1,
            Self::MemoryResident => 2,
            Self::MemoryUsed => 3,
            Self::DiskRead => 4,
            Self::DiskWrite => 5,
            Self::DiskReadOps => 6,
            Self::DiskWriteOps => 7,
            Self::DiskReadLatency => 8,
            Self::DiskWriteLatency => 9,
            Self::DiskAllocated => 10,
            Self::NetworkIn => 11,
            Self::NetworkOut => 12,
            Self::Load => 13,
            Self::CpuPressure => 14,
            Self::MemoryPressure => 15,
            Self::IoPressure => 16,
            Self::SpaceFree => 17,
        }
    }

    /// The wire form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::MemoryResident => "memory_resident",
            Self::MemoryUsed => "memory_used",
            Self::DiskRead => "disk_read",
            Self::DiskWrite => "disk_write",
            Self::DiskReadOps => "disk_read_ops",
            Self::DiskWriteOps => "disk_write_ops",
            Self::DiskReadLatency => "disk_read_latency",
            Self::DiskWriteLatency => "disk_write_latency",
            Self::DiskAllocated => "disk_allocated",
            Self::NetworkIn => "network_in",
            Self::NetworkOut => "network_out",
            Self::Load => "load",
            Self::CpuPressure => "cpu_pressure",
            Self::MemoryPressure => "memory_pressure",
            Self::IoPressure => "io_pressure",
            Self::SpaceFree => "space_free",
        }
    }

    /// What its numbers are.
    #[must_use]
    pub const fn unit(self) -> MetricUnit {
        match self {
            Self::Cpu | Self::CpuPressure | Self::MemoryPressure | Self::IoPressure => MetricUnit::Percent,
            Self::MemoryResident | Self::MemoryUsed | Self::DiskAllocated | Self::SpaceFree => {
                MetricUnit::Bytes
            }
            Self::DiskRead | Self::DiskWrite | Self::NetworkIn | Self::NetworkOut => {
                MetricUnit::BytesPerSecond
            }
            Self::DiskReadOps | Self::DiskWriteOps => MetricUnit::PerSecond,
            Self::DiskReadLatency | Self::DiskWriteLatency => MetricUnit::Milliseconds,
            Self::Load => MetricUnit::Number,
        }
    }
}

/// Whose values.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, TS,
)]
#[serde(rename_all = "snake_case", tag = "kind", content = "id")]
pub enum MetricSubject {
    /// A machine.
    Vm(VmId),
    /// This computer.
    Host,
    /// A pool.
    Pool(PoolId),
}

/// The most points of an answer.
pub const POINTS_MAX: u32 = 10_000;
/// The most subjects of a question.
pub const SUBJECTS_MAX: usize = 200;

/// A question about what was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MetricHistoryRequest {
    /// Whose values, 1 to 200.
    pub subjects: Vec<MetricSubject>,
    /// Which values; all that were measured without.
    #[serde(default)]
    #[ts(optional, as = "Option<Vec<Metric>>")]
    pub metrics: Vec<Metric>,
    /// The first instant.
    #[ts(type = "string")]
    pub from: Timestamp,
    /// The last one; now without.
    #[serde(default)]
    #[ts(optional, type = "string")]
    pub to: Option<Timestamp>,
    /// How many points are wanted at most, 1 to 10,000; 600 without. What was measured more finely is put together.
    #[serde(default)]
    #[ts(optional)]
    pub points: Option<u32>,
}

/// What was measured, a number per step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct MetricHistory {
    /// The first step's instant.
    #[ts(type = "string")]
    pub from: Timestamp,
    /// Seconds of a step.
    pub step: u32,
    /// How many steps each series has.
    pub points: u32,
    /// What there is; a subject of which a value was never measured has no series of it.
    pub series: Vec<MetricSeries>,
}

/// One value of one subject. A `null` is a gap: nothing was measured then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct MetricSeries {
    /// Whose value.
    pub subject: MetricSubject,
    /// Which.
    pub metric: Metric,
    /// What the numbers are.
    pub unit: MetricUnit,
    /// The mean of each step.
    pub mean: Vec<Option<f32>>,
    /// The highest of each step.
    pub peak: Vec<Option<f32>>,
}

/// What history takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct MetricStorage {
    /// Bytes it takes in the store.
    pub size: crate::units::Bytes,
    /// The most it may take: the oldest goes first.
    pub limit: crate::units::Bytes,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_metric_is_stored_under_its_own_number_and_named_as_on_the_wire() {
        let keys: BTreeSet<u8> = Metric::ALL.iter().map(|metric| metric.key()).collect();
        assert_eq!(keys.len(), Metric::ALL.len());
        for metric in Metric::ALL {
            assert_eq!(serde_json::to_value(metric).unwrap(), metric.as_str());
        }
    }
}
