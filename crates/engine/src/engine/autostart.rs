//! Machines that start with the engine: in their order, each after the delay of the one before, once for each boot of the computer,
//! so that an engine that is started again does not start what a person has stopped. One that takes over before all had their turn
//! (the window was closed, the tray remains) goes on with the rest.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use voidvm_model::vm::Autostart;
use voidvm_model::{Origin, VmId, VmState};
use voidvm_qemu::process::boot_id;

use super::Engine;
use crate::supervisor::Order;

/// How long the next one waits for a start that does not end.
const PATIENCE: Duration = Duration::from_secs(120);

impl Engine {
    /// Begins to start the machines that start with the engine, unless that was done since the computer was started. For the
    /// engine that stays; one that is opened for a single command starts nothing.
    pub fn autostart(&self) {
        let stamp = match Stamp::of_this_boot(&self.0.shared.config.state_dir.join("autostart.boot")) {
            Ok(stamp) => stamp,
            Err(error) => {
                return tracing::error!(%error, "whether machines were started since boot is not known");
            }
        };
        if stamp.all {
            return;
        }
        let engine = self.clone();
        let closing = self.0.shared.closing.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = closing.cancelled() => {}
                () = engine.start_in_order(stamp) => {}
            }
        });
    }

    async fn start_in_order(&self, mut stamp: Stamp) {
        self.ready().await;
        for (id, autostart) in self.order() {
            let Ok(machine) = self.machine(id) else { continue };
            if !stamp.note(id) {
                continue;
            }
            let begun = machine.act(Order::Start, Origin::System).await;
            match begun {
                Ok(operation) => drop(self.0.shared.ledger.wait(operation.id, PATIENCE).await),
                Err(error) => tracing::warn!(vm = %id, %error, "a machine was not started with the engine"),
            }
            tokio::time::sleep(Duration::from_secs(autostart.delay_seconds.into())).await;
        }
        stamp.note_all();
    }

    fn order(&self) -> Vec<(VmId, Autostart)> {
        let views = self.0.shared.fleet.views();
        let stopped = |state| matches!(state, VmState::Stopped | VmState::Crashed | VmState::Suspended);
        let mut order: Vec<_> = views
            .iter()
            .filter(|view| stopped(view.state) && !view.meta.template)
            .filter_map(|view| Some((view.id, view.meta.autostart?, Arc::clone(view))))
            .collect();
        order.sort_by(|(_, a, one), (_, b, other)| a.order.cmp(&b.order).then(one.name.cmp(&other.name)));
        order.into_iter().map(|(id, autostart, _)| (id, autostart)).collect()
    }
}

/// What was started by itself since the computer was started: a file of words, the boot's first.
#[derive(Debug)]
struct Stamp {
    path: PathBuf,
    had: BTreeSet<VmId>,
    /// Every machine has had its turn.
    all: bool,
}

/// The word that says so.
const ALL: &str = "all";

impl Stamp {
    /// That of this boot, begun where there is none.
    fn of_this_boot(path: &Path) -> io::Result<Self> {
        let now = boot_id()?;
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut words = text.split_whitespace();
        if words.next() != Some(now.as_str()) {
            std::fs::write(path, format!("{now}\n"))?;
            return Ok(Self { path: path.to_owned(), had: BTreeSet::new(), all: false });
        }
        let words: Vec<&str> = words.collect();
        let had = words.iter().filter_map(|word| word.parse().ok()).collect();
        Ok(Self { path: path.to_owned(), had, all: words.contains(&ALL) })
    }

    /// It is this machine's turn; whether it has had none before.
    fn note(&mut self, id: VmId) -> bool {
        let first = self.had.insert(id);
        if first {
            self.add(&id.to_string());
        }
        first
    }

    fn note_all(&mut self) {
        self.all = true;
        self.add(ALL);
    }

    fn add(&self, word: &str) {
        let added =
            File::options().append(true).open(&self.path).and_then(|mut file| writeln!(file, "{word}"));
        if let Err(error) = added {
            tracing::warn!(%error, "what was started by itself cannot be noted; it may be started once more");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_its_turn_is_known_until_the_next_boot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stamp");
        let (one, other) = (VmId::new(), VmId::new());
        let mut stamp = Stamp::of_this_boot(&path).unwrap();
        assert!(!stamp.all && stamp.note(one) && !stamp.note(one));
        // The engine ends there; the next one goes on.
        let mut stamp = Stamp::of_this_boot(&path).unwrap();
        assert!(!stamp.all && !stamp.note(one) && stamp.note(other));
        stamp.note_all();
        assert!(Stamp::of_this_boot(&path).unwrap().all);
        std::fs::write(&path, "another-boot\nall\n").unwrap();
        let mut stamp = Stamp::of_this_boot(&path).unwrap();
        assert!(!stamp.all && stamp.note(one));
    }
}
