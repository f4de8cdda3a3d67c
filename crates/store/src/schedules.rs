//! Schedules, and the history of their runs. A run is written down, and its schedule's time with it, before it begins: a kill
//! neither loses nor repeats one.

use jiff::Timestamp;
use voidvm_model::ScheduleId;
use voidvm_model::schedule::{
    Recurrence, Retention, RunOutcome, ScheduleOptions, ScheduleRun, ScheduleRunsRequest, ScheduleTarget,
    ScheduledBackup, SkipReason,
};

use crate::error::is_unique_violation;
use crate::row::{Reader, json, time};
use crate::{Store, StoreError};

/// How many runs of each schedule are remembered; the oldest go first.
pub const RUNS_KEPT: u32 = 1000;

/// A page of the history without a limit of its own, and the largest.
const PAGE: u32 = 50;
const PAGE_MAX: u32 = 500;

/// A schedule as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleRow {
    /// Its id.
    pub id: ScheduleId,
    /// Unique, compared exactly.
    pub name: String,
    /// Of which machines.
    pub target: ScheduleTarget,
    /// When, as it was chosen.
    pub when: Recurrence,
    /// IANA name; the computer's without.
    pub time_zone: Option<String>,
    /// Which snapshots are kept.
    pub retention: Retention,
    /// How it runs.
    pub options: ScheduleOptions,
    /// How its snapshots are called.
    pub name_template: String,
    /// Where its backups go; without, it takes snapshots.
    pub backup: Option<ScheduledBackup>,
    /// Whether it runs by itself.
    pub enabled: bool,
    /// Up to this instant its runs are dealt with.
    pub done_until: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// The columns as SQLite gives them.
struct Columns {
    id: String,
    name: String,
    target: String,
    recurrence: String,
    time_zone: Option<String>,
    retention: String,
    options: String,
    name_template: String,
    backup: Option<String>,
    enabled: i64,
    done_until: String,
    created_at: String,
    updated_at: String,
}

struct RunColumns {
    id: String,
    schedule_id: String,
    due_at: String,
    started_at: String,
    ended_at: Option<String>,
    outcome: String,
    caught_up: i64,
    by_hand: i64,
    missed: i64,
    skipped: Option<String>,
    machines: String,
    error: Option<String>,
    operation_id: Option<String>,
}

/// The tables of schedules and of their runs.
#[derive(Clone, Copy, Debug)]
pub struct Schedules<'a>(pub(crate) &'a Store);

