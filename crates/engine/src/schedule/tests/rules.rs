//! One rule at a time.

use std::time::Duration;

use voidvm_model::schedule::{
    Retention, RunOutcome, ScheduleOptions, SchedulePreviewRequest, ScheduleTarget, ScheduleUpdateRequest,
    SkipReason, VerdictReason,
};
use voidvm_model::{Bytes, ErrorCode, Origin};

use super::fake::{Rig, at, schedule};

fn outcomes(runs: &[voidvm_model::schedule::ScheduleRun]) -> Vec<(RunOutcome, Option<SkipReason>)> {
    runs.iter().map(|run| (run.outcome, run.skipped)).collect()
}

fn change(id: voidvm_model::ScheduleId) -> ScheduleUpdateRequest {
    ScheduleUpdateRequest {
        id,
        name: None,
        target: None,
        when: None,
        time_zone: None,
        retention: None,
        options: None,
        name_template: None,
        backup: None,
        enabled: None,
    }
}

#[tokio::test]
async fn a_failure_is_tried_three_times_more_and_then_told() {
    let rig = Rig::new(|_, _, world| match world.attempts.len() {
        1..=2 | 4..=7 => (Duration::from_secs(1), Some(ErrorCode::QemuFailed)),
        8 => (Duration::ZERO, Some(ErrorCode::DiskFull)),
        _ => (Duration::from_secs(1), None),
    })
    .await;
    let vm = rig.machine("web", None, &[]);
    let it = rig.add(schedule("s", vm, "0 * * * *")).await;
    rig.pass(3 * 3600 + 60).await;
    let runs = rig.runs(it.id).await;
    let expected = [(RunOutcome::Succeeded, None), (RunOutcome::Failed, None), (RunOutcome::Failed, None)];
    assert_eq!(outcomes(&runs), expected);
    let tried: Vec<u32> = runs.iter().map(|run| run.machines[0].attempts).collect();
    assert_eq!(tried, [3, 4, 1], "what cannot come out otherwise is not tried again");
    let times: Vec<i64> = rig.fake.world().attempts.iter().map(|(_, at)| at.as_second() % 3600).collect();
    assert_eq!(times, [0, 3, 8, 0, 3, 8, 17, 0], "2, 4 and 8 seconds between");
    assert_eq!(runs[1].error.as_ref().unwrap().code, ErrorCode::QemuFailed);
    assert_eq!(rig.scheduler.get(it.id).unwrap().last_run.unwrap().outcome, RunOutcome::Failed);
}

#[tokio::test]
async fn overlaps_are_left_out_and_said() {
    let rig = Rig::new(|_, _, _| (Duration::from_secs(150 * 60), None)).await;
    let vm = rig.machine("web", None, &[]);
    let it = rig.add(schedule("s", vm, "0 * * * *")).await;
    rig.pass(5 * 3600).await;
    let run = (RunOutcome::Succeeded, None);
    let overlap = (RunOutcome::Skipped, Some(SkipReason::Overlap));
    assert_eq!(
        outcomes(&rig.runs(it.id).await),
        [run, overlap, overlap, (RunOutcome::Running, None), overlap]
    );
    let busy = rig.scheduler.run(it.id, Origin::Cli).await.unwrap_err();
    assert_eq!(busy.code, ErrorCode::Busy);
}

#[tokio::test]
async fn two_schedules_of_one_instant_find_two_names() {
    let rig = Rig::new(|_, _, _| (Duration::from_secs(5), None)).await;
    let vm = rig.machine("web", None, &[]);
    for name in ["one", "other"] {
        rig.add(schedule(name, vm, "0 2 * * *")).await;
    }
    rig.until(at("2026-01-01T03:00:00Z")).await;
    let names: Vec<String> = rig.taken(vm).into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["auto_2026-01-01", "auto_2026-01-01_02-00"]);
}

