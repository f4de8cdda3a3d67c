-- Schedules, and what each of their runs did.

CREATE TABLE schedules (
    id            TEXT NOT NULL PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    target        TEXT NOT NULL,              -- ScheduleTarget as JSON
    recurrence    TEXT NOT NULL,              -- Recurrence as JSON
    time_zone     TEXT,                       -- IANA name; the computer's without
    retention     TEXT NOT NULL,              -- Retention as JSON
    options       TEXT NOT NULL,              -- ScheduleOptions as JSON
    name_template TEXT NOT NULL,
    enabled       INTEGER NOT NULL,
    done_until    TEXT NOT NULL,              -- up to this instant its runs are dealt with
    created_at    TEXT NOT NULL,
    updated_at    TEXT NOT NULL
) STRICT;

-- A row that says `running` at start-up was cut in the middle.
CREATE TABLE schedule_runs (
    id           TEXT NOT NULL PRIMARY KEY,   -- UUID version 7: sorts by time
    schedule_id  TEXT NOT NULL REFERENCES schedules (id) ON DELETE CASCADE,
    due_at       TEXT NOT NULL,
    started_at   TEXT NOT NULL,
    ended_at     TEXT,
    outcome      TEXT NOT NULL,
    caught_up    INTEGER NOT NULL,            -- makes up for runs that were missed
    by_hand      INTEGER NOT NULL,
    missed       INTEGER NOT NULL,            -- so many before it were missed and not made up for
    skipped      TEXT,                        -- why it was left out
    machines     TEXT NOT NULL,               -- JSON array of MachineRun: snapshots taken and removed
    error        TEXT,                        -- ErrorBody as JSON
    operation_id TEXT
) STRICT;

CREATE INDEX schedule_runs_by_schedule ON schedule_runs (schedule_id, id);
CREATE INDEX schedule_runs_unfinished ON schedule_runs (id) WHERE outcome = 'running';
