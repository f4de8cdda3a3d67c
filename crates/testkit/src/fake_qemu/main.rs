//! An executable that takes QEMU's command line and speaks QMP on a real unix socket, and has no guest.
//!
//! It does what the product relies on: holds its images, binds the forwards, answers the monitor, the serial line and the
//! guest agent, hands its screen over a descriptor, outlives whoever started it, and ends as QEMU ends. What it does wrong is in
//! its plan (`voidvm_testkit::plan`), which lies beside it.
//!
//! ```text
//! prelaunch ─cont▶ running ◀cont─stop▶ paused
//! running ─system_powerdown, after a while─▶ SHUTDOWN ─▶ exit 0        quit, SIGTERM ─▶ SHUTDOWN ─▶ exit 0
//! ```
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for tests: it fails as QEMU would, with a line on stderr"
)]

mod agent;
mod args;
mod blocks;
mod commands;
mod devices;
mod info;
mod machine;
mod qmp;
mod screen;
mod serial;

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use voidvm_testkit::Plan;
use voidvm_testkit::fake::{COMMANDS_FILE, PLAN_FILE};

use crate::args::Args;
use crate::devices::Devices;
use crate::machine::Machine;

fn main() {
    let home =
        std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned)).unwrap_or_default();
    let plan_file = std::env::var_os("FAKE_QEMU_PLAN").map_or_else(|| home.join(PLAN_FILE), PathBuf::from);
    let given: Vec<String> = std::env::args().skip(1).collect();
    let args = Args::parse(&given).unwrap_or_else(|reason| die(&reason));
    let plan = Plan::read(&plan_file).for_vm(&args.name);
    if let Some(question) = &args.question {
        info::answer(question, &plan);
        return;
    }
    misbehave(&plan, "start");
    if args.accel == "kvm" && !plan.kvm {
        die("failed to initialize kvm: No such file or directory");
    }
    let devices = Devices::default();
    devices.launch(&args).unwrap_or_else(|reason| die(&reason));
    let machine = Arc::new(Machine::new(args, devices, plan_file, home.join(COMMANDS_FILE)));
    machine.end_on_sigterm();
    let monitor = machine.args.monitor.as_deref().map(listen);
    if let Some(channel) = &machine.args.serial {
        serial::serve(Arc::clone(&machine), listen(&channel.path), channel.logfile.as_deref());
    }
    if let Some(channel) = &machine.args.agent {
        agent::serve(Arc::clone(&machine), listen(&channel.path));
    }
    if !machine.args.held {
        machine.cont();
    }
    misbehave(&plan, "sockets");
    match monitor {
        Some(listener) => qmp::serve(&machine, &listener),
        None => loop {
            std::thread::park();
        },
    }
}

/// Does what the plan says for a moment before there is a monitor.
fn misbehave(plan: &Plan, moment: &str) {
    if Plan::is(plan.die_at.as_ref(), moment) {
        if let Some(stderr) = &plan.stderr {
            eprintln!("{stderr}");
        }
        std::process::exit(plan.exit);
    }
    while Plan::is(plan.hang_at.as_ref(), moment) {
        std::thread::park();
    }
}

fn die(reason: &str) -> ! {
    eprintln!("qemu-system-x86_64: {reason}");
    std::process::exit(1)
}

fn listen(path: &Path) -> UnixListener {
    // As QEMU does: whatever has the name is replaced.
    let _ = std::fs::remove_file(path);
    UnixListener::bind(path).unwrap_or_else(|error| die(&format!("-chardev: {}: {error}", path.display())))
}
