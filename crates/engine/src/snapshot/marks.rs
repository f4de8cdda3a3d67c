//! Layers that the next backup of a machine stands on.
//!
//! ```text
//! backup B made of the frozen layer T:   disk0 ─▶ T ─▶ below          mark: B is what T shows
//! later                                  disk0 ─▶ … ─▶ T ─▶ below     what is in the files above T may be different from B; nothing else
//! ```
//! A mark keeps its layer as a snapshot's row does, for as long as the present stands on it and it is worth its room; the layers above
//! it are merged with each other as ever, which leaves all that was in them in what they become. Whatever else happens to the disks
//! (another snapshot restored, an older file put in their place, a crash) is seen in the files themselves.
//!
//! Invariants: a mark is forgotten, on the disk, before its layer is merged away; a layer that was written to by anybody but a merge of
//! ours looks different, and then nothing is known.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use voidvm_model::backup::BackupId;
use voidvm_model::{DeviceId, ErrorBody, MachineSpec, VmId};
use voidvm_qemu::image;
use voidvm_store::{BackupMark, FileLook, MarkedLayer};

use super::job::blocking;
use super::list::allocated;
use crate::ops::files;
use crate::shared::Shared;

/// So many repositories of a machine are remembered; the least recently used go first.
const REPOSITORIES: usize = 3;
/// A layer is worth its room while no more than this was written since, however little is in it; or half of what is in it.
const SMALL: u64 = 1 << 30;

/// What a file looks like.
fn look(file: &Path) -> io::Result<FileLook> {
    let file = std::fs::metadata(file)?;
    Ok(FileLook {
        inode: file.ino(),
        length: file.len(),
        seconds: file.mtime(),
        nanoseconds: file.mtime_nsec(),
    })
}

/// The same of a file that is on the disk: what was read of it may have been in the computer's memory alone.
fn synced_look(file: &Path) -> io::Result<FileLook> {
    File::open(file)?.sync_all()?;
    look(file)
}

/// Writes down that a backup holds what the layers show.
///
/// # Errors
/// The store's; a layer that cannot be read. Then what was known stays.
pub(crate) async fn put(
    shared: &Shared,
    vm: VmId,
    (repository, backup): (String, BackupId),
    layers: &BTreeMap<DeviceId, String>,
) -> Result<(), ErrorBody> {
    let (dir, layers) = (shared.config.machine_dir(vm), layers.clone());
    let layers = blocking(move || {
        let mut marked = BTreeMap::new();
        for (disk, name) in layers {
            let file = dir.join(&name);
            let look = synced_look(&file).map_err(|error| files::io_error(&file, &error))?;
            marked.insert(disk, MarkedLayer { name, look });
        }
        Ok(marked)
    });
    let mark = BackupMark { vm_id: vm, repository, backup, layers: layers.await?, made_at: Timestamp::now() };
    let marks = shared.store.backup_marks();
    marks.put(&mark).await.map_err(|error| error.body())?;
    for old in marks.of(vm).await.map_err(|error| error.body())?.iter().skip(REPOSITORIES) {
        marks.remove(vm, &old.repository).await.map_err(|error| error.body())?;
    }
    Ok(())
}

/// A machine's marks, the newest first.
///
/// # Errors
/// The store's.
async fn of(shared: &Shared, vm: VmId) -> Result<Vec<BackupMark>, ErrorBody> {
    shared.store.backup_marks().of(vm).await.map_err(|error| error.body())
}

/// What is known of the last backup of a machine in a repository: it, and the layer of each disk that shows what is in it.
///
/// # Errors
/// The store's.
pub(crate) async fn of_repository(
    shared: &Shared,
    vm: VmId,
    repository: &str,
) -> Result<Option<BackupMark>, ErrorBody> {
    Ok(of(shared, vm).await?.into_iter().find(|mark| mark.repository == repository))
}

/// How many files of `image`'s chain are above the layer that is marked: what is not in them is what the layer shows. None where
/// that is not certain.
pub(crate) fn files_above(machine_dir: &Path, layer: &MarkedLayer, image: &Path) -> Option<u32> {
    let file = machine_dir.join(&layer.name);
    let chain = image::backing_files(image).ok()?;
    let above = chain.iter().position(|one| *one == file)?;
    if look(&file).ok()? != layer.look {
        tracing::info!(file = %file.display(), "a layer is not what a backup was made of any more");
        return None;
    }
    // Beyond the end of a shorter image there is nothing of what stands below it.
    let size = |file: &PathBuf| Some(image::header(file).ok()??.virtual_size);
    let sizes: Vec<_> = chain.iter().take(above + 1).map(size).collect::<Option<_>>()?;
    if !sizes.is_sorted_by(|upper, lower| upper >= lower) {
        return None;
    }
    u32::try_from(above).ok()
}

/// The layers that marks keep.
///
/// # Errors
/// The store's.
pub(super) async fn kept(
    shared: &Shared,
    vm: VmId,
    spec: &MachineSpec,
) -> Result<BTreeSet<PathBuf>, ErrorBody> {
    let (marks, dir, spec) = (of(shared, vm).await?, shared.config.machine_dir(vm), spec.clone());
    blocking(move || {
        let keeps = |mark: &BackupMark| worth(&dir, &spec, mark).collect::<Vec<_>>();
        Ok(marks.iter().flat_map(keeps).collect())
    })
    .await
}

