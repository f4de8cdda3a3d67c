//! A prepared image of a snapshot's memory: a file that QEMU maps as the guest's memory, so that a guest goes on from it in about
//! a tenth of a second, and all that go on from it share what they have not written.
//!
//! ```text
//! snapshots/ID/  memory       what QEMU wrote at the snapshot: the truth
//!                image.ram    the guest's memory, byte for byte      image.state   its devices
//!                image.json   what both were made of and by: without it, or when it does not fit, they are nothing
//! memory ─▶ a QEMU that never runs the guest, its memory a file ─▶ devices saved without that memory ─▶ named   ([`bake`])
//! ```
//! Invariants: an image is a cache, made again whenever it is wanted and gone, and whatever is not right about it makes the
//! stream do its work; its files are never written to once they have their names, and a process that maps them is kept from it
//! ([`Holes`]); its maker uses no disk, no network and no socket of the machine's.
//!
//! Which snapshots have one is decided in [`keep`]; how one is loaded is in [`load`].

mod bake;
mod keep;
mod load;
mod words;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use voidvm_model::SnapshotId;
use voidvm_qemu::args::FileMemory;
use voidvm_qemu::process::{Holes, holes_can_be_refused};

use super::packed;
use crate::gate::Gate;
use crate::hotplug::Words;
use crate::ops::{build, files};
use crate::platform::Qemu;
use crate::shared::Shared;

pub(crate) use keep::{Marker, keep_images};
pub(crate) use load::load;
pub(crate) use words::without_image;

pub(super) const RAM: &str = "image.ram";
pub(super) const STATE: &str = "image.state";
pub(super) const DESCRIPTION: &str = "image.json";
/// Its time is when the snapshot was last gone on from.
pub(super) const USED: &str = "image.used";

/// What an image is, and what may load it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    /// The QEMU that made it, down to the file.
    qemu: String,
    memory: u64,
    state: u64,
    made_at: Timestamp,
}

impl Description {
    fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(dir.join(DESCRIPTION)).ok()?).ok()
    }
}

/// An image that fits, open: it can lose its names and still be loaded.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) ram: File,
    pub(crate) state: File,
    memory: u64,
    how: FileMemory,
}

impl Prepared {
    /// What a process that maps it may do.
    pub(crate) const fn holes(&self) -> Holes {
        match self.how {
            FileMemory::Mapped => Holes::Refused,
            FileMemory::MappedReadOnly | FileMemory::Written => Holes::Allowed,
        }
    }

    /// The arguments of a machine whose memory it is, with the file behind a descriptor of this number.
    pub(crate) fn words(&self, argv: Vec<String>, number: i32) -> Option<Vec<String>> {
        words::mapping(Words::new(argv), (self.memory, self.how), number).map(Words::into_argv)
    }
}

/// The image of a snapshot, where there is one that this QEMU can load.
pub(crate) fn find(shared: &Shared, dir: &Path, qemu: &Qemu) -> Option<Prepared> {
    let description = Description::read(dir)?;
    if !fits(shared, &description, qemu) {
        return None;
    }
    let open = |name: &str, size: u64| {
        let file = File::open(dir.join(name)).ok()?;
        (file.metadata().ok()?.len() == size).then_some(file)
    };
    Some(Prepared {
        ram: open(RAM, description.memory)?,
        state: open(STATE, description.state)?,
        memory: description.memory,
        how: FileMemory::mapped_by(qemu.capabilities.version),
    })
}

fn fits(shared: &Shared, description: &Description, qemu: &Qemu) -> bool {
    description.qemu == qemu.identity()
        && can_be_mapped(qemu)
        && shared.preparing.distrusted().is_none_or(|since| description.made_at > since)
}

/// Whether this QEMU can be kept from writing to what it maps.
fn can_be_mapped(qemu: &Qemu) -> bool {
    FileMemory::mapped_by(qemu.capabilities.version) == FileMemory::MappedReadOnly || holes_can_be_refused()
}

