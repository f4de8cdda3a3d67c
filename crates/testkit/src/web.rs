//! A web server that can be told to misbehave: to cut, to stall, to send something else.
//!
//! It speaks as much HTTP/1.1 as a download needs: GET, ranges with `If-Range`, one answer per connection.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What goes wrong with one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The line is cut after so many bytes of the body.
    Cut(usize),
    /// After so many bytes of the body nothing more comes, and the line stays open.
    Stall(usize),
    /// Another status, without the file.
    Status(u16),
    /// A web page with status 200, as captive portals send.
    WebPage,
    /// A web page that says it is bytes.
    DisguisedWebPage,
    /// Go elsewhere.
    Redirect(String),
    /// More is announced than sent.
    AnnounceMore(usize),
    /// The whole file, whatever range was asked for.
    IgnoreRange,
    /// 416, whatever range was asked for.
    RefuseRange,
    /// A range that is not the one asked for.
    WrongRange,
    /// In pieces of so many bytes, with this pause between them.
    Slow(usize, Duration),
}

/// What is at a path.
#[derive(Clone, Debug, Default)]
pub struct Page {
    body: Arc<Vec<u8>>,
    etag: Option<String>,
    /// Of the next answers, one each.
    faults: VecDeque<Fault>,
    /// Of every answer after those.
    always: Option<Fault>,
}

impl Page {
    /// A file, with an ETag made of its content.
    #[must_use]
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        let body: Vec<u8> = body.into();
        let sum = body
            .iter()
            .fold(body.len() as u64, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
        Self { etag: Some(format!("\"{sum:x}\"")), body: Arc::new(body), ..Self::default() }
    }

    /// Without an ETag.
    #[must_use]
    pub fn nameless(mut self) -> Self {
        self.etag = None;
        self
    }

    /// What goes wrong with the next answers, one each.
    #[must_use]
    pub fn then(mut self, faults: impl IntoIterator<Item = Fault>) -> Self {
        self.faults.extend(faults);
        self
    }

    /// What goes wrong with every answer after those.
    #[must_use]
    pub fn always(mut self, fault: Fault) -> Self {
        self.always = Some(fault);
        self
    }
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The path.
    pub path: String,
    /// Its `Range`.
    pub range: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    pages: HashMap<String, Page>,
    asked: Vec<Asked>,
}

/// The server; ends when dropped.
#[derive(Debug)]
pub struct Web {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Web {
    /// A server without pages, on a port of its own.
    ///
    /// # Panics
    /// When no port can be had.
    #[must_use]
    pub fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::<Mutex<State>>::default();
        let weak = Arc::downgrade(&state);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let Some(state) = weak.upgrade() else { return };
                std::thread::spawn(move || {
                    let _ = answer(&connection, &state);
                });
            }
        });
        Self { address, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something at a path.
    pub fn put(&self, path: &str, page: Page) {
        self.state().pages.insert(path.to_owned(), page);
    }

    /// The address of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What was asked for, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }
}

impl Default for Web {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.state = Arc::default();
        // Wakes the listener, which sees that nobody is left.
        let _ = TcpStream::connect(self.address);
    }
}

struct Request {
    path: String,
    range: Option<String>,
    if_range: Option<String>,
}

fn read(connection: &TcpStream) -> std::io::Result<Option<Request>> {
    let mut lines = BufReader::new(connection).lines();
    let Some(first) = lines.next().transpose()? else { return Ok(None) };
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut range, mut if_range) = (None, None);
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            match name.to_ascii_lowercase().as_str() {
                "range" => range = Some(value.trim().to_owned()),
                "if-range" => if_range = Some(value.trim().to_owned()),
                _ => {}
            }
        }
    }
    Ok(Some(Request { path, range, if_range }))
}

fn answer(mut connection: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let Some(request) = read(connection)? else { return Ok(()) };
    let found = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.asked.push(Asked { path: request.path.clone(), range: request.range.clone() });
        state.pages.get_mut(&request.path).map(|page| {
            let fault = page.faults.pop_front().or_else(|| page.always.clone());
            (page.clone(), fault)
        })
    };
    let Some((page, fault)) = found else { return head(connection, "404 Not Found", 0, &[]) };
    let all = page.body.len();
    let start = request.range.as_deref().and_then(|range| {
        let start: usize = range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()?;
        let same = request.if_range.is_none() || request.if_range == page.etag;
        same.then_some(start)
    });
    let mut headers: Vec<String> = page.etag.iter().map(|etag| format!("ETag: {etag}")).collect();
    headers.push("Accept-Ranges: bytes".to_owned());
    match &fault {
        Some(Fault::Status(status)) => return head(connection, &format!("{status} As Told"), 0, &[]),
        Some(Fault::Redirect(to)) => return head(connection, "302 Found", 0, &[format!("Location: {to}")]),
        Some(Fault::RefuseRange) if start.is_some() => {
            return head(
                connection,
                "416 Range Not Satisfiable",
                0,
                &[format!("Content-Range: bytes */{all}")],
            );
        }
        Some(kind @ (Fault::WebPage | Fault::DisguisedWebPage)) => {
            let page = b"<!DOCTYPE html><html><body>Please log in</body></html>";
            let kind =
                if *kind == Fault::WebPage { "text/html; charset=utf-8" } else { "application/octet-stream" };
            head(connection, "200 OK", page.len(), &[format!("Content-Type: {kind}")])?;
            return connection.write_all(page);
        }
        _ => {}
    }
    let start = start.filter(|_| fault != Some(Fault::IgnoreRange));
    let body = match start {
        Some(start) if start >= all => {
            return head(
                connection,
                "416 Range Not Satisfiable",
                0,
                &[format!("Content-Range: bytes */{all}")],
            );
        }
        Some(start) => {
            let said = if fault == Some(Fault::WrongRange) { start / 2 } else { start };
            headers.push(format!("Content-Range: bytes {said}-{}/{all}", all - 1));
            &page.body[said..]
        }
        None => &page.body[..],
    };
    let status = if start.is_some() { "206 Partial Content" } else { "200 OK" };
    let more = if let Some(Fault::AnnounceMore(more)) = fault { more } else { 0 };
    head(connection, status, body.len() + more, &headers)?;
    match fault {
        Some(Fault::Cut(after)) => {
            connection.write_all(&body[..after.min(body.len())])?;
            connection.shutdown(Shutdown::Both)
        }
        Some(Fault::Stall(after)) => {
            connection.write_all(&body[..after.min(body.len())])?;
            connection.flush()?;
            // Until the other end has had enough.
            let mut nothing = [0; 1];
            std::io::Read::read(&mut connection, &mut nothing).map(drop)
        }
        Some(Fault::Slow(piece, pause)) => {
            for piece in body.chunks(piece) {
                connection.write_all(piece)?;
                std::thread::sleep(pause);
            }
            Ok(())
        }
        _ => connection.write_all(body),
    }
}

fn head(mut connection: &TcpStream, status: &str, length: usize, headers: &[String]) -> std::io::Result<()> {
    let mut text = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    connection.write_all(text.as_bytes())
}
