//! The guest agent's line against guests that do not behave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use voidvm_qemu::agent::{Agent, AgentError};

const PATIENCE: Duration = Duration::from_secs(20);

struct Guest {
    stream: BufReader<UnixStream>,
    _dir: tempfile::TempDir,
}

impl Guest {
    /// The next question, without the byte that resets the agent's parser.
    async fn question(&mut self) -> Value {
        let mut line = Vec::new();
        timeout(PATIENCE, self.stream.read_until(b'\n', &mut line)).await.expect("a question").unwrap();
        serde_json::from_slice(line.strip_prefix(b"\xff").unwrap_or(&line)).unwrap()
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).await.unwrap();
    }

    async fn answer(&mut self, answer: Value) {
        self.question().await;
        self.send(format!("{}\n", json!({"return": answer}))).await;
    }
}

fn listen() -> (tempfile::TempDir, PathBuf, UnixListener) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qga.sock");
    let listener = UnixListener::bind(&path).unwrap();
    (dir, path, listener)
}

async fn open() -> (Guest, Agent) {
    let (dir, path, listener) = listen();
    let connect = tokio::spawn(async move { Agent::connect(&path, PATIENCE).await.unwrap() });
    let mut guest = Guest { stream: BufReader::new(listener.accept().await.unwrap().0), _dir: dir };
    let question = guest.question().await;
    assert_eq!(question["execute"], "guest-sync-delimited");
    // What an earlier client asked, what the kernel said, somebody else's number; then the answer.
    guest
        .send(b"{\"return\": {\"host-name\": \"stale\"}}\n[ 0.0] noise \xfe\xff\n\xff{\"return\": 1}\n")
        .await;
    guest.send(b"half a line \xff").await;
    guest.send(format!("{}\n", json!({"return": question["arguments"]["id"]}))).await;
    (guest, connect.await.unwrap())
}

#[tokio::test]
async fn what_was_on_the_line_before_is_not_taken_for_an_answer() {
    let (mut guest, mut agent) = open().await;
    let asked = tokio::spawn(async move { agent.host_name().await });
    guest.answer(json!({"host-name": "web\u{1b}[31m\n1"})).await;
    assert_eq!(asked.await.unwrap().unwrap(), "web[31m1", "nothing a terminal would obey");
}

#[tokio::test]
async fn what_the_guest_tells_is_shown_as_far_as_it_makes_sense() {
    let (mut guest, mut agent) = open().await;
    let asked = tokio::spawn(async move {
        let info = agent.info().await.unwrap();
        (info, agent.network().await.unwrap())
    });
    guest.answer(json!({"host-name": "web"})).await;
    guest.question().await;
    guest.send("{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no\"}}\n").await;
    let network = json!([
        {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8}]},
        {"name": "eth0", "hardware-address": "52:54:00:00:00:01",
         "statistics": {"rx-bytes": 10, "tx-bytes": 20, "rx-packets": 1},
         "ip-addresses": [{"ip-address": "10.0.2.15"}, {"ip-address": "fe80::1"}, {"ip-address": "<script>"}]},
        {"name": "wlan0"},
    ]);
    guest.answer(network.clone()).await;
    guest.answer(network).await;
    let (info, network) = asked.await.unwrap();
    assert!(info.agent && info.hostname.as_deref() == Some("web") && info.os.is_none());
    let addresses: Vec<_> =
        info.addresses.iter().map(|a| (a.interface.as_str(), a.address.as_str())).collect();
    assert_eq!(addresses, [("eth0", "10.0.2.15"), ("eth0", "fe80::1")]);
    assert_eq!(network.counters.len(), 1);
    assert_eq!((network.counters[0].received.0, network.counters[0].sent.0), (10, 20));
}

#[tokio::test]
async fn a_silent_line_costs_its_deadline_and_no_more() {
    let (_dir, path, _listener) = listen();
    let silent = Agent::connect(&path, Duration::from_millis(50)).await;
    assert!(matches!(silent, Err(AgentError::Silent)), "{silent:?}");
    let gone = Agent::connect(&path.with_extension("none"), PATIENCE).await;
    assert!(matches!(gone, Err(AgentError::Io(_))), "{gone:?}");
}

#[tokio::test]
async fn an_answer_without_an_end_is_given_up() {
    let (mut guest, mut agent) = open().await;
    let asked = tokio::spawn(async move { agent.os_info().await });
    guest.question().await;
    let block = vec![b'x'; 1 << 16];
    for _ in 0..20 {
        if guest.stream.get_mut().write_all(&block).await.is_err() {
            break;
        }
    }
    assert!(matches!(asked.await.unwrap(), Err(AgentError::Garbage)));
}

#[tokio::test]
async fn a_guest_that_powers_off_does_not_answer() {
    let (mut guest, mut agent) = open().await;
    let asked = tokio::spawn(async move { agent.shutdown().await });
    assert_eq!(guest.question().await["execute"], "guest-shutdown");
    drop(guest);
    asked.await.unwrap().unwrap();
    let (mut guest, mut agent) = open().await;
    let asked = tokio::spawn(async move { agent.shutdown().await });
    guest.question().await;
    guest.send("{\"error\": {\"class\": \"GenericError\", \"desc\": \"not allowed\"}}\n").await;
    assert!(matches!(asked.await.unwrap(), Err(AgentError::Refused(words)) if words == "not allowed"));
}
