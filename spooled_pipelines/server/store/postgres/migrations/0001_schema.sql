-- The whole schema. Numbers refer to `id` or `seq` of another table. Tables that grow with the jobs
-- have no REFERENCES, which would cost a look-up and a lock for each row: the server keeps them.
--
-- Counters are kept in the transaction that changes the jobs; nothing ever counts the jobs.
-- Times are milliseconds since the epoch.
-- Statuses are those of spooled.v1.JobStatus: 1 pending, 2 scheduled, 3 processing, 4 completed,
-- 5 failed (never stored: a job that failed is pending again or a dead letter), 6 deadletter,
-- 7 cancelled.
-- What people write (errors, names, labels) is UTF-8 in bytea: it may hold U+0000, and text may not.
-- Wide columns come first, so that no row is padded; what is large comes last.

-- One row: what the store knows of itself.
CREATE TABLE store (
    id_prefix text NOT NULL,
    -- Where a new organization begins to count its jobs.
    first_place bigint NOT NULL,
    -- Which database this is. It is another one after a restore, whose numbers must not come again.
    origin text,
    -- What page tokens are made with; see page_tokens.py.
    page_key bytea NOT NULL
);

CREATE TABLE organizations (
    id integer PRIMARY KEY,
    name text NOT NULL UNIQUE
);

