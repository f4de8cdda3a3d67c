//! The two programs of the desktop app find each other side by side.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// One of the app's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The window.
    Window,
    /// The icon without a window.
    Tray,
}

impl Program {
    const fn file_name(self) -> &'static str {
        match self {
            Self::Window => "voidvm-desktop",
            Self::Tray => "voidvm-tray",
        }
    }

    /// Where it is: beside the program that runs.
    ///
    /// # Errors
    /// When it is not there.
    pub fn path(self) -> io::Result<PathBuf> {
        let path = std::env::current_exe()?.with_file_name(self.file_name());
        path.metadata()?;
        Ok(path)
    }

    /// Starts it, to live on when this process ends.
    ///
    /// # Errors
    /// When it is not there or cannot be started.
    pub fn start(self) -> io::Result<()> {
        // A group of its own: a Ctrl+C in the terminal that started us is not for it.
        Command::new(self.path()?).stdin(Stdio::null()).process_group(0).spawn().map(drop)
    }
}
