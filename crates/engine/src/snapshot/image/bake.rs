//! Making an image: a second QEMU takes the snapshot's memory in, its own memory being a file, and writes its devices out
//! without it. Its guest never runs.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use voidvm_model::operation::Progress;
use voidvm_model::spec::Disk;
use voidvm_model::{Bytes, ErrorBody, ErrorCode, VmId};
use voidvm_qemu::companion::{self, Companions};
use voidvm_qemu::image;
use voidvm_qemu::process::{Brief, RunDir, RunRecord};
use voidvm_qemu::qmp::{Qmp, QmpError};
use voidvm_store::SnapshotRow;

use super::load::{hand, leave_out_shared};
use super::{DESCRIPTION, Description, RAM, STATE, drop_image, words};
use crate::hotplug::Words;
use crate::ops::{build, files, outfit};
use crate::platform::Qemu;
use crate::shared::Shared;
use crate::snapshot::job::blocking;
use crate::snapshot::switch::call;
use crate::snapshot::{kept, packed};
use crate::step::step;

/// The descriptor's name in the monitor.
const DESCRIPTOR: &str = "vv.bake";
/// Between two questions how far it is.
const ASK: Duration = Duration::from_millis(20);
/// A disk that takes or gives nothing for so long has failed.
const STALLED: Duration = Duration::from_secs(600);
/// What the devices' state takes at most, and a little more.
const STATE_ROOM: u64 = 64 << 20;

/// The process that makes images; there is one at a time, and its directory is its own.
fn place(shared: &Shared) -> RunDir {
    RunDir::new(&shared.config.runtime_dir, scratch())
}

/// Removes what a process that was ended in the middle has left.
pub(super) fn clear(shared: &Shared) {
    drop(place(shared).remove());
}

/// A machine that is none.
fn scratch() -> VmId {
    VmId(uuid::Uuid::from_u128(1))
}

/// Whether a QEMU can leave shared memory out; it is asked once.
pub(super) async fn is_offered(shared: &Shared, qemu: &Qemu) -> bool {
    let known = super::lock(&shared.preparing.offers).get(&qemu.identity()).copied();
    if let Some(known) = known {
        return known;
    }
    let offered = async {
        let dir = place(shared);
        dir.prepare().map_err(|error| files::io_error(dir.path(), &error))?;
        let monitor = format!("unix:{},server=on,wait=off", dir.qmp().display());
        let words = [
            "-machine",
            "none",
            "-S",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-qmp",
            &monitor,
        ];
        let words: Vec<_> = words.iter().map(std::ffi::OsString::from).collect();
        let mut process = Brief::spawn(&qemu.binary, &words, &dir).map_err(|error| error.body())?;
        let answer = async {
            let (qmp, _events) = Qmp::connect(&dir.qmp(), shared.config.timing.greeting).await?;
            qmp.execute_raw("query-migrate-capabilities", None, Duration::from_secs(5)).await
        };
        let answer: Result<Value, QmpError> = answer.await;
        process.kill().await;
        drop(dir.remove());
        let answer = answer.map_err(|error| error.body())?;
        let has = |one: &Value| one.get("capability").and_then(Value::as_str) == Some("x-ignore-shared");
        Ok::<_, ErrorBody>(answer.as_array().is_some_and(|all| all.iter().any(has)))
    };
    let offered = offered.await.unwrap_or_else(|error| {
        tracing::info!(%error, "QEMU does not say whether memory can be prepared");
        false
    });
    super::lock(&shared.preparing.offers).insert(qemu.identity(), offered);
    offered
}

/// What can have an image at all: nothing of the host's is in it, and nobody else works in its memory.
pub(super) fn is_possible(row: &SnapshotRow, record: &RunRecord) -> bool {
    let plain = row.spec.usb.is_empty() && record.spec.usb.is_empty() && record.spec.extra_args.is_empty();
    plain && words::memory(&now(record)).is_some()
}

fn now(record: &RunRecord) -> Words {
    Words::new(super::without_image(record.now.clone().unwrap_or_else(|| record.argv.clone())))
}

