//! Domain types and the contract of voidVM.
//!
//! What crosses to TypeScript, REST, the CLI or another process is defined here and nowhere else. No I/O, no async, no clock:
//! every type is plain data, and [`for_each_command`] is the only list of what the product can be asked to do.
//!
//! * [`spec`]: what a machine is (validated, versioned).
//! * [`vm`]: what a machine is doing (states, views, samples).
//! * [`operation`]: work that takes time, as rows that outlive a crash.
//! * [`image`], [`storage`], [`transfer`], [`guest_os`]: the library, pools and volumes, copies of machines, presets.
//! * [`snapshot`]: machine snapshots; [`group`]: those of several machines at one instant; [`schedule`]: those that nobody asks for.
//! * [`backup`]: backups in a folder.
//! * [`contract`]: the command list and its requests; [`event`]: what changes are announced.
//! * [`input`]: keys and pointer of a console.
//! * [`error`]: the closed set of error codes with their HTTP status and exit code.

pub mod backup;
pub mod contract;
pub mod error;
pub mod event;
pub mod group;
pub mod guest_os;
pub mod ids;
pub mod image;
pub mod input;
pub mod metrics;
pub mod operation;
pub mod schedule;
pub mod settings;
pub mod snapshot;
pub mod spec;
pub mod storage;
pub mod system;
pub mod transfer;
pub mod units;
pub mod vm;

pub use error::{ErrorBody, ErrorCode};
pub use event::{Event, EventEnvelope, Origin, StreamItem};
pub use ids::{
    DeviceId, GroupSnapshotId, ImageId, OperationId, PoolId, ScheduleId, ScheduleRunId, SecretId, SnapshotId,
    VmId,
};
pub use input::InputEvent;
pub use operation::{Operation, OperationKind, OperationResult, OperationStatus};
pub use settings::Settings;
pub use spec::MachineSpec;
pub use units::{Bytes, MiB, Percent};
pub use vm::{VmState, VmView};
