//! One run of a machine: a process that was identified as its own, its monitor, and what is kept for as long as it lives.
//!
//! Everybody may hold a [`Run`] and use its monitor; only the supervisor has the [`Live`] around it, with the event stream, and
//! decides what the run means for the machine's state.

use std::future::pending;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;
use voidvm_model::vm::RunView;
use voidvm_model::{ErrorBody, ErrorCode};
use voidvm_qemu::companion::{CompanionRecord, Companions};
use voidvm_qemu::process::{Exit, ProcessHandle, RunDir, RunRecord, Signal};
use voidvm_qemu::qmp::{Qmp, QmpError, QmpEvent};

use crate::guest::AgentLine;
use crate::meter::{self, Meter};
use crate::serial::Serial;
use crate::shared::Shared;

/// QEMU closes its socket a moment before it ends: an end of the connection alone is looked into after this.
pub(crate) const EXIT_FOLLOWS: Duration = Duration::from_millis(250);

/// How a run came to be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// This engine started it.
    Launched,
    /// This engine started it, and its guest's memory is there already.
    Prepared,
    /// It was found running.
    Adopted,
}

/// A live process of a machine.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) process: ProcessHandle,
    record: RwLock<Arc<RunRecord>>,
    pub(crate) dir: RunDir,
    pub(crate) meter: Meter,
    pub(crate) serial: Serial,
    pub(crate) agent: AgentLine,
    came: Came,
    /// Grows with everything QEMU says.
    news: watch::Sender<u64>,
    /// The last time the guest was held and let go again, by QEMU's own account.
    halt: RwLock<Halt>,
    qmp: RwLock<Option<Qmp>>,
}

impl Run {
    pub(crate) fn new(
        process: ProcessHandle,
        record: RunRecord,
        dir: RunDir,
        came: Came,
        qmp: Option<Qmp>,
    ) -> Arc<Self> {
        let serial = Serial::default();
        Arc::new(Self {
            process,
            record: RwLock::new(Arc::new(record)),
            dir,
            meter: Meter::default(),
            serial,
            agent: AgentLine::default(),
            came,
            news: watch::Sender::new(0),
            halt: RwLock::default(),
            qmp: RwLock::new(qmp),
        })
    }

    /// What the run is and has, as its record says.
    pub(crate) fn record(&self) -> Arc<RunRecord> {
        Arc::clone(&self.record.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes down that the run has changed; the next owner reads it from the file.
    pub(crate) fn amend(&self, change: impl FnOnce(&mut RunRecord)) {
        let mut now = self.record.write().unwrap_or_else(PoisonError::into_inner);
        let mut record = RunRecord::clone(&now);
        change(&mut record);
        if let Err(error) = record.write(&self.dir.record()) {
            tracing::error!(pid = record.pid, %error, "what the run has now cannot be written down");
        }
        *now = Arc::new(record);
    }

    /// QEMU has said something.
    pub(crate) fn tell(&self, event: &QmpEvent) {
        let mut halt = self.halt.write().unwrap_or_else(PoisonError::into_inner);
        match event.name.as_str() {
            "STOP" => *halt = Halt { held: Some(event.at), let_go: None },
            "RESUME" => halt.let_go = Some(event.at),
            _ => {}
        }
        drop(halt);
        self.news.send_modify(|count| *count += 1);
    }

    /// The last time the guest was held and let go again.
    pub(crate) fn halt(&self) -> Halt {
        *self.halt.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes with everything QEMU says.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// How it came to be ours.
    pub(crate) const fn came(&self) -> Came {
        self.came
    }

    /// The monitor, where it has been reached.
    pub(crate) fn monitor(&self) -> Option<Qmp> {
        self.qmp.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The monitor.
    ///
    /// # Errors
    /// [`ErrorCode::QemuUnresponsive`] when it has not been reached.
    pub(crate) fn qmp(&self) -> Result<Qmp, ErrorBody> {
        self.monitor().ok_or_else(unresponsive)
    }

    /// A new connection takes the place of the old one.
    pub(crate) fn reconnect(&self, qmp: Qmp) {
        *self.qmp.write().unwrap_or_else(PoisonError::into_inner) = Some(qmp);
    }

    /// Ends the process at once. Only for one whose guest never ran, or by an explicit wish.
    pub(crate) fn kill(&self) {
        if let Err(error) = self.process.signal(Signal::Kill) {
            tracing::warn!(pid = self.process.pid(), %error, "the process could not be ended");
        }
    }

    /// As everybody is shown it.
    pub(crate) fn view(&self) -> RunView {
        let record = self.record();
        RunView {
            pid: self.process.pid(),
            started_at: record.started_at,
            qemu_version: record.qemu_version.clone(),
            accel: record.accel,
            adopted: self.came == Came::Adopted,
            disposable: record.disposable,
            spec: record.spec.clone(),
        }
    }
}

pub(crate) fn unresponsive() -> ErrorBody {
    ErrorBody::new(ErrorCode::QemuUnresponsive, "The machine's process does not answer.")
        .with_hint("Wait a little; if it stays so, force the machine off.")
}

/// A time the guest was held.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Halt {
    /// Since when.
    pub(crate) held: Option<Timestamp>,
    /// Until when.
    pub(crate) let_go: Option<Timestamp>,
}

/// What QEMU says the guest is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GuestStatus {
    /// It runs.
    Running,
    /// It never ran: the process waits before the first instruction.
    Prelaunch,
    /// It is held, for this reason of QEMU's (`paused`, `io-error`, `guest-panicked` …).
    Held(String),
}

/// Asks what the guest is doing.
pub(crate) async fn status(qmp: &Qmp, within: Duration) -> Result<GuestStatus, QmpError> {
    #[derive(Deserialize)]
    struct Status {
        running: bool,
        status: String,
    }
    let answer = qmp.execute_raw("query-status", None, within).await?;
    let Status { running, status } = serde_json::from_value(answer)
        .map_err(|source| QmpError::Decode { command: "query-status".to_owned(), source })?;
    Ok(match status.as_str() {
        // The guest sleeps (ACPI S3) of its own will.
        "suspended" => GuestStatus::Running,
        "prelaunch" => GuestStatus::Prelaunch,
        _ if running => GuestStatus::Running,
        _ => GuestStatus::Held(status),
    })
}

/// A run just reached, by start or by adoption.
pub(crate) struct Attached {
    pub(crate) run: Arc<Run>,
    pub(crate) events: Option<mpsc::Receiver<QmpEvent>>,
    /// The programs beside QEMU.
    pub(crate) companions: Companions,
}

/// Why QEMU said it would end.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Shutdown {
    /// `guest-shutdown`, `host-qmp-quit`, `host-signal` …
    pub(crate) reason: String,
}

/// A run as its supervisor holds it.
pub(crate) struct Live {
    pub(crate) run: Arc<Run>,
    events: Option<mpsc::Receiver<QmpEvent>>,
    companions: Companions,
    /// What QEMU said before it ended.
    pub(crate) shutdown: Option<Shutdown>,
    /// Whether its end is our doing.
    pub(crate) ending: bool,
    _meter: AbortOnDropHandle<()>,
}

impl Live {
    pub(crate) fn new(attached: Attached, shared: &Arc<Shared>) -> Self {
        let Attached { run, events, companions } = attached;
        let meter = tokio::spawn(meter::read_on(Arc::clone(&run), Arc::downgrade(shared)));
        Self { run, events, companions, shutdown: None, ending: false, _meter: AbortOnDropHandle::new(meter) }
    }

