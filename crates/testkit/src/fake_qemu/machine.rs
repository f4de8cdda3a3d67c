//! The machine that is not there: its state, who listens to its events, and how it ends.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use voidvm_testkit::Plan;

use crate::args::Args;
use crate::commands::Refusal;
use crate::devices::Devices;

/// What the monitor calls the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunState {
    Prelaunch,
    Running,
    Paused,
    /// Held because a drive's file system is full.
    IoError,
    /// Held because its memory has been written out.
    PostMigrate,
    /// Waits for its memory.
    InMigrate,
}

/// The whole of it; shared by the threads.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) args: Args,
    pub(crate) devices: Devices,
    plan_file: PathBuf,
    commands_file: PathBuf,
    state: Mutex<State>,
    /// Bytes a disk has read; grows with each question.
    pub(crate) disk_bytes: AtomicU64,
}

#[derive(Debug)]
struct State {
    run: RunState,
    /// The power button was pressed while nobody could heed it.
    powerdown_pending: bool,
    was_started: bool,
    balloon: u64,
    /// The monitor's client, once it has negotiated.
    listener: Option<UnixStream>,
    descriptors: Vec<(String, OwnedFd)>,
    /// How the last migration is, in QEMU's words.
    migration: &'static str,
    pause_before_switchover: bool,
    /// Where the memory goes, once the migration may go on.
    held_stream: Option<File>,
}

impl Machine {
    pub(crate) fn new(args: Args, devices: Devices, plan_file: PathBuf, commands_file: PathBuf) -> Self {
        let state = State {
            run: if args.incoming { RunState::InMigrate } else { RunState::Prelaunch },
            powerdown_pending: false,
            was_started: false,
            balloon: args.memory,
            listener: None,
            descriptors: Vec::new(),
            migration: "",
            pause_before_switchover: false,
            held_stream: None,
        };
        Self {
            args,
            devices,
            plan_file,
            commands_file,
            state: Mutex::new(state),
            disk_bytes: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with it")
    }

    /// The plan as it is now.
    pub(crate) fn plan(&self) -> Plan {
        Plan::read(&self.plan_file).for_vm(&self.args.name)
    }

    pub(crate) fn run_state(&self) -> RunState {
        self.state().run
    }

    pub(crate) fn balloon(&self) -> u64 {
        self.state().balloon
    }

    pub(crate) fn set_balloon(&self, bytes: u64) {
        self.state().balloon = bytes;
    }

    /// Somebody negotiated: events go there from now on.
    pub(crate) fn set_listener(&self, listener: Option<UnixStream>) {
        self.state().listener = listener;
    }

    pub(crate) fn keep_descriptor(&self, name: String, descriptor: OwnedFd) {
        let mut state = self.state();
        state.descriptors.retain(|(other, _)| *other != name);
        state.descriptors.push((name, descriptor));
    }

    pub(crate) fn take_descriptor(&self, name: &str) -> Option<OwnedFd> {
        let mut state = self.state();
        let at = state.descriptors.iter().position(|(other, _)| other == name)?;
        Some(state.descriptors.swap_remove(at).1)
    }

    /// Notes a monitor command for the test.
    pub(crate) fn note(&self, execute: &str, arguments: &Value) {
        let mut line =
            json!({"pid": std::process::id(), "uuid": self.args.uuid, "execute": execute, "arguments": arguments})
                .to_string();
        line.push('\n');
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&self.commands_file);
        // One write, so that lines of several processes do not mix. A test that has ended took the directory with it.
        if let Ok(mut file) = file {
            let _ = file.write_all(line.as_bytes());
        }
    }

    /// Tells the monitor's client, if there is one.
    pub(crate) fn emit(&self, event: &str, data: &Value) {
        let now = jiff::Timestamp::now();
        let mut message = json!({
            "event": event,
            "timestamp": {"seconds": now.as_second(), "microseconds": now.subsec_microsecond()},
        });
        if !data.is_null() {
            message["data"] = data.clone();
        }
        self.send(&message);
    }

    /// One line to the monitor's client; false where there is none.
    pub(crate) fn send(&self, message: &Value) {
        if let Some(listener) = &mut self.state().listener {
            let _ = listener.write_all(format!("{message}\r\n").as_bytes());
        }
    }

    pub(crate) fn cont(self: &Arc<Self>) {
        let (before, first, powerdown) = {
            let mut state = self.state();
            let before = state.run;
            state.run = RunState::Running;
            let first = !std::mem::replace(&mut state.was_started, true);
            (before, first, std::mem::take(&mut state.powerdown_pending))
        };
        if before != RunState::Running {
            self.emit("RESUME", &Value::Null);
        }
        if first {
            self.begin_the_guests_own_doing();
        }
        if powerdown {
            self.powerdown();
        }
        self.write_to_a_full_disk();
    }

