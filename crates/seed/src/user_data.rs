//! `user-data`: the request's fields, merged into the user's own document where there is one.
//!
//! What is written is JSON after the `#cloud-config` line: every JSON document is YAML, and nothing in it can be read two ways.

use serde_json::{Map, Value, json};
use sha_crypt::{PasswordHasher, ShaCrypt};
use voidvm_model::contract::CloudInit;
use voidvm_model::{ErrorBody, ErrorCode};

use crate::key::is_public_key;

/// The longest user-data that is taken.
const USER_DATA_MAX: usize = 1 << 20;
const HEADER: &str = "#cloud-config";
/// Gives a copied system another machine-id, once for each instance. It is written over, never removed: on some systems D-Bus's
/// would else become it again.
const NEW_MACHINE_ID: &str = "test -s /etc/machine-id || exit 0; tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id; \
    test ! -f /var/lib/dbus/machine-id || test -L /var/lib/dbus/machine-id || cp /etc/machine-id /var/lib/dbus/machine-id";

/// Checks a request; answers the host name the guest will have. `name` is the machine's.
///
/// # Errors
/// [`InvalidInput`](ErrorCode::InvalidInput) with the field below `cloudInit`.
pub fn validate(request: &CloudInit, name: &str) -> Result<String, ErrorBody> {
    let wrong = |field: &str, message: String, hint: &str| {
        Err(ErrorBody::invalid(format!("cloudInit.{field}"), message).with_hint(hint))
    };
    if !is_user(&request.user) {
        return wrong(
            "user",
            format!("{:?} cannot be a user of the guest.", request.user),
            "Use small letters, digits, - and _, beginning with a letter, 32 at most.",
        );
    }
    if request.user == "root" {
        return wrong("user", "The user cannot be root.".to_owned(), "Choose another name; it may use sudo.");
    }
    for (at, key) in request.ssh_keys.iter().enumerate() {
        if !is_public_key(key) {
            return wrong(
                &format!("sshKeys[{at}]"),
                "This is no public key of OpenSSH.".to_owned(),
                "Paste the line of a .pub file, ssh-ed25519 AAAA….",
            );
        }
    }
    if request.password.as_deref().is_some_and(|password| {
        password.is_empty() || password.len() > 512 || password.chars().any(char::is_control)
    }) {
        return wrong(
            "password",
            "This cannot be a password.".to_owned(),
            "Use 1 to 512 characters, or leave it out.",
        );
    }
    for (at, package) in request.packages.iter().enumerate() {
        let fits = package.starts_with(|c: char| c.is_ascii_alphanumeric())
            && package.len() <= 128
            && package.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._:=~/@".contains(&b));
        if !fits {
            return wrong(
                &format!("packages[{at}]"),
                format!("{package:?} cannot be the name of a package."),
                "Write one package in each entry.",
            );
        }
    }
    if let Some(text) = &request.user_data {
        document(text)?;
    }
    match &request.hostname {
        Some(hostname) if !is_hostname(hostname) => wrong(
            "hostname",
            format!("{hostname:?} cannot be a host name."),
            "Use letters, digits, - and dots; each part 63 at most.",
        ),
        Some(hostname) => Ok(hostname.clone()),
        None => Ok(hostname_of(name)),
    }
}

/// A host name made of a machine's name.
#[must_use]
pub fn hostname_of(name: &str) -> String {
    let mut fit = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            fit.push(c.to_ascii_lowercase());
        } else if !fit.is_empty() && !fit.ends_with('-') {
            fit.push('-');
        }
    }
    fit.truncate(63);
    let fit = fit.trim_end_matches('-');
    if fit.is_empty() { "guest".to_owned() } else { fit.to_owned() }
}

