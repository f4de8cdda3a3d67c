//! Pools and volumes.

use std::io::{IsTerminal as _, Write as _};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use voidvm_model::contract::{Done, Empty};
use voidvm_model::spec::DiskFormat;
use voidvm_model::storage::{
    Pool, PoolCreateRequest, PoolHealth, PoolRef, PoolUpdateRequest, Volume, VolumeCopyRequest,
    VolumeCreateRequest, VolumeMoveRequest, VolumeRef, VolumeResizeRequest,
};
use voidvm_model::{Bytes, ErrorBody, ErrorCode, Operation, OperationResult};

use crate::client::Client;
use crate::output::{Format, document, line, printable, table};

/// POOL is a pool's name or id.
#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// List the pools.
    List,
    /// Make a directory a pool.
    Create {
        /// Its name; no other pool's.
        name: String,
        /// The directory; made when it is not there.
        dir: String,
        /// Space that is to stay free.
        #[arg(long, value_name = "SIZE")]
        floor: Option<Bytes>,
    },
    /// Change a pool.
    Set {
        /// Name or id.
        pool: String,
        /// Another name.
        #[arg(long)]
        name: Option<String>,
        /// Space that is to stay free.
        #[arg(long, value_name = "SIZE")]
        floor: Option<Bytes>,
    },
    /// Forget a pool; its directory and files stay.
    Delete {
        /// Name or id.
        pool: String,
    },
}

