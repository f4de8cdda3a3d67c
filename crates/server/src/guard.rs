//! Who may ask what.
//!
//! On the owner's unix socket the kernel has said that it is the same user: everything is allowed, and no browser can be there.
//! On the loopback port three questions are asked, in this order:
//!
//! 1. *Host*: is the request for a loopback name? A page whose name was rebound to 127.0.0.1 is stopped here.
//! 2. *Origin*: if a browser says which page asks, is it one of ours? What changes something with a cookie must say so.
//! 3. *Token or session*, then the scope of the command.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq as _;
use voidvm_host::Host;
use voidvm_host::remote::ORIGIN_HEADER;
use voidvm_model::contract::Scope;
use voidvm_model::{ErrorBody, ErrorCode, Origin};

use crate::envelope::Refusal;
use crate::session;
use crate::throttle::{Client, Throttle};

/// How clients reach this router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// The owner's unix socket.
    Private,
    /// A loopback port.
    Loopback(SocketAddr),
}

/// What every request needs.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) host: Host,
    pub(crate) transport: Transport,
    pub(crate) throttle: Arc<Throttle>,
    /// Cancelled when the listener ends; streams end then.
    pub(crate) closing: tokio_util::sync::CancellationToken,
}

/// Who asks, as found out by [`authenticate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) origin: Origin,
    pub(crate) scope: Scope,
}

impl Identity {
    /// # Errors
    /// [`ErrorCode::Forbidden`].
    pub(crate) fn require(self, scope: Scope) -> Result<(), ErrorBody> {
        if self.scope >= scope {
            Ok(())
        } else {
            Err(ErrorBody::new(ErrorCode::Forbidden, "This token does not reach that far.")
                .with_hint("Use a token with a wider scope."))
        }
    }
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs())
}

fn forbidden(message: &str, hint: &str) -> ErrorBody {
    ErrorBody::new(ErrorCode::Forbidden, message).with_hint(hint)
}

/// A header's text; nothing when it is there twice, which no honest client does.
fn single(headers: &HeaderMap, name: impl axum::http::header::AsHeaderName) -> Option<&str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?;
    if all.next().is_some() { None } else { first.to_str().ok() }
}

/// Refuses requests that are not for a loopback name.
///
/// # Errors
/// [`ErrorCode::Forbidden`].
pub(crate) fn check_host(headers: &HeaderMap) -> Result<&str, ErrorBody> {
    let host = single(headers, HOST).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    if matches!(name, "127.0.0.1" | "localhost" | "[::1]") {
        Ok(host)
    } else {
        Err(forbidden("This address is not of this computer.", "Use http://127.0.0.1 with the port."))
    }
}

/// What the browser says about the page that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// Our own page.
    Ours,
    /// No page: a program, or an address typed by a person.
    None,
}

/// Refuses foreign pages.
///
/// # Errors
/// [`ErrorCode::Forbidden`].
pub(crate) fn check_page(headers: &HeaderMap, host: &str) -> Result<Page, ErrorBody> {
    let foreign = || forbidden("Another page asks for this.", "Open voidVM's own page.");
    let fetch_site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if !matches!(fetch_site, None | Some(b"same-origin" | b"none")) {
        return Err(foreign());
    }
    if !headers.contains_key(ORIGIN) {
        return Ok(if fetch_site == Some(b"same-origin") { Page::Ours } else { Page::None });
    }
    let origin = single(headers, ORIGIN).ok_or_else(foreign)?;
    if origin.strip_prefix("http://") == Some(host) { Ok(Page::Ours) } else { Err(foreign()) }
}

/// Answers the requests of those who may ask.
pub(crate) async fn authenticate(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let identity = match app.transport {
        Transport::Private => Identity { origin: private_origin(request.headers()), scope: Scope::Admin },
        Transport::Loopback(address) => loopback(&app, address, request.headers(), request.method()).await?,
    };
    request.extensions_mut().insert(identity);
    Ok(next.run(request).await)
}

