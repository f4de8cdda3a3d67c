//! The volume a request is about: found in its pool's list, held, and asked whether it may be touched.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use voidvm_model::spec::DiskFormat;
use voidvm_model::{Bytes, ErrorBody, ErrorCode, PoolId, VmState};

use super::hold::Hold;
use super::list::{self, Entry};
use super::pools::{self, Place};
use crate::fleet::same_file;
use crate::shared::Shared;

/// A volume in hand: nobody else works on it.
pub(super) struct Target {
    pub(super) place: Place,
    pub(super) entry: Entry,
    pub(super) hold: Hold,
}

/// Finds a volume and holds it.
///
/// # Errors
/// [`ErrorCode::NotFound`] when the pool's list does not have it; [`ErrorCode::Busy`] while it is worked on.
pub(super) async fn find(shared: &Arc<Shared>, pool: PoolId, path: &str) -> Result<Target, ErrorBody> {
    let place = pools::find(shared, pool).await?;
    let path = PathBuf::from(path);
    let hold = shared.holds.hold(&path)?;
    let entry = list::entries(shared, place.clone()).await?.into_iter().find(|entry| entry.path == path);
    let entry = entry.ok_or_else(|| {
        ErrorBody::new(ErrorCode::NotFound, format!("{} is no volume of “{}”.", path.display(), place.name))
            .with_field("path")
            .with_hint("Look at the list of volumes anew.")
    })?;
    Ok(Target { place, entry, hold })
}

impl Target {
    /// The file name.
    pub(super) fn name(&self) -> String {
        self.entry.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The format, where the content can be worked on.
    ///
    /// # Errors
    /// [`ErrorCode::ImageInvalid`] for what is no disk; [`ErrorCode::Unsupported`] for content that cannot be read here.
    pub(super) fn readable(&self) -> Result<DiskFormat, ErrorBody> {
        let shown = self.entry.path.display();
        let refuse = |message: String, hint: &str| {
            Err(ErrorBody::new(ErrorCode::Unsupported, message).with_hint(hint.to_owned()).with_field("path"))
        };
        if self.entry.encrypted {
            return refuse(
                format!("{shown} is encrypted: what is in it cannot be read without its key."),
                "It can be moved and removed; change what is in it from within its machine.",
            );
        }
        if self.entry.external_data {
            return refuse(
                format!("{shown} keeps its content in another file."),
                "Convert it with qemu-img convert first.",
            );
        }
        self.entry.format.ok_or_else(|| {
            ErrorBody::new(ErrorCode::ImageInvalid, format!("{shown} is no disk voidVM can work on."))
                .with_field("path")
                .with_hint("Import it into the image library: that converts it.")
        })
    }

    /// Makes sure that no image stands on it.
    ///
    /// # Errors
    /// [`ErrorCode::HasChildren`] with their names.
    pub(super) fn childless(&self) -> Result<(), ErrorBody> {
        childless(&self.entry.path, &self.entry.children)
    }

    /// Makes sure that nothing inside it would be lost in a copy.
    ///
    /// # Errors
    /// [`ErrorCode::Unsupported`].
    pub(super) fn without_snapshots(&self) -> Result<(), ErrorBody> {
        if self.entry.snapshots == 0 {
            return Ok(());
        }
        Err(ErrorBody::new(
            ErrorCode::Unsupported,
            format!("{} has snapshots inside, which this would lose.", self.entry.path.display()),
        )
        .with_field("path")
        .with_hint("Remove them with qemu-img snapshot -d first."))
    }

    /// Makes sure that no machine that uses it has a process now. It is asked again when the work begins.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidState`].
    pub(super) fn at_rest(&self, shared: &Shared) -> Result<(), ErrorBody> {
        for user in &self.entry.users {
            let view = shared.fleet.get(user.id)?.view();
            check_at_rest(&view.name, view.state)?;
        }
        Ok(())
    }

    /// Makes sure that no machine has it.
    ///
    /// # Errors
    /// [`ErrorCode::FileInUse`] with the machine.
    pub(super) fn without_user(&self) -> Result<(), ErrorBody> {
        let Some(user) = self.entry.users.first() else { return Ok(()) };
        Err(ErrorBody::new(
            ErrorCode::FileInUse,
            format!("{} is a disk of “{}”.", self.entry.path.display(), user.name),
        )
        .with_hint("Take it out of the machine first.")
        .with_detail("path", self.entry.path.to_string_lossy().into_owned())
        .with_detail("usedBy", user.name.as_str()))
    }

    /// Makes sure that it is not the file of an image of the library.
    ///
    /// # Errors
    /// [`ErrorCode::FileInUse`] with the image; the store's.
    pub(super) async fn no_image(&self, shared: &Shared) -> Result<(), ErrorBody> {
        let images = shared.store.images().list().await.map_err(|error| error.body())?;
        let Some(image) = images.iter().find(|image| same_file(&image.path, &self.entry.path)) else {
            return Ok(());
        };
        Err(ErrorBody::new(
            ErrorCode::FileInUse,
            format!("{} is the image “{}” of the library.", self.entry.path.display(), image.name),
        )
        .with_hint("Remove the image from the library first.")
        .with_detail("usedBy", image.name.as_str()))
    }

    /// What a copy of all it shows takes at most.
    pub(super) fn content(&self) -> Bytes {
        let below = voidvm_qemu::image::backing_files(&self.entry.path).unwrap_or_default();
        let below = below.iter().skip(1).filter_map(|path| std::fs::metadata(path).ok());
        let below: u64 = below.map(|metadata| std::os::unix::fs::MetadataExt::blocks(&metadata) * 512).sum();
        Bytes(self.entry.allocated.0.saturating_add(below).min(self.entry.virtual_size.0.max(1 << 20)))
    }
}

/// Makes sure that no image voidVM knows of stands on a file.
///
/// # Errors
/// As [`childless`]; the store's.
pub(crate) async fn check_childless(shared: &Shared, file: &Path) -> Result<(), ErrorBody> {
    childless(file, list::standing(shared).await?.on(file))
}

/// Makes sure that no image stands on a file.
///
/// # Errors
/// [`ErrorCode::HasChildren`] with the names of the machines, or of the files that no machine has.
fn childless(file: &Path, children: &[(PathBuf, Option<String>)]) -> Result<(), ErrorBody> {
    if children.is_empty() {
        return Ok(());
    }
    let mut names: Vec<String> = children
        .iter()
        .map(|(path, owner)| owner.clone().unwrap_or_else(|| path.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    names.dedup();
    Err(ErrorBody::new(
        ErrorCode::HasChildren,
        format!("{} is what others stand on: {}.", file.display(), names.join(", ")),
    )
    .with_hint("Flatten or remove those first.")
    .with_detail("children", names))
}

/// Makes sure that a machine in this state has all it is on its disks.
///
/// # Errors
/// [`ErrorCode::InvalidState`].
pub(super) fn check_at_rest(name: &str, state: VmState) -> Result<(), ErrorBody> {
    let hint = match state {
        VmState::Stopped | VmState::Crashed | VmState::Broken => return Ok(()),
        VmState::Suspended => "Resume it and shut it down first: what it was doing belongs to its disks.",
        _ => "Stop it first.",
    };
    Err(ErrorBody::new(
        ErrorCode::InvalidState,
        format!("“{name}” is {state}; its disks can be worked on only while it is stopped."),
    )
    .with_hint(hint)
    .with_detail("state", state.as_str()))
}
