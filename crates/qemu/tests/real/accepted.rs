//! Each machine of the table is started, held, and asked what it became: QEMU's own answers against the specification.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use qapi::qmp;
use serde_json::{Value, json};
use voidvm_model::spec::{
    Audio, Cache, CpuModel, Disk, DiskBus, DiskFormat, Display, Firmware, MachineType, NetworkBackend, Nic,
    NicModel, ShareKind, UserStack,
};
use voidvm_model::vm::ActiveAccel;
use voidvm_model::{Bytes, MachineSpec, VmId};
use voidvm_qemu::args::{self, ArgsError, LaunchPaths};
use voidvm_qemu::process::Exit;

use crate::common::{Machine, PATIENCE, caps, key, qemu_img, start};
use crate::launch::listeners;
use crate::table::{self, Row};

/// Images of one kind, made once and copied.
struct Images(PathBuf);

impl Images {
    async fn make(dir: &Path) -> Self {
        let images = Self(dir.join("images"));
        std::fs::create_dir(&images.0).unwrap();
        let size = Bytes(1 << 20);
        qemu_img().create_qcow2(&images.0.join("Qcow2"), size).await.unwrap();
        std::fs::write(images.0.join("Raw"), vec![0; 1 << 20]).unwrap();
        qemu_img().create_luks(&images.0.join("Qcow2 luks"), size, &key()).await.unwrap();
        // The same without qcow2 around it.
        let raw = images.0.join("Raw luks");
        luks(&raw, &images.0);
        images
    }

    fn copy(&self, disk: &Disk) {
        let luks = if disk.key.is_some() { " luks" } else { "" };
        std::fs::copy(self.0.join(format!("{:?}{luks}", disk.format)), &disk.file).unwrap();
    }
}

