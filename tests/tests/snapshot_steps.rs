//! A fault at every step of every work on snapshots of a real machine: the owner is killed, the owner and QEMU are, QEMU alone is,
//! or the disk is full from there on.
//!
//! Each kind of work is done once without a fault, to learn its steps (a debug build says them, `engine/src/step.rs`). Then
//! it is begun anew for each step and fault. After that the machine shows the old or the new, never neither; every
//! snapshot is whole; and once all are removed nothing but the disk is left. `VOIDVM_FAULTS` (36) says how many of the faults
//! are tried, all of them with that word.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test, which says what it does")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use voidvm_model::{SnapshotId, VmState};
use voidvm_testkit::{Client, Home, Serve, SmallDisk, wait_until};
use voidvm_tests::crash_plan;
use voidvm_tests::snapshots::{Marked, is_sound, mark, shows};

/// The longest a step is waited for.
const SOON: Duration = Duration::from_secs(60);

/// What is done, with the machine running or not.
const WORK: [(&str, bool); 9] = [
    ("keep", true),
    ("keep without memory", true),
    ("keep at rest", false),
    ("restore", true),
    ("restore at rest", false),
    ("remove the older", true),
    ("remove the newer", true),
    ("remove at rest", false),
    ("fork", false),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Owner,
    Both,
    Qemu,
    Full,
}

/// Where the owner says its steps.
struct Steps(PathBuf);

impl Steps {
    fn clear(&self) {
        for name in ["log", "hold", "held"] {
            drop(std::fs::remove_file(self.0.join(name)));
        }
    }

    /// Each step with how often it had come by then.
    fn seen(&self) -> Vec<(String, usize)> {
        let log = std::fs::read_to_string(self.0.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let times = |at: usize| lines[..=at].iter().filter(|line| **line == lines[at]).count();
        (0..lines.len()).map(|at| (lines[at].to_owned(), times(at))).collect()
    }

    fn hold(&self, (name, times): &(String, usize)) {
        let part = self.0.join("part");
        std::fs::write(&part, format!("{name} {times}")).unwrap();
        std::fs::rename(part, self.0.join("hold")).unwrap();
    }

    fn held(&self) -> bool {
        self.0.join("held").exists()
    }

    fn let_go(&self) {
        drop(std::fs::remove_file(self.0.join("hold")));
    }
}

/// A machine with two snapshots and a present, each with a mark of its own.
struct Lab {
    home: Home,
    serve: Option<Serve>,
    machine: Marked,
    steps: Steps,
    small: Option<SmallDisk>,
    marks: BTreeMap<SnapshotId, u8>,
    present: u8,
}

/// Of what is done with a snapshot's memory when nobody waits for it.
const PREPARING: [(&str, usize); 7] = [
    ("prepare: parts made", 1),
    ("prepare: process started", 1),
    ("prepare: memory in", 1),
    ("prepare: devices out", 1),
    ("prepare: file named", 1),
    ("prepare: file named", 2),
    ("prepare: described", 1),
];

impl Lab {
    /// `prepared`: how many snapshots have an image of their memory.
    fn new(prepared: &str) -> Self {
        let mut home = Home::new();
        home.set("VOIDVM_PREPARED_SNAPSHOTS", prepared);
        let steps = Steps(home.path().join("steps"));
        std::fs::create_dir(&steps.0).unwrap();
        home.set("VOIDVM_STEP_DIR", steps.0.to_str().unwrap());
        // Room for the memory of two snapshots and for what is below them.
        let small = SmallDisk::mount(320 << 10);
        if let Some(small) = &small {
            home.set_data_home(small.path());
        }
        let content = voidvm_tests::make_disk(home.path(), 8);
        let serve = home.serve();
        let machine = Marked::make(&serve.client, "kept", &content);
        Self { home, serve: Some(serve), machine, steps, small, marks: BTreeMap::new(), present: 0 }
    }

    fn client(&self) -> &Client {
        &self.serve.as_ref().unwrap().client
    }

