//! Keys of encrypted disks: in the desktop's keychain, or in files of mode 0600 where there is none.
//!
//! ```text
//! put: keychain takes it and gives it back? ─yes─▶ keychain     get: file there? ─yes─▶ file
//!                  no ─▶ file                                           no ─▶ keychain
//! ```
//! A keychain that does not answer counts as none when a key is put, and as an error when one is looked for: the key may be in it.

use std::path::Path;

use voidvm_engine::{SecretFiles, Secrets};
use voidvm_model::{ErrorBody, ErrorCode, SecretId};
use voidvm_qemu::secret::Key;

use crate::redact::Redactor;
use crate::token::{KeychainError, SERVICE, keychain};

/// The keys of one data directory.
#[derive(Debug)]
pub(crate) struct KeychainSecrets {
    files: SecretFiles,
    redactor: Redactor,
}

impl KeychainSecrets {
    /// The keys of a data directory; opens nothing yet.
    pub(crate) fn new(data_dir: &Path, redactor: Redactor) -> Self {
        Self { files: SecretFiles::new(data_dir.join("secrets")), redactor }
    }
}

fn account(id: SecretId) -> String {
    format!("disk {id}")
}

#[async_trait::async_trait]
impl Secrets for KeychainSecrets {
    async fn put(&self, id: SecretId, key: &Key) -> Result<(), ErrorBody> {
        self.redactor.add(key.reveal());
        let text = key.reveal().to_owned();
        // A locked keychain says it is fine until one writes: what counts is that the key can be read back.
        let kept = keychain(move || {
            let entry = keyring::Entry::new(SERVICE, &account(id))?;
            entry.set_password(&text)?;
            Ok(entry.get_password()? == text)
        });
        match kept.await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => self.files.put(id, key).await,
        }
    }

    async fn get(&self, id: SecretId) -> Result<Option<Key>, ErrorBody> {
        if let Some(key) = self.files.get(id).await? {
            self.redactor.add(key.reveal());
            return Ok(Some(key));
        }
        match keychain(move || keyring::Entry::new(SERVICE, &account(id))?.get_password()).await {
            Ok(text) => {
                self.redactor.add(&text);
                Ok(Key::new(text))
            }
            Err(KeychainError::NoEntry) => Ok(None),
            Err(KeychainError::Unavailable(reason)) => Err(ErrorBody::new(
                ErrorCode::PermissionDenied,
                "The keychain that may hold the disk's key cannot be used.",
            )
            .with_hint("Unlock it, then try again.")
            .with_detail("reason", reason)),
        }
    }

    async fn remove(&self, id: SecretId) -> Result<(), ErrorBody> {
        self.files.remove(id).await?;
        match keychain(move || keyring::Entry::new(SERVICE, &account(id))?.delete_credential()).await {
            Ok(()) | Err(KeychainError::NoEntry) => Ok(()),
            // Without a keychain there is nothing in it.
            Err(KeychainError::Unavailable(reason)) => {
                tracing::warn!(%id, reason, "a disk's key may be left in the keychain");
                Ok(())
            }
        }
    }
}
