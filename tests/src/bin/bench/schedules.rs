//! A thousand schedules that have nothing to do: what they cost.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::figures::{median, ms, pss};
use crate::serve::Serve;

const SCHEDULES: usize = 1000;
const WATCHED: Duration = Duration::from_secs(90);

/// Prints CPU time and memory of `voidvm serve` without and with them, and how long their list takes.
pub fn run() {
    let serve = Serve::start();
    let vm = serve.machine("bench");
    let pid = serve.child.id();
    watch("without schedules", pid);
    let began = Instant::now();
    for number in 0..SCHEDULES {
        // Due once a year, and not while this measures.
        let when = json!({ "kind": "cron", "expression": format!("{} {} 29 2 *", number % 60, number / 60) });
        let target = json!({ "kind": "vm", "id": vm });
        serve.post(
            "/schedules",
            &json!({ "name": format!("schedule {number}"), "target": target, "when": when }),
        );
    }
    println!("{SCHEDULES} schedules made in {:.1} s", began.elapsed().as_secs_f64());
    watch("with 1000 schedules", pid);
    let took: Vec<f64> = (0..50)
        .map(|_| {
            let began = Instant::now();
            assert_eq!(serve.get("/schedules").as_array().unwrap().len(), SCHEDULES);
            ms(began.elapsed())
        })
        .collect();
    println!("GET /schedules of {SCHEDULES}: p50 {:.1} ms", median(&took));
}

fn watch(what: &str, pid: u32) {
    std::thread::sleep(Duration::from_secs(3));
    let before = cpu(pid);
    std::thread::sleep(WATCHED);
    let used = (cpu(pid) - before).as_secs_f64() * 1e6 / WATCHED.as_secs_f64();
    println!("voidvm serve, {what:<20} {used:>7.0} µs of CPU each second, {:.1} MiB PSS", pss(pid).unwrap());
}

/// What all threads of a process have run for (`/proc/PID/task/TID/schedstat`).
fn cpu(pid: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let of = |path: std::path::PathBuf| -> Option<u64> {
        std::fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    Duration::from_nanos(threads.filter_map(|thread| of(thread.path())).sum())
}
