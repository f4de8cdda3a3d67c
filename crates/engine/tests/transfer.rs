//! Machines to files and back: archives, OVAs, descriptions of other programs; and archives made to do harm.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::Rig;
use voidvm_model::contract::{CreateSource, VmCreateRequest, VmUpdateRequest};
use voidvm_model::spec::{DiskFormat, FileOwner};
use voidvm_model::transfer::{ExportFormat, VmCloneRequest, VmExportRequest, VmImportRequest};
use voidvm_model::{Bytes, ErrorCode, OperationStatus, Origin, VmView};
use voidvm_testkit::Plan;

/// Names, kinds and contents of an archive.
type Entries<'a> = Vec<(&'a str, tar::EntryType, &'a [u8])>;

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {text}");
    text
}

fn write(disk: &Path, mib: u32, pattern: u8) {
    run("qemu-io", &["-f", "qcow2", "-c", &format!("write -P {pattern} {mib}M 1M"), disk.to_str().unwrap()]);
}

fn holds(disk: &Path, patterns: &[(u32, u8)]) {
    let name = disk.to_str().unwrap();
    run("qemu-img", &["check", "-q", "-f", "qcow2", name]);
    for (mib, pattern) in patterns {
        let text =
            run("qemu-io", &["-f", "qcow2", "-r", "-c", &format!("read -P {pattern} {mib}M 1M"), name]);
        assert!(!text.contains("verification failed"), "{name} at {mib} MiB is not {pattern}: {text}");
    }
}

fn disk(vm: &VmView) -> &Path {
    &vm.spec.disks[0].file
}

/// A linked clone, so that its disk stands on another; with something in both.
async fn machine(rig: &Rig) -> VmView {
    let request = VmCreateRequest::new("base", CreateSource::Empty { disk_size: Bytes(64 << 20) });
    let made = rig.succeeded(rig.engine.create(request, Origin::Cli).await).await;
    let base = rig.engine.get(made.vm_id.unwrap()).unwrap();
    write(disk(&base), 1, 21);
    let request = VmCloneRequest { id: base.id, name: "web & co".to_owned(), linked: true, start: false };
    let made = rig.succeeded(rig.engine.clone_machine(request, Origin::Cli).await).await;
    let vm = rig.engine.get(made.vm_id.unwrap()).unwrap();
    write(disk(&vm), 2, 22);
    let mut edit = VmUpdateRequest::new(vm.id);
    let mut spec = vm.spec.clone();
    spec.cpus = 3;
    spec.tpm = true;
    edit.spec = Some(spec);
    edit.description = Some("of the lab".to_owned());
    let dir = rig.config.machine_dir(vm.id);
    std::fs::create_dir_all(dir.join("tpm")).unwrap();
    std::fs::write(dir.join("tpm/tpm2-00.permall"), "state").unwrap();
    std::fs::write(dir.join("id_ed25519"), "SECRET").unwrap();
    rig.engine.update(edit, Origin::Cli).await.unwrap()
}

async fn export(rig: &Rig, vm: &VmView, path: &Path, format: ExportFormat) {
    let request = VmExportRequest { id: vm.id, path: path.to_str().unwrap().to_owned(), format };
    rig.succeeded(rig.engine.export(request, Origin::Cli).await).await;
}

fn request(path: &Path, name: &str) -> VmImportRequest {
    VmImportRequest { path: path.to_str().unwrap().to_owned(), name: Some(name.to_owned()), in_place: false }
}

async fn import(rig: &Rig, path: &Path, name: &str) -> VmView {
    let made = rig.succeeded(rig.engine.import(request(path, name), Origin::Cli).await).await;
    rig.engine.get(made.vm_id.unwrap()).unwrap()
}

