-- The whole schema. Numbers refer to `id` or `seq` of another table; REFERENCES says to which, for
-- readers and for `spooled-pipelines check`: SQLite does not enforce it, since the server does.
--
-- Counters are kept in the transaction that changes the jobs; nothing ever counts the jobs.
-- Times are milliseconds since the epoch.
-- Statuses are those of spooled.v1.JobStatus: 1 pending, 2 scheduled, 3 processing, 4 completed,
-- 5 failed (never stored: a job that failed is pending again or a dead letter), 6 deadletter,
-- 7 cancelled.

-- What the store knows of itself: id_prefix, first_place, last_batch, page_key (see page_tokens.py),
-- compatible_from, and in opened_by the token of its last owner.
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;

CREATE TABLE organizations (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

-- The place of an organization's next job; its number is this and the organization's, see ids.py.
-- Those of deleted organizations stay, so that their numbers do not come again.
CREATE TABLE job_places (
    organization INTEGER PRIMARY KEY,
    following INTEGER NOT NULL
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
    expired INTEGER NOT NULL DEFAULT 0,
    lease_expired_at INTEGER,
    -- A paused queue hands out no jobs.
    paused INTEGER NOT NULL DEFAULT 0,
    -- The first name of a queue that was renamed, which the keys of its rows are made of.
    key_name TEXT,
    UNIQUE (organization, name)
);

-- Names that queues had before: each goes on to mean its queue.
CREATE TABLE earlier_names (
    organization INTEGER NOT NULL REFERENCES organizations,
    name TEXT NOT NULL,
    queue INTEGER NOT NULL REFERENCES queues,
    PRIMARY KEY (organization, name)
) WITHOUT ROWID;

-- How fast jobs of a queue go out, and how many at once. A queue without limits has no row.
CREATE TABLE queue_limits (
    queue INTEGER PRIMARY KEY REFERENCES queues,
    -- Billionths of a job a second, with the bucket as it was at a moment; see queue_limits.py.
    rate INTEGER,
    burst INTEGER,
    level INTEGER NOT NULL,
    filled_at INTEGER NOT NULL,
    max_in_flight INTEGER,
    -- How handlers that raised Throttled slowed it: the rate before and after, when, until when it
    -- hands out nothing.
    throttled_from INTEGER,
    throttled_to INTEGER,
    throttled_at INTEGER,
    held_until INTEGER,
    set_at INTEGER NOT NULL
);

-- How many jobs an organization that has a quota has made on a day (days since the epoch, UTC).
CREATE TABLE daily_jobs (
    organization INTEGER PRIMARY KEY REFERENCES organizations,
    day INTEGER NOT NULL,
    jobs INTEGER NOT NULL
);

-- A batch may begin again as a new generation: a row of its own, of which the newest is meant
-- wherever a batch is named.
CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    organization INTEGER NOT NULL REFERENCES organizations,
    batch_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    -- Whether a newer generation has begun.
    superseded INTEGER NOT NULL DEFAULT 0,
    queue INTEGER NOT NULL REFERENCES queues,
    name TEXT NOT NULL,
    -- Who made it, as its sender said.
    made_by TEXT NOT NULL,
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
    -- Whether it settled so long ago that nobody finds it any longer, and its jobs go in steps.
    forgotten INTEGER NOT NULL DEFAULT 0,
    -- When a table was sent again that the batch has already.
    used_at INTEGER NOT NULL DEFAULT 0,
    -- While the batch is being cancelled in steps: the number of the last job that was looked at.
    cancel_after INTEGER,
    -- Rows that came again with another payload than their job had, and those whose payload it got.
    changed INTEGER NOT NULL DEFAULT 0,
    expired INTEGER NOT NULL DEFAULT 0,
    replaced INTEGER NOT NULL DEFAULT 0,
    -- Whether an upload has ended, and others hold the seal back.
    seal_asked INTEGER NOT NULL DEFAULT 0,
    -- What the limit keys of its rows are, and how many jobs of each may run at once.
    limit_by TEXT,
    limit_per_key INTEGER NOT NULL DEFAULT 0,
    -- How many jobs of it go for one of a batch with weight 1; see turns.py.
    weight INTEGER NOT NULL DEFAULT 1,
    UNIQUE (organization, batch_id, generation)
);
CREATE UNIQUE INDEX batches_newest ON batches (organization, batch_id) WHERE superseded = 0;
CREATE INDEX batches_open ON batches (queue, created_at)
    WHERE forgotten = 0
        AND ((sealed = 0 AND superseded = 0) OR pending + scheduled + processing > 0);
CREATE INDEX batches_settled ON batches (deadletter > 0, max(changed_at, used_at))
    WHERE forgotten = 0 AND (sealed = 1 OR superseded = 1)
        AND pending + scheduled + processing = 0;
