//! Host ports for tests that let go of one and expect to get it again: from below the kernel's own range (32768 and up), where
//! nobody who asks for any port can come between.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// The ports tests take.
const RANGE: std::ops::Range<u32> = 20_000..30_000;
/// How many were asked for in this process: a port that was let go of is not given out twice.
static ASKED: AtomicU32 = AtomicU32::new(0);

/// A listener on a loopback port of its own.
///
/// # Panics
/// When every port is taken.
#[must_use]
pub fn hold() -> TcpListener {
    // Tests that run side by side are processes of their own, and begin at different places.
    let first = std::process::id().wrapping_mul(37).wrapping_add(ASKED.fetch_add(1, Ordering::Relaxed));
    (0..RANGE.end - RANGE.start)
        .filter_map(|step| {
            let port = RANGE.start + first.wrapping_add(step) % (RANGE.end - RANGE.start);
            TcpListener::bind((Ipv4Addr::LOCALHOST, u16::try_from(port).ok()?)).ok()
        })
        .next()
        .expect("a free port")
}

/// A loopback port that nobody listens on.
///
/// # Panics
/// When every port is taken.
#[must_use]
pub fn free() -> u16 {
    hold().local_addr().expect("a bound address").port()
}

#[cfg(test)]
mod tests {
    #[test]
    fn ports_asked_for_one_after_the_other_differ() {
        let ports: std::collections::BTreeSet<u16> = (0..20).map(|_| super::free()).collect();
        assert_eq!(ports.len(), 20);
    }
}
