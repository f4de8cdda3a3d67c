//! The block graph: which node is which file, what it stands on, and the jobs that merge layers. What QEMU would do to the bytes
//! of the files is done by `qemu-img`, at once.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// The nodes by name.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    nodes: BTreeMap<String, Node>,
    /// Jobs that are done, until somebody has heard of it, with their errors.
    concluded: BTreeMap<String, Option<String>>,
    /// For the names of nodes nobody named.
    opened: u32,
}

#[derive(Debug)]
struct Node {
    file: PathBuf,
    driver: String,
    read_only: bool,
    backing: Option<String>,
    /// None for what only carries another node.
    held: Option<File>,
}

/// What a node that is opened stands on.
pub(crate) enum Backing {
    /// What its header names.
    Header,
    Nothing,
    Node(String),
}

impl Backing {
    pub(crate) fn of(node: &Value) -> Self {
        match node.get("backing") {
            None => Self::Header,
            Some(Value::String(name)) => Self::Node(name.clone()),
            Some(_) => Self::Nothing,
        }
    }
}

struct Header {
    backing: Option<PathBuf>,
    size: u64,
}

/// The header of a qcow2 image (docs/interop/qcow2.txt), as far as it matters here.
fn header(file: &Path) -> Option<Header> {
    let opened = File::open(file).ok()?;
    let mut bytes = [0_u8; 32];
    opened.read_exact_at(&mut bytes, 0).ok()?;
    let number = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_be_bytes);
    if !bytes.starts_with(b"QFI\xfb") {
        return None;
    }
    let length = u32::from_be_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]);
    let mut name = vec![0; length as usize];
    opened.read_exact_at(&mut name, number(8)).ok()?;
    let backing = (length > 0).then(|| PathBuf::from(String::from_utf8_lossy(&name).into_owned()));
    Some(Header { backing, size: number(24) })
}

impl Blocks {
    /// Opens an image as QEMU does: it fails where it is missing or another process writes to it.
    pub(crate) fn open(
        &mut self,
        name: &str,
        (file, driver): (&Path, &str),
        read_only: bool,
        backing: Backing,
    ) -> Result<(), String> {
        if self.nodes.contains_key(name) {
            return Err(format!("Duplicate nodes with node-name='{name}'"));
        }
        let held = File::options().read(true).write(!read_only).open(file).map_err(|error| {
            let reason = error.to_string();
            let reason = reason.split(" (os").next().unwrap_or_default().to_owned();
            format!("Could not open '{}': {reason}", file.display())
        })?;
        let lock = if read_only { held.try_lock_shared() } else { held.try_lock() };
        if lock.is_err() {
            return Err(format!(
                "Failed to get \"write\" lock\nIs another process using the image [{}]?",
                file.display()
            ));
        }
        let backing = match backing {
            Backing::Nothing => None,
            Backing::Node(name) => Some(name),
            Backing::Header => match header(file).and_then(|header| header.backing) {
                Some(below) => {
                    self.opened += 1;
                    let name = format!("#block{:03}", self.opened);
                    let driver = if header(&below).is_some() { "qcow2" } else { "raw" };
                    self.open(&name, (&below, driver), true, Backing::Header)?;
                    Some(name)
                }
                None => None,
            },
        };
        let node =
            Node { file: file.to_owned(), driver: driver.to_owned(), read_only, backing, held: Some(held) };
        self.nodes.insert(name.to_owned(), node);
        Ok(())
    }

    /// `blockdev-add`.
    pub(crate) fn add(&mut self, node: &Value) -> Result<(), String> {
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let (name, driver) = (text(node, "node-name"), text(node, "driver"));
        if driver == "file" {
            let file = text(node, "filename").into();
            let node = Node { file, driver, read_only: true, backing: None, held: None };
            self.nodes.insert(name, node);
            return Ok(());
        }
        let file = PathBuf::from(text(&node["file"], "filename"));
        self.open(&name, (&file, &driver), node["read-only"] == true, Backing::of(node))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.nodes.contains_key(name)
    }

    /// `blockdev-del`; what stands on nothing but this goes with it where QEMU opened it by itself.
    pub(crate) fn remove(&mut self, name: &str) -> Result<(), String> {
        if self.nodes.values().any(|node| node.backing.as_deref() == Some(name)) {
            return Err(format!("Node '{name}' is busy: node is used as backing hd of another node"));
        }
        let node =
            self.nodes.remove(name).ok_or_else(|| format!("Failed to find node with node-name='{name}'"))?;
        if let Some(below) = node.backing.filter(|below| below.starts_with('#')) {
            drop(self.remove(&below));
        }
        Ok(())
    }

    fn node(&mut self, name: &str) -> Result<&mut Node, String> {
        self.nodes.get_mut(name).ok_or_else(|| format!("Cannot find device='' nor node-name='{name}'"))
    }

