//! At start-up: what became of the process a machine had.
//!
//! ```text
//! run.json ─▶ identify ──▶ Ours ─▶ monitor ─▶ query-uuid, query-status ─▶ Live
//!    │            │                    └─ silent ─▶ Mute (unresponsive until it answers; never taken for stopped)
//!    └─ none ─▶ scan ─▶ none, Gone, Foreign ─▶ Absent
//! ```
//! Start and adoption share [`attach`]. A process that waits before the guest's first instruction is what a cut start left:
//! it is ended, since nothing ran in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use voidvm_model::vm::ActiveAccel;
use voidvm_model::{ErrorBody, ErrorCode, OperationKind, Origin, VmId, VmState};
use voidvm_qemu::companion::Companions;
use voidvm_qemu::process::{Identity, ProcessHandle, RunDir, RunRecord, boot_id, identify};
use voidvm_qemu::qmp::{Qmp, QmpError};
use voidvm_store::VmRow;

use crate::ledger::{Cancel, Outcome, Subject};
use crate::run::{self, Attached, Came, GuestStatus, Run};
use crate::shared::Shared;
use crate::snapshot;

/// From a closed monitor to the end of its process.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(500);

/// What was found of a machine's process.
pub(crate) enum Found {
    /// It lives and answers.
    Live(Attached, GuestStatus),
    /// It lives and does not answer.
    Mute(Attached, ErrorBody),
    /// There is none.
    Absent(LastEnd),
}

/// How the last run ended, as far as can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastEnd {
    /// In order, or there was none.
    Orderly,
    /// Its start was cut; the guest never ran.
    NeverRan,
    /// While the guest ran, and nobody saw how.
    Unseen,
}

/// Why a process could not be attached to.
#[derive(Debug)]
pub(crate) enum AttachError {
    /// The monitor did not do its part.
    Qmp(QmpError),
    /// The monitor is another machine's.
    Foreign(VmId),
}

impl AttachError {
    pub(crate) fn body(&self) -> ErrorBody {
        match self {
            Self::Qmp(error) => error.body(),
            Self::Foreign(id) => ErrorBody::new(
                ErrorCode::QemuUnresponsive,
                "Another machine's process answers in the place of this one's.",
            )
            .with_hint("End whatever uses voidVM's runtime directory beside it.")
            .with_detail("uuid", id.to_string()),
        }
    }
}

/// Reaches the monitor of a process that was identified. One that was found is asked whose it is and what its guest does; one
/// that was just started, behind a socket in a directory that was empty before, need not be.
pub(crate) async fn attach(
    process: ProcessHandle,
    record: RunRecord,
    dir: RunDir,
    came: Came,
    patience: Duration,
) -> Result<(Attached, GuestStatus), AttachError> {
    let (qmp, events) = Qmp::connect(&dir.qmp(), patience).await.map_err(AttachError::Qmp)?;
    let status = match came {
        Came::Launched | Came::Prepared => GuestStatus::Prelaunch,
        Came::Adopted => interview(&qmp, record.uuid, patience).await?,
    };
    let companions = match came {
        Came::Launched | Came::Prepared => Companions::none(dir.clone()),
        Came::Adopted => Companions::find(dir.clone()),
    };
    let run = Run::new(process, record, dir, came, Some(qmp));
    Ok((Attached { run, events: Some(events), companions }, status))
}

/// Makes sure that a monitor is machine `id`'s, and asks what its guest does.
async fn interview(qmp: &Qmp, id: VmId, patience: Duration) -> Result<GuestStatus, AttachError> {
    let answer = qmp.execute_raw("query-uuid", None, patience).await.map_err(AttachError::Qmp)?;
    let uuid = answer.get("UUID").and_then(|uuid| uuid.as_str()).and_then(|uuid| uuid.parse().ok());
    match uuid {
        Some(uuid) if uuid == id => run::status(qmp, patience).await.map_err(AttachError::Qmp),
        other => Err(AttachError::Foreign(other.unwrap_or(VmId(uuid::Uuid::nil())))),
    }
}

/// Finds a machine's process and takes it over. `stray` is a process of this machine that has no record.
pub(crate) async fn find(shared: Arc<Shared>, vm: VmRow, stray: Option<ProcessHandle>) -> Found {
    let dir = RunDir::new(&shared.config.runtime_dir, vm.id);
    let Some((process, record)) = process_of(&vm, &dir, stray) else {
        // Those of a start that was cut have nobody to end with.
        Companions::find(dir.clone()).end(LAST_WORDS).await;
        return Found::Absent(last_end(&vm, &dir));
    };
    let named = Subject::Vm(vm.id, &vm.name);
    let ticket = shared
        .ledger
        .open_operation(OperationKind::Adopt, named, Origin::System, Cancel::Ignored)
        .await
        .inspect_err(|error| tracing::error!(%error, "an adoption could not be written down"))
        .ok();
    if let Some(ticket) = &ticket {
        ticket.begin();
    }
    let patience = shared.config.timing.adoption;
    let attached = tokio::select! {
        biased;
        // It was about to end: nobody waits for a monitor that will not come.
        _ = process.wait_exit() => Err(None),
        attached = attach(process.clone(), record.clone(), dir.clone(), Came::Adopted, patience) => attached.map_err(Some),
    };
    let attached = match attached {
        // A monitor closes a moment before its process ends.
        Err(Some(_)) if tokio::time::timeout(LAST_WORDS, process.wait_exit()).await.is_ok() => Err(None),
        other => other,
    };
    let (found, outcome) = match attached {
        Ok((attached, GuestStatus::Prelaunch)) => {
            end_unstarted(&attached, shared.config.timing.force_step).await;
            (Found::Absent(LastEnd::NeverRan), Outcome::Succeeded)
        }
        Ok((attached, status)) => {
            let status = finish_snapshots(&shared, &vm, &attached, status).await;
            (Found::Live(attached, status), Outcome::Succeeded)
        }
        Err(None) => (Found::Absent(last_end(&vm, &dir)), Outcome::Succeeded),
        Err(Some(error)) => {
            let body = error.body();
            let companions = Companions::find(dir.clone());
            let run = Run::new(process, record, dir, Came::Adopted, None);
            (
                Found::Mute(Attached { run, events: None, companions }, body.clone()),
                Outcome::Failed(body.into()),
            )
        }
    };
    if let Some(ticket) = ticket {
        ticket.end(outcome);
    }
    if matches!(found, Found::Absent(_)) {
        snapshot::recover::after_exit(&shared, vm.id).await;
        snapshot::drop_twins(&shared.config.machine_dir(vm.id), &vm.spec);
    }
    found
}

