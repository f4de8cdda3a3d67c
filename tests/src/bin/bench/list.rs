//! A thousand machines: how long the list takes to be had, painted and scrolled.

use std::path::Path;
use std::time::Instant;

use serde_json::json;

use crate::figures::{median, ms, quantile};
use crate::serve::{Serve, guest, have, node};

const MACHINES: usize = 1000;
const REQUESTS: usize = 300;

/// Prints `GET /vms` over HTTP, then what Chromium sees of the page.
pub fn run() {
    let serve = Serve::start();
    let source = json!({ "kind": "iso", "path": guest().join("guest.iso") });
    let began = Instant::now();
    let operations: Vec<_> = (0..MACHINES)
        .map(|n| {
            serve.post("/vms", &json!({ "name": format!("machine-{n:04}"), "source": source, "memory": 64 }))
        })
        .collect();
    for operation in &operations {
        serve.finish(operation);
    }
    println!("{MACHINES} machines defined in {:.1} s", began.elapsed().as_secs_f64());
    let took: Vec<f64> = (0..REQUESTS)
        .map(|_| {
            let began = Instant::now();
            let list = serve.get("/vms");
            let took = ms(began.elapsed());
            assert_eq!(list.as_array().unwrap().len(), MACHINES);
            took
        })
        .collect();
    println!(
        "GET /vms of {MACHINES}: p50 {:.1} ms, p99 {:.1} ms ({REQUESTS} requests, JSON read)",
        median(&took),
        quantile(&took, 0.99)
    );
    if have("chromium") {
        node(Path::new("tests/bench/list.mjs"), &[&serve.address()]);
    } else {
        println!("no Chromium: painting and scrolling are not measured");
    }
}
