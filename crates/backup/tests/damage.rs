//! One flipped bit anywhere, a missing file, a cut one: verify says so, and nothing wrong is given out.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use support::{Dice, MIB, MemoryDisk, back_up, content_of};
use voidvm_backup::{BackupId, Depth, Protection, Repository};
use voidvm_model::ErrorCode;

/// A backup, and what its disks held.
type Made = (BackupId, Vec<Vec<u8>>);

/// A repository with its password in the folder, and two backups of two disks.
fn repository(dir: &Path) -> (Repository, Vec<Made>) {
    let repository = Repository::init(dir, &Protection::Folder).unwrap();
    let mut dice = Dice::new(11);
    let mut disks = vec![MemoryDisk::new(2 * MIB + 100, &mut dice), MemoryDisk::new(MIB / 2, &mut dice)];
    let mut made: Vec<Made> = Vec::new();
    for _ in 0..2 {
        let parent = made.last().map(|(id, _)| *id);
        let done = back_up(&repository, &mut disks, parent, &()).unwrap();
        made.push((done.id, disks.iter().map(|disk| disk.content.clone()).collect()));
        disks.iter_mut().for_each(|disk| disk.scribble(&mut dice));
    }
    (repository, made)
}

fn problems(dir: &Path, depth: Depth) -> usize {
    // What keeps a repository from being opened was found too.
    Repository::open(dir, None).map_or(1, |repository| repository.verify(depth, &()).unwrap().problems.len())
}

fn overwrite(path: &Path, content: &[u8]) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(path, content).unwrap();
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is_and_never_given_out() {
    let dir = tempfile::tempdir().unwrap();
    let (_, made) = repository(dir.path());
    assert_eq!(problems(dir.path(), Depth::Data), 0);
    let files = support::files(dir.path());
    assert!(files.len() >= 10, "{files:?}");
    let mut dice = Dice::new(12);
    for file in &files {
        let content = std::fs::read(file).unwrap();
        let last = content.len() - 1;
        for at in [0, last, dice.below(content.len())] {
            let mut flipped = content.clone();
            flipped[at] ^= 1 << dice.below(8);
            overwrite(file, &flipped);
            // What keeps a repository from being opened was found too.
            let Ok(repository) = Repository::open(dir.path(), None) else { continue };
            let found = repository.verify(Depth::Data, &()).unwrap().problems;
            assert!(!found.is_empty(), "byte {at} of {}", file.display());
            for (id, contents) in &made {
                match content_of(&repository, *id, 0) {
                    Ok(restored) => assert!(restored == contents[0]),
                    Err(error) => assert_eq!(error.code, ErrorCode::ChecksumMismatch, "{error}"),
                }
            }
        }
        overwrite(file, &content);
    }
    assert_eq!(problems(dir.path(), Depth::Data), 0);
}

#[test]
fn what_is_missing_or_cut_is_found_without_reading_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let (repository, made) = repository(dir.path());
    for file in support::files(dir.path()) {
        let relative = file.strip_prefix(dir.path()).unwrap().to_owned();
        let content = std::fs::read(&file).unwrap();
        overwrite(&file, &content[..content.len() - 1]);
        assert!(problems(dir.path(), Depth::Structure) > 0, "{} cut", relative.display());
        std::fs::remove_file(&file).unwrap();
        // A backup that is gone as a whole was forgotten; who wrote the folder is no matter.
        let gone = relative.starts_with("snapshots") || relative.ends_with("README.txt");
        assert_eq!(problems(dir.path(), Depth::Structure) > 0, !gone, "{} missing", relative.display());
        if relative.starts_with("data") || relative.starts_with("index") {
            let before = support::files(&dir.path().join("data"));
            let refused = repository.prune(&());
            // A pack of data that is missing is noticed as a block of a backup that is.
            assert_eq!(refused.unwrap_err().code, ErrorCode::ChecksumMismatch, "{}", relative.display());
            assert_eq!(support::files(&dir.path().join("data")), before, "nothing is removed");
        }
        std::fs::write(&file, &content).unwrap();
    }
    assert_eq!(problems(dir.path(), Depth::Data), 0);

    let snapshot = dir.path().join("snapshots").join(made[0].0.to_string());
    let content = std::fs::read(&snapshot).unwrap();
    overwrite(&snapshot, &content[1..]);
    let listed = repository.backups().unwrap();
    assert_eq!((listed.backups.len(), listed.damaged.len()), (1, 1));
    repository.forget(&[made[0].0]).unwrap();
    assert_eq!(problems(dir.path(), Depth::Data), 0);
}
