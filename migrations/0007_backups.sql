-- What the next backup of a machine in a repository stands on: layers that show what the last one holds.

CREATE TABLE backup_marks (
    vm_id      TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE,
    repository TEXT NOT NULL,                 -- its own id, wherever its directory is
    backup     TEXT NOT NULL,                 -- the backup
    layers     TEXT NOT NULL,                 -- JSON: device id -> the layer, and how it looked
    made_at    TEXT NOT NULL,
    PRIMARY KEY (vm_id, repository)
) STRICT;

-- ScheduledBackup as JSON; none: the schedule takes snapshots.
ALTER TABLE schedules ADD COLUMN backup TEXT;