/// Finishes what the last owner had begun of a snapshot; what the guest does then.
async fn finish_snapshots(
    shared: &Shared,
    vm: &VmRow,
    attached: &Attached,
    status: GuestStatus,
) -> GuestStatus {
    let open = shared.unfinished.take(vm.id);
    if open.is_empty() {
        return status;
    }
    if let Err(error) = snapshot::recover::running(shared, &attached.run, &status, open).await {
        tracing::error!(vm = %vm.id, %error, "a snapshot's work could not be finished");
    }
    match attached.run.monitor() {
        Some(qmp) => run::status(&qmp, shared.config.timing.adoption).await.unwrap_or(status),
        None => status,
    }
}

/// Whether a process lives that its record proves to be the machine's.
pub(crate) fn is_alive(shared: &Shared, id: VmId) -> bool {
    match RunRecord::read(&RunDir::new(&shared.config.runtime_dir, id).record()) {
        Ok(Some(record)) => matches!(identify(&record, id), Ok(Identity::Ours(_))),
        _ => false,
    }
}

/// The machine's process and its record, both proved to be its own.
fn process_of(vm: &VmRow, dir: &RunDir, stray: Option<ProcessHandle>) -> Option<(ProcessHandle, RunRecord)> {
    match RunRecord::read(&dir.record()) {
        Ok(Some(record)) => match identify(&record, vm.id) {
            Ok(Identity::Ours(process)) => return Some((process, record)),
            Ok(Identity::Gone) => {}
            Ok(Identity::Foreign(reason)) => {
                tracing::warn!(vm = %vm.id, pid = record.pid, %reason, "a process is not taken for the machine's");
            }
            Err(error) => tracing::error!(vm = %vm.id, %error, "the machine's process cannot be looked at"),
        },
        Ok(None) => {}
        Err(error) => tracing::error!(vm = %vm.id, %error, "the record of the run is useless"),
    }
    let process = stray?;
    let record = rebuild_record(vm, &process)
        .inspect_err(|error| tracing::error!(vm = %vm.id, %error, "a stray process cannot be described"))
        .ok()?;
    tracing::warn!(vm = %vm.id, pid = record.pid, "found without a record");
    if let Err(error) = record.write(&dir.record()) {
        tracing::error!(vm = %vm.id, %error, "the record of the run cannot be written again");
    }
    Some((process, record))
}

/// The record of a process that has none, from what the kernel says of it.
fn rebuild_record(vm: &VmRow, process: &ProcessHandle) -> Result<RunRecord, procfs::ProcError> {
    let pid = i32::try_from(process.pid()).unwrap_or(i32::MAX);
    let of = procfs::process::Process::new(pid)?;
    let mut line = of.cmdline()?.into_iter();
    let binary = line.next().unwrap_or_default().into();
    let argv: Vec<String> = line.collect();
    let kvm = argv.windows(2).any(|pair| pair[0] == "-accel" && pair[1].starts_with("kvm"));
    Ok(RunRecord {
        uuid: vm.id,
        pid: process.pid(),
        start_ticks: of.stat()?.starttime,
        boot_id: boot_id()?,
        started_at: Timestamp::now(),
        qemu_version: String::new(),
        accel: if kvm { ActiveAccel::Kvm } else { ActiveAccel::Tcg },
        binary,
        argv,
        spec: vm.spec.clone(),
        now: None,
        disposable: false,
        roots: BTreeMap::new(),
        layers: BTreeMap::new(),
    })
}

/// Ends a process whose guest never ran.
async fn end_unstarted(attached: &Attached, patience: Duration) {
    attached.run.kill();
    if tokio::time::timeout(patience, attached.run.process.wait_exit()).await.is_err() {
        tracing::error!(pid = attached.run.process.pid(), "a process that was killed is still there");
    }
}

/// How the last run ended, judged by what it left: QEMU removes its sockets when it ends in order, and so does an owner that
/// saw such an end and was killed before it could write it down.
fn last_end(vm: &VmRow, dir: &RunDir) -> LastEnd {
    let orderly = dir.path().exists() && !dir.qmp().exists();
    match vm.state {
        VmState::Starting => LastEnd::NeverRan,
        VmState::Running | VmState::Paused | VmState::Unresponsive | VmState::Adopting if !orderly => {
            LastEnd::Unseen
        }
        _ => LastEnd::Orderly,
    }
}
