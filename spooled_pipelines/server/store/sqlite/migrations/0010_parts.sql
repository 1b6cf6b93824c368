-- A batch may be sent in parts, by many: which have begun, and which are in.
CREATE TABLE batch_parts (
    batch INTEGER NOT NULL REFERENCES batches,
    part_id TEXT NOT NULL,
    finished INTEGER NOT NULL DEFAULT 0,
    rows INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (batch, part_id)
) WITHOUT ROWID;
