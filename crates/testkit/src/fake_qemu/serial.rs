//! The serial line: says that the guest is ready, and gives back what is typed.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::machine::{Machine, RunState};

/// What the guest says when it is up.
const READY: &[u8] = b"GUEST-READY\r\n~ # ";

/// Serves the line in a thread of its own; everything the guest says also goes to the log.
pub(crate) fn serve(machine: Arc<Machine>, listener: UnixListener, logfile: Option<&Path>) {
    let mut log = logfile.and_then(|path| File::options().create(true).append(true).open(path).ok());
    std::thread::spawn(move || {
        let mut said = false;
        for mut client in listener.incoming().flatten() {
            while machine.run_state() == RunState::Prelaunch {
                std::thread::sleep(Duration::from_millis(2));
            }
            let Ok(mut reader) = client.try_clone() else { continue };
            let mut say = |bytes: &[u8]| {
                if let Some(log) = &mut log {
                    let _ = log.write_all(bytes);
                }
                client.write_all(bytes).is_ok()
            };
            if !std::mem::replace(&mut said, true) && !say(READY) {
                continue;
            }
            let mut typed = [0_u8; 1024];
            while let Ok(count @ 1..) = reader.read(&mut typed) {
                if !say(&typed[..count]) {
                    break;
                }
            }
        }
    });
}
