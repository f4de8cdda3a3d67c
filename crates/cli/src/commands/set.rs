//! Set: one `KEY=VALUE` after the other on a machine's definition, stored as a whole.

use voidvm_model::contract::{ImageInspectRequest, VmUpdateRequest};
use voidvm_model::spec::{Accel, Cdrom, Disk, DiskFormat, FileOwner, Firmware, NetworkBackend, PortForward};
use voidvm_model::system::{ImageInfo, ImageKind};
use voidvm_model::vm::VmMeta;
use voidvm_model::{DeviceId, ErrorBody, ErrorCode, MachineSpec, VmView};

use crate::args::{Set, memory};
use crate::client::Client;
use crate::output::{Format, document, line};

const KEYS: &str = "Keys: name, description, os, tags, group, color, favourite, template, cpus, max-cpus, memory, \
    max-memory, balloon, firmware, tpm, accel, forward, link, cdrom, boot, attach, detach, clipboard.";

pub(crate) async fn set(args: &Set, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let vm = client.find(&args.vm).await?;
    let mut request = VmUpdateRequest { if_updated_at: Some(vm.updated_at), ..VmUpdateRequest::new(vm.id) };
    let mut spec = vm.spec.clone();
    let mut meta = vm.meta.clone();
    for change in &args.changes {
        let (key, value) = change.split_once('=').ok_or_else(|| {
            ErrorBody::invalid("changes", format!("{change:?} is not KEY=VALUE.")).with_hint(KEYS)
        })?;
        match key {
            "name" => request.name = Some(value.to_owned()),
            "description" => request.description = Some(value.to_owned()),
            "os" => request.os_type = Some(value.to_owned()),
            "attach" => attach(&mut spec, value, client).await?,
            _ if set_meta(&mut meta, key, value)? => {}
            _ => set_hardware(&mut spec, key, value)?,
        }
    }
    request.spec = Some(spec).filter(|spec| *spec != vm.spec);
    request.meta = Some(meta).filter(|meta| *meta != vm.meta);
    let after: VmView = client.call("vm.update", &request).await?;
    match format {
        Format::Json => document(&after),
        Format::Text => {
            line(format_args!("{}: changed", after.name))?;
            after.pending.iter().try_for_each(|change| {
                let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
                let (running, next) = (text(&change.running), text(&change.next));
                let why =
                    change.problem.as_ref().map(|why| format!(" ({})", why.message)).unwrap_or_default();
                line(format_args!("  {} waits for its next start: {running} to {next}{why}", change.field))
            })
        }
    }
}

