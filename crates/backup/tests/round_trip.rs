//! What is backed up comes back, from chains of backups, after forgetting and pruning.

mod support;

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};

use support::{Dice, MIB, MemoryDisk, back_up, content_of, machine_id, repository};
use voidvm_backup::{
    BLOCK, BackupRequest, Base, Consistency, Depth, DiskInput, FileSource, MachineInput, Password, Progress,
    Protection, Repository, SmallFile, SparseFile, Watch,
};
use voidvm_model::ErrorCode;

fn disks(dice: &mut Dice) -> Vec<MemoryDisk> {
    // One that ends within a block, and one smaller than one.
    vec![
        MemoryDisk::new(6 * MIB + 512 * 3, dice),
        MemoryDisk::new(4 * MIB, dice),
        MemoryDisk::new(70_000, dice),
    ]
}

#[test]
fn a_chain_of_twenty_comes_back_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (repository, password) = repository(&dir.path().join("r"));
    let mut dice = Dice::new(1);
    let mut disks = disks(&mut dice);
    let size: u64 = disks.iter().map(|disk| disk.content.len() as u64).sum();

    let first = back_up(&repository, &mut disks, None, &()).unwrap();
    assert_eq!((first.size, first.read, first.taken_over), (size, size, 0));
    let mut expected = vec![(first.id, disks.iter().map(|disk| disk.content.clone()).collect::<Vec<_>>())];
    for _ in 0..20 {
        disks.iter_mut().for_each(|disk| {
            disk.reads.clear();
            disk.scribble(&mut dice);
        });
        let dirty: Vec<_> = disks.iter().map(|disk| disk.dirty.clone()).collect();
        let parent = expected.last().unwrap().0;
        let done = back_up(&repository, &mut disks, Some(parent), &()).unwrap();
        assert_eq!(done.read + done.taken_over, size);
        for (disk, dirty) in disks.iter().zip(dirty) {
            let touched = |range: &std::ops::Range<u64>| {
                let start = range.start - range.start % BLOCK;
                dirty.iter().any(|dirty| dirty.start < start + BLOCK && start < dirty.end)
            };
            assert!(disk.reads.iter().all(touched), "only what changed is read");
        }
        expected.push((done.id, disks.iter().map(|disk| disk.content.clone()).collect()));
    }

    let repository = Repository::open(&dir.path().join("r"), Some(&password)).unwrap();
    let check = |expected: &[(voidvm_backup::BackupId, Vec<Vec<u8>>)]| {
        for (backup, contents) in expected {
            for (number, content) in contents.iter().enumerate() {
                assert!(content_of(&repository, *backup, number).unwrap() == *content, "disk {number}");
            }
        }
    };
    check(&expected);
    let listed = repository.backups().unwrap();
    assert_eq!((listed.backups.len(), listed.damaged.len()), (21, 0));
    assert_eq!(listed.backups.iter().filter(|backup| backup.parent.is_none()).count(), 1);

    // Without every second one, and without the first, which the others were made on top of.
    let (gone, kept): (Vec<_>, Vec<_>) = expected.into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
    let kept: Vec<_> = kept.into_iter().map(|(_, kept)| kept).collect();
    repository.forget(&gone.iter().map(|(_, (id, _))| *id).collect::<Vec<_>>()).unwrap();
    let pruned = repository.prune(&()).unwrap();
    assert!(pruned.removed > 0 && pruned.leftover == 0, "{pruned:?}");
    check(&kept);
    let verified = repository.verify(Depth::Data, &()).unwrap();
    assert!(verified.problems.is_empty(), "{:?}", verified.problems);
    assert_eq!((verified.backups, verified.leftover, verified.size), (10, 0, pruned.kept));
    let error = repository.forget(&[gone[0].1.0]).unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);

    repository.forget(&kept.iter().map(|(id, _)| *id).collect::<Vec<_>>()).unwrap();
    assert_eq!(repository.prune(&()).unwrap().kept, 0);
    assert!(repository.verify(Depth::Data, &()).unwrap().problems.is_empty());
}

