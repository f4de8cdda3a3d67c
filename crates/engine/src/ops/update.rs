//! Changing a machine's definition. Nothing of it reaches a live process: hardware edits wait for the next start.

use jiff::Timestamp;
use voidvm_model::contract::VmUpdateRequest;
use voidvm_model::spec::{FileOwner, validate_name};
use voidvm_model::{ErrorBody, ErrorCode, MachineSpec, OperationKind, Origin};
use voidvm_store::VmRow;

use super::{files, launch};
use crate::fleet::file_in_use;
use crate::ledger::{Cancel, Outcome};
use crate::shared::Shared;

/// The longest description, in characters.
const DESCRIPTION_MAX: usize = 10_000;

/// Checks and stores a change; answers the changed row.
///
/// # Errors
/// What does not hold, with its field; nothing has changed then.
pub(crate) async fn update(
    shared: &Shared,
    vm: &VmRow,
    request: VmUpdateRequest,
    origin: Origin,
) -> Result<VmRow, ErrorBody> {
    if request.if_updated_at.is_some_and(|at| at != vm.updated_at) {
        return Err(ErrorBody::new(ErrorCode::Busy, "Somebody else changed this machine in the meantime.")
            .with_hint("Look at what it is now, and change it again."));
    }
    let mut changed = vm.clone();
    if let Some(name) = request.name {
        validate_name(&name)?;
        changed.name = name;
    }
    if let Some(description) = request.description {
        check_description(&description)?;
        changed.description = description;
    }
    if let Some(spec) = request.spec {
        spec.validate()?;
        if spec != vm.spec {
            check_files(shared, vm, &spec)?;
            launch::check_memory(&spec)?;
        }
        changed.spec = spec;
    }
    changed.updated_at = Timestamp::now();
    let named = (vm.id, changed.name.as_str());
    // Kept while the row changes, so that no creation takes the name in between.
    let _name = if changed.name == vm.name {
        None
    } else {
        Some(shared.fleet.reserve(vm.id, &changed.name, None)?)
    };
    let ticket = shared.ledger.open_operation(OperationKind::Update, named, origin, Cancel::Ignored).await?;
    ticket.begin();
    let stored = shared.store.vms().update(&changed).await.map_err(|error| error.body());
    ticket.end(Outcome::from(stored.as_ref().map(drop).map_err(Clone::clone)));
    stored.map(|()| changed)
}

/// Checks a description's length.
///
/// # Errors
/// [`ErrorCode::InvalidInput`].
pub(crate) fn check_description(description: &str) -> Result<(), ErrorBody> {
    if description.chars().count() <= DESCRIPTION_MAX {
        return Ok(());
    }
    Err(ErrorBody::invalid("description", "The description is too long.")
        .with_hint("Use at most 10,000 characters."))
}

/// Files that a change brings in must be there, be nobody else's, and not be called the machine's own when they are not.
fn check_files(shared: &Shared, vm: &VmRow, spec: &MachineSpec) -> Result<(), ErrorBody> {
    let dir = shared.config.machine_dir(vm.id);
    for (at, disk) in spec.disks.iter().enumerate() {
        let field = format!("spec.disks[{at}]");
        if disk.owner == FileOwner::Machine && !files::is_own(&dir, disk) {
            return Err(ErrorBody::invalid(
                format!("{field}.owner"),
                format!("{} does not lie in the machine's own directory.", disk.file.display()),
            )
            .with_hint("Say that the file is the user's."));
        }
        if let Some(user) = shared.fleet.user_of(&disk.file, Some(vm.id)) {
            return Err(file_in_use(&disk.file, &user).with_field(format!("{field}.file")));
        }
    }
    files::check(spec)
}
