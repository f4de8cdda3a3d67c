//! Disks and media that come and go.

use serde_json::{Value, json};
use voidvm_model::spec::{Cdrom, Disk, DiskBus};
use voidvm_model::{Bytes, DeviceId, ErrorBody, ErrorCode, MachineSpec};
use voidvm_qemu::args::{self, Seat};

use super::guest::{Guest, note, text};
use super::{Problems, drop_device, has_ports, parts, take_device};
use crate::run::Run;

/// Takes out the disks that are no longer wanted.
pub(super) async fn unplug(guest: &Guest, wanted: &MachineSpec, problems: &mut Problems) {
    let record = guest.run.record();
    let surplus =
        record.spec.disks.iter().filter(|disk| !wanted.disks.iter().any(|other| other.id == disk.id));
    for disk in surplus.filter(|disk| can_move(&record.spec, disk)) {
        let out = async {
            guest.unplug(disk.id.as_str(), "disk").await?;
            forget_nodes(guest, &disk.id).await;
            guest.run.amend(|record| {
                drop_device(&mut record.spec, &disk.id);
                note(record, |words| words.remove(disk.id.as_str()));
            });
            Ok(())
        };
        problems.keep(format!("disks.{}", disk.id), out.await);
        if guest.is_gone() {
            return;
        }
    }
}

/// Puts the new disks in.
pub(super) async fn plug(guest: &Guest, wanted: &MachineSpec, problems: &mut Problems) {
    let record = guest.run.record();
    let new = wanted.disks.iter().filter(|disk| !record.spec.disks.iter().any(|other| other.id == disk.id));
    for disk in new.filter(|disk| can_move(&record.spec, disk)) {
        problems.keep(format!("disks.{}", disk.id), plug_in(guest, wanted, disk).await);
        if guest.is_gone() {
            return;
        }
    }
}

/// Whether a disk can come or go while the guest runs: behind a port, or on the SCSI controller.
fn can_move(running: &MachineSpec, disk: &Disk) -> bool {
    let bus = match disk.bus {
        DiskBus::Virtio | DiskBus::Nvme => has_ports(running),
        DiskBus::Scsi => running.disks.iter().any(|other| other.bus == DiskBus::Scsi),
        DiskBus::Sata | DiskBus::Ide => false,
    };
    // A key is not handed over a second time, and a thread is made with the machine.
    bus && disk.key.is_none() && !disk.iothread
}

async fn plug_in(guest: &Guest, wanted: &MachineSpec, disk: &Disk) -> Result<(), ErrorBody> {
    let id = disk.id.as_str();
    let seat = match disk.bus {
        DiskBus::Scsi => Seat::Scsi { target: guest.free_target() },
        _ => Seat::port(&guest.free_port().await?),
    };
    let node = args::disk_node(disk).map_err(|error| error.body())?;
    let device = args::disk_device(disk, &seat);
    // A crash may have left the drive alone.
    forget_nodes(guest, &disk.id).await;
    guest.note(|words| {
        words.add("-blockdev", &node);
        words.add("-device", &device);
    });
    let plugged = async {
        guest.call("blockdev-add", node.clone()).await.map_err(|error| opened(error, disk))?;
        guest.call("device_add", device.clone()).await
    };
    match plugged.await {
        Ok(_) => {
            guest.run.amend(|record| take_device(&mut record.spec, wanted, &disk.id));
            Ok(())
        }
        Err(error) => {
            forget_nodes(guest, &disk.id).await;
            guest.note(|words| words.remove(id));
            Err(error)
        }
    }
}

fn opened(error: ErrorBody, disk: &Disk) -> ErrorBody {
    error.with_detail("path", disk.file.to_string_lossy())
}

/// Closes the files of a disk that is not there any more, or never came.
pub(super) async fn forget_nodes(guest: &Guest, id: &DeviceId) {
    let Ok(nodes) = guest.nodes().await else { return };
    if nodes.contains(id.as_str())
        && let Err(error) = guest.call("blockdev-del", json!({"node-name": id.as_str()})).await
    {
        tracing::warn!(disk = %id, %error, "a drive that nobody uses cannot be closed");
    }
}

/// Changes what is in the CD-ROM drives.
pub(super) async fn change_media(guest: &Guest, wanted: &MachineSpec, problems: &mut Problems) {
    let record = guest.run.record();
    for drive in &wanted.cdroms {
        let Some(now) = record.spec.cdroms.iter().find(|now| now.id == drive.id) else { continue };
        if now.file == drive.file {
            continue;
        }
        problems.keep(format!("cdroms.{}", drive.id), change_medium(guest, drive).await);
        if guest.is_gone() {
            return;
        }
    }
}

