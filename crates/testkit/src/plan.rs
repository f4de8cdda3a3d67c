//! How the fake QEMU behaves: a JSON document named `plan.json` beside its executable, or where `FAKE_QEMU_PLAN` says.
//!
//! It is read at start and again before each monitor command, so a test can make a machine go mute and recover. A *moment* is
//! `version` (asked for by `-version`), `start` (before anything), `sockets` (they are there, nobody was answered), `greeting`
//! (somebody has connected), or the name of a monitor command.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What goes wrong, and when; by default nothing does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// The version it claims.
    pub version: String,
    /// It ends at this moment, with `stderr` and `exit`.
    pub die_at: Option<String>,
    /// What it says on stderr when it dies.
    pub stderr: Option<String>,
    /// The exit code it dies with.
    pub exit: i32,
    /// It goes mute at this moment, for as long as the plan says so.
    pub hang_at: Option<String>,
    /// It answers rubbish at this moment.
    pub garbage_at: Option<String>,
    /// It closes the connection at this moment.
    pub close_at: Option<String>,
    /// Monitor commands that are refused, with QEMU's description of why.
    pub errors: BTreeMap<String, String>,
    /// The guest does not heed the power button.
    pub ignore_powerdown: bool,
    /// The process heeds neither `quit` nor SIGTERM.
    pub ignore_quit: bool,
    /// Milliseconds before each answer.
    pub slow_ms: u64,
    /// Milliseconds from the power button to the guest's end.
    pub powerdown_ms: u64,
    /// Milliseconds from `cont` to a crash, with `stderr` and `exit`.
    pub crash_after_ms: Option<u64>,
    /// Whether KVM works; without, `-accel kvm` fails as on a host that has none.
    pub kvm: bool,
    /// Whether the guest agent answers.
    pub agent: bool,
    /// Events of the guest's own, after `cont`.
    pub events: Vec<PlannedEvent>,
    /// The guest does not let go of devices.
    pub keeps_devices: bool,
    /// The guest holds its CD-ROM drives locked.
    pub locked_trays: bool,
    /// The drive, by node name, whose file system is full.
    pub full_disk: Option<String>,
    /// Machines, by name, with a plan of their own.
    pub vms: BTreeMap<String, Plan>,
}

/// An event of the guest's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedEvent {
    /// Milliseconds from `cont`.
    pub after_ms: u64,
    /// Its name.
    pub event: String,
    /// Its data.
    #[serde(default)]
    pub data: Value,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            version: "7.2.22".to_owned(),
            die_at: None,
            stderr: None,
            exit: 1,
            hang_at: None,
            garbage_at: None,
            close_at: None,
            errors: BTreeMap::new(),
            ignore_powerdown: false,
            ignore_quit: false,
            slow_ms: 0,
            powerdown_ms: 5,
            crash_after_ms: None,
            kvm: false,
            agent: true,
            events: Vec::new(),
            keeps_devices: false,
            locked_trays: false,
            full_disk: None,
            vms: BTreeMap::new(),
        }
    }
}

impl Plan {
    /// Reads a plan; no file means that nothing goes wrong.
    ///
    /// # Panics
    /// When there is a file and it is no plan.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .unwrap_or_else(|error| panic!("{} is no plan: {error}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::default(),
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }

    /// Writes the plan so that no reader sees half of it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, path: &Path) {
        let part = path.with_extension("part");
        let bytes = serde_json::to_vec_pretty(self).expect("a plan is JSON");
        std::fs::write(&part, bytes).expect("write the plan");
        std::fs::rename(&part, path).expect("put the plan in its place");
    }

    /// The plan for the machine of this name.
    #[must_use]
    pub fn for_vm(self, name: &str) -> Self {
        match self.vms.get(name) {
            Some(own) => own.clone(),
            None => self,
        }
    }

    /// Whether `moment` is the one named.
    #[must_use]
    pub fn is(at: Option<&String>, moment: &str) -> bool {
        at.is_some_and(|at| at == moment)
    }
}
