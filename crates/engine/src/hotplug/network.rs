//! Network cards, cables, forwards; and USB devices, which come and go as simply.

use serde_json::{Value, json};
use voidvm_model::spec::{NetworkBackend, Nic, PortForward, UserStack};
use voidvm_model::{DeviceId, ErrorBody, ErrorCode, MachineSpec};
use voidvm_qemu::args::{self, Seat};
use voidvm_qemu::qmp::{COMMAND_TIMEOUT, Qmp};

use super::guest::{Guest, note};
use super::{Problems, drop_device, has_ports, parts, take_device};

/// Takes out the cards and USB devices that are no longer wanted.
pub(super) async fn unplug(guest: &Guest, wanted: &MachineSpec, problems: &mut Problems) {
    let record = guest.run.record();
    let usb = record.spec.usb.iter().filter(|usb| !wanted.usb.iter().any(|other| other.id == usb.id));
    let nics = record.spec.nics.iter().filter(|nic| !wanted.nics.iter().any(|other| other.id == nic.id));
    let usb = usb.map(|usb| ("usb", &usb.id));
    let nics = nics.filter(|nic| can_move(&record.spec, nic)).map(|nic| ("nics", &nic.id));
    for (list, id) in usb.chain(nics) {
        let what = if list == "usb" { "the USB device" } else { "the network card" };
        let out = async {
            guest.unplug(id.as_str(), what).await?;
            forget_backend(guest, id).await;
            guest.run.amend(|record| {
                drop_device(&mut record.spec, id);
                note(record, |words| words.remove(id.as_str()));
            });
            Ok(())
        };
        problems.keep(format!("{list}.{id}"), out.await);
        if guest.is_gone() {
            return;
        }
    }
}

/// Puts the new cards and USB devices in.
pub(super) async fn plug(guest: &Guest, wanted: &MachineSpec, problems: &mut Problems) {
    let record = guest.run.record();
    for nic in wanted.nics.iter().filter(|nic| !record.spec.nics.iter().any(|other| other.id == nic.id)) {
        if !can_move(&record.spec, nic) {
            continue;
        }
        problems.keep(format!("nics.{}", nic.id), plug_card(guest, wanted, nic).await);
        if guest.is_gone() {
            return;
        }
    }
    for usb in wanted.usb.iter().filter(|usb| !record.spec.usb.iter().any(|other| other.id == usb.id)) {
        let device = args::usb_device(usb);
        guest.note(|words| words.add("-device", &device));
        let plugged = guest.call("device_add", device).await.map(drop);
        guest.run.amend(|record| match plugged {
            Ok(()) => take_device(&mut record.spec, wanted, &usb.id),
            Err(_) => note(record, |words| words.remove(usb.id.as_str())),
        });
        problems.keep(format!("usb.{}", usb.id), plugged);
        if guest.is_gone() {
            return;
        }
    }
}

/// Whether a card can come or go while the guest runs. passt is a program beside the machine, and started with it.
fn can_move(running: &MachineSpec, nic: &Nic) -> bool {
    has_ports(running) && !matches!(nic.network, NetworkBackend::User { stack: UserStack::Passt, .. })
}

async fn plug_card(guest: &Guest, wanted: &MachineSpec, nic: &Nic) -> Result<(), ErrorBody> {
    let id = nic.id.as_str();
    let seat = Seat::port(&guest.free_port().await?);
    let (netdev, device) = (args::nic_backend(nic, None), args::nic_device(nic, &seat));
    forget_backend(guest, &nic.id).await;
    guest.note(|words| {
        if let Some(netdev) = &netdev {
            words.add("-netdev", netdev);
        }
        words.add("-device", &device);
    });
    let plugged = async {
        if let Some(netdev) = netdev.clone() {
            guest.call("netdev_add", netdev).await.map_err(|error| taken(error, nic.network.forwards()))?;
        }
        guest.call("device_add", device.clone()).await?;
        if nic.link { Ok(()) } else { set_link(guest, nic).await }
    };
    let plugged = plugged.await;
    if plugged.is_err() {
        drop(guest.unplug(id, "the network card").await);
        forget_backend(guest, &nic.id).await;
    }
    guest.run.amend(|record| match plugged {
        Ok(()) => take_device(&mut record.spec, wanted, &nic.id),
        Err(_) => note(record, |words| words.remove(id)),
    });
    plugged
}

/// Removes the network of a card that is not there any more, or never came; one that is not there either is fine.
pub(super) async fn forget_backend(guest: &Guest, id: &DeviceId) {
    drop(guest.call("netdev_del", json!({"id": id.as_str()})).await);
}

