//! Machine snapshots: take, look at, go back to, fork, compare, rename and delete them.

use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};

use clap::{Args, Subcommand, ValueEnum};
use jiff::tz::TimeZone;
use serde_json::json;
use voidvm_model::contract::VmRef;
use voidvm_model::snapshot::{
    Consistency, RestoreTo, Snapshot, SnapshotBootRequest, SnapshotCompareRequest, SnapshotCreateRequest,
    SnapshotDifference, SnapshotForkRequest, SnapshotReason, SnapshotRef, SnapshotRestoreRequest,
    SnapshotTree, SnapshotUpdateRequest,
};
use voidvm_model::{ErrorBody, ErrorCode, Operation, OperationResult, SnapshotId, VmId, VmView};

use crate::client::Client;
use crate::output::{Format, document, line, printable, table};

/// VM is a machine's name or id, SNAPSHOT the name or id of one of its snapshots.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// List a machine's snapshots, oldest first, branches further in.
    List {
        /// Name or id of the machine.
        vm: String,
    },
    /// Take a snapshot.
    Create(Create),
    /// Go back to a snapshot; what the machine is now is kept as another one first.
    Restore(Restore),
    /// Remove a snapshot; what others need of it stays.
    Delete {
        #[command(flatten)]
        which: One,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Give a snapshot another name.
    Rename {
        #[command(flatten)]
        which: One,
        /// The new name.
        #[arg(value_name = "NEW")]
        new: String,
    },
    /// Make new machines of a snapshot, which share its disks.
    Fork(Fork),
    /// Start a machine made of a snapshot that is thrown away when it stops.
    Boot {
        #[command(flatten)]
        which: One,
        /// What it is called while it is there; VM-boot without.
        #[arg(long, value_name = "NEW-VM")]
        name: Option<String>,
    },
    /// Copy all that a machine's disks stand on into their newest layers: they are read faster, and take more room.
    Flatten {
        /// Name or id of the machine.
        vm: String,
    },
    /// Show what was written and changed between two snapshots, or one and the present.
    Compare {
        #[command(flatten)]
        which: One,
        /// Name or id of the other snapshot; the present without.
        other: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// Name or id of the machine.
    vm: String,
    /// Name or id of the snapshot.
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Name or id of the machine.
    vm: String,
    /// Its name; `snapshot` and the time without.
    name: Option<String>,
    /// Leave a running guest's memory out.
    #[arg(long)]
    disk_only: bool,
    /// Have the guest's agent freeze its file systems for it.
    #[arg(long, requires = "disk_only")]
    freeze: bool,
    /// Free text.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    /// A word it can be found by; may be repeated.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    which: One,
    /// Do not keep what the machine is now: it is lost.
    #[arg(long)]
    no_safety: bool,
    /// What the machine does afterwards; what it did at the snapshot without.
    #[arg(long, value_enum)]
    to: Option<ToArg>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ToArg {
    /// From memory where there is some, from power on else.
    Running,
    /// Memory is left aside.
    Stopped,
}

#[derive(Debug, Args)]
pub(crate) struct Fork {
    #[command(flatten)]
    which: One,
    /// The new machine's name; with more than one, -1, -2 … is put behind it.
    #[arg(value_name = "NEW-VM")]
    name: String,
    /// How many.
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: u32,
    /// Start them; with memory they go on from it.
    #[arg(long)]
    start: bool,
}

pub(crate) async fn snapshot(
    command: SnapshotCommand,
    client: &Client,
    format: Format,
) -> Result<(), ErrorBody> {
    match command {
        SnapshotCommand::List { vm } => list(&client.find(&vm).await?, client, format).await,
        SnapshotCommand::Create(args) => create(args, client, format).await,
        SnapshotCommand::Restore(args) => restore(args, client, format).await,
        SnapshotCommand::Delete { which, yes } => {
            delete(which, if yes { Asked::Yes } else { Asked::NotYet }, client, format).await
        }
        SnapshotCommand::Rename { which, new } => rename(which, new, client, format).await,
        SnapshotCommand::Fork(args) => fork(args, client, format).await,
        SnapshotCommand::Boot { which, name } => boot(which, name, client, format).await,
        SnapshotCommand::Flatten { vm } => flatten(&client.find(&vm).await?, client, format).await,
        SnapshotCommand::Compare { which, other } => compare(which, other, client, format).await,
    }
}

async fn tree(client: &Client, id: VmId) -> Result<SnapshotTree, ErrorBody> {
    client.call("snapshot.list", &VmRef { id }).await
}

/// The snapshot of that id or name, as it is now.
async fn find(client: &Client, id: VmId, wanted: &str) -> Result<Snapshot, ErrorBody> {
    let all = tree(client, id).await?.snapshots;
    let by_id = all.iter().position(|one| one.id.to_string() == wanted);
    let at = by_id.or_else(|| all.iter().position(|one| one.name == wanted));
    at.and_then(|at| all.into_iter().nth(at)).ok_or_else(|| {
        ErrorBody::new(ErrorCode::NotFound, format!("The machine has no snapshot “{wanted}”."))
            .with_field("snapshot")
            .with_hint("See their names with: voidvm snapshot list")
    })
}

async fn list(vm: &VmView, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let tree = tree(client, vm.id).await?;
    if format == Format::Json {
        return document(&tree.snapshots);
    }
    if tree.snapshots.is_empty() {
        return line(format_args!("{} has no snapshot.", printable(&vm.name)));
    }
    let rows = drawn(&tree.snapshots).into_iter().map(|(depth, one)| {
        let here = if one.current { " *" } else { "" };
        let name = format!("{}{}{here}", "\u{a0}\u{a0}".repeat(depth), one.name);
        let pause = one.pause_ms.map_or_else(String::new, |pause| format!("{pause:.0} ms"));
        let at = one.created_at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string();
        vec![name, at, holds(one), pause, one.size.to_string(), one.frees.to_string(), notes(one)]
    });
    line(table(&["name", "taken", "holds", "pause", "size", "frees", "notes"], rows))?;
    line("* what the machine is now came after it")
}

/// Each snapshot with how many branches it stands in: a chain stays in its column, what branches off stands before what went on.
fn drawn(all: &[Snapshot]) -> Vec<(usize, &Snapshot)> {
    let known: HashMap<SnapshotId, usize> = all.iter().enumerate().map(|(at, one)| (one.id, at)).collect();
    let parent = |at: usize| all.get(at).and_then(|one| one.parent).and_then(|id| known.get(&id).copied());
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); all.len()];
    let mut roots = Vec::new();
    // The present is newer than everything; else the newest instant below a snapshot says where its line goes on.
    let mut latest: Vec<(bool, jiff::Timestamp)> =
        all.iter().map(|one| (one.current, one.created_at)).collect();
    for at in (0..all.len()).rev() {
        let Some(own) = latest.get(at).copied() else { continue };
        match parent(at) {
            Some(above) => {
                if let Some(of) = children.get_mut(above) {
                    of.push(at);
                }
                if let Some(of) = latest.get_mut(above) {
                    *of = own.max(*of);
                }
            }
            None => roots.push(at),
        }
    }
    for of in children.iter_mut().chain([&mut roots]) {
        of.sort_by_key(|at| std::cmp::Reverse(latest.get(*at).copied()));
    }
    // A stack: what is pushed last comes first.
    let mut open: Vec<(usize, usize)> = roots.into_iter().map(|at| (0, at)).collect();
    let mut rows = Vec::new();
    while let Some((depth, at)) = open.pop() {
        let Some(one) = all.get(at) else { continue };
        rows.push((depth, one));
        let below = children.get(at).map_or(&[][..], Vec::as_slice);
        open.extend(below.iter().enumerate().map(|(n, child)| (depth + usize::from(n > 0), *child)));
    }
    rows
}

