//! Doctor: looks for everything that could be wrong with this host and says how to mend it. Changes nothing, runs no command
//! for the user, and needs no engine, so that it can say what keeps the engine from opening.
//!
//! Each finding is `id` + `finding` (the key of the surface's words) with the facts of its sentence; [`FINDINGS`] lists them
//! all. The checks of [`cheap`] touch files alone.

mod companions;
mod files;
mod qemu;

pub use qemu::qemu_version;

use std::collections::BTreeMap;
use std::time::Duration;

use voidvm_model::Origin;
use voidvm_model::system::{AccelReport, Check, CheckId, CheckStatus, DoctorReport};

use crate::config::Config;
use crate::handlers::read_reply;
use crate::owner::holder;
use crate::remote::RemoteClient;
use crate::token::keychain_works;

/// How long the owner may take to make the checks.
const PATIENCE: Duration = Duration::from_secs(15);

/// Every finding there is, in the order of the checks.
pub const FINDINGS: &[(CheckId, &[&str])] = &[
    (CheckId::Qemu, &["ok", "missing", "too_old", "broken"]),
    (CheckId::QemuImg, &["ok", "missing"]),
    (CheckId::Kvm, &["ok", "no_device", "no_permission", "guests_do_not_run"]),
    (CheckId::KvmGroup, &["ok", "not_needed", "not_member", "relogin"]),
    (CheckId::Firmware, &["ok", "missing"]),
    (CheckId::SecureBoot, &["ok", "missing"]),
    (CheckId::Tpm, &["ok", "missing"]),
    (CheckId::SharedFolders, &["ok", "missing", "no_uidmap"]),
    (CheckId::Passt, &["ok", "missing"]),
    (CheckId::FreeSpace, &["ok", "low", "full", "unknown"]),
    (CheckId::DataDirectory, &["ok", "absent", "not_writable", "not_private"]),
    (CheckId::RuntimeDirectory, &["ok", "fallback", "too_long", "not_writable", "not_private"]),
    (CheckId::LogDirectory, &["ok", "absent", "not_writable"]),
    (CheckId::Keychain, &["ok", "unavailable"]),
    (CheckId::Configuration, &["ok", "none", "invalid"]),
    (CheckId::DemoGuest, &["ok", "missing"]),
    (CheckId::User, &["ok", "root"]),
];

/// A finding under construction.
#[derive(Debug)]
pub(crate) struct Finding(Check);

impl Finding {
    fn new(id: CheckId, status: CheckStatus, finding: &str, message: impl Into<String>) -> Self {
        Self(Check {
            id,
            status,
            finding: finding.to_owned(),
            message: message.into(),
            remedy: None,
            command: None,
            facts: BTreeMap::new(),
        })
    }

    fn fact(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.0.facts.insert(name.to_owned(), value.to_string());
        self
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }

    fn command(mut self, command: impl Into<String>) -> Self {
        self.0.command = Some(command.into());
        self
    }

    fn done(self) -> Check {
        self.0
    }
}

/// The checks that touch files alone. Blocks shortly.
#[must_use]
pub fn cheap(config: &Config) -> Vec<Check> {
    vec![
        files::free_space(config),
        files::data_directory(config),
        files::runtime_directory(config),
        files::log_directory(config),
        files::configuration(config),
        files::demo_guest(config),
        files::user(),
    ]
}

/// Makes every check, wherever the engine is: asks the process that owns the data directory, or looks itself when there is
/// none or it does not answer. Needs no store, so that it works where the engine cannot open.
pub async fn of_anybody(config: Config) -> DoctorReport {
    if let Some(record) = holder(&config.directories) {
        let owner = RemoteClient::new(record.runtime_dir.join("voidvm.sock"));
        let asked = owner.call("system.doctor", &serde_json::Value::Null, Origin::Cli);
        if let Ok(Ok(reply)) = tokio::time::timeout(PATIENCE, asked).await
            && let Ok(report) = read_reply(reply)
        {
            return report;
        }
    }
    let setting = config.layers.settings().qemu_binary;
    let accel = qemu::accel(&config, &setting).await;
    examine(&config, &setting, accel).await
}

/// Makes every check. `accel` is the engine's probe where there is an engine; without, what can be told from the device.
pub async fn examine(config: &Config, qemu_setting: &str, accel: Option<AccelReport>) -> DoctorReport {
    let own = config.clone();
    let (qemu, keychain, shared_folders, cheap) = tokio::join!(
        qemu::binary(qemu_setting),
        keychain_works(),
        companions::shared_folders(),
        tokio::task::spawn_blocking(move || cheap(&own)),
    );
    let mut checks = vec![
        qemu,
        qemu::image_tool(qemu_setting),
        qemu::kvm(accel.as_ref()),
        qemu::kvm_group(),
        qemu::firmware(),
        companions::secure_boot(),
        companions::tpm(),
        shared_folders,
        companions::passt(),
        self::keychain(keychain),
    ];
    checks.extend(cheap.unwrap_or_default());
    let order = |check: &Check| FINDINGS.iter().position(|(id, _)| *id == check.id);
    checks.sort_by_key(order);
    DoctorReport { checks }
}

fn keychain(works: Result<(), String>) -> Check {
    match works {
        Ok(()) => {
            Finding::new(CheckId::Keychain, CheckStatus::Ok, "ok", "The keychain keeps secrets.").done()
        }
        Err(reason) => Finding::new(
            CheckId::Keychain,
            CheckStatus::Warning,
            "unavailable",
            format!("There is no keychain ({reason}); secrets are kept in files only you can read."),
        )
        .fact("reason", reason)
        .remedy("Install and unlock a keychain such as gnome-keyring, or leave it so.")
        .command("sudo apt install gnome-keyring")
        .done(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;
    use crate::environment::Environment;

    #[tokio::test]
    async fn every_check_is_made_once_in_order_with_a_known_finding() {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().display().to_string();
        let environment = Environment::of([("HOME", home.as_str()), ("XDG_RUNTIME_DIR", home.as_str())]);
        let config = Config::load_from(&Overrides::default(), environment).unwrap();
        let report = examine(&config, "", None).await;
        let ids: Vec<CheckId> = report.checks.iter().map(|check| check.id).collect();
        assert_eq!(ids, FINDINGS.iter().map(|(id, _)| *id).collect::<Vec<_>>());
        for check in &report.checks {
            let (_, known) = FINDINGS.iter().find(|(id, _)| *id == check.id).unwrap();
            assert!(known.contains(&check.finding.as_str()), "{check:?}");
            assert_eq!(check.status == CheckStatus::Ok, check.remedy.is_none(), "{check:?}");
        }
        // Looking makes nothing.
        assert!(!config.directories.data.exists());
    }

    #[tokio::test]
    async fn a_missing_qemu_is_found() {
        let root = tempfile::tempdir().unwrap();
        let environment = Environment::of([("HOME", root.path())]);
        let config = Config::load_from(&Overrides::default(), environment).unwrap();
        let report = examine(&config, "/nowhere/qemu-system-x86_64", None).await;
        assert_eq!(
            (report.checks[0].status, report.checks[0].finding.as_str()),
            (CheckStatus::Failed, "missing")
        );
        assert!(report.checks[0].command.is_some());
    }
}
