//! Who stands on whose disks: found in the headers of the images themselves, so that nothing recorded elsewhere can be wrong.
//!
//! ```text
//! child: disk0 ─▶ base of the parent ─▶ base of the grandparent
//!          └── let go of the parent: its part is copied into disk0 ──▶ base of the grandparent
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use voidvm_model::spec::DiskFormat;
use voidvm_model::{ErrorBody, ErrorCode, VmId, VmView};
use voidvm_qemu::image;
use voidvm_store::VmRow;

use super::files;
use crate::platform;
use crate::shared::Shared;
use crate::supervisor::Children;
use crate::supervisor::lend::Loan;

/// A machine whose disks stand on files of another one.
pub(crate) struct Child {
    pub(crate) id: VmId,
    pub(crate) name: String,
    /// The files that stand directly on it, each with what lies below the other machine's files.
    tops: Vec<(PathBuf, Option<PathBuf>)>,
}

/// The machines that stand on files in this directory, by name.
pub(crate) fn children(views: &[Arc<VmView>], dir: &Path, except: VmId) -> Vec<Child> {
    let Ok(dir) = dir.canonicalize() else { return Vec::new() };
    let inside = |file: &Path| {
        file.parent().and_then(|parent| parent.canonicalize().ok()).is_some_and(|parent| parent == dir)
    };
    let mut found = Vec::new();
    for view in views.iter().filter(|view| view.id != except) {
        let mut tops = Vec::new();
        for disk in &view.spec.disks {
            let Ok(chain) = image::backing_files(&disk.file) else { continue };
            let Some(at) = chain.windows(2).position(|pair| !inside(&pair[0]) && inside(&pair[1])) else {
                continue;
            };
            let below = chain[at + 1..].iter().find(|file| !inside(file)).cloned();
            tops.push((chain[at].clone(), below));
        }
        if !tops.is_empty() {
            found.push(Child { id: view.id, name: view.name.clone(), tops });
        }
    }
    found
}

/// Says who is in the way.
pub(crate) fn has_children(name: &str, children: &[Child]) -> ErrorBody {
    let names: Vec<&str> = children.iter().map(|child| child.name.as_str()).collect();
    ErrorBody::new(
        ErrorCode::HasChildren,
        format!("Linked clones stand on the disks of “{name}”: {}.", names.join(", ")),
    )
    .with_hint("Delete them first, or let what they need be copied into them (--flatten).")
    .with_detail("children", names)
}

/// Makes sure that nobody stands on the machine's files. Whoever did is held still until the loans are dropped.
///
/// # Errors
/// [`ErrorCode::HasChildren`] when somebody does and may not be changed; what is in the way of changing them else. Those that
/// were changed before stay so, showing what they showed.
pub(crate) async fn let_go(shared: &Arc<Shared>, vm: &VmRow, how: Children) -> Result<Vec<Loan>, ErrorBody> {
    let dir = shared.config.machine_dir(vm.id);
    let mut loans: Vec<Loan> = Vec::new();
    loop {
        let found = look(shared, &dir, vm.id).await?;
        if found.is_empty() {
            return Ok(loans);
        }
        if how == Children::Refuse {
            return Err(has_children(&vm.name, &found));
        }
        // A child may have got a clone of its own before it was held: then there is one more to see.
        let free: Vec<VmId> = found
            .iter()
            .map(|child| child.id)
            .filter(|id| !loans.iter().any(|loan| loan.vm.id == *id))
            .collect();
        if free.is_empty() {
            flatten(shared, &found).await?;
            continue;
        }
        for id in free {
            loans.push(shared.fleet.get(id)?.lend().await?);
        }
    }
}

async fn look(shared: &Shared, dir: &Path, except: VmId) -> Result<Vec<Child>, ErrorBody> {
    let (views, dir) = (shared.fleet.views(), dir.to_owned());
    tokio::task::spawn_blocking(move || children(&views, &dir, except))
        .await
        .map_err(|error| ErrorBody::new(ErrorCode::Internal, format!("The work ended early: {error}.")))
}

/// Copies what is needed into each file that stands on the machine. At every instant each shows what it showed.
async fn flatten(shared: &Shared, children: &[Child]) -> Result<(), ErrorBody> {
    let img = platform::qemu_img(shared.preferences().qemu_binary)?;
    let mut done = BTreeSet::new();
    for (top, below) in children.iter().flat_map(|child| &child.tops) {
        if !done.insert(top) {
            continue;
        }
        let format = match below {
            Some(below) => Some(format_of(below)?),
            None => None,
        };
        let below = below.as_deref().zip(format);
        tracing::info!(file = %top.display(), "is copied free of a machine that goes");
        img.rebase(top, below).await.map_err(|error| error.body())?;
        let report = img.check(top).await.map_err(|error| error.body())?;
        if !report.is_sound() {
            return Err(ErrorBody::new(
                ErrorCode::ImageInvalid,
                format!("{} is not sound after it was copied; nothing was deleted.", top.display()),
            )
            .with_hint("Check the disk it is on, and the image with qemu-img check."));
        }
    }
    Ok(())
}

fn format_of(file: &Path) -> Result<DiskFormat, ErrorBody> {
    let found = image::header(file).map_err(|error| files::io_error(file, &error))?;
    Ok(if found.is_some() { DiskFormat::Qcow2 } else { DiskFormat::Raw })
}