#[test]
fn what_a_machine_was_is_there_too() {
    let dir = tempfile::tempdir().unwrap();
    let (repository, _) = repository(dir.path());
    let mut dice = Dice::new(2);
    let mut disks = disks(&mut dice);
    let done = back_up(&repository, &mut disks, None, &()).unwrap();

    let backup = repository.find(done.id).unwrap();
    assert_eq!(backup.tags, ["auto"]);
    assert_eq!(backup.taken.to_string(), "2026-11-22T02:00:00.123456789Z");
    let machine = &backup.machines[0];
    assert_eq!((machine.directory.as_str(), machine.record.id), ("web", machine_id()));
    assert_eq!(machine.record.consistency, Consistency::Frozen);
    assert_eq!(machine.record.specification["memory"], 1024);
    assert_eq!(machine.record.disks.len(), 3);
    assert_eq!(machine.record.disks[2].size, 70_000);
    let file = |path: &str| repository.read_file(done.id, "web", path).unwrap();
    assert_eq!(machine.record.files.len(), 3);
    assert_eq!(file("tpm/tpm2-00.permall"), b"secrets of a chip");
    assert!(file("uefi-vars.fd") == vec![7; 3 * MIB / 2]);
    assert_eq!(file("notes \"quoted\" 笔记.md"), b"");
    let absent = repository.read_file(done.id, "web", "tpm/none").unwrap_err();
    assert_eq!(absent.code, ErrorCode::NotFound);

    let reader = repository.read_disk(done.id, "web", "disk0.raw").unwrap();
    for _ in 0..50 {
        let length = 1 + dice.below(3 * MIB);
        let offset = dice.below(disks[0].content.len() - length + 1);
        let mut buffer = vec![1; length];
        reader.read_at(offset as u64, &mut buffer).unwrap();
        assert!(buffer == disks[0].content[offset..offset + length]);
    }
    assert_eq!(reader.read_at(reader.size(), &mut [0]).unwrap_err().code, ErrorCode::InvalidInput);
}

#[test]
fn zeros_are_neither_read_nor_kept_nor_written() {
    let dir = tempfile::tempdir().unwrap();
    let (repository, _) = repository(&dir.path().join("r"));
    let path = dir.path().join("sparse.raw");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(4 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &Dice::new(3).bytes(100_000), 3 << 30).unwrap();

    let mut source = FileSource::open(&path).unwrap();
    let disks = vec![DiskInput { file: "disk0.raw".into(), source: &mut source, base: None }];
    let machine = MachineInput {
        id: machine_id(),
        name: "a/b".into(),
        consistency: Consistency::Stopped,
        specification: serde_json::Value::Null,
        disks,
        files: Vec::new(),
    };
    let request = BackupRequest {
        taken: "2026-11-22T02:00:00Z".parse().unwrap(),
        tags: Vec::new(),
        machines: vec![machine],
    };
    let done = repository.backup(request, &()).unwrap();
    assert!(done.read <= 2 * BLOCK, "{done:?}");
    assert!(done.added < 300_000, "{done:?}");
    let back = dir.path().join("back.raw");
    let sink = SparseFile::create(&back).unwrap();
    repository.restore(done.id, ("a_b", "disk0.raw"), &sink, &()).unwrap();
    let metadata = std::fs::metadata(&back).unwrap();
    assert_eq!(metadata.len(), 4 << 30);
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    let mut piece = vec![0; 200_000];
    std::os::unix::fs::FileExt::read_exact_at(&std::fs::File::open(&back).unwrap(), &mut piece, 3 << 30)
        .unwrap();
    assert!(
        piece[..100_000] == Dice::new(3).bytes(100_000) && piece[100_000..].iter().all(|byte| *byte == 0)
    );
    assert_eq!(SparseFile::create(&back).unwrap_err().code, ErrorCode::FileInUse);
}