    /// The same state for each fault.
    fn set_up(&mut self, running: bool) {
        self.machine.rest(self.client());
        self.machine.clear(self.client(), "between two faults");
        self.marks.clear();
        for (name, marked) in [("older", 1), ("newer", 2)] {
            mark(&self.machine.disk, marked);
            self.machine.ask(self.client(), "snapshot.create", json!({"name": name}));
            let taken = self.machine.tree(self.client()).pop().unwrap();
            self.marks.insert(taken.id, marked);
        }
        self.present = 3;
        mark(&self.machine.disk, self.present);
        if running {
            self.machine.run(self.client());
        }
        self.steps.clear();
    }

    fn request(&self, work: &str) -> (&'static str, Value) {
        let id = self.machine.id;
        match work {
            "keep without memory" => ("snapshot.create", json!({"id": id, "name": "made", "diskOnly": true})),
            "restore" | "restore at rest" => {
                ("snapshot.restore", json!({"id": id, "snapshot": "older", "to": "running"}))
            }
            "remove the older" => ("snapshot.delete", json!({"id": id, "snapshot": "older"})),
            "remove the newer" | "remove at rest" => {
                ("snapshot.delete", json!({"id": id, "snapshot": "newer"}))
            }
            "fork" => ("snapshot.fork", json!({"id": id, "snapshot": "older", "name": "forked"})),
            _ => ("snapshot.create", json!({"id": id, "name": "made"})),
        }
    }

    /// Its steps, when nothing goes wrong.
    fn learn(&mut self, (work, running): (&str, bool)) -> Vec<(String, usize)> {
        self.set_up(running);
        let (command, payload) = self.request(work);
        voidvm_tests::done(self.client(), command, &payload);
        self.machine.settle(self.client());
        let seen = self.steps.seen();
        self.verify(work, work);
        seen
    }

    fn fail_at(&mut self, (work, running): (&str, bool), step: &(String, usize), fault: Fault) {
        let context = format!("{work}, at “{}” {}, {fault:?}", step.0, step.1);
        eprintln!("{context}");
        self.set_up(running);
        self.steps.hold(step);
        let (command, payload) = self.request(work);
        let pid = self.client().vm(self.machine.id).run.map(|run| run.pid);
        let serve = self.serve.take().unwrap();
        let filler = std::thread::scope(|scope| {
            let (client, steps) = (&serve.client, &self.steps);
            let asked = scope.spawn(|| client.try_call(command, &payload));
            // Nobody is asked anything meanwhile: it would wait as well.
            let end = Instant::now() + SOON;
            while !steps.held() {
                assert!(Instant::now() < end, "{context}: {:?}", self.machine.log(client));
                std::thread::sleep(Duration::from_millis(1));
            }
            if matches!(fault, Fault::Owner | Fault::Both) {
                voidvm_testkit::fake::kill(serve.pid());
            }
            if let Some(pid) = pid.filter(|_| matches!(fault, Fault::Both | Fault::Qemu)) {
                voidvm_testkit::fake::kill(pid);
            }
            let small = self.small.as_ref().filter(|_| fault == Fault::Full);
            let filler = small.map(SmallDisk::fill);
            steps.let_go();
            drop(asked.join().unwrap());
            filler
        });
        if matches!(fault, Fault::Owner | Fault::Both) {
            drop(serve);
            self.serve = Some(self.home.serve());
        } else {
            let ended = |client: &Client| self.machine.log(client).iter().all(|one| one.status.is_final());
            wait_until(SOON, &context, || ended(&serve.client).then_some(()));
            if fault == Fault::Qemu {
                let gone = |vm: &voidvm_model::VmView| vm.run.as_ref().map(|run| run.pid) != pid;
                serve.client.wait_vm(self.machine.id, "to have no such process", gone);
            }
            self.serve = Some(serve);
        }
        if let Some(filler) = filler {
            std::fs::remove_file(filler).unwrap();
            // What there was no room to merge is merged when a machine comes to rest.
            self.machine.run(self.client());
        }
        self.verify(work, &context);
    }

