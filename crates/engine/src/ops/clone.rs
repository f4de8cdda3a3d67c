//! Copies of machines: full ones, and linked ones, which share what is on the disks and keep only what differs.
//!
//! ```text
//! before                 a linked clone was made             and one more
//! parent: disk0          parent: disk0 ─┐                    parent: disk0 ─┐
//!                        clone:  disk0 ─┴▶ base (parent's)   clone:  disk0 ─┼▶ base (parent's)
//!                                                            other:  disk0 ─┘
//! ```
//! Invariants: what others stand on is never written to again, so the parent stands on it too; its definition does not change,
//! the names of its disks stay. At no instant is a disk missing: the base is a second name of the disk's file, and the overlay
//! takes the first name in one rename. A crash leaves the parent as it was, or on its base.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use voidvm_model::spec::{Disk, DiskFormat, FileOwner, NetworkBackend, PortForward, validate_name};
use voidvm_model::transfer::VmCloneRequest;
use voidvm_model::vm::VmMeta;
use voidvm_model::{
    ErrorBody, ErrorCode, MachineSpec, Operation, OperationId, OperationKind, Origin, SecretId, VmId, VmState,
};
use voidvm_qemu::image::{self, QemuImg};
use voidvm_store::{Intent, IntentAction, VmRow};

use super::build::{self, Line, Made, Plan, Recipe, Share, Site, Stopped};
use super::create::random_mac;
use super::{files, launch, login};
use crate::ledger::Ticket;
use crate::platform;
use crate::shared::Shared;
use crate::step::step;
use crate::supervisor::Machine;
use crate::supervisor::lend::is_whole;

/// Checks a request and begins the work.
///
/// # Errors
/// What does not hold, with its field; nothing was made then.
pub(crate) async fn clone(
    shared: &Arc<Shared>,
    request: VmCloneRequest,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    validate_name(&request.name)?;
    let parent = shared.fleet.get(request.id)?;
    parent.settled().await;
    check_state(&parent.view().name, parent.view().state)?;
    let id = VmId::new();
    let kind = if request.linked { Kind::Linked } else { Kind::Full };
    if kind == Kind::Linked {
        check_linked(&shared.config.machine_dir(request.id), &parent.view().spec)?;
    }
    let plan = Plan {
        id,
        reservation: shared.fleet.reserve(id, &request.name, None)?,
        name: request.name.clone(),
        kind: OperationKind::Clone,
        line: if kind == Kind::Linked { Line::Passes } else { Line::Waits },
        origin,
        start: request.start,
    };
    let img = platform::qemu_img(shared.preferences().qemu_binary)?;
    build::begin(shared, plan, CloneRecipe { parent, name: request.name, kind, img }).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Full,
    Linked,
}

struct CloneRecipe {
    parent: Arc<Machine>,
    name: String,
    kind: Kind,
    img: QemuImg,
}

/// A machine's disks are all there is of it only while it is stopped.
pub(super) fn check_state(name: &str, state: VmState) -> Result<(), ErrorBody> {
    if is_whole(state) {
        return Ok(());
    }
    Err(ErrorBody::new(
        ErrorCode::InvalidState,
        format!("“{name}” is {state}; it can be copied only while it is stopped."),
    )
    .with_hint("Shut it down first.")
    .with_detail("state", state.as_str()))
}

/// Only disks of the machine's own, in QEMU's format, can be shared.
fn check_linked(dir: &Path, spec: &MachineSpec) -> Result<(), ErrorBody> {
    let fits =
        |disk: &Disk| files::is_own(dir, disk) && disk.format == DiskFormat::Qcow2 && disk.key.is_none();
    match spec.disks.iter().find(|disk| !fits(disk)) {
        None => Ok(()),
        Some(disk) => Err(ErrorBody::new(
            ErrorCode::Unsupported,
            format!("{} cannot be shared with a linked clone.", disk.file.display()),
        )
        .with_field("linked")
        .with_hint("Make a full copy: linked clones need unencrypted qcow2 disks of the machine's own.")),
    }
}

impl Recipe for CloneRecipe {
    async fn make(self, site: &Site<'_>, ticket: &mut Ticket) -> Result<Made, Stopped> {
        let loan = tokio::select! {
            biased;
            () = site.cancel.cancelled() => return Err(Stopped::Cancelled),
            loan = self.parent.lend() => loan?,
        };
        let parent = &loan.vm;
        check_state(&parent.name, parent.state)?;
        let parent_dir = site.shared.config.machine_dir(parent.id);
        let spec = fresh(site.shared, &parent.spec, (&parent_dir, site.dir))?;
        match self.kind {
            Kind::Full => self.copy_disks(site, &parent.spec, &spec, ticket).await?,
            Kind::Linked => {
                check_linked(&parent_dir, &parent.spec)?;
                for (old, new) in parent.spec.disks.iter().zip(&spec.disks) {
                    let base = freeze(site.shared, (parent.id, site.operation), &old.file).await?;
                    let size = header(&base)?.virtual_size;
                    image::overlay(&new.file, &base, DiskFormat::Qcow2, size)
                        .map_err(|error| error.body())?;
                }
            }
        }
        copy_companions(&parent_dir, site.dir)?;
        login::renew_seed(site.dir, (site.id, &self.name))?;
        let now = Timestamp::now();
        let vm = VmRow {
            id: site.id,
            name: self.name,
            spec,
            state: VmState::Stopped,
            state_since: now,
            attention: None,
            meta: VmMeta { favourite: false, template: false, autostart: None, ..parent.meta.clone() },
            parent: (self.kind == Kind::Linked).then_some(parent.id),
            passing: false,
            created_at: now,
            updated_at: now,
            ..parent.clone()
        };
        Ok(Made { vm, of: Some(loan) })
    }
}

