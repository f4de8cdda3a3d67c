//! Going on from a snapshot's memory on the real QEMU, translated: from an image that was prepared, from the stream where the image
//! does not do, from a packed stream. The guest is only firmware; what it remembers is the keys it was sent, which lie in its
//! memory where the first PCs had them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Rig, SOON, row, spec};
use voidvm_engine::{Engine, EngineConfig};
use voidvm_model::contract::OperationListRequest;
use voidvm_model::snapshot::{
    RestoreTo, Snapshot, SnapshotCreateRequest, SnapshotForkRequest, SnapshotRef, SnapshotRestoreRequest,
};
use voidvm_model::spec::{Disk, DiskFormat, FileOwner};
use voidvm_model::{
    ErrorCode, MachineSpec, Operation, OperationKind, OperationResult, OperationStatus, Origin, VmId, VmState,
};
use voidvm_store::{Store, VmRow};
use voidvm_testkit::{Plan, wait_until_async};

/// From power on to a firmware that has nothing to boot.
const BOOT: Duration = Duration::from_secs(60);
const NEVER: Duration = Duration::from_secs(3600);
/// The firmware's ring of keys: head and tail, then sixteen words of character and key.
const KEYS: u64 = 0x41e;

struct Lab {
    rig: Option<Rig>,
    id: VmId,
}

impl Drop for Lab {
    fn drop(&mut self) {
        let Some(rig) = &self.rig else { return };
        for vm in rig.engine.list() {
            if let Some(run) = vm.run {
                voidvm_testkit::fake::kill(run.pid);
            }
        }
    }
}