/// Makes the image of a snapshot. Nothing of it is left when this fails or is dropped and tidied up after.
///
/// # Errors
/// What is missing or refused.
pub(super) async fn bake(
    shared: &Arc<Shared>,
    (row, machine_dir): (&SnapshotRow, &Path),
    qemu: &Qemu,
    progress: &watch::Sender<Option<Progress>>,
) -> Result<(), ErrorBody> {
    let dir = kept::dir(machine_dir, row.id);
    let record = kept::read(&dir)?.record;
    let (memory, argv) = arguments(shared, row, &record, (machine_dir, &dir))?;
    let stream = std::fs::metadata(kept::memory(&dir)).map_or(memory, |file| file.len().max(1));
    let needed = if packed::is_packed(&dir) { memory } else { stream.min(memory) };
    build::check_space(shared, &dir, Bytes(needed.saturating_add(STATE_ROOM))).await?;
    let run_dir = place(shared);
    run_dir.prepare().map_err(|error| files::io_error(run_dir.path(), &error))?;
    let made = async {
        let ram = make_part(&dir, RAM)?;
        ram.set_len(memory).map_err(|error| files::io_error(&dir, &error))?;
        let state = make_part(&dir, STATE)?;
        step("prepare: parts made");
        let mut companions = Companions::none(run_dir.clone());
        if record.spec.tpm {
            let contents = files::tpm(run_dir.path());
            kept::copy_state(&dir, run_dir.path()).map_err(|error| files::io_error(&contents, &error))?;
            companion::swtpm(&mut companions, &run_dir, &contents).map_err(|error| error.body())?;
        }
        let process = Brief::spawn(&qemu.binary, &argv, &run_dir).map_err(|error| error.body());
        let written = match process {
            Ok(mut process) => {
                step("prepare: process started");
                let written = through(shared, &run_dir, (&dir, &state), progress).await;
                if written.is_err() {
                    process.kill().await;
                }
                let _ = process.wait().await;
                written
            }
            Err(error) => Err(error),
        };
        companions.end(Duration::from_millis(200)).await;
        written.map_err(|error| error.with_detail("stderr", run_dir.stderr_tail()))?;
        let description = Description {
            qemu: qemu.identity(),
            memory,
            state: state.metadata().map_err(|error| files::io_error(&dir, &error))?.len(),
            made_at: Timestamp::now(),
        };
        let dir = dir.clone();
        blocking(move || name(&dir, &ram, &state, &description)).await
    };
    let made = made.await;
    if made.is_err() {
        drop_image(&dir);
    }
    drop(run_dir.remove());
    made
}

/// The size of the memory, and the arguments of the process that makes its image.
fn arguments(
    shared: &Shared,
    row: &SnapshotRow,
    record: &RunRecord,
    (machine_dir, dir): (&Path, &Path),
) -> Result<(u64, Vec<std::ffi::OsString>), ErrorBody> {
    let unable = || ErrorBody::new(ErrorCode::Unsupported, "The memory of this machine cannot be prepared.");
    let mut words = now(record);
    let memory = words::memory(&words).ok_or_else(unable)?;
    let (own, to) = (RunDir::new(&shared.config.runtime_dir, record.uuid), place(shared));
    let text = |path: &Path| path.to_string_lossy().into_owned();
    words.rewrite(&text(own.path()), &text(to.path()));
    words.rewrite(&text(&shared.config.serial_log(record.uuid)), &text(&to.path().join("serial.log")));
    words.set_plain("-uuid", scratch().to_string());
    words.set_plain("-name", voidvm_qemu::args::name("memory of a snapshot"));
    words.set("-device", "vv.vsock", "guest-cid", &Value::from(outfit::cid(scratch())));
    let size = |name: &str, file: &Path| {
        let layer = row
            .layers
            .iter()
            .find(|(disk, _)| disk.as_str() == name)
            .map(|(_, layer)| machine_dir.join(layer));
        size_of(
            layer.as_deref().unwrap_or(file),
            record.spec.disks.iter().find(|disk| disk.id.as_str() == name),
        )
    };
    let words = words::baking(words, &build::part_of(&dir.join(RAM)), size).ok_or_else(unable)?;
    let argv = words.into_argv().into_iter().chain(["-incoming".to_owned(), "defer".to_owned()]);
    Ok((memory, argv.map(Into::into).collect()))
}

