//! Where the keys of encrypted disks are kept. The engine knows them by id; a specification, the store and the logs hold that
//! id alone.

use std::fmt::Debug;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use voidvm_model::{ErrorBody, ErrorCode, SecretId};
use voidvm_qemu::secret::Key;

use crate::ops::files::io_error;

/// A place for keys.
#[async_trait]
pub trait Secrets: Debug + Send + Sync {
    /// Keeps a key; it can be had again when this has returned.
    ///
    /// # Errors
    /// When nothing can hold it.
    async fn put(&self, id: SecretId, key: &Key) -> Result<(), ErrorBody>;

    /// A key; none where there is none of this id.
    ///
    /// # Errors
    /// When the place does not answer: the key may be there.
    async fn get(&self, id: SecretId) -> Result<Option<Key>, ErrorBody>;

    /// Forgets a key. It is fine if there is none.
    ///
    /// # Errors
    /// When it is still there.
    async fn remove(&self, id: SecretId) -> Result<(), ErrorBody>;
}

/// Keys in files only the user can read, one each: where there is no keychain.
#[derive(Clone, Debug)]
pub struct SecretFiles(PathBuf);

impl SecretFiles {
    /// Below this directory, which is made when the first key is.
    #[must_use]
    pub const fn new(dir: PathBuf) -> Self {
        Self(dir)
    }

    fn path(&self, id: SecretId) -> PathBuf {
        self.0.join(id.to_string())
    }
}

#[async_trait]
impl Secrets for SecretFiles {
    async fn put(&self, id: SecretId, key: &Key) -> Result<(), ErrorBody> {
        let path = self.path(id);
        write(&self.0, &path, key).map_err(|error| io_error(&path, &error))
    }

    async fn get(&self, id: SecretId) -> Result<Option<Key>, ErrorBody> {
        let path = self.path(id);
        let meta = match std::fs::metadata(&path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(&path, &error)),
        };
        if meta.uid() != rustix::process::geteuid().as_raw() || meta.permissions().mode() & 0o077 != 0 {
            return Err(ErrorBody::new(
                ErrorCode::PermissionDenied,
                format!("Others can read the key in {}.", path.display()),
            )
            .with_hint("Take their permission away (chmod 600), and ask who may have read it."));
        }
        std::fs::read_to_string(&path).map(Key::new).map_err(|error| io_error(&path, &error))
    }

    async fn remove(&self, id: SecretId) -> Result<(), ErrorBody> {
        let path = self.path(id);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&path, &error)),
            _ => Ok(()),
        }
    }
}

/// Written beside, made durable and renamed: a disk without its key is lost.
fn write(dir: &Path, path: &Path, key: &Key) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let beside = path.with_extension("part");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(key.reveal().as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    std::fs::File::open(dir)?.sync_all()
}

/// A new key: 256 random bits.
///
/// # Errors
/// When the system gives no random numbers.
pub(crate) fn new_key() -> Result<Key, ErrorBody> {
    use base64::Engine as _;
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| no_random(&error))?;
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    Key::new(text).ok_or_else(|| no_random(&"nothing"))
}

fn no_random(error: &dyn std::fmt::Display) -> ErrorBody {
    ErrorBody::new(ErrorCode::Internal, format!("The system gives no random numbers: {error}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_comes_back_and_is_for_the_user_alone() {
        let root = tempfile::tempdir().unwrap();
        let files = SecretFiles::new(root.path().join("secrets"));
        let (id, key) = (SecretId::new(), new_key().unwrap());
        assert_eq!(files.get(id).await.unwrap(), None);
        files.put(id, &key).await.unwrap();
        assert_eq!(files.get(id).await.unwrap(), Some(key.clone()));
        assert!(!format!("{key:?}").contains(key.reveal()));
        std::fs::set_permissions(files.path(id), std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(files.get(id).await.unwrap_err().code, ErrorCode::PermissionDenied);
        files.remove(id).await.unwrap();
        files.remove(id).await.unwrap();
        assert_eq!(files.get(id).await.unwrap(), None);
    }
}
