//! A clock that stands still until a test moves it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

/// A clock a test moves by hand; starts at 2026-01-01T00:00:00Z.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl Default for ManualClock {
    fn default() -> Self {
        Self(AtomicI64::new(1_767_225_600_000_000_000))
    }
}

impl ManualClock {
    /// What it shows.
    ///
    /// # Panics
    /// When it was moved beyond the year 2262.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_nanosecond(self.0.load(Ordering::SeqCst).into()).expect("a time of this era")
    }

    /// Moves it on.
    ///
    /// # Panics
    /// When the step is longer than 292 years.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_nanos()).expect("a short step"), Ordering::SeqCst);
    }
}