#[test]
fn a_disk_that_grew_or_shrank_stands_on_what_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (repository, _) = repository(dir.path());
    let mut dice = Dice::new(4);
    let mut disks = vec![MemoryDisk::new(3 * MIB + 1000, &mut dice)];
    let mut last = back_up(&repository, &mut disks, None, &()).unwrap().id;
    for size in [5 * MIB + 7, 5 * MIB + 8, 2 * MIB, 2 * MIB - 1, 2 * MIB] {
        let before = disks[0].content.len();
        disks[0].content.resize(size, 0xaa);
        disks[0].dirty.push(before.min(size) as u64..size as u64);
        let done = back_up(&repository, &mut disks, Some(last), &()).unwrap();
        assert!(done.taken_over >= BLOCK, "{done:?}");
        assert!(content_of(&repository, done.id, 0).unwrap() == disks[0].content);
        last = done.id;
    }
}

#[test]
fn without_what_it_stands_on_everything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (repository, _) = repository(dir.path());
    let mut disks = vec![MemoryDisk::new(2 * MIB, &mut Dice::new(5))];
    let first = back_up(&repository, &mut disks, None, &()).unwrap();
    repository.forget(&[first.id]).unwrap();
    let second = back_up(&repository, &mut disks, Some(first.id), &()).unwrap();
    assert_eq!((second.read, second.taken_over), (second.size, 0));
    assert_eq!(second.new, 0, "the blocks are there all the same");
    assert_eq!(repository.find(second.id).unwrap().parent, None);

    // A pack that is lost is written again, because no backup is built on what is not there.
    for pack in support::files(&dir.path().join("data")) {
        std::fs::remove_file(pack).unwrap();
    }
    assert!(!repository.verify(Depth::Structure, &()).unwrap().problems.is_empty());
    let third = back_up(&repository, &mut disks, Some(second.id), &()).unwrap();
    assert!(third.new > 0 && content_of(&repository, third.id, 0).unwrap() == disks[0].content);
    assert!(content_of(&repository, second.id, 0).is_ok(), "and the older backup has it too");
}

#[test]
fn whoever_has_the_folder_reads_it_where_nobody_chose_a_password() {
    let dir = tempfile::tempdir().unwrap();
    let repository = Repository::init(dir.path(), &Protection::Folder).unwrap();
    let mut disks = vec![MemoryDisk::new(MIB, &mut Dice::new(6))];
    let done = back_up(&repository, &mut disks, None, &()).unwrap();
    let other = Repository::open(dir.path(), None).unwrap();
    assert_eq!(other.id(), repository.id());
    assert!(content_of(&other, done.id, 0).unwrap() == disks[0].content);
}

#[test]
fn wrong_passwords_and_wrong_folders_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("r");
    let none = Repository::open(&at, None).unwrap_err();
    assert_eq!((none.code, none.field.as_deref()), (ErrorCode::NotFound, Some("folder")));
    assert_eq!(Repository::open(dir.path(), None).unwrap_err().code, ErrorCode::NotFound);

    let chosen = Password::new("correct horse".into());
    Repository::init(&at, &Protection::Password(chosen.clone())).unwrap();
    let wrong = |password: Option<&Password>| {
        let error = Repository::open(&at, password).unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (ErrorCode::InvalidInput, Some("password")));
        assert!(error.hint.is_some());
    };
    wrong(None);
    wrong(Some(&Password::new("battery staple".into())));
    Repository::open(&at, Some(&chosen)).unwrap();
    assert_eq!(format!("{chosen:?}"), "Password(…)");

    let again = Repository::init(&at, &Protection::Folder).unwrap_err();
    assert_eq!((again.code, again.field.as_deref()), (ErrorCode::InvalidInput, Some("folder")));
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert!(Repository::init(&file, &Protection::Folder).is_err());
    let empty = Repository::init(&dir.path().join("e"), &Protection::Password(Password::new(String::new())));
    assert_eq!(empty.unwrap_err().field.as_deref(), Some("password"));
}

