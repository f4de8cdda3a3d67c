//! `service`: the engine with the user's session, under systemd. Machines that are to start with it do; at log-out and at the
//! computer's shutdown guests are shut down in the opposite order.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Subcommand;
use voidvm_model::{ErrorBody, ErrorCode};

use crate::output::{Format, document, line};

const UNIT: &str = "voidvm.service";

#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Start the engine with the session from now on.
    Install,
    /// Do so no more; machines and their disks stay.
    Remove,
}

pub(crate) fn service(command: ServiceCommand, format: Format) -> Result<(), ErrorBody> {
    let path = unit_path()?;
    let failed = |error: std::io::Error| {
        ErrorBody::new(ErrorCode::PermissionDenied, format!("{}: {error}.", path.display()))
    };
    let state = match command {
        ServiceCommand::Install => {
            let program = std::env::current_exe().map_err(failed)?;
            std::fs::create_dir_all(path.parent().unwrap_or(&path)).map_err(failed)?;
            std::fs::write(&path, unit(&program)).map_err(failed)?;
            systemctl(&["daemon-reload"])?;
            systemctl(&["enable", "--now", UNIT])?;
            "installed"
        }
        ServiceCommand::Remove => {
            // The engine ends here; one that is not installed is what is wanted.
            let disabled = systemctl(&["disable", "--now", UNIT]);
            if path.exists() {
                std::fs::remove_file(&path).map_err(failed)?;
                disabled?;
                systemctl(&["daemon-reload"])?;
            }
            "removed"
        }
    };
    match format {
        Format::Json => document(&serde_json::json!({ "state": state, "path": path })),
        Format::Text => line(format_args!("{}: {state}", path.display())),
    }
}

/// Machines outlive the engine, so only its own process is ended with it; its guests were shut down before.
fn unit(program: &Path) -> String {
    let program = program.to_string_lossy().replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%");
    format!(
        "[Unit]\nDescription=voidVM: virtual machines of this user\n\n\
         [Service]\nType=exec\nExecStart=\"{program}\" serve\nExecStop=\"{program}\" stop --all\n\
         KillMode=process\nTimeoutStopSec=300\nRestart=on-failure\n\n\
         [Install]\nWantedBy=default.target\n"
    )
}

fn unit_path() -> Result<PathBuf, ErrorBody> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
    let config = config.ok_or_else(|| {
        ErrorBody::new(ErrorCode::ConfigInvalid, "There is no home directory.").with_hint("Set HOME.")
    })?;
    Ok(config.join("systemd/user").join(UNIT))
}

fn systemctl(args: &[&str]) -> Result<(), ErrorBody> {
    let missing = |reason: String| {
        ErrorBody::new(ErrorCode::ProgramMissing, "systemd does not answer for this user.")
            .with_hint("The unit is written for systemd's user manager (systemctl --user).")
            .with_detail("program", "systemctl")
            .with_detail("reason", reason)
    };
    let output = Command::new("systemctl").arg("--user").args(args).output();
    let output = output.map_err(|error| missing(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(missing(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_quotes_the_program() {
        let unit = unit(Path::new("/opt/my \"apps\"/100%/voidvm"));
        assert!(unit.contains(r#"ExecStart="/opt/my \"apps\"/100%%/voidvm" serve"#), "{unit}");
        assert!(unit.contains("stop --all\n"));
    }
}