/// What the machine is sorted and marked by; whether the key is one of these.
fn set_meta(meta: &mut VmMeta, key: &str, value: &str) -> Result<bool, ErrorBody> {
    let some = || Some(value.to_owned()).filter(|value| !value.is_empty());
    match key {
        "tags" => meta.tags = value.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
        "group" => meta.group = some(),
        "color" => meta.color = some(),
        "favourite" => meta.favourite = switch(key, value)?,
        "template" => meta.template = switch(key, value)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn switch(key: &str, value: &str) -> Result<bool, ErrorBody> {
    match value {
        "on" | "yes" | "true" => Ok(true),
        "off" | "no" | "false" => Ok(false),
        _ => {
            Err(ErrorBody::invalid(key, format!("{key} cannot be {value:?}.")).with_hint("Choose on or off."))
        }
    }
}

fn no_card() -> ErrorBody {
    ErrorBody::new(ErrorCode::InvalidState, "The machine has no network card.")
}

fn path(key: &str, value: &str) -> Result<std::path::PathBuf, ErrorBody> {
    std::path::absolute(value)
        .map_err(|error| ErrorBody::invalid(key, format!("{value:?} cannot be a path: {error}.")))
}

/// Adds an image as a disk where it is; a running guest is given it at once.
async fn attach(spec: &mut MachineSpec, value: &str, client: &Client) -> Result<(), ErrorBody> {
    let file = path("attach", value)?;
    let request = ImageInspectRequest { path: file.to_string_lossy().into_owned() };
    let image: ImageInfo = client.call("image.inspect", &request).await?;
    let format = match image.kind {
        ImageKind::Qcow2 => DiskFormat::Qcow2,
        ImageKind::Raw => DiskFormat::Raw,
        kind => {
            return Err(ErrorBody::invalid(
                "attach",
                format!("{} is {kind:?}, not qcow2 or raw.", file.display()),
            )
            .with_hint("Convert it first (volume convert), or insert an ISO with cdrom=FILE."));
        }
    };
    spec.disks.push(Disk::new(free_id(spec)?, file, format, FileOwner::User));
    Ok(())
}

/// The first of disk0, disk1 … that no device has.
fn free_id(spec: &MachineSpec) -> Result<DeviceId, ErrorBody> {
    let taken = |id: &DeviceId| spec.disks.iter().any(|disk| disk.id == *id);
    let mut ids = (0..=spec.disks.len()).filter_map(|number| format!("disk{number}").parse().ok());
    ids.find(|id| !taken(id)).ok_or_else(|| ErrorBody::new(ErrorCode::Internal, "No device id is free."))
}

fn set_hardware(spec: &mut MachineSpec, key: &str, value: &str) -> Result<(), ErrorBody> {
    let wrong = |hint: &str| {
        Err(ErrorBody::invalid(key, format!("{key} cannot be {value:?}.")).with_hint(hint.to_owned()))
    };
    match key {
        "cpus" => match value.parse() {
            Ok(cpus) => spec.cpus = cpus,
            Err(_) => return wrong("Choose 1 to 255."),
        },
        "memory" => match memory(value) {
            Ok(memory) => spec.memory = memory,
            Err(_) => return wrong("Write 2G, 512M, or a number of MiB."),
        },
        "firmware" => match value {
            "bios" => spec.firmware = Firmware::Bios,
            "uefi" => spec.firmware = Firmware::Uefi,
            "uefi-secure" => spec.firmware = Firmware::UefiSecure,
            _ => return wrong("Choose bios, uefi or uefi-secure."),
        },
        "accel" => match value {
            "auto" => spec.accel = Accel::Auto,
            "kvm" => spec.accel = Accel::Kvm,
            "tcg" => spec.accel = Accel::Tcg,
            _ => return wrong("Choose auto, kvm or tcg."),
        },
        "forward" => {
            let wanted: Vec<PortForward> =
                value.split(',').filter(|part| !part.is_empty()).map(str::parse).collect::<Result<_, _>>()?;
            let Some(nic) = spec.nics.first_mut() else {
                return Err(no_card());
            };
            let NetworkBackend::User { forwards, .. } = &mut nic.network else {
                return Err(ErrorBody::new(
                    ErrorCode::InvalidState,
                    "The machine's network card has no forwards.",
                ));
            };
            *forwards = wanted;
        }
        "cdrom" => {
            let file = match value {
                "" => None,
                file => Some(path(key, file)?),
            };
            if let Some(drive) = spec.cdroms.first_mut() {
                drive.file = file;
            } else {
                let id = "cd0".parse().map_err(|error| {
                    ErrorBody::new(ErrorCode::Internal, format!("cd0 is no device id: {error}."))
                })?;
                spec.cdroms.push(Cdrom { id, file });
            }
        }
        "max-cpus" => match (value, value.parse()) {
            ("", _) => spec.max_cpus = None,
            (_, Ok(cpus)) => spec.max_cpus = Some(cpus),
            _ => return wrong("Choose 1 to 255, or nothing for as many as it starts with."),
        },
        "max-memory" => match (value, memory(value)) {
            ("", _) => spec.max_memory = None,
            (_, Ok(memory)) => spec.max_memory = Some(memory),
            _ => return wrong("Write 8G, a number of MiB, or nothing for as much as it starts with."),
        },
        "balloon" => spec.balloon = switch(key, value)?,
        "tpm" => spec.tpm = switch(key, value)?,
        "clipboard" => spec.clipboard = switch(key, value)?,
        "link" => {
            let link = switch(key, value)?;
            match spec.nics.first_mut() {
                Some(nic) => nic.link = link,
                None => return Err(no_card()),
            }
        }
        "detach" => {
            let before = spec.disks.len();
            spec.disks.retain(|disk| disk.id.as_str() != value);
            if spec.disks.len() == before {
                let ids: Vec<_> = spec.disks.iter().map(|disk| disk.id.to_string()).collect();
                return wrong(&format!("Its disks are {}.", ids.join(", ")));
            }
        }
        "boot" => match value {
            "disk" => spec.boot_from_cdrom = false,
            "cdrom" => spec.boot_from_cdrom = true,
            _ => return wrong("Choose disk or cdrom."),
        },
        _ => return Err(ErrorBody::invalid(key, format!("A machine has no {key:?} to set.")).with_hint(KEYS)),
    }
    Ok(())
}
