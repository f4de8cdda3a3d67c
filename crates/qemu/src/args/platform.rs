//! What is not a disk and not a network card: consoles, screen, channels, folders, TPM and the rest.

use std::path::Path;

use serde_json::json;
use voidvm_model::MachineSpec;
use voidvm_model::spec::{Audio, ChannelKind, Display, MachineType, ShareKind, Watchdog};

use super::machine::tpm_driver;
use super::place::{self, Places};
use super::{ArgList, ArgsError, BALLOON_INTERVAL, HostSound, LaunchPaths, double_commas, socket, text};

/// USB ports of each speed of a machine that is lent devices; QEMU's own number is four.
const USB_PORTS: u8 = 8;
/// virtio ports: the agent's and the clipboard's, then the channels.
const AGENT_PORT: usize = 1;
const CLIPBOARD_PORT: usize = 2;
const FIRST_CHANNEL_PORT: usize = 3;

/// The monitor, the serial console and the guest agent's line, each on a unix socket of ours.
pub(super) fn consoles(list: &mut ArgList, paths: &LaunchPaths) -> Result<(), ArgsError> {
    let log = text(&paths.serial_log)?;
    let qmp = double_commas(socket(&paths.qmp)?);
    let serial = double_commas(socket(&paths.serial)?);
    list.option("-chardev", format!("socket,id=vv.qmp,path={qmp},server=on,wait=off"));
    list.option("-mon", "chardev=vv.qmp,mode=control");
    list.option(
        "-chardev",
        format!(
            "socket,id=vv.serial,path={serial},server=on,wait=off,logfile={},logappend=on",
            double_commas(log)
        ),
    );
    list.json(
        "-device",
        &json!({"driver": "isa-serial", "id": "vv.serial0", "chardev": "vv.serial", "index": 0}),
    );
    listener(list, "vv.agent", &paths.agent)
}

/// A unix socket that QEMU makes and waits at.
fn listener(list: &mut ArgList, id: &str, path: &Path) -> Result<(), ArgsError> {
    let path = double_commas(socket(path)?);
    list.option("-chardev", format!("socket,id={id},path={path},server=on,wait=off"));
    Ok(())
}

/// A unix socket of a program beside QEMU.
fn companion(list: &mut ArgList, id: &str, path: &Path) -> Result<(), ArgsError> {
    list.option("-chardev", format!("socket,id={id},path={}", double_commas(socket(path)?)));
    Ok(())
}

/// OVMF's code, read-only, and the machine's variables.
pub(super) fn flash(list: &mut ArgList, code: &Path, vars: &Path) -> Result<(), ArgsError> {
    list.json(
        "-blockdev",
        &json!({
            "driver": "raw", "node-name": "vv.flash0", "read-only": true,
            "file": {"driver": "file", "filename": text(code)?},
        }),
    );
    list.json(
        "-blockdev",
        &json!({
            "driver": "qcow2", "node-name": "vv.flash1",
            "file": {"driver": "file", "filename": text(vars)?},
        }),
    );
    Ok(())
}

/// Graphics card, USB and a pointer that does not have to be caught.
pub(super) fn screen_and_pointer(list: &mut ArgList, spec: &MachineSpec, places: &Places) {
    let screen = match spec.display {
        Display::Virtio => "virtio-vga",
        Display::Std => "VGA",
        Display::Qxl => "qxl-vga",
    };
    list.json("-device", &places.fixed(screen, "vv.screen", place::SCREEN));
    let mut usb = places.fixed("qemu-xhci", "vv.usb", place::USB);
    if !spec.usb.is_empty() {
        usb["p2"] = USB_PORTS.into();
        usb["p3"] = USB_PORTS.into();
    }
    list.json("-device", &usb);
    let pointer = match spec.machine {
        MachineType::Q35 => "vv.usb.0",
        MachineType::I440fx => {
            // Old guests know no USB 3; this is the controller their board always had.
            list.json(
                "-device",
                &json!({"driver": "piix3-usb-uhci", "id": "vv.oldusb", "bus": "pci.0", "addr": "0x1.0x2"}),
            );
            "vv.oldusb.0"
        }
    };
    list.json("-device", &json!({"driver": "usb-tablet", "id": "vv.tablet", "bus": pointer}));
}

/// The agent's line, the clipboard where it is shared, and the user's own channels.
pub(super) fn lines(
    list: &mut ArgList,
    spec: &MachineSpec,
    paths: &LaunchPaths,
    places: &Places,
) -> Result<(), ArgsError> {
    list.json("-device", &places.fixed("virtio-serial-pci", "vv.channels", place::CHANNELS));
    let port = |nr: usize, chardev: &str, name: &str| {
        json!({
            "driver": "virtserialport", "bus": "vv.channels.0", "nr": nr, "chardev": chardev, "name": name,
        })
    };
    list.json("-device", &port(AGENT_PORT, "vv.agent", "org.qemu.guest_agent.0"));
    if spec.clipboard {
        list.option("-chardev", "qemu-vdagent,id=vv.clipboard,name=vdagent,clipboard=on,mouse=off");
        list.json("-device", &port(CLIPBOARD_PORT, "vv.clipboard", "com.redhat.spice.0"));
    }
    let mut serial_ports = 0;
    for (index, channel) in spec.channels.iter().enumerate() {
        let missing = || ArgsError::SocketMissing { field: format!("spec.channels[{index}]") };
        let id = format!("vv.line.{}", channel.id);
        listener(list, &id, paths.channels.get(&channel.id).ok_or_else(missing)?)?;
        let mut device = match channel.kind {
            ChannelKind::Serial => {
                serial_ports += 1;
                json!({"driver": "isa-serial", "chardev": id, "index": serial_ports})
            }
            ChannelKind::Virtio => port(FIRST_CHANNEL_PORT + index, &id, &channel.name),
        };
        device["id"] = channel.id.as_str().into();
        list.json("-device", &device);
    }
    Ok(())
}

