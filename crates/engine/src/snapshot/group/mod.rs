//! Snapshots of a group: those of several machines at one instant.
//!
//! ```text
//! take     all lent ─▶ intents ─▶ overlays, memory on its way ─▶ [`gather`]: all nearly there ─▶ all held ─▶ of each: disks
//!          switched, the rest of its memory ─▶ all go on ─▶ rows of all in one step
//! restore  (present kept, as a group) ─▶ all processes ended ─▶ intents of all in one step ─▶ each put in place ─▶ all loaded,
//!          held ─▶ all go on
//! ```
//! No guest goes on while another's state is still to be taken: what one has heard from another, the other has said.
//! Invariant: there is a snapshot of all of them, or of none; the rows say so, which come and go in one step.

mod delete;
mod fork;
mod gather;
mod list;
mod restore;
mod take;
mod together;

use std::sync::Arc;

use voidvm_model::{ErrorBody, ErrorCode, VmView};
use voidvm_store::{GroupSnapshotRow, SnapshotRow};

pub(crate) use delete::{delete, remove};
pub(crate) use fork::{fork, unmake};
pub(crate) use list::{groups, snapshots};
pub(crate) use restore::restore;
pub(crate) use take::{GroupWish, begin, create, free_name};

use super::job::Job;
use crate::shared::Shared;
use crate::supervisor::Machine;
use crate::supervisor::lend::Loan;

/// A machine of a group that is being worked on.
pub(super) struct Member {
    job: Arc<Job>,
    loan: Loan,
}

/// The machines that stand in a group, by name; templates are never started and have no instant in common with others.
fn machines(shared: &Shared, group: &str) -> Vec<Arc<VmView>> {
    let stands = |view: &Arc<VmView>| view.meta.group.as_deref() == Some(group) && !view.meta.template;
    shared.fleet.views().into_iter().filter(stands).collect()
}

/// Borrows all of them, always in the same order: nobody waits for one who waits for them.
async fn borrow(jobs: &[Arc<Job>]) -> Result<Vec<Member>, ErrorBody> {
    let mut jobs = jobs.to_vec();
    jobs.sort_by_key(|job| job.vm());
    let mut members = Vec::with_capacity(jobs.len());
    for job in jobs {
        let loan = job.borrow().await.map_err(|error| of(error, &job.machine))?;
        members.push(Member { job, loan });
    }
    Ok(members)
}

/// Says whose error it is.
fn of(error: ErrorBody, machine: &Machine) -> ErrorBody {
    if error.code == ErrorCode::Cancelled {
        return error;
    }
    let view = machine.view();
    error.with_detail("vm", view.name.as_str()).with_detail("vmId", view.id.to_string())
}

/// A snapshot of a group with those of its machines.
#[derive(Clone)]
struct Found {
    row: GroupSnapshotRow,
    parts: Vec<SnapshotRow>,
}

/// The snapshot of this id or name.
async fn find(shared: &Shared, group: &str, key: &str) -> Result<Found, ErrorBody> {
    let rows = shared.store.groups().all().await.map_err(|error| error.body())?;
    let id = key.parse().ok();
    let mut of_group: Vec<_> = rows.into_iter().filter(|row| row.group == group).collect();
    let at = of_group.iter().position(|row| Some(row.id) == id);
    let at = at.or_else(|| of_group.iter().position(|row| row.name == key)).ok_or_else(|| {
        ErrorBody::new(ErrorCode::NotFound, format!("The group “{group}” has no snapshot “{key}”."))
            .with_field("snapshot")
            .with_hint("Look at the list of its snapshots.")
    })?;
    let row = of_group.swap_remove(at);
    let all = shared.store.snapshots().all().await.map_err(|error| error.body())?;
    let parts = all.into_iter().filter(|part| part.group_snapshot == Some(row.id)).collect();
    Ok(Found { row, parts })
}

impl Found {
    /// Makes sure that no machine of it is gone.
    fn check_complete(&self) -> Result<(), ErrorBody> {
        let gone = |id| !self.parts.iter().any(|part| part.vm_id == id);
        let gone: Vec<&str> = self
            .row
            .members
            .iter()
            .filter(|member| gone(member.id))
            .map(|member| member.name.as_str())
            .collect();
        if gone.is_empty() {
            return Ok(());
        }
        Err(ErrorBody::new(
            ErrorCode::ImageMissing,
            format!("Of “{}” these machines are gone: {}.", self.row.name, gone.join(", ")),
        )
        .with_hint("The snapshots of the others can be restored one by one.")
        .with_detail("gone", gone))
    }

    fn part(&self, machine: &Machine) -> Result<&SnapshotRow, ErrorBody> {
        self.parts.iter().find(|part| part.vm_id == machine.id).ok_or_else(|| {
            ErrorBody::new(
                ErrorCode::NotFound,
                format!("The snapshot “{}” has just been removed.", self.row.name),
            )
        })
    }
}
