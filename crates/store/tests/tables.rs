//! Every table against a real SQLite file: what goes in comes out, also after the file was closed and opened again.

mod common;

use std::collections::BTreeMap;

use common::{all, at, operation, vm};
use serde_json::json;
use voidvm_model::contract::OperationListRequest;
use voidvm_model::schedule::{
    Recurrence, Retention, RunOutcome, ScheduleOptions, ScheduleRun, ScheduleRunsRequest, ScheduleTarget,
    ScheduledBackup,
};
use voidvm_model::{
    Bytes, ErrorBody, ErrorCode, OperationId, OperationStatus, ScheduleId, ScheduleRunId, VmId, VmState,
};
use voidvm_store::{DATABASE_FILE, Intent, IntentAction, ScheduleRow, Store, StoreError};

#[tokio::test]
async fn a_machine_comes_back_as_it_was_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let (mut b, a) = (vm("b"), vm("a"));
    store.vms().insert(&b).await.unwrap();
    store.vms().insert(&a).await.unwrap();
    store.close().await;

    let store = Store::open(dir.path()).await.unwrap();
    assert_eq!(store.vms().list().await.unwrap(), [a.clone(), b.clone()]);
    assert_eq!(store.vms().get(b.id).await.unwrap().as_ref(), Some(&b));
    assert_eq!(store.vms().by_name("a").await.unwrap().as_ref(), Some(&a));
    assert_eq!(store.vms().by_name("A").await.unwrap(), None);
    assert_eq!(store.vms().get(VmId::new()).await.unwrap(), None);

    b.name = "c".to_owned();
    b.spec.cpus = 4;
    b.os_type = None;
    b.updated_at = at(9);
    store.vms().update(&b).await.unwrap();
    store.vms().set_state(b.id, VmState::Stopped, at(10), None).await.unwrap();
    b.state = VmState::Stopped;
    b.state_since = at(10);
    b.attention = None;
    assert_eq!(store.vms().get(b.id).await.unwrap().as_ref(), Some(&b));

    store.vms().delete(a.id).await.unwrap();
    store.vms().delete(a.id).await.unwrap();
    assert_eq!(store.vms().list().await.unwrap(), [b]);
}

#[tokio::test]
async fn names_are_unique_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let (a, mut other) = (vm("web"), vm("Web"));
    store.vms().insert(&a).await.unwrap();
    store.vms().insert(&other).await.unwrap();
    let taken = store.vms().insert(&vm("web")).await.unwrap_err();
    assert!(matches!(&taken, StoreError::NameTaken { name } if name == "web"), "{taken:?}");
    assert_eq!(taken.body().code, ErrorCode::NameTaken);
    other.name = "web".to_owned();
    assert!(matches!(store.vms().update(&other).await, Err(StoreError::NameTaken { .. })));
    other.name = "Web".to_owned();
    assert_eq!(store.vms().get(other.id).await.unwrap(), Some(other));
    let nobody = vm("nobody");
    assert!(
        matches!(store.vms().update(&nobody).await, Err(StoreError::VmNotFound { id }) if id == nobody.id)
    );
    let state = store.vms().set_state(nobody.id, VmState::Stopped, at(0), None).await;
    assert!(matches!(state, Err(StoreError::VmNotFound { .. })));
}

