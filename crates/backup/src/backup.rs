//! Makes a backup: disks, small files, directories, and at last the snapshot.
//!
//! ```text
//! blocks ─▶ packs ─▶ index ─▶ snapshot        cut off before the last step: nothing but blocks no backup names
//! ```

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::Timestamp;
use voidvm_model::{ErrorBody, VmId};

use crate::error;
use crate::folder::Kind;
use crate::host::Host;
use crate::id::{BackupId, Id};
use crate::index::{Blobs, Index};
use crate::intake::{Before, Intake};
use crate::lock::{Lock, Reach};
use crate::record::{BlobKind, Entry, Snapshot, Stamp, Summary, Tree};
use crate::repository::{
    Consistency, DISKS, DiskRecord, MACHINE_FILE, MACHINE_FORMAT, MachineRecord, Repository, TAG, machines,
};
use crate::sealed::Opener;
use crate::source::{DiskSource, Progress, Stage, Watch};
use crate::writer::Writer;
use crate::{BLOCK, walk};

/// What is to be backed up: one machine, or several of one instant.
pub struct BackupRequest<'a> {
    /// The instant it is of.
    pub taken: Timestamp,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// The machines.
    pub machines: Vec<MachineInput<'a>>,
}

/// A machine to back up.
pub struct MachineInput<'a> {
    /// The machine.
    pub id: VmId,
    /// Its name; its directory in the backup is named after it.
    pub name: String,
    /// How its disks belong together.
    pub consistency: Consistency,
    /// Its specification.
    pub specification: serde_json::Value,
    /// Its disks.
    pub disks: Vec<DiskInput<'a>>,
    /// UEFI variables, the TPM's files, notes.
    pub files: Vec<SmallFile>,
}

/// A disk to back up.
pub struct DiskInput<'a> {
    /// What its file is called, below `disks`: `disk0.raw`.
    pub file: String,
    /// Its content.
    pub source: &'a mut dyn DiskSource,
    /// The backup to stand on; none to read everything.
    pub base: Option<Base>,
}

/// What a backup stands on. It is complete all the same: the blocks are shared, no backup needs another one.
#[derive(Clone, Debug)]
pub struct Base {
    /// A backup with a disk of the same name of the same machine. If it is gone, everything is read.
    pub backup: BackupId,
    /// Every byte that may be another one now lies in one of these.
    pub dirty: Vec<Range<u64>>,
}

/// A file that fits into memory.
#[derive(Clone, Debug)]
pub struct SmallFile {
    /// Its path in the machine's directory: `uefi-vars.fd`, `tpm/tpm2-00.permall`.
    pub path: String,
    /// What is in it.
    pub content: Vec<u8>,
}

/// A backup that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupDone {
    /// Its name.
    pub id: BackupId,
    /// The bytes of all its disks.
    pub size: u64,
    /// Those that were read.
    pub read: u64,
    /// Those that were taken over from the backups it stands on.
    pub taken_over: u64,
    /// Those that were in no backup before.
    pub new: u64,
    /// What those take in the folder.
    pub added: u64,
}

/// The disks of other backups that disks stand on.
type Bases = BTreeMap<(BackupId, VmId, String), (u64, Vec<Id>)>;

