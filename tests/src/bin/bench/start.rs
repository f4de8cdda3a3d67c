//! From the click to a running guest, beside QEMU started by hand with the same arguments.
//!
//! Ours: from the request on the local API to the end of its operation. By hand: the same program and arguments (sockets elsewhere), from the
//! spawn through greeting and `qmp_capabilities` to the reply to `cont`, with nothing between.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::json;

use crate::figures::{compare, ms};
use crate::serve::{Serve, within};

const RUNS: usize = 20;

/// Prints both, and the ratio.
pub fn run() {
    let serve = Serve::start();
    let id = serve.machine("bench");
    let command = serve.get(&format!("/vms/{id}/command"));
    let arguments: Vec<String> = command["next"]
        .as_array()
        .unwrap()
        .iter()
        .map(|argument| argument.as_str().unwrap().to_owned())
        .collect();
    let runtime = socket_directory(&arguments);
    let elsewhere = tempfile::Builder::new().prefix("raw").tempdir().unwrap();
    let by_hand: Vec<String> = arguments
        .iter()
        .map(|argument| argument.replace(&runtime, elsewhere.path().to_str().unwrap()))
        .collect();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=RUNS {
        let began = Instant::now();
        let operation = serve.post(&format!("/vms/{id}/start"), &json!({}));
        serve.finish(&operation);
        let took = ms(began.elapsed());
        let operation = serve.post(&format!("/vms/{id}/stop"), &json!({ "force": true }));
        serve.finish(&operation);

        let began = Instant::now();
        let (mut child, mut qmp) = launch(&by_hand, elsewhere.path());
        let raw = ms(began.elapsed());
        say(&mut qmp, "quit");
        child.wait().unwrap();
        clear(elsewhere.path());
        // The first round warms the page cache.
        if round > 0 {
            ours.push(took);
            theirs.push(raw);
        }
    }
    compare(("voidVM, request to running", &ours), ("QEMU by hand, spawn to running", &theirs), "ms");
}

fn socket_directory(arguments: &[String]) -> String {
    let socket = arguments
        .iter()
        .find_map(|argument| argument.split([',', '=', ':', '"']).find(|part| part.ends_with("/qmp.sock")))
        .expect("a QMP socket among the arguments");
    socket.strip_suffix("/qmp.sock").unwrap().to_owned()
}

fn launch(arguments: &[String], dir: &Path) -> (Child, BufReader<UnixStream>) {
    // In a session of its own, as ours: the kernel's autogroups share the processors out by session.
    let child =
        Command::new("setsid").args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let socket = dir.join("qmp.sock");
    let stream = within("QMP socket", || UnixStream::connect(&socket).ok());
    let mut qmp = BufReader::new(stream);
    let mut greeting = String::new();
    qmp.read_line(&mut greeting).unwrap();
    say(&mut qmp, "qmp_capabilities");
    say(&mut qmp, "cont");
    (child, qmp)
}

/// Sends a command and reads up to its reply.
fn say(qmp: &mut BufReader<UnixStream>, command: &str) {
    writeln!(qmp.get_mut(), "{{\"execute\":\"{command}\"}}").unwrap();
    loop {
        let mut line = String::new();
        if qmp.read_line(&mut line).unwrap() == 0 || line.contains("\"return\"") {
            return;
        }
        assert!(!line.contains("\"error\""), "{line}");
    }
}

fn clear(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        std::fs::remove_file(entry.path()).ok();
    }
}
