//! `ssh`: into a guest that cloud-init prepared, with the key, port and known hosts that are the machine's.

use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use clap::Args;
use voidvm_host::Config;
use voidvm_model::contract::{SshAccess, VmRef};
use voidvm_model::{ErrorBody, ErrorCode};

use crate::client::Client;
use crate::output::{Format, document};

#[derive(Debug, Args)]
pub(crate) struct Ssh {
    /// Name or id of the machine.
    pub(crate) vm: String,
    /// What to run in the guest instead of a shell; options of ssh may stand before it.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// Becomes ssh; with `--json` only says how.
pub(crate) async fn ssh(args: Ssh, config: Config, format: Format) -> Result<ExitCode, ErrorBody> {
    let client = Client::open(config).await?;
    let access = access(&args.vm, &client, format).await;
    client.close().await;
    let access = access?;
    if format == Format::Json {
        document(&access)?;
        return Ok(ExitCode::SUCCESS);
    }
    // The command is written for a shell; its own words follow as they are.
    let script = format!("exec {} \"$@\"", access.command);
    let error = std::process::Command::new("/bin/sh").args(["-c", &script, "ssh"]).args(&args.command).exec();
    Err(ErrorBody::new(ErrorCode::Internal, format!("ssh cannot be run: {error}.")))
}

async fn access(name: &str, client: &Client, format: Format) -> Result<SshAccess, ErrorBody> {
    let vm = client.find(name).await?;
    if format == Format::Text && !vm.state.is_live() {
        return Err(ErrorBody::new(ErrorCode::InvalidState, format!("“{}” is {}.", vm.name, vm.state))
            .with_hint(format!("Start it with: voidvm start {}", vm.name))
            .with_detail("state", vm.state.as_str()));
    }
    client.call::<Option<SshAccess>>("vm.ssh", &VmRef { id: vm.id }).await?.ok_or_else(|| {
        ErrorBody::new(ErrorCode::NotFound, format!("How to log in to “{}” is not known.", vm.name))
            .with_hint("It is known of machines made with --user, --ssh-key or --cloud-init, once they have an address.")
    })
}