/// Cables and forwards of the cards that stay.
pub(super) async fn change(guest: &Guest, wanted: &MachineSpec, problems: &mut Problems) {
    let record = guest.run.record();
    for nic in &wanted.nics {
        let Some(now) = record.spec.nics.iter().find(|now| now.id == nic.id) else { continue };
        if now.link != nic.link {
            let done = set_link(guest, nic).await;
            if done.is_ok() {
                guest.run.amend(|record| edit(record, &nic.id, |now| now.link = nic.link));
            }
            problems.keep(format!("nics.{}.link", nic.id), done);
        }
        let (
            NetworkBackend::User { stack: UserStack::Slirp, forwards: old },
            NetworkBackend::User { stack: UserStack::Slirp, forwards: new },
        ) = (&now.network, &nic.network)
        else {
            continue;
        };
        if old != new {
            let done = change_forwards(guest, &nic.id, old, new).await;
            problems.keep(format!("nics.{}.network.forwards", nic.id), done);
        }
        if guest.is_gone() {
            return;
        }
    }
}

fn edit(record: &mut voidvm_qemu::process::RunRecord, id: &DeviceId, change: impl FnOnce(&mut Nic)) {
    if let Some(nic) = record.spec.nics.iter_mut().find(|nic| nic.id == *id) {
        change(nic);
    }
}

async fn set_link(guest: &Guest, nic: &Nic) -> Result<(), ErrorBody> {
    guest.call("set_link", json!({"name": nic.id.as_str(), "up": nic.link})).await.map(drop)
}

/// Pulls the cables that are not in; before a machine's first instruction, since no argument says so.
///
/// # Errors
/// The monitor's.
pub(crate) async fn cables(qmp: &Qmp, spec: &MachineSpec) -> Result<(), ErrorBody> {
    for nic in spec.nics.iter().filter(|nic| !nic.link) {
        let arguments = json!({"name": nic.id.as_str(), "up": false});
        let Value::Object(arguments) = arguments else { continue };
        qmp.execute_raw("set_link", Some(arguments), COMMAND_TIMEOUT).await.map_err(|error| error.body())?;
    }
    Ok(())
}

/// Closes the host ports that are no longer wanted and opens the new ones, each written down as it is done.
async fn change_forwards(
    guest: &Guest,
    id: &DeviceId,
    old: &[PortForward],
    new: &[PortForward],
) -> Result<(), ErrorBody> {
    let mut first = Ok(());
    for forward in old.iter().filter(|forward| !new.contains(forward)) {
        let said = guest.say(&format!("hostfwd_remove {id} {}", parts::host_side(forward))).await?;
        // One that QEMU does not have is as gone as one it has just removed.
        if said.contains("removed") || said.contains("not found") {
            write_down(guest, id, |forwards| forwards.retain(|other| other != forward));
        } else if first.is_ok() {
            first = Err(ErrorBody::new(ErrorCode::QemuFailed, format!("QEMU refused: {said}")));
        }
    }
    for forward in new.iter().filter(|forward| !old.contains(forward)) {
        let said = guest.say(&format!("hostfwd_add {id} {}", parts::hostfwd(forward))).await?;
        if said.is_empty() {
            write_down(guest, id, |forwards| forwards.push(*forward));
        } else if first.is_ok() {
            let refused = ErrorBody::new(ErrorCode::QemuFailed, format!("QEMU refused: {said}"));
            first = Err(taken(refused, std::slice::from_ref(forward)));
        }
    }
    if first.is_ok() {
        write_down(guest, id, |forwards| forwards.clone_from(&new.to_vec()));
    }
    first
}

fn write_down(guest: &Guest, id: &DeviceId, change: impl FnOnce(&mut Vec<PortForward>)) {
    guest.run.amend(|record| {
        let mut rules = Value::Null;
        edit(record, id, |nic| {
            if let NetworkBackend::User { forwards, .. } = &mut nic.network {
                change(forwards);
                if !forwards.is_empty() {
                    rules = parts::hostfwds(forwards);
                }
            }
        });
        note(record, |words| words.set("-netdev", id.as_str(), "hostfwd", &rules));
    });
}

/// A forward that cannot be set up: nearly always because its port is taken.
fn taken(error: ErrorBody, forwards: &[PortForward]) -> ErrorBody {
    if !error.message.contains("host forwarding rule") {
        return error;
    }
    let ports: Vec<String> = forwards.iter().map(|forward| forward.host_port.to_string()).collect();
    ErrorBody::new(ErrorCode::PortInUse, format!("Host port {} cannot be opened.", ports.join(", ")))
        .with_hint("Choose another host port, or end what uses it.")
        .with_detail("reason", error.message)
}
