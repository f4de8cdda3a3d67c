//! Readings of one live machine: once a second while somebody asks, rarely otherwise, the newest 300 kept.
//!
//! What cannot be known is `None`, never a guess: the first reading has no rates, a guest without a balloon driver no memory, one
//! without an agent no network.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;
use voidvm_model::metrics::{Metric, MetricSubject};
use voidvm_model::vm::VmSample;
use voidvm_model::{Bytes, Percent};

use crate::guest;
use crate::history::Reading;
use crate::run::Run;
use crate::shared::Shared;

/// Readings kept.
const KEPT: usize = 300;
/// A machine somebody asked for within this is looked at.
const WATCHED_FOR: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct Meter {
    inner: Mutex<Inner>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    samples: VecDeque<VmSample>,
    asked: Option<Instant>,
}

/// Counters as they were at one instant; rates come from two of them.
#[derive(Clone, Copy, Debug)]
struct Counters {
    at: Instant,
    cpu: Option<Duration>,
    disk: Option<Disks>,
    /// In and out of the guest.
    network: Option<(u64, u64)>,
}

/// What all disks of a machine have done.
#[derive(Clone, Copy, Debug, Default)]
struct Disks {
    read: u64,
    written: u64,
    reads: u64,
    writes: u64,
    read_time: Duration,
    write_time: Duration,
}

impl Meter {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The readings after an instant, oldest first. Asking keeps the machine read once a second.
    pub(crate) fn read(&self, after: Option<Timestamp>) -> Vec<VmSample> {
        let mut inner = self.inner();
        let slept = inner.asked.is_none_or(|asked| asked.elapsed() >= WATCHED_FOR);
        inner.asked = Some(Instant::now());
        if slept {
            self.wake.notify_one();
        }
        inner.samples.iter().filter(|sample| after.is_none_or(|after| sample.at > after)).copied().collect()
    }

    fn is_watched(&self) -> bool {
        self.inner().asked.is_some_and(|asked| asked.elapsed() < WATCHED_FOR)
    }

    fn keep(&self, sample: VmSample) {
        let mut inner = self.inner();
        if inner.samples.len() == KEPT {
            inner.samples.pop_front();
        }
        inner.samples.push_back(sample);
    }
}

/// Reads on until it is dropped with the run.
pub(crate) async fn read_on(run: Arc<Run>, shared: Weak<Shared>) {
    let Some(timing) = shared.upgrade().map(|shared| shared.config.timing) else { return };
    let mut before: Option<Counters> = None;
    loop {
        let watched = run.meter.is_watched();
        let pause = if watched { timing.sample_watched } else { timing.sample_idle };
        let woken = tokio::time::timeout(pause, run.meter.wake.notified()).await.is_ok();
        if woken && before.is_none_or(|before| before.at.elapsed() > 2 * timing.sample_watched) {
            // Rates over a long sleep would say little about now: begin anew, and answer soon.
            before = Some(count(&run).await);
            tokio::time::sleep(timing.sample_watched / 4).await;
        }
        let now = count(&run).await;
        let memory = match run.monitor() {
            Some(qmp) => qmp.guest_memory().await.ok().and_then(|memory| memory.used()),
            None => None,
        };
        let sample = sample(&run, before.as_ref(), &now, memory);
        run.meter.keep(sample);
        before = Some(now);
        let Some(shared) = shared.upgrade() else { return };
        shared.history.take(MetricSubject::Vm(run.record().uuid), sample.at, reading(&run, &sample));
    }
}

async fn count(run: &Run) -> Counters {
    let disk = match run.monitor() {
        Some(qmp) => qmp.disk_counters().await.ok().map(|disks| {
            disks.iter().fold(Disks::default(), |all, disk| Disks {
                read: all.read.saturating_add(disk.read.0),
                written: all.written.saturating_add(disk.written.0),
                reads: all.reads.saturating_add(disk.reads),
                writes: all.writes.saturating_add(disk.writes),
                read_time: all.read_time.saturating_add(disk.read_time),
                write_time: all.write_time.saturating_add(disk.write_time),
            })
        }),
        None => None,
    };
    let network = guest::traffic(run).await;
    Counters { at: Instant::now(), cpu: run.process.cpu_time(), disk, network }
}

