-- A paused queue hands out no jobs.
ALTER TABLE queues ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;

CREATE INDEX jobs_dead ON jobs (queue, seq) WHERE status = 6;
CREATE INDEX jobs_retrying ON jobs (queue, seq) WHERE status = 1 AND due_at IS NOT NULL;
