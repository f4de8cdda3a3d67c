//! Room: how much there is where something is to be written, whether it may be taken, and a slow look at the pools for as long as
//! the engine is open.
//!
//! One rule for volumes, machines' disks and images: what is written must fit without leaving less than the pool's floor. (What a
//! guest writes is the guest's, and so is its memory when it is suspended.)

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::fs::{Access, StatVfsMountFlags};
use tokio::time::MissedTickBehavior;
use voidvm_model::storage::PoolHealth;
use voidvm_model::{Bytes, ErrorBody, ErrorCode, Event, Origin, PoolId};

use super::pools::{self, Place};
use crate::fleet::same_disk;
use crate::shared::Shared;

/// Between two looks at the pools.
const EVERY: Duration = Duration::from_secs(30);

/// What a file takes that has next to nothing in it yet.
pub(crate) const NEXT_TO_NOTHING: Bytes = Bytes(1 << 20);

/// A directory that is written to, and what is to stay free there.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    dir: PathBuf,
    /// The pool's name, or the directory.
    name: String,
    floor: Bytes,
}

/// What a pool's file system says.
pub(super) struct Look {
    pub(super) capacity: Bytes,
    pub(super) free: Bytes,
    pub(super) health: PoolHealth,
    pub(super) problem: Option<ErrorBody>,
}

/// Looks at a pool's file system; no more than two system calls.
pub(super) fn look(place: &Place) -> Look {
    Room::from(place).look()
}

impl From<&Place> for Room {
    fn from(place: &Place) -> Self {
        Self { dir: place.root.clone(), name: place.name.clone(), floor: place.floor }
    }
}

impl Room {
    /// The room where a file or directory is, or will be. In no pool it keeps what the pools of its file system are to keep.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn of(shared: &Shared, dir: &Path) -> Result<Self, ErrorBody> {
        let places = pools::places(shared).await?;
        let dir = dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(dir).to_owned();
        let whole = dir.canonicalize().unwrap_or_else(|_| dir.clone());
        let around = places.iter().filter(|place| {
            whole.starts_with(&place.root)
                || place.root.canonicalize().is_ok_and(|root| whole.starts_with(root))
        });
        if let Some(place) = around.max_by_key(|place| place.root.components().count()) {
            return Ok(Self { dir, name: place.name.clone(), floor: place.floor });
        }
        let beside = places.iter().filter(|place| same_disk(&place.root, &dir));
        let floor = beside.map(|place| place.floor).max().unwrap_or_default();
        Ok(Self { name: dir.display().to_string(), dir, floor })
    }

    fn look(&self) -> Look {
        let path = self.dir.as_path();
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
        } else if free < self.floor {
            let problem = ErrorBody::new(
                ErrorCode::DiskFull,
                format!("“{}” has {free} free; {} are to stay free.", self.name, self.floor),
            )
            .with_hint("Make room on it: guests stop when it is full.")
            .with_detail("available", free.0)
            .with_detail("needed", self.floor.0);
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

    /// Makes sure that `needed` bytes fit without going below the floor.
    ///
    /// # Errors
    /// [`ErrorCode::DiskFull`] with both figures; what is wrong with the directory where that is more.
    pub(crate) fn check(&self, needed: Bytes) -> Result<(), ErrorBody> {
        let look = self.look();
        if let (PoolHealth::Missing | PoolHealth::ReadOnly, Some(problem)) = (look.health, look.problem) {
            return Err(problem);
        }
        let available = look.free.saturating_sub(self.floor);
        // Of a floor that is undercut already nothing may be taken, be it ever so little.
        if needed <= available && look.free >= self.floor {
            return Ok(());
        }
        let hint = if self.floor.0 == 0 {
            "Make room on it.".to_owned()
        } else {
            format!("Make room on it, or keep less than {} free there.", self.floor)
        };
        Err(ErrorBody::new(
            ErrorCode::DiskFull,
            format!("This takes up to {needed}; “{}” has {available} to spare.", self.name),
        )
        .with_hint(hint)
        .with_detail("path", path_text(&self.dir))
        .with_detail("needed", needed.0)
        .with_detail("available", available.0))
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
/// As [`Room::check`].
pub(super) fn check(place: &Place, needed: Bytes) -> Result<(), ErrorBody> {
    Room::from(place).check(needed)
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
