//! What snapshots are called, and how they are found. Pure.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use voidvm_model::snapshot::SNAPSHOT_NAME_MAX;
use voidvm_model::{ErrorBody, ErrorCode};
use voidvm_store::SnapshotRow;

/// Checks a name that a person chose.
///
/// # Errors
/// [`ErrorCode::InvalidInput`], [`ErrorCode::NameTaken`].
pub(super) fn check(name: &str, rows: &[SnapshotRow]) -> Result<(), ErrorBody> {
    let sound = !name.trim().is_empty()
        && name.trim() == name
        && name.chars().count() <= SNAPSHOT_NAME_MAX
        && !name.chars().any(char::is_control);
    if !sound {
        return Err(ErrorBody::invalid("name", "A snapshot cannot be called that.").with_hint(format!(
            "Use 1 to {SNAPSHOT_NAME_MAX} characters on one line, without a space at either end."
        )));
    }
    if rows.iter().any(|row| row.name == name) {
        return Err(ErrorBody::new(
            ErrorCode::NameTaken,
            format!("The machine has a snapshot named “{name}” already."),
        )
        .with_field("name")
        .with_hint("Choose another name."));
    }
    Ok(())
}

/// A name that no snapshot of the machine has: the wanted one, or with a number behind it.
pub(crate) fn free(wanted: &str, rows: &[SnapshotRow]) -> String {
    free_of(wanted, |name| rows.iter().any(|row| row.name == name))
}

/// A name that is not taken: the wanted one, or with a number behind it.
pub(super) fn free_of(wanted: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(wanted) {
        return wanted.to_owned();
    }
    (2_u32..).map(|number| format!("{wanted} ({number})")).find(|name| !taken(name)).unwrap_or_default()
}

/// What one without a name is called.
pub(crate) fn of_now(word: &str, now: Timestamp) -> String {
    format!("{word} {}", now.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M"))
}

/// The snapshot of this id or name.
///
/// # Errors
/// [`ErrorCode::NotFound`].
pub(super) fn find<'a>(rows: &'a [SnapshotRow], key: &str) -> Result<&'a SnapshotRow, ErrorBody> {
    let id = key.parse().ok();
    let found =
        rows.iter().find(|row| Some(row.id) == id).or_else(|| rows.iter().find(|row| row.name == key));
    found.ok_or_else(|| {
        ErrorBody::new(ErrorCode::NotFound, format!("The machine has no snapshot “{key}”."))
            .with_field("snapshot")
            .with_hint("Look at the list of its snapshots.")
    })
}
