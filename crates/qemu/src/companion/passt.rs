//! passt: a network card's user-mode network outside QEMU.
//!
//! It gets one end of a socket pair and QEMU the other: distributions confine passt so that it could not make a socket in the
//! runtime directory.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use voidvm_model::DeviceId;
use voidvm_model::spec::{PortForward, Protocol};

use super::{CompanionError, CompanionKind, Companions, program};
use crate::process::Inherited;

/// The program, where it is installed.
#[must_use]
pub fn passt_program() -> Option<PathBuf> {
    program("passt")
}

/// Starts the network of the card `device`; returns QEMU's end of it.
///
/// # Errors
/// [`CompanionError`]; nothing runs then. A port that is taken shows in its end.
pub fn passt(
    companions: &mut Companions,
    device: &DeviceId,
    forwards: &[PortForward],
) -> Result<OwnedFd, CompanionError> {
    let binary = passt_program().ok_or(CompanionError::Missing {
        program: "passt",
        package: "passt",
        wanted: "This network card",
    })?;
    let (ours, theirs) = UnixStream::pair()
        .map_err(|source| CompanionError::Io { path: PathBuf::from("a socket pair"), source })?;
    let mut inherited = Inherited::default();
    let number = inherited.add(theirs.into());
    let mut command = Command::new(binary);
    // It ends when QEMU closes its end.
    command.args(["--foreground", "--stderr", "--quiet", "--one-off", "--fd", &number.to_string()]);
    for forward in forwards {
        let option = match forward.protocol {
            Protocol::Tcp => "--tcp-ports",
            Protocol::Udp => "--udp-ports",
        };
        command.args([
            option,
            &format!("{}/{}:{}", forward.host_address, forward.host_port, forward.guest_port),
        ]);
    }
    companions.start(CompanionKind::Network, Some(device), command, inherited)?;
    Ok(ours.into())
}
