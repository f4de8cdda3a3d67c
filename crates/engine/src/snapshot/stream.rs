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
use std::path::Path;
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

struct Going {
    status: String,
    progress: Progress,
    reason: Option<String>,
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

/// Takes memory and disks of a machine with a process.
pub(super) async fn take(
    job: &Job,
    loan: &Loan,
    run: &Run,
    dir: &Path,
    mut switch: Switch,
) -> Result<Held, ErrorBody> {
    let qmp = run.qmp()?;
    suspend::check_space(dir, &run.record().spec, run.process.resident())?;
    let memory = kept::memory(dir);
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&memory)
        .map_err(|error| files::io_error(&memory, &error))?;
    let status = run::status(&qmp, COMMAND_TIMEOUT).await.map_err(|error| error.body())?;
    let running = status == GuestStatus::Running;
    packets::wait(run, &qmp).await;
    let written = write(job, loan, run, &qmp, &file, &mut switch).await;
    if written.is_err() {
        give_up(run, &qmp).await;
    }
    // Whatever happened, it goes on.
    let goes_on = if running { go_on(&qmp).await } else { Ok(()) };
    packets::pass(run, &qmp).await;
    drop(pausing(&qmp, false).await);
    switch.settle().await?;
    written?;
    goes_on?;
    let pause = if running { switch::pause(run).await } else { None };
    blocking(move || file.sync_all().map_err(|error| files::io_error(&memory, &error))).await?;
    Ok(Held {
        at: pause.map_or_else(Timestamp::now, |(at, _)| at),
        memory: true,
        consistency: Consistency::Whole,
        pause_ms: pause.map(|(_, pause)| pause),
    })
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

async fn write(
    job: &Job,
    loan: &Loan,
    run: &Run,
    qmp: &Qmp,
    file: &File,
    switch: &mut Switch,
) -> Result<(), ErrorBody> {
    pausing(qmp, true).await?;
    let parameters = json!({"max-bandwidth": 1_u64 << 42, "downtime-limit": PATIENCE[0].1});
    call(qmp, "migrate-set-parameters", parameters).await?;
    let getfd = qapi::qmp::getfd { fdname: DESCRIPTOR.to_owned() };
    qmp.execute_with_fd(&getfd, file.as_fd()).await.map_err(|error| error.body())?;
    call(qmp, "migrate", json!({"uri": format!("fd:{DESCRIPTOR}")})).await?;
    step("take: memory on its way");
    tokio::select! {
        biased;
        () = job.cancel.cancelled() => return Err(given_up()),
        () = loan.recall.cancelled() => return Err(given_up()),
        held = until_held(job, run, qmp) => held?,
    }
    // The guest is held from here on: nothing that is not needed now.
    job.seal()?;
    switch.turn().await?;
    call(qmp, "migrate-continue", json!({"state": "pre-switchover"})).await?;
    let mut news = run.news();
    loop {
        news.mark_unchanged();
        let going = ask(qmp).await?;
        match going.status.as_str() {
            "completed" => break,
            "failed" | "cancelled" => return Err(failed(going.reason)),
            _ => drop(tokio::time::timeout(ASK_OFTEN, news.changed()).await),
        }
    }
    step("take: memory kept");
    Ok(())
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
            return Err(failed(Some("the disk takes no more of it".to_owned())));
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
