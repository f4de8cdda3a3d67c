//! From a cron expression to instants.
//!
//! The expression is about what a clock on the wall shows; which instants that is depends on the zone. Two kinds:
//! * One that names hours goes by the wall clock: of an hour that comes twice only the first counts, and a time that the clock
//!   jumps over is made up for at the first instant after the jump, once.
//! * One that runs in every hour of the day goes by real time: both of two equal hours count, and a jump leaves nothing out.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, civil};

/// When to look whether an expression ever comes true; any day will do.
const SOME_DAY: DateTime = civil::date(2024, 1, 1).at(0, 0, 0, 0);
/// More changes of the clocks than lie between any two runs.
const SEGMENTS: usize = 10_000;

/// Why an expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimesError {
    /// It is none.
    #[error("{expression:?} is no cron expression: {reason}")]
    Grammar {
        /// As it was written.
        expression: String,
        /// In the parser's words.
        reason: String,
    },
    /// There is no such day.
    #[error("{0:?} never comes true")]
    Never(String),
}

/// An instant at which a schedule runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// When.
    pub at: Timestamp,
    /// Whether it stands for a time the clock jumps over.
    pub moved: bool,
}

/// The times of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    cron: Cron,
    every_hour: bool,
    often: bool,
}

impl Times {
    /// Reads a cron expression of five fields.
    ///
    /// # Errors
    /// When it is none, or never comes true.
    pub fn parse(expression: &str) -> Result<Self, TimesError> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let grammar = |reason: String| TimesError::Grammar { expression: expression.to_owned(), reason };
        let cron = parser.parse(expression).map_err(|error| grammar(error.to_string()))?;
        let count = |below: u32, matches: &dyn Fn(u32) -> bool| (0..below).filter(|n| matches(*n)).count();
        let hours = count(24, &|hour| cron.pattern.hour_match(hour).unwrap_or(false));
        let minutes = count(60, &|minute| cron.pattern.minute_match(minute).unwrap_or(false));
        if cron.find_next_occurrence(&SOME_DAY, true).is_err() {
            return Err(TimesError::Never(expression.to_owned()));
        }
        Ok(Self { cron, every_hour: hours == 24, often: hours * minutes > 1 })
    }

    /// Whether there are days with more than one run.
    #[must_use]
    pub const fn more_than_daily(&self) -> bool {
        self.often
    }

    /// The first run after an instant.
    #[must_use]
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Occurrence> {
        if self.every_hour { self.next_real(after, zone) } else { self.next_wall(after, zone) }
    }

    /// Every run after one instant and up to another, that included.
    pub fn between<'a>(
        &'a self,
        after: Timestamp,
        until: Timestamp,
        zone: &'a TimeZone,
    ) -> impl Iterator<Item = Occurrence> + 'a {
        let from = move |instant| self.next(instant, zone).filter(|run| run.at <= until);
        std::iter::successors(from(after), move |run| from(run.at))
    }

    /// By real time: from one change of the clocks to the next they go evenly.
    fn next_real(&self, after: Timestamp, zone: &TimeZone) -> Option<Occurrence> {
        let (mut from, mut inclusive) = (after, false);
        for _ in 0..SEGMENTS {
            let offset = zone.to_offset(from);
            let wall = whole(offset.to_datetime(from));
            let found = self.cron.find_next_occurrence(&wall, inclusive).ok()?;
            let at = offset.to_timestamp(found).ok()?;
            match zone.following(from).next() {
                Some(change) if change.timestamp() <= at => (from, inclusive) = (change.timestamp(), true),
                _ => return Some(Occurrence { at, moved: false }),
            }
        }
        None
    }

    /// By the wall clock: the instants of later times never come before those of earlier ones.
    fn next_wall(&self, after: Timestamp, zone: &TimeZone) -> Option<Occurrence> {
        let mut wall = self.cron.find_next_occurrence(&whole(zone.to_datetime(after)), true).ok()?;
        loop {
            let run = resolve(wall, zone)?;
            if run.at > after {
                return Some(run);
            }
            wall = self.cron.find_next_occurrence(&wall, false).ok()?;
        }
    }
}

