//! What is observed of a machine's process, and what that makes of the machine's state. Observed beats wished for.

use std::sync::Arc;
use std::time::Duration;

use voidvm_model::{ErrorBody, ErrorCode, VmState};
use voidvm_qemu::companion::{CompanionKind, CompanionRecord};
use voidvm_qemu::process::{Exit, explain};
use voidvm_qemu::qmp::{Qmp, QmpEvent};

use super::Order;
use super::adopt::{Found, LastEnd};
use super::driver::Driver;
use super::trouble;
use super::work::Pulse;
use super::work::Step;
use crate::hotplug::Problems;
use crate::ledger::{Failure, Outcome};
use crate::ops::power;
use crate::run::{self, EXIT_FOLLOWS, GuestStatus, Live, Run, Shutdown, unresponsive};
use crate::snapshot;
use crate::suspend::{self, LeftOver};

/// How a run ended.
#[derive(Debug, PartialEq)]
enum End {
    Orderly,
    Crashed(Box<ErrorBody>),
}

impl Driver {
    pub(super) fn on_event(&mut self, event: Option<QmpEvent>) {
        let Some(event) = event else {
            if let Some(live) = &mut self.live {
                live.lose_events();
                let run = Arc::clone(&live.run);
                let patience = self.shared.config.timing.mute_after;
                self.pulse = Some(Box::pin(async move {
                    tokio::time::sleep(EXIT_FOLLOWS).await;
                    reconnect(&run, patience).await
                }));
            }
            return;
        };
        tracing::debug!(vm = %self.vm.id, event = event.name, "QEMU says");
        if let Some(live) = &self.live {
            live.run.tell(&event);
        }
        match event.name.as_str() {
            // Whoever has the machine holds its guest for a moment, and lets it go.
            "STOP" | "RESUME" if self.is_lent_live() => {}
            "STOP" if self.vm.state == VmState::Running => {
                self.enter(VmState::Paused);
                // Nobody of us did it when no job says so: why, is in the status.
                if !self.at_work(|order| matches!(order, Order::Pause)) {
                    self.ask_pulse();
                }
            }
            "RESUME" if self.vm.state == VmState::Paused => {
                self.enter(VmState::Running);
                self.forget_full_disk();
            }
            "SHUTDOWN" => {
                if let Some(live) = &mut self.live {
                    live.shutdown = serde_json::from_value::<Shutdown>(event.data).ok();
                }
            }
            "BLOCK_IO_ERROR" => {
                let nodes = self.live.as_ref().map(|live| live.run.record());
                self.attend(Some(trouble::of_disk(&event, nodes.map(|record| record.spec.clone()).as_ref())));
            }
            // A guest let go late, or of something nobody asked for.
            "DEVICE_DELETED" => self.begin_look(),
            "GUEST_PANICKED" => self.attend(Some(trouble::panicked())),
            _ => {}
        }
    }

    fn at_work(&self, is: impl Fn(Order) -> bool) -> bool {
        self.queue.front().is_some_and(|job| job.begun && is(job.order))
    }

    /// Asks whether QEMU still answers, unless that is being asked.
    pub(super) fn ask_pulse(&mut self) {
        let (Some(live), None) = (&self.live, &self.pulse) else { return };
        let run = Arc::clone(&live.run);
        let patience = self.shared.config.timing.mute_after;
        self.pulse = Some(Box::pin(async move {
            match run.monitor().filter(|qmp| !qmp.is_closed()) {
                Some(qmp) => match run::status(&qmp, patience).await {
                    Ok(status) => Pulse::Alive(status),
                    Err(error) => Pulse::Mute(error.body()),
                },
                None => reconnect(&run, patience).await,
            }
        }));
    }

    pub(super) fn on_pulse(&mut self, pulse: Pulse) {
        match pulse {
            Pulse::Alive(status) => self.settle(&status),
            Pulse::Reconnected(qmp, events, status) => {
                if let Some(live) = &mut self.live {
                    live.follow(qmp, events);
                }
                self.settle(&status);
            }
            Pulse::Mute(body) if self.vm.state != VmState::Unresponsive && self.live.is_some() => {
                tracing::warn!(vm = %self.vm.id, reason = body.message, "does not answer");
                self.enter(VmState::Unresponsive);
                self.attend(Some(unresponsive()));
            }
            Pulse::Mute(_) => {}
        }
    }