/// VOLUME is a path, or a file name that only one pool has.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// List the volumes.
    List {
        /// Of this pool only.
        pool: Option<String>,
    },
    /// Make an empty volume.
    Create {
        /// The pool.
        pool: String,
        /// File name.
        name: String,
        /// What a guest sees.
        size: Bytes,
        /// Format.
        #[arg(long, value_enum, default_value = "qcow2")]
        format: FormatArg,
        /// Take all of the space at once.
        #[arg(long)]
        full: bool,
    },
    /// Change what a guest sees of a volume.
    Resize {
        /// Path or file name.
        volume: String,
        /// The new size.
        size: Bytes,
        /// Let it become smaller, where nothing would be lost.
        #[arg(long)]
        shrink: bool,
    },
    /// Copy a volume, also into another format or pool.
    #[command(visible_alias = "convert")]
    Copy {
        /// Path or file name.
        volume: String,
        /// File name of the copy.
        name: String,
        /// The pool of the copy; the same without.
        #[arg(long)]
        pool: Option<String>,
        /// The format of the copy; the same without.
        #[arg(long, value_enum)]
        format: Option<FormatArg>,
    },
    /// Move a volume to another pool; its machine follows.
    Move(Into),
    /// Give the space a volume no longer needs back.
    Reclaim(Only),
    /// Check a volume and mend it.
    Check(Only),
    /// Remove volumes that nobody uses.
    Delete {
        /// Paths or file names.
        #[arg(required = true, value_name = "VOLUME")]
        volumes: Vec<String>,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Only {
    /// Path or file name.
    pub(crate) volume: String,
}

#[derive(Debug, Args)]
pub(crate) struct Into {
    /// Path or file name.
    pub(crate) volume: String,
    /// Name or id.
    pub(crate) pool: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum FormatArg {
    Qcow2,
    Raw,
}

impl From<FormatArg> for DiskFormat {
    fn from(arg: FormatArg) -> Self {
        match arg {
            FormatArg::Qcow2 => Self::Qcow2,
            FormatArg::Raw => Self::Raw,
        }
    }
}

pub(crate) async fn pool(command: PoolCommand, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let pool: Pool = match command {
        PoolCommand::List => return list_pools(client, format).await,
        PoolCommand::Create { name, dir, floor } => {
            let path = absolute(&dir)?;
            client.call("pool.create", &PoolCreateRequest { name, path, floor }).await?
        }
        PoolCommand::Set { pool, name, floor } => {
            let id = find_pool(client, &pool).await?.id;
            client.call("pool.update", &PoolUpdateRequest { id, name, floor }).await?
        }
        PoolCommand::Delete { pool } => {
            let pool = find_pool(client, &pool).await?;
            let done: Done = client.call("pool.delete", &PoolRef { id: pool.id }).await?;
            return match format {
                Format::Json => document(&done),
                Format::Text => line(format_args!("{}: forgotten; its files stay", printable(&pool.name))),
            };
        }
    };
    match format {
        Format::Json => document(&pool),
        Format::Text => line(format_args!("{}: {}", printable(&pool.name), printable(&pool.path))),
    }
}

async fn pools(client: &Client) -> Result<Vec<Pool>, ErrorBody> {
    client.call("pool.list", &Empty::default()).await
}

async fn list_pools(client: &Client, format: Format) -> Result<(), ErrorBody> {
    let pools = pools(client).await?;
    if format == Format::Json {
        return document(&pools);
    }
    let rows = pools.into_iter().map(|pool| {
        let health = match pool.health {
            PoolHealth::Ok => "ok",
            PoolHealth::Low => "low",
            PoolHealth::ReadOnly => "read-only",
            PoolHealth::Missing => "missing",
        };
        let sizes = [pool.allocated, pool.free, pool.floor].map(|size| size.to_string());
        let [allocated, free, floor] = sizes;
        vec![pool.name, health.to_owned(), allocated, free, floor, pool.path]
    });
    line(table(&["name", "health", "volumes", "free", "floor", "path"], rows))
}

async fn find_pool(client: &Client, pool: &str) -> Result<Pool, ErrorBody> {
    let found = pools(client).await?.into_iter().find(|one| one.name == pool || one.id.to_string() == pool);
    found.ok_or_else(|| {
        ErrorBody::new(ErrorCode::NotFound, format!("There is no pool “{pool}”."))
            .with_field("pool")
            .with_hint("See the names with: voidvm pool list")
    })
}

pub(crate) async fn volume(command: VolumeCommand, client: &Client, format: Format) -> Result<(), ErrorBody> {
    match command {
        VolumeCommand::List { pool } => list_volumes(client, pool.as_deref(), format).await,
        VolumeCommand::Create { pool, name, size, format: kind, full } => {
            let id = find_pool(client, &pool).await?.id;
            let request = VolumeCreateRequest { id, name, size, format: kind.into(), full };
            act(client, "volume.create", &request, "made", format).await
        }
        VolumeCommand::Resize { volume, size, shrink } => {
            let Volume { pool: id, path, .. } = find(client, &volume).await?;
            let request = VolumeResizeRequest { id, path, size, shrink };
            act(client, "volume.resize", &request, "resized", format).await
        }
        VolumeCommand::Copy { volume, name, pool, format: kind } => {
            let volume = find(client, &volume).await?;
            let target = match pool {
                Some(pool) => find_pool(client, &pool).await?.id,
                None => volume.pool,
            };
            let kind = kind.map(DiskFormat::from).or(volume.format).unwrap_or(DiskFormat::Qcow2);
            let request =
                VolumeCopyRequest { id: volume.pool, path: volume.path, target, name, format: kind };
            act(client, "volume.copy", &request, "copied", format).await
        }
        VolumeCommand::Move(Into { volume, pool }) => {
            let Volume { pool: id, path, .. } = find(client, &volume).await?;
            let target = find_pool(client, &pool).await?.id;
            act(client, "volume.move", &VolumeMoveRequest { id, path, target }, "moved", format).await
        }
        VolumeCommand::Reclaim(Only { volume }) => {
            let Volume { pool: id, path, .. } = find(client, &volume).await?;
            act(client, "volume.reclaim", &VolumeRef { id, path }, "reclaimed", format).await
        }
        VolumeCommand::Check(Only { volume }) => {
            let Volume { pool: id, path, .. } = find(client, &volume).await?;
            act(client, "volume.check", &VolumeRef { id, path }, "checked", format).await
        }
        VolumeCommand::Delete { volumes, yes } => delete(client, &volumes, Asked::of(yes), format).await,
    }
}

async fn act(
    client: &Client,
    name: &str,
    request: &impl serde::Serialize,
    done: &str,
    format: Format,
) -> Result<(), ErrorBody> {
    let operation: Operation = client.call(name, request).await?;
    let operation = client.finish(operation).await?;
    if format == Format::Json {
        return document(&operation);
    }
    let subject = printable(&operation.subject);
    match operation.result {
        Some(OperationResult::Reclaimed { before, after }) => {
            let saved = before.saturating_sub(after);
            line(format_args!("{subject}: {before} before, {after} now; {saved} given back"))
        }
        Some(OperationResult::Checked(found)) => {
            let mended = if found.repaired { "; mended" } else { "" };
            line(format_args!("{subject}: {} errors, {} leaks{mended}", found.corruptions, found.leaks))
        }
        Some(OperationResult::Removed { bytes }) => line(format_args!("{subject}: removed, {bytes} freed")),
        _ => line(format_args!("{subject}: {done}")),
    }
}

/// Of one pool, or of all of them. A pool that is not there has none to show.
async fn all(client: &Client, pool: Option<&str>) -> Result<Vec<(String, Volume)>, ErrorBody> {
    if let Some(pool) = pool {
        let pool = find_pool(client, pool).await?;
        let volumes: Vec<Volume> = client.call("volume.list", &PoolRef { id: pool.id }).await?;
        return Ok(volumes.into_iter().map(|volume| (pool.name.clone(), volume)).collect());
    }
    let mut found = Vec::new();
    for pool in pools(client).await? {
        if pool.health != PoolHealth::Missing {
            let volumes: Vec<Volume> = client.call("volume.list", &PoolRef { id: pool.id }).await?;
            found.extend(volumes.into_iter().map(|volume| (pool.name.clone(), volume)));
        }
    }
    Ok(found)
}

async fn list_volumes(client: &Client, pool: Option<&str>, format: Format) -> Result<(), ErrorBody> {
    let volumes = all(client, pool).await?;
    if format == Format::Json {
        return document(&volumes.into_iter().map(|(_, volume)| volume).collect::<Vec<_>>());
    }
    let rows = volumes.into_iter().map(|(pool, volume)| {
        let kind = match volume.format {
            Some(DiskFormat::Qcow2) => "qcow2",
            Some(DiskFormat::Raw) => "raw",
            None => "?",
        };
        let used = match (&volume.vm_name, volume.orphaned, volume.children.len()) {
            (Some(vm), ..) => vm.clone(),
            (None, true, _) => "(orphaned)".to_owned(),
            (None, false, 0) => String::new(),
            (None, false, children) => format!("({children} stand on it)"),
        };
        let (size, taken) = (volume.virtual_size.to_string(), volume.allocated.to_string());
        vec![volume.name, pool, kind.to_owned(), size, taken, used, volume.path]
    });
    line(table(&["name", "pool", "format", "size", "on disk", "used by", "path"], rows))
}

async fn find(client: &Client, wanted: &str) -> Result<Volume, ErrorBody> {
    let path = absolute(wanted)?;
    let mut found: Vec<Volume> = all(client, None)
        .await?
        .into_iter()
        .map(|(_, volume)| volume)
        .filter(|volume| volume.path == path || volume.name == wanted)
        .collect();
    if let Some(at) = found.iter().position(|volume| volume.path == path) {
        return Ok(found.swap_remove(at));
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(ErrorBody::new(ErrorCode::NotFound, format!("There is no volume “{wanted}”."))
            .with_field("volume")
            .with_hint("See them with: voidvm volume list")),
        _ => Err(ErrorBody::invalid("volume", format!("Several volumes are called “{wanted}”."))
            .with_hint("Say its path.")),
    }
}

fn absolute(path: &str) -> Result<String, ErrorBody> {
    let wrong = || ErrorBody::invalid("path", format!("{path:?} cannot be a path."));
    let path = std::path::absolute(path).map_err(|_| wrong())?;
    path.into_os_string().into_string().map_err(|_| wrong())
}

/// Whether a person has said yes already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Yes,
    NotYet,
}

impl Asked {
    const fn of(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::NotYet }
    }
}

