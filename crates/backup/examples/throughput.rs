//! Measures a full backup, an incremental one, a restore and a verify of raw images against `restic` on the same files, in one run:
//!
//! ```text
//! cargo run --release -p voidvm-backup --example throughput [MiB]
//! ```
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement for a person at a terminal")]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use voidvm_backup::{
    BackupDone, BackupId, BackupRequest, Base, Consistency, Depth, DiskInput, FileSource, MachineInput,
    Password, Protection, Repository, SparseFile,
};
use voidvm_model::VmId;

const MIB: u64 = 1 << 20;

fn main() {
    let size = std::env::args().nth(1).map_or(1024, |argument| argument.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    println!("{size} MiB, seconds and MiB/s; bytes of the repository afterwards");
    for (name, compressible) in [("incompressible", false), ("compressible", true)] {
        let image = dir.path().join("image.raw");
        make(&image, size, compressible);
        println!("{name}:");
        let password = Password::generate().unwrap();
        let ours = dir.path().join("ours");
        let repository = Repository::init(&ours, &Protection::Password(password.clone())).unwrap();
        let vm = VmId::new();

        let start = Instant::now();
        let done = back_up(&repository, vm, &image, None);
        row("  ours: full backup", start.elapsed(), size, done.added);
        let dirty = (0..size / 20).map(|at| at * 20 * MIB..at * 20 * MIB + MIB).collect();
        let start = Instant::now();
        let second = back_up(&repository, vm, &image, Some(Base { backup: done.id, dirty }));
        row("  ours: on top, one MiB in 20 dirty", start.elapsed(), size, second.added);
        let back = dir.path().join("back.raw");
        let start = Instant::now();
        restore(&repository, done.id, &back);
        row("  ours: restore", start.elapsed(), size, 0);
        std::fs::remove_file(&back).unwrap();
        let start = Instant::now();
        assert!(repository.verify(Depth::Data, &()).unwrap().problems.is_empty());
        row("  ours: verify, reading all", start.elapsed(), size, 0);

        let theirs = dir.path().join("theirs");
        restic(&theirs, &["init", "--repository-version", "2"]);
        let start = Instant::now();
        restic(&theirs, &["backup", image.to_str().unwrap()]);
        row("  restic: full backup", start.elapsed(), size, bytes(&theirs));
        let start = Instant::now();
        restic(&theirs, &["restore", "latest", "--target", dir.path().join("out").to_str().unwrap()]);
        row("  restic: restore", start.elapsed(), size, 0);
        let start = Instant::now();
        restic(&theirs, &["check", "--read-data"]);
        row("  restic: check --read-data", start.elapsed(), size, 0);
        for gone in [&ours, &theirs, &dir.path().join("out")] {
            std::fs::remove_dir_all(gone).unwrap();
        }
    }
}

fn row(what: &str, took: Duration, size: u64, added: u64) {
    let seconds = took.as_secs_f64();
    let rate = size as f64 / seconds;
    println!(
        "{what:<38} {seconds:>7.2} s {rate:>7.0} MiB/s {:>12}",
        if added == 0 { String::new() } else { added.to_string() }
    );
}

/// Bytes no program can make smaller; or lines of a log, as a disk holds them.
fn make(path: &Path, size: u64, compressible: bool) {
    let mut file = File::create(path).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut block = Vec::new();
    for _ in 0..size {
        block.clear();
        while (block.len() as u64) < MIB {
            let number = next();
            if compressible {
                writeln!(
                    block,
                    "2026-11-22T02:00:00 host service[{}]: request {} took {} ms",
                    number % 977,
                    number >> 40,
                    number % 89
                )
                .unwrap();
            } else {
                block.extend_from_slice(&number.to_le_bytes());
            }
        }
        block.truncate(1 << 20);
        file.write_all(&block).unwrap();
    }
    file.sync_all().unwrap();
}

fn back_up(repository: &Repository, id: VmId, image: &Path, base: Option<Base>) -> BackupDone {
    let mut source = FileSource::open(image).unwrap();
    let machine = MachineInput {
        id,
        name: "measured".into(),
        consistency: Consistency::Stopped,
        specification: serde_json::Value::Null,
        disks: vec![DiskInput { file: "disk0.raw".into(), source: &mut source, base }],
        files: Vec::new(),
    };
    let taken = jiff::Timestamp::now();
    repository.backup(BackupRequest { taken, tags: Vec::new(), machines: vec![machine] }, &()).unwrap()
}

fn restore(repository: &Repository, backup: BackupId, to: &Path) {
    let sink = SparseFile::create(to).unwrap();
    repository.restore(backup, ("measured", "disk0.raw"), &sink, &()).unwrap();
}

fn restic(repository: &Path, arguments: &[&str]) {
    let mut command = Command::new("restic");
    command
        .args(["--no-cache", "--quiet", "--repo"])
        .arg(repository)
        .args(arguments)
        .env("RESTIC_PASSWORD", "x");
    assert!(command.status().unwrap().success());
}

fn bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { bytes(&path) } else { path.metadata().unwrap().len() }
        })
        .sum()
}
