//! Packs: many blobs in one file, and behind them what they are.
//!
//! ```text
//! blob │ blob │ … │ sealed header │ length of the sealed header (4 bytes, little endian)
//! ```

use voidvm_model::ErrorBody;

use crate::crypto::{Key, OVERHEAD};
use crate::error;
use crate::id::Id;
use crate::record::{BlobKind, IndexBlob};
use crate::sealed::SealedBlob;

/// At this size a pack is written.
pub(crate) const TARGET: usize = 16 << 20;

/// A pack in the making. A pack holds blobs of one kind, so that directories are read without the data.
#[derive(Default)]
pub(crate) struct Pack {
    bytes: Vec<u8>,
    blobs: Vec<IndexBlob>,
}

impl Pack {
    pub(crate) fn add(&mut self, id: Id, kind: BlobKind, blob: &SealedBlob) -> Result<(), ErrorBody> {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(TARGET + (TARGET >> 3));
        }
        let offset = u32::try_from(self.bytes.len()).map_err(error::internal)?;
        let length = u32::try_from(blob.sealed.len()).map_err(error::internal)?;
        self.bytes.extend_from_slice(&blob.sealed);
        self.blobs.push(IndexBlob { id, kind, offset, length, uncompressed_length: blob.plain_length });
        Ok(())
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= TARGET
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }

    /// The file's content, and what is in it.
    pub(crate) fn finish(mut self, key: &Key) -> Result<(Vec<u8>, Vec<IndexBlob>), ErrorBody> {
        let mut header = Vec::with_capacity(self.blobs.len() * 41);
        for blob in &self.blobs {
            let kind = match (blob.kind, blob.uncompressed_length) {
                (BlobKind::Data, None) => 0,
                (BlobKind::Tree, None) => 1,
                (BlobKind::Data, Some(_)) => 2,
                (BlobKind::Tree, Some(_)) => 3,
            };
            header.push(kind);
            header.extend_from_slice(&blob.length.to_le_bytes());
            if let Some(length) = blob.uncompressed_length {
                header.extend_from_slice(&length.to_le_bytes());
            }
            header.extend_from_slice(blob.id.bytes());
        }
        let sealed = key.seal(&header)?;
        let length = u32::try_from(sealed.len()).map_err(error::internal)?;
        self.bytes.extend_from_slice(&sealed);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        Ok((self.bytes, self.blobs))
    }
}

/// How long the pack with these blobs is.
pub(crate) fn length(blobs: &[IndexBlob]) -> u64 {
    let entry = |blob: &IndexBlob| if blob.uncompressed_length.is_some() { 41 } else { 37 };
    blobs.iter().map(|blob| u64::from(blob.length) + entry(blob)).sum::<u64>() + u64::from(OVERHEAD) + 4
}

/// What the header of a whole pack says is in it; nothing when it is no pack of this key.
pub(crate) fn blobs(key: &Key, pack: &[u8]) -> Option<Vec<IndexBlob>> {
    let (rest, length) = pack.split_last_chunk::<4>()?;
    let at = rest.len().checked_sub(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let header = key.open(&rest[at..])?;
    let (mut left, mut offset, mut blobs) = (header.as_slice(), 0_u32, Vec::new());
    while let Some((kind, after)) = left.split_first() {
        let (length, after) = after.split_first_chunk::<4>()?;
        let (uncompressed_length, after) = if kind & 2 == 0 {
            (None, after)
        } else {
            let (length, after) = after.split_first_chunk::<4>()?;
            (Some(u32::from_le_bytes(*length)), after)
        };
        let (id, after) = after.split_first_chunk::<32>()?;
        let kind = match kind {
            0 | 2 => BlobKind::Data,
            1 | 3 => BlobKind::Tree,
            _ => return None,
        };
        let length = u32::from_le_bytes(*length);
        blobs.push(IndexBlob { id: Id::new(*id), kind, offset, length, uncompressed_length });
        offset = offset.checked_add(length)?;
        left = after;
    }
    (usize::try_from(offset).ok()? == at).then_some(blobs)
}
