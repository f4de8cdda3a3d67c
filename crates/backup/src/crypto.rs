//! The cryptography of the restic format, on the crates of RustCrypto: AES-256 in counter mode, authenticated by Poly1305-AES, with a
//! random nonce before and the tag behind; keys out of a password by scrypt.
//!
//! ```text
//! nonce (16) │ ciphertext │ tag (16) = Poly1305(r, AES-128(k, nonce)) of the ciphertext
//! ```
//! The construction is the format's, not ours: see "Keys, Encryption and MAC" of restic's repository design document. Nothing is
//! given out of a text whose tag was not checked first, in constant time.

use std::fmt;

use aes::cipher::{BlockCipherEncrypt, KeyInit, KeyIvInit, StreamCipher};
use aes::{Aes128, Aes256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use poly1305::Poly1305;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use voidvm_model::{ErrorBody, ErrorCode};

use crate::error;
use crate::id::hex;

/// What is added to a text by sealing it.
pub(crate) const OVERHEAD: u32 = 32;

const NONCE: usize = 16;
const TAG: usize = 16;

/// The password of a repository. It is never shown and never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// A password somebody chose.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// A password nobody needs to remember: 256 bits, as hexadecimal digits.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate() -> Result<Self, ErrorBody> {
        Ok(Self(hex(&random::<32>()?)))
    }

    /// The text, to hand it to a keychain.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Random bytes of the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], ErrorBody> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|failed| error::internal(format!("No random numbers: {failed}.")))?;
    Ok(bytes)
}

/// The keys everything of a repository is sealed with.
#[derive(Clone)]
pub(crate) struct Key {
    encrypt: [u8; 32],
    k: [u8; 16],
    r: [u8; 16],
}

/// Keys as they lie, sealed, in a key file.
#[derive(Serialize, Deserialize)]
struct KeyRecord {
    mac: MacRecord,
    encrypt: String,
}

#[derive(Serialize, Deserialize)]
struct MacRecord {
    k: String,
    r: String,
}

impl Key {
    pub(crate) fn generate() -> Result<Self, ErrorBody> {
        let mut key = Self { encrypt: random()?, k: random()?, r: random()? };
        // Poly1305 reads r without these bits; written as it will be read.
        for at in [3, 7, 11, 15] {
            key.r[at] &= 15;
        }
        for at in [4, 8, 12] {
            key.r[at] &= 252;
        }
        Ok(key)
    }

    /// The key a password opens a key file with.
    pub(crate) fn derive(password: &Password, salt: &[u8], cost: Cost) -> Result<Self, ErrorBody> {
        let mut out = [0; 64];
        scrypt::scrypt(password.0.as_bytes(), salt, &cost.params()?, &mut out)
            .map_err(|failed| error::internal(format!("scrypt: {failed}.")))?;
        let (mut encrypt, mut k, mut r) = ([0; 32], [0; 16], [0; 16]);
        encrypt.copy_from_slice(&out[..32]);
        k.copy_from_slice(&out[32..48]);
        r.copy_from_slice(&out[48..]);
        Ok(Self { encrypt, k, r })
    }

    pub(crate) fn to_json(&self) -> Result<Vec<u8>, ErrorBody> {
        let record = KeyRecord {
            mac: MacRecord { k: STANDARD.encode(self.k), r: STANDARD.encode(self.r) },
            encrypt: STANDARD.encode(self.encrypt),
        };
        serde_json::to_vec(&record).map_err(error::internal)
    }

    pub(crate) fn from_json(text: &[u8]) -> Option<Self> {
        fn part<const N: usize>(text: &str) -> Option<[u8; N]> {
            STANDARD.decode(text).ok()?.try_into().ok()
        }
        let record: KeyRecord = serde_json::from_slice(text).ok()?;
        Some(Self { encrypt: part(&record.encrypt)?, k: part(&record.mac.k)?, r: part(&record.mac.r)? })
    }

    /// Seals a text.
    pub(crate) fn seal(&self, text: &[u8]) -> Result<Vec<u8>, ErrorBody> {
        let nonce = random::<NONCE>()?;
        let mut out = Vec::with_capacity(text.len() + NONCE + TAG);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(text);
        self.cipher(&nonce).apply_keystream(&mut out[NONCE..]);
        let tag = self.tag(&nonce, &out[NONCE..]);
        out.extend_from_slice(&tag);
        Ok(out)
    }

