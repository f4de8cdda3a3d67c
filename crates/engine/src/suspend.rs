//! Suspend to disk: the guest's memory in a file, and back.
//!
//! ```text
//! running ─stop─▶ suspend.ram.part grows ─▶ suspend.json ─▶ suspend.ram ─▶ quit ─▶ suspended
//!    ▲                   │ (fails, given up,    (from here the machine is suspended, whatever becomes of its process)
//!    └──── undone ◀──────┘  owner killed)
//! suspended ─▶ a held process reads suspend.ram (or has its image) ─▶ it is called suspend.used ─▶ cont ─▶ running, file removed
//! ```
//! Invariants: the machine either goes on or is suspended, at every instant; memory is never loaded twice, since the disks have
//! gone on meanwhile: once a guest may have run, its file is not `suspend.ram` any more; memory is not loaded onto disks that
//! somebody has changed.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use voidvm_model::operation::Progress;
use voidvm_model::{Bytes, ErrorBody, ErrorCode, MachineSpec};
use voidvm_qemu::process::RunRecord;
use voidvm_qemu::qmp::{COMMAND_TIMEOUT, Qmp};

use crate::ops::files;
use crate::run::{Came, GuestStatus, Run};
use crate::{snapshot, stats};

const MEMORY: &str = "suspend.ram";
const PART: &str = "suspend.ram.part";
const USED: &str = "suspend.used";
const DESCRIPTION: &str = "suspend.json";
/// The descriptor's name in the monitor.
const DESCRIPTOR: &str = "vv.suspend";
/// What stays free beside the memory.
const SPARE: u64 = 64 << 20;
/// Between two questions how far it is; QEMU's events come sooner.
const ASK: Duration = Duration::from_millis(250);
/// A disk that takes nothing for so long has failed.
const STALLED: Duration = Duration::from_secs(60);

/// What a suspended machine was.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Suspended {
    /// Its run.
    pub(crate) record: RunRecord,
    /// When its guest was held.
    pub(crate) at: Timestamp,
    /// Its disks as the guest left them.
    disks: Vec<Stamp>,
    /// The directory of the snapshot whose memory it is: there may be an image of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kept: Option<PathBuf>,
}

