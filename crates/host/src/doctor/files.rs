//! Doctor's checks of directories, configuration and the user.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::Access;
use voidvm_model::Bytes;
use voidvm_model::system::{Check, CheckId, CheckStatus};

use super::Finding;
use crate::config::Config;
use crate::defaults;

/// Below this a new machine has little room.
const LOW: u64 = 10 << 30;
/// Below this the store itself is in danger.
const FULL: u64 = 512 << 20;
/// Longest path of a unix socket, without the final zero.
const SOCKET_PATH_MAX: usize = 107;
/// What the engine adds to the runtime directory: `/UUID/serial.sock`.
const SOCKET_TAIL: usize = 1 + 36 + 12;

/// The path itself, or what there is of it.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(path)
}

fn writable(path: &Path) -> bool {
    rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

pub(super) fn free_space(config: &Config) -> Check {
    let path = &config.directories.data;
    let Ok(stat) = rustix::fs::statvfs(existing(path)) else {
        return Finding::new(
            CheckId::FreeSpace,
            CheckStatus::Warning,
            "unknown",
            "How much space is free cannot be told.",
        )
        .fact("path", path.display())
        .remedy("Check that the data directory can be read.")
        .done();
    };
    let free = Bytes(stat.f_bavail.saturating_mul(stat.f_frsize));
    let (status, finding) = match free.0 {
        ..FULL => (CheckStatus::Failed, "full"),
        FULL..LOW => (CheckStatus::Warning, "low"),
        LOW.. => (CheckStatus::Ok, "ok"),
    };
    let found = Finding::new(
        CheckId::FreeSpace,
        status,
        finding,
        format!("{free} are free where machines are kept ({}).", path.display()),
    )
    .fact("free", free)
    .fact("path", path.display());
    if status == CheckStatus::Ok {
        found.done()
    } else {
        found.remedy("Free some space, or move the data directory.").done()
    }
}

pub(super) fn data_directory(config: &Config) -> Check {
    directory(CheckId::DataDirectory, &config.directories.data, "Machines and their disks are in")
}

pub(super) fn log_directory(config: &Config) -> Check {
    directory(CheckId::LogDirectory, &config.directories.logs(), "Logs are in")
}

fn directory(id: CheckId, path: &Path, sentence: &str) -> Check {
    let shown = path.display().to_string();
    let there = path.is_dir();
    if !writable(existing(path)) {
        return Finding::new(
            id,
            CheckStatus::Failed,
            "not_writable",
            format!("{shown} cannot be written to."),
        )
        .fact("path", &shown)
        .remedy("Give yourself the permission, or use another directory.")
        .command(format!("sudo chown -R \"$USER\" '{}'", existing(path).display()))
        .done();
    }
    if there && id == CheckId::DataDirectory && !private(path) {
        return Finding::new(
            id,
            CheckStatus::Failed,
            "not_private",
            format!("{shown} belongs to another user, or others can write to it."),
        )
        .fact("path", &shown)
        .remedy("Take the others' permission away.")
        .command(format!("chmod go-w '{shown}'"))
        .done();
    }
    let finding = if there { "ok" } else { "absent" };
    let end = if there { "" } else { " (made when it is needed)" };
    Finding::new(id, CheckStatus::Ok, finding, format!("{sentence} {shown}{end}."))
        .fact("path", &shown)
        .done()
}

fn private(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| {
        meta.uid() == rustix::process::getuid().as_raw() && meta.permissions().mode() & 0o002 == 0
    })
}

pub(super) fn runtime_directory(config: &Config) -> Check {
    let path = &config.directories.runtime;
    let shown = path.display().to_string();
    let found = |status, finding: &str, message: String| {
        Finding::new(CheckId::RuntimeDirectory, status, finding, message).fact("path", &shown)
    };
    if path.as_os_str().len() + SOCKET_TAIL > SOCKET_PATH_MAX {
        return found(CheckStatus::Failed, "too_long", format!("{shown} is too long a path for sockets."))
            .remedy("Set XDG_RUNTIME_DIR to a shorter path.")
            .done();
    }
    if !writable(existing(path)) {
        return found(CheckStatus::Failed, "not_writable", format!("{shown} cannot be written to."))
            .remedy("Log in anew, so that the system makes it, or set XDG_RUNTIME_DIR.")
            .done();
    }
    if path.exists() && !private(path) {
        return found(
            CheckStatus::Failed,
            "not_private",
            format!("{shown} belongs to another user, or others can write to it."),
        )
        .remedy("Remove it.")
        .command(format!("rm -r '{shown}'"))
        .done();
    }
    if path.starts_with("/tmp") && config.environment().directory("XDG_RUNTIME_DIR").is_none() {
        return found(
            CheckStatus::Warning,
            "fallback",
            format!("The session has no runtime directory; {shown} is used."),
        )
        .remedy("Log in through a session that sets XDG_RUNTIME_DIR.")
        .done();
    }
    found(CheckStatus::Ok, "ok", format!("Sockets are in {shown}.")).done()
}

pub(super) fn configuration(config: &Config) -> Check {
    let shown = config.directories.config_file.display();
    let found = |status, finding: &str, message: String| {
        Finding::new(CheckId::Configuration, status, finding, message)
    };
    let Some(first) = config.problems.first() else {
        return if config.directories.config_file.exists() {
            found(CheckStatus::Ok, "ok", format!("{shown} holds.")).fact("path", &shown).done()
        } else {
            found(CheckStatus::Ok, "none", "There is no configuration file; the defaults hold.".to_owned())
                .fact("path", &shown)
                .done()
        };
    };
    let all: Vec<&str> = config.problems.iter().map(|problem| problem.message.as_str()).collect();
    found(CheckStatus::Failed, "invalid", all.join(" "))
        .fact("path", &shown)
        .fact("count", all.len())
        .fact("problems", all.join("\n"))
        .remedy(first.hint.clone().unwrap_or_else(|| "Mend the values named.".to_owned()))
        .done()
}

pub(super) fn demo_guest(config: &Config) -> Check {
    match defaults::demo(&config.directories.data, "disk.qcow2") {
        Some(path) => Finding::new(
            CheckId::DemoGuest,
            CheckStatus::Ok,
            "ok",
            format!("The small Linux guest is in {}.", path.display()),
        )
        .fact("path", path.display())
        .done(),
        None => Finding::new(
            CheckId::DemoGuest,
            CheckStatus::Warning,
            "missing",
            "The small Linux guest is not prepared; machines from images and ISOs are not concerned.",
        )
        .fact("path", config.directories.data.join("guest").display())
        .remedy("Prepare it with ./dev guest in the source tree.")
        .done(),
    }
}

pub(super) fn user() -> Check {
    if rustix::process::geteuid().is_root() {
        Finding::new(
            CheckId::User,
            CheckStatus::Warning,
            "root",
            "voidVM runs as root, and so do its machines: a guest that breaks out owns this computer.",
        )
        .remedy("Run voidVM as an ordinary user; it needs no more.")
        .done()
    } else {
        Finding::new(CheckId::User, CheckStatus::Ok, "ok", "voidVM runs as an ordinary user.").done()
    }
}