async fn delete(client: &Client, names: &[String], asked: Asked, format: Format) -> Result<(), ErrorBody> {
    let mut doomed = Vec::new();
    for name in names {
        doomed.push(find(client, name).await?);
    }
    if asked == Asked::NotYet {
        confirm(&doomed)?;
    }
    let mut gone = Vec::new();
    for volume in doomed {
        let request = VolumeRef { id: volume.pool, path: volume.path.clone() };
        let operation: Operation = client.call("volume.delete", &request).await?;
        client.finish(operation).await?;
        if format == Format::Text {
            line(format_args!("{}: removed, {} freed", printable(&volume.name), volume.allocated))?;
        }
        gone.push(json!({ "path": volume.path, "name": volume.name, "state": "deleted", "bytes": volume.allocated }));
    }
    match (format, gone.as_slice()) {
        (Format::Json, [one]) => document(one),
        (Format::Json, many) => document(&many),
        (Format::Text, _) => Ok(()),
    }
}

/// Names what is lost, and asks.
fn confirm(doomed: &[Volume]) -> Result<(), ErrorBody> {
    let bytes = Bytes(doomed.iter().map(|volume| volume.allocated.0).sum());
    let paths: Vec<&str> = doomed.iter().map(|volume| volume.path.as_str()).collect();
    let required = || {
        ErrorBody::new(
            ErrorCode::ConfirmationRequired,
            format!("This removes {} ({bytes}) for good.", paths.join(", ")),
        )
        .with_hint("Say --yes to remove without being asked.")
        .with_detail("files", paths.clone())
        .with_detail("bytes", bytes.0)
    };
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(required());
    }
    let mut out = std::io::stderr().lock();
    for volume in doomed {
        let _ = writeln!(out, "  {}  {}", volume.allocated, printable(&volume.path));
    }
    let _ = write!(out, "Remove, losing {bytes}? Type yes: ");
    let _ = out.flush();
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && answer.trim().eq_ignore_ascii_case("yes") { Ok(()) } else { Err(required()) }
}
