//! What changes are announced, in one ordered stream.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::ids::VmId;
use crate::operation::Operation;
use crate::vm::VmView;

/// Through which face of the product something was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The desktop window.
    Desktop,
    /// A browser or program on the local API.
    Rest,
    /// The `voidvm` command.
    Cli,
    /// voidVM itself (adoption, the guest's own doing).
    System,
}

impl Origin {
    /// Every origin.
    pub const ALL: [Self; 4] = [Self::Desktop, Self::Rest, Self::Cli, Self::System];

    /// The wire form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Desktop => "desktop",
            Self::Rest => "rest",
            Self::Cli => "cli",
            Self::System => "system",
        }
    }
}

/// A change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Event {
    /// A machine is new or looks different.
    VmChanged {
        /// The whole of it.
        vm: Box<VmView>,
    },
    /// A machine is gone.
    VmRemoved {
        /// Which.
        id: VmId,
    },
    /// An operation is new, went on, or ended.
    OperationChanged {
        /// The whole of it.
        operation: Box<Operation>,
    },
    /// The library's images are different.
    ImagesChanged,
    /// Pools or volumes are different.
    StorageChanged,
    /// A machine's snapshots are different.
    SnapshotsChanged {
        /// Which machine's.
        vm_id: VmId,
    },
    /// Schedules are different, or one of them began or ended a run.
    SchedulesChanged,
    /// Settings are different.
    SettingsChanged,
}

impl Event {
    /// Names of the queries whose answers this event makes stale.
    #[must_use]
    pub const fn stale_queries(&self) -> &'static [&'static str] {
        match self {
            Self::VmChanged { .. } | Self::VmRemoved { .. } => {
                &["vm.list", "vm.get", "vm.command", "vm.files", "group.list", "system.stats"]
            }
            Self::OperationChanged { .. } => &["operation.list", "operation.get"],
            Self::ImagesChanged => &["image.list", "image.get", "image.catalogue", "volume.list"],
            Self::StorageChanged => &["pool.list", "volume.list", "vm.files", "system.stats"],
            Self::SnapshotsChanged { .. } => &[
                "snapshot.list",
                "snapshot.compare",
                "snapshot.picture",
                "group.list",
                "group.snapshot.list",
                "vm.files",
                "volume.list",
            ],
            Self::SchedulesChanged => &["schedule.list", "schedule.get", "schedule.runs", "schedule.preview"],
            Self::SettingsChanged => &["settings.get", "system.doctor", "system.defaults"],
        }
    }
}

/// A change with its place in the order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct EventEnvelope {
    /// Its number; one more than the event before. Starts anew, from a random number, with each owner process.
    #[ts(type = "number")]
    pub seq: u64,
    /// When it happened.
    #[ts(type = "string")]
    pub at: Timestamp,
    /// Who caused it.
    pub origin: Origin,
    /// What changed.
    pub event: Event,
}

/// What a subscriber receives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(tag = "item", rename_all = "snake_case")]
pub enum StreamItem {
    /// The next event.
    Event(EventEnvelope),
    /// Events were missed and cannot be replayed: ask for everything anew; the stream goes on after `seq`.
    Resync {
        /// The newest number that the fresh answers include.
        #[ts(type = "number")]
        seq: u64,
    },
}
