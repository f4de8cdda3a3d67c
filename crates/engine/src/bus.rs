//! The event bus: one order for everything that changes, replay for those who come back, resync for those who were away too long.
//!
//! Invariants: sequence numbers have no gaps; a subscriber sees each event once and in order, or is told to resync. The bus
//! keeps one ring and no queue per subscriber: a subscriber is a cursor into the ring, so a slow one costs nothing and learns
//! by falling out of the ring that it missed something.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::Stream;
use futures_util::stream;
use jiff::Timestamp;
use tokio::sync::watch;
use voidvm_model::{Event, EventEnvelope, Origin, StreamItem};

/// Events kept for replay.
pub const REPLAY: usize = 1024;

/// The bus; clones are the same bus.
#[derive(Clone, Debug)]
pub struct EventBus {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    ring: Mutex<Ring>,
    newest: watch::Sender<u64>,
}

#[derive(Debug)]
struct Ring {
    /// The sequence number of the newest event.
    newest: u64,
    events: VecDeque<EventEnvelope>,
}

impl Default for EventBus {
    fn default() -> Self {
        Self::new()
    }
}

impl EventBus {
    /// An empty bus, which counts from a random number: a cursor of an earlier owner process is then foreign to it.
    #[must_use]
    pub fn new() -> Self {
        let [.., a, b, c, d, e] = *uuid::Uuid::new_v4().as_bytes();
        Self::starting_at(u64::from_be_bytes([0, 0, 0, a, b, c, d, e]))
    }

    fn starting_at(newest: u64) -> Self {
        let ring = Mutex::new(Ring { newest, events: VecDeque::with_capacity(64) });
        Self { inner: Arc::new(Inner { ring, newest: watch::Sender::new(newest) }) }
    }

    fn ring(&self) -> std::sync::MutexGuard<'_, Ring> {
        // A panic cannot leave the ring half changed: each change is one push.
        self.inner.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces a change; answers its sequence number.
    pub fn publish(&self, origin: Origin, event: Event) -> u64 {
        let mut ring = self.ring();
        ring.newest += 1;
        let seq = ring.newest;
        if ring.events.len() == REPLAY {
            ring.events.pop_front();
        }
        ring.events.push_back(EventEnvelope { seq, at: Timestamp::now(), origin, event });
        // Inside the lock, so that the number a waiter sees never goes back.
        self.inner.newest.send_replace(seq);
        seq
    }

    /// The newest sequence number: an answer read after this call includes every event up to it.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.ring().newest
    }

    /// Follows the bus: after `since`, or from now on without.
    ///
    /// When `since` is not in the ring any more (or was never of this bus), and whenever the subscriber falls behind by more
    /// than [`REPLAY`] events, the next item is a [`StreamItem::Resync`].
    pub fn subscribe(&self, since: Option<u64>) -> impl Stream<Item = StreamItem> + Send + Unpin + 'static {
        let cursor = since.unwrap_or_else(|| self.newest());
        let state = (self.clone(), self.inner.newest.subscribe(), cursor);
        Box::pin(stream::unfold(state, |(bus, mut newest, mut cursor)| async move {
            loop {
                // Marked as seen before the ring is read: what comes after that wakes the wait below.
                newest.borrow_and_update();
                if let Some(item) = bus.after(cursor) {
                    cursor = match &item {
                        StreamItem::Event(envelope) => envelope.seq,
                        StreamItem::Resync { seq } => *seq,
                    };
                    return Some((item, (bus, newest, cursor)));
                }
                // Never fails: the bus this future holds is the sender.
                newest.changed().await.ok()?;
            }
        }))
    }

    /// What a subscriber at `cursor` gets next; `None` when it is up to date.
    fn after(&self, cursor: u64) -> Option<StreamItem> {
        let ring = self.ring();
        if cursor == ring.newest {
            return None;
        }
        let oldest = ring.newest - ring.events.len() as u64 + 1;
        let at = (cursor + 1).checked_sub(oldest).filter(|_| cursor < ring.newest);
        let event = at.and_then(|at| usize::try_from(at).ok()).and_then(|at| ring.events.get(at));
        Some(event.map_or(StreamItem::Resync { seq: ring.newest }, |event| StreamItem::Event(event.clone())))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    fn seqs(items: &[StreamItem]) -> Vec<u64> {
        items
            .iter()
            .map(|item| match item {
                StreamItem::Event(envelope) => envelope.seq,
                StreamItem::Resync { seq } => panic!("resync at {seq}"),
            })
            .collect()
    }

    #[tokio::test]
    async fn a_subscriber_sees_every_event_in_order() {
        let bus = EventBus::starting_at(10);
        let stream = bus.subscribe(None);
        for _ in 0..5 {
            bus.publish(Origin::System, Event::SettingsChanged);
        }
        let items: Vec<_> = stream.take(5).collect().await;
        assert_eq!(seqs(&items), [11, 12, 13, 14, 15]);
    }

    #[tokio::test]
    async fn one_who_comes_back_gets_what_he_missed() {
        let bus = EventBus::starting_at(0);
        for _ in 0..5 {
            bus.publish(Origin::System, Event::SettingsChanged);
        }
        let items: Vec<_> = bus.subscribe(Some(2)).take(3).collect().await;
        assert_eq!(seqs(&items), [3, 4, 5]);
    }

    #[tokio::test]
    async fn a_slow_or_foreign_subscriber_is_told_to_resync_and_goes_on() {
        let bus = EventBus::starting_at(0);
        let mut slow = bus.subscribe(None);
        for _ in 0..=REPLAY {
            bus.publish(Origin::System, Event::SettingsChanged);
        }
        let newest = REPLAY as u64 + 1;
        assert_eq!(slow.next().await, Some(StreamItem::Resync { seq: newest }));
        let mut foreign = bus.subscribe(Some(999_999));
        assert_eq!(foreign.next().await, Some(StreamItem::Resync { seq: newest }));
        let mut oldest = bus.subscribe(Some(1));
        assert!(matches!(oldest.next().await, Some(StreamItem::Event(e)) if e.seq == 2), "still in the ring");
        bus.publish(Origin::System, Event::SettingsChanged);
        for stream in [&mut slow, &mut foreign] {
            assert!(matches!(stream.next().await, Some(StreamItem::Event(e)) if e.seq == newest + 1));
        }
    }

    #[tokio::test]
    async fn a_waiting_subscriber_is_woken() {
        let bus = EventBus::starting_at(0);
        let mut stream = bus.subscribe(None);
        let waiting = tokio::spawn(async move { stream.next().await });
        tokio::task::yield_now().await;
        bus.publish(Origin::Cli, Event::SettingsChanged);
        let item = tokio::time::timeout(std::time::Duration::from_secs(5), waiting).await.unwrap().unwrap();
        assert!(matches!(item, Some(StreamItem::Event(e)) if e.origin == Origin::Cli));
    }
}
