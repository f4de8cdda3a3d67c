//! A folder with backups: made, opened, listed.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use voidvm_model::{ErrorBody, ErrorCode, VmId};

use crate::crypto::{Cost, Key, Password, random};
use crate::folder::{Folder, Kind};
use crate::host::Host;
use crate::id::{BackupId, Id};
use crate::index::{Blobs, Index};
use crate::record::{self, BlobKind, Config, KeyFile, Snapshot};
use crate::sealed::{self, Opener};
use crate::{error, polynomial};

/// The tag of snapshots that are backups of machines.
pub(crate) const TAG: &str = "voidvm";
/// The version of [`MachineRecord`] that is written.
pub(crate) const MACHINE_FORMAT: u32 = 1;
pub(crate) const MACHINE_FILE: &str = "machine.json";
pub(crate) const DISKS: &str = "disks";
/// Where the password is when nobody chose one.
pub(crate) const PASSWORD_FILE: &str = "password.txt";
pub(crate) const README_FILE: &str = "README.txt";
pub(crate) const README: &str = include_str!("README.txt");

/// Who can read the backups.
#[derive(Clone, Debug)]
pub enum Protection {
    /// Who knows the password.
    Password(Password),
    /// Who has the folder: a generated password lies in it.
    Folder,
}

/// How the disks of a machine belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// The machine was off.
    Stopped,
    /// The guest had written everything and held its file systems still.
    Frozen,
    /// As after a power cut: all disks at one instant.
    Crash,
}

/// `machine.json`: what a machine was when it was backed up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineRecord {
    /// The version of this document.
    pub format: u32,
    /// The machine.
    pub id: VmId,
    /// Its name then.
    pub name: String,
    /// The instant its disks are of.
    pub taken: Timestamp,
    /// How they belong together.
    pub consistency: Consistency,
    /// Its specification, as voidVM had it.
    pub specification: serde_json::Value,
    /// Its disks, in their order.
    pub disks: Vec<DiskRecord>,
    /// The small files beside this document.
    pub files: Vec<String>,
}

/// A disk of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskRecord {
    /// Its file below `disks`.
    pub file: String,
    /// Its size.
    pub size: u64,
}

/// A machine of a backup.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// Its directory in the backup.
    pub directory: String,
    /// What it was.
    pub record: MachineRecord,
}

/// A backup.
#[derive(Clone, Debug, PartialEq)]
pub struct Backup {
    /// By which it is restored and forgotten.
    pub id: BackupId,
    /// The instant it is of.
    pub taken: Timestamp,
    /// The backup it was made on top of. It does not need that one.
    pub parent: Option<BackupId>,
    /// The host it was made on.
    pub host: String,
    /// Tags, without those of voidVM itself.
    pub tags: Vec<String>,
    /// What is in it.
    pub machines: Vec<Machine>,
    /// The bytes it added to the folder.
    pub added: Option<u64>,
}

/// What [`Repository::backups`] finds.
#[derive(Debug, Default)]
pub struct Backups {
    /// The backups, oldest first.
    pub backups: Vec<Backup>,
    /// Those that cannot be read, and why.
    pub damaged: Vec<(BackupId, ErrorBody)>,
}

/// A folder with backups.
pub struct Repository {
    pub(crate) folder: Arc<Folder>,
    pub(crate) key: Key,
    pub(crate) id: Id,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository").field("folder", &self.folder.root()).field("id", &self.id).finish()
    }
}

impl Repository {
    /// Makes a repository in a folder that is empty or not there.
    ///
    /// # Errors
    /// When there is something in it, or it cannot be written to.
    pub fn init(folder: &Path, protection: &Protection) -> Result<Self, ErrorBody> {
        Self::make(Folder::at(folder.to_owned()), protection)
    }

