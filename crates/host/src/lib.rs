//! Composition root: configuration, ownership of the data directory, and a handler for each command of the contract.
//!
//! [`Access::open`] is the way in for every face of the product. It either becomes the owner of the data directory
//! ([`Host`]: store, engine, settings, token) or a client of the process that is ([`RemoteClient`]); both run the same
//! commands, give the same events and open the same consoles. No face does anything but call.
//!
//! ```text
//! Config ─▶ Access ─┬─ Owner(Host) ── dispatch ── Handlers ── engine, store, qemu
//!                   └─ Client(RemoteClient) ── unix socket ── the owner's server
//! ```

pub mod access;
pub mod config;
pub mod console;
pub mod defaults;
pub mod directories;
pub mod doctor;
pub mod environment;
pub mod files;
pub mod handlers;
pub mod host;
pub mod logging;
pub mod owner;
pub mod payload;
pub mod redact;
pub mod remote;
mod secrets;
pub mod token;

pub use access::Access;
pub use config::{Config, Overrides};
pub use handlers::{Caller, Handlers, dispatch};
pub use host::Host;
pub use remote::RemoteClient;