    /// Follows a new connection.
    pub(crate) fn follow(&mut self, qmp: Qmp, events: mpsc::Receiver<QmpEvent>) {
        self.run.reconnect(qmp);
        self.events = Some(events);
    }

    /// The old connection is over.
    pub(crate) fn lose_events(&mut self) {
        self.events = None;
    }

    /// The process, the event stream and the programs beside it, to be waited for side by side.
    pub(crate) fn split(
        live: &mut Option<Self>,
    ) -> (Option<ProcessHandle>, Option<&mut mpsc::Receiver<QmpEvent>>, Option<&mut Companions>) {
        match live {
            Some(live) => (Some(live.run.process.clone()), live.events.as_mut(), Some(&mut live.companions)),
            None => (None, None, None),
        }
    }

    /// Waits for the end of a process; forever without one.
    pub(crate) async fn exited(process: Option<ProcessHandle>) -> Exit {
        match process {
            Some(process) => process.wait_exit().await.unwrap_or(Exit::Unknown),
            None => pending().await,
        }
    }

    /// The end of a program beside QEMU; forever without one. QEMU's own end, which takes them along, comes first.
    pub(crate) async fn companion_ended(companions: Option<&mut Companions>) -> CompanionRecord {
        match companions {
            Some(companions) => companions.next_end(EXIT_FOLLOWS).await,
            None => pending().await,
        }
    }

    /// Waits until the programs beside a QEMU that has ended are gone too.
    pub(crate) async fn see_companions_off(&mut self) {
        let companions = std::mem::replace(&mut self.companions, Companions::none(self.run.dir.clone()));
        companions.end(EXIT_FOLLOWS).await;
    }

    /// The next event; `None` when the connection is over.
    pub(crate) async fn next_event(events: Option<&mut mpsc::Receiver<QmpEvent>>) -> Option<QmpEvent> {
        match events {
            Some(events) => events.recv().await,
            None => pending().await,
        }
    }

    /// What was said before the end and not yet heard: the process is gone, so its socket soon ends too.
    pub(crate) async fn last_words(&mut self) -> Vec<QmpEvent> {
        let mut words = Vec::new();
        let Some(events) = &mut self.events else { return words };
        let all = async {
            while let Some(event) = events.recv().await {
                words.push(event);
            }
        };
        // A helper that inherited the socket could keep it open; nobody waits for that.
        drop(tokio::time::timeout(Duration::from_millis(500), all).await);
        words
    }
}
