//! How often one may ask.
//!
//! Everybody on a loopback address is one client: addresses there are free to choose. Whoever shows no valid token has 100
//! requests in 15 minutes (the product's figure for a client); whoever does has far more, enough for a page that watches many
//! machines and for a script, and a bound all the same. A stranger who has used his requests up does not lock out the owner.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use voidvm_model::{ErrorBody, ErrorCode};

/// Requests of strangers in [`STRANGERS_WINDOW`].
pub(crate) const STRANGERS: u32 = 100;
/// 15 minutes.
pub(crate) const STRANGERS_WINDOW: Duration = Duration::from_secs(15 * 60);
/// Requests of known clients in a row, and then each [`KNOWN_WINDOW`].
pub(crate) const KNOWN: u32 = 3000;
/// 10 seconds.
pub(crate) const KNOWN_WINDOW: Duration = Duration::from_secs(10);

/// A bucket of requests that fills evenly.
#[derive(Debug)]
struct Bucket {
    size: f64,
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    fn new(size: u32, window: Duration, now: Instant) -> Self {
        let size = f64::from(size);
        Self { size, per_second: size / window.as_secs_f64(), left: size, at: now }
    }

    /// Takes one, or says how long until there is one.
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.per_second).min(self.size);
        self.at = now;
        if self.left >= 1.0 {
            self.left -= 1.0;
            Ok(())
        } else {
            Err(Duration::from_secs_f64((1.0 - self.left) / self.per_second))
        }
    }
}

/// Who asks, as far as asking often goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    Known,
    Stranger,
}

/// The requests that are left.
#[derive(Debug)]
pub(crate) struct Throttle {
    known: Mutex<Bucket>,
    strangers: Mutex<Bucket>,
}

impl Throttle {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            known: Mutex::new(Bucket::new(KNOWN, KNOWN_WINDOW, now)),
            strangers: Mutex::new(Bucket::new(STRANGERS, STRANGERS_WINDOW, now)),
        }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// [`ErrorCode::RateLimited`] with the seconds to wait.
    pub(crate) fn count(&self, client: Client, now: Instant) -> Result<(), ErrorBody> {
        let bucket = match client {
            Client::Known => &self.known,
            Client::Stranger => &self.strangers,
        };
        bucket.lock().unwrap_or_else(PoisonError::into_inner).take(now).map_err(|wait| {
            let seconds = wait.as_secs() + 1;
            ErrorBody::new(ErrorCode::RateLimited, "Too many requests.")
                .with_hint(format!("Try again in {seconds} s."))
                .with_detail("retryAfterSeconds", seconds)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_have_a_hundred_in_a_quarter_of_an_hour() {
        let start = Instant::now();
        let throttle = Throttle::new(start);
        for _ in 0..STRANGERS {
            throttle.count(Client::Stranger, start).unwrap();
        }
        let refused = throttle.count(Client::Stranger, start).unwrap_err();
        assert_eq!(refused.code, ErrorCode::RateLimited);
        assert_eq!(refused.details.unwrap()["retryAfterSeconds"], 10);
        throttle.count(Client::Stranger, start + Duration::from_secs(9)).unwrap();
        assert!(throttle.count(Client::Stranger, start + Duration::from_secs(9)).is_err());
        let later = start + STRANGERS_WINDOW * 10;
        let allowed = (0..1000).take_while(|_| throttle.count(Client::Stranger, later).is_ok()).count();
        assert_eq!(allowed, STRANGERS as usize);
    }

    #[test]
    fn strangers_take_nothing_from_known_clients() {
        let start = Instant::now();
        let throttle = Throttle::new(start);
        while throttle.count(Client::Stranger, start).is_ok() {}
        for _ in 0..KNOWN {
            throttle.count(Client::Known, start).unwrap();
        }
        assert!(throttle.count(Client::Known, start).is_err());
    }
}
