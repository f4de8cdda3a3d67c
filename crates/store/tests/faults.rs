//! Files and disks that are not as they should be: each gives its own error, and nothing stored before is lost.
#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::path::Path;

use common::{at, vm};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use voidvm_model::{ErrorCode, MachineSpec, OperationStatus};
use voidvm_store::{DATABASE_FILE, Store, StoreError, known_version};
use voidvm_testkit::SmallDisk;

async fn sql(dir: &Path, statement: &'static str) {
    let options = SqliteConnectOptions::new().filename(dir.join(DATABASE_FILE)).create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

fn backup(dir: &Path, version: i64) -> std::path::PathBuf {
    dir.join(format!("{DATABASE_FILE}.bak-{version}"))
}

#[tokio::test]
async fn a_newer_database_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    Store::open(dir.path()).await.unwrap().close().await;
    sql(
        dir.path(),
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9000, 'of the future', 1, x'00', 1); PRAGMA wal_checkpoint(TRUNCATE);",
    )
    .await;
    let before = std::fs::read(dir.path().join(DATABASE_FILE)).unwrap();
    let refused = Store::open(dir.path()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Newer { found: 9000, known, .. } if known == known_version()));
    let body = refused.body();
    assert_eq!(body.code, ErrorCode::DatabaseNewer);
    assert!(body.hint.is_some());
    assert_eq!(std::fs::read(dir.path().join(DATABASE_FILE)).unwrap(), before);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(DATABASE_FILE);
    let text = "<html>this is not a database</html>\n".repeat(400);
    std::fs::write(&file, &text).unwrap();
    let refused = Store::open(dir.path()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused:?}");
    assert_eq!(refused.body().code, ErrorCode::DatabaseFailed);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "left for its owner to look at");
}

#[tokio::test]
async fn a_damaged_page_is_damage_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    for index in 0..40 {
        store.vms().insert(&vm(&format!("vm-{index}"))).await.unwrap();
    }
    store.close().await;
    let file = dir.path().join(DATABASE_FILE);
    let mut bytes = std::fs::read(&file).unwrap();
    // Everything but the schema's page.
    bytes[4096..].fill(0xA5);
    std::fs::write(&file, bytes).unwrap();
    let outcome = match Store::open(dir.path()).await {
        Ok(store) => store.vms().list().await.map(drop),
        Err(error) => Err(error),
    };
    assert!(matches!(outcome, Err(StoreError::Corrupt { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_row_no_voidvm_wrote_names_itself() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    store.vms().insert(&vm("a")).await.unwrap();
    sql(dir.path(), "UPDATE vms SET spec = '{\"version\": 1}'").await;
    let refused = store.vms().list().await.unwrap_err();
    let StoreError::Corrupt { reason, .. } = &refused else { panic!("{refused:?}") };
    assert!(reason.starts_with("vms.spec of "), "{reason}");
}

#[tokio::test]
async fn a_read_only_directory_is_named() {
    let Some(disk) = SmallDisk::mount(4096) else { return };
    Store::open(disk.path()).await.unwrap().close().await;
    disk.make_read_only();
    for dir in [disk.path().to_owned(), disk.path().join("new")] {
        let refused = Store::open(&dir).await.unwrap_err();
        assert!(matches!(&refused, StoreError::ReadOnly { path, .. } if *path == dir), "{refused:?}");
        assert_eq!(refused.body().code, ErrorCode::ReadOnly);
    }
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_is_overcome() {
    let Some(disk) = SmallDisk::mount(2048) else { return };
    let store = Store::open(disk.path()).await.unwrap();
    let first = vm("first");
    store.vms().insert(&first).await.unwrap();
    let filler = disk.fill();
    let mut refused = None;
    let mut stored = vec![first.clone()];
    // Pages already allocated in the log take a few more rows.
    for index in 0..200 {
        let row = vm(&format!("vm-{index}"));
        match store.vms().insert(&row).await {
            Ok(()) => stored.push(row),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let refused = refused.expect("a full disk refuses");
    assert!(matches!(refused, StoreError::DiskFull { .. }), "{refused:?}");
    assert_eq!(refused.body().code, ErrorCode::DiskFull);
    stored.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(store.vms().list().await.unwrap(), stored, "what was stored can be read");

    std::fs::remove_file(filler).unwrap();
    let last = vm("zz-last");
    store.vms().insert(&last).await.unwrap();
    stored.push(last);
    store.close().await;
    assert_eq!(Store::open(disk.path()).await.unwrap().vms().list().await.unwrap(), stored);
}

#[tokio::test]
async fn a_store_cannot_be_made_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount(1024) else { return };
    let filler = disk.fill();
    let refused = Store::open(disk.path()).await.unwrap_err();
    assert_eq!(refused.body().code, ErrorCode::DiskFull, "{refused:?}");
    std::fs::remove_file(filler).unwrap();
    Store::open(disk.path()).await.unwrap().close().await;
}

/// Every release's database opens in this version, with everything in it; the copy of it stays beside.
#[tokio::test]
async fn databases_of_every_release_are_migrated() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut releases = 0;
    for entry in std::fs::read_dir(&fixtures).unwrap() {
        let fixture = entry.unwrap().path();
        releases += 1;
        let text: &'static str = std::fs::read_to_string(&fixture).unwrap().leak();
        let dir = tempfile::tempdir().unwrap();
        sql(dir.path(), text).await;
        let was = version_of(dir.path()).await;
        let store =
            Store::open(dir.path()).await.unwrap_or_else(|error| panic!("{}: {error}", fixture.display()));
        let vms = store.vms().list().await.unwrap();
        assert_eq!(vms.iter().map(|vm| vm.name.as_str()).collect::<Vec<_>>(), ["alpha", "第二台"]);
        // An older specification is read as it was written; what it lacks has the value it always had.
        assert_eq!(vms[0].spec, MachineSpec { version: vms[0].spec.version, ..vm("alpha").spec });
        assert_eq!(vms[0].created_at, at(0));
        let operations = store.operations().list(&common::all()).await.unwrap();
        assert_eq!(operations.len(), OperationStatus::ALL.len());
        assert_eq!(store.operations().unfinished().await.unwrap().len(), 2);
        assert_eq!(store.settings().get_all().await.unwrap().len(), 2);
        assert_eq!(store.journal().open().await.unwrap().len(), 1);
        store.close().await;
        assert_eq!(version_of(dir.path()).await, known_version());
        assert_eq!(backup(dir.path(), was).exists(), was < known_version());
    }
    assert!(releases >= 1);
}

async fn version_of(dir: &Path) -> i64 {
    let options = SqliteConnectOptions::new().filename(dir.join(DATABASE_FILE));
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let version =
        sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(&mut connection).await;
    connection.close().await.unwrap();
    version.unwrap()
}
