//! A machine's logs: their end, to be read, and their size, which is bounded whatever a guest prints.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use voidvm_model::contract::VmLogs;
use voidvm_model::{Bytes, ErrorBody};

use crate::ops::files::io_error;
use crate::shared::Shared;

/// How much of a log is shown when nothing is said, and the most.
const TAIL: u32 = 64 << 10;
const TAIL_MAX: u32 = 1 << 20;
/// A log's size at which all but its end is dropped, in bytes, and how much of the end stays.
const FULL: u64 = 16 << 20;
const KEPT: u64 = 4 << 20;
/// How often sizes are looked at.
const LOOK: Duration = Duration::from_secs(30);

/// Reads the end of a log; one that is not there yet is empty.
pub(crate) fn tail(path: &Path, tail: Option<u32>) -> Result<VmLogs, ErrorBody> {
    let most = u64::from(tail.unwrap_or(TAIL).min(TAIL_MAX));
    let shown = path.to_string_lossy().into_owned();
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(VmLogs { text: String::new(), size: Bytes(0), path: shown });
        }
        Err(error) => return Err(io_error(path, &error)),
    };
    let mut read = || -> std::io::Result<(u64, Vec<u8>)> {
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(most)))?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(most).read_to_end(&mut bytes)?;
        Ok((size, bytes))
    };
    let (size, bytes) = read().map_err(|error| io_error(path, &error))?;
    // A cut in the middle of a character is no character.
    let start = bytes.iter().take(3).take_while(|byte| size > most && **byte & 0xc0 == 0x80).count();
    let text = String::from_utf8_lossy(&bytes[start..]).into_owned();
    Ok(VmLogs { text, size: Bytes(size), path: shown })
}

/// Keeps the logs of running machines below a size, until the engine ends.
pub(crate) async fn keep_bounded(shared: Weak<Shared>) {
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        ticks.tick().await;
        let Some(logs) = shared.upgrade().map(|shared| open_logs(&shared)) else { return };
        let looked = tokio::task::spawn_blocking(move || {
            for log in logs {
                if let Err(error) = bound(&log, FULL, KEPT) {
                    tracing::warn!(path = %log.display(), %error, "a log could not be cut");
                }
            }
        });
        if looked.await.is_err() {
            return;
        }
    }
}

fn open_logs(shared: &Arc<Shared>) -> Vec<PathBuf> {
    let running = shared.fleet.views().into_iter().filter(|view| view.run.is_some());
    running
        .flat_map(|view| {
            let run = voidvm_qemu::process::RunDir::new(&shared.config.runtime_dir, view.id);
            [shared.config.serial_log(view.id), run.stderr()]
        })
        .collect()
}

/// Drops all but the end of a log that has grown to `full`. QEMU appends to it all the while: what it writes between the
/// reading and the cut is lost, a moment's worth.
fn bound(log: &Path, full: u64, kept: u64) -> std::io::Result<()> {
    let size = match std::fs::metadata(log) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if size < full {
        return Ok(());
    }
    let mut end = Vec::new();
    let mut reader = std::fs::File::open(log)?;
    reader.seek(SeekFrom::Start(size - kept.min(size)))?;
    reader.take(kept).read_to_end(&mut end)?;
    let mut writer = std::fs::OpenOptions::new().append(true).open(log)?;
    writer.set_len(0)?;
    std::io::Write::write_all(&mut writer, &end)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_full_log_keeps_its_end_while_it_is_written_to() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut qemu = std::fs::OpenOptions::new().append(true).open(log.path()).unwrap();
        qemu.write_all(&[b'a'; 90]).unwrap();
        bound(log.path(), 100, 10).unwrap();
        assert_eq!(std::fs::read(log.path()).unwrap().len(), 90, "not full yet");
        qemu.write_all(&[b'b'; 10]).unwrap();
        bound(log.path(), 100, 10).unwrap();
        qemu.write_all(b"after").unwrap();
        assert_eq!(std::fs::read(log.path()).unwrap(), b"bbbbbbbbbbafter");
        bound(Path::new("/nowhere/serial.log"), 100, 10).unwrap();
    }
}
