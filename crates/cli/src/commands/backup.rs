//! Backups.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use voidvm_model::backup::{
    Backup, BackupDrillRequest, BackupForgetRequest, BackupInitRequest, BackupList, BackupListRequest,
    BackupPassword, BackupRepository, BackupRestoreRequest, BackupRunRequest, BackupVerifyRequest,
    DrillProof,
};
use voidvm_model::contract::VmRef;
use voidvm_model::{ErrorBody, ErrorCode, Operation, OperationResult, VmView};

use super::create::{absolute, made};
use crate::client::Client;
use crate::output::{Format, document, line, note, printable, table};

/// DIR is the directory with the backups; BACKUP the beginning of an id that `list` shows.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Begin backups in a directory that is empty or not there.
    Init {
        /// The directory: on another disk, or a mount.
        dir: PathBuf,
        /// Encrypt them with a password that is generated, kept in the keychain and printed once.
        #[arg(long)]
        encrypt: bool,
    },
    /// Back a machine up as it is now; a running guest goes on.
    Run {
        /// Name or id.
        vm: String,
        #[command(flatten)]
        from: Repository,
    },
    /// List the backups.
    List(Repository),
    /// Check that they are what was written.
    Verify {
        #[command(flatten)]
        from: Repository,
        /// Read every byte.
        #[arg(long)]
        data: bool,
    },
    /// Make a new machine of one.
    Restore {
        #[command(flatten)]
        from: Repository,
        /// Which.
        backup: String,
        /// The new machine's name; the one it had without.
        #[arg(long)]
        name: Option<String>,
        /// Which machine of the backup, where it holds several.
        #[arg(long, value_name = "NAME")]
        machine: Option<String>,
        /// Start it when it is made.
        #[arg(long)]
        start: bool,
    },
    /// See whether a backup comes up: restored to a machine without network, started, watched, and removed again.
    Drill {
        #[command(flatten)]
        from: Repository,
        /// Which.
        backup: String,
        /// Which machine, by its directory, of a backup of several.
        #[arg(long, value_name = "DIRECTORY")]
        machine: Option<String>,
        /// How long a guest that says nothing must run.
        #[arg(long, value_name = "N")]
        seconds: Option<u32>,
    },
    /// Remove backups, and what none of the others needs.
    Forget {
        #[command(flatten)]
        from: Repository,
        /// Which.
        #[arg(required = true, value_name = "BACKUP")]
        backups: Vec<String>,
    },
}

/// Where backups are.
#[derive(Debug, Args)]
pub(crate) struct Repository {
    /// The directory.
    dir: PathBuf,
    /// A file with their password, where neither the directory nor the keychain has it.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl Repository {
    fn directory(&self) -> Result<String, ErrorBody> {
        absolute("directory", &self.dir)
    }

    fn password(&self) -> Result<Option<BackupPassword>, ErrorBody> {
        let Some(file) = &self.password_file else { return Ok(None) };
        let text = std::fs::read_to_string(file).map_err(|error| {
            ErrorBody::new(ErrorCode::NotFound, format!("{}: {error}.", file.display()))
                .with_field("password")
        })?;
        Ok(Some(BackupPassword(text.trim_end_matches(['\r', '\n']).to_owned())))
    }

    async fn list(&self, client: &Client) -> Result<BackupList, ErrorBody> {
        let request = BackupListRequest { directory: self.directory()?, password: self.password()? };
        client.call("backup.list", &request).await
    }

    /// The backup whose id begins so.
    async fn find(&self, client: &Client, wanted: &[String]) -> Result<Vec<Backup>, ErrorBody> {
        let list = self.list(client).await?;
        let mut found = Vec::new();
        for start in wanted {
            let fits = |backup: &&Backup| !start.is_empty() && backup.id.to_string().starts_with(start);
            let mut fitting = list.backups.iter().filter(fits);
            match (fitting.next(), fitting.next()) {
                (Some(backup), None) => found.push(backup.clone()),
                (one, _) => {
                    let why = if one.is_some() { "More than one backup begins" } else { "No backup begins" };
                    return Err(ErrorBody::new(ErrorCode::NotFound, format!("{why} with “{start}”."))
                        .with_field("backup")
                        .with_hint("See them with: voidvm backup list DIR"));
                }
            }
        }
        Ok(found)
    }
}

