//! The end of a machine's logs.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use voidvm_model::contract::VmLogs;
use voidvm_model::{Bytes, ErrorBody};

use crate::ops::files::io_error;

/// How much of a log is shown when nothing is said, and the most.
const TAIL: u32 = 64 << 10;
const TAIL_MAX: u32 = 1 << 20;

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