    pub(crate) fn make(folder: Folder, protection: &Protection) -> Result<Self, ErrorBody> {
        let (password, cost) = match protection {
            Protection::Password(password) if password.reveal().is_empty() => {
                return Err(ErrorBody::invalid("password", "The password is empty."));
            }
            // A generated one has more in it than anybody could guess; any other may be guessed.
            Protection::Password(password) if Id::parse(password.reveal()).is_some() => {
                (password.clone(), Cost::GENERATED)
            }
            Protection::Password(password) => (password.clone(), Cost::CHOSEN),
            Protection::Folder => (Password::generate()?, Cost::GENERATED),
        };
        folder.make()?;
        if matches!(protection, Protection::Folder) {
            folder.write_named(PASSWORD_FILE, format!("{}\n", password.reveal()).as_bytes())?;
        }
        folder.write_named(README_FILE, README.as_bytes())?;
        let key = Key::generate()?;
        folder.write(Kind::Key, &key_file(&key, &password, cost)?)?;
        let id = Id::new(random()?);
        let config = Config {
            version: record::FORMAT,
            id,
            chunker_polynomial: format!("{:x}", polynomial::generate()?),
        };
        // Last: with it, the folder is a repository.
        let text = serde_json::to_vec(&config).map_err(error::internal)?;
        folder.write_named("config", &key.seal(&text)?)?;
        Ok(Self { folder: Arc::new(folder), key, id })
    }

    /// Opens a repository. Without a password, the one that lies in the folder is taken.
    ///
    /// # Errors
    /// When it is no repository, the password is another one, or what says so is damaged.
    pub fn open(folder: &Path, password: Option<&Password>) -> Result<Self, ErrorBody> {
        let folder = Folder::at(folder.to_owned());
        let Some(config) = folder.read_named("config")? else {
            return Err(ErrorBody::new(
                ErrorCode::NotFound,
                format!("There are no backups in {}.", folder.root().display()),
            )
            .with_field("folder")
            .with_hint("Check that the disk with the backups is mounted, or begin backups there.")
            .with_detail("path", folder.root().to_string_lossy()));
        };
        let password = match password {
            Some(password) => password.clone(),
            None => password_in(&folder)?.ok_or_else(|| {
                ErrorBody::invalid("password", "These backups are encrypted with a password.")
                    .with_hint("Give the password.")
            })?,
        };
        let key = unlock(&folder, &password)?;
        let config: Config = sealed::open_document(&key, &config)
            .ok_or_else(|| error::damaged("The file config is not what was written."))?;
        if config.version != record::FORMAT {
            return Err(ErrorBody::new(
                ErrorCode::Unsupported,
                format!(
                    "These backups have version {} of the format; voidVM reads version 2.",
                    config.version
                ),
            )
            .with_hint("`restic migrate upgrade_repo_v2` makes version 2 of version 1."));
        }
        Ok(Self { folder: Arc::new(folder), key, id: config.id })
    }

    /// The repository's own name, the same wherever its folder is.
    #[must_use]
    pub fn id(&self) -> String {
        self.id.to_string()
    }

    /// The backups. Snapshots other programs made in the same repository are not among them.
    ///
    /// # Errors
    /// When the folder or its index cannot be read; a damaged backup is no error.
    pub fn backups(&self) -> Result<Backups, ErrorBody> {
        let index = Index::read(&self.folder, &self.key)?;
        let blobs = Blobs::new(&self.folder, &self.key, &index);
        let mut opener = blobs.opener()?;
        let mut found = Backups::default();
        for (id, _) in self.folder.list(Kind::Snapshot)? {
            match self.snapshot(id).and_then(|snapshot| backup(&blobs, &mut opener, id, snapshot)) {
                Ok(Some(backup)) => found.backups.push(backup),
                Ok(None) => {}
                Err(problem) => found.damaged.push((BackupId(id), problem)),
            }
        }
        found.backups.sort_by_key(|backup| (backup.taken, backup.id));
        Ok(found)
    }

    /// A snapshot, whoever made it.
    pub(crate) fn snapshot(&self, id: Id) -> Result<Snapshot, ErrorBody> {
        let sealed = self.folder.read(Kind::Snapshot, id)?;
        sealed::open_document(&self.key, &sealed)
            .ok_or_else(|| error::damaged(format!("The backup {id} is not what was written.")))
    }

    /// A backup's snapshot; an error of its own when there is none of that name.
    pub(crate) fn snapshot_of(&self, id: BackupId) -> Result<Snapshot, ErrorBody> {
        if !self.folder.path(Kind::Snapshot, id.0).exists() {
            return Err(ErrorBody::new(ErrorCode::NotFound, format!("There is no backup {id}."))
                .with_field("backup")
                .with_hint("Look at the list of backups."));
        }
        self.snapshot(id.0)
    }
}

