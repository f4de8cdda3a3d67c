//! Programs of this workspace for tests of other packages, built when they are missing or older than a source file.
//!
//! Cargo builds a package's programs only for that package's own tests, so a test that needs another one's asks here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::SystemTime;

/// The workspace's directory.
///
/// # Panics
/// Never: this file is two levels below it.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .and_then(Path::parent)
        .expect("crates/testkit is in a workspace")
}

/// The program `name` of `package`, up to date, in the profile and target directory this test was built with.
///
/// `VOIDVM_TEST_BIN_DIR` names a directory of ready-made programs instead.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn program(package: &str, name: &str) -> PathBuf {
    // Once for each test process: a test goes on with the program it began with.
    static FOUND: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut found = FOUND.lock().expect("no test panics in here twice");
    if let Some(path) = found.get(name) {
        return path.clone();
    }
    let path = build(package, name);
    found.insert(name.to_owned(), path.clone());
    path
}

fn build(package: &str, name: &str) -> PathBuf {
    if let Some(dir) = std::env::var_os("VOIDVM_TEST_BIN_DIR") {
        return PathBuf::from(dir).join(name);
    }
    let profile_dir = profile_dir();
    let path = profile_dir.join(name);
    let stamp = profile_dir.join(format!(".{name}.fresh"));
    let sources = match package {
        "voidvm-testkit" => &["crates/testkit", "crates/model"][..],
        _ => &["crates", "migrations"],
    };
    let sources = sources
        .iter()
        .map(|dir| newest(&workspace().join(dir)))
        .max()
        .max(Some(modified(&workspace().join("Cargo.lock"))))
        .unwrap_or(SystemTime::UNIX_EPOCH);
    let is_fresh = || path.exists() && modified(&stamp) > sources;
    if is_fresh() {
        return path;
    }
    // One test builds; those beside it wait here and then find it fresh.
    let lock = std::fs::File::create(profile_dir.join(format!(".{name}.lock"))).expect("a lock file");
    lock.lock().expect("the lock");
    if is_fresh() {
        return path;
    }
    let began = SystemTime::now();
    let target = profile_dir.parent().expect("a target directory");
    let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    cargo.current_dir(workspace()).arg("build").args(["--package", package, "--bin", name]);
    cargo.arg("--target-dir").arg(target);
    if profile_dir.ends_with("release") {
        cargo.arg("--release");
    }
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "{name} cannot be built:\n{}", String::from_utf8_lossy(&output.stderr));
    let file = std::fs::File::create(&stamp).expect("a stamp");
    file.set_modified(began).expect("the stamp's time");
    path
}

/// `target/debug`, from `target/debug/deps/test-…` or `target/debug/program`.
fn profile_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("this program's path");
    let dir = exe.parent().expect("a directory");
    if dir.ends_with("deps") {
        dir.parent().expect("a profile's directory").to_owned()
    } else {
        dir.to_owned()
    }
}

fn modified(path: &Path) -> SystemTime {
    std::fs::metadata(path).and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// When a source file below `dir` was last changed.
fn newest(dir: &Path) -> SystemTime {
    let Ok(entries) = std::fs::read_dir(dir) else { return SystemTime::UNIX_EPOCH };
    entries
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => match entry.file_name().to_str() {
                Some("tests" | "guest" | "snapshots" | "benches") => SystemTime::UNIX_EPOCH,
                _ => newest(&entry.path()),
            },
            _ => modified(&entry.path()),
        })
        .max()
        .unwrap_or(SystemTime::UNIX_EPOCH)
}
