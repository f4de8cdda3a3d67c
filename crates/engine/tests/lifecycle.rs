//! One machine through its life, on the fake QEMU.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod common;

use std::time::Duration;

use common::{Rig, SOON, forwarding, row, spec, stop};
use futures_util::StreamExt;
use voidvm_model::contract::{LogKind, OperationListRequest, VmLogsRequest, VmUpdateRequest};
use voidvm_model::spec::{Disk, DiskFormat, FileOwner};
use voidvm_model::{
    ErrorCode, Event, MachineSpec, OperationKind, OperationStatus, Origin, StreamItem, VmState,
};
use voidvm_testkit::plan::PlannedEvent;
use voidvm_testkit::{Plan, wait_until_async};

#[tokio::test(flavor = "multi_thread")]
async fn from_start_to_stop_state_store_and_events_agree() {
    let vm = row("alpha", spec());
    let rig = Rig::new(&Plan::default(), std::slice::from_ref(&vm)).await;
    let mut events = rig.engine.bus().subscribe(None);
    let started = rig.start(vm.id).await;
    let view = rig.engine.get(vm.id).unwrap();
    assert_eq!(view.state, VmState::Running);
    let run = view.run.unwrap();
    assert_eq!(run.pid, rig.fake.process_of(vm.id).pid);
    assert_eq!((run.qemu_version.as_str(), run.adopted), ("7.2.22", false));
    assert_eq!((started.kind, started.origin), (OperationKind::Start, Origin::Cli));
    assert!(started.started_at.is_some() && started.duration_ms.is_some());

    rig.succeeded(rig.engine.pause(vm.id, Origin::Desktop).await).await;
    assert_eq!(rig.state(vm.id), VmState::Paused);
    rig.succeeded(rig.engine.resume(vm.id, Origin::Desktop).await).await;
    assert_eq!(rig.state(vm.id), VmState::Running);
    rig.succeeded(rig.engine.reset(vm.id, Origin::Desktop).await).await;
    assert_eq!(rig.state(vm.id), VmState::Running);
    rig.succeeded(rig.engine.stop(stop(vm.id, false), Origin::Rest).await).await;
    let view = rig.engine.get(vm.id).unwrap();
    assert_eq!((view.state, view.run, view.attention), (VmState::Stopped, None, None));
    rig.no_processes().await;

    // The guest ran only after everything was written down.
    let commands: Vec<_> = rig.fake.commands().into_iter().map(|command| command.execute).collect();
    assert_eq!(commands.iter().filter(|name| *name == "cont").count(), 2);
    assert!(commands.contains(&"system_powerdown".to_owned()));

    // Every operation is a row; the store's state is the machine's.
    let rows = rig.store.operations().list(&OperationListRequest::default()).await.unwrap();
    let kinds: Vec<_> = rows.iter().rev().map(|row| row.kind).collect();
    let wanted = [
        OperationKind::Start,
        OperationKind::Pause,
        OperationKind::Resume,
        OperationKind::Reset,
        OperationKind::Stop,
    ];
    assert_eq!(kinds, wanted);
    assert!(rows.iter().all(|row| row.status == OperationStatus::Succeeded && row.finished_at.is_some()));
    let stored = rig.store.vms().get(vm.id).await.unwrap().unwrap();
    assert_eq!(stored.state, VmState::Stopped);

    // One event per change, in order, with growing generations.
    let (mut states, mut generation) = (Vec::new(), 0);
    while states.last() != Some(&VmState::Stopped) {
        let item = tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap();
        if let StreamItem::Event(envelope) = item
            && let Event::VmChanged { vm } = envelope.event
        {
            assert!(vm.generation > generation);
            generation = vm.generation;
            if states.last() != Some(&vm.state) && !(states.is_empty() && vm.state == VmState::Stopped) {
                states.push(vm.state);
            }
        }
    }
    let wanted = [
        VmState::Starting,
        VmState::Running,
        VmState::Paused,
        VmState::Running,
        VmState::Stopping,
        VmState::Stopped,
    ];
    assert_eq!(states, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_does_not_heed_the_button_runs_on_and_can_be_forced_off() {
    let vm = row("deaf", spec());
    let plan = Plan { ignore_powerdown: true, ..Plan::default() };
    let rig = Rig::new(&plan, std::slice::from_ref(&vm)).await;
    rig.start(vm.id).await;
    let mut request = stop(vm.id, false);
    request.timeout_seconds = Some(1);
    let (code, _) = rig.failed(rig.engine.stop(request, Origin::Cli).await).await;
    assert_eq!(code, ErrorCode::GuestDidNotStop);
    assert_eq!(rig.state(vm.id), VmState::Running);
    let asked = rig.fake.commands().iter().filter(|command| command.execute == "system_powerdown").count();
    assert_eq!(asked, 2, "once more halfway");
    rig.force_off(vm.id).await;
    assert_eq!(rig.state(vm.id), VmState::Stopped);
    rig.no_processes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forcing_off_ends_what_heeds_neither_quit_nor_term() {
    let vm = row("stubborn", spec());
    let plan = Plan { ignore_powerdown: true, ignore_quit: true, ..Plan::default() };
    let rig = Rig::new(&plan, std::slice::from_ref(&vm)).await;
    rig.start(vm.id).await;
    // An impatient person: the stop is given up for it.
    let asked = rig.engine.stop(stop(vm.id, false), Origin::Cli).await.unwrap();
    rig.until(vm.id, VmState::Stopping).await;
    rig.force_off(vm.id).await;
    assert_eq!(rig.end(&asked).await.status, OperationStatus::Cancelled);
    assert_eq!(rig.state(vm.id), VmState::Stopped);
    rig.no_processes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_is_given_up_leaves_the_guest_running() {
    let vm = row("kept", spec());
    let plan = Plan { ignore_powerdown: true, ..Plan::default() };
    let rig = Rig::new(&plan, std::slice::from_ref(&vm)).await;
    rig.start(vm.id).await;
    let asked = rig.engine.stop(stop(vm.id, false), Origin::Cli).await.unwrap();
    rig.until(vm.id, VmState::Stopping).await;
    let given_up = rig.engine.cancel(asked.id).await.unwrap();
    assert_eq!(given_up.status, OperationStatus::Cancelled);
    assert_eq!(rig.until(vm.id, VmState::Running).await.operation, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_guest_is_let_go_to_shut_down() {
    let vm = row("held", spec());
    let rig = Rig::new(&Plan::default(), std::slice::from_ref(&vm)).await;
    rig.start(vm.id).await;
    rig.succeeded(rig.engine.pause(vm.id, Origin::Cli).await).await;
    rig.succeeded(rig.engine.stop(stop(vm.id, false), Origin::Cli).await).await;
    assert_eq!(rig.state(vm.id), VmState::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_is_a_crash_with_qemus_own_words() {
    let vm = row("unlucky", spec());
    let plan = Plan {
        crash_after_ms: Some(50),
        stderr: Some("qemu: fatal: no luck today".to_owned()),
        exit: 3,
        ..Plan::default()
    };
    let rig = Rig::new(&plan, std::slice::from_ref(&vm)).await;
    rig.start(vm.id).await;
    let view = rig.until(vm.id, VmState::Crashed).await;
    let attention = view.attention.unwrap();
    assert_eq!(attention.code, ErrorCode::QemuFailed);
    assert!(attention.details.unwrap()["stderr"].as_str().unwrap().contains("no luck today"));
    let log = rig.engine.logs(VmLogsRequest { id: vm.id, log: LogKind::Qemu, tail: None }).await.unwrap();
    assert!(log.text.contains("no luck today"));
    // It can be started again, and the trouble is forgotten.
    rig.fake.plan(&Plan::default());
    rig.start(vm.id).await;
    assert_eq!(rig.engine.get(vm.id).unwrap().attention, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_without_us_is_seen_without_an_operation() {
    let vm = row("free", spec());
    let rig = Rig::new(&Plan::default(), std::slice::from_ref(&vm)).await;
    // The guest pauses and shuts down through a second voice: its own monitor's socket is ours alone, so by signal.
    rig.start(vm.id).await;
    let operations = rig.engine.operations(OperationListRequest::default()).await.unwrap().len();
    voidvm_testkit::fake::kill(rig.fake.process_of(vm.id).pid);
    let view = rig.until(vm.id, VmState::Crashed).await;
    assert!(view.attention.is_some(), "nobody asked for it");
    assert_eq!(rig.engine.operations(OperationListRequest::default()).await.unwrap().len(), operations);
}

#[tokio::test(flavor = "multi_thread")]
async fn qemu_that_dies_at_once_fails_the_start_with_its_words() {
    let vm = row("stillborn", spec());
    let plan = Plan {
        die_at: Some("sockets".to_owned()),
        stderr: Some("qemu-system-x86_64: -device foo: 'foo' is not a valid device model name".to_owned()),
        ..Plan::default()
    };
    let rig = Rig::new(&plan, std::slice::from_ref(&vm)).await;
    let (code, operation) = rig.failed(rig.engine.start(vm.id, Origin::Cli).await).await;
    assert_eq!(code, ErrorCode::QemuFailed);
    assert!(operation.stderr.unwrap().contains("not a valid device"));
    let view = rig.engine.get(vm.id).unwrap();
    assert_eq!(view.state, VmState::Stopped);
    assert!(view.attention.is_some());
    rig.no_processes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn qemu_that_never_greets_is_ended_and_said_so() {
    for moment in ["start", "greeting"] {
        let vm = row("mute", spec());
        let plan = Plan { hang_at: Some(moment.to_owned()), ..Plan::default() };
        let rig = Rig::with(&plan, std::slice::from_ref(&vm), |config| {
            config.timing.greeting = Duration::from_millis(400);
        })
        .await;
        let (code, _) = rig.failed(rig.engine.start(vm.id, Origin::Cli).await).await;
        assert_eq!(code, ErrorCode::QemuUnresponsive, "{moment}");
        assert_eq!(rig.state(vm.id), VmState::Stopped);
        rig.no_processes().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_or_garbled_cont_ends_the_process() {
    let refused = Plan { errors: [("cont".to_owned(), "no".to_owned())].into(), ..Plan::default() };
    let closed = Plan { close_at: Some("cont".to_owned()), ..Plan::default() };
    for plan in [refused, closed] {
        let vm = row("refused", spec());
        let rig = Rig::new(&plan, std::slice::from_ref(&vm)).await;
        let ended = rig.end(&rig.engine.start(vm.id, Origin::Cli).await.unwrap()).await;
        assert_eq!(ended.status, OperationStatus::Failed, "{ended:?}");
        rig.until(vm.id, VmState::Stopped).await;
        rig.no_processes().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alive_but_mute_is_unresponsive_and_recovers() {
    let vm = row("sleepy", spec());
    let rig = Rig::new(&Plan::default(), std::slice::from_ref(&vm)).await;
    rig.start(vm.id).await;
    rig.fake.plan(&Plan { hang_at: Some("query-status".to_owned()), ..Plan::default() });
    let view = rig.until(vm.id, VmState::Unresponsive).await;
    assert_eq!(view.attention.unwrap().code, ErrorCode::QemuUnresponsive);
    let refused = rig.engine.pause(vm.id, Origin::Cli).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidState);
    rig.fake.plan(&Plan::default());
    let view = rig.until(vm.id, VmState::Running).await;
    assert_eq!(view.attention, None);
    // And a mute one can be forced off.
    rig.fake.plan(&Plan { hang_at: Some("query-status".to_owned()), ignore_quit: true, ..Plan::default() });
    rig.until(vm.id, VmState::Unresponsive).await;
    rig.force_off(vm.id).await;
    rig.no_processes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_is_made_anew() {
    let vm = row("cut", spec());
    let rig = Rig::new(&Plan::default(), std::slice::from_ref(&vm)).await;
    rig.start(vm.id).await;
    rig.fake.plan(&Plan { close_at: Some("system_reset".to_owned()), ..Plan::default() });
    let _ = rig.engine.reset(vm.id, Origin::Cli).await;
    rig.fake.plan(&Plan::default());
    wait_until_async(SOON, "a pause on a new connection", async || {
        let paused = rig.engine.pause(vm.id, Origin::Cli).await.ok()?;
        (rig.end(&paused).await.status == OperationStatus::Succeeded).then_some(())
    })
    .await;
    assert_eq!(rig.state(vm.id), VmState::Paused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_guest_says_why() {
    let vm = row("full", spec());
    let event = PlannedEvent {
        after_ms: 30,
        event: "BLOCK_IO_ERROR".to_owned(),
        data: serde_json::json!({"device": "disk0", "operation": "write", "action": "stop", "nospace": true,
            "reason": "No space left on device", "node-name": "x"}),
    };
    let rig = Rig::new(&Plan { events: vec![event], ..Plan::default() }, std::slice::from_ref(&vm)).await;
    rig.start(vm.id).await;
    let mut watch = rig.engine.watch(vm.id).unwrap();
    let told = watch.wait_for(|view| view.attention.is_some());
    let view = tokio::time::timeout(SOON, told).await.unwrap().unwrap().clone();
    assert_eq!(view.attention.as_ref().unwrap().code, ErrorCode::DiskFull);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_said_before_anything_runs() {
    let taken = voidvm_testkit::port::hold();
    let port = taken.local_addr().unwrap().port();
    let (one, two) = (row("one", forwarding(port)), row("two", forwarding(port)));
    let rig = Rig::new(&Plan::default(), &[one.clone(), two.clone()]).await;
    let (code, _) = rig.failed(rig.engine.start(one.id, Origin::Cli).await).await;
    assert_eq!(code, ErrorCode::PortInUse);
    drop(taken);
    // A program that is just being started holds every descriptor of ours until it is.
    wait_until_async(SOON, "the port to be free", async || {
        std::net::TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(())
    })
    .await;
    rig.start(one.id).await;
    let (code, operation) = rig.failed(rig.engine.start(two.id, Origin::Cli).await).await;
    assert_eq!(code, ErrorCode::PortInUse);
    assert!(operation.error.unwrap().message.contains("“one”"));
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_of_a_live_machine_wait_for_its_next_start() {
    let vm = row("edited", spec());
    let rig = Rig::new(&Plan::default(), std::slice::from_ref(&vm)).await;
    rig.start(vm.id).await;
    let mut more = spec();
    more.cpus = 2;
    let request = VmUpdateRequest {
        name: Some("renamed".to_owned()),
        spec: Some(more),
        if_updated_at: Some(vm.updated_at),
        ..VmUpdateRequest::new(vm.id)
    };
    let view = rig.engine.update(request.clone(), Origin::Cli).await.unwrap();
    assert_eq!((view.name.as_str(), view.spec.cpus, view.restart_pending), ("renamed", 2, true));
    let stale = rig.engine.update(request, Origin::Cli).await.unwrap_err();
    assert_eq!(stale.code, ErrorCode::Busy, "somebody changed it since");
    let command = rig.engine.command(vm.id).await.unwrap();
    assert_ne!(command.next, command.running.unwrap());
    rig.force_off(vm.id).await;
    rig.start(vm.id).await;
    assert!(!rig.engine.get(vm.id).unwrap().restart_pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_come_while_somebody_looks() {
    let image = tempfile::NamedTempFile::new().unwrap();
    let disk = Disk::new("disk0".parse().unwrap(), image.path().to_owned(), DiskFormat::Raw, FileOwner::User);
    let vm = row("measured", MachineSpec { disks: vec![disk], ..spec() });
    let rig = Rig::new(&Plan::default(), std::slice::from_ref(&vm)).await;
    assert!(rig.engine.metrics(vm.id, None).unwrap().is_empty());
    rig.start(vm.id).await;
    let samples = wait_until_async(SOON, "three readings with rates", async || {
        let samples = rig.engine.metrics(vm.id, None).unwrap();
        (samples.iter().filter(|sample| sample.disk_read.is_some()).count() >= 3).then_some(samples)
    })
    .await;
    let newest = samples.last().unwrap();
    assert!(newest.cpu.is_some() && newest.memory_resident.is_some_and(|bytes| bytes.0 > 0));
    assert!(newest.disk_read.unwrap().0 > 0);
    assert!(samples.is_sorted_by_key(|sample| sample.at));
    let none = rig.engine.metrics(vm.id, Some(jiff::Timestamp::now())).unwrap();
    assert!(none.len() <= 1);
}
