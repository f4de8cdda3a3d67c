//! Snapshots of a running guest of 1 GiB with 600 MiB touched: how long it is held by QEMU's own account, the longest gap an HTTP
//! client outside sees, how long the whole takes and what it writes; still, and while the guest rewrites memory. Then
//! restores and forks, from an image and from the stream, and the merge of a layer beside `qemu-img commit` of the same bytes.

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
const RESTORES: usize = 7;

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
    let newest = newest.replace(' ', "%20").replace('/', "%2F");
    let began = Instant::now();
    until("the image of the newest", || is_idle(&serve) && began.elapsed() > Duration::from_secs(5));
    goes_on(&serve, &id, port, &newest, "from an image", 150.0);
    forks(&serve, &id, &newest, "from an image");
    prepared(&serve, 0);
    goes_on(&serve, &id, port, &newest, "from the stream", 500.0);
    forks(&serve, &id, &newest, "from the stream");
    drop(serve);
    merges();
}

/// Restores to running.
fn goes_on(serve: &Serve, id: &str, port: u16, snapshot: &str, how: &str, goal: f64) {
    let (mut restores, mut starts, mut answers) = (vec![], vec![], vec![]);
    for _ in 0..RESTORES {
        let began = Instant::now();
        let restore = json!({ "discardPresent": true });
        serve.finish(&serve.post(&format!("/vms/{id}/snapshots/{snapshot}/restore"), &restore));
        restores.push(ms(began.elapsed()));
        until("the guest", || ask(port, "/").is_some());
        answers.push(ms(began.elapsed()));
        let operations = serve.get("/operations?limit=20");
        let start = operations.as_array().unwrap().iter().find(|operation| operation["kind"] == "start");
        starts.push(start.unwrap()["durationMs"].as_f64().unwrap());
    }
    let line = |what: &str, values: &[f64], goal: &str| {
        println!(
            "restored {how}: {what:<46} p50 {:>5.0}, max {:>5.0} ms{goal}",
            median(values),
            quantile(values, 1.0)
        );
    };
    line("from the new process's start to running", &starts, &format!(" (goal {goal:.0})"));
    line("the same, with the old process's end and files", &restores, "");
    line("until the guest answers", &answers, "");
}

/// Forks from memory, side by side, and what each takes before it has written much.
fn forks(serve: &Serve, id: &str, snapshot: &str, how: &str) {
    let began = Instant::now();
    let request = json!({ "name": "fork", "count": FORKS, "start": true });
    serve.finish(&serve.post(&format!("/vms/{id}/snapshots/{snapshot}/fork"), &request));
    let running = ms(began.elapsed());
    let vms = serve.get("/vms");
    let forks: Vec<&Value> = vms
        .as_array()
        .unwrap()
        .iter()
        .filter(|vm| vm["name"].as_str().unwrap().starts_with("fork-"))
        .collect();
    let pids = forks.iter().map(|vm| vm["run"]["pid"].as_u64().unwrap());
    let most = pids.map(proportional).fold(0.0, f64::max);
    println!(
        "{FORKS} forks running {how}: {running:.0} ms (goal 1500), each takes at most {most:.0} MiB PSS (goal 80)"
    );
    for vm in forks {
        let fork = vm["id"].as_str().unwrap();
        serve.finish(&serve.post(&format!("/vms/{fork}/stop"), &json!({ "force": true })));
        serve.finish(&serve.delete(&format!("/vms/{fork}")));
    }
}

/// A process's proportional share of memory, in MiB.
fn proportional(pid: u64) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find(|line| line.starts_with("Pss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

/// Sets how many snapshots have an image, and waits until that is so.
fn prepared(serve: &Serve, most: u32) {
    let mut settings = serve.get("/settings")["settings"].take();
    settings["preparedSnapshots"] = most.into();
    serve.put("/settings", &json!({ "settings": settings }));
    let began = Instant::now();
    until("other images", || is_idle(serve) && began.elapsed() > Duration::from_secs(25));
}

/// Whether no snapshot's memory is worked on.
fn is_idle(serve: &Serve) -> bool {
    let operations = serve.get("/operations?limit=20");
    let open =
        |operation: &Value| operation["kind"] == "snapshot_prepare" && operation["finishedAt"].is_null();
    !operations.as_array().unwrap().iter().any(open)
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
