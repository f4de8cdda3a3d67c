//! A display without a machine, to measure the console with: `cargo run --release -p voidvm-console --example rfb_source -- PORT
//! [FOLDER]` serves `ws://127.0.0.1:PORT/console/PATTERN-WIDTHxHEIGHT` by the same session as a real one, and FOLDER's files.
//!
//! Patterns, each a new full frame as soon as one is asked for: `video` (every pixel changes, nothing repeats), `scroll` (a page
//! of text moves by a line); and `idle`, which changes a block of 16 × 16 pixels for each key that goes down. As a yardstick
//! `ws://127.0.0.1:PORT/plain/WIDTHxHEIGHT` sends full frames of four bytes a pixel, made beforehand, without any display behind.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a measuring tool run by developers"
)]

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::serve::ListenerExt as _;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use voidvm_console::ConsoleLine;
use voidvm_model::InputEvent;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(4190);
    let folder = arguments.next().unwrap_or_else(|| ".".to_owned());
    let app = Router::new()
        .route("/console/{what}", get(connect))
        .route("/plain/{size}", get(plain))
        .fallback(file)
        .with_state(folder);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    println!("http://127.0.0.1:{port}");
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await.unwrap();
}

async fn file(State(folder): State<String>, uri: axum::http::Uri) -> impl IntoResponse {
    let path = uri.path().trim_start_matches('/');
    if path.contains("..") {
        return StatusCode::NOT_FOUND.into_response();
    }
    let kind = match path.rsplit_once('.') {
        Some((_, "js")) => "text/javascript",
        Some((_, "css")) => "text/css",
        _ => "text/html",
    };
    match tokio::fs::read(format!("{folder}/{path}")).await {
        Ok(bytes) => ([(header::CONTENT_TYPE, kind)], bytes).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn connect(Path(what): Path<String>, upgrade: WebSocketUpgrade) -> impl IntoResponse {
    let (pattern, size) = what.split_once('-').unwrap();
    let (width, height) = size.split_once('x').unwrap();
    let source = Source {
        pattern: pattern.to_owned(),
        width: width.parse().unwrap(),
        height: height.parse().unwrap(),
    };
    upgrade.write_buffer_size(0).on_upgrade(async move |socket| carry(socket, source).await)
}

async fn plain(Path(size): Path<String>, upgrade: WebSocketUpgrade) -> impl IntoResponse {
    let (width, height) = size.split_once('x').unwrap();
    let source = Source {
        pattern: "video".to_owned(),
        width: width.parse().unwrap(),
        height: height.parse().unwrap(),
    };
    upgrade.write_buffer_size(0).on_upgrade(async move |mut socket| {
        let frames: Vec<Bytes> = (0..12)
            .map(|frame| {
                let mut pixels = source.frame(frame).split_off(16);
                pixels.iter_mut().skip(3).step_by(4).for_each(|alpha| *alpha = 255);
                pixels.into()
            })
            .collect();
        for (count, frame) in frames.iter().cycle().enumerate() {
            if count >= 2 && !matches!(socket.recv().await, Some(Ok(_))) {
                return;
            }
            if socket.send(Message::Binary(frame.clone())).await.is_err() {
                return;
            }
        }
    })
}

async fn carry(socket: WebSocket, source: Source) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (keys, input) = mpsc::channel(16);
    let display = tokio::spawn(async move { source.run(theirs, input).await });
    let ConsoleLine { mut to_viewer, from_viewer, .. } = ConsoleLine::screen(ours, keys);
    let (mut write, mut read) = socket.split();
    let hear = async {
        while let Some(Ok(message)) = read.next().await {
            if from_viewer.send(message.into_data().to_vec()).await.is_err() {
                break;
            }
        }
    };
    let tell = async {
        while let Some(bytes) = to_viewer.recv().await {
            if write.send(Message::Binary(bytes)).await.is_err() {
                break;
            }
        }
    };
    tokio::select! { () = hear => {}, () = tell => {} }
    display.abort();
}

struct Source {
    pattern: String,
    width: u16,
    height: u16,
}

impl Source {
    async fn run(self, mut stream: UnixStream, mut input: mpsc::Receiver<Vec<InputEvent>>) -> Option<()> {
        self.greet(&mut stream).await?;
        let (mut read, mut write) = stream.into_split();
        // As QEMU does: any number of requests is one.
        let (asked, mut asks) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut rest = [0; 19];
            loop {
                match read.read_u8().await.ok()? {
                    0 => read.read_exact(&mut rest).await.ok()?,
                    2 => {
                        read.read_u8().await.ok()?;
                        let count = read.read_u16().await.ok()?;
                        read.read_exact(&mut vec![0; usize::from(count) * 4]).await.ok()?
                    }
                    3 => {
                        let length = read.read_exact(&mut rest[..9]).await.ok()?;
                        let _ = asked.try_send(());
                        length
                    }
                    _ => return None::<()>,
                };
            }
        });
        let frames: Vec<Vec<u8>> = (0..12).map(|frame| self.frame(frame)).collect();
        asks.recv().await?;
        write.write_all(&frames[0]).await.ok()?;
        for count in 1_usize.. {
            if self.pattern == "idle" {
                let down = |event: &InputEvent| matches!(event, InputEvent::Key { down: true, .. });
                while !input.recv().await?.iter().any(down) {}
                asks.recv().await?;
                write
                    .write_all(&update(0, 0, 16, 16, |_, _| if count % 2 == 1 { 0x00ff_ffff } else { 0 }))
                    .await
                    .ok()?;
            } else {
                asks.recv().await?;
                while input.try_recv().is_ok() {}
                write.write_all(&frames[count % frames.len()]).await.ok()?;
            }
        }
        None
    }

    async fn greet(&self, stream: &mut UnixStream) -> Option<()> {
        stream.write_all(b"RFB 003.008\n").await.ok()?;
        stream.read_exact(&mut [0; 12]).await.ok()?;
        stream.write_all(&[1, 1]).await.ok()?;
        stream.read_u8().await.ok()?;
        stream.write_all(&[0; 4]).await.ok()?;
        stream.read_u8().await.ok()?;
        let mut hello = [self.width.to_be_bytes(), self.height.to_be_bytes()].concat();
        hello.extend([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
        stream.write_all(&hello).await.ok()
    }

    fn frame(&self, number: u32) -> Vec<u8> {
        let text = |x: u32, y: u32| {
            // Lines of 20 pixels with words of 8-pixel letters, as much ink as a page of text has.
            let (line, row, column) = (y / 20 + number, y % 20, x / 8);
            let letter = column.wrapping_mul(0x9e37_79b9) ^ line.wrapping_mul(0x85eb_ca6b);
            let ink = (4..16).contains(&row) && letter % 6 != 0 && (letter >> (x % 8 + row / 3)) & 3 == 0;
            if ink { 0x0022_2428 } else { 0x00f6_f6f8 }
        };
        match self.pattern.as_str() {
            "video" => update(0, 0, self.width, self.height, |x, y| {
                (x * 7 + number * 5) & 255
                    | ((y * 3 + number * 9) & 255) << 8
                    | ((x + y + number * 3) & 255) << 16
            }),
            _ => update(0, 0, self.width, self.height, text),
        }
    }
}

fn update(x: u16, y: u16, width: u16, height: u16, pixel: impl Fn(u32, u32) -> u32) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 1];
    bytes.extend([x, y, width, height].into_iter().flat_map(u16::to_be_bytes));
    bytes.extend([0; 4]);
    for row in 0..u32::from(height) {
        for column in 0..u32::from(width) {
            bytes.extend(pixel(column, row).to_le_bytes());
        }
    }
    bytes
}
