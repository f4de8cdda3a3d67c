//! The fake QEMU against the real one: the same dialogue, and answers of the same shape. A fake that drifts fails here.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use voidvm_model::VmId;
use voidvm_testkit::{FakeQemu, Plan, wait_until};

/// A QEMU and a client of its monitor.
struct Qemu {
    child: Child,
    socket: PathBuf,
    lines: BufReader<UnixStream>,
    uuid: VmId,
    dir: tempfile::TempDir,
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Qemu {
    fn start(binary: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("vvq").tempdir().unwrap();
        let disk = dir.path().join("a, b.raw");
        std::fs::File::create(&disk).unwrap().set_len(1 << 20).unwrap();
        let uuid = VmId::new();
        let socket = dir.path().join("qmp.sock");
        let child = Command::new(binary)
            .args(["-name", "guest=a,,b,debug-threads=on", "-uuid", &uuid.to_string(), "-S", "-nodefaults"])
            .args([
                "-machine", "q35", "-accel", "tcg", "-m", "size=64M", "-smp", "cpus=2", "-display", "none",
            ])
            .args(["-vnc", "none", "-device", r#"{"driver":"VGA","id":"screen"}"#])
            .arg("-chardev")
            .arg(format!("socket,id=vv.qmp,path={},server=on,wait=off", socket.display()))
            .args(["-mon", "chardev=vv.qmp,mode=control"])
            .arg("-blockdev")
            .arg(
                json!({"driver": "raw", "node-name": "disk0", "file": {"driver": "file", "filename": disk}})
                    .to_string(),
            )
            .args(["-device", r#"{"driver":"virtio-blk-pci","id":"disk0","drive":"disk0"}"#])
            .args(["-device", r#"{"driver":"virtio-balloon-pci","id":"balloon"}"#])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let stream = wait_until(Duration::from_secs(10), "the monitor", || UnixStream::connect(&socket).ok());
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { child, socket, lines: BufReader::new(stream), uuid, dir }
    }

    fn read(&mut self) -> Option<Value> {
        let mut line = String::new();
        if let Err(error) = self.lines.read_line(&mut line) {
            // A peer that ends with a client still in its queue resets.
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }

    fn send(&mut self, command: &str, arguments: &Value) {
        let request = json!({"execute": command, "arguments": arguments, "id": command});
        self.lines.get_mut().write_all(format!("{request}\n").as_bytes()).unwrap();
    }

    /// The answer, and the names of the events up to it.
    fn ask(&mut self, command: &str, arguments: &Value) -> (Value, Vec<String>) {
        self.send(command, arguments);
        let mut events = Vec::new();
        loop {
            let message = self.read().unwrap_or_else(|| panic!("{command}: the monitor closed"));
            if let Some(event) = message["event"].as_str() {
                assert!(message["timestamp"]["seconds"].is_i64());
                events.push(event.to_owned());
            } else {
                assert_eq!(message["id"], command);
                return (message, events);
            }
        }
    }
}

/// The shape of a value: types, the keys of objects, the first element of arrays.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), shape(value))).collect(),
        Value::Array(list) => list.first().map(shape).into_iter().collect(),
        Value::String(_) => "text".into(),
        Value::Number(_) => "number".into(),
        Value::Bool(_) => "bool".into(),
        Value::Null => Value::Null,
    }
}

/// Everything of `part` is in `whole`, of the same kind.
fn contained(part: &Value, whole: &Value, at: &str) {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            for (key, value) in part {
                let other = whole.get(key).unwrap_or_else(|| panic!("{at}.{key} is only in the fake"));
                contained(value, other, &format!("{at}.{key}"));
            }
        }
        (Value::Array(part), Value::Array(whole)) => {
            if let (Some(part), Some(whole)) = (part.first(), whole.first()) {
                contained(part, whole, &format!("{at}[]"));
            }
        }
        _ => assert_eq!(part, whole, "{at}"),
    }
}

/// A dialogue, as shapes.
fn dialogue(binary: &Path) -> BTreeMap<String, (Value, Vec<String>)> {
    let mut qemu = Qemu::start(binary);
    let mut said = BTreeMap::new();
    said.insert("00 greeting".to_owned(), (qemu.read().unwrap(), Vec::new()));
    let picture = qemu.dir.path().join("screen.png");
    let steps = [
        ("query-status", json!({})),
        ("qmp_capabilities", json!({})),
        ("query-status", json!({})),
        ("no-such-command", json!({})),
        ("query-uuid", json!({})),
        ("query-name", json!({})),
        ("query-version", json!({})),
        ("query-kvm", json!({})),
        ("query-jobs", json!({})),
        ("query-cpus-fast", json!({})),
        ("query-block", json!({})),
        ("query-blockstats", json!({})),
        ("query-balloon", json!({})),
        ("query-vnc", json!({})),
        ("cont", json!({})),
        ("query-status", json!({})),
        ("cont", json!({})),
        ("stop", json!({})),
        ("stop", json!({})),
        ("query-status", json!({})),
        ("screendump", json!({"filename": picture, "format": "png"})),
        ("getfd", json!({"fdname": "x"})),
        ("closefd", json!({"fdname": "x"})),
        ("add_client", json!({"protocol": "vnc", "fdname": "x", "skipauth": true})),
        (
            "input-send-event",
            json!({"events": [
                {"type": "key", "data": {"down": true, "key": {"type": "qcode", "data": "a"}}},
            ]}),
        ),
        ("system_reset", json!({})),
        ("system_powerdown", json!({})),
        ("balloon", json!({"value": 48 << 20})),
    ];
    for (index, (command, arguments)) in steps.into_iter().enumerate() {
        let (answer, events) = qemu.ask(command, &arguments);
        if command == "query-uuid" {
            assert_eq!(answer["return"]["UUID"], qemu.uuid.to_string());
        }
        said.insert(format!("{:02} {command}", index + 1), (answer, events));
    }
    let head = std::fs::read(&picture).unwrap();
    assert!(head.starts_with(b"\x89PNG\r\n\x1a\n"));
    // The second client of the monitor hears nothing.
    let second = UnixStream::connect(&qemu.socket).unwrap();
    second.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(BufReader::new(second).read_line(&mut String::new()).is_err());
    qemu.send("quit", &json!({}));
    let mut rest = Vec::new();
    while let Some(message) = qemu.read() {
        rest.push(shape(&message));
    }
    said.insert("98 quit".to_owned(), (Value::Null, vec![Value::from(rest).to_string()]));
    let status = qemu.child.wait().unwrap();
    said.insert("99 exit".to_owned(), (json!(status.code()), Vec::new()));
    assert!(!qemu.socket.exists(), "the sockets go with an orderly end");
    said
}

#[test]
fn real_and_fake_answer_alike() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeQemu::install(dir.path());
    let fakes = dialogue(&fake.binary());
    let reals = dialogue(Path::new("qemu-system-x86_64"));
    assert_eq!(fakes.keys().collect::<Vec<_>>(), reals.keys().collect::<Vec<_>>());
    for (step, (fake, fake_events)) in &fakes {
        let (real, real_events) = &reals[step];
        contained(&shape(fake), &shape(real), step);
        // The real one waits with RESET for its main loop.
        if !step.ends_with("system_reset") && !step.ends_with("system_powerdown") {
            assert_eq!(fake_events, real_events, "{step}");
        }
        if step.ends_with("query-status") || step.ends_with("query-name") || step.ends_with("exit") {
            let keys = |value: &Value| {
                [
                    value["return"]["status"].clone(),
                    value["return"]["running"].clone(),
                    value["return"]["name"].clone(),
                ]
            };
            assert_eq!(keys(fake), keys(real), "{step}");
        }
        assert_eq!(fake["error"], real["error"], "{step}");
    }
}

#[test]
fn real_and_fake_end_alike_on_sigterm_and_on_a_missing_image() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeQemu::install(dir.path());
    for binary in [fake.binary(), "qemu-system-x86_64".into()] {
        let mut qemu = Qemu::start(&binary);
        qemu.read();
        qemu.ask("qmp_capabilities", &json!({}));
        let pid = rustix::process::Pid::from_child(&qemu.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let mut last = Value::Null;
        while let Some(message) = qemu.read() {
            last = message;
        }
        assert_eq!(
            (last["event"].as_str(), last["data"]["reason"].as_str()),
            (Some("SHUTDOWN"), Some("host-signal"))
        );
        assert_eq!(qemu.child.wait().unwrap().code(), Some(0), "{}", binary.display());

        let missing = Command::new(&binary)
            .args(["-S", "-display", "none", "-blockdev"])
            .arg(r#"{"driver":"file","node-name":"a","filename":"/no/such/file"}"#)
            .output()
            .unwrap();
        assert_eq!(missing.status.code(), Some(1));
        let said = String::from_utf8_lossy(&missing.stderr);
        assert!(said.contains("Could not open '/no/such/file': No such file or directory"), "{said}");
    }
}

#[test]
fn a_plan_makes_it_misbehave() {
    let dir = tempfile::tempdir().unwrap();
    let dies = Plan { die_at: Some("start".into()), stderr: Some("boom".into()), exit: 3, ..Plan::default() };
    let fake = FakeQemu::install_with(dir.path(), &dies);
    let output = Command::new(fake.binary()).arg("-S").output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).trim()), (Some(3), "boom"));

    fake.plan(&Plan { version: "6.0.1".into(), ..Plan::default() });
    let output = Command::new(fake.binary()).arg("--version").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("QEMU emulator version 6.0.1 "));

    fake.plan(&Plan { hang_at: Some("query-status".into()), ..Plan::default() });
    let mut qemu = Qemu::start(&fake.binary());
    qemu.read();
    qemu.ask("qmp_capabilities", &json!({}));
    assert_eq!(fake.process_of(qemu.uuid).pid, qemu.child.id());
    qemu.lines.get_ref().set_read_timeout(Some(Duration::from_millis(60))).unwrap();
    qemu.send("query-status", &json!({}));
    let mut line = String::new();
    qemu.lines.read_line(&mut line).unwrap_err();
    // And recovers when the plan says so.
    qemu.lines.get_ref().set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    fake.plan(&Plan::default());
    assert_eq!(qemu.read().unwrap()["return"]["status"], "prelaunch");
    let commands: Vec<_> = fake.commands().into_iter().map(|command| command.execute).collect();
    assert_eq!(commands, ["qmp_capabilities", "query-status"]);

    fake.plan(&Plan { die_at: Some("cont".into()), ..Plan::default() });
    qemu.send("cont", &json!({}));
    assert_eq!(qemu.read(), None);
    assert_eq!(qemu.child.wait().unwrap().code(), Some(1));
    assert_eq!(fake.processes(), []);
}
