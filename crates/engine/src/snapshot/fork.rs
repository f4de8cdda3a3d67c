//! New machines made of a snapshot: their disks stand on its layers, and with memory they go on from it.
//!
//! A fork's guest keeps the network addresses it had in memory; its definition has addresses of its own, from the next start on.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use voidvm_model::snapshot::{FORKS_MAX, SnapshotForkRequest};
use voidvm_model::spec::{DiskFormat, validate_name};
use voidvm_model::vm::VmMeta;
use voidvm_model::{
    ErrorBody, ErrorCode, Event, MachineSpec, Operation, OperationKind, OperationStatus, Origin, VmId,
    VmState,
};
use voidvm_qemu::args;
use voidvm_qemu::image;
use voidvm_qemu::process::{RunDir, RunRecord};
use voidvm_store::{SnapshotRow, VmRow};

use super::restore::{START, check_whole};
use super::take::layer_files;
use super::{image as prepared, kept, names, packed};
use crate::fleet::Reservation;
use crate::hotplug::Words;
use crate::ledger::{Cancel, Outcome, Subject, Ticket};
use crate::ops::build::{self, Made, Recipe, Site, Stopped, end_with_engine, outcome};
use crate::ops::{clone, files, outfit};
use crate::shared::Shared;
use crate::step::step;
use crate::supervisor::{self, Begin, Machine, Order};
use crate::suspend;

/// Checks a request and begins the work.
///
/// # Errors
/// What does not hold, with its field; nothing was made then.
pub(crate) async fn fork(
    shared: &Arc<Shared>,
    request: SnapshotForkRequest,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let count = request.count.unwrap_or(1);
    if !(1..=FORKS_MAX).contains(&count) {
        return Err(ErrorBody::invalid("count", format!("{count} machines cannot be made at once."))
            .with_hint(format!("Choose 1 to {FORKS_MAX}.")));
    }
    let machine = shared.fleet.get(request.id)?;
    let rows = shared.store.snapshots().of(request.id).await.map_err(|error| error.body())?;
    let row = names::find(&rows, &request.snapshot)?.clone();
    check_whole(&shared.config.machine_dir(request.id), &row)?;
    let mut wanted = Vec::new();
    for number in 1..=count {
        let name = if count == 1 { request.name.clone() } else { format!("{}-{number}", request.name) };
        validate_name(&name)?;
        let id = VmId::new();
        wanted.push((id, name.clone(), shared.fleet.reserve(id, &name, None)?));
    }
    if shared.closing.is_cancelled() {
        return Err(ErrorBody::new(ErrorCode::Busy, "voidVM is ending."));
    }
    let name = machine.view().name.clone();
    let subject = Subject::Vm(request.id, &name);
    let ticket =
        shared.ledger.open_operation(OperationKind::SnapshotFork, subject, origin, Cancel::Heeded).await?;
    let operation = ticket.operation();
    let work = Work { shared: Arc::clone(shared), machine, row, wanted, start: request.start, origin };
    shared.builders.spawn(work.carry_out(ticket));
    operation.ok_or_else(|| ErrorBody::new(ErrorCode::Internal, "The operation was lost."))
}

/// What is to be made.
struct Work {
    shared: Arc<Shared>,
    machine: Arc<Machine>,
    row: SnapshotRow,
    wanted: Vec<(VmId, String, Reservation)>,
    start: bool,
    origin: Origin,
}

impl Work {
    async fn carry_out(self, mut ticket: Ticket) {
        let cancel = ticket.cancel().clone();
        let _watch = end_with_engine(&self.shared, &cancel);
        ticket.begin();
        let shared = Arc::clone(&self.shared);
        let outcome = match self.make_all(&mut ticket).await {
            Ok(()) => Outcome::Succeeded,
            Err(stopped) => outcome(&shared, stopped),
        };
        ticket.end(outcome);
    }

    async fn make_all(self, ticket: &mut Ticket) -> Result<(), Stopped> {
        let cancel = ticket.cancel().clone();
        // The snapshot stays as long as machines are made of it.
        let loan = self.machine.lend_as_it_is().await?;
        let shared = &self.shared;
        let rows = shared.store.snapshots().of(loan.vm.id).await.map_err(|error| error.body())?;
        names::find(&rows, &self.row.id.to_string())?;
        let dir = kept::dir(&shared.config.machine_dir(loan.vm.id), self.row.id);
        if self.row.memory {
            packed::check(shared, &dir).await?;
        }
        let (mut made, total) = (Vec::new(), self.wanted.len() as u64);
        for (done, (id, name, reservation)) in (1..).zip(self.wanted) {
            if cancel.is_cancelled() {
                return Err(Stopped::Cancelled);
            }
            let recipe =
                ForkRecipe { row: self.row.clone(), name, of: loan.vm.id, group: None, stay: Stay::Stays };
            let Made { vm, .. } = build::make(shared, id, recipe, ticket, &cancel).await?;
            let machine = supervisor::spawn(Arc::clone(shared), vm, Begin::Made(self.origin));
            shared.fleet.add(Arc::clone(&machine));
            drop(reservation);
            made.push(machine);
            ticket.progress(done, total);
        }
        if self.row.memory {
            prepared::note_use(&dir);
            shared.preparing.take_up(self.row.id);
            // It may be wanted ready from now on.
            shared.bus.publish(self.origin, Event::SnapshotsChanged { vm_id: loan.vm.id });
        }
        drop(loan);
        if self.start { Ok(start_all(shared, &made, self.origin).await?) } else { Ok(()) }
    }
}

