-- The first schema: machines, what was done to them, what the user set, and intents not yet finished.
--
-- Conventions, for every migration: forward only and additive. Identifiers are lower-case UUIDs with hyphens. Times are
-- RFC 3339 in UTC with nine decimals, so that text order is time order and nothing is lost. Names of states, kinds and
-- codes are the wire's; they are checked where they are read, not here, because those sets grow.

CREATE TABLE vms (
    id          TEXT NOT NULL PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,          -- exact: "a" and "A" are two machines
    description TEXT NOT NULL DEFAULT '',
    os_type     TEXT,
    spec        TEXT NOT NULL,                 -- MachineSpec as JSON, versioned in itself
    state       TEXT NOT NULL,                 -- the last one known; a live one is asked for, never read from here
    state_since TEXT NOT NULL,
    attention   TEXT,                          -- ErrorBody as JSON
    created_at  TEXT NOT NULL,
    updated_at  TEXT NOT NULL
) STRICT;

-- The operation log. No foreign key: an operation outlives its machine.
CREATE TABLE operations (
    id             TEXT NOT NULL PRIMARY KEY,  -- UUID version 7: sorts by time
    kind           TEXT NOT NULL,
    vm_id          TEXT NOT NULL,
    vm_name        TEXT NOT NULL,              -- at that time
    status         TEXT NOT NULL,
    origin         TEXT NOT NULL,
    requested_at   TEXT NOT NULL,
    started_at     TEXT,
    finished_at    TEXT,
    duration_ms    INTEGER,
    progress_done  INTEGER,
    progress_total INTEGER,
    cancellable    INTEGER NOT NULL DEFAULT 0,
    error          TEXT,                       -- ErrorBody as JSON
    stderr         TEXT
) STRICT;

CREATE INDEX operations_by_vm ON operations (vm_id, id);
CREATE INDEX operations_unfinished ON operations (id) WHERE status IN ('queued', 'running');

CREATE TABLE settings (
    key   TEXT NOT NULL PRIMARY KEY,           -- as in the Settings type's wire form
    value TEXT NOT NULL                        -- JSON
) STRICT;

-- What is about to be done to files. A row that is still here at start-up was cut in the middle.
CREATE TABLE journal (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    operation_id TEXT NOT NULL,
    vm_id        TEXT NOT NULL,
    action       TEXT NOT NULL,
    files        TEXT NOT NULL,                -- JSON array of absolute paths
    begun_at     TEXT NOT NULL
) STRICT;