pub(crate) async fn backup(command: BackupCommand, client: &Client, format: Format) -> Result<(), ErrorBody> {
    match command {
        BackupCommand::Init { dir, encrypt } => init(&dir, encrypt, client, format).await,
        BackupCommand::Run { vm, from } => {
            let vm = client.find(&vm).await?;
            let (directory, password) = (from.directory()?, from.password()?);
            let request = BackupRunRequest { id: vm.id, directory, password };
            act(client, "backup.run", &request, format).await
        }
        BackupCommand::List(from) => show(&from.list(client).await?, format),
        BackupCommand::Verify { from, data } => {
            let (directory, password) = (from.directory()?, from.password()?);
            act(client, "backup.verify", &BackupVerifyRequest { directory, password, data }, format).await
        }
        BackupCommand::Restore { from, backup, name, machine, start } => {
            let backup = from.find(client, &[backup]).await?.first().map(|backup| backup.id);
            let Some(backup) = backup else { return Ok(()) };
            let (directory, password) = (from.directory()?, from.password()?);
            let request = BackupRestoreRequest { directory, password, backup, machine, name, start };
            let operation: Operation = client.call("backup.restore", &request).await?;
            let id = made(&operation)?;
            client.finish(operation).await?;
            let vm: VmView = client.call("vm.get", &VmRef { id }).await?;
            match format {
                Format::Json => document(&vm),
                Format::Text => line(format_args!("{}: {} ({})", printable(&vm.name), vm.state, vm.id)),
            }
        }
        BackupCommand::Drill { from, backup, machine, seconds } => {
            let backup = from.find(client, &[backup]).await?.first().map(|backup| backup.id);
            let Some(backup) = backup else { return Ok(()) };
            let (directory, password) = (from.directory()?, from.password()?);
            let request = BackupDrillRequest { directory, password, backup, machine, seconds };
            act(client, "backup.drill", &request, format).await
        }
        BackupCommand::Forget { from, backups } => {
            let found = from.find(client, &backups).await?;
            let backups = found.into_iter().map(|backup| backup.id).collect();
            let (directory, password) = (from.directory()?, from.password()?);
            act(client, "backup.forget", &BackupForgetRequest { directory, password, backups }, format).await
        }
    }
}

async fn init(dir: &Path, encrypt: bool, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let request = BackupInitRequest { directory: absolute("directory", dir)?, encrypt };
    let made: BackupRepository = client.call("backup.init", &request).await?;
    if format == Format::Json {
        return document(&made);
    }
    line(format_args!("{}: ready for backups", printable(&made.directory)))?;
    let Some(password) = made.password else { return Ok(()) };
    line(format_args!("password: {}", password.0))?;
    note(format, "Write it down, away from this computer: without it nobody can restore elsewhere.");
    if !made.remembered {
        note(format, "The keychain could not keep it: give it with --password-file.");
    }
    Ok(())
}

async fn act(
    client: &Client,
    name: &str,
    request: &impl serde::Serialize,
    format: Format,
) -> Result<(), ErrorBody> {
    let operation: Operation = client.call(name, request).await?;
    let operation = client.finish(operation).await?;
    if format == Format::Json {
        return document(&operation);
    }
    let subject = printable(&operation.subject);
    match operation.result {
        Some(OperationResult::BackedUp { backup, size, read, added }) => {
            let read = read.map(|read| format!(", of which {read} were read")).unwrap_or_default();
            line(format_args!("{subject}: backed up as {backup:.8}; {size}{read}; {added} added"))
        }
        Some(OperationResult::Drilled { proof, seconds }) => {
            let seen = match proof {
                DrillProof::Agent => "the guest's agent answered",
                DrillProof::Login => "the guest asks for a login",
                DrillProof::Ran => "the guest ran on, and said nothing of itself",
            };
            line(format_args!("{subject}: it came up: {seen} after {seconds} s"))
        }
        Some(OperationResult::Verified { backups, size }) => {
            line(format_args!("{subject}: {backups} backups, {size}; all is well"))
        }
        Some(OperationResult::Removed { bytes }) => line(format_args!("{subject}: {bytes} freed")),
        _ => line(format_args!("{subject}: done")),
    }
}

fn show(list: &BackupList, format: Format) -> Result<(), ErrorBody> {
    if format == Format::Json {
        return document(&json!(list));
    }
    for damaged in &list.damaged {
        note(format, format_args!("damaged: {:.8}: {}", damaged.id, printable(&damaged.problem.message)));
    }
    let rows = list.backups.iter().flat_map(|backup| {
        let added = backup.added.map(|bytes| bytes.to_string()).unwrap_or_default();
        backup.machines.iter().map(move |machine| {
            let taken = backup.taken.to_zoned(jiff::tz::TimeZone::system());
            vec![
                format!("{:.8}", backup.id),
                taken.strftime("%Y-%m-%d %H:%M:%S").to_string(),
                machine.name.clone(),
                machine.consistency.as_str().to_owned(),
                machine.size.to_string(),
                added.clone(),
            ]
        })
    });
    line(table(&["backup", "taken", "machine", "consistency", "size", "added"], rows))
}
