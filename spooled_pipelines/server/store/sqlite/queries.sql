-- name: organization_id
SELECT id FROM organizations WHERE name = ?

-- name: add_organization
INSERT INTO organizations (name) VALUES (?)

-- name: queue_id
SELECT id FROM queues WHERE organization = ? AND name = ?

-- name: add_queue
INSERT INTO queues (organization, name) VALUES (?, ?)

-- name: queue_names
SELECT o.name, q.name FROM queues q JOIN organizations o ON o.id = q.organization WHERE q.id = ?

-- name: batch_names
SELECT o.name, b.batch_id FROM batches b JOIN organizations o ON o.id = b.organization
WHERE b.id = ?

-- name: get_meta
SELECT value FROM meta WHERE name = ?

-- name: set_meta
INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value

-- name: count_queue
UPDATE queues SET pending = pending + ?, waiting = waiting + ?, scheduled = scheduled + ?,
    processing = processing + ?, completed = completed + ?, failed = failed + ?,
    deadletter = deadletter + ?, cancelled = cancelled + ?
WHERE id = ?

-- name: count_batch
UPDATE batches SET pending = pending + ?, waiting = waiting + ?, scheduled = scheduled + ?,
    processing = processing + ?, completed = completed + ?, failed = failed + ?,
    deadletter = deadletter + ?, cancelled = cancelled + ?, changed_at = ?
WHERE id = ?

