-- Images, pools, what a machine is sorted by; operations and intents that are not about a machine.

ALTER TABLE vms ADD COLUMN meta TEXT NOT NULL DEFAULT '{}';  -- VmMeta as JSON
ALTER TABLE vms ADD COLUMN parent TEXT;                       -- the machine a linked clone was made of

CREATE TABLE images (
    id           TEXT NOT NULL PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    description  TEXT NOT NULL DEFAULT '',
    kind         TEXT NOT NULL,
    path         TEXT NOT NULL UNIQUE,
    owned        INTEGER NOT NULL,             -- 1: the library's own file, goes with the row
    size         INTEGER NOT NULL,             -- bytes of the file when it was looked at
    modified_ns  INTEGER NOT NULL,             -- its time then: another one says the file was changed
    virtual_size INTEGER NOT NULL,
    sha256       TEXT,
    verified     TEXT NOT NULL DEFAULT 'none', -- how a download was checked
    os           TEXT,                         -- GuestOs as JSON
    cloud_init   INTEGER NOT NULL DEFAULT 0,
    source       TEXT,
    created_at   TEXT NOT NULL
) STRICT;

CREATE TABLE pools (
    id         TEXT NOT NULL PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    path       TEXT NOT NULL UNIQUE,
    floor      INTEGER NOT NULL,               -- bytes that stay free
    created_at TEXT NOT NULL
) STRICT;

-- A table cannot lose NOT NULL: both are written anew, row by row.
CREATE TABLE operations_new (
    id             TEXT NOT NULL PRIMARY KEY,  -- UUID version 7: sorts by time
    kind           TEXT NOT NULL,
    vm_id          TEXT,
    image_id       TEXT,
    pool_id        TEXT,
    subject        TEXT NOT NULL,              -- its name at that time
    status         TEXT NOT NULL,
    origin         TEXT NOT NULL,
    requested_at   TEXT NOT NULL,
    started_at     TEXT,
    finished_at    TEXT,
    duration_ms    INTEGER,
    progress_done  INTEGER,
    progress_total INTEGER,
    cancellable    INTEGER NOT NULL DEFAULT 0,
    result         TEXT,                       -- OperationResult as JSON
    error          TEXT,                       -- ErrorBody as JSON
    stderr         TEXT
) STRICT;

INSERT INTO operations_new
SELECT id, kind, vm_id, NULL, NULL, vm_name, status, origin, requested_at, started_at, finished_at, duration_ms,
       progress_done, progress_total, cancellable, NULL, error, stderr
FROM operations;
DROP TABLE operations;
ALTER TABLE operations_new RENAME TO operations;
CREATE INDEX operations_by_vm ON operations (vm_id, id);
CREATE INDEX operations_unfinished ON operations (id) WHERE status IN ('queued', 'running');

CREATE TABLE journal_new (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    operation_id TEXT NOT NULL,
    vm_id        TEXT,
    action       TEXT NOT NULL,
    files        TEXT NOT NULL,                -- JSON array of absolute paths
    begun_at     TEXT NOT NULL
) STRICT;

INSERT INTO journal_new SELECT id, operation_id, vm_id, action, files, begun_at FROM journal;
DROP TABLE journal;
ALTER TABLE journal_new RENAME TO journal;