    /// Opens what was sealed; nothing when it is not what [`Key::seal`] gave, with this key.
    pub(crate) fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE>()?;
        let (text, tag) = rest.split_last_chunk::<TAG>()?;
        if !bool::from(self.tag(nonce, text).ct_eq(tag)) {
            return None;
        }
        let mut text = text.to_vec();
        self.cipher(nonce).apply_keystream(&mut text);
        Some(text)
    }

    fn cipher(&self, nonce: &[u8; NONCE]) -> ctr::Ctr128BE<Aes256> {
        ctr::Ctr128BE::<Aes256>::new(&self.encrypt.into(), &(*nonce).into())
    }

    fn tag(&self, nonce: &[u8; NONCE], text: &[u8]) -> [u8; TAG] {
        let mut pad = (*nonce).into();
        Aes128::new(&self.k.into()).encrypt_block(&mut pad);
        let mut key = [0; 32];
        key[..16].copy_from_slice(&self.r);
        key[16..].copy_from_slice(&pad);
        Poly1305::new(&key.into()).compute_unpadded(text).into()
    }
}

/// What deriving a key costs: scrypt's N, r and p.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cost {
    #[serde(rename = "N")]
    pub(crate) n: u64,
    pub(crate) r: u32,
    pub(crate) p: u32,
}

impl Cost {
    /// For a password somebody can remember: 32 MiB, and about half a second.
    pub(crate) const CHOSEN: Self = Self { n: 1 << 15, r: 8, p: 5 };
    /// For a generated one, which cannot be guessed at any price.
    pub(crate) const GENERATED: Self = Self { n: 1 << 14, r: 8, p: 1 };

    /// The parameters, where they are such as a computer can bear: they come from a file.
    fn params(self) -> Result<scrypt::Params, ErrorBody> {
        let bearable = self.n.is_power_of_two()
            && self.n > 1
            && self.n.checked_mul(u64::from(self.r) * 128).is_some_and(|bytes| bytes <= 1 << 30)
            && (1..=64).contains(&self.p);
        let log = if bearable { self.n.checked_ilog2().and_then(|log| u8::try_from(log).ok()) } else { None };
        let params = log.and_then(|log| scrypt::Params::new(log, self.r, self.p).ok());
        params.ok_or_else(|| {
            ErrorBody::new(
                ErrorCode::Unsupported,
                "A key of the repository asks for more work than voidVM does.",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_and_nothing_else_does() {
        let key = Key::generate().unwrap();
        for text in [&b""[..], b"a", &[7; 1000]] {
            let sealed = key.seal(text).unwrap();
            assert_eq!(sealed.len(), text.len() + NONCE + TAG);
            assert_eq!(key.open(&sealed).unwrap(), text);
            for at in 0..sealed.len() {
                let mut other = sealed.clone();
                other[at] ^= 1;
                assert!(key.open(&other).is_none(), "bit of byte {at}");
            }
            assert!(Key::generate().unwrap().open(&sealed).is_none());
            assert!(key.open(&sealed[1..]).is_none());
        }
        assert!(key.open(b"short").is_none());
    }

    #[test]
    fn poly1305_aes_is_the_one_of_the_paper() {
        // Appendix B of "The Poly1305-AES message-authentication code".
        let key = Key {
            encrypt: [0; 32],
            k: 0xec07_4c83_5580_7417_0142_5b62_3235_add6_u128.to_be_bytes(),
            r: 0x851f_c40c_3467_ac0b_e05c_c204_04f3_f700_u128.to_be_bytes(),
        };
        let nonce = 0xfb44_7350_c4e8_68c5_2ac3_275c_f9d4_327e_u128.to_be_bytes();
        assert_eq!(
            key.tag(&nonce, &[0xf3, 0xf6]),
            0xf4c6_33c3_044f_c145_f84f_335c_b819_53de_u128.to_be_bytes()
        );
    }

    #[test]
    fn a_key_that_asks_for_everything_is_refused() {
        for cost in [Cost { n: 1 << 40, r: 8, p: 1 }, Cost { n: 3, r: 8, p: 1 }, Cost { n: 0, r: 8, p: 1 }] {
            assert!(cost.params().is_err());
        }
        assert!(Cost::CHOSEN.params().is_ok());
    }
}
