//! A machine made of a snapshot to be thrown away: it is gone as soon as it stops.
//!
//! ```text
//! made, as a fork is ─▶ started ─▶ runs, and looks like any other ─▶ stops, crashes, is forced off ─▶ removed
//!   └── not started: removed            └── the owner ends: found again, or removed when there is no process
//! ```
//! Its row says that it is one ([`VmRow::passing`]), from the first instant; whoever finds it without a process removes it.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use futures_util::StreamExt as _;
use voidvm_model::snapshot::SnapshotBootRequest;
use voidvm_model::spec::validate_name;
use voidvm_model::{
    ErrorBody, ErrorCode, Event, Operation, OperationKind, OperationResult, OperationStatus, Origin,
    StreamItem, VmId,
};
use voidvm_store::{SnapshotRow, VmRow};

use super::fork::{ForkRecipe, Stay};
use super::names;
use super::restore::{START, check_whole};
use crate::fleet::Reservation;
use crate::ledger::{Cancel, Outcome, Subject, Ticket};
use crate::ops::build::{self, Made, Stopped, end_with_engine, outcome};
use crate::shared::Shared;
use crate::supervisor::{self, Begin, Children, Disks, Machine, Order};

/// Checks a request and begins the work.
///
/// # Errors
/// What does not hold, with its field; nothing was made then.
pub(crate) async fn boot(
    shared: &Arc<Shared>,
    request: SnapshotBootRequest,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let machine = shared.fleet.get(request.id)?;
    let rows = shared.store.snapshots().of(request.id).await.map_err(|error| error.body())?;
    let row = names::find(&rows, &request.snapshot)?.clone();
    check_whole(&shared.config.machine_dir(request.id), &row)?;
    let of = machine.view().name.clone();
    let name = request.name.unwrap_or_else(|| {
        let views = shared.fleet.views();
        names::free_of(&format!("{of}-boot"), |name| views.iter().any(|view| view.name == name))
    });
    validate_name(&name)?;
    let id = VmId::new();
    let reservation = shared.fleet.reserve(id, &name, None)?;
    if shared.closing.is_cancelled() {
        return Err(ErrorBody::new(ErrorCode::Busy, "voidVM is ending."));
    }
    let kind = OperationKind::SnapshotBoot;
    let subject = Subject::Vm(request.id, &of);
    let ticket = shared.ledger.open_operation(kind, subject, origin, Cancel::Heeded).await?;
    let operation = ticket.operation();
    let work = Work { shared: Arc::clone(shared), machine, row, id, name, reservation, origin };
    shared.builders.spawn(work.carry_out(ticket));
    operation.ok_or_else(|| ErrorBody::new(ErrorCode::Internal, "The operation was lost."))
}

struct Work {
    shared: Arc<Shared>,
    machine: Arc<Machine>,
    row: SnapshotRow,
    id: VmId,
    name: String,
    reservation: Reservation,
    origin: Origin,
}

impl Work {
    async fn carry_out(self, mut ticket: Ticket) {
        let cancel = ticket.cancel().clone();
        let (shared, id) = (Arc::clone(&self.shared), self.id);
        let _watch = end_with_engine(&shared, &cancel);
        ticket.begin();
        let outcome = match self.make(&mut ticket).await {
            Ok(()) => {
                ticket.result(OperationResult::Booted { vm: id });
                Outcome::Succeeded
            }
            Err(stopped) => outcome(&shared, stopped),
        };
        ticket.end(outcome);
    }

    async fn make(self, ticket: &mut Ticket) -> Result<(), Stopped> {
        let (shared, cancel) = (&self.shared, ticket.cancel().clone());
        // The snapshot stays until there is the machine.
        let loan = self.machine.lend_as_it_is().await?;
        let rows = shared.store.snapshots().of(loan.vm.id).await.map_err(|error| error.body())?;
        let row = names::find(&rows, &self.row.id.to_string())?.clone();
        let recipe = ForkRecipe { row, name: self.name, of: loan.vm.id, group: None, stay: Stay::Passes };
        let Made { vm, .. } = build::make(shared, self.id, recipe, ticket, &cancel).await?;
        let machine = supervisor::spawn(Arc::clone(shared), vm, Begin::Made(self.origin));
        shared.fleet.add(Arc::clone(&machine));
        drop((self.reservation, loan));
        let started = start(shared, &machine, self.origin).await;
        if started.is_err() {
            remove(&machine).await;
        }
        Ok(started?)
    }
}

async fn start(shared: &Shared, machine: &Machine, origin: Origin) -> Result<(), ErrorBody> {
    let operation = machine.act(Order::Start, origin).await?;
    let ended = shared.ledger.wait(operation.id, START).await?;
    if ended.status == OperationStatus::Succeeded {
        return Ok(());
    }
    let late = || ErrorBody::new(ErrorCode::QemuFailed, "The machine was not started in its time.");
    Err(ended.error.unwrap_or_else(late))
}

/// Removes a machine that has stopped.
async fn remove(machine: &Machine) {
    let order = Order::Delete { disks: Disks::Remove, children: Children::Refuse };
    if let Err(error) = machine.act(order, Origin::System).await {
        // It is tried again when it stops the next time, or at the next start.
        tracing::warn!(vm = %machine.id, %error, "a machine that was to pass is still there");
    }
}

/// Removes such machines whenever one has stopped, for as long as the engine is open; first those that have no process now.
pub(crate) async fn remove_passing(shared: Weak<Shared>) {
    let mut events = match shared.upgrade() {
        Some(shared) => {
            let events = shared.bus.subscribe(None);
            for machine in shared.fleet.all() {
                machine.settled().await;
                let view = machine.view();
                if view.passing && !view.state.is_live() {
                    remove(&machine).await;
                }
            }
            events
        }
        None => return,
    };
    let mut live: BTreeSet<VmId> = BTreeSet::new();
    while let Some(item) = events.next().await {
        let Some(shared) = shared.upgrade() else { return };
        let StreamItem::Event(envelope) = item else { continue };
        let Event::VmChanged { vm } = envelope.event else { continue };
        if vm.passing && vm.state.is_live() {
            live.insert(vm.id);
        } else if live.remove(&vm.id)
            && let Ok(machine) = shared.fleet.get(vm.id)
        {
            remove(&machine).await;
        }
    }
}

/// Why it is not suspended.
pub(crate) fn not_kept(vm: &VmRow) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::InvalidState,
        format!("“{}” is thrown away when it stops: there is nothing to go on from later.", vm.name),
    )
    .with_hint("Take a snapshot of it and fork that: the fork stays.")
}
