//! A backup or a pruning that is killed: what was there is there, what is left over goes, and the next one works.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::panic, reason = "tests, and a child that speaks")]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use support::{Dice, MIB, MemoryDisk, back_up, content_of, repository, restic_agrees};
use voidvm_backup::{BackupId, Depth, Password, Progress, Repository, Stage, Watch};
use voidvm_model::ErrorCode;

/// Stops for good when the work has come to a point, and says that it has.
struct Halt {
    stage: Stage,
    left: AtomicU64,
}

impl Watch for Halt {
    fn progress(&self, progress: Progress) {
        if progress.stage == self.stage && self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            eprintln!("halted");
            // Until the parent, which holds the other end, kills this process.
            std::io::stdin().read_exact(&mut [0]).unwrap();
        }
    }
}

/// The content of the machine's disk the `n`th time.
fn disk(n: u64) -> MemoryDisk {
    let mut disk = MemoryDisk::new(40 * MIB, &mut Dice::new(30));
    for seed in 0..n {
        let dice = &mut Dice::new(31 + seed);
        let data = dice.bytes(20 * MIB);
        disk.write(10 * MIB, &data);
    }
    disk
}

/// What the child does; the parent runs this test program with this one test.
#[test]
fn child() {
    let Ok(order) = std::env::var("BACKUP_TEST_CHILD") else { return };
    let parts: Vec<&str> = order.split('|').collect();
    let [path, password, what, left] = parts.as_slice() else { panic!("{order}") };
    let repository = Repository::open(Path::new(path), Some(&Password::new((*password).into()))).unwrap();
    let left = AtomicU64::new(left.parse().unwrap());
    let stage = match *what {
        "reading" => Stage::Reading,
        "finishing" => Stage::Finishing,
        "marking" => Stage::Marking,
        "repacking" => Stage::Repacking,
        _ => Stage::Removing,
    };
    let halt = Halt { stage, left };
    match stage {
        Stage::Reading | Stage::Finishing => {
            back_up(&repository, &mut [disk(2)], None, &halt).unwrap();
        }
        _ => {
            repository.prune(&halt).unwrap();
        }
    }
    panic!("it did not come to {stage:?}");
}

fn halted(at: &Path, password: &Password, what: &str, left: u64) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env("BACKUP_TEST_CHILD", format!("{}|{}|{what}|{left}", at.display(), password.reveal()))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("halted") {
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "{line}");
    }
    child
}

struct Site {
    _dir: tempfile::TempDir,
    at: PathBuf,
    repository: Repository,
    password: Password,
    first: BackupId,
}

fn site() -> Site {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("r");
    let (repository, password) = repository(&at);
    let first = back_up(&repository, &mut [disk(0)], None, &()).unwrap().id;
    Site { _dir: dir, at, repository, password, first }
}

#[test]
fn a_killed_backup_leaves_nothing_that_stays() {
    for (what, left) in [("reading", 2), ("reading", 30), ("finishing", 1)] {
        let site = site();
        let before = support::files(&site.at.join("data"));
        let mut child = halted(&site.at, &site.password, what, left);
        assert_eq!(site.repository.prune(&()).unwrap_err().code, ErrorCode::Busy, "it is at work");
        child.kill().unwrap();
        child.wait().unwrap();

        assert!(content_of(&site.repository, site.first, 0).unwrap() == disk(0).content);
        let second = back_up(&site.repository, &mut [disk(1)], Some(site.first), &()).unwrap();
        assert_eq!(site.repository.backups().unwrap().backups.len(), 2);
        let verified = site.repository.verify(Depth::Data, &()).unwrap();
        assert!(verified.problems.is_empty(), "{:?}", verified.problems);
        let said = restic_agrees(&site.at, &site.password, &["check", "--read-data"]);
        assert!(said.contains("no errors were found"), "{said}");

        let pruned = site.repository.prune(&()).unwrap();
        assert_eq!(pruned.leftover > 0, verified.leftover > 0);
        // How far a backup had come that was still reading is the threads' affair.
        assert!(what == "reading" || pruned.leftover > 0, "{pruned:?}");
        assert_eq!(site.repository.verify(Depth::Data, &()).unwrap().leftover, 0);
        assert!(content_of(&site.repository, second.id, 0).unwrap() == disk(1).content);
        site.repository.forget(&[second.id]).unwrap();
        site.repository.prune(&()).unwrap();
        assert_eq!(support::files(&site.at.join("data")).len(), before.len(), "as before");
        assert!(support::files(&site.at.join("locks")).is_empty());
    }
}

#[test]
fn a_killed_pruning_removes_nothing_that_is_needed() {
    for (what, left) in [("marking", 1), ("repacking", 1), ("removing", 1)] {
        let site = site();
        let second = back_up(&site.repository, &mut [disk(1)], None, &()).unwrap().id;
        site.repository.forget(&[site.first]).unwrap();
        let mut child = halted(&site.at, &site.password, what, left);
        assert_eq!(back_up(&site.repository, &mut [disk(2)], None, &()).unwrap_err().code, ErrorCode::Busy);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(content_of(&site.repository, second, 0).unwrap() == disk(1).content);
        restic_agrees(&site.at, &site.password, &["unlock"]);
        restic_agrees(&site.at, &site.password, &["check", "--read-data"]);
        site.repository.prune(&()).unwrap();
        let verified = site.repository.verify(Depth::Data, &()).unwrap();
        assert!(verified.problems.is_empty() && verified.leftover == 0, "{verified:?}");
        assert!(content_of(&site.repository, second, 0).unwrap() == disk(1).content);
    }
}

/// A small file system of its own, where this user may mount one.
fn small_disk(at: &Path) -> Option<Mounted> {
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(at).output().ok()?;
    mounted.status.success().then(|| Mounted(at.to_owned()))
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", self.0.display());
    }
}

#[test]
fn a_full_disk_is_said_and_what_was_there_stays() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_mounted) = small_disk(dir.path()) else {
        eprintln!("no file system can be mounted here; the test beside the code has a limit of its own");
        return;
    };
    let at = dir.path().join("r");
    let (repository, password) = repository(&at);
    let mut small = [MemoryDisk::new(4 * MIB, &mut Dice::new(40))];
    let first = back_up(&repository, &mut small, None, &()).unwrap().id;
    let error =
        back_up(&repository, &mut [MemoryDisk::new(60 * MIB, &mut Dice::new(41))], None, &()).unwrap_err();
    assert_eq!(error.code, ErrorCode::DiskFull, "{error}");
    assert!(error.hint.is_some() && error.details.is_some_and(|details| details.contains_key("path")));
    assert!(support::files(&at.join("tmp")).is_empty());
    assert!(support::files(&at.join("locks")).is_empty());
    assert!(content_of(&repository, first, 0).unwrap() == small[0].content);
    let pruned = repository.prune(&()).unwrap();
    assert!(pruned.leftover > 0, "{pruned:?}");
    back_up(&repository, &mut small, None, &()).unwrap();
    restic_agrees(&at, &password, &["check", "--read-data"]);
}