/// A drive as QEMU sees it.
struct Drive {
    open: bool,
    node: Option<String>,
}

async fn look_at(guest: &Guest, id: &DeviceId) -> Result<Drive, ErrorBody> {
    let answer = guest.call("query-block", json!({})).await?;
    let drives = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |drive: &&Value| {
        let name = text(drive, "qdev").unwrap_or_default();
        name.strip_prefix("/machine/peripheral/").unwrap_or(&name).split('/').next() == Some(id.as_str())
    };
    let drive = drives.iter().find(of).ok_or_else(|| {
        ErrorBody::new(ErrorCode::NotFound, format!("The machine that runs has no drive {id}."))
    })?;
    Ok(Drive {
        open: drive.get("tray_open").and_then(Value::as_bool) == Some(true),
        node: drive.get("inserted").and_then(|inserted| text(inserted, "node-name")),
    })
}

async fn change_medium(guest: &Guest, wanted: &Cdrom) -> Result<(), ErrorBody> {
    let id = wanted.id.as_str();
    let before = look_at(guest, &wanted.id).await?;
    // Two names in turn: the new medium is opened before the old one goes, so that one that cannot be opened changes nothing.
    let name = if before.node.as_deref() == Some(id) { format!("vv.{id}") } else { id.to_owned() };
    let medium = wanted.file.as_deref().map(|file| parts::medium_node(&name, file));
    if let Some(medium) = &medium {
        if guest.nodes().await?.contains(&name) {
            guest.call("blockdev-del", json!({"node-name": name})).await?;
        }
        guest.call("blockdev-add", medium.clone()).await?;
    }
    if let Err(error) = open_tray(guest, &wanted.id, &before).await {
        if medium.is_some() {
            drop(guest.call("blockdev-del", json!({"node-name": name})).await);
        }
        return Err(error);
    }
    if let Some(old) = &before.node {
        guest.call("blockdev-remove-medium", json!({"id": id})).await?;
        // A medium that cannot be closed is no reason to refuse the new one.
        drop(guest.call("blockdev-del", json!({"node-name": old})).await);
    }
    if medium.is_some() {
        guest.call("blockdev-insert-medium", json!({"id": id, "node-name": name})).await?;
    }
    guest.run.amend(|record| {
        if let Some(drive) = record.spec.cdroms.iter_mut().find(|drive| drive.id == wanted.id) {
            drive.file.clone_from(&wanted.file);
        }
        note(record, |words| {
            words.remove_node(id);
            words.remove_node(&format!("vv.{id}"));
            words.set("-device", id, "drive", &medium.as_ref().map_or(Value::Null, |_| name.clone().into()));
            if let Some(medium) = &medium {
                words.add("-blockdev", medium);
            }
        });
    });
    guest.call("blockdev-close-tray", json!({"id": id})).await.map(drop)
}

async fn open_tray(guest: &Guest, id: &DeviceId, before: &Drive) -> Result<(), ErrorBody> {
    if before.open {
        return Ok(());
    }
    let Err(error) = guest.call("blockdev-open-tray", json!({"id": id.as_str(), "force": false})).await
    else {
        // A guest that holds the drive locked has been asked now.
        return wait_open(guest, id).await;
    };
    if error.message.contains("locked") { wait_open(guest, id).await } else { Err(error) }
}

async fn wait_open(guest: &Guest, id: &DeviceId) -> Result<(), ErrorBody> {
    let open = guest.until(|| async move { Ok(look_at(guest, id).await?.open.then_some(())) }).await?;
    open.ok_or_else(|| {
        ErrorBody::new(ErrorCode::Timeout, format!("The guest holds the drive {id} locked."))
            .with_hint("Eject the medium inside the guest, then try again.")
            .with_detail("device", id.as_str())
    })
}

/// Tells a running guest that its disk has grown; the file must not have been grown before.
///
/// # Errors
/// Without a process or such a disk, or what QEMU says.
pub(crate) async fn grow(run: &Run, disk: &DeviceId, size: Bytes) -> Result<(), ErrorBody> {
    let arguments = json!({"node-name": disk.as_str(), "size": size.0});
    let Value::Object(arguments) = arguments else { return Ok(()) };
    let patience = voidvm_qemu::qmp::COMMAND_TIMEOUT * 3;
    run.qmp()?
        .execute_raw("block_resize", Some(arguments), patience)
        .await
        .map(drop)
        .map_err(|error| error.body())
}
