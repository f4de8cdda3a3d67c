//! The monitor: one client at a time, lines of JSON, descriptors beside them.

use std::io::{ErrorKind, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};
use voidvm_testkit::Plan;

use crate::commands;
use crate::machine::Machine;

/// Serves clients one after the other; a second one waits without a greeting, as with QEMU.
pub(crate) fn serve(machine: &Arc<Machine>, listener: &UnixListener) {
    for client in listener.incoming().flatten() {
        machine.set_listener(None);
        if session(machine, client).is_none() {
            machine.set_listener(None);
        }
    }
}

/// `None` when the client is gone.
fn session(machine: &Arc<Machine>, mut client: UnixStream) -> Option<()> {
    act(machine, &mut client, "greeting")?;
    let version = commands::version(&machine.plan());
    let greeting = json!({"QMP": {"version": version, "capabilities": ["oob"]}});
    client.write_all(format!("{greeting}\r\n").as_bytes()).ok()?;
    let mut negotiated = false;
    let mut lines = Lines { client: client.try_clone().ok()?, buffer: Vec::new(), descriptors: Vec::new() };
    loop {
        let line = lines.next()?;
        let Ok(request) = serde_json::from_slice::<Value>(&line) else {
            reply(&mut client, &json!({"error": {"class": "GenericError", "desc": "JSON parse error"}}))?;
            continue;
        };
        let execute =
            request["execute"].as_str().or_else(|| request["exec-oob"].as_str()).unwrap_or_default();
        let arguments = &request["arguments"];
        machine.note(execute, arguments);
        act(machine, &mut client, execute)?;
        let mut answer = if execute == "qmp_capabilities" {
            negotiated = true;
            machine.set_listener(client.try_clone().ok());
            json!({"return": {}})
        } else if !negotiated {
            json!({"error": {
                "class": "CommandNotFound", "desc": "Expecting capabilities negotiation with 'qmp_capabilities'",
            }})
        } else if let Some(desc) = machine.plan().errors.get(execute) {
            json!({"error": {"class": "GenericError", "desc": desc}})
        } else {
            match commands::run(machine, execute, arguments, &mut lines.descriptors) {
                Ok(value) => json!({"return": value}),
                Err(commands::Refusal { class, desc }) => json!({"error": {"class": class, "desc": desc}}),
            }
        };
        if let Some(id) = request.get("id") {
            answer["id"] = id.clone();
        }
        if negotiated && execute == "quit" && !machine.plan().ignore_quit {
            machine.end(false, "host-qmp-quit", Some(&answer));
        }
        if negotiated {
            machine.send(&answer);
        } else {
            reply(&mut client, &answer)?;
        }
    }
}

fn reply(client: &mut UnixStream, message: &Value) -> Option<()> {
    client.write_all(format!("{message}\r\n").as_bytes()).ok()
}

/// Does what the plan says for this moment; `None` when the connection ends of it.
fn act(machine: &Machine, client: &mut UnixStream, moment: &str) -> Option<()> {
    let plan = machine.plan();
    std::thread::sleep(Duration::from_millis(plan.slow_ms));
    if Plan::is(plan.die_at.as_ref(), moment) {
        if let Some(stderr) = &plan.stderr {
            eprintln!("{stderr}");
        }
        std::process::exit(plan.exit);
    }
    while Plan::is(machine.plan().hang_at.as_ref(), moment) {
        std::thread::sleep(Duration::from_millis(5));
    }
    if Plan::is(plan.garbage_at.as_ref(), moment) {
        client.write_all(b"{\"return\": \x00\xff not JSON }}}\r\n<html>\r\n").ok()?;
    }
    if Plan::is(plan.close_at.as_ref(), moment) {
        let _ = client.shutdown(std::net::Shutdown::Both);
        return None;
    }
    Some(())
}

/// Lines of a client, and the descriptors that came with them.
struct Lines {
    client: UnixStream,
    buffer: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Lines {
    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if !line.trim_ascii().is_empty() {
                    return Some(line);
                }
                continue;
            }
            let mut bytes = [0_u8; 4096];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let received = match recvmsg(
                &self.client,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            ) {
                Ok(received) => received.bytes,
                Err(error) if std::io::Error::from(error).kind() == ErrorKind::Interrupted => continue,
                Err(_) => return None,
            };
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    self.descriptors.extend(descriptors);
                }
            }
            if received == 0 {
                return None;
            }
            self.buffer.extend_from_slice(&bytes[..received]);
        }
    }
}
