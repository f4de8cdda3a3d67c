//! What differs between two snapshots, or between one and the present: how much of each disk was written since they were one,
//! and the hardware.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use voidvm_model::snapshot::{DiskDifference, SnapshotCompareRequest, SnapshotDifference};
use voidvm_model::{Bytes, DeviceId, ErrorBody, MachineSpec};
use voidvm_qemu::image;

use super::job::blocking;
use super::names;
use super::take::layer_files;
use crate::pending;
use crate::shared::Shared;

/// One side.
struct Side {
    spec: MachineSpec,
    /// The outermost file of each disk.
    tops: BTreeMap<DeviceId, PathBuf>,
}

/// Compares.
///
/// # Errors
/// No such machine or snapshot.
pub(crate) async fn compare(
    shared: &Arc<Shared>,
    request: SnapshotCompareRequest,
) -> Result<SnapshotDifference, ErrorBody> {
    let machine = shared.fleet.get(request.id)?;
    let rows = shared.store.snapshots().of(request.id).await.map_err(|error| error.body())?;
    let dir = shared.config.machine_dir(request.id);
    let side = |key: &str| {
        let row = names::find(&rows, key)?;
        Ok::<_, ErrorBody>(Side { spec: row.spec.clone(), tops: layer_files(&dir, row) })
    };
    let one = side(&request.snapshot)?;
    let other = if let Some(key) = &request.with {
        side(key)?
    } else {
        let spec = machine.view().spec.clone();
        let disks = spec.disks.iter().filter(|disk| !disk.read_only);
        let tops = disks.map(|disk| (disk.id.clone(), disk.file.clone())).collect();
        Side { spec, tops }
    };
    blocking(move || {
        let mut disks: Vec<&DeviceId> = one.tops.keys().chain(other.tops.keys()).collect();
        disks.sort();
        disks.dedup();
        let disks = disks
            .into_iter()
            .map(|disk| DiskDifference {
                disk: disk.clone(),
                changed: one
                    .tops
                    .get(disk)
                    .zip(other.tops.get(disk))
                    .and_then(|(a, b)| written_between(a, b)),
            })
            .collect();
        Ok(SnapshotDifference { disks, hardware: pending::changes(&one.spec, &other.spec) })
    })
    .await
}

/// What the layers hold that only one of the two stands on; `None` when they share nothing.
fn written_between(one: &Path, other: &Path) -> Option<Bytes> {
    use std::os::unix::fs::MetadataExt;
    let (one, other) = (image::backing_files(one).ok()?, image::backing_files(other).ok()?);
    if !one.iter().any(|file| other.contains(file)) {
        return None;
    }
    let apart = one
        .iter()
        .filter(|file| !other.contains(file))
        .chain(other.iter().filter(|file| !one.contains(file)));
    // What a layer takes beyond its empty tables is what was written to it.
    let sizes = apart.filter_map(|file| {
        let header = image::header(file).ok()??;
        let taken = std::fs::metadata(file).ok()?.blocks() * 512;
        Some(if header.untouched { 0 } else { taken })
    });
    Some(Bytes(sizes.sum()))
}
