//! A real host in a directory of its own, its local API on a free port, and the plainest of HTTP clients: tests set every header
//! themselves.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a test's helper; each test file uses its part"
)]

use std::collections::HashMap;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use voidvm_host::environment::Environment;
use voidvm_host::{Access, Config, Host, Overrides};
use voidvm_server::LocalApi;

pub struct Served {
    pub root: tempfile::TempDir,
    pub host: Host,
    pub api: LocalApi,
    pub token: String,
}

/// Directories below `root` alone; the token in a file, so that no keychain is touched.
pub fn config(root: &std::path::Path, variables: &[(&str, &str)]) -> Config {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    let data = root.join("data");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&data).unwrap();
    let token = data.join("token");
    if !token.exists() {
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(token).unwrap();
        std::io::Write::write_all(&mut file, b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFG").unwrap();
    }
    let home = root.display().to_string();
    let all = [("HOME", home.as_str()), ("XDG_RUNTIME_DIR", home.as_str()), ("VOIDVM_POOL_FLOOR", "0")];
    let environment = Environment::of(all.iter().chain(variables).map(|(name, value)| (*name, *value)));
    Config::load_from(&Overrides { data_dir: Some(data) }, environment).unwrap()
}

pub async fn serve() -> Served {
    let root = tempfile::tempdir().unwrap();
    let Access::Owner(host) = Access::open(config(root.path(), &[])).await.unwrap() else {
        panic!("nobody else owns it")
    };
    let api = LocalApi::start(&host, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let token = host.token().get().await.unwrap().0.reveal().to_owned();
    Served { root, host, api, token }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn error_code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Served {
    /// Sends a request with exactly these headers (`host` is added where it is missing).
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let address = self.api.address();
        let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "host") {
            request += &format!("host: {address}\r\n");
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            request += &format!("content-length: {}\r\n", body.len());
        }
        request += "\r\n";
        request += body;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        parse(&String::from_utf8(answer).unwrap())
    }

    /// A request with the token.
    pub async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        let mut headers = vec![("authorization", bearer.as_str())];
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        self.send(method, path, &headers, body).await
    }

    /// A page's cookie.
    pub async fn cookie(&self) -> String {
        let answer = self.send("GET", &format!("/?token={}", self.token), &[], "").await;
        assert_eq!(answer.status, 303);
        answer.headers["set-cookie"].split(';').next().unwrap().to_owned()
    }
}

fn parse(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let body = if headers.get("transfer-encoding").is_some_and(|kind| kind == "chunked") {
        unchunk(body)
    } else {
        body.to_owned()
    };
    Answer { status, headers, body }
}

fn unchunk(mut rest: &str) -> String {
    let mut out = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        out += &after[..size];
        rest = &after[size + 2..];
    }
    out
}
