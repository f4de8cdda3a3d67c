//! Bad input and faults: each a clear error of its own with a remedy, nothing half done, nothing lost.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use voidvm_model::{ErrorBody, ErrorCode, Operation, OperationStatus, VmId, VmState, VmView};
use voidvm_testkit::{Home, Plan, Serve, SmallDisk};
use voidvm_tests::{copy_request, create_request, make_disk, make_iso};

/// A home with its owner, and what a refused creation must leave.
struct Bench {
    serve: Serve,
    home: Home,
    iso: PathBuf,
}

impl Bench {
    fn new(plan: &Plan) -> Self {
        let home = Home::with_fake(plan);
        let iso = make_iso(home.path());
        Self { serve: home.serve(), iso, home }
    }

    fn operate(&self, command: &str, payload: &Value) -> Result<Operation, ErrorBody> {
        let operation = self.serve.client.operate(command, payload)?;
        match operation.status {
            OperationStatus::Succeeded => Ok(operation),
            _ => Err(operation.error.clone().unwrap_or_else(|| panic!("no error: {operation:?}"))),
        }
    }

    /// The error of a creation that must fail, and leaves nothing.
    fn refused(&self, request: &Value) -> ErrorBody {
        let before = (self.serve.client.vms(), files(&self.home.data()));
        let Err(error) = self.operate("vm.create", request) else { panic!("made: {request}") };
        assert_eq!(
            (self.serve.client.vms(), files(&self.home.data())),
            before,
            "something is left of {request}"
        );
        clear(&error)
    }

    fn create(&self, name: &str) -> VmId {
        self.operate("vm.create", &create_request(name, &self.iso)).unwrap().vm_id.unwrap()
    }

    /// The error of a start that must fail, and leaves no process; the machine can be started when the fault is gone.
    fn start_refused(&self, id: VmId) -> ErrorBody {
        let Err(error) = self.operate("vm.start", &json!({"id": id})) else { panic!("started") };
        let view = self
            .serve
            .client
            .wait_vm(id, "its rest", |view| !view.state.is_live() && view.operation.is_none());
        assert_ne!(view.state, VmState::Broken);
        assert_eq!(self.home.fake().processes(), []);
        clear(&error)
    }
}

/// A clear error says what is wrong, what to do, and where to find it in the log.
fn clear(error: &ErrorBody) -> ErrorBody {
    assert!(!error.message.is_empty() && !error.trace_id.is_empty(), "{error:?}");
    assert!(error.hint.as_ref().is_some_and(|hint| !hint.is_empty()), "no remedy: {error:?}");
    error.clone()
}

/// Machines' files, below `vms`.
fn files(data: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut look = vec![data.join("vms")];
    while let Some(dir) = look.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                look.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}

fn copy_of(path: &Path) -> Value {
    copy_request("x", path)
}

fn in_place(path: &Path) -> Value {
    json!({"name": "x", "memory": 64, "accel": "tcg", "source": {"kind": "image_in_place", "path": path}})
}

fn qcow2(path: &Path, size: &str) {
    let done =
        Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(path).arg(size).status().unwrap();
    assert!(done.success());
}

