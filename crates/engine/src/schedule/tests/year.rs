//! A year with everything that happens to a clock, against an oracle that walks through it step by step and knows neither cron
//! nor how the scheduler sleeps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use voidvm_model::schedule::{
    Retention, RunOutcome, ScheduleCreateRequest, ScheduleOptions, ScheduleRun, SkipReason,
};
use voidvm_model::{ErrorCode, ScheduleId};

use super::fake::{Rig, World, at, schedule};

/// What happens.
#[derive(Clone, Copy)]
enum Step {
    /// Time goes by until then.
    Until(&'static str),
    /// The computer sleeps, voidVM is closed, or the clock is set: it shows that now.
    Set(&'static str),
    /// Elsewhere.
    Travel(&'static str),
}

const YEAR: [Step; 17] = [
    Step::Travel("Europe/Berlin"),
    Step::Until("2026-02-03T22:10:00Z"),
    // Asleep for a night, past the daily run.
    Step::Set("2026-02-04T06:07:00Z"),
    // Through the missing hour, and a clock that is set back by half an hour just after an hour's run.
    Step::Until("2026-04-20T09:20:00Z"),
    Step::Set("2026-04-20T08:50:00Z"),
    Step::Until("2026-06-01T12:05:00Z"),
    // A holiday without the computer, in another zone afterwards.
    Step::Set("2026-06-20T15:40:00Z"),
    Step::Travel("America/New_York"),
    Step::Until("2026-08-02T10:00:30Z"),
    // A clock that was a month ahead, and is set right.
    Step::Set("2026-07-02T10:00:30Z"),
    Step::Until("2026-10-10T20:00:00Z"),
    Step::Travel("Europe/Berlin"),
    // Through the doubled hour, asleep until just after a run is due.
    Step::Until("2026-11-08T17:00:00Z"),
    Step::Set("2026-11-08T21:15:20Z"),
    Step::Until("2026-12-20T00:00:00Z"),
    Step::Set("2026-12-22T00:00:00Z"),
    Step::Until("2027-01-01T00:00:00Z"),
];

/// How long it takes, by the schedule and the instant.
fn script(id: ScheduleId, now: Timestamp, world: &World) -> (Duration, Option<ErrorCode>) {
    let name = world.names.iter().find(|(_, known)| **known == id).unwrap().0;
    match *name {
        "every six hours" => (takes(now), None),
        "weekly" => (Duration::ZERO, (!succeeds(now)).then_some(ErrorCode::QemuFailed)),
        _ => (Duration::ZERO, None),
    }
}

/// On the 13th of a month it takes longer than until the next run.
fn takes(now: Timestamp) -> Duration {
    let day = TimeZone::UTC.to_datetime(now).day();
    Duration::from_secs(if day == 13 { 380 * 60 } else { 0 })
}

/// In some months nothing succeeds, in some only the third attempt.
fn succeeds(now: Timestamp) -> bool {
    let wall = TimeZone::UTC.to_datetime(now);
    match wall.month() % 3 {
        0 => false,
        1 => wall.second() >= 6,
        _ => true,
    }
}

/// A schedule as the oracle knows it.
struct Known {
    name: &'static str,
    zone: Option<&'static str>,
    fits: fn(DateTime) -> bool,
    catch_up: bool,
    /// Formats of the periods of which the newest is kept, and how many; and so many of the last.
    keeps: &'static [(&'static str, usize)],
    last: usize,
}

const KNOWN: [Known; 3] = [
    Known {
        name: "daily",
        zone: None,
        fits: |wall| (wall.hour(), wall.minute()) == (2, 30),
        catch_up: true,
        keeps: &[("%F", 7), ("%G-%V", 4), ("%Y-%m", 12)],
        last: 0,
    },
    Known {
        name: "every six hours",
        zone: Some("UTC"),
        fits: |wall| wall.hour() % 6 == 0 && wall.minute() == 15,
        catch_up: true,
        keeps: &[("%F %H %:z", 10), ("%F", 3)],
        last: 5,
    },
    Known {
        name: "weekly",
        zone: Some("America/New_York"),
        fits: |wall| {
            wall.weekday() == jiff::civil::Weekday::Sunday && (wall.hour(), wall.minute()) == (1, 40)
        },
        catch_up: false,
        keeps: &[("%Y", 5)],
        last: 3,
    },
];

/// Due, outcome, why skipped, made up for, missed.
type Line = (Timestamp, RunOutcome, Option<SkipReason>, bool, u32);

/// Everything that is due, and every change of a clock, is at such a time.
const STEP: SignedDuration = SignedDuration::from_mins(5);

struct Oracle {
    /// The computer's without.
    zone: Option<TimeZone>,
    lines: Vec<Line>,
    /// With a number: a clock that goes back makes two of one time.
    kept: Vec<(Timestamp, usize)>,
    done: Timestamp,
    busy_until: Duration,
}

impl Oracle {
    /// All three have fixed hours: a wall time counts when it first comes, or when the clock jumped over it just now.
    fn is_due(known: &Known, instant: Timestamp, zone: &TimeZone) -> bool {
        let wall = zone.to_datetime(instant);
        let mut skipped = zone.to_datetime(instant - STEP) + STEP;
        while skipped < wall {
            if (known.fits)(skipped) {
                return true;
            }
            skipped += STEP;
        }
        (known.fits)(wall) && !(1..=24).any(|before| zone.to_datetime(instant - STEP * before) == wall)
    }

