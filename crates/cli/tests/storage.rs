//! `voidvm pool` and `voidvm volume` from outside, as scripts use them.

use serde_json::json;
use voidvm_model::ErrorCode;
use voidvm_testkit::{Home, Plan};

#[test]
fn pools_and_volumes_in_documents() {
    let home = Home::with_fake(&Plan::default());
    let far = home.path().join("far").display().to_string();
    let pool = home.json(&["pool", "create", "far", "far", "--floor", "0"]);
    assert_eq!((pool["name"].as_str(), pool["path"].as_str()), (Some("far"), Some(far.as_str())));
    let pools = home.json(&["pool", "list"]);
    assert_eq!((pools[0]["builtin"].as_bool(), pools[1]["id"].as_str()), (Some(true), pool["id"].as_str()));
    assert_eq!(home.error(&["pool", "create", "far", "other"]).code, ErrorCode::NameTaken);
    assert_eq!(home.json(&["pool", "set", "far", "--name", "near", "--floor", "1M"])["floor"], 1 << 20);

    let made = home.json(&["volume", "create", "near", "data", "64M"]);
    assert_eq!((made["kind"].as_str(), made["status"].as_str()), (Some("volume_create"), Some("succeeded")));
    home.json(&["volume", "resize", "data.qcow2", "128M"]);
    assert_eq!(home.error(&["volume", "resize", "data.qcow2", "64M"]).code, ErrorCode::InvalidInput);
    home.json(&["volume", "resize", "data.qcow2", "64M", "--shrink"]);
    home.json(&["volume", "convert", "data.qcow2", "plain", "--format", "raw"]);
    home.json(&["volume", "move", "far/plain.raw", "voidVM"]);
    let result = &home.json(&["volume", "check", "data.qcow2"])["result"];
    assert_eq!(*result, json!({"kind": "checked", "corruptions": 0, "leaks": 0, "repaired": false}));
    assert_eq!(home.json(&["volume", "reclaim", "data.qcow2"])["result"]["kind"], "reclaimed");
    let volumes = home.json(&["volume", "list"]);
    let names: Vec<_> =
        volumes.as_array().unwrap().iter().map(|volume| volume["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["plain.raw", "data.qcow2"]);
    assert_eq!(home.json(&["volume", "list", "near"])[0]["virtualSize"], 64 << 20);

    let error = home.error(&["volume", "delete", "data.qcow2"]);
    assert_eq!(error.code, ErrorCode::ConfirmationRequired);
    assert_eq!(home.json(&["volume", "delete", "data.qcow2", "--yes"])["state"], "deleted");
    assert_eq!(home.error(&["volume", "delete", "data.qcow2", "--yes"]).code, ErrorCode::NotFound);
    assert_eq!(home.json(&["pool", "delete", "near"]), json!({"done": true}));
    assert!(home.path().join("far").is_dir());
    let text = home.run(["volume", "list"]);
    assert!(text.stdout.contains("plain.raw") && text.stdout.starts_with("NAME"), "{text:?}");
}
