//! Which of a schedule's snapshots, or backups, are kept, with the reasons: as restic forgets (grandfather, father, son), then by
//! depth and space.
//!
//! Invariants: only the schedule's own are judged; one that is marked to be kept, the newest and the one just taken
//! always stay; asked again with what is left, the answer is that all of it stays (while days go by, less).

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use voidvm_model::schedule::{Retention, VerdictReason};
use voidvm_model::{Bytes, SnapshotId};

/// What is asked of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<Id = SnapshotId> {
    /// Which.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// The instant it shows.
    pub created_at: Timestamp,
    /// Whether the schedule took it; others only count for the depth.
    pub ours: bool,
    /// Whether it is marked to be kept.
    pub pinned: bool,
    /// The one it came after.
    pub parent: Option<Id>,
    /// Whether the present came after it.
    pub current: bool,
    /// What deleting it gives back.
    pub frees: Bytes,
}

/// What a judgement depends on beside the snapshots.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a, Id = SnapshotId> {
    /// The rules.
    pub retention: &'a Retention,
    /// The zone of the schedule's clock: days are its days.
    pub zone: &'a TimeZone,
    /// The one just taken: a clock that was set back may have made it look old.
    pub fresh: Option<Id>,
    /// What is free where the disks are, where that is known.
    pub free: Option<Bytes>,
}

/// What is said of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict<Id = SnapshotId> {
    /// Which.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// The instant it shows.
    pub created_at: Timestamp,
    /// Whether it stays.
    pub kept: bool,
    /// Why it stays, all reasons there are; or why it goes.
    pub reasons: Vec<VerdictReason>,
}

/// The period an instant is in.
type Key = (i16, i16, i32);
/// A rule, and its periods.
type Rule = (VerdictReason, fn(&Zoned) -> Key);

const RULES: [Rule; 5] = [
    (VerdictReason::Hourly, |at| {
        // The offset tells the hours apart that look the same.
        (at.year(), at.day_of_year(), i32::from(at.hour()) * 100_000 - at.offset().seconds())
    }),
    (VerdictReason::Daily, |at| (at.year(), at.day_of_year(), 0)),
    (VerdictReason::Weekly, |at| {
        let week = at.date().iso_week_date();
        (week.year(), week.week().into(), 0)
    }),
    (VerdictReason::Monthly, |at| (at.year(), at.month().into(), 0)),
    (VerdictReason::Yearly, |at| (at.year(), 0, 0)),
];

/// What stays and what goes; newest first.
#[must_use]
pub fn judge<Id: Copy + Ord>(all: &[Candidate<Id>], of: &Circumstances<'_, Id>) -> Vec<Verdict<Id>> {
    let mut ours: Vec<&Candidate<Id>> = all.iter().filter(|one| one.ours).collect();
    ours.sort_by_key(|one| std::cmp::Reverse((one.created_at, one.id)));
    let mut stays: Vec<BTreeSet<VerdictReason>> = vec![BTreeSet::new(); ours.len()];
    by_rules(&ours, of, &mut stays);
    let mut goes: BTreeMap<Id, VerdictReason> = ours
        .iter()
        .zip(&stays)
        .filter(|(_, reasons)| reasons.is_empty())
        .map(|(one, _)| (one.id, VerdictReason::Superseded))
        .collect();
    // What nobody may touch is not on offer; the oldest go first.
    let protected = |reasons: &BTreeSet<_>| {
        [VerdictReason::Pinned, VerdictReason::Newest].iter().any(|r| reasons.contains(r))
    };
    let mut offered: Vec<&Candidate<Id>> = ours
        .iter()
        .zip(&stays)
        .rev()
        .filter(|(one, reasons)| !goes.contains_key(&one.id) && !protected(reasons))
        .map(|(one, _)| *one)
        .collect();
    if let Some(most) = of.retention.max_depth {
        let line = line(all);
        let on_line = line.iter().filter(|id| !goes.contains_key(id)).count();
        let too_many = on_line.saturating_sub(usize::try_from(most).unwrap_or(usize::MAX));
        let deep = offered.iter().filter(|one| line.contains(&one.id)).take(too_many).map(|one| one.id);
        goes.extend(deep.map(|id| (id, VerdictReason::TooDeep)).collect::<Vec<_>>());
        offered.retain(|one| !goes.contains_key(&one.id));
    }
    if let (Some(floor), Some(free)) = (of.retention.min_free, of.free) {
        let freed = ours.iter().filter(|one| goes.contains_key(&one.id)).map(|one| one.frees.0);
        let mut free = freed.fold(free.0, u64::saturating_add);
        for one in offered {
            if free >= floor.0 {
                break;
            }
            free = free.saturating_add(one.frees.0);
            goes.insert(one.id, VerdictReason::LowSpace);
        }
    }
    let verdict = |(one, reasons): (&Candidate<Id>, BTreeSet<VerdictReason>)| {
        let gone = goes.get(&one.id).copied();
        Verdict {
            id: one.id,
            name: one.name.clone(),
            created_at: one.created_at,
            kept: gone.is_none(),
            reasons: gone.map_or_else(|| reasons.into_iter().collect(), |reason| vec![reason]),
        }
    };
    ours.into_iter().zip(stays).map(verdict).collect()
}

fn by_rules<Id: Copy + Ord>(
    ours: &[&Candidate<Id>],
    of: &Circumstances<'_, Id>,
    stays: &mut [BTreeSet<VerdictReason>],
) {
    let rules = of.retention;
    for (at, (one, reasons)) in ours.iter().zip(&mut *stays).enumerate() {
        if one.pinned {
            reasons.insert(VerdictReason::Pinned);
        }
        if at == 0 || of.fresh == Some(one.id) {
            reasons.insert(VerdictReason::Newest);
        }
        if !rules.has_rules() {
            reasons.insert(VerdictReason::NoRule);
        }
        if at < usize::try_from(rules.keep_last).unwrap_or(usize::MAX) {
            reasons.insert(VerdictReason::Last);
        }
    }
    let counts = [rules.hourly, rules.daily, rules.weekly, rules.monthly, rules.yearly];
    for ((reason, key), mut left) in RULES.into_iter().zip(counts) {
        let mut last = None;
        for (at, one) in ours.iter().enumerate() {
            if left == 0 {
                break;
            }
            let key = key(&one.created_at.to_zoned(of.zone.clone()));
            // The oldest stays as well, as long as there is a place for it: the past then reaches as far as was asked for.
            if last != Some(key) || at + 1 == ours.len() {
                stays[at].insert(reason);
                left -= 1;
                last = Some(key);
            }
        }
    }
}

/// The snapshots the present stands on.
fn line<Id: Copy + Ord>(all: &[Candidate<Id>]) -> BTreeSet<Id> {
    let by_id: BTreeMap<Id, &Candidate<Id>> = all.iter().map(|one| (one.id, one)).collect();
    let mut line = BTreeSet::new();
    let mut next = all.iter().find(|one| one.current).map(|one| one.id);
    // A circle cannot be, and would end here as well.
    while let Some(id) = next.filter(|id| !line.contains(id)) {
        line.insert(id);
        next = by_id.get(&id).and_then(|one| one.parent);
    }
    line
}