impl Repository {
    /// Makes a backup. It is there when this returns, and not at all when this fails.
    ///
    /// # Errors
    /// When a disk cannot be read, the folder cannot be written to, is locked by somebody who removes, or somebody cancels.
    pub fn backup(&self, request: BackupRequest<'_>, watch: &dyn Watch) -> Result<BackupDone, ErrorBody> {
        check(&request)?;
        let start = Timestamp::now();
        let lock = Lock::take(&self.folder, &self.key, Reach::Shared)?;
        let index = Index::read(&self.folder, &self.key)?;
        let bases = self.bases(&request, &index)?;
        let size =
            request.machines.iter().flat_map(|machine| &machine.disks).map(|disk| disk.source.size()).sum();
        let writer = Writer::new(&self.folder, &self.key, &index);
        let mut intake = Intake::new(writer, &index, &lock, watch, size);
        let host = Host::this();
        let stamp = Stamp { time: request.taken, uid: host.uid, gid: host.gid };
        let parent = request
            .machines
            .iter()
            .flat_map(|machine| &machine.disks)
            .find_map(|disk| disk.base.as_ref())
            .map(|base| base.backup)
            .filter(|parent| bases.keys().any(|(backup, ..)| backup == parent));

        let (mut root, mut paths, mut files) = (BTreeMap::new(), Vec::new(), 0);
        let mut tags = vec![TAG.to_owned()];
        for machine in request.machines {
            let directory = directory(&machine.name, machine.id, &root);
            paths.push(format!("/{directory}"));
            tags.push(format!("vm={}", machine.id));
            files += (machine.disks.len() + machine.files.len() + 1) as u64;
            let tree = take_machine(&mut intake, machine, request.taken, &bases, stamp)?;
            root.insert(directory, Entry::Dir { tree });
        }
        tags.extend(request.tags);
        watch.progress(Progress { stage: Stage::Finishing, done: size, total: size });
        let tree = keep_tree(&intake, root, stamp)?;
        intake.writer.flush()?;
        intake.check()?;

        let (new, added) = intake.writer.added();
        let snapshot = Snapshot {
            time: request.taken,
            parent: parent.map(|parent| parent.0),
            tree,
            paths,
            hostname: host.name,
            username: host.user,
            uid: host.uid,
            gid: host.gid,
            tags,
            program_version: Some(concat!("voidVM ", env!("CARGO_PKG_VERSION")).to_owned()),
            summary: Some(Summary {
                backup_start: start,
                backup_end: Timestamp::now(),
                data_added: new,
                data_added_packed: added,
                total_files_processed: files,
                total_bytes_processed: size,
            }),
        };
        let sealed = crate::sealed::seal_document(&self.key, &snapshot)?;
        let id = BackupId(self.folder.write(Kind::Snapshot, &sealed)?);
        let counts = intake.counts;
        Ok(BackupDone { id, size, read: counts.read, taken_over: counts.taken_over, new, added })
    }

    /// What the disks stand on, as far as it can be read.
    fn bases(&self, request: &BackupRequest<'_>, index: &Index) -> Result<Bases, ErrorBody> {
        let blobs = Blobs::new(&self.folder, &self.key, index);
        let mut opener = blobs.opener()?;
        let mut bases = Bases::new();
        for machine in &request.machines {
            for disk in &machine.disks {
                let Some(base) = &disk.base else { continue };
                let found = self.base(&blobs, &mut opener, (base.backup, machine.id, &disk.file));
                match found {
                    Ok(before) => {
                        bases.insert((base.backup, machine.id, disk.file.clone()), before);
                    }
                    // Gone or damaged: it is as if there were none.
                    Err(why) => {
                        tracing::warn!(backup = %base.backup, disk = disk.file, %why, "a disk is read as a whole");
                    }
                }
            }
        }
        Ok(bases)
    }

    fn base(
        &self,
        blobs: &Blobs<'_>,
        opener: &mut Opener<'_>,
        (backup, machine, file): (BackupId, VmId, &str),
    ) -> Result<(u64, Vec<Id>), ErrorBody> {
        let root = self.snapshot_of(backup)?.tree;
        let directory = machines(blobs, opener, root)?
            .into_iter()
            .find(|found| found.record.id == machine)
            .ok_or_else(|| ErrorBody::invalid("base", "The machine is not in that backup."))?
            .directory;
        let node = walk::file(blobs, opener, root, &[&directory, DISKS, file])?;
        Ok((node.size, node.content.unwrap_or_default()))
    }
}

