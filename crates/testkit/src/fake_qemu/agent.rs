//! The guest agent: synchronises, and knows the guest's name and addresses.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::machine::{Machine, RunState};

/// Serves the agent in a thread of its own; it is mute unless the plan has one and the guest runs.
pub(crate) fn serve(machine: Arc<Machine>, listener: UnixListener) {
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // Whoever asked has gone.
            let _ = session(&machine, client);
        }
    });
}

fn session(machine: &Arc<Machine>, mut client: UnixStream) -> std::io::Result<()> {
    for line in BufReader::new(client.try_clone()?).split(b'\n') {
        let line = line?;
        if !machine.plan().agent || machine.run_state() != RunState::Running {
            continue;
        }
        // A client clears the line with 0xFF before it synchronises.
        let start = line.iter().position(|byte| *byte == b'{').unwrap_or(line.len());
        let Ok(request) = serde_json::from_slice::<Value>(&line[start..]) else { continue };
        let execute = request["execute"].as_str().unwrap_or_default();
        if execute == "guest-sync-delimited" {
            client.write_all(b"\xff")?;
        }
        if let Some(answer) = answer(machine, execute, &request["arguments"]) {
            client.write_all(format!("{answer}\n").as_bytes())?;
        }
    }
    Ok(())
}

fn answer(machine: &Arc<Machine>, execute: &str, arguments: &Value) -> Option<Value> {
    let value = match execute {
        "guest-sync" | "guest-sync-delimited" => arguments["id"].clone(),
        "guest-ping" => json!({}),
        "guest-get-host-name" => json!({"host-name": "fake"}),
        "guest-get-osinfo" => {
            json!({"id": "fake", "name": "Fake Linux", "pretty-name": "Fake Linux 1", "version": "1"})
        }
        "guest-network-get-interfaces" => json!([
            {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8}]},
            {
                "name": "eth0", "hardware-address": "52:54:00:00:00:01",
                "ip-addresses": [{"ip-address": "10.0.2.15", "ip-address-type": "ipv4", "prefix": 24}],
                "statistics": {
                    "rx-bytes": machine.more_disk_bytes(), "rx-packets": 1, "rx-errs": 0, "rx-dropped": 0,
                    "tx-bytes": machine.more_disk_bytes(), "tx-packets": 1, "tx-errs": 0, "tx-dropped": 0,
                },
            },
        ]),
        "guest-shutdown" => {
            // Answers nothing, as the real one.
            machine.powerdown();
            return None;
        }
        _ => {
            let desc = format!("The command {execute} has not been found");
            return Some(json!({"error": {"class": "CommandNotFound", "desc": desc}}));
        }
    };
    Some(json!({"return": value}))
}