    fn look(&mut self, known: &Known, now: Timestamp, gone: Duration, computer: &TimeZone) {
        let zone = self.zone.clone().unwrap_or_else(|| computer.clone());
        if self.done.duration_since(now) > SignedDuration::from_hours(3) {
            self.done = now;
        }
        let step = STEP.as_secs();
        let first = self.done.as_second().div_euclid(step) * step + step;
        let dues: Vec<Timestamp> = (first..=now.as_second())
            .step_by(usize::try_from(step).unwrap())
            .map(|second| Timestamp::from_second(second).unwrap())
            .filter(|instant| Self::is_due(known, *instant, &zone))
            .collect();
        let Some(due) = dues.last().copied() else {
            // Looked at once.
            self.done = self.done.max(now);
            return;
        };
        self.done = now;
        let (missed, late) =
            (u32::try_from(dues.len()).unwrap() - 1, now.duration_since(due) > SignedDuration::from_secs(90));
        if gone < self.busy_until {
            return self.lines.push((due, RunOutcome::Skipped, Some(SkipReason::Overlap), false, missed));
        }
        if late && !known.catch_up {
            return self.lines.push((due, RunOutcome::Skipped, Some(SkipReason::Missed), false, missed));
        }
        let attempts = [0, 2, 6, 14].map(|seconds| now + SignedDuration::from_secs(seconds));
        let taken = match known.name {
            "weekly" => attempts.into_iter().find(|at| succeeds(*at)),
            _ => Some(now),
        };
        if known.name == "every six hours" {
            self.busy_until = gone + takes(now);
        }
        let outcome = if taken.is_some() { RunOutcome::Succeeded } else { RunOutcome::Failed };
        self.lines.push((due, outcome, None, late, missed));
        if let Some(taken) = taken {
            self.keep(known, taken, &zone);
        }
    }

