//! Against the real QEMU, qemu-img and OVMF; under TCG, so that they run anywhere.

mod common;
mod images;
mod launch;
