//! Who stands on whose disks: found in the headers of the images themselves, so that nothing recorded elsewhere can be wrong.
//!
//! ```text
//! child: disk0 ─▶ base of the parent ─▶ base of the grandparent
//!          └── let go of the parent: its part is copied into disk0 ──▶ base of the grandparent
//! ```

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use voidvm_model::operation::Progress;
use voidvm_model::spec::DiskFormat;
use voidvm_model::{Bytes, ErrorBody, ErrorCode, VmId, VmView};
use voidvm_qemu::image::{self, CopyProgress};
use voidvm_store::VmRow;

use super::{build, clone, files};
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

/// How copying goes on: told, and given up.
pub(crate) struct Pace {
    pub(crate) progress: watch::Sender<Option<Progress>>,
    pub(crate) cancel: CancellationToken,
}

/// Makes sure that nobody stands on the machine's files. Whoever did is held still until the loans are dropped.
///
/// # Errors
/// [`ErrorCode::HasChildren`] when somebody does and may not be changed; what is in the way of changing them else. Those that
/// were changed before stay so, showing what they showed, also when it is given up.
pub(crate) async fn let_go(
    shared: &Arc<Shared>,
    vm: &VmRow,
    how: Children,
    pace: &Pace,
) -> Result<Vec<Loan>, ErrorBody> {
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
            flatten(shared, &found, pace).await?;
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
async fn flatten(shared: &Shared, children: &[Child], pace: &Pace) -> Result<(), ErrorBody> {
    let img = platform::qemu_img(shared.preferences().qemu_binary)?;
    let tops: BTreeMap<_, _> =
        children.iter().flat_map(|child| &child.tops).map(|(top, below)| (top, below)).collect();
    let mut sizes = Vec::new();
    for (top, below) in &tops {
        sizes.push(between(top, below.as_deref())?);
    }
    let (total, mut before) = (sizes.iter().sum(), 0);
    for ((top, below), size) in tops.into_iter().zip(sizes) {
        build::check_space(shared, top, Bytes(size)).await?;
        let format = match below {
            Some(below) => Some(format_of(below)?),
            None => None,
        };
        let below = below.as_deref().zip(format);
        tracing::info!(file = %top.display(), "is copied free of a machine that goes");
        let hundredths = CopyProgress::new(0);
        let mut done = hundredths.subscribe();
        let copying = img.rebase(top, below, &hundredths, &pace.cancel);
        tokio::pin!(copying);
        loop {
            tokio::select! {
                biased;
                copied = &mut copying => break copied.map_err(|error| error.body())?,
                Ok(()) = done.changed() => {
                    let part = size / 10_000 * u64::from(*done.borrow_and_update());
                    pace.progress.send_replace(Some(Progress { done: before + part, total }));
                }
            }
        }
        before += size;
        pace.progress.send_replace(Some(Progress { done: before, total }));
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

/// What lies between a file and what is to be below it.
fn between(top: &Path, below: Option<&Path>) -> Result<u64, ErrorBody> {
    let all = |file| clone::allocated(file);
    let own = std::fs::metadata(top).map_err(|error| files::io_error(top, &error))?.blocks() * 512;
    let kept = below.map_or(Ok(0), all)?;
    Ok(all(top)?.saturating_sub(own).saturating_sub(kept))
}

fn format_of(file: &Path) -> Result<DiskFormat, ErrorBody> {
    let found = image::header(file).map_err(|error| files::io_error(file, &error))?;
    Ok(if found.is_some() { DiskFormat::Qcow2 } else { DiskFormat::Raw })
}
