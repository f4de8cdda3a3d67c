//! Disks in memory, random writes, and Debian's own `restic`.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

use voidvm_backup::{
    BackupDone, BackupId, BackupRequest, Base, Consistency, DiskInput, DiskSink, DiskSource, MachineInput,
    Password, Protection, Repository, SmallFile, Watch,
};
use voidvm_model::{ErrorBody, VmId};

pub const MIB: usize = 1 << 20;

/// Numbers that look random and are the same each time.
pub struct Dice(u64);

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// A disk in memory that remembers what was read and what changed since it was asked last.
pub struct MemoryDisk {
    pub content: Vec<u8>,
    pub dirty: Vec<Range<u64>>,
    pub reads: Vec<Range<u64>>,
}

impl MemoryDisk {
    /// Half of it written, the rest zeros.
    pub fn new(size: usize, dice: &mut Dice) -> Self {
        let mut content = vec![0; size];
        let half = dice.bytes(size / 2);
        content[size / 4..size / 4 + half.len()].copy_from_slice(&half);
        Self { content, dirty: Vec::new(), reads: Vec::new() }
    }

    pub fn write(&mut self, offset: usize, data: &[u8]) {
        self.content[offset..offset + data.len()].copy_from_slice(data);
        self.dirty.push(offset as u64..(offset + data.len()) as u64);
    }

    /// A few writes here and there, some of zeros.
    pub fn scribble(&mut self, dice: &mut Dice) {
        for _ in 0..=dice.below(4) {
            let length = 1 + dice.below(200_000.min(self.content.len()));
            let offset = dice.below(self.content.len() - length + 1);
            let data = if dice.below(4) == 0 { vec![0; length] } else { dice.bytes(length) };
            self.write(offset, &data);
        }
    }
}

impl DiskSource for MemoryDisk {
    fn size(&self) -> u64 {
        self.content.len() as u64
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&self.content[at..at + buffer.len()]);
        self.reads.push(offset..offset + buffer.len() as u64);
        Ok(())
    }
}

/// A disk in memory that is restored to.
#[derive(Default)]
pub struct MemorySink(pub Mutex<Vec<u8>>);

impl DiskSink for MemorySink {
    fn set_size(&self, size: u64) -> io::Result<()> {
        self.0.lock().unwrap().resize(usize::try_from(size).unwrap(), 0);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        self.0.lock().unwrap()[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn finish(&self) -> io::Result<()> {
        Ok(())
    }
}

pub fn machine_id() -> VmId {
    "0197a1b2-0000-4000-8000-000000000001".parse().unwrap()
}

/// A backup of a machine called `web`, on top of `parent`; the disks' dirty ranges begin anew.
pub fn back_up(
    repository: &Repository,
    disks: &mut [MemoryDisk],
    parent: Option<BackupId>,
    watch: &dyn Watch,
) -> Result<BackupDone, ErrorBody> {
    let inputs = disks.iter_mut().enumerate().map(|(number, disk)| {
        let dirty = std::mem::take(&mut disk.dirty);
        DiskInput {
            file: format!("disk{number}.raw"),
            source: disk,
            base: parent.map(|backup| Base { backup, dirty }),
        }
    });
    let machine = MachineInput {
        id: machine_id(),
        name: "web".into(),
        consistency: Consistency::Frozen,
        specification: serde_json::json!({ "memory": 1024, "name": "web" }),
        disks: inputs.collect(),
        files: vec![
            SmallFile { path: "uefi-vars.fd".into(), content: vec![7; 3 * MIB / 2] },
            SmallFile { path: "tpm/tpm2-00.permall".into(), content: b"secrets of a chip".to_vec() },
            SmallFile { path: "notes \"quoted\" 笔记.md".into(), content: Vec::new() },
        ],
    };
    let taken = "2026-11-22T02:00:00.123456789Z".parse().unwrap();
    repository.backup(BackupRequest { taken, tags: vec!["auto".into()], machines: vec![machine] }, watch)
}

/// A disk of a backup.
pub fn content_of(repository: &Repository, backup: BackupId, disk: usize) -> Result<Vec<u8>, ErrorBody> {
    let sink = MemorySink::default();
    repository.restore(backup, ("web", &format!("disk{disk}.raw")), &sink, &())?;
    Ok(sink.0.into_inner().unwrap())
}

/// A repository with a generated password.
pub fn repository(dir: &Path) -> (Repository, Password) {
    let password = Password::generate().unwrap();
    (Repository::init(dir, &Protection::Password(password.clone())).unwrap(), password)
}

/// Every file below a directory.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Debian's `restic` on a repository, and what it said.
pub fn restic(repository: &Path, password: &Password, arguments: &[&str]) -> Output {
    Command::new("restic")
        .arg("--no-cache")
        .arg("--repo")
        .arg(repository)
        .args(arguments)
        .env("RESTIC_PASSWORD", password.reveal())
        .output()
        .expect("restic runs; ./dev test installs it")
}

/// As [`restic`], and it is content.
pub fn restic_agrees(repository: &Path, password: &Password, arguments: &[&str]) -> String {
    let output = restic(repository, password, arguments);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "restic {arguments:?}: {said}{complained}");
    said
}
