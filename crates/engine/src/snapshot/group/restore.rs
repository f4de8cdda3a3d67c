//! Taking a group back to a snapshot of it.
//!
//! ```text
//! (present kept as a group's snapshot) ─▶ all processes ended ─▶ intents of all in one step ─▶ each put in place ─▶ intents
//! ended ─▶ all loaded, held ─▶ all go on
//!      │                                        ├─ cut: the next start puts all of them in place
//!      └─ cut: what was on the disks, at rest    └─ one fails: all are taken back to the present that was kept
//! ```

use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use voidvm_model::group::GroupSnapshotRestoreRequest;
use voidvm_model::snapshot::{RestoreTo, SnapshotReason};
use voidvm_model::{ErrorBody, ErrorCode, Operation, OperationKind, Origin, VmId, VmState};
use voidvm_store::{Intent, IntentAction, IntentId, SnapshotRow};

use super::super::job::{self, Came, Job};
use super::super::restore::{Plan, check_whole, put, runs_disposable, safety_name};
use super::super::take::Memory;
use super::super::{kept, merge};
use super::take::{self, GroupWish};
use super::{Found, Member, borrow, find, of, together};
use crate::ledger::Cancel;
use crate::shared::Shared;
use crate::supervisor::Machine;

/// Checks a request and begins the work.
///
/// # Errors
/// What does not hold, with its field; nothing was changed then.
pub(crate) async fn restore(
    shared: &Arc<Shared>,
    request: GroupSnapshotRestoreRequest,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let found = find(shared, &request.group, &request.snapshot).await?;
    let machines = members(shared, &found)?;
    for machine in &machines {
        if machine.view().meta.template && request.to == RestoreTo::Running {
            return Err(of(
                ErrorBody::new(ErrorCode::InvalidState, "A template is never started.").with_field("to"),
                machine,
            ));
        }
    }
    let kind = (OperationKind::GroupSnapshotRestore, origin, Cancel::Heeded);
    let id = found.row.id.to_string();
    job::begin_together(shared, (&request.group.clone(), machines), kind, move |jobs| async move {
        carry_out(&jobs, (&request.group, &id), request.to, request.discard_present).await
    })
    .await
}

/// The machines of a snapshot, each with all that its part needs.
pub(super) fn members(shared: &Shared, found: &Found) -> Result<Vec<Arc<Machine>>, ErrorBody> {
    found.check_complete()?;
    let mut machines = Vec::with_capacity(found.parts.len());
    for part in &found.parts {
        let machine = shared.fleet.get(part.vm_id)?;
        check_whole(&shared.config.machine_dir(part.vm_id), part).map_err(|error| of(error, &machine))?;
        machines.push(machine);
    }
    Ok(machines)
}

async fn carry_out(
    jobs: &[Arc<Job>],
    (group, id): (&str, &str),
    to: RestoreTo,
    discard_present: bool,
) -> Came {
    let Some(first) = jobs.first() else { return Ok(None) };
    let shared = Arc::clone(&first.shared);
    let mut members = borrow(jobs).await?;
    // Since it was asked for, it may have been removed, or a file of it.
    let found = find(&shared, group, id).await?;
    super::restore::members(&shared, &found)?;
    let present = if discard_present { Vec::new() } else { keep_present(&members, &found).await? };
    first.seal()?;
    let ended = members.iter_mut().map(async |member| {
        let machine = Arc::clone(&member.job.machine);
        machine.end_run(&mut member.loan).await.map_err(|error| of(error, &machine))
    });
    join_all(ended).await.into_iter().collect::<Result<(), _>>()?;
    let plans = members
        .iter()
        .map(|member| Ok(plan(member, found.part(&member.job.machine)?, to)))
        .collect::<Result<Vec<_>, ErrorBody>>()?;
    let intents: Vec<Intent> =
        members.iter().zip(&plans).map(|(member, plan)| intent(member, plan)).collect();
    let journal = shared.store.journal();
    let ids = journal.begin_all(&intents, Timestamp::now()).await.map_err(|error| error.body())?;
    let put_back = put_all(&members, &plans).await;
    let put_back = match put_back {
        Ok(()) => Ok(()),
        Err(error) => Err(take_back(&shared, &members, &ids, &present, error).await),
    };
    if put_back.is_ok() || !present.is_empty() {
        for (member, id) in members.iter().zip(&ids) {
            member.job.settled(*id).await;
        }
    }
    for member in &members {
        merge::quietly(&member.job, &member.loan).await;
    }
    // With its present it goes on as it did.
    let all_start = put_back.is_ok() && to == RestoreTo::Running;
    drop(members);
    jobs.iter().for_each(|job| job.announce());
    let starts = |job: &&Arc<Job>| all_start || job.machine.view().state == VmState::Suspended;
    let machines: Vec<_> = jobs.iter().filter(starts).map(|job| Arc::clone(&job.machine)).collect();
    let started = together::start(&shared, &machines, first.origin).await;
    put_back.and(started).map(|()| None)
}