#[tokio::test]
async fn operations_are_paged_newest_first_and_filtered() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let (a, b) = (vm("a"), vm("b"));
    let mut made = Vec::new();
    for index in 0..7 {
        let status = if index % 3 == 0 { OperationStatus::Failed } else { OperationStatus::Succeeded };
        let operation = operation(if index % 2 == 0 { &a } else { &b }, status);
        store.operations().insert(&operation).await.unwrap();
        made.insert(0, operation);
    }
    let list = async |request| store.operations().list(&request).await.unwrap();
    assert_eq!(list(all()).await, made);
    let page = list(OperationListRequest { limit: Some(3), ..all() }).await;
    assert_eq!(page, made[..3]);
    assert_eq!(list(OperationListRequest { before: Some(page[2].id), ..all() }).await, made[3..]);
    let of_b: Vec<_> = made.iter().filter(|operation| operation.vm_id == Some(b.id)).cloned().collect();
    assert_eq!(list(OperationListRequest { vm_id: Some(b.id), ..all() }).await, of_b);
    let failed_of_b: Vec<_> =
        of_b.iter().filter(|operation| operation.status == OperationStatus::Failed).cloned().collect();
    let request = OperationListRequest { vm_id: Some(b.id), status: Some(OperationStatus::Failed), ..all() };
    assert_eq!(list(request).await, failed_of_b);
    assert!(!failed_of_b.is_empty());
    assert_eq!(list(OperationListRequest { limit: Some(0), ..all() }).await.len(), 1);
    assert_eq!(store.operations().get(made[4].id).await.unwrap().as_ref(), Some(&made[4]));
}

#[tokio::test]
async fn what_an_owner_left_unfinished_is_interrupted_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let a = vm("a");
    let mut done = operation(&a, OperationStatus::Running);
    let (queued, running) = (operation(&a, OperationStatus::Queued), operation(&a, OperationStatus::Running));
    for operation in [&done, &queued, &running] {
        store.operations().insert(operation).await.unwrap();
    }
    done.status = OperationStatus::Succeeded;
    done.finished_at = Some(at(6));
    done.duration_ms = Some(3000);
    done.cancellable = false;
    store.operations().update(&done).await.unwrap();
    assert_eq!(store.operations().unfinished().await.unwrap(), [queued.clone(), running.clone()]);

    // The owner is gone: nothing closed the store.
    let next = Store::open(dir.path()).await.unwrap();
    let interrupted = next.operations().interrupt_unfinished(at(8)).await.unwrap();
    assert_eq!(interrupted.iter().map(|o| o.id).collect::<Vec<_>>(), [queued.id, running.id]);
    for operation in &interrupted {
        assert_eq!(operation.status, OperationStatus::Interrupted);
        assert_eq!(operation.finished_at, Some(at(8)));
        assert_eq!(operation.duration_ms, Some(5000));
        assert_eq!(operation.error.as_ref().unwrap().code, ErrorCode::Interrupted);
        assert!(!operation.cancellable);
        assert_eq!(next.operations().get(operation.id).await.unwrap().as_ref(), Some(operation));
    }
    assert_eq!(next.operations().get(done.id).await.unwrap(), Some(done));
    assert!(next.operations().interrupt_unfinished(at(9)).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_unknown_operation_is_not_updated() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let stranger = operation(&vm("a"), OperationStatus::Running);
    let refused = store.operations().update(&stranger).await.unwrap_err();
    assert_eq!(refused.body().code, ErrorCode::OperationNotFound);
}

#[tokio::test]
async fn old_operations_go_and_unfinished_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let a = vm("a");
    let old = operation(&a, OperationStatus::Queued);
    store.operations().insert(&old).await.unwrap();
    let mut newest = Vec::new();
    for _ in 0..6 {
        let operation = operation(&a, OperationStatus::Succeeded);
        store.operations().insert(&operation).await.unwrap();
        newest.push(operation.id);
    }
    assert_eq!(store.operations().prune(10).await.unwrap(), 0);
    assert_eq!(store.operations().prune(3).await.unwrap(), 3);
    let left: Vec<_> =
        store.operations().list(&all()).await.unwrap().into_iter().map(|operation| operation.id).collect();
    assert_eq!(left, [newest[5], newest[4], newest[3], old.id]);
}

#[tokio::test]
async fn settings_are_replaced_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    assert!(store.settings().get_all().await.unwrap().is_empty());
    let first =
        BTreeMap::from([("language".to_owned(), json!("zh-CN")), ("defaultMemory".to_owned(), json!(2048))]);
    store.settings().replace(&first).await.unwrap();
    assert_eq!(store.settings().get_all().await.unwrap(), first);
    let second = BTreeMap::from([("theme".to_owned(), json!(null))]);
    store.settings().replace(&second).await.unwrap();
    assert_eq!(store.settings().get_all().await.unwrap(), second);
}

