//! Moving a volume to another pool; the machine that uses it follows.
//!
//! ```text
//! intent [old, new] ─▶ new file whole, compared, named ─▶ machine's definition names it ─▶ intent becomes "remove [old]"
//!   ─▶ old file removed ─▶ intent ended
//! ```
//! Invariant: a crash before the definition names the new file (of a volume without machine: before the intent becomes a removal)
//! leaves the old file alone, one after that the new one alone; what is superfluous goes at the next start.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, RenameFlags, SeekFrom, renameat_with};
use voidvm_model::spec::{DiskFormat, FileOwner};
use voidvm_model::storage::VolumeMoveRequest;
use voidvm_model::{ErrorBody, ErrorCode, MachineSpec, Operation, OperationKind, Origin, VmId};
use voidvm_qemu::image::header;
use voidvm_store::{Intent, IntentAction, IntentId};

use super::hold::Hold;
use super::job::{self, Job, Named};
use super::make::{make_dir, part_of};
use super::pools::{self, Place};
use super::target::{self, Target};
use super::{change, remove, space};
use crate::ledger::Cancel;
use crate::ops::files;
use crate::shared::Shared;
use crate::supervisor::lend::Loan;

/// Bytes copied at a time.
const CHUNK: usize = 1 << 20;

/// Moves a volume.
///
/// # Errors
/// What does not hold, with its field.
pub(super) async fn relocate(
    shared: &Arc<Shared>,
    request: VolumeMoveRequest,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let target = target::find(shared, request.id, &request.path).await?;
    target.childless()?;
    target.no_image(shared).await?;
    target.at_rest(shared)?;
    let user = only_user(&target)?;
    let path = target.entry.path.as_path();
    let relative = |backing: &PathBuf| backing.is_relative();
    if header(path).ok().flatten().and_then(|header| header.backing).as_ref().is_some_and(relative) {
        return Err(ErrorBody::new(
            ErrorCode::Unsupported,
            format!("{} stands on a file by a name that holds only where it is.", path.display()),
        )
        .with_field("path")
        .with_hint("Copy it instead: a copy stands on nothing."));
    }
    if request.target == request.id {
        return Err(ErrorBody::invalid("target", "The volume is in that pool already.")
            .with_hint("Choose another pool."));
    }
    let place = pools::find(shared, request.target).await.map_err(|error| error.with_field("target"))?;
    make_dir(&place)?;
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev()).ok();
    if device(path) != device(&place.volumes()) {
        space::check(&place, target.entry.allocated).map_err(|error| error.with_field("target"))?;
    }
    let (to, kept) = free_name(shared, &place, &target)?;
    let named = Named {
        kind: OperationKind::VolumeMove,
        place: &place,
        name: &target.name(),
        total: target.entry.allocated,
        cancel: Cancel::Heeded,
        origin,
    };
    job::begin(shared, named, async move |job| {
        let loans = job.borrow(&target.entry.users).await?;
        let path = target.entry.path.clone();
        let intent = job.intend(IntentAction::VolumeMove, user, vec![path.clone(), to.clone()]).await?;
        let came = moved(&job, (&path, &to), intent, loans.first()).await;
        if matches!(came, Ok(Moved::Not(_))) {
            job.settled(intent).await;
        }
        drop((loans, target.hold, kept));
        match came? {
            Moved::Done => Ok(None),
            Moved::Not(error) => Err(error),
        }
    })
    .await
}

/// How a move ended.
enum Moved {
    /// The new file counts.
    Done,
    /// The old file counts, and no other is left.
    Not(ErrorBody),
}

/// The machine that has it, if one has.
fn only_user(target: &Target) -> Result<Option<VmId>, ErrorBody> {
    let first = target.entry.users.first().map(|user| user.id);
    if target.entry.users.iter().any(|user| Some(user.id) != first) {
        return Err(ErrorBody::new(
            ErrorCode::FileInUse,
            format!("{} is used by several machines.", target.entry.path.display()),
        )
        .with_field("path")
        .with_hint("Take it out of all but one of them first."));
    }
    Ok(first)
}

