-- How fast jobs of a queue go out, and how many at once. A queue without limits has no row.
-- Whoever claims of a limited queue has its row locked, and each claim changes it.
CREATE TABLE queue_limits (
    queue integer PRIMARY KEY REFERENCES queues,
    burst integer,
    max_in_flight integer,
    -- Billionths of a job a second, with the bucket as it was at a moment; see dispatch.py.
    rate bigint,
    level bigint NOT NULL,
    filled_at bigint NOT NULL,
    set_at bigint NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