/// What does not hold of a request.
fn check(request: &BackupRequest<'_>) -> Result<(), ErrorBody> {
    let plain = |name: &str| {
        !name.is_empty()
            && name.len() <= 255
            && name != "."
            && name != ".."
            && !name.contains(['/', '\0'])
            && !name.chars().any(char::is_control)
    };
    if request.machines.is_empty() {
        return Err(ErrorBody::invalid("machines", "There is no machine to back up."));
    }
    if let Some(tag) = request.tags.iter().find(|tag| !plain(tag) || tag.contains(',')) {
        return Err(ErrorBody::invalid(
            "tags",
            format!("{tag:?} is no tag: no commas, slashes or control characters."),
        ));
    }
    for machine in &request.machines {
        let mut names: Vec<&str> = machine.disks.iter().map(|disk| disk.file.as_str()).collect();
        if let Some(name) = names.iter().find(|name| !plain(name)) {
            return Err(ErrorBody::invalid("disks", format!("{name:?} is no name of a file.")));
        }
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(ErrorBody::invalid("disks", "Two disks have the same file."));
        }
        for file in &machine.files {
            let taken = file.path == MACHINE_FILE || file.path.split('/').next() == Some(DISKS);
            if taken || !file.path.split('/').all(plain) {
                return Err(ErrorBody::invalid("files", format!("{:?} is no path for a file.", file.path)));
            }
        }
    }
    Ok(())
}

/// A directory for a machine: its name as far as that is one, and nobody else's.
fn directory(name: &str, id: VmId, others: &BTreeMap<String, Entry>) -> String {
    let cleaned: String =
        name.chars().map(|char| if char == '/' || char.is_control() { '_' } else { char }).take(60).collect();
    let plain = !cleaned.is_empty() && cleaned != "." && cleaned != "..";
    if plain && !others.contains_key(&cleaned) { cleaned } else { id.to_string() }
}

/// Takes a machine in, and gives its directory.
fn take_machine(
    intake: &mut Intake<'_>,
    machine: MachineInput<'_>,
    taken: Timestamp,
    bases: &Bases,
    stamp: Stamp,
) -> Result<Id, ErrorBody> {
    let (mut disks, mut records) = (BTreeMap::new(), Vec::new());
    for disk in machine.disks {
        let size = disk.source.size();
        let base = disk.base.as_ref();
        let found = base.and_then(|base| bases.get(&(base.backup, machine.id, disk.file.clone())));
        let before = base.zip(found).map(|(base, (size, content))| Before {
            size: *size,
            content,
            dirty: &base.dirty,
        });
        let content = intake.disk(&disk.file, disk.source, before.as_ref())?;
        records.push(DiskRecord { file: disk.file.clone(), size });
        disks.insert(disk.file, Entry::File { size, content });
    }
    let record = MachineRecord {
        format: MACHINE_FORMAT,
        id: machine.id,
        name: machine.name,
        taken,
        consistency: machine.consistency,
        specification: machine.specification,
        disks: records,
        files: machine.files.iter().map(|file| file.path.clone()).collect(),
    };
    let mut top = Branch::default();
    for file in &machine.files {
        top.insert(&file.path, keep_file(intake, &file.content)?)?;
    }
    let text = serde_json::to_vec_pretty(&record).map_err(error::internal)?;
    top.insert(MACHINE_FILE, keep_file(intake, &text)?)?;
    let tree = keep_tree(intake, disks, stamp)?;
    top.entries.insert(DISKS.to_owned(), Entry::Dir { tree });
    top.keep(intake, stamp)
}

/// A directory in the making.
#[derive(Default)]
struct Branch {
    entries: BTreeMap<String, Entry>,
    branches: BTreeMap<String, Self>,
}

impl Branch {
    fn insert(&mut self, path: &str, entry: Entry) -> Result<(), ErrorBody> {
        let twice = || ErrorBody::invalid("files", format!("{path} is there twice."));
        match path.split_once('/') {
            Some((first, _)) if self.entries.contains_key(first) => Err(twice()),
            Some((first, rest)) => self.branches.entry(first.to_owned()).or_default().insert(rest, entry),
            None if self.branches.contains_key(path) => Err(twice()),
            None => self.entries.insert(path.to_owned(), entry).map_or(Ok(()), |_| Err(twice())),
        }
    }

    fn keep(mut self, intake: &Intake<'_>, stamp: Stamp) -> Result<Id, ErrorBody> {
        for (name, branch) in self.branches {
            let tree = branch.keep(intake, stamp)?;
            self.entries.insert(name, Entry::Dir { tree });
        }
        keep_tree(intake, self.entries, stamp)
    }
}

