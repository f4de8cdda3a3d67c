//! Changes of a machine that runs, on the fake QEMU: what is given to the guest at once, what waits, and what is told.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};

use common::{Rig, SOON, forwarding, row, spec};
use voidvm_model::contract::VmUpdateRequest;
use voidvm_model::spec::{
    Cdrom, Disk, DiskBus, DiskFormat, FileOwner, MacAddr, NetworkBackend, Nic, PortForward, UsbDevice,
};
use voidvm_model::{DeviceId, ErrorCode, MachineSpec, MiB, Origin, VmId, VmView};
use voidvm_testkit::plan::PlannedEvent;
use voidvm_testkit::{Plan, wait_until_async};

fn id(id: &str) -> DeviceId {
    id.parse().unwrap()
}

fn image(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, [0; 512]).unwrap();
    path
}

fn disk(name: &str, file: PathBuf) -> Disk {
    Disk::new(id(name), file, DiskFormat::Raw, FileOwner::User)
}

fn card(name: &str, tail: u8, forwards: Vec<PortForward>) -> Nic {
    Nic::new(id(name), MacAddr::qemu([0, 0, tail]), NetworkBackend::user(forwards))
}

async fn change(rig: &Rig, id: VmId, change: impl FnOnce(&mut MachineSpec)) -> VmView {
    let mut spec = rig.engine.get(id).unwrap().spec;
    change(&mut spec);
    let request = VmUpdateRequest { spec: Some(spec), ..VmUpdateRequest::new(id) };
    rig.engine.update(request, Origin::Cli).await.unwrap()
}

fn fields(view: &VmView) -> Vec<&str> {
    view.pending.iter().map(|change| change.field.as_str()).collect()
}

