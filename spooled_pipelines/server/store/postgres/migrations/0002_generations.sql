-- A batch may begin again as a new generation: a row of its own, of which the newest is meant
-- wherever a batch is named.
ALTER TABLE batches
    ADD COLUMN generation integer NOT NULL DEFAULT 0,
    ADD COLUMN superseded boolean NOT NULL DEFAULT false,
    DROP CONSTRAINT batches_organization_batch_id_key,
    ADD UNIQUE (organization, batch_id, generation);
CREATE UNIQUE INDEX batches_newest ON batches (organization, batch_id) WHERE NOT superseded;

-- Attempts that failed. The one that runs or completed is the job's own.
CREATE TABLE attempts (
    job bigint NOT NULL,
    started_at bigint NOT NULL,
    ended_at bigint NOT NULL,
    number integer NOT NULL,
    worker_id text,
    error bytea NOT NULL,
    PRIMARY KEY (job, number)
);