#[test]
fn missing_and_corrupt_images_are_told_apart() {
    let bench = Bench::new(&Plan::default());
    let dir = bench.home.path();
    let path = |name: &str| dir.join(name);
    let missing = path("missing.qcow2");
    std::fs::write(path("empty.img"), "").unwrap();
    std::fs::write(path("page.qcow2"), "<!DOCTYPE html><html>404</html>").unwrap();
    std::fs::write(path("noise.raw"), vec![0x5a_u8; 70_000]).unwrap();
    std::fs::write(path("header.qcow2"), b"QFI\xfb\0\0\0\x03truncated").unwrap();
    std::fs::write(path("page.iso"), "<html>Not found</html>".repeat(4000)).unwrap();
    std::fs::write(path("noise.iso"), vec![0x5a_u8; 70_000]).unwrap();
    qcow2(&path("good.qcow2"), "1M");
    std::fs::create_dir(path("a directory")).unwrap();

    for request in [copy_of(&missing), in_place(&missing), create_request("x", &missing)] {
        let error = bench.refused(&request);
        assert_eq!(error.code, ErrorCode::ImageMissing, "{request}: {error:?}");
    }
    for name in ["empty.img", "page.qcow2", "noise.raw", "header.qcow2", "a directory"] {
        for request in [copy_of(&path(name)), in_place(&path(name))] {
            let error = bench.refused(&request);
            assert_eq!(error.code, ErrorCode::ImageInvalid, "{request}: {error:?}");
        }
    }
    for name in ["page.iso", "noise.iso", "empty.img", "good.qcow2", "a directory"] {
        let error = bench.refused(&create_request("x", &path(name)));
        assert_eq!(error.code, ErrorCode::ImageInvalid, "{name}: {error:?}");
    }
    for relative in ["good.qcow2", "./good.qcow2", ""] {
        let error = bench.refused(&copy_of(Path::new(relative)));
        assert_eq!(error.code, ErrorCode::InvalidInput, "{relative}: {error:?}");
    }
    bench.operate("vm.create", &copy_of(&path("good.qcow2"))).unwrap();
}

#[test]
fn a_file_of_two_machines_is_refused() {
    let bench = Bench::new(&Plan::default());
    let disk = bench.home.path().join("mine.qcow2");
    qcow2(&disk, "1M");
    let mut request = in_place(&disk);
    bench.operate("vm.create", &request).unwrap();
    request["name"] = "y".into();
    assert_eq!(bench.refused(&request).code, ErrorCode::FileInUse);
    // The user's file outlives the machine.
    let id = bench.serve.client.vms()[0].id;
    bench.operate("vm.delete", &json!({"id": id})).unwrap();
    assert!(disk.exists());
    assert_eq!(files(&bench.home.data()), Vec::<PathBuf>::new());
}

#[test]
fn a_name_is_taken_once_and_may_be_odd() {
    let bench = Bench::new(&Plan::default());
    bench.create("web");
    let error = bench.refused(&create_request("web", &bench.iso));
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::NameTaken, Some("name")));
    for name in ["", " web", "web ", "a\nb", "a\0b", "a\u{7f}", "a\u{202e}b", &"x".repeat(101)] {
        let error = bench.refused(&create_request(name, &bench.iso));
        assert_eq!((error.code, error.field.as_deref()), (ErrorCode::InvalidInput, Some("name")), "{name:?}");
    }
    let odd = [
        "a,b=c,id=d",
        "-S",
        "--help",
        "\"quoted\" 'name'",
        "$(reboot); `x` | y",
        "虚拟机 één",
        "a/../b",
        "%n%s",
        &"字".repeat(100),
    ];
    for name in odd {
        let id = bench.create(name);
        bench.operate("vm.start", &json!({"id": id})).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        // QEMU got the name, the whole name and nothing else of it.
        let arguments = command_line(bench.home.fake().process_of(id).pid);
        let at = arguments.iter().position(|argument| argument == "-name").unwrap();
        assert_eq!(arguments[at + 1], format!("guest={},debug-threads=on", name.replace(',', ",,")));
        assert_eq!(bench.serve.client.vm(id).name, name);
        bench.operate("vm.stop", &json!({"id": id, "force": true})).unwrap();
        bench.operate("vm.delete", &json!({"id": id})).unwrap();
    }
}

fn command_line(pid: u32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    bytes.split(|byte| *byte == 0).map(|argument| String::from_utf8(argument.to_vec()).unwrap()).collect()
}

