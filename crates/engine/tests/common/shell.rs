//! A real guest's console.

use std::time::Duration;

use voidvm_engine::{SerialInput, SerialOutput};
use voidvm_model::VmId;

use super::Rig;

/// From power on to a prompt, on a busy computer that translates.
pub const BOOT: Duration = Duration::from_secs(180);
/// For a command to be through.
pub const AT_ONCE: Duration = Duration::from_secs(60);

/// The guest's console: a shell.
pub struct Shell {
    input: SerialInput,
    output: SerialOutput,
    seen: String,
    commands: usize,
}

impl Shell {
    pub async fn open(rig: &Rig, vm: VmId) -> Self {
        let (output, input) = rig.engine.serial(vm).await.unwrap().split();
        let mut shell = Self { input, output, seen: String::new(), commands: 0 };
        shell.until("GUEST-READY", BOOT).await;
        shell.until(":~# ", AT_ONCE).await;
        shell
    }

    /// Reads on until a text comes; what came before it.
    pub async fn until(&mut self, text: &str, patience: Duration) -> String {
        let reading = async {
            loop {
                if let Some(at) = self.seen.find(text) {
                    let before = self.seen[..at].to_owned();
                    self.seen.drain(..at + text.len());
                    return before;
                }
                let piece = self.output.next().await.unwrap();
                self.seen.push_str(&String::from_utf8_lossy(&piece));
            }
        };
        match tokio::time::timeout(patience, reading).await {
            Ok(before) => before,
            Err(_) => panic!("waited for {text:?}, the guest said {:?}", self.seen),
        }
    }

    /// The shell of a guest that goes on.
    pub async fn again(rig: &Rig, vm: VmId) -> Self {
        let (output, input) = rig.engine.serial(vm).await.unwrap().split();
        Self { input, output, seen: String::new(), commands: 1000 }
    }

    pub async fn type_in(&self, line: &str) {
        self.input.write(format!("{line}\n").into()).await.unwrap();
    }

    /// Runs a command; what it printed.
    pub async fn run(&mut self, command: &str) -> String {
        self.commands += 1;
        let number = self.commands;
        // The echo of the line has the number in another form than the answer.
        self.input.write(format!("{command}; echo end-of-$(({number}+0)).\n").into()).await.unwrap();
        self.until(&format!("end-of-{number}."), AT_ONCE).await
    }

    /// Runs a command until what it prints is as wanted.
    pub async fn sees(&mut self, command: &str, wanted: impl Fn(&str) -> bool) -> String {
        let end = tokio::time::Instant::now() + AT_ONCE;
        loop {
            let printed = self.run(command).await;
            if wanted(&printed) {
                return printed;
            }
            assert!(tokio::time::Instant::now() < end, "{command} prints {printed}");
        }
    }
}
