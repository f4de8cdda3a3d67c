//! The monitor's commands, as far as the product uses them.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use voidvm_testkit::Plan;

use crate::machine::{Machine, RunState};
use crate::screen;

/// Why a command is refused.
pub(crate) struct Refusal {
    pub(crate) class: &'static str,
    pub(crate) desc: String,
}

impl Refusal {
    pub(crate) fn generic(desc: impl Into<String>) -> Self {
        Self { class: "GenericError", desc: desc.into() }
    }
}

/// The version as the monitor says it.
pub(crate) fn version(plan: &Plan) -> Value {
    let mut parts = plan.version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    json!({"qemu": {"major": next(), "minor": next(), "micro": next()}, "package": "fake"})
}

/// Carries a command out.
pub(crate) fn run(
    machine: &Arc<Machine>,
    execute: &str,
    arguments: &Value,
    descriptors: &mut Vec<OwnedFd>,
) -> Result<Value, Refusal> {
    let args = &machine.args;
    let text = |key: &str| arguments[key].as_str().unwrap_or_default();
    Ok(match execute {
        "query-status" => {
            let (running, status) = match machine.run_state() {
                RunState::Prelaunch => (false, "prelaunch"),
                RunState::Running => (true, "running"),
                RunState::Paused => (false, "paused"),
                RunState::IoError => (false, "io-error"),
                RunState::PostMigrate => (false, "postmigrate"),
                RunState::InMigrate => (false, "inmigrate"),
            };
            json!({"running": running, "singlestep": false, "status": status})
        }
        "query-uuid" => json!({"UUID": args.uuid}),
        "query-name" => json!({"name": args.name}),
        "query-version" => version(&machine.plan()),
        "query-jobs" => machine.devices.jobs(),
        "query-block-jobs" => json!([]),
        "qom-list" => machine.devices.list(),
        "query-named-block-nodes" => machine.devices.nodes(),
        "query-pci" => machine.devices.pci(),
        "query-kvm" => json!({"enabled": args.accel == "kvm", "present": true}),
        "query-cpus-fast" => (0..args.cpus + machine.devices.plugged_in().1)
            .map(|index| {
                json!({
                    "cpu-index": index, "thread-id": std::process::id(), "target": "x86_64", "props": {},
                    "qom-path": format!("/machine/unattached/device[{index}]"),
                })
            })
            .collect(),
        "query-hotpluggable-cpus" => hotpluggable_cpus(machine),
        "query-memory-size-summary" => {
            json!({"base-memory": args.memory, "plugged-memory": machine.devices.plugged_in().0})
        }
        "query-block" => machine.devices.block(machine.plan().full_disk.as_deref()),
        "query-blockstats" => blockstats(machine),
        "query-balloon" => json!({"actual": machine.balloon()}),
        "balloon" => {
            machine.set_balloon(arguments["value"].as_u64().unwrap_or(args.memory));
            json!({})
        }
        "qom-get" => qom_get(machine, text("property"))?,
        "migrate" => migrate(machine, text("uri"))?,
        "migrate-incoming" => migrate_incoming(machine, text("uri"))?,
        "query-migrate" => match machine.migration() {
            "" => json!({}),
            status => json!({
                "status": status, "ram": {"transferred": args.memory, "remaining": 0, "total": args.memory},
            }),
        },
        "migrate-set-capabilities" => {
            let capabilities = arguments["capabilities"].as_array().into_iter().flatten();
            let pauses = |one: &&Value| one["capability"] == "pause-before-switchover";
            if let Some(capability) = capabilities.clone().find(pauses) {
                machine.pause_before_switchover(capability["state"] == true);
            }
            json!({})
        }
        "migrate-continue" => machine.switch_over(STREAM)?,
        "migrate_cancel" => {
            machine.give_up_migration();
            json!({})
        }
        "query-vnc" => json!({"enabled": false}),
        "query-commands" => COMMANDS.iter().map(|name| json!({"name": name})).collect(),
        "input-send-event" if machine.run_state() != RunState::Running => {
            return Err(Refusal::generic("VM not running"));
        }
        "migrate-set-parameters"
        | "qom-set"
        | "input-send-event"
        | "set_password"
        | "expire_password"
        | "block_resize"
        | "set_link"
        | "quit" => json!({}),
        "blockdev-open-tray" => machine.devices.open_tray(text("id"), machine.plan().locked_trays)?,
        "blockdev-close-tray" => machine.devices.close_tray(text("id")),
        "blockdev-remove-medium" => machine.devices.change_medium(text("id"), None)?,
        "blockdev-insert-medium" => machine.devices.change_medium(text("id"), Some(text("node-name")))?,
        "device_add" => machine.devices.plug(arguments)?,
        "blockdev-add" => machine.devices.add_drive(arguments)?,
        "blockdev-del" => machine.devices.remove_drive(text("node-name"))?,
        "blockdev-reopen" => machine.devices.blocks(|blocks| blocks.reopen(&arguments["options"]))?,
        "transaction" => machine.devices.transaction(&arguments["actions"])?,
        "block-commit" => machine.devices.blocks(|blocks| blocks.commit(arguments))?,
        "block-stream" => machine.devices.blocks(|blocks| blocks.stream(arguments))?,
        "job-dismiss" => machine.devices.blocks(|blocks| blocks.dismiss(text("id")))?,
        "job-cancel" => return Err(Refusal::generic("Job not found")),
        "netdev_add" => machine.devices.add_network(arguments)?,
        "netdev_del" => machine.devices.remove_network(text("id"))?,
        "object-add" => machine.devices.add_object(arguments),
        "object-del" => machine.devices.remove_object(text("id")),
        "device_del" => {
            machine.devices.has(text("id"))?;
            if machine.plan().keeps_devices {
                return Ok(json!({}));
            }
            machine.devices.unplug(text("id"));
            machine.emit("DEVICE_DELETED", &json!({"device": text("id"), "path": ""}));
            json!({})
        }
        "cont" => {
            machine.cont();
            json!({})
        }
        "stop" => {
            machine.stop();
            json!({})
        }
        "system_powerdown" => {
            machine.powerdown();
            json!({})
        }
        "system_reset" => {
            machine.emit("RESET", &json!({"guest": false, "reason": "host-qmp-system-reset"}));
            json!({})
        }
        "getfd" => {
            let descriptor = descriptors
                .pop()
                .ok_or_else(|| Refusal::generic("No file descriptor supplied via SCM_RIGHTS"))?;
            machine.keep_descriptor(text("fdname").to_owned(), descriptor);
            json!({})
        }
        "closefd" => {
            let name = text("fdname");
            machine
                .take_descriptor(name)
                .ok_or_else(|| Refusal::generic(format!("File descriptor named '{name}' not found")))?;
            json!({})
        }
        "add_client" => add_client(machine, text("protocol"), text("fdname"))?,
        "screendump" => {
            let format = arguments["format"].as_str().unwrap_or("ppm");
            screen::dump(Path::new(text("filename")), format).map_err(|error| {
                Refusal::generic(format!("failed to open '{}': {error}", text("filename")))
            })?;
            json!({})
        }
        "human-monitor-command" => machine.devices.say(text("command-line")),
        _ => {
            let desc = format!("The command {execute} has not been found");
            return Err(Refusal { class: "CommandNotFound", desc });
        }
    })
}

