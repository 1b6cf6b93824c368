-- A batch may be sent in parts, by many: which have begun, and which are in.
CREATE TABLE batch_parts (
    batch bigint NOT NULL REFERENCES batches,
    rows bigint NOT NULL DEFAULT 0,
    finished boolean NOT NULL DEFAULT false,
    part_id bytea NOT NULL,
    PRIMARY KEY (batch, part_id)
);
