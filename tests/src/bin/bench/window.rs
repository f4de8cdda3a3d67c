//! The release app in a window of its own display: how soon the list is painted, and what all its processes take.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use voidvm_testkit::program::workspace;

use crate::figures::{family, median, ms, pss};
use crate::serve::{have, node, within};

/// Cold starts in one run; the first, which fills the page cache, is told apart.
const RUNS: usize = 6;

/// Prints the cold start and the memory with the window open and in the tray.
pub fn run() {
    let Some(app) = app() else {
        println!("no release app: build it with ./dev bundle, or name it in VOIDVM_BENCH_APP");
        return;
    };
    if !["Xvfb", "dbus-daemon", "wmctrl"].iter().all(|program| have(program)) {
        println!("Xvfb, dbus-daemon and wmctrl are needed");
        return;
    }
    let display = Display::open();
    let desktop = Desktop::open();
    let mut painted = Vec::new();
    for run in 0..=RUNS {
        let app = App::start(&app, &display, &desktop);
        let took = app.painted();
        if run == 0 {
            println!("first start (page cache cold): {took:.0} ms to the first painted page");
        } else {
            painted.push(took);
        }
        if run == RUNS {
            memory("window open, idle", 200, app.child.id());
        }
        app.close_to_tray();
        let tray = app.tray();
        if run == RUNS {
            memory("in the tray, window gone", 45, tray);
        }
    }
    println!("start to first painted page: median {:.0} ms ({RUNS} runs)", median(&painted));
}

/// Frames per second and key-to-pixel time of the console in Chromium, against a display of ours that paints as fast as it is asked.
pub fn console() {
    if !have("chromium") {
        println!("no Chromium: the console is not measured");
        return;
    }
    let status = Command::new("cargo")
        .args(["build", "--quiet", "--release", "-p", "voidvm-console", "--example", "rfb_source"])
        .current_dir(workspace())
        .status()
        .unwrap();
    assert!(status.success(), "the display cannot be built");
    let source = workspace().join("target/release/examples/rfb_source");
    node(Path::new("ui/tests/bench/console.mjs"), &[source.to_str().unwrap(), "5"]);
}

fn app() -> Option<PathBuf> {
    let named = std::env::var_os("VOIDVM_BENCH_APP").map(PathBuf::from);
    let built = || workspace().join("target/release/voidvm-desktop");
    let app = named.unwrap_or_else(built);
    app.exists().then_some(app)
}

/// A virtual display with a window manager.
struct Display {
    name: String,
    server: Child,
    manager: Option<Child>,
}

