//! Waiting on a value with a deadline. Nothing here waits for time alone.

use std::time::{Duration, Instant};

/// How often a value is looked at.
const STEP: Duration = Duration::from_millis(5);

/// Looks at a value until it is there; the value, or a panic that names `what` was waited for.
///
/// # Panics
/// At the deadline.
#[track_caller]
pub fn wait_until<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < end, "waited {deadline:?} for {what}");
        std::thread::sleep(STEP);
    }
}

/// The same where looking is asynchronous.
///
/// # Panics
/// At the deadline.
pub async fn wait_until_async<T>(
    deadline: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = look().await {
            return value;
        }
        assert!(Instant::now() < end, "waited {deadline:?} for {what}");
        tokio::time::sleep(STEP).await;
    }
}
