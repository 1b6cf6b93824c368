-- A batch may begin again as a new generation: a row of its own, of which the newest is meant
-- wherever a batch is named.
CREATE TABLE batches_of_generations (
    id INTEGER PRIMARY KEY,
    organization INTEGER NOT NULL REFERENCES organizations,
    batch_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    superseded INTEGER NOT NULL DEFAULT 0,
    queue INTEGER NOT NULL REFERENCES queues,
    name TEXT NOT NULL,
    sealed INTEGER NOT NULL DEFAULT 0,
    pending INTEGER NOT NULL DEFAULT 0,
    waiting INTEGER NOT NULL DEFAULT 0,
    scheduled INTEGER NOT NULL DEFAULT 0,
    processing INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    deadletter INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    UNIQUE (organization, batch_id, generation)
);
INSERT INTO batches_of_generations (id, organization, batch_id, generation, queue, name, sealed,
    pending, waiting, scheduled, processing, completed, failed, deadletter, cancelled, created_at,
    changed_at)
SELECT id, organization, batch_id, 0, queue, name, sealed, pending, waiting, scheduled, processing,
    completed, failed, deadletter, cancelled, created_at, changed_at
FROM batches;
DROP TABLE batches;
ALTER TABLE batches_of_generations RENAME TO batches;
CREATE UNIQUE INDEX batches_newest ON batches (organization, batch_id) WHERE superseded = 0;

-- Attempts that failed. The one that runs or completed is the job's own.
CREATE TABLE attempts (
    job INTEGER NOT NULL REFERENCES jobs,
    number INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER NOT NULL,
    worker_id TEXT,
    error TEXT NOT NULL,
    PRIMARY KEY (job, number)
) WITHOUT ROWID;
