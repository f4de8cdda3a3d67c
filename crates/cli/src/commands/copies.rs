//! Clone, export, import.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use voidvm_model::contract::VmRef;
use voidvm_model::transfer::{
    ExportFormat, ImportInspectRequest, ImportPlan, VmCloneRequest, VmExportRequest, VmImportRequest,
};
use voidvm_model::{ErrorBody, Operation, VmView};

use super::create::{absolute, made};
use crate::client::Client;
use crate::output::{Format, document, line, note, printable};

#[derive(Debug, Args)]
pub(crate) struct Clone {
    /// Name or id of the machine; stopped.
    pub(crate) vm: String,
    /// The copy's name.
    pub(crate) name: String,
    /// Share its disks instead of copying them: made at once, and the machine cannot be deleted before the copy.
    #[arg(long)]
    pub(crate) linked: bool,
    /// Start the copy when it is made.
    #[arg(long)]
    pub(crate) start: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Name or id of the machine; stopped.
    pub(crate) vm: String,
    /// The new file: NAME.voidvm holds everything, NAME.ova is for other programs.
    pub(crate) file: PathBuf,
    /// Which kind of file; its name says so without.
    #[arg(long, value_enum)]
    pub(crate) format: Option<FormatArg>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum FormatArg {
    /// voidVM's own.
    Archive,
    /// OVA.
    Ova,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// A .voidvm archive, OVA, OVF, libvirt XML, quickemu .conf, VirtualBox .vbox or VMware .vmx.
    pub(crate) file: PathBuf,
    /// Its name here; the one it had without.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Use its disks where they are, where their format allows.
    #[arg(long)]
    pub(crate) in_place: bool,
    /// Only show what would be made of it.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

pub(crate) async fn clone(args: Clone, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let vm = client.find(&args.vm).await?;
    let request = VmCloneRequest { id: vm.id, name: args.name, linked: args.linked, start: args.start };
    let operation: Operation = client.call("vm.clone", &request).await?;
    let made = finish(operation, args.start, client).await?;
    let seeded = made.spec.cdroms.iter().filter_map(|cdrom| cdrom.file.as_deref());
    let text = if seeded.filter_map(|file| file.file_name()).any(|name| name == "seed.iso") {
        "cloud-init gives the copy a host name, machine-id and ssh host keys of its own at its first start."
    } else {
        "The guest still has the host name, machine-id and ssh host keys of the original; renew them in it."
    };
    note(format, text);
    show(&made, format)
}

pub(crate) async fn export(args: Export, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let vm = client.find(&args.vm).await?;
    let by_name = args.file.extension().is_some_and(|end| end.eq_ignore_ascii_case("ova"));
    let wanted = match (args.format, by_name) {
        (Some(FormatArg::Ova), _) | (None, true) => ExportFormat::Ova,
        (Some(FormatArg::Archive), _) | (None, false) => ExportFormat::Archive,
    };
    let request = VmExportRequest { id: vm.id, path: absolute("file", &args.file)?, format: wanted };
    let operation: Operation = client.call("vm.export", &request).await?;
    client.finish(operation).await?;
    match format {
        Format::Json => document(&serde_json::json!({ "id": vm.id, "name": vm.name, "path": request.path })),
        Format::Text => line(format_args!("{}: written to {}", vm.name, printable(&request.path))),
    }
}

pub(crate) async fn import(args: Import, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let path = absolute("file", &args.file)?;
    let plan: ImportPlan =
        client.call("vm.import.inspect", &ImportInspectRequest { path: path.clone() }).await?;
    if args.dry_run && format == Format::Json {
        return document(&plan);
    }
    for part in &plan.unsupported {
        note(format, format_args!("left out: {}: {}", printable(&part.what), printable(&part.why)));
    }
    if args.dry_run {
        return line(format_args!(
            "{} ({}): {} CPUs, {}, {} disks, {} network cards",
            printable(&plan.name),
            plan.source,
            plan.spec.cpus,
            plan.spec.memory,
            plan.spec.disks.len(),
            plan.spec.nics.len()
        ));
    }
    let request = VmImportRequest { path, name: args.name, in_place: args.in_place };
    let operation: Operation = client.call("vm.import", &request).await?;
    let made = finish(operation, false, client).await?;
    show(&made, format)
}

/// The machine that was made; its start, where one was asked for, is an operation of its own.
async fn finish(operation: Operation, start: bool, client: &Client) -> Result<VmView, ErrorBody> {
    let id = made(&operation)?;
    client.finish(operation).await?;
    let vm: VmView = client.call("vm.get", &VmRef { id }).await?;
    match vm.operation.clone().filter(|_| start) {
        Some(operation) => {
            client.finish(operation).await?;
            client.call("vm.get", &VmRef { id }).await
        }
        None => Ok(vm),
    }
}

fn show(vm: &VmView, format: Format) -> Result<(), ErrorBody> {
    match format {
        Format::Json => document(vm),
        Format::Text => line(format_args!("{}: {} ({})", printable(&vm.name), vm.state, vm.id)),
    }
}
