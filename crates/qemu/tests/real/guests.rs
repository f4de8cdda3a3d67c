//! The small guest starts from every bus, writes to a second disk on it, and is reached through every kind of network card.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use qapi::qmp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};
use voidvm_model::spec::{
    Cdrom, Disk, DiskBus, DiskFormat, FileOwner, Firmware, MacAddr, MachineType, NetworkBackend, Nic,
    NicModel, PortForward, UserStack,
};
use voidvm_model::{MachineSpec, MiB};

use crate::common::{Machine, PATIENCE, empty_spec, free_port, start};

/// How long a guest may take until it is ready, on a busy computer without KVM.
const BOOT: Duration = Duration::from_secs(150);
const DATA_SIZE: usize = 8 << 20;
/// Where the guest puts a copy of the first page.
const COPY_AT: usize = 256 * 4096;

/// What a machine boots from and how it is reached.
struct Case {
    machine: MachineType,
    firmware: Firmware,
    bus: DiskBus,
    /// How the guest's kernel calls such disks.
    called: &'static str,
    model: NicModel,
    driver: &'static str,
    stack: UserStack,
}

fn case(machine: MachineType, bus: DiskBus, model: NicModel, stack: UserStack) -> Case {
    let called = match bus {
        DiskBus::Virtio => "vd",
        DiskBus::Nvme => "nvme",
        DiskBus::Scsi | DiskBus::Sata | DiskBus::Ide => "sd",
    };
    let driver = match model {
        NicModel::Virtio => "virtio_net",
        NicModel::E1000e => "e1000e",
    };
    Case { machine, firmware: Firmware::Bios, bus, called, model, driver, stack }
}

/// The guest says on its serial line what it has: read and answered as a person would.
struct Console {
    line: UnixStream,
    said: String,
}

