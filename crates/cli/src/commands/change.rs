//! Delete, set, type.

use std::io::{IsTerminal as _, Write as _};

use serde_json::json;
use voidvm_model::contract::{Done, VmDeleteRequest, VmRef, VmTypeRequest, VmUpdateRequest};
use voidvm_model::spec::{Accel, Cdrom, FileOwner, Firmware, MachineFile, NetworkBackend, PortForward};
use voidvm_model::{Bytes, ErrorBody, ErrorCode, MachineSpec, Operation, VmView};

use crate::args::{Delete, Set, Type, memory};
use crate::client::Client;
use crate::output::{Format, document, line, printable};

pub(crate) async fn delete(args: Delete, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let mut doomed = Vec::new();
    for vm in &args.vms {
        let vm = client.find(vm).await?;
        let files: Vec<MachineFile> = client.call("vm.files", &VmRef { id: vm.id }).await?;
        let own: Vec<MachineFile> =
            files.into_iter().filter(|file| file.owner == FileOwner::Machine && !args.keep_disks).collect();
        doomed.push((vm, own));
    }
    if !args.yes {
        confirm(&doomed, &args)?;
    }
    let mut gone = Vec::new();
    for (vm, files) in &doomed {
        let request = VmDeleteRequest {
            keep_disks: args.keep_disks,
            trash: args.trash,
            flatten_children: args.flatten,
            ..VmDeleteRequest::new(vm.id)
        };
        let operation: Operation = client.call("vm.delete", &request).await?;
        client.finish(operation).await?;
        gone.push(json!({ "id": vm.id, "name": vm.name, "state": "deleted", "files": files }));
        if format == Format::Text {
            line(format_args!("{}: deleted", vm.name))?;
        }
    }
    match (format, gone.as_slice()) {
        (Format::Json, [one]) => document(one),
        (Format::Json, many) => document(&many),
        (Format::Text, _) => Ok(()),
    }
}

/// Names what is lost, and asks.
fn confirm(doomed: &[(VmView, Vec<MachineFile>)], args: &Delete) -> Result<(), ErrorBody> {
    let how = if args.trash { "moves to the trash" } else { "removes for good" };
    let files = || doomed.iter().flat_map(|(_, files)| files);
    let bytes = Bytes(files().map(|file| file.size.0).sum());
    let names: Vec<&str> = doomed.iter().map(|(vm, _)| vm.name.as_str()).collect();
    let required = || {
        let paths: Vec<&str> = files().map(|file| file.path.as_str()).collect();
        let files = if paths.len() == 1 { "1 file".to_owned() } else { format!("{} files", paths.len()) };
        ErrorBody::new(
            ErrorCode::ConfirmationRequired,
            format!("Deleting {} {how} {files} ({bytes}).", names.join(", ")),
        )
        .with_hint("Say --yes to delete without being asked.")
        .with_detail("files", paths)
        .with_detail("bytes", bytes.0)
    };
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(required());
    }
    let mut out = std::io::stderr().lock();
    for (vm, files) in doomed {
        let _ = writeln!(
            out,
            "{} {}.",
            printable(&vm.name),
            if args.trash { "goes to the trash" } else { "goes for good" }
        );
        for file in files {
            let _ = writeln!(out, "  {}  {}", file.size, printable(&file.path));
        }
    }
    if args.keep_disks {
        let _ = writeln!(out, "Disks stay where they are.");
    }
    let _ = write!(out, "Delete, {} {bytes}? Type yes: ", if args.trash { "moving" } else { "losing" });
    let _ = out.flush();
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && answer.trim().eq_ignore_ascii_case("yes") { Ok(()) } else { Err(required()) }
}

pub(crate) async fn set(args: &Set, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let vm = client.find(&args.vm).await?;
    let mut request = VmUpdateRequest { if_updated_at: Some(vm.updated_at), ..VmUpdateRequest::new(vm.id) };
    let mut spec = vm.spec.clone();
    for change in &args.changes {
        let (key, value) = change.split_once('=').ok_or_else(|| {
            ErrorBody::invalid("changes", format!("{change:?} is not KEY=VALUE.")).with_hint(KEYS)
        })?;
        match key {
            "name" => request.name = Some(value.to_owned()),
            "description" => request.description = Some(value.to_owned()),
            _ => set_hardware(&mut spec, key, value)?,
        }
    }
    if spec != vm.spec {
        request.spec = Some(spec);
    }
    let after: VmView = client.call("vm.update", &request).await?;
    match format {
        Format::Json => document(&after),
        Format::Text if after.restart_pending => {
            line(format_args!("{}: changed; hardware edits wait for its next start", after.name))
        }
        Format::Text => line(format_args!("{}: changed", after.name)),
    }
}

const KEYS: &str = "Keys: name, description, cpus, memory, firmware, accel, forward, cdrom, boot.";

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
                return Err(ErrorBody::new(ErrorCode::InvalidState, "The machine has no network card."));
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
                path => Some(std::path::absolute(path).map_err(|error| {
                    ErrorBody::invalid("cdrom", format!("{path:?} cannot be a path: {error}."))
                })?),
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
        "boot" => match value {
            "disk" => spec.boot_from_cdrom = false,
            "cdrom" => spec.boot_from_cdrom = true,
            _ => return wrong("Choose disk or cdrom."),
        },
        _ => return Err(ErrorBody::invalid(key, format!("A machine has no {key:?} to set.")).with_hint(KEYS)),
    }
    Ok(())
}

pub(crate) async fn type_text(args: Type, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let vm = client.find(&args.vm).await?;
    let mut text = args.text;
    if args.enter {
        text.push('\n');
    }
    let done: Done = client.call("vm.type", &VmTypeRequest { id: vm.id, text }).await?;
    match format {
        Format::Json => document(&done),
        Format::Text => Ok(()),
    }
}