fn holds(one: &Snapshot) -> String {
    let how = match (one.memory, one.consistency) {
        (true, _) => "memory, disks",
        (false, Consistency::Whole) => "disks",
        (false, Consistency::Frozen) => "disks, frozen",
        (false, Consistency::Crash) => "disks, as after a power cut",
    };
    how.to_owned()
}

fn notes(one: &Snapshot) -> String {
    let mut notes = Vec::new();
    if let Some(trouble) = &one.trouble {
        notes.push(format!("cannot be restored: {}", trouble.message));
    }
    match one.reason {
        SnapshotReason::Manual => {}
        SnapshotReason::Schedule => notes.push("by a schedule".to_owned()),
        SnapshotReason::Safety => notes.push("before a restore".to_owned()),
        SnapshotReason::Backup => notes.push("read by a backup".to_owned()),
    }
    if one.keep {
        notes.push("kept".to_owned());
    }
    notes.extend(one.tags.iter().map(|tag| format!("#{tag}")));
    notes.join(", ")
}

async fn create(args: Create, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let vm = client.find(&args.vm).await?;
    let request = SnapshotCreateRequest {
        id: vm.id,
        name: args.name,
        description: args.description,
        tags: args.tags,
        disk_only: args.disk_only,
        freeze: args.freeze,
    };
    let operation: Operation = client.call("snapshot.create", &request).await?;
    let operation = client.finish(operation).await?;
    let Some(OperationResult::Snapshotted { snapshot, .. }) = operation.result else {
        return Err(ErrorBody::new(ErrorCode::Internal, "The engine did not say which snapshot it took."));
    };
    let taken = find(client, vm.id, &snapshot.to_string()).await?;
    if format == Format::Json {
        return document(&taken);
    }
    let held =
        taken.pause_ms.map_or_else(String::new, |pause| format!("; the guest was held for {pause:.0} ms"));
    line(format_args!("{}: took “{}”, {}{held}", printable(&vm.name), printable(&taken.name), taken.size))
}