/// A file as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    file: PathBuf,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(file: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(file)?;
        Ok(Self {
            file: file.to_owned(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// Every file that suspending makes.
pub(crate) fn files(machine_dir: &Path) -> Vec<PathBuf> {
    [MEMORY, PART, USED, DESCRIPTION].map(|name| machine_dir.join(name)).to_vec()
}

/// Whether a machine without a process is suspended. What a guest that has run since has left behind is removed.
pub(crate) fn is_suspended(machine_dir: &Path) -> bool {
    if machine_dir.join(MEMORY).exists() {
        return true;
    }
    discard(machine_dir);
    false
}

/// What a suspended machine was.
///
/// # Errors
/// When it cannot be read, or a disk was changed since.
pub(crate) fn read(machine_dir: &Path) -> Result<Suspended, ErrorBody> {
    let path = machine_dir.join(DESCRIPTION);
    let bytes = std::fs::read(&path).map_err(|error| files::io_error(&path, &error))?;
    let lost = |reason: String| {
        ErrorBody::new(ErrorCode::ImageInvalid, format!("The saved memory cannot be used: {reason}."))
            .with_hint("Force the machine off: its memory is thrown away, its disks stay as they are.")
    };
    let suspended: Suspended = serde_json::from_slice(&bytes).map_err(|error| lost(error.to_string()))?;
    for disk in &suspended.disks {
        let now = Stamp::of(&disk.file).map_err(|error| files::io_error(&disk.file, &error))?;
        if now != *disk {
            let file = disk.file.display();
            return Err(lost(format!("{file} was changed since the machine was suspended")));
        }
    }
    Ok(suspended)
}

/// Throws the memory of a machine away that has no process, or one that has run since.
pub(crate) fn discard(machine_dir: &Path) {
    // The memory first: without it the rest means nothing.
    for file in files(machine_dir) {
        if let Err(error) = std::fs::remove_file(&file)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(path = %file.display(), %error, "saved memory cannot be removed");
        }
    }
}

async fn tell(qmp: &Qmp, name: &'static str, arguments: Value) -> Result<Value, ErrorBody> {
    let arguments: Option<Map<String, Value>> =
        if let Value::Object(arguments) = arguments { Some(arguments) } else { None };
    qmp.execute_raw(name, arguments, COMMAND_TIMEOUT).await.map_err(|error| error.body())
}

/// How a transfer of memory is going.
enum Transfer {
    Going(Progress),
    Done,
    Failed(String),
}

async fn ask(qmp: &Qmp) -> Result<Transfer, ErrorBody> {
    let answer = tell(qmp, "query-migrate", json!({})).await?;
    let number = |name: &str| answer.get("ram").and_then(|ram| ram.get(name)?.as_u64()).unwrap_or(0);
    Ok(match answer.get("status").and_then(Value::as_str) {
        Some("completed") => Transfer::Done,
        Some("failed" | "cancelled") => {
            let reason = answer.get("error-desc").and_then(Value::as_str);
            Transfer::Failed(reason.unwrap_or("QEMU does not say why").to_owned())
        }
        _ => {
            let total = number("total");
            Transfer::Going(Progress { done: total.saturating_sub(number("remaining")), total })
        }
    })
}

/// Waits for the end of a transfer; for as long as it gets on.
async fn follow(run: &Run, qmp: &Qmp, progress: &watch::Sender<Option<Progress>>) -> Result<(), ErrorBody> {
    let mut news = run.news();
    let mut last = (0, Instant::now());
    loop {
        news.mark_unchanged();
        match ask(qmp).await? {
            Transfer::Done => return Ok(()),
            Transfer::Failed(reason) => {
                return Err(ErrorBody::new(
                    ErrorCode::QemuFailed,
                    format!("The guest's memory could not be transferred: {reason}."),
                ));
            }
            Transfer::Going(now) => {
                if now.done != last.0 {
                    last = (now.done, Instant::now());
                } else if last.1.elapsed() > STALLED {
                    return Err(ErrorBody::new(
                        ErrorCode::Timeout,
                        "The disk takes no more of the guest's memory.",
                    ));
                }
                progress.send_replace(Some(now));
            }
        }
        // Either is a reason to ask again.
        let _ = tokio::time::timeout(ASK, news.changed()).await;
    }
}

/// Writes the memory of a live machine to its directory and tells its process to end. When this answers with an error, the guest
/// goes on.
///
/// # Errors
/// What does not allow it, or why it failed; [`ErrorCode::Cancelled`] when it was given up.
pub(crate) async fn save(
    run: Arc<Run>,
    machine_dir: PathBuf,
    progress: watch::Sender<Option<Progress>>,
    cancel: CancellationToken,
) -> Result<(), ErrorBody> {
    let record = run.record();
    if record.disposable {
        return Err(ErrorBody::new(
            ErrorCode::InvalidState,
            "A run that is thrown away at its end cannot be suspended.",
        )
        .with_hint("Stop it, and start the machine as usual."));
    }
    if record.spec.disks.iter().any(|disk| disk.key.is_some()) {
        return Err(ErrorBody::new(
            ErrorCode::Unsupported,
            "A machine with an encrypted disk is not suspended: what its guest has read would be on this computer's disk in the clear.",
        )
        .with_hint("Pause it, or shut it down."));
    }
    check_space(&machine_dir, &record.spec, run.process.resident())?;
    let qmp = run.qmp()?;
    let written = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(ErrorBody::new(ErrorCode::Cancelled, "The suspension was given up.")),
        written = write(&run, &qmp, &machine_dir, &progress) => written,
    };
    if let Err(error) = written {
        undo(&run, &machine_dir).await?;
        return Err(error);
    }
    // From here it is suspended. A process that does not heed this is ended by whoever sees it next.
    if tell(&qmp, "quit", json!({})).await.is_err() && !qmp.is_closed() {
        run.kill();
    }
    Ok(())
}

async fn write(
    run: &Run,
    qmp: &Qmp,
    machine_dir: &Path,
    progress: &watch::Sender<Option<Progress>>,
) -> Result<(), ErrorBody> {
    let (part, memory) = (machine_dir.join(PART), machine_dir.join(MEMORY));
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)
        .map_err(|error| files::io_error(&part, &error))?;
    // Events say when it is done; a QEMU without them is asked.
    drop(
        tell(
            qmp,
            "migrate-set-capabilities",
            json!({"capabilities": [{"capability": "events", "state": true}]}),
        )
        .await,
    );
    tell(qmp, "migrate-set-parameters", json!({"max-bandwidth": 1_u64 << 42})).await?;
    // Nothing changes any more: the memory is written once, and the disks fit it.
    tell(qmp, "stop", json!({})).await?;
    let at = Timestamp::now();
    pass(qmp, &file).await?;
    tell(qmp, "migrate", json!({"uri": format!("fd:{DESCRIPTOR}")})).await?;
    follow(run, qmp, progress).await?;
    let record = RunRecord::clone(&run.record());
    let description = machine_dir.join(DESCRIPTION);
    let committed = tokio::task::spawn_blocking({
        let (part, memory) = (part.clone(), memory.clone());
        move || -> io::Result<()> {
            file.sync_all()?;
            let disks =
                record.spec.disks.iter().map(|disk| Stamp::of(&disk.file)).collect::<io::Result<_>>()?;
            let bytes = serde_json::to_vec(&Suspended { record, at, disks, kept: None })?;
            let mut described =
                File::options().write(true).create(true).truncate(true).mode(0o600).open(&description)?;
            io::Write::write_all(&mut described, &bytes)?;
            described.sync_all()?;
            std::fs::rename(&part, &memory)?;
            File::open(memory.parent().unwrap_or(&memory))?.sync_all()
        }
    });
    committed.await.map_err(io::Error::other).flatten().map_err(|error| files::io_error(&memory, &error))
}

