//! A thousand volumes: how long their list takes, beside asking `qemu-img` about each; and a copy beside `qemu-img convert`.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::figures::{compare, median, ms, quantile};
use crate::serve::{Serve, guest};

const VOLUMES: usize = 1000;
const REQUESTS: usize = 50;
/// Asking `qemu-img` about all of them takes long: so many stand for the rest.
const ASKED: usize = 50;
const COPIES: usize = 7;

/// Prints both.
pub fn run() {
    let serve = Serve::start();
    let dir = tempfile::Builder::new().prefix("vvb").tempdir().unwrap();
    let disk = guest().join("disk.qcow2");
    let pool = serve.post("/storage", &json!({ "name": "many", "path": dir.path(), "floor": 0 }));
    let volumes = format!("/storage/{}/volumes", pool["id"].as_str().unwrap());
    for number in 0..VOLUMES {
        let file = dir.path().join(format!("volume-{number:04}.qcow2"));
        qemu_img(&["create", "-q", "-f", "qcow2"], &[&file], &["20G"]);
    }
    let took: Vec<f64> = (0..REQUESTS)
        .map(|_| {
            let began = Instant::now();
            let list = serve.get(&volumes);
            let took = ms(began.elapsed());
            assert_eq!(list.as_array().unwrap().len(), VOLUMES);
            took
        })
        .collect();
    let began = Instant::now();
    for number in 0..ASKED {
        qemu_img(
            &["info", "-U", "-f", "qcow2"],
            &[&dir.path().join(format!("volume-{number:04}.qcow2"))],
            &[],
        );
    }
    println!(
        "GET {VOLUMES} volumes: p50 {:.1} ms, p99 {:.1} ms; `qemu-img info` of each would take {:.0} ms",
        median(&took),
        quantile(&took, 0.99),
        ms(began.elapsed()) * (VOLUMES / ASKED) as f64
    );

    let source = dir.path().join("source.qcow2");
    std::fs::copy(&disk, &source).unwrap();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for number in 0..COPIES {
        let copy = copy_request(&pool, &source, &format!("ours-{number}"));
        let began = Instant::now();
        let operation = serve.post(&format!("{volumes}/copy"), &copy);
        serve.finish(&operation);
        ours.push(ms(began.elapsed()));
        let target = dir.path().join(format!("theirs-{number}.qcow2"));
        theirs.push(ms(timed(&source, &target)));
    }
    compare(("volume.copy of the guest's disk", &ours), ("qemu-img convert and sync", &theirs), "ms");
}

fn copy_request(pool: &Value, source: &Path, name: &str) -> Value {
    json!({ "path": source, "target": pool["id"], "name": name, "format": "qcow2" })
}

/// What a copy takes that is as safe as ours: on the disk when it is done.
fn timed(source: &Path, target: &Path) -> Duration {
    let began = Instant::now();
    qemu_img(&["convert", "-f", "qcow2", "-O", "qcow2"], &[source, target], &[]);
    std::fs::File::open(target).unwrap().sync_all().unwrap();
    began.elapsed()
}

fn qemu_img(before: &[&str], files: &[&Path], after: &[&str]) {
    let output = Command::new("qemu-img").args(before).args(files).args(after).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
