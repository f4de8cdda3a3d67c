//! The layers of a machine's disks: which disks have them, and how one more is put on.
//!
//! ```text
//! at rest   disk0.qcow2 = A          ─▶  base-1 = A,  disk0.qcow2 = overlay on base-1
//! running   disk0.qcow2 = A          ─▶  base-1 = A,  disk0.qcow2 = base-2 = overlay on base-1
//! ```
//! QEMU opens a file again by the name it knows it by, so a name it knows never comes to mean another file: a running machine's
//! overlay is opened under a layer's name, and the disk's own name is a second one for it. Once the process is gone the layer's
//! name of what is written to goes too ([`drop_twins`]).
//!
//! Invariant: at every instant a disk's name leads to what the disk shows, or the journal says which file does ([`settle`]).

use std::io;
use std::path::{Path, PathBuf};

use voidvm_model::spec::{Disk, DiskFormat};
use voidvm_model::{DeviceId, ErrorBody, ErrorCode, MachineSpec};
use voidvm_qemu::image;
use voidvm_qemu::process::RunRecord;

use crate::fleet::same_file;
use crate::ops::{build, files};

/// A disk, the name that what it holds gets, and the one of the overlay that is put on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) disk: DeviceId,
    /// The disk's file, by its own name.
    pub(super) file: PathBuf,
    /// What it held, frozen.
    pub(super) base: PathBuf,
    /// What a running guest writes to from then on.
    pub(super) over: PathBuf,
}

impl Layer {
    /// The frozen file's name in the machine's directory.
    pub(super) fn name(&self) -> String {
        self.base.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// The block node of a layer that was opened as one.
pub(super) fn node_of(layer: &Path) -> String {
    format!("vv.{}", layer.file_stem().unwrap_or_default().to_string_lossy())
}

/// The layer behind such a node.
fn layer_of(machine_dir: &Path, node: &str) -> Option<PathBuf> {
    Some(machine_dir.join(format!("{}.qcow2", node.strip_prefix("vv.")?)))
}

/// The disks a snapshot holds: all that a guest can write to.
///
/// # Errors
/// [`ErrorCode::Unsupported`] with the field, when one of them cannot have layers.
pub(crate) fn writable<'a>(dir: &Path, spec: &'a MachineSpec) -> Result<Vec<&'a Disk>, ErrorBody> {
    for (at, disk) in spec.disks.iter().enumerate().filter(|(_, disk)| !disk.read_only) {
        let refused = |why: &str, hint: &str| {
            Err(ErrorBody::new(ErrorCode::Unsupported, format!("{} {why}", disk.file.display()))
                .with_field(format!("spec.disks[{at}]"))
                .with_hint(hint))
        };
        if disk.key.is_some() {
            return refused(
                "is encrypted: a snapshot would hold what its guest wrote in the clear.",
                "Make a full copy of the machine instead, or use a disk without encryption.",
            );
        }
        if disk.format != DiskFormat::Qcow2 || !files::is_own(dir, disk) {
            return refused(
                "is used in place: only qcow2 disks in the machine's own directory have snapshots.",
                "Make a full clone of the machine: its disks are its own.",
            );
        }
    }
    Ok(spec.disks.iter().filter(|disk| !disk.read_only).collect())
}

/// New names for what the disks hold; what a run has opened under a layer's name keeps that.
pub(super) fn plan(dir: &Path, disks: &[&Disk], run: Option<&RunRecord>) -> Vec<Layer> {
    let layer = |disk: &&Disk| {
        let opened = run.and_then(|run| layer_of(dir, run.root(&disk.id)));
        Layer {
            disk: disk.id.clone(),
            file: disk.file.clone(),
            base: opened.unwrap_or_else(|| files::new_base(dir)),
            over: files::new_base(dir),
        }
    };
    disks.iter().map(layer).collect()
}

/// The files of an intent: the snapshot's directory, then of each disk its file, its frozen name, and what is put on.
pub(super) fn to_files(dir: PathBuf, layers: &[Layer]) -> Vec<PathBuf> {
    let names = layers.iter().flat_map(|layer| [layer.file.clone(), layer.base.clone(), layer.over.clone()]);
    std::iter::once(dir).chain(names).collect()
}

/// The disks of such an intent: file, frozen name, what is put on.
pub(super) fn of_files(files: &[PathBuf]) -> impl Iterator<Item = [&Path; 3]> {
    let names = files.get(1..).unwrap_or_default().chunks_exact(3);
    names.map(|names| [names[0].as_path(), names[1].as_path(), names[2].as_path()])
}

/// Gives a file a second name, in place of whatever has that.
///
/// # Errors
/// What the file system says; then nothing has changed.
pub(super) fn also_named(file: &Path, name: &Path) -> io::Result<()> {
    if same_file(file, name) {
        return Ok(());
    }
    let part = build::part_of(name);
    remove(&part)?;
    std::fs::hard_link(file, &part)?;
    std::fs::rename(&part, name)
}

