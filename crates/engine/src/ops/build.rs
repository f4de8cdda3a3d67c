//! What every new machine goes through, whether it is created, cloned or imported: an operation that either ends with a machine
//! or leaves nothing.
//!
//! ```text
//! name reserved, row of the operation ─▶ (answer)
//!   ─▶ turn among the builds ─▶ intent ─▶ Recipe::make: files in the machine's directory ─▶ row of the machine ─▶ intent ended
//!   ─▶ supervisor ─▶ started, where that was asked for
//! ```
//! Invariant: until the machine's row is written there is no machine, and whatever ends this earlier (an error, a cancel, a
//! crash) leaves no file of it. The directory bears an id nobody else has, so what lies in it under a name of ours is ours.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use voidvm_model::spec::DiskFormat;
use voidvm_model::system::ImageKind;
use voidvm_model::{Bytes, ErrorBody, ErrorCode, Operation, OperationId, OperationKind, Origin, VmId};
use voidvm_qemu::image::{CopyProgress, QemuImg};
use voidvm_store::{Intent, IntentAction, VmRow};

use super::files;
use crate::fleet::Reservation;
use crate::ledger::{Cancel, Failure, Outcome, Subject, Ticket};
use crate::shared::Shared;
use crate::step::step;
use crate::storage::{NEXT_TO_NOTHING, Room};
use crate::supervisor::lend::Loan;
use crate::supervisor::{self, Begin, Order};

/// Why a build ended early.
pub(crate) enum Stopped {
    Cancelled,
    Failed(Failure),
}

impl From<ErrorBody> for Stopped {
    fn from(body: ErrorBody) -> Self {
        if body.code == ErrorCode::Cancelled { Self::Cancelled } else { Self::Failed(body.into()) }
    }
}

/// A machine whose files are made.
pub(crate) struct Made {
    pub(crate) vm: VmRow,
    /// What it was made of, held still until there is a machine.
    pub(crate) of: Option<Loan>,
}

/// How a machine's files come to be.
pub(crate) trait Recipe: Send + 'static {
    /// Makes them, all directly in the site's directory, and says what the machine is.
    fn make(self, site: &Site<'_>, ticket: &mut Ticket)
    -> impl Future<Output = Result<Made, Stopped>> + Send;
}

/// Where a machine is built.
pub(crate) struct Site<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) id: VmId,
    /// The machine's directory; it is there.
    pub(crate) dir: &'a Path,
    pub(crate) operation: OperationId,
    /// Is cancelled when it is given up.
    pub(crate) cancel: &'a CancellationToken,
}

/// Whether a build waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// It copies much.
    Waits,
    /// It is over at once.
    Passes,
}

/// What is to be built, apart from how.
pub(crate) struct Plan {
    pub(crate) id: VmId,
    pub(crate) name: String,
    pub(crate) kind: OperationKind,
    pub(crate) line: Line,
    pub(crate) origin: Origin,
    pub(crate) start: bool,
    pub(crate) reservation: Reservation,
}

/// Writes the operation down and begins the work.
///
/// # Errors
/// The store's, or because the engine ends.
pub(crate) async fn begin(
    shared: &Arc<Shared>,
    order: Plan,
    recipe: impl Recipe,
) -> Result<Operation, ErrorBody> {
    if shared.closing.is_cancelled() {
        return Err(ErrorBody::new(ErrorCode::Busy, "voidVM is ending."));
    }
    check_space(shared, &shared.config.machine_dir(order.id), NEXT_TO_NOTHING).await?;
    let named = Subject::Vm(order.id, &order.name);
    let ticket = shared.ledger.open_operation(order.kind, named, order.origin, Cancel::Heeded).await?;
    let operation = ticket.operation();
    shared.builders.spawn(carry_out(Arc::clone(shared), order, recipe, ticket));
    operation.ok_or_else(|| ErrorBody::new(ErrorCode::Internal, "The operation was lost."))
}

/// Gives an operation up when the engine ends, as a person would.
pub(crate) fn end_with_engine(shared: &Shared, cancel: &CancellationToken) -> AbortOnDropHandle<()> {
    let (closing, given_up) = (shared.closing.clone(), cancel.clone());
    AbortOnDropHandle::new(tokio::spawn(async move {
        closing.cancelled().await;
        given_up.cancel();
    }))
}

/// How an operation that was stopped has ended.
pub(crate) fn outcome(shared: &Shared, stopped: Stopped) -> Outcome {
    match stopped {
        Stopped::Cancelled if shared.closing.is_cancelled() => Outcome::Interrupted,
        Stopped::Cancelled => Outcome::Cancelled,
        Stopped::Failed(failure) => Outcome::Failed(failure),
    }
}

async fn carry_out(shared: Arc<Shared>, order: Plan, recipe: impl Recipe, mut ticket: Ticket) {
    let cancel = ticket.cancel().clone();
    let _watch = end_with_engine(&shared, &cancel);
    let permit = match order.line {
        Line::Passes => Some(None),
        Line::Waits => tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            permit = shared.builds.pass() => Some(Some(permit)),
        },
    };
    let made = if permit.is_some() {
        ticket.begin();
        make(&shared, order.id, recipe, &mut ticket, &cancel).await
    } else {
        Err(Stopped::Cancelled)
    };
    drop(permit);
    match made {
        Ok(Made { vm, of }) => {
            let id = vm.id;
            let machine = supervisor::spawn(Arc::clone(&shared), vm, Begin::Made(order.origin));
            shared.fleet.add(Arc::clone(&machine));
            drop((order.reservation, of));
            // Begun before this has ended: whoever waits for the end, to leave then, finds the start to wait for.
            if order.start
                && let Err(error) = machine.act(Order::Start, order.origin).await
            {
                tracing::warn!(vm = %id, %error, "the new machine was not started");
            }
            ticket.end(Outcome::Succeeded);
        }
        Err(stopped) => ticket.end(outcome(&shared, stopped)),
    }
}