fn sample(run: &Run, before: Option<&Counters>, now: &Counters, memory_used: Option<Bytes>) -> VmSample {
    let elapsed = before.map(|before| now.at.duration_since(before.at).as_secs_f64()).filter(|s| *s > 0.0);
    let grown = |of: fn(&Counters) -> Option<u64>| of(now)?.checked_sub(before.and_then(of)?);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate for people; both operands are positive"
    )]
    let rate = |of: fn(&Counters) -> Option<u64>| Some(Bytes((grown(of)? as f64 / elapsed?) as u64));
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a rate for people")]
    let often = |of: fn(&Counters) -> Option<u64>| Some((grown(of)? as f64 / elapsed?) as f32);
    let latency = |count: fn(&Counters) -> Option<u64>, time: fn(&Counters) -> Option<Duration>| {
        let count = u32::try_from(grown(count)?).ok().filter(|count| *count > 0)?;
        let time = time(now)?.checked_sub(before.and_then(time)?)?;
        Some(time.as_secs_f32() * 1000.0 / count as f32)
    };
    VmSample {
        at: Timestamp::now(),
        cpu: cpu(run.record().spec.cpus, before, now, elapsed),
        memory_resident: run.process.resident(),
        memory_used,
        disk_read: rate(|counters| Some(counters.disk?.read)),
        disk_write: rate(|counters| Some(counters.disk?.written)),
        disk_read_ops: often(|counters| Some(counters.disk?.reads)),
        disk_write_ops: often(|counters| Some(counters.disk?.writes)),
        disk_read_latency: latency(
            |counters| Some(counters.disk?.reads),
            |counters| Some(counters.disk?.read_time),
        ),
        disk_write_latency: latency(
            |counters| Some(counters.disk?.writes),
            |counters| Some(counters.disk?.write_time),
        ),
        network_in: rate(|counters| Some(counters.network?.0)),
        network_out: rate(|counters| Some(counters.network?.1)),
    }
}

/// A sample as history keeps it, with what the machine's disks take.
fn reading(run: &Run, sample: &VmSample) -> Reading {
    use std::os::unix::fs::MetadataExt as _;
    let disks = &run.record().spec.disks;
    let allocated =
        disks.iter().filter_map(|disk| std::fs::metadata(&disk.file).ok()).map(|file| file.blocks() * 512);
    #[expect(clippy::cast_precision_loss, reason = "a graph is no account")]
    let bytes = |bytes: Option<Bytes>| bytes.map(|bytes| bytes.0 as f32);
    [
        (Metric::Cpu, sample.cpu.map(|share| share.0)),
        (Metric::MemoryResident, bytes(sample.memory_resident)),
        (Metric::MemoryUsed, bytes(sample.memory_used)),
        (Metric::DiskRead, bytes(sample.disk_read)),
        (Metric::DiskWrite, bytes(sample.disk_write)),
        (Metric::DiskReadOps, sample.disk_read_ops),
        (Metric::DiskWriteOps, sample.disk_write_ops),
        (Metric::DiskReadLatency, sample.disk_read_latency),
        (Metric::DiskWriteLatency, sample.disk_write_latency),
        (Metric::DiskAllocated, bytes(Some(Bytes(allocated.sum())))),
        (Metric::NetworkIn, bytes(sample.network_in)),
        (Metric::NetworkOut, bytes(sample.network_out)),
    ]
    .into_iter()
    .filter_map(|(metric, value)| Some((metric, value?)))
    .collect()
}

fn cpu(cpus: u16, before: Option<&Counters>, now: &Counters, elapsed: Option<f64>) -> Option<Percent> {
    let used = now.cpu?.checked_sub(before?.cpu?)?.as_secs_f64();
    #[expect(clippy::cast_possible_truncation, reason = "a share of 100")]
    let share = (100.0 * used / elapsed? / f64::from(cpus.max(1))).clamp(0.0, 100.0) as f32;
    Some(Percent(share))
}
