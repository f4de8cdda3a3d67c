//! The argument builder: golden lists, and the proof that no input adds an option of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

mod common;
mod golden;
mod property;
