//! Machines outlive their owner, and the next owner takes over its own processes and no others.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use voidvm_model::{ErrorCode, OperationStatus, VmId, VmState, VmView};
use voidvm_testkit::fake::kill;
use voidvm_testkit::{Home, Plan, Serve, wait_until};
use voidvm_tests::{create_request, make_iso};

/// A home with one machine that runs, and its owner.
fn one_running() -> (Home, Serve, VmView) {
    let home = Home::with_fake(&Plan::default());
    let serve = home.serve();
    let id = create(&serve, "one", &home);
    serve.client.operate("vm.start", &json!({"id": id})).unwrap();
    let view = serve.client.wait_vm(id, "running", |view| view.state == VmState::Running);
    (home, serve, view)
}

fn create(serve: &Serve, name: &str, home: &Home) -> VmId {
    let made = serve.client.operate("vm.create", &create_request(name, &make_iso(home.path()))).unwrap();
    assert_eq!(made.status, OperationStatus::Succeeded, "{made:?}");
    made.vm_id.unwrap()
}

fn run_of(view: &VmView) -> (u32, jiff::Timestamp) {
    let run = view.run.as_ref().unwrap();
    (run.pid, run.started_at)
}

/// The record of the run: a path, and what is in it.
fn record(serve_runtime: &std::path::Path) -> (PathBuf, Value) {
    let mut found = Vec::new();
    let mut look = vec![serve_runtime.to_owned()];
    while let Some(dir) = look.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                look.push(path);
            } else if path.ends_with("run.json") {
                found.push(path);
            }
        }
    }
    assert_eq!(found.len(), 1, "{found:?}");
    let path = found.pop().unwrap();
    let value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    (path, value)
}

/// The 22nd field of /proc/PID/stat.
fn start_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap()
}

/// A process of somebody's; ended when dropped.
struct Bystander(Child);

impl Bystander {
    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_machine_goes_on_through_kill_and_orderly_end_of_its_owner() {
    let (home, serve, before) = one_running();
    serve.kill();
    let serve = home.serve();
    let after = serve.client.wait_vm(before.id, "running again", |view| view.state == VmState::Running);
    assert_eq!(run_of(&after), run_of(&before));
    assert!(after.run.unwrap().adopted);
    assert_eq!(serve.terminate(), Some(0));
    assert_eq!(home.fake().processes().len(), 1, "the machine goes on");

    let serve = home.serve();
    let after = serve.client.wait_vm(before.id, "running again", |view| view.state == VmState::Running);
    assert_eq!(run_of(&after), run_of(&before));
    // And it is whole: it can be paused, resumed and stopped.
    for (command, state) in
        [("vm.pause", VmState::Paused), ("vm.resume", VmState::Running), ("vm.stop", VmState::Stopped)]
    {
        let operation = serve.client.operate(command, &json!({"id": before.id})).unwrap();
        assert_eq!(operation.status, OperationStatus::Succeeded, "{operation:?}");
        assert_eq!(serve.client.wait_vm(before.id, command, |view| view.state == state).state, state);
    }
    assert_eq!(home.fake().processes(), []);
}

#[test]
fn a_reused_pid_is_not_adopted() {
    // The pid is another process's now; then its start time is forged as well.
    for forge_start in [false, true] {
        let (home, serve, view) = one_running();
        let (path, mut run) = record(&serve.runtime);
        serve.kill();
        kill(run_of(&view).0);
        wait_until(Duration::from_secs(5), "the machine's end", || {
            home.fake().processes().is_empty().then_some(())
        });
        let mut bystander = Bystander(Command::new("sleep").arg("600").spawn().unwrap());
        run["pid"] = bystander.0.id().into();
        if forge_start {
            let key = ["startTicks", "start_ticks"].into_iter().find(|key| run.get(*key).is_some()).unwrap();
            run[key] = start_ticks(bystander.0.id()).into();
        }
        std::fs::write(&path, run.to_string()).unwrap();

        let serve = home.serve();
        let view = serve.client.wait_vm(view.id, "an end", |view| view.state != VmState::Adopting);
        assert_eq!(
            (view.state, view.run.as_ref()),
            (VmState::Crashed, None),
            "forged start time: {forge_start}"
        );
        // Neither a force-off nor a new run touches it.
        let refused = serve.client.call("vm.stop", &json!({"id": view.id, "force": true})).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidState);
        let started = serve.client.operate("vm.start", &json!({"id": view.id})).unwrap();
        assert_eq!(started.status, OperationStatus::Succeeded, "{started:?}");
        assert_ne!(home.fake().process_of(view.id).pid, bystander.0.id());
        assert!(bystander.lives());
    }
}

