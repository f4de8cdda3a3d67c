//! The clock schedules go by. Everything else of the engine measures; this one is asked what the wall shows.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// How soon a clock that was set, a zone that was changed or the end of a sleep is noticed. Timers stand still while the computer
/// sleeps and know nothing of the wall, so this much is waited at most; a look costs some microseconds.
const LOOK: Duration = Duration::from_secs(30);

/// A clock on the wall.
#[async_trait]
pub trait WallClock: std::fmt::Debug + Send + Sync {
    /// What it shows.
    fn now(&self) -> Timestamp;

    /// The computer's time zone.
    fn zone(&self) -> TimeZone;

    /// Waits until it shows so much, or for ever; or not so long: whoever asked looks again.
    async fn wait(&self, until: Option<Timestamp>);

    /// Waits for so long, however the clock is set.
    async fn pause(&self, time: Duration);
}

/// The computer's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl WallClock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn zone(&self) -> TimeZone {
        TimeZone::system()
    }

    async fn wait(&self, until: Option<Timestamp>) {
        let Some(until) = until else { return std::future::pending().await };
        let left = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO);
        tokio::time::sleep(left.min(LOOK)).await;
    }

    async fn pause(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
