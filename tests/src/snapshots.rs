//! A machine of the real QEMU whose disk shows by a mark which state of it this is, and its snapshots.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use voidvm_model::snapshot::{Snapshot, SnapshotTree};
use voidvm_model::{Operation, VmId, VmState};
use voidvm_testkit::Client;

use crate::{copy_request, done};

/// The longest anything takes on a slow computer.
const SOON: Duration = Duration::from_secs(60);

/// Marks a disk nobody has open.
///
/// # Panics
/// When it cannot be written to.
pub fn mark(disk: &Path, mark: u8) {
    let line = format!("write -P {mark} 4M 64k");
    let written = Command::new("qemu-io").args(["-f", "qcow2", "-c", &line]).arg(disk).output();
    let written = written.expect("qemu-io runs");
    assert!(written.status.success(), "{written:?}");
}

/// Whether an image shows a mark.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn shows(image: &Path, mark: u8) -> bool {
    let line = format!("read -P {mark} 4M 64k");
    let read = Command::new("qemu-io").args(["-r", "-U", "-f", "qcow2", "-c", &line]).arg(image).output();
    let read = read.expect("qemu-io runs");
    assert!(read.status.success() || read.stderr.is_empty(), "{}: {read:?}", image.display());
    !String::from_utf8_lossy(&read.stdout).contains("failed")
}

/// Whether `qemu-img check` finds nothing in an image.
///
/// # Panics
/// When it cannot be run.
#[must_use]
pub fn is_sound(image: &Path) -> bool {
    let checked = Command::new("qemu-img").args(["check", "-q", "-U"]).arg(image).status();
    checked.expect("qemu-img runs").success()
}

/// A machine with one small disk, under whichever owner there is.
#[derive(Clone, Debug)]
pub struct Marked {
    /// Its id.
    pub id: VmId,
    /// Its disk.
    pub disk: PathBuf,
}

impl Marked {
    /// Makes it of `content`.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn make(client: &Client, name: &str, content: &Path) -> Self {
        done(client, "vm.create", &copy_request(name, content));
        let vm = client.vms().into_iter().find(|vm| vm.name == name).expect("the machine that was made");
        Self { id: vm.id, disk: vm.spec.disks[0].file.clone() }
    }

    fn listed(&self, client: &Client) -> SnapshotTree {
        let listed = client.call("snapshot.list", &json!({"id": self.id})).expect("its snapshots");
        serde_json::from_value(listed).expect("a tree")
    }

    /// Its snapshots, oldest first.
    ///
    /// # Panics
    /// When they cannot be had.
    #[must_use]
    pub fn tree(&self, client: &Client) -> Vec<Snapshot> {
        self.listed(client).snapshots
    }

    /// Its operations, newest first.
    ///
    /// # Panics
    /// When they cannot be had.
    #[must_use]
    pub fn log(&self, client: &Client) -> Vec<Operation> {
        let log = client.call("operation.list", &json!({"vmId": self.id, "limit": 20})).expect("its log");
        serde_json::from_value(log).expect("operations")
    }

    /// Has it end, however it is.
    ///
    /// # Panics
    /// When it does not.
    pub fn rest(&self, client: &Client) {
        let state = client.vm(self.id).state;
        if state.is_live() || state == VmState::Suspended {
            done(client, "vm.stop", &json!({"id": self.id, "force": true}));
        }
    }

    /// Has it run.
    ///
    /// # Panics
    /// When it does not.
    pub fn run(&self, client: &Client) {
        if client.vm(self.id).state != VmState::Running {
            done(client, "vm.start", &json!({"id": self.id}));
        }
    }

    /// Waits until nobody works on its files any more: layers nobody names are merged when it rests.
    ///
    /// # Panics
    /// When that does not end.
    pub fn settle(&self, client: &Client) {
        voidvm_testkit::wait_until(SOON, "every layer is merged", || {
            let ended = self.log(client).iter().all(|one| one.status.is_final());
            (self.listed(client).unmerged.0 == 0 && ended).then_some(())
        });
    }

    /// Makes sure that a snapshot shows a mark. Its files are known by the store alone, so a fork is asked.
    ///
    /// # Panics
    /// When it does not.
    pub fn check(&self, client: &Client, snapshot: &Snapshot, marked: u8, context: &str) {
        assert_eq!(snapshot.trouble, None, "{context}: {}", snapshot.name);
        let name = format!("look-{}", snapshot.id.to_string().split_at(24).1);
        done(client, "snapshot.fork", &json!({"id": self.id, "snapshot": snapshot.id, "name": name}));
        let fork = client.vms().into_iter().find(|one| one.name == name).expect("the fork");
        let shown = shows(&fork.spec.disks[0].file, marked);
        assert!(shown, "{context}: {} does not show {marked}", snapshot.name);
        done(client, "vm.delete", &json!({"id": fork.id, "confirm": true}));
    }

    /// Removes all of its snapshots; nothing but its disk may be left then.
    ///
    /// # Panics
    /// When something is.
    pub fn clear(&self, client: &Client, context: &str) {
        self.settle(client);
        for snapshot in self.tree(client) {
            done(client, "snapshot.delete", &json!({"id": self.id, "snapshot": snapshot.id}));
        }
        let dir = self.disk.parent().expect("the machine's directory");
        voidvm_testkit::wait_until(SOON, &format!("{context}: only the disk is left"), || {
            let left = std::fs::read_dir(dir).expect("the machine's directory").flatten();
            let known = |name: &std::ffi::OsStr| name == "disk0.qcow2" || name == "thumbnail.png";
            left.into_iter().all(|entry| known(&entry.file_name())).then_some(())
        });
        assert!(is_sound(&self.disk), "{context}: the disk");
    }

    /// Asks for something as a program would.
    ///
    /// # Panics
    /// When it fails.
    pub fn ask(&self, client: &Client, command: &str, mut payload: Value) -> Operation {
        payload["id"] = json!(self.id);
        done(client, command, &payload)
    }
}
