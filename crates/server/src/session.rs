//! A browser's session: a cookie that scripts cannot read, made from the token and good for [`LIFE`].
//!
//! `v1.ISSUED.NONCE.MAC`, where MAC is HMAC-SHA-256 over the rest with the token as key. Nothing is stored: sessions outlive a
//! restart of the engine, and end all at once when the token is renewed. A cookie ignores ports, so its name holds ours, lest
//! two voidVMs on one address overwrite each other's.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use voidvm_model::{ErrorBody, ErrorCode};

/// How long a browser stays signed in.
pub(crate) const LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// A clock that was set back may make a cookie look as if it were from the future.
const SKEW: u64 = 60;

/// The cookie's name on a port.
pub(crate) fn cookie_name(port: u16) -> String {
    format!("voidvm_{port}")
}

fn mac(token: &str, text: &str) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(token.as_bytes()).ok()?;
    mac.update(text.as_bytes());
    Some(mac)
}

/// A new session's cookie value.
///
/// # Errors
/// [`ErrorCode::Internal`] when the system gives no random numbers.
pub(crate) fn issue(token: &str, now: u64) -> Result<String, ErrorBody> {
    let failed = || ErrorBody::new(ErrorCode::Internal, "The system gives no random numbers.");
    let mut nonce = [0_u8; 16];
    getrandom::fill(&mut nonce).map_err(|_| failed())?;
    let text = format!("v1.{now}.{}", URL_SAFE_NO_PAD.encode(nonce));
    let mac = mac(token, &text).ok_or_else(failed)?.finalize().into_bytes();
    Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac)))
}

/// Whether a cookie value is of this token and not too old.
pub(crate) fn holds(value: &str, token: &str, now: u64) -> bool {
    let Some((text, signature)) = value.rsplit_once('.') else { return false };
    let mut parts = text.split('.');
    let (Some("v1"), Some(issued), Some(_nonce), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let Ok(issued) = issued.parse::<u64>() else { return false };
    let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
    let signed = mac(token, text).is_some_and(|mac| mac.verify_slice(&signature).is_ok());
    signed && issued <= now + SKEW && now < issued + LIFE.as_secs()
}

/// The value of the named cookie.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

/// The `Set-Cookie` line that begins a session.
pub(crate) fn begin(name: &str, value: &str) -> String {
    format!("{name}={value}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict", LIFE.as_secs())
}

/// The `Set-Cookie` line that ends one.
pub(crate) fn end(name: &str) -> String {
    format!("{name}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_of_one_token_and_ends() {
        let now = 1_800_000_000;
        let value = issue("the-token", now).unwrap();
        assert!(holds(&value, "the-token", now));
        assert!(holds(&value, "the-token", now + LIFE.as_secs() - 1));
        assert!(!holds(&value, "the-token", now + LIFE.as_secs()));
        assert!(!holds(&value, "another-token", now));
        assert!(!holds(&value, "the-token", now - 3600));
        assert!(!value.contains("the-token"));
    }

    #[test]
    fn a_changed_cookie_is_no_session() {
        let now = 1_800_000_000;
        let value = issue("the-token", now).unwrap();
        let later = value.replacen(&now.to_string(), &(now + 1).to_string(), 1);
        for changed in [later.as_str(), "", "v1", "v1.1.2.3", "....", "v2.1.2.3", &value[..value.len() - 1]] {
            assert!(!holds(changed, "the-token", now), "{changed}");
        }
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "a=1; voidvm_7770=x.y; b=2".parse().unwrap());
        assert_eq!(cookie(&headers, "voidvm_7770"), Some("x.y"));
        assert_eq!(cookie(&headers, "voidvm_777"), None);
    }
}
