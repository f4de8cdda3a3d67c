//! What is to be done now.
//!
//! A schedule remembers up to which instant its runs are dealt with. Whatever lies between that and now is due: the newest at once,
//! and the others are missed. That holds for a timer that fired, a computer that slept, a voidVM that was closed and a clock
//! that was set forward, without telling them apart.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::Times;

/// How late a run may begin and still be on time.
pub const PUNCTUAL: Duration = Duration::from_secs(90);
/// A clock that is set back by no more than this repeats no run; one that goes further back is believed.
pub const BACK: SignedDuration = SignedDuration::from_hours(3);
/// Missed runs are counted up to this many.
pub const COUNTED: u32 = 1000;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// A run, on time.
    OnTime {
        /// The instant it is for.
        due: Timestamp,
        /// How many before it were missed.
        missed: u32,
    },
    /// Runs that were missed, and none that is on time.
    Missed {
        /// The last of them; of more than [`COUNTED`], the last that was counted.
        due: Timestamp,
        /// How many there are before it.
        missed: u32,
    },
}

/// What is due now, of a schedule whose runs are dealt with up to `from`.
#[must_use]
pub fn due(times: &Times, zone: &TimeZone, from: Timestamp, now: Timestamp) -> Due {
    let punctual = now.checked_sub(SignedDuration::try_from(PUNCTUAL).unwrap_or(SignedDuration::ZERO));
    let punctual = punctual.unwrap_or(Timestamp::MIN);
    let counted = |after, until| {
        let most = usize::try_from(COUNTED).unwrap_or(usize::MAX);
        times.between(after, until, zone).take(most).fold((0_u32, None), |(n, _), run| (n + 1, Some(run.at)))
    };
    // At the very limit of being on time still counts as that.
    let edge = punctual.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(punctual);
    let (early, missed) = counted(from, edge);
    let (late, on_time) = counted(from.max(edge), now);
    match (on_time, missed) {
        (Some(due), _) => Due::OnTime { due, missed: early + late - 1 },
        (None, Some(due)) => Due::Missed { due, missed: early - 1 },
        (None, None) => Due::Nothing,
    }
}

/// Up to which instant runs are dealt with, when the clock shows `now`: it may have been set back.
#[must_use]
pub fn believe(from: Timestamp, now: Timestamp) -> Timestamp {
    if from.duration_since(now) > BACK { now } else { from }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn hourly(from: &str, now: &str) -> Due {
        due(&Times::parse("0 * * * *").unwrap(), &TimeZone::UTC, at(from), at(now))
    }

    #[test]
    fn the_newest_is_done_and_the_others_are_missed() {
        let from = "2026-01-01T00:00:00Z";
        assert_eq!(hourly(from, "2026-01-01T00:59:59Z"), Due::Nothing);
        let due = at("2026-01-01T01:00:00Z");
        assert_eq!(hourly(from, "2026-01-01T01:00:00Z"), Due::OnTime { due, missed: 0 });
        assert_eq!(hourly(from, "2026-01-01T01:01:30Z"), Due::OnTime { due, missed: 0 });
        assert_eq!(hourly(from, "2026-01-01T01:01:31Z"), Due::Missed { due, missed: 0 });
        let due = at("2026-01-01T05:00:00Z");
        assert_eq!(hourly(from, "2026-01-01T05:00:10Z"), Due::OnTime { due, missed: 4 });
        assert_eq!(hourly(from, "2026-01-01T05:30:00Z"), Due::Missed { due, missed: 4 });
    }

    #[test]
    fn more_than_can_be_counted_is_still_one_run() {
        let Due::OnTime { due, missed } = hourly("2020-01-01T00:00:00Z", "2026-01-01T00:00:05Z") else {
            panic!("one is on time");
        };
        assert_eq!((due, missed), (at("2026-01-01T00:00:00Z"), COUNTED));
    }

    #[test]
    fn a_clock_set_back_a_little_repeats_nothing() {
        let from = at("2026-01-01T12:00:00Z");
        assert_eq!(believe(from, at("2026-01-01T09:00:00Z")), from);
        assert_eq!(hourly("2026-01-01T12:00:00Z", "2026-01-01T11:00:00Z"), Due::Nothing);
        let now = at("2026-01-01T08:59:59Z");
        assert_eq!(believe(from, now), now);
        assert_eq!(believe(from, at("2026-06-01T00:00:00Z")), from);
    }
}
