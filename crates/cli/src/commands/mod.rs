//! Each command of the grammar, ending in the contract's commands.

pub(crate) mod backup;
mod change;
mod console;
pub(crate) mod copies;
mod create;
pub(crate) mod group;
pub(crate) mod image;
mod look;
mod power;
pub(crate) mod schedule;
mod serve;
pub(crate) mod service;
mod set;
pub(crate) mod snapshot;
pub(crate) mod ssh;
pub(crate) mod storage;

use std::process::ExitCode;

use clap::CommandFactory as _;
use voidvm_host::Config;
use voidvm_model::ErrorBody;

use crate::args::{Cli, Command};
use crate::client::Client;
use crate::output::{self, Format};

pub(crate) async fn run(command: Command, config: Config, format: Format) -> Result<ExitCode, ErrorBody> {
    match command {
        Command::Doctor => return look::doctor(config, format).await,
        Command::Version => look::version(&config, format).await?,
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "voidvm", &mut script);
            output::print(&String::from_utf8_lossy(&script))?;
        }
        Command::Serve(args) => serve::serve(args, config, format).await?,
        Command::Service(command) => service::service(command, format)?,
        Command::Ssh(args) => return ssh::ssh(args, config, format).await,
        command => {
            let client = Client::open(config).await?;
            let outcome = with_engine(command, &client, format).await;
            client.close().await;
            outcome?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn with_engine(command: Command, client: &Client, format: Format) -> Result<(), ErrorBody> {
    match command {
        Command::Create(args) => create::create(args, client, format).await,
        Command::List => look::list(client, format).await,
        Command::Show(args) => look::show(&args.vm, client, format).await,
        Command::Command(args) => look::command(&args.vm, client, format).await,
        Command::Logs(args) => look::logs(&args, client, format).await,
        Command::Screenshot(args) => look::screenshot(&args, client, format).await,
        Command::Start(args) => power::start(args, client, format).await,
        Command::Stop(args) => power::stop(args, client, format).await,
        Command::Pause(args) => power::simple("vm.pause", &args.vm, client, format).await,
        Command::Resume(args) => power::simple("vm.resume", &args.vm, client, format).await,
        Command::Suspend(args) => power::simple("vm.suspend", &args.vm, client, format).await,
        Command::Reset(args) => power::simple("vm.reset", &args.vm, client, format).await,
        Command::Delete(args) => change::delete(args, client, format).await,
        Command::Set(args) => set::set(&args, client, format).await,
        Command::Type(args) => change::type_text(args, client, format).await,
        Command::Clone(args) => copies::clone(args, client, format).await,
        Command::Export(args) => copies::export(args, client, format).await,
        Command::Import(args) => copies::import(args, client, format).await,
        Command::Backup(command) => backup::backup(command, client, format).await,
        Command::Image(command) => image::image(command, client, format).await,
        Command::Snapshot(command) => snapshot::snapshot(command, client, format).await,
        Command::Group(command) => group::group(command, client, format).await,
        Command::Pool(command) => storage::pool(command, client, format).await,
        Command::Volume(command) => storage::volume(command, client, format).await,
        Command::Schedule(command) => schedule::schedule(command, client, format).await,
        Command::Console(args) => console::attach(&args.vm, client, format).await,
        Command::Doctor
        | Command::Version
        | Command::Completion { .. }
        | Command::Serve(_)
        | Command::Service(_)
        | Command::Ssh(_) => Ok(()),
    }
}
