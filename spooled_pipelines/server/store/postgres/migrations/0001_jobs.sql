-- Counters are kept in the transaction that changes the jobs; nothing ever counts the jobs.
-- Times are milliseconds since the epoch. Statuses are spooled.v1.JobStatus.
-- What people write (errors, names, labels) is UTF-8 in bytea: it may hold U+0000, and text may not.

CREATE TABLE store (
    id_prefix text NOT NULL,
    -- The number of the next job. Taken in a transaction of its own, so that nobody waits for it.
    next_seq bigint NOT NULL
);

CREATE TABLE organizations (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE
);

CREATE TABLE queues (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization integer NOT NULL REFERENCES organizations,
    name text NOT NULL,
    UNIQUE (organization, name)
);

-- A queue's counters are the sum of its shards. Each connection writes to one shard only, so that
-- those who settle at the same time seldom wait for each other.
CREATE TABLE queue_counters (
    queue integer NOT NULL,
    shard smallint NOT NULL,
    pending bigint NOT NULL,
    waiting bigint NOT NULL,
    scheduled bigint NOT NULL,
    processing bigint NOT NULL,
    completed bigint NOT NULL,
    failed bigint NOT NULL,
    deadletter bigint NOT NULL,
    cancelled bigint NOT NULL,
    lease_expired_at bigint,
    PRIMARY KEY (queue, shard)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE TABLE batches (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization integer NOT NULL REFERENCES organizations,
    queue integer NOT NULL REFERENCES queues,
    sealed boolean NOT NULL DEFAULT false,
    created_at bigint NOT NULL,
    -- When it was sealed or opened again; changes of the counters are in batch_counters.
    changed_at bigint NOT NULL,
    batch_id text NOT NULL,
    name bytea NOT NULL,
    UNIQUE (organization, batch_id)
);

CREATE TABLE batch_counters (
    batch bigint NOT NULL,
    shard smallint NOT NULL,
    pending bigint NOT NULL,
    waiting bigint NOT NULL,
    scheduled bigint NOT NULL,
    processing bigint NOT NULL,
    completed bigint NOT NULL,
    failed bigint NOT NULL,
    deadletter bigint NOT NULL,
    cancelled bigint NOT NULL,
    changed_at bigint NOT NULL,
    PRIMARY KEY (batch, shard)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

-- Wide columns first, so that no row is padded; what is large comes last.
CREATE TABLE jobs (
    seq bigint PRIMARY KEY,
    batch bigint,
    -- Until then it is not claimed: scheduled, or pending and waiting for its retry.
    due_at bigint,
    lease_expires_at bigint,
    created_at bigint NOT NULL,
    scheduled_at bigint,
    started_at bigint,
    completed_at bigint,
    organization integer NOT NULL,
    queue integer NOT NULL,
    timeout_seconds integer NOT NULL,
    status smallint NOT NULL,
    priority smallint NOT NULL,
    retry_count smallint NOT NULL DEFAULT 0,
    max_retries smallint NOT NULL,
    -- Whether batch_links has it, so that a settle looks there only then.
    linked boolean NOT NULL DEFAULT false,
    worker_id text,
    lease_id text,
    last_error bytea,
    -- "h" and 16 bytes where it is 32 lower-case hex digits, else "t" and the text.
    idempotency_key bytea,
    tags bytea,
    result bytea,
    payload bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);

CREATE UNIQUE INDEX jobs_key ON jobs (organization, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_ready ON jobs (queue, priority DESC, seq) WHERE status = 1 AND due_at IS NULL;
CREATE INDEX jobs_due ON jobs (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX jobs_leased ON jobs (lease_expires_at) WHERE status = 3;
CREATE INDEX jobs_of_batch ON jobs (batch, seq) WHERE batch IS NOT NULL;

-- Jobs that are in a batch too, though another batch or a single Enqueue made them.
CREATE TABLE batch_links (
    batch bigint NOT NULL,
    job bigint NOT NULL,
    PRIMARY KEY (batch, job)
);
CREATE INDEX batch_links_of_job ON batch_links (job, batch);

-- How many dead letters of a batch ended with which error.
CREATE TABLE batch_errors (
    batch bigint NOT NULL,
    count bigint NOT NULL,
    error bytea NOT NULL,
    PRIMARY KEY (batch, error)
);
CREATE INDEX batch_errors_by_count ON batch_errors (batch, count DESC);

-- Outcomes of chunks until the batch is sealed, for those who ask again after a cut.
CREATE TABLE upload_chunks (
    batch bigint NOT NULL,
    number bigint NOT NULL,
    rows integer NOT NULL,
    upload_id bytea NOT NULL,
    -- The places of the rows that created nothing.
    duplicates integer[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (batch, upload_id, number)
);

CREATE TABLE workers (
    worker_id text PRIMARY KEY,
    organization integer NOT NULL REFERENCES organizations,
    queue integer NOT NULL REFERENCES queues,
    max_concurrency integer NOT NULL,
    current_jobs integer NOT NULL DEFAULT 0,
    registered_at bigint NOT NULL,
    seen_at bigint NOT NULL,
    hostname bytea NOT NULL,
    worker_type bytea NOT NULL,
    version bytea NOT NULL,
    status bytea NOT NULL DEFAULT 'healthy',
    metadata bytea NOT NULL
);
CREATE INDEX workers_of_queue ON workers (queue, seen_at);
