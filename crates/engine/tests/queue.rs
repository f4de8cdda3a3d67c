//! Limits, waiting, giving up.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod common;

use std::time::Duration;

use common::{Rig, SOON, row, spec, stop};
use voidvm_engine::Preferences;
use voidvm_model::contract::OperationListRequest;
use voidvm_model::{ErrorCode, OperationStatus, Origin, Settings, VmState};
use voidvm_store::VmRow;
use voidvm_testkit::{Plan, wait_until_async};

fn rows(count: usize) -> Vec<VmRow> {
    (0..count).map(|n| row(&format!("vm{n}"), spec())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_start_at_a_time_than_the_limit_and_the_rest_is_visible_and_can_be_given_up() {
    let rows = rows(4);
    // Nobody greets: starts stay at work.
    let plan = Plan { hang_at: Some("greeting".to_owned()), ..Plan::default() };
    let rig = Rig::with(&plan, &rows, |config| config.preferences.starts = 2).await;
    let mut operations = Vec::new();
    for row in &rows {
        operations.push(rig.engine.start(row.id, Origin::Cli).await.unwrap());
    }
    let statuses = async || {
        let mut statuses = Vec::new();
        for operation in &operations {
            statuses.push(rig.engine.operation_wait(operation.id, Duration::ZERO).await.unwrap().status);
        }
        statuses
    };
    wait_until_async(SOON, "two at work, two waiting", async || {
        let statuses = statuses().await;
        let count = |status| statuses.iter().filter(|other| **other == status).count();
        (count(OperationStatus::Running) == 2 && count(OperationStatus::Queued) == 2).then_some(())
    })
    .await;
    wait_until_async(SOON, "two processes", async || (rig.fake.processes().len() == 2).then_some(())).await;
    let statuses = statuses().await;
    let waiting = statuses.iter().position(|status| *status == OperationStatus::Queued).unwrap();
    let view = rig.engine.get(rows[waiting].id).unwrap();
    assert_eq!(view.state, VmState::Stopped);
    assert_eq!(view.operation.unwrap().status, OperationStatus::Queued, "visible on the machine");

    // One that waits is given up at once; one at work leaves no process behind.
    let given_up = rig.engine.cancel(operations[waiting].id).await.unwrap();
    assert_eq!(given_up.status, OperationStatus::Cancelled);
    let at_work = statuses.iter().position(|status| *status == OperationStatus::Running).unwrap();
    let given_up = rig.engine.cancel(operations[at_work].id).await.unwrap();
    assert_eq!(given_up.status, OperationStatus::Cancelled);
    rig.until(rows[at_work].id, VmState::Stopped).await;
    wait_until_async(SOON, "the next one's turn", async || (rig.fake.processes().len() == 2).then_some(()))
        .await;
    assert_eq!(rig.engine.cancel(operations[waiting].id).await.unwrap_err().code, ErrorCode::InvalidState);

    // Let go, and everybody gets there.
    rig.fake.plan(&Plan::default());
    let mut started = 0;
    for (at, operation) in operations.iter().enumerate() {
        if at != waiting && at != at_work {
            assert_eq!(rig.end(operation).await.status, OperationStatus::Succeeded);
            started += 1;
        }
    }
    assert_eq!(started, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_larger_limit_takes_effect_at_once() {
    let rows = rows(3);
    let plan = Plan { ignore_powerdown: true, ..Plan::default() };
    let rig = Rig::with(&plan, &rows, |config| config.preferences.stops = 1).await;
    for row in &rows {
        rig.start(row.id).await;
    }
    for row in &rows {
        rig.engine.stop(stop(row.id, false), Origin::Cli).await.unwrap();
    }
    let stopping = || rig.engine.list().iter().filter(|vm| vm.state == VmState::Stopping).count();
    wait_until_async(SOON, "one at a time", async || (stopping() == 1).then_some(())).await;
    let preferences = Preferences {
        qemu_binary: Some(rig.fake.binary()),
        ..Preferences::from(&Settings { max_concurrent_stops: 3, ..Settings::default() })
    };
    rig.engine.apply_preferences(preferences);
    wait_until_async(SOON, "all at once", async || (stopping() == 3).then_some(())).await;
    // Forcing off waits for nobody.
    for row in &rows {
        rig.force_off(row.id).await;
    }
    rig.no_processes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_can_be_asked_for_in_one_breath_and_a_second_click_is_the_first() {
    let rows = rows(1);
    let rig = Rig::new(&Plan { powerdown_ms: 100, ..Plan::default() }, &rows).await;
    let id = rows[0].id;
    let first = rig.engine.start(id, Origin::Cli).await.unwrap();
    let second = rig.engine.start(id, Origin::Rest).await.unwrap();
    assert_eq!(first.id, second.id);
    rig.end(&first).await;
    let pid = rig.fake.process_of(id).pid;
    let stopped = rig.engine.stop(stop(id, false), Origin::Cli).await.unwrap();
    let started = rig.engine.start(id, Origin::Cli).await.unwrap();
    let refused = rig.engine.pause(id, Origin::Cli).await;
    assert!(refused.is_ok(), "a pause after the start to come");
    assert_eq!(rig.end(&stopped).await.status, OperationStatus::Succeeded);
    assert_eq!(rig.end(&started).await.status, OperationStatus::Succeeded);
    rig.until(id, VmState::Paused).await;
    assert_ne!(rig.fake.process_of(id).pid, pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_engine_interrupts_what_waits_and_leaves_machines_alone() {
    let rows = rows(2);
    let plan = Plan { ignore_powerdown: true, ..Plan::default() };
    let rig = Rig::with(&plan, &rows, |config| config.preferences.stops = 1).await;
    for row in &rows {
        rig.start(row.id).await;
        rig.engine.stop(stop(row.id, false), Origin::Cli).await.unwrap();
    }
    let rig = rig.reopen().await;
    rig.engine.ready().await;
    let log = rig.engine.operations(OperationListRequest::default()).await.unwrap();
    assert_eq!(log.iter().filter(|row| row.status == OperationStatus::Interrupted).count(), 2);
    for row in &rows {
        assert_eq!(rig.state(row.id), VmState::Running);
    }
    assert_eq!(rig.fake.processes().len(), 2);
}
