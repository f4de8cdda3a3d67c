//! What can be said of a specification without looking at the host.

use std::collections::BTreeSet;
use std::path::Path;

use super::{CPUS, MEMORY, MachineSpec, NAME_MAX, PortForward, SPEC_VERSION};
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
            return Err(ErrorBody::invalid(
                "spec.version",
                format!("This machine was written by a newer voidVM (format {}).", self.version),
            )
            .with_hint("Update voidVM."));
        }
        if !CPUS.contains(&self.cpus) {
            return Err(ErrorBody::invalid("spec.cpus", format!("{} CPUs cannot be had.", self.cpus))
                .with_hint("Choose 1 to 255."));
        }
        if !MEMORY.contains(&self.memory.0) {
            return Err(ErrorBody::invalid(
                "spec.memory",
                format!("{} MiB of memory cannot be had.", self.memory.0),
            )
            .with_hint("Choose 32 MiB to 4 TiB."));
        }
        let mut ids = BTreeSet::new();
        let mut unique = |field: String, id: &DeviceId| {
            if ids.insert(id.clone()) {
                Ok(())
            } else {
                Err(ErrorBody::invalid(field, format!("The device id {id} is used twice.")))
            }
        };
        let mut files = BTreeSet::new();
        for (index, disk) in self.disks.iter().enumerate() {
            unique(format!("spec.disks[{index}].id"), &disk.id)?;
            let field = format!("spec.disks[{index}].file");
            validate_path(&field, &disk.file)?;
            if !files.insert(&disk.file) {
                return Err(ErrorBody::invalid(field, "The same file is used for two disks."));
            }
        }
        for (index, cdrom) in self.cdroms.iter().enumerate() {
            unique(format!("spec.cdroms[{index}].id"), &cdrom.id)?;
            if let Some(file) = &cdrom.file {
                validate_path(&format!("spec.cdroms[{index}].file"), file)?;
            }
        }
        let mut macs = BTreeSet::new();
        let mut forwards: Vec<PortForward> = Vec::new();
        for (index, nic) in self.nics.iter().enumerate() {
            unique(format!("spec.nics[{index}].id"), &nic.id)?;
            if !macs.insert(nic.mac) {
                return Err(ErrorBody::invalid(
                    format!("spec.nics[{index}].mac"),
                    "The MAC address is used twice.",
                ));
            }
            for (at, forward) in nic.network.forwards().iter().enumerate() {
                validate_forward(&format!("spec.nics[{index}].network.forwards[{at}]"), forward, &forwards)?;
                forwards.push(*forward);
            }
        }
        for (field, count, most) in [
            ("spec.disks", self.disks.len(), 16),
            ("spec.cdroms", self.cdroms.len(), 4),
            ("spec.nics", self.nics.len(), 8),
        ] {
            if count > most {
                return Err(ErrorBody::invalid(field, format!("{count} are too many; at most {most}.")));
            }
        }
        Ok(())
    }
}

fn validate_forward(field: &str, forward: &PortForward, earlier: &[PortForward]) -> Result<(), ErrorBody> {
    if forward.host_port < 1024 {
        return Err(ErrorBody::invalid(
            format!("{field}.hostPort"),
            format!("An ordinary user cannot open host port {}.", forward.host_port),
        )
        .with_hint("Choose a port from 1024 to 65535."));
    }
    if forward.guest_port == 0 {
        return Err(ErrorBody::invalid(format!("{field}.guestPort"), "Port 0 does not exist.")
            .with_hint("Choose a port from 1 to 65535."));
    }
    if earlier.iter().any(|other| other.conflicts(forward)) {
        return Err(ErrorBody::invalid(
            format!("{field}.hostPort"),
            format!("Host port {} is forwarded twice.", forward.host_port),
        )
        .with_hint("Choose another host port."));
    }
    Ok(())
}

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
        return Err(ErrorBody::invalid(field, "The path is longer than Linux allows."));
    }
    Ok(())
}
