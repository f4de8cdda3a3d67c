//! What the argument builder makes is what QEMU takes, and what comes out of it is known again.

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use qapi::qmp;
use tokio::io::AsyncReadExt;
use voidvm_model::ErrorCode;
use voidvm_model::MiB;
use voidvm_model::spec::{Firmware, PortForward, Protocol};
use voidvm_qemu::process::{self, Exit, Identity, Signal};

use crate::common::{PATIENCE, empty_spec, free_port, start, with_cdrom, with_disk, with_nic};

/// Names and paths that would be options, were they not quoted.
const ODD: &str = "a,b=c,,d \"e\" 'f' $(g) -h \\ ;i ü 你好 %n {j}";

#[tokio::test]
async fn real_every_shape_of_machine_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join(ODD);
    std::fs::create_dir(&base).unwrap();
    let iso = base.join("x,readonly=off,y.iso");
    std::fs::write(&iso, vec![0; 1 << 20]).unwrap();
    let forwards = vec![
        PortForward::tcp(free_port(), 80),
        PortForward { protocol: Protocol::Udp, ..PortForward::tcp(free_port(), 53) },
    ];
    let mut full = empty_spec();
    full.cpus = 3;
    full.boot_from_cdrom = true;
    for disk in 0..3 {
        full = with_disk(full, base.join(format!("disk {disk},format=raw.qcow2"))).await;
    }
    full = with_cdrom(with_cdrom(full, Some(iso)), None);
    full = with_nic(with_nic(full, forwards.clone()), vec![]);
    let mut uefi = with_nic(empty_spec(), vec![]);
    uefi.firmware = Firmware::Uefi;
    uefi.memory = MiB(128);
    for (name, spec) in [("empty", empty_spec()), (ODD, full), ("uefi", uefi)] {
        let machine =
            start(&base, name, spec.clone()).await.unwrap_or_else(|words| panic!("{name}: {words}"));
        let status = machine.qmp.execute(&qmp::query_status {}).await.unwrap();
        assert_eq!(status.status, qmp::RunState::prelaunch, "held until it is told to go on");
        let uuid = machine.qmp.execute(&qmp::query_uuid {}).await.unwrap();
        assert_eq!(uuid.UUID, machine.id.to_string());
        let told = machine.qmp.execute(&qmp::query_name {}).await.unwrap();
        assert_eq!(told.name.as_deref(), Some(name));
        let memory = machine.qmp.execute(&qmp::query_memory_size_summary {}).await.unwrap();
        assert_eq!(memory.base_memory, spec.memory.bytes().0);
        let cpus = machine.qmp.execute(&qmp::query_cpus_fast {}).await.unwrap();
        assert_eq!(cpus.len(), usize::from(spec.cpus));
        let vnc = machine.qmp.execute_raw("query-vnc", None, PATIENCE).await.unwrap();
        assert!(vnc["host"].is_null() && vnc["service"].is_null(), "no screen on a port: {vnc}");
        let blocks = machine.qmp.execute_raw("query-named-block-nodes", None, PATIENCE).await.unwrap();
        for disk in &spec.disks {
            let node =
                blocks.as_array().unwrap().iter().find(|node| node["node-name"] == disk.id.as_str()).unwrap();
            assert_eq!(node["file"].as_str().unwrap(), disk.file.to_str().unwrap());
            assert_eq!(node["drv"], "qcow2");
        }
        let counters = machine.qmp.disk_counters().await.unwrap();
        for disk in &spec.disks {
            assert!(counters.iter().any(|counter| counter.device == disk.id.as_str()), "{counters:?}");
        }
        machine.qmp.guest_memory().await.unwrap();
        assert_eq!(
            listeners(machine.handle.pid()),
            spec.forwards().count(),
            "nothing listens but the forwards"
        );
        machine.qmp.execute(&qmp::quit {}).await.unwrap();
        let exit = tokio::time::timeout(PATIENCE, machine.handle.wait_exit()).await.unwrap().unwrap();
        assert_eq!(exit, Exit::Code(0), "{}", machine.dir.stderr_tail());
        assert_eq!(machine.dir.stderr_tail(), "", "no warning of QEMU's");
    }
}

/// Internet sockets that the process listens on (TCP) or has bound (UDP), by `/proc`.
pub(crate) fn listeners(pid: u32) -> usize {
    let inodes: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let mut count = 0;
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        for line in std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap().lines().skip(1) {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            if inodes.iter().any(|inode| inode == fields[9]) {
                assert!(fields[1].starts_with("0100007F:"), "bound to loopback: {line}");
                count += 1;
            }
        }
    }
    count
}