/// What a snapshot is as a backup; none when it is not one.
fn backup(
    blobs: &Blobs<'_>,
    opener: &mut Opener<'_>,
    id: Id,
    snapshot: Snapshot,
) -> Result<Option<Backup>, ErrorBody> {
    if !snapshot.tags.iter().any(|tag| tag == TAG) {
        return Ok(None);
    }
    let machines = machines(blobs, opener, snapshot.tree)?;
    Ok(Some(Backup {
        id: BackupId(id),
        taken: snapshot.time,
        parent: snapshot.parent.map(BackupId),
        host: snapshot.hostname,
        tags: snapshot.tags.into_iter().filter(|tag| tag != TAG && !tag.starts_with("vm=")).collect(),
        machines,
        added: snapshot.summary.map(|summary| summary.data_added_packed),
    }))
}

/// The machines in a backup's root.
pub(crate) fn machines(
    blobs: &Blobs<'_>,
    opener: &mut Opener<'_>,
    root: Id,
) -> Result<Vec<Machine>, ErrorBody> {
    let mut machines = Vec::new();
    for node in blobs.tree(opener, root)?.nodes {
        let Some(subtree) = node.subtree.filter(|_| node.is_dir()) else { continue };
        let tree = blobs.tree(opener, subtree)?;
        let Some(file) = tree.find(MACHINE_FILE) else { continue };
        let mut text = Vec::new();
        for id in file.content.iter().flatten() {
            text.append(&mut blobs.read(opener, BlobKind::Data, *id)?);
        }
        let record: MachineRecord = serde_json::from_slice(&text).map_err(|wrong| {
            ErrorBody::new(ErrorCode::Unsupported, format!("{}/{MACHINE_FILE}: {wrong}.", node.name()))
        })?;
        if record.format > MACHINE_FORMAT {
            return Err(ErrorBody::new(ErrorCode::Unsupported, "The backup was made by a newer voidVM.")
                .with_hint("Update voidVM. `restic restore` gives the disks in any case."));
        }
        machines.push(Machine { directory: node.name(), record });
    }
    Ok(machines)
}

fn key_file(key: &Key, password: &Password, cost: Cost) -> Result<Vec<u8>, ErrorBody> {
    let salt = random::<64>()?;
    let sealed = Key::derive(password, &salt, cost)?.seal(&key.to_json()?)?;
    let host = Host::this();
    let file = KeyFile {
        created: Timestamp::now(),
        username: host.user,
        hostname: host.name,
        kdf: "scrypt".to_owned(),
        cost,
        salt: STANDARD.encode(salt),
        data: STANDARD.encode(sealed),
    };
    serde_json::to_vec(&file).map_err(error::internal)
}

/// The password that lies in the folder.
pub(crate) fn password_in(folder: &Folder) -> Result<Option<Password>, ErrorBody> {
    let Some(text) = folder.read_named(PASSWORD_FILE)? else { return Ok(None) };
    let digits = text.strip_suffix(b"\n").and_then(|text| std::str::from_utf8(text).ok());
    match digits.filter(|digits| Id::parse(digits).is_some()) {
        Some(digits) => Ok(Some(Password::new(digits.to_owned()))),
        None => Err(error::damaged(format!("{PASSWORD_FILE} is not what was written."))),
    }
}

/// The repository's key, out of the first of its key files the password opens.
fn unlock(folder: &Folder, password: &Password) -> Result<Key, ErrorBody> {
    let mut problem = None;
    for (id, _) in folder.list(Kind::Key)? {
        match folder.read(Kind::Key, id).and_then(|text| unseal(&text, password)) {
            Ok(Some(key)) => return Ok(key),
            Ok(None) => {}
            Err(wrong) => problem = Some(wrong),
        }
    }
    Err(problem.unwrap_or_else(|| {
        ErrorBody::invalid("password", "The password does not open these backups.")
            .with_hint("Check the password; without it nobody can read them.")
    }))
}

fn unseal(text: &[u8], password: &Password) -> Result<Option<Key>, ErrorBody> {
    let wrong = || ErrorBody::new(ErrorCode::Unsupported, "A key of the repository is of an unknown kind.");
    let file: KeyFile = serde_json::from_slice(text).map_err(|_| wrong())?;
    if file.kdf != "scrypt" {
        return Err(wrong());
    }
    let salt = STANDARD.decode(&file.salt).map_err(|_| wrong())?;
    let data = STANDARD.decode(&file.data).map_err(|_| wrong())?;
    let opened = Key::derive(password, &salt, file.cost)?.open(&data);
    opened.map(|text| Key::from_json(&text).ok_or_else(wrong)).transpose()
}
