//! A machine's snapshots as everybody is shown them: what each takes, and what is wrong with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use voidvm_model::contract::Picture;
use voidvm_model::snapshot::{Snapshot, SnapshotRef, SnapshotTree, SnapshotUpdateRequest};
use voidvm_model::{Bytes, ErrorBody, Event, Origin, VmId};
use voidvm_qemu::image::Chains;
use voidvm_store::SnapshotRow;

use super::job::blocking;
use super::restore::check_chains;
use super::take::layer_files;
use super::{kept, merge, names};
use crate::ops::{files, update as limits};
use crate::shared::Shared;
use crate::{picture as pixels, screen, storage};

/// The snapshots of a machine.
///
/// # Errors
/// No such machine; the store's.
pub(crate) async fn tree(shared: &Arc<Shared>, vm: VmId) -> Result<SnapshotTree, ErrorBody> {
    let machine = shared.fleet.get(vm)?;
    let rows = shared.store.snapshots().of(vm).await.map_err(|error| error.body())?;
    let dir = shared.config.machine_dir(vm);
    let standing = storage::standing(shared).await?;
    let mut named: BTreeMap<PathBuf, u32> = BTreeMap::new();
    for base in rows.iter().flat_map(|row| layer_files(&dir, row).into_values()) {
        *named.entry(base).or_default() += 1;
    }
    let unmerged = Bytes(merge::unmerged(shared, vm, &standing).await?);
    let spec = machine.view().spec.clone();
    blocking(move || {
        let mut chains = Chains::default();
        let depths = spec.disks.iter().filter_map(|disk| chains.backing_files(&disk.file).ok());
        let depth = depths.map(|chain| u32::try_from(chain.len()).unwrap_or(u32::MAX)).max().unwrap_or(0);
        let alone = |file: &Path| named.get(file) == Some(&1) && standing.on(file).is_empty();
        let snapshots = in_order(rows).into_iter().map(|row| shown(&dir, row, &mut chains, alone)).collect();
        Ok(SnapshotTree { snapshots, unmerged, depth })
    })
    .await
}

/// One snapshot.
///
/// # Errors
/// No such machine or snapshot; the store's.
async fn one(shared: &Arc<Shared>, vm: VmId, key: &str) -> Result<Snapshot, ErrorBody> {
    let rows = shared.store.snapshots().of(vm).await.map_err(|error| error.body())?;
    let id = names::find(&rows, key)?.id;
    let tree = tree(shared, vm).await?;
    tree.snapshots.into_iter().find(|snapshot| snapshot.id == id).ok_or_else(|| {
        ErrorBody::new(voidvm_model::ErrorCode::NotFound, "The snapshot has just been removed.")
    })
}

/// Oldest first, but no child before its parent: a clock may have been set back in between.
fn in_order(mut rows: Vec<SnapshotRow>) -> Vec<SnapshotRow> {
    let mut ordered: Vec<SnapshotRow> = Vec::with_capacity(rows.len());
    while !rows.is_empty() {
        let is_next = |row: &SnapshotRow| match row.parent {
            None => true,
            Some(parent) => {
                ordered.iter().any(|other| other.id == parent) || !rows.iter().any(|other| other.id == parent)
            }
        };
        // Rows that stand on each other in a ring are damage; they are shown all the same.
        let at = rows.iter().position(is_next).unwrap_or(0);
        ordered.push(rows.remove(at));
    }
    ordered
}

/// What a file takes on the disk; nothing where there is none.
pub(super) fn allocated(file: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(file).map_or(0, |file| file.blocks() * 512)
}

fn inode(file: PathBuf) -> Option<((u64, u64), u64)> {
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::metadata(file).ok()?;
    Some(((file.dev(), file.ino()), file.blocks() * 512))
}

/// What all layers and snapshots of a machine take.
pub(super) async fn taken(shared: &Shared, vm: VmId) -> Result<u64, ErrorBody> {
    let dir = shared.config.machine_dir(vm);
    let spec = shared.fleet.get(vm)?.view().spec.clone();
    blocking(move || {
        let disks = spec.disks.iter().filter(|disk| files::is_own(&dir, disk)).map(|disk| disk.file.clone());
        // A file may have two names.
        let layers: BTreeMap<_, _> = files::bases(&dir).into_iter().chain(disks).filter_map(inode).collect();
        Ok(layers.values().sum::<u64>() + kept::dirs(&dir).iter().map(|dir| kept::size(dir)).sum::<u64>())
    })
    .await
}

fn shown(
    machine_dir: &Path,
    row: SnapshotRow,
    chains: &mut Chains,
    alone: impl Fn(&Path) -> bool,
) -> Snapshot {
    let own = kept::size(&kept::dir(machine_dir, row.id));
    let layers = layer_files(machine_dir, &row);
    let size = own + layers.values().map(|file| allocated(file)).sum::<u64>();
    let frees = layers.values().filter(|file| alone(file)).map(|file| allocated(file));
    Snapshot {
        size: Bytes(size),
        frees: Bytes(own + frees.sum::<u64>()),
        trouble: check_chains(machine_dir, &row, chains).err(),
        id: row.id,
        vm_id: row.vm_id,
        name: row.name,
        description: row.description,
        tags: row.tags,
        reason: row.reason,
        keep: row.keep,
        group_snapshot: row.group_snapshot,
        parent: row.parent,
        current: row.current,
        created_at: row.created_at,
        memory: row.memory,
        consistency: row.consistency,
        pause_ms: row.pause_ms,
        total_ms: row.total_ms,
        spec: row.spec,
    }
}

/// Changes what a snapshot is called and said of; touches no data.
///
/// # Errors
/// What does not hold, with its field.
pub(crate) async fn update(
    shared: &Arc<Shared>,
    request: SnapshotUpdateRequest,
    origin: Origin,
) -> Result<Snapshot, ErrorBody> {
    shared.fleet.get(request.id)?;
    let rows = shared.store.snapshots().of(request.id).await.map_err(|error| error.body())?;
    let mut row = names::find(&rows, &request.snapshot)?.clone();
    if let Some(name) = request.name.filter(|name| *name != row.name) {
        names::check(&name, &rows)?;
        row.name = name;
    }
    if let Some(description) = request.description {
        limits::check_description(&description)?;
        row.description = description;
    }
    if let Some(tags) = request.tags {
        limits::check_tags("tags", &tags)?;
        row.tags = tags;
    }
    row.keep = request.keep.unwrap_or(row.keep);
    shared.store.snapshots().update(&row).await.map_err(|error| error.body())?;
    shared.bus.publish(origin, Event::SnapshotsChanged { vm_id: request.id });
    one(shared, request.id, &row.id.to_string()).await
}

/// The screen at the instant of a snapshot.
///
/// # Errors
/// No such machine or snapshot.
pub(crate) async fn picture(shared: &Shared, request: SnapshotRef) -> Result<Option<Picture>, ErrorBody> {
    shared.fleet.get(request.id)?;
    let rows = shared.store.snapshots().of(request.id).await.map_err(|error| error.body())?;
    let row = names::find(&rows, &request.snapshot)?;
    let (file, at): (_, Timestamp) =
        (kept::picture(&kept::dir(&shared.config.machine_dir(request.id), row.id)), row.created_at);
    blocking(move || {
        let Ok(png) = std::fs::read(&file) else { return Ok(None) };
        // One that is damaged is no picture.
        Ok(pixels::size(&png).ok().map(|size| screen::wrap(&png, size, at)))
    })
    .await
}