/// What gives memory back, and where random numbers come from.
pub(super) fn balloon_and_random(list: &mut ArgList, spec: &MachineSpec, places: &Places) {
    if spec.balloon {
        let mut balloon = places.fixed("virtio-balloon-pci", "vv.balloon", place::BALLOON);
        balloon["guest-stats-polling-interval"] = BALLOON_INTERVAL.into();
        balloon["free-page-reporting"] = true.into();
        list.json("-device", &balloon);
    }
    if spec.rng {
        list.json("-object", &json!({"qom-type": "rng-builtin", "id": "vv.random"}));
        let mut random = places.fixed("virtio-rng-pci", "vv.rng", place::RANDOM);
        random["rng"] = "vv.random".into();
        list.json("-device", &random);
    }
}

/// A sound card that plays and does not listen: no guest hears the room.
pub(super) fn sound(list: &mut ArgList, spec: &MachineSpec, paths: &LaunchPaths, places: &Places) {
    if spec.audio != Audio::Hda {
        return;
    }
    let backend = match paths.sound {
        HostSound::Silent => "none",
        HostSound::Pipewire => "pipewire",
        HostSound::Pulse => "pa",
    };
    list.json("-audiodev", &json!({"driver": backend, "id": "vv.sound"}));
    let card = match spec.machine {
        MachineType::Q35 => "ich9-intel-hda",
        MachineType::I440fx => "intel-hda",
    };
    list.json("-device", &places.fixed(card, "vv.hda", place::SOUND));
    list.json(
        "-device",
        &json!({"driver": "hda-output", "id": "vv.speaker", "bus": "vv.hda.0", "audiodev": "vv.sound"}),
    );
}

/// Folders of the host.
pub(super) fn shares(
    list: &mut ArgList,
    spec: &MachineSpec,
    paths: &LaunchPaths,
    places: &Places,
) -> Result<(), ArgsError> {
    for (index, share) in spec.shares.iter().enumerate() {
        let backend = format!("vv.folder.{}", share.id);
        let mut device = match share.kind {
            ShareKind::Virtiofs => {
                let missing = || ArgsError::CompanionMissing {
                    field: format!("spec.shares[{index}].kind"),
                    program: "virtiofsd",
                };
                companion(list, &backend, paths.shares.get(&share.id).ok_or_else(missing)?)?;
                json!({"driver": "vhost-user-fs-pci", "chardev": backend, "tag": share.tag})
            }
            ShareKind::NineP => {
                // What the guest says of owners and modes stays beside each file: no privilege is needed or given.
                let folder = double_commas(text(&share.folder)?);
                let readonly = if share.read_only { ",readonly=on" } else { "" };
                list.option(
                    "-fsdev",
                    format!(
                        "local,id={backend},path={folder},security_model=mapped-xattr,multidevs=remap{readonly}"
                    ),
                );
                json!({"driver": "virtio-9p-pci", "fsdev": backend, "mount_tag": share.tag})
            }
        };
        device["id"] = share.id.as_str().into();
        places.share(index).put(&mut device);
        list.json("-device", &device);
    }
    Ok(())
}

/// A TPM whose contents swtpm keeps.
pub(super) fn tpm(list: &mut ArgList, spec: &MachineSpec, paths: &LaunchPaths) -> Result<(), ArgsError> {
    if !spec.tpm {
        return Ok(());
    }
    let missing = || ArgsError::CompanionMissing { field: "spec.tpm".to_owned(), program: "swtpm" };
    companion(list, "vv.swtpm", paths.tpm.as_deref().ok_or_else(missing)?)?;
    list.option("-tpmdev", "emulator,id=vv.tpm,chardev=vv.swtpm");
    list.json("-device", &json!({"driver": tpm_driver(spec), "id": "vv.tpm0", "tpmdev": "vv.tpm"}));
    Ok(())
}

/// The watchdog with what it does, and vsock.
pub(super) fn watchdog_and_vsock(
    list: &mut ArgList,
    spec: &MachineSpec,
    paths: &LaunchPaths,
    places: &Places,
) -> Result<(), ArgsError> {
    if let Some(watchdog) = spec.watchdog {
        let action = match watchdog {
            Watchdog::Reset => "reset",
            Watchdog::Shutdown => "shutdown",
            Watchdog::Poweroff => "poweroff",
            Watchdog::Pause => "pause",
            Watchdog::None => "none",
        };
        list.json("-device", &places.fixed("i6300esb", "vv.watchdog", place::WATCHDOG));
        list.option("-action", format!("watchdog={action}"));
    }
    if spec.vsock {
        let mut vsock = places.fixed("vhost-vsock-pci", "vv.vsock", place::VSOCK);
        vsock["guest-cid"] = paths.vsock_cid.ok_or(ArgsError::VsockMissing)?.into();
        list.json("-device", &vsock);
    }
    Ok(())
}