#[tokio::test]
async fn an_intent_is_open_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let a = vm("a");
    let intent = |action| Intent {
        operation_id: operation(&a, OperationStatus::Running).id,
        vm_id: Some(a.id),
        action,
        files: vec!["/data/vms/a b/disk0.qcow2".into(), "/data/vms/a b".into()],
    };
    let (create, delete) = (intent(IntentAction::Create), intent(IntentAction::Delete));
    let first = store.journal().begin(&create, at(1)).await.unwrap();
    let second = store.journal().begin(&delete, at(2)).await.unwrap();

    let next = Store::open(dir.path()).await.unwrap();
    let open = next.journal().open().await.unwrap();
    assert_eq!(
        open.iter().map(|open| (open.id, open.begun_at)).collect::<Vec<_>>(),
        [(first, at(1)), (second, at(2))]
    );
    assert_eq!([&open[0].intent, &open[1].intent], [&create, &delete]);
    next.journal().end(first).await.unwrap();
    next.journal().end(first).await.unwrap();
    assert_eq!(next.journal().open().await.unwrap().len(), 1);
    // The id of an intent that has ended is not given to another.
    next.journal().end(second).await.unwrap();
    assert!(next.journal().begin(&create, at(3)).await.unwrap() > second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_write_and_read_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..32 {
        let store = store.clone();
        tasks.spawn(async move {
            // Two of each name: one of the two is told that it is taken.
            let row = vm(&format!("vm-{}", index / 2));
            let taken = match store.vms().insert(&row).await {
                Ok(()) => false,
                Err(StoreError::NameTaken { .. }) => true,
                Err(other) => panic!("{other:?}"),
            };
            for _ in 0..4 {
                let mut operation = operation(&row, OperationStatus::Running);
                store.operations().insert(&operation).await.unwrap();
                store.vms().list().await.unwrap();
                operation.status = OperationStatus::Succeeded;
                store.operations().update(&operation).await.unwrap();
            }
            taken
        });
    }
    let taken = tasks.join_all().await.into_iter().filter(|taken| *taken).count();
    assert_eq!(taken, 16);
    assert_eq!(store.vms().list().await.unwrap().len(), 16);
    let operations = store.operations().list(&all()).await.unwrap();
    assert_eq!(operations.len(), 128);
    assert!(operations.iter().all(|operation| operation.status == OperationStatus::Succeeded));
}

#[tokio::test]
async fn the_file_is_its_users_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("made/below");
    let store = Store::open(&data).await.unwrap();
    store.vms().insert(&vm("a")).await.unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    assert_eq!(store.database(), data.join(DATABASE_FILE));
}

#[tokio::test]
async fn images_come_back_as_they_were_stored() {
    use voidvm_model::ImageId;
    use voidvm_model::guest_os::GuestOs;
    use voidvm_model::image::Verification;
    use voidvm_model::system::ImageKind;
    use voidvm_store::ImageRow;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let row = ImageRow {
        id: ImageId::new(),
        name: "镜像 'one'".to_owned(),
        description: String::new(),
        kind: ImageKind::Iso,
        path: "/srv/a b/x.iso".into(),
        owned: true,
        size: Bytes(1 << 33),
        modified_ns: 1_700_000_000_123_456_789,
        virtual_size: Bytes(1 << 34),
        sha256: None,
        verified: Verification::Signature,
        os: Some(GuestOs {
            id: "debian12".to_owned(),
            name: "Debian 12".to_owned(),
            family: "linux".to_owned(),
            version: Some("12".to_owned()),
        }),
        cloud_init: true,
        source: Some("https://example.org/x.iso".to_owned()),
        created_at: at(0),
    };
    store.images().insert(&row).await.unwrap();
    assert_eq!(store.images().get(row.id).await.unwrap().as_ref(), Some(&row));
    // Neither a name nor a file is another image's.
    for other in [
        ImageRow { id: ImageId::new(), path: "/other".into(), ..row.clone() },
        ImageRow { id: ImageId::new(), name: "other".to_owned(), ..row.clone() },
    ] {
        assert!(matches!(store.images().insert(&other).await, Err(StoreError::ImageTaken { .. })));
    }
    store.images().set_sha256(row.id, "ab").await.unwrap();
    store.images().rename(row.id, "new", "text").await.unwrap();
    let now = store.images().list().await.unwrap().remove(0);
    let changed = ImageRow {
        name: "new".to_owned(),
        description: "text".to_owned(),
        sha256: Some("ab".to_owned()),
        ..row.clone()
    };
    assert_eq!(now, changed);
    store.images().delete(row.id).await.unwrap();
    store.images().delete(row.id).await.unwrap();
    assert_eq!(store.images().get(row.id).await.unwrap(), None);
}

