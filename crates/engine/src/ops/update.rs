//! Changing a machine's definition. What of it a running guest can be given is the supervisor's to do afterwards.

use jiff::Timestamp;
use voidvm_model::contract::VmUpdateRequest;
use voidvm_model::spec::{FileOwner, validate_name};
use voidvm_model::vm::{COLORS, VmMeta};
use voidvm_model::{ErrorBody, ErrorCode, MachineSpec, OperationKind, Origin};
use voidvm_store::VmRow;

use super::{files, launch};
use crate::fleet::file_in_use;
use crate::ledger::{Cancel, Outcome, Subject};
use crate::shared::Shared;
use crate::storage;

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
            check_files(shared, vm, &spec).await?;
            launch::check_memory(&spec)?;
        }
        changed.spec = spec;
    }
    if let Some(meta) = request.meta {
        check_meta(&meta)?;
        changed.meta = meta;
    }
    if let Some(os_type) = request.os_type {
        changed.os_type = Some(os_type).filter(|os| !os.is_empty());
    }
    changed.updated_at = Timestamp::now();
    let named = Subject::Vm(vm.id, &changed.name);
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

/// Whether something can be tagged or grouped by a word.
fn sound(word: &str) -> bool {
    !word.trim().is_empty() && word.trim() == word && word.chars().count() <= 40
}

/// Checks the tags of `field`.
///
/// # Errors
/// [`ErrorCode::InvalidInput`] with the field.
pub(crate) fn check_tags(field: &str, tags: &[String]) -> Result<(), ErrorBody> {
    if tags.len() > 20 {
        return Err(ErrorBody::invalid(field, "So many tags are too many.").with_hint("Use 20 at most."));
    }
    for (at, tag) in tags.iter().enumerate() {
        if !sound(tag) || tag.contains(',') || tags[..at].contains(tag) {
            return Err(ErrorBody::invalid(format!("{field}[{at}]"), format!("{tag:?} cannot be a tag."))
                .with_hint("Use 1 to 40 characters without a comma, each tag once."));
        }
    }
    Ok(())
}

/// Checks the name of a group in `field`.
///
/// # Errors
/// [`ErrorCode::InvalidInput`] with the field.
pub(crate) fn check_group(field: &str, group: &str) -> Result<(), ErrorBody> {
    if sound(group) {
        return Ok(());
    }
    Err(ErrorBody::invalid(field, "A group cannot be called that.").with_hint("Use 1 to 40 characters."))
}

/// Checks tags, group and colour.
///
/// # Errors
/// [`ErrorCode::InvalidInput`] with the field.
pub(crate) fn check_meta(meta: &VmMeta) -> Result<(), ErrorBody> {
    check_tags("meta.tags", &meta.tags)?;
    if let Some(group) = &meta.group {
        check_group("meta.group", group)?;
    }
    if meta.color.as_deref().is_some_and(|color| !COLORS.contains(&color)) {
        return Err(ErrorBody::invalid("meta.color", "There is no such colour.")
            .with_hint(format!("Choose one of {}.", COLORS.join(", "))));
    }
    if meta.autostart.is_some_and(|autostart| autostart.delay_seconds > 3600) {
        return Err(ErrorBody::invalid("meta.autostart.delaySeconds", "That is too long a delay.")
            .with_hint("Choose 0 to 3600 seconds."));
    }
    Ok(())
}

/// Files that a change brings in must be there, be nobody else's, and not be called the machine's own when they are not.
async fn check_files(shared: &Shared, vm: &VmRow, spec: &MachineSpec) -> Result<(), ErrorBody> {
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
        let field = format!("{field}.file");
        if let Some(user) = shared.fleet.rival_of(disk, vm.id) {
            return Err(file_in_use(&disk.file, &user).with_field(field));
        }
        shared.holds.check(&disk.file).map_err(|error| error.with_field(field.as_str()))?;
        // What a machine writes to a file that others stand on would break those.
        let new = !vm.spec.disks.iter().any(|old| old.file == disk.file && !old.read_only);
        if new && !disk.read_only {
            storage::check_childless(shared, &disk.file).await.map_err(|error| error.with_field(field))?;
        }
    }
    files::check(spec)
}
