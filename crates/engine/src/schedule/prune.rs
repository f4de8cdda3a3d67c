//! Removes what retention keeps no longer, and sees to the space that is to stay free.
//!
//! What is part of a group's snapshot goes with it or stays with it: it goes when no machine's rules keep it; for want of space, or
//! because one machine stands on too many, also when rules would keep it, unless it is a machine's newest or marked to be kept.

use std::collections::BTreeSet;

use voidvm_model::schedule::{MachineRun, VerdictReason};
use voidvm_model::{Bytes, ErrorBody, ErrorCode, GroupSnapshotId, ScheduleId, VmId};
use voidvm_schedule::judge::{Circumstances, Verdict, judge};
use voidvm_store::ScheduleRow;

use super::run::Work;
use super::{KeptId, ScheduledMachine, Scheduler, SchedulerParts};
use jiff::tz::TimeZone;

/// What a snapshot gives back is an estimate: so often it is measured again, at most.
const ROUNDS: usize = 100;

/// What becomes of a snapshot, as far as its own machine is concerned.
pub(super) struct Judged {
    pub(super) verdict: Verdict<KeptId>,
    group: Option<GroupSnapshotId>,
}

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
) -> Result<Vec<Judged>, ErrorBody> {
    let kept = parts.kept(row);
    let there = kept.list(vm).await?;
    let groups: Vec<_> = there.iter().filter_map(|one| Some((one.id, one.group?))).collect();
    let candidates: Vec<_> = there.into_iter().map(|one| one.candidate(of)).collect();
    let free = match row.retention.min_free {
        Some(_) => Some(kept.free(vm).await?),
        None => None,
    };
    let verdicts = judge(&candidates, &Circumstances { retention: &row.retention, zone, fresh, free });
    let group = |id| groups.iter().find(|(of, _)| *of == id).map(|(_, group)| *group);
    Ok(verdicts.into_iter().map(|verdict| Judged { group: group(verdict.id), verdict }).collect())
}

/// Whether one goes, now that all machines of its group have been heard.
fn goes(one: &Judged, all: &[Vec<Judged>]) -> bool {
    let has = |judged: &Judged, reasons: &[VerdictReason]| {
        reasons.iter().any(|reason| judged.verdict.reasons.contains(reason))
    };
    let pressed = has(one, &[VerdictReason::TooDeep, VerdictReason::LowSpace]);
    let objects = |other: &Judged| {
        other.verdict.kept && (!pressed || has(other, &[VerdictReason::Pinned, VerdictReason::Newest]))
    };
    let siblings = || all.iter().flatten().filter(|other| other.group == one.group);
    !one.verdict.kept && (one.group.is_none() || !siblings().any(objects))
}

impl Work {
    /// Removes what goes of the snapshots of a machine, or of those of a group, the oldest first, and notes it.
    ///
    /// # Errors
    /// When one cannot be removed; those before it are gone.
    pub(super) async fn prune(
        &self,
        scheduler: &Scheduler,
        machines: &mut [MachineRun],
    ) -> Result<(), ErrorBody> {
        let parts = &scheduler.0.parts;
        for _ in 0..ROUNDS {
            let mut all = Vec::with_capacity(machines.len());
            for machine in machines.iter() {
                let of = (&self.row, Some(self.row.id));
                let fresh = machine.snapshot.map(KeptId::Snapshot).or(machine.backup.map(KeptId::Backup));
                all.push(verdicts(parts, of, &self.zone, machine.vm_id, fresh).await?);
            }
            let (mut gone, mut removed) = (BTreeSet::new(), false);
            for (machine, judged) in machines.iter_mut().zip(&all) {
                let doomed: Vec<_> = judged.iter().rev().filter(|one| goes(one, &all)).collect();
                // What removed backups leave is cleared away once for all of them.
                let at_once = if self.row.backup.is_some() { doomed.len().max(1) } else { 1 };
                for doomed in doomed.chunks(at_once) {
                    // With the first of a group's the others are gone.
                    let ids: Vec<_> = doomed
                        .iter()
                        .filter(|one| one.group.is_none_or(|group| gone.insert(group)))
                        .map(|one| one.verdict.id)
                        .collect();
                    if !ids.is_empty() {
                        parts.kept(&self.row).delete(machine.vm_id, &ids).await?;
                    }
                    machine.pruned.extend(doomed.iter().map(|one| one.verdict.name.clone()));
                    removed = true;
                }
            }
            if !removed || self.row.retention.min_free.is_none() {
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
        machines: &mut [MachineRun],
    ) -> Result<(), ErrorBody> {
        let Some(floor) = self.row.retention.min_free else { return Ok(()) };
        let snapshots = scheduler.0.parts.kept(&self.row);
        if snapshots.free(machine.id).await? >= floor {
            return Ok(());
        }
        self.prune(scheduler, machines).await?;
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

#[cfg(test)]
mod tests {
    use voidvm_model::SnapshotId;

    use super::*;

    fn judged(group: Option<GroupSnapshotId>, kept: bool, reasons: &[VerdictReason]) -> Judged {
        let verdict = Verdict {
            id: KeptId::Snapshot(SnapshotId::new()),
            name: "one".to_owned(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            kept,
            reasons: reasons.to_vec(),
        };
        Judged { verdict, group }
    }

    #[test]
    fn a_group_goes_as_a_whole_and_what_one_machine_keeps_stays() {
        let group = Some(GroupSnapshotId::new());
        let both = |one: Judged, other: Judged| goes(&one, &[vec![], vec![other]]);
        let superseded = |group| judged(group, false, &[VerdictReason::Superseded]);
        assert!(both(superseded(group), superseded(group)));
        assert!(!both(superseded(group), judged(group, true, &[VerdictReason::Last])));
        assert!(both(superseded(None), judged(group, true, &[VerdictReason::Last])), "another's rules");
        assert!(both(superseded(None), judged(None, true, &[VerdictReason::Last])), "machines by themselves");
        let pressed = |reason| judged(group, false, &[reason]);
        for reason in [VerdictReason::LowSpace, VerdictReason::TooDeep] {
            assert!(both(pressed(reason), judged(group, true, &[VerdictReason::Daily])));
            assert!(!both(pressed(reason), judged(group, true, &[VerdictReason::Newest])));
            assert!(!both(pressed(reason), judged(group, true, &[VerdictReason::Pinned])));
        }
        assert!(!goes(&judged(group, true, &[VerdictReason::Last]), &[]));
    }
}
