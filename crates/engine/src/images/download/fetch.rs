//! Getting a file whole, however often the line is cut.
//!
//! ```text
//! mirror ─▶ attempt ─┬─ whole ──────────────────────────────▶ done
//!    ▲         ▲     ├─ cut, slow, busy ─▶ pause ─┐ (three in a row without progress: next mirror)
//!    │         └─────┼────────────────────────────┘ goes on where it was
//!    └───────────────┴─ not there, a web page, in circles ─▶ next mirror; after the last: failed
//! ```
//! Invariants: bytes are appended only to bytes of the same file: the server says so (`If-Range` with what it called the file
//! before), or a checksum will. What is there survives the app; the next download of the same address goes on with it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE,
};
use reqwest::{Client, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWriteExt, BufWriter};
use voidvm_model::{Bytes, ErrorBody, ErrorCode};
use voidvm_qemu::image::is_web_page;

use crate::images::unpack::LOOK_EVERY;
use crate::images::work::{Job, Stopped};
use crate::ops::files::io_error;
use crate::storage::Room;

/// So much more than before counts as progress: the attempts are counted anew.
const PROGRESS: u64 = 1 << 20;
/// Attempts on one mirror without progress.
const ATTEMPTS: usize = 3;
/// Written at a time.
const PIECE: usize = 1 << 20;

/// A file that is being fetched, and what is known of it beside it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    known: PathBuf,
    room: Room,
}

/// What is known of a part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    /// Where its bytes are from.
    url: String,
    /// What the server called this very content: a strong ETag, or the time of its last change.
    validator: Option<String>,
    /// How long the whole is.
    total: Option<u64>,
}

impl Part {
    pub(super) fn new(dir: &Path, name: &str, room: &Room) -> Self {
        let file = |end: &str| dir.join(format!("{name}.{end}"));
        Self { path: file("part"), known: file("json"), room: room.clone() }
    }

    fn length(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    fn known(&self) -> Known {
        let text = std::fs::read(&self.known).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn remember(&self, known: &Known) -> Result<(), ErrorBody> {
        let text = serde_json::to_vec(known).unwrap_or_default();
        std::fs::write(&self.known, text).map_err(|error| io_error(&self.known, &error))
    }

    /// Gives it up.
    pub(super) fn remove(&self) {
        for path in [&self.path, &self.known] {
            if let Err(error) = std::fs::remove_file(path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "a part of a download cannot be removed");
            }
        }
    }
}

/// Whether a checksum will tell if parts of different servers make one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Assured {
    ByChecksum,
    No,
}

/// Why an attempt ended.
enum Cut {
    /// The same mirror may do better.
    Again(ErrorBody),
    /// This mirror will not.
    Next(ErrorBody),
    Stop(Stopped),
}

impl From<ErrorBody> for Cut {
    fn from(body: ErrorBody) -> Self {
        Self::Stop(body.into())
    }
}

