//! Follows the machines: keeps the icon's words true, and tells of crashes and of scheduled runs that failed.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use voidvm_model::{
    ErrorBody, Event, Operation, OperationKind, OperationStatus, Origin, StreamItem, VmId, VmState,
};

use crate::engine::Engine;
use crate::icon::Icon;
use crate::words::Tongue;

/// Pause before the machines are looked at again after the engine was gone.
const PAUSE: Duration = Duration::from_secs(2);

/// Follows for as long as it is polled; `tell` is given the words for each machine that crashes and each scheduled run that fails.
pub async fn machines(engine: Engine, icon: Icon, tell: impl Fn(String)) {
    loop {
        if let Err(error) = follow(&engine, &icon, &tell).await {
            tracing::debug!(code = ?error.code, "the tray cannot follow the machines");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow(engine: &Engine, icon: &Icon, tell: &impl Fn(String)) -> Result<(), ErrorBody> {
    // Listening first: what changes while the list is read comes after it.
    let mut stream = engine.subscribe(None).await?;
    let mut tongue = Tongue::of(engine.settings().await?.language);
    let mut seen = Seen::of(engine).await?;
    let mut said = None;
    loop {
        if said != Some((tongue, seen.live())) {
            icon.say(tongue, seen.live()).await;
            said = Some((tongue, seen.live()));
        }
        match stream.next().await {
            None => return Ok(()),
            Some(StreamItem::Resync { .. }) => seen = Seen::of(engine).await?,
            Some(StreamItem::Event(envelope)) => match envelope.event {
                Event::VmChanged { vm } => {
                    if seen.becomes(vm.id, vm.state) == Change::Crashed {
                        tell(tongue.crashed(&vm.name));
                    }
                }
                Event::VmRemoved { id } => seen.forget(id),
                Event::SettingsChanged => tongue = Tongue::of(engine.settings().await?.language),
                Event::OperationChanged { operation } if is_failed_schedule(&operation) => {
                    tell(tongue.schedule_failed(&operation.subject));
                }
                Event::OperationChanged { .. }
                | Event::ImagesChanged
                | Event::StorageChanged
                | Event::SnapshotsChanged { .. }
                | Event::SchedulesChanged => {}
            },
        }
    }
}

/// Whether a run that nobody asked for and nobody looks at has failed, after all its attempts.
fn is_failed_schedule(operation: &Operation) -> bool {
    operation.kind == OperationKind::ScheduleRun
        && operation.status == OperationStatus::Failed
        && operation.origin == Origin::System
}

/// The machines' states as last heard.
#[derive(Debug, Default)]
struct Seen(HashMap<VmId, VmState>);

#[derive(Debug, PartialEq, Eq)]
enum Change {
    Crashed,
    Other,
}

impl Seen {
    async fn of(engine: &Engine) -> Result<Self, ErrorBody> {
        Ok(Self(engine.machines().await?.into_iter().map(|vm| (vm.id, vm.state)).collect()))
    }

    fn live(&self) -> usize {
        self.0.values().filter(|state| state.is_live()).count()
    }

    /// A machine that was already crashed, or that nothing was known of, has not crashed now.
    fn becomes(&mut self, id: VmId, state: VmState) -> Change {
        let before = self.0.insert(id, state);
        if state == VmState::Crashed && before.is_some_and(VmState::is_live) {
            Change::Crashed
        } else {
            Change::Other
        }
    }

    fn forget(&mut self, id: VmId) {
        self.0.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_crash_once_and_counts_what_lives() {
        let mut seen = Seen::default();
        let (web, db) = (VmId::new(), VmId::new());
        assert_eq!(seen.becomes(web, VmState::Crashed), Change::Other, "it crashed before we looked");
        assert_eq!(seen.becomes(db, VmState::Running), Change::Other);
        assert_eq!(seen.becomes(web, VmState::Starting), Change::Other);
        assert_eq!(seen.live(), 2);
        assert_eq!(seen.becomes(web, VmState::Crashed), Change::Crashed);
        assert_eq!(seen.becomes(web, VmState::Crashed), Change::Other, "told already");
        assert_eq!(seen.live(), 1);
        seen.forget(db);
        assert_eq!(seen.live(), 0);
    }
}
