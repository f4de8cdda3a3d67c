//! What a schedule must be like.

use std::path::Path;

use jiff::tz::TimeZone;
use voidvm_model::schedule::{Recurrence, ScheduleTarget, ScheduledBackup};
use voidvm_model::spec::{validate_name, validate_path};
use voidvm_model::{Bytes, ErrorBody};
use voidvm_schedule::Times;
use voidvm_schedule::naming::{WORDS, check_template};
use voidvm_store::ScheduleRow;

use super::Snapshots;

/// The most any count of the retention may be.
const COUNT_MAX: u32 = 10_000;

/// Checks everything but whether the name is taken.
///
/// # Errors
/// What does not hold, with its field.
pub(super) fn row(row: &ScheduleRow, snapshots: &dyn Snapshots) -> Result<(), ErrorBody> {
    validate_name(&row.name).map_err(|error| match error.hint.as_deref() {
        Some("Give the machine a name.") => error.with_hint("Give the schedule a name."),
        _ => error,
    })?;
    times(&row.when)?;
    row.time_zone.as_deref().map(zone).transpose()?;
    check_template(&row.name_template).map_err(|message| {
        ErrorBody::invalid("nameTemplate", message)
            .with_hint(format!("Write for example auto_{{date}}; {} are replaced.", WORDS.join(", ")))
    })?;
    if row.options.freeze && !row.options.disk_only {
        return Err(ErrorBody::invalid("options.freeze", "File systems are frozen for disks alone.")
            .with_hint("Choose diskOnly as well, or leave freeze out."));
    }
    let rules = &row.retention;
    if let Some(to) = &row.backup {
        backup(to, row)?;
    }
    for (field, count) in [
        ("keepLast", rules.keep_last),
        ("hourly", rules.hourly),
        ("daily", rules.daily),
        ("weekly", rules.weekly),
        ("monthly", rules.monthly),
        ("yearly", rules.yearly),
    ] {
        if count > COUNT_MAX {
            return Err(ErrorBody::invalid(format!("retention.{field}"), "So many are not kept.")
                .with_hint(format!("Choose at most {COUNT_MAX}, or 0 for no such rule.")));
        }
    }
    if rules.max_depth.is_some_and(|depth| !(1..=COUNT_MAX).contains(&depth)) {
        return Err(ErrorBody::invalid(
            "retention.maxDepth",
            "The present cannot stand on so many snapshots.",
        )
        .with_hint(format!("Choose 1 to {COUNT_MAX}.")));
    }
    if rules.min_free == Some(Bytes(0)) {
        return Err(ErrorBody::invalid("retention.minFree", "No space to stay free is no rule.")
            .with_hint("Leave it out."));
    }
    target(&row.target, snapshots)
}

fn backup(to: &ScheduledBackup, row: &ScheduleRow) -> Result<(), ErrorBody> {
    validate_path("backup.directory", Path::new(&to.directory))?;
    if row.options.disk_only {
        return Err(ErrorBody::invalid("options.diskOnly", "A backup never holds memory.")
            .with_hint("Leave it out: file systems are frozen where the guest's agent can."));
    }
    if row.retention.max_depth.is_some() {
        return Err(ErrorBody::invalid("retention.maxDepth", "The present stands on no backup.")
            .with_hint("Leave it out."));
    }
    Ok(())
}

fn target(target: &ScheduleTarget, snapshots: &dyn Snapshots) -> Result<(), ErrorBody> {
    match target {
        ScheduleTarget::Vm { id } if snapshots.machines().iter().all(|vm| vm.id != *id) => {
            Err(ErrorBody::invalid("target.id", format!("No machine has the id {id}."))
                .with_hint("Choose one of the list; templates have no schedule."))
        }
        ScheduleTarget::Group { name } | ScheduleTarget::Tag { name } if name.trim().is_empty() => {
            Err(ErrorBody::invalid("target.name", "The name is empty.").with_hint("Choose a group or a tag."))
        }
        // A group or tag nobody has yet is one somebody may have tomorrow.
        _ => Ok(()),
    }
}

/// The times of a recurrence.
///
/// # Errors
/// What does not hold, with its field.
pub(super) fn times(when: &Recurrence) -> Result<Times, ErrorBody> {
    let wrong =
        |field: &str, message: String, hint: &str| Err(ErrorBody::invalid(field, message).with_hint(hint));
    match when {
        Recurrence::Hourly { minute } if *minute > 59 => {
            return wrong("when.minute", "No hour has such a minute.".to_owned(), "Choose 0 to 59.");
        }
        Recurrence::Monthly { day: Some(day), .. } if !(1..=28).contains(day) => {
            return wrong(
                "when.day",
                "Not every month has such a day.".to_owned(),
                "Choose 1 to 28, or the last day of the month.",
            );
        }
        _ => {}
    }
    Times::parse(&when.cron()).or_else(|error| {
        wrong(
            "when.expression",
            format!("{error}."),
            "Write five fields: minute, hour, day of the month, month, day of the week; 0 2 * * * is each day at 02:00.",
        )
    })
}

/// A time zone by its name.
///
/// # Errors
/// There is no such zone.
pub(super) fn zone(name: &str) -> Result<TimeZone, ErrorBody> {
    TimeZone::get(name).map_err(|_| {
        ErrorBody::invalid("timeZone", format!("There is no time zone {name:?} on this computer."))
            .with_hint("Write an IANA name such as Europe/Berlin or Asia/Shanghai.")
    })
}