#[test]
fn odd_paths_reach_qemu_whole_and_add_nothing() {
    let bench = Bench::new(&Plan::default());
    let names = [
        "with space.qcow2",
        "quote\"and'apostrophe.qcow2",
        "comma,file=other,read-only=off.qcow2",
        "back\\slash {brace} $(x) `y`.qcow2",
        "百 ünï.qcow2",
        "-S -monitor stdio.qcow2",
    ];
    let mut options = None;
    for name in names {
        let path = bench.home.path().join(name);
        qcow2(&path, "1M");
        let id = bench.operate("vm.create", &in_place(&path)).unwrap().vm_id.unwrap();
        bench.operate("vm.start", &json!({"id": id})).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let arguments = command_line(bench.home.fake().process_of(id).pid);
        let disks: Vec<PathBuf> = arguments
            .iter()
            .filter_map(|argument| {
                serde_json::from_str::<Value>(argument).ok()?["file"]["filename"].as_str().map(PathBuf::from)
            })
            .collect();
        assert_eq!(disks, [path], "{arguments:?}");
        let count = arguments.len();
        assert_eq!(*options.get_or_insert(count), count, "{arguments:?}");
        bench.operate("vm.stop", &json!({"id": id, "force": true})).unwrap();
        bench.operate("vm.delete", &json!({"id": id})).unwrap();
    }
    for bad in ["/tmp/a\nb.qcow2", "/tmp/a\0b.qcow2", "/tmp/\u{1b}[2J.qcow2"] {
        let error = bench.refused(&in_place(Path::new(bad)));
        assert_eq!(error.code, ErrorCode::InvalidInput, "{bad:?}: {error:?}");
    }
}

#[test]
fn more_memory_than_the_host_has_is_refused() {
    let bench = Bench::new(&Plan::default());
    let host = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total: u64 = host.split_whitespace().nth(1).unwrap().parse().unwrap();
    let mut request = create_request("big", &bench.iso);
    request["memory"] = (total / 1024 + 1024).into();
    assert_eq!(bench.refused(&request).code, ErrorCode::NotEnoughMemory);
    for memory in [0, 1, 31] {
        request["memory"] = memory.into();
        let error = bench.refused(&request);
        assert_eq!(error.code, ErrorCode::InvalidInput, "{error:?}");
        assert!(error.field.unwrap().contains("memory"));
    }
}

#[test]
fn every_wrong_field_is_named() {
    let bench = Bench::new(&Plan::default());
    for (key, value) in [
        ("cpus", json!(0)),
        ("cpus", json!(256)),
        ("forwards", json!([{"protocol": "tcp", "hostPort": 22, "guestPort": 22}])),
        ("forwards", json!([{"protocol": "tcp", "hostPort": 2222, "guestPort": 0}])),
        ("description", json!("x".repeat(10_001))),
    ] {
        let mut request = create_request("x", &bench.iso);
        request[key] = value.clone();
        let error = bench.refused(&request);
        assert_eq!(error.code, ErrorCode::InvalidInput, "{key}: {error:?}");
        let field = error.field.unwrap_or_else(|| panic!("{key} {value} is not named"));
        assert!(field.contains(key), "{key}: {field}");
    }
    let mut twice = create_request("x", &bench.iso);
    let forward = json!({"protocol": "tcp", "hostPort": 2222, "guestPort": 22});
    twice["forwards"] = json!([forward, forward]);
    assert_eq!(bench.refused(&twice).code, ErrorCode::InvalidInput);
}

#[test]
fn a_port_somebody_else_has_is_named_at_start() {
    let bench = Bench::new(&Plan::default());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut request = create_request("x", &bench.iso);
    let port = taken.local_addr().unwrap().port();
    request["forwards"] = json!([{"protocol": "tcp", "hostPort": port, "guestPort": 22}]);
    let id = bench.operate("vm.create", &request).unwrap().vm_id.unwrap();
    let error = bench.start_refused(id);
    assert_eq!(error.code, ErrorCode::PortInUse, "{error:?}");
    drop(taken);
    bench.operate("vm.start", &json!({"id": id})).unwrap();
}

