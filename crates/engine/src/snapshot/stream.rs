//! The memory of a running machine: written to a file by live migration while the guest runs on, with the disks put on at the
//! instant the guest is held for the rest.
//!
//! ```text
//! migrate ─▶ the guest runs, what it changes is written again ─▶ pre-switchover: held ─▶ disks switched ─▶ migrate-continue
//!    │                                                                    ─▶ completed ─▶ cont
//!    └─ given up, or failed: the guest has never noticed
//! ```
//! A guest that changes its memory faster than the disk takes it is held for longer, after some time.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;
use voidvm_model::operation::Progress;
use voidvm_model::snapshot::Consistency;
use voidvm_model::{ErrorBody, ErrorCode};
use voidvm_qemu::qmp::{COMMAND_TIMEOUT, Qmp};

use super::job::{Job, blocking, given_up};
use super::switch::{self, Switch, call};
use super::take::Held;
use super::{kept, packets};
use crate::ops::files;
use crate::run::{self, GuestStatus, Run};
use crate::step::step;
use crate::supervisor::lend::Loan;
use crate::suspend;

/// The descriptor's name in the monitor.
const DESCRIPTOR: &str = "vv.snapshot";
/// Between two questions how far it is; QEMU's events come sooner.
const ASK: Duration = Duration::from_millis(200);
/// While the guest is held.
const ASK_OFTEN: Duration = Duration::from_millis(1);
/// How long the rest of the memory may hold the guest, in milliseconds: at first, and when it has not got small enough after
/// so long.
const PATIENCE: [(Duration, u32); 4] = [
    (Duration::ZERO, 5),
    (Duration::from_secs(3), 15),
    (Duration::from_secs(20), 300),
    (Duration::from_secs(60), 5000),
];
/// Bytes a second of a stream that is not to reach its end. QEMU counts in tenths of a second, and nothing means no limit.
const NEXT_TO_NOTHING: u64 = 1000;
/// A disk that takes nothing for so long has failed.
const STALLED: Duration = Duration::from_secs(60);

/// Sets what voidVM's snapshots want of a migration, or takes it back, for those who want something else.
async fn pausing(qmp: &Qmp, on: bool) -> Result<(), ErrorBody> {
    let capabilities = json!([
        {"capability": "events", "state": true},
        {"capability": "pause-before-switchover", "state": on},
    ]);
    call(qmp, "migrate-set-capabilities", json!({"capabilities": capabilities})).await.map(drop)
}

/// How far memory is on its way.
pub(super) struct Going {
    status: String,
    pub(super) progress: Progress,
    reason: Option<String>,
}

impl Going {
    /// Whether the guest is held for the rest of it.
    pub(super) fn is_held(&self) -> bool {
        self.status == "pre-switchover"
    }

    /// What is left, in bytes.
    pub(super) const fn left(&self) -> u64 {
        self.progress.total.saturating_sub(self.progress.done)
    }

    /// Whether QEMU has begun to count.
    pub(super) const fn is_known(&self) -> bool {
        self.progress.total > 0
    }
}

async fn ask(qmp: &Qmp) -> Result<Going, ErrorBody> {
    let answer = call(qmp, "query-migrate", json!({})).await?;
    let number = |name: &str| answer.get("ram").and_then(|ram| ram.get(name)?.as_u64()).unwrap_or(0);
    let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
    let total = number("total");
    Ok(Going {
        status: text("status").unwrap_or_default(),
        progress: Progress { done: total.saturating_sub(number("remaining")), total },
        reason: text("error-desc"),
    })
}

fn failed(reason: Option<String>) -> ErrorBody {
    let reason = reason.unwrap_or_else(|| "QEMU does not say why".to_owned());
    ErrorBody::new(ErrorCode::QemuFailed, format!("The guest's memory could not be kept: {reason}."))
        .with_hint("Make room on the disk, or take the snapshot without memory.")
}

pub(super) fn stalled() -> ErrorBody {
    failed(Some("the disk takes no more of it".to_owned()))
}