/// Fetches the file from the first of these mirrors that has it whole; says which that was.
pub(super) async fn fetch(
    client: &Client,
    mirrors: &[Url],
    part: &Part,
    assured: Assured,
    pause: Duration,
    job: &mut Job,
) -> Result<usize, Stopped> {
    let pauses = |times| ExponentialBuilder::new().with_min_delay(pause).with_max_times(times).build();
    let mut last = ErrorBody::new(ErrorCode::NetworkFailed, "There is no address to download from.");
    for (number, url) in mirrors.iter().enumerate() {
        let mut left = pauses(ATTEMPTS - 1);
        let mut had = part.length();
        loop {
            match attempt(client, url, part, assured, job).await {
                Ok(()) => return Ok(number),
                Err(Cut::Stop(stopped)) => return Err(stopped),
                Err(Cut::Next(body)) => {
                    last = body;
                    break;
                }
                Err(Cut::Again(body)) => {
                    tracing::info!(%url, error = %body, "a download was cut");
                    let has = part.length();
                    if has >= had.saturating_add(PROGRESS) {
                        // This one does not count.
                        left = pauses(ATTEMPTS);
                        had = has;
                    }
                    last = body;
                    let Some(pause) = left.next() else { break };
                    tokio::select! {
                        biased;
                        () = job.cancel.cancelled() => return Err(Stopped::Cancelled),
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
    }
    Err(last.into())
}

async fn attempt(
    client: &Client,
    url: &Url,
    part: &Part,
    assured: Assured,
    job: &mut Job,
) -> Result<(), Cut> {
    let (has, known) = (part.length(), part.known());
    let same = known.url == url.as_str();
    let goes_on = has > 0 && (assured == Assured::ByChecksum || (same && known.validator.is_some()));
    let mut request = client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
    if goes_on {
        request = request.header(RANGE, format!("bytes={has}-"));
        if let Some(validator) = known.validator.as_deref().filter(|_| same) {
            request = request.header(IF_RANGE, validator);
        }
    }
    let response = tokio::select! {
        biased;
        () = job.cancel.cancelled() => return Err(Cut::Stop(Stopped::Cancelled)),
        response = request.send() => response.map_err(|error| unreachable(url, &error))?,
    };
    let start = match begin(&response, url, goes_on.then_some(has), &known)? {
        Begin::Whole => return Ok(()),
        Begin::At(start) => start,
        Begin::Anew => {
            part.remove();
            return Err(Cut::Again(refused(url, "the part that is here is not of this file")));
        }
    };
    let total = response.content_length().map(|length| start + length);
    part.room.check(Bytes(total.map_or(0, |total| total - start)))?;
    let known = Known { url: url.to_string(), validator: validator(response.headers()), total };
    pour(response, url, part, start, &known, job).await
}

/// Where an answer's bytes belong.
enum Begin {
    At(u64),
    /// Everything is here already.
    Whole,
    /// What is here is of another file.
    Anew,
}

fn begin(response: &Response, url: &Url, asked_from: Option<u64>, known: &Known) -> Result<Begin, Cut> {
    let status = response.status();
    let html = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if status.is_success() && html.is_some_and(|kind| kind.trim_start().starts_with("text/html")) {
        return Err(Cut::Next(web_page(url)));
    }
    match (status, asked_from) {
        (StatusCode::PARTIAL_CONTENT, Some(from)) => {
            let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
            let Some((start, total)) = range.and_then(content_range) else {
                return Err(Cut::Next(refused(url, "its answer does not say which part it is")));
            };
            let other_length = total.zip(known.total).is_some_and(|(now, then)| now != then);
            Ok(if start == from && !other_length { Begin::At(from) } else { Begin::Anew })
        }
        (StatusCode::OK, _) => Ok(Begin::At(0)),
        (StatusCode::RANGE_NOT_SATISFIABLE, Some(from)) => {
            let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
            let total = range.and_then(|range| range.trim().strip_prefix("bytes */")?.parse::<u64>().ok());
            Ok(if total == Some(from) { Begin::Whole } else { Begin::Anew })
        }
        (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS, _) => {
            Err(Cut::Again(says(url, status)))
        }
        (status, _) if status.is_server_error() => Err(Cut::Again(says(url, status))),
        _ => Err(Cut::Next(says(url, status))),
    }
}

/// `bytes 100-199/200` as where it begins and how long the whole is.
fn content_range(range: &str) -> Option<(u64, Option<u64>)> {
    let (bytes, total) = range.trim().strip_prefix("bytes ")?.split_once('/')?;
    Some((bytes.split_once('-')?.0.trim().parse().ok()?, total.trim().parse().ok()))
}

/// What the server calls this very content. A weak ETag says that two files mean the same, not that they are the same.
fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value: &reqwest::header::HeaderValue| value.to_str().ok());
    text(ETAG).filter(|tag| tag.starts_with('"')).or_else(|| text(LAST_MODIFIED)).map(str::to_owned)
}

async fn pour(
    mut response: Response,
    url: &Url,
    part: &Part,
    start: u64,
    known: &Known,
    job: &mut Job,
) -> Result<(), Cut> {
    let failed = |error: io::Error| io_error(&part.path, &error);
    if start == 0 {
        // First the old bytes go, then what is known of the new ones is written.
        part.remove();
    }
    part.remember(known)?;
    let file = tokio::fs::File::options().append(true).create(true).open(&part.path).await.map_err(failed)?;
    let mut file = BufWriter::with_capacity(PIECE, file);
    let (mut done, mut looked, mut head) = (start, start, Vec::new());
    let ended = loop {
        let piece = tokio::select! {
            biased;
            () = job.cancel.cancelled() => break Err(Cut::Stop(Stopped::Cancelled)),
            piece = response.chunk() => piece,
        };
        let piece = match piece {
            Ok(Some(piece)) => piece,
            Ok(None) => break Ok(()),
            Err(error) => break Err(unreachable(url, &error)),
        };
        if start == 0 && head.len() < 64 {
            head.extend_from_slice(&piece[..piece.len().min(64)]);
            if is_web_page(&head) {
                part.remove();
                return Err(Cut::Next(web_page(url)));
            }
        }
        file.write_all(&piece).await.map_err(failed)?;
        done += piece.len() as u64;
        if done - looked >= LOOK_EVERY {
            looked = done;
            if let Err(full) = part.room.check(Bytes(0)) {
                break Err(full.into());
            }
        }
        if let Some(total) = known.total {
            job.ticket.progress(done, total);
        }
    };
    // What came before a cut counts as well.
    file.flush().await.map_err(failed)?;
    ended?;
    match known.total {
        Some(total) if done != total => Err(Cut::Again(refused(url, "it sent less than it announced"))),
        _ => {
            file.into_inner().sync_all().await.map_err(failed)?;
            Ok(())
        }
    }
}

/// A small text file beside an image.
pub(super) async fn small(
    client: &Client,
    url: &Url,
    most: usize,
    pause: Duration,
    job: &Job,
) -> Result<Vec<u8>, Stopped> {
    let mut pauses = ExponentialBuilder::new().with_min_delay(pause).with_max_times(ATTEMPTS - 1).build();
    loop {
        let got = tokio::select! {
            biased;
            () = job.cancel.cancelled() => return Err(Stopped::Cancelled),
            got = small_once(client, url, most) => got,
        };
        match got {
            Ok(bytes) => return Ok(bytes),
            Err(Cut::Stop(stopped)) => return Err(stopped),
            Err(Cut::Next(body)) => return Err(body.into()),
            Err(Cut::Again(body)) => {
                let Some(pause) = pauses.next() else { return Err(body.into()) };
                tokio::select! {
                    biased;
                    () = job.cancel.cancelled() => return Err(Stopped::Cancelled),
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
}

async fn small_once(client: &Client, url: &Url, most: usize) -> Result<Vec<u8>, Cut> {
    let mut response = client.get(url.clone()).send().await.map_err(|error| unreachable(url, &error))?;
    begin(&response, url, None, &Known::default())?;
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| unreachable(url, &error))? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > most {
            return Err(Cut::Next(refused(url, "the file is far too large")));
        }
    }
    Ok(bytes)
}

fn network(url: &Url, message: String) -> ErrorBody {
    ErrorBody::new(ErrorCode::NetworkFailed, message).with_detail("url", shown(url))
}

/// An address without a password in it.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_password(None);
    url.into()
}

fn host(url: &Url) -> &str {
    url.host_str().unwrap_or("the server")
}

fn unreachable(url: &Url, error: &reqwest::Error) -> Cut {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        reason = cause.to_string();
        source = cause.source();
    }
    if error.is_redirect() {
        return Cut::Next(
            network(url, format!("{} sends from one address to the next: {reason}.", host(url)))
                .with_hint("Use the address it should end at."),
        );
    }
    let words = if error.is_timeout() {
        "does not answer in time".to_owned()
    } else {
        format!("cannot be read: {reason}")
    };
    Cut::Again(
        network(url, format!("{} {words}.", host(url)))
            .with_hint("Check the connection; the same download goes on where it was cut."),
    )
}

fn says(url: &Url, status: StatusCode) -> ErrorBody {
    network(url, format!("{} answers {status}.", host(url)))
        .with_hint("Check the address; the file may have been moved.")
}

fn refused(url: &Url, why: &str) -> ErrorBody {
    network(url, format!("The download from {} failed: {why}.", host(url)))
        .with_hint("Try again, or use another mirror.")
}

fn web_page(url: &Url) -> ErrorBody {
    ErrorBody::new(ErrorCode::ImageInvalid, format!("{} sent a web page instead of the file.", host(url)))
        .with_hint("Use the address of the file itself; a login or notice page may be in the way.")
        .with_detail("url", shown(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_say_which_part_they_are() {
        assert_eq!(content_range("bytes 100-199/200"), Some((100, Some(200))));
        assert_eq!(content_range("bytes 0-0/*"), Some((0, None)));
        for wrong in ["", "bytes */200", "items 0-1/2", "bytes x-1/2"] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }
}
