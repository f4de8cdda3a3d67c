//! The release app in a window of its own display: how soon the list is painted, and what all its processes take.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use voidvm_testkit::program::workspace;

use crate::figures::{family, median, ms, pss};
use crate::serve::{have, node};

/// Cold starts in one run; the first, which fills the page cache, is told apart.
const RUNS: usize = 6;

/// Prints the cold start and the memory with the window open and in the tray.
pub fn run() {
    let Some(app) = app() else {
        println!("no release app: build it with ./dev bundle, or name it in VOIDVM_BENCH_APP");
        return;
    };
    if !have("Xvfb") || !have("dbus-run-session") {
        println!("Xvfb and dbus-run-session are needed");
        return;
    }
    let display = Display::open();
    let mut painted = Vec::new();
    for run in 0..=RUNS {
        let app = App::start(&app, &display);
        let took = app.painted();
        if run == 0 {
            println!("first start (page cache cold): {took:.0} ms to the first painted page");
        } else {
            painted.push(took);
        }
        if run == RUNS {
            app.memory("window open, idle", 200);
            app.close_to_tray();
            app.memory("in the tray, window gone", 45);
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
        crate::serve::within("display", || Path::new(&socket).exists().then_some(()));
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

/// The app with directories and a session bus of its own.
struct App {
    dir: tempfile::TempDir,
    display: String,
    child: Child,
    began: Instant,
}

impl App {
    fn start(binary: &Path, display: &Display) -> Self {
        let dir = tempfile::Builder::new().prefix("vva").tempdir().unwrap();
        let config = dir.path().join("config/voidvm");
        std::fs::create_dir_all(&config).unwrap();
        std::fs::write(config.join("config.toml"), "close_action = \"tray\"\n").unwrap();
        let mut command = Command::new("dbus-run-session");
        command.arg("--").arg(binary).env("DISPLAY", &display.name);
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
        let dir = self.dir.path().join("state/voidvm/log");
        std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("combined"))
            .filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
            .collect()
    }

    fn memory(&self, when: &str, goal: u32) {
        std::thread::sleep(Duration::from_secs(10));
        // dbus-run-session and its bus belong to the bench, not to the app.
        let ours: Vec<(String, f64)> = family(self.child.id())
            .into_iter()
            .filter(|(_, name)| !name.starts_with("dbus"))
            .filter_map(|(pid, name)| Some((name, pss(pid)?)))
            .collect();
        let sum: f64 = ours.iter().map(|(_, pss)| pss).sum();
        let parts: Vec<String> = ours.iter().map(|(name, pss)| format!("{name} {pss:.0}")).collect();
        println!("{when}: {sum:.0} MiB PSS (goal {goal}): {}", parts.join(", "));
    }

    fn close_to_tray(&self) {
        let status = Command::new("xdotool")
            .args(["search", "--onlyvisible", "--name", "voidVM", "windowquit"])
            .env("DISPLAY", &self.display)
            .status();
        assert!(status.is_ok_and(|status| status.success()), "xdotool is needed to close the window");
    }
}

impl Drop for App {
    fn drop(&mut self) {
        for (pid, _) in family(self.child.id()).into_iter().rev() {
            Command::new("kill").arg(pid.to_string()).status().ok();
        }
        self.child.wait().ok();
    }
}
