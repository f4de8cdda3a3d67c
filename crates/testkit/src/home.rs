//! A user's home of a test's own, and `voidvm` in it. Nothing of the real user's environment is seen there.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use voidvm_model::ErrorBody;

use crate::client::Client;
use crate::fake::FakeQemu;
use crate::plan::Plan;
use crate::program::program;
use crate::wait::wait_until;

/// A home. Its path is short: sockets live in it.
#[derive(Debug)]
pub struct Home {
    // Dropped first: it ends the processes before the directory goes.
    fake: Option<FakeQemu>,
    variables: Vec<(String, String)>,
    data_home: PathBuf,
    dir: tempfile::TempDir,
}

/// How a `voidvm` command came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said on stderr.
    pub stderr: String,
}

/// A running `voidvm serve`; killed when dropped.
#[derive(Debug)]
pub struct Serve {
    child: Child,
    /// A client of its unix socket.
    pub client: Client,
    /// Its runtime directory.
    pub runtime: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OwnerRecord {
    pid: u32,
    runtime_dir: PathBuf,
}

impl Home {
    /// A home with the real QEMU.
    ///
    /// # Panics
    /// When no directory can be made.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("vv").tempdir().expect("a temporary directory");
        let data_home = dir.path().join("d");
        // What else is on the disk is no matter of most tests.
        let variables = vec![("VOIDVM_POOL_FLOOR".to_owned(), "0".to_owned())];
        let home = Self { fake: None, variables, data_home, dir };
        for (_, path) in home.directories() {
            std::fs::create_dir_all(&path).expect("a directory");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            std::fs::set_permissions(&path, mode).expect("its mode");
        }
        home
    }

    /// A home whose QEMU is a fake.
    #[must_use]
    pub fn with_fake(plan: &Plan) -> Self {
        let mut home = Self::new();
        let fake = FakeQemu::install_with(&home.path().join("q"), plan);
        home.set("VOIDVM_QEMU_BINARY", &fake.binary().display().to_string());
        home.fake = Some(fake);
        home
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where voidVM keeps its data.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.data_home.join("voidvm")
    }

    /// Keeps the data on another disk from now on.
    pub fn set_data_home(&mut self, path: &Path) {
        path.clone_into(&mut self.data_home);
    }

    /// The fake QEMU.
    ///
    /// # Panics
    /// When this home has the real one.
    #[must_use]
    pub fn fake(&self) -> &FakeQemu {
        self.fake.as_ref().expect("a home with a fake QEMU")
    }

    /// Sets a variable for the programs run from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(other, _)| other != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    fn directories(&self) -> [(&'static str, PathBuf); 5] {
        [
            ("XDG_DATA_HOME", self.data_home.clone()),
            ("XDG_CONFIG_HOME", self.path().join("c")),
            ("XDG_STATE_HOME", self.path().join("s")),
            ("XDG_CACHE_HOME", self.path().join("k")),
            ("XDG_RUNTIME_DIR", self.path().join("r")),
        ]
    }

    /// `voidvm` with these arguments in this home, not yet started.
    pub fn voidvm<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(program("voidvm-cli", "voidvm"));
        command.args(args).env_clear().env("HOME", self.path()).env("LANG", "C.UTF-8");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.directories());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.path()).stdin(Stdio::null());
        command
    }

    /// Runs a `voidvm` command to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        let output = self.voidvm(args).output().expect("voidvm runs");
        Run {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs `voidvm --json …` that must succeed; what it printed.
    ///
    /// # Panics
    /// When it fails, or prints something else.
    pub fn json(&self, args: &[&str]) -> Value {
        let run = self.run(std::iter::once("--json").chain(args.iter().copied()));
        assert_eq!(run.code, Some(0), "{args:?}: {run:?}");
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {run:?}"))
    }

    /// Runs `voidvm --json …` that must fail; its error.
    ///
    /// # Panics
    /// When it succeeds, prints something on stdout, or ends with an exit code that is not its error's.
    pub fn error(&self, args: &[&str]) -> ErrorBody {
        let run = self.run(std::iter::once("--json").chain(args.iter().copied()));
        let error: ErrorBody =
            serde_json::from_str(&run.stderr).unwrap_or_else(|error| panic!("{args:?}: {error}: {run:?}"));
        assert_eq!(run.code, Some(error.code.exit_code().into()), "{args:?}: {run:?}");
        assert_eq!(run.stdout, "", "{args:?}");
        error
    }

    /// Starts `voidvm serve` and waits until it answers.
    ///
    /// # Panics
    /// When it ends instead, or has not answered after 30 seconds.
    #[must_use]
    pub fn serve(&self) -> Serve {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path().join("serve.log"))
            .expect("a file for what it says");
        let mut child = self
            .voidvm(["serve", "--listen", "127.0.0.1:0"])
            .stdout(log.try_clone().expect("the same file"))
            .stderr(log)
            .spawn()
            .expect("voidvm serve starts");
        let pid = child.id();
        let lock = self.data().join("lock");
        let (client, runtime) = wait_until(Duration::from_secs(30), "voidvm serve to answer", || {
            if let Some(status) = child.try_wait().expect("its status") {
                let said = std::fs::read_to_string(self.path().join("serve.log")).unwrap_or_default();
                panic!("voidvm serve ended ({status}): {said}");
            }
            let owner: OwnerRecord = serde_json::from_slice(&std::fs::read(&lock).ok()?).ok()?;
            let client = Client::new(owner.runtime_dir.join("voidvm.sock"));
            let answers = || {
                client.request("GET", "/api/v1/system/health", None).is_ok_and(|answer| answer.status == 200)
            };
            (owner.pid == pid && answers()).then_some((client, owner.runtime_dir))
        });
        Serve { child, client, runtime }
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    /// Processes that have this home in their command line: owners, machines, and whatever they run.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        processes_naming(self.path().as_os_str().as_encoded_bytes())
    }
}

impl Drop for Home {
    /// Ends every process that has this home in its command line: owners, and machines that outlive them by design.
    fn drop(&mut self) {
        for pid in self.processes() {
            crate::fake::kill(pid);
        }
    }
}

/// Processes with `text` in their command line, this one left out.
fn processes_naming(text: &[u8]) -> Vec<u32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.windows(text.len()).any(|window| window == text)
        })
        .collect()
}

impl Serve {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, as by the out-of-memory killer; returns when it is gone.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("its end");
    }

    /// SIGTERM, as by the service manager; its exit code.
    ///
    /// # Panics
    /// When it has not ended after 15 seconds.
    #[must_use]
    pub fn terminate(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("SIGTERM");
        wait_until(Duration::from_secs(15), "voidvm serve to end", || {
            self.child.try_wait().expect("its status")
        })
        .code()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
