//! Checksums: of downloads at once, of everything else when there is nothing better to do.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256, Sha512};
use tokio_util::sync::CancellationToken;
use voidvm_model::{ErrorBody, Event, Origin};

use super::work::Stopped;
use crate::ops::files::io_error;
use crate::shared::Shared;

/// A file's checksums in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Digests {
    pub(super) sha256: String,
    pub(super) sha512: Option<String>,
}

/// Which checksums are wanted beside SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Also {
    Nothing,
    Sha512,
}

/// Reads a file through; `report` hears how far it is and may stop it.
pub(super) fn digest(
    path: &Path,
    also: Also,
    report: &mut dyn FnMut(u64) -> Result<(), Stopped>,
) -> Result<Digests, Stopped> {
    let mut file = File::open(path).map_err(|error| io_error(path, &error))?;
    let (mut short, mut long) = (Sha256::new(), (also == Also::Sha512).then(Sha512::new));
    let (mut piece, mut done) = (vec![0; 1 << 20], 0);
    loop {
        let count = file.read(&mut piece).map_err(|error| io_error(path, &error))?;
        if count == 0 {
            break;
        }
        short.update(&piece[..count]);
        if let Some(long) = &mut long {
            long.update(&piece[..count]);
        }
        done += count as u64;
        report(done)?;
    }
    Ok(Digests { sha256: hex(&short.finalize()), sha512: long.map(|long| hex(&long.finalize())) })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Computes what is missing, one image after the other, until the engine ends.
pub(crate) fn keep_up(shared: &Arc<Shared>) {
    let (weak, closing) = (Arc::downgrade(shared), shared.closing.clone());
    let unhashed = Arc::clone(&shared.images.unhashed);
    shared.builders.spawn(async move {
        loop {
            if let Some(shared) = weak.upgrade() {
                catch_up(&shared, &closing).await;
            }
            tokio::select! {
                biased;
                () = closing.cancelled() => return,
                () = unhashed.notified() => {}
            }
        }
    });
}

async fn catch_up(shared: &Shared, closing: &CancellationToken) {
    let rows = match shared.store.images().list().await {
        Ok(rows) => rows,
        Err(error) => return tracing::error!(%error, "the images cannot be read"),
    };
    for row in rows.into_iter().filter(|row| row.sha256.is_none()) {
        match quietly(row.path.clone(), closing.clone()).await {
            Ok(digests) => {
                if let Err(error) = shared.store.images().set_sha256(row.id, &digests.sha256).await {
                    tracing::error!(%error, "a checksum cannot be stored");
                }
                shared.bus.publish(Origin::System, Event::ImagesChanged);
            }
            Err(Stopped::Cancelled) => return,
            Err(Stopped::Failed(failure)) => {
                tracing::warn!(image = row.name, error = %failure.error, "no checksum of an image");
            }
        }
    }
}

async fn quietly(path: PathBuf, closing: CancellationToken) -> Result<Digests, Stopped> {
    let hashing = tokio::task::spawn_blocking(move || {
        digest(&path, Also::Nothing, &mut |_| {
            if closing.is_cancelled() { Err(Stopped::Cancelled) } else { Ok(()) }
        })
    });
    hashing.await.unwrap_or_else(|error| {
        let body =
            ErrorBody::new(voidvm_model::ErrorCode::Internal, format!("The work ended early: {error}."));
        Err(body.into())
    })
}
