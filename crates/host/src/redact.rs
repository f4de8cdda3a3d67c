//! What must never be in a log: fields that are secret by their name, and secrets known by their value.

use std::sync::{Arc, RwLock};

/// What stands in a secret's place.
pub const REDACTED: &str = "[redacted]";

/// Parts of names whose values are secret.
const SECRET_NAMES: &[&str] =
    &["token", "secret", "password", "passphrase", "authorization", "cookie", "ticket", "credential"];

/// Knows the secrets of this process; cheap to clone, all clones know the same.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    values: Arc<RwLock<Vec<String>>>,
}

impl Redactor {
    /// From now on `secret` is cut out of every text. Texts under 8 bytes are not: they would be found everywhere.
    pub fn add(&self, secret: &str) {
        if secret.len() < 8 {
            return;
        }
        if let Ok(mut values) = self.values.write()
            && !values.iter().any(|known| known == secret)
        {
            values.push(secret.to_owned());
        }
    }

    /// The text of a field, without secrets.
    #[must_use]
    pub fn field(&self, name: &str, text: String) -> String {
        if is_secret_name(name) { REDACTED.to_owned() } else { self.text(text) }
    }

    /// A text without secrets: known values, and what follows `token=` or `Bearer `.
    #[must_use]
    pub fn text(&self, mut text: String) -> String {
        if let Ok(values) = self.values.read() {
            for secret in values.iter() {
                if text.contains(secret.as_str()) {
                    text = text.replace(secret.as_str(), REDACTED);
                }
            }
        }
        for mark in ["token=", "Bearer ", "bearer "] {
            text = cut_after(text, mark);
        }
        text
    }
}

/// Whether a field of this name is secret.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part))
}

fn cut_after(text: String, mark: &str) -> String {
    if !text.contains(mark) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find(mark) {
        let (before, after) = rest.split_at(at + mark.len());
        out.push_str(before);
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '&' | '"' | '\'' | ',' | '}'))
            .unwrap_or(after.len());
        if end > 0 {
            out.push_str(REDACTED);
        }
        rest = &after[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_names_hide_their_values() {
        let redactor = Redactor::default();
        for name in ["token", "api_token", "clientSecret", "Authorization", "set-cookie", "password"] {
            assert_eq!(redactor.field(name, "hunter2".to_owned()), REDACTED, "{name}");
        }
        assert_eq!(redactor.field("path", "/a".to_owned()), "/a");
    }

    #[test]
    fn known_values_are_cut_out_wherever_they_stand() {
        let redactor = Redactor::default();
        redactor.add("s3cr3t-value");
        redactor.add("short");
        assert_eq!(redactor.field("message", "got s3cr3t-value!".to_owned()), "got [redacted]!");
        assert_eq!(redactor.field("message", "short".to_owned()), "short");
    }

    #[test]
    fn tokens_in_addresses_and_headers_are_cut_out() {
        let redactor = Redactor::default();
        for (text, clean) in [
            ("GET /?token=abc&x=1", "GET /?token=[redacted]&x=1"),
            ("Bearer abc, Bearer def", "Bearer [redacted], Bearer [redacted]"),
            ("token=", "token="),
            ("nothing here", "nothing here"),
        ] {
            assert_eq!(redactor.text(text.to_owned()), clean);
        }
    }
}