fn machines(rig: &Rig) -> usize {
    std::fs::read_dir(rig.config.data_dir.join("vms")).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_holds_everything_but_secrets() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let vm = machine(&rig).await;
    let path = rig.dir.path().join("web.voidvm");
    export(&rig, &vm, &path, ExportFormat::Archive).await;
    let left: Vec<_> =
        std::fs::read_dir(rig.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains(".part")), "{left:?}");
    let plan = rig.engine.inspect_import(&path).await.unwrap();
    assert_eq!((plan.source.as_str(), plan.name.as_str(), plan.spec.cpus), ("voidvm", "web & co", 3));
    let again = import(&rig, &path, "again").await;
    assert_eq!((again.spec.cpus, again.spec.tpm, again.description.as_str()), (3, true, "of the lab"));
    assert_ne!(again.spec.nics[0].mac, vm.spec.nics[0].mac);
    holds(disk(&again), &[(0, 0), (1, 21), (2, 22)]);
    let dir = rig.config.machine_dir(again.id);
    assert_eq!(std::fs::read_to_string(dir.join("tpm/tpm2-00.permall")).unwrap(), "state");
    assert!(!dir.join("id_ed25519").exists());
    // The file is nobody's to replace.
    let twice =
        VmExportRequest { id: vm.id, path: path.to_str().unwrap().to_owned(), format: ExportFormat::Archive };
    assert_eq!(rig.engine.export(twice, Origin::Cli).await.unwrap_err().code, ErrorCode::FileInUse);
    // One bit that fell over is seen, and so is an end that is missing.
    let good = std::fs::read(&path).unwrap();
    for (name, bytes) in [
        ("short.voidvm", good[..good.len() - 200].to_vec()),
        ("flipped.voidvm", {
            let mut bytes = good.clone();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            bytes
        }),
    ] {
        let bad = rig.dir.path().join(name);
        std::fs::write(&bad, bytes).unwrap();
        let before = machines(&rig);
        // Seen at the first look, or on the way.
        let code = match rig.engine.import(request(&bad, name), Origin::Cli).await {
            Err(error) => error.code,
            Ok(operation) => rig.failed(Ok(operation)).await.0,
        };
        assert!(matches!(code, ErrorCode::ImageInvalid | ErrorCode::ChecksumMismatch), "{name}: {code:?}");
        assert_eq!(machines(&rig), before, "nothing is left of {name}");
    }
    assert!(rig.store.journal().open().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ova_goes_out_and_comes_back() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let vm = machine(&rig).await;
    let path = rig.dir.path().join("web.ova");
    export(&rig, &vm, &path, ExportFormat::Ova).await;
    let listed = run("tar", &["tf", path.to_str().unwrap()]);
    assert_eq!(listed.lines().collect::<Vec<_>>(), ["machine.ovf", "disk0.vmdk", "machine.mf"]);
    let plan = rig.engine.inspect_import(&path).await.unwrap();
    assert_eq!((plan.source.as_str(), plan.name.as_str(), plan.spec.cpus), ("ova", "web & co", 3));
    assert_eq!(plan.spec.memory, vm.spec.memory);
    let again = import(&rig, &path, "again").await;
    assert_eq!((again.spec.cpus, again.spec.tpm, again.spec.nics.len()), (3, true, 1));
    assert_eq!(again.spec.disks[0].bus, vm.spec.disks[0].bus);
    assert_eq!(again.spec.nics[0].model, vm.spec.nics[0].model);
    holds(disk(&again), &[(0, 0), (1, 21), (2, 22)]);
    let left: Vec<_> = std::fs::read_dir(rig.config.machine_dir(again.id))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left, ["disk0.qcow2"]);
    // A disk that is not the one of the manifest.
    let dir = rig.dir.path().join("x");
    std::fs::create_dir(&dir).unwrap();
    run("tar", &["xf", path.to_str().unwrap(), "-C", dir.to_str().unwrap()]);
    let vmdk = dir.join("disk0.vmdk");
    let mut bytes = std::fs::read(&vmdk).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&vmdk, bytes).unwrap();
    let bad = rig.dir.path().join("bad.ova");
    run(
        "tar",
        &[
            "cf",
            bad.to_str().unwrap(),
            "-C",
            dir.to_str().unwrap(),
            "machine.ovf",
            "machine.mf",
            "disk0.vmdk",
        ],
    );
    let before = machines(&rig);
    let (code, _) = rig.failed(rig.engine.import(request(&bad, "bad"), Origin::Cli).await).await;
    assert_eq!(code, ErrorCode::ChecksumMismatch);
    assert_eq!(machines(&rig), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_of_other_programs_are_converted_or_used_in_place() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let dir = rig.dir.path().join("theirs");
    std::fs::create_dir(&dir).unwrap();
    let qcow2 = dir.join("disk.qcow2");
    run("qemu-img", &["create", "-q", "-f", "qcow2", qcow2.to_str().unwrap(), "64M"]);
    write(&qcow2, 5, 77);
    let conf = dir.join("lab.conf");
    std::fs::write(&conf, "guest_os=\"linux\"\ndisk_img=\"disk.qcow2\"\ncpu_cores=\"2\"\nram=\"256M\"\n")
        .unwrap();
    let stays = VmImportRequest { in_place: true, ..request(&conf, "in place") };
    let made = rig.succeeded(rig.engine.import(stays.clone(), Origin::Cli).await).await;
    let vm = rig.engine.get(made.vm_id.unwrap()).unwrap();
    assert_eq!((disk(&vm), vm.spec.disks[0].owner), (qcow2.as_path(), FileOwner::User));
    let taken = VmImportRequest { name: Some("twice".to_owned()), ..stays };
    assert_eq!(rig.engine.import(taken, Origin::Cli).await.unwrap_err().code, ErrorCode::FileInUse);
    for end in ["vdi", "vmdk", "vhdx"] {
        let file = dir.join(format!("disk.{end}"));
        run(
            "qemu-img",
            &["convert", "-f", "qcow2", "-O", end, qcow2.to_str().unwrap(), file.to_str().unwrap()],
        );
        let vmx = dir.join(format!("{end}.vmx"));
        std::fs::write(
            &vmx,
            format!("virtualHW.version = \"19\"\ndisplayName = \"lab\"\nmemsize = \"256\"\nsata0:0.fileName = \"disk.{end}\"\n"),
        )
        .unwrap();
        let vm = import(&rig, &vmx, end).await;
        assert_eq!(
            (vm.spec.disks[0].format, vm.spec.disks[0].owner),
            (DiskFormat::Qcow2, FileOwner::Machine)
        );
        holds(disk(&vm), &[(4, 0), (5, 77)]);
        assert!(file.exists());
    }
}

