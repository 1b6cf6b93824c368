-- Every statement names its tables in one order (batches, batch_parts, upload_chunks, jobs, queue_limits,
-- batch_links, attempts, daily_jobs, counters, batch_errors) and its rows by number, so that no two
-- transactions wait for each other.

-- name: begin
BEGIN

-- name: commit
COMMIT

-- name: keep_so_far
SAVEPOINT so_far

-- name: back_to_so_far
ROLLBACK TO SAVEPOINT so_far

-- name: organization_number
WITH made AS (
    INSERT INTO organizations (name) VALUES (%(name)s) ON CONFLICT DO NOTHING RETURNING id
)
SELECT id FROM made UNION ALL SELECT id FROM organizations WHERE name = %(name)s

-- name: queue_number
WITH made AS (
    INSERT INTO queues (organization, name) VALUES (%(organization)s, %(name)s)
    ON CONFLICT DO NOTHING RETURNING id
)
SELECT id FROM made
UNION ALL SELECT id FROM queues WHERE organization = %(organization)s AND name = %(name)s

-- name: queue_names
SELECT q.id, o.name, q.name FROM queues q JOIN organizations o ON o.id = q.organization
WHERE q.id = ANY(%(numbers)s)

-- name: batch_names
SELECT b.id, o.name, b.batch_id FROM batches b JOIN organizations o ON o.id = b.organization
WHERE b.id = ANY(%(numbers)s)

-- The commit need not be on the disk: what uses the numbers is written after it, and over the
-- same connection, so that a crash in between ends both.
-- name: no_sync
SET LOCAL synchronous_commit = off

-- name: take_numbers
UPDATE store SET next_seq = next_seq + %(count)s RETURNING next_seq - %(count)s

-- name: id_prefix
SELECT id_prefix FROM store

-- name: notify
SELECT pg_notify(%(channel)s, %(payload)s)

-- Whoever counts here keeps the others of the organization waiting: last, just before the counters.
-- A day of which a server's clock was ahead lasts until the clocks are there again.
-- name: count_daily_jobs
INSERT INTO daily_jobs AS d (organization, day, jobs) VALUES (%(organization)s, %(day)s, %(jobs)s)
ON CONFLICT (organization) DO UPDATE SET day = greatest(d.day, excluded.day),
    jobs = excluded.jobs + CASE WHEN d.day < excluded.day THEN 0 ELSE d.jobs END
RETURNING jobs

-- name: uncount_daily_jobs
UPDATE daily_jobs SET jobs = jobs - %(jobs)s WHERE organization = %(organization)s

-- name: unmake_jobs
DELETE FROM jobs WHERE seq = ANY(%(seqs)s)

-- name: count_queues
INSERT INTO queue_counters AS c (queue, shard, pending, waiting, scheduled, processing, completed,
    failed, deadletter, cancelled, lease_expired_at)
SELECT d.queue, pg_backend_pid() %% 16, d.pending, d.waiting, d.scheduled, d.processing,
    d.completed, d.failed, d.deadletter, d.cancelled, d.lease_expired_at
FROM unnest(%(numbers)s::int4[], %(pending)s::int8[], %(waiting)s::int8[], %(scheduled)s::int8[],
    %(processing)s::int8[], %(completed)s::int8[], %(failed)s::int8[], %(deadletter)s::int8[],
    %(cancelled)s::int8[], %(expired)s::int8[])
    AS d (queue, pending, waiting, scheduled, processing, completed, failed, deadletter, cancelled,
        lease_expired_at)
ORDER BY d.queue
ON CONFLICT (queue, shard) DO UPDATE SET pending = c.pending + excluded.pending,
    waiting = c.waiting + excluded.waiting, scheduled = c.scheduled + excluded.scheduled,
    processing = c.processing + excluded.processing, completed = c.completed + excluded.completed,
    failed = c.failed + excluded.failed, deadletter = c.deadletter + excluded.deadletter,
    cancelled = c.cancelled + excluded.cancelled,
    lease_expired_at = greatest(excluded.lease_expired_at, c.lease_expired_at)

-- name: count_batches
INSERT INTO batch_counters AS c (batch, shard, pending, waiting, scheduled, processing, completed,
    failed, deadletter, cancelled, changed_at)
SELECT d.batch, pg_backend_pid() %% 16, d.pending, d.waiting, d.scheduled, d.processing,
    d.completed, d.failed, d.deadletter, d.cancelled, %(now)s
FROM unnest(%(numbers)s::int8[], %(pending)s::int8[], %(waiting)s::int8[], %(scheduled)s::int8[],
    %(processing)s::int8[], %(completed)s::int8[], %(failed)s::int8[], %(deadletter)s::int8[],
    %(cancelled)s::int8[])
    AS d (batch, pending, waiting, scheduled, processing, completed, failed, deadletter, cancelled)
ORDER BY d.batch
ON CONFLICT (batch, shard) DO UPDATE SET pending = c.pending + excluded.pending,
    waiting = c.waiting + excluded.waiting, scheduled = c.scheduled + excluded.scheduled,
    processing = c.processing + excluded.processing, completed = c.completed + excluded.completed,
    failed = c.failed + excluded.failed, deadletter = c.deadletter + excluded.deadletter,
    cancelled = c.cancelled + excluded.cancelled,
    changed_at = greatest(c.changed_at, excluded.changed_at)

-- name: count_errors
INSERT INTO batch_errors AS e (batch, error, count)
SELECT d.batch, d.error, d.count
FROM unnest(%(batches)s::int8[], %(errors)s::bytea[], %(counts)s::int8[]) AS d (batch, error, count)
ORDER BY d.batch, d.error
ON CONFLICT (batch, error) DO UPDATE SET count = e.count + excluded.count