/// Makes the files and the row; when it fails, nothing is left of them.
pub(crate) async fn make(
    shared: &Arc<Shared>,
    id: VmId,
    recipe: impl Recipe,
    ticket: &mut Ticket,
    cancel: &CancellationToken,
) -> Result<Made, Stopped> {
    let dir = shared.config.machine_dir(id);
    let journal = shared.store.journal();
    let files = vec![files::disk(&dir, 0), files::uefi_vars(&dir)];
    let intent = Intent { operation_id: ticket.id(), vm_id: Some(id), action: IntentAction::Create, files };
    let entry = journal.begin(&intent, Timestamp::now()).await.map_err(|error| error.body())?;
    step("build: intended");
    let made = async {
        make_dir(&dir)?;
        step("build: directory made");
        let site = Site { shared, id, dir: &dir, operation: ticket.id(), cancel };
        let made = recipe.make(&site, ticket).await?;
        step("build: made");
        if cancel.is_cancelled() {
            return Err(Stopped::Cancelled);
        }
        ticket.seal();
        shared.store.vms().insert(&made.vm).await.map_err(|error| Stopped::from(error.body()))?;
        step("build: in the store");
        Ok(made)
    };
    let made = made.await;
    if made.is_err() {
        undo(&dir);
    }
    if let Err(error) = journal.end(entry).await {
        tracing::warn!(vm = %id, %error, "the intent of a creation stays until the next start");
    }
    made
}

/// Removes what a build that did not come to its end has made.
pub(crate) fn undo(dir: &Path) {
    if let Err(error) = files::remove(&files::ours_in(dir)) {
        tracing::error!(%error, "a file of a creation that was undone is left");
    }
    files::remove_dirs(dir);
}

pub(crate) fn make_dir(dir: &Path) -> Result<(), ErrorBody> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| files::io_error(dir, &error))
}

/// One disk of several that are copied: what the others before it have done, and what all have.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share {
    pub(crate) before: u64,
    pub(crate) size: u64,
    pub(crate) total: u64,
}

/// Copies a disk into a qcow2 file of its own, with progress.
pub(crate) async fn copy_disk(
    img: &QemuImg,
    (from, kind): (&Path, ImageKind),
    target: &Path,
    share: Share,
    ticket: &mut Ticket,
    cancel: &CancellationToken,
) -> Result<(), Stopped> {
    let progress = CopyProgress::new(0);
    let copying = img.copy_kind(from, kind, target, &progress, cancel);
    follow(copying, &progress, share, ticket).await
}

/// Shows how far a copy is until it ends.
pub(crate) async fn follow(
    copying: impl Future<Output = Result<(), voidvm_qemu::image::ImageError>>,
    progress: &CopyProgress,
    share: Share,
    ticket: &mut Ticket,
) -> Result<(), Stopped> {
    let mut done = progress.subscribe();
    tokio::pin!(copying);
    loop {
        tokio::select! {
            biased;
            copied = &mut copying => return copied.map_err(|error| error.body().into()),
            Ok(()) = done.changed() => {
                let hundredths = u64::from(*done.borrow_and_update());
                ticket.progress(share.before + share.size / 10_000 * hundredths, share.total);
            }
        }
    }
}

/// What `qemu-img` calls the format of a machine's disk.
pub(crate) const fn kind_of(format: DiskFormat) -> ImageKind {
    match format {
        DiskFormat::Qcow2 => ImageKind::Qcow2,
        DiskFormat::Raw => ImageKind::Raw,
    }
}

/// Makes sure that so much can be written into a directory and its pool's floor stays free.
///
/// # Errors
/// [`ErrorCode::DiskFull`].
pub(crate) async fn check_space(shared: &Shared, dir: &Path, needed: Bytes) -> Result<(), ErrorBody> {
    let room = Room::of(shared, dir).await?;
    crate::engine::blocking(move || room.check(needed)).await
}

/// Copies a small file, whole or not at all; private to this user.
pub(crate) fn copy_file(from: &Path, to: &Path) -> Result<(), ErrorBody> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let part = part_of(to);
    let copy = || -> std::io::Result<()> {
        let mut source = std::fs::File::open(from)?;
        let mut options = std::fs::OpenOptions::new();
        let mut target = options.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        target.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        std::io::copy(&mut source, &mut target)?;
        target.sync_all()?;
        std::fs::rename(&part, to)
    };
    copy().map_err(|error| {
        let _ = std::fs::remove_file(&part);
        files::io_error(from, &error)
    })
}

/// Writes a small file, whole or not at all; private to this user.
pub(crate) fn write_file(path: &Path, content: &[u8]) -> Result<(), ErrorBody> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt;
    let part = part_of(path);
    let write = || -> std::io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&part, path)
    };
    write().map_err(|error| {
        let _ = std::fs::remove_file(&part);
        files::io_error(path, &error)
    })
}

/// Where a file is until it is whole.
pub(crate) fn part_of(path: &Path) -> PathBuf {
    let mut part = path.to_owned().into_os_string();
    part.push(".part");
    part.into()
}
