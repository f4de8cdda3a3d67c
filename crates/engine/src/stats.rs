//! What the host has and how busy it is, from `/proc` and `statvfs`.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use procfs::{Current, CurrentSI};
use voidvm_model::system::HostStats;
use voidvm_model::{Bytes, MiB, Percent, VmView};

/// The host's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) total: Bytes,
    pub(crate) available: Bytes,
}

/// The host's memory; `None` where `/proc` does not say.
pub(crate) fn memory() -> Option<Memory> {
    let info = procfs::Meminfo::current().ok()?;
    Some(Memory {
        total: Bytes(info.mem_total),
        available: Bytes(info.mem_available.unwrap_or(info.mem_free)),
    })
}

/// Size and free space, for this user, of the file system that holds a path (or will: the nearest directory there is).
pub(crate) fn space(path: &Path) -> Option<(Bytes, Bytes)> {
    let there = path.ancestors().find(|path| path.exists())?;
    let stats = rustix::fs::statvfs(there).ok()?;
    let bytes = |blocks: u64| Bytes(blocks.saturating_mul(stats.f_frsize));
    Some((bytes(stats.f_blocks), bytes(stats.f_bavail)))
}

/// Logical processors.
pub(crate) fn processors() -> u16 {
    std::thread::available_parallelism().map_or(1, |count| u16::try_from(count.get()).unwrap_or(u16::MAX))
}

/// Busy and all ticks of all processors since boot, as they were at the reading before.
#[derive(Debug, Default)]
pub(crate) struct CpuClock(Mutex<Option<(u64, u64)>>);

impl CpuClock {
    /// CPU use since the reading before.
    pub(crate) fn read(&self) -> Option<Percent> {
        let total = procfs::KernelStats::current().ok()?.total;
        let idle = total.idle.saturating_add(total.iowait.unwrap_or(0));
        let busy = total
            .user
            .saturating_add(total.nice)
            .saturating_add(total.system)
            .saturating_add(total.irq.unwrap_or(0))
            .saturating_add(total.softirq.unwrap_or(0))
            .saturating_add(total.steal.unwrap_or(0));
        let now = (busy, busy.saturating_add(idle));
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(now)?;
        let all = now.1.checked_sub(before.1).filter(|all| *all > 0)?;
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a share of 100")]
        let share = (100.0 * now.0.saturating_sub(before.0) as f64 / all as f64).clamp(0.0, 100.0) as f32;
        Some(Percent(share))
    }
}

/// Reads the host.
pub(crate) fn read<'a>(
    clock: &CpuClock,
    data_dir: &Path,
    machines: impl Iterator<Item = &'a VmView>,
) -> HostStats {
    let memory = memory();
    let (disk_total, disk_free) = space(data_dir).unwrap_or_default();
    let mut stats = HostStats {
        at: Timestamp::now(),
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        cpu: clock.read(),
        cpus: processors(),
        load1: procfs::LoadAverage::current().map_or(0.0, |load| f64::from(load.one)),
        memory_total: memory.map(|memory| memory.total).unwrap_or_default(),
        memory_available: memory.map(|memory| memory.available).unwrap_or_default(),
        committed_cpus: 0,
        committed_memory: MiB(0),
        disk_total,
        disk_free,
        vms: std::collections::BTreeMap::new(),
    };
    for vm in machines {
        *stats.vms.entry(vm.state.as_str().to_owned()).or_default() += 1;
        if vm.state.is_live() {
            stats.committed_cpus += u32::from(vm.spec.cpus);
            stats.committed_memory.0 += vm.spec.memory.0;
        }
    }
    stats
}