impl Display {
    fn open() -> Self {
        let name = (90..200)
            .find(|n| !Path::new(&format!("/tmp/.X11-unix/X{n}")).exists())
            .map(|n| format!(":{n}"))
            .unwrap();
        let server =
            quiet(Command::new("Xvfb").args([&name, "-screen", "0", "1280x800x24", "-nolisten", "tcp"]));
        let socket = format!("/tmp/.X11-unix/X{}", &name[1..]);
        within("display", || Path::new(&socket).exists().then_some(()));
        let manager = have("openbox").then(|| quiet(Command::new("openbox").env("DISPLAY", &name)));
        Self { name, server, manager }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        for child in self.manager.iter_mut().chain([&mut self.server]) {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn quiet(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A session bus with a tray on it, as a desktop has.
struct Desktop {
    bus: Child,
    address: String,
    _tray: zbus::Connection,
    /// Serves the tray.
    _runtime: tokio::runtime::Runtime,
}

impl Desktop {
    fn open() -> Self {
        let mut bus = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(bus.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let address = address.trim().to_owned();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let tray = runtime.block_on(async {
            zbus::connection::Builder::address(address.as_str())
                .unwrap()
                .serve_at("/StatusNotifierWatcher", TrayOfTheDesktop)
                .unwrap()
                .name("org.kde.StatusNotifierWatcher")
                .unwrap()
                .build()
                .await
                .unwrap()
        });
        Self { bus, address, _tray: tray, _runtime: runtime }
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        self.bus.kill().ok();
        self.bus.wait().ok();
    }
}

/// As much of a tray as an app asks for before it relies on one (StatusNotifierItem specification).
struct TrayOfTheDesktop;

#[expect(clippy::unused_self, reason = "an interface's methods")]
#[zbus::interface(name = "org.kde.StatusNotifierWatcher")]
impl TrayOfTheDesktop {
    fn register_status_notifier_item(&self, _service: &str) {}

    #[zbus(property)]
    fn is_status_notifier_host_registered(&self) -> bool {
        true
    }

    #[zbus(property)]
    fn protocol_version(&self) -> i32 {
        0
    }
}

/// The app with directories of its own.
struct App {
    dir: tempfile::TempDir,
    display: String,
    child: Child,
    began: Instant,
}

impl App {
    fn start(binary: &Path, display: &Display, desktop: &Desktop) -> Self {
        let dir = tempfile::Builder::new().prefix("vva").tempdir().unwrap();
        let config = dir.path().join("config/voidvm");
        std::fs::create_dir_all(&config).unwrap();
        std::fs::write(config.join("config.toml"), "close_action = \"tray\"\n").unwrap();
        let mut command = Command::new(binary);
        command.env("DISPLAY", &display.name).env("DBUS_SESSION_BUS_ADDRESS", &desktop.address);
        for (variable, name) in [
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_DATA_HOME", "data"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_RUNTIME_DIR", "run"),
        ] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            command.env(variable, path);
        }
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(dir.path().join("run"), mode).unwrap();
        let began = Instant::now();
        Self { child: quiet(&mut command), dir, display: display.name.clone(), began }
    }

    /// Milliseconds until the app says that its page is painted (its log's `page painted`).
    fn painted(&self) -> f64 {
        loop {
            if self.log().contains("page painted") {
                return ms(self.began.elapsed());
            }
            assert!(self.began.elapsed() < Duration::from_secs(60), "nothing painted:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("state/voidvm/log/combined.log")).unwrap_or_default()
    }

    fn close_to_tray(&self) {
        let status = Command::new("wmctrl").args(["-c", "voidVM"]).env("DISPLAY", &self.display).status();
        assert!(status.is_ok_and(|status| status.success()), "the window does not close");
    }

    /// The process that has taken the window's place.
    fn tray(&self) -> u32 {
        let here = self.dir.path().to_str().unwrap().as_bytes();
        within("tray", || {
            std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
                let environment = std::fs::read(entry.path().join("environ")).ok()?;
                (name.trim() == "voidvm-tray" && environment.windows(here.len()).any(|part| part == here))
                    .then_some(pid)
            })
        })
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let tray = self.child.try_wait().is_ok_and(|ended| ended.is_some()).then(|| self.tray());
        for pid in tray.into_iter().chain(family(self.child.id()).into_iter().map(|(pid, _)| pid)) {
            Command::new("kill").arg(pid.to_string()).status().ok();
        }
        self.child.wait().ok();
        // Its name on the bus is free for the next start only when it is gone.
        if let Some(tray) = tray {
            within("end of the tray", || pss(tray).is_none().then_some(()));
        }
    }
}

/// Prints what a process and those it started take once they have come to rest.
fn memory(when: &str, goal: u32, root: u32) {
    std::thread::sleep(Duration::from_secs(10));
    let parts: Vec<(String, f64)> =
        family(root).into_iter().filter_map(|(pid, name)| Some((name, pss(pid)?))).collect();
    let sum: f64 = parts.iter().map(|(_, pss)| pss).sum();
    let words: Vec<String> = parts.iter().map(|(name, pss)| format!("{name} {pss:.0}")).collect();
    println!("{when}: {sum:.0} MiB PSS (goal {goal}): {}", words.join(", "));
}