fn remove(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Puts right what a layer that was being put on has left, when no process uses the disk: an overlay somebody wrote to stays, an
/// empty one goes. Either way the disk shows what it showed.
pub(super) fn settle([file, base, over]: [&Path; 3]) {
    let written = image::header(over).ok().flatten().is_some_and(|header| !header.untouched);
    let settle = || -> io::Result<()> {
        remove(&build::part_of(file))?;
        if written && !same_file(over, file) {
            tracing::warn!(file = %file.display(), "a layer that was put on by an owner that ended is taken over");
            if !base.exists() {
                std::fs::hard_link(file, base)?;
            }
            also_named(over, file)?;
        } else if over.exists() && !same_file(over, file) {
            remove(over)?;
        }
        // Of what is written to, the disk's own name is enough.
        for layer in [base, over] {
            if layer.exists() && same_file(file, layer) {
                remove(layer)?;
            }
        }
        Ok(())
    };
    if let Err(error) = settle() {
        tracing::error!(file = %file.display(), %error, "what a cut snapshot left cannot be put right");
    }
}

/// Takes the layers' names of what is written to away: no process knows the disks by them any more.
pub(crate) fn drop_twins(machine_dir: &Path, spec: &MachineSpec) {
    use std::os::unix::fs::MetadataExt;
    let disks: Vec<&Disk> = spec.disks.iter().filter(|disk| files::is_own(machine_dir, disk)).collect();
    for base in files::bases(machine_dir) {
        let several = std::fs::metadata(&base).is_ok_and(|file| file.nlink() > 1);
        if several && disks.iter().any(|disk| same_file(&disk.file, &base)) {
            drop(remove(&base));
        }
    }
}

#[cfg(test)]
mod tests {
    use voidvm_model::Bytes;

    use super::*;

    struct Dir {
        dir: tempfile::TempDir,
        file: PathBuf,
        base: PathBuf,
        over: PathBuf,
    }

    impl Dir {
        /// A disk of which a running machine's snapshot was being taken: `done` names were given, and the guest had written.
        fn cut(done: usize, written: bool) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            let (file, base, over) = (at("disk0.qcow2"), at("base-1.qcow2"), at("base-2.qcow2"));
            std::fs::write(at("ground.raw"), [7; 4096]).unwrap();
            image::overlay(&file, &at("ground.raw"), DiskFormat::Raw, Bytes(4096)).unwrap();
            if done > 0 {
                std::fs::hard_link(&file, &base).unwrap();
                image::overlay(&over, &base, DiskFormat::Qcow2, Bytes(4096)).unwrap();
            }
            if written {
                // A first-level entry: something was written.
                use std::os::unix::fs::FileExt;
                let over = std::fs::File::options().write(true).open(&over).unwrap();
                over.write_all_at(&[1], 3 * 65536).unwrap();
            }
            if done > 1 {
                also_named(&over, &file).unwrap();
            }
            Self { dir, file, base, over }
        }

        fn settle(&self) -> Vec<String> {
            settle([&self.file, &self.base, &self.over]);
            let entries = std::fs::read_dir(self.dir.path()).unwrap().flatten();
            let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn what_a_kill_leaves_of_an_empty_layer_is_the_disk_alone() {
        for done in [0, 1] {
            let dir = Dir::cut(done, false);
            let before = std::fs::read(&dir.file).unwrap();
            assert_eq!(dir.settle(), ["disk0.qcow2", "ground.raw"]);
            assert_eq!(std::fs::read(&dir.file).unwrap(), before);
        }
    }

    #[test]
    fn a_layer_that_was_written_to_or_named_is_taken_over() {
        for (done, written) in [(1, true), (2, true), (2, false)] {
            let dir = Dir::cut(done, written);
            let over = std::fs::read(&dir.over).unwrap();
            assert_eq!(dir.settle(), ["base-1.qcow2", "disk0.qcow2", "ground.raw"]);
            assert_eq!(std::fs::read(&dir.file).unwrap(), over);
            let chain = image::backing_files(&dir.file).unwrap();
            assert_eq!(chain[1], dir.base);
            assert_eq!(dir.settle().len(), 3);
        }
    }

    #[test]
    fn an_intent_names_each_disk_with_its_layers() {
        let layer = Layer {
            disk: "d".parse().unwrap(),
            file: "/m/d".into(),
            base: "/m/base-0123.qcow2".into(),
            over: "/m/base-4567.qcow2".into(),
        };
        let files = to_files("/m/snapshots/1".into(), std::slice::from_ref(&layer));
        let names = [layer.file.as_path(), layer.base.as_path(), layer.over.as_path()];
        assert_eq!(of_files(&files).collect::<Vec<_>>(), [names]);
        assert_eq!(
            (node_of(&layer.base).as_str(), layer.name().as_str()),
            ("vv.base-0123", "base-0123.qcow2")
        );
        assert_eq!(layer_of(Path::new("/m"), "vv.base-0123").unwrap(), layer.base);
        assert_eq!(layer_of(Path::new("/m"), "disk0"), None);
    }
}
