//! Which QEMU this is, and whether KVM really works.
//!
//! Neither is assumed: the version comes from running the program, and KVM counts only when a guest of ours ran under it.

mod accel;
mod offers;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use voidvm_model::{ErrorBody, ErrorCode};

pub use accel::accel;
pub use offers::{MachineTypes, Offers};

use crate::tool::{self, RunError};

/// The oldest QEMU that is supported: Debian 12's.
pub const OLDEST: QemuVersion = QemuVersion { major: 7, minor: 2, micro: 0 };
/// The program's name on `PATH`.
pub const BINARY: &str = "qemu-system-x86_64";
/// How long QEMU may take to say its version.
const PATIENCE: Duration = Duration::from_secs(5);

/// A version of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QemuVersion {
    /// 7 in 7.2.22.
    pub major: u32,
    /// 2 in 7.2.22.
    pub minor: u32,
    /// 22 in 7.2.22.
    pub micro: u32,
}

impl QemuVersion {
    /// Reads `QEMU emulator version 7.2.22 (Debian …)`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.lines().next()?.split_once("version ")?;
        let number = rest.split([' ', '(', '-']).next()?;
        let mut parts = number.split('.').map(str::parse);
        Some(Self {
            major: parts.next()?.ok()?,
            minor: parts.next()?.ok()?,
            micro: parts.next().and_then(Result::ok).unwrap_or(0),
        })
    }
}

impl std::fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// What one QEMU binary can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The program, absolute.
    pub binary: PathBuf,
    /// Its version, [`OLDEST`] or newer.
    pub version: QemuVersion,
    /// Whether it was built with KVM.
    pub kvm: bool,
    /// Devices, by their driver's name (`virtio-vga`).
    pub devices: Offers,
    /// Network backends (`user`, `stream`).
    pub netdevs: Offers,
    /// Character devices (`qemu-vdagent`).
    pub chardevs: Offers,
    /// Sound backends (`pipewire`, `pa`).
    pub audiodevs: Offers,
    /// CPU models (`qemu64`, `Skylake-Client-v3`).
    pub cpu_models: Offers,
    /// Machine types (`pc-q35-7.2`).
    pub machines: MachineTypes,
}

/// Why there is no QEMU to use.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// There is no such program.
    #[error("{} is not there", binary.display())]
    NotFound {
        /// The program, or its name when it was looked for on `PATH`.
        binary: PathBuf,
    },
    /// The program may not be run.
    #[error("{} cannot be run: {source}", binary.display())]
    Exec {
        /// The program.
        binary: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// It is older than [`OLDEST`].
    #[error("QEMU {found} is older than {OLDEST}")]
    TooOld {
        /// Its version.
        found: QemuVersion,
    },
    /// It ended with an error instead of saying its version.
    #[error("{} ends at once: {stderr}", binary.display())]
    Dies {
        /// The program.
        binary: PathBuf,
        /// Its own words.
        stderr: String,
    },
    /// It did not say its version in time, and was killed.
    #[error("{} does not answer", binary.display())]
    Hangs {
        /// The program.
        binary: PathBuf,
    },
    /// What it says is not what QEMU says.
    #[error("{} is not QEMU: it says {said:?}", binary.display())]
    Garbage {
        /// The program.
        binary: PathBuf,
        /// The first line it said.
        said: String,
    },
}

impl ProbeError {
    /// The error as everybody is shown it.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        let text = self.to_string();
        match self {
            Self::NotFound { .. } => ErrorBody::new(ErrorCode::QemuNotFound, "QEMU is not installed.")
                .with_hint("Install the package qemu-system-x86, or set another QEMU in the settings."),
            Self::TooOld { found } => {
                ErrorBody::new(ErrorCode::QemuTooOld, format!("QEMU {found} is too old."))
                    .with_hint(format!("Install QEMU {}.{} or newer.", OLDEST.major, OLDEST.minor))
            }
            Self::Dies { stderr, .. } => {
                ErrorBody::new(ErrorCode::QemuFailed, "QEMU ends as soon as it is started.")
                    .with_hint("Run it in a terminal; reinstall the package if it does the same there.")
                    .with_detail("stderr", stderr.as_str())
            }
            Self::Hangs { .. } => {
                ErrorBody::new(ErrorCode::QemuUnresponsive, "QEMU does not say its version.")
                    .with_hint("Check the QEMU program that is set in the settings.")
            }
            Self::Exec { .. } | Self::Garbage { .. } => {
                ErrorBody::new(ErrorCode::QemuFailed, "The QEMU program in the settings is not QEMU.")
                    .with_hint("Set the path of qemu-system-x86_64, or leave the setting empty.")
            }
        }
        .with_detail("reason", text)
    }
}

