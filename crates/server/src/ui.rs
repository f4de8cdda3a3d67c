//! The surface's files, embedded in a release build and read from `ui/dist` in a debug build, and the headers of every answer.

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use rust_embed::{EmbeddedFile, RustEmbed};
use serde::Deserialize;
use voidvm_model::{ErrorBody, ErrorCode};

use crate::envelope::Refusal;
use crate::guard::{App, Transport, check_host, is_token, unix_now};
use crate::session;
use crate::throttle::Client;

#[derive(RustEmbed)]
#[folder = "../../ui/dist"]
struct Dist;

#[derive(Debug, Deserialize)]
pub(crate) struct Entry {
    token: Option<String>,
}

/// The surface; with `?token=` the sign-in by link: the cookie is set and the token leaves the address line.
pub(crate) async fn serve(
    State(app): State<App>,
    Query(entry): Query<Entry>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Transport::Loopback(address) = app.transport else {
        return Err(not_found(&uri).into());
    };
    check_host(&headers)?;
    if method != Method::GET && method != Method::HEAD {
        return Err(not_found(&uri).into());
    }
    if let Some(shown) = entry.token.filter(|_| uri.path() == "/") {
        let (token, _) = app.host.token().get().await?;
        if !is_token(&shown, token.reveal()) {
            app.throttle.count(Client::Stranger, std::time::Instant::now())?;
            // The page then asks for the token.
            return Ok(Redirect::to("/").into_response());
        }
        let name = session::cookie_name(address.port());
        let cookie = session::begin(&name, &session::issue(token.reveal(), unix_now())?);
        return Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response());
    }
    let path = uri.path().trim_start_matches('/');
    match Dist::get(path).filter(|_| !path.is_empty()) {
        Some(found) => Ok(file(&headers, path, &found)),
        // An address inside the surface; what looks like a file and is not there is not there.
        None if !path.starts_with("api/") && !path.starts_with("assets/") && !path.contains('.') => {
            Ok(match Dist::get("index.html") {
                Some(index) => file(&headers, "index.html", &index),
                None => (
                    StatusCode::NOT_FOUND,
                    "The surface is not built into this voidVM; the API is at /api/v1.\n",
                )
                    .into_response(),
            })
        }
        None => Err(not_found(&uri).into()),
    }
}

fn not_found(uri: &Uri) -> ErrorBody {
    ErrorBody::new(ErrorCode::NotFound, format!("There is no {}.", uri.path()))
}

fn file(headers: &HeaderMap, path: &str, file: &EmbeddedFile) -> Response {
    use std::fmt::Write as _;
    let mut etag = String::with_capacity(34);
    etag.push('"');
    for byte in &file.metadata.sha256_hash()[..16] {
        let _ = write!(etag, "{byte:02x}");
    }
    etag.push('"');
    // Files under assets/ have their content's hash in their name.
    let caching =
        if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let cache = [(header::ETAG, etag.clone()), (header::CACHE_CONTROL, caching.to_owned())];
    if known == Some(etag.as_str()) {
        return (StatusCode::NOT_MODIFIED, cache).into_response();
    }
    let kind = [(header::CONTENT_TYPE, content_type(path))];
    (cache, kind, file.data.clone()).into_response()
}

/// The types a Vite build has.
fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
        "webmanifest" => "application/manifest+json",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Adds what every answer carries.
pub(crate) async fn security_headers(request: Request, next: Next) -> Response {
    let host = check_host(request.headers()).unwrap_or("127.0.0.1").to_owned();
    let mut response = next.run(request).await;
    // The terminal of the serial port makes style elements of its own; scripts come from here alone.
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; \
         font-src 'self'; connect-src 'self' ws://{host}; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), microphone=(), geolocation=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
