-- Counters are kept in the transaction that changes the jobs; nothing ever counts the jobs.
-- Times are milliseconds since the epoch. Statuses are spooled.v1.JobStatus.

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;

CREATE TABLE organizations (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE queues (
    id INTEGER PRIMARY KEY,
    organization INTEGER NOT NULL REFERENCES organizations,
    name TEXT NOT NULL,
    pending INTEGER NOT NULL DEFAULT 0,
    waiting INTEGER NOT NULL DEFAULT 0,
    scheduled INTEGER NOT NULL DEFAULT 0,
    processing INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    deadletter INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    lease_expired_at INTEGER,
    UNIQUE (organization, name)
);

CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    organization INTEGER NOT NULL REFERENCES organizations,
    batch_id TEXT NOT NULL,
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
    UNIQUE (organization, batch_id)
);

-- What changes often comes first, what is large comes last.
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY,
    organization INTEGER NOT NULL,
    queue INTEGER NOT NULL,
    status INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    -- Until then it is not claimed: scheduled, or pending and waiting for its retry.
    due_at INTEGER,
    lease_expires_at INTEGER,
    batch INTEGER,
    -- Whether batch_links has it, so that a settle looks there only then.
    linked INTEGER NOT NULL DEFAULT 0,
    retry_count INTEGER NOT NULL DEFAULT 0,
    max_retries INTEGER NOT NULL,
    timeout_seconds INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    scheduled_at INTEGER,
    started_at INTEGER,
    completed_at INTEGER,
    worker_id TEXT,
    lease_id TEXT,
    last_error TEXT,
    -- 32 lower-case hex digits are kept as 16 bytes, anything else as text.
    idempotency_key,
    tags BLOB,
    result BLOB,
    payload BLOB NOT NULL
);

CREATE UNIQUE INDEX jobs_key ON jobs (organization, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_ready ON jobs (queue, priority DESC, seq) WHERE status = 1 AND due_at IS NULL;
CREATE INDEX jobs_due ON jobs (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX jobs_leased ON jobs (lease_expires_at) WHERE status = 3;
CREATE INDEX jobs_of_batch ON jobs (batch, seq) WHERE batch IS NOT NULL;

-- Jobs that are in a batch too, though another batch or a single Enqueue made them.
CREATE TABLE batch_links (
    batch INTEGER NOT NULL REFERENCES batches,
    job INTEGER NOT NULL REFERENCES jobs,
    PRIMARY KEY (batch, job)
) WITHOUT ROWID;
CREATE INDEX batch_links_of_job ON batch_links (job, batch);

-- How many dead letters of a batch ended with which error.
CREATE TABLE batch_errors (
    batch INTEGER NOT NULL REFERENCES batches,
    error TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (batch, error)
) WITHOUT ROWID;
CREATE INDEX batch_errors_by_count ON batch_errors (batch, count DESC);

-- Outcomes of chunks until the batch is sealed, for those who ask again after a cut.
CREATE TABLE upload_chunks (
    batch INTEGER NOT NULL REFERENCES batches,
    upload_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    -- The places of the rows that created nothing, as little-endian 32-bit integers.
    duplicates BLOB NOT NULL,
    PRIMARY KEY (batch, upload_id, number)
) WITHOUT ROWID;

CREATE TABLE workers (
    worker_id TEXT PRIMARY KEY,
    organization INTEGER NOT NULL REFERENCES organizations,
    queue INTEGER NOT NULL REFERENCES queues,
    hostname TEXT NOT NULL,
    worker_type TEXT NOT NULL,
    max_concurrency INTEGER NOT NULL,
    version TEXT NOT NULL,
    metadata TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'healthy',
    current_jobs INTEGER NOT NULL DEFAULT 0,
    registered_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX workers_of_queue ON workers (queue, seen_at);
