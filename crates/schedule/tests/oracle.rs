//! Times and retention against oracles that know nothing of how they are made: one walks minute by minute, the other groups.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use voidvm_model::schedule::{Retention, VerdictReason};
use voidvm_model::{Bytes, SnapshotId};
use voidvm_schedule::Times;
use voidvm_schedule::judge::{Candidate, Circumstances, judge};

const ZONES: [&str; 7] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Africa/Casablanca",
];

/// A field of an expression as a set; its text beside it.
fn field(low: u8, high: u8) -> impl Strategy<Value = (String, BTreeSet<u8>)> {
    let all: BTreeSet<u8> = (low..=high).collect();
    let stepped = (2_u8..=20).prop_map(move |step| {
        (format!("*/{step}"), (low..=high).step_by(step.into()).collect::<BTreeSet<u8>>())
    });
    let listed = proptest::collection::btree_set(low..=high, 1..4).prop_map(|set| {
        let text = set.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        (text, set)
    });
    let range = (low..=high, low..=high).prop_map(|(a, b)| {
        let (a, b) = (a.min(b), a.max(b));
        (format!("{a}-{b}"), (a..=b).collect::<BTreeSet<u8>>())
    });
    prop_oneof![2 => Just(("*".to_owned(), all)), 1 => stepped, 2 => listed, 1 => range]
}

#[derive(Debug)]
struct Fields {
    minutes: BTreeSet<u8>,
    hours: BTreeSet<u8>,
    /// Sunday is 0.
    weekdays: BTreeSet<u8>,
}

impl Fields {
    fn fits(&self, wall: DateTime) -> bool {
        let fits = |set: &BTreeSet<u8>, value: i8| set.contains(&u8::try_from(value).unwrap());
        fits(&self.minutes, wall.minute())
            && fits(&self.hours, wall.hour())
            && fits(&self.weekdays, wall.weekday().to_sunday_zero_offset())
    }

    /// What the rules say of the minute that begins at `at`, from the wall clock now and a minute before alone.
    fn runs(&self, at: Timestamp, zone: &TimeZone) -> bool {
        let minute = SignedDuration::from_mins(1);
        let wall = zone.to_datetime(at);
        if self.hours.len() == 24 {
            return self.fits(wall);
        }
        // A wall time counts when it was not there in the last hours already.
        let repeated = || (1..=180).any(|minutes| zone.to_datetime(at - minute * minutes) == wall);
        // And when the clock jumped just now, what it jumped over does.
        let mut skipped = zone.to_datetime(at - minute) + minute;
        let mut made_up = false;
        while skipped < wall {
            made_up |= self.fits(skipped);
            skipped += minute;
        }
        made_up || (self.fits(wall) && !repeated())
    }
}

proptest! {
    #[test]
    fn runs_are_those_of_a_walk_through_every_minute(
        zone in proptest::sample::select(&ZONES[..]),
        (minute_text, minutes) in field(0, 59),
        (hour_text, hours) in field(0, 23),
        (weekday_text, weekdays) in field(0, 6),
        // Within days of a change of the clocks in many of the zones, or anywhere.
        start in prop_oneof![
            Just("2026-03-28T00:00:00Z"), Just("2026-10-24T00:00:00Z"), Just("2026-03-07T12:00:00Z"),
            Just("2026-10-31T12:00:00Z"), Just("2026-04-04T00:00:00Z"), Just("2026-10-03T00:00:00Z"),
            Just("2026-02-14T12:00:00Z"), Just("2026-07-01T00:00:00Z"),
        ],
        shift in 0_i64..2880,
    ) {
        let text = format!("{minute_text} {hour_text} * * {weekday_text}");
        let (times, zone) = (Times::parse(&text).unwrap(), TimeZone::get(zone).unwrap());
        let fields = Fields { minutes, hours, weekdays };
        let from = start.parse::<Timestamp>().unwrap() + SignedDuration::from_mins(shift);
        let until = from + SignedDuration::from_hours(36);
        let got: Vec<Timestamp> = times.between(from, until, &zone).map(|run| run.at).collect();
        let mut expected = Vec::new();
        let mut at = from + SignedDuration::from_mins(1);
        while at <= until {
            if fields.runs(at, &zone) {
                expected.push(at);
            }
            at += SignedDuration::from_mins(1);
        }
        prop_assert_eq!(got, expected, "{} in {:?}", text, zone.iana_name());
    }
}

fn retention() -> impl Strategy<Value = Retention> {
    let count = || prop_oneof![2 => Just(0_u32), 3 => 1_u32..8];
    (
        (count(), count(), count(), count(), count(), count()),
        proptest::option::of(0_u64..60),
        proptest::option::of(1_u32..40),
    )
        .prop_map(|((keep_last, hourly, daily, weekly, monthly, yearly), min_free, max_depth)| {
            Retention {
                keep_last,
                hourly,
                daily,
                weekly,
                monthly,
                yearly,
                min_free: min_free.map(Bytes),
                max_depth,
            }
        })
}

/// A line of snapshots, some of them somebody else's or marked.
fn snapshots() -> impl Strategy<Value = Vec<Candidate>> {
    let gap = prop_oneof![3 => 1_i64..7200, 3 => 3600_i64..90_000, 1 => 86_400_i64..5_000_000];
    proptest::collection::vec((gap, any::<u8>(), 0_u64..4), 0..60).prop_map(|steps| {
        let mut at = "2026-02-27T22:00:00Z".parse::<Timestamp>().unwrap();
        let (mut all, mut parent) = (Vec::new(), None);
        let count = steps.len();
        for (number, (gap, dice, frees)) in steps.into_iter().enumerate() {
            at += SignedDuration::from_secs(gap);
            let id = SnapshotId::new();
            all.push(Candidate {
                id,
                name: number.to_string(),
                created_at: at,
                ours: dice % 5 != 0,
                pinned: dice % 11 == 0,
                parent,
                current: number + 1 == count,
                frees: Bytes(frees),
            });
            parent = Some(id);
        }
        all
    })
}

