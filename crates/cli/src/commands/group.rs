//! Groups of machines and their snapshots: all machines of a group at one instant.

use std::io::{IsTerminal as _, Write as _};

use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use serde_json::json;
use voidvm_model::contract::{Empty, VmListRequest};
use voidvm_model::group::{
    Group, GroupRef, GroupSnapshot, GroupSnapshotCreateRequest, GroupSnapshotForkRequest, GroupSnapshotRef,
    GroupSnapshotRestoreRequest,
};
use voidvm_model::snapshot::RestoreTo;
use voidvm_model::{ErrorBody, ErrorCode, Operation, OperationResult, VmView};

use super::snapshot::ToArg;
use crate::client::Client;
use crate::output::{Format, document, line, printable, table};

/// GROUP is the word a machine is grouped by (voidvm set VM group=WORD).
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// List the groups.
    List,
    /// All machines of a group at one instant, to come back to or to make new ones of.
    #[command(subcommand)]
    Snapshot(GroupSnapshotCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum GroupSnapshotCommand {
    /// List a group's snapshots, oldest first.
    List {
        /// The group.
        group: String,
    },
    /// Take a snapshot of all machines of a group: of all of them, or of none.
    Create(Create),
    /// Take all machines of a group back; what they are now is kept as another snapshot first.
    Restore(Restore),
    /// Remove a snapshot of a group, with those of its machines.
    Delete {
        #[command(flatten)]
        which: One,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Make a new group of machines of a snapshot, which share its disks.
    Fork(Fork),
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The group.
    group: String,
    /// Name or id of the snapshot.
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The group.
    group: String,
    /// Its name; `snapshot` and the time without.
    name: Option<String>,
    /// Leave the memory of guests that run out.
    #[arg(long)]
    disk_only: bool,
    /// Have the guests' agents freeze their file systems for it.
    #[arg(long, requires = "disk_only")]
    freeze: bool,
    /// Free text.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    which: One,
    /// Do not keep what the machines are now: it is lost.
    #[arg(long)]
    no_safety: bool,
    /// What the machines do afterwards; what they did at the snapshot without.
    #[arg(long, value_enum)]
    to: Option<ToArg>,
}

#[derive(Debug, Args)]
pub(crate) struct Fork {
    #[command(flatten)]
    which: One,
    /// The new group's name; its machines are called as the old ones, with NEW-GROUP- before that.
    #[arg(value_name = "NEW-GROUP")]
    name: String,
    /// Start them together; with memory they go on from it.
    #[arg(long)]
    start: bool,
}

pub(crate) async fn group(command: GroupCommand, client: &Client, format: Format) -> Result<(), ErrorBody> {
    match command {
        GroupCommand::List => groups(client, format).await,
        GroupCommand::Snapshot(GroupSnapshotCommand::List { group }) => list(group, client, format).await,
        GroupCommand::Snapshot(GroupSnapshotCommand::Create(args)) => create(args, client, format).await,
        GroupCommand::Snapshot(GroupSnapshotCommand::Restore(args)) => restore(args, client, format).await,
        GroupCommand::Snapshot(GroupSnapshotCommand::Delete { which, yes }) => {
            delete(which, if yes { Asked::Yes } else { Asked::NotYet }, client, format).await
        }
        GroupCommand::Snapshot(GroupSnapshotCommand::Fork(args)) => fork(args, client, format).await,
    }
}

async fn groups(client: &Client, format: Format) -> Result<(), ErrorBody> {
    let groups: Vec<Group> = client.call("group.list", &Empty {}).await?;
    if format == Format::Json {
        return document(&groups);
    }
    if groups.is_empty() {
        return line("No machine stands in a group.");
    }
    let vms = machines(client).await?;
    let rows = groups.into_iter().map(|group| {
        let names = vms.iter().filter(|vm| group.vms.contains(&vm.id)).map(|vm| vm.name.as_str());
        let names = names.collect::<Vec<_>>().join(", ");
        vec![group.name, names, group.snapshots.to_string()]
    });
    line(table(&["group", "machines", "snapshots"], rows))
}

async fn machines(client: &Client) -> Result<Vec<VmView>, ErrorBody> {
    client.call("vm.list", &VmListRequest { name: None, state: None }).await
}

async fn all(client: &Client, group: &str) -> Result<Vec<GroupSnapshot>, ErrorBody> {
    client.call("group.snapshot.list", &GroupRef { group: group.to_owned() }).await
}

async fn find(client: &Client, group: &str, wanted: &str) -> Result<GroupSnapshot, ErrorBody> {
    let all = all(client, group).await?;
    let by_id = all.iter().position(|one| one.id.to_string() == wanted);
    let at = by_id.or_else(|| all.iter().position(|one| one.name == wanted));
    at.and_then(|at| all.into_iter().nth(at)).ok_or_else(|| {
        ErrorBody::new(ErrorCode::NotFound, format!("The group “{group}” has no snapshot “{wanted}”."))
            .with_field("snapshot")
            .with_hint("See their names with: voidvm group snapshot list")
    })
}

async fn list(group: String, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let all = all(client, &group).await?;
    if format == Format::Json {
        return document(&all);
    }
    if all.is_empty() {
        return line(format_args!("{} has no snapshot.", printable(&group)));
    }
    let rows = all.into_iter().map(|one| {
        let at = one.created_at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string();
        let names: Vec<&str> = one.members.iter().map(|member| member.vm_name.as_str()).collect();
        let spread = milliseconds(one.spread_ms);
        let pause = milliseconds(longest(&one));
        let trouble = one.trouble.as_ref().map(|trouble| format!("cannot be restored: {}", trouble.message));
        let (size, frees) = (one.size.to_string(), one.frees.to_string());
        vec![one.name, at, names.join(", "), spread, pause, size, frees, trouble.unwrap_or_default()]
    });
    line(table(&["name", "taken", "machines", "spread", "pause", "size", "frees", "notes"], rows))
}

fn milliseconds(time: Option<f64>) -> String {
    time.map_or_else(String::new, |time| format!("{time:.0} ms"))
}

/// The longest a guest was held.
fn longest(one: &GroupSnapshot) -> Option<f64> {
    one.members.iter().filter_map(|member| member.pause_ms).reduce(f64::max)
}

async fn create(args: Create, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let request = GroupSnapshotCreateRequest {
        group: args.group,
        name: args.name,
        description: args.description,
        disk_only: args.disk_only,
        freeze: args.freeze,
    };
    let operation: Operation = client.call("group.snapshot.create", &request).await?;
    let operation = client.finish(operation).await?;
    let Some(OperationResult::GroupSnapshotted { snapshot, .. }) = operation.result else {
        return Err(ErrorBody::new(ErrorCode::Internal, "The engine did not say which snapshot it took."));
    };
    let taken = find(client, &request.group, &snapshot.to_string()).await?;
    if format == Format::Json {
        return document(&taken);
    }
    let held = longest(&taken).map_or_else(String::new, |pause| {
        let spread = taken
            .spread_ms
            .map_or_else(String::new, |spread| format!(", the last one {spread:.0} ms after the first"));
        format!("; guests were held for up to {pause:.0} ms{spread}")
    });
    let count = taken.members.len();
    line(format_args!(
        "{}: took “{}” of {count} machines, {}{held}",
        printable(&request.group),
        printable(&taken.name),
        taken.size
    ))
}

async fn restore(args: Restore, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let to = match args.to {
        None => RestoreTo::AsItWas,
        Some(ToArg::Running) => RestoreTo::Running,
        Some(ToArg::Stopped) => RestoreTo::Stopped,
    };
    let One { group, snapshot } = args.which;
    let wanted = find(client, &group, &snapshot).await?;
    let request = GroupSnapshotRestoreRequest {
        group,
        snapshot: wanted.id.to_string(),
        to,
        discard_present: args.no_safety,
    };
    let operation: Operation = client.call("group.snapshot.restore", &request).await?;
    client.finish(operation).await?;
    let of = |vm: &VmView| wanted.members.iter().any(|member| member.vm_id == vm.id);
    show(&machines(client).await?.into_iter().filter(of).collect::<Vec<_>>(), format)
}

fn show(vms: &[VmView], format: Format) -> Result<(), ErrorBody> {
    match format {
        Format::Json => document(&vms),
        Format::Text => vms
            .iter()
            .try_for_each(|vm| line(format_args!("{}: {} ({})", printable(&vm.name), vm.state, vm.id))),
    }
}

async fn fork(args: Fork, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let request = GroupSnapshotForkRequest {
        group: args.which.group,
        snapshot: args.which.snapshot,
        name: args.name,
        start: args.start,
    };
    let operation: Operation = client.call("group.snapshot.fork", &request).await?;
    client.finish(operation).await?;
    let made = |vm: &VmView| vm.meta.group.as_ref() == Some(&request.name);
    show(&machines(client).await?.into_iter().filter(made).collect::<Vec<_>>(), format)
}

/// Whether a person has said yes already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Yes,
    NotYet,
}

async fn delete(which: One, asked: Asked, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let doomed = find(client, &which.group, &which.snapshot).await?;
    if asked == Asked::NotYet {
        confirm(&doomed)?;
    }
    let request = GroupSnapshotRef { group: which.group, snapshot: doomed.id.to_string() };
    let operation: Operation = client.call("group.snapshot.delete", &request).await?;
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
fn confirm(doomed: &GroupSnapshot) -> Result<(), ErrorBody> {
    let (name, bytes, count) = (printable(&doomed.name), doomed.frees, doomed.members.len());
    let required = || {
        ErrorBody::new(
            ErrorCode::ConfirmationRequired,
            format!("Deleting “{name}” of {count} machines frees {bytes}, and there is no way back to it."),
        )
        .with_hint("Say --yes to delete without being asked.")
        .with_detail("bytes", bytes.0)
    };
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(required());
    }
    let mut out = std::io::stderr().lock();
    let _ = write!(
        out,
        "Delete “{name}” of {count} machines, freeing {bytes}? There is no way back to it. Type yes: "
    );
    let _ = out.flush();
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && answer.trim().eq_ignore_ascii_case("yes") { Ok(()) } else { Err(required()) }
}
