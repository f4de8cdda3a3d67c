//! The command line from outside, as scripts use it: exit codes, documents, and what is left when it ends.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use voidvm_model::{ErrorCode, VmState};
use voidvm_testkit::{Home, Plan};

fn disk(home: &Home, name: &str) -> String {
    let path = home.path().join(name);
    let made = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&path).arg("64M").status();
    assert!(made.unwrap().success());
    path.display().to_string()
}

fn create(home: &Home, name: &str) -> Value {
    let image = disk(home, &format!("{name}.qcow2"));
    home.json(&["create", name, "--image", &image, "--memory", "64M", "--accel", "tcg"])
}

#[test]
fn a_machines_life_in_documents() {
    let home = Home::with_fake(&Plan::default());
    assert_eq!(home.json(&["list"]), json!([]));
    let made = create(&home, "web");
    assert_eq!((made["name"].as_str(), made["state"].as_str()), (Some("web"), Some("stopped")));
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!(made["spec"]["memory"], 64);
    assert_eq!(home.json(&["list"])[0]["id"], id.as_str());
    assert_eq!(home.json(&["show", "web"])["id"], id.as_str());
    assert_eq!(home.json(&["show", &id])["name"], "web");
    for (args, state) in [
        (["start", "web"], VmState::Running),
        (["pause", "web"], VmState::Paused),
        (["resume", "web"], VmState::Running),
        (["reset", &id], VmState::Running),
        (["stop", "web"], VmState::Stopped),
    ] {
        let after = home.json(&args);
        assert_eq!(
            (after["name"].as_str(), after["state"].as_str()),
            (Some("web"), Some(state.as_str())),
            "{args:?}"
        );
    }
    let gone = home.json(&["delete", "web", "--yes"]);
    assert_eq!((gone["name"].as_str(), gone["state"].as_str()), (Some("web"), Some("deleted")));
    assert_eq!(home.json(&["list"]), json!([]));
    assert!(home.path().join("web.qcow2").exists(), "the image it was copied from stays");
}

