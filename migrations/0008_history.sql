-- What was measured, packed: each row is a block of one subject's values (crates/series says how).

CREATE TABLE history (
    subject TEXT    NOT NULL,                 -- a machine's id, or `host`
    step    INTEGER NOT NULL,                 -- seconds of a slot
    start   INTEGER NOT NULL,                 -- first second of the block, since 1970
    data    BLOB    NOT NULL,
    PRIMARY KEY (subject, step, start)
) STRICT, WITHOUT ROWID;