#[test]
fn what_cannot_be_asked_for_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (repository, _) = repository(dir.path());
    let before = support::files(dir.path());
    let request = |disks: &[&str], files: &[&str], tag: &str| {
        let mut sources: Vec<_> = disks.iter().map(|_| MemoryDisk::new(1000, &mut Dice::new(7))).collect();
        let disks = disks.iter().zip(&mut sources).map(|(file, source)| DiskInput {
            file: (*file).into(),
            source,
            base: None::<Base>,
        });
        let machine = MachineInput {
            id: machine_id(),
            name: "m".into(),
            consistency: Consistency::Crash,
            specification: serde_json::Value::Null,
            disks: disks.collect(),
            files: files.iter().map(|path| SmallFile { path: (*path).into(), content: Vec::new() }).collect(),
        };
        let taken = "2026-11-22T02:00:00Z".parse().unwrap();
        repository.backup(BackupRequest { taken, tags: vec![tag.into()], machines: vec![machine] }, &())
    };
    for (disks, files, tag, field) in [
        (&["../x"][..], &[][..], "t", "disks"),
        (&["a", "a"], &[], "t", "disks"),
        (&["a"], &["machine.json"], "t", "files"),
        (&["a"], &["disks/a"], "t", "files"),
        (&["a"], &["x/../y"], "t", "files"),
        (&["a"], &["x\ny"], "t", "files"),
        (&["a"], &["/x"], "t", "files"),
        (&["a"], &[], "a,b", "tags"),
    ] {
        let error = request(disks, files, tag).unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (ErrorCode::InvalidInput, Some(field)), "{error}");
    }
    assert_eq!(support::files(dir.path()), before);
    request(&["a"], &["x/y", "x/z"], "t").unwrap();
}

/// Ends the work after so many calls.
struct Patience(AtomicU64);

impl Watch for Patience {
    fn progress(&self, progress: Progress) {
        assert!(progress.done <= progress.total);
    }

    fn cancelled(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    }
}

#[test]
fn everything_can_be_cancelled_and_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let (repository, _) = repository(dir.path());
    let mut disks = vec![MemoryDisk::new(5 * MIB, &mut Dice::new(8))];
    let until_done = |what: &mut dyn FnMut(&dyn Watch) -> Result<(), ErrorCode>| {
        let mut cancelled = 0;
        while let Err(code) = what(&Patience(AtomicU64::new(cancelled))) {
            assert_eq!(code, ErrorCode::Cancelled);
            cancelled += 1;
        }
        assert!(cancelled > 0, "it asked at least once");
        assert!(support::files(&dir.path().join("locks")).is_empty());
    };
    let mut backup = None;
    until_done(&mut |watch| {
        backup = Some(back_up(&repository, &mut disks, None, watch).map_err(|error| error.code)?.id);
        Ok(())
    });
    let backup = backup.unwrap();
    assert_eq!(repository.backups().unwrap().backups.len(), 1);
    until_done(&mut |watch| {
        let sink = support::MemorySink::default();
        repository.restore(backup, ("web", "disk0.raw"), &sink, watch).map_err(|error| error.code)
    });
    until_done(&mut |watch| repository.verify(Depth::Data, watch).map(|_| ()).map_err(|error| error.code));
    back_up(&repository, &mut disks, None, &()).unwrap();
    repository.forget(&[backup]).unwrap();
    until_done(&mut |watch| repository.prune(watch).map(|_| ()).map_err(|error| error.code));
    let verified = repository.verify(Depth::Data, &()).unwrap();
    assert!(verified.problems.is_empty() && verified.leftover == 0, "{verified:?}");
}
