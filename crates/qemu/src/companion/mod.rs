//! Programs beside QEMU: swtpm (a TPM), virtiofsd (a folder), passt (a network).
//!
//! Each serves one machine and ends with its QEMU, whether or not the app still lives; each is known again by its pid and the
//! time it started. What they listen on was made by us and is handed to them open, so that QEMU never comes too early and no
//! program needs the right to make a socket.
//!
//! Invariants: a companion is written down as soon as it runs; one that was not proved to be the same process is never
//! signalled.
//!
//! ```text
//! start ─▶ written down ─▶ (QEMU connects) ─▶ ends with QEMU
//!   │            └─ the app ends ─▶ find ─┘         └─ still there a moment later: TERM, KILL
//!   └─ no QEMU follows ─▶ end
//! ```

mod passt;
mod swtpm;
mod virtiofsd;

use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use voidvm_model::{DeviceId, ErrorBody, ErrorCode};

use crate::process::{self, Inherited, ProcessHandle, RunDir, Signal, SpawnError, boot_id};

pub use passt::{passt, passt_program};
pub use swtpm::{swtpm, swtpm_program};
pub use virtiofsd::{Virtiofsd, virtiofsd};

/// The most of a companion's own words that is shown.
const WORDS_MAX: u64 = 8 << 10;

/// What a companion is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompanionKind {
    /// The TPM.
    Tpm,
    /// A shared folder.
    Share,
    /// A network card's network.
    Network,
}

/// What is needed to know a companion again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompanionRecord {
    /// What it is for.
    pub kind: CompanionKind,
    /// The machine's device it serves; none of the TPM.
    pub device: Option<DeviceId>,
    /// Its process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub start_ticks: u64,
}

impl CompanionRecord {
    /// Where its own words are.
    #[must_use]
    pub fn log(&self, dir: &RunDir) -> PathBuf {
        log_of(dir, self.kind, self.device.as_ref())
    }

    /// The end of its own words, as text.
    #[must_use]
    pub fn words(&self, dir: &RunDir) -> String {
        process::read_tail(&self.log(dir), WORDS_MAX).unwrap_or_default()
    }
}

fn log_of(dir: &RunDir, kind: CompanionKind, device: Option<&DeviceId>) -> PathBuf {
    let name = match kind {
        CompanionKind::Tpm => "tpm",
        CompanionKind::Share => "share",
        CompanionKind::Network => "net",
    };
    let device = device.map(|device| format!("-{device}")).unwrap_or_default();
    dir.path().join(format!("{name}{device}.log"))
}

/// Why a companion could not be started.
#[derive(Debug, thiserror::Error)]
pub enum CompanionError {
    /// The program is not installed.
    #[error("{program} is not installed")]
    Missing {
        /// The program.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
        /// What cannot be without it, as the begin of a sentence.
        wanted: &'static str,
    },
    /// This program cannot do what is asked for.
    #[error("{reason}")]
    Unable {
        /// What it cannot do, as a sentence.
        reason: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// Its socket or directory cannot be made.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the file system says.
        source: io::Error,
    },
    /// It cannot be run.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

impl CompanionError {
    /// The error as everybody is shown it.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        match self {
            Self::Missing { program, package, wanted } => ErrorBody::new(
                ErrorCode::ProgramMissing,
                format!("{wanted} needs {program}, which is not installed."),
            )
            .with_hint(format!("Install the package {package}."))
            .with_detail("program", *program),
            Self::Unable { reason, hint } => {
                ErrorBody::new(ErrorCode::Unsupported, reason.as_str()).with_hint(*hint)
            }
            Self::Io { path, source } => crate::failure::io_body(source, path),
            Self::Spawn(error) => error.body(),
        }
    }
}

/// A running companion.
#[derive(Debug)]
struct Companion {
    record: CompanionRecord,
    process: ProcessHandle,
    /// When its end was seen.
    ended: Option<Instant>,
}

/// The companions of one run.
#[derive(Debug)]
pub struct Companions {
    dir: RunDir,
    list: Vec<Companion>,
}

/// As they are written down.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    boot_id: String,
    companions: Vec<CompanionRecord>,
}

impl Companions {
    /// None yet, of the run in `dir`.
    #[must_use]
    pub const fn none(dir: RunDir) -> Self {
        Self { dir, list: Vec::new() }
    }