impl CloneRecipe {
    async fn copy_disks(
        &self,
        site: &Site<'_>,
        old: &MachineSpec,
        new: &MachineSpec,
        ticket: &mut Ticket,
    ) -> Result<(), Stopped> {
        let mut sizes = Vec::new();
        for disk in &old.disks {
            sizes.push(allocated(&disk.file)?);
        }
        let total = sizes.iter().sum();
        build::check_space(site.shared, site.dir, voidvm_model::Bytes(total)).await?;
        let mut before = 0;
        for ((from, to), size) in old.disks.iter().zip(&new.disks).zip(sizes) {
            let alone = from.format == DiskFormat::Qcow2 && header(&from.file)?.backing.is_none();
            // A file system that shares blocks copies in an instant.
            if alone && from.key.is_none() && reflink(&from.file, &to.file) {
                before += size;
                continue;
            }
            if let (Some(old), Some(new)) = (from.key, to.key) {
                copy_encrypted(site, (&from.file, old), (&to.file, new)).await?;
                before += size;
                continue;
            }
            let share = Share { before, size, total };
            let source = (from.file.as_path(), build::kind_of(from.format));
            build::copy_disk(&self.img, source, &to.file, share, ticket, site.cancel).await?;
            before += size;
        }
        Ok(())
    }
}

/// Copies an encrypted disk byte for byte, and its key.
async fn copy_encrypted(
    site: &Site<'_>,
    (from, old): (&Path, SecretId),
    (to, new): (&Path, SecretId),
) -> Result<(), Stopped> {
    let secrets = &site.shared.config.secrets;
    let key = secrets.get(old).await?.ok_or_else(|| {
        ErrorBody::new(ErrorCode::NotFound, format!("The key of {} is not there.", from.display()))
            .with_hint("Unlock the keychain that has it, and try again.")
    })?;
    let (from, to) = (from.to_owned(), to.to_owned());
    let copied = tokio::task::spawn_blocking(move || build::copy_file(&from, &to)).await;
    copied.unwrap_or_else(|error| Err(ErrorBody::new(ErrorCode::Internal, error.to_string())))?;
    secrets.put(new, &key).await?;
    Ok(())
}

/// The hardware of a copy: its own files, addresses and ports, and the rest as it was.
pub(crate) fn fresh(
    shared: &Shared,
    old: &MachineSpec,
    (from, to): (&Path, &Path),
) -> Result<MachineSpec, ErrorBody> {
    let mut spec = old.clone();
    for (at, disk) in spec.disks.iter_mut().enumerate() {
        let own =
            files::is_own(from, disk).then(|| disk.file.file_name().map(|name| to.join(name))).flatten();
        // One that is the user's, or in another format, becomes a file of the copy's own.
        disk.file = own.unwrap_or_else(|| files::disk(to, at)).with_extension("qcow2");
        disk.format = DiskFormat::Qcow2;
        disk.owner = FileOwner::Machine;
        disk.key = disk.key.map(|_| SecretId::new());
    }
    let mut names = BTreeSet::new();
    for (at, disk) in spec.disks.iter_mut().enumerate() {
        let mut free = (at..).map(|number| files::disk(to, number));
        while !names.insert(disk.file.clone()) {
            disk.file = free.next().unwrap_or_else(|| disk.file.clone());
        }
    }
    for cdrom in &mut spec.cdroms {
        if let Some(file) = &mut cdrom.file
            && file.parent() == Some(from)
            && let Some(name) = file.file_name()
        {
            *file = to.join(name);
        }
    }
    let mut taken: Vec<PortForward> = shared
        .fleet
        .views()
        .iter()
        .flat_map(|view| view.spec.forwards().copied().collect::<Vec<_>>())
        .collect();
    for nic in &mut spec.nics {
        nic.mac = random_mac();
        let NetworkBackend::User { forwards, .. } = &mut nic.network else { continue };
        for forward in forwards {
            *forward = free_port(*forward, &taken);
            taken.push(*forward);
        }
    }
    spec.validate()?;
    Ok(spec)
}

/// The next host port that no machine has and that is free now; the same one when there is none.
pub(crate) fn free_port(wanted: PortForward, taken: &[PortForward]) -> PortForward {
    let next = (wanted.host_port.max(1024)..=u16::MAX)
        .map(|host_port| PortForward { host_port, ..wanted })
        .find(|port| !taken.iter().any(|other| other.conflicts(port)) && launch::is_free(port));
    next.unwrap_or(wanted)
}

