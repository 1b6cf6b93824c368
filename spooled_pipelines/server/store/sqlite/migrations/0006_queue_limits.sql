-- How fast jobs of a queue go out, and how many at once. A queue without limits has no row.
CREATE TABLE queue_limits (
    queue INTEGER PRIMARY KEY REFERENCES queues,
    -- Billionths of a job a second, with the bucket as it was at a moment; see dispatch.py.
    rate INTEGER,
    burst INTEGER,
    level INTEGER NOT NULL,
    filled_at INTEGER NOT NULL,
    max_in_flight INTEGER,
    set_at INTEGER NOT NULL
);
