//! Giving a running guest what its machine was given on paper, as far as it can take it while it runs.
//!
//! ```text
//! survey (what is really there) ─▶ out: USB, cards, disks ─▶ media, cables, forwards ─▶ in: disks, cards, USB ─▶ CPUs, memory
//! ```
//! Invariants: what was done is in the run's record before the next thing is begun, and nothing is in it that was not done;
//! a thing that does not work leaves the others alone, and is told; what cannot be had while the guest runs is not tried.
//! A crash in between leaves at most one device that the record does not know: the next survey finds it.

mod disk;
mod guest;
mod network;
mod parts;
mod size;
mod words;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use voidvm_model::spec::MachineType;
use voidvm_model::vm::PendingChange;
use voidvm_model::{DeviceId, ErrorBody, MachineSpec};

use crate::run::Run;
pub(crate) use disk::grow;
use guest::Guest;
pub(crate) use network::cables;
pub(crate) use words::Words;

/// What could not be done, and of what: the path of a field of the specification, `disks.disk1`.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    field: String,
    error: ErrorBody,
}

/// What of a change was tried in vain.
#[derive(Clone, Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    /// Tells of each change that waits why it was not made at once.
    pub(crate) fn explain(&self, changes: &mut [PendingChange]) {
        for change in changes {
            let why = self.0.iter().find(|problem| {
                change
                    .field
                    .strip_prefix(problem.field.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            });
            change.problem = why.map(|problem| problem.error.clone());
        }
    }

    fn keep(&mut self, field: String, result: Result<(), ErrorBody>) {
        if let Err(error) = result {
            tracing::warn!(field, %error, "not done while the guest runs");
            self.0.push(Problem { field, error });
        }
    }
}

/// Makes the run what `wanted` says, as far as that can be done while the guest runs.
pub(crate) async fn apply(run: Arc<Run>, wanted: MachineSpec, patience: Duration) -> Problems {
    let mut problems = Problems::default();
    let guest = match Guest::new(run, patience) {
        Ok(guest) => guest,
        Err(error) => {
            problems.keep(String::new(), Err(error));
            return problems;
        }
    };
    if let Err(error) = survey(&guest, &wanted).await {
        problems.keep(String::new(), Err(error));
        return problems;
    }
    if guest.run.record().disposable {
        // What was begun to be thrown away stays as it is; only what comes through the wire is changed.
        network::change(&guest, &wanted, &mut problems).await;
        return problems;
    }
    network::unplug(&guest, &wanted, &mut problems).await;
    disk::unplug(&guest, &wanted, &mut problems).await;
    disk::change_media(&guest, &wanted, &mut problems).await;
    network::change(&guest, &wanted, &mut problems).await;
    disk::plug(&guest, &wanted, &mut problems).await;
    network::plug(&guest, &wanted, &mut problems).await;
    size::cpus(&guest, &wanted, &mut problems).await;
    size::memory(&guest, &wanted, &mut problems).await;
    problems
}

/// Makes the record what is really there: after a crash in the middle of a change, or when a guest let go of something by
/// itself.
pub(crate) async fn look(run: Arc<Run>, wanted: MachineSpec) {
    let surveyed = async { survey(&Guest::new(run, Duration::ZERO)?, &wanted).await };
    if let Err(error) = surveyed.await {
        tracing::warn!(%error, "what a machine has plugged in cannot be asked");
    }
}

async fn survey(guest: &Guest, wanted: &MachineSpec) -> Result<(), ErrorBody> {
    let there = guest.devices().await?;
    let record = guest.run.record();
    let known = pluggable(&record.spec);
    let gone: Vec<DeviceId> = known.iter().filter(|id| !there.contains(id.as_str())).cloned().collect();
    let found: Vec<DeviceId> = pluggable(wanted)
        .into_iter()
        .filter(|id| !known.contains(id) && there.contains(id.as_str()))
        .collect();
    for id in &gone {
        disk::forget_nodes(guest, id).await;
        network::forget_backend(guest, id).await;
    }
    let cpus = size::count_cpus(guest).await?;
    let stale = record
        .now
        .as_ref()
        .is_some_and(|now| Words::new(now.clone()).devices().iter().any(|id| hot(id) && !there.contains(id)));
    if gone.is_empty() && found.is_empty() && cpus == record.spec.cpus && !stale {
        return Ok(());
    }
    tracing::info!(?gone, ?found, cpus, "the machine has other devices than was written down");
    guest.run.amend(|record| {
        for id in &gone {
            drop_device(&mut record.spec, id);
        }
        for id in &found {
            take_device(&mut record.spec, wanted, id);
        }
        record.spec.cpus = cpus;
        guest::note(record, |words| {
            gone.iter().for_each(|id| words.remove(id.as_str()));
            for id in words.devices().into_iter().filter(|id| hot(id) && !there.contains(id)) {
                words.remove(&id);
            }
        });
    });
    Ok(())
}

