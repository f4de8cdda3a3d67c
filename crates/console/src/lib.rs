//! A machine's console, between QEMU's display and whoever looks at it. It knows neither the engine nor a server.
//!
//! ```text
//! QEMU ═ socketpair (RFB) ═▶ Session ── Framebuffer + Region ──▶ drive ── wire messages ──▶ viewer's canvas
//!  ▲                                                               │  ▲
//!  └────────── QMP input-send-event ◀── engine ◀── InputEvents ────┘  └── "drawn", input
//! ```
//!
//! * Each viewer has a [`Session`] of its own on a socketpair of its own, so viewers cannot disturb one another.
//! * The newest state wins: at most two pictures are under way to a viewer; what changes meanwhile is merged into a bounded
//!   [`Region`] and read from the framebuffer when there is room. Memory does not grow with a slow viewer.
//! * A session ends once: the connection is closed, the viewer asks for a new one.
//! * Keys and pointer do not go over RFB: they are physical keys and absolute positions for QMP, so no keymap is anywhere.

mod drive;
mod error;
mod framebuffer;
mod held;
mod line;
mod region;
mod session;
pub mod ticket;
pub mod wire;

pub use drive::drive;
pub use error::ConsoleError;
pub use framebuffer::{Framebuffer, Rect};
pub use line::{ConsoleEnd, ConsoleLine};
pub use region::Region;
pub use session::{Cursor, Session};