/// Forgets the marks that keep no layer any more.
///
/// # Errors
/// The store's.
pub(super) async fn forget_others(shared: &Shared, vm: VmId, spec: &MachineSpec) -> Result<(), ErrorBody> {
    let (marks, dir, spec) = (of(shared, vm).await?, shared.config.machine_dir(vm), spec.clone());
    let changed = blocking(move || {
        let cut = |mut mark: BackupMark| {
            let keeps: BTreeSet<PathBuf> = worth(&dir, &spec, &mark).collect();
            let before = mark.layers.len();
            mark.layers.retain(|_, layer| keeps.contains(&dir.join(&layer.name)));
            (mark.layers.len() != before).then_some(mark)
        };
        Ok(marks.into_iter().filter_map(cut).collect::<Vec<_>>())
    });
    for mark in changed.await? {
        tracing::info!(%vm, repository = mark.repository, "the next backup reads what it need not have read");
        let marks = shared.store.backup_marks();
        let done = if mark.layers.is_empty() {
            marks.remove(vm, &mark.repository).await
        } else {
            marks.put(&mark).await
        };
        done.map_err(|error| error.body())?;
    }
    Ok(())
}

/// The layers of a mark that the present stands on, and that are worth their room.
fn worth<'a>(
    dir: &'a Path,
    spec: &'a MachineSpec,
    mark: &'a BackupMark,
) -> impl Iterator<Item = PathBuf> + 'a {
    mark.layers.iter().filter_map(|(disk, layer)| {
        let file = dir.join(&layer.name);
        let disk = spec.disks.iter().find(|one| one.id == *disk)?;
        let chain = image::backing_files(&disk.file).ok()?;
        let above = chain.iter().position(|one| *one == file)?;
        let since: u64 = chain.iter().take(above).map(|file| allocated(file)).sum();
        (since <= SMALL.max(allocated(&file) / 2)).then_some(file)
    })
}

/// The layers of a machine that look as marks say.
pub(super) struct Sound(BTreeSet<PathBuf>);

/// Looks at the marked layers before layers are merged: one that stands on them, or takes the place of one, looks different then and
/// shows what it showed.
///
/// # Errors
/// The store's.
pub(super) async fn sound(shared: &Shared, vm: VmId) -> Result<Sound, ErrorBody> {
    let (marks, dir) = (of(shared, vm).await?, shared.config.machine_dir(vm));
    blocking(move || {
        let layers = marks.iter().flat_map(|mark| mark.layers.values());
        let layers = layers.map(|layer| (dir.join(&layer.name), layer.look));
        let sound = layers.filter(|(file, known)| look(file).is_ok_and(|now| now == *known));
        Ok(Sound(sound.map(|(file, _)| file).collect()))
    })
    .await
}

/// Writes down what the layers that were as they should be look like now that layers were merged.
///
/// # Errors
/// The store's; a layer that cannot be read. Those that look different then are not known again.
pub(super) async fn look_again(shared: &Shared, vm: VmId, Sound(sound): Sound) -> Result<(), ErrorBody> {
    let (marks, dir) = (of(shared, vm).await?, shared.config.machine_dir(vm));
    let changed = blocking(move || {
        let mut changed = Vec::new();
        for mut mark in marks {
            let mut other = false;
            for layer in mark.layers.values_mut() {
                let file = dir.join(&layer.name);
                if sound.contains(&file) {
                    let now = synced_look(&file).map_err(|error| files::io_error(&file, &error))?;
                    other |= std::mem::replace(&mut layer.look, now) != now;
                }
            }
            if other {
                changed.push(mark);
            }
        }
        Ok(changed)
    });
    for mark in changed.await? {
        shared.store.backup_marks().put(&mark).await.map_err(|error| error.body())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use voidvm_model::Bytes;
    use voidvm_model::spec::DiskFormat;

    use super::*;

    #[test]
    fn a_layer_is_known_again_only_as_it_was_and_where_nothing_is_shorter() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let put = |name: &str, below: &str, size| {
            image::overlay(&at(name), &at(below), DiskFormat::Qcow2, Bytes(size)).unwrap();
        };
        std::fs::write(at("ground"), [7; 4096]).unwrap();
        put("t.qcow2", "ground", 4096);
        put("m.qcow2", "t.qcow2", 4096);
        put("disk.qcow2", "m.qcow2", 8192);
        let layer = MarkedLayer { name: "t.qcow2".into(), look: look(&at("t.qcow2")).unwrap() };
        let above = |layer: &MarkedLayer, image: &str| files_above(dir.path(), layer, &at(image));
        assert_eq!(above(&layer, "disk.qcow2"), Some(2));
        assert_eq!(above(&layer, "t.qcow2"), Some(0));
        assert_eq!(above(&layer, "ground"), None);

        put("short.qcow2", "m.qcow2", 2048);
        put("long.qcow2", "short.qcow2", 8192);
        assert_eq!(above(&layer, "long.qcow2"), None);

        let file = File::options().append(true).open(at("t.qcow2")).unwrap();
        io::Write::write_all(&mut &file, b"x").unwrap();
        assert_eq!(above(&layer, "disk.qcow2"), None);
    }
}
