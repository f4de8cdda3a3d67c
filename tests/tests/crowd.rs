//! Many at once: machines created together, and answers while they are.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;
use voidvm_model::{OperationStatus, VmState};
use voidvm_testkit::{Home, Plan};
use voidvm_tests::{create_request, make_iso};

#[test]
fn ten_machines_are_created_and_started_at_once_while_answers_come() {
    let home = Home::with_fake(&Plan { slow_ms: 5, ..Plan::default() });
    let iso = make_iso(home.path());
    let serve = home.serve();
    let began = Instant::now();
    let slowest = std::thread::scope(|scope| {
        let client = &serve.client;
        let makers: Vec<_> = (0..10)
            .map(|index| {
                let mut request = create_request(&format!("vm-{index}"), &iso);
                request["start"] = true.into();
                scope.spawn(move || client.operate("vm.create", &request).unwrap())
            })
            .collect();
        let mut slowest = Duration::ZERO;
        while !makers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            let asked = Instant::now();
            let _ = client.vms();
            slowest = slowest.max(asked.elapsed());
        }
        for maker in makers {
            let made = maker.join().unwrap();
            assert_eq!(made.status, OperationStatus::Succeeded, "{made:?}");
        }
        slowest
    });
    println!("ten machines created in {:?}; the slowest list meanwhile took {slowest:?}", began.elapsed());
    assert!(slowest < Duration::from_secs(1), "an answer took {slowest:?}");
    let views: Vec<_> = serve
        .client
        .vms()
        .into_iter()
        .map(|view| serve.client.wait_vm(view.id, "running", |view| view.state == VmState::Running))
        .collect();
    assert_eq!(views.len(), 10);
    let macs: BTreeSet<String> = views.iter().map(|view| view.spec.nics[0].mac.to_string()).collect();
    assert_eq!(macs.len(), 10, "each has an address of its own");
    assert_eq!(home.fake().processes().len(), 10);
    // All of them stop together too.
    std::thread::scope(|scope| {
        for view in &views {
            let client = &serve.client;
            scope.spawn(move || client.operate("vm.stop", &json!({"id": view.id})).unwrap());
        }
    });
    assert_eq!(home.fake().processes(), []);
}
