//! The local API's token: 256 random bits, in the desktop's keychain, or in a file of mode 0600 where there is none.
//!
//! ```text
//! file there? ─yes─▶ file
//!      no ─▶ keychain has one? ─yes─▶ keychain
//!                  no ─▶ make one ─▶ keychain takes it? ─yes─▶ keychain
//!                                          no ─▶ file
//! ```
//! Nothing is opened before somebody needs the token. A keychain that does not answer within [`PATIENCE`] (a locked one asks
//! the user) counts as none.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::{Mutex, watch};
use voidvm_model::{ErrorBody, ErrorCode};

use crate::directories::io_error;
use crate::redact::Redactor;

/// How long the keychain may take for one answer.
const PATIENCE: Duration = Duration::from_secs(3);
pub(crate) const SERVICE: &str = "voidvm";

/// A secret text that neither `Debug` nor a log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    fn random() -> Result<Self, ErrorBody> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(|error| {
            ErrorBody::new(ErrorCode::Internal, format!("The system gives no random numbers: {error}."))
        })?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }

    fn accept(text: &str) -> Option<Self> {
        let text = text.trim();
        (text.len() >= 32 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'))
            .then(|| Self(text.to_owned()))
    }

    /// The token itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token([redacted])")
    }
}

/// Where a token is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptIn {
    /// The desktop's keychain.
    Keychain,
    /// A file only the user can read.
    File(PathBuf),
}

impl std::fmt::Display for KeptIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Keychain => f.write_str("keychain"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The one token of one data directory.
#[derive(Debug)]
pub struct TokenStore {
    file: PathBuf,
    account: String,
    redactor: Redactor,
    known: Mutex<Option<(Token, KeptIn)>>,
    renewals: watch::Sender<u64>,
}

impl TokenStore {
    /// The store of a data directory; opens nothing yet.
    #[must_use]
    pub fn new(data_dir: &Path, redactor: Redactor) -> Self {
        Self {
            file: data_dir.join("token"),
            account: format!("local-api {}", data_dir.display()),
            redactor,
            known: Mutex::new(None),
            renewals: watch::Sender::new(0),
        }
    }

    /// Changes with each renewal: what was opened with the old token has to end.
    #[must_use]
    pub fn renewals(&self) -> watch::Receiver<u64> {
        self.renewals.subscribe()
    }

    /// The token and its place; made when there is none.
    ///
    /// # Errors
    /// When neither keychain nor file can hold one.
    pub async fn get(&self) -> Result<(Token, KeptIn), ErrorBody> {
        let mut known = self.known.lock().await;
        if let Some(found) = known.as_ref() {
            return Ok(found.clone());
        }
        let found = match read_file(&self.file)? {
            Some(token) => (token, KeptIn::File(self.file.clone())),
            None => match self.read_keychain().await {
                Some(token) => (token, KeptIn::Keychain),
                None => self.keep(Token::random()?).await?,
            },
        };
        self.redactor.add(found.0.reveal());
        *known = Some(found.clone());
        Ok(found)
    }

    /// Replaces the token.
    ///
    /// # Errors
    /// When neither keychain nor file can hold one; the old token stays then.
    pub async fn renew(&self) -> Result<(Token, KeptIn), ErrorBody> {
        let mut known = self.known.lock().await;
        let token = Token::random()?;
        self.redactor.add(token.reveal());
        let in_file = match known.as_ref() {
            Some((_, kept_in)) => matches!(kept_in, KeptIn::File(_)),
            None => self.file.exists(),
        };
        let found = if in_file {
            write_file(&self.file, &token)?;
            (token, KeptIn::File(self.file.clone()))
        } else {
            self.keep(token).await?
        };
        *known = Some(found.clone());
        self.renewals.send_modify(|number| *number += 1);
        Ok(found)
    }

    async fn keep(&self, token: Token) -> Result<(Token, KeptIn), ErrorBody> {
        if self.write_keychain(&token).await {
            return Ok((token, KeptIn::Keychain));
        }
        write_file(&self.file, &token)?;
        Ok((token, KeptIn::File(self.file.clone())))
    }

    async fn read_keychain(&self) -> Option<Token> {
        let account = self.account.clone();
        let text = keychain(move || keyring::Entry::new(SERVICE, &account)?.get_password()).await.ok()?;
        Token::accept(&text)
    }

    /// A locked keychain says it is fine until one writes: what counts is that the token can be read back.
    async fn write_keychain(&self, token: &Token) -> bool {
        let account = self.account.clone();
        let text = token.reveal().to_owned();
        keychain(move || {
            let entry = keyring::Entry::new(SERVICE, &account)?;
            entry.set_password(&text)?;
            Ok(entry.get_password()? == text)
        })
        .await
        .unwrap_or(false)
    }
}

/// Why the keychain cannot be used, in its own words.
///
/// # Errors
/// The keychain's own words.
pub async fn keychain_works() -> Result<(), String> {
    keychain(|| {
        let entry = keyring::Entry::new(SERVICE, "probe")?;
        entry.set_password("probe")?;
        entry.delete_credential()
    })
    .await
    .map_err(|error| error.to_string())
}

/// Why the keychain did not do its part.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeychainError {
    /// It has no such secret.
    #[error("there is no such secret")]
    NoEntry,
    /// It cannot be used; in its own words.
    #[error("{0}")]
    Unavailable(String),
}