    /// `blockdev-snapshot`: the overlay is put on the node, which nobody writes to any more.
    pub(crate) fn put_on(&mut self, below: &str, overlay: &str) -> Result<(), String> {
        if self.node(overlay)?.backing.is_some() {
            return Err(format!("The overlay already has a backing image: {overlay}"));
        }
        let frozen = self.node(below)?;
        frozen.read_only = true;
        if let Some(held) = &frozen.held {
            held.lock_shared().map_err(|error| error.to_string())?;
        }
        self.node(overlay)?.backing = Some(below.to_owned());
        Ok(())
    }

    /// `blockdev-reopen`: the same node by another name of its file.
    pub(crate) fn reopen(&mut self, options: &Value) -> Result<(), String> {
        for option in options.as_array().into_iter().flatten() {
            let text = |key: &str| option[key].as_str().unwrap_or_default().to_owned();
            let carrier = self.node(&text("file"))?.file.clone();
            let held = File::open(&carrier).map_err(|error| error.to_string())?;
            let node = self.node(&text("node-name"))?;
            drop(node.held.take());
            held.try_lock_shared().map_err(|error| error.to_string())?;
            (node.file, node.held) = (carrier, Some(held));
        }
        Ok(())
    }

    /// `block-commit`: what the top has is written into the base, which what stood on the top stands on then.
    pub(crate) fn commit(&mut self, arguments: &Value) -> Result<(), String> {
        let text = |key: &str| arguments[key].as_str().unwrap_or_default().to_owned();
        let (top, base) = (text("top-node"), text("base-node"));
        if self.node(&top)?.backing.as_deref() != Some(&base) {
            return Err(format!("'{base}' is not what '{top}' stands on"));
        }
        let above: Vec<String> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.backing.as_deref() == Some(&top))
            .map(|(name, _)| name.clone())
            .collect();
        let done = image(&["commit", "-q", "-d", "-f", "qcow2"], &self.node(&top)?.file);
        for name in above.iter().filter(|_| done.is_ok()) {
            let node = self.node(name)?;
            image(
                &["rebase", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", &text("backing-file")],
                &node.file,
            )?;
            node.backing = Some(base.clone());
        }
        self.conclude(text("job-id"), done);
        if top.starts_with('#') {
            self.remove(&top)?;
        }
        Ok(())
    }

    /// `block-stream`: what the node lacks of what is above the base is written into it.
    pub(crate) fn stream(&mut self, arguments: &Value) -> Result<(), String> {
        let text = |key: &str| arguments[key].as_str().unwrap_or_default().to_owned();
        let (name, base) = (text("device"), text("base-node"));
        let was = self.node(&name)?.backing.clone();
        let below = text("backing-file");
        let format = if header(Path::new(&below)).is_some() { "qcow2" } else { "raw" };
        let mut words = vec!["rebase", "-q", "-f", "qcow2", "-b", &below];
        if !base.is_empty() {
            words.extend(["-F", format]);
        }
        let done = image(&words, &self.node(&name)?.file);
        if done.is_ok() {
            self.node(&name)?.backing = (!base.is_empty()).then_some(base);
            if let Some(was) = was.filter(|was| was.starts_with('#')) {
                drop(self.remove(&was));
            }
        }
        self.conclude(text("job-id"), done);
        Ok(())
    }

    fn conclude(&mut self, job: String, done: Result<(), String>) {
        self.concluded.insert(job, done.err());
    }

    /// `query-jobs`.
    pub(crate) fn jobs(&self) -> Value {
        let job = |(id, error): (&String, &Option<String>)| {
            let mut job = json!({"id": id, "type": "commit", "status": "concluded", "current-progress": 1, "total-progress": 1});
            if let Some(error) = error {
                job["error"] = error.as_str().into();
            }
            job
        };
        self.concluded.iter().map(job).collect()
    }

    /// `job-dismiss`, and `job-cancel`: nothing is left to cancel.
    pub(crate) fn dismiss(&mut self, job: &str) -> Result<(), String> {
        self.concluded.remove(job).map(drop).ok_or_else(|| "Job not found".to_owned())
    }

    /// `query-named-block-nodes`.
    pub(crate) fn list(&self) -> Value {
        let node = |(name, node): (&String, &Node)| json!({"node-name": name, "drv": node.driver, "file": node.file, "ro": node.read_only});
        self.nodes.iter().map(node).collect()
    }

    /// What `query-block` says of what is in a device.
    pub(crate) fn inserted(&self, name: &str) -> Option<Value> {
        let node = self.nodes.get(name)?;
        let size = header(&node.file).map_or(1 << 30, |header| header.size);
        Some(json!({
            "node-name": name, "file": node.file, "drv": node.driver, "ro": node.read_only,
            "image": {
                "filename": node.file, "format": node.driver, "virtual-size": size,
                "actual-size": std::fs::metadata(&node.file).map_or(0, |data| data.len()),
            },
            "backing_file_depth": 0, "bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0,
            "iops_wr": 0, "encrypted": false, "detect_zeroes": "off", "write_threshold": 0,
            "cache": {"no-flush": false, "direct": false, "writeback": true},
        }))
    }
}

fn image(words: &[&str], file: &Path) -> Result<(), String> {
    let output =
        Command::new("qemu-img").args(words).arg(file).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
