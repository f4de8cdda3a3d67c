//! The tray: its icon, and the small process that stays when the window is closed.
//!
//! A window costs some 200 MB for as long as its process lives, even when it is closed: WebKit stays loaded. So closing to
//! the tray is a change of process. The window's process hands the engine over and ends; `voidvm-tray`, which links no
//! toolkit, takes its place until the window is wanted again.
//!
//! ```text
//! voidvm-desktop (window, icon, engine) ──close to the tray──► voidvm-tray (icon, engine)
//!            ▲                                                        │
//!            └───────────── "Open voidVM", or the app started again ──┘
//! ```
//! Invariants: an operation in work is never cut short by the change: who leaves waits for it, and the other is its client
//! meanwhile. One of the two has the icon. Machines notice nothing.

pub mod engine;
pub mod icon;
pub mod instance;
pub mod notice;
pub mod program;
pub mod watch;
pub mod words;

pub use engine::{Engine, Events};
pub use icon::{Icon, Wish};
pub use words::Tongue;

/// The app's name on the desktop: icon, notices, session bus.
pub const APP_ID: &str = "org.voidvm.desktop";