/// What stands for the guest's memory in a stream.
const STREAM: &[u8] = b"the fake's memory";

fn descriptor(machine: &Machine, uri: &str) -> Result<std::fs::File, Refusal> {
    let name = uri.strip_prefix("fd:").unwrap_or_default();
    let descriptor = machine.take_descriptor(name);
    descriptor
        .map(std::fs::File::from)
        .ok_or_else(|| Refusal::generic(format!("File descriptor named '{name}' has not been found")))
}

/// Writes the guest's memory to a descriptor, and holds it.
fn migrate(machine: &Machine, uri: &str) -> Result<Value, Refusal> {
    let stream = descriptor(machine, uri)?;
    if !machine
        .hold_before_switchover(stream.try_clone().map_err(|error| Refusal::generic(error.to_string()))?)
    {
        machine.write_memory(stream, STREAM)?;
    }
    Ok(json!({}))
}

/// Reads it from one; the guest is held until `cont`.
fn migrate_incoming(machine: &Machine, uri: &str) -> Result<Value, Refusal> {
    use std::io::Read as _;
    let mut stream = Vec::new();
    descriptor(machine, uri)?
        .read_to_end(&mut stream)
        .map_err(|error| Refusal::generic(error.to_string()))?;
    if stream != STREAM {
        return Err(Refusal::generic("load of migration failed: Invalid argument"));
    }
    machine.enter(RunState::Paused);
    machine.migrated("completed");
    Ok(json!({}))
}