#[test]
fn a_foreign_qemu_on_our_socket_is_not_adopted() {
    let (home, serve, view) = one_running();
    let (path, mut run) = record(&serve.runtime);
    serve.kill();
    kill(run_of(&view).0);
    wait_until(Duration::from_secs(5), "the machine's end", || {
        home.fake().processes().is_empty().then_some(())
    });
    let socket = path.with_file_name("qmp.sock");
    assert!(socket.exists(), "a killed process leaves its socket");
    let other = VmId::new();
    let mut foreign = Bystander(
        Command::new(home.fake().binary())
            .args(["-uuid", &other.to_string(), "-S", "-nodefaults", "-qmp"])
            .arg(format!("unix:{},server=on,wait=off", socket.display()))
            .stdin(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let pid = home.fake().process_of(other).pid;
    // Its pid and start time in the record, so that only what it says of itself tells.
    run["pid"] = pid.into();
    let key = ["startTicks", "start_ticks"].into_iter().find(|key| run.get(*key).is_some()).unwrap();
    run[key] = start_ticks(pid).into();
    std::fs::write(&path, run.to_string()).unwrap();

    let serve = home.serve();
    let view = serve.client.wait_vm(view.id, "an end", |view| view.state != VmState::Adopting);
    assert_eq!((view.state, view.run.as_ref()), (VmState::Crashed, None));
    let refused = serve.client.call("vm.stop", &json!({"id": view.id, "force": true})).unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidState);
    assert!(foreign.lives());
    assert!(home.fake().commands().iter().all(|command| command.uuid != other || command.execute != "quit"));
}

#[test]
fn a_process_without_its_record_is_found() {
    let (home, serve, before) = one_running();
    let (path, _) = record(&serve.runtime);
    serve.kill();
    std::fs::remove_file(path).unwrap();
    let serve = home.serve();
    let after = serve.client.wait_vm(before.id, "running again", |view| view.state == VmState::Running);
    assert_eq!(run_of(&after).0, run_of(&before).0);
    assert_eq!(home.fake().processes().len(), 1);
}

#[test]
fn a_mute_machine_is_unresponsive_and_recovers() {
    let (home, serve, before) = one_running();
    serve.kill();
    home.fake().plan(&Plan { hang_at: Some("greeting".to_owned()), ..Plan::default() });
    let serve = home.serve();
    let mute = serve.client.wait_vm(before.id, "found mute", |view| view.state == VmState::Unresponsive);
    assert_eq!(mute.run.as_ref().unwrap().pid, run_of(&before).0);
    assert!(mute.attention.is_some());
    home.fake().plan(&Plan::default());
    let after = serve.client.wait_vm(before.id, "its recovery", |view| view.state == VmState::Running);
    assert_eq!(run_of(&after), run_of(&before));
    assert_eq!(home.fake().processes().len(), 1);
}

#[test]
fn what_ended_while_nobody_looked_is_told_apart() {
    let home = Home::with_fake(&Plan::default());
    let serve = home.serve();
    let ids = ["orderly", "killed"].map(|name| create(&serve, name, &home));
    for id in ids {
        serve.client.operate("vm.start", &json!({"id": id})).unwrap();
    }
    let [orderly, killed] = ids.map(|id| home.fake().process_of(id).pid);
    serve.kill();
    let pid = rustix::process::Pid::from_raw(i32::try_from(orderly).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    kill(killed);
    wait_until(Duration::from_secs(5), "their end", || home.fake().processes().is_empty().then_some(()));
    let serve = home.serve();
    let states =
        ids.map(|id| serve.client.wait_vm(id, "an end", |view| view.state != VmState::Adopting).state);
    assert_eq!(states, [VmState::Stopped, VmState::Crashed]);
}

#[test]
fn the_command_line_hosts_machines_itself_and_they_live_on() {
    let home = Home::with_fake(&Plan::default());
    let iso = make_iso(home.path());
    home.json(&[
        "create",
        "one",
        "--iso",
        iso.to_str().unwrap(),
        "--disk",
        "1M",
        "--memory",
        "64M",
        "--accel",
        "tcg",
    ]);
    home.json(&["start", "one", "--wait"]);
    let list = home.json(&["list"]);
    assert_eq!((&list[0]["name"], &list[0]["state"]), (&json!("one"), &json!("running")));
    let pid = list[0]["run"]["pid"].clone();
    assert_eq!(home.fake().processes().len(), 1);
    // An owner comes: the command line becomes its client.
    let serve = home.serve();
    let id = serve.client.vms()[0].id;
    serve.client.wait_vm(id, "running again", |view| view.state == VmState::Running);
    assert_eq!(home.json(&["show", "one"])["run"]["pid"], pid);
    home.json(&["stop", "one"]);
    assert_eq!(serve.client.vms()[0].state, VmState::Stopped);
    assert_eq!(home.fake().processes(), []);
}

/// Three real guests under the real QEMU: they serve HTTP through the kill of their owner, and the next owner has them at once.
#[test]
fn real_guests_survive_kill_and_are_adopted() {
    const GUESTS: usize = 3;
    let home = Home::new();
    let guest = voidvm_testkit::guest::guest();
    let serve = home.serve();
    let ports: Vec<u16> = (0..GUESTS).map(|_| free_port()).collect();
    let ids: Vec<VmId> = ports
        .iter()
        .enumerate()
        .map(|(index, port)| {
            let request = json!({
                "name": format!("guest-{index}"), "memory": 256, "cpus": 1, "accel": "tcg", "start": true,
                "source": {"kind": "image_copy", "path": guest.join("disk.qcow2")},
                "forwards": [{"protocol": "tcp", "hostPort": port, "guestPort": 80}],
            });
            let made = serve.client.operate("vm.create", &request).unwrap();
            assert_eq!(made.status, OperationStatus::Succeeded, "{made:?}");
            made.vm_id.unwrap()
        })
        .collect();
    let before: Vec<VmView> = ids
        .iter()
        .zip(&ports)
        .map(|(id, port)| {
            let view = serve.client.wait_vm(*id, "running", |view| view.state == VmState::Running);
            wait_until(Duration::from_secs(180), "the guest to serve", || http(*port));
            view
        })
        .collect();
    let uptimes: Vec<f64> = ports.iter().map(|port| uptime(&http(*port).unwrap())).collect();
    serve.kill();
    for port in &ports {
        assert!(http(*port).is_some(), "the guest serves without an owner");
    }
    let began = Instant::now();
    let serve = home.serve();
    let up = began.elapsed();
    let after: Vec<VmView> = ids
        .iter()
        .map(|id| serve.client.wait_vm(*id, "running again", |view| view.state == VmState::Running))
        .collect();
    let all = began.elapsed();
    println!(
        "{GUESTS} real guests adopted {all:?} after the start of the owner, which answered after {up:?}"
    );
    for ((before, after), (port, uptime_before)) in before.iter().zip(&after).zip(ports.iter().zip(uptimes)) {
        assert_eq!(run_of(before), run_of(after));
        assert!(uptime(&http(*port).unwrap()) > uptime_before, "the guest did not start anew");
    }
    for id in ids {
        serve.client.operate("vm.stop", &json!({"id": id, "force": true})).unwrap();
    }
}

fn free_port() -> u16 {
    voidvm_testkit::port::free()
}

/// What the guest says of itself over HTTP.
fn http(port: u16) -> Option<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    stream.write_all(b"GET /cgi-bin/info HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.contains("uptime").then_some(answer)
}

/// The first number after the word.
fn uptime(info: &str) -> f64 {
    let rest = info.split_once("uptime").unwrap().1;
    let digits: String = rest
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    digits.parse().unwrap_or_else(|error| panic!("{error}: {info}"))
}

/// A copy of an image that takes long ends with the owner that was killed, and leaves nothing.
#[test]
fn a_long_copy_ends_with_its_owner() {
    let home = Home::with_fake(&Plan::default());
    let image = voidvm_tests::make_disk(home.path(), 512);
    let serve = home.serve();
    let request = voidvm_tests::copy_request("large", &image);
    serve.client.call("vm.create", &request).unwrap();
    let owner = serve.pid();
    let copier = wait_until(Duration::from_secs(10), "the copy to begin", || {
        home.processes().into_iter().find(|pid| *pid != owner)
    });
    serve.kill();
    wait_until(Duration::from_millis(500), "the copy to end", || {
        (!home.processes().contains(&copier)).then_some(())
    });
    let serve = home.serve();
    assert_eq!(serve.client.vms(), []);
    assert_eq!(std::fs::read_dir(home.data().join("vms")).unwrap().count(), 0);
    let log = serve.client.call("operation.list", &json!({})).unwrap();
    assert_eq!((&log[0]["kind"], &log[0]["status"]), (&json!("create"), &json!("interrupted")));
}