/// The files of an image, whole or not; the description first, without which the others are nothing.
fn all_files(dir: &Path) -> Vec<PathBuf> {
    let names = [DESCRIPTION, RAM, STATE].map(|name| dir.join(name));
    names.iter().cloned().chain(names.iter().map(|name| build::part_of(name))).collect()
}

/// Removes an image. Who maps it keeps what he has.
pub(super) fn drop_image(dir: &Path) {
    if let Err(error) = files::remove(&all_files(dir)) {
        tracing::warn!(path = %dir.display(), %error, "an image of memory is left");
    }
}

/// Removes what a kill has left in a snapshot's directory of work on its memory.
pub(crate) fn tidy(dir: &Path) {
    if !dir.join(DESCRIPTION).exists() {
        drop_image(dir);
    }
    let parts: Vec<PathBuf> =
        [RAM, STATE, DESCRIPTION].iter().map(|name| build::part_of(&dir.join(name))).collect();
    drop(files::remove(&parts));
    packed::tidy(dir);
}

/// Writes down that a snapshot is gone on from: it will be again.
pub(super) fn note_use(dir: &Path) {
    let touched =
        File::create(dir.join(USED)).and_then(|file| file.set_modified(std::time::SystemTime::now()));
    if let Err(error) = touched {
        tracing::debug!(path = %dir.display(), %error, "a use is not written down");
    }
}

/// The work on snapshots' memory that nobody waits for.
#[derive(Debug)]
pub(crate) struct Preparing {
    now: Mutex<HashMap<SnapshotId, Work>>,
    /// Given up by a person, or in vain: not tried again by itself.
    left: Mutex<HashSet<SnapshotId>>,
    /// What was written before an unclean end of the computer is looked at before it is used.
    distrusted: Mutex<Option<Timestamp>>,
    /// Whether a QEMU, by its identity, can do without the memory it shares.
    offers: Mutex<HashMap<String, bool>>,
    gate: Gate,
    /// Something else is wanted of all of them.
    other: Arc<Notify>,
}

#[derive(Clone, Debug, Default)]
struct Work {
    stop: CancellationToken,
    over: CancellationToken,
}

/// Work that others know of; it is over when this is dropped.
struct Known<'a> {
    preparing: &'a Preparing,
    id: SnapshotId,
    work: Work,
}

impl Drop for Known<'_> {
    fn drop(&mut self) {
        lock(&self.preparing.now).remove(&self.id);
        self.work.over.cancel();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Preparing {
    fn default() -> Self {
        Self {
            now: Mutex::default(),
            left: Mutex::default(),
            distrusted: Mutex::default(),
            offers: Mutex::default(),
            gate: Gate::new(1),
            other: Arc::default(),
        }
    }
}

impl Preparing {
    fn begin(&self, id: SnapshotId) -> Known<'_> {
        let work = Work::default();
        lock(&self.now).insert(id, work.clone());
        Known { preparing: self, id, work }
    }

    /// Ends the work on a snapshot's memory; none of it goes on when this returns.
    pub(crate) async fn stop(&self, id: SnapshotId) {
        let work = lock(&self.now).get(&id).cloned();
        if let Some(Work { stop, over }) = work {
            stop.cancel();
            over.cancelled().await;
        }
    }

    fn leave(&self, id: SnapshotId) {
        lock(&self.left).insert(id);
    }

    fn is_left(&self, id: SnapshotId) -> bool {
        lock(&self.left).contains(&id)
    }

    /// What is wanted may be something else than it was.
    pub(crate) fn look_again(&self) {
        self.other.notify_one();
    }

    /// It is wanted again.
    pub(super) fn take_up(&self, id: SnapshotId) {
        lock(&self.left).remove(&id);
    }

    /// Since when everything can be trusted again; `None`: the last end was a clean one.
    pub(super) fn distrusted(&self) -> Option<Timestamp> {
        *lock(&self.distrusted)
    }
}

/// Ends the work on the memory of all of a machine's snapshots.
pub(crate) async fn stop_all(shared: &Arc<Shared>, machine_dir: &Path) {
    for id in super::kept::dirs(machine_dir).iter().filter_map(|dir| super::kept::id_of(dir)) {
        shared.preparing.stop(id).await;
    }
}