    /// Of each period the newest, of the newest periods so many; and the oldest while there are fewer.
    fn keep(&mut self, known: &Known, fresh: Timestamp, zone: &TimeZone) {
        let fresh = (fresh, self.lines.len());
        self.kept.push(fresh);
        let mut all = self.kept.clone();
        all.sort_unstable();
        let mut kept: BTreeSet<(Timestamp, usize)> =
            all.iter().rev().take(known.last.max(1)).copied().collect();
        kept.insert(fresh);
        for (format, count) in known.keeps {
            let newest: BTreeMap<String, (Timestamp, usize)> = all
                .iter()
                .map(|one| (one.0.to_zoned(zone.clone()).strftime(format).to_string(), *one))
                .collect();
            let mut newest: Vec<(Timestamp, usize)> = newest.into_values().collect();
            newest.sort_unstable();
            if newest.len() < *count {
                kept.extend(all.first());
            }
            kept.extend(newest.iter().rev().take(*count));
        }
        self.kept.retain(|one| kept.contains(one));
    }
}

fn walk(known: &Known) -> Oracle {
    let mut now = at("2026-01-01T00:00:00Z");
    let (mut gone, mut computer) = (Duration::ZERO, TimeZone::UTC);
    let zone = known.zone.map(|zone| TimeZone::get(zone).unwrap());
    let mut oracle =
        Oracle { zone, lines: Vec::new(), kept: Vec::new(), done: now, busy_until: Duration::ZERO };
    for step in YEAR {
        match step {
            Step::Until(then) => {
                let then = at(then);
                while now < then {
                    let step = STEP.as_secs();
                    let next =
                        Timestamp::from_second(now.as_second().div_euclid(step) * step + step).unwrap();
                    let next = next.min(then);
                    gone += Duration::try_from(next.duration_since(now)).unwrap();
                    now = next;
                    oracle.look(known, now, gone, &computer);
                }
            }
            Step::Set(then) => {
                now = at(then);
                oracle.look(known, now, gone, &computer);
            }
            Step::Travel(zone) => {
                computer = TimeZone::get(zone).unwrap();
                if known.zone.is_none() {
                    oracle.done = oracle.done.max(now);
                }
            }
        }
    }
    oracle
}

fn line(run: &ScheduleRun) -> Line {
    (run.due_at, run.outcome, run.skipped, run.caught_up, run.missed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_year() {
    let rig = Rig::new(script).await;
    let vms = KNOWN.map(|known| rig.machine(known.name, None, &[]));
    let rules = [
        Retention { daily: 7, weekly: 4, monthly: 12, ..Retention::default() },
        Retention { keep_last: 5, hourly: 10, daily: 3, ..Retention::default() },
        Retention { keep_last: 3, yearly: 5, ..Retention::default() },
    ];
    let mut ids = Vec::new();
    for (((known, vm), retention), cron) in
        KNOWN.iter().zip(vms).zip(rules).zip(["30 2 * * *", "15 */6 * * *", "40 1 * * SUN"])
    {
        let made = rig
            .add(ScheduleCreateRequest {
                time_zone: known.zone.map(str::to_owned),
                retention,
                options: ScheduleOptions { catch_up: known.catch_up, ..ScheduleOptions::default() },
                ..schedule(known.name, vm, cron)
            })
            .await;
        rig.fake.world().names.insert(known.name, made.id);
        ids.push(made.id);
    }
    for step in YEAR {
        match step {
            Step::Until(then) => rig.until(at(then)).await,
            Step::Set(then) => {
                rig.settle().await;
                rig.clock.0.set(at(then));
            }
            Step::Travel(zone) => {
                rig.settle().await;
                rig.clock.0.travel(zone);
            }
        }
        rig.settle().await;
    }
    for ((known, vm), id) in KNOWN.iter().zip(vms).zip(ids) {
        let oracle = walk(known);
        let got: Vec<Line> = rig.runs(id).await.iter().map(line).collect();
        // The history is bounded; its end is all there is.
        let expected = &oracle.lines[oracle.lines.len() - got.len()..];
        for (got, expected) in got.iter().zip(expected) {
            assert_eq!(got, expected, "{}", known.name);
        }
        assert_eq!(got.len(), oracle.lines.len().min(1000), "{}", known.name);
        let attempts = rig.fake.world().attempts.iter().filter(|(by, _)| *by == id).count();
        let runs = oracle.lines.iter().filter(|(_, outcome, ..)| *outcome != RunOutcome::Skipped).count();
        assert!(attempts >= runs, "{}: {attempts} attempts for {runs} runs", known.name);
        let mut kept: Vec<Timestamp> = rig.taken(vm).iter().map(|one| one.created_at).collect();
        kept.sort_unstable();
        let mut expected: Vec<Timestamp> = oracle.kept.iter().map(|(at, _)| *at).collect();
        expected.sort_unstable();
        assert_eq!(kept, expected, "{}", known.name);
        let of = |wanted: Option<SkipReason>| oracle.lines.iter().filter(|one| one.2 == wanted).count();
        let told = (of(None), of(Some(SkipReason::Overlap)), of(Some(SkipReason::Missed)));
        // The year has some of everything.
        match known.name {
            "daily" => assert!(oracle.lines.iter().any(|one| one.3 && one.4 > 10), "{told:?}"),
            "every six hours" => assert!(told.0 > 1200 && told.1 >= 12, "{told:?}"),
            _ => {
                let failed = oracle.lines.iter().any(|one| one.1 == RunOutcome::Failed);
                assert!(told.2 >= 1 && failed, "{told:?}");
            }
        }
    }
}
