//! Identifiers as types of their own.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$meta:meta])* $name:ident, $new:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, TS)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new identifier that no other machine or run will have.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "a default identifier would be a constant")]
            pub fn new() -> Self {
                Self(Uuid::$new())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

uuid_id!(
    /// A machine. The same UUID is QEMU's `-uuid`, so a process can be told to be this machine's.
    VmId,
    new_v4
);
uuid_id!(
    /// An operation. Version 7: sorts by the time it was asked for.
    OperationId,
    now_v7
);

uuid_id!(
    /// An image of the library.
    ImageId,
    now_v7
);
uuid_id!(
    /// A storage pool.
    PoolId,
    now_v7
);
uuid_id!(
    /// A machine snapshot. Version 7: sorts by the time it was asked for.
    SnapshotId,
    now_v7
);
uuid_id!(
    /// A snapshot of a group of machines. Version 7: sorts by the time it was asked for.
    GroupSnapshotId,
    now_v7
);
uuid_id!(
    /// A schedule.
    ScheduleId,
    now_v7
);
uuid_id!(
    /// A run of a schedule. Version 7: sorts by time.
    ScheduleRunId,
    now_v7
);
uuid_id!(
    /// Names a secret in the keychain; says nothing of it.
    SecretId,
    new_v4
);

/// A device inside one machine (`disk0`, `nic0`); also its QEMU id.
///
/// Starts with a letter, then letters, digits, `-` or `_`; at most 31 bytes: QEMU's block nodes allow no more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, TS)]
#[serde(try_from = "String", into = "String")]
#[ts(type = "string")]
pub struct DeviceId(String);

/// Why a text is not a [`DeviceId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a device id: a letter, then letters, digits, - or _, 31 at most")]
pub struct DeviceIdError(String);

impl DeviceId {
    /// The id as QEMU gets it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DeviceId {
    type Error = DeviceIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut bytes = text.bytes();
        let fits = bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && text.len() <= 31;
        if fits { Ok(Self(text)) } else { Err(DeviceIdError(text)) }
    }
}

impl FromStr for DeviceId {
    type Err = DeviceIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.to_owned().try_into()
    }
}

impl From<DeviceId> for String {
    fn from(id: DeviceId) -> Self {
        id.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
