//! What tests share: a QEMU that is not one and can be told to misbehave, directories that go away again, small disks that
//! fill up, a user's home to run `voidvm` in, programs of this workspace built on demand, waiting on values with a
//! deadline, and a web server that fails as it is told.
//!
//! For tests only: failures panic with what was seen.
#![expect(clippy::expect_used, clippy::panic, reason = "a test's helper fails by panicking, with the reason")]

pub mod client;
pub mod clock;
pub mod disk;
pub mod fake;
pub mod guest;
pub mod home;
pub mod host;
pub mod plan;
pub mod port;
pub mod program;
pub mod wait;
pub mod web;

pub use client::Client;
pub use clock::ManualClock;
pub use disk::SmallDisk;
pub use fake::FakeQemu;
pub use home::{Home, Serve};
pub use plan::Plan;
pub use wait::{wait_until, wait_until_async};
pub use web::Web;