fn told(rig: &Rig, name: &str) -> Vec<serde_json::Value> {
    rig.fake
        .commands()
        .into_iter()
        .filter(|command| command.execute == name)
        .map(|command| command.arguments)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_come_and_go_while_the_guest_runs() {
    let port = voidvm_testkit::port::free();
    let vm = row("live", MachineSpec { max_cpus: Some(4), ..forwarding(port) });
    let rig = Rig::new(&Plan::default(), std::slice::from_ref(&vm)).await;
    rig.start(vm.id).await;
    let file = image(rig.dir.path(), "data.raw");
    let stick = UsbDevice { id: id("usb0"), vendor_id: 0x1234, product_id: 0x5678, name: "Stick".into() };
    let view = change(&rig, vm.id, |spec| {
        spec.disks.push(disk("disk1", file.clone()));
        spec.nics.push(card("nic1", 2, Vec::new()));
        spec.usb.push(stick);
        spec.nics[0].link = false;
    })
    .await;
    assert_eq!(fields(&view), [""; 0], "{view:?}");
    assert!(!view.restart_pending);
    assert_eq!(view.run.as_ref().unwrap().spec, view.spec);
    let added = told(&rig, "device_add");
    let buses: Vec<_> = added.iter().map(|device| device["bus"].as_str().unwrap()).collect();
    assert_eq!(buses, ["vv.spare0", "vv.spare1", "vv.usb.0"]);
    assert_eq!(told(&rig, "set_link")[0]["up"], false);

    // The next owner knows what there is.
    let rig = rig.reopen().await;
    rig.engine.ready().await;
    assert_eq!(fields(&rig.engine.get(vm.id).unwrap()), [""; 0]);
    let view = change(&rig, vm.id, |spec| {
        spec.disks.clear();
        spec.nics.truncate(1);
        spec.usb.clear();
    })
    .await;
    assert_eq!(fields(&view), [""; 0], "{view:?}");
    assert!(told(&rig, "blockdev-del").iter().any(|drive| drive["node-name"] == "disk1"));
    assert!(told(&rig, "netdev_del").iter().any(|network| network["id"] == "nic1"));
    // Its file is free: another machine could have it.
    std::fs::File::open(&file).unwrap().try_lock().unwrap();
    rig.force_off(vm.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_at_once_waits_with_old_and_new() {
    let vm = row("waits", spec());
    let rig = Rig::new(&Plan::default(), std::slice::from_ref(&vm)).await;
    rig.start(vm.id).await;
    let file = image(rig.dir.path(), "sata.raw");
    let view = change(&rig, vm.id, |spec| {
        spec.cpus = 2;
        spec.memory = MiB(128);
        spec.disks.push(Disk { bus: DiskBus::Sata, ..disk("disk1", file) });
    })
    .await;
    assert_eq!(fields(&view), ["cpus", "disks.disk1", "memory"]);
    assert!(view.restart_pending);
    assert!(view.pending.iter().all(|change| change.problem.is_none()), "{view:?}");
    let cpus = view.pending.iter().find(|change| change.field == "cpus").unwrap();
    assert_eq!((cpus.running.as_deref(), cpus.next.as_deref()), (Some("1"), Some("2")));
    assert!(told(&rig, "device_add").is_empty());
    rig.force_off(vm.id).await;
    rig.start(vm.id).await;
    assert!(!rig.engine.get(vm.id).unwrap().restart_pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_does_not_let_go_is_told_of_and_may_later() {
    let plan = Plan { keeps_devices: true, ..Plan::default() };
    let file = tempfile::NamedTempFile::new().unwrap();
    let vm = row("keeps", MachineSpec { disks: vec![disk("disk0", file.path().to_owned())], ..spec() });
    let rig = Rig::new(&plan, std::slice::from_ref(&vm)).await;
    rig.start(vm.id).await;
    let other = image(rig.dir.path(), "other.raw");
    let view = change(&rig, vm.id, |spec| spec.disks = vec![disk("disk1", other)]).await;
    assert_eq!(fields(&view), ["disks.disk0"], "the new one is in all the same");
    let waits = &view.pending[0];
    assert_eq!(waits.problem.as_ref().unwrap().code, ErrorCode::Timeout);
    assert_eq!(waits.next, None);
    assert_eq!(view.run.unwrap().spec.disks.len(), 2);
    // It lets go after all when it is asked again; the file is closed then.
    rig.fake.plan(&Plan::default());
    let view = change(&rig, vm.id, |_| ()).await;
    assert_eq!(fields(&view), [""; 0]);
    file.as_file().try_lock().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn part_of_a_change_that_fails_is_told_and_the_rest_is_done() {
    let plan =
        Plan { errors: [("netdev_add".to_owned(), "no such network".to_owned())].into(), ..Plan::default() };
    let vm = row("partly", spec());
    let rig = Rig::new(&plan, std::slice::from_ref(&vm)).await;
    rig.start(vm.id).await;
    let file = image(rig.dir.path(), "data.raw");
    let view = change(&rig, vm.id, |spec| {
        spec.disks.push(disk("disk1", file));
        spec.nics.push(card("nic1", 9, Vec::new()));
    })
    .await;
    assert_eq!(fields(&view), ["nics.nic1"]);
    assert!(view.pending[0].problem.as_ref().unwrap().message.contains("no such network"));
    let run = view.run.unwrap().spec;
    assert_eq!((run.disks.len(), run.nics.len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_open_and_close_at_once() {
    let (old, new, taken) =
        (voidvm_testkit::port::free(), voidvm_testkit::port::free(), voidvm_testkit::port::free());
    let vm = row("ports", forwarding(old));
    let rig = Rig::new(&Plan::default(), std::slice::from_ref(&vm)).await;
    rig.start(vm.id).await;
    let forwards =
        |ports: &[u16]| NetworkBackend::user(ports.iter().map(|port| PortForward::tcp(*port, 80)).collect());
    let view = change(&rig, vm.id, |spec| spec.nics[0].network = forwards(&[new])).await;
    assert_eq!(fields(&view), [""; 0], "{view:?}");
    wait_until_async(SOON, "the old port to be free", async || {
        std::net::TcpListener::bind(("127.0.0.1", old)).is_ok().then_some(())
    })
    .await;
    assert!(std::net::TcpListener::bind(("127.0.0.1", new)).is_err());
    let _somebody = std::net::TcpListener::bind(("127.0.0.1", taken)).unwrap();
    let view = change(&rig, vm.id, |spec| spec.nics[0].network = forwards(&[new, taken])).await;
    assert_eq!(fields(&view), ["nics.nic0.network.forwards"]);
    assert_eq!(view.pending[0].problem.as_ref().unwrap().code, ErrorCode::PortInUse);
}

#[tokio::test(flavor = "multi_thread")]
async fn media_are_changed_unless_the_guest_holds_the_drive() {
    let vm = row("media", MachineSpec { cdroms: vec![Cdrom { id: id("cd0"), file: None }], ..spec() });
    let rig = Rig::new(&Plan::default(), std::slice::from_ref(&vm)).await;
    rig.start(vm.id).await;
    let (one, two) = (image(rig.dir.path(), "one.iso"), image(rig.dir.path(), "two.iso"));
    for file in [Some(one.clone()), Some(two.clone()), None, Some(two.clone())] {
        let view = change(&rig, vm.id, |spec| spec.cdroms[0].file.clone_from(&file)).await;
        assert_eq!(fields(&view), [""; 0], "{view:?}");
        assert_eq!(view.run.unwrap().spec.cdroms[0].file, file);
    }
    rig.fake.plan(&Plan { locked_trays: true, ..Plan::default() });
    let view = change(&rig, vm.id, |spec| spec.cdroms[0].file = Some(one.clone())).await;
    assert_eq!(fields(&view), ["cdroms.cd0.file"]);
    assert_eq!(view.pending[0].running.as_deref(), two.to_str());
    assert_eq!(view.pending[0].next.as_deref(), one.to_str());
    assert!(view.pending[0].problem.as_ref().unwrap().message.contains("locked"));
    std::fs::remove_file(&one).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn processors_and_memory_grow_where_there_is_room_for_them() {
    let roomy = MachineSpec { max_cpus: Some(4), max_memory: Some(MiB(1024)), memory: MiB(256), ..spec() };
    let vm = row("grows", roomy);
    let rig = Rig::new(&Plan::default(), std::slice::from_ref(&vm)).await;
    rig.start(vm.id).await;
    let view = change(&rig, vm.id, |spec| {
        spec.cpus = 3;
        spec.memory = MiB(512);
    })
    .await;
    let run = view.run.as_ref().unwrap();
    if fields(&view).contains(&"cpus") {
        // This argument builder leaves no places for more CPUs.
        assert!(view.pending.iter().any(|change| change.problem.is_some()));
    } else {
        assert_eq!(run.spec.cpus, 3);
    }
    assert_eq!(run.spec.memory, MiB(512), "{view:?}");
    let view = change(&rig, vm.id, |spec| spec.memory = MiB(384)).await;
    assert_eq!(view.run.unwrap().spec.memory, MiB(384), "given back through the balloon");
    let view = change(&rig, vm.id, |spec| spec.memory = MiB(600)).await;
    let waits = view.pending.iter().find(|change| change.field == "memory").unwrap();
    assert!(waits.problem.as_ref().unwrap().message.contains("steps"), "{waits:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_the_guest_let_go_of_by_itself_is_missed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let vm = row("lets-go", MachineSpec { disks: vec![disk("disk0", file.path().to_owned())], ..spec() });
    let ejected = PlannedEvent {
        after_ms: 20,
        event: "DEVICE_DELETED".to_owned(),
        data: serde_json::json!({"device": "disk0", "path": "/machine/peripheral/disk0"}),
    };
    let plan = Plan { events: vec![ejected], ..Plan::default() };
    let rig = Rig::new(&plan, std::slice::from_ref(&vm)).await;
    let mut watch = rig.engine.watch(vm.id).unwrap();
    rig.start(vm.id).await;
    tokio::time::timeout(SOON, watch.wait_for(|view| view.restart_pending)).await.unwrap().unwrap();
    let view = rig.engine.get(vm.id).unwrap();
    assert_eq!(fields(&view), ["disks.disk0"]);
    file.as_file().try_lock().unwrap();
}