/// What it is called there: as here, with the machine's name where that says more, and a number where that is taken.
fn free_name(shared: &Shared, place: &Place, target: &Target) -> Result<(PathBuf, Hold), ErrorBody> {
    let name = target.name();
    let plain = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let stem = match target.entry.users.first() {
        Some(user) if target.place.is_own() => {
            let owner: String = user.name.chars().take(40).map(plain).collect();
            format!("{}-{name}", owner.trim_start_matches('.'))
        }
        _ => name,
    };
    let (stem, end) = stem.rsplit_once('.').map_or((stem.as_str(), ""), |(stem, end)| (stem, end));
    for number in 1..1000 {
        let mut file = if number == 1 { stem.to_owned() } else { format!("{stem}-{number}") };
        if !end.is_empty() {
            file = format!("{file}.{end}");
        }
        let path = place.volumes().join(file);
        if path.symlink_metadata().is_err()
            && let Ok(hold) = shared.holds.hold(&path)
        {
            return Ok((path, hold));
        }
    }
    Err(ErrorBody::new(ErrorCode::NameTaken, format!("Too many files are called so in “{}”.", place.name)))
}

/// Moves the file and the definition. An error says that the intent stands, for the next start to close.
async fn moved(
    job: &Job,
    (from, to): (&Path, &Path),
    intent: IntentId,
    loan: Option<&Loan>,
) -> Result<Moved, ErrorBody> {
    if let Err(error) = appear(job, from, to).await {
        return Ok(Moved::Not(error));
    }
    let not = |error| {
        drop(std::fs::remove_file(to));
        Ok(Moved::Not(error))
    };
    if let Err(error) = job.seal() {
        return not(error);
    }
    let vm = loan.map(|loan| loan.vm.id);
    if let Some(loan) = loan {
        let spec = follow(&loan.vm.spec, from, to);
        let machine = job.shared.fleet.get(loan.vm.id)?;
        // Whether it was written down before it failed, the next start finds out.
        machine.redefine(loan, spec).await?;
    }
    let next = Intent {
        operation_id: job.operation,
        vm_id: vm,
        action: IntentAction::VolumeRemove,
        files: vec![from.to_owned()],
    };
    job.shared.store.journal().become_next(intent, &next).await.map_err(|error| error.body())?;
    let (machines, old) = (job.shared.config.data_dir.join("vms"), from.to_owned());
    job::blocking(move || {
        files::remove(std::slice::from_ref(&old))?;
        remove::tidy(&machines, &old);
        Ok(())
    })
    .await?;
    job.settled(intent).await;
    Ok(Moved::Done)
}

/// The specification with one file in the place of the other. A file outside the machine's directory is the user's.
fn follow(spec: &MachineSpec, from: &Path, to: &Path) -> MachineSpec {
    let mut spec = spec.clone();
    for disk in spec.disks.iter_mut().filter(|disk| disk.file == from) {
        disk.file = to.to_owned();
        disk.owner = FileOwner::User;
    }
    for cdrom in spec.cdroms.iter_mut().filter(|cdrom| cdrom.file.as_deref() == Some(from)) {
        cdrom.file = Some(to.to_owned());
    }
    spec
}

