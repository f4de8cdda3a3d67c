//! Which machines read a file: as a disk, below a disk, or in a drive.

use std::collections::{BTreeMap, HashMap};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use voidvm_model::image::ImageUser;
use voidvm_model::{VmId, VmView};
use voidvm_qemu::image::backing_files;

/// Files by device and inode, so that links and other spellings of a path hide nothing; and who reads each.
#[derive(Debug, Default)]
pub(super) struct Users(HashMap<(u64, u64), BTreeMap<VmId, String>>);

impl Users {
    /// Looks through the chains of these machines' disks: an open and a read for each file.
    pub(super) fn look<'a>(machines: impl Iterator<Item = &'a VmView>) -> Self {
        let mut users = Self::default();
        for machine in machines {
            for disk in &machine.spec.disks {
                // A chain that is broken is still read as far as it goes.
                users.add(machine, &disk.file);
                for file in backing_files(&disk.file).unwrap_or_default().iter().skip(1) {
                    users.add(machine, file);
                }
            }
            for file in machine.spec.cdroms.iter().filter_map(|cdrom| cdrom.file.as_deref()) {
                users.add(machine, file);
            }
        }
        users
    }

    fn add(&mut self, machine: &VmView, file: &Path) {
        if let Ok(metadata) = std::fs::metadata(file) {
            let users = self.0.entry((metadata.dev(), metadata.ino())).or_default();
            users.insert(machine.id, machine.name.clone());
        }
    }

    /// Who reads the file of this metadata.
    pub(super) fn of(&self, metadata: &Metadata) -> Vec<ImageUser> {
        let users = self.0.get(&(metadata.dev(), metadata.ino())).into_iter().flatten();
        users.map(|(id, name)| ImageUser { id: *id, name: name.clone() }).collect()
    }
}
