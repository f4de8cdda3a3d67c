//! Doctor's checks of what stands beside QEMU: Secure Boot firmware, TPM, shared folders, passt. A machine without them is not
//! concerned.

use voidvm_model::spec::Firmware;
use voidvm_model::system::{Check, CheckId, CheckStatus};
use voidvm_qemu::companion::{CompanionError, Virtiofsd, passt_program, swtpm_program};
use voidvm_qemu::firmware;

use super::Finding;

pub(super) fn secure_boot() -> Check {
    match firmware::find(Firmware::UefiSecure) {
        Some(ovmf) => {
            let message = format!("Secure Boot firmware is in {}.", ovmf.code.display());
            Finding::new(CheckId::SecureBoot, CheckStatus::Ok, "ok", message)
                .fact("path", ovmf.code.display())
                .done()
        }
        None => Finding::new(
            CheckId::SecureBoot,
            CheckStatus::Warning,
            "missing",
            "No UEFI firmware with Secure Boot and its keys is installed; Windows 11 asks for it.",
        )
        .remedy("Install the package ovmf.")
        .command("sudo apt install ovmf")
        .done(),
    }
}

pub(super) fn tpm() -> Check {
    match swtpm_program() {
        Some(path) => {
            Finding::new(CheckId::Tpm, CheckStatus::Ok, "ok", format!("TPMs are made by {}.", path.display()))
                .fact("path", path.display())
                .done()
        }
        None => Finding::new(
            CheckId::Tpm,
            CheckStatus::Warning,
            "missing",
            "swtpm is not installed, so no machine can have a TPM; Windows 11 asks for one.",
        )
        .remedy("Install the package swtpm.")
        .command("sudo apt install swtpm")
        .done(),
    }
}

pub(super) async fn shared_folders() -> Check {
    let found = |status, finding: &str, message: String| {
        Finding::new(CheckId::SharedFolders, status, finding, message)
    };
    let slow = "Folders can be shared over 9p, which is slower.";
    let usable = match Virtiofsd::probe().await {
        Ok(program) => program.usable().map(|()| program.binary),
        Err(error) => Err(error),
    };
    match usable {
        Ok(path) => found(CheckStatus::Ok, "ok", format!("Folders are shared by {}.", path.display()))
            .fact("path", path.display())
            .done(),
        Err(CompanionError::Missing { package: "uidmap", .. }) => found(
            CheckStatus::Warning,
            "no_uidmap",
            format!("This virtiofsd needs the package uidmap. {slow}"),
        )
        .remedy("Install the package uidmap.")
        .command("sudo apt install uidmap")
        .done(),
        Err(_) => found(CheckStatus::Warning, "missing", format!("virtiofsd is not installed. {slow}"))
            .remedy("Install the package virtiofsd.")
            .command("sudo apt install virtiofsd")
            .done(),
    }
}

pub(super) fn passt() -> Check {
    match passt_program() {
        Some(path) => {
            let message = format!("Network cards can use {}.", path.display());
            Finding::new(CheckId::Passt, CheckStatus::Ok, "ok", message).fact("path", path.display()).done()
        }
        None => Finding::new(
            CheckId::Passt,
            CheckStatus::Warning,
            "missing",
            "passt is not installed; network cards use QEMU's own network, which is slower.",
        )
        .remedy("Install the package passt.")
        .command("sudo apt install passt")
        .done(),
    }
}