#[test]
fn a_machine_that_runs_is_changed_sleeps_and_is_thrown_away() {
    let home = Home::with_fake(&Plan::default());
    create(&home, "web");
    home.json(&["start", "web"]);
    let data = disk(&home, "data.qcow2");
    let after = home.json(&["set", "web", &format!("attach={data}"), "tags=lab,old", "template=no"]);
    assert_eq!((after["run"]["spec"]["disks"].as_array().unwrap().len(), &after["pending"]), (2, &json!([])));
    assert_eq!(after["meta"]["tags"], json!(["lab", "old"]));
    let after = home.json(&["set", "web", "link=off", "tpm=on"]);
    assert_eq!(after["run"]["spec"]["nics"][0]["link"], false);
    assert_eq!(after["pending"][0]["field"], "tpm");
    assert!(home.run(["show", "web"]).stdout.contains("tpm: false to true"));
    home.json(&["set", "web", "detach=disk1", "tpm=off"]);
    assert_eq!(home.json(&["show", "web"])["run"]["spec"]["disks"].as_array().unwrap().len(), 1);
    assert_eq!(home.json(&["suspend", "web"])["state"], "suspended");
    assert_eq!(home.json(&["start", "web"])["state"], "running");
    home.json(&["suspend", "web"]);
    assert_eq!(home.json(&["stop", "web", "--force"])["state"], "stopped");
    let after = home.json(&["start", "web", "--disposable"]);
    assert_eq!(after["run"]["disposable"], true);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn machines_go_on_when_the_command_ends() {
    let home = Home::with_fake(&Plan::default());
    create(&home, "web");
    home.json(&["start", "web", "--wait"]);
    let process = home.fake().processes();
    assert_eq!(process.len(), 1);
    let shown = home.json(&["show", "web"]);
    assert_eq!(shown["state"], "running");
    assert_eq!(shown["run"]["pid"], process[0].pid);
    assert_eq!(shown["run"]["adopted"], true);
    // An owner that comes later takes it over, and the command becomes its client.
    let serve = home.serve();
    assert_eq!(home.json(&["show", "web"])["run"]["pid"], process[0].pid);
    home.json(&["stop", "web"]);
    assert_eq!(home.fake().processes(), []);
    assert_eq!(serve.terminate(), Some(0));
}

#[test]
fn several_machines_are_an_array() {
    let home = Home::with_fake(&Plan::default());
    create(&home, "a");
    create(&home, "b");
    let started = home.json(&["start", "a", "b"]);
    let states: Vec<&str> =
        started.as_array().unwrap().iter().map(|vm| vm["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["running", "running"]);
    assert_eq!(home.json(&["stop", "a", "b", "--force"]).as_array().unwrap().len(), 2);
    assert_eq!(home.json(&["delete", "a", "b", "--yes"]).as_array().unwrap().len(), 2);
}

#[test]
fn errors_have_their_codes_on_the_way_out() {
    let home = Home::with_fake(&Plan::default());
    create(&home, "web");
    for (args, code) in [
        (vec!["show", "nobody"], ErrorCode::VmNotFound),
        (vec!["show", "0190163d-8694-739b-aea5-966c26f8ad91"], ErrorCode::VmNotFound),
        (vec!["create", "web", "--image", "/no/such.qcow2"], ErrorCode::NameTaken),
        (vec!["create", "new", "--image", "/no/such.qcow2"], ErrorCode::ImageMissing),
        (vec!["create", "new", "--demo"], ErrorCode::NotFound),
        (vec!["create", " odd", "--image", "x"], ErrorCode::InvalidInput),
        (vec!["create", "new"], ErrorCode::InvalidInput),
        (vec!["pause", "web"], ErrorCode::InvalidState),
        (vec!["console", "web"], ErrorCode::InvalidState),
        (vec!["screenshot", "web", "x.png"], ErrorCode::InvalidState),
        (vec!["set", "web", "colour=blue"], ErrorCode::InvalidInput),
        (vec!["set", "web", "memory=much"], ErrorCode::InvalidInput),
        (vec!["set", "web", "cpus=0"], ErrorCode::InvalidInput),
        (vec!["set", "web", "name"], ErrorCode::InvalidInput),
        (vec!["stop", "web", "--timeout", "0"], ErrorCode::InvalidInput),
        (vec!["explode"], ErrorCode::InvalidInput),
        (vec!["serve", "--listen", "0.0.0.0:0"], ErrorCode::InvalidInput),
    ] {
        let error = home.error(&args);
        if args.starts_with(&["create", "web"]) || args.contains(&"--demo") {
            // Which of two mistakes is named first is not the grammar's matter.
            assert_ne!(error.code, ErrorCode::Internal, "{args:?}: {error:?}");
            continue;
        }
        assert_eq!(error.code, code, "{args:?}: {error:?}");
    }
    let told = home.run(["show", "nobody"]);
    assert_eq!((told.code, told.stdout.as_str()), (Some(4), ""));
    assert!(told.stderr.starts_with("error: There is no machine “nobody”.\nhint:"), "{}", told.stderr);
}

#[test]
fn nothing_is_deleted_without_a_yes() {
    let home = Home::with_fake(&Plan::default());
    create(&home, "web");
    let error = home.error(&["delete", "web"]);
    assert_eq!(error.code, ErrorCode::ConfirmationRequired);
    let details = error.details.unwrap();
    let files = details["files"].as_array().unwrap();
    assert!(!files.is_empty() && details["bytes"].as_u64().unwrap() > 0, "{details:?}");
    assert!(files.iter().all(|file| Path::new(file.as_str().unwrap()).exists()));
    assert_eq!(home.json(&["list"]).as_array().unwrap().len(), 1);
    home.json(&["start", "web"]);
    assert_eq!(home.error(&["delete", "web", "--yes"]).code, ErrorCode::InvalidState);
    home.json(&["stop", "web"]);
    let kept = home.json(&["delete", "web", "--yes", "--keep-disks"]);
    assert_eq!(kept["files"], json!([]));
    assert!(files.iter().any(|file| Path::new(file.as_str().unwrap()).exists()));
}

#[test]
fn a_machine_is_changed_key_by_key() {
    let home = Home::with_fake(&Plan::default());
    create(&home, "web");
    let changed = home.json(&[
        "set",
        "web",
        "name=site",
        "description=two words",
        "cpus=2",
        "memory=128M",
        "firmware=bios",
        "forward=18081:80,15353:53/udp",
    ]);
    assert_eq!(
        (changed["name"].as_str(), changed["description"].as_str()),
        (Some("site"), Some("two words"))
    );
    let spec = &changed["spec"];
    assert_eq!((spec["cpus"].as_u64(), spec["memory"].as_u64()), (Some(2), Some(128)));
    let forwards = spec["nics"][0]["network"]["forwards"].as_array().unwrap();
    assert_eq!((forwards.len(), forwards[1]["protocol"].as_str()), (2, Some("udp")));
    home.json(&["start", "site"]);
    let closed = home.json(&["set", "site", "forward="]);
    assert_eq!(closed["restartPending"], false, "the guest that runs is cut off at once: {closed}");
    assert_eq!(closed["run"]["spec"]["nics"][0]["network"]["forwards"], json!([]));
    let text = home.run(["set", "site", "cpus=1"]);
    assert!(text.stdout.contains("next start"), "{}", text.stdout);
    home.json(&["stop", "site", "--force"]);
}

#[test]
fn a_machine_is_made_from_anothers_specification() {
    let home = Home::with_fake(&Plan::default());
    create(&home, "web");
    home.json(&["set", "web", "forward=18081:80", "cpus=2"]);
    let file = home.path().join("spec.json");
    std::fs::write(&file, home.json(&["show", "web"])["spec"].to_string()).unwrap();
    let twin = home.json(&["create", "twin", "--from-spec", &file.display().to_string(), "--memory", "96"]);
    assert_eq!((twin["spec"]["cpus"].as_u64(), twin["spec"]["memory"].as_u64()), (Some(2), Some(96)));
    assert_eq!(twin["spec"]["nics"][0]["network"]["forwards"][0]["hostPort"], 18081);
    std::fs::write(&file, "{ \"cpus\": \"two\" }").unwrap();
    let args = ["create", "odd", "--from-spec", &file.display().to_string(), "--image", "x"];
    let error = home.error(&args);
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::InvalidInput, Some("cpus")));
    std::fs::write(&file, "nonsense").unwrap();
    assert_eq!(home.error(&args).field.as_deref(), Some("fromSpec"));
}

#[test]
fn what_is_shown_to_people() {
    let home = Home::with_fake(&Plan::default());
    assert!(home.run(["list"]).stdout.contains("No machines yet"));
    create(&home, "web");
    let list = home.run(["list"]).stdout;
    assert!(list.starts_with("NAME") && list.contains("web") && list.contains("stopped"), "{list}");
    let show = home.run(["show", "web"]).stdout;
    assert!(show.contains("64 MB") && show.contains("disk0.qcow2"), "{show}");
    let command = home.run(["command", "web"]).stdout;
    assert!(command.contains(" -uuid ") && command.contains(" -S"), "{command}");
    assert!(home.run(["version"]).stdout.starts_with("voidvm "));
    assert!(home.run(["--version"]).stdout.starts_with("voidvm "));
    for shell in ["bash", "zsh", "fish"] {
        assert!(home.run(["completion", shell]).stdout.contains("voidvm"), "{shell}");
    }
    let help = home.run(["--help"]);
    assert_eq!(help.code, Some(0));
}

#[test]
fn keys_and_pictures() {
    let home = Home::with_fake(&Plan::default());
    create(&home, "web");
    home.json(&["start", "web"]);
    assert_eq!(home.json(&["type", "web", "--enter", "echo hi"])["done"], true);
    assert!(home.fake().commands().iter().any(|command| command.execute == "input-send-event"));
    let unknown = home.error(&["type", "web", "naïve"]);
    assert_eq!(unknown.code, ErrorCode::InvalidInput);
    let shot = home.json(&["screenshot", "web", "shot.png"]);
    let png = std::fs::read(home.path().join("shot.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG") && shot["width"].as_u64().unwrap() > 0);
    assert!(home.json(&["logs", "web"])["text"].is_string());
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn wrong_configuration_is_named_whole_and_doctor_still_works() {
    let mut home = Home::with_fake(&Plan::default());
    home.set("VOIDVM_DEFAULT_CPUS", "many");
    home.set("VOIDVM_LOCAL_API_PORT", "80");
    let error = home.error(&["list"]);
    assert_eq!(error.code, ErrorCode::ConfigInvalid);
    assert_eq!(error.details.unwrap()["problems"].as_array().unwrap().len(), 2);
    let doctor = home.run(["doctor", "--json"]);
    assert_eq!(doctor.code, Some(1));
    let report: Value = serde_json::from_str(&doctor.stdout).unwrap();
    let check =
        |id: &str| report["checks"].as_array().unwrap().iter().find(|check| check["id"] == id).unwrap();
    assert_eq!(
        (check("configuration")["finding"].as_str(), check("qemu")["finding"].as_str()),
        (Some("invalid"), Some("ok"))
    );
}

#[test]
fn doctor_says_what_is_missing_and_how_to_mend_it() {
    let mut home = Home::with_fake(&Plan::default());
    home.set("VOIDVM_QEMU_BINARY", "/no/such/qemu");
    let doctor = home.run(["doctor"]);
    assert_eq!(doctor.code, Some(1));
    assert!(
        doctor.stdout.contains("FAILED") && doctor.stdout.contains("apt install qemu-system-x86"),
        "{}",
        doctor.stdout
    );
}

#[test]
fn serve_tells_where_it_is_and_keeps_its_token_out_of_logs() {
    let home = Home::with_fake(&Plan::default());
    let mut child = home
        .voidvm(["--json", "serve", "--listen", "127.0.0.1:0", "--print-url"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.ends_with("}\n") {
        assert_ne!(std::io::BufRead::read_line(&mut stdout, &mut text).unwrap(), 0, "{text}");
    }
    let said: Value = serde_json::from_str(&text).unwrap();
    let token = said["token"].as_str().unwrap();
    assert!(said["url"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    let mode =
        std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(said["keptIn"].as_str().unwrap()).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(home.error(&["serve", "--listen", "127.0.0.1:0"]).code, ErrorCode::InvalidState);
    let renewed = home.json(&["list"]);
    assert_eq!(renewed, json!([]));
    voidvm_testkit::fake::kill(child.id());
    child.wait().unwrap();
    for log in logs(home.path()) {
        assert!(!std::fs::read_to_string(&log).unwrap().contains(token), "{}", log.display());
    }
    // Without being asked, and without a terminal, the token is not said.
    let mut quiet = home
        .voidvm(["serve", "--listen", "127.0.0.1:0"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(quiet.stdout.take().unwrap()), &mut line)
        .unwrap();
    assert!(line.starts_with("voidVM is at http://127.0.0.1:") && !line.contains("token"), "{line}");
    voidvm_testkit::fake::kill(quiet.id());
    quiet.wait().unwrap();
}

fn logs(home: &Path) -> Vec<PathBuf> {
    let directory = home.join("s/voidvm/log");
    let found: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!found.is_empty());
    found
}

#[test]
fn many_commands_at_once_find_one_owner() {
    let home = Home::with_fake(&Plan::default());
    let names: Vec<String> = (0..8).map(|number| format!("m{number}")).collect();
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| create(&home, name));
        }
    });
    let list = home.json(&["list"]);
    let found: Vec<&str> = list.as_array().unwrap().iter().map(|vm| vm["name"].as_str().unwrap()).collect();
    assert_eq!(found, names);
}
