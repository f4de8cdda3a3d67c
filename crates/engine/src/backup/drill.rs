//! A restore drill: a backup is restored to a machine that nobody can reach and that reaches nobody, started, watched, and removed.
//!
//! ```text
//! restored without cards, shares and the host's devices, marked ─▶ started ─▶ agent answers │ login prompt │ runs long enough
//!                                                                     └──────── forced off, removed with its files ◀──┘
//! ```
//! Invariant: the machine bears its mark before it has a row; whoever opens the data directory removes every machine that bears one.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use voidvm_model::backup::{BackupDrillRequest, BackupRestoreRequest, DrillProof};
use voidvm_model::{
    ErrorBody, ErrorCode, MachineSpec, Operation, OperationKind, OperationResult, OperationStatus, Origin,
    VmId, VmState,
};

use super::restore;
use crate::engine::blocking;
use crate::guest;
use crate::ledger::{Cancel, Outcome, Subject};
use crate::ops::build::{self, end_with_engine};
use crate::ops::files;
use crate::shared::Shared;
use crate::supervisor::{Children, Disks, Machine, Order};

/// How long a guest is watched where nobody says otherwise, in seconds, and the bounds.
const WATCHED: u32 = 300;
const WATCHED_LEAST: u32 = 10;
const WATCHED_MOST: u32 = 3600;
/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);
/// How long one look at an operation waits for its end.
const WAIT: Duration = Duration::from_secs(3600);
/// So much of the end of what the guest said on its serial port is read.
const TAIL: u64 = 4096;

/// Leaves out what would reach beyond the machine.
pub(super) fn isolate(spec: &mut MachineSpec) {
    spec.nics.clear();
    spec.shares.clear();
    spec.usb.clear();
    spec.extra_args.clear();
    spec.vsock = false;
    for cdrom in &mut spec.cdroms {
        cdrom.file = None;
    }
}

/// Checks a request and begins the work.
///
/// # Errors
/// What does not hold, with its field; nothing was made then.
pub(crate) async fn drill(
    shared: &Arc<Shared>,
    request: BackupDrillRequest,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let seconds = request.seconds.unwrap_or(WATCHED);
    if !(WATCHED_LEAST..=WATCHED_MOST).contains(&seconds) {
        return Err(ErrorBody::invalid("seconds", "A guest is not watched for so long, or so short.")
            .with_hint(format!("Choose {WATCHED_LEAST} to {WATCHED_MOST}.")));
    }
    let id = VmId::new();
    let random = uuid::Uuid::new_v4().simple().to_string();
    let name = format!("drill {:.8} {}", request.backup, &random[..4]);
    let BackupDrillRequest { directory, password, backup, machine, .. } = request;
    let wanted =
        BackupRestoreRequest { directory, password, backup, machine, name: Some(name.clone()), start: false };
    let (plan, recipe) = restore::plan(shared, wanted, (id, Origin::System), true).await?;
    let subject = Subject::Vm(id, &name);
    let ticket =
        shared.ledger.open_operation(OperationKind::BackupDrill, subject, origin, Cancel::Heeded).await?;
    let operation = ticket.operation();
    let shared_too = Arc::clone(shared);
    shared.builders.spawn(async move {
        let (shared, ticket) = (shared_too, ticket);
        let cancel = ticket.cancel().clone();
        let _watch = end_with_engine(&shared, &cancel);
        ticket.begin();
        let came = async {
            let restored = build::begin(&shared, plan, recipe).await?;
            ended(&shared, restored, &cancel).await?;
            come_up(&shared, id, seconds, &cancel).await
        };
        let came = came.await;
        let removed = remove(&shared, id).await;
        if let Ok((proof, seconds)) = &came {
            ticket.result(OperationResult::Drilled { proof: *proof, seconds: *seconds });
        }
        // What was found out counts for nothing while something is left of it.
        ticket.end(match came.map(drop).and(removed) {
            Ok(()) => Outcome::Succeeded,
            Err(_) if shared.closing.is_cancelled() => Outcome::Interrupted,
            Err(error) if error.code == ErrorCode::Cancelled => Outcome::Cancelled,
            Err(error) => Outcome::Failed(error.into()),
        });
    });
    operation.ok_or_else(|| ErrorBody::new(ErrorCode::Internal, "The operation was lost."))
}

