//! Start, stop, pause, resume, reset.

use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use voidvm_model::contract::{VmRef, VmStartRequest, VmStopRequest};
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
    let outcomes = join_all(args.vms.iter().map(|vm| async {
        let found = client.find(vm).await?;
        let request = VmStopRequest { id: found.id, force: args.force, timeout_seconds: args.timeout };
        act(client, "vm.stop", &found, &request).await
    }))
    .await;
    show_all(outcomes, format)
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