    /// Makes the state what QEMU says the guest is doing.
    fn settle(&mut self, status: &GuestStatus) {
        let state = match status {
            _ if self.live.is_none() => return,
            // The first `cont` is under way, and says itself how it went.
            _ if self.vm.state == VmState::Starting => return,
            _ if self.at_work(|order| matches!(order, Order::Stop { .. } | Order::ForceOff)) => {
                VmState::Stopping
            }
            GuestStatus::Running => VmState::Running,
            GuestStatus::Held(_) if self.is_lent_live() && self.vm.state == VmState::Running => return,
            GuestStatus::Prelaunch | GuestStatus::Held(_) => VmState::Paused,
        };
        let mute = self.vm.attention.as_ref().is_some_and(|body| body.code == ErrorCode::QemuUnresponsive);
        if self.vm.state == VmState::Unresponsive || mute {
            self.attend(None);
        }
        if let GuestStatus::Held(reason) = status
            && let Some(body) = trouble::of_status(reason)
            && self.vm.attention.is_none()
        {
            self.attend(Some(body));
        }
        self.enter(state);
    }

    /// At start-up: what there is of a process.
    pub(super) fn on_found(&mut self, found: Found) {
        match found {
            Found::Live(attached, status) => {
                self.live = Some(Live::new(attached, &self.shared));
                self.settle(&status);
                match suspend::left_over(&self.machine_dir(), &status) {
                    None => self.begin_look(),
                    Some(left) => self.finish_suspension(left),
                }
            }
            Found::Mute(attached, body) => {
                self.live = Some(Live::new(attached, &self.shared));
                self.enter(VmState::Unresponsive);
                self.attend(Some(body));
            }
            Found::Absent(_) if self.at_rest() == VmState::Suspended => self.enter(VmState::Suspended),
            Found::Absent(LastEnd::Orderly) if self.was.0 == VmState::Crashed => self.enter(VmState::Crashed),
            Found::Absent(LastEnd::Orderly | LastEnd::NeverRan) => self.enter(VmState::Stopped),
            Found::Absent(LastEnd::Unseen) => {
                self.enter(VmState::Crashed);
                self.attend(Some(self.unseen_end()));
            }
        }
        let (was, since) = self.was;
        if self.vm.state == was && since != self.vm.state_since {
            // Nothing happened while voidVM was away.
            self.vm.state_since = since;
            self.remember();
        }
    }

    /// The guest goes on: there was room, or it will say again that there is none.
    pub(super) fn forget_full_disk(&mut self) {
        if self.vm.attention.as_ref().is_some_and(|body| body.code == ErrorCode::DiskFull) {
            self.attend(None);
        }
    }

    /// The last owner ended in the middle of a suspension: what it had written decides.
    fn finish_suspension(&mut self, left: LeftOver) {
        let Some(live) = &mut self.live else { return };
        let run = Arc::clone(&live.run);
        match left {
            LeftOver::Whole => {
                live.ending = true;
                let force = power::force(run, self.shared.config.timing.force_step);
                self.work = Some(Box::pin(async move { Step::Done(force.await) }));
            }
            LeftOver::Part => {
                let dir = self.machine_dir();
                self.work = Some(Box::pin(async move { Step::Done(suspend::undo(&run, &dir).await) }));
            }
        }
    }

    fn unseen_end(&self) -> ErrorBody {
        let stderr = self.run_dir().stderr_tail();
        let body = ErrorBody::new(
            ErrorCode::QemuFailed,
            format!("“{}” ended while voidVM was away, and not in order.", self.vm.name),
        )
        .with_hint(
            "The computer may have been restarted. Start the machine again; its disk may need a check.",
        );
        if stderr.is_empty() { body } else { body.with_detail("stderr", stderr) }
    }

    /// A program beside QEMU has ended, and QEMU has not.
    pub(super) fn on_companion_ended(&mut self, record: &CompanionRecord) {
        let Some(live) = &self.live else { return };
        let words = record.words(&live.run.dir);
        tracing::warn!(vm = %self.vm.id, ?record, words, "a program beside QEMU has ended");
        self.attend(Some(companion_ended(record, &words)));
    }