/// The same by sets: for each rule the newest of each period, by the period's written name.
fn expected(
    all: &[Candidate],
    retention: &Retention,
    zone: &TimeZone,
    free: Option<u64>,
) -> BTreeSet<SnapshotId> {
    let mut ours: Vec<&Candidate> = all.iter().filter(|one| one.ours).collect();
    ours.sort_by_key(|one| one.created_at);
    let mut kept: BTreeSet<SnapshotId> = ours.iter().filter(|one| one.pinned).map(|one| one.id).collect();
    kept.extend(ours.last().map(|one| one.id));
    let safe = kept.clone();
    if retention.has_rules() {
        kept.extend(ours.iter().rev().take(retention.keep_last as usize).map(|one| one.id));
        for (count, format) in [
            (retention.hourly, "%F %H %:z"),
            (retention.daily, "%F"),
            (retention.weekly, "%G-%V"),
            (retention.monthly, "%Y-%m"),
            (retention.yearly, "%Y"),
        ] {
            let mut periods = BTreeMap::new();
            for one in &ours {
                let name = one.created_at.to_zoned(zone.clone()).strftime(format).to_string();
                // The last one written is the newest.
                periods.insert(name, (one.created_at, one.id));
            }
            let mut newest: Vec<_> = periods.into_values().collect();
            newest.sort_unstable();
            kept.extend(newest.iter().rev().take(count as usize).map(|(_, id)| *id));
            if newest.len() < count as usize {
                kept.extend(ours.first().map(|one| one.id));
            }
        }
    } else {
        kept.extend(ours.iter().map(|one| one.id));
    }
    let oldest_unsafe = |kept: &BTreeSet<SnapshotId>| {
        ours.iter().find(|one| kept.contains(&one.id) && !safe.contains(&one.id)).map(|one| one.id)
    };
    if let Some(most) = retention.max_depth {
        // All of them are on the line the present stands on.
        while all.iter().filter(|one| !one.ours || kept.contains(&one.id)).count() > most as usize {
            let Some(oldest) = oldest_unsafe(&kept) else { break };
            kept.remove(&oldest);
        }
    }
    if let (Some(floor), Some(free)) = (retention.min_free, free) {
        let freed = |kept: &BTreeSet<SnapshotId>| {
            ours.iter().filter(|one| !kept.contains(&one.id)).map(|one| one.frees.0).sum::<u64>()
        };
        while free + freed(&kept) < floor.0 {
            let Some(oldest) = oldest_unsafe(&kept) else { break };
            kept.remove(&oldest);
        }
    }
    kept
}

proptest! {
    #[test]
    fn what_is_kept_is_what_grouping_says(
        all in snapshots(),
        retention in retention(),
        zone in proptest::sample::select(&ZONES[..]),
        free in proptest::option::of(0_u64..60),
    ) {
        let zone = TimeZone::get(zone).unwrap();
        let of = Circumstances { retention: &retention, zone: &zone, fresh: None, free: free.map(Bytes) };
        let verdicts = judge(&all, &of);
        let kept: BTreeSet<SnapshotId> = verdicts.iter().filter(|one| one.kept).map(|one| one.id).collect();
        prop_assert_eq!(&kept, &expected(&all, &retention, &zone, free));
        prop_assert_eq!(verdicts.len(), all.iter().filter(|one| one.ours).count(), "others are not judged");
        prop_assert!(verdicts.iter().all(|one| !one.reasons.is_empty()));
        for one in all.iter().filter(|one| one.ours && one.pinned) {
            prop_assert!(kept.contains(&one.id));
        }
    }

    #[test]
    fn what_is_left_stays_when_asked_again(all in snapshots(), mut retention in retention()) {
        retention.min_free = None;
        let of = Circumstances { retention: &retention, zone: &TimeZone::UTC, fresh: None, free: None };
        let gone: BTreeSet<SnapshotId> =
            judge(&all, &of).into_iter().filter(|one| !one.kept).map(|one| one.id).collect();
        // Who stood on what is gone stands on what that stood on.
        let mut left: Vec<Candidate> = all.iter().filter(|one| !gone.contains(&one.id)).cloned().collect();
        for at in 0..left.len() {
            left[at].parent = at.checked_sub(1).map(|before| left[before].id);
        }
        if let Some(last) = left.last_mut() {
            last.current = true;
        }
        prop_assert!(judge(&left, &of).iter().all(|one| one.kept));
    }

    #[test]
    fn the_one_just_taken_stays_whatever_its_time_is(all in snapshots(), mut retention in retention(), pick in any::<proptest::sample::Index>()) {
        retention.keep_last = 1;
        let ours: Vec<SnapshotId> = all.iter().filter(|one| one.ours).map(|one| one.id).collect();
        if !ours.is_empty() {
            let fresh = Some(ours[pick.index(ours.len())]);
            let of = Circumstances { retention: &retention, zone: &TimeZone::UTC, fresh, free: Some(Bytes(0)) };
            let verdicts = judge(&all, &of);
            let it = verdicts.iter().find(|one| Some(one.id) == fresh).unwrap();
            prop_assert!(it.kept && it.reasons.contains(&VerdictReason::Newest));
        }
    }
}
