//! What is done to machines: each operation as a future or a function that knows nothing of the driver's loop.

mod archive;
pub(crate) mod build;
pub(crate) mod clone;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod export;
pub(crate) mod family;
pub(crate) mod files;
pub(crate) mod import;
pub(crate) mod launch;
pub(crate) mod login;
pub(crate) mod outfit;
mod ovf;
pub(crate) mod power;
pub(crate) mod recover;
pub(crate) mod update;
