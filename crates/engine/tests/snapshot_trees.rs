//! Random trees of snapshots, forks and clones against a model that holds what every disk should show.
//!
//! `VOIDVM_STEPS` and `VOIDVM_SEED` say how many steps are taken and which. The real QEMU's guests are only firmware; of the fake
//! the same files are worked on by `qemu-img` as QEMU would.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says its steps"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::lab::{Content, Hypervisor, Lab, PIECES, wish};
use voidvm_model::contract::{VmDeleteRequest, VmRef};
use voidvm_model::snapshot::{RestoreTo, Snapshot, SnapshotCreateRequest, SnapshotForkRequest};
use voidvm_model::transfer::VmCloneRequest;
use voidvm_model::{Origin, VmId, VmState};

/// The most machines there are at a time.
const MACHINES: usize = 4;
/// The most snapshots a machine has.
const SNAPSHOTS: usize = 12;
/// Between two looks at everything there is.
const LOOK: usize = 25;

/// A small generator: the same steps for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, of: impl ExactSizeIterator<Item = &'a T>) -> Option<&'a T> {
        let mut of = of;
        if of.len() == 0 { None } else { of.nth(self.roll(of.len())) }
    }
}

/// What a machine should show.
#[derive(Clone, Debug, Default)]
struct Shown {
    present: Content,
    kept: BTreeMap<String, (Snapshot, Content)>,
}

struct World {
    lab: Lab,
    dice: Dice,
    machines: BTreeMap<VmId, Shown>,
}

impl World {
    /// One step; what it was.
    async fn step(&mut self, step: usize) -> String {
        let id = *self.dice.pick(self.machines.keys().collect::<Vec<_>>().into_iter()).unwrap();
        let name = self.lab.rig.engine.get(id).unwrap().name;
        let what = match self.dice.roll(15) {
            0..=3 => self.write(id),
            4..=5 => self.take(id, step).await,
            6 => self.restore(id).await,
            7..=8 => self.forget(id).await,
            9 => self.fork(id, step).await,
            10 => self.copy(id, step).await,
            11 => self.remove(id).await,
            12 => self.flatten(id).await,
            _ => self.start_or_stop(id).await,
        };
        self.look(id).await;
        format!("{name}: {what}")
    }

    fn write(&mut self, id: VmId) -> String {
        let (piece, byte) = (self.dice.roll(PIECES), u8::try_from(1 + self.dice.roll(250)).unwrap());
        self.lab.write_to(id, piece, byte);
        self.machines.get_mut(&id).unwrap().present[piece] = byte;
        format!("write {piece} {byte}")
    }

    async fn take(&mut self, id: VmId, step: usize) -> String {
        if self.machines[&id].kept.len() >= SNAPSHOTS {
            return self.forget(id).await;
        }
        let (name, disk_only) = (format!("s{step}"), self.dice.roll(2) == 0);
        let taken =
            self.lab.take(SnapshotCreateRequest { name: Some(name.clone()), disk_only, ..wish(id) }).await;
        let shown = self.machines.get_mut(&id).unwrap();
        shown.kept.insert(name.clone(), (taken, shown.present));
        format!("take {name}, disk only {disk_only}")
    }

    fn any_kept(&mut self, id: VmId) -> Option<(String, Snapshot, Content)> {
        let kept = &self.machines[&id].kept;
        let name = self.dice.pick(kept.keys().collect::<Vec<_>>().into_iter())?.clone();
        let (snapshot, content) = kept[&name].clone();
        Some((name, snapshot, content))
    }

    async fn restore(&mut self, id: VmId) -> String {
        let Some((name, snapshot, content)) = self.any_kept(id) else { return "nothing".to_owned() };
        let discard = self.dice.roll(2) == 0;
        let to = [RestoreTo::AsItWas, RestoreTo::Running, RestoreTo::Stopped][self.dice.roll(3)];
        self.lab.restore_of(id, &snapshot, to, discard).await;
        let tree = self.lab.tree_of(id).await;
        let shown = self.machines.get_mut(&id).unwrap();
        if !discard {
            let safety =
                tree.into_iter().find(|other| !shown.kept.values().any(|(known, _)| known.id == other.id));
            let safety = safety.unwrap();
            shown.kept.insert(safety.name.clone(), (safety, shown.present));
        }
        shown.present = content;
        format!("restore {name}, to {to:?}, discard {discard}")
    }

    async fn forget(&mut self, id: VmId) -> String {
        let Some((name, snapshot, _)) = self.any_kept(id) else { return "nothing".to_owned() };
        self.lab.delete_of(id, &snapshot).await;
        self.machines.get_mut(&id).unwrap().kept.remove(&name);
        format!("delete {name}")
    }

    fn named(&self, name: &str) -> VmId {
        self.lab.rig.engine.list().into_iter().find(|vm| vm.name == name).unwrap().id
    }

    async fn fork(&mut self, id: VmId, step: usize) -> String {
        let Some((name, snapshot, content)) = self.any_kept(id) else { return "nothing".to_owned() };
        if self.machines.len() >= MACHINES {
            return "nothing".to_owned();
        }
        let start = self.dice.roll(2) == 0;
        let request = SnapshotForkRequest {
            id,
            snapshot: snapshot.id.to_string(),
            name: format!("fork{step}"),
            count: None,
            start,
        };
        self.lab.rig.succeeded(self.lab.rig.engine.fork_snapshot(request, Origin::Cli).await).await;
        let made = self.named(&format!("fork{step}"));
        if !start && snapshot.memory {
            // What it holds is looked at as disks are, which its memory would not fit any more.
            self.lab.rig.force_off(made).await;
        }
        self.machines.insert(made, Shown { present: content, kept: BTreeMap::new() });
        format!("fork{step} of {name}, started {start}")
    }