async fn restore(args: Restore, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let vm = client.find(&args.which.vm).await?;
    let to = match args.to {
        None => RestoreTo::AsItWas,
        Some(ToArg::Running) => RestoreTo::Running,
        Some(ToArg::Stopped) => RestoreTo::Stopped,
    };
    let request = SnapshotRestoreRequest {
        id: vm.id,
        snapshot: args.which.snapshot,
        to,
        discard_present: args.no_safety,
    };
    let operation: Operation = client.call("snapshot.restore", &request).await?;
    client.finish(operation).await?;
    let vm: VmView = client.call("vm.get", &VmRef { id: vm.id }).await?;
    match format {
        Format::Json => document(&vm),
        Format::Text => line(format_args!(
            "{}: {} as at “{}”",
            printable(&vm.name),
            vm.state,
            printable(&request.snapshot)
        )),
    }
}

async fn rename(which: One, new: String, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let id = client.find(&which.vm).await?.id;
    let request = SnapshotUpdateRequest {
        id,
        snapshot: which.snapshot.clone(),
        name: Some(new),
        description: None,
        tags: None,
        keep: None,
    };
    let renamed: Snapshot = client.call("snapshot.update", &request).await?;
    match format {
        Format::Json => document(&renamed),
        Format::Text => {
            line(format_args!("{}: now called {}", printable(&which.snapshot), printable(&renamed.name)))
        }
    }
}

async fn fork(args: Fork, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let vm = client.find(&args.which.vm).await?;
    let request = SnapshotForkRequest {
        id: vm.id,
        snapshot: args.which.snapshot,
        name: args.name.clone(),
        count: Some(args.count),
        start: args.start,
    };
    let operation: Operation = client.call("snapshot.fork", &request).await?;
    client.finish(operation).await?;
    let mut made = Vec::new();
    for number in 1..=args.count {
        let name = if args.count == 1 { args.name.clone() } else { format!("{}-{number}", args.name) };
        made.push(client.find(&name).await?);
    }
    match (format, made.as_slice()) {
        (Format::Json, [one]) => document(one),
        (Format::Json, many) => document(&many),
        (Format::Text, many) => many
            .iter()
            .try_for_each(|vm| line(format_args!("{}: {} ({})", printable(&vm.name), vm.state, vm.id))),
    }
}