fn private_origin(headers: &HeaderMap) -> Origin {
    let named = single(headers, ORIGIN_HEADER).unwrap_or_default();
    Origin::ALL.into_iter().find(|origin| origin.as_str() == named).unwrap_or(Origin::Cli)
}

async fn loopback(
    app: &App,
    address: SocketAddr,
    headers: &HeaderMap,
    method: &Method,
) -> Result<Identity, ErrorBody> {
    let now = Instant::now();
    let stranger = |error: ErrorBody| match app.throttle.count(Client::Stranger, now) {
        Ok(()) => error,
        Err(limited) => limited,
    };
    let host = check_host(headers).map_err(stranger)?;
    let page = check_page(headers, host).map_err(stranger)?;
    let (token, _) = app.host.token().get().await?;
    let bearer = single(headers, AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let known = if let Some(shown) = bearer {
        is_token(shown, token.reveal())
    } else {
        let value = session::cookie(headers, &session::cookie_name(address.port()));
        let signed_in = value.is_some_and(|value| session::holds(value, token.reveal(), unix_now()));
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let upgrades = headers.contains_key("sec-websocket-key");
        if signed_in && (!reads || upgrades) && page != Page::Ours {
            return Err(stranger(forbidden(
                "The request does not say which page it comes from.",
                "Programs use the token: Authorization: Bearer.",
            )));
        }
        signed_in
    };
    if !known {
        return Err(stranger(
            ErrorBody::new(ErrorCode::Unauthenticated, "Who asks is not known here.")
                .with_hint("Open the address that `voidvm serve` prints, or send the token."),
        ));
    }
    app.throttle.count(Client::Known, now)?;
    Ok(Identity { origin: Origin::Rest, scope: Scope::Admin })
}

/// Compares in a time that tells nothing of the token.
pub(crate) fn is_token(shown: &str, token: &str) -> bool {
    shown.as_bytes().ct_eq(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_loopback_names_are_served() {
        for host in ["127.0.0.1", "127.0.0.1:7770", "localhost:7770", "localhost", "[::1]:7770"] {
            assert!(check_host(&headers(&[("host", host)])).is_ok(), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:7770",
            "",
            "127.0.0.1:7770:1",
            "0.0.0.0",
        ] {
            assert_eq!(
                check_host(&headers(&[("host", host)])).unwrap_err().code,
                ErrorCode::Forbidden,
                "{host}"
            );
        }
        assert!(check_host(&HeaderMap::new()).is_err());
        let mut twice = headers(&[("host", "127.0.0.1")]);
        twice.append(HOST, "evil.example".parse().unwrap());
        assert!(check_host(&twice).is_err());
    }

    #[test]
    fn foreign_pages_are_refused() {
        let host = "127.0.0.1:7770";
        let page = |of: &[(&'static str, &str)]| check_page(&headers(of), host).map_err(|error| error.code);
        assert_eq!(page(&[]), Ok(Page::None));
        assert_eq!(page(&[("origin", "http://127.0.0.1:7770")]), Ok(Page::Ours));
        assert_eq!(page(&[("sec-fetch-site", "same-origin")]), Ok(Page::Ours));
        assert_eq!(page(&[("sec-fetch-site", "none")]), Ok(Page::None));
        for origin in [
            "http://127.0.0.1:8080",
            "http://localhost:7770",
            "https://127.0.0.1:7770",
            "null",
            "http://evil.example",
        ] {
            assert_eq!(page(&[("origin", origin)]), Err(ErrorCode::Forbidden), "{origin}");
        }
        for site in ["cross-site", "same-site", ""] {
            assert_eq!(page(&[("sec-fetch-site", site)]), Err(ErrorCode::Forbidden), "{site}");
        }
    }

    #[test]
    fn scopes_include_the_ones_below() {
        let operate = Identity { origin: Origin::Rest, scope: Scope::Operate };
        assert!(operate.require(Scope::Read).is_ok() && operate.require(Scope::Operate).is_ok());
        assert_eq!(operate.require(Scope::Admin).unwrap_err().code, ErrorCode::Forbidden);
    }
}
