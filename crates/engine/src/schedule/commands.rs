//! What can be asked of the scheduler.

use jiff::Timestamp;
use voidvm_model::schedule::{
    BackupVerdict, DEFAULT_NAME_TEMPLATE, MachinePreview, PlannedRun, Schedule, ScheduleCreateRequest,
    SchedulePreview, SchedulePreviewRequest, ScheduleRun, ScheduleRunsRequest, ScheduleTarget,
    ScheduleUpdateRequest, SnapshotVerdict,
};
use voidvm_model::{ErrorBody, ErrorCode, Operation, OperationKind, Origin, ScheduleId};
use voidvm_schedule::judge::Verdict;
use voidvm_store::ScheduleRow;

use super::drive::new_run;
use super::run::{Work, carry_out, naming, targets};
use super::{Clockwork, Entry, KeptId, Scheduler, check, not_found, prune};
use crate::ledger::{Cancel, Outcome, Subject};

/// Runs that are shown ahead.
const AHEAD: usize = 10;

impl Scheduler {
    /// Every schedule, by name; from memory.
    #[must_use]
    pub fn list(&self) -> Vec<Schedule> {
        let machines = self.0.parts.snapshots.machines();
        let mut views: Vec<Schedule> = self.entries().values().map(Entry::view).collect();
        for view in &mut views {
            if let ScheduleTarget::Vm { id } = view.target
                && view.trouble.is_none()
                && machines.iter().all(|machine| machine.id != id)
            {
                view.trouble = Some(
                    ErrorBody::new(
                        ErrorCode::VmNotFound,
                        "The schedule's machine is gone, or is a template.",
                    )
                    .with_hint("Choose another machine for it, or remove it."),
                );
            }
        }
        views.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
        views
    }

    /// One schedule.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`].
    pub fn get(&self, id: ScheduleId) -> Result<Schedule, ErrorBody> {
        self.list().into_iter().find(|schedule| schedule.id == id).ok_or_else(|| not_found(id))
    }

    /// Makes a schedule; its first run is the next one after now.
    ///
    /// # Errors
    /// What does not hold, with its field.
    pub async fn create(
        &self,
        request: ScheduleCreateRequest,
        origin: Origin,
    ) -> Result<Schedule, ErrorBody> {
        let _one_at_a_time = self.0.writing.lock().await;
        let now = self.0.parts.clock.now();
        let row = row_of(request, now);
        let id = row.id;
        check::row(&row, &*self.0.parts.snapshots)?;
        if let Some(to) = &row.backup {
            self.0.parts.snapshots.check_backups(to).await?;
        }
        self.keep(Entry::new(row), now, origin).await?;
        self.get(id)
    }

    /// Changes a schedule. With other times, or turned on again, it begins anew now and makes up for nothing.
    ///
    /// # Errors
    /// What does not hold, with its field.
    pub async fn update(
        &self,
        request: ScheduleUpdateRequest,
        origin: Origin,
    ) -> Result<Schedule, ErrorBody> {
        let _one_at_a_time = self.0.writing.lock().await;
        let now = self.0.parts.clock.now();
        let id = request.id;
        let before = self.entries().get(&id).map(|entry| entry.row.clone()).ok_or_else(|| not_found(id))?;
        let zone = request.time_zone.map(|zone| Some(zone).filter(|zone| !zone.is_empty()));
        let backup = request.backup.map(|backup| Some(backup).filter(|backup| !backup.directory.is_empty()));
        let mut row = ScheduleRow {
            name: request.name.unwrap_or_else(|| before.name.clone()),
            target: request.target.unwrap_or_else(|| before.target.clone()),
            when: request.when.unwrap_or_else(|| before.when.clone()),
            time_zone: zone.unwrap_or_else(|| before.time_zone.clone()),
            retention: request.retention.unwrap_or_else(|| before.retention.clone()),
            options: request.options.unwrap_or(before.options),
            name_template: request.name_template.unwrap_or_else(|| before.name_template.clone()),
            backup: backup.unwrap_or_else(|| before.backup.clone()),
            enabled: request.enabled.unwrap_or(before.enabled),
            updated_at: now,
            ..before.clone()
        };
        let anew = (&row.when, &row.time_zone) != (&before.when, &before.time_zone)
            || (row.enabled && !before.enabled);
        if anew {
            row.done_until = now;
        }
        // A schedule whose machine went away can still be renamed or turned off.
        check::row(&row, &*self.0.parts.snapshots).or_else(|error| match error.field.as_deref() {
            Some("target.id") if row.target == before.target && !row.enabled => Ok(()),
            _ => Err(error),
        })?;
        if let Some(to) = row.backup.as_ref().filter(|_| row.backup != before.backup) {
            self.0.parts.snapshots.check_backups(to).await?;
        }
        let mut entry = Entry::new(row);
        if let Some(old) = self.entries().get(&id) {
            entry.running = old.running;
            entry.last_run.clone_from(&old.last_run);
            entry.owed = old.owed.filter(|_| !anew);
        }
        self.keep(entry, now, origin).await?;
        self.get(id)
    }

