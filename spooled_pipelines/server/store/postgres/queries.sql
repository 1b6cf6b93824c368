-- The statements of the store, by name; see sql.py for what stands in braces.
-- Each name is followed by a sentence on what the statement does. Values are %(named)s.
--
-- Statuses: 1 pending, 2 scheduled, 3 processing, 4 completed, 5 failed (never stored), 6 deadletter,
-- 7 cancelled. A pending job with a due_at waits for its retry. Times are milliseconds.
--
-- Every statement names its tables in one order (requests, batches, uploads, batch_parts, upload_chunks, jobs,
-- queue_limits, batch_links, attempts, daily_jobs, counters, batch_errors) and its rows by number, so
-- that no two transactions wait for each other.

-- Transactions
-- ============

-- name: begin
-- Begin a transaction.
BEGIN

-- name: commit
-- Make durable what the transaction did.
COMMIT

-- name: keep_so_far
-- Remember this point, to come back to when a copy finds a key taken.
SAVEPOINT so_far

-- name: back_to_so_far
-- Undo what was done since then.
ROLLBACK TO SAVEPOINT so_far

-- name: notify
-- Tell the other servers, at the commit, what changed.
SELECT pg_notify(%(channel)s, %(payload)s)

-- name: beat
-- Tell the other servers, and ourselves, something; return the database's time.
SELECT pg_notify(%(channel)s, %(payload)s), (extract(epoch FROM clock_timestamp()) * 1000)::int8

-- The store itself
-- ================

-- name: read_identity
-- Return what every id of this store starts with, and what its page tokens are made with.
SELECT id_prefix, page_key FROM store

-- name: no_sync
-- Let the commit return before it is on the disk: what uses the numbers is written after
-- it and over the same connection, so that a crash in between ends both.
SET LOCAL synchronous_commit = off

-- name: take_numbers
-- Return an organization and the first of some fresh numbers of its jobs.
UPDATE job_places SET following = following + %(count)s WHERE organization = %(organization)s
RETURNING organization, (organization - 1)::int8 << {place_bits} | following - %(count)s

-- name: take_numbers_of_many
-- Return the same of some organizations, of each as many as is said.
WITH mine AS MATERIALIZED (
    SELECT p.organization, d.count
    FROM unnest(%(organizations)s::int4[], %(counts)s::int8[]) AS d (organization, count)
    JOIN job_places p ON p.organization = d.organization ORDER BY p.organization FOR UPDATE OF p
)
UPDATE job_places p SET following = p.following + m.count
FROM mine m WHERE p.organization = m.organization
RETURNING p.organization, (p.organization - 1)::int8 << {place_bits} | p.following - m.count

-- name: read_last_number
-- Return the number of the youngest job of a queue's organization.
SELECT (p.organization - 1)::int8 << {place_bits} | p.following - 1
FROM queues q JOIN job_places p ON p.organization = q.organization WHERE q.id = %(queue)s

-- Numbers and names
-- =================

-- name: ensure_organization
-- Return an organization's number; make it if it is not there, with the first of these numbers that
-- none has or had.
WITH free AS (
    SELECT coalesce((
        SELECT n.number FROM unnest(%(numbers)s::int4[]) WITH ORDINALITY AS n (number, place)
        WHERE NOT EXISTS (SELECT FROM job_places WHERE organization = n.number)
        ORDER BY n.place LIMIT 1
    ), (
        SELECT min(p.organization) + 1 FROM job_places p
        WHERE NOT EXISTS (SELECT FROM job_places WHERE organization = p.organization + 1)
    )) AS number
), made AS (
    INSERT INTO organizations (id, name) SELECT number, %(name)s FROM free
    WHERE NOT EXISTS (SELECT FROM organizations WHERE name = %(name)s)
    ON CONFLICT DO NOTHING RETURNING id
), numbered AS (
    INSERT INTO job_places (organization, following)
    SELECT made.id, store.first_place FROM made, store
)
SELECT id FROM made UNION ALL SELECT id FROM organizations WHERE name = %(name)s

-- name: find_queue
-- Return the organization's and the queue's number, by its name or an earlier one, and the name
-- that the keys of its rows are made of.
SELECT o.id, q.id, coalesce(q.key_name, q.name)
FROM queues q JOIN organizations o ON o.id = q.organization
WHERE o.name = %(organization)s AND q.name = %(name)s
UNION ALL
SELECT o.id, q.id, q.key_name
FROM earlier_names e JOIN queues q ON q.id = e.queue JOIN organizations o ON o.id = e.organization
WHERE o.name = %(organization)s AND e.name = %(name)s
LIMIT 1

-- name: lock_queue_name
-- Let nobody else rename a queue until the commit.
SELECT FROM queues WHERE id = %(queue)s FOR NO KEY UPDATE

-- name: keep_earlier_name
-- Note that a queue has its name no longer.
INSERT INTO earlier_names (organization, name, queue)
SELECT organization, name, id FROM queues WHERE id = %(queue)s

-- name: forget_earlier_name
-- Note that a queue has an earlier name again.
DELETE FROM earlier_names
WHERE organization = (SELECT organization FROM queues WHERE id = %(queue)s) AND name = %(name)s
    AND queue = %(queue)s

-- name: rename_queue
-- Give a queue another name.
UPDATE queues SET key_name = coalesce(key_name, name), name = %(name)s WHERE id = %(queue)s

-- name: list_earlier_names
-- Return every earlier name of a queue, with its present one, and that of its keys.
SELECT o.name, e.name, q.name, coalesce(q.key_name, q.name)
FROM earlier_names e JOIN queues q ON q.id = e.queue JOIN organizations o ON o.id = e.organization

-- name: count_queues_of_organization
-- Return how many queues an organization has.
SELECT count(*) FROM queues WHERE organization = %(organization)s

-- name: ensure_queue
-- Return a queue's number; make it if it is not there.
WITH made AS (
    INSERT INTO queues (organization, name) VALUES (%(organization)s, %(name)s)
    ON CONFLICT DO NOTHING RETURNING id
)
SELECT id FROM made
UNION ALL SELECT id FROM queues WHERE organization = %(organization)s AND name = %(name)s

-- name: read_queue_names
-- Return the organization and the name of queues by number.
SELECT q.id, o.name, q.name FROM queues q JOIN organizations o ON o.id = q.organization
WHERE q.id = ANY(%(numbers)s)

-- name: read_batch_names
-- Return the organization and the id of batches by number.
SELECT b.id, o.name, b.batch_id FROM batches b JOIN organizations o ON o.id = b.organization
WHERE b.id = ANY(%(numbers)s)

-- Counters
-- ========

-- name: count_queues
-- Add to the counters of queues.
INSERT INTO queue_counters AS c (queue, shard, {counts}, lease_expired_at)
SELECT d.queue, pg_backend_pid() %% 16, {counts d}, d.lease_expired_at
FROM unnest(%(numbers)s::int4[], %(pending)s::int8[], %(waiting)s::int8[], %(scheduled)s::int8[],
    %(processing)s::int8[], %(completed)s::int8[], %(failed)s::int8[], %(deadletter)s::int8[],
    %(cancelled)s::int8[], %(expired)s::int8[], %(lease_expired)s::int8[])
    AS d (queue, {counts},
        lease_expired_at)
ORDER BY d.queue
ON CONFLICT (queue, shard) DO UPDATE SET pending = c.pending + excluded.pending,
    waiting = c.waiting + excluded.waiting, scheduled = c.scheduled + excluded.scheduled,
    processing = c.processing + excluded.processing, completed = c.completed + excluded.completed,
    failed = c.failed + excluded.failed, deadletter = c.deadletter + excluded.deadletter,
    cancelled = c.cancelled + excluded.cancelled, expired = c.expired + excluded.expired,
    lease_expired_at = greatest(excluded.lease_expired_at, c.lease_expired_at)

-- name: count_batches
-- Add to the counters of batches.
INSERT INTO batch_counters AS c (batch, shard, {counts}, changed_at)
SELECT d.batch, pg_backend_pid() %% 16, {counts d}, %(now)s
FROM unnest(%(numbers)s::int8[], %(pending)s::int8[], %(waiting)s::int8[], %(scheduled)s::int8[],
    %(processing)s::int8[], %(completed)s::int8[], %(failed)s::int8[], %(deadletter)s::int8[],
    %(cancelled)s::int8[], %(expired)s::int8[])
    AS d (batch, {counts})
ORDER BY d.batch
ON CONFLICT (batch, shard) DO UPDATE SET pending = c.pending + excluded.pending,
    waiting = c.waiting + excluded.waiting, scheduled = c.scheduled + excluded.scheduled,
    processing = c.processing + excluded.processing, completed = c.completed + excluded.completed,
    failed = c.failed + excluded.failed, deadletter = c.deadletter + excluded.deadletter,
    cancelled = c.cancelled + excluded.cancelled, expired = c.expired + excluded.expired,
    changed_at = greatest(c.changed_at, excluded.changed_at)

-- name: count_changed
-- Count rows that came to a batch with another payload than their job had.
INSERT INTO batch_counters AS c (batch, shard, {counts}, changed, replaced, changed_at)
VALUES (%(batch)s, pg_backend_pid() %% 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, %(changed)s, %(replaced)s, 0)
ON CONFLICT (batch, shard) DO UPDATE SET changed = c.changed + excluded.changed,
    replaced = c.replaced + excluded.replaced

-- name: count_errors
-- Add to how many dead letters of a batch ended with an error.
INSERT INTO batch_errors AS e (batch, error, count)
SELECT d.batch, d.error, d.count
FROM unnest(%(batches)s::int8[], %(errors)s::bytea[], %(counts)s::int8[]) AS d (batch, error, count)
ORDER BY d.batch, d.error
ON CONFLICT (batch, error) DO UPDATE SET count = e.count + excluded.count

-- name: count_daily_jobs
-- Count jobs that an organization made. It keeps the others of the organization waiting,
-- so it comes last, just before the counters. A day of which a server's clock was ahead lasts until
-- the clocks are there again.
INSERT INTO daily_jobs AS d (organization, day, jobs) VALUES (%(organization)s, %(day)s, %(jobs)s)
ON CONFLICT (organization) DO UPDATE SET day = greatest(d.day, excluded.day),
    jobs = excluded.jobs + CASE WHEN d.day < excluded.day THEN 0 ELSE d.jobs END
RETURNING jobs

-- name: uncount_daily_jobs
-- Count jobs as not made after all.
UPDATE daily_jobs SET jobs = jobs - %(jobs)s WHERE organization = %(organization)s

-- Enqueue
-- =======

