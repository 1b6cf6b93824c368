-- A batch that settled long ago is forgotten: nobody finds it any more, and its jobs go in steps.
ALTER TABLE batches
    ADD COLUMN forgotten boolean NOT NULL DEFAULT false,
    -- When a table was sent again that the batch has already.
    ADD COLUMN used_at bigint NOT NULL DEFAULT 0,
    -- Noted some time after it settled, with whether it has dead letters; NULL as soon as it has
    -- anything to do again. Whoever sets or clears it holds the lock `settling`, unless the batch
    -- is not sealed.
    ADD COLUMN settled_at bigint,
    ADD COLUMN has_dead boolean NOT NULL DEFAULT false;
CREATE INDEX batches_open ON batches (queue, created_at) WHERE settled_at IS NULL AND NOT forgotten;
CREATE INDEX batches_settled ON batches (has_dead, settled_at)
    WHERE settled_at IS NOT NULL AND NOT forgotten;
CREATE INDEX batches_forgotten ON batches (id) WHERE forgotten;

CREATE INDEX jobs_dead_alone ON jobs (completed_at)
    WHERE status = 6 AND batch IS NULL AND NOT linked;
