//! Which QEMU, acceleration and firmware this host has. Looked at once, and again only when the program's file changed: a start
//! pays one `stat` for it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Mutex;
use voidvm_model::spec::Firmware;
use voidvm_model::system::AccelReport;
use voidvm_model::{ErrorBody, ErrorCode};
use voidvm_qemu::firmware::{self, Ovmf};
use voidvm_qemu::image::QemuImg;
use voidvm_qemu::probe::{self, Capabilities};

/// One QEMU, looked at.
#[derive(Debug)]
pub(crate) struct Qemu {
    pub(crate) binary: PathBuf,
    pub(crate) capabilities: Capabilities,
    fingerprint: Fingerprint,
}

impl Qemu {
    pub(crate) fn version(&self) -> String {
        self.capabilities.version.to_string()
    }

    /// This very program: another build of the same version is another one.
    pub(crate) fn identity(&self) -> String {
        let Fingerprint { path, inode, size, modified: (seconds, nanoseconds) } = &self.fingerprint;
        format!("{} {} {inode} {size} {seconds}.{nanoseconds}", self.version(), path.display())
    }
}

/// What tells one program file from another at the same path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fingerprint {
    path: PathBuf,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Fingerprint {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            path: path.to_owned(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// The host's QEMU and what belongs to it.
#[derive(Debug)]
pub(crate) struct Platform {
    state_dir: PathBuf,
    qemu: Mutex<Option<Arc<Qemu>>>,
    accel: Mutex<Option<(Fingerprint, AccelReport)>>,
}

impl Platform {
    pub(crate) fn new(state_dir: PathBuf) -> Self {
        Self { state_dir, qemu: Mutex::default(), accel: Mutex::default() }
    }

    /// The QEMU that is set, or the one on PATH.
    ///
    /// # Errors
    /// Why there is none to use.
    pub(crate) async fn qemu(&self, configured: Option<PathBuf>) -> Result<Arc<Qemu>, ErrorBody> {
        let configured = configured.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        let binary = probe::locate(&configured).map_err(|error| error.body())?;
        let mut known = self.qemu.lock().await;
        let fingerprint = Fingerprint::of(&binary);
        if let (Some(qemu), Some(fingerprint)) = (&*known, &fingerprint)
            && qemu.fingerprint == *fingerprint
        {
            return Ok(Arc::clone(qemu));
        }
        let capabilities = Capabilities::of(&binary).await.map_err(|error| error.body())?;
        let fingerprint = fingerprint.ok_or_else(|| {
            ErrorBody::new(ErrorCode::QemuNotFound, format!("{} is not there.", binary.display()))
                .with_hint("Install the package qemu-system-x86, or set another QEMU in the settings.")
        })?;
        let qemu = Arc::new(Qemu { binary, capabilities, fingerprint });
        *known = Some(Arc::clone(&qemu));
        Ok(qemu)
    }

    /// Whether guests really run under KVM with this QEMU. The first time a guest of ours is tried, for two seconds at most.
    pub(crate) async fn accel(&self, qemu: &Qemu) -> AccelReport {
        let mut known = self.accel.lock().await;
        if let Some((fingerprint, report)) = &*known
            && *fingerprint == qemu.fingerprint
        {
            return report.clone();
        }
        let report = probe::accel(&qemu.capabilities, &self.state_dir.join("accel.json")).await;
        *known = Some((qemu.fingerprint.clone(), report.clone()));
        report
    }
}

/// The `qemu-img` that belongs to it. Works without a usable QEMU.
///
/// # Errors
/// [`ErrorCode::QemuNotFound`].
pub(crate) fn qemu_img(configured: Option<PathBuf>) -> Result<QemuImg, ErrorBody> {
    let configured = configured.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    let qemu = probe::locate(&configured).unwrap_or_else(|_| probe::BINARY.into());
    probe::locate_qemu_img(&qemu).map(QemuImg::new).ok_or_else(|| {
        ErrorBody::new(ErrorCode::QemuNotFound, "qemu-img is not installed.")
            .with_hint("Install the package qemu-utils.")
    })
}

/// UEFI firmware, of the kind that is wanted.
///
/// # Errors
/// [`ErrorCode::FirmwareMissing`].
pub(crate) fn firmware(wanted: Firmware) -> Result<Ovmf, ErrorBody> {
    firmware::find(wanted).ok_or_else(|| {
        let what = match wanted {
            Firmware::UefiSecure => "UEFI firmware (OVMF) with Secure Boot and its keys is not installed.",
            Firmware::Uefi | Firmware::Bios => "UEFI firmware (OVMF) is not installed.",
        };
        ErrorBody::new(ErrorCode::FirmwareMissing, what)
            .with_field("firmware")
            .with_hint("Install the package ovmf, or choose BIOS.")
    })
}
