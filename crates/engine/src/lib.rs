//! The engine: machines that run, whoever looks on.
//!
//! One task owns each machine ([`supervisor`]); everybody else sends it requests or watches its view. What takes time is an
//! operation, a row before it acts. What changes is announced on one ordered [`EventBus`]. Machines outlive the engine, and the
//! next one adopts them.
//!
//! ```text
//! Engine ─▶ fleet ─▶ supervisor (policy, driver) ─▶ ops ─▶ QEMU
//!             │           │ view                 ledger ─▶ store
//!             │           ▼                        │
//!             └──────▶ watch value ─▶ bus ◀────────┘
//! ```
//! What is absent: SQL, arguments of QEMU, pixels of a console, and any face of the product.

mod backup;
mod bus;
mod config;
mod disposable;
mod engine;
mod fleet;
mod gate;
mod guest;
mod history;
mod hotplug;
mod images;
mod keyboard;
mod ledger;
mod logs;
mod meter;
mod ops;
mod pending;
mod picture;
mod platform;
mod run;
mod schedule;
mod screen;
mod secrets;
mod serial;
mod shared;
mod snapshot;
mod stats;
mod step;
mod storage;
pub mod supervisor;
mod suspend;
mod thumbnail;
mod usb;

pub use bus::{EventBus, REPLAY};
pub use config::{EngineConfig, Preferences, Timing};
pub use engine::Engine;
pub use schedule::{
    KeptId, Pulse, ScheduledMachine, Scheduler, Snapshots, SystemClock, TakenSnapshot, WallClock,
    WantedSnapshot,
};
pub use secrets::{SecretFiles, Secrets};
pub use serial::{SERIAL_REPLAY, SerialAttach, SerialInput, SerialOutput};
pub use storage::Storage;
