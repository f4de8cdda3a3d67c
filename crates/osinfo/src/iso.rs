//! What an ISO says of itself, in its primary volume descriptor (ECMA-119, 8.4).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Sector 16.
const DESCRIPTOR_AT: u64 = 0x8000;

/// What an ISO says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IsoIdentity {
    /// Its own name.
    pub volume_id: String,
    /// The system it is for.
    pub system_id: String,
    /// Who published it.
    pub publisher_id: String,
    /// What wrote it.
    pub application_id: String,
    /// Bytes of its file system.
    pub volume_size: u64,
}

impl IsoIdentity {
    /// Reads it; none of a file that is no ISO 9660 file system.
    ///
    /// # Errors
    /// The file system's.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut file = File::open(path)?;
        let mut sector = [0; 2048];
        file.seek(SeekFrom::Start(DESCRIPTOR_AT))?;
        match file.read_exact(&mut sector) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        Ok(Self::of_descriptor(&sector))
    }

    fn of_descriptor(sector: &[u8; 2048]) -> Option<Self> {
        if &sector[..6] != b"\x01CD001" {
            return None;
        }
        let text = |at: usize, length: usize| {
            let text = String::from_utf8_lossy(&sector[at..at + length]);
            text.trim_matches([' ', '\0']).chars().filter(|c| !c.is_control()).collect::<String>()
        };
        let blocks = u32::from_le_bytes([sector[80], sector[81], sector[82], sector[83]]);
        let block = u16::from_le_bytes([sector[128], sector[129]]);
        Some(Self {
            system_id: text(8, 32),
            volume_id: text(40, 32),
            publisher_id: text(318, 128),
            application_id: text(574, 128),
            volume_size: u64::from(blocks) * u64::from(block),
        })
    }
}
