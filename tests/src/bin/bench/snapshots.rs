//! Snapshots of a running guest of 1 GiB with 600 MiB touched: how long it is held by QEMU's own account, the longest gap an HTTP
//! client outside sees, how long the whole takes and what it writes; still, and while the guest rewrites memory. Then a
//! restore and forks from memory, and the merge of a layer beside `qemu-img commit` of the same bytes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::figures::{compare, median, ms, quantile};
use crate::serve::{Serve, guest};

const SNAPSHOTS: usize = 20;
const KEPT: usize = 6;
const FORKS: usize = 10;

/// Prints them.
pub fn run() {
    let serve = Serve::start();
    let port = voidvm_testkit::port::free();
    let request = json!({
        "name": "kept", "memory": 1024, "accel": "tcg", "start": true,
        "source": { "kind": "image_copy", "path": guest().join("disk.qcow2") },
        "forwards": [{ "protocol": "tcp", "hostAddress": "127.0.0.1", "hostPort": port, "guestPort": 80 }],
    });
    let made = serve.post("/vms", &request);
    serve.finish(&made);
    let id = made["vmId"].as_str().unwrap().to_owned();
    until("the guest", || ask(port, "/").is_some());
    type_in(
        &serve,
        &id,
        "mkdir -p /fill; mount -t tmpfs -o size=700m t /fill; dd if=/dev/urandom of=/fill/x bs=1M count=600; touch /data/www/filled\n",
    );
    until("its memory to be filled", || ask(port, "/filled").is_some_and(|reply| reply.contains(" 200 ")));
    series(&serve, &id, port, "still");
    type_in(
        &serve,
        &id,
        "while true; do dd if=/fill/x of=/fill/y bs=1M count=40 2>/dev/null; sleep 1; done &\n",
    );
    series(&serve, &id, port, "rewriting 40 MB/s");

    let newest = format!("rewriting 40 MB/s {}", SNAPSHOTS - 1);
    let restores: Vec<f64> = (0..3)
        .map(|_| {
            let began = Instant::now();
            let path =
                format!("/vms/{id}/snapshots/{}/restore", newest.replace(' ', "%20").replace('/', "%2F"));
            serve.finish(&serve.post(&path, &json!({ "discardPresent": true })));
            ms(began.elapsed())
        })
        .collect();
    println!("restore to running, the old process's end included: median {:.0} ms", median(&restores));
    let began = Instant::now();
    let path = format!("/vms/{id}/snapshots/{}/fork", newest.replace(' ', "%20").replace('/', "%2F"));
    serve.finish(&serve.post(&path, &json!({ "name": "fork", "count": FORKS, "start": true })));
    println!("{FORKS} forks running: {:.0} ms", ms(began.elapsed()));
    drop(serve);
    merges();
}

/// Takes snapshots one after another and deletes all but the newest few.
fn series(serve: &Serve, id: &str, port: u16, name: &str) {
    let (ended, gaps) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let (mut pauses, mut totals, mut longest, mut sizes) = (vec![], vec![], vec![], vec![]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                let began = Instant::now();
                ask(port, "/");
                gaps.lock().unwrap().push(ms(began.elapsed()));
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        for number in 0..SNAPSHOTS {
            std::thread::sleep(Duration::from_millis(500));
            gaps.lock().unwrap().clear();
            let began = Instant::now();
            let taken =
                serve.post(&format!("/vms/{id}/snapshots"), &json!({ "name": format!("{name} {number}") }));
            let taken = serve.finish(&taken);
            totals.push(ms(began.elapsed()));
            pauses.push(taken["result"]["pauseMs"].as_f64().unwrap());
            std::thread::sleep(Duration::from_millis(200));
            longest.push(gaps.lock().unwrap().iter().copied().fold(0.0, f64::max));
            let tree = serve.get(&format!("/vms/{id}/snapshots"));
            let of = |key: &str| tree["snapshots"].as_array().unwrap().last().unwrap()[key].as_f64().unwrap();
            sizes.push(of("size") / f64::from(1 << 20));
            if number >= KEPT {
                let old = tree["snapshots"][0]["id"].as_str().unwrap().to_owned();
                serve.finish(&serve.delete(&format!("/vms/{id}/snapshots/{old}")));
            }
        }
        ended.store(true, Ordering::Relaxed);
    });
    let line = |what: &str, values: &[f64], unit: &str| {
        println!("{name}: {what:<34} p50 {:>6.0}, max {:>6.0} {unit}", median(values), quantile(values, 1.0));
    };
    line("held, by QEMU's events", &pauses, "ms (goal 20 and 60)");
    line("longest gap of an HTTP client", &longest, "ms (goal 80)");
    line("from request to done", &totals, "ms");
    line("written", &sizes, "MiB");
}

/// A layer of 64 MiB merged away at rest, and `qemu-img commit` of as much.
fn merges() {
    let serve = Serve::start();
    let dir = tempfile::Builder::new().prefix("vvb").tempdir().unwrap();
    let (mut ours, mut theirs) = (vec![], vec![]);
    for round in 0..3 {
        let id = serve.machine(&format!("merged-{round}"));
        let disk = serve.get(&format!("/vms/{id}"))["spec"]["disks"][0]["file"].as_str().unwrap().to_owned();
        serve.finish(&serve.post(&format!("/vms/{id}/snapshots"), &json!({ "name": "below" })));
        write(&disk);
        let began = Instant::now();
        serve.finish(&serve.delete(&format!("/vms/{id}/snapshots/below")));
        ours.push(ms(began.elapsed()));

        let (base, top) = (dir.path().join(format!("{round}")), dir.path().join(format!("{round}.top")));
        std::fs::copy(guest().join("disk.qcow2"), &base).unwrap();
        run_tool(
            Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
                .arg(&base)
                .arg(&top),
        );
        write(&top.to_string_lossy());
        let began = Instant::now();
        run_tool(Command::new("qemu-img").args(["commit", "-q", "-d"]).arg(&top));
        theirs.push(ms(began.elapsed()));
    }
    compare(("deleting a snapshot below", &ours), ("qemu-img commit", &theirs), "ms");
}

/// Writes 64 MiB to an image.
fn write(image: &str) {
    run_tool(Command::new("qemu-io").args(["-f", "qcow2", "-c", "write -P 9 32M 64M", image]));
}

fn run_tool(command: &mut Command) {
    assert!(command.output().unwrap().status.success(), "{command:?}");
}

fn type_in(serve: &Serve, id: &str, text: &str) {
    let _: Value = serve.post(&format!("/vms/{id}/type"), &json!({ "text": text }));
}

/// Waits for something that takes a while.
pub fn until(what: &str, hold: impl Fn() -> bool) {
    let began = Instant::now();
    while !hold() {
        assert!(began.elapsed() < Duration::from_secs(240), "waited for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What the guest's web server says.
fn ask(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    (!reply.is_empty()).then_some(reply)
}
