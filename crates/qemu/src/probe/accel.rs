//! Whether guests really run under KVM: that `/dev/kvm` opens proves nothing (some hosts emulate it so that no kernel boots).
//!
//! A guest of one sector (`guest.S`) goes into long mode as every kernel does and says one letter. The verdict holds until the
//! computer restarts or QEMU changes, and is kept in a file.
//!
//! ```text
//! not built in / no device / no permission ─▶ no (asked anew each time: it can be mended at once)
//! cached for this boot and this QEMU ───────▶ as before
//! the guest speaks within 2 s ──────────────▶ yes        else ─▶ no, with QEMU's words
//! ```

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use voidvm_model::system::AccelReport;
use voidvm_model::vm::ActiveAccel;

use super::Capabilities;
use crate::process::boot_id;
use crate::tool;

/// The guest of one sector.
const GUEST: &[u8; 512] = include_bytes!("guest.bin");
/// A disk the firmware takes for one; the sector's rest is empty.
const DISK_SIZE: u64 = 1 << 20;
/// How long the guest may take; where KVM works it needs a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(2);
const KVM: &str = "/dev/kvm";

/// What a probe found, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Verdict {
    boot_id: String,
    binary: PathBuf,
    version: String,
    /// Why KVM does not work; `None` where it does.
    trouble: Option<String>,
}

/// What acceleration this QEMU has on this computer. Runs a guest of its own for up to 2 s unless the verdict is in `cache`.
///
/// Never fails: whatever keeps KVM from being proved is the report's reason, and machines then run in software.
pub async fn accel(caps: &Capabilities, cache: &Path) -> AccelReport {
    report(trouble(caps, cache).await)
}

fn report(trouble: Option<String>) -> AccelReport {
    let kvm_works = trouble.is_none();
    let auto = if kvm_works { ActiveAccel::Kvm } else { ActiveAccel::Tcg };
    AccelReport { auto, kvm_works, reason: trouble }
}

async fn trouble(caps: &Capabilities, cache: &Path) -> Option<String> {
    if !caps.kvm {
        return Some("This QEMU was built without KVM.".to_owned());
    }
    match OpenOptions::new().read(true).write(true).open(KVM) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Some("This computer has no KVM: there is no /dev/kvm.".to_owned());
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Some("You may not use /dev/kvm.".to_owned());
        }
        Err(error) => return Some(format!("/dev/kvm cannot be opened: {error}.")),
    }
    let boot_id = boot_id().unwrap_or_default();
    let (binary, version) = (caps.binary.clone(), caps.version.to_string());
    let known: Option<Verdict> =
        std::fs::read(cache).ok().and_then(|text| serde_json::from_slice(&text).ok());
    if let Some(known) = known
        && (&known.boot_id, &known.binary, &known.version) == (&boot_id, &binary, &version)
    {
        return known.trouble;
    }
    let trouble = match run_guest(&caps.binary, ActiveAccel::Kvm, cache, PATIENCE).await {
        Ok(()) => None,
        Err(Silence::NotRun(error)) => return Some(format!("KVM could not be tried: {error}.")),
        Err(Silence::Late) => Some("KVM is there, but no guest runs under it.".to_owned()),
        Err(Silence::Died(words)) => {
            let first = words.lines().next().unwrap_or("it ended without a word");
            Some(format!("KVM is there, but QEMU fails with it: {first}"))
        }
    };
    let verdict = Verdict { boot_id, binary, version, trouble };
    if let Err(error) = keep(cache, &verdict) {
        tracing::warn!(%error, path = %cache.display(), "the verdict on KVM cannot be kept and is asked for anew");
    }
    verdict.trouble
}

fn keep(cache: &Path, verdict: &Verdict) -> io::Result<()> {
    let beside = cache.with_extension("part");
    std::fs::write(&beside, serde_json::to_vec(verdict)?)?;
    std::fs::rename(&beside, cache)
}

/// Why the guest did not speak.
#[derive(Debug)]
enum Silence {
    NotRun(io::Error),
    Late,
    Died(String),
}