/// Without parts of a second, which cron knows nothing of.
fn whole(wall: DateTime) -> DateTime {
    wall.with().subsec_nanosecond(0).build().unwrap_or(wall)
}

/// The instant at which the wall clock shows a time; where it never does, the first one after the jump.
fn resolve(wall: DateTime, zone: &TimeZone) -> Option<Occurrence> {
    match zone.to_ambiguous_timestamp(wall).offset() {
        AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
            Some(Occurrence { at: offset.to_timestamp(wall).ok()?, moved: false })
        }
        AmbiguousOffset::Gap { before, after } => {
            // Read by the old offset, the time lies at or after the jump.
            let beyond =
                before.to_timestamp(wall).ok()?.checked_add(jiff::SignedDuration::from_nanos(1)).ok()?;
            let jump = zone.preceding(beyond).find(|change| change.offset() == after)?;
            Some(Occurrence { at: jump.timestamp(), moved: true })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(cron: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let (times, zone) = (Times::parse(cron).unwrap(), TimeZone::get(zone).unwrap());
        let far = Timestamp::MAX;
        times
            .between(from.parse().unwrap(), far, &zone)
            .take(count)
            .map(|run| run.at.to_zoned(zone.clone()).strftime("%F %H:%M%:z").to_string())
            .collect()
    }

    #[test]
    fn a_time_that_is_jumped_over_is_made_up_for_once() {
        let got = runs("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3);
        assert_eq!(got, ["2026-03-28 02:30+01:00", "2026-03-29 03:00+02:00", "2026-03-30 02:30+02:00"]);
        // Several in the gap, and one at its end: one run.
        let got = runs("*/10 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 2);
        assert_eq!(got, ["2026-03-29 03:00+02:00", "2026-03-29 03:10+02:00"]);
        // A whole day that Samoa left out.
        let got = runs("0 12 * * *", "Pacific/Apia", "2011-12-29T23:00:00Z", 2);
        assert_eq!(got, ["2011-12-31 00:00+14:00", "2011-12-31 12:00+14:00"]);
    }

    #[test]
    fn of_a_repeated_hour_the_first_counts() {
        let got = runs("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(got, ["2026-10-25 02:30+02:00", "2026-10-26 02:30+01:00"]);
        // Asked in the middle of the second one.
        let got = runs("*/20 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1);
        assert_eq!(got, ["2026-10-26 02:00+01:00"]);
    }

    #[test]
    fn what_runs_each_hour_goes_by_real_time() {
        let got = runs("30 * * * *", "Europe/Berlin", "2026-10-24T23:00:00Z", 4);
        assert_eq!(
            got,
            [
                "2026-10-25 01:30+02:00",
                "2026-10-25 02:30+02:00",
                "2026-10-25 02:30+01:00",
                "2026-10-25 03:30+01:00"
            ]
        );
        let got = runs("30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 2);
        assert_eq!(got, ["2026-03-29 01:30+01:00", "2026-03-29 03:30+02:00"]);
        // A clock that changes by half an hour only.
        let got = runs("15 * * * *", "Australia/Lord_Howe", "2026-04-04T14:00:00Z", 3);
        assert_eq!(got, ["2026-04-05 01:15+11:00", "2026-04-05 02:15+10:30", "2026-04-05 03:15+10:30"]);
    }

    #[test]
    fn months_and_years() {
        assert_eq!(runs("0 2 L * *", "UTC", "2028-02-01T00:00:00Z", 1), ["2028-02-29 02:00+00:00"]);
        let got = runs("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", 2);
        assert_eq!(got, ["2028-02-29 00:00+00:00", "2032-02-29 00:00+00:00"]);
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for wrong in ["", "* * * *", "60 * * * *", "* 24 * * *", "0 0 0 * * *", "0 2 * * * 2027", "a b c d e"]
        {
            assert!(matches!(Times::parse(wrong), Err(TimesError::Grammar { .. })), "{wrong}");
        }
        assert_eq!(Times::parse("0 0 30 2 *"), Err(TimesError::Never("0 0 30 2 *".to_owned())));
        assert!(Times::parse("@daily").is_ok_and(|times| !times.more_than_daily()));
        assert!(Times::parse("0 2,14 * * MON").is_ok_and(|times| times.more_than_daily()));
    }
}