/// Makes a machine without a process one that goes on from memory kept elsewhere: it is suspended when this returns, or nothing
/// has changed.
///
/// # Errors
/// What the file system says.
pub(crate) fn plant(
    machine_dir: &Path,
    kept: &Path,
    record: RunRecord,
    at: Timestamp,
) -> Result<(), ErrorBody> {
    let memory = machine_dir.join(MEMORY);
    let plant = || -> io::Result<()> {
        let disks = record.spec.disks.iter().map(|disk| Stamp::of(&disk.file)).collect::<io::Result<_>>()?;
        let dir = kept.parent().map(Path::to_owned);
        let bytes = serde_json::to_vec(&Suspended { record, at, disks, kept: dir.clone() })?;
        let mut described = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(machine_dir.join(DESCRIPTION))?;
        io::Write::write_all(&mut described, &bytes)?;
        described.sync_all()?;
        // Read only, by whoever it is: a second name is enough, where the file system has such.
        if std::fs::hard_link(kept, &memory).is_err() {
            // It may have been packed a moment ago.
            let kept = dir.map_or_else(|| kept.to_owned(), |dir| snapshot::kept_memory(&dir));
            let part = machine_dir.join(PART);
            std::fs::copy(kept, &part)?;
            std::fs::rename(&part, &memory)?;
        }
        File::open(machine_dir)?.sync_all()
    };
    plant().map_err(|error| {
        discard(machine_dir);
        files::io_error(&memory, &error)
    })
}

/// Hands a file to the monitor.
async fn pass(qmp: &Qmp, file: impl AsFd) -> Result<(), ErrorBody> {
    let getfd = qapi::qmp::getfd { fdname: DESCRIPTOR.to_owned() };
    qmp.execute_with_fd(&getfd, file.as_fd()).await.map(drop).map_err(|error| error.body())
}

