//! The engine's faces over sockets: REST, events and consoles on the local API, the same on the owner's unix socket, and the
//! surface's files. It decides who may ask ([`guard`]) and how answers look ([`envelope`]); what is answered is the host's.
//!
//! * [`OwnerSocket`]: always there; for this user's other processes. No token: the kernel says who connects.
//! * [`LocalApi`]: a loopback port, when wanted; token or session, Host and Origin checked, requests counted.
//! * [`ConsoleListener`]: a loopback port for the desktop window's consoles, open only while one is.
//!
//! QEMU never listens, and nothing here listens on anything but loopback.

mod console;
mod envelope;
mod events;
mod guard;
mod listen;
mod rest;
mod router;
mod session;
mod throttle;
mod ui;

pub use console::ConsoleListener;
pub use listen::{LocalApi, OwnerSocket};
