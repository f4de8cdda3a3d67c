use voidvm_model::VmId;

use super::*;

const HOUR: i64 = 3600;

async fn history() -> (tempfile::TempDir, History) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    (dir, History::new(store))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn question(subject: MetricSubject, from: i64, to: i64, points: u32) -> MetricHistoryRequest {
    MetricHistoryRequest {
        subjects: vec![subject],
        metrics: vec![Metric::Cpu],
        from: at(from),
        to: Some(at(to)),
        points: Some(points),
    }
}

/// Three hours of readings each 15 s, with one of them missing; the value is the number of the minute.
fn fill(history: &History, subject: MetricSubject, now: i64) -> i64 {
    let begin = now.div_euclid(HOUR) * HOUR - 4 * HOUR;
    for second in (0..3 * HOUR).step_by(15).filter(|second| !(HOUR..2 * HOUR).contains(second)) {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let minute = (second / 60) as f32;
        history.take(subject, at(begin + second), vec![(Metric::Cpu, minute)]);
    }
    begin
}

#[tokio::test]
async fn what_was_measured_is_told_finely_and_coarsely_and_a_gap_stays_one() {
    let (_dir, history) = history().await;
    let (subject, now) = (MetricSubject::Vm(VmId::new()), Timestamp::now().as_second());
    let begin = fill(&history, subject, now);
    for written in [false, true] {
        if written {
            history.write().await.unwrap();
        }
        let fine = history.ask(&question(subject, begin, begin + 3 * HOUR - 1, 1000)).await.unwrap();
        let cpu = &fine.series[0];
        assert_eq!((fine.step, fine.from, cpu.mean.len()), (15, at(begin), 720));
        assert_eq!((cpu.mean[0], cpu.mean[4], cpu.mean[239]), (Some(0.0), Some(1.0), Some(59.0)));
        assert!(cpu.mean[240..480].iter().all(Option::is_none), "an hour is missing");
        assert_eq!(cpu.mean[480], Some(120.0));

        let coarse = history.ask(&question(subject, begin, begin + 3 * HOUR - 1, 12)).await.unwrap();
        let cpu = &coarse.series[0];
        assert_eq!((coarse.step, cpu.mean[0], cpu.peak[0]), (900, Some(7.0), Some(14.0)));
        assert_eq!((cpu.mean[4], cpu.mean[8], cpu.peak[11]), (None, Some(127.0), Some(179.0)));
    }
}

#[tokio::test]
async fn the_next_owner_goes_on_with_the_blocks_of_the_last() {
    let (dir, history) = history().await;
    let (subject, now) = (MetricSubject::Host, Timestamp::now().as_second());
    let first = now.div_euclid(HOUR) * HOUR - HOUR;
    history.take(subject, at(first), vec![(Metric::Cpu, 1.0)]);
    history.write().await.unwrap();
    let store = history.store.clone();
    drop(history);
    let history = History::new(store);
    history.take(subject, at(first + 15), vec![(Metric::Cpu, 3.0)]);
    history.write().await.unwrap();
    let told = history.ask(&question(subject, first, first + 59, 100)).await.unwrap();
    assert_eq!(told.series[0].mean[..2], [Some(1.0), Some(3.0)]);
    let minute = history.ask(&question(subject, first, first + 59, 1)).await.unwrap();
    assert_eq!((minute.series[0].mean[0], minute.series[0].peak[0]), (Some(2.0), Some(3.0)));
    drop(dir);
}

#[tokio::test]
async fn what_is_too_old_goes_and_the_coarse_stays() {
    let (_dir, history) = history().await;
    let (subject, now) = (MetricSubject::Host, Timestamp::now().as_second());
    let old = now - 3 * 86_400;
    history.take(subject, at(old), vec![(Metric::Cpu, 5.0)]);
    history.take(subject, at(now - 60), vec![(Metric::Cpu, 6.0)]);
    history.write().await.unwrap();
    keep::prune(&history, now).await.unwrap();
    let rows = history.store.history();
    assert!(rows.get("host", 15, old - HOUR, old + 1).await.unwrap().is_empty());
    assert_eq!(rows.get("host", 60, old - 4 * HOUR, old + 1).await.unwrap().len(), 1);
    assert!(history.storage().await.unwrap().size.0 > 0);
    history.forget(subject).await.unwrap();
    assert_eq!(history.storage().await.unwrap().size.0, 0);
}

#[tokio::test]
async fn a_question_out_of_bounds_names_its_field() {
    let (_dir, history) = history().await;
    let now = Timestamp::now().as_second();
    let good = question(MetricSubject::Host, now - 60, now, 10);
    for (request, field) in [
        (MetricHistoryRequest { points: Some(0), ..good.clone() }, "points"),
        (MetricHistoryRequest { from: at(now + 10), ..good.clone() }, "from"),
        (MetricHistoryRequest { subjects: Vec::new(), ..good.clone() }, "subjects"),
    ] {
        assert_eq!(history.ask(&request).await.unwrap_err().field.as_deref(), Some(field));
    }
}
