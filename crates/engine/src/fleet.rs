//! The machines there are, and those being made: who has which name, who uses which file, who holds which port.
//!
//! Invariants: a list is read from watch values and never from the store; a name or file is promised to at most one creation.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use voidvm_model::spec::{Disk, PortForward};
use voidvm_model::{ErrorBody, ErrorCode, MachineSpec, VmId, VmView};

use crate::supervisor::Machine;

#[derive(Debug, Default)]
pub(crate) struct Fleet {
    machines: RwLock<BTreeMap<VmId, Arc<Machine>>>,
    promised: Arc<Mutex<BTreeMap<VmId, Promise>>>,
}

/// What a machine that is being made will have.
#[derive(Debug)]
struct Promise {
    name: String,
    file: Option<PathBuf>,
}

/// A name and a file kept for a machine that is being made; free again when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    promised: Arc<Mutex<BTreeMap<VmId, Promise>>>,
    id: VmId,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Fleet {
    fn promised(&self) -> MutexGuard<'_, BTreeMap<VmId, Promise>> {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every machine.
    pub(crate) fn all(&self) -> Vec<Arc<Machine>> {
        let machines = self.machines.read().unwrap_or_else(PoisonError::into_inner);
        machines.values().cloned().collect()
    }

    /// One machine.
    ///
    /// # Errors
    /// [`ErrorCode::VmNotFound`].
    pub(crate) fn get(&self, id: VmId) -> Result<Arc<Machine>, ErrorBody> {
        let machines = self.machines.read().unwrap_or_else(PoisonError::into_inner);
        machines.get(&id).cloned().ok_or_else(|| {
            ErrorBody::new(ErrorCode::VmNotFound, format!("No machine has the id {id}."))
                .with_hint("It may have been deleted; look at the list.")
        })
    }

    pub(crate) fn add(&self, machine: Arc<Machine>) {
        let mut machines = self.machines.write().unwrap_or_else(PoisonError::into_inner);
        machines.insert(machine.id, machine);
    }

    pub(crate) fn forget(&self, id: VmId) {
        self.machines.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Every view, by name.
    pub(crate) fn views(&self) -> Vec<Arc<VmView>> {
        let mut views: Vec<_> = self.all().iter().map(|machine| machine.view()).collect();
        views.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
        views
    }

    /// Keeps a name, and a disk file used in place, for a machine that is being made.
    ///
    /// # Errors
    /// [`ErrorCode::NameTaken`], [`ErrorCode::FileInUse`].
    pub(crate) fn reserve(
        &self,
        id: VmId,
        name: &str,
        file: Option<&Path>,
    ) -> Result<Reservation, ErrorBody> {
        let mut promised = self.promised();
        let taken = self.views().iter().any(|view| view.name == name)
            || promised.values().any(|promise| promise.name == name);
        if taken {
            return Err(ErrorBody::new(
                ErrorCode::NameTaken,
                format!("A machine named “{name}” exists already."),
            )
            .with_field("name")
            .with_hint("Choose another name."));
        }
        if let Some(file) = file {
            let user = self.user_of(file, None);
            let promised_to = promised
                .values()
                .find(|promise| promise.file.as_deref().is_some_and(|other| same_file(other, file)));
            if let Some(user) = user.or_else(|| promised_to.map(|promise| promise.name.clone())) {
                return Err(file_in_use(file, &user).with_field("source.path"));
            }
        }
        promised.insert(id, Promise { name: name.to_owned(), file: file.map(Path::to_owned) });
        Ok(Reservation { promised: Arc::clone(&self.promised), id })
    }

    /// The machines that are being made.
    pub(crate) fn promised_ids(&self) -> BTreeSet<VmId> {
        self.promised().keys().copied().collect()
    }

    /// The name of the machine, other than `except`, that has this file as a disk or in a drive it could not share.
    pub(crate) fn user_of(&self, file: &Path, except: Option<VmId>) -> Option<String> {
        let views = self.views();
        let user = views.iter().find(|view| {
            Some(view.id) != except && view.spec.disks.iter().any(|disk| same_file(&disk.file, file))
        })?;
        Some(user.name.clone())
    }

    /// The name of the machine, other than `except`, that cannot share a disk's file: one of the two would write to it.
    pub(crate) fn rival_of(&self, disk: &Disk, except: VmId) -> Option<String> {
        let views = self.views();
        let rival = views.iter().find(|view| {
            let shares =
                |other: &Disk| (other.read_only && disk.read_only) || !same_file(&other.file, &disk.file);
            view.id != except && !view.spec.disks.iter().all(shares)
        })?;
        Some(rival.name.clone())
    }

    /// The live machine, other than `except`, that holds one of these host ports; with the port.
    pub(crate) fn holder_of_ports(&self, spec: &MachineSpec, except: VmId) -> Option<(String, PortForward)> {
        for machine in self.all() {
            let Some(run) = machine.run().filter(|_| machine.id != except) else { continue };
            let held = run.record();
            let clash = spec.forwards().find(|wanted| held.spec.forwards().any(|one| one.conflicts(wanted)));
            if let Some(clash) = clash {
                return Some((machine.view().name.clone(), *clash));
            }
        }
        None
    }
}

/// A file that two machines would write to.
pub(crate) fn file_in_use(file: &Path, user: &str) -> ErrorBody {
    ErrorBody::new(ErrorCode::FileInUse, format!("{} is a disk of “{user}”.", file.display()))
        .with_hint("Copy the image instead, or choose another one.")
        .with_detail("path", file.to_string_lossy().into_owned())
        .with_detail("usedBy", user)
}

/// Whether two paths are on one file system.
pub(crate) fn same_disk(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (std::fs::metadata(one), std::fs::metadata(other)) {
        (Ok(one), Ok(other)) => one.dev() == other.dev(),
        _ => false,
    }
}

/// Whether two paths lead to one file, through links of any kind.
pub(crate) fn same_file(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    if one == other {
        return true;
    }
    // Names alone cannot tell; only files that exist can be one.
    match (std::fs::metadata(one), std::fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}
