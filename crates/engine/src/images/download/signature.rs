//! OpenPGP signatures, by the distribution's own `gpgv` and the keyrings that are installed.
//!
//! What cannot be checked, for lack of the program or of a key, is said not to be; what was changed is refused.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use voidvm_model::{ErrorBody, ErrorCode};

const PATIENCE: Duration = Duration::from_secs(20);
const SYSTEM_KEYRINGS: &str = "/usr/share/keyrings";

/// What a signature says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A key of the keyrings made it, over this text.
    Good(String),
    /// Nobody here can tell, for this reason.
    Unchecked(&'static str),
}

/// The files of these names, the user's own directory first.
pub(super) fn keyrings(names: &[String], own: Option<&Path>) -> Vec<PathBuf> {
    let dirs = own.into_iter().chain([Path::new(SYSTEM_KEYRINGS)]);
    let mut found: Vec<PathBuf> = Vec::new();
    for dir in dirs {
        let plain = names.iter().filter(|name| !name.contains('/') && name.as_str() != "..");
        found.extend(plain.map(|name| dir.join(name)).filter(|file| file.is_file()));
    }
    found
}

/// Every keyring the user has put into his own directory.
pub(super) fn own_keyrings(own: Option<&Path>) -> Vec<PathBuf> {
    let entries = own.and_then(|own| std::fs::read_dir(own).ok()).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|file| file.extension().is_some_and(|extension| extension == "gpg") && file.is_file())
        .collect();
    files.sort();
    files
}

/// Whether a text carries its signature in itself.
pub(super) fn is_clear_signed(text: &str) -> bool {
    text.trim_start().starts_with("-----BEGIN PGP SIGNED MESSAGE-----")
}

/// Checks a text, with a detached signature or one inside it. `scratch` are names for files that may be written.
///
/// # Errors
/// [`ErrorCode::ChecksumMismatch`] when the signature is not of this text.
pub(super) async fn check(
    text: &str,
    signature: Option<&[u8]>,
    keyrings: &[PathBuf],
    scratch: [PathBuf; 3],
) -> Result<Verdict, ErrorBody> {
    if keyrings.is_empty() {
        return Ok(Verdict::Unchecked("no keyring for it is installed"));
    }
    let [signed, detached, plain] = scratch;
    let failed = |error: std::io::Error| {
        ErrorBody::new(ErrorCode::Internal, format!("A file cannot be written: {error}."))
    };
    tokio::fs::write(&signed, text).await.map_err(failed)?;
    let mut command = Command::new("gpgv");
    command.args(["--status-fd", "1", "--homedir"]).arg(signed.parent().unwrap_or(Path::new("/")));
    for keyring in keyrings {
        command.arg("--keyring").arg(keyring);
    }
    match signature {
        Some(signature) => {
            tokio::fs::write(&detached, signature).await.map_err(failed)?;
            command.arg(&detached).arg(&signed);
        }
        None => {
            command.arg("--output").arg(&plain).arg(&signed);
        }
    }
    command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let ended = match tokio::time::timeout(PATIENCE, command.output()).await {
        Ok(Ok(ended)) => ended,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Verdict::Unchecked("gpgv is not installed"));
        }
        Ok(Err(error)) => {
            return Err(ErrorBody::new(ErrorCode::Internal, format!("gpgv cannot be run: {error}.")));
        }
        Err(_) => return Err(ErrorBody::new(ErrorCode::Timeout, "gpgv did not come to an end in time.")),
    };
    let status = String::from_utf8_lossy(&ended.stdout);
    let says = |word: &str| {
        status.lines().any(|line| line.strip_prefix("[GNUPG:] ").is_some_and(|s| s.starts_with(word)))
    };
    // One of several signatures is enough; one that is wrong is one too many.
    if says("GOODSIG") && says("VALIDSIG") && !says("BADSIG") {
        let text = match signature {
            Some(_) => text.to_owned(),
            None => tokio::fs::read_to_string(&plain).await.map_err(failed)?,
        };
        return Ok(Verdict::Good(text));
    }
    if says("NO_PUBKEY") && !says("BADSIG") && !says("REVKEYSIG") && !says("EXPKEYSIG") {
        return Ok(Verdict::Unchecked("the key that made the signature is in no keyring here"));
    }
    Err(ErrorBody::new(ErrorCode::ChecksumMismatch, "The signature of the checksum file is not good.")
        .with_hint("Do not use this file: it may have been changed on its way. Try another mirror.")
        .with_detail("gpgv", status.into_owned()))
}
