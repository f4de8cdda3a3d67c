//! `voidvm backup` from outside, as scripts use it.

use voidvm_model::ErrorCode;
use voidvm_testkit::{Home, Plan};

#[test]
fn a_machine_is_backed_up_and_comes_back() {
    let home = Home::with_fake(&Plan::default());
    let dir = home.path().join("backups").display().to_string();
    home.json(&["create", "web", "--empty", "--disk", "64M"]);
    assert_eq!(home.error(&["backup", "run", "web", &dir]).code, ErrorCode::NotFound);
    let made = home.json(&["backup", "init", &dir]);
    assert_eq!((made["directory"].as_str(), made["password"].as_str()), (Some(dir.as_str()), None));
    let done = home.json(&["backup", "run", "web", &dir]);
    assert_eq!(
        (done["kind"].as_str(), done["result"]["size"].as_u64()),
        (Some("backup_run"), Some(64 << 20))
    );
    let id = done["result"]["backup"].as_str().unwrap().to_owned();
    let list = home.json(&["backup", "list", &dir]);
    assert_eq!(
        (list["backups"][0]["id"].as_str(), list["damaged"].as_array().unwrap().len()),
        (Some(&*id), 0)
    );
    let text = home.run(["backup", "list", &dir]).stdout;
    assert!(text.starts_with("BACKUP") && text.contains(&id[..8]) && text.contains("stopped"), "{text}");
    assert_eq!(home.json(&["backup", "verify", &dir, "--data"])["result"]["backups"], 1);
    let again = home.json(&["backup", "restore", &dir, &id[..8], "--name", "again"]);
    assert_eq!((again["name"].as_str(), again["state"].as_str()), (Some("again"), Some("stopped")));
    assert_eq!(home.error(&["backup", "forget", &dir, "zz"]).code, ErrorCode::NotFound);
    assert_eq!(home.json(&["backup", "forget", &dir, &id])["status"], "succeeded");
    assert!(home.json(&["backup", "list", &dir])["backups"].as_array().unwrap().is_empty());

    let locked = home.path().join("locked").display().to_string();
    let text = home.run(["backup", "init", &locked, "--encrypt"]).stdout;
    let password = text.lines().find_map(|line| line.strip_prefix("password: ")).unwrap();
    let file = home.path().join("password");
    std::fs::write(&file, format!("{password}\n")).unwrap();
    home.json(&["backup", "run", "web", &locked, "--password-file", file.to_str().unwrap()]);
}
