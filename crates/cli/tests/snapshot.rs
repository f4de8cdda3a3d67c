//! Machine snapshots on the command line, as scripts use them: a machine at rest and real disks.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::process::Command;

use serde_json::{Value, json};
use voidvm_model::ErrorCode;
use voidvm_testkit::{Home, Plan};

fn home() -> Home {
    let home = Home::with_fake(&Plan::default());
    let image = home.path().join("base.qcow2");
    let made = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&image).arg("64M").status();
    assert!(made.unwrap().success());
    let image = image.display().to_string();
    home.json(&["create", "web", "--image", &image, "--memory", "64M", "--accel", "tcg"]);
    home
}

/// Writes a mebibyte of one byte to the machine's disk, as a guest would.
fn write(home: &Home, byte: u8) {
    let disk = home.json(&["show", "web"])["spec"]["disks"][0]["file"].as_str().unwrap().to_owned();
    let order = format!("write -q -P {byte} 0 1M");
    assert!(Command::new("qemu-io").args(["-c", &order, &disk]).status().unwrap().success());
}

/// Whether the machine's disk shows that byte there.
fn shows(home: &Home, vm: &str, byte: u8) -> bool {
    let disk = home.json(&["show", vm])["spec"]["disks"][0]["file"].as_str().unwrap().to_owned();
    let order = format!("read -q -P {byte} 0 1M");
    let out = Command::new("qemu-io").args(["-c", &order, &disk]).output().unwrap();
    out.status.success() && !String::from_utf8_lossy(&out.stdout).contains("failed")
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
}

#[test]
fn a_machine_goes_back_and_forth() {
    let home = home();
    assert_eq!(home.json(&["snapshot", "list", "web"]), json!([]));
    assert!(home.run(["snapshot", "list", "web"]).stdout.contains("no snapshot"));
    write(&home, 1);
    let args = ["snapshot", "create", "web", "one", "--description", "first", "--tag", "a", "--tag", "b"];
    let one = home.json(&args);
    assert_eq!((one["name"].as_str(), one["memory"].as_bool()), (Some("one"), Some(false)));
    assert_eq!((&one["tags"], one["description"].as_str()), (&json!(["a", "b"]), Some("first")));
    write(&home, 2);
    let unnamed = home.json(&["snapshot", "create", "web"]);
    assert!(unnamed["name"].as_str().unwrap().starts_with("snapshot "), "{unnamed}");
    let two = home.json(&["snapshot", "rename", "web", unnamed["id"].as_str().unwrap(), "two"]);
    assert_eq!((two["name"].as_str(), &two["parent"]), (Some("two"), &one["id"]));

    let between = home.json(&["snapshot", "compare", "web", "one", "two"]);
    assert!(between["disks"][0]["changed"].as_u64().unwrap() >= 1 << 20, "{between}");
    assert_eq!(between["hardware"], json!([]));
    home.json(&["set", "web", "memory=128M"]);
    let shown = home.run(["snapshot", "compare", "web", "one"]).stdout;
    assert!(shown.contains("memory") && shown.contains("THE PRESENT"), "{shown}");

    write(&home, 3);
    let back = home.json(&["snapshot", "restore", "web", "one"]);
    assert_eq!((back["state"].as_str(), back["spec"]["memory"].as_u64()), (Some("stopped"), Some(64)));
    assert!(shows(&home, "web", 1));
    let list = home.json(&["snapshot", "list", "web"]);
    assert_eq!(names(&list).len(), 3, "the present was kept first: {list}");
    home.json(&["snapshot", "restore", "web", names(&list)[2], "--no-safety"]);
    assert!(shows(&home, "web", 3));
    assert_eq!(home.json(&["snapshot", "list", "web"]).as_array().unwrap().len(), 3);

    let table = home.run(["snapshot", "list", "web"]).stdout;
    assert!(table.contains("#a, #b") && table.contains("before a restore"), "{table}");
}

#[test]
fn machines_are_made_of_a_snapshot() {
    let home = home();
    write(&home, 7);
    home.json(&["snapshot", "create", "web", "base"]);
    write(&home, 8);
    let fork = home.json(&["snapshot", "fork", "web", "base", "lab"]);
    assert_eq!((fork["name"].as_str(), fork["state"].as_str()), (Some("lab"), Some("stopped")));
    let forks = home.json(&["snapshot", "fork", "web", "base", "worker", "--count", "2"]);
    assert_eq!(names(&forks), ["worker-1", "worker-2"]);
    assert!(shows(&home, "worker-2", 7) && shows(&home, "web", 8));
}

#[test]
fn deleting_says_what_it_frees_and_asks() {
    let home = home();
    write(&home, 1);
    home.json(&["snapshot", "create", "web", "one"]);
    write(&home, 2);
    let refused = home.run(["snapshot", "delete", "web", "one"]);
    assert_eq!(refused.code, Some(i32::from(ErrorCode::ConfirmationRequired.exit_code())));
    assert!(refused.stderr.contains("--yes"), "{}", refused.stderr);
    let gone = home.json(&["snapshot", "delete", "web", "one", "--yes"]);
    assert_eq!((gone["name"].as_str(), gone["state"].as_str()), (Some("one"), Some("deleted")));
    assert_eq!(home.json(&["snapshot", "list", "web"]), json!([]));
    assert!(shows(&home, "web", 2));
}

#[test]
fn what_does_not_hold_has_its_code() {
    let home = home();
    home.json(&["snapshot", "create", "web", "one"]);
    for (args, code) in [
        (vec!["snapshot", "list", "nobody"], ErrorCode::VmNotFound),
        (vec!["snapshot", "create", "web", "one"], ErrorCode::NameTaken),
        (vec!["snapshot", "create", "web", " odd"], ErrorCode::InvalidInput),
        (vec!["snapshot", "create", "web", "two", "--freeze"], ErrorCode::InvalidInput),
        (vec!["snapshot", "restore", "web", "two"], ErrorCode::NotFound),
        (vec!["snapshot", "delete", "web", "two", "--yes"], ErrorCode::NotFound),
        (vec!["snapshot", "fork", "web", "one", "web"], ErrorCode::NameTaken),
        (vec!["snapshot", "fork", "web", "one", "x", "--count", "51"], ErrorCode::InvalidInput),
    ] {
        let error = home.error(&args);
        assert_eq!(error.code, code, "{args:?}: {error:?}");
    }
}
