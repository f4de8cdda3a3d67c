//! At start-up: what the last owner was doing to volumes is finished or undone.

use std::path::{Path, PathBuf};

use voidvm_model::ErrorBody;
use voidvm_store::{Intent, IntentAction, IntentId, VmRow};

use super::make::part_of;
use super::remove;
use crate::ops::files;
use crate::shared::Shared;

/// Ends of names of files that are ours while we write them, and rubbish afterwards.
const UNFINISHED: [&str; 3] = [".part", ".compact", ".mended"];

/// Closes an intent about a volume; one that cannot be closed stays for the next start.
pub(crate) async fn recover(shared: &Shared, machines: &[VmRow], id: IntentId, intent: &Intent) {
    let vms = shared.config.data_dir.join("vms");
    if let Err(error) = close(machines, intent, &vms) {
        tracing::error!(operation = %intent.operation_id, %error, "work on a volume could not be brought to its end");
        return;
    }
    if let Err(error) = shared.store.journal().end(id).await {
        tracing::error!(operation = %intent.operation_id, %error, "an intent could not be closed");
    }
}

fn close(machines: &[VmRow], intent: &Intent, vms: &Path) -> Result<(), ErrorBody> {
    let used = |file: &Path| {
        machines.iter().any(|row| {
            let media = row.spec.cdroms.iter().filter_map(|cdrom| cdrom.file.as_deref());
            row.spec.disks.iter().map(|disk| disk.file.as_path()).chain(media).any(|other| other == file)
        })
    };
    match (intent.action, intent.files.as_slice()) {
        (IntentAction::VolumeWrite, files) => {
            let ours = |file: &&PathBuf| {
                let name = file.to_string_lossy();
                UNFINISHED.iter().any(|end| name.ends_with(end)) && !used(file)
            };
            files::remove(&files.iter().filter(ours).cloned().collect::<Vec<_>>())
        }
        (IntentAction::VolumeMove, [from, to]) => {
            if used(to) {
                // The definition names the new file: it is whole.
                return if to.is_file() && !used(from) { gone(vms, from) } else { Ok(()) };
            }
            let part = part_of(to);
            // While there is a part, the file under the new name is somebody else's.
            if part.symlink_metadata().is_ok() {
                return files::remove(std::slice::from_ref(&part));
            }
            let length = |path: &Path| path.symlink_metadata().map(|metadata| metadata.len()).ok();
            match (length(from), length(to)) {
                (Some(old), Some(new)) if old == new => files::remove(std::slice::from_ref(to)),
                _ => Ok(()),
            }
        }
        (IntentAction::VolumeRemove, [file]) if !used(file) => gone(vms, file),
        _ => Ok(()),
    }
}

fn gone(vms: &Path, file: &PathBuf) -> Result<(), ErrorBody> {
    files::remove(std::slice::from_ref(file))?;
    remove::tidy(vms, file);
    Ok(())
}
