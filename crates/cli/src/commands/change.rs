//! Delete, type.

use std::io::{IsTerminal as _, Write as _};

use serde_json::json;
use voidvm_model::contract::{Done, VmDeleteRequest, VmRef, VmTypeRequest};
use voidvm_model::spec::{FileOwner, MachineFile};
use voidvm_model::{Bytes, ErrorBody, ErrorCode, Operation, VmView};

use crate::args::{Delete, Type};
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