-- name: add_jobs
-- Store jobs but for those whose key is there. Sorted by key: two who store the same keys
-- in another order would wait for each other for ever.
INSERT INTO jobs (seq, organization, queue, status, priority, due_at, round, max_retries,
    timeout_seconds, created_at, scheduled_at, expires_at, retry_backoff,
    idempotency_key, tags, payload)
SELECT n.seq, n.organization, n.queue, n.status, n.priority, n.due_at, n.round, n.max_retries,
    n.timeout_seconds, %(now)s, n.scheduled_at, n.expires_at, n.retry_backoff, n.idempotency_key, n.tags,
    n.payload
FROM unnest(%(seqs)s::int8[], %(organizations)s::int4[], %(queues)s::int4[], %(statuses)s::int2[],
    %(priorities)s::int2[], %(due)s::int8[], %(rounds)s::int8[], %(max_retries)s::int2[],
    %(timeouts)s::int4[], %(scheduled)s::int8[], %(expires)s::int8[], %(backoffs)s::text[], %(keys)s::bytea[],
    %(tags)s::bytea[], %(payloads)s::bytea[])
    AS n (seq, organization, queue, status, priority, due_at, round, max_retries, timeout_seconds,
        scheduled_at, expires_at, retry_backoff, idempotency_key, tags, payload)
