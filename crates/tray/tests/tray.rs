//! `voidvm-tray` itself, on a session bus of its own, with a tray that is played by this test.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::unused_self, clippy::needless_pass_by_value, reason = "the form of a bus interface")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::mpsc;
use voidvm_model::{OperationStatus, VmState};
use voidvm_testkit::{Client, FakeQemu, Plan};
use zbus::zvariant::{OwnedValue, Value};
use zbus::{Connection, connection};

const DEADLINE: Duration = Duration::from_secs(20);
const NAME: &str = "org.voidvm.desktop.SingleInstance";
const PATH: &str = "/org/voidvm/desktop/SingleInstance";

/// A child that does not outlive its test.
struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The tray: tells the bus name of each icon that registers.
struct Watcher(mpsc::UnboundedSender<String>);

#[allow(clippy::needless_pass_by_value, reason = "what zbus hands an interface's methods")]
#[zbus::interface(name = "org.kde.StatusNotifierWatcher")]
impl Watcher {
    fn register_status_notifier_item(
        &self,
        #[zbus(header)] header: zbus::message::Header<'_>,
        _service: &str,
    ) {
        self.0.send(header.sender().unwrap().to_string()).unwrap();
    }

    #[zbus(property)]
    fn is_status_notifier_host_registered(&self) -> bool {
        true
    }

    #[zbus(property)]
    fn protocol_version(&self) -> i32 {
        0
    }
}

/// A desktop: session bus, tray, home directory, and the app's two programs side by side; the window's leaves a mark.
struct Desktop {
    _bus: Held,
    address: String,
    home: tempfile::TempDir,
    connection: Connection,
    icons: mpsc::UnboundedReceiver<String>,
}

