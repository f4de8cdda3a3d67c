//! Small pictures of machines' screens: taken when asked for, at most every five seconds each, the last kept beside the disk for
//! when the machine is off.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Mutex;
use voidvm_model::VmId;
use voidvm_model::contract::Picture;

use crate::supervisor::Machine;
use crate::{picture, screen};

/// How old a picture of a live screen may be.
const FRESH: Duration = Duration::from_secs(5);

/// The pictures. Only those of live machines are held in memory.
#[derive(Debug, Default)]
pub(crate) struct Thumbnails {
    /// One slot per machine, so that two askers take one picture and no machine waits for another.
    slots: std::sync::Mutex<HashMap<VmId, Arc<Mutex<Option<Taken>>>>>,
}

#[derive(Debug)]
struct Taken {
    when: Instant,
    picture: Option<Picture>,
}

impl Thumbnails {
    fn slot(&self, id: VmId) -> Arc<Mutex<Option<Taken>>> {
        let mut slots = self.slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Arc::clone(slots.entry(id).or_default())
    }

    fn drop_slot(&self, id: VmId) {
        self.slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&id);
    }

    /// The newest picture of a machine; `None` when there never was one.
    pub(crate) async fn get(&self, machine: &Machine, file: &Path) -> Option<Picture> {
        let Some(run) = machine.run() else {
            self.drop_slot(machine.id);
            return read(file.to_owned()).await;
        };
        let slot = self.slot(machine.id);
        let mut taken = slot.lock().await;
        if let Some(taken) = taken.as_ref().filter(|taken| taken.when.elapsed() < FRESH) {
            return taken.picture.clone();
        }
        let picture = match screen::small(&run).await {
            Ok((png, size)) => {
                let picture = screen::wrap(&png, size, Timestamp::now());
                keep(file.to_owned(), png).await;
                Some(picture)
            }
            Err(error) => {
                tracing::debug!(vm = %machine.id, %error, "no picture");
                match taken.take() {
                    Some(taken) => taken.picture,
                    None => read(file.to_owned()).await,
                }
            }
        };
        *taken = Some(Taken { when: Instant::now(), picture: picture.clone() });
        picture
    }
}

/// Keeps a picture for when the machine is off; without room for it there is none then.
async fn keep(file: PathBuf, png: Vec<u8>) {
    let kept = tokio::task::spawn_blocking(move || {
        // A machine with its disk elsewhere has no directory yet.
        if let Some(dir) = file.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let beside = file.with_extension("png.part");
        std::fs::write(&beside, png)?;
        std::fs::rename(beside, file)
    });
    if let Ok(Err(error)) = kept.await {
        tracing::debug!(%error, "a picture could not be kept");
    }
}

async fn read(file: PathBuf) -> Option<Picture> {
    let read = tokio::task::spawn_blocking(move || {
        let at = std::fs::metadata(&file).ok()?.modified().ok()?;
        let png = std::fs::read(&file).ok()?;
        let size = picture::size(&png).ok()?;
        Some(screen::wrap(&png, size, Timestamp::try_from(at).ok()?))
    });
    read.await.ok().flatten()
}