    /// Those of an earlier owner that still live. Must be called within a tokio runtime.
    #[must_use]
    pub fn find(dir: RunDir) -> Self {
        let read = || -> io::Result<Vec<Companion>> {
            let written: Written = serde_json::from_slice(&std::fs::read(dir.companions())?)?;
            if written.boot_id != boot_id()? {
                return Ok(Vec::new());
            }
            let mut list = Vec::new();
            for record in written.companions {
                if let Some(process) = process::hold(record.pid, record.start_ticks)? {
                    list.push(Companion { record, process, ended: None });
                }
            }
            Ok(list)
        };
        let list = read().unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %dir.companions().display(), %error, "companions cannot be found again");
            }
            Vec::new()
        });
        Self { dir, list }
    }

    /// Starts one and writes it down.
    fn start(
        &mut self,
        kind: CompanionKind,
        device: Option<&DeviceId>,
        command: Command,
        inherited: Inherited,
    ) -> Result<(), CompanionError> {
        let spawned = process::start(command, &log_of(&self.dir, kind, device), inherited)?;
        let record = CompanionRecord {
            kind,
            device: device.cloned(),
            pid: spawned.handle.pid(),
            start_ticks: spawned.start_ticks,
        };
        tracing::debug!(?record, "a companion was started");
        self.list.push(Companion { record, process: spawned.handle, ended: None });
        self.write()
    }

    fn write(&self) -> Result<(), CompanionError> {
        let path = self.dir.companions();
        let write = || {
            let companions = self.list.iter().map(|one| one.record.clone()).collect();
            let bytes = serde_json::to_vec(&Written { boot_id: boot_id()?, companions })?;
            std::fs::write(path.with_extension("part"), bytes)?;
            std::fs::rename(path.with_extension("part"), &path)
        };
        write().map_err(|source| CompanionError::Io { path: path.clone(), source })
    }

    /// Waits until one has ended and `grace` has passed, and forgets it; forever when there is none. Safe to drop.
    pub async fn next_end(&mut self, grace: Duration) -> CompanionRecord {
        if self.list.is_empty() {
            return std::future::pending().await;
        }
        let waits = self.list.iter().map(|one| Box::pin(one.process.wait_exit()));
        let (_, at, _) = futures_util::future::select_all(waits).await;
        // However often this is dropped and called again, the grace counts from the end.
        let ended = *self.list[at].ended.get_or_insert_with(Instant::now);
        tokio::time::sleep_until(ended + grace).await;
        self.list.remove(at).record
    }

    /// Waits until all have ended, as they do by themselves when QEMU has; makes those end that have not after `patience`.
    pub async fn end(mut self, patience: Duration) {
        for signal in [None, Some(Signal::Term), Some(Signal::Kill)] {
            for one in &self.list {
                let told = signal.map_or(Ok(()), |signal| one.process.signal(signal));
                if let Err(error) = told {
                    tracing::error!(record = ?one.record, %error, "a companion cannot be ended");
                }
            }
            let within = if signal.is_none() { patience } else { patience.max(Duration::from_millis(500)) };
            let all = async {
                while !self.list.is_empty() {
                    self.next_end(Duration::ZERO).await;
                }
            };
            if tokio::time::timeout(within, all).await.is_ok() {
                break;
            }
        }
        let _ = std::fs::remove_file(self.dir.companions());
    }

    /// Whose they are.
    #[must_use]
    pub fn records(&self) -> Vec<CompanionRecord> {
        self.list.iter().map(|one| one.record.clone()).collect()
    }
}

/// A listening socket at `path`, to be handed on.
fn listen(path: &Path) -> Result<UnixListener, CompanionError> {
    UnixListener::bind(path).map_err(|source| CompanionError::Io { path: path.to_owned(), source })
}

/// A program on `PATH`, or in one of the directories an ordinary user's `PATH` may lack.
fn program(name: &str) -> Option<PathBuf> {
    crate::probe::on_path(name).or_else(|| {
        ["/usr/sbin", "/sbin", "/usr/local/bin"]
            .iter()
            .map(|dir| Path::new(dir).join(name))
            .find(|path| crate::probe::is_program(path))
    })
}
