//! `console`: this terminal on the guest's serial port.
//!
//! The terminal is raw meanwhile, so that every key reaches the guest; Ctrl+] leaves. Without a terminal, input is passed on as
//! it comes, and the command ends when input has ended and the guest is quiet.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::time::Duration;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;
use voidvm_host::console::ConsoleLine;
use voidvm_model::contract::{ConsoleTicket, VmRef};
use voidvm_model::{ErrorBody, ErrorCode};

use crate::client::Client;
use crate::output::{Format, note};

/// Ctrl+].
const LEAVE: u8 = 0x1d;
/// How long the guest may be silent after the end of input before it counts as quiet.
const QUIET: Duration = Duration::from_secs(1);

pub(crate) async fn attach(vm: &str, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let vm = client.find(vm).await?;
    let ticket: ConsoleTicket = client.call("vm.console", &VmRef { id: vm.id }).await?;
    let ConsoleLine { mut to_viewer, from_viewer, .. } =
        client.access().await.console(&ticket.serial).await?;
    let interactive = std::io::stdin().is_terminal();
    if interactive {
        note(format, format_args!("Connected to {}. Ctrl+] leaves.", vm.name));
    }
    let _raw = if interactive { Some(Raw::begin()?) } else { None };
    let mut typed = keyboard();
    // The line stays open after the end of input: dropping its sender would close it.
    let mut ended = false;
    let mut output = std::io::stdout();
    loop {
        let quiet = async {
            if ended {
                tokio::time::sleep(QUIET).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            shown = to_viewer.recv() => match shown {
                Some(bytes) => {
                    if output.write_all(&bytes).and_then(|()| output.flush()).is_err() {
                        return Ok(());
                    }
                }
                None => break,
            },
            keys = typed.recv(), if !ended => match keys {
                Some(mut keys) => {
                    let leaving = keys.iter().position(|key| *key == LEAVE && interactive);
                    keys.truncate(leaving.unwrap_or(keys.len()));
                    let gone = !keys.is_empty() && from_viewer.send(keys).await.is_err();
                    if gone || leaving.is_some() {
                        break;
                    }
                }
                None if interactive => break,
                None => ended = true,
            },
            () = quiet => break,
        }
    }
    if interactive {
        note(format, "\r\nDisconnected.");
    }
    Ok(())
}

/// What is typed, read by a thread of its own: reading from a terminal cannot be cancelled.
fn keyboard() -> mpsc::Receiver<Vec<u8>> {
    let (keys, typed) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut buffer = [0_u8; 1024];
        while let Ok(count) = std::io::stdin().lock().read(&mut buffer) {
            if count == 0 || keys.blocking_send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    typed
}

/// The terminal in raw mode, until dropped.
struct Raw(Termios);

impl Raw {
    fn begin() -> Result<Self, ErrorBody> {
        let failed = |error: rustix::io::Errno| {
            ErrorBody::new(ErrorCode::Unsupported, format!("The terminal cannot be made raw: {error}."))
        };
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