    /// The process has ended: what that means, and what becomes of the work in hand.
    pub(super) async fn on_exit(&mut self, exit: Exit) {
        let Some(mut live) = self.live.take() else { return };
        self.pulse = None;
        self.progress = None;
        self.applying = None;
        self.apply_again = false;
        self.problems = Problems::default();
        for event in live.last_words().await {
            if event.name == "SHUTDOWN" {
                live.shutdown = serde_json::from_value(event.data).ok();
            }
        }
        live.see_companions_off().await;
        snapshot::recover::after_exit(&self.shared, self.vm.id).await;
        snapshot::drop_twins(&self.machine_dir(), &self.vm.spec);
        let stderr = live.run.dir.stderr_tail();
        let end = judge(&live, exit, &stderr);
        tracing::info!(vm = %self.vm.id, ?exit, shutdown = ?live.shutdown, ?end, "the process has ended");
        forget_run(&live.run, &end);
        drop(live);
        let stderr = Some(stderr).filter(|text| !text.is_empty());
        if self.at_work(|order| matches!(order, Order::ForceOff)) {
            // Whatever a suspension had written: this is what was asked for last.
            suspend::discard(&self.machine_dir());
        }
        let at_rest = self.at_rest();
        match &end {
            _ if at_rest == VmState::Suspended => {
                self.enter(at_rest);
                // Why it could not go on, where that was tried, stays to be seen.
                if self.at_work(|order| matches!(order, Order::Suspend)) {
                    self.attend(None);
                }
            }
            End::Orderly => {
                self.enter(VmState::Stopped);
                // Troubles of a run end with it.
                self.attend(None);
            }
            End::Crashed(body) => {
                self.enter(VmState::Crashed);
                self.attend(Some((**body).clone()));
            }
        }
        // What was in hand was about the process; a turn that was waited for is waited for again.
        self.work = None;
        let Some(order) = self.queue.front().filter(|job| job.begun).map(|job| job.order) else { return };
        let outcome = match (order, end) {
            (Order::Suspend, _) if at_rest == VmState::Suspended => Outcome::Succeeded,
            (Order::Stop { .. } | Order::ForceOff, End::Orderly) | (Order::ForceOff, _) => Outcome::Succeeded,
            (_, End::Crashed(body)) => Outcome::Failed(Failure { error: *body, stderr }),
            (_, End::Orderly) => Outcome::Failed(Failure {
                error: ErrorBody::new(ErrorCode::InvalidState, "The guest shut down in the middle of it."),
                stderr,
            }),
        };
        self.end(outcome);
    }
}

/// Removes what a run leaves that would mislead the next adoption. The state is written to the store a moment later: until then
/// the missing socket says that the end was in order.
fn forget_run(run: &Run, end: &End) {
    let socket = matches!(end, End::Orderly).then(|| run.dir.qmp());
    for path in socket.into_iter().chain([run.dir.record()]) {
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "what a run left cannot be removed");
        }
    }
}

/// Connects anew: the old connection is over though the process lives.
async fn reconnect(run: &Run, patience: Duration) -> Pulse {
    let connected = Qmp::connect(&run.dir.qmp(), patience).await;
    let (qmp, events) = match connected {
        Ok(connected) => connected,
        Err(error) => return Pulse::Mute(error.body()),
    };
    match run::status(&qmp, patience).await {
        Ok(status) => Pulse::Reconnected(qmp, events, status),
        Err(error) => Pulse::Mute(error.body()),
    }
}

/// Whether a run ended in order: because the guest, or we, wished so.
fn judge(live: &Live, exit: Exit, stderr: &str) -> End {
    if live.ending {
        return End::Orderly;
    }
    let crashed = |body: ErrorBody| End::Crashed(Box::new(body.with_detail("stderr", stderr)));
    let reason = live.shutdown.as_ref().map(|shutdown| shutdown.reason.as_str());
    match (reason, exit) {
        (Some("guest-panic"), _) => crashed(trouble::panicked()),
        (Some("host-signal"), _) => crashed(
            ErrorBody::new(ErrorCode::QemuFailed, "QEMU was ended by a signal from outside voidVM.")
                .with_hint("Start the machine again; its disk may need a check."),
        ),
        (_, Exit::Code(0)) | (Some("guest-shutdown" | "host-qmp-quit" | "host-ui"), Exit::Unknown) => {
            End::Orderly
        }
        _ => crashed(explain(exit, stderr)),
    }
}

fn companion_ended(record: &CompanionRecord, words: &str) -> ErrorBody {
    let device = record.device.as_ref().map(|id| format!(" ({id})")).unwrap_or_default();
    let (program, lost) = match record.kind {
        CompanionKind::Tpm => ("swtpm", "the guest has no TPM any more".to_owned()),
        CompanionKind::Share => ("virtiofsd", format!("a shared folder{device} no longer answers")),
        CompanionKind::Network => ("passt", format!("a network card{device} is cut off")),
    };
    ErrorBody::new(ErrorCode::CompanionFailed, format!("The program {program} has ended: {lost}."))
        .with_hint("Stop the machine and start it again.")
        .with_detail("program", program)
        .with_detail("stderr", words)
}