/// A tar whose entries are as they are given, also where no tar program would write them so.
fn tar(path: &Path, entries: &[(&str, tar::EntryType, &[u8])]) {
    let mut bytes = Vec::new();
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        if *kind == tar::EntryType::Symlink {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        bytes.write_all(header.as_bytes()).unwrap();
        bytes.write_all(content).unwrap();
        bytes.resize(bytes.len().div_ceil(512) * 512, 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_decides_neither_where_something_is_written_nor_what_a_guest_sees() {
    let rig = Rig::new(&Plan::default(), &[]).await;
    let ovf = r#"<Envelope><References><File id="f" href="disk.vmdk"/></References><DiskSection><Disk diskId="d" fileRef="f"/></DiskSection>
        <VirtualSystem id="x"><VirtualHardwareSection><Item><ResourceType>17</ResourceType><HostResource>/disk/d</HostResource></Item></VirtualHardwareSection></VirtualSystem></Envelope>"#;
    // A disk that is a list of other files of this computer.
    let list = b"# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW 100 FLAT \"/etc/passwd\" 0\n";
    let secret = rig.dir.path().join("secret");
    std::fs::write(&secret, vec![7; 1 << 20]).unwrap();
    let overlay = rig.dir.path().join("overlay");
    let backing = format!("backing_file={},backing_fmt=raw", secret.display());
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &backing, overlay.to_str().unwrap()]);
    let overlay = std::fs::read(overlay).unwrap();
    let regular = tar::EntryType::Regular;
    let cases: [(&str, Entries<'_>); 5] = [
        ("climbs", vec![("m.ovf", regular, ovf.as_bytes()), ("../../evil", regular, b"x")]),
        ("absolute", vec![("m.ovf", regular, ovf.as_bytes()), ("/tmp/evil-of-a-test", regular, b"x")]),
        ("link", vec![("m.ovf", regular, ovf.as_bytes()), ("disk.vmdk", tar::EntryType::Symlink, b"")]),
        ("list", vec![("m.ovf", regular, ovf.as_bytes()), ("disk.vmdk", regular, list)]),
        ("nothing", vec![("m.ovf", regular, ovf.as_bytes())]),
    ];
    for (name, entries) in cases {
        let path = rig.dir.path().join(format!("{name}.ova"));
        tar(&path, &entries);
        let (code, _) = rig.failed(rig.engine.import(request(&path, name), Origin::Cli).await).await;
        assert_eq!(code, ErrorCode::ImageInvalid, "{name}");
    }
    assert!(!Path::new("/tmp/evil-of-a-test").exists());
    // An archive of ours, well made, with a disk that shows another file.
    let vm = machine(&rig).await;
    let good = rig.dir.path().join("good.voidvm");
    export(&rig, &vm, &good, ExportFormat::Archive).await;
    let evil = forge(&rig, &good, &overlay);
    let before = machines(&rig);
    let (code, _) = rig.failed(rig.engine.import(request(&evil, "evil"), Origin::Cli).await).await;
    assert_eq!(code, ErrorCode::ImageInvalid);
    assert_eq!(machines(&rig), before);
    for (name, content) in [("text", "hello"), ("page.html", "<html></html>")] {
        let path = rig.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let error = rig.engine.inspect_import(&path).await.unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (ErrorCode::ImageInvalid, Some("path")));
    }
}

/// The archive with another disk, and checksums that fit it.
fn forge(rig: &Rig, good: &Path, disk: &[u8]) -> PathBuf {
    let dir = rig.dir.path().join("forged");
    std::fs::create_dir(&dir).unwrap();
    let mut archive = tar::Archive::new(zstd::Decoder::new(std::fs::File::open(good).unwrap()).unwrap());
    archive.unpack(&dir).unwrap();
    std::fs::write(dir.join("disk0.qcow2"), disk).unwrap();
    let sum = run("sha256sum", &[dir.join("disk0.qcow2").to_str().unwrap()]);
    let sums = std::fs::read_to_string(dir.join("checksums.json")).unwrap();
    let mut sums: serde_json::Value = serde_json::from_str(&sums).unwrap();
    sums["disk0.qcow2"] = sum.split(' ').next().unwrap().into();
    std::fs::write(dir.join("checksums.json"), sums.to_string()).unwrap();
    let evil = rig.dir.path().join("evil.voidvm");
    let mut packed = tar::Builder::new(zstd::Encoder::new(std::fs::File::create(&evil).unwrap(), 1).unwrap());
    for name in ["manifest.json", "disk0.qcow2", "tpm+tpm2-00.permall", "checksums.json"] {
        packed.append_path_with_name(dir.join(name), name).unwrap();
    }
    packed.into_inner().unwrap().finish().unwrap();
    evil
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_is_given_up_leaves_nothing() {
    let rig = Rig::with(&Plan::default(), &[], |config| config.preferences.builds = 1).await;
    let vm = machine(&rig).await;
    for mib in 0..40 {
        write(disk(&vm), mib, 3);
    }
    let path = rig.dir.path().join("given-up.voidvm");
    let wanted =
        VmExportRequest { id: vm.id, path: path.to_str().unwrap().to_owned(), format: ExportFormat::Archive };
    let operation = rig.engine.export(wanted, Origin::Cli).await.unwrap();
    if rig.engine.cancel(operation.id).await.is_ok()
        && rig.end(&operation).await.status == OperationStatus::Cancelled
    {
        let left = std::fs::read_dir(rig.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(!left.into_iter().any(|name| name.to_string_lossy().contains("given-up")));
    }
    assert!(rig.store.journal().open().await.unwrap().is_empty());
    rig.start(vm.id).await;
    rig.force_off(vm.id).await;
}