/// Starts them side by side and waits for all.
async fn start_all(shared: &Shared, machines: &[Arc<Machine>], origin: Origin) -> Result<(), ErrorBody> {
    let mut started = Vec::new();
    for machine in machines {
        started.push(machine.act(Order::Start, origin).await?);
    }
    let waits = started.iter().map(|operation| shared.ledger.wait(operation.id, START));
    for ended in futures_util::future::join_all(waits).await {
        let ended = ended?;
        if ended.status != OperationStatus::Succeeded {
            let otherwise = || ErrorBody::new(ErrorCode::QemuFailed, "A fork was not started in its time.");
            return Err(ended.error.unwrap_or_else(otherwise).with_detail("vm", ended.subject));
        }
    }
    Ok(())
}

pub(super) struct ForkRecipe {
    pub(super) row: SnapshotRow,
    pub(super) name: String,
    pub(super) of: VmId,
    /// The group it stands in, where that is another one.
    pub(super) group: Option<String>,
    pub(super) stay: Stay,
}

/// What becomes of a machine when it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    /// It is there.
    Stays,
    /// It is removed.
    Passes,
}

impl Recipe for ForkRecipe {
    async fn make(self, site: &Site<'_>, _ticket: &mut Ticket) -> Result<Made, Stopped> {
        let shared = site.shared;
        let parent_dir = shared.config.machine_dir(self.of);
        let parent = shared.fleet.get(self.of)?.view();
        let spec = clone::fresh(shared, &self.row.spec, (&parent_dir, site.dir))?;
        let layers = layer_files(&parent_dir, &self.row);
        for (old, new) in self.row.spec.disks.iter().zip(&spec.disks) {
            match layers.get(&old.id) {
                Some(base) => {
                    let size = clone::header(base)?.virtual_size;
                    image::overlay(&new.file, base, DiskFormat::Qcow2, size).map_err(|error| error.body())?;
                }
                // A disk nobody writes to is shared as it is.
                None => image::overlay(&new.file, &old.file, old.format, size_of(old)?)
                    .map_err(|error| error.body())?,
            }
        }
        step("fork: disks made");
        clone::copy_companions(&parent_dir, site.dir)?;
        let dir = kept::dir(&parent_dir, self.row.id);
        kept::copy_state(&dir, site.dir).map_err(|error| files::io_error(site.dir, &error))?;
        let state = if self.row.memory {
            let record = kept::read(&dir)?.record;
            let record = moved(shared, record, (site.id, &self.name), &spec);
            suspend::plant(site.dir, &kept::memory(&dir), record, self.row.created_at)?;
            VmState::Suspended
        } else {
            VmState::Stopped
        };
        let now = Timestamp::now();
        let vm = VmRow {
            id: site.id,
            name: self.name,
            description: parent.description.clone(),
            os_type: parent.os_type.clone(),
            spec,
            state,
            state_since: now,
            attention: None,
            meta: VmMeta {
                favourite: false,
                template: false,
                autostart: None,
                group: self.group.or_else(|| parent.meta.group.clone()),
                ..parent.meta.clone()
            },
            parent: Some(self.of),
            passing: self.stay == Stay::Passes,
            created_at: now,
            updated_at: now,
        };
        Ok(Made { vm, of: None })
    }
}

fn size_of(disk: &voidvm_model::spec::Disk) -> Result<voidvm_model::Bytes, ErrorBody> {
    let failed = |error: std::io::Error| files::io_error(&disk.file, &error);
    match image::header(&disk.file).map_err(failed)? {
        Some(header) => Ok(header.virtual_size),
        None => Ok(voidvm_model::Bytes(std::fs::metadata(&disk.file).map_err(failed)?.len())),
    }
}

/// A run as another machine goes on from it: its own name, sockets, files, ports; and the devices its memory knows.
fn moved(shared: &Shared, record: RunRecord, (id, name): (VmId, &str), fresh: &MachineSpec) -> RunRecord {
    let old = record.uuid;
    let own = [
        (
            RunDir::new(&shared.config.runtime_dir, old).path().to_owned(),
            RunDir::new(&shared.config.runtime_dir, id).path().to_owned(),
        ),
        (shared.config.machine_dir(old), shared.config.machine_dir(id)),
        (shared.config.serial_log(old), shared.config.serial_log(id)),
    ];
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let argv = record.now.clone().unwrap_or_else(|| record.argv.clone());
    let argv = argv
        .into_iter()
        .map(|word| own.iter().fold(word, |word, (from, to)| word.replace(&text(from), &text(to))));
    let mut words = Words::new(argv.collect());
    words.set_plain("-uuid", id.to_string());
    words.set_plain("-name", args::name(name));
    for disk in &fresh.disks {
        if let Ok(node) = args::disk_node(disk) {
            words.replace("-blockdev", disk.id.as_str(), &node);
        }
    }
    // The guest goes on with the addresses in its memory; what is outside the guest is the fork's own.
    let mut spec = fresh.clone();
    for nic in &mut spec.nics {
        let Some(had) = record.spec.nics.iter().find(|had| had.id == nic.id) else { continue };
        nic.mac = had.mac;
        let backend = args::nic_backend(nic, words.descriptor(nic.id.as_str()));
        if let Some(backend) = backend {
            words.replace("-netdev", nic.id.as_str(), &backend);
        }
    }
    if spec.vsock {
        words.set("-device", "vv.vsock", "guest-cid", &Value::from(outfit::cid(id)));
    }
    RunRecord {
        uuid: id,
        argv: words.into_argv(),
        now: None,
        spec,
        roots: std::collections::BTreeMap::new(),
        layers: std::collections::BTreeMap::new(),
        ..record
    }
}