ORDER BY n.organization, n.idempotency_key, n.seq
ON CONFLICT (organization, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
RETURNING seq

-- name: find_jobs_of_keys
-- Return the jobs that have these keys, with the places of the keys.
SELECT k.place - 1, j.seq, j.batch
FROM unnest(%(organizations)s::int4[], %(keys)s::bytea[]) WITH ORDINALITY
    AS k (organization, idempotency_key, place)
CROSS JOIN LATERAL (
    SELECT seq, batch FROM jobs
    WHERE organization = k.organization AND idempotency_key = k.idempotency_key
        AND idempotency_key IS NOT NULL
) AS j

-- name: read_kept
-- Return the payloads of jobs where they are so long, or the hashes of those that were taken away.
SELECT j.seq, j.queue, j.status, CASE WHEN octet_length(j.payload) = n.size THEN j.payload END,
    j.payload_digest
FROM unnest(%(seqs)s::int8[], %(sizes)s::int8[]) AS n (seq, size) JOIN jobs j ON j.seq = n.seq

-- name: lock_payloads
-- Let jobs stay as they are until the commit.
SELECT seq FROM jobs WHERE seq = ANY(%(seqs)s) ORDER BY seq FOR UPDATE

-- name: replace_payloads
-- Give locked jobs other payloads, and the schema that they came with.
UPDATE jobs j SET payload = n.payload,
    schema_id = CASE WHEN j.batch IS NULL THEN NULL ELSE %(schema_id)s::int8 END
FROM unnest(%(seqs)s::int8[], %(payloads)s::bytea[]) AS n (seq, payload) WHERE j.seq = n.seq

-- name: find_keys_elsewhere
-- Return the places of those keys that jobs of other queues than these have.
SELECT (k.place - 1)::int4
FROM organizations o
CROSS JOIN unnest(%(keys)s::bytea[]) WITH ORDINALITY AS k (idempotency_key, place)
CROSS JOIN LATERAL (
    SELECT queue FROM jobs
    WHERE organization = o.id AND idempotency_key = k.idempotency_key
        AND idempotency_key IS NOT NULL
) AS j
JOIN queues q ON q.id = j.queue
WHERE o.name = %(organization)s AND q.name <> ALL(%(queues)s::text[])
ORDER BY k.place

-- name: find_keys_of_queue
-- Return the places of those keys that jobs of this queue have, and whether with this payload.
SELECT (k.place - 1)::int4, j.seq, NOT j.pruned AND j.payload = k.payload
FROM queues q JOIN organizations o ON o.id = q.organization
CROSS JOIN unnest(%(keys)s::bytea[], %(payloads)s::bytea[]) WITH ORDINALITY
    AS k (idempotency_key, payload, place)
CROSS JOIN LATERAL (
    SELECT seq, queue, pruned, payload FROM jobs
    WHERE organization = q.organization AND idempotency_key = k.idempotency_key
        AND idempotency_key IS NOT NULL
) AS j
WHERE o.name = %(organization)s AND q.name = %(name)s AND j.queue = q.id
ORDER BY k.place

-- name: create_staging
-- Make the table through which a copy starts over that found a key taken.
CREATE TEMPORARY TABLE IF NOT EXISTS staged_jobs (LIKE jobs INCLUDING DEFAULTS)
ON COMMIT DELETE ROWS

-- name: add_staged
-- Store what is staged, but for what is there.
INSERT INTO jobs (seq, batch, organization, queue, status, priority, due_at, round, fair_key,
    limit_key, created_at, scheduled_at, expires_at, schema_id, max_retries, timeout_seconds,
    retry_backoff, idempotency_key, tags, payload)
SELECT seq, batch, organization, queue, status, priority, due_at, round, fair_key,
    limit_key, created_at, scheduled_at, expires_at, schema_id, max_retries, timeout_seconds,
    retry_backoff, idempotency_key, tags, payload
FROM staged_jobs ORDER BY idempotency_key, seq
ON CONFLICT (organization, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING

-- name: find_staged
-- Return the jobs that have the keys of what is staged, with the rows' places, and whether each
-- has its row's payload, byte for byte.
SELECT (s.seq - %(first)s)::int4, j.seq, j.batch, NOT j.pruned AND j.payload = s.payload
FROM staged_jobs s CROSS JOIN LATERAL (
    SELECT seq, batch, pruned, payload FROM jobs
    WHERE organization = s.organization AND idempotency_key = s.idempotency_key
        AND idempotency_key IS NOT NULL
) AS j

-- Turns
-- =====

-- name: take_turns
-- Return where participants' next jobs begin, that are so long together.
INSERT INTO turns AS t (queue, priority, participant, released, following, taken)
SELECT d.queue, d.priority, d.participant, false, d.taken + {round} * coalesce((
    SELECT max(r.round) FROM rounds_served r WHERE r.queue = d.queue AND r.priority = d.priority
), 0), d.taken
FROM unnest(%(queues)s::int4[], %(priorities)s::int2[], %(participants)s::int8[], %(taken)s::int8[])
    AS d (queue, priority, participant, taken)
ORDER BY d.queue, d.priority, d.participant
ON CONFLICT (participant, queue, priority, released) DO UPDATE
SET following = greatest(t.following + excluded.taken, excluded.following), taken = excluded.taken
RETURNING queue, priority, participant, following - taken

-- name: return_turns
-- Take back turns of rows that made no job.
WITH mine AS MATERIALIZED (
    SELECT t.participant, t.queue, t.priority, d.taken
    FROM unnest(%(queues)s::int4[], %(priorities)s::int2[], %(participants)s::int8[],
        %(taken)s::int8[]) AS d (queue, priority, participant, taken)
    JOIN turns t ON t.participant = d.participant AND t.queue = d.queue
        AND t.priority = d.priority AND NOT t.released
    ORDER BY t.queue, t.priority, t.participant FOR UPDATE OF t
)
UPDATE turns t SET following = t.following - m.taken FROM mine m
WHERE t.participant = m.participant AND t.queue = m.queue AND t.priority = m.priority
    AND NOT t.released

-- name: give_turns_again
-- Give jobs the rounds that have come by now.
WITH found AS MATERIALIZED (
    SELECT seq, queue, priority, {participant} AS participant, {round} / ({quantum} * {weight}) AS length
    FROM jobs WHERE seq = ANY(%(seqs)s)
), {turns_again}
UPDATE jobs j SET round = (b.firsts[n.place] + n.before) / {round}
FROM numbered n CROSS JOIN began b WHERE j.seq = n.seq

-- name: put_key_limits
-- Keep how many jobs with each of some keys may run at once.
INSERT INTO key_limits AS k (queue, key, most)
SELECT %(queue)s, d.key, %(most)s FROM unnest(%(keys)s::int8[]) AS d (key) ORDER BY d.key
ON CONFLICT (queue, key) DO UPDATE SET most = excluded.most WHERE k.most <> excluded.most

-- name: lock_key_limits
-- Let nobody else take places of these keys until the commit.
SELECT k.most FROM unnest(%(queues)s::int4[], %(keys)s::int8[]) AS d (queue, key)
JOIN key_limits k ON k.queue = d.queue AND k.key = d.key
ORDER BY k.queue, k.key FOR UPDATE OF k

-- name: let_out
-- Let the next jobs with these keys be claimed that are held, as many as there are places, and hold
-- those that are out, do not run and are not among the next. One that another transaction has locked
-- is passed over: that one claims it, or does the same when it commits.
WITH room AS MATERIALIZED (
    SELECT k.queue, k.key, k.most, o.jobs, greatest(k.most - o.running, 0) AS places
    FROM unnest(%(queues)s::int4[], %(keys)s::int8[]) AS d (queue, key)
    JOIN key_limits k ON k.queue = d.queue AND k.key = d.key
    CROSS JOIN LATERAL (
        SELECT count(*) AS jobs, count(*) FILTER (WHERE status = 3) AS running
        FROM jobs WHERE queue = k.queue AND placed_key = k.key AND placed_key IS NOT NULL
    ) AS o
), behind AS MATERIALIZED (
    SELECT r.queue, r.key, j.seq FROM room r CROSS JOIN LATERAL (
        SELECT n.seq, n.held FROM (
            SELECT seq, priority, round, false AS held FROM jobs
            WHERE queue = r.queue AND placed_key = r.key AND status = 1
            UNION ALL (
                SELECT seq, priority, round, true FROM jobs
                WHERE queue = r.queue AND limit_key = r.key AND phase = 2 AND due_at = {held}
                ORDER BY priority DESC, round, seq LIMIT r.places
            )
        ) AS n ORDER BY n.priority DESC, n.round, n.seq OFFSET r.places
    ) AS b JOIN jobs j ON j.seq = b.seq
    WHERE r.jobs > r.most - r.places AND NOT b.held AND j.phase = 1
    FOR UPDATE OF j SKIP LOCKED
), next AS MATERIALIZED (
    SELECT h.seq FROM room r CROSS JOIN LATERAL (
        SELECT seq FROM jobs WHERE queue = r.queue AND limit_key = r.key
            AND phase = 2 AND due_at = {held}
        ORDER BY priority DESC, round, seq LIMIT greatest(r.most - r.jobs + (
            SELECT count(*) FROM behind b WHERE b.queue = r.queue AND b.key = r.key
        ), 0) FOR UPDATE SKIP LOCKED
    ) AS h
)
UPDATE jobs j SET due_at = n.due_at FROM (
    SELECT seq, NULL::bigint AS due_at FROM next UNION ALL SELECT seq, {held} FROM behind
) AS n WHERE j.seq = n.seq
RETURNING j.seq, j.queue, j.batch, j.linked, j.due_at IS NULL

-- name: walk_limit_keys
-- Return the next keys with limits: whether held jobs have room, and whether there are jobs that
-- may run yet.
SELECT k.queue, k.key, EXISTS (
    SELECT FROM jobs WHERE queue = k.queue AND limit_key = k.key
        AND phase = 2 AND due_at = {held}
) AND k.most > (
    SELECT count(*) FROM jobs WHERE queue = k.queue AND placed_key = k.key AND placed_key IS NOT NULL
), EXISTS (
    SELECT FROM jobs WHERE queue = k.queue AND running_key = k.key AND running_key IS NOT NULL
)
FROM (
    SELECT queue, key, most FROM key_limits WHERE (queue, key) > (%(queue)s::int4, %(key)s::int8)
    ORDER BY queue, key LIMIT %(limit)s
) AS k

-- name: forget_key_limits
-- Remove the limits of keys, of locked rows, that no job has that may run yet.
DELETE FROM key_limits k USING unnest(%(queues)s::int4[], %(keys)s::int8[]) AS d (queue, key)
WHERE k.queue = d.queue AND k.key = d.key AND NOT EXISTS (
    SELECT FROM jobs WHERE queue = k.queue AND running_key = k.key AND running_key IS NOT NULL
)

-- name: walk_turns
-- Return the next turns of keys, each with whether it is as if they were not there: what comes
-- begins no earlier, or nothing waits that was to be before it.
SELECT t.participant, t.queue, t.priority, t.released, t.following, t.following <= {round} * coalesce((
    SELECT max(r.round) FROM rounds_served r WHERE r.queue = t.queue AND r.priority = t.priority
), 0) OR NOT (EXISTS (
    SELECT FROM jobs WHERE queue = t.queue AND priority = t.priority AND phase = 1
) OR EXISTS (
    SELECT FROM jobs WHERE queue = t.queue AND phase = 2 AND due_at = {held}
))
FROM (
    SELECT participant, queue, priority, released, following FROM turns
    WHERE participant < 0 AND (participant, queue, priority, released)
        > (%(participant)s::int8, %(queue)s::int4, %(priority)s::int2, %(released)s::bool)
    ORDER BY participant, queue, priority, released LIMIT %(limit)s
) AS t

-- name: forget_turns_of_keys
-- Remove turns that nobody has taken since, or takes.
WITH over AS MATERIALIZED (
    SELECT t.participant, t.queue, t.priority, t.released
    FROM unnest(%(participants)s::int8[], %(queues)s::int4[], %(priorities)s::int2[],
        %(released)s::bool[], %(following)s::int8[])
        AS d (participant, queue, priority, released, following)
    JOIN turns t ON t.participant = d.participant AND t.queue = d.queue
        AND t.priority = d.priority AND t.released = d.released AND t.following = d.following
    FOR UPDATE OF t SKIP LOCKED
)
DELETE FROM turns t USING over o WHERE t.participant = o.participant AND t.queue = o.queue
    AND t.priority = o.priority AND t.released = o.released

-- name: forget_turns
-- Remove a batch's turns.
DELETE FROM turns WHERE participant = %(batch)s

-- Claim
-- =====

-- name: claim_jobs
-- Lease the first jobs, at least one where there are any, that fit into one answer; those that are to
-- run alone by themselves, and not too many: none of a queue with limits, unless they are counted by
-- who asks.
WITH first AS MATERIALIZED (
    SELECT seq, priority, round, octet_length(payload) AS size, run_alone FROM jobs
    WHERE queue = %(queue)s AND phase = 1
        AND (expires_at IS NULL OR expires_at > %(now)s)
        AND NOT (SELECT paused FROM queues WHERE id = %(queue)s)
        AND (%(counted)s OR NOT EXISTS (SELECT FROM queue_limits WHERE queue = %(queue)s))
    ORDER BY priority DESC, round, seq LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), {lease_first}

-- name: claim_jobs_behind
-- The same in some ranges of priorities, highest first; where one is a single priority, from a round on.
WITH first AS MATERIALIZED (
    SELECT f.*
    FROM unnest(%(lows)s::int2[], %(highs)s::int2[], %(rounds)s::int8[])
        WITH ORDINALITY AS r (low, high, round, place)
    CROSS JOIN LATERAL (
        SELECT * FROM (
            SELECT seq, priority, round, octet_length(payload) AS size, run_alone FROM jobs
            WHERE r.low < r.high AND queue = %(queue)s AND phase = 1
                AND priority BETWEEN r.low AND r.high
                AND (expires_at IS NULL OR expires_at > %(now)s)
            ORDER BY priority DESC, round, seq LIMIT %(limit)s FOR UPDATE SKIP LOCKED
        ) AS several
        UNION ALL SELECT * FROM (
            SELECT seq, priority, round, octet_length(payload) AS size, run_alone FROM jobs
            WHERE r.low = r.high AND queue = %(queue)s AND phase = 1
                AND priority = r.low AND round >= r.round
                AND (expires_at IS NULL OR expires_at > %(now)s)
            ORDER BY round, seq LIMIT %(limit)s FOR UPDATE SKIP LOCKED
        ) AS one
    ) AS f
    WHERE NOT (SELECT paused FROM queues WHERE id = %(queue)s)
        AND NOT EXISTS (SELECT FROM queue_limits WHERE queue = %(queue)s)
    LIMIT %(limit)s
), {lease_first}

-- name: find_leftovers
-- Return whether there is something to claim of a queue, and whether it has limits.
SELECT EXISTS (
    SELECT FROM jobs WHERE queue = %(queue)s AND phase = 1
        AND NOT (SELECT paused FROM queues WHERE id = %(queue)s)
    ORDER BY priority DESC, round, seq
), EXISTS (SELECT FROM queue_limits WHERE queue = %(queue)s)

-- name: lock_limits
-- Return limits of queues; a claim of these, or new limits, wait until the commit.
SELECT queue, {limits}
FROM queue_limits WHERE queue = ANY(%(queues)s) ORDER BY queue FOR UPDATE

-- name: count_in_flight
-- Return how many jobs of queues are in flight. After the lock, as a statement of its own,
-- it sees what those counted who had the lock before; a settle meanwhile is not seen, so that it is
-- too high at most.
SELECT queue, sum(processing)::int8 FROM queue_counters WHERE queue = ANY(%(queues)s)
GROUP BY queue

-- name: spend_limits
-- Take claimed jobs out of a queue's bucket.
UPDATE queue_limits SET level = %(level)s, filled_at = %(filled_at)s WHERE queue = %(queue)s

-- Settle
-- ======

-- name: lock_jobs
-- Return jobs, to be changed.
SELECT jobs.seq, {locked_columns}
FROM jobs WHERE seq = ANY(%(seqs)s) ORDER BY seq FOR UPDATE

-- name: write_jobs
-- Write what transitions made of jobs.
UPDATE jobs AS j SET status = n.status, due_at = n.due_at, lease_expires_at = n.lease_expires_at,
    retry_count = n.retry_count, deliveries = n.deliveries, run_alone = n.run_alone, started_at = n.started_at, completed_at = n.completed_at,
    worker_id = n.worker_id, lease_id = n.lease_id, expires_at = n.expires_at,
    last_error = coalesce(n.last_error, j.last_error), result = coalesce(n.result, j.result)
FROM unnest(%(seqs)s::int8[], %(statuses)s::int2[], %(due)s::int8[], %(expiries)s::int8[],
    %(retry_counts)s::int2[], %(deliveries)s::int2[], %(alone)s::int2[], %(started)s::int8[],
    %(completed)s::int8[], %(workers)s::text[], %(leases)s::text[], %(expires)s::int8[],
    %(errors)s::bytea[], %(results)s::bytea[])
    AS n (seq, status, due_at, lease_expires_at, retry_count, deliveries, run_alone, started_at,
        completed_at, worker_id, lease_id, expires_at, last_error, result)
WHERE j.seq = n.seq

-- name: add_attempts
-- Keep deliveries that ended otherwise than completed.
INSERT INTO attempts (job, number, worker_id, started_at, ended_at, ending, exit_code, error)
SELECT n.job, coalesce((SELECT max(a.number) FROM attempts a WHERE a.job = n.job), 0) + 1,
    n.worker_id, n.started_at, %(now)s, n.ending, n.exit_code, n.error
FROM unnest(%(jobs)s::int8[], %(workers)s::text[], %(started)s::int8[], %(endings)s::int2[],
    %(exit_codes)s::int4[], %(errors)s::bytea[])
    AS n (job, worker_id, started_at, ending, exit_code, error)

-- name: complete_jobs
-- Complete jobs whose leases live and are these. By the numbers alone, in their order: no
-- condition is one that another index serves.
UPDATE jobs SET status = 4, completed_at = %(now)s, lease_expires_at = NULL,
    result = coalesce(n.result, jobs.result)
FROM unnest(%(seqs)s::int8[], %(organizations)s::int4[], %(workers)s::text[], %(leases)s::text[],
    %(results)s::bytea[]) AS n (seq, organization, worker_id, lease_id, result)
WHERE jobs.seq = n.seq AND jobs.organization + 0 = n.organization AND jobs.status + 0 = 3
    AND jobs.lease_id = n.lease_id AND (n.worker_id = '' OR jobs.worker_id = n.worker_id)
    AND jobs.lease_expires_at + 0 > %(now)s
RETURNING jobs.seq, jobs.queue, jobs.batch, jobs.linked, {is_capped}

-- name: complete_chunk
-- Complete jobs of one lease that lives, in the same way.
UPDATE jobs SET status = 4, completed_at = %(now)s, lease_expires_at = NULL,
    result = coalesce(n.result, jobs.result)
FROM unnest(%(seqs)s::int8[], %(results)s::bytea[]) AS n (seq, result)
WHERE jobs.seq = n.seq AND jobs.queue + 0 = %(queue)s AND jobs.status + 0 = 3
    AND jobs.lease_id = %(lease)s AND (%(worker)s = '' OR jobs.worker_id = %(worker)s)
    AND jobs.lease_expires_at + 0 > %(now)s
RETURNING jobs.seq, jobs.batch, jobs.linked, {is_capped}

-- name: renew_chunk
-- Let the lease of jobs last longer where it lives.
UPDATE jobs SET lease_expires_at = %(expiry)s FROM unnest(%(seqs)s::int8[]) AS n (seq)
WHERE jobs.seq = n.seq AND jobs.queue + 0 = %(queue)s AND jobs.status + 0 = 3
    AND jobs.lease_id = %(lease)s AND (%(worker)s = '' OR jobs.worker_id = %(worker)s)
    AND jobs.lease_expires_at + 0 > %(now)s
RETURNING jobs.seq, jobs.worker_id

-- name: note_leases
-- Keep when leases end that were given or renewed, in rows that are not too long for a page.
INSERT INTO leases (ends_at, worker_id, jobs)
SELECT ends_at, worker_id, array_agg(seq)
FROM unnest(%(ends)s::int8[], %(workers)s::text[], %(seqs)s::int8[]) WITH ORDINALITY
    AS d (ends_at, worker_id, seq, place)
GROUP BY ends_at, worker_id, (place - 1) / 200

-- name: note_settlements
-- Keep which jobs completed or were cancelled.
INSERT INTO settlements (settled_at, jobs)
SELECT %(now)s, array_agg(seq) FROM unnest(%(seqs)s::int8[]) WITH ORDINALITY AS d (seq, place)
GROUP BY (place - 1) / 200

-- name: list_batches_of_jobs
-- Return the batches that jobs are linked to.
SELECT job, batch FROM batch_links WHERE job = ANY(%(seqs)s)

-- Sweep
-- =====

-- name: release_due
-- Make jobs claimable that are due.
WITH found AS MATERIALIZED (
    SELECT seq, queue, priority, {participant} AS participant,
        {round} / ({quantum} * {weight}) AS length, status
    FROM jobs WHERE due_at <= %(now)s ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), {turns_again}
UPDATE jobs AS j SET status = 1, due_at = CASE WHEN j.limit_key IS NOT NULL THEN {held} END,
    round = (b.firsts[n.place] + n.before) / {round}
FROM numbered n CROSS JOIN began b WHERE j.seq = n.seq
RETURNING j.seq, j.queue, j.batch, j.linked, n.status, j.limit_key

-- name: forget_leases
-- Look at the first leases; remove those of which every job has settled or has another lease.
WITH looked AS MATERIALIZED (
    SELECT ends_at, id, jobs, sum(cardinality(jobs)) OVER (ORDER BY ends_at, id) AS total
    FROM (SELECT * FROM leases ORDER BY ends_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED) AS l
), few AS MATERIALIZED (
    SELECT ends_at, id, jobs FROM looked WHERE total - cardinality(jobs) < %(most)s::int8
), gone AS (
    DELETE FROM leases l USING few f
    WHERE l.ends_at = f.ends_at AND l.id = f.id AND NOT EXISTS (
        SELECT FROM jobs
        WHERE seq = ANY(f.jobs) AND status = 3 AND lease_expires_at <= f.ends_at
    )
    RETURNING l.id
)
SELECT (SELECT count(*) FROM few), (SELECT count(*) FROM gone)

-- name: lock_expired
-- Return jobs whose leases ran out, to be changed.
SELECT jobs.seq, {locked_columns}
FROM jobs WHERE seq IN (SELECT unnest(l.jobs) FROM leases l WHERE l.ends_at <= %(now)s)
    AND status = 3 AND lease_expires_at <= %(now)s
LIMIT %(limit)s FOR UPDATE SKIP LOCKED

-- name: lock_held
-- Return the jobs that a worker has leased, to be changed.
SELECT jobs.seq, {locked_columns}
FROM jobs WHERE seq IN (
    SELECT unnest(l.jobs) FROM leases l WHERE l.ends_at > 0 AND l.worker_id = %(worker_id)s
) AND status = 3 AND organization + 0 = %(organization)s AND worker_id = %(worker_id)s
ORDER BY seq FOR UPDATE

-- name: lock_unanswered
-- Return the jobs of a queue that a worker has leased by some leases, to be changed.
SELECT jobs.seq, {locked_columns}
FROM jobs WHERE status = 3 AND lease_expires_at > 0 AND queue + 0 = %(queue)s
    AND worker_id = %(worker_id)s AND lease_id = ANY(%(leases)s)
ORDER BY seq FOR UPDATE

-- name: lock_too_late
-- Return jobs that did not start in time, to be changed.
SELECT jobs.seq, {locked_columns}
FROM jobs WHERE starts_by <= %(now)s
ORDER BY starts_by LIMIT %(limit)s FOR UPDATE SKIP LOCKED

-- name: read_next_moment
-- Return when the next job is due, when the next lease ends, and when an upload is gone that holds
-- a seal back; and whether a batch is being cancelled.
SELECT (SELECT min(due_at) FROM jobs WHERE due_at < {held}),
    (SELECT min(ends_at) FROM leases),
    (SELECT min(starts_by) FROM jobs WHERE starts_by IS NOT NULL),
    (SELECT min((SELECT coalesce(max(u.seen_at), 0) FROM uploads u WHERE u.batch = b.id))
        + %(gone)s::int8 FROM batches b WHERE b.seal_asked),
    EXISTS (SELECT FROM batches WHERE cancel_after IS NOT NULL)

-- name: find_ended_leases
-- Return those of our leases that ended while we did not listen.
SELECT h.seq FROM unnest(%(seqs)s::int8[], %(leases)s::text[]) AS h (seq, lease_id)
LEFT JOIN jobs j ON j.seq = h.seq
WHERE j.status IS DISTINCT FROM 3 OR j.lease_id <> h.lease_id

-- Jobs, as they are read
-- ======================

-- name: read_job
-- Return one job.
SELECT jobs.seq, {job_columns}, q.name,
    jobs.result, jobs.payload, NULL
FROM jobs JOIN queues q ON q.id = jobs.queue JOIN organizations o ON o.id = jobs.organization
WHERE jobs.seq = %(seq)s AND o.name = %(organization)s

-- name: list_attempts
-- Return the newest deliveries that ended otherwise, then the one that runs or completed.
(
    SELECT number, worker_id, started_at, ended_at, ending, exit_code, error FROM attempts
    WHERE job = %(job)s ORDER BY number DESC LIMIT %(limit)s
)
UNION ALL
SELECT coalesce((SELECT max(number) FROM attempts WHERE job = %(job)s), 0) + 1, worker_id,
    started_at, completed_at, CASE status WHEN 4 THEN 1::int2 END, NULL, NULL
FROM jobs WHERE seq = %(job)s AND status IN (3, 4)
ORDER BY 1

-- name: list_jobs_of_batch
-- Return a page of a batch's jobs: its own, and those that others made.
WITH place AS MATERIALIZED (
    (
        SELECT seq FROM jobs WHERE batch = %(batch)s AND seq > %(after)s
            AND (%(statuses)s::int2[] IS NULL OR status = ANY(%(statuses)s::int2[]))
        ORDER BY seq LIMIT %(limit)s + 1
    )
    UNION ALL
    (
        SELECT l.job FROM batch_links l JOIN jobs k ON k.seq = l.job
        WHERE l.batch = %(batch)s AND l.job > %(after)s
            AND (%(statuses)s::int2[] IS NULL OR k.status = ANY(%(statuses)s::int2[]))
        ORDER BY l.job LIMIT %(limit)s + 1
    )
    ORDER BY 1 LIMIT %(limit)s + 1
), sized AS (
    SELECT jobs.seq, row_number() OVER so_far AS number, count(*) OVER () AS places,
        sum(CASE WHEN %(omit_payload)s THEN 0 ELSE octet_length(jobs.payload) END
            + coalesce(octet_length(jobs.result), 0)) OVER so_far AS total
    FROM place p JOIN jobs ON jobs.seq = p.seq
    WINDOW so_far AS (ORDER BY jobs.seq)
)
SELECT s.places,
    jobs.seq, {job_columns}, q.name,
    jobs.result, CASE WHEN %(omit_payload)s THEN NULL ELSE jobs.payload END, NULL
FROM sized s JOIN jobs ON jobs.seq = s.seq JOIN queues q ON q.id = jobs.queue
WHERE s.number <= %(limit)s AND (s.number = 1 OR s.total <= %(budget)s)
ORDER BY jobs.seq

-- name: list_dead_letters
-- Return a page of a queue's dead letters.
WITH place AS MATERIALIZED (
    SELECT jobs.seq, octet_length(jobs.payload) AS size
    FROM jobs JOIN queues q ON q.id = jobs.queue JOIN organizations o ON o.id = q.organization
    WHERE o.name = %(organization)s AND q.name = %(name)s AND jobs.phase = 6 AND jobs.seq > %(after)s
    ORDER BY jobs.seq LIMIT %(limit)s + 1
), sized AS (
    SELECT seq, row_number() OVER so_far AS number, count(*) OVER () AS places,
        sum(size) OVER so_far AS total
    FROM place WINDOW so_far AS (ORDER BY seq)
)
SELECT s.places,
    jobs.seq, {job_columns}, %(name)s::text,
    jobs.result, jobs.payload, NULL
FROM sized s JOIN jobs ON jobs.seq = s.seq
WHERE s.number <= %(limit)s AND (s.number = 1 OR s.total <= %(budget)s)
ORDER BY jobs.seq

-- name: search_jobs
-- Return jobs of a batch by status and text.
WITH place AS MATERIALIZED (
    (
        SELECT seq FROM jobs WHERE batch = %(batch)s AND seq > %(after)s
        ORDER BY seq LIMIT %(searched)s
    )
    UNION ALL
    (
        SELECT job FROM batch_links WHERE batch = %(batch)s AND job > %(after)s
        ORDER BY job LIMIT %(searched)s
    )
    ORDER BY 1 LIMIT %(searched)s
), looked AS (
    SELECT count(*) AS places, max(seq) AS last FROM place
)
SELECT looked.places, looked.last, f.*
FROM looked LEFT JOIN LATERAL (
    SELECT jobs.seq, {job_columns}, q.name,
    NULL::bytea, NULL::bytea, NULL
    FROM place p JOIN jobs ON jobs.seq = p.seq JOIN queues q ON q.id = jobs.queue
    WHERE (%(statuses)s::int2[] IS NULL OR jobs.status = ANY(%(statuses)s::int2[]))
        AND (%(text)s::bytea = '' OR position(%(text)s::bytea IN jobs.last_error) > 0
            OR jobs.worker_id = %(worker)s::text OR jobs.idempotency_key = %(key)s::bytea
            OR jobs.seq = %(number)s::int8)
    ORDER BY jobs.seq LIMIT %(limit)s
) AS f ON true

-- Batches
-- =======

-- name: find_batch
-- Return the newest generation of a batch.
SELECT b.id, b.queue, b.sealed, b.generation, b.weight
FROM batches b JOIN organizations o ON o.id = b.organization
WHERE o.name = %(organization)s AND b.batch_id = %(batch_id)s AND NOT b.superseded

-- name: add_batch
-- Make a batch.
INSERT INTO batches (
    organization, batch_id, queue, name, made_by, generation, created_at, changed_at
) VALUES (
    %(organization)s, %(batch_id)s, %(queue)s, %(name)s, %(made_by)s, %(generation)s, %(now)s,
    %(now)s
)
ON CONFLICT DO NOTHING

-- name: name_batch
-- Give a batch another name.
UPDATE batches SET name = %(name)s
WHERE organization = %(organization)s AND batch_id = %(batch_id)s AND NOT superseded
    AND queue = %(queue)s AND generation = %(generation)s
    AND %(name)s::bytea <> '' AND name <> %(name)s::bytea

-- name: weigh_batch
-- Give a batch another weight, for rows that come from now on.
UPDATE batches SET weight = %(weight)s
WHERE organization = %(organization)s AND batch_id = %(batch_id)s AND NOT superseded
    AND queue = %(queue)s AND generation = %(generation)s AND %(weight)s > 0

-- name: limit_batch
-- Keep what the limit keys of a batch are.
UPDATE batches SET limit_by = %(limit_by)s, limit_per_key = %(limit_per_key)s
WHERE organization = %(organization)s AND batch_id = %(batch_id)s AND NOT superseded
    AND queue = %(queue)s AND generation = %(generation)s

-- name: supersede_batch
-- Let a newer generation begin; chunks that are on their way into this one are waited for.
UPDATE batches SET superseded = true, seal_asked = false
WHERE organization = %(organization)s AND batch_id = %(batch_id)s AND NOT superseded
    AND queue = %(queue)s AND generation < %(generation)s
RETURNING id, name

-- name: use_batch
-- Note that a table was sent again: its batch must not be forgotten in the middle.
UPDATE batches SET used_at = %(now)s WHERE id = %(batch)s

-- name: use_sealed_batch
-- The same by name, where the batch is sealed.
UPDATE batches SET used_at = %(now)s
WHERE organization = %(organization)s AND batch_id = %(batch_id)s AND NOT superseded AND sealed

-- name: share_batch
-- Let nobody seal a batch until the commit; others may add to it all the same.
SELECT sealed, superseded, forgotten FROM batches WHERE id = %(batch)s FOR SHARE

-- name: lock_batch
-- Let nobody add to a batch until the commit.
SELECT sealed, superseded, forgotten FROM batches WHERE id = %(batch)s FOR UPDATE

-- name: set_sealed
-- Seal a batch, or open it again.
UPDATE batches SET sealed = %(sealed)s, seal_asked = false, changed_at = %(now)s,
    settled_at = NULL
WHERE id = %(batch)s

-- name: read_batches
-- Return batches with their counters and what tells why nothing moves.
SELECT e.errors, e.counts, w.errors, w.due,
    b.batch_id, q.name, b.name, b.sealed, b.seal_asked, {counts c}, b.created_at,
    greatest(b.changed_at, c.changed_at),
    (SELECT max(seen_at) FROM workers WHERE queue = b.queue),
    (SELECT max(lease_expired_at) FROM queue_counters WHERE queue = b.queue),
    b.generation, c.changed, c.replaced, b.made_by, b.limit_by,
    b.limit_per_key, q.paused,
    (SELECT coalesce(sum(processing), 0)::int8 FROM queue_counters WHERE queue = b.queue),
    {limits l}
FROM batches b JOIN organizations o ON o.id = b.organization JOIN queues q ON q.id = b.queue
LEFT JOIN queue_limits l ON l.queue = b.queue
CROSS JOIN LATERAL (
    SELECT {sums}, max(changed_at) AS changed_at, coalesce(sum(changed), 0)::int8 AS changed,
        coalesce(sum(replaced), 0)::int8 AS replaced
    FROM batch_counters WHERE batch = b.id
) AS c
CROSS JOIN LATERAL (
    SELECT array_agg(error) AS errors, array_agg(count) AS counts
    FROM (SELECT error, count FROM batch_errors WHERE batch = b.id AND count > 0
        ORDER BY count DESC LIMIT 5) AS f
) AS e
CROSS JOIN LATERAL (
    SELECT array_agg(error) AS errors, array_agg(due_at) AS due
    FROM (SELECT last_error AS error, due_at FROM jobs
        WHERE batch = b.id AND phase = 2
        ORDER BY due_at LIMIT 100) AS f
) AS w
WHERE o.name = %(organization)s AND b.batch_id = ANY(%(batch_ids)s) AND NOT b.superseded

-- name: list_waiting_of_queue
-- Return with which errors the oldest jobs of a queue wait for their retry, and until when.
SELECT last_error, due_at FROM jobs
WHERE queue = %(queue)s AND phase = 2 ORDER BY seq LIMIT 100

-- name: list_ahead
-- Return the batches of the first claimable jobs of a queue, in the order of claims.
SELECT (SELECT b.batch_id FROM batches b WHERE b.id = jobs.batch),
    (SELECT b.name FROM batches b WHERE b.id = jobs.batch)
FROM jobs WHERE queue = (
    SELECT q.id FROM queues q JOIN organizations o ON o.id = q.organization
    WHERE o.name = %(organization)s AND q.name = %(name)s
) AND phase = 1
ORDER BY priority DESC, round, seq LIMIT %(limit)s

-- name: list_open_batches
-- Return how many batches of each queue are not settled.
SELECT o.name, q.name, count(*) FILTER (WHERE NOT b.sealed AND NOT b.superseded),
    count(*) FILTER (WHERE b.sealed OR b.superseded), min(b.created_at)
FROM batches b JOIN queues q ON q.id = b.queue JOIN organizations o ON o.id = q.organization
WHERE b.settled_at IS NULL AND NOT b.forgotten
GROUP BY q.id, o.name, q.name ORDER BY q.id LIMIT %(limit)s

-- Schemas
-- =======

-- name: keep_schema
-- Keep a schema of a batch.
INSERT INTO batch_schemas (batch, schema_id, schema)
SELECT id, %(schema_id)s::int8, %(schema)s::bytea FROM batches
WHERE organization = %(organization)s AND batch_id = %(batch_id)s AND NOT superseded
    AND queue = %(queue)s AND generation = %(generation)s
ON CONFLICT DO NOTHING

-- name: bring_schemas
-- Keep the schemas of jobs, which came with another batch, with the jobs' own as well.
INSERT INTO batch_schemas (batch, schema_id, schema)
SELECT DISTINCT j.batch, s.schema_id, s.schema
FROM jobs j JOIN batch_schemas s ON s.batch = %(batch)s AND s.schema_id = j.schema_id
WHERE j.seq = ANY(%(seqs)s)
ON CONFLICT DO NOTHING

-- name: read_payload_schema
-- Return the schema of a job's payload.
SELECT s.schema_id, s.schema
FROM organizations o JOIN jobs j ON j.organization = o.id
    JOIN batch_schemas s ON s.batch = j.batch AND s.schema_id = j.schema_id
WHERE o.name = %(organization)s AND j.seq = %(seq)s

-- name: keep_result_schema
-- Keep the schema of the results of a job's batch, unless it has one.
INSERT INTO batch_schemas (batch, schema_id, schema)
SELECT batch, 0, %(schema)s::bytea FROM jobs
WHERE organization = %(organization)s AND seq = %(seq)s AND batch IS NOT NULL
ON CONFLICT DO NOTHING

-- name: read_result_schema_of_job
-- Return the schema of the results of a job's batch.
SELECT s.schema FROM jobs j JOIN batch_schemas s ON s.batch = j.batch AND s.schema_id = 0
WHERE j.organization = %(organization)s AND j.seq = %(seq)s

-- name: read_result_schema
-- Return the schema of the results of a batch.
SELECT s.schema
FROM organizations o JOIN batches b ON b.organization = o.id
    JOIN batch_schemas s ON s.batch = b.id AND s.schema_id = 0
WHERE o.name = %(organization)s AND b.batch_id = %(batch_id)s AND NOT b.superseded

-- Chunks
-- ======

-- name: take_chunk
-- Keep that a chunk is stored; one that is stored at the same time is waited for.
INSERT INTO upload_chunks (batch, upload_id, number, rows)
VALUES (%(batch)s, %(upload_id)s, %(number)s, %(rows)s) ON CONFLICT DO NOTHING RETURNING number

-- name: read_chunk
-- Return the outcome of a chunk that is stored.
SELECT rows, duplicates, changed, replaced FROM upload_chunks
WHERE batch = %(batch)s AND upload_id = %(upload_id)s AND number = %(number)s

-- name: write_chunk
-- Keep the outcome of a chunk.
UPDATE upload_chunks SET duplicates = %(duplicates)s, changed = %(changed)s,
    replaced = %(replaced)s
WHERE batch = %(batch)s AND upload_id = %(upload_id)s AND number = %(number)s

-- name: list_chunks
-- Return runs of chunks that are stored: within one, number and place grow together.
SELECT min(number), max(number) FROM (
    SELECT number, number - row_number() OVER (ORDER BY number) AS run FROM upload_chunks
    WHERE batch = %(batch)s AND upload_id = %(upload_id)s
) AS numbered
GROUP BY run ORDER BY 1 LIMIT %(limit)s

-- name: forget_chunks
-- Remove the outcomes of a batch's chunks.
DELETE FROM upload_chunks WHERE batch = %(batch)s

-- Uploads
-- =======

-- name: begin_upload
-- Note that an upload is not finished.
INSERT INTO uploads (batch, part_id, rows_id, seen_at)
SELECT id, %(part_id)s::bytea, %(rows_id)s::bytea, %(now)s FROM batches
WHERE organization = %(organization)s AND batch_id = %(batch_id)s AND NOT superseded
    AND queue = %(queue)s AND generation = %(generation)s
ON CONFLICT (batch, part_id, rows_id) DO UPDATE SET seen_at = excluded.seen_at

-- name: hear_upload
-- Note that an upload goes on.
UPDATE uploads u SET seen_at = %(now)s FROM batches b
WHERE u.batch = b.id AND b.organization = %(organization)s AND b.batch_id = %(batch_id)s
    AND NOT b.superseded AND u.part_id = %(part_id)s AND u.rows_id = %(rows_id)s

-- name: finish_upload
-- Note that an upload's last row is in.
DELETE FROM uploads
WHERE batch = %(batch)s AND part_id = %(part_id)s AND rows_id = %(rows_id)s

-- name: find_upload
-- Return whether an upload of a batch goes on, or of a part.
SELECT 1 FROM uploads WHERE batch = %(batch)s AND seen_at > %(since)s
    AND (%(part_id)s::bytea = '' OR part_id = %(part_id)s::bytea) LIMIT 1

-- name: forget_uploads
-- Remove a batch's uploads.
DELETE FROM uploads WHERE batch = %(batch)s

-- name: ask_seal
-- Note that an upload has ended while others go on.
UPDATE batches SET seal_asked = true, changed_at = %(now)s WHERE id = %(batch)s

-- name: find_sealable
-- Return a batch of which an upload has ended, and whose others are gone.
SELECT b.id FROM batches b WHERE b.seal_asked
    AND NOT EXISTS (SELECT FROM uploads u WHERE u.batch = b.id AND u.seen_at > %(since)s)
ORDER BY b.id LIMIT 1 FOR UPDATE SKIP LOCKED

-- Parts
-- =====

-- name: begin_part
-- Note that a part of a batch has begun.
INSERT INTO batch_parts (batch, part_id)
SELECT id, %(part_id)s::bytea FROM batches
WHERE organization = %(organization)s AND batch_id = %(batch_id)s AND NOT superseded
    AND queue = %(queue)s AND generation = %(generation)s
ON CONFLICT DO NOTHING

-- name: find_part
-- Return whether a part is finished.
SELECT finished FROM batch_parts WHERE batch = %(batch)s AND part_id = %(part_id)s

-- name: share_part
-- Let nobody finish a part until the commit; others may add to it all the same.
SELECT finished FROM batch_parts WHERE batch = %(batch)s AND part_id = %(part_id)s FOR SHARE

-- name: lock_part
-- Let nobody add to a part until the commit.
SELECT finished FROM batch_parts WHERE batch = %(batch)s AND part_id = %(part_id)s FOR UPDATE

-- name: finish_part
-- Note that a part's last row is in; chunks that are on their way into it are waited for.
INSERT INTO batch_parts (batch, part_id, finished, rows)
VALUES (%(batch)s, %(part_id)s, %(finished)s, %(rows)s)
ON CONFLICT (batch, part_id) DO UPDATE SET finished = excluded.finished, rows = excluded.rows

-- name: reopen_part
-- Note that a part got another row.
UPDATE batch_parts SET finished = false WHERE batch = %(batch)s AND part_id = %(part_id)s

-- name: list_parts
-- Return parts of a batch by id.
SELECT part_id, finished, rows FROM batch_parts
WHERE batch = %(batch)s AND part_id > %(after)s::bytea ORDER BY part_id LIMIT %(limit)s

-- name: forget_parts
-- Remove a batch's parts.
DELETE FROM batch_parts WHERE batch = %(batch)s

-- Links: jobs that are in a batch though another made them
-- ========================================================

-- name: add_links
-- Make jobs part of a batch; return those that were not yet.
INSERT INTO batch_links (batch, job)
SELECT %(batch)s, job FROM unnest(%(jobs)s::int8[]) AS d (job) ORDER BY job
ON CONFLICT DO NOTHING RETURNING job

-- name: find_links
-- Return which of these jobs are linked to a batch.
SELECT job FROM batch_links WHERE batch = %(batch)s AND job = ANY(%(jobs)s)

-- name: lock_linked
-- Return what a batch counts of jobs that are linked to it; they stay so until the commit.
SELECT seq, status, due_at, {is_expired}, last_error FROM jobs
WHERE seq = ANY(%(jobs)s) ORDER BY seq FOR UPDATE

-- name: mark_linked
-- Note on a job that it has links.
UPDATE jobs SET linked = true WHERE seq = ANY(%(jobs)s) AND NOT linked

-- name: unmark_linked
-- Note on a job that it has no links, where that is so.
UPDATE jobs j SET linked = false WHERE seq = ANY(%(seqs)s) AND linked
    AND NOT EXISTS (SELECT FROM batch_links l WHERE l.job = j.seq)

-- name: list_links
-- Return jobs that are linked to a batch.
SELECT job FROM batch_links WHERE batch = %(batch)s ORDER BY job LIMIT %(limit)s

-- name: remove_links
-- Remove links.
DELETE FROM batch_links l USING unnest(%(seqs)s::int8[], %(batches)s::int8[]) AS h (seq, batch)
WHERE l.job = h.seq AND l.batch = h.batch

-- Cancel and retry
-- ================

-- name: begin_request
-- Keep that a call came; one that is at it at the same time is waited for.
INSERT INTO requests (organization, request_id, at, progress)
VALUES (%(organization)s, %(request_id)s, %(now)s, %(progress)s) ON CONFLICT DO NOTHING
RETURNING request_id

-- name: lock_request
-- Return how far a call is.
SELECT progress FROM requests
WHERE organization = %(organization)s AND request_id = %(request_id)s FOR UPDATE

-- name: write_request
-- Keep how far a call is.
UPDATE requests SET progress = %(progress)s
WHERE organization = %(organization)s AND request_id = %(request_id)s

-- name: forget_requests
-- Remove calls that nobody repeats any longer.
DELETE FROM requests WHERE (organization, request_id) IN (
    SELECT organization, request_id FROM requests WHERE at < %(before)s
    ORDER BY at LIMIT 100 FOR UPDATE SKIP LOCKED
)

-- name: cancel_older
-- Note that older generations of a batch are to be cancelled, unless this one is refused.
UPDATE batches SET cancel_after = 0
WHERE organization = %(organization)s AND batch_id = %(batch_id)s
    AND generation < %(generation)s AND NOT forgotten
    AND EXISTS (
        SELECT FROM batches n WHERE n.organization = %(organization)s
            AND n.batch_id = %(batch_id)s AND NOT n.superseded
            AND n.generation = %(generation)s AND n.queue = %(queue)s
    )

-- name: find_cancelled
-- Return a batch that is being cancelled, and the place to go on from; nobody else is at it.
SELECT id, cancel_after FROM batches WHERE cancel_after IS NOT NULL
ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED

-- name: note_cancelled
-- Note how far a batch is cancelled.
UPDATE batches SET cancel_after = %(after)s WHERE id = %(batch)s

-- name: list_generations
-- Return the generations of a batch.
SELECT b.id FROM batches b JOIN organizations o ON o.id = b.organization
WHERE o.name = %(organization)s AND b.batch_id = %(batch_id)s
    AND (%(highest)s::int4 IS NULL OR b.generation <= %(highest)s::int4) AND NOT b.forgotten
ORDER BY b.generation

-- name: read_generation_counts
-- Return the counters of generations.
SELECT {sums}
FROM batch_counters WHERE batch = ANY(%(batches)s)

-- name: list_places_of_batch
-- Return the numbers of a batch's own jobs and of those that others made, in order.
(
    SELECT seq FROM jobs WHERE batch = %(batch)s AND seq > %(after)s
    ORDER BY seq LIMIT %(limit)s
)
UNION ALL
(
    SELECT job FROM batch_links WHERE batch = %(batch)s AND job > %(after)s
    ORDER BY job LIMIT %(limit)s
)
ORDER BY 1 LIMIT %(limit)s

-- name: lock_in_status
-- Return those of some jobs that are (once nobody else has them) in one of these statuses.
SELECT jobs.seq, {locked_columns}
FROM jobs WHERE seq = ANY(%(seqs)s) AND status = ANY(%(statuses)s)
ORDER BY seq FOR UPDATE

-- name: lock_ready
-- Return claimable jobs of a queue, to be changed.
SELECT jobs.seq, {locked_columns}
FROM jobs WHERE queue = %(queue)s AND phase = 1 AND seq <= %(highest)s
ORDER BY priority DESC, round, seq LIMIT %(limit)s FOR UPDATE SKIP LOCKED

-- name: lock_retrying
-- Return jobs of a queue that wait for their retry, to be changed.
SELECT jobs.seq, {locked_columns}
FROM jobs WHERE queue = %(queue)s AND phase = 2 AND seq <= %(highest)s
ORDER BY seq LIMIT %(limit)s FOR UPDATE SKIP LOCKED

-- name: list_dead_of_queue
-- Return the numbers of a queue's dead letters.
SELECT seq FROM jobs WHERE queue = %(queue)s AND phase = 6 AND seq > %(after)s
ORDER BY seq LIMIT %(limit)s

-- name: find_remembered
-- Return which of these batches are not forgotten.
SELECT id FROM batches WHERE id = ANY(%(batches)s) AND NOT forgotten

-- name: change_payload
-- Give a job another payload.
UPDATE jobs SET payload = %(payload)s WHERE seq = %(seq)s

-- Queues
-- ======

-- name: read_queue
-- Return a queue's counters.
SELECT q.id, {sums c}
FROM queues q JOIN organizations o ON o.id = q.organization
LEFT JOIN queue_counters c ON c.queue = q.id
WHERE o.name = %(organization)s AND q.name = %(name)s
GROUP BY q.id

-- name: read_oldest_claimable
-- Return when the oldest claimable job was made: priority by priority the first of its next round
-- and of the one after, since each batch has a job in one of them.
WITH RECURSIVE first AS (
    (
        SELECT priority, round, created_at FROM jobs
        WHERE queue = %(queue)s AND phase = 1
        ORDER BY priority DESC, round, seq LIMIT 1
    )
    UNION ALL
    SELECT j.priority, j.round, j.created_at FROM first CROSS JOIN LATERAL (
        SELECT priority, round, created_at FROM jobs
        WHERE queue = %(queue)s AND phase = 1 AND priority < first.priority
        ORDER BY priority DESC, round, seq LIMIT 1
    ) AS j
)
SELECT min(least(first.created_at, (
    SELECT j.created_at FROM jobs j
    WHERE j.queue = %(queue)s AND j.phase = 1
        AND j.priority = first.priority AND j.round > first.round
    ORDER BY j.round, j.seq LIMIT 1
))) FROM first

-- name: list_queues
-- Return the oldest queues: of each organization the first, then of each the second, and so on;
-- with when the oldest job was made that waits for its retry, and how many workers are there.
SELECT o.name, q.name, q.paused, (
    SELECT created_at FROM jobs WHERE queue = q.id AND phase = 2
    ORDER BY seq LIMIT 1
), (SELECT count(*) FROM workers WHERE queue = q.id AND seen_at > %(seen)s)
FROM (
    SELECT id, organization, name, paused,
        row_number() OVER (PARTITION BY organization ORDER BY id) AS place
    FROM queues WHERE id > 0 ORDER BY place, id LIMIT %(limit)s
) AS q JOIN organizations o ON o.id = q.organization
ORDER BY q.place, q.id

-- name: read_control
-- Return what holds a queue back.
SELECT q.paused, {limits l}
FROM queues q JOIN organizations o ON o.id = q.organization
LEFT JOIN queue_limits l ON l.queue = q.id
WHERE o.name = %(organization)s AND q.name = %(name)s

-- name: set_paused
-- Pause a queue, or resume it.
UPDATE queues SET paused = %(paused)s WHERE id = %(queue)s

-- name: put_limits
-- Set a queue's limits.
INSERT INTO queue_limits (queue, {limits})
VALUES (%(queue)s, %(rate)s, %(burst)s, %(level)s, %(filled_at)s, %(max_in_flight)s,
    %(throttled_from)s, %(throttled_to)s, %(throttled_at)s, %(held_until)s, %(set_at)s)
ON CONFLICT (queue) DO UPDATE SET rate = excluded.rate, burst = excluded.burst,
    level = excluded.level, filled_at = excluded.filled_at,
    max_in_flight = excluded.max_in_flight, throttled_from = excluded.throttled_from,
    throttled_to = excluded.throttled_to, throttled_at = excluded.throttled_at,
    held_until = excluded.held_until, set_at = excluded.set_at

-- name: list_throttled
-- Return the queues that are slower, with their limits.
SELECT o.name, q.name, {limits l}
FROM queue_limits l JOIN queues q ON q.id = l.queue JOIN organizations o ON o.id = q.organization
WHERE l.throttled_at IS NOT NULL ORDER BY q.id LIMIT %(limit)s

-- name: remove_limits
-- Remove a queue's limits.
DELETE FROM queue_limits WHERE queue = %(queue)s

-- Workers
-- =======

-- name: forget_workers
-- Forget the workers of an organization that were not heard of for long.
DELETE FROM workers WHERE organization = %(organization)s AND seen_at < %(before)s
RETURNING worker_id

-- name: put_worker
-- Add a worker, or update it; nothing where the organization has too many.
INSERT INTO workers (worker_id, organization, queue, hostname, worker_type, max_concurrency,
    version, metadata, registered_at, seen_at)
SELECT %(worker_id)s, %(organization)s, %(queue)s, %(hostname)s, %(worker_type)s,
    %(max_concurrency)s, %(version)s, %(metadata)s, %(now)s, %(now)s
WHERE (
    SELECT count(*) FROM workers
    WHERE organization = %(organization)s AND worker_id <> %(worker_id)s
) < %(most)s
ON CONFLICT (organization, worker_id) DO UPDATE SET queue = excluded.queue, hostname = excluded.hostname,
    worker_type = excluded.worker_type, max_concurrency = excluded.max_concurrency,
    version = excluded.version, metadata = excluded.metadata, seen_at = excluded.seen_at
RETURNING worker_id

-- name: touch_worker
-- Note that a worker lives.
UPDATE workers SET seen_at = %(now)s, current_jobs = %(current_jobs)s, status = %(status)s,
    metadata = %(metadata)s
WHERE worker_id = %(worker_id)s
    AND organization = (SELECT id FROM organizations WHERE name = %(organization)s)
RETURNING worker_id

-- name: remove_worker
-- Forget a worker.
DELETE FROM workers WHERE worker_id = %(worker_id)s
    AND organization = (SELECT id FROM organizations WHERE name = %(organization)s)
RETURNING worker_id

-- name: find_queue_of_worker
-- Return the queue that a worker is registered for.
SELECT q.name FROM workers w JOIN queues q ON q.id = w.queue
    JOIN organizations o ON o.id = w.organization
WHERE w.worker_id = %(worker_id)s AND o.name = %(organization)s

-- API keys
-- ========

-- name: add_key
-- Keep a new key.
INSERT INTO keys (key_id, organization, name, role, queues, digest, created_at, expires_at,
    created_by)
VALUES (%(key_id)s, %(organization)s, %(name)s, %(role)s, %(queues)s, %(digest)s, %(created_at)s,
    %(expires_at)s, %(created_by)s)

-- name: revoke_key
-- End a key, unless it ended before.
UPDATE keys SET revoked_at = %(now)s
WHERE key_id = %(key_id)s AND revoked_at IS NULL
    AND organization = (SELECT id FROM organizations WHERE name = %(organization)s)

-- name: find_key
-- Return a key.
SELECT o.name, k.key_id, k.name, k.role, k.queues, k.digest, k.created_at, k.expires_at,
    k.revoked_at, k.created_by, k.last_used_at
FROM keys k JOIN organizations o ON o.id = k.organization
WHERE k.key_id = %(key_id)s AND o.name = %(organization)s

-- name: list_keys
-- Return every key, oldest first.
SELECT o.name, k.key_id, k.name, k.role, k.queues, k.digest, k.created_at, k.expires_at,
    k.revoked_at, k.created_by, k.last_used_at
FROM keys k JOIN organizations o ON o.id = k.organization
ORDER BY k.created_at, k.key_id

-- name: list_keys_of_organization
-- Return a page of an organization's keys, oldest first.
SELECT o.name, k.key_id, k.name, k.role, k.queues, k.digest, k.created_at, k.expires_at,
    k.revoked_at, k.created_by, k.last_used_at
FROM keys k JOIN organizations o ON o.id = k.organization
WHERE o.name = %(organization)s AND (k.created_at, k.key_id) > (%(made_at)s, %(key_id)s)
ORDER BY k.created_at, k.key_id LIMIT %(limit)s

-- name: count_keys
-- Return how many keys an organization has, and how long their queues' names are together.
SELECT count(*), coalesce(sum(length(k.queues)), 0)::int8
FROM keys k JOIN organizations o ON o.id = k.organization WHERE o.name = %(organization)s

-- Audit
-- =====

-- name: touch_key
-- Note when a key was used, unless a later time is noted.
UPDATE keys SET last_used_at = %(at)s
WHERE key_id = %(key_id)s AND coalesce(last_used_at, 0) < %(at)s

-- name: add_audit
-- Keep an entry.
INSERT INTO audit (at, kind, times, organization, key_id, key_name, peer, action, target, outcome)
VALUES (%(at)s, %(kind)s, %(times)s, %(organization)s, %(key_id)s,
    %(key_name)s, %(peer)s, %(action)s, %(target)s, %(outcome)s)

-- name: prune_audit
-- Let go of entries of a kind beyond the newest so many.
DELETE FROM audit WHERE kind = %(kind)s AND seq <= (
    SELECT seq FROM audit WHERE kind = %(kind)s ORDER BY seq DESC LIMIT 1 OFFSET %(kept)s
)

-- name: list_audit
-- Return entries, newest first.
SELECT seq, at, kind, times, organization, key_id, key_name, peer, action, target, outcome
FROM audit WHERE seq < %(before)s ORDER BY seq DESC LIMIT %(limit)s

-- name: list_audit_of
-- Return entries of an organization, newest first.
SELECT seq, at, kind, times, organization, key_id, key_name, peer, action, target, outcome
FROM audit WHERE organization = %(organization)s AND seq < %(before)s
ORDER BY seq DESC LIMIT %(limit)s

-- What an operator looks through
-- ==============================

-- name: list_queues_of_organization
-- Return queues by name with their counters and limits.
SELECT q.name, q.id, {counts c}, q.paused, {limits l}
FROM organizations o JOIN queues q ON q.organization = o.id
LEFT JOIN queue_limits l ON l.queue = q.id
CROSS JOIN LATERAL (
    SELECT {sums} FROM queue_counters WHERE queue = q.id
) AS c
WHERE o.name = %(organization)s AND q.name > %(after)s
    AND (%(queues)s::text[] IS NULL OR q.name = ANY(%(queues)s::text[]))
ORDER BY q.name LIMIT %(limit)s

-- name: list_batches_of_organization
-- Return batches by name and time, newest first.
SELECT b.id, b.batch_id FROM batches b
WHERE b.organization = (SELECT id FROM organizations WHERE name = %(organization)s)
    AND NOT b.superseded AND NOT b.forgotten AND b.id < %(before)s
    AND b.created_at >= %(since)s AND b.created_at < %(until)s
    AND (%(text)s::bytea = '' OR position(%(text)s::bytea IN b.name) > 0
        OR b.batch_id = %(batch_id)s::text)
ORDER BY b.id DESC LIMIT %(limit)s

-- name: list_batches_of_queues
-- Return batches of some queues by name and time, newest first.
SELECT b.id, b.batch_id
FROM organizations o JOIN queues q ON q.organization = o.id
CROSS JOIN LATERAL (
    SELECT id, batch_id FROM batches
    WHERE queue = q.id AND NOT superseded AND NOT forgotten AND id < %(before)s
        AND created_at >= %(since)s AND created_at < %(until)s
        AND (%(text)s::bytea = '' OR position(%(text)s::bytea IN name) > 0
            OR batch_id = %(batch_id)s::text)
    ORDER BY id DESC LIMIT %(limit)s
) AS b
WHERE o.name = %(organization)s AND q.name = ANY(%(queues)s)
ORDER BY b.id DESC LIMIT %(limit)s

-- name: list_jobs
-- Return jobs by queue, status, text and time, newest first, with when they are due.
WITH mine AS MATERIALIZED (
    SELECT (id - 1)::int8 << {place_bits} AS first, least(%(before)s, id::int8 << {place_bits}) AS before
    FROM organizations WHERE name = %(organization)s
), place AS MATERIALIZED (
    SELECT seq, created_at FROM jobs
    WHERE seq >= (SELECT first FROM mine) AND seq < (SELECT before FROM mine)
    ORDER BY seq DESC LIMIT %(searched)s
), looked AS (
    SELECT count(*) AS places, min(seq) AS last, min(created_at) AS made_at FROM place
)
SELECT looked.places, looked.last, looked.made_at, f.*
FROM looked LEFT JOIN LATERAL (
    SELECT jobs.seq, {job_columns}, q.name,
    NULL::bytea, NULL::bytea, NULL, jobs.due_at
    FROM jobs JOIN queues q ON q.id = jobs.queue
    WHERE jobs.organization = (SELECT id FROM organizations WHERE name = %(organization)s)
        AND jobs.seq < (SELECT before FROM mine) AND jobs.seq >= looked.last
        AND (%(statuses)s::int2[] IS NULL OR jobs.status = ANY(%(statuses)s::int2[]))
        AND (NOT %(waiting)s::bool OR jobs.status = 1 AND jobs.due_at IS NOT NULL)
        AND jobs.created_at >= %(since)s AND jobs.created_at < %(until)s
        AND (%(text)s::bytea = '' OR position(%(text)s::bytea IN jobs.last_error) > 0
            OR jobs.worker_id = %(worker)s::text OR jobs.idempotency_key = %(key)s::bytea
            OR jobs.seq = %(number)s::int8)
        AND (%(queues)s::text[] IS NULL OR q.name = ANY(%(queues)s::text[]))
    ORDER BY jobs.seq DESC LIMIT %(limit)s
) AS f ON true

-- name: list_workers
-- Return workers, those that were heard of last first.
SELECT w.worker_id, q.name, w.hostname, w.worker_type, w.max_concurrency, w.version, w.metadata,
    w.status, w.current_jobs, w.registered_at, w.seen_at
FROM workers w JOIN queues q ON q.id = w.queue
WHERE w.organization = (SELECT id FROM organizations WHERE name = %(organization)s)
    AND (%(queues)s::text[] IS NULL OR q.name = ANY(%(queues)s::text[]))
ORDER BY w.seen_at DESC LIMIT %(limit)s

-- Retention
-- =========

-- name: lock_strippable
-- Return jobs that settled long ago, with their payloads: so many that they fit into memory.
WITH old AS MATERIALIZED (
    SELECT j.seq, octet_length(j.payload) AS size
    FROM (SELECT jobs FROM settlements WHERE settled_at <= %(before)s ORDER BY settled_at, id) AS s
    CROSS JOIN LATERAL unnest(s.jobs) AS e (seq) JOIN jobs j ON j.seq = e.seq
    WHERE j.status IN (4, 7) AND NOT j.pruned AND j.completed_at <= %(before)s
    LIMIT %(limit)s FOR UPDATE OF j SKIP LOCKED
), summed AS (
    SELECT seq, size, sum(size) OVER (ORDER BY seq) AS total FROM old
)
SELECT s.seq, j.payload FROM summed s JOIN jobs j ON j.seq = s.seq
WHERE s.total - s.size < %(budget)s

-- name: forget_settlements
-- Remove the first of those that are so old and of which no job is left to be stripped.
WITH first AS MATERIALIZED (
    SELECT settled_at, id, jobs, sum(cardinality(jobs)) OVER (ORDER BY settled_at, id) AS total
    FROM (
        SELECT * FROM settlements WHERE settled_at <= %(before)s
        ORDER BY settled_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ) AS s
)
DELETE FROM settlements s USING first f
WHERE s.settled_at = f.settled_at AND s.id = f.id AND f.total - cardinality(f.jobs) < %(limit)s
    AND NOT EXISTS (
        SELECT FROM jobs WHERE seq = ANY(f.jobs)
            AND status IN (4, 7) AND NOT pruned AND completed_at <= %(before)s
    )
RETURNING s.id

-- name: strip_jobs
-- Take payload, result and tags from jobs that settled long ago, and keep a hash of the payload.
UPDATE jobs j SET payload = '', payload_digest = d.digest, result = NULL, tags = NULL, pruned = true
FROM unnest(%(seqs)s::int8[], %(digests)s::bytea[]) AS d (seq, digest) WHERE j.seq = d.seq

-- name: forget_jobs
-- Remove jobs in no batch that settled long ago.
WITH old AS (
    SELECT seq FROM jobs
    WHERE phase IS NULL AND alone_since <= %(before)s
    ORDER BY alone_since LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
DELETE FROM jobs j USING old WHERE j.seq = old.seq RETURNING j.seq, j.queue, j.status, {is_expired j}

-- name: forget_dead_letters
-- Remove dead letters in no batch that died long ago.
WITH old AS (
    SELECT seq FROM jobs
    WHERE phase = 6 AND alone_since <= %(before)s
    ORDER BY alone_since LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
DELETE FROM jobs j USING old WHERE j.seq = old.seq RETURNING j.seq, j.queue, j.status, {is_expired j}

-- name: lock_settling
-- Take turns with those who note that batches settled, or give them something to do again.
SELECT pg_advisory_xact_lock(hashtext(%(lock)s))

-- name: note_settled
-- Note which batches settled, with whether they have dead letters.
WITH settled AS MATERIALIZED (
    SELECT b.id, greatest(b.changed_at, c.changed_at) AS at, c.dead
    FROM batches b CROSS JOIN LATERAL (
        SELECT coalesce(sum(pending + scheduled + processing), 0) AS open,
            coalesce(sum(deadletter), 0) > 0 AS dead, max(changed_at) AS changed_at
        FROM batch_counters WHERE batch = b.id
    ) AS c
    WHERE b.settled_at IS NULL AND NOT b.forgotten AND (b.sealed OR b.superseded) AND c.open = 0
    LIMIT %(limit)s FOR UPDATE OF b SKIP LOCKED
)
UPDATE batches b SET settled_at = s.at, has_dead = s.dead
FROM settled s WHERE b.id = s.id RETURNING b.id

-- name: unsettle
-- Take back that batches of these jobs are settled.
UPDATE batches SET settled_at = NULL
WHERE settled_at IS NOT NULL AND id IN (
    SELECT batch FROM jobs WHERE seq = ANY(%(seqs)s) AND status IN (6, 7) AND batch IS NOT NULL
    UNION
    SELECT l.batch FROM batch_links l JOIN jobs j ON j.seq = l.job
    WHERE l.job = ANY(%(seqs)s) AND j.status IN (6, 7)
)

-- name: begin_forgetting
-- Let nobody find a batch any longer that settled long ago. Older generations go first:
-- while there are any, the newest one's name is not free.
WITH old AS (
    SELECT b.id FROM batches b
    WHERE b.settled_at <= %(before)s AND NOT b.forgotten AND b.used_at <= %(before)s
        AND b.has_dead = %(dead)s
        AND NOT EXISTS (
            SELECT FROM batches o
            WHERE o.organization = b.organization AND o.batch_id = b.batch_id
                AND o.generation < b.generation
        )
    ORDER BY b.settled_at LIMIT 1 FOR UPDATE OF b SKIP LOCKED
)
UPDATE batches b SET forgotten = true, superseded = true
FROM old WHERE b.id = old.id RETURNING b.id

-- name: find_being_forgotten
-- Return a batch that is being removed.
SELECT id FROM batches WHERE forgotten ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED

-- name: find_forgotten
-- Return a batch of this name that is being removed; who is at it is waited for.
SELECT id FROM batches
WHERE organization = %(owner)s AND batch_id = %(batch_id)s AND forgotten
ORDER BY id LIMIT 1 FOR UPDATE

-- name: list_own_jobs
-- Return jobs that a batch made.
SELECT seq, queue, status, {is_expired} FROM jobs
WHERE batch = %(batch)s ORDER BY seq LIMIT %(limit)s FOR UPDATE

-- name: find_heirs
-- Return for each of some jobs another batch that it is in.
SELECT job, min(batch) FROM batch_links WHERE job = ANY(%(seqs)s) GROUP BY job

-- name: hand_over
-- Make a job another batch's own.
UPDATE jobs j SET batch = h.batch
FROM unnest(%(seqs)s::int8[], %(batches)s::int8[]) AS h (seq, batch) WHERE j.seq = h.seq

-- name: forget_attempts
-- Remove attempts of jobs.
DELETE FROM attempts WHERE job = ANY(%(seqs)s)

-- name: remove_jobs
-- Remove jobs.
DELETE FROM jobs WHERE seq = ANY(%(seqs)s)

-- name: forget_counters
-- Remove a batch's counters.
DELETE FROM batch_counters WHERE batch = %(batch)s

-- name: forget_errors
-- Remove a batch's errors.
DELETE FROM batch_errors WHERE batch = %(batch)s

-- name: forget_schemas
-- Remove the schemas of a batch that is gone.
DELETE FROM batch_schemas WHERE batch = %(batch)s
    AND NOT EXISTS (SELECT FROM batches WHERE id = %(batch)s)

-- name: forget_batch
-- Remove a batch, unless it has been handed a job just now.
DELETE FROM batches WHERE id = %(batch)s
    AND NOT EXISTS (SELECT FROM jobs WHERE batch = %(batch)s)
    AND NOT EXISTS (SELECT FROM batch_links WHERE batch = %(batch)s)

-- Checks
-- ======

-- name: allow_scans
-- Let the planner read whole tables until the commit, however long it takes.
SELECT set_config('enable_seqscan', 'on', true), set_config('enable_hashjoin', 'on', true),
    set_config('statement_timeout', '0', true)

-- name: list_sizes
-- Return how large the tables are that jobs come and go through, and how many dead rows they have.
SELECT name, pg_table_size(id), pg_indexes_size(id), pg_stat_get_dead_tuples(id)
FROM (
    SELECT name, to_regclass(name) AS id FROM unnest(ARRAY['jobs', 'attempts', 'batch_links',
        'batches', 'batch_counters', 'queue_counters', 'turns', 'upload_chunks', 'leases',
        'settlements']) AS n (name)
) AS t

-- name: recount_queues
-- Return the counters of queues, as they are kept and as they are counted.
WITH kept AS (
    SELECT queue, {sums}
    FROM queue_counters GROUP BY queue
), counted AS (
    SELECT queue, count(*) FILTER (WHERE status = 1) AS pending,
        count(*) FILTER (WHERE status = 1 AND due_at IS NOT NULL) AS waiting,
        count(*) FILTER (WHERE status = 2) AS scheduled,
        count(*) FILTER (WHERE status = 3) AS processing,
        count(*) FILTER (WHERE status = 4) AS completed, count(*) FILTER (WHERE status = 5) AS failed,
        count(*) FILTER (WHERE status = 6) AS deadletter,
        count(*) FILTER (WHERE status = 7) AS cancelled,
        count(*) FILTER (WHERE {is_expired}) AS expired
    FROM jobs GROUP BY queue
)
SELECT o.name || '/' || q.name,
    {zeros k},
    {zeros c}
FROM queues q JOIN organizations o ON o.id = q.organization
LEFT JOIN kept k ON k.queue = q.id LEFT JOIN counted c ON c.queue = q.id

-- name: recount_batches
-- Return the counters of batches, as they are kept and as they are counted.
WITH kept AS (
    SELECT batch, {sums}
    FROM batch_counters GROUP BY batch
), places AS (
    SELECT batch, status, due_at, expires_at, completed_at FROM jobs WHERE batch IS NOT NULL
    UNION ALL
    SELECT l.batch, j.status, j.due_at, j.expires_at, j.completed_at FROM batch_links l JOIN jobs j ON j.seq = l.job
), counted AS (
    SELECT batch, count(*) FILTER (WHERE status = 1) AS pending,
        count(*) FILTER (WHERE status = 1 AND due_at IS NOT NULL) AS waiting,
        count(*) FILTER (WHERE status = 2) AS scheduled,
        count(*) FILTER (WHERE status = 3) AS processing,
        count(*) FILTER (WHERE status = 4) AS completed, count(*) FILTER (WHERE status = 5) AS failed,
        count(*) FILTER (WHERE status = 6) AS deadletter,
        count(*) FILTER (WHERE status = 7) AS cancelled,
        count(*) FILTER (WHERE {is_expired}) AS expired
    FROM places GROUP BY batch
)
SELECT o.name || '/' || b.batch_id || ' generation ' || b.generation,
    {zeros k},
    {zeros c}
FROM batches b JOIN organizations o ON o.id = b.organization
LEFT JOIN kept k ON k.batch = b.id LEFT JOIN counted c ON c.batch = b.id
WHERE NOT b.forgotten