impl Console {
    /// Reads on until this is said; what came before it.
    async fn until(&mut self, wanted: &str, within: Duration) -> String {
        let read = async {
            loop {
                if let Some(at) = self.said.find(wanted) {
                    let rest = self.said.split_off(at + wanted.len());
                    let mut before = std::mem::replace(&mut self.said, rest);
                    before.truncate(at);
                    return before;
                }
                let mut bytes = [0; 4096];
                let count = self.line.read(&mut bytes).await.unwrap();
                assert!(count > 0, "QEMU has ended");
                self.said.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        };
        let before = timeout(within, read).await;
        before.unwrap_or_else(|_| panic!("{wanted:?} was not said: {}", self.said))
    }

    /// Runs a command; what it leaves in `result`.
    async fn run(&mut self, command: &str) -> String {
        // Split, so that the echo of the command is not taken for its end.
        let line = format!("{command}; echo \"THE-\"\"RESULT $result.\"\n");
        self.line.write_all(line.as_bytes()).await.unwrap();
        self.until("THE-RESULT ", PATIENCE).await;
        self.until(".", PATIENCE).await
    }
}

fn data(place: &Path) -> (PathBuf, Vec<u8>) {
    let page: Vec<u8> = (0..4096_u32).map(|n| u8::try_from((n * 7 + n / 256) % 251).unwrap()).collect();
    let mut whole = page.clone();
    whole.resize(DATA_SIZE, 0);
    let file = place.join("data, raw.img");
    std::fs::write(&file, whole).unwrap();
    (file, page)
}

async fn answers(port: u16) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let ask = move || {
            let mut web = std::net::TcpStream::connect(("127.0.0.1", port))?;
            web.set_read_timeout(Some(Duration::from_secs(5)))?;
            web.write_all(b"GET /cgi-bin/info HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            web.read_to_string(&mut answer)?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = tokio::task::spawn_blocking(ask).await.unwrap();
        match answer {
            Ok(answer) if answer.contains("host=") => return answer,
            other => assert!(Instant::now() < end, "the guest does not answer: {other:?}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn boots(case: Case) {
    let dir = tempfile::Builder::new().prefix("vv").tempdir().unwrap();
    let name = format!("{:?} {:?} {:?} {:?}", case.machine, case.bus, case.model, case.stack);
    let root = dir.path().join("guest.qcow2");
    std::fs::copy(voidvm_testkit::guest::guest().join("disk.qcow2"), &root).unwrap();
    let (file, page) = data(dir.path());
    let disk = |id: &str, file: &Path, format| Disk {
        bus: case.bus,
        ..Disk::new(id.parse().unwrap(), file.to_owned(), format, FileOwner::User)
    };
    let port = free_port();
    let network = NetworkBackend::User { stack: case.stack, forwards: vec![PortForward::tcp(port, 80)] };
    let spec = MachineSpec {
        machine: case.machine,
        firmware: case.firmware,
        // GRUB works in a quarter of it under UEFI, and the kernel unpacked is larger than 64 MiB.
        memory: if case.firmware.is_uefi() { MiB(512) } else { MiB(256) },
        disks: vec![disk("disk0", &root, DiskFormat::Qcow2), disk("disk1", &file, DiskFormat::Raw)],
        cdroms: vec![Cdrom { id: "cd0".parse().unwrap(), file: None }],
        nics: vec![Nic {
            model: case.model,
            ..Nic::new("nic0".parse().unwrap(), MacAddr::qemu([0, 2, 1]), network)
        }],
        ..empty_spec()
    };
    let mut machine = start(dir.path(), &name, spec).await.unwrap_or_else(|words| panic!("{name}: {words}"));
    let line = UnixStream::connect(machine.dir.serial()).await.unwrap();
    let mut console = Console { line, said: String::new() };
    machine.qmp.execute(&qmp::cont {}).await.unwrap();
    console.until("GUEST-READY", BOOT).await;
    console.until(":~# ", PATIENCE).await;
    // Its data partition is on the disk it came from: without it this would be empty memory.
    let root_disk = console.run("result=$(grep ' /data ' /proc/mounts | cut -d' ' -f1)").await;
    assert!(root_disk.starts_with(&format!("/dev/{}", case.called)), "{name}: {root_disk}");
    let driver = console.run("result=$(basename $(readlink /sys/class/net/eth0/device/driver))").await;
    assert_eq!(driver, case.driver, "{name}");
    let copied = console
        .run(
            "d=$(grep -l '^16384$' /sys/block/*/size | cut -d/ -f4); \
             dd if=/dev/$d of=/dev/$d bs=4096 count=1 seek=256 2>/dev/null; sync; result=\"$? $d\"",
        )
        .await;
    assert!(copied.starts_with(&format!("0 {}", case.called)), "{name}: {copied}");
    let answer = answers(port).await;
    assert!(answer.contains("boots=1"), "{name}: {answer}");
    end(&mut machine).await;
    let written = std::fs::read(&file).unwrap();
    assert!(written[COPY_AT..COPY_AT + page.len()] == page, "{name}: what the guest wrote is not there");
}

async fn end(machine: &mut Machine) {
    machine.qmp.execute(&qmp::quit {}).await.unwrap();
    timeout(PATIENCE, machine.handle.wait_exit()).await.unwrap().unwrap();
}

/// Whether real guests are to be started: each takes ten seconds without KVM.
fn full() -> bool {
    let full = std::env::var_os("VOIDVM_FULL").is_some();
    if !full {
        eprintln!("skipped: real guests take their time; tests/full/36-hardware.sh runs this");
    }
    full
}

async fn all(cases: impl IntoIterator<Item = Case>) {
    if full() {
        for case in cases {
            boots(case).await;
        }
    }
}

#[tokio::test]
async fn guest_boots_from_every_bus_of_q35() {
    all([
        case(MachineType::Q35, DiskBus::Virtio, NicModel::Virtio, UserStack::Slirp),
        case(MachineType::Q35, DiskBus::Scsi, NicModel::E1000e, UserStack::Slirp),
        case(MachineType::Q35, DiskBus::Sata, NicModel::Virtio, UserStack::Passt),
        case(MachineType::Q35, DiskBus::Nvme, NicModel::E1000e, UserStack::Passt),
    ])
    .await;
}

#[tokio::test]
async fn guest_boots_from_every_bus_of_i440fx() {
    all([
        case(MachineType::I440fx, DiskBus::Virtio, NicModel::E1000e, UserStack::Slirp),
        case(MachineType::I440fx, DiskBus::Scsi, NicModel::Virtio, UserStack::Slirp),
        case(MachineType::I440fx, DiskBus::Ide, NicModel::E1000e, UserStack::Passt),
        case(MachineType::I440fx, DiskBus::Nvme, NicModel::Virtio, UserStack::Passt),
    ])
    .await;
}

#[tokio::test]
async fn guest_boots_with_uefi_on_both_chipsets() {
    all([
        Case {
            firmware: Firmware::Uefi,
            ..case(MachineType::Q35, DiskBus::Sata, NicModel::E1000e, UserStack::Slirp)
        },
        Case {
            firmware: Firmware::Uefi,
            ..case(MachineType::Q35, DiskBus::Nvme, NicModel::Virtio, UserStack::Slirp)
        },
        Case {
            firmware: Firmware::Uefi,
            ..case(MachineType::I440fx, DiskBus::Ide, NicModel::Virtio, UserStack::Slirp)
        },
    ])
    .await;
}
