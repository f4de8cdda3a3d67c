-- Snapshots of groups of machines at one instant. Each machine's part is a row of `snapshots`; all of them are written, and
-- removed, in one step with the group's own.

CREATE TABLE group_snapshots (
    id          TEXT NOT NULL PRIMARY KEY,    -- UUID version 7: sorts by time
    group_name  TEXT NOT NULL,                -- as it was called then
    name        TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    reason      TEXT NOT NULL,
    schedule_id TEXT,                         -- whose retention may remove it
    created_at  TEXT NOT NULL,
    spread_ms   REAL,                         -- from the first guest held to the last
    total_ms    INTEGER NOT NULL,
    members     TEXT NOT NULL,                -- JSON array: id and name of each machine, of which some may be gone since
    UNIQUE (group_name, name)
) STRICT;

ALTER TABLE snapshots ADD COLUMN group_snapshot TEXT REFERENCES group_snapshots (id);
CREATE INDEX snapshots_by_group ON snapshots (group_snapshot) WHERE group_snapshot IS NOT NULL;

-- With the last of its machines it is gone.
CREATE TRIGGER group_snapshots_end AFTER DELETE ON snapshots
WHEN OLD.group_snapshot IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM snapshots WHERE group_snapshot = OLD.group_snapshot)
BEGIN
    DELETE FROM group_snapshots WHERE id = OLD.group_snapshot;
END;

-- A machine made of a snapshot to be thrown away: it is removed when it stops.
ALTER TABLE vms ADD COLUMN passing INTEGER NOT NULL DEFAULT 0;
