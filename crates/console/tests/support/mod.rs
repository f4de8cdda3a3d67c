//! The other end of a console: a display that says what the test tells it to, and a viewer that draws.
#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use voidvm_console::ConsoleLine;
use voidvm_model::ErrorBody;
use voidvm_model::input::{InputEvent, ViewerMessage};

/// Everything here answers well within this.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("within the deadline")
}

/// A display.
pub(crate) struct Display {
    pub(crate) stream: UnixStream,
}

impl Display {
    /// Greets as RFB 3.8 without a password, with a screen of this size, and reads what the client wants.
    pub(crate) async fn greet(mut stream: UnixStream, width: u16, height: u16) -> Self {
        stream.write_all(b"RFB 003.008\n").await.unwrap();
        let mut version = [0; 12];
        stream.read_exact(&mut version).await.unwrap();
        stream.write_all(&[1, 1]).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 1);
        stream.write_all(&[0; 4]).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 1, "shared");
        let mut hello = Vec::new();
        hello.extend(width.to_be_bytes());
        hello.extend(height.to_be_bytes());
        hello.extend([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]);
        hello.extend(4_u32.to_be_bytes());
        hello.extend(b"test");
        stream.write_all(&hello).await.unwrap();
        Self { stream }
    }

    /// Reads client messages up to the next request for an update; true when it is an incremental one.
    pub(crate) async fn request(&mut self) -> bool {
        loop {
            match self.stream.read_u8().await.unwrap() {
                0 => self.skip(19).await,
                2 => {
                    self.skip(1).await;
                    let count = self.stream.read_u16().await.unwrap();
                    self.skip(usize::from(count) * 4).await;
                }
                3 => {
                    let incremental = self.stream.read_u8().await.unwrap();
                    self.skip(8).await;
                    return incremental == 1;
                }
                other => panic!("client message {other}"),
            }
        }
    }

    async fn skip(&mut self, count: usize) {
        let mut rest = vec![0; count];
        self.stream.read_exact(&mut rest).await.unwrap();
    }

    /// One update of these rectangles.
    pub(crate) async fn update(&mut self, rects: &[Vec<u8>]) {
        let mut message = vec![0, 0];
        message.extend(u16::try_from(rects.len()).unwrap().to_be_bytes());
        message.extend(rects.concat());
        self.stream.write_all(&message).await.unwrap();
    }
}

fn head(x: u16, y: u16, width: u16, height: u16, encoding: i32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in [x, y, width, height] {
        bytes.extend(value.to_be_bytes());
    }
    bytes.extend(encoding.to_be_bytes());
    bytes
}

/// A rectangle of one colour, `0xRRGGBB`.
pub(crate) fn flat(x: u16, y: u16, width: u16, height: u16, colour: u32) -> Vec<u8> {
    raw(x, y, width, height, &vec![colour; usize::from(width) * usize::from(height)])
}

pub(crate) fn raw(x: u16, y: u16, width: u16, height: u16, pixels: &[u32]) -> Vec<u8> {
    let mut bytes = head(x, y, width, height, 0);
    bytes.extend(pixels.iter().flat_map(|pixel| pixel.to_le_bytes()));
    bytes
}

pub(crate) fn copy(to: (u16, u16), from: (u16, u16), width: u16, height: u16) -> Vec<u8> {
    let mut bytes = head(to.0, to.1, width, height, 1);
    bytes.extend(from.0.to_be_bytes());
    bytes.extend(from.1.to_be_bytes());
    bytes
}

pub(crate) fn resize(width: u16, height: u16) -> Vec<u8> {
    head(0, 0, width, height, -223)
}

/// A pointer of one colour whose first pixel alone can be seen.
pub(crate) fn cursor(hot: (u16, u16), width: u16, height: u16, colour: u32) -> Vec<u8> {
    let mut bytes = head(hot.0, hot.1, width, height, -239);
    bytes.extend(colour.to_le_bytes().repeat(usize::from(width) * usize::from(height)));
    let mut mask = vec![0; usize::from(width).div_ceil(8) * usize::from(height)];
    if let Some(first) = mask.first_mut() {
        *first = 0x80;
    }
    bytes.extend(mask);
    bytes
}

/// A viewer with its connection.
pub(crate) struct Viewer {
    pub(crate) line: ConsoleLine,
    pub(crate) input: mpsc::Receiver<Vec<InputEvent>>,
}

impl Viewer {
    /// A viewer, and the end of its connection where the display is.
    pub(crate) fn open() -> (Self, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (events, input) = mpsc::channel(1);
        (Self { line: ConsoleLine::screen(ours, events), input }, theirs)
    }

    pub(crate) async fn next(&mut self) -> Vec<u32> {
        let message = within(self.line.to_viewer.recv()).await.expect("a message");
        message.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
    }

    pub(crate) async fn say(&self, message: &ViewerMessage) {
        self.say_text(serde_json::to_string(message).unwrap()).await;
    }

    pub(crate) async fn say_text(&self, text: impl Into<String>) {
        within(self.line.from_viewer.send(text.into().into_bytes())).await.unwrap();
    }

    /// Waits for it to end by itself.
    pub(crate) async fn ended(&mut self) -> ErrorBody {
        within(&mut self.line.ended).await.unwrap().unwrap_err()
    }
}

/// A canvas: what the wire's description says, written down once more.
#[derive(Default)]
pub(crate) struct Canvas {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) pixels: Vec<u32>,
}

impl Canvas {
    pub(crate) fn draw(&mut self, words: &[u32]) {
        let halves = |word: u32| ((word & 0xffff) as usize, (word >> 16) as usize);
        match words[0] {
            1 => {
                (self.width, self.height) = halves(words[1]);
                self.pixels = vec![0; self.width * self.height];
            }
            2 => {
                let mut at = 2;
                for _ in 0..words[1] {
                    let ((x, y), (width, height)) = (halves(words[at]), halves(words[at + 1]));
                    let length = words[at + 2] as usize;
                    let pixels = decode(&words[at + 3..at + 3 + length], width);
                    assert_eq!(pixels.len(), width * height);
                    for (row, source) in pixels.chunks(width).enumerate() {
                        let start = (y + row) * self.width + x;
                        self.pixels[start..start + width].copy_from_slice(source);
                    }
                    at += 3 + length;
                }
                assert_eq!(at, words.len());
            }
            other => panic!("no picture: {other}"),
        }
    }
}

fn decode(words: &[u32], width: usize) -> Vec<u32> {
    let mut pixels = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let (kind, count) = (words[at] >> 30, (words[at] & 0x3fff_ffff) as usize);
        at += 1;
        match kind {
            0 => {
                let length = (count * 3).div_ceil(4);
                let bytes: Vec<u8> =
                    words[at..at + length].iter().flat_map(|word| word.to_le_bytes()).collect();
                pixels.extend(
                    bytes.chunks_exact(3).take(count).map(|b| u32::from_le_bytes([b[0], b[1], b[2], 255])),
                );
                at += length;
            }
            1 => {
                pixels.extend(std::iter::repeat_n(words[at], count));
                at += 1;
            }
            2 => (0..count).for_each(|_| pixels.push(pixels[pixels.len() - width])),
            other => panic!("piece {other}"),
        }
    }
    pixels
}
