//! The layers of a machine's disks: which disks have them, and how one more is put on.
//!
//! ```text
//! disk0.qcow2 ──▶ (old file)      second name: base-…qcow2      disk0.qcow2 ──▶ overlay ──▶ base-…qcow2
//!                                 overlay in disk0.qcow2.part
//! ```
//! Invariant: at every instant a disk's name leads to what the disk shows; what a kill leaves is one name too many ([`settle`]).

use std::io;
use std::path::{Path, PathBuf};

use voidvm_model::spec::{Disk, DiskFormat};
use voidvm_model::{DeviceId, ErrorBody, ErrorCode, MachineSpec};
use voidvm_qemu::image;

use crate::fleet::same_file;
use crate::ops::{build, files};

/// A disk and the name that what it holds gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) disk: DeviceId,
    /// The disk's file, which the guest writes to.
    pub(super) file: PathBuf,
    /// What it held, frozen.
    pub(super) base: PathBuf,
}

impl Layer {
    /// The frozen file's name in the machine's directory.
    pub(super) fn name(&self) -> String {
        self.base.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// The block node of the overlay that stands on a frozen file.
pub(super) fn node_on(base: &Path) -> String {
    format!("vv.{}", base.file_stem().unwrap_or_default().to_string_lossy())
}

/// The disks a snapshot holds: all that a guest can write to.
///
/// # Errors
/// [`ErrorCode::Unsupported`] with the field, when one of them cannot have layers.
pub(super) fn writable<'a>(dir: &Path, spec: &'a MachineSpec) -> Result<Vec<&'a Disk>, ErrorBody> {
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

/// New names for what the disks hold.
pub(super) fn plan(dir: &Path, disks: &[&Disk]) -> Vec<Layer> {
    let layer = |disk: &&Disk| Layer {
        disk: disk.id.clone(),
        file: disk.file.clone(),
        base: files::new_base(dir),
    };
    disks.iter().map(layer).collect()
}

/// The files of an intent: the snapshot's directory, then each disk with its frozen name.
pub(super) fn to_files(dir: PathBuf, layers: &[Layer]) -> Vec<PathBuf> {
    let pairs = layers.iter().flat_map(|layer| [layer.file.clone(), layer.base.clone()]);
    std::iter::once(dir).chain(pairs).collect()
}

/// The disks of such an intent, each with its frozen name.
pub(super) fn of_files(files: &[PathBuf]) -> impl Iterator<Item = (&Path, &Path)> {
    files.get(1..).unwrap_or_default().chunks_exact(2).map(|pair| (pair[0].as_path(), pair[1].as_path()))
}

/// Gives what the disk held its second name, and the overlay the first.
///
/// # Errors
/// What the file system says; [`settle`] puts right what is half done.
pub(super) fn swap(file: &Path, base: &Path) -> io::Result<()> {
    match std::fs::hard_link(file, base) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && same_file(file, base) => {}
        linked => linked?,
    }
    std::fs::rename(build::part_of(file), file)
}

/// Puts right what a layer that was being put on has left, when no process uses the disk: an overlay somebody wrote to stays, an
/// empty one goes. Either way the disk shows what it showed.
pub(super) fn settle(file: &Path, base: &Path) {
    let part = build::part_of(file);
    let written = image::header(&part).ok().flatten().is_some_and(|header| !header.untouched);
    let settled = if written {
        tracing::warn!(file = %file.display(), "a layer that was put on by an owner that ended is taken over");
        swap(file, base)
    } else {
        let gone = |path: &Path| match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        let twin = base.exists() && same_file(file, base);
        gone(&part).and_then(|()| if twin { gone(base) } else { Ok(()) })
    };
    if let Err(error) = settled {
        tracing::error!(file = %file.display(), %error, "what a cut snapshot left cannot be put right");
    }
}

#[cfg(test)]
mod tests {
    use voidvm_model::Bytes;

    use super::*;

    struct Dir(tempfile::TempDir);

    impl Dir {
        fn new() -> (Self, PathBuf, PathBuf) {
            let dir = Self(tempfile::tempdir().unwrap());
            let (file, base) = (dir.0.path().join("disk0.qcow2"), dir.0.path().join("base-1.qcow2"));
            let ground = dir.0.path().join("ground.raw");
            std::fs::write(&ground, [7; 4096]).unwrap();
            image::overlay(&file, &ground, DiskFormat::Raw, Bytes(4096)).unwrap();
            (dir, file, base)
        }

        fn part(file: &Path, base: &Path, written: bool) {
            let part = build::part_of(file);
            image::overlay(&part, base, DiskFormat::Qcow2, Bytes(4096)).unwrap();
            if written {
                // A first-level entry: something was written.
                use std::os::unix::fs::FileExt;
                let part = std::fs::File::options().write(true).open(part).unwrap();
                part.write_all_at(&[1], 3 * 65536).unwrap();
            }
        }

        fn names(&self) -> Vec<String> {
            let entries = std::fs::read_dir(self.0.path()).unwrap().flatten();
            let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn what_a_kill_leaves_of_an_empty_layer_is_the_disk_alone() {
        for linked in [false, true] {
            let (dir, file, base) = Dir::new();
            Dir::part(&file, &base, false);
            if linked {
                std::fs::hard_link(&file, &base).unwrap();
            }
            let before = std::fs::read(&file).unwrap();
            settle(&file, &base);
            assert_eq!(dir.names(), ["disk0.qcow2", "ground.raw"]);
            assert_eq!(std::fs::read(&file).unwrap(), before);
        }
    }

    #[test]
    fn a_layer_that_was_written_to_is_taken_over() {
        for linked in [false, true] {
            let (dir, file, base) = Dir::new();
            Dir::part(&file, &base, true);
            if linked {
                std::fs::hard_link(&file, &base).unwrap();
            }
            let (below, top) = (std::fs::read(&file).unwrap(), std::fs::read(build::part_of(&file)).unwrap());
            settle(&file, &base);
            assert_eq!(dir.names(), ["base-1.qcow2", "disk0.qcow2", "ground.raw"]);
            assert_eq!((std::fs::read(&base).unwrap(), std::fs::read(&file).unwrap()), (below, top));
            settle(&file, &base);
            assert_eq!(dir.names().len(), 3);
        }
    }

    #[test]
    fn an_intent_names_each_disk_with_its_layer() {
        let layer = Layer { disk: "d".parse().unwrap(), file: "/m/d".into(), base: "/m/base-0123.qcow2".into() };
        let files = to_files("/m/snapshots/1".into(), std::slice::from_ref(&layer));
        assert_eq!(of_files(&files).collect::<Vec<_>>(), [(layer.file.as_path(), layer.base.as_path())]);
        assert_eq!((node_on(&layer.base).as_str(), layer.name().as_str()), ("vv.base-0123", "base-0123.qcow2"));
    }
}