fn keep_file(intake: &Intake<'_>, content: &[u8]) -> Result<Entry, ErrorBody> {
    let mut sealer = intake.writer.sealer()?;
    let block = usize::try_from(BLOCK).map_err(error::internal)?;
    let blocks = content.chunks(block).map(|block| intake.writer.put(&mut sealer, BlobKind::Data, block));
    Ok(Entry::File { size: content.len() as u64, content: blocks.collect::<Result<_, _>>()? })
}

fn keep_tree(intake: &Intake<'_>, entries: BTreeMap<String, Entry>, stamp: Stamp) -> Result<Id, ErrorBody> {
    let mut text = serde_json::to_vec(&Tree::new(entries, stamp)).map_err(error::internal)?;
    text.push(b'\n');
    intake.writer.put(&mut intake.writer.sealer()?, BlobKind::Tree, &text)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicU64, Ordering};

    use voidvm_model::ErrorCode;

    use super::*;
    use crate::folder::Folder;
    use crate::repository::Protection;
    use crate::verify::Depth;

    /// A disk of bytes nothing can make smaller; one block of it may not be readable.
    struct Noise {
        broken: Option<u64>,
    }

    impl DiskSource for Noise {
        fn size(&self) -> u64 {
            40 * BLOCK
        }

        fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
            if self.broken == Some(offset / BLOCK) {
                return Err(io::Error::other(ErrorBody::new(ErrorCode::QemuFailed, "The export is gone.")));
            }
            let mut state = offset | 1;
            for piece in buffer.chunks_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                piece.copy_from_slice(&state.to_le_bytes()[..piece.len()]);
            }
            Ok(())
        }
    }

    fn back_up(repository: &Repository, broken: Option<u64>) -> Result<BackupDone, ErrorBody> {
        let mut source = Noise { broken };
        let disk = DiskInput { file: "disk0.raw".into(), source: &mut source, base: None };
        let machine = MachineInput {
            id: VmId::new(),
            name: "m".into(),
            consistency: Consistency::Crash,
            specification: serde_json::Value::Null,
            disks: vec![disk],
            files: Vec::new(),
        };
        repository
            .backup(BackupRequest { taken: Timestamp::now(), tags: Vec::new(), machines: vec![machine] }, &())
    }

    #[test]
    fn a_disk_that_is_full_at_any_write_is_said_and_harms_nothing() {
        let limited = |dir: &std::path::Path, room: u64| {
            let made = Repository::make(Folder::at(dir.to_owned()), &Protection::Folder).unwrap();
            let mut folder = Folder::at(dir.to_owned());
            folder.room = Some(AtomicU64::new(room));
            let limited = Repository { folder: folder.into(), key: made.key.clone(), id: made.id };
            (made, limited)
        };
        let dir = tempfile::tempdir().unwrap();
        let whole = {
            let (_, limited) = limited(dir.path(), u64::MAX);
            back_up(&limited, None).unwrap();
            u64::MAX - limited.folder.room.as_ref().unwrap().load(Ordering::Relaxed)
        };
        // At the lock, the first pack, the third, the directories, the index, the snapshot.
        for room in [200, 10_000, 35 << 20, whole - 7000, whole - 1500, whole - 100] {
            let dir = tempfile::tempdir().unwrap();
            let (repository, limited) = limited(dir.path(), room);
            let error = back_up(&limited, None).unwrap_err();
            assert_eq!(error.code, ErrorCode::DiskFull, "{room}: {error}");
            assert!(repository.backups().unwrap().backups.is_empty());
            repository.prune(&()).unwrap();
            let verified = repository.verify(Depth::Data, &()).unwrap();
            assert!(verified.problems.is_empty() && verified.size + verified.leftover == 0, "{verified:?}");
        }
    }

    #[test]
    fn what_a_source_says_reaches_who_asked() {
        let dir = tempfile::tempdir().unwrap();
        let repository = Repository::init(dir.path(), &Protection::Folder).unwrap();
        for broken in [0, 20, 39] {
            assert_eq!(back_up(&repository, Some(broken)).unwrap_err().code, ErrorCode::QemuFailed);
        }
        assert!(repository.backups().unwrap().backups.is_empty());
    }
}
