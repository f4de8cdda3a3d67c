//! What is known from inside a guest, through its agent.
//!
//! The agent's line carries one conversation: one connection per run, used by one at a time. A guest without an agent is asked
//! again only after a while, since each try takes a deadline's time.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use voidvm_model::vm::GuestInfo;
use voidvm_model::{ErrorBody, ErrorCode};
use voidvm_qemu::agent::{Agent, AgentError};

use crate::run::Run;

/// How long a guest has to show that it has an agent.
const GREETING: Duration = Duration::from_millis(400);
/// How long a silent one is left alone by the monitor.
const LEFT_ALONE: Duration = Duration::from_secs(20);

/// The agent's line of one run.
#[derive(Debug, Default)]
pub(crate) struct AgentLine(Mutex<Line>);

#[derive(Debug, Default)]
struct Line {
    agent: Option<Agent>,
    silent_since: Option<Instant>,
}

impl Line {
    /// Asks something; a conversation that fails is over.
    async fn ask<T>(
        &mut self,
        run: &Run,
        question: impl AsyncFnOnce(&mut Agent) -> Result<T, AgentError>,
    ) -> Result<T, AgentError> {
        // Taken out while it is asked: a dropped question leaves no half conversation behind.
        let mut agent = match self.agent.take() {
            Some(agent) => agent,
            None => Agent::connect(&run.dir.agent(), GREETING).await.inspect_err(|_| {
                self.silent_since = Some(Instant::now());
            })?,
        };
        let answer = question(&mut agent).await;
        if matches!(answer, Ok(_) | Err(AgentError::Refused(_))) {
            self.agent = Some(agent);
            self.silent_since = None;
        } else {
            self.silent_since = Some(Instant::now());
        }
        answer
    }
}

/// What the agent says; `agent` is false when there is none.
pub(crate) async fn info(run: &Run) -> GuestInfo {
    let mut line = run.agent.0.lock().await;
    line.ask(run, async |agent| agent.info().await).await.unwrap_or_default()
}

/// Has the guest write out its file systems and hold them still.
///
/// # Errors
/// Without an agent, or when it cannot; then they are not held.
pub(crate) async fn freeze(run: &Run) -> Result<(), ErrorBody> {
    let mut line = run.agent.0.lock().await;
    let frozen = line.ask(run, async |agent| agent.execute("guest-fsfreeze-freeze", None).await).await;
    frozen.map(drop).map_err(|error| {
        ErrorBody::new(ErrorCode::Unsupported, format!("The guest cannot freeze its file systems: {error}."))
            .with_field("freeze")
            .with_hint("Install qemu-guest-agent in the guest, or take the snapshot without freezing.")
    })
}

/// Lets the guest's file systems go on.
pub(crate) async fn thaw(run: &Run) {
    let mut line = run.agent.0.lock().await;
    let thawed = line.ask(run, async |agent| agent.execute("guest-fsfreeze-thaw", None).await).await;
    if let Err(error) = thawed {
        tracing::error!(%error, "the guest's file systems could not be told to go on");
    }
}

/// Bytes into and out of the guest over all its network cards since they came up.
pub(crate) async fn traffic(run: &Run) -> Option<(u64, u64)> {
    let mut line = run.agent.0.lock().await;
    if line.silent_since.is_some_and(|since| since.elapsed() < LEFT_ALONE) {
        return None;
    }
    let network = line.ask(run, async |agent| agent.network().await).await.ok()?;
    Some(network.counters.iter().fold((0, 0), |(into, out): (u64, u64), card| {
        (into.saturating_add(card.received.0), out.saturating_add(card.sent.0))
    }))
}
