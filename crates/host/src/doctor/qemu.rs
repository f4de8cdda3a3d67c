//! Doctor's checks of QEMU, its tools, acceleration and firmware.

use std::path::Path;

use rustix::fs::Access;
use voidvm_model::spec::Firmware;
use voidvm_model::system::{AccelReport, Check, CheckId, CheckStatus};
use voidvm_qemu::firmware;
use voidvm_qemu::probe::{self, BINARY, Capabilities, ProbeError, locate, locate_qemu_img};

use super::Finding;
use crate::config::Config;

const KVM: &str = "/dev/kvm";

/// The version of the QEMU that would run, where there is one that can.
pub async fn qemu_version(setting: &str) -> Option<String> {
    Some(Capabilities::of(&locate(setting).ok()?).await.ok()?.version.to_string())
}

/// Whether guests run under KVM, where there is a QEMU to try it with. The answer is remembered where the engine remembers it,
/// once that place exists.
pub(super) async fn accel(config: &Config, setting: &str) -> Option<AccelReport> {
    let capabilities = Capabilities::of(&locate(setting).ok()?).await.ok()?;
    let state = &config.directories.state;
    if state.is_dir() {
        return Some(probe::accel(&capabilities, &state.join("accel.json")).await);
    }
    let scratch = std::env::temp_dir().join(format!("voidvm-accel-{}.json", std::process::id()));
    let report = probe::accel(&capabilities, &scratch).await;
    let _ = std::fs::remove_file(&scratch);
    Some(report)
}

pub(super) async fn binary(setting: &str) -> Check {
    let found =
        |status, finding: &str, message: String| Finding::new(CheckId::Qemu, status, finding, message);
    let probed = match locate(setting) {
        Ok(path) => Capabilities::of(&path).await,
        Err(error) => Err(error),
    };
    let error = match probed {
        Ok(capabilities) => {
            return found(
                CheckStatus::Ok,
                "ok",
                format!("QEMU {} ({}).", capabilities.version, capabilities.binary.display()),
            )
            .fact("version", capabilities.version)
            .fact("path", capabilities.binary.display())
            .done();
        }
        Err(error) => error,
    };
    let body = error.body();
    let failed = |finding| {
        found(CheckStatus::Failed, finding, body.message.clone())
            .fact("reason", &error)
            .fact("path", if setting.is_empty() { BINARY } else { setting })
            .remedy(body.hint.clone().unwrap_or_default())
    };
    match error {
        ProbeError::NotFound { .. } => failed("missing").command("sudo apt install qemu-system-x86").done(),
        ProbeError::TooOld { found } => {
            failed("too_old").fact("version", found).command("sudo apt install qemu-system-x86").done()
        }
        _ => failed("broken").command("sudo apt install --reinstall qemu-system-x86").done(),
    }
}

pub(super) fn image_tool(setting: &str) -> Check {
    let qemu = locate(setting).unwrap_or_else(|_| Path::new(BINARY).to_owned());
    match locate_qemu_img(&qemu) {
        Some(path) => Finding::new(
            CheckId::QemuImg,
            CheckStatus::Ok,
            "ok",
            format!("Disks are made with {}.", path.display()),
        )
        .fact("path", path.display())
        .done(),
        None => Finding::new(
            CheckId::QemuImg,
            CheckStatus::Failed,
            "missing",
            "qemu-img is not installed; disks cannot be made or looked at.",
        )
        .remedy("Install the package qemu-utils.")
        .command("sudo apt install qemu-utils")
        .done(),
    }
}

