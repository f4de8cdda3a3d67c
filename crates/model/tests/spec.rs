//! What a specification accepts and what it refuses, each refusal by its field.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by panicking")]

use std::path::{Path, PathBuf};

use voidvm_model::spec::{
    Cdrom, Disk, DiskFormat, FileOwner, Firmware, MacAddr, MachineSpec, NetworkBackend, Nic, PortForward,
    Protocol, validate_name, validate_path,
};
use voidvm_model::units::MiB;

fn spec() -> MachineSpec {
    MachineSpec {
        firmware: Firmware::Uefi,
        disks: vec![Disk::new(
            "disk0".parse().unwrap(),
            PathBuf::from("/vms/a/disk0.qcow2"),
            DiskFormat::Qcow2,
            FileOwner::Machine,
        )],
        cdroms: vec![Cdrom { id: "cd0".parse().unwrap(), file: None }],
        nics: vec![Nic::new(
            "nic0".parse().unwrap(),
            MacAddr::qemu([1, 2, 3]),
            NetworkBackend::user(vec![PortForward::tcp(8080, 80)]),
        )],
        ..MachineSpec::new(2, MiB(1024))
    }
}

#[test]
fn a_sound_specification_is_accepted_and_survives_json() {
    spec().validate().unwrap();
    let json = serde_json::to_string(&spec()).unwrap();
    assert_eq!(serde_json::from_str::<MachineSpec>(&json).unwrap(), spec());
}

#[test]
fn unknown_fields_are_refused_rather_than_dropped() {
    let mut json = serde_json::to_value(spec()).unwrap();
    json["turbo"] = true.into();
    assert!(serde_json::from_value::<MachineSpec>(json).is_err());
}

#[test]
fn a_port_may_serve_both_protocols_and_several_addresses_but_not_twice() {
    let tcp = PortForward::tcp(5000, 1);
    let udp = PortForward { protocol: Protocol::Udp, ..tcp };
    let other = PortForward { host_address: [127, 0, 0, 2].into(), ..tcp };
    let any = PortForward { host_address: [0, 0, 0, 0].into(), ..tcp };
    assert!(!tcp.conflicts(&udp));
    assert!(!tcp.conflicts(&other));
    assert!(tcp.conflicts(&any));
    assert!(any.conflicts(&other));
}

#[test]
fn forwards_are_read_from_the_command_line() {
    assert_eq!("8080:80".parse::<PortForward>().unwrap(), PortForward::tcp(8080, 80));
    assert_eq!("5353:53/udp".parse::<PortForward>().unwrap().protocol, Protocol::Udp);
    for text in ["", "80", "a:b", "0:1", "1:0", "70000:1", "1:2/sctp", "1:2:3", "8080:80/"] {
        assert_eq!(text.parse::<PortForward>().unwrap_err().field.as_deref(), Some("forward"), "{text}");
    }
}

#[test]
fn names_may_be_odd_but_not_deceptive() {
    for name in ["web-01", "开发机", "a, b = \"c\" $(d) `e`", "..", "/etc", "-S", &"é".repeat(100)] {
        validate_name(name).unwrap();
    }
    for name in [
        "",
        " a",
        "a ",
        "a\nb",
        "a\0",
        "\u{202e}gpj",
        "67e55044-10b1-426f-9247-bb680e5fe0c8",
        &"x".repeat(101),
    ] {
        assert_eq!(validate_name(name).unwrap_err().field.as_deref(), Some("name"), "{name:?}");
    }
}

#[test]
fn paths_may_hold_what_would_be_an_option_elsewhere() {
    for path in ["/a b/c,d=e.qcow2", "/a'b\"c", "/-drive file=x", "/json:{}", "/nbd://x", "/开发"] {
        validate_path("f", Path::new(path)).unwrap();
    }
    for path in ["a", "", "json:{}", "/a\u{7}", "/a/../../etc/passwd"] {
        assert_eq!(validate_path("f", Path::new(path)).unwrap_err().field.as_deref(), Some("f"), "{path:?}");
    }
}

#[test]
fn addresses_are_unicast_and_of_six_bytes() {
    let mac: MacAddr = "52:54:00:AB:cd:01".to_owned().try_into().unwrap();
    assert_eq!(mac.to_string(), "52:54:00:ab:cd:01");
    for text in [
        "",
        "52:54:00:12:34",
        "52:54:00:12:34:56:78",
        "01:00:5e:00:00:01",
        "52-54-00-12-34-56",
        "+2:54:00:12:34:56",
    ] {
        assert!(MacAddr::try_from(text.to_owned()).is_err(), "{text}");
    }
}