#[test]
fn a_qemu_that_fails_is_told_apart() {
    let bench = Bench::new(&Plan::default());
    let id = bench.create("x");
    let fake = bench.home.fake();

    // Dying at once: its own words.
    let words = "qemu-system-x86_64: unhandled catastrophe: the moon is full";
    let at =
        |moment: &str| Plan { die_at: Some(moment.into()), stderr: Some(words.into()), ..Plan::default() };
    for moment in ["start", "sockets", "greeting", "qmp_capabilities", "cont"] {
        fake.plan(&at(moment));
        let error = bench.start_refused(id);
        assert_eq!(error.code, ErrorCode::QemuFailed, "{moment}: {error:?}");
        let said = error.details.as_ref().and_then(|details| details["stderr"].as_str()).unwrap_or_default();
        assert!(said.contains(words), "{moment}: {error:?}");
        let log = bench.serve.client.call("operation.list", &json!({"vmId": id, "limit": 1})).unwrap();
        assert!(log[0]["stderr"].as_str().is_some_and(|said| said.contains(words)), "{moment}: {log}");
    }
    // Rubbish in the place of answers.
    for moment in ["greeting", "cont"] {
        fake.plan(&Plan { garbage_at: Some(moment.into()), ..Plan::default() });
        match bench.operate("vm.start", &json!({"id": id})) {
            // Rubbish beside a good answer is passed over.
            Ok(_) => {
                assert_eq!(moment, "cont");
                bench.operate("vm.stop", &json!({"id": id, "force": true})).unwrap();
            }
            Err(error) => {
                assert!(
                    matches!(error.code, ErrorCode::QemuFailed | ErrorCode::QemuUnresponsive),
                    "{moment}: {error:?}"
                );
                clear(&error);
                let view = bench.serve.client.wait_vm(id, "its rest", |view| !view.state.is_live());
                assert_ne!(view.state, VmState::Broken);
                assert_eq!(fake.processes(), []);
            }
        }
    }
    // Closing the door.
    fake.plan(&Plan { close_at: Some("greeting".into()), ..Plan::default() });
    let error = bench.start_refused(id);
    assert!(matches!(error.code, ErrorCode::QemuFailed | ErrorCode::QemuUnresponsive), "{error:?}");

    fake.plan(&Plan::default());
    bench.operate("vm.start", &json!({"id": id})).unwrap();
}

#[test]
fn a_qemu_that_hangs_is_given_up() {
    // A machine for each moment, so that their deadlines run side by side.
    let moments = ["start", "greeting", "cont"];
    let hangs = |moment: &str| Plan { hang_at: Some(moment.to_owned()), ..Plan::default() };
    let vms = moments.map(|moment| (moment.to_owned(), hangs(moment))).into();
    let bench = Bench::new(&Plan { vms, ..Plan::default() });
    let ids = moments.map(|moment| bench.create(moment));
    std::thread::scope(|scope| {
        for (id, moment) in ids.into_iter().zip(moments) {
            let bench = &bench;
            scope.spawn(move || {
                let error = clear(&bench.operate("vm.start", &json!({"id": id})).unwrap_err());
                assert!(
                    matches!(error.code, ErrorCode::QemuUnresponsive | ErrorCode::Timeout),
                    "{moment}: {error:?}"
                );
                let rest = |view: &VmView| !view.state.is_live() && view.operation.is_none();
                assert_ne!(bench.serve.client.wait_vm(id, "its rest", rest).state, VmState::Broken);
            });
        }
    });
    assert_eq!(bench.home.fake().processes(), []);
    bench.home.fake().plan(&Plan::default());
    for id in ids {
        bench.operate("vm.start", &json!({"id": id})).unwrap();
    }
}

#[test]
fn a_qemu_that_is_none_is_told_apart() {
    let home = Home::with_fake(&Plan::default());
    let iso = make_iso(home.path());
    let spec =
        ["create", "x", "--iso", iso.to_str().unwrap(), "--disk", "1M", "--memory", "64M", "--accel", "tcg"];
    home.json(&spec);
    let plans = [
        (Plan { version: "6.2.0".into(), ..Plan::default() }, ErrorCode::QemuTooOld),
        (Plan { garbage_at: Some("version".into()), ..Plan::default() }, ErrorCode::QemuFailed),
        (
            Plan { die_at: Some("version".into()), stderr: Some("no libraries".into()), ..Plan::default() },
            ErrorCode::QemuFailed,
        ),
        (Plan { hang_at: Some("version".into()), ..Plan::default() }, ErrorCode::QemuUnresponsive),
    ];
    for (plan, code) in plans {
        home.fake().plan(&plan);
        let error = clear(&home.error(&["start", "x"]));
        assert_eq!(error.code, code, "{plan:?}: {error:?}");
        assert_eq!(home.fake().processes(), []);
    }
    home.fake().plan(&Plan::default());
    home.json(&["start", "x", "--wait"]);
    home.json(&["stop", "x", "--force"]);

    for absent in ["/nowhere/qemu-system-x86_64", "/etc/hostname"] {
        let mut other = Home::new();
        other.set("VOIDVM_QEMU_BINARY", absent);
        let iso = make_iso(other.path());
        other.json(&[
            "create",
            "x",
            "--iso",
            iso.to_str().unwrap(),
            "--disk",
            "1M",
            "--memory",
            "64M",
            "--accel",
            "tcg",
        ]);
        let error = clear(&other.error(&["start", "x"]));
        let wanted =
            if absent.starts_with("/nowhere") { ErrorCode::QemuNotFound } else { ErrorCode::QemuFailed };
        assert_eq!(error.code, wanted, "{error:?}");
    }
}

