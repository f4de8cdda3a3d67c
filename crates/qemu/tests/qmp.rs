//! The monitor's transport against a peer that follows a script, mostly a bad one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

use std::io::IoSliceMut;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use qapi::qmp;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use voidvm_qemu::qmp::{Qmp, QmpError, QmpEvent};

const PATIENCE: Duration = Duration::from_secs(20);
const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}"#;

/// The other end of the socket.
struct Peer {
    stream: BufReader<UnixStream>,
    _dir: tempfile::TempDir,
}

impl Peer {
    /// The next request.
    async fn request(&mut self) -> Value {
        let mut line = String::new();
        timeout(PATIENCE, self.stream.read_line(&mut line)).await.expect("a request").unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("one JSON object a line: {line:?}"))
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(PATIENCE, self.stream.get_mut().write_all(bytes.as_ref())).await.expect("it reads").unwrap();
    }

    async fn answer(&mut self, request: &Value, answer: Value) {
        self.send(format!("{}\r\n", json!({"return": answer, "id": request["id"]}))).await;
    }

    /// Whether nothing comes within a moment.
    async fn is_quiet(&mut self) -> bool {
        timeout(Duration::from_millis(100), self.stream.fill_buf()).await.is_err()
    }
}

fn listen() -> (tempfile::TempDir, PathBuf, UnixListener) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp.sock");
    let listener = UnixListener::bind(&path).unwrap();
    (dir, path, listener)
}

/// A connection that is past its negotiation.
async fn open() -> (Peer, Qmp, mpsc::Receiver<QmpEvent>) {
    let (dir, path, listener) = listen();
    let connect = tokio::spawn(async move { Qmp::connect(&path, PATIENCE).await.unwrap() });
    let mut peer = Peer { stream: BufReader::new(listener.accept().await.unwrap().0), _dir: dir };
    peer.send(format!("{GREETING}\r\n")).await;
    let request = peer.request().await;
    assert_eq!(request["execute"], "qmp_capabilities");
    peer.answer(&request, json!({})).await;
    let (qmp, events) = connect.await.unwrap();
    assert_eq!(qmp.version(), [7, 2, 22]);
    (peer, qmp, events)
}

fn status(qmp: &Qmp, within: Duration) -> tokio::task::JoinHandle<Result<Value, QmpError>> {
    let qmp = qmp.clone();
    tokio::spawn(async move { qmp.execute_raw("query-status", None, within).await })
}

async fn next(events: &mut mpsc::Receiver<QmpEvent>) -> Option<QmpEvent> {
    timeout(PATIENCE, events.recv()).await.expect("an event or the end")
}

#[tokio::test]
async fn replies_find_their_requests_in_any_order() {
    let (mut peer, qmp, _events) = open().await;
    let (first, second) = (status(&qmp, PATIENCE), status(&qmp, PATIENCE));
    let (one, two) = (peer.request().await, peer.request().await);
    assert_ne!(one["id"], two["id"]);
    let tagged = |request: &Value| json!({"was": request["id"]});
    peer.answer(&two, tagged(&two)).await;
    peer.answer(&one, tagged(&one)).await;
    let answers = [first.await.unwrap().unwrap(), second.await.unwrap().unwrap()];
    assert!(answers.contains(&tagged(&one)) && answers.contains(&tagged(&two)) && answers[0] != answers[1]);
}