#[tokio::test]
async fn a_schedule_and_its_runs_come_back_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let row = ScheduleRow {
        id: ScheduleId::new(),
        name: "每天 'nightly'".to_owned(),
        target: ScheduleTarget::Group { name: "g".to_owned() },
        when: Recurrence::Monthly { day: None, at: "02:30".parse().unwrap() },
        time_zone: Some("Europe/Berlin".to_owned()),
        retention: Retention { daily: 7, min_free: Some(Bytes(1 << 30)), ..Retention::default() },
        options: ScheduleOptions { catch_up: false, ..ScheduleOptions::default() },
        name_template: "auto_{date}".to_owned(),
        backup: Some(ScheduledBackup { directory: "/mnt/b".to_owned(), drill: true }),
        enabled: true,
        done_until: at(0),
        created_at: at(0),
        updated_at: at(0),
    };
    store.schedules().put(&row).await.unwrap();
    assert_eq!(store.schedules().list().await.unwrap(), std::slice::from_ref(&row));
    let other = ScheduleRow { id: ScheduleId::new(), ..row.clone() };
    assert!(matches!(store.schedules().put(&other).await, Err(StoreError::ScheduleTaken { .. })));

    let run = |outcome| ScheduleRun {
        id: ScheduleRunId::new(),
        schedule_id: row.id,
        due_at: at(60),
        started_at: at(61),
        ended_at: None,
        outcome,
        caught_up: true,
        by_hand: false,
        missed: 3,
        skipped: None,
        machines: Vec::new(),
        error: Some(ErrorBody::new(ErrorCode::QemuFailed, "no")),
        operation_id: Some(OperationId::new()),
    };
    let (first, second) = (run(RunOutcome::Running), run(RunOutcome::Running));
    store.schedules().begin_run(&first, at(61)).await.unwrap();
    let ended = ScheduleRun { outcome: RunOutcome::Failed, ended_at: Some(at(70)), ..first };
    store.schedules().end_run(&ended).await.unwrap();
    store.schedules().begin_run(&second, at(120)).await.unwrap();
    assert_eq!(store.schedules().list().await.unwrap()[0].done_until, at(120));
    store.schedules().interrupt_unfinished(at(200)).await.unwrap();
    let cut = ScheduleRun { outcome: RunOutcome::Interrupted, ended_at: Some(at(200)), ..second };
    assert_eq!(store.schedules().last_runs().await.unwrap(), std::slice::from_ref(&cut));
    let page = |before| ScheduleRunsRequest { id: row.id, before, limit: Some(1) };
    assert_eq!(store.schedules().runs(&page(None)).await.unwrap(), std::slice::from_ref(&cut));
    assert_eq!(store.schedules().runs(&page(Some(cut.id))).await.unwrap(), [ended]);
    store.schedules().delete(row.id).await.unwrap();
    assert_eq!(store.schedules().runs(&page(None)).await.unwrap(), []);
}
