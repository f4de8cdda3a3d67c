//! A headless engine of its own in a directory of its own, spoken to over its socket and its local API.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use voidvm_testkit::program::{program, workspace};

/// A running `voidvm serve`; its directory goes with it.
pub struct Serve {
    _dir: tempfile::TempDir,
    pub child: Child,
    pub url: String,
    token: String,
    agent: ureq::Agent,
}

impl Serve {
    /// Starts it and waits for its address.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("vvb").tempdir().unwrap();
        let mut child = Command::new(program("voidvm-cli", "voidvm"))
            .args(["serve", "--listen", "127.0.0.1:0", "--print-url", "--data-dir"])
            .arg(dir.path().join("data"))
            .env("VOIDVM_POOL_FLOOR", "0")
            .env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("serve ended").unwrap();
            if let Some(at) = line.find("http://127.0.0.1:") {
                break line[at..].trim().to_owned();
            }
        };
        let (url, token) = address.split_once("/?token=").expect("an address with a token");
        let (url, token) = (url.to_owned(), token.to_owned());
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(120)))
            .http_status_as_error(false)
            .build()
            .into();
        Self { _dir: dir, child, url, token, agent }
    }

    /// The address that signs a browser in.
    pub fn address(&self) -> String {
        format!("{}/?token={}", self.url, self.token)
    }

    /// The body of a GET.
    pub fn get(&self, path: &str) -> Value {
        let mut reply = self
            .agent
            .get(format!("{}/api/v1{path}", self.url))
            .header("authorization", format!("Bearer {}", self.token))
            .call()
            .unwrap();
        data(path, reply.body_mut().with_config().limit(64 << 20).read_json().unwrap())
    }

    /// The reply to a POST.
    pub fn post(&self, path: &str, body: &Value) -> Value {
        let mut reply = self
            .agent
            .post(format!("{}/api/v1{path}", self.url))
            .header("authorization", format!("Bearer {}", self.token))
            .send_json(body)
            .unwrap();
        data(path, reply.body_mut().read_json().unwrap())
    }

    /// The reply to a PUT.
    pub fn put(&self, path: &str, body: &Value) -> Value {
        let mut reply = self
            .agent
            .put(format!("{}/api/v1{path}", self.url))
            .header("authorization", format!("Bearer {}", self.token))
            .send_json(body)
            .unwrap();
        data(path, reply.body_mut().read_json().unwrap())
    }

    /// The reply to a DELETE.
    pub fn delete(&self, path: &str) -> Value {
        let mut reply = self
            .agent
            .delete(format!("{}/api/v1{path}", self.url))
            .header("authorization", format!("Bearer {}", self.token))
            .call()
            .unwrap();
        data(path, reply.body_mut().read_json().unwrap())
    }

    /// Waits until an operation has ended well.
    pub fn finish(&self, operation: &Value) -> Value {
        let id = operation["id"].as_str().unwrap();
        let done = self.get(&format!("/operations/{id}?waitSeconds=60"));
        assert_eq!(done["status"], "succeeded", "{done:#}");
        done
    }

    /// A machine on a copy of the small guest's disk.
    pub fn machine(&self, name: &str) -> String {
        let source = json!({ "kind": "image_copy", "path": guest().join("disk.qcow2") });
        let request = json!({ "name": name, "source": source, "memory": 256, "accel": "tcg" });
        let operation = self.post("/vms", &request);
        self.finish(&operation);
        operation["vmId"].as_str().unwrap().to_owned()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        if let Ok(Value::Array(vms)) =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.get("/vms")))
        {
            for vm in vms.iter().filter(|vm| !vm["run"].is_null()) {
                let operation = self
                    .post(&format!("/vms/{}/stop", vm["id"].as_str().unwrap()), &json!({ "force": true }));
                self.finish(&operation);
            }
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn data(path: &str, mut reply: Value) -> Value {
    assert!(reply.get("data").is_some(), "{path}: {reply:#}");
    reply["data"].take()
}

/// Where the small guest is.
pub fn guest() -> PathBuf {
    let dir =
        std::env::var_os("VOIDVM_TEST_GUEST").map_or_else(|| workspace().join("target/guest"), PathBuf::from);
    assert!(dir.join("disk.qcow2").exists(), "no guest in {}: run ./dev guest", dir.display());
    dir
}

/// Asks until there is an answer, for at most ten seconds.
pub fn within<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "no {what}");
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Whether there is a program of that name on PATH.
pub fn have(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).exists()))
}

/// A script of `tests/`, run with Node.
pub fn node(script: &Path, arguments: &[&str]) {
    let status = Command::new("node").arg(workspace().join(script)).args(arguments).status().unwrap();
    assert!(status.success(), "{} failed", script.display());
}
