//! Debian's own `restic` takes what we write, and we what it writes.

mod support;

use std::process::Command;

use support::{Dice, MIB, MemoryDisk, back_up, content_of, repository, restic, restic_agrees};
use voidvm_backup::{BackupId, Depth, Password, Progress, Protection, Repository, Stage, Watch};
use voidvm_model::ErrorCode;

#[test]
fn restic_checks_lists_and_restores_a_chain() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("r");
    let (repository, password) = repository(&at);
    let mut dice = Dice::new(21);
    let mut disks = vec![MemoryDisk::new(5 * MIB + 512, &mut dice), MemoryDisk::new(3 * MIB, &mut dice)];
    let mut made: Vec<(BackupId, Vec<Vec<u8>>)> = Vec::new();
    for _ in 0..21 {
        let parent = made.last().map(|(id, _)| *id);
        let done = back_up(&repository, &mut disks, parent, &()).unwrap();
        made.push((done.id, disks.iter().map(|disk| disk.content.clone()).collect()));
        disks.iter_mut().for_each(|disk| disk.scribble(&mut dice));
    }
    let said = restic_agrees(&at, &password, &["check", "--read-data"]);
    assert!(said.contains("no errors were found"), "{said}");
    let listed = restic_agrees(&at, &password, &["snapshots", "--tag", "auto", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 21);
    assert_eq!(listed[0]["paths"], serde_json::json!(["/web"]));
    assert!(listed[0]["tags"].as_array().unwrap().iter().any(|tag| tag.as_str().unwrap().starts_with("vm=")));

    let compare = |made: &[(BackupId, Vec<Vec<u8>>)]| {
        for (number, (id, contents)) in made.iter().enumerate() {
            let target = dir.path().join(format!("out{number}"));
            restic_agrees(
                &at,
                &password,
                &["restore", &id.to_string(), "--verify", "--target", target.to_str().unwrap()],
            );
            for (disk, content) in contents.iter().enumerate() {
                assert!(std::fs::read(target.join(format!("web/disks/disk{disk}.raw"))).unwrap() == *content);
            }
            assert!(std::fs::read(target.join("web/uefi-vars.fd")).unwrap() == vec![7; 3 * MIB / 2]);
            assert_eq!(std::fs::read(target.join("web/notes \"quoted\" 笔记.md")).unwrap(), b"");
            let record = std::fs::read_to_string(target.join("web/machine.json")).unwrap();
            assert!(record.contains("\"consistency\": \"frozen\""), "{record}");
            std::fs::remove_dir_all(target).unwrap();
        }
    };
    compare(&made[..1]);
    compare(&made[19..]);

    // After our pruning it still takes it; and after its own, we do.
    repository.forget(&made.drain(..7).map(|(id, _)| id).collect::<Vec<_>>()).unwrap();
    assert!(repository.prune(&()).unwrap().removed > 0);
    restic_agrees(&at, &password, &["check", "--read-data"]);
    compare(&made[..1]);
    let gone = made.remove(0).0.to_string();
    restic_agrees(&at, &password, &["forget", "--prune", &gone]);
    for (id, contents) in &made {
        for (disk, content) in contents.iter().enumerate() {
            assert!(content_of(&repository, *id, disk).unwrap() == *content);
        }
    }
    let verified = repository.verify(Depth::Data, &()).unwrap();
    assert!(verified.problems.is_empty(), "{:?}", verified.problems);
}

#[test]
fn a_repository_of_restic_is_shared_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("r");
    let password = Password::new("of a person".into());
    restic_agrees(&at, &password, &["init", "--repository-version", "2"]);
    let home = dir.path().join("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("letter"), Dice::new(22).bytes(3 * MIB)).unwrap();
    restic_agrees(&at, &password, &["backup", home.to_str().unwrap()]);

    let repository = Repository::open(&at, Some(&password)).unwrap();
    assert!(repository.backups().unwrap().backups.is_empty(), "that is no backup of a machine");
    let mut disks = vec![MemoryDisk::new(2 * MIB, &mut Dice::new(23))];
    let first = back_up(&repository, &mut disks, None, &()).unwrap();
    let second = back_up(&repository, &mut disks, None, &()).unwrap();
    repository.forget(&[first.id]).unwrap();
    repository.prune(&()).unwrap();
    assert!(content_of(&repository, second.id, 0).unwrap() == disks[0].content);
    assert!(repository.verify(Depth::Data, &()).unwrap().problems.is_empty());
    restic_agrees(&at, &password, &["check", "--read-data"]);
    let target = dir.path().join("out");
    restic_agrees(
        &at,
        &password,
        &["restore", "latest", "--path", home.to_str().unwrap(), "--target", target.to_str().unwrap()],
    );
    let compared =
        Command::new("diff").arg("-r").arg(&home).arg(target.join(home.strip_prefix("/").unwrap())).status();
    assert!(compared.unwrap().success(), "what restic keeps is not touched");
}

#[test]
fn the_password_in_the_folder_is_one_restic_takes() {
    let dir = tempfile::tempdir().unwrap();
    let repository = Repository::init(dir.path(), &Protection::Folder).unwrap();
    back_up(&repository, &mut [MemoryDisk::new(MIB, &mut Dice::new(24))], None, &()).unwrap();
    let file = dir.path().join("password.txt");
    let output = Command::new("restic")
        .args(["--no-cache", "check", "--read-data", "--repo"])
        .arg(dir.path())
        .arg("--password-file")
        .arg(&file)
        .env_remove("RESTIC_PASSWORD")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Does something in the middle of a backup.
struct Between<'a>(&'a (dyn Fn() + Sync));

impl Watch for Between<'_> {
    fn progress(&self, progress: Progress) {
        if progress.stage == Stage::Finishing {
            (self.0)();
        }
    }
}

#[test]
fn locks_keep_us_and_restic_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (repository, password) = repository(dir.path());
    let mut disks = vec![MemoryDisk::new(MIB, &mut Dice::new(25))];
    let refused = std::sync::Mutex::new(String::new());
    let prune = || {
        let output = restic(dir.path(), &password, &["prune"]);
        assert!(!output.status.success());
        *refused.lock().unwrap() = String::from_utf8_lossy(&output.stderr).into_owned();
        let other = Repository::open(dir.path(), Some(&password)).unwrap();
        assert_eq!(other.prune(&()).unwrap_err().code, ErrorCode::Busy);
    };
    back_up(&repository, &mut disks, None, &Between(&prune)).unwrap();
    let refused = refused.into_inner().unwrap();
    assert!(refused.contains("locked") && refused.contains(&std::process::id().to_string()), "{refused}");
    assert!(support::files(&dir.path().join("locks")).is_empty());
    restic_agrees(dir.path(), &password, &["prune"]);
}
