//! Removes what retention keeps no longer, and sees to the space that is to stay free.

use voidvm_model::{Bytes, ErrorBody, ErrorCode, ScheduleId, VmId};
use voidvm_schedule::judge::{Circumstances, Verdict, judge};
use voidvm_store::ScheduleRow;

use super::run::Work;
use super::{KeptId, ScheduledMachine, Scheduler, SchedulerParts};
use jiff::tz::TimeZone;

/// What a snapshot gives back is an estimate: so often it is measured again, at most.
const ROUNDS: usize = 100;

/// What a schedule's retention says of a machine's snapshots, newest first.
///
/// # Errors
/// When the snapshots or the space cannot be seen.
pub(super) async fn verdicts(
    parts: &SchedulerParts,
    (row, of): (&ScheduleRow, Option<ScheduleId>),
    zone: &TimeZone,
    vm: VmId,
    fresh: Option<KeptId>,
) -> Result<Vec<Verdict<KeptId>>, ErrorBody> {
    let kept = parts.kept(row);
    let there = kept.list(vm).await?;
    let candidates: Vec<_> = there.into_iter().map(|one| one.candidate(of)).collect();
    let free = match row.retention.min_free {
        Some(_) => Some(kept.free(vm).await?),
        None => None,
    };
    Ok(judge(&candidates, &Circumstances { retention: &row.retention, zone, fresh, free }))
}

impl Work {
    /// Removes what goes, the oldest first; what was removed is added to `pruned`.
    ///
    /// # Errors
    /// When one cannot be removed; those before it are gone.
    pub(super) async fn prune(
        &self,
        scheduler: &Scheduler,
        vm: VmId,
        fresh: Option<KeptId>,
        pruned: &mut Vec<String>,
    ) -> Result<(), ErrorBody> {
        let parts = &scheduler.0.parts;
        for _ in 0..ROUNDS {
            let verdicts = verdicts(parts, (&self.row, Some(self.row.id)), &self.zone, vm, fresh).await?;
            let before = pruned.len();
            let doomed: Vec<_> = verdicts.into_iter().rev().filter(|verdict| !verdict.kept).collect();
            // What removed backups leave is cleared away once for all of them.
            let at_once = if self.row.backup.is_some() { doomed.len().max(1) } else { 1 };
            for doomed in doomed.chunks(at_once) {
                let ids: Vec<_> = doomed.iter().map(|verdict| verdict.id).collect();
                parts.kept(&self.row).delete(vm, &ids).await?;
                pruned.extend(doomed.iter().map(|verdict| verdict.name.clone()));
            }
            if pruned.len() == before || self.row.retention.min_free.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Sees to it that there is the space that is to stay free, before more is taken of it.
    ///
    /// # Errors
    /// [`ErrorCode::DiskFull`] when there is less though everything went that may.
    pub(super) async fn make_room(
        &self,
        scheduler: &Scheduler,
        machine: &ScheduledMachine,
        pruned: &mut Vec<String>,
    ) -> Result<(), ErrorBody> {
        let Some(floor) = self.row.retention.min_free else { return Ok(()) };
        let snapshots = scheduler.0.parts.kept(&self.row);
        if snapshots.free(machine.id).await? >= floor {
            return Ok(());
        }
        self.prune(scheduler, machine.id, None, pruned).await?;
        match snapshots.free(machine.id).await? {
            free if free < floor => Err(no_room(machine, self.row.backup.is_some(), free, floor)),
            _ => Ok(()),
        }
    }
}

fn no_room(machine: &ScheduledMachine, backups: bool, free: Bytes, floor: Bytes) -> ErrorBody {
    let what = if backups { "backups" } else { "disks" };
    ErrorBody::new(
        ErrorCode::DiskFull,
        format!(
            "Only {free} are free where the {what} of “{}” are; the schedule leaves {floor}.",
            machine.name
        ),
    )
    .with_hint("Make room, or have the schedule leave less.")
    .with_detail("available", free.0)
    .with_detail("needed", floor.0)
}
