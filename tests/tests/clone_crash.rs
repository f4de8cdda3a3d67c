//! The owner is killed at random moments while it clones a machine, in full and linked.
//!
//! After each kill the next owner must have the machine as it was, and the clone whole or not at all: no half of one, no directory
//! of one, nothing half made. `VOIDVM_CRASH_ROUNDS` (16) says how often; a failure names the seed, which `VOIDVM_CRASH_SEED` takes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use voidvm_model::storage::{Pool, Volume};
use voidvm_model::{Operation, OperationStatus, VmView};
use voidvm_testkit::{Client, Home, Plan, wait_until};
use voidvm_tests::{copy_request, crash_plan, done, make_disk, no_rests, tool};

/// What the guest of the machine has written.
const CONTENT_MIB: u32 = 48;
/// The most milliseconds a full clone usually takes, and a linked one.
const LONGEST: [u64; 2] = [250, 25];

#[test]
fn clones_survive_kills_at_any_moment() {
    let (rounds, seed, mut random) = crash_plan(16);
    let home = Home::with_fake(&Plan::default());
    let content = make_disk(home.path(), CONTENT_MIB);
    let mut serve = home.serve();
    done(&serve.client, "vm.create", &copy_request("web", &content));
    let web = serve.client.vms().remove(0);
    let mut cut = [0; 2];
    for round in 0..rounds {
        let linked = round % 4 == 3;
        let context = format!("seed {seed}, round {round}, linked: {linked}");
        let request = json!({"id": web.id, "name": format!("copy-{round}"), "linked": linked});
        let delay = Duration::from_micros(random.below(LONGEST[usize::from(linked)] * 1000));
        let acknowledged = std::thread::scope(|scope| {
            let client = &serve.client;
            let thread = scope.spawn(|| client.try_call("vm.clone", &request));
            std::thread::sleep(delay);
            voidvm_testkit::fake::kill(serve.pid());
            thread.join().unwrap()
        });
        drop(serve);
        serve = home.serve();
        let status = acknowledged.map(|answer| {
            let asked: Operation = serde_json::from_value(answer.unwrap()).unwrap();
            let now = serve.client.call("operation.get", &json!({"id": asked.id})).unwrap();
            serde_json::from_value::<Operation>(now).unwrap().status
        });
        cut[usize::from(linked)] += usize::from(status == Some(OperationStatus::Interrupted));
        check(&serve.client, &home, &content, (&web, status), &context);
    }
    eprintln!("{rounds} kills; cut in the middle: full {}, linked {}", cut[0], cut[1]);
    assert!(cut[0] > 0, "no kill fell into a full clone: the test shows nothing");
}

/// The machine is what it was, the clone is whole or not there, and nobody else is. The clone goes.
fn check(
    client: &Client,
    home: &Home,
    content: &Path,
    (web, status): (&VmView, Option<OperationStatus>),
    context: &str,
) {
    let views = client.vms();
    let now = views.iter().find(|view| view.id == web.id).unwrap();
    assert_eq!((&now.spec, &now.name, now.state), (&web.spec, &web.name, web.state), "{context}");
    let clones: Vec<&VmView> = views.iter().filter(|view| view.id != web.id).collect();
    assert!(clones.len() <= 1, "{context}: {clones:?}");
    match status {
        Some(OperationStatus::Succeeded) => assert_eq!(clones.len(), 1, "{context}: it is lost"),
        Some(OperationStatus::Interrupted) | None => {}
        other => panic!("{context}: {other:?}"),
    }
    for view in &views {
        let file = view.spec.disks[0].file.to_str().unwrap();
        let same =
            tool("qemu-img", &["compare", "-f", "raw", "-F", "qcow2", content.to_str().unwrap(), file]);
        assert_eq!(same, Some(0), "{context}: {} shows something else", view.name);
        let sound = tool("qemu-img", &["check", "-f", "qcow2", file]);
        assert!(matches!(sound, Some(0 | 3)), "{context}: {sound:?}");
    }
    let directories: BTreeSet<String> = std::fs::read_dir(home.data().join("vms"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(directories, views.iter().map(|view| view.id.to_string()).collect(), "{context}");
    no_rests(&home.data(), context);
    assert_eq!(orphans(client), Vec::<Volume>::new(), "{context}");
    for clone in clones {
        assert_ne!(clone.spec.disks[0].file, web.spec.disks[0].file, "{context}");
        done(client, "vm.delete", &json!({"id": clone.id}));
    }
}

/// What of voidVM's own pool nobody claims.
fn orphans(client: &Client) -> Vec<Volume> {
    let pools: Vec<Pool> = serde_json::from_value(client.call("pool.list", &json!({})).unwrap()).unwrap();
    let volumes = client.call("volume.list", &json!({"id": pools[0].id})).unwrap();
    let mut volumes: Vec<Volume> = serde_json::from_value(volumes).unwrap();
    volumes.retain(|volume| volume.orphaned);
    volumes
}

/// What a clone that was cut has made, when nothing tells of it any more (a database from a backup): shown as left over, and
/// cleaned up one by one.
#[test]
fn what_nobody_tells_of_is_offered_for_cleaning_up() {
    let home = Home::with_fake(&Plan::default());
    let content = make_disk(home.path(), 256);
    let serve = home.serve();
    done(&serve.client, "vm.create", &copy_request("web", &content));
    let web = serve.client.vms().remove(0);
    let vms = home.data().join("vms");
    serve.client.call("vm.clone", &json!({"id": web.id, "name": "copy"})).unwrap();
    let half = wait_until(Duration::from_secs(20), "the copy to begin", || {
        let dirs = std::fs::read_dir(&vms).unwrap().flatten().map(|entry| entry.path());
        let new = dirs.into_iter().find(|dir| !dir.ends_with(web.id.to_string()))?;
        std::fs::read_dir(new).ok()?.flatten().map(|entry| entry.path()).next()
    });
    serve.kill();
    forget(&home.data().join("voidvm.db"));

    let serve = home.serve();
    assert_eq!(serve.client.vms().len(), 1);
    let left = orphans(&serve.client);
    assert_eq!(left.iter().map(|volume| Path::new(&volume.path)).collect::<Vec<_>>(), [half.as_path()]);
    for volume in left {
        done(&serve.client, "volume.delete", &json!({"id": volume.pool, "path": volume.path}));
    }
    assert_eq!(orphans(&serve.client), []);
    assert!(!half.parent().unwrap().exists(), "its directory goes with the last file");
    let disk = web.spec.disks[0].file.to_str().unwrap();
    let same = ["compare", "-f", "raw", "-F", "qcow2", content.to_str().unwrap(), disk];
    assert_eq!(tool("qemu-img", &same), Some(0));
}

/// A database that knows of nothing that was begun.
fn forget(database: &Path) {
    use sqlx::Connection as _;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
        let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql("DELETE FROM journal").execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}