/// Lets the new file appear whole under its name; when that fails there is none.
async fn appear(job: &Job, from: &Path, to: &Path) -> Result<(), ErrorBody> {
    let (old, new) = (from.to_owned(), to.to_owned());
    let linked = job::blocking(move || match std::fs::hard_link(&old, &new) {
        Ok(()) => sync_dir(&new).map(|()| true).map_err(|error| files::io_error(&new, &error)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(taken(&new)),
        // Another file system, or one without links.
        Err(_) => Ok(false),
    });
    if linked.await? {
        return Ok(());
    }
    let part = part_of(to);
    let made = async {
        copy(job, from, &part).await?;
        change::same(job, (from, DiskFormat::Raw), (&part, DiskFormat::Raw)).await?;
        if job.cancel.is_cancelled() {
            return Err(ErrorBody::new(ErrorCode::Cancelled, "Cancelled."));
        }
        let (part, to) = (part.clone(), to.to_owned());
        job::blocking(move || {
            match renameat_with(CWD, &part, CWD, &to, RenameFlags::NOREPLACE) {
                Ok(()) => {}
                Err(rustix::io::Errno::EXIST) => return Err(taken(&to)),
                // File systems without that flag: the small window is theirs.
                Err(rustix::io::Errno::INVAL) if to.symlink_metadata().is_err() => {
                    std::fs::rename(&part, &to).map_err(|error| files::io_error(&to, &error))?;
                }
                Err(error) => return Err(files::io_error(&to, &error.into())),
            }
            sync_dir(&to).map_err(|error| files::io_error(&to, &error))
        })
        .await
    };
    let made = made.await;
    if made.is_err() {
        drop(std::fs::remove_file(&part));
    }
    made
}

fn taken(path: &Path) -> ErrorBody {
    ErrorBody::new(ErrorCode::NameTaken, format!("Somebody else made {} in the meantime.", path.display()))
        .with_hint("Try again.")
}

fn sync_dir(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

async fn copy(job: &Job, from: &Path, to: &Path) -> Result<(), ErrorBody> {
    let (from, to) = (from.to_owned(), to.to_owned());
    let (progress, cancel) = (job.progress.clone(), job.cancel.clone());
    job::blocking(move || {
        copy_bytes(&from, &to, &mut |share| {
            progress.send_replace(share);
            !cancel.is_cancelled()
        })
    })
    .await
}

/// Copies a file as it is, holes and all, into a new one that is on the disk when this returns. `go_on` hears how much is done, in
/// hundredths of a per cent, and says whether to go on.
///
/// # Errors
/// [`ErrorCode::Cancelled`], or what the file system says.
pub(super) fn copy_bytes(
    from: &Path,
    to: &Path,
    go_on: &mut dyn FnMut(u32) -> bool,
) -> Result<(), ErrorBody> {
    let mut work = || -> io::Result<bool> {
        let mut source = File::open(from)?;
        let metadata = source.metadata()?;
        let mode = metadata.permissions().mode() & 0o777;
        let mut target = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(to)?;
        // File systems that can share the blocks need copy nothing.
        if rustix::fs::ioctl_ficlone(&target, &source).is_err() {
            target.set_len(metadata.len())?;
            let mut buffer = vec![0; CHUNK];
            let mut at = 0;
            while let Some((start, end)) = next_data(&source, at, metadata.len())? {
                source.seek(io::SeekFrom::Start(start))?;
                target.seek(io::SeekFrom::Start(start))?;
                at = start;
                while at < end {
                    if !go_on(share(at, metadata.len())) {
                        return Ok(false);
                    }
                    let wanted = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
                    let read = source.read(&mut buffer[..wanted])?;
                    if read == 0 {
                        break;
                    }
                    target.write_all(&buffer[..read])?;
                    at += read as u64;
                }
                at = end;
            }
        }
        target.sync_all()?;
        Ok(true)
    };
    match work() {
        Ok(true) => Ok(()),
        Ok(false) => Err(ErrorBody::new(ErrorCode::Cancelled, "Cancelled.")),
        Err(error) => Err(files::io_error(to, &error)),
    }
}

/// The next stretch of a file that is no hole, from `at` on.
fn next_data(file: &File, at: u64, length: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= length {
        return Ok(None);
    }
    let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        // A file system that knows no holes.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => return Ok(Some((at, length))),
        Err(error) => return Err(error.into()),
    };
    let end = rustix::fs::seek(file, SeekFrom::Hole(start))?;
    Ok(Some((start, end)))
}

fn share(done: u64, total: u64) -> u32 {
    u32::try_from(u128::from(done) * 10_000 / u128::from(total.max(1))).unwrap_or(10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_same_bytes_and_the_same_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let mut file = File::create(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        for at in [0, 5 << 20, (64 << 20) - 3] {
            file.seek(io::SeekFrom::Start(at)).unwrap();
            file.write_all(b"abc").unwrap();
        }
        let mut last = 0;
        copy_bytes(&from, &to, &mut |share| {
            assert!(share >= last);
            last = share;
            true
        })
        .unwrap();
        assert!(std::fs::read(&from).unwrap() == std::fs::read(&to).unwrap());
        let taken = std::fs::metadata(&to).unwrap().blocks() * 512;
        assert!(taken < 1 << 20, "{taken}");
        let error = copy_bytes(&from, &to, &mut |_| false);
        // Where blocks are shared nothing is asked.
        assert!(error.is_ok() || error.unwrap_err().code == ErrorCode::Cancelled);
    }
}
