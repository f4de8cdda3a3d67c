//! virtiofsd: a folder of the host for one guest. There are two programs of that name: the one QEMU itself had up to 7.2, and
//! its successor in Rust, which is told apart by its options.
//!
//! Both want to be root in a namespace of their own: an ordinary user gets there with `unshare` and the user ids that belong to
//! him (`/etc/subuid`, package uidmap). The successor also works without, for the files of the user alone.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use voidvm_model::spec::Share;

use super::{CompanionError, CompanionKind, Companions, listen, program};
use crate::process::{Inherited, RunDir};
use crate::tool;

/// How long it may take to say its options.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where QEMU's descriptors of such programs are, and where the programs are without one.
const DESCRIPTORS: &str = "/usr/share/qemu/vhost-user";
const WELL_KNOWN: [&str; 3] = ["/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/lib/qemu/virtiofsd"];

/// The program, looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Virtiofsd {
    /// Where it is.
    pub binary: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// QEMU's own.
    Classic,
    /// The successor.
    Rust { read_only: Support },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Support {
    Has,
    Lacks,
}

/// Who a companion runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rights {
    /// Root already.
    Root,
    /// An ordinary user who can become root of a namespace with more than one user.
    Mapped,
    /// An ordinary user who cannot.
    Bare,
}

impl Rights {
    fn of_this_process() -> Self {
        if rustix::process::geteuid().is_root() {
            Self::Root
        } else if program("newuidmap").is_some() && program("unshare").is_some() {
            Self::Mapped
        } else {
            Self::Bare
        }
    }
}

impl Virtiofsd {
    /// The program of this computer.
    #[must_use]
    pub fn locate() -> Option<PathBuf> {
        #[derive(Deserialize)]
        struct Descriptor {
            r#type: String,
            binary: PathBuf,
        }
        let mut files: Vec<PathBuf> = std::fs::read_dir(DESCRIPTORS)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        files.sort();
        let described = files.iter().filter_map(|path| {
            let descriptor: Descriptor = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
            (descriptor.r#type == "fs").then_some(descriptor.binary)
        });
        described
            .chain(WELL_KNOWN.map(PathBuf::from))
            .find(|path| crate::probe::is_program(path))
            .or_else(|| program("virtiofsd"))
    }

    /// Finds the program and asks it what it is.
    ///
    /// # Errors
    /// [`CompanionError::Missing`].
    pub async fn probe() -> Result<Self, CompanionError> {
        let missing = || CompanionError::Missing {
            program: "virtiofsd",
            package: "virtiofsd",
            wanted: "A virtiofs folder",
        };
        let binary = Self::locate().ok_or_else(missing)?;
        let said = tool::run(&binary, ["--help"], PATIENCE).await.map_err(|_| missing())?;
        let help = String::from_utf8_lossy(&said.stdout);
        let kind = if help.contains("--shared-dir") {
            let has = help.contains("--readonly");
            Kind::Rust { read_only: if has { Support::Has } else { Support::Lacks } }
        } else {
            Kind::Classic
        };
        Ok(Self { binary, kind })
    }

    /// Whether this user can run it, and if not why.
    ///
    /// # Errors
    /// What is missing.
    pub fn usable(&self) -> Result<(), CompanionError> {
        match (self.kind, Rights::of_this_process()) {
            (Kind::Classic, Rights::Bare) => Err(CompanionError::Missing {
                program: "newuidmap",
                package: "uidmap",
                wanted: "A virtiofs folder of an ordinary user",
            }),
            _ => Ok(()),
        }
    }

    fn command(&self, share: &Share, socket: i32) -> Result<Command, CompanionError> {
        self.usable()?;
        if share.read_only && !matches!(self.kind, Kind::Rust { read_only: Support::Has }) {
            return Err(CompanionError::Unable {
                reason: format!("This virtiofsd cannot keep the guest from writing to “{}”.", share.tag),
                hint: "Share the folder over 9p, or allow writing to it.",
            });
        }
        let rights = Rights::of_this_process();
        let mut words: Vec<OsString> = Vec::new();
        if rights == Rights::Mapped {
            // Root of a namespace: the user himself; other users of the guest: ids that are only his.
            words.extend(["unshare", "--map-root-user", "--map-auto", "--"].map(OsString::from));
        }
        words.push(self.binary.clone().into_os_string());
        words.push(format!("--fd={socket}").into());
        match self.kind {
            Kind::Classic => {
                words.push("-o".into());
                words.push(format!("source={}", escape(&share.folder)).into());
            }
            Kind::Rust { .. } => {
                words.push("--shared-dir".into());
                words.push(share.folder.clone().into_os_string());
                words.push("--sandbox".into());
                words.push(match rights {
                    Rights::Root => "namespace".into(),
                    Rights::Mapped => "chroot".into(),
                    Rights::Bare => "none".into(),
                });
                if share.read_only {
                    words.push("--readonly".into());
                }
            }
        }
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        Ok(command)
    }
}

/// A path in an option list: commas and backslashes do not separate after a backslash.
fn escape(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "\\\\").replace(',', "\\,")
}

/// Starts the server of a folder, its socket at [`RunDir::share`].
///
/// # Errors
/// [`CompanionError`]; nothing runs then. A folder that cannot be used shows in its end.
pub fn virtiofsd(
    companions: &mut Companions,
    dir: &RunDir,
    found: &Virtiofsd,
    share: &Share,
) -> Result<(), CompanionError> {
    let mut inherited = Inherited::default();
    let command = found.command(share, crate::process::FIRST_INHERITED)?;
    inherited.add(listen(&dir.share(&share.id))?.into());
    companions.start(CompanionKind::Share, Some(&share.id), command, inherited)
}
