//! More CPUs, more memory; and memory given back.

use serde_json::{Map, Value, json};
use voidvm_model::{ErrorBody, ErrorCode, MachineSpec, MiB};
use voidvm_qemu::args;

use super::guest::{Guest, note, text};
use super::{Problems, parts};

/// Guests take memory in blocks of this size.
const BLOCK: u64 = 128;

/// How many CPUs there are now.
pub(super) async fn count_cpus(guest: &Guest) -> Result<u16, ErrorBody> {
    let answer = guest.call("query-cpus-fast", json!({})).await?;
    Ok(answer.as_array().map_or(1, |cpus| u16::try_from(cpus.len()).unwrap_or(u16::MAX)))
}

/// Adds CPUs up to what is wanted. Guests seldom give one back: fewer wait for the next start.
pub(super) async fn cpus(guest: &Guest, wanted: &MachineSpec, problems: &mut Problems) {
    let record = guest.run.record();
    let most = record.spec.max_cpus.unwrap_or(record.spec.cpus);
    if wanted.cpus > record.spec.cpus && wanted.cpus <= most && !guest.is_gone() {
        problems.keep("cpus".to_owned(), add_cpus(guest, wanted.cpus).await);
    }
}

async fn add_cpus(guest: &Guest, wanted: u16) -> Result<(), ErrorBody> {
    let answer = guest.call("query-hotpluggable-cpus", json!({})).await?;
    let mut places: Vec<&Value> = answer
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .filter(|place| place.get("qom-path").is_none())
        .collect();
    // QEMU lists the last place first.
    places.reverse();
    let mut places = places.into_iter();
    let mut there = count_cpus(guest).await?;
    while there < wanted {
        let place = places.next().ok_or_else(|| {
            ErrorBody::new(ErrorCode::InvalidState, "The machine that runs has no place for more CPUs.")
                .with_hint("They are added at the next start.")
        })?;
        let mut device: Map<String, Value> =
            place.get("props").and_then(Value::as_object).cloned().unwrap_or_default();
        device.insert("driver".to_owned(), text(place, "type").unwrap_or_default().into());
        let id = format!("{}{there}", parts::CPU);
        device.insert("id".to_owned(), id.clone().into());
        let device = Value::Object(device);
        guest.note(|words| words.add("-device", &device));
        if let Err(error) = guest.call("device_add", device).await {
            guest.note(|words| words.remove(&id));
            return Err(error);
        }
        there += 1;
        guest.run.amend(|record| record.spec.cpus = there);
    }
    Ok(())
}

/// More memory than there is comes as a module; less than there is, the guest gives back through its balloon.
pub(super) async fn memory(guest: &Guest, wanted: &MachineSpec, problems: &mut Problems) {
    let record = guest.run.record();
    let now = &record.spec;
    if wanted.memory == now.memory || guest.is_gone() {
        return;
    }
    let within = wanted.memory < now.memory && now.balloon;
    let beyond = now.max_memory.is_some_and(|most| wanted.memory <= most) && wanted.memory > now.memory;
    let inflated = wanted.memory > now.memory && now.balloon;
    if (within || beyond || inflated)
        && let Some(done) = set_memory(guest, now, wanted.memory).await.transpose()
    {
        problems.keep("memory".to_owned(), done);
    }
}

/// `None` when it takes a restart.
async fn set_memory(guest: &Guest, now: &MachineSpec, wanted: MiB) -> Result<Option<()>, ErrorBody> {
    let summary = guest.call("query-memory-size-summary", json!({})).await?;
    let bytes = |name: &str| summary.get(name).and_then(Value::as_u64).unwrap_or(0);
    let there = MiB((bytes("base-memory") + bytes("plugged-memory")) >> 20);
    if wanted > there {
        if now.max_memory.is_none_or(|most| wanted > most) {
            return Ok(None);
        }
        add_memory(guest, now, MiB(wanted.0 - there.0)).await?;
    }
    if now.balloon {
        balloon(guest, wanted).await?;
    }
    guest.run.amend(|record| record.spec.memory = wanted);
    Ok(Some(()))
}

async fn add_memory(guest: &Guest, now: &MachineSpec, more: MiB) -> Result<(), ErrorBody> {
    if !more.0.is_multiple_of(BLOCK) {
        return Err(ErrorBody::new(
            ErrorCode::InvalidState,
            format!("A running guest takes memory in steps of {}.", MiB(BLOCK)),
        )
        .with_hint("Choose a multiple of 128 MiB more than it has, or wait for the next start."));
    }
    let devices = guest.devices().await?;
    let number = (0..).find(|number| !devices.contains(&format!("{}{number}", parts::DIMM))).unwrap_or(0);
    let (id, backend) = (format!("{}{number}", parts::DIMM), format!("vv.memory{number}"));
    let object = args::memory_backend(&backend, more.bytes(), args::shared_memory(now));
    let device = json!({"driver": "pc-dimm", "id": id, "memdev": backend});
    guest.note(|words| {
        words.add("-object", &object);
        words.add("-device", &device);
    });
    let added = async {
        guest.call("object-add", object.clone()).await?;
        guest.call("device_add", device.clone()).await
    };
    if let Err(error) = added.await {
        drop(guest.call("object-del", json!({"id": backend})).await);
        guest.run.amend(|record| {
            note(record, |words| {
                words.remove(&id);
                words.remove(&backend);
            });
        });
        return Err(error);
    }
    Ok(())
}

/// Asks the guest to make do with so much, and waits until it does.
async fn balloon(guest: &Guest, wanted: MiB) -> Result<(), ErrorBody> {
    let before = actual(guest).await?;
    if before == wanted {
        return Ok(());
    }
    guest.call("balloon", json!({"value": wanted.bytes().0})).await?;
    let reached = guest
        .until(|| async move { Ok((actual(guest).await?.0.abs_diff(wanted.0) <= 1).then_some(())) })
        .await?;
    if reached.is_none() {
        // What is told not to have happened shall not happen later.
        guest.call("balloon", json!({"value": before.bytes().0})).await?;
    }
    reached.ok_or_else(|| {
        ErrorBody::new(ErrorCode::Timeout, "The guest has not given the memory back.")
            .with_hint("It may need it, or lack the balloon driver; the change is made at the next start.")
    })
}

/// What the guest has, its balloon taken off.
async fn actual(guest: &Guest) -> Result<MiB, ErrorBody> {
    let answer = guest.call("query-balloon", json!({})).await?;
    Ok(MiB(answer.get("actual").and_then(Value::as_u64).unwrap_or(0) >> 20))
}
