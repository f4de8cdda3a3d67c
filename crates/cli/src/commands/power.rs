//! Start, stop, pause, resume, reset.

use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use voidvm_model::contract::{VmListRequest, VmRef, VmStartRequest, VmStopRequest};
use voidvm_model::{ErrorBody, Operation, VmState, VmView};

use crate::args::{Start, Stop};
use crate::client::Client;
use crate::output::{Format, document, line};

/// How long `--wait` waits after the start itself is done.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn start(args: Start, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let outcomes = join_all(args.vms.iter().map(|vm| async {
        let found = client.find(vm).await?;
        let after =
            act(client, "vm.start", &found, &VmStartRequest { id: found.id, disposable: args.disposable })
                .await?;
        if args.wait && after.state != VmState::Running {
            return client.until(found.id, PATIENCE, |vm| vm.state == VmState::Running).await;
        }
        Ok(after)
    }))
    .await;
    show_all(outcomes, format)
}

pub(crate) async fn stop(args: Stop, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let one = async |found: VmView| {
        let request = VmStopRequest { id: found.id, force: args.force, timeout_seconds: args.timeout };
        act(client, "vm.stop", &found, &request).await
    };
    if !args.all {
        let outcomes = join_all(args.vms.iter().map(async |vm| one(client.find(vm).await?).await)).await;
        return show_all(outcomes, format);
    }
    let running: Vec<VmView> = client.call("vm.list", &VmListRequest::default()).await?;
    let mut outcomes = Vec::new();
    for together in stop_order(running) {
        outcomes.extend(join_all(together.into_iter().map(one)).await);
    }
    if outcomes.is_empty() {
        return match format {
            Format::Json => document(&Vec::<VmView>::new()),
            Format::Text => line("nothing runs"),
        };
    }
    show_all(outcomes, format)
}

/// Machines that run, by the turn in which they stop: first those nothing waits for, then the others against the order in which
/// they start.
fn stop_order(mut vms: Vec<VmView>) -> Vec<Vec<VmView>> {
    vms.retain(|vm| vm.state.is_live());
    let turn = |vm: &VmView| vm.meta.autostart.map(|autostart| autostart.order);
    vms.sort_by_key(|vm| std::cmp::Reverse(turn(vm)));
    let (ordered, free): (Vec<_>, Vec<_>) = vms.into_iter().partition(|vm| turn(vm).is_some());
    let mut turns = vec![free];
    for vm in ordered {
        match turns.last_mut().filter(|last| last.first().is_some_and(|other| turn(other) == turn(&vm))) {
            Some(last) => last.push(vm),
            None => turns.push(vec![vm]),
        }
    }
    turns
}

pub(crate) async fn simple(name: &str, vm: &str, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let found = client.find(vm).await?;
    let outcome = act(client, name, &found, &VmRef { id: found.id }).await;
    show_all(vec![outcome], format)
}

async fn act(
    client: &Client,
    name: &str,
    vm: &VmView,
    request: &impl Serialize,
) -> Result<VmView, ErrorBody> {
    let operation: Operation = client.call(name, request).await?;
    client.finish(operation).await?;
    client.call("vm.get", &VmRef { id: vm.id }).await
}

/// Shows what went well, then the first failure: one machine's trouble hides no other's success. One machine is one object,
/// several are an array.
fn show_all(outcomes: Vec<Result<VmView, ErrorBody>>, format: Format) -> Result<(), ErrorBody> {
    let many = outcomes.len() > 1;
    let mut failures = Vec::new();
    let mut done = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(vm) => done.push(vm),
            Err(error) => failures.push(error),
        }
    }
    match (format, done.as_slice()) {
        (Format::Json, vms) if many => document(&vms)?,
        (Format::Json, [vm]) => document(vm)?,
        (Format::Json, _) => {}
        (Format::Text, vms) => {
            for vm in vms {
                line(format_args!("{}: {}", vm.name, vm.state))?;
            }
        }
    }
    let mut failures = failures.into_iter();
    let Some(first) = failures.next() else { return Ok(()) };
    for further in failures {
        crate::output::note(format, format_args!("error: {}", further.message));
    }
    Err(first)
}