#[test]
fn a_crash_is_seen_with_its_words() {
    let plan = Plan {
        crash_after_ms: Some(20),
        stderr: Some("KVM: entry failed, hardware error".into()),
        ..Plan::default()
    };
    let bench = Bench::new(&plan);
    let id = bench.create("x");
    // The start itself may be over or not when the crash comes.
    let _ = bench.operate("vm.start", &json!({"id": id}));
    let view = bench.serve.client.wait_vm(id, "its crash", |view| view.state == VmState::Crashed);
    let said = serde_json::to_string(&view.attention).unwrap();
    assert!(said.contains("KVM: entry failed"), "{said}");
    bench.home.fake().plan(&Plan::default());
    bench.operate("vm.start", &json!({"id": id})).unwrap();
    assert_eq!(bench.serve.client.vm(id).attention, None);
}

#[test]
fn a_guest_that_will_not_stop_is_asked_about() {
    let bench = Bench::new(&Plan { ignore_powerdown: true, ..Plan::default() });
    let id = bench.create("x");
    bench.operate("vm.start", &json!({"id": id})).unwrap();
    let error = bench.operate("vm.stop", &json!({"id": id, "timeoutSeconds": 1})).unwrap_err();
    assert_eq!(clear(&error).code, ErrorCode::GuestDidNotStop);
    let view = bench.serve.client.wait_vm(id, "it goes on", |view| view.operation.is_none());
    assert_eq!(view.state, VmState::Running);
    bench.operate("vm.stop", &json!({"id": id, "force": true})).unwrap();
    assert_eq!(bench.home.fake().processes(), []);

    // Even one that heeds neither `quit` nor SIGTERM.
    bench.home.fake().plan(&Plan { ignore_powerdown: true, ignore_quit: true, ..Plan::default() });
    bench.operate("vm.start", &json!({"id": id})).unwrap();
    bench.operate("vm.stop", &json!({"id": id, "force": true})).unwrap();
    assert_eq!(bench.home.fake().processes(), []);
}

#[test]
fn a_full_disk_loses_nothing() {
    let Some(disk) = SmallDisk::mount(6 * 1024) else { return };
    let mut home = Home::with_fake(&Plan::default());
    home.set_data_home(disk.path());
    let iso = make_iso(home.path());
    let bench = Bench { serve: home.serve(), iso, home };
    bench.create("kept");
    // An image larger than what is left.
    let image = make_disk(bench.home.path(), 8);
    let error = bench.refused(&copy_of(&image));
    assert_eq!(error.code, ErrorCode::DiskFull, "{error:?}");

    let filler = disk.fill();
    let error = bench.refused(&create_request("y", &bench.iso));
    assert_eq!(error.code, ErrorCode::DiskFull, "{error:?}");
    // A start is refused too when it cannot be written down; the machine stays as it is.
    let kept = bench.serve.client.vms()[0].id;
    let refused = bench.operate("vm.start", &json!({"id": kept}));
    // What is there can be seen, and is all there when there is room again.
    assert_eq!(bench.serve.client.vms().len(), 1);
    std::fs::remove_file(filler).unwrap();
    match refused {
        Err(error) => {
            assert_eq!(clear(&error).code, ErrorCode::DiskFull, "{error:?}");
            bench.operate("vm.start", &json!({"id": kept})).unwrap();
        }
        // The log had room for it.
        Ok(_) => assert_eq!(bench.home.fake().process_of(kept).uuid, kept),
    }
    bench.create("y");
    bench.serve.kill();
    let names: Vec<_> = bench.home.serve().client.vms().into_iter().map(|vm| vm.name).collect();
    assert_eq!(names, ["kept", "y"]);
}

