//! A gate that lets a number of operations of one class through at a time; the number can change while they are at work.
//!
//! Invariants: first come, first served; a waiter that is dropped leaves no trace; a smaller limit takes effect as permits
//! come back, never by taking one away.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The gate; clones are the same gate.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    semaphore: Arc<Semaphore>,
    size: Arc<Mutex<Size>>,
}

#[derive(Debug)]
struct Size {
    limit: usize,
    /// Permits still out that the limit no longer covers: so many are not put back.
    debt: usize,
}

/// Leave to work; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Gate,
    permit: Option<OwnedSemaphorePermit>,
}

impl Gate {
    /// A gate for `limit` at a time; zero counts as one, since nobody would ever pass.
    pub(crate) fn new(limit: usize) -> Self {
        let limit = limit.max(1);
        Self {
            semaphore: Arc::new(Semaphore::new(limit)),
            size: Arc::new(Mutex::new(Size { limit, debt: 0 })),
        }
    }

    fn size(&self) -> MutexGuard<'_, Size> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the limit; waiters may pass at once.
    pub(crate) fn resize(&self, limit: usize) {
        let limit = limit.max(1);
        let mut size = self.size();
        if limit > size.limit {
            let growth = limit - size.limit;
            let paid = growth.min(size.debt);
            size.debt -= paid;
            self.semaphore.add_permits(growth - paid);
        } else {
            let shrink = size.limit - limit;
            size.debt += shrink - self.semaphore.forget_permits(shrink);
        }
        size.limit = limit;
    }

    /// Waits for a turn.
    pub(crate) async fn pass(&self) -> Permit {
        // The semaphore is never closed; without a permit the work would merely not be counted.
        let permit = Arc::clone(&self.semaphore).acquire_owned().await.ok();
        Permit { gate: self.clone(), permit }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut size = self.gate.size();
        if size.debt > 0
            && let Some(permit) = self.permit.take()
        {
            size.debt -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn passes(gate: &Gate) -> Option<Permit> {
        gate.pass().now_or_never()
    }

    #[test]
    fn no_more_than_the_limit_pass() {
        let gate = Gate::new(2);
        let first = passes(&gate).unwrap();
        let _second = passes(&gate).unwrap();
        assert!(passes(&gate).is_none());
        drop(first);
        assert!(passes(&gate).is_some());
    }

    #[test]
    fn a_changed_limit_holds_once_permits_come_back() {
        let gate = Gate::new(3);
        let held: Vec<_> = (0..3).map(|_| passes(&gate).unwrap()).collect();
        gate.resize(1);
        gate.resize(2);
        let mut held = held.into_iter();
        drop(held.next());
        assert!(passes(&gate).is_none(), "two are still out, and two is the limit");
        drop(held.next());
        let third = passes(&gate);
        assert!(third.is_some());
        assert!(passes(&gate).is_none());
        gate.resize(4);
        let more: Vec<_> = (0..2).map(|_| passes(&gate)).collect();
        assert!(more.iter().all(Option::is_some));
        assert!(passes(&gate).is_none());
    }

    #[tokio::test]
    async fn a_larger_limit_lets_waiters_pass_and_a_dropped_waiter_leaves_no_trace() {
        let gate = Gate::new(1);
        let _held = gate.pass().await;
        drop(Box::pin(gate.pass()).now_or_never());
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.pass().await }
        });
        tokio::task::yield_now().await;
        gate.resize(2);
        tokio::time::timeout(std::time::Duration::from_secs(5), waiting).await.unwrap().unwrap();
    }
}
