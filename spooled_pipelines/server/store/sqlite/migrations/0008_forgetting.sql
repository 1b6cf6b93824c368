-- A batch that settled long ago is forgotten: nobody finds it any more, and its jobs go in steps.
ALTER TABLE batches ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0;
-- When a table was sent again that the batch has already.
ALTER TABLE batches ADD COLUMN used_at INTEGER NOT NULL DEFAULT 0;

CREATE INDEX batches_open ON batches (queue, created_at)
    WHERE forgotten = 0
        AND ((sealed = 0 AND superseded = 0) OR pending + scheduled + processing > 0);
CREATE INDEX batches_settled ON batches (deadletter > 0, max(changed_at, used_at))
    WHERE forgotten = 0 AND (sealed = 1 OR superseded = 1)
        AND pending + scheduled + processing = 0;
CREATE INDEX batches_forgotten ON batches (id) WHERE forgotten = 1;

CREATE INDEX jobs_dead_alone ON jobs (completed_at)
    WHERE status = 6 AND batch IS NULL AND linked = 0;