    fn verify(&self, work: &str, context: &str) {
        let (client, machine) = (self.client(), &self.machine);
        let now = client.wait_vm(machine.id, "to be known", |vm| vm.state != VmState::Adopting);
        assert_ne!(now.state, VmState::Broken, "{context}: {now:?}");
        machine.rest(client);
        machine.settle(client);
        let old_or_new: &[u8] =
            if work.starts_with("restore") { &[self.present, 1] } else { &[self.present] };
        assert!(old_or_new.iter().any(|mark| shows(&machine.disk, *mark)), "{context}: what the disk shows");
        assert!(is_sound(&machine.disk), "{context}");
        let tree = machine.tree(client);
        for snapshot in &tree {
            let marked = self.marks.get(&snapshot.id).copied().unwrap_or(self.present);
            machine.check(client, snapshot, marked, context);
        }
        let lost = self.marks.keys().filter(|id| !tree.iter().any(|kept| kept.id == **id)).count();
        assert!(
            lost == 0 || (lost == 1 && work.starts_with("remove")),
            "{context}: {lost} snapshots are lost"
        );
        for other in client.vms().into_iter().filter(|vm| vm.id != machine.id) {
            assert!(work == "fork" && other.name == "forked", "{context}: {other:?}");
            assert!(shows(&other.spec.disks[0].file, 1), "{context}: the fork");
            voidvm_tests::done(client, "vm.delete", &json!({"id": other.id, "confirm": true}));
        }
        let machines = std::fs::read_dir(machine.disk.parent().unwrap().parent().unwrap()).unwrap();
        assert_eq!(machines.count(), 1, "{context}: a machine's directory is left");
        machine.clear(client, context);
    }
}

#[test]
fn a_real_machine_with_a_fault_at_any_step_shows_the_old_or_the_new() {
    if !Path::new("/usr/bin/qemu-system-x86_64").exists() {
        return;
    }
    let (_, seed, mut random) = crash_plan(0);
    // Nothing is done beside what is watched.
    let mut lab = Lab::new("0");
    let mut faults = Vec::new();
    for work in WORK {
        let steps = lab.learn(work);
        assert!(steps.len() > 2, "{}: {steps:?}", work.0);
        for step in steps {
            faults.push((work, step.clone(), Fault::Owner));
            if work.1 {
                faults.push((work, step.clone(), Fault::Both));
                faults.push((work, step.clone(), Fault::Qemu));
            }
            if lab.small.is_some() {
                faults.push((work, step, Fault::Full));
            }
        }
    }
    let all = faults.len();
    let wanted = std::env::var("VOIDVM_FAULTS").unwrap_or_else(|_| "36".to_owned());
    let wanted = if wanted == "all" { all } else { wanted.parse().unwrap() };
    while faults.len() > wanted {
        faults.swap_remove(usize::try_from(random.below(faults.len() as u64)).unwrap());
    }
    let tried = faults.len();
    for (work, step, fault) in faults {
        lab.fail_at(work, &step, fault);
    }
    eprintln!("seed {seed}: {tried} of {all} faults");
}

#[test]
fn a_fault_while_a_real_machines_memory_is_prepared_leaves_the_snapshot() {
    if !Path::new("/usr/bin/qemu-system-x86_64").exists() {
        return;
    }
    let mut lab = Lab::new("1");
    for (name, times) in PREPARING {
        for fault in [Fault::Owner, Fault::Both] {
            let context = format!("at “{name}” {times}, {fault:?}");
            eprintln!("{context}");
            lab.set_up(true);
            lab.steps.hold(&(name.to_owned(), times));
            let id = lab.machine.id;
            let pid = lab.client().vm(id).run.map(|run| run.pid);
            voidvm_tests::done(lab.client(), "snapshot.create", &json!({"id": id, "name": "made"}));
            wait_until(SOON, &context, || lab.steps.held().then_some(()));
            let serve = lab.serve.take().unwrap();
            voidvm_testkit::fake::kill(serve.pid());
            if let Some(pid) = pid.filter(|_| fault == Fault::Both) {
                voidvm_testkit::fake::kill(pid);
            }
            lab.steps.let_go();
            drop(serve);
            lab.serve = Some(lab.home.serve());
            lab.client().wait_vm(id, "to be known", |vm| vm.state != VmState::Adopting);
            // It goes on from what is kept, image or not.
            let restore = json!({"id": id, "snapshot": "made", "to": "running", "discardPresent": true});
            voidvm_tests::done(lab.client(), "snapshot.restore", &restore);
            assert_eq!(lab.client().vm(id).state, VmState::Running, "{context}");
            lab.verify("keep", &context);
        }
    }
}
