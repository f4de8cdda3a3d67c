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
    fn generic(desc: impl Into<String>) -> Self {
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
            };
            json!({"running": running, "singlestep": false, "status": status})
        }
        "query-uuid" => json!({"UUID": args.uuid}),
        "query-name" => json!({"name": args.name}),
        "query-version" => version(&machine.plan()),
        "query-jobs" | "query-block-jobs" | "qom-list" => json!([]),
        "query-kvm" => json!({"enabled": args.accel == "kvm", "present": true}),
        "query-cpus-fast" => (0..args.cpus)
            .map(|index| {
                json!({
                    "cpu-index": index, "thread-id": std::process::id(), "target": "x86_64", "props": {},
                    "qom-path": format!("/machine/unattached/device[{index}]"),
                })
            })
            .collect(),
        "query-block" => block(machine),
        "query-blockstats" => blockstats(machine),
        "query-balloon" => json!({"actual": machine.balloon()}),
        "balloon" => {
            machine.set_balloon(arguments["value"].as_u64().unwrap_or(args.memory));
            json!({})
        }
        "qom-get" => qom_get(machine, text("property"))?,
        "query-vnc" => json!({"enabled": false}),
        "query-commands" => COMMANDS.iter().map(|name| json!({"name": name})).collect(),
        "input-send-event" if machine.run_state() != RunState::Running => {
            return Err(Refusal::generic("VM not running"));
        }
        "qom-set"
        | "input-send-event"
        | "set_password"
        | "expire_password"
        | "eject"
        | "blockdev-change-medium"
        | "blockdev-open-tray"
        | "blockdev-close-tray"
        | "block_resize"
        | "set_link"
        | "device_add"
        | "blockdev-add"
        | "blockdev-del"
        | "netdev_add"
        | "netdev_del"
        | "quit" => json!({}),
        "device_del" => {
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
        "human-monitor-command" => json!(""),
        _ => {
            let desc = format!("The command {execute} has not been found");
            return Err(Refusal { class: "CommandNotFound", desc });
        }
    })
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

fn block(machine: &Machine) -> Value {
    machine
        .args
        .images
        .iter()
        .map(|image| {
            json!({
                "device": "", "locked": false, "removable": image.read_only, "type": "unknown",
                "qdev": format!("/machine/peripheral/{}/virtio-backend", image.node),
                "io-status": "ok",
                "inserted": {
                    "node-name": image.node, "file": image.file, "drv": image.driver, "ro": image.read_only,
                    "image": {
                        "filename": image.file, "format": image.driver, "virtual-size": 1_u64 << 30,
                        "actual-size": std::fs::metadata(&image.file).map_or(0, |data| data.len()),
                    },
                    "backing_file_depth": 0, "bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0,
                    "iops_wr": 0, "encrypted": false, "detect_zeroes": "off", "write_threshold": 0,
                    "cache": {"no-flush": false, "direct": false, "writeback": true},
                },
            })
        })
        .collect()
}

fn blockstats(machine: &Machine) -> Value {
    machine
        .args
        .images
        .iter()
        .map(|image| {
            let bytes = machine.more_disk_bytes();
            json!({
                "device": "", "node-name": image.node,
                "qdev": format!("/machine/peripheral/{}/virtio-backend", image.node),
                "stats": {
                    "rd_bytes": bytes, "wr_bytes": bytes / 2, "rd_operations": bytes / 4096,
                    "wr_operations": bytes / 8192, "flush_operations": 0, "wr_highest_offset": bytes,
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
    "human-monitor-command",
];