/// Asks the keychain, within [`PATIENCE`].
///
/// # Errors
/// [`KeychainError`].
pub(crate) async fn keychain<T: Send + 'static>(
    work: impl FnOnce() -> keyring::Result<T> + Send + 'static,
) -> Result<T, KeychainError> {
    let words = match tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(Ok(value))) => return Ok(value),
        Ok(Ok(Err(keyring::Error::NoEntry))) => return Err(KeychainError::NoEntry),
        Ok(Ok(Err(keyring::Error::NoDefaultStore))) => match keyring::Entry::store_status() {
            Err(error) => error.to_string(),
            Ok(()) => "there is no keychain".to_owned(),
        },
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the keychain does not answer (it may be locked)".to_owned(),
    };
    Err(KeychainError::Unavailable(words))
}

fn read_file(path: &Path) -> Result<Option<Token>, ErrorBody> {
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path, &error)),
    };
    if meta.uid() != rustix::process::getuid().as_raw() || meta.permissions().mode() & 0o077 != 0 {
        return Err(ErrorBody::new(
            ErrorCode::PermissionDenied,
            format!("Others can read the token in {}.", path.display()),
        )
        .with_hint("Remove the file; a new token is made then.")
        .with_detail("path", path.display().to_string()));
    }
    let text = fs::read_to_string(path).map_err(|error| io_error("read", path, &error))?;
    Ok(Token::accept(&text))
}

/// Written beside and renamed, so that a crash leaves the old token or the new one.
fn write_file(path: &Path, token: &Token) -> Result<(), ErrorBody> {
    let beside = path.with_extension("part");
    let write = || {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(token.reveal().as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|error| io_error("write", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_shown_by_accident() {
        let token = Token::random().unwrap();
        assert_eq!(token.reveal().len(), 43);
        assert!(!format!("{token:?}").contains(token.reveal()));
        assert_ne!(token, Token::random().unwrap());
    }

    #[test]
    fn the_file_is_for_the_user_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("token");
        assert_eq!(read_file(&path).unwrap(), None);
        let token = Token::random().unwrap();
        write_file(&path, &token).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_file(&path).unwrap(), Some(token));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read_file(&path).unwrap_err().code, ErrorCode::PermissionDenied);
    }

    #[tokio::test]
    async fn a_token_stays_and_can_be_renewed() {
        let root = tempfile::tempdir().unwrap();
        // Kept in a file from the beginning, so that the test does not touch the keychain of whoever runs it.
        write_file(&root.path().join("token"), &Token::random().unwrap()).unwrap();
        let redactor = Redactor::default();
        let store = TokenStore::new(root.path(), redactor.clone());
        let (first, kept_in) = store.get().await.unwrap();
        assert_eq!(kept_in, KeptIn::File(root.path().join("token")));
        assert_eq!(TokenStore::new(root.path(), redactor.clone()).get().await.unwrap().0, first);
        let (second, _) = store.renew().await.unwrap();
        assert_ne!(first, second);
        assert_eq!(store.get().await.unwrap().0, second);
        assert!(!redactor.text(format!("{} {}", first.reveal(), second.reveal())).contains(first.reveal()));
    }
}