#[test]
fn a_full_disk_at_start_up_is_said() {
    let Some(disk) = SmallDisk::mount(1024) else { return };
    let mut home = Home::with_fake(&Plan::default());
    home.set_data_home(disk.path());
    let filler = disk.fill();
    assert_eq!(clear(&home.error(&["list"])).code, ErrorCode::DiskFull);
    std::fs::remove_file(filler).unwrap();
    assert_eq!(home.json(&["list"]), json!([]));
}

#[test]
fn a_read_only_data_directory_is_said() {
    let Some(disk) = SmallDisk::mount(4096) else { return };
    let mut home = Home::with_fake(&Plan::default());
    home.set_data_home(disk.path());
    assert_eq!(home.json(&["list"]), json!([]));
    disk.make_read_only();
    for args in [&["list"][..], &["serve", "--listen", "127.0.0.1:0"], &["version"]] {
        if args == ["version"] {
            assert_eq!(home.run(args).code, Some(0), "a version needs no data");
        } else {
            assert_eq!(clear(&home.error(args)).code, ErrorCode::ReadOnly, "{args:?}");
        }
    }
}

#[test]
fn a_directory_of_somebody_elses_is_said() {
    let home = Home::with_fake(&Plan::default());
    std::fs::create_dir_all(home.data()).unwrap();
    std::fs::set_permissions(home.data(), std::fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(clear(&home.error(&["list"])).code, ErrorCode::PermissionDenied);
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_kept() {
    let home = Home::with_fake(&Plan::default());
    assert_eq!(home.json(&["list"]), json!([]));
    let database = home.data().join("voidvm.db");
    sql(&database, "INSERT INTO _sqlx_migrations VALUES (9000, 'to come', '2030-01-01', 1, x'00', 1)");
    let before = std::fs::read(&database).unwrap();
    for args in [&["list"][..], &["serve", "--listen", "127.0.0.1:0"]] {
        assert_eq!(clear(&home.error(args)).code, ErrorCode::DatabaseNewer, "{args:?}");
    }
    assert_eq!(std::fs::read(&database).unwrap(), before);
    std::fs::write(&database, "not a database at all ".repeat(500)).unwrap();
    for extra in ["voidvm.db-wal", "voidvm.db-shm"] {
        let _ = std::fs::remove_file(home.data().join(extra));
    }
    assert_eq!(clear(&home.error(&["list"])).code, ErrorCode::DatabaseFailed);
}

/// Changes a database behind the product's back.
fn sql(database: &Path, statement: &'static str) {
    use sqlx::Connection as _;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
        let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

#[test]
fn wrong_command_lines_say_so() {
    let home = Home::with_fake(&Plan::default());
    for args in [&["start", "nobody"][..], &["show", "nobody"], &["delete", "nobody", "--yes"]] {
        let error = home.error(args);
        assert_eq!(error.code, ErrorCode::VmNotFound, "{args:?}: {error:?}");
    }
    assert_eq!(home.run(["no-such-command"]).code, Some(2));
    assert_eq!(home.run(["create", "x", "--iso", "/a", "--demo"]).code, Some(2));
    let iso = make_iso(home.path());
    home.json(&[
        "create",
        "x",
        "--iso",
        iso.to_str().unwrap(),
        "--disk",
        "1M",
        "--memory",
        "64M",
        "--accel",
        "tcg",
    ]);
    // Without a terminal and without --yes nothing is deleted.
    assert_eq!(home.error(&["delete", "x"]).code, ErrorCode::ConfirmationRequired);
    assert_eq!(home.json(&["list"]).as_array().unwrap().len(), 1);
    home.json(&["delete", "x", "--yes"]);
    assert_eq!(home.json(&["list"]), json!([]));
}
