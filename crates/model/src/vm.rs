//! What a machine is doing: its state, and the view everybody is shown.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::error::ErrorBody;
use crate::ids::VmId;
use crate::operation::Operation;
use crate::spec::MachineSpec;
use crate::units::{Bytes, Percent};

/// The state of a machine, as observed; what was wished for is the operation beside it.
///
/// ```text
/// Stopped ─▶ Starting ─▶ Running ◀─▶ Paused
///    ▲          │          │  ▲
///    │          ▼          ▼  │(deadline)
///    ├───── Crashed     Stopping
///    └────────────────────┘
/// any live state ─▶ Unresponsive ─▶ (answers again) the state it reports
/// at start-up: Adopting ─▶ any;   Broken: cannot be started until mended
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum VmState {
    /// No process.
    Stopped,
    /// A process is being started and does not run the guest yet.
    Starting,
    /// The guest runs.
    Running,
    /// The guest is held; the process lives.
    Paused,
    /// The guest was asked to shut down and has not yet.
    Stopping,
    /// No process; memory and devices wait on disk.
    Suspended,
    /// The process ended though nobody asked it to.
    Crashed,
    /// The process lives and does not answer; it is never taken for stopped.
    Unresponsive,
    /// At start-up: found alive, being identified.
    Adopting,
    /// Cannot be started: a file is missing or the definition does not hold; `attention` says why.
    Broken,
}

impl VmState {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Stopped,
        Self::Starting,
        Self::Running,
        Self::Paused,
        Self::Stopping,
        Self::Suspended,
        Self::Crashed,
        Self::Unresponsive,
        Self::Adopting,
        Self::Broken,
    ];

    /// Whether a QEMU process is, or may be, alive in this state.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(
            self,
            Self::Starting
                | Self::Running
                | Self::Paused
                | Self::Stopping
                | Self::Unresponsive
                | Self::Adopting
        )
    }

    /// The wire form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Suspended => "suspended",
            Self::Crashed => "crashed",
            Self::Unresponsive => "unresponsive",
            Self::Adopting => "adopting",
            Self::Broken => "broken",
        }
    }
}

impl std::fmt::Display for VmState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A machine as everybody is shown it. Replaced as a whole; `generation` grows with every change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct VmView {
    /// Its id; QEMU's `-uuid`.
    pub id: VmId,
    /// Unique, for people.
    pub name: String,
    /// Free text.
    pub description: String,
    /// The guest's operating system as far as known (`linux`, `windows` …).
    pub os_type: Option<String>,
    /// Its hardware.
    pub spec: MachineSpec,
    /// What it is doing.
    pub state: VmState,
    /// Since when.
    #[ts(type = "string")]
    pub state_since: Timestamp,
    /// The operation at work on it now, or waiting.
    pub operation: Option<Operation>,
    /// Why it is in trouble, where it is.
    pub attention: Option<ErrorBody>,
    /// The run, while there is a process.
    pub run: Option<RunView>,
    /// Whether edits wait for the next start.
    pub restart_pending: bool,
    /// What the edits that wait are, field by field.
    pub pending: Vec<PendingChange>,
    /// How it is sorted, marked and started.
    pub meta: VmMeta,
    /// The machine whose disks this one stands on (a linked clone).
    pub parent: Option<VmId>,
    /// Whether it is removed when it stops: it was made of a snapshot to be thrown away.
    pub passing: bool,
    /// When it was defined.
    #[ts(type = "string")]
    pub created_at: Timestamp,
    /// When its definition last changed.
    #[ts(type = "string")]
    pub updated_at: Timestamp,
    /// Grows with each change of this view; the larger one is the newer.
    #[ts(type = "number")]
    pub generation: u64,
}

/// An edit that waits for the next start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct PendingChange {
    /// Path of the field in the specification, `memory`, `disks.disk0.bus`.
    pub field: String,
    /// What the run has, as text; none where it has no such thing.
    pub running: Option<String>,
    /// What the next start will have.
    pub next: Option<String>,
    /// Why the running guest was not given it, where that was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub problem: Option<ErrorBody>,
}

/// What a machine is sorted, marked and started by; nothing a guest sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VmMeta {
    /// Words it can be found by; each at most 40 characters, 20 at most.
    pub tags: Vec<String>,
    /// The group it stands in.
    pub group: Option<String>,
    /// Whether it comes first.
    pub favourite: bool,
    /// Colour of its icon, one of [`COLORS`].
    pub color: Option<String>,
    /// Whether it is a template: copied, never started.
    pub template: bool,
    /// Whether and when it starts with the engine.
    pub autostart: Option<Autostart>,
}

/// The colours a machine's icon can have.
pub const COLORS: [&str; 8] = ["grey", "red", "orange", "yellow", "green", "teal", "blue", "purple"];

/// A start with the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Autostart {
    /// Lower ones first; stopped in the opposite order.
    pub order: u16,
    /// Seconds to wait after this one before the next, 0 to 3600.
    pub delay_seconds: u32,
}

/// A live QEMU process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct RunView {
    /// Its process id.
    pub pid: u32,
    /// When the process was started; the same after an adoption.
    #[ts(type = "string")]
    pub started_at: Timestamp,
    /// QEMU's version, `7.2.22`.
    pub qemu_version: String,
    /// The acceleration in use.
    pub accel: ActiveAccel,
    /// Whether this voidVM found it running rather than started it.
    pub adopted: bool,
    /// Whether what the guest writes is thrown away when it stops.
    pub disposable: bool,
    /// The hardware it has; differs from the machine's while edits wait for the next start.
    pub spec: MachineSpec,
}

/// The acceleration a process really uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum ActiveAccel {
    /// The processor's own virtualisation.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

/// One reading of a machine's use of the host. `None`: cannot be known; never invented.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct VmSample {
    /// When it was read.
    #[ts(type = "string")]
    pub at: Timestamp,
    /// CPU time of the process since the reading before, of all its virtual CPUs.
    pub cpu: Option<Percent>,
    /// Host memory resident in the process.
    pub memory_resident: Option<Bytes>,
    /// Memory the guest says it uses (balloon statistics).
    pub memory_used: Option<Bytes>,
    /// Bytes read per second from all disks.
    pub disk_read: Option<Bytes>,
    /// Bytes written per second to all disks.
    pub disk_write: Option<Bytes>,
    /// Reads per second from all disks.
    pub disk_read_ops: Option<f32>,
    /// Writes per second to all disks.
    pub disk_write_ops: Option<f32>,
    /// Milliseconds a read took, on average since the reading before.
    pub disk_read_latency: Option<f32>,
    /// Milliseconds a write took, on average since the reading before.
    pub disk_write_latency: Option<f32>,
    /// Bytes per second into the guest (guest agent).
    pub network_in: Option<Bytes>,
    /// Bytes per second out of the guest (guest agent).
    pub network_out: Option<Bytes>,
}

/// An address the guest has, as its agent reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct GuestAddress {
    /// The guest's name of the interface.
    pub interface: String,
    /// IPv4 or IPv6 address.
    pub address: String,
}

/// What is known from inside the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct GuestInfo {
    /// Whether the guest agent answered.
    pub agent: bool,
    /// The guest's host name.
    pub hostname: Option<String>,
    /// The guest's operating system, in its own words.
    pub os: Option<String>,
    /// Its addresses, loopback left out.
    pub addresses: Vec<GuestAddress>,
}