/// How large a device looks to its guest.
fn size_of(file: &Path, disk: Option<&Disk>) -> Option<u64> {
    let raw = disk.is_some_and(|disk| disk.format == voidvm_model::spec::DiskFormat::Raw);
    match image::header(file).ok()? {
        Some(header) if !raw => Some(header.virtual_size.0),
        _ => Some(std::fs::metadata(file).ok()?.len()),
    }
}

fn make_part(dir: &Path, name: &str) -> Result<File, ErrorBody> {
    let part = build::part_of(&dir.join(name));
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true).mode(0o600);
    options.open(&part).map_err(|error| files::io_error(&part, &error))
}

/// Memory in, devices out.
async fn through(
    shared: &Shared,
    run_dir: &RunDir,
    (dir, state): (&Path, &File),
    progress: &watch::Sender<Option<Progress>>,
) -> Result<(), ErrorBody> {
    let connected = Qmp::connect(&run_dir.qmp(), shared.config.timing.greeting).await;
    let (qmp, mut events) = connected.map_err(|error| error.body())?;
    // Nobody listens; an end of the line is seen by whoever speaks next.
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    let stream = packed::open(&kept::memory(dir))?;
    hand(&qmp, DESCRIPTOR, &stream).await?;
    drop(stream);
    call(&qmp, "migrate-incoming", json!({"uri": format!("fd:{DESCRIPTOR}")})).await?;
    follow(&qmp, progress).await?;
    step("prepare: memory in");
    leave_out_shared(&qmp, true).await?;
    call(&qmp, "migrate-set-parameters", json!({"max-bandwidth": 1_u64 << 42})).await?;
    hand(&qmp, DESCRIPTOR, state).await?;
    call(&qmp, "migrate", json!({"uri": format!("fd:{DESCRIPTOR}")})).await?;
    follow(&qmp, progress).await?;
    step("prepare: devices out");
    drop(call(&qmp, "quit", json!({})).await);
    Ok(())
}

async fn follow(qmp: &Qmp, progress: &watch::Sender<Option<Progress>>) -> Result<(), ErrorBody> {
    let mut last = (Value::Null, Instant::now());
    loop {
        let answer = call(qmp, "query-migrate", json!({})).await?;
        match answer.get("status").and_then(Value::as_str) {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => {
                let reason =
                    answer.get("error-desc").and_then(Value::as_str).unwrap_or("QEMU does not say why");
                return Err(ErrorBody::new(
                    ErrorCode::QemuFailed,
                    format!("The memory could not be prepared: {reason}."),
                ));
            }
            _ => {}
        }
        let ram = answer.get("ram");
        let number = |name: &str| ram.and_then(|ram| ram.get(name)?.as_u64()).unwrap_or(0);
        if number("total") > 0 {
            let (total, done) = (number("total"), number("total").saturating_sub(number("remaining")));
            progress.send_replace(Some(Progress { done, total }));
        }
        if last.0 != answer {
            last = (answer, Instant::now());
        } else if last.1.elapsed() > STALLED {
            return Err(ErrorBody::new(ErrorCode::Timeout, "The disk takes no more of the memory."));
        }
        tokio::time::sleep(ASK).await;
    }
}

/// Gives the parts their names; from the description on there is an image.
fn name(dir: &Path, ram: &File, state: &File, description: &Description) -> Result<(), ErrorBody> {
    let failed = |error: std::io::Error| files::io_error(dir, &error);
    for (file, name) in [(ram, RAM), (state, STATE)] {
        file.sync_all().map_err(failed)?;
        let name: PathBuf = dir.join(name);
        std::fs::rename(build::part_of(&name), &name).map_err(failed)?;
        step("prepare: file named");
    }
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    let bytes = serde_json::to_vec(description).map_err(|error| {
        ErrorBody::new(ErrorCode::Internal, format!("An image cannot be described: {error}."))
    })?;
    build::write_file(&dir.join(DESCRIPTION), &bytes)?;
    step("prepare: described");
    Ok(())
}
