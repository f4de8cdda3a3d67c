//! A fake QEMU of a test's own: its executable, its plan, its processes, and what it was told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use voidvm_model::VmId;

use crate::plan::Plan;
use crate::program::program;
use crate::wait::wait_until;

/// The name under which the plan lies beside the executable.
pub const PLAN_FILE: &str = "plan.json";
/// The name of the list of monitor commands beside the executable.
pub const COMMANDS_FILE: &str = "commands.jsonl";

/// An installed fake QEMU. When dropped, its processes are ended: none outlives the test.
#[derive(Debug)]
pub struct FakeQemu {
    dir: PathBuf,
}

/// A live process of a fake QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FakeProcess {
    /// Its process id.
    pub pid: u32,
    /// The machine it was started for.
    pub uuid: VmId,
}

/// A monitor command that a fake QEMU has received.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Command {
    /// By which process.
    pub pid: u32,
    /// For which machine.
    pub uuid: VmId,
    /// Its name.
    pub execute: String,
    /// Its arguments.
    #[serde(default)]
    pub arguments: Value,
}

impl FakeQemu {
    /// Installs one in `dir` (made where it is missing); nothing goes wrong until a plan says so.
    ///
    /// # Panics
    /// When it cannot be built or put there.
    #[must_use]
    pub fn install(dir: &Path) -> Self {
        Self::install_with(dir, &Plan::default())
    }

    /// Installs one that behaves as `plan` says.
    ///
    /// # Panics
    /// When it cannot be built or put there.
    #[must_use]
    pub fn install_with(dir: &Path, plan: &Plan) -> Self {
        std::fs::create_dir_all(dir).expect("a directory for the fake QEMU");
        let dir = dir.canonicalize().expect("the fake QEMU's directory");
        let fake = Self { dir };
        let built = program("voidvm-testkit", "fake-qemu");
        // A link of its own: the process finds its plan beside it, and is told from those of other tests.
        if std::fs::hard_link(&built, fake.binary()).is_err() {
            std::fs::copy(&built, fake.binary()).expect("a copy of the fake QEMU");
        }
        fake.plan(plan);
        fake
    }

    /// The executable, to be used as the QEMU binary.
    #[must_use]
    pub fn binary(&self) -> PathBuf {
        self.dir.join("qemu-system-x86_64")
    }

    /// Changes the plan; running processes follow it from their next monitor command on.
    pub fn plan(&self, plan: &Plan) {
        plan.write(&self.dir.join(PLAN_FILE));
    }

    /// Its live processes. A zombie is not one.
    ///
    /// # Panics
    /// When /proc cannot be read.
    #[must_use]
    pub fn processes(&self) -> Vec<FakeProcess> {
        let binary = self.binary();
        std::fs::read_dir("/proc")
            .expect("/proc")
            .flatten()
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                // A zombie has no executable any more.
                let exe = std::fs::read_link(entry.path().join("exe")).ok()?;
                if exe != binary {
                    return None;
                }
                let cmdline = std::fs::read(entry.path().join("cmdline")).ok()?;
                let mut args = cmdline.split(|byte| *byte == 0);
                args.find(|arg| *arg == b"-uuid")?;
                let uuid = std::str::from_utf8(args.next()?).ok()?.parse().ok()?;
                Some(FakeProcess { pid, uuid })
            })
            .collect()
    }

    /// The live process of a machine, once there is one.
    ///
    /// # Panics
    /// After ten seconds without, or when there are two.
    #[must_use]
    pub fn process_of(&self, uuid: VmId) -> FakeProcess {
        wait_until(Duration::from_secs(10), "the machine's process", || {
            let own: Vec<_> = self.processes().into_iter().filter(|process| process.uuid == uuid).collect();
            assert!(own.len() < 2, "two processes of one machine: {own:?}");
            own.first().copied()
        })
    }

    /// Every monitor command so far, oldest first.
    ///
    /// # Panics
    /// When the list cannot be read.
    #[must_use]
    pub fn commands(&self) -> Vec<Command> {
        let Ok(text) = std::fs::read_to_string(self.dir.join(COMMANDS_FILE)) else { return Vec::new() };
        text.lines().map(|line| serde_json::from_str(line).expect("a command")).collect()
    }
}

impl Drop for FakeQemu {
    fn drop(&mut self) {
        for process in self.processes() {
            kill(process.pid);
        }
    }
}

/// SIGKILL to a process; one that is gone already is none.
pub fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}
