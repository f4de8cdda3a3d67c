//! The desktop app's executable.

use std::process::ExitCode;

fn main() -> ExitCode {
    voidvm_desktop::run()
}