    async fn keep(&self, mut entry: Entry, now: Timestamp, origin: Origin) -> Result<(), ErrorBody> {
        self.0.parts.store.schedules().put(&entry.row).await.map_err(|error| error.body())?;
        entry.look(now, &self.0.parts.clock.zone());
        {
            let mut entries = self.entries();
            // A run may have ended while that was written.
            if let Some(old) = entries.get(&entry.row.id) {
                entry.running = old.running;
                entry.last_run.clone_from(&old.last_run);
            }
            entries.insert(entry.row.id, entry);
        }
        self.changed(origin);
        Ok(())
    }

    /// Forgets a schedule and what it did. Its snapshots stay, and nobody prunes them any more; a run at work goes on.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`], or the store's.
    pub async fn delete(&self, id: ScheduleId, origin: Origin) -> Result<(), ErrorBody> {
        let _one_at_a_time = self.0.writing.lock().await;
        if !self.entries().contains_key(&id) {
            return Err(not_found(id));
        }
        self.0.parts.store.schedules().delete(id).await.map_err(|error| error.body())?;
        self.entries().remove(&id);
        self.changed(origin);
        Ok(())
    }

    /// Runs a schedule now, whatever its conditions are; its own times stay.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`]; [`ErrorCode::Busy`] while it runs.
    pub async fn run(&self, id: ScheduleId, origin: Origin) -> Result<Operation, ErrorBody> {
        let parts = &self.0.parts;
        let _one_at_a_time = self.0.writing.lock().await;
        let now = parts.clock.now();
        let (row, clockwork) = {
            let mut entries = self.entries();
            let entry = entries.get_mut(&id).ok_or_else(|| not_found(id))?;
            if entry.running || parts.closing.is_cancelled() {
                return Err(ErrorBody::new(ErrorCode::Busy, format!("“{}” is at work.", entry.row.name))
                    .with_hint("Wait for that to end."));
            }
            let clockwork = entry.clockwork.clone()?;
            entry.running = true;
            (entry.row.clone(), clockwork)
        };
        let begun = self.begin_by_hand(row, clockwork, now, origin).await;
        if begun.is_err()
            && let Some(entry) = self.entries().get_mut(&id)
        {
            entry.running = false;
        }
        self.changed(origin);
        begun
    }

    async fn begin_by_hand(
        &self,
        row: ScheduleRow,
        clockwork: Clockwork,
        now: Timestamp,
        origin: Origin,
    ) -> Result<Operation, ErrorBody> {
        let parts = &self.0.parts;
        let subject = Subject::Schedule(&row.name);
        let ticket =
            parts.ledger.open_operation(OperationKind::ScheduleRun, subject, origin, Cancel::Heeded).await?;
        let operation = ticket.operation();
        let run =
            ScheduleRun { by_hand: true, operation_id: Some(ticket.id()), ..new_run(row.id, now, now, None) };
        if let Err(error) = parts.store.schedules().begin_run(&run, row.done_until).await {
            ticket.end(Outcome::Failed(error.body().into()));
            return Err(error.body());
        }
        let zone = clockwork.zone(&parts.clock.zone());
        if let Some(entry) = self.entries().get_mut(&row.id) {
            entry.last_run = Some(run.clone());
        }
        parts.tasks.spawn(carry_out(self.clone(), Work { row, zone, clockwork, run, ticket: Some(ticket) }));
        operation.ok_or_else(|| ErrorBody::new(ErrorCode::Internal, "The operation was lost."))
    }

