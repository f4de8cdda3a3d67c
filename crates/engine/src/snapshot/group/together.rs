//! Starts machines so that they go on together: those with memory are loaded and held, and go on when all are.

use std::sync::Arc;

use futures_util::future::join_all;
use voidvm_model::{ErrorBody, ErrorCode, OperationStatus, Origin, VmState};

use super::super::restore::START;
use super::of;
use crate::shared::Shared;
use crate::supervisor::{Machine, Order};

/// Starts all of them. When one cannot be, those that were loaded stay held.
///
/// # Errors
/// Why the first of them was not started.
pub(super) async fn start(
    shared: &Shared,
    machines: &[Arc<Machine>],
    origin: Origin,
) -> Result<(), ErrorBody> {
    let with_memory = |machine: &&Arc<Machine>| machine.view().state == VmState::Suspended;
    let (loaded, fresh): (Vec<_>, Vec<_>) = machines.iter().partition(with_memory);
    order(shared, &loaded, Order::StartHeld, origin).await.map_err(|error| {
        error.with_hint("The others are loaded and held: resume them, or go back to the snapshot again.")
    })?;
    order(shared, &loaded, Order::Resume, origin).await?;
    order(shared, &fresh, Order::Start, origin).await
}

async fn order(
    shared: &Shared,
    machines: &[&Arc<Machine>],
    order: Order,
    origin: Origin,
) -> Result<(), ErrorBody> {
    let ended = machines.iter().map(async |machine| {
        let operation = machine.act(order, origin).await?;
        let ended = shared.ledger.wait(operation.id, START).await?;
        if ended.status == OperationStatus::Succeeded {
            return Ok(());
        }
        let late = || ErrorBody::new(ErrorCode::QemuFailed, "A machine was not started in its time.");
        Err(of(ended.error.unwrap_or_else(late), machine))
    });
    join_all(ended).await.into_iter().collect()
}
