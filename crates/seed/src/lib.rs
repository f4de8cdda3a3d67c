//! NoCloud seeds: what cloud-init shall make of a guest at its first start, as a small CD.
//!
//! ```text
//! CloudInit ─▶ checked (user, keys, host name, YAML) ─▶ user-data, meta-data ─▶ ISO 9660 with Joliet, label CIDATA
//!                                                            ▲ renewed for a copy of the machine ─┘
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
            meta_data: meta_data(instance, &hostname),
        })
    }

    /// The documents of a CD that [`Seed::image`] made; `None` of any other.
    #[must_use]
    pub fn read(image: &[u8]) -> Option<Self> {
        let mut files = iso::files(image)?;
        let mut take = |name: &str| {
            let at = files.iter().position(|(known, _)| known == name)?;
            String::from_utf8(files.swap_remove(at).1).ok()
        };
        Some(Self { user_data: take("user-data")?, meta_data: take("meta-data")? })
    }

    /// The same for a copy of the machine: an instance of its own, so that cloud-init acts once more and makes new ssh host keys,
    /// the host name of the copy's name, and a new machine-id. `None` when the user-data is not as this crate writes it.
    #[must_use]
    pub fn renewed(&self, name: &str, instance: &str) -> Option<Self> {
        let (user_data, hostname) = user_data::renewed(&self.user_data, name)?;
        Some(Self { user_data, meta_data: meta_data(instance, &hostname) })
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

fn meta_data(instance: &str, hostname: &str) -> String {
    format!("instance-id: {instance}\nlocal-hostname: {hostname}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copys_seed_is_an_instance_of_its_own_with_the_same_users() {
        let request: CloudInit = serde_json::from_str(
            r##"{"user": "ada", "password": "correct horse", "userData": "#cloud-config\nruncmd: [date]\n"}"##,
        )
        .unwrap();
        let first = Seed::new(&request, "web", "iid-1", &[]).unwrap();
        assert_eq!(Seed::read(&first.image()).as_ref(), Some(&first));
        let copy = first.renewed("Web two", "iid-2").unwrap();
        assert_eq!(copy.meta_data, "instance-id: iid-2\nlocal-hostname: web-two\n");
        let parsed = |seed: &Seed| -> serde_json::Value {
            serde_json::from_str(seed.user_data.split_once('\n').unwrap().1).unwrap()
        };
        let (old, new) = (parsed(&first), parsed(&copy));
        assert_eq!((&old["users"], &old["runcmd"]), (&new["users"], &new["runcmd"]));
        assert_eq!(new["hostname"], "web-two");
        assert_eq!(new["bootcmd"].as_array().unwrap().len(), 1);
        // A copy of the copy.
        let third = copy.renewed("third", "iid-3").unwrap();
        assert_eq!(parsed(&third)["bootcmd"], new["bootcmd"]);
        assert!(third.meta_data.contains("iid-3") && third.user_data.contains("\"third\""));
        assert!(Seed::read(b"seed").is_none());
        let foreign = Seed { user_data: "#!/bin/sh\n".to_owned(), meta_data: String::new() };
        assert!(foreign.renewed("a", "b").is_none());
    }
}
