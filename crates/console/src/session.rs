//! One connection to a machine's display: vnc-rs decodes, this keeps the screen and what has changed of it.
//!
//! ```text
//! open ─▶ (advance | ask)* ─▶ an error: final; open another
//! ```
//! Invariants: one task owns it (vnc-rs holds a lock while it waits for an event, so a second task would hang); `ask` is called
//! when the viewer has room, so QEMU itself merges what happens while it has none.

use std::time::Duration;

use tokio::net::UnixStream;
use vnc::{PixelFormat, VncClient, VncConnector, VncEncoding, VncError, VncEvent, X11Event};

use crate::error::ConsoleError;
use crate::framebuffer::{Framebuffer, OutsideError, Rect};
use crate::region::Region;

/// How long the display has for its greeting.
const GREETING: Duration = Duration::from_secs(5);

/// The most events applied before others get their turn.
const BATCH: usize = 64;

/// The guest's pointer.
#[derive(Debug, Clone)]
pub struct Cursor {
    /// Its size, and as `x` and `y` the pixel that points.
    pub shape: Rect,
    /// Pixels as bytes B, G, R, A.
    pub bgra: Vec<u8>,
}

/// A screen that is being watched.
pub struct Session {
    client: VncClient,
    screen: Framebuffer,
    damage: Region,
    cursor: Option<Cursor>,
    resized: bool,
    asked: bool,
}

impl Session {
    /// Greets the display at the other end of `stream`.
    ///
    /// # Errors
    /// When it does not answer within five seconds, or not as a display.
    pub async fn open(stream: UnixStream) -> Result<Self, ConsoleError> {
        Self::open_within(stream, GREETING).await
    }

    /// [`Self::open`] with a deadline of one's own.
    ///
    /// # Errors
    /// When it does not answer before the deadline, or not as a display.
    pub async fn open_within(stream: UnixStream, deadline: Duration) -> Result<Self, ConsoleError> {
        type NoPassword = std::future::Ready<Result<String, VncError>>;
        let connect = VncConnector::<_, NoPassword>::new(stream)
            // QEMU's own format: it copies then instead of converting.
            .set_pixel_format(PixelFormat::bgra())
            .allow_shared(true)
            // Over a socketpair the bytes are free and packing them is not.
            .add_encoding(VncEncoding::Raw)
            .add_encoding(VncEncoding::CopyRect)
            .add_encoding(VncEncoding::CursorPseudo)
            .add_encoding(VncEncoding::DesktopSizePseudo)
            .add_encoding(VncEncoding::LastRectPseudo)
            .build()
            .map_err(ConsoleError::Greeting)?
            .try_start();
        let client = tokio::time::timeout(deadline, connect)
            .await
            .map_err(|_| ConsoleError::Mute)?
            .and_then(vnc::client::connector::VncState::finish)
            .map_err(greeting)?;
        Ok(Self {
            client,
            screen: Framebuffer::default(),
            damage: Region::default(),
            cursor: None,
            resized: false,
            // vnc-rs asks for the first picture by itself.
            asked: true,
        })
    }

    /// The screen as it is now.
    #[must_use]
    pub const fn screen(&self) -> &Framebuffer {
        &self.screen
    }

    /// Waits for something to happen and takes it over. Cancelling it loses nothing.
    ///
    /// # Errors
    /// When the display is gone or sends what cannot be shown; the session is over then.
    pub async fn advance(&mut self) -> Result<(), ConsoleError> {
        let mut event = self.client.recv_event().await.map_err(|_| ConsoleError::Closed)?;
        for _ in 0..BATCH {
            self.apply(event)?;
            match self.client.poll_event().await {
                Ok(Some(next)) => event = next,
                // The end, when it is one, is what the next wait finds.
                Ok(None) | Err(_) => break,
            }
        }
        Ok(())
    }

    /// Whether what happens next was asked for and has not come yet.
    #[must_use]
    pub const fn is_asked(&self) -> bool {
        self.asked
    }

    /// Asks for what will have changed. Without it, nothing comes.
    ///
    /// # Errors
    /// When the display is gone.
    pub async fn ask(&mut self) -> Result<(), ConsoleError> {
        self.asked = true;
        self.client.input(X11Event::Refresh).await.map_err(|_| ConsoleError::Closed)
    }

    /// The new size of the screen, once after it has changed.
    pub fn take_resize(&mut self) -> Option<(u16, u16)> {
        std::mem::take(&mut self.resized).then(|| self.screen.size())
    }

    /// The guest's pointer, once after it has changed.
    pub fn take_cursor(&mut self) -> Option<Cursor> {
        self.cursor.take()
    }

    /// Whether something of the screen has changed.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        !self.damage.is_empty()
    }

    /// What has changed, once.
    pub fn take_damage(&mut self) -> Vec<Rect> {
        self.damage.take()
    }

    fn apply(&mut self, event: VncEvent) -> Result<(), ConsoleError> {
        match event {
            VncEvent::SetResolution(size) => {
                self.screen = Framebuffer::new(size.width, size.height);
                self.damage.clear();
                self.resized = true;
                self.asked = false;
            }
            VncEvent::RawImage(at, bgrx) => {
                let rect = rect(at);
                self.screen.put(rect, &bgrx).map_err(outside)?;
                self.damage.add(rect);
                self.asked = false;
            }
            VncEvent::Copy(to, from) => {
                self.screen.copy(rect(to), rect(from)).map_err(outside)?;
                self.damage.add(rect(to));
                self.asked = false;
            }
            VncEvent::SetCursor(at, bgra) => {
                let shape = rect(at);
                // An empty one arrives without pixels: the guest hides its pointer.
                let shape = if bgra.is_empty() { Rect { width: 0, height: 0, ..shape } } else { shape };
                self.cursor = Some(Cursor { shape, bgra });
                self.asked = false;
            }
            VncEvent::Error(reason) => return Err(ConsoleError::Undecodable(reason)),
            // A bell, the clipboard of a guest without our agent, and events of encodings that were not asked for.
            _ => {}
        }
        Ok(())
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("size", &self.screen.size())
            .field("asked", &self.asked)
            .finish_non_exhaustive()
    }
}

const fn rect(rect: vnc::Rect) -> Rect {
    Rect { x: rect.x, y: rect.y, width: rect.width, height: rect.height }
}

fn outside(error: OutsideError) -> ConsoleError {
    ConsoleError::Undecodable(error.to_string())
}

fn greeting(error: VncError) -> ConsoleError {
    match error {
        VncError::InvalidImageData => ConsoleError::Undecodable("a screen of that size".to_owned()),
        other => ConsoleError::Greeting(other),
    }
}