CREATE INDEX batches_forgotten ON batches (id) WHERE forgotten = 1;
CREATE INDEX batches_seal_asked ON batches (id) WHERE seal_asked = 1;
CREATE INDEX batches_cancelled ON batches (id) WHERE cancel_after IS NOT NULL;
CREATE INDEX batches_listed ON batches (organization, id) WHERE superseded = 0 AND forgotten = 0;
CREATE INDEX batches_listed_of_queue ON batches (queue, id)
    WHERE superseded = 0 AND forgotten = 0;

-- What changes often comes first, what is large comes last.
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY,
    organization INTEGER NOT NULL,
    queue INTEGER NOT NULL,
    status INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    -- Until then it is not claimed: scheduled, or pending and waiting for its retry.
    due_at INTEGER,
    -- Claims of one priority go by this, then by age; see turns.py.
    round INTEGER NOT NULL DEFAULT 0,
    -- With what it takes turns in place of its batch, a number below 0.
    fair_key INTEGER,
    -- Of which so many may run at once, see key_limits: a number below 0. Until it is let out, such a
    -- job is pending and due at 2 ^ 62; from when it runs, its place is its own.
    limit_key INTEGER,
    lease_expires_at INTEGER,
    -- The batch that made it, or that it was handed over to.
    batch INTEGER,
    -- Whether batch_links has it, so that a settle looks there only then.
    linked INTEGER NOT NULL DEFAULT 0,
    retry_count INTEGER NOT NULL DEFAULT 0,
    max_retries INTEGER NOT NULL,
    -- How often it was handed out and begun since it was last put back; and where it may have killed
    -- its worker, how many such jobs may run together, by themselves.
    deliveries INTEGER NOT NULL DEFAULT 0,
    run_alone INTEGER NOT NULL DEFAULT 0,
    timeout_seconds INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    -- It is not begun after this.
    expires_at INTEGER,
    scheduled_at INTEGER,
    started_at INTEGER,
    completed_at INTEGER,
    -- Whether payload, result and tags were taken away after the job settled.
    pruned INTEGER NOT NULL DEFAULT 0,
    worker_id TEXT,
    lease_id TEXT,
    -- How long it waits before each retry, where it says so; see retry_backoff.py.
    retry_backoff TEXT,
    last_error TEXT,
    -- Which of its batch's schemas its payload has; NULL: it came without one.
    schema_id INTEGER,
    -- 32 lower-case hex digits are kept as 16 bytes, anything else as text.
    idempotency_key,
    -- A hash of the payload that was taken away.
    payload_digest BLOB,
    tags BLOB,
    result BLOB,
    payload BLOB NOT NULL
);
CREATE UNIQUE INDEX jobs_key ON jobs (organization, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_ready ON jobs (queue, priority DESC, round, seq)
    WHERE status = 1 AND due_at IS NULL;
CREATE INDEX jobs_held ON jobs (queue, limit_key, priority DESC, round, seq)
    WHERE status = 1 AND due_at = 4611686018427387904;
CREATE INDEX jobs_let_out ON jobs (queue, limit_key)
    WHERE limit_key IS NOT NULL AND (status = 3 OR (status = 1 AND due_at IS NULL));
CREATE INDEX jobs_limited ON jobs (queue, limit_key)
    WHERE limit_key IS NOT NULL AND status <> 4 AND pruned = 0;
CREATE INDEX jobs_retrying ON jobs (queue, seq) WHERE status = 1 AND due_at IS NOT NULL;
CREATE INDEX jobs_retrying_of_batch ON jobs (batch, due_at)
    WHERE status = 1 AND due_at IS NOT NULL AND batch IS NOT NULL;
CREATE INDEX jobs_expiring ON jobs (expires_at) WHERE expires_at IS NOT NULL AND status IN (1, 2);
CREATE INDEX jobs_due ON jobs (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX jobs_leased ON jobs (lease_expires_at) WHERE status = 3;
CREATE INDEX jobs_dead ON jobs (queue, seq) WHERE status = 6;
CREATE INDEX jobs_of_batch ON jobs (batch, seq) WHERE batch IS NOT NULL;
CREATE INDEX jobs_settled ON jobs (completed_at) WHERE status IN (4, 7) AND pruned = 0;
CREATE INDEX jobs_pruned ON jobs (completed_at) WHERE pruned = 1 AND batch IS NULL AND linked = 0;
CREATE INDEX jobs_dead_alone ON jobs (completed_at)
    WHERE status = 6 AND batch IS NULL AND linked = 0;

-- How far those are that take turns within a queue and a priority: batches by their numbers, keys
-- below 0, and as 0 the jobs without either; what was due later or was retried beside what was claimable at once. The
-- next job's place is `following`, in parts of a round; `taken` is how much was taken last.
CREATE TABLE turns (
    queue INTEGER NOT NULL REFERENCES queues,
    priority INTEGER NOT NULL,
    participant INTEGER NOT NULL,
    released INTEGER NOT NULL,
    following INTEGER NOT NULL,
    taken INTEGER NOT NULL,
    PRIMARY KEY (participant, queue, priority, released)
) WITHOUT ROWID;

-- The highest round of which a job was claimed: a participant that comes now begins there.
CREATE TABLE rounds_served (
    queue INTEGER NOT NULL REFERENCES queues,
    priority INTEGER NOT NULL,
    round INTEGER NOT NULL,
    PRIMARY KEY (queue, priority)
) WITHOUT ROWID;

-- How many jobs with a limit key may run at once within a queue. Who lets jobs out holds the row.
CREATE TABLE key_limits (
    queue INTEGER NOT NULL,
    key INTEGER NOT NULL,
    most INTEGER NOT NULL,
    PRIMARY KEY (queue, key)
) WITHOUT ROWID;

-- Deliveries that ended otherwise than completed: 2 failed, 3 given back, 4 lost, 5 its process
-- died. The one that runs or completed is the job's own.
CREATE TABLE attempts (
    job INTEGER NOT NULL REFERENCES jobs,
    number INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER NOT NULL,
    ending INTEGER NOT NULL,
    exit_code INTEGER,
    worker_id TEXT,
    error TEXT,
    PRIMARY KEY (job, number)
) WITHOUT ROWID;

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

-- A batch may be sent in parts, by many senders: which have begun, and which are in.
CREATE TABLE batch_parts (
    batch INTEGER NOT NULL REFERENCES batches,
    part_id TEXT NOT NULL,
    finished INTEGER NOT NULL DEFAULT 0,
    rows INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (batch, part_id)
) WITHOUT ROWID;

-- The Arrow schemas of a batch's payloads, by a hash that names them, and that of its results, as 0.
CREATE TABLE batch_schemas (
    batch INTEGER NOT NULL REFERENCES batches,
    schema_id INTEGER NOT NULL,
    schema BLOB NOT NULL,
    PRIMARY KEY (batch, schema_id)
) WITHOUT ROWID;

-- Outcomes of chunks until the batch is sealed, for those who ask again after a cut.
CREATE TABLE upload_chunks (
    batch INTEGER NOT NULL REFERENCES batches,
    upload_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    -- The places of the rows that created nothing, as little-endian 32-bit integers.
    duplicates BLOB NOT NULL,
    -- Those of them with another payload than their job had, and those whose payload it got.
    changed BLOB NOT NULL,
    replaced BLOB NOT NULL,
    PRIMARY KEY (batch, upload_id, number)
) WITHOUT ROWID;

-- Uploads that are not finished, and hold the seal back.
CREATE TABLE uploads (
    batch INTEGER NOT NULL REFERENCES batches,
    part_id TEXT NOT NULL,
    -- The same for the same rows: no matter who sends them, and how often, it is one upload.
    rows_id TEXT NOT NULL,
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (batch, part_id, rows_id)
) WITHOUT ROWID;

-- Calls that may come twice, since their answers can be lost: how far each is, as JSON.
CREATE TABLE requests (
    organization INTEGER NOT NULL REFERENCES organizations,
    request_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    progress TEXT NOT NULL,
    PRIMARY KEY (organization, request_id)
) WITHOUT ROWID;
CREATE INDEX requests_by_age ON requests (at);

CREATE TABLE workers (
    organization INTEGER NOT NULL REFERENCES organizations,
    worker_id TEXT NOT NULL,
    queue INTEGER NOT NULL REFERENCES queues,
    hostname TEXT NOT NULL,
    worker_type TEXT NOT NULL,
    max_concurrency INTEGER NOT NULL,
    version TEXT NOT NULL,
    metadata TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'healthy',
    current_jobs INTEGER NOT NULL DEFAULT 0,
    registered_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (organization, worker_id)
) WITHOUT ROWID;
CREATE INDEX workers_of_queue ON workers (queue, seen_at);
CREATE INDEX workers_listed ON workers (organization, seen_at);

-- API keys, of which only the sha256 is kept. They stay when they end, to be listed.
CREATE TABLE keys (
    key_id TEXT PRIMARY KEY,
    organization INTEGER NOT NULL REFERENCES organizations,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    -- Names of queues with commas between them; empty means all.
    queues TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    -- The id of the key that made it, or "local".
    created_by TEXT NOT NULL,
    -- Noted once in ten minutes.
    last_used_at INTEGER
);
CREATE INDEX keys_by_age ON keys (created_at, key_id);
CREATE INDEX keys_of_organization ON keys (organization, created_at, key_id);

-- Who did what with which key, and which keys were refused. Names are those of then.
CREATE TABLE audit (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    times INTEGER NOT NULL,
    -- 0 of an admin, 1 of another key, 2 refused; each has its own room.
    kind INTEGER NOT NULL,
    organization TEXT NOT NULL,
    key_id TEXT NOT NULL,
    key_name TEXT NOT NULL,
    peer TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    outcome TEXT NOT NULL
);
CREATE INDEX audit_of_organization ON audit (organization, seq);
CREATE INDEX audit_by_kind ON audit (kind, seq);