#[tokio::test]
async fn a_dropped_command_leaves_the_connection_as_it_was() {
    let (mut peer, qmp, mut events) = open().await;
    for _ in 0..50 {
        let dropped = status(&qmp, PATIENCE);
        let late = peer.request().await;
        dropped.abort();
        assert!(dropped.await.unwrap_err().is_cancelled());
        let wanted = status(&qmp, PATIENCE);
        let request = peer.request().await;
        peer.answer(&late, json!("too late")).await;
        peer.answer(&request, json!("in time")).await;
        assert_eq!(wanted.await.unwrap().unwrap(), "in time");
    }
    peer.send(r#"{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}"#.to_owned() + "\n").await;
    assert_eq!(next(&mut events).await.unwrap().name, "STOP");
}

#[tokio::test]
async fn a_deadline_that_passes_costs_that_command_alone() {
    let (mut peer, qmp, _events) = open().await;
    let mute = status(&qmp, Duration::from_millis(30)).await.unwrap();
    assert!(
        matches!(mute, Err(QmpError::Timeout { ref command, .. }) if command == "query-status"),
        "{mute:?}"
    );
    let late = peer.request().await;
    peer.answer(&late, json!(1)).await;
    let again = status(&qmp, PATIENCE);
    let request = peer.request().await;
    peer.answer(&request, json!(2)).await;
    assert_eq!(again.await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn a_peer_that_never_answers_bounds_what_is_sent() {
    let (mut peer, qmp, _events) = open().await;
    for _ in 0..20 {
        let many: Vec<_> = (0..50).map(|_| status(&qmp, Duration::from_millis(20))).collect();
        for one in many {
            assert!(matches!(one.await.unwrap(), Err(QmpError::Timeout { .. })));
        }
    }
    let mut sent = 0;
    while !peer.is_quiet().await {
        peer.request().await;
        sent += 1;
    }
    assert!(sent <= voidvm_qemu::qmp::connection::IN_FLIGHT_MAX, "{sent} of 1000 were sent");
}

#[tokio::test]
async fn what_was_given_up_before_it_was_sent_is_never_sent() {
    let (mut peer, qmp, _events) = open().await;
    let most = voidvm_qemu::qmp::connection::IN_FLIGHT_MAX;
    let waiting: Vec<_> = (0..most).map(|_| status(&qmp, PATIENCE)).collect();
    let mut requests = Vec::new();
    for _ in 0..most {
        requests.push(peer.request().await);
    }
    let given_up = qmp.execute_within(&qmp::quit {}, Duration::from_millis(30)).await;
    assert!(matches!(given_up, Err(QmpError::Timeout { .. })));
    for request in &requests {
        peer.answer(request, json!({})).await;
    }
    for one in waiting {
        one.await.unwrap().unwrap();
    }
    let after = status(&qmp, PATIENCE);
    let request = peer.request().await;
    assert_eq!(request["execute"], "query-status", "not the quit of before");
    peer.answer(&request, json!({})).await;
    after.await.unwrap().unwrap();
}

#[tokio::test]
async fn lines_may_come_in_any_pieces_and_garbage_is_skipped() {
    let (mut peer, qmp, mut events) = open().await;
    let wanted = status(&qmp, PATIENCE);
    let request = peer.request().await;
    let mut bytes: Vec<u8> = b"\n\r\n}{ garbage\n[1,2]\n\"x\"\nnull\n{}\n{\"return\": 1}\n{\"return\": 1, \"id\": 999}\n{\"id\": \"x\", \"error\": 5}\n".to_vec();
    bytes.extend_from_slice(b"{\"event\": 5}\n\xff\xfe\n{\"event\": \"A\", \"data\": {\"name\": \"\xff\xfe\"}, \"timestamp\": {\"seconds\": -1, \"microseconds\": -1}}\n");
    bytes.extend_from_slice(&vec![b'['; 100_000]);
    bytes.push(b'\n');
    bytes.extend_from_slice(b"{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": \"no bool\"}}\n");
    bytes.extend_from_slice(b"{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-shutdown\"}, \"timestamp\": {\"seconds\": 5, \"microseconds\": 250000}}\n");
    for piece in bytes.chunks(997) {
        peer.send(piece).await;
    }
    let answer = format!("{}\n", json!({"return": {"running": true}, "id": request["id"]}));
    for byte in answer.as_bytes() {
        peer.send([*byte]).await;
    }
    assert_eq!(wanted.await.unwrap().unwrap()["running"], true);
    let odd = next(&mut events).await.unwrap();
    assert_eq!((odd.name.as_str(), &odd.data["name"]), ("A", &json!("\u{fffd}\u{fffd}")));
    let raw = next(&mut events).await.unwrap();
    assert!(
        raw.name == "SHUTDOWN" && raw.typed.is_none() && raw.data["guest"] == "no bool",
        "kept as it came"
    );
    let good = next(&mut events).await.unwrap();
    assert!(matches!(good.typed, Some(qmp::Event::SHUTDOWN { ref data, .. }) if data.guest));
    assert_eq!(good.at.to_string(), "1970-01-01T00:00:05.25Z");
}

#[tokio::test]
async fn a_line_without_an_end_ends_the_connection_and_not_the_program() {
    let (mut peer, qmp, mut events) = open().await;
    let waiting = status(&qmp, PATIENCE);
    peer.request().await;
    let block = vec![b'x'; 1 << 20];
    for _ in 0..18 {
        if peer.stream.get_mut().write_all(&block).await.is_err() {
            break;
        }
    }
    let told = waiting.await.unwrap();
    assert!(matches!(told, Err(QmpError::Closed { ref reason }) if reason.contains("line")), "{told:?}");
    assert!(next(&mut events).await.is_none());
    let after = qmp.execute(&qmp::query_status {}).await;
    assert!(matches!(after, Err(QmpError::Closed { ref reason }) if reason.contains("line")), "{after:?}");
    assert!(qmp.is_closed());
}

#[tokio::test]
async fn an_event_of_absurd_length_ends_the_connection() {
    let (mut peer, _qmp, mut events) = open().await;
    peer.send(format!("{}\n", json!({"event": "X", "data": {"text": "x".repeat(70_000)}}))).await;
    assert!(next(&mut events).await.is_none());
}

#[tokio::test]
async fn the_end_of_the_peer_is_told_to_everybody_at_once() {
    let (mut peer, qmp, mut events) = open().await;
    let waiting: Vec<_> = (0..5).map(|_| status(&qmp, PATIENCE)).collect();
    for _ in 0..5 {
        peer.request().await;
    }
    peer.send("{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": false, \"reason\": \"host-signal\"}}\n{\"return\": {}, \"i").await;
    drop(peer);
    for one in waiting {
        let told = timeout(PATIENCE, one).await.unwrap().unwrap();
        assert!(matches!(told, Err(QmpError::Closed { .. })), "{told:?}");
    }
    assert_eq!(next(&mut events).await.unwrap().name, "SHUTDOWN", "what came before the end is not lost");
    assert!(next(&mut events).await.is_none());
}

#[tokio::test]
async fn no_event_is_lost_when_the_receiver_is_slow() {
    const COUNT: u32 = 20_000;
    let (mut peer, qmp, mut events) = open().await;
    let flood = tokio::spawn(async move {
        for number in 0..COUNT {
            peer.send(format!("{{\"event\": \"E\", \"data\": {number}}}\n")).await;
        }
        let request = peer.request().await;
        peer.answer(&request, json!("after all")).await;
        peer
    });
    // Nobody receives: the reply waits behind the events, and the command gives up.
    let stuck = status(&qmp, Duration::from_millis(50)).await.unwrap();
    assert!(matches!(stuck, Err(QmpError::Timeout { .. })), "{stuck:?}");
    let command = status(&qmp, PATIENCE);
    for number in 0..COUNT {
        assert_eq!(next(&mut events).await.unwrap().data, number);
    }
    let mut peer = flood.await.unwrap();
    let request = peer.request().await;
    peer.answer(&request, json!("as ever")).await;
    assert_eq!(timeout(PATIENCE, command).await.unwrap().unwrap().unwrap(), "as ever");
}

#[tokio::test]
async fn commands_go_on_when_nobody_receives_events() {
    let (mut peer, qmp, events) = open().await;
    drop(events);
    for _ in 0..1000 {
        peer.send("{\"event\": \"E\"}\n").await;
    }
    let wanted = status(&qmp, PATIENCE);
    let request = peer.request().await;
    peer.answer(&request, json!(1)).await;
    assert_eq!(wanted.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn qemus_refusals_and_odd_answers_are_errors_of_their_own() {
    let (mut peer, qmp, _events) = open().await;
    let typed = |qmp: &Qmp| {
        let qmp = qmp.clone();
        tokio::spawn(async move { qmp.execute(&qmp::query_status {}).await.map(drop) })
    };
    let refused = typed(&qmp);
    let request = peer.request().await;
    assert!(request.get("arguments").is_none());
    peer.send(format!(
        "{}\n",
        json!({"id": request["id"], "error": {"class": "DeviceNotFound", "desc": "no \"x\""}})
    ))
    .await;
    let error = refused.await.unwrap().unwrap_err();
    assert!(error.is_class("DeviceNotFound") && error.body().message.contains("no \"x\""), "{error:?}");
    let odd = typed(&qmp);
    let request = peer.request().await;
    peer.answer(&request, json!([1, 2, 3])).await;
    assert!(matches!(odd.await.unwrap(), Err(QmpError::Decode { .. })));
    // Fields a newer schema demands and this QEMU does not send.
    let counters = tokio::spawn({
        let qmp = qmp.clone();
        async move { qmp.disk_counters().await }
    });
    let request = peer.request().await;
    let stats = json!({"rd_bytes": 5, "wr_bytes": 7, "unheard_of": true});
    peer.answer(&request, json!([{"qdev": "/machine/peripheral/disk0/virtio-backend", "stats": stats}]))
        .await;
    let counters = counters.await.unwrap().unwrap();
    assert_eq!((counters[0].device.as_str(), counters[0].read.0, counters[0].written.0), ("disk0", 5, 7));
}

/// Reads one line with the descriptors that come with it.
async fn receive(peer: &UnixStream) -> (Value, Vec<OwnedFd>) {
    let (mut bytes, mut fds) = (Vec::new(), Vec::new());
    while !bytes.ends_with(b"\n") {
        timeout(PATIENCE, peer.readable()).await.unwrap().unwrap();
        let read = peer.try_io(tokio::io::Interest::READABLE, || {
            let mut byte = [0; 1];
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT;
            let got = rustix::net::recvmsg(peer, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags)?;
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    fds.extend(rights);
                }
            }
            Ok((got.bytes, byte[0]))
        });
        match read {
            Ok((1, byte)) => bytes.push(byte),
            Ok(_) => panic!("the connection ended"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    (serde_json::from_slice(&bytes).unwrap(), fds)
}

#[tokio::test]
async fn descriptors_go_one_at_a_time_each_with_its_own_command() {
    let (mut peer, qmp, _events) = open().await;
    let mut ends = Vec::new();
    let mut calls = Vec::new();
    for number in 0..3 {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let qmp = qmp.clone();
        ends.push(ours);
        calls.push(tokio::spawn(async move {
            let command = qmp::getfd { fdname: format!("fd{number}") };
            qmp.execute_with_fd(&command, theirs.as_fd()).await.map(drop)
        }));
    }
    for turn in 0..3 {
        let (request, mut fds) = receive(peer.stream.get_ref()).await;
        assert_eq!((request["execute"].as_str(), fds.len()), (Some("getfd"), 1));
        if turn == 0 {
            // Given up by its caller, and still on its way: the next has to wait all the same.
            let name = request["arguments"]["fdname"].as_str().unwrap().to_owned();
            let index: usize = name.strip_prefix("fd").unwrap().parse().unwrap();
            calls[index].abort();
        }
        assert!(peer.is_quiet().await, "the next descriptor waits for the answer");
        let name = request["arguments"]["fdname"].as_str().unwrap();
        let index: usize = name.strip_prefix("fd").unwrap().parse().unwrap();
        // The descriptor is the one of this name.
        let mut theirs = std::os::unix::net::UnixStream::from(fds.remove(0));
        std::io::Write::write_all(&mut theirs, b"!").unwrap();
        let mut byte = [0; 1];
        std::io::Read::read_exact(&mut ends[index], &mut byte).unwrap();
        peer.answer(&request, json!({})).await;
    }
    let mut done = 0;
    for call in calls {
        done += usize::from(matches!(call.await, Ok(Ok(()))));
    }
    assert_eq!(done, 2);
}

#[tokio::test]
async fn who_does_not_greet_is_no_monitor() {
    let short = Duration::from_millis(60);
    let (_dir, path, listener) = listen();
    // Somebody listens and says nothing, as QEMU does while it serves another client.
    let mute = Qmp::connect(&path, short).await.unwrap_err();
    assert!(matches!(mute, QmpError::Greeting { .. }), "{mute:?}");
    let _ = listener.accept().await.unwrap();
    for said in
        ["SSH-2.0-OpenSSH\r\n".to_owned(), "{\"return\": {}}\n".to_owned(), "x".repeat(70_000), String::new()]
    {
        let connect = tokio::spawn({
            let path = path.clone();
            async move { Qmp::connect(&path, PATIENCE).await.map(drop) }
        });
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(said.as_bytes()).await;
        drop(stream);
        let foreign = timeout(PATIENCE, connect).await.unwrap().unwrap();
        assert!(matches!(foreign, Err(QmpError::Greeting { .. })), "{foreign:?}");
    }
    drop(listener);
    let dead = Qmp::connect(&path, short).await.unwrap_err();
    assert!(matches!(dead, QmpError::Connect { .. }), "{dead:?}");
}

#[tokio::test]
async fn a_socket_that_is_made_late_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("late");
    let connect = tokio::spawn({
        let path = path.clone();
        async move { Qmp::connect(&path, PATIENCE).await.map(drop) }
    });
    tokio::time::sleep(Duration::from_millis(40)).await;
    let listener = UnixListener::bind(&path).unwrap();
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut peer = Peer { stream: BufReader::new(stream), _dir: dir };
    // The greeting and the first events may come in one piece.
    peer.send(format!("{GREETING}\n{{\"event\": \"EARLY\"}}\n")).await;
    let request = peer.request().await;
    peer.answer(&request, json!({})).await;
    connect.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_comes_with_the_greeting_is_not_lost() {
    let (dir, path, listener) = listen();
    let connect = tokio::spawn(async move { Qmp::connect(&path, PATIENCE).await.unwrap() });
    let mut peer = Peer { stream: BufReader::new(listener.accept().await.unwrap().0), _dir: dir };
    peer.send(format!("{GREETING}\n{{\"event\": \"EARLY\"}}\n{{\"event\": \"HALF")).await;
    let request = peer.request().await;
    peer.send("\"}\n").await;
    peer.answer(&request, json!({})).await;
    let (_qmp, mut events) = connect.await.unwrap();
    assert_eq!(next(&mut events).await.unwrap().name, "EARLY");
    assert_eq!(next(&mut events).await.unwrap().name, "HALF");
}

#[tokio::test]
async fn the_last_user_ends_the_connection() {
    let (mut peer, qmp, mut events) = open().await;
    let other = qmp.clone();
    drop(qmp);
    assert!(peer.is_quiet().await);
    drop(other);
    let mut rest = Vec::new();
    timeout(PATIENCE, peer.stream.read_to_end(&mut rest)).await.expect("the end").unwrap();
    assert!(rest.is_empty());
    assert!(next(&mut events).await.is_none());
}
