//! Against the real QEMU, qemu-img and OVMF; under TCG, so that they run anywhere.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test says so by failing, and says what it skips"
)]

mod accepted;
mod common;
mod guests;
mod images;
mod launch;
mod table;