#[tokio::test]
async fn real_a_process_is_known_again_by_what_is_written_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let machine = start(dir.path(), "known", empty_spec()).await.unwrap();
    let record = process::RunRecord::read(&machine.dir.record()).unwrap().unwrap();
    assert_eq!(record, machine.record);
    let ours = |identity: &Identity| matches!(identity, Identity::Ours(handle) if handle.pid() == record.pid);
    assert!(ours(&process::identify(&record, machine.id).unwrap()));
    assert!(ours(&process::identify_listener(&machine.dir.qmp(), machine.id).unwrap()));
    let other = voidvm_model::VmId::new();
    let found = process::scan(dir.path(), &[other, machine.id]).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[&machine.id].pid(), record.pid);
    assert!(process::scan(&dir.path().join("elsewhere"), &[machine.id]).unwrap().is_empty());
    // The same socket, asked for by another machine.
    assert!(matches!(process::identify_listener(&machine.dir.qmp(), other).unwrap(), Identity::Foreign(_)));
    let mut older = record.clone();
    older.start_ticks -= 1;
    assert!(matches!(process::identify(&older, machine.id).unwrap(), Identity::Foreign(_)), "a reused pid");
    older.boot_id = "another boot".to_owned();
    assert!(matches!(process::identify(&older, machine.id).unwrap(), Identity::Gone));

    assert!(machine.handle.cpu_time().unwrap() > Duration::ZERO);
    assert!(machine.handle.resident().unwrap().0 > 1 << 20);
    assert!(!machine.handle.has_ended().unwrap());
    machine.handle.signal(Signal::Kill).unwrap();
    let exit = tokio::time::timeout(PATIENCE, machine.handle.clone().wait_exit()).await.unwrap().unwrap();
    assert_eq!(exit, Exit::Signal(9));
    assert_eq!(machine.handle.wait_exit().await.unwrap(), Exit::Signal(9), "asked again, the same");
    assert!(machine.handle.cpu_time().is_none());
    machine.handle.signal(Signal::Term).unwrap();
    assert!(matches!(process::identify(&record, machine.id).unwrap(), Identity::Gone));
    assert!(matches!(process::identify_listener(&machine.dir.qmp(), machine.id).unwrap(), Identity::Gone));
}

#[tokio::test]
async fn real_a_process_leaves_our_session_and_takes_nothing_along() {
    let dir = tempfile::tempdir().unwrap();
    // A descriptor that a library of ours might leave open in children.
    let (leaked, _other) = rustix::pipe::pipe().unwrap();
    let leak = std::os::fd::AsRawFd::as_raw_fd(&leaked);
    let machine = start(dir.path(), "alone", empty_spec()).await.unwrap();
    let pid = machine.handle.pid();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!(
        (fields[2], fields[3]),
        (pid.to_string().as_str(), pid.to_string().as_str()),
        "group and session"
    );
    let pipe = std::fs::read_link(format!("/proc/self/fd/{leak}")).unwrap();
    let kept = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    assert!(kept.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok()).all(|link| link != pipe));
    for socket in [machine.dir.qmp(), machine.dir.serial(), machine.dir.agent(), machine.dir.record()] {
        let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} is the user's alone", socket.display());
    }
}

#[tokio::test]
async fn real_the_screen_is_handed_over_without_a_listener() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = start(dir.path(), "screen", empty_spec()).await.unwrap();
    // Several at once: each descriptor has to reach its own name.
    let mut viewers = Vec::new();
    for viewer in 0..3 {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (qmp, fdname) = (machine.qmp.clone(), format!("screen{viewer}"));
        viewers.push(tokio::spawn(async move {
            qmp.execute_with_fd(&qmp::getfd { fdname: fdname.clone() }, theirs.as_fd()).await.unwrap();
            drop(theirs);
            let add = qmp::add_client {
                protocol: "vnc".to_owned(),
                fdname,
                skipauth: Some(true),
                tls: Some(false),
            };
            qmp.execute(&add).await.unwrap();
            ours.set_nonblocking(true).unwrap();
            let mut ours = tokio::net::UnixStream::from_std(ours).unwrap();
            let mut greeting = [0; 12];
            tokio::time::timeout(PATIENCE, ours.read_exact(&mut greeting)).await.unwrap().unwrap();
            assert_eq!(&greeting, b"RFB 003.008\n");
        }));
    }
    for viewer in viewers {
        viewer.await.unwrap();
    }
    machine.qmp.execute(&qmp::cont {}).await.unwrap();
    let event = tokio::time::timeout(PATIENCE, machine.events.recv()).await.unwrap().unwrap();
    assert_eq!(event.name, "RESUME");
    assert!(matches!(event.typed, Some(qmp::Event::RESUME { .. })));
    let png = dir.path().join("a, screen.png");
    machine.qmp.screendump(png.to_str().unwrap(), PATIENCE).await.unwrap();
    assert!(std::fs::read(&png).unwrap().starts_with(b"\x89PNG"));
    machine
        .qmp
        .execute(&voidvm_qemu::keys::press(&voidvm_qemu::keys::type_text("A").unwrap()[0]))
        .await
        .unwrap();
}

#[tokio::test]
async fn real_failures_of_a_start_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let refused = async |spec| {
        let words = start(dir.path(), "refused", spec).await.err().expect("QEMU accepts it");
        process::explain(Exit::Code(1), &words).code
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let forward = with_nic(empty_spec(), vec![PortForward::tcp(port, 80)]);
    assert_eq!(refused(forward).await, ErrorCode::PortInUse);

    let disk = dir.path().join("disk.qcow2");
    let spec = with_disk(empty_spec(), disk.clone()).await;
    let first = start(dir.path(), "first", spec.clone()).await.unwrap();
    assert_eq!(refused(spec.clone()).await, ErrorCode::FileInUse);
    first.handle.signal(Signal::Kill).unwrap();
    first.handle.wait_exit().await.unwrap();

    std::fs::write(&disk, vec![0; 1 << 20]).unwrap();
    assert_eq!(refused(spec.clone()).await, ErrorCode::ImageInvalid);
    std::fs::remove_file(&disk).unwrap();
    assert_eq!(refused(spec).await, ErrorCode::ImageMissing);
    let cdrom = with_cdrom(empty_spec(), Some(dir.path().join("none.iso")));
    assert_eq!(refused(cdrom).await, ErrorCode::ImageMissing);
    let mut huge = empty_spec();
    huge.memory = MiB(4 << 20);
    assert_eq!(refused(huge).await, ErrorCode::NotEnoughMemory);
}