fn is_user(user: &str) -> bool {
    user.len() <= 32
        && user.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && user.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

fn is_hostname(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|part| {
            (1..=63).contains(&part.len())
                && !part.starts_with('-')
                && !part.ends_with('-')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

/// The user's own document.
fn document(text: &str) -> Result<Map<String, Value>, ErrorBody> {
    let wrong = |message: String, hint: &str| {
        Err(ErrorBody::invalid("cloudInit.userData", message).with_hint(hint.to_owned()))
    };
    if text.len() > USER_DATA_MAX {
        return wrong("The user-data is longer than 1 MiB.".to_owned(), "Let it fetch what it needs.");
    }
    // Scripts and other kinds begin with lines of their own; only this kind can be merged.
    let first = text.lines().next().unwrap_or_default().trim_end();
    if first != HEADER {
        return wrong(
            "The user-data is no cloud-config.".to_owned(),
            "Its first line must be #cloud-config; a script goes under runcmd.",
        );
    }
    match serde_saphyr::from_str::<Option<Value>>(text) {
        Ok(None) => Ok(Map::new()),
        Ok(Some(Value::Object(map))) => Ok(map),
        Ok(Some(_)) => {
            wrong("The user-data is no list of keys and values.".to_owned(), "Write KEY: VALUE lines.")
        }
        Err(error) => {
            let reason = error.to_string();
            let line = reason.lines().next().unwrap_or_default().trim_end_matches('.');
            wrong(format!("The user-data is no YAML: {line}."), "Mend it and try again.")
        }
    }
}

/// The whole document.
pub(crate) fn user_data(
    request: &CloudInit,
    hostname: &str,
    more_keys: &[String],
) -> Result<String, ErrorBody> {
    let mut map = request.user_data.as_deref().map(document).transpose()?.unwrap_or_default();
    let mut user = json!({
        "name": request.user,
        "gecos": request.user,
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "shell": "/bin/bash",
        "lock_passwd": request.password.is_none(),
        "ssh_authorized_keys":
            request.ssh_keys.iter().chain(more_keys).map(|key| key.trim()).collect::<Vec<_>>(),
    });
    if let Some(password) = &request.password {
        user["hashed_passwd"] = Value::String(hash(password)?);
        map.entry("ssh_pwauth").or_insert(Value::Bool(true));
    }
    append(&mut map, "users", vec![user]);
    let packages = request.packages.iter().cloned().map(Value::String).collect();
    append(&mut map, "packages", packages);
    map.entry("hostname").or_insert_with(|| Value::String(hostname.to_owned()));
    map.entry("preserve_hostname").or_insert(Value::Bool(false));
    written(map).map_err(|error| ErrorBody::new(ErrorCode::Internal, format!("user-data: {error}")))
}

fn written(map: Map<String, Value>) -> serde_json::Result<String> {
    Ok(format!("{HEADER}\n{}\n", serde_json::to_string_pretty(&Value::Object(map))?))
}

/// A document that [`user_data`] made, for a copy of the machine, and the copy's host name. `None` of any other document.
pub(crate) fn renewed(text: &str, name: &str) -> Option<(String, String)> {
    let body = text.strip_prefix(HEADER)?;
    let mut map: Map<String, Value> = serde_json::from_str(body).ok()?;
    let plain = hostname_of(name);
    for key in ["hostname", "fqdn"] {
        if let Some(Value::String(old)) = map.get_mut(key) {
            // The copy stays in the domain.
            let domain = old.find('.').map(|dot| old[dot..].to_owned()).unwrap_or_default();
            *old = format!("{plain}{domain}");
        }
    }
    let hostname = map.get("hostname").and_then(Value::as_str).unwrap_or(&plain).to_owned();
    let command = json!(["cloud-init-per", "instance", "voidvm-machine-id", "sh", "-c", NEW_MACHINE_ID]);
    let there = map.get("bootcmd").and_then(Value::as_array).is_some_and(|all| all.contains(&command));
    if !there {
        append(&mut map, "bootcmd", vec![command]);
    }
    Some((written(map).ok()?, hostname))
}

/// Adds to a list of the document; a single value that stands there becomes its first.
fn append(map: &mut Map<String, Value>, key: &str, mut more: Vec<Value>) {
    if more.is_empty() {
        return;
    }
    let all = match map.remove(key) {
        None | Some(Value::Null) => more,
        Some(Value::Array(mut there)) => {
            there.append(&mut more);
            there
        }
        Some(one) => {
            more.insert(0, one);
            more
        }
    };
    map.insert(key.to_owned(), Value::Array(all));
}

/// SHA-512 crypt, which every guest's login knows.
fn hash(password: &str) -> Result<String, ErrorBody> {
    // Twelve bytes are sixteen characters: of a longer salt, which the crate makes by itself, other programs write back less,
    // and then no password fits.
    let mut salt = [0_u8; 12];
    getrandom::fill(&mut salt).map_err(|error| {
        ErrorBody::new(ErrorCode::Internal, format!("The system gives no random numbers: {error}."))
    })?;
    ShaCrypt::default()
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map(|hash| hash.as_str().to_owned())
        .map_err(|error| {
            ErrorBody::new(ErrorCode::Internal, format!("The password cannot be hashed: {error}."))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> CloudInit {
        CloudInit {
            user: "ada".to_owned(),
            ssh_keys: Vec::new(),
            generate_key: false,
            password: None,
            hostname: None,
            packages: Vec::new(),
            user_data: None,
        }
    }

    fn parsed(request: &CloudInit) -> Value {
        let text = user_data(request, "lab", &[]).unwrap();
        let (header, body) = text.split_once('\n').unwrap();
        assert_eq!(header, HEADER);
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn a_password_is_only_there_as_its_hash() {
        let made = parsed(&CloudInit { password: Some("correct horse".to_owned()), ..request() });
        assert!(!made.to_string().contains("correct horse"));
        let hash = made["users"][0]["hashed_passwd"].as_str().unwrap();
        assert!(hash.starts_with("$6$"), "{hash}");
        assert_eq!(made["users"][0]["lock_passwd"], false);
        assert_eq!(made["ssh_pwauth"], true);
        // What the C library makes of the same password and salt.
        let salt = hash.rsplit_once('$').unwrap().0;
        let output = std::process::Command::new("perl")
            .args(["-e", "print crypt($ARGV[0], $ARGV[1])", "correct horse", salt])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), hash);
    }

    #[test]
    fn the_users_own_document_is_added_to_and_loses_nothing() {
        let own = "#cloud-config\nusers: default\npackages: [vim]\nruncmd:\n  - [touch, /ready]\n  - |\n    echo: a\n\
                   hostname: theirs\n";
        let made = parsed(&CloudInit {
            user_data: Some(own.to_owned()),
            packages: vec!["git".to_owned()],
            ..request()
        });
        assert_eq!(made["users"][0], "default");
        assert_eq!(made["users"][1]["name"], "ada");
        assert_eq!(made["users"][1]["lock_passwd"], true);
        assert_eq!(made["packages"], json!(["vim", "git"]));
        assert_eq!(made["runcmd"], json!([["touch", "/ready"], "echo: a\n"]));
        assert_eq!(made["hostname"], "theirs");
    }

    #[test]
    fn a_copy_stays_in_the_domain_and_keeps_what_the_user_wrote() {
        let own = "#cloud-config\nbootcmd: echo\nfqdn: a.example.org\nhostname: a\n";
        let text =
            user_data(&CloudInit { user_data: Some(own.to_owned()), ..request() }, "lab", &[]).unwrap();
        let (copy, hostname) = renewed(&text, "B 2").unwrap();
        let made: Value = serde_json::from_str(copy.strip_prefix(HEADER).unwrap()).unwrap();
        assert_eq!(
            (hostname.as_str(), &made["hostname"], &made["fqdn"]),
            ("b-2", &json!("b-2"), &json!("b-2.example.org"))
        );
        assert_eq!(made["bootcmd"][0], "echo");
        assert_eq!(made["bootcmd"].as_array().unwrap().len(), 2);
        let script = made["bootcmd"][1].as_array().unwrap().last().unwrap().as_str().unwrap();
        let checked = std::process::Command::new("sh").args(["-n", "-c", script]).status().unwrap();
        assert!(checked.success(), "{script}");
    }

    #[test]
    fn what_does_not_hold_is_named_by_its_field() {
        let user_data = |text: &str| CloudInit { user_data: Some(text.to_owned()), ..request() };
        let cases = [
            (CloudInit { user: "Ada".to_owned(), ..request() }, "cloudInit.user"),
            (CloudInit { user: String::new(), ..request() }, "cloudInit.user"),
            (CloudInit { user: "root".to_owned(), ..request() }, "cloudInit.user"),
            (CloudInit { user: "a:b".to_owned(), ..request() }, "cloudInit.user"),
            (CloudInit { ssh_keys: vec!["ssh-rsa x".to_owned()], ..request() }, "cloudInit.sshKeys[0]"),
            (CloudInit { password: Some(String::new()), ..request() }, "cloudInit.password"),
            (CloudInit { password: Some("a\nb".to_owned()), ..request() }, "cloudInit.password"),
            (CloudInit { hostname: Some("a_b".to_owned()), ..request() }, "cloudInit.hostname"),
            (CloudInit { hostname: Some("-a".to_owned()), ..request() }, "cloudInit.hostname"),
            (CloudInit { packages: vec!["a b".to_owned()], ..request() }, "cloudInit.packages[0]"),
            (CloudInit { packages: vec!["-x".to_owned()], ..request() }, "cloudInit.packages[0]"),
            (user_data("#!/bin/sh\necho hi\n"), "cloudInit.userData"),
            (user_data("#cloud-config\n- a\n- b\n"), "cloudInit.userData"),
            (user_data("#cloud-config\na: [1\n"), "cloudInit.userData"),
            (user_data("#cloud-config\na: 1\n  b: 2\n"), "cloudInit.userData"),
            (user_data("users: []\n"), "cloudInit.userData"),
        ];
        for (request, field) in cases {
            let error = validate(&request, "lab").unwrap_err();
            assert_eq!(error.field.as_deref(), Some(field), "{error:?}");
            assert!(error.hint.is_some());
        }
        assert!(validate(&user_data("#cloud-config\n"), "lab").is_ok());
    }

    #[test]
    fn a_host_name_is_made_of_any_name() {
        for (name, hostname) in [
            ("lab", "lab"),
            ("Web Server #2", "web-server-2"),
            ("  …", "guest"),
            ("日本", "guest"),
            ("-x-", "x"),
        ] {
            assert_eq!(hostname_of(name), hostname);
        }
        assert_eq!(hostname_of(&"a".repeat(100)).len(), 63);
    }
}