/// The real QEMU with a monitor for the test beside the engine's; one that makes an image waits for ever where `stuck` says so.
fn wrapper(binary: &Path, dir: &Path) -> PathBuf {
    let script = dir.join("qemu-with-monitor");
    let text = format!(
        r#"#!/bin/bash
[[ "$*" = *"memory of a snapshot"* && -e {stuck} ]] && exec sleep 3600
for ((at = 1; at < $#; at++)); do
  [ "${{!at}}" = -uuid ] && next=$((at + 1)) && exec {binary} "$@" -qmp unix:{monitor}.${{!next}},server=on,wait=off
done
exec {binary} "$@"
"#,
        stuck = dir.join("stuck").display(),
        binary = binary.display(),
        monitor = dir.join("m").display(),
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
}

impl Lab {
    async fn new(change: impl FnOnce(&mut EngineConfig)) -> Option<Self> {
        let binary = PathBuf::from("/usr/bin/qemu-system-x86_64");
        if !binary.exists() {
            eprintln!("skipped: no QEMU here");
            return None;
        }
        let vm = row("lab", spec());
        let rig = Rig::with(&Plan::default(), &[], |config| {
            config.preferences.qemu_binary = Some(wrapper(&binary, config.data_dir.parent().unwrap()));
            config.timing.mute_after = Duration::from_secs(20);
            config.timing.heartbeat = Duration::from_secs(2);
            config.timing.prepare_after = Duration::ZERO;
            config.timing.pack_after = NEVER;
            change(config);
        })
        .await;
        let dir = rig.config.machine_dir(vm.id);
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("disk0.qcow2");
        let made =
            Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&file).arg("8M").status();
        assert!(made.unwrap().success());
        let disk = Disk::new("disk0".parse().unwrap(), file, DiskFormat::Qcow2, FileOwner::Machine);
        let spec = MachineSpec { disks: vec![disk], ..spec() };
        rig.store.vms().insert(&VmRow { spec, ..vm.clone() }).await.unwrap();
        let lab = Self { rig: Some(rig.reopen().await), id: vm.id };
        lab.rig().start(lab.id).await;
        // The firmware takes keys once it knows its keyboard; one at a time, or it takes that for broken.
        let mut asked = 0_u32;
        wait_until_async(BOOT, "the firmware to take keys", async || {
            if asked.is_multiple_of(64) {
                lab.rig().engine.keys(lab.id, vec!["a".to_owned()]).await.unwrap();
            }
            asked += 1;
            (!keys(lab.rig(), lab.id).is_empty()).then_some(())
        })
        .await;
        // The last of them may still be on its way.
        lab.press(lab.id, "s").await;
        Some(lab)
    }

    fn rig(&self) -> &Rig {
        self.rig.as_ref().unwrap()
    }

    /// Another owner takes over.
    async fn reopen(&mut self) {
        self.rig = Some(self.rig.take().unwrap().reopen().await);
        self.rig().engine.ready().await;
    }

    fn stuck(&self, on: bool) {
        let flag = self.rig().dir.path().join("stuck");
        if on { std::fs::write(flag, "").unwrap() } else { std::fs::remove_file(flag).unwrap() }
    }

    /// Presses a key and waits until it is in the guest's memory.
    async fn press(&self, id: VmId, key: &str) -> String {
        self.rig().engine.keys(id, vec![key.to_owned()]).await.unwrap();
        wait_until_async(SOON, "the key", async || {
            Some(keys(self.rig(), id)).filter(|now| now.ends_with(key))
        })
        .await
    }

    fn keys(&self) -> String {
        keys(self.rig(), self.id)
    }

    async fn take(&self, name: &str) -> Snapshot {
        let request = SnapshotCreateRequest {
            id: self.id,
            name: Some(name.to_owned()),
            description: String::new(),
            tags: Vec::new(),
            disk_only: false,
            freeze: false,
        };
        let ended = self.rig().succeeded(self.rig().engine.take_snapshot(request, Origin::Cli).await).await;
        let Some(OperationResult::Snapshotted { snapshot, .. }) = ended.result else { panic!("{ended:?}") };
        let tree = self.rig().engine.snapshots(self.id).await.unwrap().snapshots;
        let taken = tree.into_iter().find(|taken| taken.id == snapshot).unwrap();
        assert!(taken.memory);
        taken
    }

    fn request(&self, snapshot: &Snapshot, to: RestoreTo) -> SnapshotRestoreRequest {
        SnapshotRestoreRequest { id: self.id, snapshot: snapshot.id.to_string(), to, discard_present: true }
    }

    async fn restore(&self, snapshot: &Snapshot) {
        let request = self.request(snapshot, RestoreTo::AsItWas);
        self.rig().succeeded(self.rig().engine.restore_snapshot(request, Origin::Cli).await).await;
        assert_eq!(self.rig().state(self.id), VmState::Running);
    }

    fn dir(&self, snapshot: &Snapshot) -> PathBuf {
        self.rig().config.machine_dir(self.id).join("snapshots").join(snapshot.id.to_string())
    }

    async fn prepared(&self, snapshot: &Snapshot) {
        let description = self.dir(snapshot).join("image.json");
        wait_until_async(SOON, "the image", async || description.exists().then_some(())).await;
        self.idle().await;
    }

    async fn preparations(&self) -> Vec<Operation> {
        let all = self.rig().engine.operations(OperationListRequest::default()).await.unwrap();
        all.into_iter().filter(|operation| operation.kind == OperationKind::SnapshotPrepare).collect()
    }

    /// Waits until nothing is being prepared.
    async fn idle(&self) {
        wait_until_async(SOON, "the end of what is prepared", async || {
            self.preparations().await.iter().all(|operation| operation.status.is_final()).then_some(())
        })
        .await;
    }

    /// The preparation at work.
    async fn preparing(&self) -> Operation {
        wait_until_async(SOON, "a preparation", async || {
            self.preparations()
                .await
                .into_iter()
                .find(|operation| operation.status == OperationStatus::Running)
        })
        .await
    }

    /// Whether a machine's memory is an image's.
    fn is_mapped(&self, id: VmId) -> bool {
        let pid = self.rig().engine.get(id).unwrap().run.unwrap().pid;
        let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        words.contains("memory-backend-file")
    }

    fn names(&self, snapshot: &Snapshot) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir(snapshot)).unwrap().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// The keys in a guest's memory, by what QEMU says of it through the second monitor.
fn keys(rig: &Rig, id: VmId) -> String {
    let stream = UnixStream::connect(rig.dir.path().join(format!("m.{id}"))).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    lines.next().unwrap().unwrap();
    let line = format!("xp /16hx {KEYS:#x}");
    let command =
        serde_json::json!({"execute": "human-monitor-command", "arguments": {"command-line": line}});
    let mut answer = String::new();
    for question in [r#"{"execute":"qmp_capabilities"}"#.to_owned(), command.to_string()] {
        (&stream).write_all(format!("{question}\n").as_bytes()).unwrap();
        answer = lines.by_ref().map(Result::unwrap).find(|line| !line.contains("\"event\"")).unwrap();
    }
    let words =
        answer.split(|c: char| !c.is_ascii_hexdigit() && c != 'x').filter_map(|word| word.strip_prefix("0x"));
    let bytes = words.filter_map(|word| u8::try_from(u16::from_str_radix(word, 16).ok()? & 0xff).ok());
    bytes.take_while(|byte| *byte != 0).map(char::from).collect()
}

fn sum(file: &Path) -> Vec<u8> {
    let output = Command::new("sha256sum").arg(file).output().unwrap();
    output.stdout[..64].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_guest_goes_on_from_an_image_and_is_kept_again() {
    let Some(mut lab) = Lab::new(|_| ()).await else { return };
    let (id, first_keys) = (lab.id, lab.keys());
    let first = lab.take("first").await;
    lab.prepared(&first).await;
    let (image, whole) = (lab.dir(&first).join("image.ram"), sum(&lab.dir(&first).join("image.ram")));
    assert_eq!(std::fs::metadata(&image).unwrap().len(), 64 << 20);
    // What it takes is said.
    let shown = &lab.rig().engine.snapshots(lab.id).await.unwrap().snapshots[0];
    assert!(shown.size > first.size && shown.frees > first.frees, "{shown:?}");

    lab.press(lab.id, "b").await;
    lab.restore(&first).await;
    assert!(lab.is_mapped(lab.id));
    assert_eq!(lab.keys(), first_keys);
    let second_keys = lab.press(lab.id, "c").await;
    // Its memory is half the image's and half its own: the snapshot has all of it.
    let second = lab.take("second").await;
    lab.press(lab.id, "d").await;
    lab.prepared(&second).await;
    // What others mapped and wrote to is what it was.
    assert_eq!(sum(&image), whole);
    lab.restore(&second).await;
    assert!(lab.is_mapped(lab.id));
    assert_eq!(lab.keys(), second_keys);

    // An engine that takes it over keeps, suspends and restores it like any other.
    lab.reopen().await;
    let third_keys = lab.press(id, "e").await;
    let third = lab.take("third").await;
    lab.prepared(&third).await;
    // The newest two have one, and the first, which was not the last that was used, has none any more.
    assert!(!image.exists() && lab.names(&second).contains(&"image.json".to_owned()));
    lab.rig().succeeded(lab.rig().engine.suspend(id, Origin::Cli).await).await;
    lab.rig().until(id, VmState::Suspended).await;
    lab.rig().start(id).await;
    assert_eq!((lab.keys(), lab.is_mapped(id)), (third_keys.clone(), false));
    for (snapshot, content) in [(&first, &first_keys), (&second, &second_keys), (&third, &third_keys)] {
        lab.restore(snapshot).await;
        assert_eq!(lab.keys(), *content);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_forks_share_an_image_and_differ_in_what_they_write() {
    let Some(lab) = Lab::new(|_| ()).await else { return };
    let kept = lab.take("kept").await;
    lab.prepared(&kept).await;
    let (image, content) = (lab.dir(&kept).join("image.ram"), lab.keys());
    let whole = sum(&image);
    let request = SnapshotForkRequest {
        id: lab.id,
        snapshot: "kept".into(),
        name: "fork".into(),
        count: Some(3),
        start: true,
    };
    lab.rig().succeeded(lab.rig().engine.fork_snapshot(request, Origin::Cli).await).await;
    let forks: Vec<VmId> =
        lab.rig().engine.list().iter().filter(|vm| vm.id != lab.id).map(|vm| vm.id).collect();
    assert_eq!(forks.len(), 3);
    for (fork, key) in forks.iter().zip(["x", "y", "z"]) {
        assert!(lab.is_mapped(*fork));
        assert_eq!(lab.press(*fork, key).await, format!("{content}{key}"));
    }
    assert_eq!(keys(lab.rig(), lab.id), content);
    assert_eq!(sum(&image), whole);
    // They go on without it.
    let gone = SnapshotRef { id: lab.id, snapshot: "kept".into() };
    lab.rig().succeeded(lab.rig().engine.delete_snapshot(gone, Origin::Cli).await).await;
    assert!(!image.exists());
    assert_eq!(lab.press(forks[0], "w").await, format!("{content}xw"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_guest_goes_on_from_the_stream_where_the_image_does_not_do() {
    let Some(lab) = Lab::new(|_| ()).await else { return };
    let kept = lab.take("kept").await;
    let content = lab.keys();
    lab.prepared(&kept).await;
    let dir = lab.dir(&kept);
    let (state, ram, description) = (dir.join("image.state"), dir.join("image.ram"), dir.join("image.json"));
    // From here on nothing is made again by itself.
    lab.stuck(true);

    // Devices that QEMU refuses: seen only when they are loaded.
    let devices = std::fs::read(&state).unwrap();
    std::fs::write(&state, vec![7; devices.len()]).unwrap();
    lab.restore(&kept).await;
    assert_eq!((lab.keys(), lab.is_mapped(lab.id)), (content.clone(), false));
    std::fs::write(&state, &devices).unwrap();
    lab.restore(&kept).await;
    assert_eq!((lab.keys(), lab.is_mapped(lab.id)), (content.clone(), true));

    // Another QEMU's; memory of another size; files that are gone.
    let text = std::fs::read_to_string(&description).unwrap();
    std::fs::write(&description, text.replace("\"qemu\":\"", "\"qemu\":\"9")).unwrap();
    lab.restore(&kept).await;
    assert_eq!((lab.keys(), lab.is_mapped(lab.id)), (content.clone(), false));
    std::fs::write(&description, text.replace("67108864", "33554432")).unwrap();
    std::fs::File::options().write(true).open(&ram).unwrap().set_len(32 << 20).unwrap();
    lab.restore(&kept).await;
    assert_eq!((lab.keys(), lab.is_mapped(lab.id)), (content.clone(), false));
    std::fs::remove_file(&ram).unwrap();
    lab.restore(&kept).await;
    assert_eq!((lab.keys(), lab.is_mapped(lab.id)), (content, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_image_that_is_not_finished_leaves_nothing() {
    let Some(mut lab) = Lab::new(|_| ()).await else { return };
    lab.stuck(true);
    let kept = lab.take("kept").await;
    let without = ["machine.json", "memory", "screen.png"].map(str::to_owned).to_vec();
    let plain =
        |names: Vec<String>| names.into_iter().filter(|name| name != "screen.png").collect::<Vec<_>>();
    let without = plain(without);

    // Given up by a person: it is not tried again.
    let preparing = lab.preparing().await;
    wait_until_async(SOON, "a part", async || (plain(lab.names(&kept)) != without).then_some(())).await;
    assert!(preparing.cancellable);
    lab.rig().engine.cancel(preparing.id).await.unwrap();
    let ended = lab.rig().end(&preparing).await;
    assert_eq!((ended.status, plain(lab.names(&kept))), (OperationStatus::Cancelled, without.clone()));

    // The owner ends in the middle of it; one that was killed leaves parts.
    let other = lab.take("other").await;
    let preparing = lab.preparing().await;
    lab.reopen().await;
    assert_eq!(lab.rig().end(&preparing).await.status, OperationStatus::Interrupted);
    let preparing = lab.preparing().await;
    lab.rig().engine.cancel(preparing.id).await.unwrap();
    lab.idle().await;
    for name in ["image.ram.part", "image.ram", "image.state", "memory.zst.part"] {
        std::fs::write(lab.dir(&other).join(name), "part").unwrap();
    }
    lab.reopen().await;
    let preparing = lab.preparing().await;
    // Deleting a snapshot ends the work on it.
    for snapshot in [&kept, &other] {
        let gone = SnapshotRef { id: lab.id, snapshot: snapshot.id.to_string() };
        lab.rig().succeeded(lab.rig().engine.delete_snapshot(gone, Origin::Cli).await).await;
        assert!(!lab.dir(snapshot).exists());
    }
    assert!(lab.rig().end(&preparing).await.status.is_final());
    assert_eq!(lab.rig().state(lab.id), VmState::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_machines_packed_memory_is_gone_on_from_unless_a_crash_has_damaged_it() {
    let Some(mut lab) = Lab::new(|config| {
        config.preferences.prepared_snapshots = 0;
        config.timing.pack_after = Duration::ZERO;
    })
    .await
    else {
        return;
    };
    let kept = lab.take("kept").await;
    let content = lab.keys();
    let packed = lab.dir(&kept).join("memory.zst");
    wait_until_async(SOON, "packed memory", async || packed.exists().then_some(())).await;
    lab.idle().await;
    let names = lab.names(&kept);
    assert!(!names.contains(&"memory".to_owned()) && !names.contains(&"image.json".to_owned()), "{names:?}");
    let ended = lab.preparations().await.remove(0);
    let Some(OperationResult::Reclaimed { before, after }) = ended.result else { panic!("{ended:?}") };
    assert!(after.0 < before.0 / 2);
    lab.press(lab.id, "b").await;
    lab.restore(&kept).await;
    assert_eq!(lab.keys(), content);

    // A byte is another one than it was; nobody looks, as long as the computer has not gone down.
    let mut bytes = std::fs::read(&packed).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&packed, &bytes).unwrap();
    lab.rig().force_off(lab.id).await;
    let marker = lab.rig().config.data_dir.join("owner-boot");
    assert!(marker.exists());
    let Rig { engine, store, config, fake, dir } = lab.rig.take().unwrap();
    engine.shutdown().await;
    assert!(!marker.exists());
    drop(engine);
    store.close().await;
    std::fs::write(&marker, "another boot").unwrap();
    let store = Store::open(&config.data_dir).await.unwrap();
    let engine = Engine::open(config.clone(), store.clone()).await.unwrap();
    lab.rig = Some(Rig { engine, store, config, fake, dir });
    let request = lab.request(&kept, RestoreTo::AsItWas);
    let (code, refused) =
        lab.rig().failed(lab.rig().engine.restore_snapshot(request, Origin::Cli).await).await;
    assert_eq!(code, ErrorCode::ImageInvalid, "{refused:?}");
    assert!(refused.error.unwrap().message.contains("checksum"));
    let stopped = lab.request(&kept, RestoreTo::Stopped);
    lab.rig().succeeded(lab.rig().engine.restore_snapshot(stopped, Origin::Cli).await).await;
    bytes[middle] ^= 1;
    std::fs::write(&packed, &bytes).unwrap();
    lab.restore(&kept).await;
    assert_eq!(lab.keys(), content);
}
