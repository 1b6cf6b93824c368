-- Jobs that completed or were cancelled long ago lose what is large, and later their rows.
ALTER TABLE jobs ADD COLUMN pruned boolean NOT NULL DEFAULT false;
CREATE INDEX jobs_settled ON jobs (completed_at) WHERE status IN (4, 7) AND NOT pruned;
CREATE INDEX jobs_pruned ON jobs (completed_at) WHERE pruned AND batch IS NULL AND NOT linked;