-- name: add_job
INSERT INTO jobs (seq, organization, queue, status, priority, due_at, batch, max_retries,
    timeout_seconds, created_at, scheduled_at, idempotency_key, tags, payload)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (organization, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING

-- A day of which the clock was ahead lasts until the clock is there again.
-- name: daily_jobs
SELECT jobs FROM daily_jobs WHERE organization = ? AND day >= ?

-- name: keep_daily_jobs
INSERT INTO daily_jobs (organization, day, jobs) VALUES (?, ?, ?)
ON CONFLICT (organization) DO UPDATE SET day = max(day, excluded.day), jobs = excluded.jobs

-- name: job_of_key
SELECT seq, status, due_at, batch FROM jobs WHERE organization = ? AND idempotency_key = ?

-- name: has_key
SELECT 1 FROM organizations o
JOIN queues q ON q.organization = o.id AND q.name = ?2
JOIN jobs j ON j.organization = o.id AND j.idempotency_key = ?3 AND j.queue = q.id
WHERE o.name = ?1

-- name: claimable
SELECT seq, batch, linked, length(payload) FROM jobs INDEXED BY jobs_ready
WHERE queue = ? AND status = 1 AND due_at IS NULL
ORDER BY priority DESC, seq LIMIT ?

-- name: lease_job
UPDATE jobs SET status = 3, worker_id = ?, lease_id = ?, started_at = ?, lease_expires_at = ?
WHERE seq = ?
RETURNING seq, '', '', status, priority, retry_count, max_retries, timeout_seconds, created_at,
    scheduled_at, started_at, completed_at, lease_expires_at, worker_id, lease_id, last_error,
    idempotency_key, result, payload, tags

-- name: job_of_organization
SELECT j.seq, '', q.name, j.status, j.priority, j.retry_count, j.max_retries, j.timeout_seconds,
    j.created_at, j.scheduled_at, j.started_at, j.completed_at, j.lease_expires_at, j.worker_id,
    j.lease_id, j.last_error, j.idempotency_key, j.result, j.payload
FROM jobs j JOIN queues q ON q.id = j.queue
WHERE j.seq = ? AND j.organization = (SELECT id FROM organizations WHERE name = ?)

-- name: lock_job
SELECT {locked_job} FROM jobs WHERE seq = :seq AND organization = :organization

-- name: write_job
UPDATE jobs SET status = :status, retry_count = :retry_count, due_at = :due_at,
    started_at = :started_at, completed_at = :completed_at, lease_expires_at = :lease_expires_at,
    worker_id = :worker_id, lease_id = :lease_id, last_error = :last_error,
    result = coalesce(:result, result)
WHERE seq = :seq

-- The same where the lease lives and is this one; else nothing.
-- name: complete_held_job
UPDATE jobs SET status = 4, completed_at = ?1, result = ?2, lease_expires_at = NULL
WHERE seq = ?3 AND organization = ?4 AND status = 3 AND lease_id = ?5
    AND (?6 = '' OR worker_id = ?6) AND lease_expires_at > ?1
RETURNING seq, queue, batch, linked, {is_capped}

-- name: due_jobs
SELECT seq, queue, status, batch, linked FROM jobs INDEXED BY jobs_due
WHERE due_at IS NOT NULL AND due_at <= ? ORDER BY due_at LIMIT ?

-- name: release_job
UPDATE jobs SET status = 1, due_at = NULL WHERE seq = ?

-- name: lock_expired
SELECT {locked_job} FROM jobs INDEXED BY jobs_leased
WHERE status = 3 AND lease_expires_at <= :now ORDER BY lease_expires_at LIMIT :limit

-- name: note_expiry
UPDATE queues SET lease_expired_at = ? WHERE id = ?

-- name: next_moment
SELECT (SELECT min(due_at) FROM jobs INDEXED BY jobs_due WHERE due_at IS NOT NULL),
    (SELECT min(lease_expires_at) FROM jobs INDEXED BY jobs_leased WHERE status = 3)

-- name: queue_counts
SELECT q.id, q.pending, q.waiting, q.scheduled, q.processing, q.completed, q.failed, q.deadletter,
    q.cancelled
FROM queues q JOIN organizations o ON o.id = q.organization
WHERE o.name = ? AND q.name = ?

-- name: list_queues
SELECT o.name, q.name FROM queues q CROSS JOIN organizations o ON o.id = q.organization
WHERE q.id > 0 ORDER BY q.id LIMIT ?

-- The oldest claimable job: the first of each priority, priority by priority.
-- name: oldest_claimable
WITH RECURSIVE priorities (priority) AS (
    SELECT max(priority) FROM jobs INDEXED BY jobs_ready
    WHERE queue = ?1 AND status = 1 AND due_at IS NULL
    UNION ALL
    SELECT (
        SELECT j.priority FROM jobs j INDEXED BY jobs_ready
        WHERE j.queue = ?1 AND j.status = 1 AND j.due_at IS NULL
            AND j.priority < priorities.priority
        ORDER BY j.priority DESC LIMIT 1
    )
    FROM priorities WHERE priorities.priority IS NOT NULL
)
SELECT min((
    SELECT j.created_at FROM jobs j INDEXED BY jobs_ready
    WHERE j.queue = ?1 AND j.status = 1 AND j.due_at IS NULL AND j.priority = priorities.priority
    ORDER BY j.seq LIMIT 1
))
FROM priorities WHERE priority IS NOT NULL

-- name: batches_of_job
SELECT batch FROM batch_links WHERE job = ?

-- name: open_batches
SELECT o.name, q.name,
    count(*) FILTER (WHERE b.sealed = 0 AND b.superseded = 0),
    count(*) FILTER (WHERE b.sealed = 1 OR b.superseded = 1), min(b.created_at)
FROM batches b INDEXED BY batches_open
CROSS JOIN queues q ON q.id = b.queue CROSS JOIN organizations o ON o.id = q.organization
WHERE b.queue > 0 AND b.forgotten = 0
    AND ((b.sealed = 0 AND b.superseded = 0) OR b.pending + b.scheduled + b.processing > 0)
GROUP BY b.queue ORDER BY b.queue LIMIT ?

-- name: count_error
INSERT INTO batch_errors (batch, error, count) VALUES (?, ?, ?)
ON CONFLICT (batch, error) DO UPDATE SET count = count + excluded.count

-- name: find_batch
SELECT id, queue, sealed, generation, name FROM batches
WHERE organization = ? AND batch_id = ? AND superseded = 0

-- name: add_batch
INSERT INTO batches (id, organization, batch_id, queue, name, generation, created_at, changed_at)
VALUES (1 + max(
        coalesce((SELECT max(id) FROM batches), 0),
        coalesce((SELECT value FROM meta WHERE name = 'last_batch'), 0)
    ), ?, ?, ?, ?, ?, ?, ?)

-- name: supersede_batch
UPDATE batches SET superseded = 1 WHERE id = ?

-- name: name_batch
UPDATE batches SET name = ? WHERE id = ? AND name <> ?

-- name: use_batch
UPDATE batches SET used_at = ? WHERE id = ?

-- name: set_sealed
UPDATE batches SET sealed = ?, changed_at = ? WHERE id = ?

-- name: forget_chunks
DELETE FROM upload_chunks WHERE batch = ?

-- name: chunk_outcome
SELECT rows, duplicates FROM upload_chunks WHERE batch = ? AND upload_id = ? AND number = ?

-- Runs of numbers: within one, number and place grow together.
-- name: stored_chunks
SELECT first.number, (
    SELECT last.number FROM upload_chunks AS last
    WHERE last.batch = first.batch AND last.upload_id = first.upload_id
        AND last.number >= first.number AND NOT EXISTS (
            SELECT 1 FROM upload_chunks AS after WHERE after.batch = first.batch
                AND after.upload_id = first.upload_id AND after.number = last.number + 1
        )
    ORDER BY last.number LIMIT 1
)
FROM upload_chunks AS first
WHERE first.batch = ? AND first.upload_id = ? AND NOT EXISTS (
    SELECT 1 FROM upload_chunks AS before WHERE before.batch = first.batch
        AND before.upload_id = first.upload_id AND before.number = first.number - 1
)
ORDER BY first.number LIMIT ?

-- name: keep_chunk_outcome
INSERT INTO upload_chunks (batch, upload_id, number, rows, duplicates)
VALUES (?, ?, ?, ?, ?)

-- name: begin_part
INSERT INTO batch_parts (batch, part_id) VALUES (?, ?) ON CONFLICT DO NOTHING

-- name: finish_part
INSERT INTO batch_parts (batch, part_id, finished, rows) VALUES (?, ?, ?, ?)
ON CONFLICT (batch, part_id) DO UPDATE SET finished = excluded.finished, rows = excluded.rows

-- name: unfinish_part
UPDATE batch_parts SET finished = 0 WHERE batch = ? AND part_id = ?

-- name: parts
SELECT part_id, finished, rows FROM batch_parts WHERE batch = ? AND part_id > ?
ORDER BY part_id LIMIT ?

-- name: forget_parts
DELETE FROM batch_parts WHERE batch = ?

-- name: add_link
INSERT INTO batch_links (batch, job) VALUES (?, ?) ON CONFLICT DO NOTHING

-- name: find_link
SELECT 1 FROM batch_links WHERE batch = ? AND job = ?

-- name: mark_linked
UPDATE jobs SET linked = 1 WHERE seq = ?

-- name: last_error
SELECT last_error FROM jobs WHERE seq = ?

-- name: batch_record
SELECT b.batch_id, q.name, b.name, b.sealed, b.pending, b.waiting, b.scheduled, b.processing,
    b.completed, b.failed, b.deadletter, b.cancelled, b.created_at, b.changed_at, b.id,
    (SELECT max(w.seen_at) FROM workers w WHERE w.queue = b.queue), q.lease_expired_at,
    b.generation, q.paused, q.processing, l.rate, l.burst, l.level, l.filled_at, l.max_in_flight,
    l.set_at
FROM batches b JOIN organizations o ON o.id = b.organization JOIN queues q ON q.id = b.queue
LEFT JOIN queue_limits l ON l.queue = q.id
WHERE o.name = ? AND b.batch_id = ? AND b.superseded = 0

-- name: top_errors
SELECT error, count FROM batch_errors INDEXED BY batch_errors_by_count
WHERE batch = ? AND count > 0 ORDER BY count DESC LIMIT 5

-- name: batch_number
SELECT b.id FROM batches b JOIN organizations o ON o.id = b.organization
WHERE o.name = ? AND b.batch_id = ? AND b.superseded = 0

-- name: generations
SELECT id, generation FROM batches
WHERE organization = ? AND batch_id = ? AND forgotten = 0 ORDER BY generation

-- name: generation_counts
SELECT pending, waiting, scheduled, processing, completed, failed, deadletter, cancelled
FROM batches WHERE id = ?

-- The batch's own jobs and those that others made, in the order of their numbers.
-- name: lock_jobs_of_batch
SELECT {locked_job} FROM jobs WHERE jobs.batch = :batch AND jobs.seq > :after
UNION ALL
SELECT l.job, {locked_columns} FROM batch_links l CROSS JOIN jobs ON jobs.seq = l.job
WHERE l.batch = :batch AND l.job > :after
ORDER BY 1 LIMIT :limit

-- name: set_paused
UPDATE queues SET paused = ? WHERE id = ?

-- name: terms
SELECT q.paused, q.processing, l.rate, l.burst, l.level, l.filled_at, l.max_in_flight, l.set_at
FROM queues q LEFT JOIN queue_limits l ON l.queue = q.id WHERE q.id = ?

-- name: put_limits
INSERT INTO queue_limits (queue, rate, burst, level, filled_at, max_in_flight, set_at)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (queue) DO UPDATE SET rate = excluded.rate, burst = excluded.burst,
    level = excluded.level, filled_at = excluded.filled_at,
    max_in_flight = excluded.max_in_flight, set_at = excluded.set_at

-- name: lift_limits
DELETE FROM queue_limits WHERE queue = ?

-- name: spend
UPDATE queue_limits SET level = ?, filled_at = ? WHERE queue = ?

-- name: queue_control
SELECT q.paused, q.processing, l.rate, l.burst, l.level, l.filled_at, l.max_in_flight, l.set_at
FROM queues q JOIN organizations o ON o.id = q.organization
LEFT JOIN queue_limits l ON l.queue = q.id
WHERE o.name = ? AND q.name = ?

-- name: lock_ready
SELECT {locked_job} FROM jobs INDEXED BY jobs_ready
WHERE queue = :queue AND status = 1 AND due_at IS NULL AND seq <= :highest
ORDER BY priority DESC, seq LIMIT :limit

-- name: lock_retrying
SELECT {locked_job} FROM jobs INDEXED BY jobs_retrying
WHERE queue = :queue AND status = 1 AND due_at IS NOT NULL AND seq <= :highest
ORDER BY seq LIMIT :limit

-- name: lock_dead
SELECT {locked_job} FROM jobs INDEXED BY jobs_dead
WHERE queue = :queue AND status = 6 AND seq > :after
ORDER BY seq LIMIT :limit

-- name: dead_letters
SELECT j.seq, '', q.name, j.status, j.priority, j.retry_count, j.max_retries, j.timeout_seconds,
    j.created_at, j.scheduled_at, j.started_at, j.completed_at, j.lease_expires_at, j.worker_id,
    j.lease_id, j.last_error, j.idempotency_key, j.result, j.payload
FROM organizations o CROSS JOIN queues q ON q.organization = o.id
CROSS JOIN jobs j INDEXED BY jobs_dead ON j.queue = q.id
WHERE o.name = ? AND q.name = ? AND j.status = 6 AND j.seq > ?
ORDER BY j.seq LIMIT ?

-- name: change_payload
UPDATE jobs SET payload = :payload WHERE seq = :seq

-- name: add_attempt
INSERT INTO attempts (job, number, worker_id, started_at, ended_at, error)
VALUES (:job, coalesce((SELECT max(number) FROM attempts WHERE job = :job), 0) + 1, :worker_id,
    :started_at, :ended_at, :error)

-- The attempts that failed, then the one that runs or completed.
-- name: attempts
SELECT number, worker_id, started_at, ended_at, error FROM attempts WHERE job = ?1
UNION ALL
SELECT coalesce((SELECT max(number) FROM attempts WHERE job = ?1), 0) + 1, worker_id, started_at,
    completed_at, NULL
FROM jobs WHERE seq = ?1 AND status IN (3, 4)
ORDER BY 1

-- Two lists in order, merged: the batch's own jobs, and those that others made.
-- name: jobs_of_batch
SELECT j.seq, '', q.name, j.status, j.priority, j.retry_count, j.max_retries, j.timeout_seconds,
    j.created_at, j.scheduled_at, j.started_at, j.completed_at, j.lease_expires_at, j.worker_id,
    j.lease_id, j.last_error, j.idempotency_key, j.result, iif(?4, NULL, j.payload)
FROM jobs j CROSS JOIN queues q ON q.id = j.queue
WHERE j.batch = ?1 AND j.seq > ?2 AND (?5 >> j.status) & 1
UNION ALL
SELECT l.job, '', q.name, j.status, j.priority, j.retry_count, j.max_retries, j.timeout_seconds,
    j.created_at, j.scheduled_at, j.started_at, j.completed_at, j.lease_expires_at, j.worker_id,
    j.lease_id, j.last_error, j.idempotency_key, j.result, iif(?4, NULL, j.payload)
FROM batch_links l CROSS JOIN jobs j ON j.seq = l.job CROSS JOIN queues q ON q.id = j.queue
WHERE l.batch = ?1 AND l.job > ?2 AND (?5 >> j.status) & 1
ORDER BY 1 LIMIT ?3

-- name: find_worker
SELECT organization FROM workers WHERE worker_id = ?

-- name: put_worker
INSERT INTO workers (worker_id, organization, queue, hostname, worker_type, max_concurrency,
    version, metadata, registered_at, seen_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (worker_id) DO UPDATE SET queue = excluded.queue, hostname = excluded.hostname,
    worker_type = excluded.worker_type, max_concurrency = excluded.max_concurrency,
    version = excluded.version, metadata = excluded.metadata, seen_at = excluded.seen_at

-- name: touch_worker
UPDATE workers SET seen_at = ?, current_jobs = ?, status = ?, metadata = ? WHERE worker_id = ?

-- name: remove_worker
DELETE FROM workers WHERE worker_id = ?

-- name: queue_recount
SELECT q.id, o.name || '/' || q.name,
    q.pending, q.waiting, q.scheduled, q.processing, q.completed, q.failed, q.deadletter,
    q.cancelled,
    count(*) FILTER (WHERE j.status = 1), count(*) FILTER (WHERE j.status = 1 AND j.due_at > 0),
    count(*) FILTER (WHERE j.status = 2), count(*) FILTER (WHERE j.status = 3),
    count(*) FILTER (WHERE j.status = 4), count(*) FILTER (WHERE j.status = 5),
    count(*) FILTER (WHERE j.status = 6), count(*) FILTER (WHERE j.status = 7)
FROM queues q JOIN organizations o ON o.id = q.organization LEFT JOIN jobs j ON j.queue = q.id
GROUP BY q.id

-- name: batch_recount
SELECT b.id, o.name || '/' || b.batch_id || ' generation ' || b.generation,
    b.pending, b.waiting, b.scheduled, b.processing, b.completed, b.failed, b.deadletter,
    b.cancelled,
    count(*) FILTER (WHERE j.status = 1), count(*) FILTER (WHERE j.status = 1 AND j.due_at > 0),
    count(*) FILTER (WHERE j.status = 2), count(*) FILTER (WHERE j.status = 3),
    count(*) FILTER (WHERE j.status = 4), count(*) FILTER (WHERE j.status = 5),
    count(*) FILTER (WHERE j.status = 6), count(*) FILTER (WHERE j.status = 7)
FROM batches b JOIN organizations o ON o.id = b.organization
LEFT JOIN (
    SELECT batch, seq FROM jobs WHERE batch IS NOT NULL
    UNION ALL SELECT batch, job FROM batch_links
) AS place ON place.batch = b.id
LEFT JOIN jobs j ON j.seq = place.seq
WHERE b.forgotten = 0
GROUP BY b.id

-- name: queue_of_worker
SELECT q.name FROM workers w JOIN queues q ON q.id = w.queue
    JOIN organizations o ON o.id = w.organization
WHERE w.worker_id = ? AND o.name = ?

-- name: add_key
INSERT INTO keys (key_id, organization, name, role, queues, digest, created_at, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: revoke_key
UPDATE keys SET revoked_at = ?
WHERE key_id = ? AND organization = (SELECT id FROM organizations WHERE name = ?)
    AND revoked_at IS NULL

-- name: find_key
SELECT o.name, k.key_id, k.name, k.role, k.queues, k.digest, k.created_at, k.expires_at,
    k.revoked_at
FROM keys k JOIN organizations o ON o.id = k.organization WHERE k.key_id = ? AND o.name = ?

-- name: all_keys
SELECT o.name, k.key_id, k.name, k.role, k.queues, k.digest, k.created_at, k.expires_at,
    k.revoked_at
FROM keys k INDEXED BY keys_by_age JOIN organizations o ON o.id = k.organization
ORDER BY k.created_at, k.key_id

-- name: strip_jobs
UPDATE jobs SET payload = x'', result = NULL, tags = NULL, pruned = 1
WHERE seq IN (
    SELECT seq FROM jobs INDEXED BY jobs_settled
    WHERE status IN (4, 7) AND pruned = 0 AND completed_at <= ? ORDER BY completed_at LIMIT ?
)

-- name: old_jobs
SELECT seq, queue, status FROM jobs INDEXED BY jobs_pruned
WHERE pruned = 1 AND batch IS NULL AND linked = 0 AND completed_at <= ?
ORDER BY completed_at LIMIT ?

-- name: old_dead_letters
SELECT seq, queue, status FROM jobs INDEXED BY jobs_dead_alone
WHERE status = 6 AND batch IS NULL AND linked = 0 AND completed_at <= ?
ORDER BY completed_at LIMIT ?

-- Older generations go first: while there are any, the newest one's name is not free.
-- name: old_batch
SELECT b.id FROM batches b INDEXED BY batches_settled
WHERE b.forgotten = 0 AND (b.sealed = 1 OR b.superseded = 1)
    AND b.pending + b.scheduled + b.processing = 0
    AND (b.deadletter > 0) = ? AND max(b.changed_at, b.used_at) <= ?
    AND NOT EXISTS (
        SELECT 1 FROM batches o
        WHERE o.organization = b.organization AND o.batch_id = b.batch_id
            AND o.generation < b.generation
    )
ORDER BY max(b.changed_at, b.used_at) LIMIT 1

-- name: begin_forgetting
UPDATE batches SET forgotten = 1, superseded = 1 WHERE id = ?

-- name: being_forgotten
SELECT id FROM batches INDEXED BY batches_forgotten
WHERE forgotten = 1 AND id > 0 ORDER BY id LIMIT 1

-- name: forgotten_batch
SELECT id FROM batches WHERE organization = ? AND batch_id = ? AND forgotten = 1 LIMIT 1

-- name: own_jobs
SELECT seq, queue, status FROM jobs INDEXED BY jobs_of_batch WHERE batch = ? ORDER BY seq LIMIT ?

-- name: links_of_batch
SELECT job FROM batch_links WHERE batch = ? ORDER BY job LIMIT ?

-- name: remove_link
DELETE FROM batch_links WHERE batch = ? AND job = ?

-- name: unmark_linked
UPDATE jobs SET linked = 0
WHERE seq = ?1 AND NOT EXISTS (SELECT 1 FROM batch_links WHERE job = ?1)

-- name: own_job
UPDATE jobs SET batch = ? WHERE seq = ?

-- name: is_remembered
SELECT 1 FROM batches WHERE id = :batch AND forgotten = 0

-- name: forget_errors
DELETE FROM batch_errors WHERE batch = ?

-- A batch's number is not given away again.
-- name: note_last_batch
INSERT INTO meta (name, value) VALUES ('last_batch', ?)
ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)

-- name: forget_batch
DELETE FROM batches WHERE id = ?

-- name: forget_attempts
DELETE FROM attempts WHERE job = ?

-- name: forget_job
DELETE FROM jobs WHERE seq = ?


-- Names are of A-Z, a-z, digits and ".", "_", "-": what is above a name and what is one is a range.
-- name: queues_of_organization
SELECT q.name, q.id, q.pending, q.waiting, q.scheduled, q.processing, q.completed, q.failed,
    q.deadletter, q.cancelled, q.paused, q.processing, l.rate, l.burst, l.level, l.filled_at,
    l.max_in_flight, l.set_at
FROM organizations o CROSS JOIN queues q ON q.organization = o.id
LEFT JOIN queue_limits l ON l.queue = q.id
WHERE o.name = ? AND q.name >= ? AND q.name <= ?
ORDER BY q.name LIMIT ?

-- name: batches_of_organization
SELECT b.id, b.batch_id
FROM organizations o CROSS JOIN batches b INDEXED BY batches_listed ON b.organization = o.id
WHERE o.name = ? AND b.superseded = 0 AND b.forgotten = 0 AND b.id < ?
ORDER BY b.id DESC LIMIT ?

-- name: batches_of_queue
SELECT b.id, b.batch_id
FROM organizations o CROSS JOIN queues q ON q.organization = o.id
CROSS JOIN batches b INDEXED BY batches_listed_of_queue ON b.queue = q.id
WHERE o.name = ? AND q.name = ? AND b.superseded = 0 AND b.forgotten = 0 AND b.id < ?
ORDER BY b.id DESC LIMIT ?

-- name: workers_of_organization
SELECT w.worker_id, q.name, w.hostname, w.worker_type, w.max_concurrency, w.version, w.metadata,
    w.status, w.current_jobs, w.registered_at, w.seen_at
FROM organizations o CROSS JOIN workers w INDEXED BY workers_listed ON w.organization = o.id
CROSS JOIN queues q ON q.id = w.queue
WHERE o.name = ?
ORDER BY w.seen_at DESC

-- The last place that a search looks at, where it does not come to the end.
-- name: last_searched
SELECT seq FROM jobs INDEXED BY jobs_of_batch WHERE batch = ?1 AND seq > ?2
UNION ALL
SELECT job FROM batch_links WHERE batch = ?1 AND job > ?2
ORDER BY 1 LIMIT 1 OFFSET ?3

-- Two lists in order, merged: the batch's own jobs, and those that others made.
-- name: find_jobs
SELECT j.seq, '', q.name, j.status, j.priority, j.retry_count, j.max_retries, j.timeout_seconds,
    j.created_at, j.scheduled_at, j.started_at, j.completed_at, j.lease_expires_at, j.worker_id,
    j.lease_id, j.last_error, j.idempotency_key, NULL, NULL
FROM jobs j CROSS JOIN queues q ON q.id = j.queue
WHERE j.batch = ?1 AND j.seq > ?2 AND j.seq <= ?3 AND (?4 >> j.status) & 1
    AND (?5 = '' OR instr(j.last_error, ?5) OR j.worker_id = ?5 OR j.idempotency_key = ?6
        OR j.seq = ?7)
UNION ALL
SELECT l.job, '', q.name, j.status, j.priority, j.retry_count, j.max_retries, j.timeout_seconds,
    j.created_at, j.scheduled_at, j.started_at, j.completed_at, j.lease_expires_at, j.worker_id,
    j.lease_id, j.last_error, j.idempotency_key, NULL, NULL
FROM batch_links l CROSS JOIN jobs j ON j.seq = l.job CROSS JOIN queues q ON q.id = j.queue
WHERE l.batch = ?1 AND l.job > ?2 AND l.job <= ?3 AND (?4 >> j.status) & 1
    AND (?5 = '' OR instr(j.last_error, ?5) OR j.worker_id = ?5 OR j.idempotency_key = ?6
        OR j.seq = ?7)
ORDER BY 1 LIMIT ?8