/// Takes memory and disks of a machine with a process.
pub(super) async fn take(
    job: &Job,
    loan: &Loan,
    run: &Arc<Run>,
    dir: &Path,
    switch: Switch,
) -> Result<Held, ErrorBody> {
    let mut stream = Stream::open(run, dir, switch).await?;
    let written = async {
        stream.begin().await?;
        tokio::select! {
            biased;
            () = job.cancel.cancelled() => return Err(given_up()),
            () = loan.recall.cancelled() => return Err(given_up()),
            held = until_held(job, run, &stream.qmp) => held?,
        }
        // The guest is held from here on: nothing that is not needed now.
        job.seal()?;
        stream.finish().await
    };
    let written = written.await;
    let goes_on = stream.let_go(written.is_ok()).await;
    stream.switch.settle().await?;
    written?;
    goes_on?;
    stream.kept().await
}

/// Memory on its way into a file, with the overlays that wait for its end.
pub(super) struct Stream {
    pub(super) run: Arc<Run>,
    pub(super) switch: Switch,
    /// Whether the guest ran.
    pub(super) running: bool,
    qmp: Qmp,
    file: File,
    memory: PathBuf,
}

impl Stream {
    /// Makes the file; the overlays are taken away again when that cannot be.
    ///
    /// # Errors
    /// No room, or what QEMU or the file system says.
    pub(super) async fn open(run: &Arc<Run>, dir: &Path, switch: Switch) -> Result<Self, ErrorBody> {
        let memory = kept::memory(dir);
        let ready = async {
            let qmp = run.qmp()?;
            suspend::check_space(dir, &run.record().spec, run.process.resident())?;
            let file = File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&memory)
                .map_err(|error| files::io_error(&memory, &error))?;
            let status = run::status(&qmp, COMMAND_TIMEOUT).await.map_err(|error| error.body())?;
            Ok((qmp, file, status == GuestStatus::Running))
        };
        match ready.await {
            Ok((qmp, file, running)) => Ok(Self { run: Arc::clone(run), switch, running, qmp, file, memory }),
            Err(error) => {
                drop(switch.settle().await);
                Err(error)
            }
        }
    }

    /// Has QEMU begin to write; the guest runs on.
    ///
    /// # Errors
    /// What QEMU says.
    pub(super) async fn begin(&self) -> Result<(), ErrorBody> {
        let qmp = &self.qmp;
        packets::wait(&self.run, qmp).await;
        pausing(qmp, true).await?;
        self.pace(Pace::Free).await?;
        let getfd = qapi::qmp::getfd { fdname: DESCRIPTOR.to_owned() };
        qmp.execute_with_fd(&getfd, self.file.as_fd()).await.map_err(|error| error.body())?;
        call(qmp, "migrate", json!({"uri": format!("fd:{DESCRIPTOR}")})).await?;
        step("take: memory on its way");
        Ok(())
    }

    /// How fast QEMU writes from now on.
    ///
    /// # Errors
    /// What QEMU says.
    pub(super) async fn pace(&self, pace: Pace) -> Result<(), ErrorBody> {
        let bandwidth: u64 = match pace {
            Pace::Free => 1 << 42,
            Pace::Braked => NEXT_TO_NOTHING,
        };
        let parameters = json!({"max-bandwidth": bandwidth, "downtime-limit": PATIENCE[0].1});
        call(&self.qmp, "migrate-set-parameters", parameters).await.map(drop)
    }

    /// How far it is.
    ///
    /// # Errors
    /// When it has failed.
    pub(super) async fn going(&self) -> Result<Going, ErrorBody> {
        let going = ask(&self.qmp).await?;
        match going.status.as_str() {
            "failed" | "cancelled" | "completed" => Err(failed(going.reason)),
            _ => Ok(going),
        }
    }

    /// Waits until the guest is held for the rest; of one that does not run, until the rest is written.
    ///
    /// # Errors
    /// When it has failed, or the disk takes nothing.
    pub(super) async fn until_held(&self) -> Result<(), ErrorBody> {
        let mut last = (0, Instant::now());
        let mut news = self.run.news();
        loop {
            news.mark_unchanged();
            let going = self.going().await?;
            if going.is_held() {
                return Ok(());
            }
            if going.progress.done != last.0 {
                last = (going.progress.done, Instant::now());
            } else if last.1.elapsed() > STALLED {
                return Err(stalled());
            }
            drop(tokio::time::timeout(ASK_OFTEN, news.changed()).await);
        }
    }

    /// The guest is held: switches the disks, and writes what is left.
    ///
    /// # Errors
    /// What QEMU or the file system says.
    pub(super) async fn finish(&mut self) -> Result<(), ErrorBody> {
        self.switch.turn().await?;
        call(&self.qmp, "migrate-continue", json!({"state": "pre-switchover"})).await?;
        let mut news = self.run.news();
        loop {
            news.mark_unchanged();
            let going = ask(&self.qmp).await?;
            match going.status.as_str() {
                "completed" => break,
                "failed" | "cancelled" => return Err(failed(going.reason)),
                _ => drop(tokio::time::timeout(ASK_OFTEN, news.changed()).await),
            }
        }
        step("take: memory kept");
        Ok(())
    }

    /// Whatever happened, a guest that ran goes on.
    ///
    /// # Errors
    /// What QEMU says; the guest may be held then.
    pub(super) async fn let_go(&self, written: bool) -> Result<(), ErrorBody> {
        if !written {
            give_up(&self.run, &self.qmp).await;
        }
        let goes_on = if self.running { go_on(&self.qmp).await } else { Ok(()) };
        packets::pass(&self.run, &self.qmp).await;
        drop(pausing(&self.qmp, false).await);
        goes_on
    }

    /// All of it is on the disk.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) async fn kept(self) -> Result<Held, ErrorBody> {
        let Self { run, running, file, memory, .. } = self;
        let pause = if running { switch::pause(&run).await } else { None };
        blocking(move || file.sync_all().map_err(|error| files::io_error(&memory, &error))).await?;
        Ok(Held {
            at: pause.map_or_else(Timestamp::now, |(at, _)| at),
            memory: true,
            consistency: Consistency::Whole,
            pause_ms: pause.map(|(_, pause)| pause),
        })
    }
}

