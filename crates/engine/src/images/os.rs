//! Operating systems: osinfo-db, read when it is first asked for.

use std::path::Path;
use std::sync::Arc;

use voidvm_model::guest_os::{GuestOs, OsPreset};
use voidvm_model::{ErrorBody, ErrorCode};
use voidvm_osinfo::{DIRECTORIES, IsoIdentity, OsDb};

use super::catalogue;
use crate::ops::files::io_error;
use crate::shared::Shared;

/// The database; none where it is not installed.
async fn database(shared: &Shared) -> Option<Arc<OsDb>> {
    let read = || async {
        let home = shared.config.osinfo_dirs.clone();
        let loaded = tokio::task::spawn_blocking(move || {
            let general = DIRECTORIES.iter().map(std::path::PathBuf::from);
            OsDb::load(home.unwrap_or_else(|| general.collect()))
        });
        match loaded.await {
            Ok(Ok(db)) => Some(Arc::new(db)),
            Ok(Err(error)) => {
                tracing::warn!(%error, "operating systems are not known");
                None
            }
            Err(error) => {
                tracing::error!(%error, "the operating systems were not read to their end");
                None
            }
        }
    };
    shared.images.os.get_or_init(read).await.clone()
}

async fn needed(shared: &Shared) -> Result<Arc<OsDb>, ErrorBody> {
    database(shared).await.ok_or_else(|| {
        ErrorBody::new(ErrorCode::ProgramMissing, "The list of operating systems is not installed.")
            .with_hint("Install the package osinfo-db, then start voidVM again.")
            .with_detail("program", "osinfo-db")
    })
}

/// What an operating system wants; none of one that is not known.
pub(crate) async fn preset(shared: &Shared, id: &str) -> Option<OsPreset> {
    database(shared).await?.preset(id)
}

/// Operating systems whose name or id has these letters; with those of the catalogue that are newer than the database.
///
/// # Errors
/// [`ErrorCode::ProgramMissing`] without a database.
pub(crate) async fn list(shared: &Shared, search: Option<&str>) -> Result<Vec<OsPreset>, ErrorBody> {
    let db = needed(shared).await?;
    let mut presets = db.list();
    let offered = catalogue::built_in().into_iter().map(|item| item.entry.os);
    for id in offered.collect::<std::collections::BTreeSet<_>>() {
        if !presets.iter().any(|preset| preset.os.id == id)
            && let Some(preset) = db.preset(&id)
        {
            // Before the relatives it is newer than.
            let stem: String = id.chars().take_while(|c| !c.is_ascii_digit()).collect();
            let at = presets.iter().position(|other| other.os.id.starts_with(&stem)).unwrap_or(presets.len());
            presets.insert(at, preset);
        }
    }
    if let Some(search) = search {
        let words: Vec<String> = search.split_whitespace().map(str::to_lowercase).collect();
        presets.retain(|preset| {
            let text = format!("{} {}", preset.os.name, preset.os.id).to_lowercase();
            words.iter().all(|word| text.contains(word))
        });
    }
    Ok(presets)
}

/// The operating system on a medium, and what it wants.
///
/// # Errors
/// [`ErrorCode::ProgramMissing`] without a database; what the file system says of the file.
pub(crate) async fn detect(shared: &Shared, path: &Path) -> Result<Option<OsPreset>, ErrorBody> {
    let db = needed(shared).await?;
    let path = path.to_owned();
    crate::engine::blocking(move || {
        let plain = std::fs::metadata(&path).map_err(|error| io_error(&path, &error).with_field("path"))?;
        if !plain.is_file() {
            return Err(ErrorBody::new(
                ErrorCode::ImageInvalid,
                format!("{} is no ordinary file.", path.display()),
            )
            .with_field("path")
            .with_hint("Choose an ISO."));
        }
        let identity =
            IsoIdentity::read(&path).map_err(|error| io_error(&path, &error).with_field("path"))?;
        Ok(identity.and_then(|identity| db.detect(&identity)))
    })
    .await
}

/// The operating system on an ISO, as far as it can be known.
pub(super) async fn on_iso(shared: &Shared, path: &Path) -> Option<GuestOs> {
    database(shared).await?;
    match detect(shared, path).await {
        Ok(preset) => preset.map(|preset| preset.os),
        Err(error) => {
            tracing::debug!(%error, "the operating system of an ISO is not known");
            None
        }
    }
}

/// An operating system by its short id; named by the id where there is nothing else.
pub(super) async fn by_id(shared: &Shared, id: &str, name: &str) -> GuestOs {
    preset(shared, id).await.map_or_else(
        || GuestOs { id: id.to_owned(), name: name.to_owned(), family: "linux".to_owned(), version: None },
        |preset| preset.os,
    )
}