-- The place of an organization's next job; its number is this and the organization's, see ids.py.
-- Those of deleted organizations stay, so that their numbers do not come again.
-- Taken in a transaction of its own, so that nobody waits for it.
CREATE TABLE job_places (
    organization integer PRIMARY KEY,
    following bigint NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE TABLE queues (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization integer NOT NULL REFERENCES organizations,
    name text NOT NULL,
    -- A paused queue hands out no jobs.
    paused boolean NOT NULL DEFAULT false,
    -- The first name of a queue that was renamed, which the keys of its rows are made of.
    key_name text,
    UNIQUE (organization, name)
);

-- Names that queues had before: each goes on to mean its queue.
CREATE TABLE earlier_names (
    organization integer NOT NULL REFERENCES organizations,
    name text NOT NULL,
    queue integer NOT NULL REFERENCES queues,
    PRIMARY KEY (organization, name)
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
    expired bigint NOT NULL,
    lease_expired_at bigint,
    PRIMARY KEY (queue, shard)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- How fast jobs of a queue go out, and how many at once. A queue without limits has no row.
-- A claim of a limited queue locks its row, and changes it.
CREATE TABLE queue_limits (
    queue integer PRIMARY KEY REFERENCES queues,
    burst integer,
    max_in_flight integer,
    -- Billionths of a job a second, with the bucket as it was at a moment; see queue_limits.py.
    rate bigint,
    level bigint NOT NULL,
    filled_at bigint NOT NULL,
    -- How handlers that raised Throttled slowed it: the rate before and after, when, until when it
    -- hands out nothing.
    throttled_from bigint,
    throttled_to bigint,
    throttled_at bigint,
    held_until bigint,
    set_at bigint NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- How many jobs an organization that has a quota has made on a day (days since the epoch, UTC).
CREATE TABLE daily_jobs (
    organization integer PRIMARY KEY REFERENCES organizations,
    day integer NOT NULL,
    jobs bigint NOT NULL
);

-- A batch may begin again as a new generation: a row of its own, of which the newest is meant
-- wherever a batch is named.
CREATE TABLE batches (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization integer NOT NULL REFERENCES organizations,
    queue integer NOT NULL REFERENCES queues,
    generation integer NOT NULL DEFAULT 0,
    -- Whether a newer generation has begun.
    superseded boolean NOT NULL DEFAULT false,
    sealed boolean NOT NULL DEFAULT false,
    -- Whether it settled so long ago that nobody finds it any longer, and its jobs go in steps.
    forgotten boolean NOT NULL DEFAULT false,
    has_dead boolean NOT NULL DEFAULT false,
    created_at bigint NOT NULL,
    -- When it was sealed or opened again; changes of the counters are in batch_counters.
    changed_at bigint NOT NULL,
    -- When a table was sent again that the batch has already.
    used_at bigint NOT NULL DEFAULT 0,
    -- Noted some time after it settled, with whether it has dead letters; NULL as soon as it has
    -- anything to do again. Who sets or clears it holds the lock `settling`, unless the batch is
    -- not sealed.
    settled_at bigint,
    -- While the batch is being cancelled in steps: the number of the last job that was looked at.
    cancel_after bigint,
    -- What the limit keys of its rows are, and how many jobs of each may run at once.
    limit_by bytea,
    limit_per_key integer NOT NULL DEFAULT 0,
    -- How many jobs of it go for one of a batch with weight 1; see turns.py.
    weight integer NOT NULL DEFAULT 1,
    -- Whether an upload has ended, and others hold the seal back.
    seal_asked boolean NOT NULL DEFAULT false,
    batch_id text NOT NULL,
    name bytea NOT NULL,
    -- Who made it, as its sender said.
    made_by bytea NOT NULL,
    UNIQUE (organization, batch_id, generation)
);
CREATE UNIQUE INDEX batches_newest ON batches (organization, batch_id) WHERE NOT superseded;
CREATE INDEX batches_open ON batches (queue, created_at) WHERE settled_at IS NULL AND NOT forgotten;
CREATE INDEX batches_settled ON batches (has_dead, settled_at)
    WHERE settled_at IS NOT NULL AND NOT forgotten;
CREATE INDEX batches_forgotten ON batches (id) WHERE forgotten;
CREATE INDEX batches_seal_asked ON batches (id) WHERE seal_asked;
CREATE INDEX batches_cancelled ON batches (id) WHERE cancel_after IS NOT NULL;
CREATE INDEX batches_listed ON batches (organization, id) WHERE NOT superseded AND NOT forgotten;
CREATE INDEX batches_listed_of_queue ON batches (queue, id) WHERE NOT superseded AND NOT forgotten;

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
    expired bigint NOT NULL,
    -- Rows that came again with another payload than their job had, and those whose payload it got.
    changed bigint NOT NULL DEFAULT 0,
    replaced bigint NOT NULL DEFAULT 0,
    changed_at bigint NOT NULL,
    PRIMARY KEY (batch, shard)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

CREATE TABLE jobs (
    seq bigint PRIMARY KEY,
    -- The batch that made it, or that it was handed over to.
    batch bigint,
    -- Until then it is not claimed: scheduled, or pending and waiting for its retry.
    due_at bigint,
    -- Claims of one priority go by this, then by age; see turns.py.
    round bigint NOT NULL DEFAULT 0,
    -- With what it takes turns in place of its batch, a number below 0.
    fair_key bigint,
    -- Of which so many may run at once, see key_limits: a number below 0. Until it is let out, such a
    -- job is pending and due at 2 ^ 62; from when it runs, its place is its own.
    limit_key bigint,
    lease_expires_at bigint,
    created_at bigint NOT NULL,
    -- It is not begun after this.
    expires_at bigint,
    scheduled_at bigint,
    started_at bigint,
    completed_at bigint,
    -- Which of its batch's schemas its payload has; NULL: it came without one.
    schema_id bigint,
    -- The next five are what indexes go by in place of the status. They are NULL of a job that runs
    -- and that completed, so that what settles or strips a job changes nothing that is indexed: it
    -- needs no entries in indexes, and takes the room of the version before (HOT).
    starts_by bigint GENERATED ALWAYS AS
        (CASE WHEN status IN (1, 2) THEN expires_at END) STORED,
    -- While it has a place of its limit key, and while it may run yet.
    placed_key bigint GENERATED ALWAYS AS
        (CASE WHEN status = 3 OR status = 1 AND due_at IS NULL THEN limit_key END) STORED,
    running_key bigint GENERATED ALWAYS AS
        (CASE WHEN status <> 4 AND NOT pruned THEN limit_key END) STORED,
    -- Since when it can be forgotten: in no batch, and stripped or dead.
    alone_since bigint GENERATED ALWAYS AS
        (CASE WHEN (pruned OR status = 6) AND batch IS NULL AND NOT linked THEN completed_at END)
        STORED,
    organization integer NOT NULL,
    queue integer NOT NULL,
    timeout_seconds integer NOT NULL,
    -- 1 claimable, 2 waits for its retry or is held, 6 dead.
    phase smallint GENERATED ALWAYS AS (
        CASE WHEN status = 1 THEN CASE WHEN due_at IS NULL THEN 1 ELSE 2 END
            WHEN status = 6 THEN 6 END
    ) STORED,
    status smallint NOT NULL,
    priority smallint NOT NULL,
    retry_count smallint NOT NULL DEFAULT 0,
    max_retries smallint NOT NULL,
    -- How often it was handed out and begun since it was last put back; and where it may have killed
    -- its worker, how many such jobs may run together, by themselves.
    deliveries smallint NOT NULL DEFAULT 0,
    run_alone smallint NOT NULL DEFAULT 0,
    -- Whether batch_links has it, so that a settle looks there only then.
    linked boolean NOT NULL DEFAULT false,
    -- Whether payload, result and tags were taken away after the job settled.
    pruned boolean NOT NULL DEFAULT false,
    worker_id text,
    lease_id text,
    -- How long it waits before each retry, where it says so; see retry_backoff.py.
    retry_backoff text,
    last_error bytea,
    -- "h" and 16 bytes where it is 32 lower-case hex digits, else "t" and the text.
    idempotency_key bytea,
    -- A hash of the payload that was taken away.
    payload_digest bytea,
    tags bytea,
    result bytea,
    payload bytea NOT NULL
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.05);
CREATE UNIQUE INDEX jobs_key ON jobs (organization, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_ready ON jobs (queue, priority DESC, round, seq) WHERE phase = 1;
CREATE INDEX jobs_held ON jobs (queue, limit_key, priority DESC, round, seq)
    WHERE phase = 2 AND due_at = 4611686018427387904;
CREATE INDEX jobs_placed ON jobs (queue, placed_key) WHERE placed_key IS NOT NULL;
CREATE INDEX jobs_limited ON jobs (queue, running_key) WHERE running_key IS NOT NULL;
CREATE INDEX jobs_retrying ON jobs (queue, seq) WHERE phase = 2;
CREATE INDEX jobs_retrying_of_batch ON jobs (batch, due_at) WHERE phase = 2 AND batch IS NOT NULL;
CREATE INDEX jobs_expiring ON jobs (starts_by) WHERE starts_by IS NOT NULL;
CREATE INDEX jobs_due ON jobs (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX jobs_dead ON jobs (queue, seq) WHERE phase = 6;
CREATE INDEX jobs_of_batch ON jobs (batch, seq) WHERE batch IS NOT NULL;
CREATE INDEX jobs_alone ON jobs (phase, alone_since) WHERE alone_since IS NOT NULL;

-- When leases end that one transaction gave or renewed, and of which jobs. A row is there at least
-- as long as one of the jobs is leased until then; what settles a job does not look for it.
CREATE TABLE leases (
    id bigint GENERATED ALWAYS AS IDENTITY,
    ends_at bigint NOT NULL,
    worker_id text NOT NULL,
    jobs bigint[] NOT NULL,
    PRIMARY KEY (ends_at, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 10000);

-- Jobs that completed or were cancelled in one transaction, to be stripped when that is long ago.
CREATE TABLE settlements (
    id bigint GENERATED ALWAYS AS IDENTITY,
    settled_at bigint NOT NULL,
    jobs bigint[] NOT NULL,
    PRIMARY KEY (settled_at, id)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

-- How far those are that take turns within a queue and a priority: batches by their numbers, keys
-- below 0, and as 0 the jobs without either; what was due later or was retried beside what was claimable at once. The
-- next job's place is `following`, in parts of a round; `taken` is how much was taken last.
CREATE TABLE turns (
    participant bigint NOT NULL,
    following bigint NOT NULL,
    taken bigint NOT NULL,
    queue integer NOT NULL,
    priority smallint NOT NULL,
    released boolean NOT NULL,
    PRIMARY KEY (participant, queue, priority, released)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

-- The highest round of which a job was claimed: a participant that comes now begins there. In
-- shards, as the counters are.
CREATE TABLE rounds_served (
    round bigint NOT NULL,
    queue integer NOT NULL,
    priority smallint NOT NULL,
    shard smallint NOT NULL,
    PRIMARY KEY (queue, priority, shard)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- How many jobs with a limit key may run at once within a queue. Who lets jobs out holds the row.
CREATE TABLE key_limits (
    queue integer NOT NULL,
    key bigint NOT NULL,
    most integer NOT NULL,
    PRIMARY KEY (queue, key)
);

-- Deliveries that ended otherwise than completed: 2 failed, 3 given back, 4 lost, 5 its process
-- died. The one that runs or completed is the job's own.
CREATE TABLE attempts (
    job bigint NOT NULL,
    started_at bigint NOT NULL,
    ended_at bigint NOT NULL,
    number integer NOT NULL,
    exit_code integer,
    ending smallint NOT NULL,
    worker_id text,
    error bytea,
    PRIMARY KEY (job, number)
);

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

-- A batch may be sent in parts, by many senders: which have begun, and which are in.
CREATE TABLE batch_parts (
    batch bigint NOT NULL REFERENCES batches,
    rows bigint NOT NULL DEFAULT 0,
    finished boolean NOT NULL DEFAULT false,
    part_id bytea NOT NULL,
    PRIMARY KEY (batch, part_id)
);

-- The Arrow schemas of a batch's payloads, by a hash that names them, and that of its results, as 0.
-- Without a reference: a batch that gets a job handed over must not wait for it.
CREATE TABLE batch_schemas (
    batch bigint NOT NULL,
    schema_id bigint NOT NULL,
    schema bytea NOT NULL,
    PRIMARY KEY (batch, schema_id)
);

-- Outcomes of chunks until the batch is sealed, for those who ask again after a cut.
CREATE TABLE upload_chunks (
    batch bigint NOT NULL,
    number bigint NOT NULL,
    rows integer NOT NULL,
    upload_id bytea NOT NULL,
    -- The places of the rows that created nothing.
    duplicates integer[] NOT NULL DEFAULT '{}',
    -- Those of them with another payload than their job had, and those whose payload it got.
    changed integer[] NOT NULL DEFAULT '{}',
    replaced integer[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (batch, upload_id, number)
);

-- Uploads that are not finished, and hold the seal back.
CREATE TABLE uploads (
    batch bigint NOT NULL REFERENCES batches,
    seen_at bigint NOT NULL,
    part_id bytea NOT NULL,
    -- The same for the same rows: no matter who sends them, and how often, it is one upload.
    rows_id bytea NOT NULL,
    PRIMARY KEY (batch, part_id, rows_id)
);

-- Calls that may come twice, since their answers can be lost: how far each is, as JSON.
CREATE TABLE requests (
    organization integer NOT NULL REFERENCES organizations,
    at bigint NOT NULL,
    request_id text NOT NULL,
    progress text NOT NULL,
    PRIMARY KEY (organization, request_id)
);
CREATE INDEX requests_by_age ON requests (at);

CREATE TABLE workers (
    organization integer NOT NULL REFERENCES organizations,
    worker_id text NOT NULL,
    queue integer NOT NULL REFERENCES queues,
    max_concurrency integer NOT NULL,
    current_jobs integer NOT NULL DEFAULT 0,
    registered_at bigint NOT NULL,
    seen_at bigint NOT NULL,
    hostname bytea NOT NULL,
    worker_type bytea NOT NULL,
    version bytea NOT NULL,
    status bytea NOT NULL DEFAULT 'healthy',
    metadata bytea NOT NULL,
    PRIMARY KEY (organization, worker_id)
);
CREATE INDEX workers_of_queue ON workers (queue, seen_at);
CREATE INDEX workers_listed ON workers (organization, seen_at);

-- API keys, of which only the sha256 is kept. They stay when they end, to be listed.
CREATE TABLE keys (
    key_id text PRIMARY KEY,
    organization integer NOT NULL REFERENCES organizations,
    created_at bigint NOT NULL,
    expires_at bigint,
    revoked_at bigint,
    -- Noted once in ten minutes.
    last_used_at bigint,
    -- The id of the key that made it, or "local".
    created_by text NOT NULL,
    role text NOT NULL,
    -- Names of queues with commas between them; empty means all.
    queues text NOT NULL,
    name bytea NOT NULL,
    digest bytea NOT NULL UNIQUE
);
CREATE INDEX keys_by_age ON keys (created_at, key_id);
CREATE INDEX keys_of_organization ON keys (organization, created_at, key_id);

-- Who did what with which key, and which keys were refused. Names are those of then.
CREATE TABLE audit (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at bigint NOT NULL,
    times bigint NOT NULL,
    -- 0 of an admin, 1 of another key, 2 refused; each has its own room.
    kind smallint NOT NULL,
    organization text NOT NULL,
    key_id text NOT NULL,
    key_name text NOT NULL,
    peer text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    outcome text NOT NULL
);
CREATE INDEX audit_of_organization ON audit (organization, seq);
CREATE INDEX audit_by_kind ON audit (kind, seq);
