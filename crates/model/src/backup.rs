//! Backups: machines in a folder, in the restic format.
//!
//! A repository is named by its absolute directory, wherever it is mounted now; nothing of it is in the store. Its password is one
//! that lies in it, or one in the keychain, or is given with the request.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::error::ErrorBody;
use crate::ids::VmId;
use crate::units::Bytes;

/// A backup, by the name `restic` has for it too: 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, TS)]
#[serde(into = "String", try_from = "String")]
#[schemars(with = "String")]
#[ts(type = "string")]
pub struct BackupId(pub [u8; 32]);

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        f.pad(&text)
    }
}

impl fmt::Debug for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BackupId({self})")
    }
}

impl FromStr for BackupId {
    type Err = ErrorBody;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            ErrorBody::invalid("backup", "That names no backup.")
                .with_hint("Use the 64 hexadecimal digits of the list of backups.")
        };
        if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let pair = text.get(at * 2..at * 2 + 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl From<BackupId> for String {
    fn from(id: BackupId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for BackupId {
    type Error = ErrorBody;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// The password of encrypted backups; shown in no log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(transparent)]
pub struct BackupPassword(pub String);

impl fmt::Debug for BackupPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackupPassword(…)")
    }
}

/// Begin backups in a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupInitRequest {
    /// Absolute path of a directory that is empty or not there.
    pub directory: String,
    /// Generate a password, keep it in the keychain and answer it once. Without, who has the directory can restore.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub encrypt: bool,
}

/// A new repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct BackupRepository {
    /// Where it is.
    pub directory: String,
    /// Its password, where it is encrypted: to be written down, since nobody can read the backups elsewhere without it.
    pub password: Option<BackupPassword>,
    /// Whether the keychain has the password.
    pub remembered: bool,
}

/// One repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupListRequest {
    /// Absolute path of the repository.
    pub directory: String,
    /// Its password; the one of the directory or the keychain without.
    #[serde(default)]
    #[ts(optional)]
    pub password: Option<BackupPassword>,
}

/// What a repository holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct BackupList {
    /// The backups, oldest first.
    pub backups: Vec<Backup>,
    /// Those that cannot be read.
    pub damaged: Vec<DamagedBackup>,
}

/// A backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// Its id.
    pub id: BackupId,
    /// The instant it shows.
    #[ts(type = "string")]
    pub taken: Timestamp,
    /// The computer it was made on.
    pub host: String,
    /// What is in it.
    pub machines: Vec<BackupMachine>,
    /// What it added to the repository, where that is known.
    pub added: Option<Bytes>,
}

/// A machine of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct BackupMachine {
    /// The machine.
    pub id: VmId,
    /// Its name then.
    pub name: String,
    /// Its directory in the backup.
    pub directory: String,
    /// How well its disks fit together.
    pub consistency: BackupConsistency,
    /// The size of all its disks.
    pub size: Bytes,
}

/// How well the disks of a backup fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum BackupConsistency {
    /// The machine was off.
    Stopped,
    /// The guest's agent had flushed and frozen its file systems.
    Frozen,
    /// As after a power cut.
    Crash,
}

impl BackupConsistency {
    /// The wire form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Frozen => "frozen",
            Self::Crash => "crash",
        }
    }
}

/// A backup that cannot be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct DamagedBackup {
    /// Its id.
    pub id: BackupId,
    /// What is wrong with it.
    pub problem: ErrorBody,
}

/// Back a machine up as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupRunRequest {
    /// The machine.
    pub id: VmId,
    /// Absolute path of the repository.
    pub directory: String,
    /// Its password; the one of the directory or the keychain without.
    #[serde(default)]
    #[ts(optional)]
    pub password: Option<BackupPassword>,
}

/// Check a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupVerifyRequest {
    /// Absolute path of the repository.
    pub directory: String,
    /// Its password; the one of the directory or the keychain without.
    #[serde(default)]
    #[ts(optional)]
    pub password: Option<BackupPassword>,
    /// Read every byte, not only what says where they are.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub data: bool,
}

/// Make a new machine of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupRestoreRequest {
    /// Absolute path of the repository.
    pub directory: String,
    /// Its password; the one of the directory or the keychain without.
    #[serde(default)]
    #[ts(optional)]
    pub password: Option<BackupPassword>,
    /// Which backup.
    pub backup: BackupId,
    /// The machine's directory in it; needed where it holds several.
    #[serde(default)]
    #[ts(optional)]
    pub machine: Option<String>,
    /// The new machine's name; the one it had without.
    #[serde(default)]
    #[ts(optional)]
    pub name: Option<String>,
    /// Start it when it is made.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub start: bool,
}

/// See whether a backup comes up: it is restored to a machine without network, shares and devices of the host, started, watched, and
/// removed again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupDrillRequest {
    /// Absolute path of the repository.
    pub directory: String,
    /// Its password; the one of the directory or the keychain without.
    #[serde(default)]
    #[ts(optional)]
    pub password: Option<BackupPassword>,
    /// Which backup.
    pub backup: BackupId,
    /// The machine's directory in it; needed where it holds several.
    #[serde(default)]
    #[ts(optional)]
    pub machine: Option<String>,
    /// How many seconds a guest that says nothing must run, 10 to 3600; 300 without.
    #[serde(default)]
    #[ts(optional)]
    pub seconds: Option<u32>,
}

/// How it was seen that a restored guest came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum DrillProof {
    /// The guest's agent answered.
    Agent,
    /// It asked for a login on its serial port.
    Login,
    /// Neither; but it ran for as long as was asked, without an end, a panic or a disk that fails. Whether it got further than its
    /// firmware is not known.
    Ran,
}

/// Remove backups and what none of the others needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupForgetRequest {
    /// Absolute path of the repository.
    pub directory: String,
    /// Its password; the one of the directory or the keychain without.
    #[serde(default)]
    #[ts(optional)]
    pub password: Option<BackupPassword>,
    /// Which backups.
    pub backups: Vec<BackupId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_named_by_64_digits() {
        let text = "00ff".repeat(16);
        assert_eq!(text.parse::<BackupId>().map(|id| id.to_string()), Ok(text));
        for wrong in ["", "00ff", &"0g".repeat(32), &"é".repeat(32)] {
            assert!(wrong.parse::<BackupId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        assert!(!format!("{:?}", BackupPassword("hush".to_owned())).contains("hush"));
    }
}
