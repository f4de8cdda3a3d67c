//! Composition root.

pub mod config;
pub mod directories;
pub mod environment;
pub mod handlers;
pub mod logging;
pub mod owner;
pub mod payload;
pub mod redact;
pub mod tickets;
pub mod token;