/// Waits for the end of a part of the work, and gives that up with the whole.
async fn ended(
    shared: &Shared,
    mut operation: Operation,
    cancel: &CancellationToken,
) -> Result<(), ErrorBody> {
    let mut told = false;
    while !operation.status.is_final() {
        operation = tokio::select! {
            ended = shared.ledger.wait(operation.id, WAIT) => ended?,
            () = cancel.cancelled(), if !told => {
                told = true;
                // What cannot be cut any more is over soon.
                shared.ledger.cancel(operation.id).await.unwrap_or(operation)
            }
        };
    }
    match operation.status {
        OperationStatus::Succeeded => Ok(()),
        OperationStatus::Cancelled => Err(given_up()),
        status => Err(operation.error.unwrap_or_else(|| {
            ErrorBody::new(ErrorCode::Internal, format!("The operation ended as {}.", status.as_str()))
        })),
    }
}

fn given_up() -> ErrorBody {
    ErrorBody::new(ErrorCode::Cancelled, "The drill was given up.")
}

/// Starts the machine, and says how it was seen that it came up, and after how long.
async fn come_up(
    shared: &Shared,
    id: VmId,
    seconds: u32,
    cancel: &CancellationToken,
) -> Result<(DrillProof, u32), ErrorBody> {
    let machine = shared.fleet.get(id)?;
    let started = machine.act(Order::Start, Origin::System).await?;
    ended(shared, started, cancel).await?;
    let (began, log) = (Instant::now(), shared.config.serial_log(id));
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(given_up()),
            _ = looks.tick() => {}
        }
        let now = u32::try_from(began.elapsed().as_secs()).unwrap_or(u32::MAX);
        let view = machine.view();
        let run = machine.run().filter(|_| view.state == VmState::Running && view.attention.is_none());
        let Some(run) = run else {
            let why = view.attention.as_ref().map_or("", |attention| attention.message.as_str());
            let message = format!("The restored guest ended or was held after {now} seconds. {why}");
            return Err(ErrorBody::new(ErrorCode::InvalidState, message.trim_end())
                .with_hint("Restore the backup, start it, and look at its screen."));
        };
        if guest::info(&run).await.agent {
            return Ok((DrillProof::Agent, now));
        }
        let log = log.clone();
        if blocking(move || Ok(asks_for_login(&log))).await? {
            return Ok((DrillProof::Login, now));
        }
        if now >= seconds {
            return Ok((DrillProof::Ran, now));
        }
    }
}

/// Whether what a guest said last on its serial port is that somebody may log in.
fn asks_for_login(log: &Path) -> bool {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut said = Vec::new();
        file.take(TAIL).read_to_end(&mut said)?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    };
    read().is_ok_and(|said| said.trim_end().ends_with("login:"))
}

/// Removes the machine of a drill, if there is one.
async fn remove(shared: &Shared, id: VmId) -> Result<(), ErrorBody> {
    let Ok(machine) = shared.fleet.get(id) else { return Ok(()) };
    machine.settled().await;
    let never = CancellationToken::new();
    if machine.run().is_some() {
        let off = machine.act(Order::ForceOff, Origin::System).await?;
        ended(shared, off, &never).await?;
    }
    let order = Order::Delete { disks: Disks::Remove, children: Children::Refuse };
    let deleted = machine.act(order, Origin::System).await?;
    ended(shared, deleted, &never).await
}

/// Removes what drills of an owner that ended have left.
pub(crate) async fn remove_left_over(shared: Weak<Shared>) {
    let Some(shared) = shared.upgrade() else { return };
    let marked = |machine: &Arc<Machine>| files::drill_mark(&shared.config.machine_dir(machine.id)).exists();
    for machine in shared.fleet.all().into_iter().filter(marked) {
        tracing::warn!(vm = %machine.id, "what is left of a restore drill is removed");
        if let Err(error) = remove(&shared, machine.id).await {
            tracing::error!(vm = %machine.id, %error, "what is left of a restore drill stays until the next start");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_what_was_said_last() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("serial.log");
        assert!(!asks_for_login(&log));
        for (said, asks) in [
            ("Debian GNU/Linux 13 web ttyS0\n\nweb login: ", true),
            ("login: root\nLast login: today\nweb:~# ", false),
            ("", false),
        ] {
            std::fs::write(&log, "x".repeat(5000) + said).unwrap();
            assert_eq!(asks_for_login(&log), asks, "{said}");
        }
    }
}
