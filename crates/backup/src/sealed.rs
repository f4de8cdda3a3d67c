//! Documents and blobs between what they say and how they lie in the folder: compressed by zstd, then sealed.

use std::io::Read;

use serde::Serialize;
use serde::de::DeserializeOwned;
use voidvm_model::ErrorBody;
use zstd::bulk::{Compressor, Decompressor};

use crate::crypto::Key;
use crate::error;
use crate::id::Id;

/// What a compressed document begins with; one that is not begins with a bracket.
const COMPRESSED: u8 = 2;
/// More than any document has; a text that unpacks to more is not one of ours.
const DOCUMENT_LIMIT: u64 = 2 << 30;
/// What a disk holds compresses about as well as with the higher levels, at twice their speed.
const LEVEL: i32 = 3;

pub(crate) fn seal_document(key: &Key, document: &impl Serialize) -> Result<Vec<u8>, ErrorBody> {
    let text = serde_json::to_vec(document).map_err(error::internal)?;
    let mut plain = vec![COMPRESSED];
    plain.append(&mut zstd::bulk::compress(&text, LEVEL).map_err(error::internal)?);
    key.seal(&plain)
}

/// A document; none when it is not one that was sealed with this key.
pub(crate) fn open_document<T: DeserializeOwned>(key: &Key, sealed: &[u8]) -> Option<T> {
    let plain = key.open(sealed)?;
    if plain.first() != Some(&COMPRESSED) {
        return serde_json::from_slice(&plain).ok();
    }
    let mut text = Vec::new();
    zstd::stream::read::Decoder::new(&plain[1..]).ok()?.take(DOCUMENT_LIMIT).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// A blob as it lies in a pack.
pub(crate) struct SealedBlob {
    pub(crate) sealed: Vec<u8>,
    /// How long it is when unpacked; none when it is not compressed.
    pub(crate) plain_length: Option<u32>,
}

/// Compresses and seals, one blob after another.
pub(crate) struct Sealer<'a> {
    key: &'a Key,
    compressor: Compressor<'static>,
}

impl<'a> Sealer<'a> {
    pub(crate) fn new(key: &'a Key) -> Result<Self, ErrorBody> {
        Ok(Self { key, compressor: Compressor::new(LEVEL).map_err(error::internal)? })
    }

    pub(crate) fn seal(&mut self, plain: &[u8]) -> Result<SealedBlob, ErrorBody> {
        let packed = self.compressor.compress(plain).map_err(error::internal)?;
        let (text, plain_length) = if packed.len() < plain.len() {
            (packed.as_slice(), Some(u32::try_from(plain.len()).map_err(error::internal)?))
        } else {
            (plain, None)
        };
        Ok(SealedBlob { sealed: self.key.seal(text)?, plain_length })
    }
}

/// Opens and unpacks, one blob after another.
pub(crate) struct Opener<'a> {
    key: &'a Key,
    decompressor: Decompressor<'static>,
}

impl<'a> Opener<'a> {
    pub(crate) fn new(key: &'a Key) -> Result<Self, ErrorBody> {
        Ok(Self { key, decompressor: Decompressor::new().map_err(error::internal)? })
    }

    pub(crate) const fn key(&self) -> &'a Key {
        self.key
    }

    /// A blob, when it is what its name says.
    pub(crate) fn open(
        &mut self,
        id: Id,
        sealed: &[u8],
        plain_length: Option<u32>,
    ) -> Result<Vec<u8>, ErrorBody> {
        let broken = || error::damaged(format!("The block {id} is not what was written."));
        let mut plain = self.key.open(sealed).ok_or_else(broken)?;
        if let Some(length) = plain_length {
            plain = self.decompressor.decompress(&plain, length as usize).map_err(|_| broken())?;
        }
        if Id::of(&plain) == id { Ok(plain) } else { Err(broken()) }
    }
}
