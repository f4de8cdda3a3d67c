//! QEMU driven directly, as an ordinary program: no shell, no library of its own, no listening port.
//!
//! Everything that knows how QEMU, `qemu-img`, its monitor or its firmware behave is here; what a machine *should* be doing
//! is the engine's. Nothing in this crate keeps state beyond one process or one socket.
//!
//! * [`args`]: a specification as an argument list; pure.
//! * [`process`]: start, describe, find again and signal one QEMU process.
//! * [`companion`]: the programs beside it (TPM, folders, networks).
//! * [`qmp`]: the monitor's protocol over a unix socket; [`agent`]: the guest agent's.
//! * [`probe`]: which QEMU this is and whether KVM really works; [`firmware`]: OVMF.
//! * [`image`]: look at, make, copy, grow and check disk images; [`nbd`]: read and write them at offsets.
//! * [`keys`]: key names and how a text is typed; [`secret`]: the keys of disks.
//!
//! ```text
//! args ─▶ process::spawn ─▶ qmp::connect ─▶ (engine) ─▶ ProcessHandle::wait_exit
//!                 │ run.json                    ▲
//!                 └──── the app ends ──▶ process::identify
//! ```

pub mod agent;
pub mod args;
pub mod companion;
mod failure;
pub mod firmware;
pub mod image;
pub mod keys;
pub mod nbd;
pub mod probe;
pub mod process;
pub mod qmp;
pub mod secret;
mod tool;
