//! QEMU's last words as an error a person can act on.

use voidvm_model::{ErrorBody, ErrorCode};

use super::Exit;

/// What QEMU's (or `qemu-img`'s) words mean: the first line that has all the words decides. Words QEMU 7.2 to 10 use.
const MEANINGS: &[(&[&str], ErrorCode, &str, &str)] = &[
    (
        &["Could not set up host forwarding rule"],
        ErrorCode::PortInUse,
        "A host port that this machine forwards is in use by another program.",
        "Choose another host port, or end the program that holds it.",
    ),
    (
        &["Failed to get", "lock"],
        ErrorCode::FileInUse,
        "A disk of this machine is in use by another program.",
        "Stop whatever uses the file, then try again.",
    ),
    (
        &["KVM", "Permission denied"],
        ErrorCode::AccelUnavailable,
        "You may not use KVM.",
        "Add yourself to the group kvm and sign in again, or choose software emulation.",
    ),
    (
        &["failed to initialize kvm"],
        ErrorCode::AccelUnavailable,
        "KVM does not work on this computer.",
        "Turn virtualisation on in the computer's firmware setup, or choose software emulation.",
    ),
    (
        &["KVM", "No such file"],
        ErrorCode::AccelUnavailable,
        "This computer has no KVM.",
        "Turn virtualisation on in the computer's firmware setup, or choose software emulation.",
    ),
    (
        &["annot set up guest memory"],
        ErrorCode::NotEnoughMemory,
        "The computer has too little memory for this machine.",
        "Give the machine less memory, or stop others.",
    ),
    (
        &["Cannot allocate memory"],
        ErrorCode::NotEnoughMemory,
        "The computer has too little memory for this machine.",
        "Give the machine less memory, or stop others.",
    ),
    (
        &["No space left on device"],
        ErrorCode::DiskFull,
        "The disk is full.",
        "Free some space, then try again.",
    ),
    (
        &["Read-only file system"],
        ErrorCode::ReadOnly,
        "A file of this machine is on a read-only file system.",
        "Mount it writable, or move the file.",
    ),
    (
        &["not in qcow2 format"],
        ErrorCode::ImageInvalid,
        "A disk of this machine is not a qcow2 image.",
        "Choose another image.",
    ),
    (
        &["qcow2: ", "corrupt"],
        ErrorCode::ImageInvalid,
        "A disk of this machine is corrupt.",
        "Repair it with qemu-img check -r all, or restore a copy.",
    ),
    (
        &["Could not open", "No such file"],
        ErrorCode::ImageMissing,
        "A file of this machine is not there.",
        "Put the file back, or remove the drive from the machine.",
    ),
    (
        &["Could not open", "Permission denied"],
        ErrorCode::PermissionDenied,
        "You may not use a file of this machine.",
        "Give your user access to the file.",
    ),
    (
        // QEMU makes devices of comma lists before those of JSON, which ours are.
        &["PCI: slot", "not available for", "in use by"],
        ErrorCode::QemuFailed,
        "A device among the machine's own arguments sits where one of the machine's devices belongs.",
        "Give it a place of its own: add addr=0x1c to it; 0x1b to 0x1e are free.",
    ),
    (
        &["phys-bits too low"],
        ErrorCode::NotEnoughMemory,
        "The machine's CPU cannot reach so much memory.",
        "Lower the memory or the most memory; software emulation reaches 1 TiB.",
    ),
];

/// Why a QEMU process that should live has ended: its words as they are, in `details.stderr`, and what they mean where that is
/// known.
#[must_use]
pub fn explain(exit: Exit, stderr: &str) -> ErrorBody {
    let body = explain_words(stderr).unwrap_or_else(|| match exit {
        Exit::Signal(9) => ErrorBody::new(ErrorCode::QemuFailed, "QEMU was killed.")
            .with_hint("If nobody did it, the computer ran out of memory: give the machine less."),
        Exit::Signal(signal) => {
            ErrorBody::new(ErrorCode::QemuFailed, format!("QEMU crashed (signal {signal})."))
                .with_hint("Start the machine again; update QEMU if it keeps happening.")
        }
        Exit::Code(code) => ErrorBody::new(ErrorCode::QemuFailed, format!("QEMU ended with code {code}."))
            .with_hint("QEMU's own words are in the log."),
        Exit::Unknown => {
            ErrorBody::new(ErrorCode::QemuFailed, "QEMU ended.").with_hint("QEMU's own words are in the log.")
        }
    });
    if stderr.is_empty() { body } else { body.with_detail("stderr", stderr) }
}

/// What words of QEMU or `qemu-img` mean, where that is known.
#[must_use]
pub fn explain_words(stderr: &str) -> Option<ErrorBody> {
    stderr.lines().find_map(|line| {
        MEANINGS
            .iter()
            .find(|(words, ..)| words.iter().all(|word| line.contains(word)))
            .map(|(_, code, message, hint)| ErrorBody::new(*code, *message).with_hint(*hint))
    })
}