#[tokio::test]
async fn what_was_missed_is_made_up_for_once() {
    let mut rig = Rig::new(|_, _, _| (Duration::from_secs(5), None)).await;
    let vm = rig.machine("web", None, &[]);
    let it = rig.add(schedule("s", vm, "0 * * * *")).await;
    let strict = ScheduleOptions { catch_up: false, ..ScheduleOptions::default() };
    let other = rig.add(voidvm_model::schedule::ScheduleCreateRequest {
        options: strict,
        name_template: Some("strict_{date}".to_owned()),
        ..schedule("strict", vm, "0 * * * *")
    });
    let other = other.await;
    // The computer sleeps.
    rig.settle().await;
    rig.clock.0.set(at("2026-01-01T05:30:00Z"));
    rig.pass(60).await;
    let runs = rig.runs(it.id).await;
    assert_eq!(outcomes(&runs), [(RunOutcome::Succeeded, None)]);
    assert_eq!((runs[0].due_at, runs[0].caught_up, runs[0].missed), (at("2026-01-01T05:00:00Z"), true, 4));
    assert_eq!(outcomes(&rig.runs(other.id).await), [(RunOutcome::Skipped, Some(SkipReason::Missed))]);
    // voidVM is closed, and killed in the middle of a run.
    rig.until(at("2026-01-01T06:00:02Z")).await;
    rig.reopen().await;
    rig.pass(60).await;
    let runs = rig.runs(it.id).await;
    assert_eq!(outcomes(&runs[1..]), [(RunOutcome::Interrupted, None), (RunOutcome::Succeeded, None)]);
    assert!(runs[2].caught_up && runs[2].due_at == at("2026-01-01T06:00:00Z"));
    // A clock that is set back a little repeats nothing; the one after it comes as ever.
    rig.clock.0.set(at("2026-01-01T05:30:00Z"));
    rig.until(at("2026-01-01T06:59:00Z")).await;
    assert_eq!(rig.runs(it.id).await.len(), 3);
    rig.until(at("2026-01-01T07:01:00Z")).await;
    assert_eq!(rig.runs(it.id).await.len(), 4);
    // One that is set back far is believed.
    rig.clock.0.set(at("2025-12-01T00:00:00Z"));
    rig.until(at("2025-12-01T02:01:00Z")).await;
    assert_eq!(rig.runs(it.id).await.len(), 6);
}

#[tokio::test]
async fn conditions_leave_machines_out_unless_a_person_asks() {
    let rig = Rig::new(|_, _, _| (Duration::ZERO, None)).await;
    let (web, db) = (rig.machine("web", None, &["t"]), rig.machine("db", None, &["t"]));
    rig.fake.world().unchanged.insert(db);
    rig.fake.world().machines[0].running = true;
    let it = rig
        .add(voidvm_model::schedule::ScheduleCreateRequest {
            target: ScheduleTarget::Tag { name: "t".to_owned() },
            options: ScheduleOptions { only_when_changed: true, ..ScheduleOptions::default() },
            name_template: Some("{vm} {date}".to_owned()),
            ..schedule("s", web, "0 2 * * *")
        })
        .await;
    rig.until(at("2026-01-01T03:00:00Z")).await;
    let run = rig.runs(it.id).await.remove(0);
    assert_eq!(run.outcome, RunOutcome::Succeeded);
    assert_eq!(
        run.machines.iter().filter_map(|one| one.skipped).collect::<Vec<_>>(),
        [SkipReason::Unchanged]
    );
    assert_eq!(rig.taken(web)[0].name, "web 2026-01-01");
    let both =
        ScheduleOptions { only_when_changed: true, only_when_running: true, ..ScheduleOptions::default() };
    rig.fake.world().machines[0].running = false;
    rig.scheduler
        .update(ScheduleUpdateRequest { options: Some(both), ..change(it.id) }, Origin::Cli)
        .await
        .unwrap();
    rig.until(at("2026-01-02T03:00:00Z")).await;
    let run = rig.runs(it.id).await.remove(1);
    assert_eq!((run.outcome, run.skipped), (RunOutcome::Skipped, Some(SkipReason::NotRunning)));
    assert_eq!(run.operation_id, None, "there was nothing to do");
    rig.scheduler.run(it.id, Origin::Cli).await.unwrap();
    rig.settle().await;
    let run = rig.runs(it.id).await.remove(2);
    assert!(run.by_hand && run.outcome == RunOutcome::Succeeded && run.machines.len() == 2);
    assert_eq!(rig.taken(db)[0].name, "db 2026-01-02");
    // With nobody to do it for.
    rig.fake.world().machines.clear();
    rig.until(at("2026-01-03T03:00:00Z")).await;
    assert_eq!(rig.runs(it.id).await[3].skipped, Some(SkipReason::NoMachine));
}

#[tokio::test]
async fn a_group_is_taken_together_or_not_at_all() {
    let rig = Rig::new(|_, now, _| {
        (Duration::ZERO, (now >= at("2026-01-02T00:00:00Z")).then_some(ErrorCode::Unsupported))
    })
    .await;
    let vms =
        [rig.machine("a", Some("g"), &[]), rig.machine("b", Some("g"), &[]), rig.machine("c", None, &[])];
    let it = rig
        .add(voidvm_model::schedule::ScheduleCreateRequest {
            target: ScheduleTarget::Group { name: "g".to_owned() },
            ..schedule("s", vms[0], "0 2 * * *")
        })
        .await;
    rig.until(at("2026-01-02T03:00:00Z")).await;
    assert_eq!(outcomes(&rig.runs(it.id).await), [(RunOutcome::Succeeded, None), (RunOutcome::Failed, None)]);
    assert_eq!(vms.map(|vm| rig.taken(vm).len()), [1, 1, 0]);
    assert_eq!(rig.fake.world().attempts.len(), 2, "one request for both of them");
}