/// Keeps what is there now, as a snapshot of the group; of machines there is nothing to keep of, nothing is.
async fn keep_present(members: &[Member], found: &Found) -> Result<Vec<SnapshotRow>, ErrorBody> {
    let mut kept: Vec<&Member> = Vec::with_capacity(members.len());
    for member in members {
        match member.loan.vm.state {
            VmState::Suspended => {
                return Err(of(super::super::restore::would_be_lost(&member.loan), &member.job.machine));
            }
            VmState::Broken => {}
            _ if runs_disposable(&member.loan) => {}
            _ => kept.push(member),
        }
    }
    let Some(first) = kept.first() else { return Ok(Vec::new()) };
    let vms: Vec<VmId> = kept.iter().map(|member| member.job.vm()).collect();
    let wanted = safety_name(&found.row.name);
    let name = take::free_name(&first.job.shared, &found.row.group, &vms, &wanted).await?;
    let wish = GroupWish {
        group: found.row.group.clone(),
        name: Some(name),
        description: String::new(),
        reason: SnapshotReason::Safety,
        schedule_id: None,
        memory: Memory::Kept,
    };
    Ok(take::take(&kept, wish).await?.parts)
}

fn plan(member: &Member, part: &SnapshotRow, to: RestoreTo) -> Plan {
    let machine_dir = member.job.machine_dir();
    Plan {
        dir: kept::dir(&machine_dir, part.id),
        machine_dir,
        with_memory: part.memory && to != RestoreTo::Stopped,
        row: part.clone(),
    }
}

fn intent(member: &Member, plan: &Plan) -> Intent {
    Intent {
        operation_id: member.job.operation,
        vm_id: Some(member.job.vm()),
        action: IntentAction::SnapshotRestore,
        files: plan.to_files(),
    }
}

async fn put_all(members: &[Member], plans: &[Plan]) -> Result<(), ErrorBody> {
    for (member, plan) in members.iter().zip(plans) {
        put(&member.job, &member.loan, plan).await.map_err(|error| of(error, &member.job.machine))?;
    }
    Ok(())
}

/// Takes all of them back to the present that was kept, because one could not be restored; what to say of it.
async fn take_back(
    shared: &Shared,
    members: &[Member],
    ids: &[IntentId],
    present: &[SnapshotRow],
    error: ErrorBody,
) -> ErrorBody {
    let part = |id: VmId| present.iter().find(|part| part.vm_id == id);
    let mut back: Vec<(&Member, IntentId, Plan)> = Vec::new();
    for (member, id) in members.iter().zip(ids) {
        if let Some(part) = part(member.job.vm()) {
            back.push((member, *id, plan(member, part, RestoreTo::AsItWas)));
        }
    }
    if back.is_empty() {
        return error.with_hint("voidVM tries again when it is started the next time.");
    }
    let intents: Vec<_> = back.iter().map(|(member, id, plan)| (*id, intent(member, plan))).collect();
    let changed: Vec<_> = intents.iter().map(|(id, intent)| (*id, intent)).collect();
    if let Err(also) = shared.store.journal().become_all(&changed).await {
        tracing::error!(error = %also, "a group that could not be restored stays in between until the next start");
        return error;
    }
    for (member, _, plan) in &back {
        if let Err(also) = put(&member.job, &member.loan, plan).await {
            tracing::error!(vm = %member.job.vm(), error = %also, "a machine cannot be taken back to its present");
        }
    }
    error.with_hint("All machines of the group were taken back to what they were.")
}
