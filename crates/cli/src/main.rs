//! The `voidvm` command. It says what is wanted in the contract's words and shows what comes back; whether the engine is in
//! this process or in another one is the host's matter. Machines go on when it ends.

mod args;
mod client;
mod commands;
mod output;

use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;
use voidvm_host::{Config, Overrides};
use voidvm_model::{ErrorBody, ErrorCode};

use crate::args::Cli;
use crate::output::Format;

/// Threads that run the engine's tasks: they wait far more than they work.
const WORKERS: usize = 2;
/// Threads for work on files.
const BLOCKING: usize = 8;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misunderstood(&error),
    };
    let format = if cli.json { Format::Json } else { Format::Text };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(run(cli, format));
            // A thread may still wait for a key to be pressed.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(ErrorBody::new(ErrorCode::Internal, format!("No threads can be had: {error}."))),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            output::error(format, &error);
            ExitCode::from(error.code.exit_code())
        }
    }
}

async fn run(cli: Cli, format: Format) -> Result<ExitCode, ErrorBody> {
    let config = Config::load(&Overrides { data_dir: cli.data_dir })?;
    Box::pin(commands::run(cli.command, config, format)).await
}

/// Help and versions are no errors; what was not understood is, in the shape that was asked for.
fn misunderstood(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().take_while(|arg| arg != "--").any(|arg| arg == "--json");
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        _ if wants_json => {
            let text = error.render().to_string();
            let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let message = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let body = ErrorBody::new(ErrorCode::InvalidInput, message).with_hint("See: voidvm --help");
            output::error(Format::Json, &body);
            ExitCode::from(ErrorCode::InvalidInput.exit_code())
        }
        _ => {
            let _ = error.print();
            ExitCode::from(ErrorCode::InvalidInput.exit_code())
        }
    }
}
