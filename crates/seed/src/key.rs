//! A key pair of a machine's own: Ed25519, in OpenSSH's formats.

use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{LineEnding, PrivateKey};

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// The key cannot be written.
    #[error("the key cannot be written: {0}")]
    Encode(#[from] ssh_key::Error),
}

/// A key pair.
#[derive(Clone)]
pub struct KeyPair {
    /// The private key's file, without a passphrase.
    pub private: String,
    /// The line for `authorized_keys`.
    pub public: String,
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair").field("public", &self.public).finish_non_exhaustive()
    }
}

impl KeyPair {
    /// A new pair with a comment, one line.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn generate(comment: &str) -> Result<Self, KeyError> {
        let mut seed = [0_u8; 32];
        getrandom::fill(&mut seed).map_err(KeyError::Random)?;
        let pair = KeypairData::from(Ed25519Keypair::from_seed(&seed));
        let comment: String = comment.chars().filter(|c| !c.is_control()).collect();
        let key = PrivateKey::new(pair, comment)?;
        Ok(Self {
            private: key.to_openssh(LineEnding::LF)?.to_string(),
            public: key.public_key().to_openssh()?,
        })
    }
}

/// Whether a line can stand in `authorized_keys`: a key OpenSSH knows, with an optional comment.
pub(crate) fn is_public_key(line: &str) -> bool {
    !line.contains(['\n', '\r']) && ssh_key::PublicKey::from_openssh(line.trim()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_fits_together_and_no_two_are_alike() {
        let one = KeyPair::generate("voidvm: lab\n").unwrap();
        let private = PrivateKey::from_openssh(&one.private).unwrap();
        assert_eq!(private.public_key().to_openssh().unwrap(), one.public);
        assert!(one.public.starts_with("ssh-ed25519 ") && one.public.ends_with(" voidvm: lab"));
        assert!(is_public_key(&one.public));
        assert_ne!(one.private, KeyPair::generate("x").unwrap().private);
        assert!(!is_public_key("ssh-ed25519 AAAA") && !is_public_key(""));
        assert!(!is_public_key(&format!("{}\nroot", one.public)));
        assert!(!format!("{one:?}").contains("PRIVATE"));
    }
}
