//! Why no argument list can be made.

use std::path::PathBuf;

use voidvm_model::{ErrorBody, ErrorCode};

use super::SOCKET_PATH_MAX;

/// Why no argument list can be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ArgsError {
    /// The specification itself does not hold.
    #[error(transparent)]
    Spec(ErrorBody),
    /// A socket's path is longer than the kernel takes.
    #[error("the socket path {0:?} is longer than {SOCKET_PATH_MAX} bytes")]
    SocketPathTooLong(PathBuf),
    /// A path is not absolute, not Unicode, or has control characters.
    #[error("{0:?} cannot be handed to QEMU")]
    Path(PathBuf),
    /// The machine's name has a control character.
    #[error("the name {0:?} cannot be handed to QEMU")]
    Name(String),
    /// UEFI is asked for and no firmware was given.
    #[error("no UEFI firmware")]
    FirmwareMissing,
    /// This QEMU does not have what a field asks for.
    #[error("this QEMU has no {what}")]
    Lacks {
        /// The field, as a path from `spec`.
        field: String,
        /// QEMU's name for it.
        what: String,
        /// What to do about it, as one sentence.
        hint: &'static str,
    },
    /// An encrypted disk's key was not given.
    #[error("no key for {field}")]
    KeyMissing {
        /// The field, as a path from `spec`.
        field: String,
    },
    /// A program beside QEMU that a field asks for was not started.
    #[error("no {program} for {field}")]
    CompanionMissing {
        /// The field, as a path from `spec`.
        field: String,
        /// The program.
        program: &'static str,
    },
    /// A channel has no socket.
    #[error("no socket for {field}")]
    SocketMissing {
        /// The field, as a path from `spec`.
        field: String,
    },
    /// vsock is asked for and the guest has no address on it.
    #[error("no vsock address")]
    VsockMissing,
}

impl ArgsError {
    /// The error as everybody is shown it.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        match self {
            Self::Spec(body) => body.clone(),
            Self::SocketPathTooLong(_) => ErrorBody::new(
                ErrorCode::ConfigInvalid,
                "The runtime directory's path is too long for sockets.",
            )
            .with_hint("Set XDG_RUNTIME_DIR, or use a data directory with a shorter path.")
            .with_detail("reason", self.to_string()),
            Self::Path(path) => {
                ErrorBody::invalid("spec", "A path of this machine cannot be handed to QEMU.")
                    .with_hint("Use an absolute path without control characters.")
                    .with_detail("path", path.to_string_lossy())
            }
            Self::Name(_) => ErrorBody::invalid("name", "The name has a character that cannot be shown.")
                .with_hint("Remove line breaks and control characters."),
            Self::FirmwareMissing => ErrorBody::new(
                ErrorCode::FirmwareMissing,
                "This machine starts with UEFI, and no UEFI firmware is installed.",
            )
            .with_hint("Install the package ovmf, or choose BIOS."),
            Self::Lacks { field, what, hint } => {
                ErrorBody::invalid(field, format!("The QEMU of this computer has no {what}."))
                    .with_hint(*hint)
                    .with_detail("missing", what.as_str())
            }
            Self::KeyMissing { field } => {
                ErrorBody::new(ErrorCode::KeychainUnavailable, "The key of an encrypted disk is not there.")
                    .with_field(field)
                    .with_hint("Unlock the keychain that holds the key, then try again.")
            }
            Self::CompanionMissing { field, program } => ErrorBody::new(
                ErrorCode::ProgramMissing,
                format!("This machine needs {program}, which is not running beside it."),
            )
            .with_field(field)
            .with_hint(format!("Install the package {program}, or turn off what needs it."))
            .with_detail("program", *program),
            Self::SocketMissing { field } => {
                ErrorBody::new(ErrorCode::Internal, "A channel of this machine has no socket.").with_field(field)
            }
            Self::VsockMissing => {
                ErrorBody::invalid("spec.vsock", "This computer has no vsock for virtual machines.")
                    .with_hint("Load the kernel module vhost_vsock and see that you may open /dev/vhost-vsock, or turn vsock off.")
            }
        }
    }
}
