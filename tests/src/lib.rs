//! What the black-box tests share: media to make machines of, and requests.
//!
//! These tests know the product by its programs, its REST interface and its files, never by its crates' insides.
#![expect(clippy::expect_used, clippy::panic, reason = "for tests: a failure panics with what was seen")]

pub mod snapshots;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use voidvm_model::{Operation, OperationStatus};
use voidvm_testkit::Client;

/// An ISO 9660 file system without files: enough to be taken for an installation medium.
///
/// # Panics
/// When it cannot be written.
#[must_use]
pub fn make_iso(dir: &Path) -> PathBuf {
    const SECTOR: usize = 2048;
    const SECTORS: u32 = 24;
    let mut bytes = vec![0_u8; SECTOR * SECTORS as usize];
    let volume = &mut bytes[16 * SECTOR..17 * SECTOR];
    volume[0] = 1;
    volume[1..6].copy_from_slice(b"CD001");
    volume[6] = 1;
    volume[40..72].fill(b' ');
    volume[40..47].copy_from_slice(b"TESTISO");
    volume[80..84].copy_from_slice(&SECTORS.to_le_bytes());
    volume[84..88].copy_from_slice(&SECTORS.to_be_bytes());
    volume[128..130].copy_from_slice(&2048_u16.to_le_bytes());
    volume[130..132].copy_from_slice(&2048_u16.to_be_bytes());
    let end = &mut bytes[17 * SECTOR..18 * SECTOR];
    end[0] = 255;
    end[1..6].copy_from_slice(b"CD001");
    end[6] = 1;
    let path = dir.join("medium.iso");
    std::fs::write(&path, bytes).expect("the ISO");
    path
}

/// A raw disk of `mib` MiB with a partition table and no hole, so that copying it takes a while.
///
/// # Panics
/// When it cannot be written.
#[must_use]
pub fn make_disk(dir: &Path, mib: u32) -> PathBuf {
    let mut bytes = vec![0xa5_u8; (mib as usize) << 20];
    bytes[446..510].fill(0);
    // One partition of type Linux, from sector 1 to the end.
    bytes[450] = 0x83;
    bytes[454..458].copy_from_slice(&1_u32.to_le_bytes());
    bytes[458..462].copy_from_slice(&((mib << 11) - 1).to_le_bytes());
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    let path = dir.join("disk.raw");
    std::fs::write(&path, bytes).expect("the disk");
    path
}

/// A request for a machine with a copy of `image`.
#[must_use]
pub fn copy_request(name: &str, image: &Path) -> Value {
    json!({"name": name, "memory": 64, "accel": "tcg", "source": {"kind": "image_copy", "path": image}})
}

/// A request for a machine that boots from `iso` and has a small disk of its own.
#[must_use]
pub fn create_request(name: &str, iso: &Path) -> Value {
    json!({
        "name": name, "memory": 64, "cpus": 1, "accel": "tcg",
        "source": {"kind": "iso", "path": iso, "diskSize": 1 << 20},
    })
}

/// SplitMix64: small, and the same everywhere.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number, below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// How often a crash test kills (`VOIDVM_CRASH_ROUNDS`), and what it draws its moments from (`VOIDVM_CRASH_SEED`): said on
/// stderr, so that a failure can be had again.
#[must_use]
#[expect(clippy::print_stderr, reason = "what a failure needs to be repeated")]
pub fn crash_plan(usual_rounds: u64) -> (u64, u64, Random) {
    let number = |variable: &str| std::env::var(variable).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("VOIDVM_CRASH_ROUNDS").unwrap_or(usual_rounds);
    let seed = number("VOIDVM_CRASH_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("seed {seed}");
    (rounds, seed, Random(seed))
}

/// A tool's exit code.
///
/// # Panics
/// When it cannot be run.
#[must_use]
pub fn tool(program: &str, args: &[&str]) -> Option<i32> {
    Command::new(program).args(args).output().expect("the tool runs").status.code()
}

/// Asks for an operation that must succeed.
///
/// # Panics
/// When it does not.
pub fn done(client: &Client, command: &str, payload: &Value) -> Operation {
    let operation = client.operate(command, payload).unwrap_or_else(|error| panic!("{command}: {error:?}"));
    assert_eq!(operation.status, OperationStatus::Succeeded, "{command}: {operation:?}");
    operation
}

/// Nothing half made is left below a directory.
///
/// # Panics
/// When something is.
pub fn no_rests(dir: &Path, context: &str) {
    for entry in std::fs::read_dir(dir).expect("the directory").flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let unfinished = [".part", ".compact", ".mended", ".head"].iter().any(|end| name.ends_with(end));
        assert!(!unfinished, "{context}: {} is left", path.display());
        if path.is_dir() {
            no_rests(&path, context);
        }
    }
}