/// How fast memory is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// As fast as the disk takes it.
    Free,
    /// Next to nothing, so that its end is not reached.
    Braked,
}

/// Lets the guest go on. QEMU says that a transfer is done some instants before it would hear of that.
pub(super) async fn go_on(qmp: &Qmp) -> Result<(), ErrorBody> {
    let end = Instant::now() + COMMAND_TIMEOUT;
    loop {
        match call(qmp, "cont", json!({})).await {
            Err(error) if error.message.contains("not finalized") && Instant::now() < end => {
                tokio::time::sleep(ASK_OFTEN).await;
            }
            done => return done.map(drop),
        }
    }
}

/// Waits until so little is left that the guest is held for it.
async fn until_held(job: &Job, run: &Run, qmp: &Qmp) -> Result<(), ErrorBody> {
    let began = Instant::now();
    let mut last = (0, began);
    let mut patience = PATIENCE.iter().skip(1);
    let mut next = patience.next();
    let mut news = run.news();
    loop {
        news.mark_unchanged();
        let going = ask(qmp).await?;
        match going.status.as_str() {
            "pre-switchover" => return Ok(()),
            "failed" | "cancelled" | "completed" => return Err(failed(going.reason)),
            _ => {}
        }
        if going.progress.done != last.0 {
            last = (going.progress.done, Instant::now());
        } else if last.1.elapsed() > STALLED {
            return Err(stalled());
        }
        if let Some((after, limit)) = next.filter(|(after, _)| began.elapsed() > *after) {
            tracing::info!(after = ?after, limit, "the guest changes its memory fast: it is held for longer");
            call(qmp, "migrate-set-parameters", json!({"downtime-limit": limit})).await?;
            next = patience.next();
        }
        job.progress.send_replace(Some(going.progress));
        let _ = tokio::time::timeout(ASK, news.changed()).await;
    }
}

/// Ends a transfer that is not to be.
pub(super) async fn give_up(run: &Run, qmp: &Qmp) {
    drop(call(qmp, "migrate_cancel", json!({})).await);
    let mut news = run.news();
    let end = Instant::now() + COMMAND_TIMEOUT;
    while Instant::now() < end {
        news.mark_unchanged();
        match ask(qmp).await {
            Ok(going)
                if !matches!(going.status.as_str(), "" | "none" | "completed" | "failed" | "cancelled") => {}
            _ => return,
        }
        let _ = tokio::time::timeout(ASK, news.changed()).await;
    }
}

/// Takes back what an owner that was killed had set.
pub(super) async fn reset(run: &Run, qmp: &Qmp) {
    give_up(run, qmp).await;
    packets::pass(run, qmp).await;
    drop(pausing(qmp, false).await);
}
