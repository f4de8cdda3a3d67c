//! A file system of a few megabytes, to be filled up or made read-only.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts one of `kib` KiB. `None`, with the reason on stderr, where this user may not mount: the test is then skipped.
    ///
    /// # Panics
    /// When no temporary directory can be made.
    #[must_use]
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    pub fn mount(kib: u32) -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("vv-disk-").tempdir().expect("a temporary directory");
        let path = dir.path().to_owned();
        match run("mount", &["-t", "tmpfs", "-o", &format!("size={kib}k,mode=0700"), "tmpfs"], &path) {
            Ok(()) => Some(Self { path, _dir: dir }),
            Err(reason) => {
                eprintln!("skipped: no small disk can be mounted here ({reason})");
                None
            }
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills what is left of it with one file, whose path it gives: removing it makes room again.
    ///
    /// # Panics
    /// When something other than a full disk ends the writing.
    #[must_use]
    pub fn fill(&self) -> PathBuf {
        use std::io::Write as _;
        let path = self.path.join("filler");
        let mut file = std::fs::File::create(&path).expect("a file to fill the disk with");
        for block in [64 * 1024, 4096, 1] {
            let bytes = vec![0_u8; block];
            while file.write_all(&bytes).is_ok() {}
        }
        path
    }

    /// Remounts it read-only.
    ///
    /// # Panics
    /// When it cannot.
    pub fn make_read_only(&self) {
        run("mount", &["-o", "remount,ro"], &self.path).expect("a read-only remount");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(reason) = run("umount", &["--lazy"], &self.path) {
            assert!(std::thread::panicking(), "{}: {reason}", self.path.display());
        }
    }
}

fn run(program: &str, args: &[&str], path: &Path) -> Result<(), String> {
    let output = Command::new(program).args(args).arg(path).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
