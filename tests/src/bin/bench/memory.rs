//! What `voidvm serve` takes while nothing happens.

use std::time::Duration;

use crate::figures::pss;
use crate::serve::Serve;

/// Prints the proportional set size: fresh, and with a machine running and a look at the list.
pub fn run() {
    let serve = Serve::start();
    std::thread::sleep(Duration::from_secs(3));
    println!("voidvm serve, idle:               {:.1} MiB PSS (goal 25)", pss(serve.child.id()).unwrap());
    let id = serve.machine("bench");
    let operation = serve.post(&format!("/vms/{id}/start"), &serde_json::json!({}));
    serve.finish(&operation);
    for _ in 0..20 {
        serve.get("/vms");
    }
    std::thread::sleep(Duration::from_secs(3));
    println!("voidvm serve, one machine running: {:.1} MiB PSS", pss(serve.child.id()).unwrap());
}
