-- Jobs that completed or were cancelled long ago lose what is large, and later their rows.
ALTER TABLE jobs ADD COLUMN pruned INTEGER NOT NULL DEFAULT 0;
CREATE INDEX jobs_settled ON jobs (completed_at) WHERE status IN (4, 7) AND pruned = 0;
CREATE INDEX jobs_pruned ON jobs (completed_at) WHERE pruned = 1 AND batch IS NULL AND linked = 0;
