//! A repository, opened with the password there is.

use std::path::{Path, PathBuf};

use voidvm_backup::{Password, Protection, Repository};
use voidvm_model::backup::{BackupInitRequest, BackupPassword, BackupRepository};
use voidvm_model::spec::validate_path;
use voidvm_model::{ErrorBody, SecretId};
use voidvm_qemu::secret::Key;

use crate::engine::blocking;
use crate::shared::Shared;

/// Begins backups in a directory.
///
/// # Errors
/// When something is in it already, or it cannot be written to.
pub(super) async fn init(shared: &Shared, request: BackupInitRequest) -> Result<BackupRepository, ErrorBody> {
    let directory = PathBuf::from(&request.directory);
    validate_path("directory", &directory)?;
    let (made_in, encrypt) = (directory.clone(), request.encrypt);
    let password = blocking(move || {
        let password = if encrypt { Some(Password::generate()?) } else { None };
        let protection = password.clone().map_or(Protection::Folder, Protection::Password);
        Repository::init(&made_in, &protection).map_err(of_directory)?;
        Ok(password)
    })
    .await?;
    let mut remembered = false;
    if let Some(password) = &password {
        // The password is answered all the same: without the keychain it is given with each request.
        match remember(shared, &directory, password).await {
            Ok(()) => remembered = true,
            Err(error) => tracing::warn!(%error, "the password of new backups is not in the keychain"),
        }
    }
    let password = password.map(|password| BackupPassword(password.reveal().to_owned()));
    Ok(BackupRepository { directory: request.directory, password, remembered })
}

async fn remember(shared: &Shared, directory: &Path, password: &Password) -> Result<(), ErrorBody> {
    let key = Key::new(password.reveal().to_owned());
    for (id, key) in secrets_of(directory).into_iter().zip(key) {
        shared.config.secrets.put(id, &key).await?;
    }
    Ok(())
}

/// Opens a repository: with the password that is given, the one in the directory, or one the keychain has.
///
/// # Errors
/// What is wrong with the directory or the password, with its field.
pub(crate) async fn open(
    shared: &Shared,
    directory: &str,
    password: Option<BackupPassword>,
) -> Result<Repository, ErrorBody> {
    let path = PathBuf::from(directory);
    validate_path("directory", &path)?;
    let given = password.map(|BackupPassword(text)| Password::new(text));
    let chosen = given.is_some();
    let opened = open_with(&path, given).await;
    let Err(locked) = opened else { return opened };
    if chosen || locked.field.as_deref() != Some("password") {
        return Err(locked);
    }
    for id in secrets_of(&path) {
        if let Some(key) = shared.config.secrets.get(id).await? {
            return open_with(&path, Some(Password::new(key.reveal().to_owned()))).await;
        }
    }
    Err(locked)
}

async fn open_with(path: &Path, password: Option<Password>) -> Result<Repository, ErrorBody> {
    let path = path.to_owned();
    blocking(move || Repository::open(&path, password.as_ref()).map_err(of_directory)).await
}

/// The request calls it a directory.
fn of_directory(error: ErrorBody) -> ErrorBody {
    match error.field.as_deref() {
        Some("folder") | None => error.with_field("directory"),
        Some(_) => error,
    }
}

/// Under which names the keychain has the passwords of the repository's key files: each file is named by 256 bits nobody else's
/// has, and the first 128 of them are the name.
fn secrets_of(directory: &Path) -> Vec<SecretId> {
    let Ok(entries) = std::fs::read_dir(directory.join("keys")) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| name.get(..32).and_then(|digits| digits.parse().ok())).collect()
}
