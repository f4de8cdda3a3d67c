//! The image library from outside: the command line's words for it, and an owner that is killed in the middle of everything.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use voidvm_model::OperationStatus;
use voidvm_testkit::web::{Fault, Page};
use voidvm_testkit::{Client, Home, Plan, Web};
use voidvm_tests::{make_disk, make_iso};

fn ask(client: &Client, command: &str, payload: &Value) -> Value {
    client.call(command, payload).unwrap_or_else(|error| panic!("{command}: {error:?}"))
}

fn images(client: &Client) -> Vec<Value> {
    ask(client, "image.list", &json!({})).as_array().unwrap().clone()
}

/// Files of the library that are whole by their names, and those on their way.
fn files(home: &Home) -> (Vec<String>, usize) {
    let dir = home.data().join("images");
    let list = |dir: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap().flatten().filter(|entry| entry.path().is_file());
        entries.map(|entry| entry.path().to_string_lossy().into_owned()).collect()
    };
    (list(&dir), list(&dir.join(".incoming")).len())
}

#[test]
fn the_command_line_speaks_of_images() {
    let home = Home::with_fake(&Plan::default());
    let (disk, iso) = (make_disk(home.path(), 2), make_iso(home.path()));
    assert_eq!(home.json(&["image", "list"]), json!([]));
    let image = home.json(&["image", "import", disk.to_str().unwrap(), "--name", "My disk"]);
    assert_eq!(
        (&image["name"], &image["state"], &image["kind"]),
        (&json!("My disk"), &json!("ready"), &json!("qcow2"))
    );
    let cd = home.json(&["image", "import", iso.to_str().unwrap(), "--in-place"]);
    assert_eq!((&cd["kind"], &cd["owned"]), (&json!("iso"), &json!(false)));
    let web = Web::new();
    web.put("/x/disk.raw", Page::new(std::fs::read(&disk).unwrap()).then([Fault::Cut(100_000)]));
    let sum = Command::new("sha256sum").arg(&disk).output().unwrap().stdout;
    let sum = String::from_utf8(sum).unwrap()[..64].to_owned();
    let got = home.json(&["image", "download", &web.url("/x/disk.raw"), "--sha256", &sum]);
    assert_eq!((&got["name"], &got["verified"]), (&json!("disk"), &json!("checksum")));
    let wrong = home.error(&["image", "download", &web.url("/x/disk.raw"), "--sha256", &"0".repeat(64)]);
    assert_eq!(wrong.code, voidvm_model::ErrorCode::ChecksumMismatch);
    let names: Vec<Value> =
        home.json(&["image", "list"]).as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, [json!("My disk"), json!("disk"), json!("medium")]);
    assert!(home.json(&["image", "catalogue"]).as_array().unwrap().len() > 10);
    assert_eq!(home.error(&["image", "download", "no-such-entry"]).code, voidvm_model::ErrorCode::NotFound);
    assert_eq!(home.json(&["image", "rename", "disk", "other"])["name"], "other");
    for name in ["My disk", "other", "medium"] {
        assert_eq!(home.json(&["image", "delete", name])["state"], "deleted");
    }
    assert_eq!(files(&home), (Vec::new(), 0));
    assert!(iso.exists(), "a file used in place stays");
    assert_eq!(home.error(&["image", "show", "other"]).code, voidvm_model::ErrorCode::NotFound);
}

#[test]
fn a_killed_owner_leaves_whole_images_or_none() {
    let home = Home::with_fake(&Plan::default());
    let disk = make_disk(home.path(), 48);
    let body = std::fs::read(&disk).unwrap();
    let web = Web::new();
    let mut serve = home.serve();
    for round in 0..12_u64 {
        let moved = home.path().join(format!("moved-{round}.raw"));
        std::fs::copy(&disk, &moved).unwrap();
        let path = format!("/{round}.raw");
        web.put(&path, Page::new(body.clone()));
        let before = images(&serve.client);
        ask(
            &serve.client,
            "image.import",
            &json!({"path": disk, "mode": "copy", "name": format!("copy {round}")}),
        );
        ask(
            &serve.client,
            "image.import",
            &json!({"path": moved, "mode": "move", "name": format!("moved {round}")}),
        );
        ask(&serve.client, "image.download", &json!({"url": web.url(&path), "name": format!("got {round}")}));
        if let Some(old) = before.first() {
            ask(&serve.client, "image.delete", &json!({"id": old["id"]}));
        }
        std::thread::sleep(Duration::from_millis(round * 37));
        serve.kill();
        serve = home.serve();
        let now = images(&serve.client);
        let (there, coming) = files(&home);
        assert_eq!(coming, 0, "round {round}: what was on its way is cleared");
        for image in &now {
            assert_eq!(image["state"], "ready", "round {round}: {image:#}");
            let path = image["path"].as_str().unwrap();
            assert!(there.iter().any(|file| file == path), "round {round}: {image:#}");
            let format = image["kind"].as_str().unwrap();
            let same = Command::new("qemu-img")
                .args(["compare", "-q", "-f", "raw", "-F", format])
                .arg(&disk)
                .arg(path)
                .status();
            assert!(same.unwrap().success(), "round {round}: {image:#}");
        }
        assert_eq!(there.len(), now.len(), "round {round}: no file without an image: {there:?}");
        let name = json!(format!("moved {round}"));
        assert!(
            moved.exists() || now.iter().any(|image| image["name"] == name),
            "round {round}: the user's file is in one place at least"
        );
    }
    // The parts of downloads that were cut are gone on with, and nothing of them is left then.
    let (left, _) = files(&home);
    let wanted = json!({"url": web.url("/0.raw"), "name": "the last"});
    let done = serve.client.operate("image.download", &wanted).unwrap();
    assert_eq!(done.status, OperationStatus::Succeeded, "{done:?}");
    assert_eq!(files(&home).0.len(), left.len() + 1);
}
