//! Keeps history while the engine is open: reads the host and its pools, writes, and removes what is too old or too much.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use voidvm_model::metrics::{Metric, MetricSubject};
use voidvm_model::{ErrorBody, Event, StreamItem};

use super::{History, LIMIT, host};
use crate::shared::Shared;
use crate::stats;

/// Between two readings of the host.
const HOST: Duration = Duration::from_secs(30);
/// Between two writes, in readings of the host.
const WRITE: u32 = 2;
/// Between two looks at what is too old, in readings of the host.
const PRUNE: u32 = 120;

/// Goes on until the engine ends; what is new is written then.
pub(crate) async fn keep(shared: Weak<Shared>) {
    let Some((closing, bus)) = shared.upgrade().map(|shared| (shared.closing.clone(), shared.bus.clone()))
    else {
        return;
    };
    let mut events = bus.subscribe(None);
    let mut clock = host::Clock::default();
    let mut ticks = tokio::time::interval(HOST);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut count = 0_u32;
    loop {
        tokio::select! {
            () = closing.cancelled() => break,
            _ = ticks.tick() => {
                let Some(shared) = shared.upgrade() else { return };
                read(&shared, &mut clock).await;
                count = count.wrapping_add(1);
                if count.is_multiple_of(WRITE) {
                    said(shared.history.write().await);
                }
                if count % PRUNE == 1 {
                    said(prune(&shared.history, Timestamp::now().as_second()).await);
                }
            }
            item = events.next() => match item {
                Some(StreamItem::Event(envelope)) => {
                    if let Event::VmRemoved { id, .. } = envelope.event {
                        let Some(shared) = shared.upgrade() else { return };
                        said(shared.history.forget(MetricSubject::Vm(id)).await);
                    }
                }
                Some(_) => {}
                None => break,
            },
        }
    }
    if let Some(shared) = shared.upgrade() {
        said(shared.history.write().await);
    }
}

fn said(done: Result<(), ErrorBody>) {
    if let Err(error) = done {
        tracing::warn!(%error, "history cannot be kept now");
    }
}

async fn read(shared: &Arc<Shared>, clock: &mut host::Clock) {
    let now = Timestamp::now();
    shared.history.take(MetricSubject::Host, now, clock.read());
    let Ok(pools) = shared.store.pools().list().await else { return };
    for pool in pools {
        if let Some((_, free)) = stats::space(Path::new(&pool.path)) {
            #[expect(clippy::cast_precision_loss, reason = "a graph is no account")]
            shared.history.take(MetricSubject::Pool(pool.id), now, vec![(Metric::SpaceFree, free.0 as f32)]);
        }
    }
}

/// Removes what is too old, and as much of the oldest as is too much: the finest first, for the coarser tell of it too.
pub(super) async fn prune(history: &History, now: i64) -> Result<(), ErrorBody> {
    let table = history.store.history();
    for tier in history.ladder.tiers() {
        let kept = i64::try_from(tier.keep).unwrap_or(i64::MAX);
        let before = now.saturating_sub(kept).saturating_sub(tier.block());
        table.remove_before(tier.step, before).await.map_err(|error| error.body())?;
    }
    for tier in history.ladder.tiers() {
        while table.size().await.map_err(|error| error.body())? > LIMIT.0 {
            let oldest = table.oldest(tier.step).await.map_err(|error| error.body())?;
            // What is being filled stays.
            let Some(oldest) = oldest.filter(|oldest| oldest + tier.block() <= now) else { break };
            tracing::info!(step = tier.step, "history takes too much: its oldest part is removed");
            table.remove_before(tier.step, oldest + tier.block()).await.map_err(|error| error.body())?;
        }
    }
    Ok(())
}