-- Sorted by key: two who store the same keys in another order would wait for each other for ever.
-- name: add_jobs
INSERT INTO jobs (seq, organization, queue, status, priority, due_at, max_retries, timeout_seconds,
    created_at, scheduled_at, idempotency_key, tags, payload)
SELECT n.seq, n.organization, n.queue, n.status, n.priority, n.due_at, n.max_retries,
    n.timeout_seconds, %(now)s, n.scheduled_at, n.idempotency_key, n.tags, n.payload
FROM unnest(%(seqs)s::int8[], %(organizations)s::int4[], %(queues)s::int4[], %(statuses)s::int2[],
    %(priorities)s::int2[], %(due)s::int8[], %(max_retries)s::int2[], %(timeouts)s::int4[],
    %(scheduled)s::int8[], %(keys)s::bytea[], %(tags)s::bytea[], %(payloads)s::bytea[])
    AS n (seq, organization, queue, status, priority, due_at, max_retries, timeout_seconds,
        scheduled_at, idempotency_key, tags, payload)
ORDER BY n.organization, n.idempotency_key, n.seq
ON CONFLICT (organization, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
RETURNING seq

-- name: jobs_of_keys
SELECT k.place - 1, j.seq, j.batch
FROM unnest(%(organizations)s::int4[], %(keys)s::bytea[]) WITH ORDINALITY
    AS k (organization, idempotency_key, place)
CROSS JOIN LATERAL (
    SELECT seq, batch FROM jobs
    WHERE organization = k.organization AND idempotency_key = k.idempotency_key
        AND idempotency_key IS NOT NULL
) AS j

-- name: places_of_keys
SELECT (k.place - 1)::int4
FROM queues q JOIN organizations o ON o.id = q.organization
CROSS JOIN unnest(%(keys)s::bytea[]) WITH ORDINALITY AS k (idempotency_key, place)
CROSS JOIN LATERAL (
    SELECT queue FROM jobs
    WHERE organization = q.organization AND idempotency_key = k.idempotency_key
        AND idempotency_key IS NOT NULL
) AS j
WHERE o.name = %(organization)s AND q.name = %(name)s AND j.queue = q.id
ORDER BY k.place

-- A copy that finds a key taken starts over through this table, which keeps what is new.
-- name: staging
CREATE TEMPORARY TABLE IF NOT EXISTS staged_jobs (LIKE jobs INCLUDING DEFAULTS)
ON COMMIT DELETE ROWS

-- name: add_staged
INSERT INTO jobs SELECT * FROM staged_jobs ORDER BY idempotency_key, seq
ON CONFLICT (organization, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING

-- name: release_due
WITH due AS MATERIALIZED (
    SELECT seq, status FROM jobs WHERE due_at <= %(now)s
    ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE jobs AS j SET status = 1, due_at = NULL FROM due WHERE j.seq = due.seq
RETURNING j.seq, j.queue, j.batch, j.linked, due.status

-- The first jobs, at least one where there are any, that fit into one answer. None of a queue with
-- limits, unless they are counted by whoever asks.
-- name: claim
WITH first AS MATERIALIZED (
    SELECT seq, priority, octet_length(payload) AS size FROM jobs
    WHERE queue = %(queue)s AND status = 1 AND due_at IS NULL
        AND NOT (SELECT paused FROM queues WHERE id = %(queue)s)
        AND (%(counted)s OR NOT EXISTS (SELECT FROM queue_limits WHERE queue = %(queue)s))
    ORDER BY priority DESC, seq LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), placed AS (
    SELECT seq, row_number() OVER so_far AS place, sum(size) OVER so_far AS total
    FROM first WINDOW so_far AS (ORDER BY priority DESC, seq)
)
UPDATE jobs AS j SET status = 3, worker_id = %(worker)s,
    lease_id = encode(uuid_send(gen_random_uuid()), 'hex'),
    started_at = %(now)s, lease_expires_at = %(expiry)s
FROM placed WHERE j.seq = placed.seq AND (placed.place = 1 OR placed.total <= %(budget)s)
RETURNING placed.place, j.batch, j.linked,
    j.seq, '', '', j.status, j.priority, j.retry_count, j.max_retries, j.timeout_seconds,
    j.created_at, j.scheduled_at, j.started_at, j.completed_at, j.lease_expires_at, j.worker_id,
    j.lease_id, j.last_error, j.idempotency_key, j.result, j.payload, j.tags

-- Whether there is something to claim of it, and whether it has limits.
-- name: what_is_left
SELECT EXISTS (
    SELECT FROM jobs WHERE queue = %(queue)s AND status = 1 AND due_at IS NULL
        AND NOT (SELECT paused FROM queues WHERE id = %(queue)s)
    ORDER BY priority DESC, seq
), EXISTS (SELECT FROM queue_limits WHERE queue = %(queue)s)

-- Whoever claims of these queues, or sets their limits, waits until the commit.
-- name: lock_limits
SELECT queue, rate, burst, level, filled_at, max_in_flight, set_at
FROM queue_limits WHERE queue = ANY(%(queues)s) ORDER BY queue FOR UPDATE

-- After the lock, as a statement of its own: it sees what those counted who had the lock before.
-- Whoever settles meanwhile is not seen, so that it is too high at most.
-- name: in_flight
SELECT queue, sum(processing)::int8 FROM queue_counters WHERE queue = ANY(%(queues)s)
GROUP BY queue

-- name: spend
UPDATE queue_limits SET level = %(level)s, filled_at = %(filled_at)s WHERE queue = %(queue)s

-- name: put_limits
INSERT INTO queue_limits (queue, rate, burst, level, filled_at, max_in_flight, set_at)
VALUES (%(queue)s, %(rate)s, %(burst)s, %(level)s, %(filled_at)s, %(max_in_flight)s, %(set_at)s)
ON CONFLICT (queue) DO UPDATE SET rate = excluded.rate, burst = excluded.burst,
    level = excluded.level, filled_at = excluded.filled_at,
    max_in_flight = excluded.max_in_flight, set_at = excluded.set_at

-- name: lift_limits
DELETE FROM queue_limits WHERE queue = %(queue)s

-- name: queue_control
SELECT q.paused, l.rate, l.burst, l.level, l.filled_at, l.max_in_flight, l.set_at
FROM queues q JOIN organizations o ON o.id = q.organization
LEFT JOIN queue_limits l ON l.queue = q.id
WHERE o.name = %(organization)s AND q.name = %(name)s

-- name: lock_jobs
SELECT {locked_job}
FROM jobs WHERE seq = ANY(%(seqs)s) ORDER BY seq FOR UPDATE

-- name: lock_expired
SELECT {locked_job}
FROM jobs WHERE status = 3 AND lease_expires_at <= %(now)s
ORDER BY lease_expires_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED

-- name: write_jobs
UPDATE jobs AS j SET status = n.status, due_at = n.due_at, lease_expires_at = n.lease_expires_at,
    retry_count = n.retry_count, started_at = n.started_at, completed_at = n.completed_at,
    worker_id = n.worker_id, lease_id = n.lease_id,
    last_error = coalesce(n.last_error, j.last_error), result = coalesce(n.result, j.result)
FROM unnest(%(seqs)s::int8[], %(statuses)s::int2[], %(due)s::int8[], %(expiries)s::int8[],
    %(retry_counts)s::int2[], %(started)s::int8[], %(completed)s::int8[], %(workers)s::text[],
    %(leases)s::text[], %(errors)s::bytea[], %(results)s::bytea[])
    AS n (seq, status, due_at, lease_expires_at, retry_count, started_at, completed_at, worker_id,
        lease_id, last_error, result)
WHERE j.seq = n.seq

-- By the numbers alone, in their order: no condition is one that another index serves. What is not
-- completed is not the holder's, or not any more.
-- name: complete_jobs
UPDATE jobs SET status = 4, completed_at = %(now)s, lease_expires_at = NULL,
    result = coalesce(n.result, jobs.result)
FROM unnest(%(seqs)s::int8[], %(organizations)s::int4[], %(workers)s::text[], %(leases)s::text[],
    %(results)s::bytea[]) AS n (seq, organization, worker_id, lease_id, result)
WHERE jobs.seq = n.seq AND jobs.organization + 0 = n.organization AND jobs.status + 0 = 3
    AND jobs.lease_id = n.lease_id AND (n.worker_id = '' OR jobs.worker_id = n.worker_id)
    AND jobs.lease_expires_at + 0 > %(now)s
RETURNING jobs.seq, jobs.queue, jobs.batch, jobs.linked, {is_capped}

-- name: batches_of_jobs
SELECT job, batch FROM batch_links WHERE job = ANY(%(seqs)s)

-- name: next_moment
SELECT (SELECT min(due_at) FROM jobs WHERE due_at IS NOT NULL),
    (SELECT min(lease_expires_at) FROM jobs WHERE status = 3)

-- name: ended_leases
SELECT h.seq FROM unnest(%(seqs)s::int8[], %(leases)s::text[]) AS h (seq, lease_id)
LEFT JOIN jobs j ON j.seq = h.seq
WHERE j.status IS DISTINCT FROM 3 OR j.lease_id <> h.lease_id

-- name: add_batch
INSERT INTO batches (organization, batch_id, queue, name, generation, created_at, changed_at)
VALUES (%(organization)s, %(batch_id)s, %(queue)s, %(name)s, %(generation)s, %(now)s, %(now)s)
ON CONFLICT DO NOTHING

-- name: name_batch
UPDATE batches SET name = %(name)s
WHERE organization = %(organization)s AND batch_id = %(batch_id)s AND NOT superseded
    AND queue = %(queue)s AND generation = %(generation)s
    AND %(name)s::bytea <> '' AND name <> %(name)s::bytea

-- Waits for the chunks that are on their way into the generation before.
-- name: supersede_batch
UPDATE batches SET superseded = true
WHERE organization = %(organization)s AND batch_id = %(batch_id)s AND NOT superseded
    AND queue = %(queue)s AND generation < %(generation)s
RETURNING id, name

-- name: find_batch
SELECT b.id, b.queue, b.sealed, b.generation
FROM batches b JOIN organizations o ON o.id = b.organization
WHERE o.name = %(organization)s AND b.batch_id = %(batch_id)s AND NOT b.superseded

-- Until the commit nobody seals it; others may add to it all the same.
-- name: share_batch
SELECT sealed, superseded, forgotten FROM batches WHERE id = %(batch)s FOR SHARE

-- name: lock_batch
SELECT sealed, superseded, forgotten FROM batches WHERE id = %(batch)s FOR UPDATE

-- name: begin_part
INSERT INTO batch_parts (batch, part_id)
SELECT id, %(part_id)s::bytea FROM batches
WHERE organization = %(organization)s AND batch_id = %(batch_id)s AND NOT superseded
    AND queue = %(queue)s AND generation = %(generation)s
ON CONFLICT DO NOTHING

-- name: find_part
SELECT finished FROM batch_parts WHERE batch = %(batch)s AND part_id = %(part_id)s

-- Until the commit nobody finishes it; others may add to it all the same.
-- name: share_part
SELECT finished FROM batch_parts WHERE batch = %(batch)s AND part_id = %(part_id)s FOR SHARE

-- name: lock_part
SELECT finished FROM batch_parts WHERE batch = %(batch)s AND part_id = %(part_id)s FOR UPDATE

-- Waits for the chunks that are on their way into the part.
-- name: finish_part
INSERT INTO batch_parts (batch, part_id, finished, rows)
VALUES (%(batch)s, %(part_id)s, %(finished)s, %(rows)s)
ON CONFLICT (batch, part_id) DO UPDATE SET finished = excluded.finished, rows = excluded.rows

-- name: unfinish_part
UPDATE batch_parts SET finished = false WHERE batch = %(batch)s AND part_id = %(part_id)s

-- name: parts
SELECT part_id, finished, rows FROM batch_parts
WHERE batch = %(batch)s AND part_id > %(after)s::bytea ORDER BY part_id LIMIT %(limit)s

-- name: forget_parts
DELETE FROM batch_parts WHERE batch = %(batch)s

-- name: generations
SELECT b.id FROM batches b JOIN organizations o ON o.id = b.organization
WHERE o.name = %(organization)s AND b.batch_id = %(batch_id)s
    AND (%(highest)s::int4 IS NULL OR b.generation <= %(highest)s::int4) AND NOT b.forgotten
ORDER BY b.generation

-- name: generation_counts
SELECT coalesce(sum(pending), 0)::int8, coalesce(sum(waiting), 0)::int8,
    coalesce(sum(scheduled), 0)::int8, coalesce(sum(processing), 0)::int8,
    coalesce(sum(completed), 0)::int8, coalesce(sum(failed), 0)::int8,
    coalesce(sum(deadletter), 0)::int8, coalesce(sum(cancelled), 0)::int8
FROM batch_counters WHERE batch = ANY(%(batches)s)

-- The batch's own jobs and those that others made, in the order of their numbers.
-- name: places_of_batch
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

-- Those of some jobs that are (once nobody else has them) in one of these statuses.
-- name: lock_in_status
SELECT {locked_job}
FROM jobs WHERE seq = ANY(%(seqs)s) AND status = ANY(%(statuses)s)
ORDER BY seq FOR UPDATE

-- name: change_payload
UPDATE jobs SET payload = %(payload)s WHERE seq = %(seq)s

-- name: set_paused
UPDATE queues SET paused = %(paused)s WHERE id = %(queue)s

-- name: last_job
SELECT next_seq - 1 FROM store

-- name: lock_ready
SELECT {locked_job}
FROM jobs WHERE queue = %(queue)s AND status = 1 AND due_at IS NULL AND seq <= %(highest)s
ORDER BY priority DESC, seq LIMIT %(limit)s FOR UPDATE SKIP LOCKED

-- name: lock_retrying
SELECT {locked_job}
FROM jobs WHERE queue = %(queue)s AND status = 1 AND due_at IS NOT NULL AND seq <= %(highest)s
ORDER BY seq LIMIT %(limit)s FOR UPDATE SKIP LOCKED

-- name: dead_of_queue
SELECT seq FROM jobs WHERE queue = %(queue)s AND status = 6 AND seq > %(after)s
ORDER BY seq LIMIT %(limit)s

-- With how many there are up to the limit, so that one sees whether some did not fit.
-- name: dead_letters
WITH place AS MATERIALIZED (
    SELECT j.seq, octet_length(j.payload) AS size
    FROM jobs j JOIN queues q ON q.id = j.queue JOIN organizations o ON o.id = q.organization
    WHERE o.name = %(organization)s AND q.name = %(name)s AND j.status = 6 AND j.seq > %(after)s
    ORDER BY j.seq LIMIT %(limit)s + 1
), sized AS (
    SELECT seq, row_number() OVER so_far AS number, count(*) OVER () AS places,
        sum(size) OVER so_far AS total
    FROM place WINDOW so_far AS (ORDER BY seq)
)
SELECT s.places,
    j.seq, '', %(name)s::text, j.status, j.priority, j.retry_count, j.max_retries,
    j.timeout_seconds, j.created_at, j.scheduled_at, j.started_at, j.completed_at,
    j.lease_expires_at, j.worker_id, j.lease_id, j.last_error, j.idempotency_key, j.result,
    j.payload
FROM sized s JOIN jobs j ON j.seq = s.seq
WHERE s.number <= %(limit)s AND (s.number = 1 OR s.total <= %(budget)s)
ORDER BY j.seq

-- name: add_attempts
INSERT INTO attempts (job, number, worker_id, started_at, ended_at, error)
SELECT n.job, coalesce((SELECT max(a.number) FROM attempts a WHERE a.job = n.job), 0) + 1,
    n.worker_id, n.started_at, %(now)s, n.error
FROM unnest(%(jobs)s::int8[], %(workers)s::text[], %(started)s::int8[], %(errors)s::bytea[])
    AS n (job, worker_id, started_at, error)

-- The attempts that failed, then the one that runs or completed.
-- name: attempts
SELECT number, worker_id, started_at, ended_at, error FROM attempts WHERE job = %(job)s
UNION ALL
SELECT coalesce((SELECT max(number) FROM attempts WHERE job = %(job)s), 0) + 1, worker_id,
    started_at, completed_at, NULL
FROM jobs WHERE seq = %(job)s AND status IN (3, 4)
ORDER BY 1

-- name: set_sealed
UPDATE batches SET sealed = %(sealed)s, changed_at = %(now)s, settled_at = NULL
WHERE id = %(batch)s

-- Whoever sends a table again must not lose the batch in the middle.
-- name: use_batch
UPDATE batches SET used_at = %(now)s WHERE id = %(batch)s

-- name: use_sealed_batch
UPDATE batches SET used_at = %(now)s
WHERE organization = %(organization)s AND batch_id = %(batch_id)s AND NOT superseded AND sealed

-- Whoever notes that batches settled, or gives such batches something to do again, takes turns.
-- name: lock_settling
SELECT pg_advisory_xact_lock(hashtext(%(lock)s))

-- name: note_settled
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
UPDATE batches SET settled_at = NULL
WHERE settled_at IS NOT NULL AND id IN (
    SELECT batch FROM jobs WHERE seq = ANY(%(seqs)s) AND status IN (6, 7) AND batch IS NOT NULL
    UNION
    SELECT l.batch FROM batch_links l JOIN jobs j ON j.seq = l.job
    WHERE l.job = ANY(%(seqs)s) AND j.status IN (6, 7)
)

-- name: remembered
SELECT id FROM batches WHERE id = ANY(%(batches)s) AND NOT forgotten

-- name: open_batches
SELECT o.name, q.name, count(*) FILTER (WHERE NOT b.sealed AND NOT b.superseded),
    count(*) FILTER (WHERE b.sealed OR b.superseded), min(b.created_at)
FROM batches b JOIN queues q ON q.id = b.queue JOIN organizations o ON o.id = q.organization
WHERE b.settled_at IS NULL AND NOT b.forgotten
GROUP BY q.id, o.name, q.name ORDER BY q.id LIMIT %(limit)s
-- name: forget_chunks
DELETE FROM upload_chunks WHERE batch = %(batch)s

-- name: take_chunk
INSERT INTO upload_chunks (batch, upload_id, number, rows)
VALUES (%(batch)s, %(upload_id)s, %(number)s, %(rows)s) ON CONFLICT DO NOTHING RETURNING number

-- name: chunk_outcome
SELECT rows, duplicates FROM upload_chunks
WHERE batch = %(batch)s AND upload_id = %(upload_id)s AND number = %(number)s

-- Runs of numbers: within one, number and place grow together.
-- name: stored_chunks
SELECT min(number), max(number) FROM (
    SELECT number, number - row_number() OVER (ORDER BY number) AS run FROM upload_chunks
    WHERE batch = %(batch)s AND upload_id = %(upload_id)s
) AS numbered
GROUP BY run ORDER BY 1 LIMIT %(limit)s

-- name: keep_chunk_outcome
UPDATE upload_chunks SET duplicates = %(duplicates)s
WHERE batch = %(batch)s AND upload_id = %(upload_id)s AND number = %(number)s

-- name: add_links
INSERT INTO batch_links (batch, job)
SELECT %(batch)s, job FROM unnest(%(jobs)s::int8[]) AS d (job) ORDER BY job
ON CONFLICT DO NOTHING RETURNING job

-- name: find_links
SELECT job FROM batch_links WHERE batch = %(batch)s AND job = ANY(%(jobs)s)

-- name: lock_linked
SELECT seq, status, due_at, last_error FROM jobs WHERE seq = ANY(%(jobs)s) ORDER BY seq FOR UPDATE

-- name: mark_linked
UPDATE jobs SET linked = true WHERE seq = ANY(%(jobs)s) AND NOT linked

-- name: job_of_organization
SELECT j.seq, '', q.name, j.status, j.priority, j.retry_count, j.max_retries, j.timeout_seconds,
    j.created_at, j.scheduled_at, j.started_at, j.completed_at, j.lease_expires_at, j.worker_id,
    j.lease_id, j.last_error, j.idempotency_key, j.result, j.payload
FROM jobs j JOIN queues q ON q.id = j.queue JOIN organizations o ON o.id = j.organization
WHERE j.seq = %(seq)s AND o.name = %(organization)s

-- name: queue_counts
SELECT q.id, coalesce(sum(c.pending), 0)::int8, coalesce(sum(c.waiting), 0)::int8,
    coalesce(sum(c.scheduled), 0)::int8, coalesce(sum(c.processing), 0)::int8,
    coalesce(sum(c.completed), 0)::int8, coalesce(sum(c.failed), 0)::int8,
    coalesce(sum(c.deadletter), 0)::int8, coalesce(sum(c.cancelled), 0)::int8
FROM queues q JOIN organizations o ON o.id = q.organization
LEFT JOIN queue_counters c ON c.queue = q.id
WHERE o.name = %(organization)s AND q.name = %(name)s
GROUP BY q.id

-- The oldest claimable job: the first of each priority, priority by priority.
-- name: oldest_claimable
WITH RECURSIVE first AS (
    (
        SELECT priority, created_at FROM jobs
        WHERE queue = %(queue)s AND status = 1 AND due_at IS NULL
        ORDER BY priority DESC, seq LIMIT 1
    )
    UNION ALL
    SELECT j.priority, j.created_at FROM first CROSS JOIN LATERAL (
        SELECT priority, created_at FROM jobs
        WHERE queue = %(queue)s AND status = 1 AND due_at IS NULL AND priority < first.priority
        ORDER BY priority DESC, seq LIMIT 1
    ) AS j
)
SELECT min(created_at) FROM first

-- name: batch_records
SELECT b.batch_id, q.name, b.name, b.sealed, c.pending, c.waiting, c.scheduled, c.processing,
    c.completed, c.failed, c.deadletter, c.cancelled, b.created_at,
    greatest(b.changed_at, c.changed_at),
    (SELECT max(seen_at) FROM workers WHERE queue = b.queue),
    (SELECT max(lease_expired_at) FROM queue_counters WHERE queue = b.queue),
    e.errors, e.counts, b.generation, q.paused,
    (SELECT coalesce(sum(processing), 0)::int8 FROM queue_counters WHERE queue = b.queue),
    l.rate, l.burst, l.level, l.filled_at, l.max_in_flight, l.set_at
FROM batches b JOIN organizations o ON o.id = b.organization JOIN queues q ON q.id = b.queue
LEFT JOIN queue_limits l ON l.queue = b.queue
CROSS JOIN LATERAL (
    SELECT coalesce(sum(pending), 0)::int8 AS pending, coalesce(sum(waiting), 0)::int8 AS waiting,
        coalesce(sum(scheduled), 0)::int8 AS scheduled,
        coalesce(sum(processing), 0)::int8 AS processing,
        coalesce(sum(completed), 0)::int8 AS completed, coalesce(sum(failed), 0)::int8 AS failed,
        coalesce(sum(deadletter), 0)::int8 AS deadletter,
        coalesce(sum(cancelled), 0)::int8 AS cancelled, max(changed_at) AS changed_at
    FROM batch_counters WHERE batch = b.id
) AS c
CROSS JOIN LATERAL (
    SELECT array_agg(error) AS errors, array_agg(count) AS counts
    FROM (SELECT error, count FROM batch_errors WHERE batch = b.id AND count > 0
        ORDER BY count DESC LIMIT 5) AS f
) AS e
WHERE o.name = %(organization)s AND b.batch_id = ANY(%(batch_ids)s) AND NOT b.superseded

-- With how many there are up to the limit, so that one sees whether some did not fit.
-- name: jobs_of_batch
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
    SELECT j.seq, row_number() OVER so_far AS number, count(*) OVER () AS places,
        sum(CASE WHEN %(omit_payload)s THEN 0 ELSE octet_length(j.payload) END
            + coalesce(octet_length(j.result), 0)) OVER so_far AS total
    FROM place p JOIN jobs j ON j.seq = p.seq
    WINDOW so_far AS (ORDER BY j.seq)
)
SELECT s.places,
    j.seq, '', q.name, j.status, j.priority, j.retry_count, j.max_retries, j.timeout_seconds,
    j.created_at, j.scheduled_at, j.started_at, j.completed_at, j.lease_expires_at, j.worker_id,
    j.lease_id, j.last_error, j.idempotency_key, j.result,
    CASE WHEN %(omit_payload)s THEN NULL ELSE j.payload END
FROM sized s JOIN jobs j ON j.seq = s.seq JOIN queues q ON q.id = j.queue
WHERE s.number <= %(limit)s AND (s.number = 1 OR s.total <= %(budget)s)
ORDER BY j.seq

-- name: put_worker
INSERT INTO workers AS w (worker_id, organization, queue, hostname, worker_type, max_concurrency,
    version, metadata, registered_at, seen_at)
VALUES (%(worker_id)s, %(organization)s, %(queue)s, %(hostname)s, %(worker_type)s,
    %(max_concurrency)s, %(version)s, %(metadata)s, %(now)s, %(now)s)
ON CONFLICT (worker_id) DO UPDATE SET queue = excluded.queue, hostname = excluded.hostname,
    worker_type = excluded.worker_type, max_concurrency = excluded.max_concurrency,
    version = excluded.version, metadata = excluded.metadata, seen_at = excluded.seen_at
WHERE w.organization = excluded.organization
RETURNING worker_id

-- name: touch_worker
UPDATE workers SET seen_at = %(now)s, current_jobs = %(current_jobs)s, status = %(status)s,
    metadata = %(metadata)s
WHERE worker_id = %(worker_id)s
    AND organization = (SELECT id FROM organizations WHERE name = %(organization)s)
RETURNING worker_id

-- name: remove_worker
DELETE FROM workers WHERE worker_id = %(worker_id)s
    AND organization = (SELECT id FROM organizations WHERE name = %(organization)s)
RETURNING worker_id

-- name: list_queues
SELECT o.name, q.name FROM queues q JOIN organizations o ON o.id = q.organization
WHERE q.id > 0 ORDER BY q.id LIMIT %(limit)s

-- name: strip_jobs
WITH old AS (
    SELECT seq FROM jobs
    WHERE status IN (4, 7) AND NOT pruned AND completed_at <= %(before)s
    ORDER BY completed_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE jobs j SET payload = '', result = NULL, tags = NULL, pruned = true
FROM old WHERE j.seq = old.seq RETURNING j.seq

-- name: forget_jobs
WITH old AS (
    SELECT seq FROM jobs
    WHERE pruned AND batch IS NULL AND NOT linked AND completed_at <= %(before)s
    ORDER BY completed_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
DELETE FROM jobs j USING old WHERE j.seq = old.seq RETURNING j.seq, j.queue, j.status

-- name: forget_dead_letters
WITH old AS (
    SELECT seq FROM jobs
    WHERE status = 6 AND batch IS NULL AND NOT linked AND completed_at <= %(before)s
    ORDER BY completed_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
DELETE FROM jobs j USING old WHERE j.seq = old.seq RETURNING j.seq, j.queue, j.status

-- Older generations go first: while there are any, the newest one's name is not free.
-- name: begin_forgetting
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

-- name: being_forgotten
SELECT id FROM batches WHERE forgotten ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED

-- Waits for a server that is at it.
-- name: forgotten_batch
SELECT id FROM batches
WHERE organization = %(owner)s AND batch_id = %(batch_id)s AND forgotten
ORDER BY id LIMIT 1 FOR UPDATE

-- name: own_jobs
SELECT seq, queue, status FROM jobs WHERE batch = %(batch)s ORDER BY seq LIMIT %(limit)s FOR UPDATE

-- name: links_of_batch
SELECT job FROM batch_links WHERE batch = %(batch)s ORDER BY job LIMIT %(limit)s

-- name: heirs
SELECT job, min(batch) FROM batch_links WHERE job = ANY(%(seqs)s) GROUP BY job

-- name: hand_over
UPDATE jobs j SET batch = h.batch
FROM unnest(%(seqs)s::int8[], %(batches)s::int8[]) AS h (seq, batch) WHERE j.seq = h.seq

-- name: remove_links
DELETE FROM batch_links l USING unnest(%(seqs)s::int8[], %(batches)s::int8[]) AS h (seq, batch)
WHERE l.job = h.seq AND l.batch = h.batch

-- name: unmark_linked
UPDATE jobs j SET linked = false WHERE seq = ANY(%(seqs)s) AND linked
    AND NOT EXISTS (SELECT FROM batch_links l WHERE l.job = j.seq)

-- name: remove_jobs
DELETE FROM jobs WHERE seq = ANY(%(seqs)s)

-- name: forget_counters
DELETE FROM batch_counters WHERE batch = %(batch)s

-- name: forget_errors
DELETE FROM batch_errors WHERE batch = %(batch)s

-- Unless another server has handed it a job just now.
-- name: forget_batch
DELETE FROM batches WHERE id = %(batch)s
    AND NOT EXISTS (SELECT FROM jobs WHERE batch = %(batch)s)
    AND NOT EXISTS (SELECT FROM batch_links WHERE batch = %(batch)s)

-- name: forget_attempts
DELETE FROM attempts WHERE job = ANY(%(seqs)s)

-- name: recount_settings
SELECT set_config('enable_seqscan', 'on', true), set_config('enable_hashjoin', 'on', true)

-- name: queue_recount
WITH kept AS (
    SELECT queue, sum(pending)::int8 AS pending, sum(waiting)::int8 AS waiting,
        sum(scheduled)::int8 AS scheduled, sum(processing)::int8 AS processing,
        sum(completed)::int8 AS completed, sum(failed)::int8 AS failed,
        sum(deadletter)::int8 AS deadletter, sum(cancelled)::int8 AS cancelled
    FROM queue_counters GROUP BY queue
), counted AS (
    SELECT queue, count(*) FILTER (WHERE status = 1) AS pending,
        count(*) FILTER (WHERE status = 1 AND due_at IS NOT NULL) AS waiting,
        count(*) FILTER (WHERE status = 2) AS scheduled,
        count(*) FILTER (WHERE status = 3) AS processing,
        count(*) FILTER (WHERE status = 4) AS completed, count(*) FILTER (WHERE status = 5) AS failed,
        count(*) FILTER (WHERE status = 6) AS deadletter,
        count(*) FILTER (WHERE status = 7) AS cancelled
    FROM jobs GROUP BY queue
)
SELECT o.name || '/' || q.name,
    coalesce(k.pending, 0), coalesce(k.waiting, 0), coalesce(k.scheduled, 0),
    coalesce(k.processing, 0), coalesce(k.completed, 0), coalesce(k.failed, 0),
    coalesce(k.deadletter, 0), coalesce(k.cancelled, 0),
    coalesce(c.pending, 0), coalesce(c.waiting, 0), coalesce(c.scheduled, 0),
    coalesce(c.processing, 0), coalesce(c.completed, 0), coalesce(c.failed, 0),
    coalesce(c.deadletter, 0), coalesce(c.cancelled, 0)
FROM queues q JOIN organizations o ON o.id = q.organization
LEFT JOIN kept k ON k.queue = q.id LEFT JOIN counted c ON c.queue = q.id

-- name: batch_recount
WITH kept AS (
    SELECT batch, sum(pending)::int8 AS pending, sum(waiting)::int8 AS waiting,
        sum(scheduled)::int8 AS scheduled, sum(processing)::int8 AS processing,
        sum(completed)::int8 AS completed, sum(failed)::int8 AS failed,
        sum(deadletter)::int8 AS deadletter, sum(cancelled)::int8 AS cancelled
    FROM batch_counters GROUP BY batch
), places AS (
    SELECT batch, status, due_at FROM jobs WHERE batch IS NOT NULL
    UNION ALL
    SELECT l.batch, j.status, j.due_at FROM batch_links l JOIN jobs j ON j.seq = l.job
), counted AS (
    SELECT batch, count(*) FILTER (WHERE status = 1) AS pending,
        count(*) FILTER (WHERE status = 1 AND due_at IS NOT NULL) AS waiting,
        count(*) FILTER (WHERE status = 2) AS scheduled,
        count(*) FILTER (WHERE status = 3) AS processing,
        count(*) FILTER (WHERE status = 4) AS completed, count(*) FILTER (WHERE status = 5) AS failed,
        count(*) FILTER (WHERE status = 6) AS deadletter,
        count(*) FILTER (WHERE status = 7) AS cancelled
    FROM places GROUP BY batch
)
SELECT o.name || '/' || b.batch_id || ' generation ' || b.generation,
    coalesce(k.pending, 0), coalesce(k.waiting, 0), coalesce(k.scheduled, 0),
    coalesce(k.processing, 0), coalesce(k.completed, 0), coalesce(k.failed, 0),
    coalesce(k.deadletter, 0), coalesce(k.cancelled, 0),
    coalesce(c.pending, 0), coalesce(c.waiting, 0), coalesce(c.scheduled, 0),
    coalesce(c.processing, 0), coalesce(c.completed, 0), coalesce(c.failed, 0),
    coalesce(c.deadletter, 0), coalesce(c.cancelled, 0)
FROM batches b JOIN organizations o ON o.id = b.organization
LEFT JOIN kept k ON k.batch = b.id LEFT JOIN counted c ON c.batch = b.id
WHERE NOT b.forgotten

-- name: queue_of_worker
SELECT q.name FROM workers w JOIN queues q ON q.id = w.queue
    JOIN organizations o ON o.id = w.organization
WHERE w.worker_id = %(worker_id)s AND o.name = %(organization)s

-- name: add_key
INSERT INTO keys (key_id, organization, name, role, queues, digest, created_at, expires_at)
VALUES (%(key_id)s, %(organization)s, %(name)s, %(role)s, %(queues)s, %(digest)s, %(created_at)s,
    %(expires_at)s)

-- name: revoke_key
UPDATE keys SET revoked_at = %(now)s
WHERE key_id = %(key_id)s AND revoked_at IS NULL
    AND organization = (SELECT id FROM organizations WHERE name = %(organization)s)

-- name: find_key
SELECT o.name, k.key_id, k.name, k.role, k.queues, k.digest, k.created_at, k.expires_at,
    k.revoked_at
FROM keys k JOIN organizations o ON o.id = k.organization
WHERE k.key_id = %(key_id)s AND o.name = %(organization)s

-- name: all_keys
SELECT o.name, k.key_id, k.name, k.role, k.queues, k.digest, k.created_at, k.expires_at,
    k.revoked_at
FROM keys k JOIN organizations o ON o.id = k.organization
ORDER BY k.created_at, k.key_id

-- name: queues_of_organization
SELECT q.name, q.id, coalesce(c.pending, 0)::int8, coalesce(c.waiting, 0)::int8,
    coalesce(c.scheduled, 0)::int8, coalesce(c.processing, 0)::int8,
    coalesce(c.completed, 0)::int8, coalesce(c.failed, 0)::int8,
    coalesce(c.deadletter, 0)::int8, coalesce(c.cancelled, 0)::int8,
    q.paused, l.rate, l.burst, l.level, l.filled_at, l.max_in_flight, l.set_at
FROM organizations o JOIN queues q ON q.organization = o.id
LEFT JOIN queue_limits l ON l.queue = q.id
CROSS JOIN LATERAL (
    SELECT sum(pending) AS pending, sum(waiting) AS waiting, sum(scheduled) AS scheduled,
        sum(processing) AS processing, sum(completed) AS completed, sum(failed) AS failed,
        sum(deadletter) AS deadletter, sum(cancelled) AS cancelled
    FROM queue_counters WHERE queue = q.id
) AS c
WHERE o.name = %(organization)s AND q.name > %(after)s
    AND (%(queues)s::text[] IS NULL OR q.name = ANY(%(queues)s::text[]))
ORDER BY q.name LIMIT %(limit)s

-- name: batches_of_organization
SELECT b.id, b.batch_id FROM batches b
WHERE b.organization = (SELECT id FROM organizations WHERE name = %(organization)s)
    AND NOT b.superseded AND NOT b.forgotten AND b.id < %(before)s
ORDER BY b.id DESC LIMIT %(limit)s

-- name: batches_of_queues
SELECT b.id, b.batch_id
FROM organizations o JOIN queues q ON q.organization = o.id
CROSS JOIN LATERAL (
    SELECT id, batch_id FROM batches
    WHERE queue = q.id AND NOT superseded AND NOT forgotten AND id < %(before)s
    ORDER BY id DESC LIMIT %(limit)s
) AS b
WHERE o.name = %(organization)s AND q.name = ANY(%(queues)s)
ORDER BY b.id DESC LIMIT %(limit)s

-- name: workers_of_organization
SELECT w.worker_id, q.name, w.hostname, w.worker_type, w.max_concurrency, w.version, w.metadata,
    w.status, w.current_jobs, w.registered_at, w.seen_at
FROM workers w JOIN queues q ON q.id = w.queue
WHERE w.organization = (SELECT id FROM organizations WHERE name = %(organization)s)
    AND (%(queues)s::text[] IS NULL OR q.name = ANY(%(queues)s::text[]))
ORDER BY w.seen_at DESC LIMIT %(limit)s

-- With how many places were looked at, and the last of them, where nothing was found too.
-- name: find_jobs
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
    SELECT j.seq, '', q.name, j.status, j.priority, j.retry_count, j.max_retries,
        j.timeout_seconds, j.created_at, j.scheduled_at, j.started_at, j.completed_at,
        j.lease_expires_at, j.worker_id, j.lease_id, j.last_error, j.idempotency_key, NULL::bytea,
        NULL::bytea
    FROM place p JOIN jobs j ON j.seq = p.seq JOIN queues q ON q.id = j.queue
    WHERE (%(statuses)s::int2[] IS NULL OR j.status = ANY(%(statuses)s::int2[]))
        AND (%(text)s::bytea = '' OR position(%(text)s::bytea IN j.last_error) > 0
            OR j.worker_id = %(worker)s::text OR j.idempotency_key = %(key)s::bytea
            OR j.seq = %(number)s::int8)
    ORDER BY j.seq LIMIT %(limit)s
) AS f ON true
