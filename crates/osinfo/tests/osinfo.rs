//! The distribution's own database, where it is installed, and ISOs made by hand.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

use voidvm_model::spec::Firmware;
use voidvm_model::{Bytes, MiB};
use voidvm_osinfo::{DIRECTORIES, IsoIdentity, OsDb};

fn db() -> Option<OsDb> {
    let db = OsDb::load(DIRECTORIES).ok();
    if db.is_none() {
        eprintln!("skipped: osinfo-db is not installed");
    }
    db
}

fn iso(volume_id: &str) -> IsoIdentity {
    IsoIdentity { volume_id: volume_id.to_owned(), ..IsoIdentity::default() }
}

#[test]
fn media_are_recognised_by_what_they_say_of_themselves() {
    let Some(db) = db() else { return };
    let windows =
        |volume_id: &str| IsoIdentity { publisher_id: "MICROSOFT CORPORATION".to_owned(), ..iso(volume_id) };
    for (identity, id) in [
        (iso("Debian 11.5.0 amd64 n"), "debian11"),
        (iso("Debian 12.7.0 amd64 n"), "debian12"),
        (iso("Debian 13.1.0 amd64 1"), "debian13"),
        (iso("Ubuntu 22.04.3 LTS amd64"), "ubuntu22.04"),
        (iso("Ubuntu-Server 22.04.1 LTS amd64"), "ubuntu22.04"),
        (iso("Ubuntu 24.04.1 LTS amd64"), "ubuntu24.04"),
        (iso("Ubuntu-Server 24.04.1 LTS amd64"), "ubuntu24.04"),
        (iso("Fedora-WS-Live-37-1-7"), "fedora37"),
        (windows("CCCOMA_X64FRE_EN-US_DV9"), "win11"),
        (windows("SSS_X64FREE_EN-US_DV9"), "win2k22"),
    ] {
        let found = db.detect(&identity).map(|preset| preset.os.id);
        assert_eq!(found.as_deref(), Some(id), "{identity:?}");
    }
    for unknown in ["", "HOLIDAY PICTURES", "Debian", "VOIDVM"] {
        assert_eq!(db.detect(&iso(unknown)), None, "{unknown}");
    }
}

#[test]
fn what_an_operating_system_wants_comes_from_the_database() {
    let Some(db) = db() else { return };
    let windows = db.preset("win11").unwrap();
    assert_eq!(
        (windows.firmware, windows.tpm, windows.hyperv, windows.virtio),
        (Firmware::UefiSecure, true, true, false)
    );
    assert_eq!((windows.cpus, windows.memory, windows.disk_size), (2, MiB(4096), Bytes(64 << 30)));
    assert_eq!(windows.os.family, "windows");
    let debian = db.preset("debian11").unwrap();
    assert_eq!(
        (debian.firmware, debian.tpm, debian.hyperv, debian.virtio),
        (Firmware::Bios, false, false, true)
    );
    assert_eq!((debian.memory, debian.disk_size), (MiB(1024), Bytes(20 << 30)));
    let xp = db.preset("winxp").unwrap();
    assert!(!xp.hyperv && !xp.virtio && !xp.tpm);
    assert_eq!(db.preset("winxp2000"), None);
    assert_eq!(db.preset("plan9"), None);
}

#[test]
fn a_release_newer_than_the_database_wants_what_the_one_before_it_wants() {
    let Some(db) = db() else { return };
    let next = db.preset("ubuntu98.04").unwrap();
    assert_eq!((next.os.id.as_str(), next.os.name.as_str()), ("ubuntu98.04", "Ubuntu 98.04"));
    assert!(next.virtio && next.memory >= MiB(1024), "{next:?}");
}

#[test]
fn the_list_is_of_machines_like_ours_and_newest_first() {
    let Some(db) = db() else { return };
    let list = db.list();
    assert!(list.len() > 300, "{}", list.len());
    let at = |id: &str| list.iter().position(|preset| preset.os.id == id).unwrap();
    assert!(at("debian11") < at("debian10"));
    assert!(at("ubuntu22.04") < at("ubuntu20.04"));
}

#[test]
fn damaged_files_cost_nothing_but_themselves() {
    let dir = tempfile::tempdir().unwrap();
    assert!(OsDb::load([dir.path()]).is_err());
    let vendor = dir.path().join("os/example.org");
    std::fs::create_dir_all(&vendor).unwrap();
    std::fs::write(vendor.join("broken.xml"), "<libosinfo><os id=\"x\">").unwrap();
    std::fs::write(
        vendor.join("good.xml"),
        "<libosinfo><os id=\"http://example.org/a/1\"><short-id>a1</short-id><name>A 1</name><version>1</version>\
         <family>linux</family><derives-from id=\"http://example.org/a/1\"/>\
         <media arch=\"x86_64\"><iso><volume-id>^A (1|one)$</volume-id></iso></media>\
         <media arch=\"x86_64\"><iso><volume-id>(?&lt;=</volume-id></iso></media></os></libosinfo>",
    )
    .unwrap();
    let db = OsDb::load([dir.path()]).unwrap();
    assert_eq!(db.detect(&iso("A one")).unwrap().os.id, "a1");
    assert_eq!(db.detect(&iso("A onerous")), None);
}

#[test]
fn an_iso_says_who_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("iso");
    let mut bytes = vec![0_u8; 0x8800];
    bytes[0x8000..0x8006].copy_from_slice(b"\x01CD001");
    bytes[0x8028..0x8032].copy_from_slice(b"A NAME    ");
    bytes[0x8050..0x8054].copy_from_slice(&1000_u32.to_le_bytes());
    bytes[0x8080..0x8082].copy_from_slice(&2048_u16.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let identity = IsoIdentity::read(&path).unwrap().unwrap();
    assert_eq!((identity.volume_id.as_str(), identity.volume_size), ("A NAME", 2_048_000));
    std::fs::write(&path, &bytes[..0x8100]).unwrap();
    assert_eq!(IsoIdentity::read(&path).unwrap(), None);
}