/// Hands the screen to the descriptor's other end.
fn add_client(machine: &Machine, protocol: &str, name: &str) -> Result<Value, Refusal> {
    if protocol != "vnc" {
        return Err(Refusal::generic(format!("protocol '{protocol}' is invalid")));
    }
    let descriptor = machine
        .take_descriptor(name)
        .ok_or_else(|| Refusal::generic(format!("File descriptor named '{name}' has not been found")))?;
    let stream = UnixStream::from(descriptor);
    std::thread::spawn(move || {
        // Whoever looked has gone; nothing more to show.
        let _ = screen::serve(stream);
    });
    Ok(json!({}))
}

fn qom_get(machine: &Machine, property: &str) -> Result<Value, Refusal> {
    Ok(match property {
        "guest-stats" => json!({
            "last-update": jiff::Timestamp::now().as_second(),
            "stats": {
                "stat-total-memory": machine.args.memory,
                "stat-free-memory": machine.args.memory / 2,
                "stat-available-memory": machine.args.memory / 4 * 3,
                "stat-swap-in": -1, "stat-swap-out": -1, "stat-major-faults": 0, "stat-minor-faults": 0,
                "stat-disk-caches": 0, "stat-htlb-pgalloc": -1, "stat-htlb-pgfail": -1,
            },
        }),
        "guest-stats-polling-interval" => json!(2),
        "type" => json!("pc-q35-7.2-machine"),
        _ => return Err(Refusal::generic(format!("Property '.{property}' not found"))),
    })
}

/// The places for CPUs, the last first, as QEMU lists them.
fn hotpluggable_cpus(machine: &Machine) -> Value {
    let there = machine.args.cpus + machine.devices.plugged_in().1;
    (0..machine.args.max_cpus)
        .rev()
        .map(|core| {
            let props = json!({"socket-id": 0, "core-id": core, "thread-id": 0});
            let mut place = json!({"type": "max-x86_64-cpu", "vcpus-count": 1, "props": props});
            if core < there {
                place["qom-path"] = format!("/machine/unattached/device[{core}]").into();
            }
            place
        })
        .collect()
}

fn blockstats(machine: &Machine) -> Value {
    machine
        .devices
        .drives()
        .into_iter()
        .map(|(node, device)| {
            let bytes = machine.more_disk_bytes();
            json!({
                "device": "", "node-name": node,
                "qdev": format!("/machine/peripheral/{device}/virtio-backend"),
                "stats": {
                    "rd_bytes": bytes, "wr_bytes": bytes / 2, "rd_operations": bytes / 4096,
                    "wr_operations": bytes / 8192, "rd_total_time_ns": bytes * 100, "wr_total_time_ns": bytes * 50,
                    "flush_operations": 0, "wr_highest_offset": bytes,
                },
            })
        })
        .collect()
}

const COMMANDS: &[&str] = &[
    "qmp_capabilities",
    "query-status",
    "query-uuid",
    "query-name",
    "query-version",
    "query-jobs",
    "query-block-jobs",
    "query-kvm",
    "query-cpus-fast",
    "query-block",
    "query-blockstats",
    "query-balloon",
    "balloon",
    "qom-get",
    "qom-set",
    "qom-list",
    "query-vnc",
    "query-commands",
    "input-send-event",
    "cont",
    "stop",
    "system_powerdown",
    "system_reset",
    "quit",
    "getfd",
    "closefd",
    "add_client",
    "screendump",
    "device_add",
    "device_del",
    "blockdev-add",
    "blockdev-del",
    "blockdev-reopen",
    "transaction",
    "block-commit",
    "block-stream",
    "job-cancel",
    "job-dismiss",
    "migrate",
    "migrate-continue",
    "migrate_cancel",
    "netdev_add",
    "netdev_del",
    "query-pci",
    "human-monitor-command",
];