    async fn copy(&mut self, id: VmId, step: usize) -> String {
        if self.machines.len() >= MACHINES || self.lab.rig.state(id) != VmState::Stopped {
            return "nothing".to_owned();
        }
        let linked = self.dice.roll(3) > 0;
        let request = VmCloneRequest { id, name: format!("copy{step}"), linked, start: false };
        self.lab.rig.succeeded(self.lab.rig.engine.clone_machine(request, Origin::Cli).await).await;
        let made = self.named(&format!("copy{step}"));
        let present = self.machines[&id].present;
        self.machines.insert(made, Shown { present, kept: BTreeMap::new() });
        format!("copy{step}, linked {linked}")
    }

    /// A machine goes; those that stand on it get what they need of it.
    async fn remove(&mut self, id: VmId) -> String {
        if id == self.lab.id {
            return "nothing".to_owned();
        }
        for other in self.machines.keys() {
            if self.lab.rig.state(*other) != VmState::Stopped {
                self.lab.rig.force_off(*other).await;
            }
        }
        let request = VmDeleteRequest { flatten_children: true, ..VmDeleteRequest::new(id) };
        self.lab.rig.succeeded(self.lab.rig.engine.delete(request, Origin::Cli).await).await;
        self.machines.remove(&id);
        "remove".to_owned()
    }

    /// What its disks stand on is copied; all that snapshots name stays what it is.
    async fn flatten(&mut self, id: VmId) -> String {
        let begun = self.lab.rig.engine.flatten(VmRef { id }, Origin::Cli).await;
        if matches!(&begun, Err(error) if error.code == voidvm_model::ErrorCode::Unsupported) {
            return "nothing to flatten".to_owned();
        }
        self.lab.rig.succeeded(begun).await;
        let depth = self.lab.rig.engine.snapshots(id).await.unwrap().depth;
        assert!(depth <= 2 || self.machines.len() > 1, "it stands on {depth}");
        "flatten".to_owned()
    }

    async fn start_or_stop(&mut self, id: VmId) -> String {
        if self.lab.rig.state(id) == VmState::Stopped {
            self.lab.rig.start(id).await;
            "start".to_owned()
        } else {
            self.lab.rig.force_off(id).await;
            "stop".to_owned()
        }
    }

    /// One machine's disks and the names of its snapshots.
    async fn look(&self, id: VmId) {
        let Some(shown) = self.machines.get(&id) else { return };
        let tree: BTreeSet<String> =
            self.lab.tree_of(id).await.into_iter().map(|snapshot| snapshot.name).collect();
        assert_eq!(tree, shown.kept.keys().cloned().collect());
        for disk in &self.lab.rig.engine.get(id).unwrap().spec.disks {
            Lab::shows(&disk.file, &shown.present);
        }
    }

    /// Everything there is.
    async fn look_at_all(&self) {
        for (id, shown) in &self.machines {
            self.look(*id).await;
            for (snapshot, content) in shown.kept.values() {
                for layer in self.lab.layers_of(*id, snapshot).await {
                    Lab::shows(&layer, content);
                }
            }
        }
    }

    /// All but the first machine go, and every snapshot: only its disks are left, and show what they should.
    async fn end(&mut self) {
        loop {
            let other = self.machines.keys().find(|id| **id != self.lab.id).copied();
            let Some(other) = other else { break };
            self.remove(other).await;
        }
        if self.lab.state() != VmState::Stopped {
            self.lab.rig.force_off(self.lab.id).await;
        }
        for snapshot in self.lab.tree().await {
            self.lab.delete(&snapshot).await;
        }
        let only_disks = || {
            let mut files = self.lab.files();
            files.remove("thumbnail.png");
            files == ["disk0.qcow2", "disk1.qcow2"].map(str::to_owned).into()
        };
        let end = std::time::Instant::now() + common::SOON;
        while !only_disks() && std::time::Instant::now() < end {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(only_disks(), "left: {:?}", self.lab.files());
        let present = self.machines[&self.lab.id].present;
        for disk in ["disk0.qcow2", "disk1.qcow2"] {
            Lab::shows(&self.lab.dir().join(disk), &present);
        }
        let left = std::fs::read_dir(self.lab.dir().parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "a machine's directory is left");
    }
}

async fn trees(hypervisor: Hypervisor, usual: usize) {
    let Some(lab) = Lab::new(hypervisor).await else { return };
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seed = number("VOIDVM_SEED").unwrap_or(7).max(1);
    let steps = number("VOIDVM_STEPS").map_or(usual, |steps| usize::try_from(steps).unwrap());
    let machines = BTreeMap::from([(lab.id, Shown::default())]);
    let mut world = World { lab, dice: Dice(seed), machines };
    for step in 0..steps {
        let what = world.step(step).await;
        eprintln!("seed {seed}, step {step}: {what}");
        if step % LOOK == LOOK - 1 {
            world.look_at_all().await;
        }
    }
    world.look_at_all().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_random_trees_hold_what_they_should() {
    trees(Hypervisor::Real, 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_trees_on_the_fake_hold_what_they_should() {
    trees(Hypervisor::Fake, 100).await;
}