impl Desktop {
    async fn new() -> Self {
        let mut bus = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon is installed");
        let mut address = String::new();
        BufReader::new(bus.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let address = address.trim().to_owned();
        let (seen, icons) = mpsc::unbounded_channel();
        let connection = connection::Builder::address(address.as_str())
            .unwrap()
            .serve_at("/StatusNotifierWatcher", Watcher(seen))
            .unwrap()
            .name("org.kde.StatusNotifierWatcher")
            .unwrap()
            .build()
            .await
            .unwrap();
        let home = tempfile::tempdir().unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_voidvm-tray"), home.path().join("voidvm-tray")).unwrap();
        let window = home.path().join("voidvm-desktop");
        std::fs::write(&window, format!("#!/bin/sh\n: > {}\n", home.path().join("opened").display()))
            .unwrap();
        std::fs::set_permissions(&window, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        Self { _bus: Held(bus), address, home, connection, icons }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn start(&self) -> Held {
        let mut command = Command::new(self.path("voidvm-tray"));
        command.env_clear().env("HOME", self.home.path()).env("DBUS_SESSION_BUS_ADDRESS", &self.address);
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("LANG", "C.UTF-8");
        command.env("VOIDVM_POOL_FLOOR", "0").env("VOIDVM_QEMU_BINARY", self.path("q/qemu-system-x86_64"));
        for (name, place) in
            [("DATA_HOME", "d"), ("CONFIG_HOME", "c"), ("STATE_HOME", "s"), ("RUNTIME_DIR", "r")]
        {
            let place = self.path(place);
            std::fs::create_dir_all(&place).unwrap();
            std::fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
            command.env(format!("XDG_{name}"), place);
        }
        Held(command.spawn().unwrap())
    }

    async fn icon(&mut self) -> String {
        tokio::time::timeout(DEADLINE, self.icons.recv()).await.expect("an icon appears").unwrap()
    }

    /// Label and number of each entry of an icon's menu.
    async fn menu(&self, icon: &str) -> Vec<(i32, String)> {
        type Entry = (i32, std::collections::HashMap<String, OwnedValue>, Vec<OwnedValue>);
        let body = (0_i32, -1_i32, Vec::<&str>::new());
        let reply = self
            .connection
            .call_method(Some(icon), "/MenuBar", Some("com.canonical.dbusmenu"), "GetLayout", &body)
            .await
            .unwrap();
        let (_, (_, _, children)): (u32, Entry) = reply.body().deserialize().unwrap();
        let entry = |child: OwnedValue| {
            let (number, properties, _): Entry = child.try_into().unwrap();
            let label = properties.get("label").and_then(|label| String::try_from(label.clone()).ok());
            (number, label.unwrap_or_default())
        };
        children.into_iter().map(entry).collect()
    }

    async fn click(&self, icon: &str, label: &str) {
        let number = self.menu(icon).await.into_iter().find(|entry| entry.1 == label).unwrap().0;
        let body = (number, "clicked", Value::from(""), 0_u32);
        // The icon may be gone before it answers.
        let _ = self
            .connection
            .call_method(Some(icon), "/MenuBar", Some("com.canonical.dbusmenu"), "Event", &body)
            .await;
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn free(data: &Path) -> bool {
    let lock = std::fs::File::open(data.join("voidvm/lock")).unwrap();
    lock.try_lock().is_ok()
}

#[tokio::test]
async fn opens_the_window_and_makes_way_for_it() {
    let mut desktop = Desktop::new().await;
    let mut tray = desktop.start();
    let icon = desktop.icon().await;
    let labels: Vec<String> = desktop.menu(&icon).await.into_iter().map(|entry| entry.1).collect();
    assert_eq!(labels[0], "Open voidVM");
    assert_eq!(labels[3], "Quit (machines go on)");
    assert!(!free(&desktop.path("d")), "it owns the engine");
    desktop.click(&icon, "Open voidVM").await;
    until("the window is started", || desktop.path("opened").exists()).await;
    until("the process ends", || tray.0.try_wait().unwrap().is_some()).await;
    assert!(free(&desktop.path("d")), "the window can own the engine");
}

#[tokio::test]
async fn starting_the_app_again_opens_the_window() {
    let mut desktop = Desktop::new().await;
    let mut tray = desktop.start();
    desktop.icon().await;
    let body = (vec!["voidvm-desktop"], "/");
    let interface = Some("org.SingleInstance.DBus");
    desktop.connection.call_method(Some(NAME), PATH, interface, "ExecuteCallback", &body).await.unwrap();
    until("the window is started", || desktop.path("opened").exists()).await;
    until("the process ends", || tray.0.try_wait().unwrap().is_some()).await;
}

#[tokio::test]
async fn there_is_one_icon_and_quit_ends_it() {
    let mut desktop = Desktop::new().await;
    let mut tray = desktop.start();
    let icon = desktop.icon().await;
    let mut second = desktop.start();
    until("the second gives up", || second.0.try_wait().unwrap().is_some()).await;
    assert!(tray.0.try_wait().unwrap().is_none());
    desktop.click(&icon, "Quit (machines go on)").await;
    until("the process ends", || tray.0.try_wait().unwrap().is_some_and(|status| status.success())).await;
    assert!(!desktop.path("opened").exists());
    assert!(free(&desktop.path("d")));
}

#[tokio::test]
async fn a_desktop_without_a_tray_keeps_no_process() {
    let desktop = Desktop::new().await;
    desktop.connection.release_name("org.kde.StatusNotifierWatcher").await.unwrap();
    let mut tray = desktop.start();
    until("the process ends", || tray.0.try_wait().unwrap().is_some_and(|status| !status.success())).await;
    assert!(free(&desktop.path("d")));
}

/// A client of the engine the icon's process owns.
async fn client(desktop: &Desktop) -> Client {
    let record = desktop.path("d/voidvm/lock");
    let mut socket = None;
    until("the engine answers", || {
        let owner = std::fs::read(&record).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let owner: serde_json::Value = owner.unwrap_or_default();
        socket = owner["runtimeDir"].as_str().map(|dir| Path::new(dir).join("voidvm.sock"));
        let answers = |path: &PathBuf| std::os::unix::net::UnixStream::connect(path).is_ok();
        socket.as_ref().is_some_and(answers)
    })
    .await;
    Client::new(socket.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_start_with_the_app_once_for_each_boot() {
    let mut desktop = Desktop::new().await;
    let _fake = FakeQemu::install_with(&desktop.path("q"), &Plan::default());
    let tray = desktop.start();
    desktop.icon().await;
    let engine = client(&desktop).await;
    let request = json!({"name": "web", "memory": 64, "accel": "tcg", "source": {"kind": "empty", "diskSize": 1 << 20}});
    let made = engine.operate("vm.create", &request).unwrap();
    assert_eq!(made.status, OperationStatus::Succeeded, "{made:?}");
    let view = engine.vms().remove(0);
    let mut meta = serde_json::to_value(&view.meta).unwrap();
    meta["autostart"] = json!({"order": 1, "delaySeconds": 0});
    engine.call("vm.update", &json!({"id": view.id, "meta": meta})).unwrap();
    drop(tray);

    // The same boot: all have had their turn.
    let tray = desktop.start();
    desktop.icon().await;
    assert_eq!(client(&desktop).await.vm(view.id).state, VmState::Stopped);
    drop(tray);

    // As after a boot.
    std::fs::remove_file(desktop.path("s/voidvm/autostart.boot")).unwrap();
    let _tray = desktop.start();
    desktop.icon().await;
    client(&desktop).await.wait_vm(view.id, "its start", |view| view.state == VmState::Running);
}
