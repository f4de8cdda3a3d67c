//! `./dev bench`: how fast and how small voidVM is, each figure beside what it is measured against, in one run.
//!
//! Nothing here passes or fails: figures are printed for people to compare. Absolute times depend on the machine and its load; the
//! ratios are what to quote. A part is named on the command line (`start`, `list`, `storage`, `import`, `copies`, `snapshots`, `internal`, `memory`, `schedules`, `window`, `console`); all of them without.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    unreachable_pub,
    reason = "a developer's tool: it prints, and ends when something does not hold"
)]

mod copies;
mod figures;
mod import;
mod internal;
mod list;
mod memory;
mod schedules;
mod serve;
mod snapshots;
mod start;
mod storage;
mod window;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let parts: [(&str, fn()); 11] = [
        ("start", start::run),
        ("list", list::run),
        ("storage", storage::run),
        ("import", import::run),
        ("copies", copies::run),
        ("snapshots", snapshots::run),
        ("internal", internal::run),
        ("memory", memory::run),
        ("schedules", schedules::run),
        ("window", window::run),
        ("console", window::console),
    ];
    for (name, part) in parts {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            println!("\n## {name}");
            part();
        }
    }
}