/// Runs the guest until it speaks; its disk is written beside `place` and removed again.
async fn run_guest(binary: &Path, accel: ActiveAccel, place: &Path, within: Duration) -> Result<(), Silence> {
    let disk = GuestDisk::write(place).map_err(Silence::NotRun)?;
    let (accel, cpu) = match accel {
        ActiveAccel::Kvm => ("kvm", "host"),
        ActiveAccel::Tcg => ("tcg", "max"),
    };
    let blockdev = serde_json::json!({
        "driver": "raw", "node-name": "d", "read-only": true,
        "file": {"driver": "file", "filename": disk.0.to_string_lossy()},
    });
    let mut child = tool::command(binary)
        .args(["-accel", accel, "-cpu", cpu, "-machine", "q35", "-m", "64"])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"])
        .args(["-chardev", "stdio,id=c,signal=off", "-device", "isa-debugcon,iobase=0xe9,chardev=c"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"])
        .args(["-blockdev", &blockdev.to_string(), "-device", "virtio-blk-pci,drive=d,bootindex=0"])
        .spawn()
        .map_err(Silence::NotRun)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let work = async {
        let mut letter = [0; 1];
        if let Some(mut stdout) = stdout
            && stdout.read_exact(&mut letter).await.is_ok()
            && letter == *b"V"
        {
            return Ok(());
        }
        let mut words = Vec::new();
        if let Some(stderr) = stderr {
            let _ = stderr.take(4096).read_to_end(&mut words).await;
        }
        Err(Silence::Died(crate::failure::plain_text(&words)))
    };
    let verdict = tokio::time::timeout(within, work).await.unwrap_or(Err(Silence::Late));
    // Gone, and its status taken, before its disk is.
    let _ = child.kill().await;
    verdict
}

/// The guest's disk while it runs.
struct GuestDisk(PathBuf);

impl GuestDisk {
    fn write(place: &Path) -> io::Result<Self> {
        let disk = Self(place.with_extension(format!("{}.disk", std::process::id())));
        let mut file = std::fs::File::create(&disk.0)?;
        file.write_all(GUEST)?;
        file.set_len(DISK_SIZE)?;
        Ok(disk)
    }
}

impl Drop for GuestDisk {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The guest itself, and that its letter is heard: under TCG, which works everywhere.
    #[tokio::test]
    async fn real_the_guest_speaks() {
        let dir = tempfile::tempdir().unwrap();
        let binary = super::super::locate("").unwrap();
        run_guest(&binary, ActiveAccel::Tcg, &dir.path().join("accel"), Duration::from_secs(20))
            .await
            .unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "its disk is removed");
    }

    #[tokio::test]
    async fn real_a_program_that_dies_is_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("accel");
        let died = run_guest(Path::new("/bin/ls"), ActiveAccel::Kvm, &place, Duration::from_secs(20)).await;
        assert!(matches!(died, Err(Silence::Died(words)) if words.contains("ls")));
        let gone = run_guest(Path::new("/none"), ActiveAccel::Kvm, &place, Duration::from_secs(20)).await;
        assert!(matches!(gone, Err(Silence::NotRun(_))));
        let mute =
            run_guest(Path::new("/usr/bin/yes"), ActiveAccel::Kvm, &place, Duration::from_millis(50)).await;
        assert!(mute.is_err());
    }

    #[test]
    fn a_verdict_is_kept_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("accel.json");
        let verdict = Verdict {
            boot_id: "b".to_owned(),
            binary: "/q".into(),
            version: "7.2.0".to_owned(),
            trouble: Some("x".to_owned()),
        };
        keep(&cache, &verdict).unwrap();
        assert_eq!(serde_json::from_slice::<Verdict>(&std::fs::read(&cache).unwrap()).unwrap(), verdict);
        assert!(!report(verdict.trouble).kvm_works);
        assert_eq!(report(None).auto, ActiveAccel::Kvm);
    }
}
