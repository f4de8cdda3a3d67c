//! Against the real QEMU, qemu-img and OVMF; under TCG, so that they run anywhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

mod accepted;
mod common;
mod images;
mod launch;
mod table;