/// A raw encrypted image. Where CPU time is counted in ticks qemu-img cannot always time itself, and is asked again.
fn luks(image: &Path, dir: &Path) {
    let secret = dir.join("key");
    std::fs::write(&secret, key().reveal()).unwrap();
    let create = || {
        std::process::Command::new("qemu-img")
            .args(["create", "-q", "-f", "luks", "-o", "key-secret=k,iter-time=10", "--object"])
            .arg(format!("secret,id=k,file={}", secret.display()))
            .arg(image)
            .arg("1M")
            .output()
            .unwrap()
    };
    let timed = |made: &std::process::Output| !String::from_utf8_lossy(&made.stderr).contains("CPU usage");
    let made = std::iter::repeat_with(create).take(32).find(timed).unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Puts the machine's files where they can be, and makes them.
fn settle(spec: &mut MachineSpec, images: &Images, place: &Path) {
    let there = |path: &mut PathBuf| *path = place.join(path.strip_prefix("/").unwrap());
    for disk in &mut spec.disks {
        there(&mut disk.file);
        images.copy(disk);
    }
    for file in spec.cdroms.iter_mut().filter_map(|cdrom| cdrom.file.as_mut()) {
        there(file);
        std::fs::write(file, vec![0; 1 << 20]).unwrap();
    }
    for share in &mut spec.shares {
        there(&mut share.folder);
        std::fs::create_dir(&share.folder).unwrap();
    }
}

/// Whether a program beside this machine shuts itself into namespaces.
fn shut_in(spec: &MachineSpec) -> bool {
    let passt = |nic: &Nic| matches!(nic.network, NetworkBackend::User { stack: UserStack::Passt, .. });
    spec.nics.iter().any(passt) || spec.shares.iter().any(|share| share.kind == ShareKind::Virtiofs)
}

/// Starts each row and asks it; all that is wrong is told at once.
async fn all(rows: Vec<Row>) {
    let dir = tempfile::Builder::new().prefix("vv").tempdir().unwrap();
    let images = Images::make(dir.path()).await;
    let caps = caps().await;
    let mut wrong = Vec::new();
    for (n, (name, mut spec)) in rows.into_iter().enumerate() {
        // Older boards go with newer QEMUs.
        if spec.machine_version.as_ref().is_some_and(|version| !caps.machines.names.has(version.as_str())) {
            continue;
        }
        // A QEMU without some device says so, and the machine is refused by its field.
        let empty = LaunchPaths::default();
        if let Err(ArgsError::Lacks { what, .. }) =
            args::build(VmId::new(), "x", &spec, ActiveAccel::Tcg, &empty, caps)
        {
            assert!(std::env::var_os("VOIDVM_TEST_QEMU").is_some(), "{name}: no {what}");
            eprintln!("skipped: {name}: this QEMU has no {what}");
            continue;
        }
        if shut_in(&spec) && !voidvm_testkit::host::namespaces() {
            continue;
        }
        let place = dir.path().join(n.to_string());
        std::fs::create_dir(&place).unwrap();
        settle(&mut spec, &images, &place);
        match start(&place, &name, spec.clone()).await {
            Err(words) => wrong.push(format!("{name}: refused: {words}")),
            Ok(machine) => {
                let mut asked = Asked { machine, spec, wrong: Vec::new() };
                asked.everything().await;
                wrong.extend(asked.wrong.into_iter().map(|what| format!("{name}: {what}")));
            }
        }
        std::fs::remove_dir_all(&place).unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// One running machine and what it should be.
struct Asked {
    machine: Machine,
    spec: MachineSpec,
    wrong: Vec<String>,
}

impl Asked {
    async fn ask(&self, command: &'static str, arguments: Value) -> Value {
        let arguments = arguments.as_object().cloned();
        self.machine
            .qmp
            .execute_raw(command, arguments, PATIENCE)
            .await
            .unwrap_or_else(|error| json!({"error": error.to_string()}))
    }

    async fn property(&self, path: &str, property: &str) -> Value {
        self.ask("qom-get", json!({"path": path, "property": property})).await
    }

    async fn of_device(&self, id: &str, property: &str) -> Value {
        self.property(&format!("/machine/peripheral/{id}"), property).await
    }

    #[expect(clippy::needless_pass_by_value, reason = "answers are made where they are compared")]
    fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, is: T, should: T) {
        if is != should {
            self.wrong.push(format!("{what}: is {is:?}, should be {should:?}"));
        }
    }

    async fn everything(&mut self) {
        self.same(
            "status",
            self.ask("query-status", Value::Null).await["status"].clone(),
            "prelaunch".into(),
        );
        self.board().await;
        self.processors().await;
        self.memory().await;
        self.peripherals().await;
        self.places().await;
        self.drives().await;
        self.cards().await;
        self.lines().await;
        let pid = self.machine.handle.pid();
        let slirp = |network: &NetworkBackend| {
            matches!(network, NetworkBackend::User { stack: UserStack::Slirp, .. })
        };
        let forwards = self.spec.nics.iter().filter(|nic| slirp(&nic.network));
        let forwards = forwards.map(|nic| nic.network.forwards().len()).sum::<usize>();
        self.same("listeners", listeners(pid), forwards);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        self.same("sandboxed", status.contains("Seccomp:\t2"), true);
        self.machine.qmp.execute(&qmp::quit {}).await.unwrap();
        let exit = tokio::time::timeout(PATIENCE, self.machine.handle.wait_exit()).await.unwrap().unwrap();
        self.same("end", exit, Exit::Code(0));
        for words in self.machine.dir.stderr_tail().lines() {
            // What the translator lacks of a named model, a card plugged into nothing and an old board are as they should be.
            let known = [
                "TCG doesn't support requested feature",
                "has no peer",
                "hyperthreading",
                "topoext",
                "is deprecated",
            ];
            if !known.iter().any(|known| words.contains(known)) {
                self.wrong.push(format!("QEMU says: {words}"));
            }
        }
    }

    /// Chipset and firmware.
    async fn board(&mut self) {
        let kind = self.property("/machine", "type").await;
        let kind = kind.as_str().unwrap_or_default().to_owned();
        if let Some(version) = &self.spec.machine_version {
            let wanted = format!("{}-machine", version.as_str());
            self.same("machine type", kind, wanted);
        } else {
            let chipset = match self.spec.machine {
                MachineType::Q35 => "pc-q35-",
                MachineType::I440fx => "pc-i440fx-",
            };
            self.same("chipset", kind.starts_with(chipset), true);
        }
        self.same("HPET", self.property("/machine", "hpet").await, (!self.spec.hyperv).into());
        let secure = self.spec.firmware == Firmware::UefiSecure;
        if secure {
            self.same("SMM", self.property("/machine", "smm").await, "on".into());
        }
        if self.spec.firmware.is_uefi() {
            for flash in 0..2 {
                let path = format!("/machine/system.flash{flash}");
                self.same("flash", self.property(&path, "secure").await, secure.into());
                self.same("its node", self.property(&path, "drive").await, format!("vv.flash{flash}").into());
            }
        }
        let tpms = self.ask("query-tpm", Value::Null).await;
        let models: Vec<&str> =
            tpms.as_array().unwrap().iter().filter_map(|tpm| tpm["model"].as_str()).collect();
        let wanted: &[&str] = match (self.spec.tpm, self.spec.machine, self.spec.firmware) {
            (false, ..) => &[],
            (true, MachineType::Q35, Firmware::Uefi | Firmware::UefiSecure) => &["tpm-crb"],
            (true, ..) => &["tpm-tis"],
        };
        let (models, wanted) = (format!("{models:?}"), format!("{wanted:?}"));
        self.same("TPM", models, wanted);
    }

    async fn processors(&mut self) {
        let now = self.ask("query-cpus-fast", Value::Null).await.as_array().unwrap().len();
        self.same("CPUs", now, usize::from(self.spec.cpus));
        let places = self.ask("query-hotpluggable-cpus", Value::Null).await;
        let places = places.as_array().unwrap();
        let most = self.spec.max_cpus.unwrap_or(self.spec.cpus);
        self.same("most CPUs", places.len(), usize::from(most));
        let different = |what: &str| {
            places.iter().filter_map(|place| place["props"][what].as_u64()).collect::<BTreeSet<_>>().len()
        };
        let (sockets, cores, threads) = self
            .spec
            .topology
            .map_or((1, most, 1), |topology| (topology.sockets, topology.cores, topology.threads));
        for (what, wanted) in [("socket-id", sockets), ("core-id", cores), ("thread-id", threads)] {
            self.same(what, different(what), usize::from(wanted));
        }
        let model = match &self.spec.cpu_model {
            CpuModel::Auto => "max",
            CpuModel::Named { name } => name,
        };
        let kind = places[0]["type"].as_str().unwrap().to_owned();
        if !(kind.starts_with(model) && kind.ends_with("-x86_64-cpu")) {
            self.wrong.push(format!("CPU model: is {kind}, should be {model}"));
        }
    }

    async fn memory(&mut self) {
        let memory = self.property("/machine", "memory").await;
        let size = self.spec.memory.bytes().0;
        self.same("memory", memory["size"].as_u64(), Some(size));
        let most = self.spec.max_memory.map_or(size, |most| most.bytes().0);
        self.same("most memory", memory["max-size"].as_u64().unwrap_or(size), most);
        self.same("slots", memory["slots"].as_u64().unwrap_or(0), if most > size { 16 } else { 0 });
        let backends = self.ask("query-memdev", Value::Null).await;
        let virtiofs = self.spec.shares.iter().any(|share| share.kind == ShareKind::Virtiofs);
        let told = &backends[0];
        self.same(
            "memory's name, size and sharing",
            (told["id"].clone(), told["size"].as_u64(), told["share"].as_bool()),
            ("pc.ram".into(), Some(size), Some(virtiofs)),
        );
        let balloon = self.ask("query-balloon", Value::Null).await;
        self.same("balloon", balloon["error"].is_null(), self.spec.balloon);
    }

    /// Exactly the devices that were asked for, each of its kind.
    async fn peripherals(&mut self) {
        let listed = self.ask("qom-list", json!({"path": "/machine/peripheral"})).await;
        let is: BTreeMap<String, String> = listed
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|child| {
                let kind = child["type"].as_str()?.strip_prefix("child<")?.strip_suffix('>')?;
                Some((child["name"].as_str()?.to_owned(), kind.to_owned()))
            })
            .collect();
        let spec = &self.spec;
        let mut should = BTreeMap::new();
        let mut device = |id: &str, kind: &str| should.insert(id.to_owned(), kind.to_owned());
        let screen = match spec.display {
            Display::Virtio => "virtio-vga",
            Display::Std => "VGA",
            Display::Qxl => "qxl-vga",
        };
        for (id, kind) in [
            ("vv.screen", screen),
            ("vv.usb", "qemu-xhci"),
            ("vv.tablet", "usb-tablet"),
            ("vv.channels", "virtio-serial-pci"),
            ("vv.serial0", "isa-serial"),
        ] {
            device(id, kind);
        }
        let q35 = spec.machine == MachineType::Q35;
        if q35 {
            let on_pci =
                spec.disks.iter().filter(|d| matches!(d.bus, DiskBus::Virtio | DiskBus::Nvme)).count();
            for (kind, count) in [("nic", spec.nics.len()), ("disk", on_pci), ("spare", 4)] {
                for n in 0..count {
                    device(&format!("vv.{kind}{n}"), "pcie-root-port");
                }
            }
        } else {
            device("vv.oldusb", "piix3-usb-uhci");
        }
        for disk in &spec.disks {
            let kind = match disk.bus {
                DiskBus::Virtio => "virtio-blk-pci",
                DiskBus::Scsi => "scsi-hd",
                DiskBus::Nvme => "nvme",
                DiskBus::Sata | DiskBus::Ide => "ide-hd",
            };
            device(disk.id.as_str(), kind);
        }
        if spec.disks.iter().any(|disk| disk.bus == DiskBus::Scsi) {
            device("vv.scsi", "virtio-scsi-pci");
        }
        for cdrom in &spec.cdroms {
            device(cdrom.id.as_str(), "ide-cd");
        }
        for nic in &spec.nics {
            device(nic.id.as_str(), if nic.model == NicModel::Virtio { "virtio-net-pci" } else { "e1000e" });
        }
        for share in &spec.shares {
            let kind = match share.kind {
                ShareKind::Virtiofs => "vhost-user-fs-pci",
                ShareKind::NineP => "virtio-9p-pci",
            };
            device(share.id.as_str(), kind);
        }
        for line in &spec.channels {
            device(line.id.as_str(), if line.name.is_empty() { "isa-serial" } else { "virtserialport" });
        }
        for stick in &spec.usb {
            device(stick.id.as_str(), "usb-host");
        }
        for (there, id, kind) in [
            (spec.balloon, "vv.balloon", "virtio-balloon-pci"),
            (spec.rng, "vv.rng", "virtio-rng-pci"),
            (spec.audio == Audio::Hda, "vv.hda", if q35 { "ich9-intel-hda" } else { "intel-hda" }),
            (spec.audio == Audio::Hda, "vv.speaker", "hda-output"),
            (spec.watchdog.is_some(), "vv.watchdog", "i6300esb"),
            (spec.vsock, "vv.vsock", "vhost-vsock-pci"),
            (spec.tpm, "vv.tpm0", if q35 && spec.firmware.is_uefi() { "tpm-crb" } else { "tpm-tis" }),
            (!spec.extra_args.is_empty(), "user-own", "edu"),
        ] {
            if there {
                device(id, kind);
            }
        }
        self.same("devices", is, should);
        for stick in self.spec.usb.clone() {
            let numbers = [
                self.of_device(stick.id.as_str(), "vendorid").await,
                self.of_device(stick.id.as_str(), "productid").await,
            ];
            self.same("USB device", numbers, [stick.vendor_id.into(), stick.product_id.into()]);
        }
        for share in self.spec.shares.clone() {
            let tag = if share.kind == ShareKind::NineP { "mount_tag" } else { "tag" };
            self.same("tag", self.of_device(share.id.as_str(), tag).await, share.tag.into());
        }
    }

    /// Every device on PCI where it always is.
    async fn places(&mut self) {
        let buses = self.ask("query-pci", Value::Null).await;
        let mut is = BTreeMap::new();
        for device in buses[0]["devices"].as_array().unwrap() {
            let place = (device["slot"].as_u64().unwrap(), device["function"].as_u64().unwrap());
            is.insert(device["qdev_id"].as_str().unwrap_or_default().to_owned(), place);
        }
        let old = self.spec.machine == MachineType::I440fx;
        let slots = [
            ("vv.screen", [1, 2]),
            ("vv.usb", [6, 3]),
            ("vv.channels", [7, 4]),
            ("vv.balloon", [8, 5]),
            ("vv.rng", [9, 6]),
            ("vv.scsi", [10, 7]),
            ("vv.hda", [11, 8]),
            ("vv.watchdog", [12, 9]),
            ("vv.vsock", [13, 10]),
        ];
        for (id, slot) in slots {
            if let Some(place) = is.get(id) {
                let place = *place;
                self.same(id, place, (slot[usize::from(old)], 0));
            }
        }
        let eight = |first: u64, n: usize| (first + n as u64 / 8, n as u64 % 8);
        let mut wanted = BTreeMap::new();
        let on_pci: Vec<&Disk> =
            self.spec.disks.iter().filter(|d| matches!(d.bus, DiskBus::Virtio | DiskBus::Nvme)).collect();
        for (n, disk) in on_pci.into_iter().enumerate() {
            if old {
                wanted.insert(disk.id.to_string(), eight(0x18, n));
            } else {
                wanted.insert(format!("vv.disk{n}"), eight(3, n));
            }
        }
        for (n, nic) in self.spec.nics.iter().enumerate() {
            if old {
                wanted.insert(nic.id.to_string(), (0x10 + n as u64, 0));
            } else {
                wanted.insert(format!("vv.nic{n}"), eight(2, n));
            }
        }
        for (n, share) in self.spec.shares.iter().enumerate() {
            wanted.insert(share.id.to_string(), eight(if old { 0x1a } else { 0x0e }, n));
        }
        for (id, place) in wanted {
            self.same(&format!("place of {id}"), is.get(&id).copied(), Some(place));
        }
    }

    async fn drives(&mut self) {
        let nodes = self.ask("query-named-block-nodes", Value::Null).await;
        let before = if self.spec.boot_from_cdrom { self.spec.cdroms.len() } else { 0 };
        let mut threads = BTreeSet::new();
        for (index, disk) in self.spec.disks.clone().into_iter().enumerate() {
            let id = disk.id.as_str();
            let Some(node) = nodes.as_array().unwrap().iter().find(|node| node["node-name"] == id) else {
                self.wrong.push(format!("{id}: no node"));
                continue;
            };
            let driver = match (disk.format, &disk.key) {
                (DiskFormat::Qcow2, _) => "qcow2",
                (DiskFormat::Raw, None) => "raw",
                (DiskFormat::Raw, Some(_)) => "luks",
            };
            self.same("format", node["drv"].clone(), driver.into());
            let file = node["file"].as_str().unwrap_or_default();
            self.same("file", file.contains(disk.file.to_str().unwrap()) || file.starts_with("json:"), true);
            self.same("read-only", node["ro"].clone(), disk.read_only.into());
            self.same("encrypted", node["encrypted"].clone(), disk.key.is_some().into());
            self.same("O_DIRECT", node["cache"]["direct"].clone(), (disk.cache == Cache::None).into());
            self.same("no flush", node["cache"]["no-flush"].clone(), (disk.cache == Cache::Unsafe).into());
            let write_cache = if disk.cache == Cache::Writethrough { "off" } else { "auto" };
            // Once it is on, QEMU says what it settled on.
            let told = self.of_device(id, "write-cache").await;
            self.same("write cache", told == "off", write_cache == "off");
            self.same("boot order", self.of_device(id, "bootindex").await, (before + index).into());
            if disk.bus != DiskBus::Virtio {
                self.same("serial", self.of_device(id, "serial").await, id.into());
            }
            match (disk.bus, disk.iothread) {
                (DiskBus::Virtio, true) => threads.insert(format!("vv.thread.{id}")),
                (DiskBus::Scsi, true) => threads.insert("vv.thread.scsi".to_owned()),
                _ => false,
            };
        }
        let told = self.ask("query-iothreads", Value::Null).await;
        let told = told
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|thread| Some(thread["id"].as_str()?.to_owned()))
            .collect();
        self.same("threads", told, threads);
        let blocks = self.ask("query-block", Value::Null).await;
        let before = if self.spec.boot_from_cdrom { 0 } else { self.spec.disks.len() };
        for (index, cdrom) in self.spec.cdroms.clone().into_iter().enumerate() {
            let id = cdrom.id.as_str();
            let qdev = |block: &&Value| block["qdev"].as_str().is_some_and(|qdev| qdev.ends_with(id));
            let block = blocks.as_array().unwrap().iter().find(qdev).cloned().unwrap_or_default();
            self.same("CD drive", block["removable"].clone(), true.into());
            self.same("its medium", block["inserted"].is_object(), cdrom.file.is_some());
            self.same("its boot order", self.of_device(id, "bootindex").await, (before + index).into());
        }
    }

    async fn cards(&mut self) {
        for nic in self.spec.nics.clone() {
            let id = nic.id.as_str();
            self.same("MAC", self.of_device(id, "mac").await, nic.mac.to_string().into());
            let backend = if nic.network == NetworkBackend::None { "" } else { id };
            let told = self.of_device(id, "netdev").await;
            self.same("network", told.as_str().unwrap_or_default().to_owned(), backend.to_owned());
            if !nic.link {
                // No argument says this: it is told once the machine is held.
                let done = self.ask("set_link", json!({"name": id, "up": false})).await;
                self.same("link", done["error"].clone(), Value::Null);
            }
        }
    }

    async fn lines(&mut self) {
        let told = self.ask("query-chardev", Value::Null).await;
        let is: BTreeSet<String> = told
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|line| Some(line["label"].as_str()?.to_owned()))
            .collect();
        let mut should: BTreeSet<String> = ["vv.qmp", "vv.serial", "vv.agent"].map(str::to_owned).into();
        should.extend(self.spec.channels.iter().map(|line| format!("vv.line.{}", line.id)));
        let virtiofs = self.spec.shares.iter().filter(|share| share.kind == ShareKind::Virtiofs);
        should.extend(virtiofs.map(|share| format!("vv.folder.{}", share.id)));
        for (there, label) in [(self.spec.clipboard, "vv.clipboard"), (self.spec.tpm, "vv.swtpm")] {
            if there {
                should.insert(label.to_owned());
            }
        }
        self.same("lines", is, should);
        for line in self.spec.channels.clone() {
            let path = self.machine.dir.channel(&line.id);
            self.same("socket", std::os::unix::net::UnixStream::connect(path).is_ok(), true);
            if !line.name.is_empty() {
                self.same("port", self.of_device(line.id.as_str(), "name").await, line.name.into());
            }
        }
    }
}

#[test]
fn the_table_is_long_enough_and_says_nothing_twice() {
    let rows: Vec<Row> = [
        table::disks(),
        table::many_drives(),
        table::network(),
        table::boards(),
        table::processors(),
        table::extras(),
    ]
    .concat();
    let mut names = BTreeSet::new();
    let mut specs = BTreeSet::new();
    for (name, spec) in &rows {
        spec.validate().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(names.insert(name.clone()), "{name}");
        assert!(specs.insert(format!("{spec:?}")), "{name}");
    }
    assert!(specs.len() >= 150, "{}", specs.len());
}

#[tokio::test]
async fn real_every_disk_is_accepted() {
    all(table::disks()).await;
}

#[tokio::test]
async fn real_many_drives_are_accepted() {
    all(table::many_drives()).await;
}

#[tokio::test]
async fn real_every_network_card_is_accepted() {
    all(table::network()).await;
}

#[tokio::test]
async fn real_every_board_is_accepted() {
    all(table::boards()).await;
}

#[tokio::test]
async fn real_processors_and_memory_are_accepted() {
    all(table::processors()).await;
}

#[tokio::test]
async fn real_everything_else_is_accepted() {
    all(table::extras()).await;
}
