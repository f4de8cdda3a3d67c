//! The same guest kept the usual way: by QEMU's `snapshot-save`, and by libvirt's `virsh snapshot-create-as` where there is a
//! `virsh`. How long the guest is held is QEMU's own account of it (STOP to RESUME) in both.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::figures::{median, quantile};
use crate::serve::{guest, within};
use crate::snapshots::until;

const SNAPSHOTS: usize = 3;
/// What the guest's memory is filled with before, and what its kernel is told for that.
const KERNEL: &str = "console=ttyS0 quiet net.ifnames=0 lab.fill=600";

/// Prints them.
pub fn run() {
    let dir = tempfile::Builder::new().prefix("vvb").tempdir().unwrap();
    print("snapshot-save of QEMU", &by_qemu(dir.path()));
    match by_libvirt(dir.path()) {
        Some(pauses) => print("virsh snapshot-create-as", &pauses),
        None => println!("virsh snapshot-create-as: there is no virsh here, or no daemon for it"),
    }
}

fn print(what: &str, pauses: &[f64]) {
    println!(
        "{what}: held, by QEMU's events p50 {:>6.0}, max {:>6.0} ms ({} snapshots)",
        median(pauses),
        quantile(pauses, 1.0),
        pauses.len()
    );
}

fn disk(dir: &Path, name: &str) -> PathBuf {
    let disk = dir.join(format!("{name}.qcow2"));
    std::fs::copy(guest().join("disk.qcow2"), &disk).unwrap();
    disk
}

fn is_filled(serial: &Path) -> bool {
    std::fs::read_to_string(serial).unwrap_or_default().contains("GUEST-READY")
}

struct Qemu {
    child: Child,
    stream: UnixStream,
    said: Receiver<Value>,
}

impl Drop for Qemu {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Qemu {
    fn start(dir: &Path) -> Self {
        let (socket, serial) = (dir.join("qmp"), dir.join("serial"));
        let child = Command::new("qemu-system-x86_64")
            .args(["-accel", "tcg", "-machine", "q35", "-m", "1024", "-nodefaults", "-display", "none"])
            .arg("-kernel")
            .arg(guest().join("vmlinuz"))
            .arg("-initrd")
            .arg(guest().join("initrd.img"))
            .args(["-append", KERNEL, "-device", "virtio-blk-pci,drive=d"])
            .arg("-blockdev")
            .arg(format!(
                "driver=qcow2,node-name=d,file.driver=file,file.filename={}",
                disk(dir, "raw").display()
            ))
            .arg("-serial")
            .arg(format!("file:{}", serial.display()))
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", socket.display()))
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let stream = within("QMP socket", || UnixStream::connect(&socket).ok());
        let (say, said) = channel();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if say.send(serde_json::from_str(&line).unwrap_or_default()).is_err() {
                    return;
                }
            }
        });
        let mut qemu = Self { child, stream, said };
        qemu.say("qmp_capabilities", &json!({}));
        until("the guest's memory to be filled", || is_filled(&serial));
        qemu
    }

    fn say(&mut self, execute: &str, arguments: &Value) {
        let line = json!({"execute": execute, "arguments": arguments});
        self.stream.write_all(format!("{line}\n").as_bytes()).unwrap();
        self.until(|said| said.get("return").is_some());
    }

    fn until(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let said = self.said.recv_timeout(Duration::from_secs(120)).unwrap();
            assert!(said.get("error").is_none(), "{said}");
            if is_it(&said) {
                return said;
            }
        }
    }

    fn event(&mut self, name: &str) -> f64 {
        let event = self.until(|said| said["event"] == name);
        let part = |key: &str| event["timestamp"][key].as_f64().unwrap();
        part("seconds") * 1e3 + part("microseconds") / 1e3
    }
}

fn by_qemu(dir: &Path) -> Vec<f64> {
    let mut qemu = Qemu::start(dir);
    let mut pauses = Vec::new();
    for number in 0..SNAPSHOTS {
        let job = format!("job{number}");
        let arguments = json!({"job-id": job, "tag": format!("s{number}"), "vmstate": "d", "devices": ["d"]});
        let line = json!({"execute": "snapshot-save", "arguments": arguments});
        qemu.stream.write_all(format!("{line}\n").as_bytes()).unwrap();
        let held = qemu.event("STOP");
        pauses.push(qemu.event("RESUME") - held);
        qemu.until(|said| said["event"] == "JOB_STATUS_CHANGE" && said["data"]["status"] == "concluded");
        qemu.say("job-dismiss", &json!({"id": job}));
    }
    pauses
}

/// A domain that is gone with the bench.
struct Domain;

impl Drop for Domain {
    fn drop(&mut self) {
        for words in [["destroy", DOMAIN].as_slice(), &["undefine", DOMAIN, "--snapshots-metadata"]] {
            drop(virsh(words));
        }
    }
}

const DOMAIN: &str = "voidvm-bench";

fn virsh(words: &[&str]) -> Option<String> {
    let output = Command::new("virsh").args(["-c", "qemu:///session", "-q"]).args(words).output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        eprintln!("virsh {words:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        return None;
    }
    Some(said)
}

fn by_libvirt(dir: &Path) -> Option<Vec<f64>> {
    let serial = dir.join("libvirt-serial");
    let guest = guest();
    let xml = format!(
        "<domain type='qemu'><name>{DOMAIN}</name><memory unit='MiB'>1024</memory><vcpu>1</vcpu>\
         <os><type arch='x86_64' machine='q35'>hvm</type><kernel>{}</kernel><initrd>{}</initrd><cmdline>{KERNEL}</cmdline></os>\
         <devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{}'/><target dev='vda' bus='virtio'/></disk>\
         <serial type='file'><source path='{}'/></serial><memballoon model='none'/></devices></domain>",
        guest.join("vmlinuz").display(),
        guest.join("initrd.img").display(),
        disk(dir, "libvirt").display(),
        serial.display(),
    );
    let file = dir.join("domain.xml");
    std::fs::write(&file, xml).unwrap();
    virsh(&["define", file.to_str()?])?;
    let _domain = Domain;
    virsh(&["start", DOMAIN])?;
    until("the guest's memory to be filled", || is_filled(&serial));
    let mut events = Command::new("virsh")
        .args(["-c", "qemu:///session", "qemu-monitor-event", "--loop", "--domain", DOMAIN])
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut lines = BufReader::new(events.stdout.take()?).lines().map_while(Result::ok);
    let mut pauses = Vec::new();
    for number in 0..SNAPSHOTS {
        virsh(&["snapshot-create-as", DOMAIN, &format!("s{number}")])?;
        // `event STOP at 1700000000.123456 for domain 'voidvm-bench': …`
        let mut at = |name: &str| -> Option<f64> {
            let line = lines.find(|line| line.contains(&format!("event {name} at ")))?;
            Some(line.split(" at ").nth(1)?.split(' ').next()?.parse::<f64>().ok()? * 1e3)
        };
        let held = at("STOP")?;
        pauses.push(at("RESUME")? - held);
    }
    drop(events.kill());
    drop(events.wait());
    Some(pauses)
}
