-- Machine snapshots. The row is the snapshot: it is written last, when all of it is on the disk, and removed first.

CREATE TABLE snapshots (
    id          TEXT NOT NULL PRIMARY KEY,    -- UUID version 7: sorts by time
    vm_id       TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE,
    name        TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    tags        TEXT NOT NULL DEFAULT '[]',   -- JSON array
    reason      TEXT NOT NULL,
    schedule_id TEXT,                         -- whose retention may remove it
    keep        INTEGER NOT NULL DEFAULT 0,   -- retention leaves it alone
    parent      TEXT,                         -- the snapshot it came after
    current     INTEGER NOT NULL DEFAULT 0,   -- the present came after it; at most one of a machine
    created_at  TEXT NOT NULL,
    memory      INTEGER NOT NULL DEFAULT 0,
    consistency TEXT NOT NULL,
    pause_ms    REAL,
    total_ms    INTEGER NOT NULL,
    spec        TEXT NOT NULL,                -- MachineSpec as JSON
    layers      TEXT NOT NULL,                -- JSON: device id -> name of the file in the machine's directory
    UNIQUE (vm_id, name)
) STRICT;

CREATE INDEX snapshots_by_vm ON snapshots (vm_id, id);
CREATE UNIQUE INDEX snapshots_current ON snapshots (vm_id) WHERE current = 1;
