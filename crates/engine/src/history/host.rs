//! The host's own numbers, from `/proc` (proc(5), and Documentation/accounting/psi.rst of the kernel).

use std::time::Instant;

use procfs::Current;
use voidvm_model::metrics::Metric;

use super::Reading;
use crate::stats::{self, CpuClock};

/// Bytes of a sector in `/proc/diskstats`, whatever the disk's own is.
const SECTOR: u64 = 512;

/// Counters as they were at the reading before.
#[derive(Debug, Default)]
pub(super) struct Clock {
    cpu: CpuClock,
    before: Option<(Instant, Counters)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    /// Read and written, of whole disks.
    disk: Option<(u64, u64)>,
    /// In and out, without loopback.
    network: Option<(u64, u64)>,
}

impl Clock {
    /// Reads the host; what cannot be known is left out.
    pub(super) fn read(&mut self) -> Reading {
        let mut reading = Reading::new();
        #[expect(clippy::cast_possible_truncation, reason = "a graph is no account")]
        let mut put =
            |metric: Metric, value: Option<f64>| reading.extend(value.map(|value| (metric, value as f32)));
        put(Metric::Cpu, self.cpu.read().map(|share| f64::from(share.0)));
        let memory = stats::memory();
        put(
            Metric::MemoryUsed,
            memory.map(|memory| float(memory.total.0.saturating_sub(memory.available.0))),
        );
        put(Metric::Load, procfs::LoadAverage::current().ok().map(|load| f64::from(load.one)));
        let share = |some: procfs::PressureRecord| f64::from(some.avg10);
        put(Metric::CpuPressure, procfs::CpuPressure::current().ok().map(|pressure| share(pressure.some)));
        put(
            Metric::MemoryPressure,
            procfs::MemoryPressure::current().ok().map(|pressure| share(pressure.some)),
        );
        put(Metric::IoPressure, procfs::IoPressure::current().ok().map(|pressure| share(pressure.some)));
        let (at, now) = (Instant::now(), Counters { disk: disks(), network: networks() });
        if let Some((then, before)) = self.before.replace((at, now)) {
            let seconds = at.duration_since(then).as_secs_f64();
            let rate = |new: Option<u64>, old: Option<u64>| {
                Some(float(new?.checked_sub(old?)?) / seconds).filter(|rate| rate.is_finite())
            };
            let (first, second) = (|pair: (u64, u64)| pair.0, |pair: (u64, u64)| pair.1);
            put(Metric::DiskRead, rate(now.disk.map(first), before.disk.map(first)));
            put(Metric::DiskWrite, rate(now.disk.map(second), before.disk.map(second)));
            put(Metric::NetworkIn, rate(now.network.map(first), before.network.map(first)));
            put(Metric::NetworkOut, rate(now.network.map(second), before.network.map(second)));
        }
        reading
    }
}

#[expect(clippy::cast_precision_loss, reason = "a graph is no account")]
const fn float(value: u64) -> f64 {
    value as f64
}

/// Whole disks with hardware behind them: their partitions, and what is made of them, would be counted twice.
fn disks() -> Option<(u64, u64)> {
    let all = procfs::diskstats().ok()?;
    let whole = all.iter().filter(|disk| {
        std::path::Path::new("/sys/block").join(disk.name.replace('/', "!")).join("device").exists()
    });
    Some(whole.fold((0, 0), |(read, written), disk| {
        (read + disk.sectors_read * SECTOR, written + disk.sectors_written * SECTOR)
    }))
}

fn networks() -> Option<(u64, u64)> {
    let all = procfs::net::InterfaceDeviceStatus::current().ok()?;
    let outside = all.0.values().filter(|nic| nic.name != "lo");
    Some(outside.fold((0, 0), |(into, out), nic| (into + nic.recv_bytes, out + nic.sent_bytes)))
}
