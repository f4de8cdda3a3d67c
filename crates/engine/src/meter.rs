//! Readings of one live machine: once a second while somebody asks, rarely otherwise, the newest 300 kept.
//!
//! What cannot be known is `None`, never a guess: the first reading has no rates, a guest without a balloon driver no memory, one
//! without an agent no network.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;
use voidvm_model::vm::VmSample;
use voidvm_model::{Bytes, Percent};

use crate::config::Timing;
use crate::guest;
use crate::run::Run;

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
    /// Read and written.
    disk: Option<(u64, u64)>,
    /// In and out of the guest.
    network: Option<(u64, u64)>,
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
pub(crate) async fn read_on(run: Arc<Run>, timing: Timing) {
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
        run.meter.keep(sample(&run, before.as_ref(), &now, memory));
        before = Some(now);
    }
}

async fn count(run: &Run) -> Counters {
    let disk = match run.monitor() {
        Some(qmp) => qmp.disk_counters().await.ok().map(|disks| {
            disks.iter().fold((0_u64, 0_u64), |(read, written), disk| {
                (read.saturating_add(disk.read.0), written.saturating_add(disk.written.0))
            })
        }),
        None => None,
    };
    let network = guest::traffic(run).await;
    Counters { at: Instant::now(), cpu: run.process.cpu_time(), disk, network }
}

fn sample(run: &Run, before: Option<&Counters>, now: &Counters, memory_used: Option<Bytes>) -> VmSample {
    let elapsed = before.map(|before| now.at.duration_since(before.at).as_secs_f64()).filter(|s| *s > 0.0);
    let rate = |old: Option<u64>, new: Option<u64>| {
        let grown = new?.checked_sub(old?)?;
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate for people; both operands are positive"
        )]
        let rate = (grown as f64 / elapsed?) as u64;
        Some(Bytes(rate))
    };
    let pair = |of: fn(&Counters) -> Option<(u64, u64)>, pick: fn((u64, u64)) -> u64| {
        rate(before.and_then(of).map(pick), of(now).map(pick))
    };
    VmSample {
        at: Timestamp::now(),
        cpu: cpu(run.record().spec.cpus, before, now, elapsed),
        memory_resident: run.process.resident(),
        memory_used,
        disk_read: pair(|counters| counters.disk, |(read, _)| read),
        disk_write: pair(|counters| counters.disk, |(_, written)| written),
        network_in: pair(|counters| counters.network, |(into, _)| into),
        network_out: pair(|counters| counters.network, |(_, out)| out),
    }
}

fn cpu(cpus: u16, before: Option<&Counters>, now: &Counters, elapsed: Option<f64>) -> Option<Percent> {
    let used = now.cpu?.checked_sub(before?.cpu?)?.as_secs_f64();
    #[expect(clippy::cast_possible_truncation, reason = "a share of 100")]
    let share = (100.0 * used / elapsed? / f64::from(cpus.max(1))).clamp(0.0, 100.0) as f32;
    Some(Percent(share))
}
