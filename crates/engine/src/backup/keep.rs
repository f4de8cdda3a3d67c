//! Repositories: begun, listed, checked; backups forgotten.

use std::sync::Arc;

use serde_json::json;
use voidvm_backup::{Consistency, Depth};
use voidvm_model::backup::{
    Backup, BackupConsistency, BackupForgetRequest, BackupId, BackupInitRequest, BackupList,
    BackupListRequest, BackupMachine, BackupRepository, BackupVerifyRequest, DamagedBackup,
};
use voidvm_model::{Bytes, ErrorBody, ErrorCode, Operation, OperationKind, OperationResult, Origin, VmId};

use super::job::{self, Work};
use super::open;
use crate::engine::blocking;
use crate::shared::Shared;

/// Begins backups in a directory.
///
/// # Errors
/// When something is in it already, or it cannot be written to.
pub(crate) async fn init(shared: &Shared, request: BackupInitRequest) -> Result<BackupRepository, ErrorBody> {
    open::init(shared, request).await
}

/// The backups in a directory.
///
/// # Errors
/// When they cannot be read; damaged ones are listed as such.
pub(crate) async fn list(shared: &Shared, request: BackupListRequest) -> Result<BackupList, ErrorBody> {
    let repository = open::open(shared, &request.directory, request.password).await?;
    blocking(move || {
        let found = repository.backups()?;
        let mut list = BackupList::default();
        for backup in found.backups {
            list.backups.push(shown(backup)?);
        }
        for (id, problem) in found.damaged {
            list.damaged.push(DamagedBackup { id: id_of(id)?, problem });
        }
        Ok(list)
    })
    .await
}

/// A machine's backups in a directory, with their tags.
///
/// # Errors
/// When they cannot be read.
pub(crate) async fn of_machine(
    shared: &Shared,
    directory: &str,
    vm: VmId,
) -> Result<Vec<(Backup, Vec<String>)>, ErrorBody> {
    let repository = open::open(shared, directory, None).await?;
    blocking(move || {
        let alone = |backup: &voidvm_backup::Backup| {
            matches!(backup.machines.as_slice(), [machine] if machine.record.id == vm)
        };
        let backups = repository.backups()?.backups.into_iter().filter(alone);
        let with_tags = |backup: voidvm_backup::Backup| Ok((shown(backup.clone())?, backup.tags));
        backups.map(with_tags).collect()
    })
    .await
}

/// The backups in a directory, the damaged ones among them.
///
/// # Errors
/// When they cannot be read.
pub(crate) async fn ids(shared: &Shared, directory: &str) -> Result<Vec<BackupId>, ErrorBody> {
    let repository = open::open(shared, directory, None).await?;
    blocking(move || {
        let found = repository.backups()?;
        let sound = found.backups.iter().map(|backup| backup.id);
        sound.chain(found.damaged.iter().map(|(id, _)| *id)).map(id_of).collect()
    })
    .await
}

/// Checks a repository. What is wrong with it is why the operation fails.
///
/// # Errors
/// When it cannot be opened.
pub(crate) async fn verify(
    shared: &Arc<Shared>,
    request: BackupVerifyRequest,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let repository = open::open(shared, &request.directory, request.password).await?;
    let kind = OperationKind::BackupVerify;
    let depth = if request.data { Depth::Data } else { Depth::Structure };
    let work = Work { kind, directory: &request.directory, repository, origin };
    job::begin(shared, work, move |repository, teller| {
        let found = repository.verify(depth, teller)?;
        let Some(first) = found.problems.first() else {
            let backups = u32::try_from(found.backups).unwrap_or(u32::MAX);
            return Ok(OperationResult::Verified { backups, size: Bytes(found.size) });
        };
        let count = found.problems.len();
        let message = match count {
            1 => first.message.clone(),
            _ => format!("{} And {} more.", first.message, count - 1),
        };
        Err(ErrorBody::new(ErrorCode::ChecksumMismatch, message)
            .with_hint("Back up to another disk, and see what of these can still be restored.")
            .with_detail("problems", json!(found.problems.iter().take(100).collect::<Vec<_>>())))
    })
    .await
}

/// Removes backups, and what none of the others needs.
///
/// # Errors
/// When it cannot be opened, or none is named.
pub(crate) async fn forget(
    shared: &Arc<Shared>,
    request: BackupForgetRequest,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    if request.backups.is_empty() {
        return Err(ErrorBody::invalid("backups", "No backup is named.").with_hint("Name at least one."));
    }
    let repository = open::open(shared, &request.directory, request.password).await?;
    let kind = OperationKind::BackupForget;
    let work = Work { kind, directory: &request.directory, repository, origin };
    job::begin(shared, work, move |repository, teller| {
        let ids: Vec<_> = request.backups.iter().map(theirs).collect::<Result<_, _>>()?;
        repository.forget(&ids)?;
        let pruned = repository.prune(teller)?;
        Ok(OperationResult::Removed { bytes: Bytes(pruned.removed) })
    })
    .await
}

/// A backup's name, as the repository has it.
pub(super) fn theirs(id: &BackupId) -> Result<voidvm_backup::BackupId, ErrorBody> {
    id.to_string().parse()
}

/// A backup's name, as everybody is shown it.
pub(super) fn id_of(id: voidvm_backup::BackupId) -> Result<BackupId, ErrorBody> {
    id.to_string().parse()
}

fn shown(backup: voidvm_backup::Backup) -> Result<Backup, ErrorBody> {
    let machine = |machine: voidvm_backup::Machine| BackupMachine {
        id: machine.record.id,
        name: machine.record.name,
        directory: machine.directory,
        consistency: match machine.record.consistency {
            Consistency::Stopped => BackupConsistency::Stopped,
            Consistency::Frozen => BackupConsistency::Frozen,
            Consistency::Crash => BackupConsistency::Crash,
        },
        size: Bytes(machine.record.disks.iter().map(|disk| disk.size).sum()),
    };
    Ok(Backup {
        id: id_of(backup.id)?,
        taken: backup.taken,
        host: backup.host,
        machines: backup.machines.into_iter().map(machine).collect(),
        added: backup.added.map(Bytes),
    })
}