/// Makes the guest of a suspension that was cut go on.
///
/// # Errors
/// When the guest cannot be let go.
pub(crate) async fn undo(run: &Run, machine_dir: &Path) -> Result<(), ErrorBody> {
    let qmp = run.qmp()?;
    drop(tell(&qmp, "migrate_cancel", json!({})).await);
    let mut news = run.news();
    let end = Instant::now() + COMMAND_TIMEOUT;
    // While it is being given up, the guest cannot go on.
    while matches!(ask(&qmp).await, Ok(Transfer::Going(Progress { total: 1.., .. }))) && Instant::now() < end
    {
        let _ = tokio::time::timeout(ASK, news.changed()).await;
    }
    discard(machine_dir);
    tell(&qmp, "cont", json!({})).await.map(drop)
}

/// What a cut suspension has left of a machine whose process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeftOver {
    /// All of its memory: it is suspended, and its process has only not ended yet.
    Whole,
    /// A part: the guest goes on.
    Part,
}

/// Whether the process of a machine, whose guest does this now, was being suspended when its owner ended.
pub(crate) fn left_over(machine_dir: &Path, status: &GuestStatus) -> Option<LeftOver> {
    // A guest that runs has left what was written behind.
    let held = matches!(status, GuestStatus::Held(_));
    if held && machine_dir.join(MEMORY).exists() {
        return Some(LeftOver::Whole);
    }
    if held && machine_dir.join(PART).exists() {
        return Some(LeftOver::Part);
    }
    discard(machine_dir);
    None
}

/// What a guest does whose memory was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It goes on.
    GoesOn,
    /// It waits until somebody lets it.
    Held,
}

/// Loads the memory into a process that waits for it, and lets the guest go on.
///
/// # Errors
/// Why it could not be loaded; the machine is then still suspended.
pub(crate) async fn load(run: Arc<Run>, machine_dir: PathBuf, then: Then) -> Result<(), ErrorBody> {
    let qmp = run.qmp()?;
    let (memory, used) = (machine_dir.join(MEMORY), machine_dir.join(USED));
    if run.came() != Came::Prepared {
        let file = snapshot::open_memory(&memory)?;
        drop(
            tell(
                &qmp,
                "migrate-set-capabilities",
                json!({"capabilities": [{"capability": "events", "state": true}]}),
            )
            .await,
        );
        pass(&qmp, &file).await?;
        drop(file);
        tell(&qmp, "migrate-incoming", json!({"uri": format!("fd:{DESCRIPTOR}")})).await?;
        follow(&run, &qmp, &watch::Sender::new(None)).await?;
    }
    crate::hotplug::cables(&qmp, &run.record().spec).await?;
    std::fs::rename(&memory, &used).map_err(|error| files::io_error(&memory, &error))?;
    if then == Then::GoesOn
        && let Err(error) = tell(&qmp, "cont", json!({})).await
    {
        // It was refused, so the guest has not run; when nothing answered, nobody knows.
        if !qmp.is_closed() && error.code == ErrorCode::QemuFailed {
            std::fs::rename(&used, &memory).map_err(|error| files::io_error(&memory, &error))?;
        }
        return Err(error);
    }
    discard(&machine_dir);
    Ok(())
}

/// Makes sure that a guest's memory can be written beside a machine's disks.
///
/// # Errors
/// [`ErrorCode::DiskFull`].
pub(crate) fn check_space(dir: &Path, spec: &MachineSpec, resident: Option<Bytes>) -> Result<(), ErrorBody> {
    let needed = Bytes(resident.unwrap_or(spec.memory.bytes()).0.saturating_add(SPARE));
    let Some((_, free)) = stats::space(dir).filter(|(_, free)| *free < needed) else { return Ok(()) };
    Err(ErrorBody::new(
        ErrorCode::DiskFull,
        format!("The guest's memory takes up to {needed}; {} has {free} free.", dir.display()),
    )
    .with_hint("Make room on that disk, or shut the guest down instead.")
    .with_detail("needed", needed.0)
    .with_detail("available", free.0))
}