/// Whether a device is one that only a change of a running machine makes.
fn hot(id: &str) -> bool {
    id.starts_with(parts::CPU) || id.starts_with(parts::DIMM)
}

/// Every device that can come and go.
fn pluggable(spec: &MachineSpec) -> BTreeSet<DeviceId> {
    let disks = spec.disks.iter().map(|disk| &disk.id);
    let nics = spec.nics.iter().map(|nic| &nic.id);
    disks.chain(nics).chain(spec.usb.iter().map(|usb| &usb.id)).cloned().collect()
}

fn drop_device(spec: &mut MachineSpec, id: &DeviceId) {
    spec.disks.retain(|disk| disk.id != *id);
    spec.nics.retain(|nic| nic.id != *id);
    spec.usb.retain(|usb| usb.id != *id);
}

/// Takes a device over from `wanted`, to the place it has there.
fn take_device(spec: &mut MachineSpec, wanted: &MachineSpec, id: &DeviceId) {
    insert_like(&mut spec.disks, &wanted.disks, |disk| &disk.id, id);
    insert_like(&mut spec.nics, &wanted.nics, |nic| &nic.id, id);
    insert_like(&mut spec.usb, &wanted.usb, |usb| &usb.id, id);
}

fn insert_like<T: Clone>(into: &mut Vec<T>, like: &[T], id_of: impl Fn(&T) -> &DeviceId, id: &DeviceId) {
    let Some(at) = like.iter().position(|one| id_of(one) == id) else { return };
    let before =
        like[..at].iter().rev().find_map(|one| into.iter().position(|there| id_of(there) == id_of(one)));
    into.insert(before.map_or(0, |before| before + 1), like[at].clone());
}

/// Whether devices can be plugged into the machine's PCI bus while it runs.
const fn has_ports(spec: &MachineSpec) -> bool {
    matches!(spec.machine, MachineType::Q35)
}

#[cfg(test)]
mod tests {
    use voidvm_model::MiB;
    use voidvm_model::spec::{Disk, DiskFormat, FileOwner};

    use super::*;

    #[test]
    fn a_device_comes_to_the_place_it_is_wanted_in() {
        let disk = |id: &str| Disk::new(id.parse().unwrap(), "/d".into(), DiskFormat::Raw, FileOwner::User);
        let with = |ids: &[&str]| MachineSpec {
            disks: ids.iter().map(|id| disk(id)).collect(),
            ..MachineSpec::new(1, MiB(64))
        };
        let wanted = with(&["a", "b", "c"]);
        for (had, new) in [(["b", "c"], "a"), (["a", "c"], "b"), (["a", "b"], "c")] {
            let mut spec = with(&had);
            take_device(&mut spec, &wanted, &new.parse().unwrap());
            assert_eq!(spec, wanted);
            drop_device(&mut spec, &new.parse().unwrap());
            assert_eq!(spec, with(&had));
        }
    }

    #[test]
    fn a_problem_is_told_of_what_it_is_about() {
        let mut problems = Problems::default();
        problems.keep("disks.disk1".to_owned(), Err(ErrorBody::invalid("x", "no")));
        let change =
            |field: &str| PendingChange { field: field.to_owned(), running: None, next: None, problem: None };
        let mut changes = ["disks.disk1", "disks.disk10", "disks.disk1.cache"].map(change);
        problems.explain(&mut changes);
        assert_eq!(changes.map(|change| change.problem.is_some()), [true, false, true]);
    }
}