    /// What a schedule did, newest first.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`]; a limit that is too large; the store's.
    pub async fn runs(&self, request: ScheduleRunsRequest) -> Result<Vec<ScheduleRun>, ErrorBody> {
        if !self.entries().contains_key(&request.id) {
            return Err(not_found(request.id));
        }
        if request.limit.is_some_and(|limit| !(1..=500).contains(&limit)) {
            return Err(ErrorBody::invalid("limit", "So many runs cannot be had at once.")
                .with_hint("Choose 1 to 500."));
        }
        self.0.parts.store.schedules().runs(&request).await.map_err(|error| error.body())
    }

    /// What a schedule would do.
    ///
    /// # Errors
    /// What does not hold, with its field; [`ErrorCode::NotFound`].
    pub async fn preview(&self, request: SchedulePreviewRequest) -> Result<SchedulePreview, ErrorBody> {
        let parts = &self.0.parts;
        let (now, computer) = (parts.clock.now(), parts.clock.zone());
        let stored = request
            .id
            .map(|id| self.entries().get(&id).map(|entry| entry.row.clone()).ok_or_else(|| not_found(id)))
            .transpose()?;
        let row = match (request.draft, stored) {
            (Some(draft), _) => {
                let row = row_of(draft, now);
                check::row(&row, &*parts.snapshots)?;
                row
            }
            (None, Some(row)) => row,
            (None, None) => {
                return Err(ErrorBody::invalid("id", "Nothing was said of which schedule.")
                    .with_hint("Say a schedule's id, or send a draft."));
            }
        };
        let clockwork = Clockwork::of(&row)?;
        let zone = clockwork.zone(&computer);
        let runs = clockwork
            .times
            .between(now, Timestamp::MAX, &zone)
            .take(AHEAD)
            .map(|run| PlannedRun {
                at: run.at,
                local: run.at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
                moved: run.moved,
            })
            .collect::<Vec<_>>();
        let next = runs.first().map_or(now, |run| run.at);
        let mut machines = Vec::new();
        for machine in targets(&row.target, parts.snapshots.machines()) {
            let judged = prune::verdicts(parts, (&row, request.id), &zone, machine.id, None).await;
            let (verdicts, trouble) = match judged {
                Ok(judged) => (judged.into_iter().map(|one| one.verdict).collect(), None),
                Err(error) => (Vec::new(), Some(error)),
            };
            let (snapshots, backups) = shown(verdicts);
            let taken = parts.snapshots.list(machine.id).await.unwrap_or_default();
            let next_name = naming(&row, &clockwork, &machine.name)
                .name(next, &zone, |name| taken.iter().any(|one| one.name == name));
            machines.push(MachinePreview {
                vm_id: machine.id,
                vm_name: machine.name,
                next_name,
                snapshots,
                backups,
                trouble,
            });
        }
        let time_zone = zone.iana_name().unwrap_or("UTC").to_owned();
        Ok(SchedulePreview { cron: row.when.cron(), time_zone, runs, machines })
    }
}

fn shown(verdicts: Vec<Verdict<KeptId>>) -> (Vec<SnapshotVerdict>, Vec<BackupVerdict>) {
    let (mut snapshots, mut backups) = (Vec::new(), Vec::new());
    for Verdict { id, name, created_at, kept, reasons } in verdicts {
        match id {
            KeptId::Snapshot(id) => snapshots.push(SnapshotVerdict { id, name, created_at, kept, reasons }),
            KeptId::Backup(id) => backups.push(BackupVerdict { id, created_at, kept, reasons }),
        }
    }
    (snapshots, backups)
}

fn row_of(request: ScheduleCreateRequest, now: Timestamp) -> ScheduleRow {
    ScheduleRow {
        id: ScheduleId::new(),
        name: request.name,
        target: request.target,
        when: request.when,
        time_zone: request.time_zone.filter(|zone| !zone.is_empty()),
        retention: request.retention,
        options: request.options,
        name_template: request.name_template.unwrap_or_else(|| DEFAULT_NAME_TEMPLATE.to_owned()),
        backup: request.backup.filter(|backup| !backup.directory.is_empty()),
        enabled: request.enabled.unwrap_or(true),
        done_until: now,
        created_at: now,
        updated_at: now,
    }
}
