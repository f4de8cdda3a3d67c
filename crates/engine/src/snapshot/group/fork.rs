//! A new group made of a snapshot of one: a machine for each of its machines, which shares its disks.
//!
//! ```text
//! intent with all directories ─▶ each machine made, as a fork is, and known to nobody ─▶ intent ended ─▶ all are there
//!    └── cut, or one of them fails: those that were made are removed
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use voidvm_model::group::GroupSnapshotForkRequest;
use voidvm_model::spec::validate_name;
use voidvm_model::{ErrorBody, ErrorCode, Operation, OperationId, OperationKind, Origin, VmId};
use voidvm_store::{Intent, IntentAction, OpenIntent, VmRow};

use super::super::fork::{ForkRecipe, Stay};
use super::{Found, find, of, together};
use crate::fleet::Reservation;
use crate::ledger::{Cancel, Outcome, Subject, Ticket};
use crate::ops::build::{self, Made, Stopped, end_with_engine, outcome};
use crate::ops::{delete, update};
use crate::shared::Shared;
use crate::supervisor::lend::Loan;
use crate::supervisor::{self, Begin, Disks, Machine};

/// Checks a request and begins the work.
///
/// # Errors
/// What does not hold, with its field; nothing was made then.
pub(crate) async fn fork(
    shared: &Arc<Shared>,
    request: GroupSnapshotForkRequest,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let found = find(shared, &request.group, &request.snapshot).await?;
    let of_snapshot = super::restore::members(shared, &found)?;
    update::check_group("name", &request.name)?;
    if shared.fleet.views().iter().any(|view| view.meta.group.as_ref() == Some(&request.name)) {
        return Err(ErrorBody::new(
            ErrorCode::NameTaken,
            format!("Machines stand in a group “{}” already.", request.name),
        )
        .with_field("name")
        .with_hint("Choose another name."));
    }
    let mut wanted = Vec::with_capacity(of_snapshot.len());
    for machine in of_snapshot {
        let name = format!("{}-{}", request.name, machine.view().name);
        validate_name(&name)?;
        let id = VmId::new();
        let reservation = shared.fleet.reserve(id, &name, None).map_err(|error| error.with_field("name"))?;
        wanted.push(Wanted { of: machine, id, name, _reservation: reservation });
    }
    if shared.closing.is_cancelled() {
        return Err(ErrorBody::new(ErrorCode::Busy, "voidVM is ending."));
    }
    let kind = OperationKind::GroupSnapshotFork;
    let subject = Subject::Group(&request.group);
    let ticket = shared.ledger.open_operation(kind, subject, origin, Cancel::Heeded).await?;
    let operation = ticket.operation();
    let work =
        Work { shared: Arc::clone(shared), found, wanted, group: request.name, start: request.start, origin };
    shared.builders.spawn(work.carry_out(ticket));
    operation.ok_or_else(|| ErrorBody::new(ErrorCode::Internal, "The operation was lost."))
}

/// A machine that is to be.
struct Wanted {
    of: Arc<Machine>,
    id: VmId,
    name: String,
    /// Keeps its name.
    _reservation: Reservation,
}

struct Work {
    shared: Arc<Shared>,
    found: Found,
    wanted: Vec<Wanted>,
    group: String,
    start: bool,
    origin: Origin,
}

impl Work {
    async fn carry_out(self, mut ticket: Ticket) {
        let cancel = ticket.cancel().clone();
        let shared = Arc::clone(&self.shared);
        let _watch = end_with_engine(&shared, &cancel);
        ticket.begin();
        let outcome = match self.make_all(&mut ticket).await {
            Ok(()) => Outcome::Succeeded,
            Err(stopped) => outcome(&shared, stopped),
        };
        ticket.end(outcome);
    }

    async fn make_all(mut self, ticket: &mut Ticket) -> Result<(), Stopped> {
        let shared = Arc::clone(&self.shared);
        self.wanted.sort_by_key(|wanted| wanted.of.id);
        let mut loans: Vec<Loan> = Vec::with_capacity(self.wanted.len());
        for wanted in &self.wanted {
            // The snapshot stays as long as machines are made of it.
            let lent = tokio::select! {
                biased;
                () = ticket.cancel().cancelled() => return Err(Stopped::Cancelled),
                lent = wanted.of.lend_as_it_is() => lent,
            };
            loans.push(lent.map_err(|error| of(error, &wanted.of))?);
        }
        let found = find(&shared, &self.found.row.group, &self.found.row.id.to_string()).await?;
        let files: Vec<PathBuf> =
            self.wanted.iter().map(|wanted| shared.config.machine_dir(wanted.id)).collect();
        let intent =
            Intent { operation_id: ticket.id(), vm_id: None, action: IntentAction::GroupMake, files };
        let journal = shared.store.journal();
        let open = journal.begin(&intent, Timestamp::now()).await.map_err(|error| error.body())?;
        let mut made = Vec::with_capacity(self.wanted.len());
        let done = self.make_each(&found, ticket, &mut made).await;
        if done.is_err() {
            for row in made.drain(..) {
                remove(&shared, row, ticket.id()).await;
            }
        }
        journal.end(open).await.map_err(|error| error.body())?;
        done?;
        let mut machines = Vec::with_capacity(made.len());
        for row in made {
            let machine = supervisor::spawn(Arc::clone(&shared), row, Begin::Made(self.origin));
            shared.fleet.add(Arc::clone(&machine));
            machines.push(machine);
        }
        drop((self.wanted, loans));
        if self.start { Ok(together::start(&shared, &machines, self.origin).await?) } else { Ok(()) }
    }

    async fn make_each(
        &self,
        found: &Found,
        ticket: &mut Ticket,
        made: &mut Vec<VmRow>,
    ) -> Result<(), Stopped> {
        let (cancel, total) = (ticket.cancel().clone(), self.wanted.len() as u64);
        for wanted in &self.wanted {
            if cancel.is_cancelled() {
                return Err(Stopped::Cancelled);
            }
            let row = found.part(&wanted.of)?.clone();
            let recipe = ForkRecipe {
                row,
                name: wanted.name.clone(),
                of: wanted.of.id,
                group: Some(self.group.clone()),
                stay: Stay::Stays,
            };
            let Made { vm, .. } = build::make(&self.shared, wanted.id, recipe, ticket, &cancel).await?;
            made.push(vm);
            ticket.progress(made.len() as u64, total);
        }
        Ok(())
    }
}

/// Removes a machine that nobody knows of yet.
async fn remove(shared: &Arc<Shared>, row: VmRow, operation: OperationId) {
    let id = row.id;
    match delete::delete(Arc::clone(shared), row, operation, Disks::Remove).await {
        delete::Deletion::Done => {}
        delete::Deletion::FilesLeft(error) | delete::Deletion::Refused(error) => {
            tracing::error!(vm = %id, %error, "what was made of a group's snapshot could not be removed");
        }
    }
}

/// At start-up: removes what was made of a group that is not to be.
///
/// # Errors
/// The store's.
pub(crate) async fn unmake(shared: &Arc<Shared>, open: &OpenIntent) -> Result<(), ErrorBody> {
    let rows = shared.store.vms().list().await.map_err(|error| error.body())?;
    for row in rows {
        if open.intent.files.contains(&shared.config.machine_dir(row.id)) {
            tracing::info!(vm = row.name, "a machine of a group that was not finished is removed");
            remove(shared, row, open.intent.operation_id).await;
        }
    }
    shared.store.journal().end(open.id).await.map_err(|error| error.body())
}
