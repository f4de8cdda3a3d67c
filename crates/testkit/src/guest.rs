//! The small real guest: an image that boots in seconds, says so on its serial line and serves HTTP.

use std::path::PathBuf;
use std::process::Command;

use crate::program::workspace;

/// The directory with `disk.qcow2`, `guest.iso`, `vmlinuz` and `initrd.img`: `VOIDVM_TEST_GUEST`, or `target/guest`, where it
/// is built on demand.
///
/// # Panics
/// When it cannot be built; the recipe's own words are shown.
#[must_use]
pub fn guest() -> PathBuf {
    if let Some(dir) = std::env::var_os("VOIDVM_TEST_GUEST") {
        return dir.into();
    }
    let dir = workspace().join("target/guest");
    // One test builds; those beside it wait.
    std::fs::create_dir_all(&dir).expect("target/guest");
    let lock = std::fs::File::create(dir.with_extension("lock")).expect("a lock file");
    lock.lock().expect("the lock");
    if !dir.join("guest.iso").exists() {
        let output = Command::new(workspace().join("crates/testkit/guest/build.sh"))
            .arg(&dir)
            .output()
            .expect("the guest's recipe runs");
        assert!(
            output.status.success(),
            "the small guest cannot be built (`./dev guest` installs what it needs):\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    dir
}