/// The first host port from 2222 on that leads nowhere yet.
pub(crate) fn ssh_forward(shared: &Shared) -> PortForward {
    let taken: Vec<PortForward> = shared
        .fleet
        .views()
        .iter()
        .flat_map(|view| view.spec.forwards().copied().collect::<Vec<_>>())
        .collect();
    let wanted = PortForward { host_address: Ipv4Addr::LOCALHOST, ..PortForward::tcp(2222, 22) };
    free_port(wanted, &taken)
}

/// UEFI variables, TPM state, the seed and the key: what is beside the disks.
pub(crate) fn copy_companions(from: &Path, to: &Path) -> Result<(), ErrorBody> {
    for name in files::COMPANIONS {
        let file = from.join(name);
        if file.is_file() {
            build::copy_file(&file, &to.join(name))?;
        }
    }
    let (from, to) = (files::tpm(from), files::tpm(to));
    let Ok(entries) = std::fs::read_dir(&from) else { return Ok(()) };
    build::make_dir(&to)?;
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_file()) && files::is_tpm_state(&entry.path()) {
            build::copy_file(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Makes what is on a disk something that others can stand on, and answers where that is. The disk itself stands on it then.
///
/// One that was not written to since it was done the last time is fine as it is.
async fn freeze(
    shared: &Shared,
    (parent, operation_id): (VmId, OperationId),
    disk: &Path,
) -> Result<PathBuf, ErrorBody> {
    let now = header(disk)?;
    if now.untouched
        && let Some(base) = now.backing.as_deref().filter(|base| files::is_base(disk.parent(), base))
    {
        return Ok(base.to_owned());
    }
    let dir = disk.parent().unwrap_or(disk);
    let base = files::new_base(dir);
    let journal = shared.store.journal();
    let files = vec![disk.to_owned(), base.clone()];
    let intent = Intent { operation_id, vm_id: Some(parent), action: IntentAction::Freeze, files };
    let entry = journal.begin(&intent, Timestamp::now()).await.map_err(|error| error.body())?;
    let done = put_overlay(disk, &base, now.virtual_size);
    if done.is_err() {
        unfreeze(&intent);
    }
    if let Err(error) = journal.end(entry).await {
        tracing::warn!(vm = %parent, %error, "the intent of a clone stays until the next start");
    }
    done.map(|()| base)
}

/// Gives the disk's file a second name, and its first name to an overlay on that.
pub(crate) fn put_overlay(disk: &Path, base: &Path, size: voidvm_model::Bytes) -> Result<(), ErrorBody> {
    let part = build::part_of(disk);
    let _ = std::fs::remove_file(&part);
    image::overlay(&part, base, DiskFormat::Qcow2, size).map_err(|error| error.body())?;
    let swap = || -> std::io::Result<()> {
        std::fs::hard_link(disk, base)?;
        step("layer: second name given");
        std::fs::rename(&part, disk)?;
        step("layer: overlay named");
        std::fs::File::open(disk.parent().unwrap_or(disk))?.sync_all()
    };
    swap().map_err(|error| files::io_error(disk, &error))
}

/// At start-up, or when it failed: a base that is still the disk itself is one name too many.
pub(crate) fn unfreeze(intent: &Intent) {
    let [disk, base] = intent.files.as_slice() else { return };
    let _ = std::fs::remove_file(build::part_of(disk));
    if disk != base && base.exists() && crate::fleet::same_file(disk, base) {
        let _ = std::fs::remove_file(base);
    }
}

/// The header of a machine's qcow2 disk.
pub(crate) fn header(disk: &Path) -> Result<image::Header, ErrorBody> {
    image::header(disk).map_err(|error| files::io_error(disk, &error))?.ok_or_else(|| {
        ErrorBody::new(ErrorCode::ImageInvalid, format!("{} is no qcow2 image.", disk.display()))
            .with_hint("Restore it from a backup, or choose another disk.")
    })
}

/// What a disk and all it stands on take.
pub(super) fn allocated(disk: &Path) -> Result<u64, ErrorBody> {
    use std::os::unix::fs::MetadataExt;
    let chain = image::backing_files(disk).map_err(|error| files::io_error(&error.path, &error.source))?;
    let sizes = chain.iter().filter_map(|file| std::fs::metadata(file).ok());
    Ok(sizes.map(|metadata| metadata.blocks() * 512).sum())
}

/// Copies a file by sharing its blocks; false where the file system cannot.
fn reflink(from: &Path, to: &Path) -> bool {
    use std::os::unix::fs::OpenOptionsExt;
    let part = build::part_of(to);
    let copy = || -> std::io::Result<()> {
        let source = std::fs::File::open(from)?;
        let mut options = std::fs::OpenOptions::new();
        let target = options.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        rustix::fs::ioctl_ficlone(&target, &source)?;
        target.sync_all()?;
        std::fs::rename(&part, to)
    };
    copy().inspect_err(|_| drop(std::fs::remove_file(&part))).is_ok()
}
