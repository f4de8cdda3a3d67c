//! What can be said of a specification without looking at the host.

mod devices;
mod extra;
mod platform;

use std::collections::BTreeSet;
use std::path::Path;

use super::{MachineSpec, NAME_MAX, SPEC_VERSION};
use crate::error::ErrorBody;
use crate::ids::DeviceId;

/// Checks a machine's name: 1 to [`NAME_MAX`] characters, none of them a control character, no space at either end.
///
/// Names are for people; file names and QEMU get the id instead, so any script and any punctuation is fine.
///
/// # Errors
/// [`ErrorCode::InvalidInput`](crate::ErrorCode::InvalidInput) with the field `name`.
pub fn validate_name(name: &str) -> Result<(), ErrorBody> {
    let wrong = |message: &str, hint: &str| Err(ErrorBody::invalid("name", message).with_hint(hint));
    if name.is_empty() {
        return wrong("The name is empty.", "Give the machine a name.");
    }
    if name.chars().count() > NAME_MAX {
        return wrong("The name is too long.", "Use at most 100 characters.");
    }
    if name.trim() != name {
        return wrong("The name begins or ends with a space.", "Remove the space.");
    }
    if name.chars().any(|c| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
    {
        return wrong(
            "The name has a character that cannot be shown.",
            "Remove line breaks and control characters.",
        );
    }
    if uuid::Uuid::parse_str(name).is_ok() {
        return wrong("The name looks like an id.", "Choose a name that is not a UUID.");
    }
    Ok(())
}

impl MachineSpec {
    /// Checks everything that can be checked without looking at the host.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidInput`](crate::ErrorCode::InvalidInput) with the first field that does not hold, as a path from
    /// `spec`.
    pub fn validate(&self) -> Result<(), ErrorBody> {
        if self.version == 0 || self.version > SPEC_VERSION {
            return refuse(
                "spec.version",
                format!("Format {} is not one this voidVM knows.", self.version),
                "Update voidVM: the machine was written by a newer one.",
            );
        }
        platform::validate(self)?;
        devices::validate(self)?;
        extra::validate(&self.extra_args)
    }
}

/// A refusal: what is wrong, and what to do about it.
fn refuse<T>(field: impl Into<String>, message: impl Into<String>, hint: &str) -> Result<T, ErrorBody> {
    Err(ErrorBody::invalid(field, message).with_hint(hint))
}

/// Refuses a second use of what only one device can have.
struct Once<T> {
    seen: BTreeSet<T>,
    what: &'static str,
    hint: &'static str,
}

impl<T: Ord> Once<T> {
    const fn new(what: &'static str, hint: &'static str) -> Self {
        Self { seen: BTreeSet::new(), what, hint }
    }

    fn take(&mut self, field: impl Into<String>, value: T) -> Result<(), ErrorBody> {
        if self.seen.insert(value) { Ok(()) } else { refuse(field, self.what, self.hint) }
    }
}

/// The ids of all devices of a machine: one name space, as it is in QEMU.
type Ids<'a> = Once<&'a DeviceId>;

/// Checks that a path can be handed to QEMU: absolute, valid Unicode, without NUL or line breaks, without `.`/`..` steps.
///
/// Commas, quotes, colons and spaces are fine: arguments are JSON, never a comma list, never a shell's.
///
/// # Errors
/// [`ErrorCode::InvalidInput`](crate::ErrorCode::InvalidInput) with `field`.
pub fn validate_path(field: &str, path: &Path) -> Result<(), ErrorBody> {
    let Some(text) = path.to_str() else {
        return Err(ErrorBody::invalid(field, "The path is not valid Unicode.").with_hint("Rename the file."));
    };
    if !path.is_absolute() {
        return Err(ErrorBody::invalid(field, format!("{text:?} is not an absolute path."))
            .with_hint("Begin the path with /."));
    }
    if text.chars().any(char::is_control) {
        return Err(ErrorBody::invalid(field, "The path has a line break or another control character.")
            .with_hint("Rename the file."));
    }
    if path.components().any(|part| matches!(part, std::path::Component::ParentDir)) {
        return Err(
            ErrorBody::invalid(field, "The path has a .. step.").with_hint("Write the path without it.")
        );
    }
    if text.len() > 4095 {
        return refuse(field, "The path is longer than Linux allows.", "Move the file.");
    }
    Ok(())
}
