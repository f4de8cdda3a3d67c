//! NoCloud seeds: what cloud-init shall make of a guest at its first start, as a small CD.
//!
//! ```text
//! CloudInit ─▶ checked (user, keys, host name, YAML) ─▶ user-data, meta-data ─▶ ISO 9660 with Joliet, label CIDATA
//! ```
//! Invariants: a password never leaves this crate but as a hash; what is merged into the user's own user-data adds to it and takes
//! nothing away; the CD is the same on every host, and made without a program.

mod iso;
mod key;
mod user_data;

use voidvm_model::ErrorBody;
use voidvm_model::contract::CloudInit;

pub use iso::{Entry, image};
pub use key::{KeyError, KeyPair};
pub use user_data::{hostname_of, validate};

/// The label by which cloud-init knows the CD.
pub const LABEL: &str = "CIDATA";

/// A seed that can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// `user-data`: `#cloud-config`, with the password's hash only.
    pub user_data: String,
    /// `meta-data`: instance and host name.
    pub meta_data: String,
}

impl Seed {
    /// Makes the documents. `instance` is new for each machine: cloud-init acts once for each. `keys` may log in besides those of
    /// the request.
    ///
    /// # Errors
    /// [`InvalidInput`](voidvm_model::ErrorCode::InvalidInput) with the field below `cloudInit`.
    pub fn new(request: &CloudInit, name: &str, instance: &str, keys: &[String]) -> Result<Self, ErrorBody> {
        let hostname = validate(request, name)?;
        Ok(Self {
            user_data: user_data::user_data(request, &hostname, keys)?,
            meta_data: format!("instance-id: {instance}\nlocal-hostname: {hostname}\n"),
        })
    }

    /// The CD's bytes.
    #[must_use]
    pub fn image(&self) -> Vec<u8> {
        image(
            LABEL,
            &[
                Entry { name: "meta-data", content: self.meta_data.as_bytes() },
                Entry { name: "user-data", content: self.user_data.as_bytes() },
            ],
        )
    }
}