#[tokio::test]
async fn space_and_depth_are_kept() {
    let rig = Rig::new(|_, _, _| (Duration::ZERO, None)).await;
    let vm = rig.machine("web", None, &[]);
    rig.fake.world().free = 75;
    let it = rig
        .add(voidvm_model::schedule::ScheduleCreateRequest {
            retention: Retention { min_free: Some(Bytes(30)), ..Retention::default() },
            ..schedule("s", vm, "0 * * * *")
        })
        .await;
    rig.pass(8 * 3600 + 60).await;
    assert_eq!(rig.taken(vm).len(), 4);
    assert_eq!(rig.fake.world().free, 35);
    assert!(rig.runs(it.id).await.iter().all(|run| run.outcome == RunOutcome::Succeeded));
    let request = SchedulePreviewRequest { id: Some(it.id), draft: None };
    rig.fake.world().free = 5;
    let preview = rig.scheduler.preview(request).await.unwrap();
    let snapshots = &preview.machines[0].snapshots;
    assert_eq!((preview.runs.len(), snapshots.len()), (10, 4));
    assert_eq!(snapshots.iter().filter(|one| one.reasons == [VerdictReason::LowSpace]).count(), 3);
    // No space that could be made.
    rig.fake.world().free = 0;
    rig.fake.world().snapshots.clear();
    rig.pass(3600).await;
    let last = rig.runs(it.id).await.pop().unwrap();
    assert_eq!((last.outcome, last.error.unwrap().code), (RunOutcome::Failed, ErrorCode::DiskFull));
    let deep = Retention { max_depth: Some(3), ..Retention::default() };
    rig.fake.world().free = 1000;
    rig.scheduler
        .update(ScheduleUpdateRequest { retention: Some(deep), ..change(it.id) }, Origin::Cli)
        .await
        .unwrap();
    rig.pass(7 * 3600).await;
    assert_eq!(rig.taken(vm).len(), 3);
}

#[tokio::test]
async fn what_does_not_hold_is_refused_by_field() {
    let rig = Rig::new(|_, _, _| (Duration::ZERO, None)).await;
    let vm = rig.machine("web", None, &[]);
    let good = || schedule("s", vm, "0 * * * *");
    let it = rig.add(good()).await;
    assert_eq!(it.next_run, Some(at("2026-01-01T01:00:00Z")));
    let freeze = ScheduleOptions { freeze: true, ..ScheduleOptions::default() };
    for (field, wrong) in [
        ("name", schedule("", vm, "0 * * * *")),
        ("target.id", schedule("t", voidvm_model::VmId::new(), "0 * * * *")),
        ("when.expression", schedule("t", vm, "0 0 30 2 *")),
        (
            "timeZone",
            voidvm_model::schedule::ScheduleCreateRequest {
                time_zone: Some("Mars/Olympus".to_owned()),
                ..good()
            },
        ),
        (
            "nameTemplate",
            voidvm_model::schedule::ScheduleCreateRequest { name_template: Some("{x}".to_owned()), ..good() },
        ),
        ("options.freeze", voidvm_model::schedule::ScheduleCreateRequest { options: freeze, ..good() }),
        ("name", good()),
    ] {
        let refused = rig.scheduler.create(wrong, Origin::Cli).await.unwrap_err();
        assert_eq!(refused.field.as_deref(), Some(field), "{refused:?}");
    }
    let off = ScheduleUpdateRequest { enabled: Some(false), ..change(it.id) };
    assert_eq!(rig.scheduler.update(off, Origin::Cli).await.unwrap().next_run, None);
    rig.pass(3 * 3600).await;
    let on = ScheduleUpdateRequest { enabled: Some(true), ..change(it.id) };
    rig.scheduler.update(on, Origin::Cli).await.unwrap();
    rig.pass(3600).await;
    assert_eq!(rig.runs(it.id).await.len(), 1, "nothing is made up for while it was off");
    rig.scheduler.delete(it.id, Origin::Cli).await.unwrap();
    assert_eq!(rig.scheduler.get(it.id).unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(rig.taken(vm).len(), 1, "the snapshots stay");
}