async fn boot(which: One, name: Option<String>, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let id = client.find(&which.vm).await?.id;
    let request = SnapshotBootRequest { id, snapshot: which.snapshot, name };
    let operation: Operation = client.call("snapshot.boot", &request).await?;
    let operation = client.finish(operation).await?;
    let Some(OperationResult::Booted { vm }) = operation.result else {
        return Err(ErrorBody::new(ErrorCode::Internal, "The engine did not say which machine it started."));
    };
    let vm: VmView = client.call("vm.get", &VmRef { id: vm }).await?;
    match format {
        Format::Json => document(&vm),
        Format::Text => {
            line(format_args!("{}: {} ({}); gone when it stops", printable(&vm.name), vm.state, vm.id))
        }
    }
}

async fn flatten(vm: &VmView, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let before = tree(client, vm.id).await?.depth;
    let operation: Operation = client.call("snapshot.flatten", &VmRef { id: vm.id }).await?;
    client.finish(operation).await?;
    let now = tree(client, vm.id).await?;
    match format {
        Format::Json => document(&now),
        Format::Text => line(format_args!(
            "{}: its disks stand on {} layers, before on {before}",
            printable(&vm.name),
            now.depth
        )),
    }
}

async fn compare(
    which: One,
    other: Option<String>,
    client: &Client,
    format: Format,
) -> Result<(), ErrorBody> {
    let id = client.find(&which.vm).await?.id;
    let request = SnapshotCompareRequest { id, snapshot: which.snapshot, with: other };
    let found: SnapshotDifference = client.call("snapshot.compare", &request).await?;
    if format == Format::Json {
        return document(&found);
    }
    let disks = found.disks.iter().map(|disk| {
        let changed = disk.changed.map_or_else(|| "nothing in common".to_owned(), |bytes| bytes.to_string());
        vec![disk.disk.to_string(), changed]
    });
    line(table(&["disk", "written in between, at most"], disks))?;
    if found.hardware.is_empty() {
        return line("The hardware is the same.");
    }
    let then = request.with.as_deref().unwrap_or("the present");
    let rows = found.hardware.into_iter().map(|change| {
        let words = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
        vec![change.field, words(change.running), words(change.next)]
    });
    line("")?;
    line(table(&["hardware", &request.snapshot, then], rows))
}

/// Whether a person has said yes already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Yes,
    NotYet,
}

async fn delete(which: One, asked: Asked, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let id = client.find(&which.vm).await?.id;
    let doomed = find(client, id, &which.snapshot).await?;
    if asked == Asked::NotYet {
        confirm(&doomed)?;
    }
    let request = SnapshotRef { id, snapshot: doomed.id.to_string() };
    let operation: Operation = client.call("snapshot.delete", &request).await?;
    let operation = client.finish(operation).await?;
    let freed = match operation.result {
        Some(OperationResult::Removed { bytes }) => bytes,
        _ => doomed.frees,
    };
    match format {
        Format::Json => {
            document(&json!({ "id": doomed.id, "name": doomed.name, "state": "deleted", "bytes": freed }))
        }
        Format::Text => line(format_args!("{}: deleted, {freed} freed", printable(&doomed.name))),
    }
}

/// Names what is lost, and asks.
fn confirm(doomed: &Snapshot) -> Result<(), ErrorBody> {
    let (name, bytes) = (printable(&doomed.name), doomed.frees);
    let required = || {
        ErrorBody::new(
            ErrorCode::ConfirmationRequired,
            format!("Deleting “{name}” frees {bytes}, and there is no way back to it."),
        )
        .with_hint("Say --yes to delete without being asked.")
        .with_detail("bytes", bytes.0)
    };
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(required());
    }
    let mut out = std::io::stderr().lock();
    let _ = write!(out, "Delete “{name}”, freeing {bytes}? There is no way back to it. Type yes: ");
    let _ = out.flush();
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && answer.trim().eq_ignore_ascii_case("yes") { Ok(()) } else { Err(required()) }
}