    /// The guest writes; where the plan says that the disk is full, it is held.
    fn write_to_a_full_disk(&self) {
        let Some(node) = self.plan().full_disk else { return };
        self.state().run = RunState::IoError;
        self.emit(
            "BLOCK_IO_ERROR",
            &json!({
                "device": "", "node-name": node, "operation": "write", "action": "stop", "nospace": true,
                "reason": "No space left on device",
            }),
        );
        self.emit("STOP", &Value::Null);
    }

    pub(crate) fn enter(&self, run: RunState) {
        self.state().run = run;
    }

    pub(crate) fn migration(&self) -> &'static str {
        self.state().migration
    }

    pub(crate) fn migrated(&self, status: &'static str) {
        self.state().migration = status;
        self.emit("MIGRATION", &json!({"status": status}));
    }

    pub(crate) fn pause_before_switchover(&self, on: bool) {
        self.state().pause_before_switchover = on;
    }

    /// Holds the guest until the migration may go on, where that was asked for.
    pub(crate) fn hold_before_switchover(&self, stream: File) -> bool {
        let before = {
            let mut state = self.state();
            if !state.pause_before_switchover {
                return false;
            }
            state.held_stream = Some(stream);
            std::mem::replace(&mut state.run, RunState::Paused)
        };
        if before == RunState::Running {
            self.emit("STOP", &Value::Null);
        }
        self.migrated("pre-switchover");
        true
    }

    /// `migrate-continue`.
    pub(crate) fn switch_over(&self, memory: &[u8]) -> Result<Value, Refusal> {
        let stream = self.state().held_stream.take();
        let stream = stream.ok_or_else(|| Refusal::generic("Migration not in expected state: completed"))?;
        self.write_memory(stream, memory)?;
        Ok(json!({}))
    }

    /// Writes the guest's memory out; it is held from then on.
    pub(crate) fn write_memory(&self, mut stream: File, memory: &[u8]) -> Result<(), Refusal> {
        stream.write_all(memory).map_err(|error| Refusal::generic(error.to_string()))?;
        self.enter(RunState::PostMigrate);
        self.migrated("completed");
        Ok(())
    }

    /// `migrate_cancel`.
    pub(crate) fn give_up_migration(&self) {
        if self.state().held_stream.take().is_some() {
            self.migrated("cancelled");
        }
    }

    pub(crate) fn stop(&self) {
        let before = std::mem::replace(&mut self.state().run, RunState::Paused);
        if before == RunState::Running {
            self.emit("STOP", &Value::Null);
        }
    }

    /// The power button: the guest ends a moment later, if it runs and wants to.
    pub(crate) fn powerdown(self: &Arc<Self>) {
        self.emit("POWERDOWN", &Value::Null);
        let plan = self.plan();
        if plan.ignore_powerdown {
            return;
        }
        let machine = Arc::clone(self);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(plan.powerdown_ms));
            let mut state = machine.state();
            if state.run == RunState::Running {
                drop(state);
                machine.end(true, "guest-shutdown", None);
            }
            state.powerdown_pending = true;
        });
    }

    /// Ends as QEMU ends when everything is in order: it says so, gives the `last` answer, and its sockets go with it.
    pub(crate) fn end(&self, guest: bool, reason: &str, last: Option<&Value>) -> ! {
        self.emit("SHUTDOWN", &json!({"guest": guest, "reason": reason}));
        if let Some(answer) = last {
            self.send(answer);
        }
        let channels = [&self.args.serial, &self.args.agent];
        let sockets = channels.into_iter().flatten().map(|channel| &channel.path).chain(&self.args.monitor);
        for socket in sockets {
            let _ = std::fs::remove_file(socket);
        }
        std::process::exit(0)
    }

    /// SIGTERM ends it as `quit` does, unless the plan has it ignore both.
    pub(crate) fn end_on_sigterm(self: &Arc<Self>) {
        let machine = Arc::clone(self);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        // Registered before any socket is there, so that whoever can find the process can end it.
        let mut terminate = {
            let _inside = runtime.enter();
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                .expect("a handler for SIGTERM")
        };
        std::thread::spawn(move || {
            runtime.block_on(async {
                while terminate.recv().await.is_some() {
                    if !machine.plan().ignore_quit {
                        machine.end(false, "host-signal", None);
                    }
                }
            });
        });
    }

    /// Events and crash of the plan, counted from the guest's first instruction.
    fn begin_the_guests_own_doing(self: &Arc<Self>) {
        let plan = self.plan();
        if let Some(after) = plan.crash_after_ms {
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(after));
                eprintln!(
                    "{}",
                    plan.stderr.as_deref().unwrap_or("qemu: fatal: Trying to execute code outside RAM")
                );
                std::process::exit(plan.exit);
            });
        }
        for planned in plan.events {
            let machine = Arc::clone(self);
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(planned.after_ms));
                if planned.event == "DEVICE_DELETED" {
                    machine.devices.unplug(planned.data["device"].as_str().unwrap_or_default());
                }
                machine.emit(&planned.event, &planned.data);
            });
        }
    }

    /// A disk's counter: more with each question.
    pub(crate) fn more_disk_bytes(&self) -> u64 {
        self.disk_bytes.fetch_add(64 * 1024, Ordering::Relaxed)
    }
}
