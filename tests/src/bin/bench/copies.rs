//! Linked clones: from the request to a defined machine, beside starting `qemu-img create` once for each of the two overlays.

use std::process::Command;
use std::time::Instant;

use serde_json::json;

use crate::figures::{compare, median, ms, quantile};
use crate::serve::{Serve, guest};

const CLONES: usize = 30;

/// Prints both.
pub fn run() {
    let serve = Serve::start();
    let disk = guest().join("disk.qcow2");
    let source = json!({ "kind": "image_copy", "path": disk });
    let made = serve.post("/vms", &json!({ "name": "parent", "source": source }));
    serve.finish(&made);
    let parent = made["vmId"].as_str().unwrap().to_owned();
    let (mut first, mut ours) = (0.0, Vec::new());
    for number in 0..CLONES {
        let began = Instant::now();
        let request = json!({ "name": format!("clone-{number}"), "linked": true });
        let operation = serve.post(&format!("/vms/{parent}/clone"), &request);
        serve.finish(&operation);
        let took = ms(began.elapsed());
        // The first one also puts the parent on a base; the others find it there.
        if number == 0 { first = took } else { ours.push(took) }
    }
    println!("first linked clone of a machine: {first:.1} ms");
    println!(
        "each one after it: p50 {:.1} ms, p99 {:.1} ms (goal 50 ms)",
        median(&ours),
        quantile(&ours, 0.99)
    );
    let dir = tempfile::Builder::new().prefix("vvb").tempdir().unwrap();
    let theirs: Vec<f64> = (0..CLONES)
        .map(|number| {
            let began = Instant::now();
            for half in ["a", "b"] {
                let overlay = dir.path().join(format!("{number}{half}"));
                let status = Command::new("qemu-img")
                    .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
                    .args([&disk, &overlay])
                    .status();
                assert!(status.unwrap().success());
            }
            ms(began.elapsed())
        })
        .collect();
    compare(("linked clone", &ours), ("two times qemu-img create", &theirs), "ms");
}
