//! Room in a pool: how much there is, whether it can be used, and a slow look at it for as long as the engine is open.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::fs::{Access, StatVfsMountFlags};
use tokio::time::MissedTickBehavior;
use voidvm_model::storage::PoolHealth;
use voidvm_model::{Bytes, ErrorBody, ErrorCode, Event, Origin, PoolId};

use super::pools::{self, Place};
use crate::shared::Shared;

/// Between two looks at the pools.
const EVERY: Duration = Duration::from_secs(30);

/// What a pool's file system says.
pub(super) struct Look {
    pub(super) capacity: Bytes,
    pub(super) free: Bytes,
    pub(super) health: PoolHealth,
    pub(super) problem: Option<ErrorBody>,
}

/// Looks at a pool's file system; no more than two system calls.
pub(super) fn look(place: &Place) -> Look {
    let path = place.root.as_path();
    let shown = path.display();
    let Some((capacity, free, read_only)) = statvfs(path) else {
        let problem = ErrorBody::new(ErrorCode::NotFound, format!("{shown} is not there."))
            .with_hint("Plug the drive in or mount it, or forget the pool.");
        return Look {
            capacity: Bytes(0),
            free: Bytes(0),
            health: PoolHealth::Missing,
            problem: Some(problem),
        };
    };
    let (health, problem) = if read_only || rustix::fs::access(path, Access::WRITE_OK).is_err() {
        let problem = ErrorBody::new(ErrorCode::ReadOnly, format!("{shown} cannot be written to."))
            .with_hint("Remount its file system for writing, or change its owner or mode.");
        (PoolHealth::ReadOnly, Some(problem))
    } else if free < place.floor {
        let problem = ErrorBody::new(
            ErrorCode::DiskFull,
            format!("“{}” has {free} free; {} are to stay free.", place.name, place.floor),
        )
        .with_hint("Make room on it: guests stop when it is full.")
        .with_detail("available", free.0)
        .with_detail("needed", place.floor.0);
        (PoolHealth::Low, Some(problem))
    } else {
        (PoolHealth::Ok, None)
    };
    Look {
        capacity,
        free,
        health,
        problem: problem.map(|problem| problem.with_detail("path", path_text(path))),
    }
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn statvfs(path: &Path) -> Option<(Bytes, Bytes, bool)> {
    if !path.is_dir() {
        return None;
    }
    let stats = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| Bytes(blocks.saturating_mul(stats.f_frsize));
    let read_only = stats.f_flag.contains(StatVfsMountFlags::RDONLY);
    Some((bytes(stats.f_blocks), bytes(stats.f_bavail), read_only))
}

/// Makes sure that `needed` bytes fit into a pool without going below its floor.
///
/// # Errors
/// [`ErrorCode::DiskFull`] with both figures; what is wrong with the pool where that is more.
pub(super) fn check(place: &Place, needed: Bytes) -> Result<(), ErrorBody> {
    let look = look(place);
    if let (PoolHealth::Missing | PoolHealth::ReadOnly, Some(problem)) = (look.health, look.problem) {
        return Err(problem);
    }
    let available = look.free.saturating_sub(place.floor);
    if needed <= available {
        return Ok(());
    }
    Err(ErrorBody::new(
        ErrorCode::DiskFull,
        format!("This takes up to {needed}; “{}” has {available} to spare.", place.name),
    )
    .with_hint(format!("Make room on it, or keep less than {} free there.", place.floor))
    .with_detail("needed", needed.0)
    .with_detail("available", available.0))
}

/// Announces what changes in the pools' health, until the engine ends.
pub(crate) async fn watch(shared: Weak<Shared>) {
    let Some(closing) = shared.upgrade().map(|shared| shared.closing.clone()) else { return };
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known: Option<Healths> = None;
    loop {
        tokio::select! {
            () = closing.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let Some(shared) = shared.upgrade() else { return };
        let Some(now) = health(&shared).await else { continue };
        for (id, (name, health)) in &now {
            let was = known.as_ref().and_then(|known| known.get(id)).map(|(_, health)| *health);
            if *health != PoolHealth::Ok && was != Some(*health) {
                tracing::warn!(pool = name, ?health, "a pool needs attention");
            }
        }
        if known.as_ref().is_some_and(|known| *known != now) {
            shared.bus.publish(Origin::System, Event::StorageChanged);
        }
        known = Some(now);
    }
}

/// Each pool's name and health.
type Healths = BTreeMap<PoolId, (String, PoolHealth)>;

async fn health(shared: &Arc<Shared>) -> Option<Healths> {
    let places = pools::places(shared)
        .await
        .inspect_err(|error| tracing::warn!(%error, "the pools cannot be looked at"))
        .ok()?;
    let looks = super::job::blocking(move || {
        let looked = places.into_iter().map(|place| {
            let health = look(&place).health;
            (place.id, (place.name, health))
        });
        Ok(looked.collect())
    });
    looks.await.ok()
}
