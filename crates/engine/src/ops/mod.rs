//! What is done to machines: each operation as a future or a function that knows nothing of the driver's loop.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod files;
pub(crate) mod launch;
pub(crate) mod power;
pub(crate) mod recover;
pub(crate) mod update;