impl Schedules<'_> {
    /// Adds a schedule, or replaces the one that has its id.
    ///
    /// # Errors
    /// [`StoreError::ScheduleTaken`], or the store's.
    pub async fn put(&self, row: &ScheduleRow) -> Result<(), StoreError> {
        let id = row.id.to_string();
        let (target, recurrence) =
            (json("schedules.target", &row.target)?, json("schedules.recurrence", &row.when)?);
        let retention = json("schedules.retention", &row.retention)?;
        let options = json("schedules.options", &row.options)?;
        let backup = row.backup.as_ref().map(|backup| json("schedules.backup", backup)).transpose()?;
        let (done_until, created_at, updated_at) =
            (time(row.done_until), time(row.created_at), time(row.updated_at));
        sqlx::query!(
            "INSERT INTO schedules (id, name, target, recurrence, time_zone, retention, options, name_template, backup,
                                    enabled, done_until, created_at, updated_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, target = excluded.target, recurrence = excluded.recurrence,
                 time_zone = excluded.time_zone, retention = excluded.retention, options = excluded.options,
                 name_template = excluded.name_template, backup = excluded.backup, enabled = excluded.enabled,
                 done_until = excluded.done_until, updated_at = excluded.updated_at",
            id,
            row.name,
            target,
            recurrence,
            row.time_zone,
            retention,
            options,
            row.name_template,
            backup,
            row.enabled,
            done_until,
            created_at,
            updated_at
        )
        .execute(self.0.writer())
        .await
        .map(drop)
        .map_err(|source| {
            if is_unique_violation(&source) {
                StoreError::ScheduleTaken { name: row.name.clone() }
            } else {
                self.0.failed("remember the schedule")(source)
            }
        })
    }

    /// Forgets a schedule and its history. One that is gone already is no error.
    ///
    /// # Errors
    /// The store's.
    pub async fn delete(&self, id: ScheduleId) -> Result<(), StoreError> {
        let id = id.to_string();
        sqlx::query!("DELETE FROM schedules WHERE id = ?", id)
            .execute(self.0.writer())
            .await
            .map(drop)
            .map_err(self.0.failed("forget the schedule"))
    }

    /// Every schedule, in the order of their names.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(&self) -> Result<Vec<ScheduleRow>, StoreError> {
        let rows = sqlx::query_as!(
            Columns,
            "SELECT id, name, target, recurrence, time_zone, retention, options, name_template, backup, enabled,
                    done_until, created_at, updated_at
             FROM schedules ORDER BY name"
        )
        .fetch_all(self.0.readers())
        .await
        .map_err(self.0.failed("read the schedules"))?;
        rows.into_iter().map(|columns| self.row(columns)).collect()
    }

    fn row(&self, columns: Columns) -> Result<ScheduleRow, StoreError> {
        let read = Reader::new(self.0.database(), "schedules", &columns.id);
        Ok(ScheduleRow {
            id: read.parse("id", &columns.id)?,
            target: read.json("target", &columns.target)?,
            when: read.json("recurrence", &columns.recurrence)?,
            retention: read.json("retention", &columns.retention)?,
            options: read.json("options", &columns.options)?,
            backup: read.json_optional("backup", columns.backup.as_deref())?,
            enabled: columns.enabled != 0,
            done_until: read.parse("done_until", &columns.done_until)?,
            created_at: read.parse("created_at", &columns.created_at)?,
            updated_at: read.parse("updated_at", &columns.updated_at)?,
            name: columns.name,
            time_zone: columns.time_zone,
            name_template: columns.name_template,
        })
    }

    /// Writes a run that begins, or that is left out, and that the schedule's runs are dealt with up to `done_until`; as one
    /// change. Runs beyond [`RUNS_KEPT`] go.
    ///
    /// # Errors
    /// The store's; then nothing has changed.
    pub async fn begin_run(&self, run: &ScheduleRun, done_until: Timestamp) -> Result<(), StoreError> {
        let failed = || self.0.failed("write down the schedule's run");
        let (id, schedule_id, outcome) =
            (run.id.to_string(), run.schedule_id.to_string(), run.outcome.as_str());
        let (due_at, started_at, ended_at) = (time(run.due_at), time(run.started_at), run.ended_at.map(time));
        let skipped = run.skipped.map(SkipReason::as_str);
        let machines = json("schedule_runs.machines", &run.machines)?;
        let error = run.error.as_ref().map(|error| json("schedule_runs.error", error)).transpose()?;
        let operation_id = run.operation_id.map(|id| id.to_string());
        let done_until = time(done_until);
        let mut whole = self.0.writer().begin().await.map_err(failed())?;
        sqlx::query!(
            "INSERT INTO schedule_runs (id, schedule_id, due_at, started_at, ended_at, outcome, caught_up, by_hand, missed,
                                        skipped, machines, error, operation_id)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            id,
            schedule_id,
            due_at,
            started_at,
            ended_at,
            outcome,
            run.caught_up,
            run.by_hand,
            run.missed,
            skipped,
            machines,
            error,
            operation_id
        )
        .execute(&mut *whole)
        .await
        .map_err(failed())?;
        sqlx::query!("UPDATE schedules SET done_until = ? WHERE id = ?", done_until, schedule_id)
            .execute(&mut *whole)
            .await
            .map_err(failed())?;
        sqlx::query!(
            "DELETE FROM schedule_runs
             WHERE schedule_id = ?1
               AND id <= (SELECT id FROM schedule_runs WHERE schedule_id = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            schedule_id,
            RUNS_KEPT
        )
        .execute(&mut *whole)
        .await
        .map_err(failed())?;
        whole.commit().await.map_err(failed())
    }

    /// Writes how a run ended. One whose schedule is gone is no error.
    ///
    /// # Errors
    /// The store's.
    pub async fn end_run(&self, run: &ScheduleRun) -> Result<(), StoreError> {
        let (id, outcome, ended_at) = (run.id.to_string(), run.outcome.as_str(), run.ended_at.map(time));
        let skipped = run.skipped.map(SkipReason::as_str);
        let machines = json("schedule_runs.machines", &run.machines)?;
        let error = run.error.as_ref().map(|error| json("schedule_runs.error", error)).transpose()?;
        let operation_id = run.operation_id.map(|id| id.to_string());
        sqlx::query!(
            "UPDATE schedule_runs SET ended_at = ?, outcome = ?, skipped = ?, machines = ?, error = ?, operation_id = ?
             WHERE id = ?",
            ended_at,
            outcome,
            skipped,
            machines,
            error,
            operation_id,
            id
        )
        .execute(self.0.writer())
        .await
        .map(drop)
        .map_err(self.0.failed("write down the end of the schedule's run"))
    }

    /// Marks what the last owner of the store was in the middle of as interrupted. To be called once, before any run of this owner.
    ///
    /// # Errors
    /// The store's; then nothing has changed.
    pub async fn interrupt_unfinished(&self, now: Timestamp) -> Result<(), StoreError> {
        let now = time(now);
        sqlx::query!(
            "UPDATE schedule_runs SET outcome = 'interrupted', ended_at = ? WHERE outcome = 'running'",
            now
        )
        .execute(self.0.writer())
        .await
        .map(drop)
        .map_err(self.0.failed("mark interrupted runs"))
    }

    /// The newest run of each schedule that has one.
    ///
    /// # Errors
    /// The store's.
    pub async fn last_runs(&self) -> Result<Vec<ScheduleRun>, StoreError> {
        let rows = sqlx::query_as!(
            RunColumns,
            "SELECT id, schedule_id, due_at, started_at, ended_at, outcome, caught_up, by_hand, missed, skipped, machines, error,
                    operation_id
             FROM schedule_runs
             WHERE id IN (SELECT (SELECT r.id FROM schedule_runs r WHERE r.schedule_id = s.id ORDER BY r.id DESC LIMIT 1)
                          FROM schedules s)"
        )
        .fetch_all(self.0.readers())
        .await
        .map_err(self.0.failed("read the schedules' runs"))?;
        rows.iter().map(|columns| self.run(columns)).collect()
    }

    /// A page of a schedule's runs, newest first. The page after it begins `before` its last.
    ///
    /// # Errors
    /// The store's.
    pub async fn runs(&self, request: &ScheduleRunsRequest) -> Result<Vec<ScheduleRun>, StoreError> {
        let schedule_id = request.id.to_string();
        let before = request.before.map(|id| id.to_string());
        let limit = request.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
        let rows = sqlx::query_as!(
            RunColumns,
            "SELECT id, schedule_id, due_at, started_at, ended_at, outcome, caught_up, by_hand, missed, skipped, machines, error,
                    operation_id
             FROM schedule_runs WHERE schedule_id = ?1 AND (?2 IS NULL OR id < ?2) ORDER BY id DESC LIMIT ?3",
            schedule_id,
            before,
            limit
        )
        .fetch_all(self.0.readers())
        .await
        .map_err(self.0.failed("read the schedule's runs"))?;
        rows.iter().map(|columns| self.run(columns)).collect()
    }

    fn run(&self, columns: &RunColumns) -> Result<ScheduleRun, StoreError> {
        let read = Reader::new(self.0.database(), "schedule_runs", &columns.id);
        let skipped = columns
            .skipped
            .as_deref()
            .map(|skipped| read.one_of("skipped", skipped, &SkipReason::ALL, SkipReason::as_str));
        Ok(ScheduleRun {
            id: read.parse("id", &columns.id)?,
            schedule_id: read.parse("schedule_id", &columns.schedule_id)?,
            due_at: read.parse("due_at", &columns.due_at)?,
            started_at: read.parse("started_at", &columns.started_at)?,
            ended_at: read.parse_optional("ended_at", columns.ended_at.as_deref())?,
            outcome: read.one_of("outcome", &columns.outcome, &RunOutcome::ALL, RunOutcome::as_str)?,
            caught_up: columns.caught_up != 0,
            by_hand: columns.by_hand != 0,
            missed: u32::try_from(columns.missed).unwrap_or(u32::MAX),
            skipped: skipped.transpose()?,
            machines: read.json("machines", &columns.machines)?,
            error: read.json_optional("error", columns.error.as_deref())?,
            operation_id: read.parse_optional("operation_id", columns.operation_id.as_deref())?,
        })
    }
}