/// The QEMU program: the one that is set, or the one on `PATH` when `configured` is empty.
///
/// # Errors
/// [`ProbeError::NotFound`].
pub fn locate(configured: &str) -> Result<PathBuf, ProbeError> {
    if configured.is_empty() {
        return on_path(BINARY).ok_or_else(|| ProbeError::NotFound { binary: BINARY.into() });
    }
    let binary = PathBuf::from(configured);
    if binary.is_absolute() && binary.is_file() { Ok(binary) } else { Err(ProbeError::NotFound { binary }) }
}

/// `qemu-img`: the one beside this QEMU, else the one on `PATH`.
#[must_use]
pub fn locate_qemu_img(qemu: &Path) -> Option<PathBuf> {
    let beside = qemu.with_file_name("qemu-img");
    if beside.is_absolute() && is_program(&beside) { Some(beside) } else { on_path("qemu-img") }
}

pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|candidate| is_program(candidate))
}

pub(crate) fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

impl Capabilities {
    /// Asks a QEMU binary what it is.
    ///
    /// # Errors
    /// [`ProbeError`], each a different defect with a different remedy.
    pub async fn of(binary: &Path) -> Result<Self, ProbeError> {
        let binary = binary.to_owned();
        let run = async |args: &[&str]| tool::run(&binary, args, PATIENCE).await;
        let said = match run(&["--version"]).await {
            Ok(finished) => finished,
            Err(RunError::Hangs) => return Err(ProbeError::Hangs { binary }),
            Err(RunError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ProbeError::NotFound { binary });
            }
            Err(RunError::Io(source)) => return Err(ProbeError::Exec { binary, source }),
        };
        if !said.status.success() {
            return Err(ProbeError::Dies { binary, stderr: said.stderr });
        }
        let text = crate::failure::plain_text(&said.stdout);
        let Some(version) = text.starts_with("QEMU").then(|| QemuVersion::parse(&text)).flatten() else {
            let said = text.lines().next().unwrap_or_default().chars().take(200).collect();
            return Err(ProbeError::Garbage { binary, said });
        };
        if version < OLDEST {
            return Err(ProbeError::TooOld { found: version });
        }
        let question = async |args: &[&str]| {
            let said = run(args).await.ok().filter(|finished| finished.status.success())?;
            Some(String::from_utf8_lossy(&said.stdout).into_owned())
        };
        // Two at a time: QEMU loads all of its modules to answer.
        let ((devices, machines, cpus), (accels, netdevs, chardevs, audiodevs)) = tokio::join!(
            async {
                (
                    question(&["-device", "help"]).await,
                    question(&["-machine", "help"]).await,
                    question(&["-cpu", "help"]).await,
                )
            },
            async {
                (
                    question(&["-accel", "help"]).await,
                    question(&["-netdev", "help"]).await,
                    question(&["-chardev", "help"]).await,
                    question(&["-audiodev", "help"]).await,
                )
            },
        );
        Ok(Self {
            binary,
            version,
            kvm: accels.is_some_and(|text| text.contains("kvm")),
            devices: Offers::of_devices(devices.as_deref()),
            netdevs: Offers::of_words(netdevs.as_deref()),
            chardevs: Offers::of_words(chardevs.as_deref()),
            audiodevs: Offers::of_words(audiodevs.as_deref()),
            cpu_models: Offers::of_cpus(cpus.as_deref()),
            machines: MachineTypes::of(machines.as_deref()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        for (text, wanted) in [
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright", "7.2.22"),
            ("QEMU emulator version 10.1.0 (qemu-10.1.0-1.fc43)", "10.1.0"),
            ("QEMU emulator version 9.0.50 (v9.0.0-123-gabc)", "9.0.50"),
            ("QEMU emulator version 8.2", "8.2.0"),
        ] {
            assert_eq!(QemuVersion::parse(text).unwrap().to_string(), wanted);
        }
        for text in ["", "QEMU", "version ", "QEMU emulator version x.y"] {
            assert_eq!(QemuVersion::parse(text), None, "{text}");
        }
        assert!(QemuVersion { major: 7, minor: 1, micro: 99 } < OLDEST);
    }
}