pub(super) fn kvm(accel: Option<&AccelReport>) -> Check {
    let found = |status, finding: &str, message: &str| Finding::new(CheckId::Kvm, status, finding, message);
    let slow = "Machines run in software emulation, which is much slower.";
    if !Path::new(KVM).exists() {
        return found(CheckStatus::Warning, "no_device", &format!("This host has no {KVM}. {slow}"))
            .remedy("Turn virtualisation on in the firmware set-up (VT-x, AMD-V), and load the module.")
            .command("sudo modprobe kvm_intel || sudo modprobe kvm_amd")
            .done();
    }
    if rustix::fs::access(KVM, Access::READ_OK | Access::WRITE_OK).is_err() {
        return found(CheckStatus::Warning, "no_permission", &format!("You may not use {KVM}. {slow}"))
            .remedy("Join the group kvm, then log in anew.")
            .command("sudo usermod -aG kvm \"$USER\"")
            .done();
    }
    match accel {
        Some(report) if !report.kvm_works => {
            let reason = report.reason.clone().unwrap_or_default();
            found(
                CheckStatus::Warning,
                "guests_do_not_run",
                format!("{KVM} opens, but guests do not run under it. {slow} {reason}").trim_end(),
            )
            .fact("reason", reason)
            .remedy("On a virtual machine, allow nested virtualisation in its host; else update kernel and firmware.")
            .done()
        }
        _ => found(CheckStatus::Ok, "ok", "Machines run with hardware acceleration (KVM).").done(),
    }
}

pub(super) fn kvm_group() -> Check {
    let found =
        |status, finding: &str, message: &str| Finding::new(CheckId::KvmGroup, status, finding, message);
    let not_needed =
        || found(CheckStatus::Ok, "not_needed", "Membership of the group kvm is not needed here.").done();
    if !Path::new(KVM).exists() || rustix::fs::access(KVM, Access::READ_OK | Access::WRITE_OK).is_ok() {
        // systemd gives the user at the screen access by an ACL, and root needs no group.
        return if in_group() == Some(true) {
            found(CheckStatus::Ok, "ok", "You are a member of the group kvm.").done()
        } else {
            not_needed()
        };
    }
    match in_group() {
        Some(true) | None => not_needed(),
        Some(false) if listed() => found(
            CheckStatus::Warning,
            "relogin",
            "You are a member of the group kvm, but this session began before.",
        )
        .remedy("Log in anew.")
        .done(),
        Some(false) => found(CheckStatus::Warning, "not_member", "You are not a member of the group kvm.")
            .remedy("Join the group kvm, then log in anew.")
            .command("sudo usermod -aG kvm \"$USER\"")
            .done(),
    }
}

/// The group's line of /etc/group: its number and its members.
fn group() -> Option<(u32, Vec<String>)> {
    let text = std::fs::read_to_string("/etc/group").ok()?;
    let line = text.lines().find(|line| line.starts_with("kvm:"))?;
    let mut parts = line.split(':').skip(2);
    let number = parts.next()?.parse().ok()?;
    Some((number, parts.next()?.split(',').map(str::to_owned).collect()))
}

/// Whether this process is in the group; nothing when there is no such group.
fn in_group() -> Option<bool> {
    let (number, _) = group()?;
    let own = rustix::process::getgroups().ok()?;
    Some(rustix::process::getegid().as_raw() == number || own.iter().any(|gid| gid.as_raw() == number))
}

/// Whether the user is in the group as of the next log-in.
fn listed() -> bool {
    let user = std::env::var("USER").unwrap_or_default();
    group().is_some_and(|(_, members)| members.contains(&user))
}

pub(super) fn firmware() -> Check {
    match firmware::find(Firmware::Uefi) {
        Some(ovmf) => Finding::new(
            CheckId::Firmware,
            CheckStatus::Ok,
            "ok",
            format!("UEFI firmware is in {}.", ovmf.code.display()),
        )
        .fact("path", ovmf.code.display())
        .done(),
        None => Finding::new(
            CheckId::Firmware,
            CheckStatus::Warning,
            "missing",
            "No UEFI firmware is installed; machines with BIOS are not concerned.",
        )
        .remedy("Install the package ovmf.")
        .command("sudo apt install ovmf")
        .done(),
    }
}
