-- The statements of the store, by name; see sql.py for what stands in braces.
-- Each name is followed by a sentence on what the statement does. Values are :named, or ? in order
-- where there are few, and where each claim and settle goes through.
--
-- Statuses: 1 pending, 2 scheduled, 3 processing, 4 completed, 5 failed (never stored), 6 deadletter,
-- 7 cancelled. A pending job with a due_at waits for its retry. Times are milliseconds.

-- The store itself
-- ================

-- name: read_meta
-- Return one thing that the store knows of itself.
SELECT value FROM meta WHERE name = :name

-- name: write_meta
-- Keep one thing that the store knows of itself.
INSERT INTO meta (name, value) VALUES (:name, :value)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value

-- Numbers and names
-- =================

-- name: find_organization
-- Return an organization's number.
SELECT id FROM organizations WHERE name = :name

-- name: add_organization
-- Make an organization, with the first of these numbers that none has or had.
INSERT INTO organizations (id, name) VALUES (coalesce((
        SELECT value FROM json_each(:numbers)
        WHERE value NOT IN (SELECT organization FROM job_places) LIMIT 1
    ), (
        SELECT min(organization) + 1 FROM job_places
        WHERE organization + 1 NOT IN (SELECT organization FROM job_places)
    )), :name)

-- name: add_places
-- Let a new organization number its jobs.
INSERT INTO job_places (organization, following)
SELECT :organization, value FROM meta WHERE name = 'first_place'

-- name: read_following
-- Return the place of an organization's next job.
SELECT following FROM job_places WHERE organization = :organization

-- name: keep_following
-- Note the place of an organization's next job.
UPDATE job_places SET following = :following WHERE organization = :organization

-- name: read_highest_place
-- Return the highest place from which an organization goes on, or would begin.
SELECT max(value, coalesce((SELECT max(following) FROM job_places), 0))
FROM meta WHERE name = 'first_place'

-- name: go_on_from
-- Let all organizations go on from a place.
UPDATE job_places SET following = :place

-- name: find_queue
-- Return a queue's number, by its name or an earlier one.
SELECT id FROM queues WHERE organization = :organization AND name = :name
UNION ALL SELECT queue FROM earlier_names WHERE organization = :organization AND name = :name
LIMIT 1

-- name: read_key_name
-- Return the name that the keys of a queue's rows are made of.
SELECT coalesce(key_name, name) FROM queues WHERE id = :queue

-- name: keep_earlier_name
-- Note that a queue has its name no longer.
INSERT INTO earlier_names (organization, name, queue)
SELECT organization, name, id FROM queues WHERE id = :queue

-- name: forget_earlier_name
-- Note that a queue has an earlier name again.
DELETE FROM earlier_names
WHERE organization = (SELECT organization FROM queues WHERE id = :queue) AND name = :name
    AND queue = :queue

-- name: rename_queue
-- Give a queue another name.
UPDATE queues SET key_name = coalesce(key_name, name), name = :name WHERE id = :queue

-- name: list_earlier_names
-- Return every earlier name of a queue, with its present one, and that of its keys.
SELECT o.name, e.name, q.name, coalesce(q.key_name, q.name)
FROM earlier_names e JOIN queues q ON q.id = e.queue JOIN organizations o ON o.id = e.organization

-- name: count_queues_of_organization
-- Return how many queues an organization has.
SELECT count(*) FROM queues WHERE organization = :organization

-- name: add_queue
-- Make a queue.
INSERT INTO queues (organization, name) VALUES (:organization, :name)

-- name: read_queue_names
-- Return the organization and the name of queues by number.
SELECT o.name, q.name FROM queues q JOIN organizations o ON o.id = q.organization
    WHERE q.id = :queue

-- name: read_batch_names
-- Return the organization and the id of batches by number.
SELECT o.name, b.batch_id FROM batches b JOIN organizations o ON o.id = b.organization
WHERE b.id = :batch

-- Counters
-- ========

-- name: count_queues
-- Add to the counters of queues.
UPDATE queues SET pending = pending + :pending, waiting = waiting + :waiting,
    scheduled = scheduled + :scheduled,
    processing = processing + :processing, completed = completed + :completed,
    failed = failed + :failed,
    deadletter = deadletter + :deadletter, cancelled = cancelled + :cancelled,
    expired = expired + :expired
WHERE id = :queue

-- name: note_lease_expiry
-- Note that a lease of the queue ran out just now.
UPDATE queues SET lease_expired_at = :now WHERE id = :queue

-- name: count_batches
-- Add to the counters of batches.
UPDATE batches SET pending = pending + :pending, waiting = waiting + :waiting,
    scheduled = scheduled + :scheduled,
    processing = processing + :processing, completed = completed + :completed,
    failed = failed + :failed,
    deadletter = deadletter + :deadletter, cancelled = cancelled + :cancelled,
    expired = expired + :expired, changed_at = :now
WHERE id = :batch

-- name: count_changed
-- Count rows that came to a batch with another payload than their job had.
UPDATE batches SET changed = changed + :changed, replaced = replaced + :replaced WHERE id = :batch

-- name: count_errors
-- Add to how many dead letters of a batch ended with an error.
INSERT INTO batch_errors (batch, error, count) VALUES (:batch, :error, :count)
ON CONFLICT (batch, error) DO UPDATE SET count = count + excluded.count

-- name: read_daily_jobs
-- Return how many jobs the organization made today. A day of which the clock was ahead
-- lasts until the clock is there again.
SELECT jobs FROM daily_jobs WHERE organization = :organization AND day >= :day

-- name: write_daily_jobs
-- Keep how many jobs the organization made today.
INSERT INTO daily_jobs (organization, day, jobs) VALUES (:organization, :day, :jobs)
ON CONFLICT (organization) DO UPDATE SET day = max(day, excluded.day), jobs = excluded.jobs

-- Enqueue
-- =======

-- name: add_job
-- Store a job, unless its key is there.
INSERT INTO jobs (seq, organization, queue, status, priority, due_at, round, batch, max_retries,
    timeout_seconds, created_at, scheduled_at, expires_at, retry_backoff,
    idempotency_key, tags, payload)
VALUES (:seq, :organization, :queue, :status, :priority, :due_at, :round, :batch, :max_retries,
    :timeout_seconds, :created_at, :scheduled_at, :expires_at, :retry_backoff,
    :idempotency_key, :tags, :payload)
ON CONFLICT (organization, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING

-- name: find_job_of_key
-- Return the job that has this key.
SELECT seq, status, due_at, batch FROM jobs WHERE organization = :organization
    AND idempotency_key = :key

-- name: find_job_of_row
-- Return the job that has this key, and whether it has this payload, byte for byte.
SELECT seq, status, due_at, batch, {is_expired}, pruned = 0 AND payload = :payload FROM jobs
WHERE organization = :organization AND idempotency_key = :key

-- name: read_kept
-- Return the payload of a job where it is so long, or the hash of what was taken away.
SELECT seq, queue, status, iif(length(payload) = :size, payload, NULL), payload_digest FROM jobs
WHERE seq = :seq

-- name: replace_payload
-- Give a job another payload, and the schema that it came with.
UPDATE jobs SET payload = :payload, schema_id = iif(batch IS NULL, NULL, :schema_id)
WHERE seq = :seq

-- name: find_queue_of_key
-- Return the name of the queue whose job has this key.
SELECT q.name FROM organizations o JOIN jobs j ON j.organization = o.id AND j.idempotency_key = :key
    JOIN queues q ON q.id = j.queue
WHERE o.name = :organization

-- name: find_key_of_queue
-- Return the job of this queue that has this key, and whether it has this payload.
SELECT j.seq, j.pruned = 0 AND j.payload = :payload FROM organizations o
JOIN queues q ON q.organization = o.id AND q.name = :name
JOIN jobs j ON j.organization = o.id AND j.idempotency_key = :key AND j.queue = q.id
WHERE o.name = :organization

-- Turns
-- =====

-- name: take_turns
-- Return where a participant's next jobs begin, that are so long together.
INSERT INTO turns (queue, priority, participant, released, following, taken)
VALUES (:queue, :priority, :participant, :released, :taken + {round} * coalesce((
    SELECT round FROM rounds_served WHERE queue = :queue AND priority = :priority
), 0), :taken)
ON CONFLICT (participant, queue, priority, released) DO UPDATE
SET following = max(following + excluded.taken, excluded.following), taken = excluded.taken
RETURNING following - taken

-- name: return_turns
-- Take back turns of rows that made no job.
UPDATE turns SET following = following - :taken
WHERE participant = :participant AND queue = :queue AND priority = :priority AND released = 0

-- name: find_turn
-- Return what a job's turn follows from.
SELECT seq, queue, priority, {participant}, {weight} FROM jobs WHERE seq = :seq

-- name: set_round
-- Give a job another round.
UPDATE jobs SET round = :round WHERE seq = :seq

-- name: note_round
-- Note which round was served.
INSERT INTO rounds_served (queue, priority, round) VALUES (:queue, :priority, :round)
ON CONFLICT (queue, priority) DO UPDATE SET round = excluded.round WHERE excluded.round > round

-- name: put_key_limit
-- Keep how many jobs with a key may run at once.
INSERT INTO key_limits (queue, key, most) VALUES (:queue, :key, :most)
ON CONFLICT (queue, key) DO UPDATE SET most = excluded.most

-- name: list_places
-- Return jobs with a key that are held and are next, as many as may run beside those that run; and
-- those that are out, do not run and are not among the next.
WITH room (places) AS (
    SELECT max(0, most - (
        SELECT count(*) FILTER (WHERE status = 3) FROM jobs INDEXED BY jobs_let_out
        WHERE queue = :queue AND limit_key = :key AND limit_key IS NOT NULL
            AND (status = 3 OR (status = 1 AND due_at IS NULL))
    )) FROM key_limits WHERE queue = :queue AND key = :key
), in_line AS (
    SELECT seq, batch, linked, false AS held, priority, round FROM jobs INDEXED BY jobs_let_out
    WHERE queue = :queue AND limit_key = :key AND limit_key IS NOT NULL
        AND (status = 3 OR (status = 1 AND due_at IS NULL)) AND status = 1
    UNION ALL
    SELECT * FROM (
        SELECT seq, batch, linked, true, priority, round FROM jobs INDEXED BY jobs_held
        WHERE queue = :queue AND limit_key = :key AND status = 1 AND due_at = {held}
        ORDER BY priority DESC, round, seq LIMIT coalesce((SELECT places FROM room), 0)
    )
)
SELECT n.seq, n.batch, n.linked, n.held FROM room r JOIN (
    SELECT *, row_number() OVER (ORDER BY priority DESC, round, seq) AS place FROM in_line
) AS n ON n.held = (n.place <= r.places)

-- name: let_out
-- Let a job be claimed that is held, or hold it.
UPDATE jobs SET due_at = iif(:held, NULL, {held}) WHERE seq = :seq

-- name: walk_limit_keys
-- Return the next keys with limits: whether held jobs have room, and whether there are jobs that
-- may run yet.
SELECT k.queue, k.key, EXISTS (
    SELECT 1 FROM jobs INDEXED BY jobs_held WHERE queue = k.queue AND limit_key = k.key
        AND status = 1 AND due_at = {held}
) AND k.most > (
    SELECT count(*) FROM jobs INDEXED BY jobs_let_out WHERE queue = k.queue AND limit_key = k.key
        AND limit_key IS NOT NULL AND (status = 3 OR (status = 1 AND due_at IS NULL))
), EXISTS (
    SELECT 1 FROM jobs INDEXED BY jobs_limited WHERE queue = k.queue AND limit_key = k.key
        AND limit_key IS NOT NULL AND status <> 4 AND pruned = 0
)
FROM key_limits k WHERE (k.queue, k.key) > (:queue, :key) ORDER BY k.queue, k.key LIMIT :limit

-- name: forget_key_limit
-- Remove the limit of a key.
DELETE FROM key_limits WHERE queue = :queue AND key = :key

-- name: walk_turns
-- Return the next turns of keys, each with whether it is as if they were not there: what comes
-- begins no earlier, or nothing waits that was to be before it.
SELECT t.participant, t.queue, t.priority, t.released, t.following <= {round} * coalesce((
    SELECT r.round FROM rounds_served r WHERE r.queue = t.queue AND r.priority = t.priority
), 0) OR NOT (EXISTS (
    SELECT 1 FROM jobs INDEXED BY jobs_ready WHERE queue = t.queue AND priority = t.priority
        AND status = 1 AND due_at IS NULL
) OR EXISTS (
    SELECT 1 FROM jobs INDEXED BY jobs_held WHERE queue = t.queue AND status = 1 AND due_at = {held}
))
FROM turns t WHERE t.participant < 0 AND (t.participant, t.queue, t.priority, t.released)
    > (:participant, :queue, :priority, :released)
ORDER BY t.participant, t.queue, t.priority, t.released LIMIT :limit

-- name: forget_turns_of_key
-- Remove turns.
DELETE FROM turns WHERE participant = :participant AND queue = :queue AND priority = :priority
    AND released = :released

-- name: forget_turns
-- Remove a batch's turns.
DELETE FROM turns WHERE participant = :batch

-- Claim
-- =====

-- name: read_terms
-- Return what holds a queue back: paused, how many are in flight, limits.
SELECT q.paused, q.processing, {limits l}
FROM queues q LEFT JOIN queue_limits l ON l.queue = q.id WHERE q.id = :queue

-- name: claim_jobs
-- Lease the first jobs, at least one where there are any, that fit into one answer; those that are to
-- run alone by themselves, and not too many. They come in the order of their numbers.
UPDATE jobs SET status = 3, worker_id = :worker,
    lease_id = coalesce(:lease, lower(hex(randomblob(16)))),
    started_at = :now, lease_expires_at = :expiry, deliveries = deliveries + 1
WHERE seq IN (
    SELECT seq FROM (
        SELECT seq, row_number() OVER so_far AS place,
            iif(min(run_alone) OVER so_far = max(run_alone) OVER so_far
                AND (max(run_alone) OVER so_far = 0
                    OR row_number() OVER so_far <= max(run_alone) OVER so_far),
                sum(size) OVER so_far, NULL) AS total
        FROM (
            SELECT seq, priority, round, length(payload) AS size, run_alone
            FROM jobs INDEXED BY jobs_ready
            WHERE queue = :queue AND status = 1 AND due_at IS NULL
                AND (expires_at IS NULL OR expires_at > :now)
            ORDER BY priority DESC, round, seq LIMIT :limit
        ) WINDOW so_far AS (ORDER BY priority DESC, round, seq ROWS UNBOUNDED PRECEDING)
    ) WHERE place = 1 OR total <= :budget
)
RETURNING priority, round, seq, batch, linked, jobs.seq, {job_columns}, '', result, payload, tags

-- name: spend_limits
-- Take claimed jobs out of a queue's bucket.
UPDATE queue_limits SET level = :level, filled_at = :filled_at WHERE queue = :queue

-- Settle
-- ======

-- name: lock_job
-- Return a job of an organization, to be changed.
SELECT jobs.seq, {locked_columns} FROM jobs WHERE seq = :seq AND organization = :organization

-- name: write_retry
-- Write that a job failed, and when it is tried again.
UPDATE jobs SET status = 1, retry_count = :retry_count, run_alone = 0, due_at = :due_at,
    lease_expires_at = NULL, last_error = :last_error
WHERE seq = :seq

-- name: write_job
-- Write what a transition made of a job.
UPDATE jobs SET status = :status, retry_count = :retry_count, deliveries = :deliveries,
    run_alone = :run_alone, due_at = :due_at, started_at = :started_at, completed_at = :completed_at,
    lease_expires_at = :lease_expires_at, worker_id = :worker_id, lease_id = :lease_id,
    expires_at = :expires_at, last_error = :last_error, result = coalesce(:result, result)
WHERE seq = :seq

-- name: add_attempt
-- Keep a delivery that ended otherwise than completed.
INSERT INTO attempts (job, number, worker_id, started_at, ending, exit_code, ended_at, error)
VALUES (:job, coalesce((SELECT max(number) FROM attempts WHERE job = :job), 0) + 1, :worker_id,
    :started_at, :ending, :exit_code, :ended_at, :error)

-- name: complete_job
-- Complete a job whose lease lives and is this one; else nothing.
UPDATE jobs SET status = 4, completed_at = :now, result = :result, lease_expires_at = NULL
WHERE seq = :seq AND organization = :organization AND status = 3 AND lease_id = :lease_id
    AND (:worker_id = '' OR worker_id = :worker_id) AND lease_expires_at > :now
RETURNING seq, queue, batch, linked, {is_capped}

-- name: complete_chunk
-- Complete jobs of a lease that lives, each with its result out of a long value: `cuts` says by the
-- job's number where it begins and how long it is (24 bits), or null.
UPDATE jobs SET status = 4, completed_at = :now, lease_expires_at = NULL,
    result = substr(:results, n.value >> 24, n.value & 16777215)
FROM json_each(:cuts) AS n
WHERE jobs.seq = CAST(n.key AS INTEGER) AND jobs.queue + 0 = :queue AND jobs.status + 0 = 3
    AND jobs.lease_id = :lease_id AND (:worker_id = '' OR jobs.worker_id = :worker_id)
    AND jobs.lease_expires_at + 0 > :now
RETURNING seq, batch, linked, {is_capped}

-- name: find_jobs_of_queue
-- Return which of these jobs are of a queue.
SELECT seq FROM jobs WHERE seq IN (SELECT value FROM json_each(:seqs)) AND queue + 0 = :queue

-- name: renew_chunk
-- Let the lease of jobs last longer where it lives.
UPDATE jobs SET lease_expires_at = :expiry
WHERE seq IN (SELECT value FROM json_each(:seqs)) AND queue + 0 = :queue AND status + 0 = 3
    AND lease_id = :lease_id AND (:worker_id = '' OR worker_id = :worker_id)
    AND lease_expires_at + 0 > :now
RETURNING seq

-- name: list_batches_of_job
-- Return the batches that a job is linked to.
SELECT batch FROM batch_links WHERE job = :job

-- Sweep
-- =====

-- name: find_due
-- Return jobs that are due.
SELECT seq, queue, priority, {participant}, {weight}, status, batch, linked, limit_key
FROM jobs INDEXED BY jobs_due
WHERE due_at IS NOT NULL AND due_at <= :now ORDER BY due_at LIMIT :limit

-- name: release_job
-- Make a job claimable that is due; one with a limit key is held.
UPDATE jobs SET status = 1, due_at = iif(limit_key IS NULL, NULL, {held}), round = :round
WHERE seq = :seq

-- name: lock_expired
-- Return jobs whose leases ran out, to be changed.
SELECT jobs.seq, {locked_columns} FROM jobs INDEXED BY jobs_leased
WHERE status = 3 AND lease_expires_at <= :now ORDER BY lease_expires_at LIMIT :limit

-- name: lock_held
-- Return the jobs that a worker has leased, to be changed.
SELECT jobs.seq, {locked_columns} FROM jobs INDEXED BY jobs_leased
WHERE status = 3 AND lease_expires_at > 0 AND organization = :organization
    AND worker_id = :worker_id

-- name: lock_unanswered
-- Return the jobs of a queue that a worker has leased by some leases, to be changed.
SELECT jobs.seq, {locked_columns} FROM jobs INDEXED BY jobs_leased
WHERE status = 3 AND lease_expires_at > 0 AND queue = :queue
    AND worker_id = :worker_id AND lease_id IN (SELECT value FROM json_each(:leases))

-- name: lock_too_late
-- Return jobs that did not start in time, to be changed.
SELECT jobs.seq, {locked_columns} FROM jobs INDEXED BY jobs_expiring
WHERE expires_at IS NOT NULL AND status IN (1, 2) AND expires_at <= :now
ORDER BY expires_at LIMIT :limit

-- name: shift_leases
-- Move the ends of leases along with a clock that was set.
UPDATE jobs SET lease_expires_at = lease_expires_at + :step
WHERE seq IN (SELECT seq FROM jobs INDEXED BY jobs_leased WHERE status = 3 AND lease_expires_at > 0)

-- name: read_next_moment
-- Return when the next job is due, when the next lease ends, and when an upload is gone that holds
-- a seal back; and whether a batch is being cancelled.
SELECT (SELECT min(due_at) FROM jobs INDEXED BY jobs_due
        WHERE due_at IS NOT NULL AND due_at < {held}),
    (SELECT min(lease_expires_at) FROM jobs INDEXED BY jobs_leased WHERE status = 3),
    (SELECT min(expires_at) FROM jobs INDEXED BY jobs_expiring
        WHERE expires_at IS NOT NULL AND status IN (1, 2)),
    (SELECT min((SELECT coalesce(max(u.seen_at), 0) FROM uploads u WHERE u.batch = b.id)) + :gone
        FROM batches b INDEXED BY batches_seal_asked WHERE b.seal_asked = 1 AND b.id > 0),
    EXISTS (SELECT 1 FROM batches INDEXED BY batches_cancelled
        WHERE cancel_after IS NOT NULL AND id > 0)

-- Jobs, as they are read
-- ======================

-- name: read_job
-- Return one job.
SELECT jobs.seq, {job_columns}, q.name,
    jobs.result, jobs.payload, NULL
FROM jobs JOIN queues q ON q.id = jobs.queue
WHERE jobs.seq = :seq AND jobs.organization = (SELECT id FROM organizations
    WHERE name = :organization)

-- name: list_attempts
-- Return the newest deliveries that ended otherwise, then the one that runs or completed.
SELECT * FROM (
    SELECT number, worker_id, started_at, ended_at, ending, exit_code, error FROM attempts
    WHERE job = :job ORDER BY number DESC LIMIT :limit
)
UNION ALL
SELECT coalesce((SELECT max(number) FROM attempts WHERE job = :job), 0) + 1, worker_id, started_at,
    completed_at, iif(status = 4, 1, NULL), NULL, NULL
FROM jobs WHERE seq = :job AND status IN (3, 4)
ORDER BY 1

-- name: list_jobs_of_batch
-- Return a page of a batch's jobs: its own, and those that others made.
SELECT jobs.seq, {job_columns}, q.name,
    jobs.result, iif(:omit_payload, NULL, jobs.payload), NULL
FROM jobs CROSS JOIN queues q ON q.id = jobs.queue
WHERE jobs.batch = :batch AND jobs.seq > :after AND (:statuses >> jobs.status) & 1
UNION ALL
SELECT l.job, {job_columns}, q.name,
    jobs.result, iif(:omit_payload, NULL, jobs.payload), NULL
FROM batch_links l CROSS JOIN jobs ON jobs.seq = l.job CROSS JOIN queues q ON q.id = jobs.queue
WHERE l.batch = :batch AND l.job > :after AND (:statuses >> jobs.status) & 1
ORDER BY 1 LIMIT :limit

-- name: list_columns_of_batch
-- Return what became of a page of a batch's jobs, of these queues (NULL: of all).
SELECT jobs.seq, status, completed_at, last_error, schema_id, result,
    iif(:omit_payload, NULL, payload)
FROM jobs
WHERE batch = :batch AND seq > :after AND (:statuses >> status) & 1
    AND (:queues IS NULL OR EXISTS (SELECT 1 FROM queues q WHERE q.id = jobs.queue
        AND q.name IN (SELECT value FROM json_each(:queues))))
UNION ALL
SELECT l.job, status, completed_at, last_error, schema_id, result,
    iif(:omit_payload, NULL, payload)
FROM batch_links l CROSS JOIN jobs ON jobs.seq = l.job
WHERE l.batch = :batch AND l.job > :after AND (:statuses >> status) & 1
    AND (:queues IS NULL OR EXISTS (SELECT 1 FROM queues q WHERE q.id = jobs.queue
        AND q.name IN (SELECT value FROM json_each(:queues))))
ORDER BY 1 LIMIT :limit

-- name: list_dead_letters
-- Return a page of a queue's dead letters.
SELECT jobs.seq, {job_columns}, q.name,
    jobs.result, jobs.payload, NULL
FROM organizations o CROSS JOIN queues q ON q.organization = o.id
CROSS JOIN jobs INDEXED BY jobs_dead ON jobs.queue = q.id
WHERE o.name = :organization AND q.name = :name AND jobs.status = 6 AND jobs.seq > :after
ORDER BY jobs.seq LIMIT :limit

-- name: find_last_searched
-- Return the last place that a search looks at, where it does not come to the end.
SELECT seq FROM jobs INDEXED BY jobs_of_batch WHERE batch = :batch AND seq > :after
UNION ALL
SELECT job FROM batch_links WHERE batch = :batch AND job > :after
ORDER BY 1 LIMIT 1 OFFSET :searched

-- name: search_jobs
-- Return jobs of a batch by status and text.
SELECT jobs.seq, {job_columns}, q.name,
    NULL, NULL, NULL
FROM jobs CROSS JOIN queues q ON q.id = jobs.queue
WHERE jobs.batch = :batch AND jobs.seq > :after AND jobs.seq <= :last
    AND (:statuses >> jobs.status) & 1
    AND (:text = '' OR instr(jobs.last_error, :text) OR jobs.worker_id = :text
    OR jobs.idempotency_key = :key
        OR jobs.seq = :number)
UNION ALL
SELECT l.job, {job_columns}, q.name,
    NULL, NULL, NULL
FROM batch_links l CROSS JOIN jobs ON jobs.seq = l.job CROSS JOIN queues q ON q.id = jobs.queue
WHERE l.batch = :batch AND l.job > :after AND l.job <= :last AND (:statuses >> jobs.status) & 1
    AND (:text = '' OR instr(jobs.last_error, :text) OR jobs.worker_id = :text
    OR jobs.idempotency_key = :key
        OR jobs.seq = :number)
ORDER BY 1 LIMIT :limit

-- Batches
-- =======

-- name: find_batch
-- Return the newest generation of a batch.
SELECT id, queue, sealed, generation, name, weight FROM batches
WHERE organization = :organization AND batch_id = :batch_id AND superseded = 0

-- name: find_batch_number
-- Return the number of the newest generation of a batch.
SELECT b.id FROM batches b JOIN organizations o ON o.id = b.organization
WHERE o.name = :organization AND b.batch_id = :batch_id AND b.superseded = 0

-- name: add_batch
-- Make a batch.
INSERT INTO batches (
    id, organization, batch_id, queue, name, made_by, generation, created_at, changed_at
) VALUES (1 + max(
        coalesce((SELECT max(id) FROM batches), 0),
        coalesce((SELECT value FROM meta WHERE name = 'last_batch'), 0)
    ), :organization, :batch_id, :queue, :name, :made_by, :generation, :created_at, :changed_at)

-- name: name_batch
-- Give a batch another name.
UPDATE batches SET name = :name WHERE id = :batch AND name <> :name

-- name: weigh_batch
-- Give a batch another weight, for rows that come from now on.
UPDATE batches SET weight = :weight WHERE id = :batch

-- name: limit_batch
-- Keep what the limit keys of a batch are.
UPDATE batches SET limit_by = :limit_by, limit_per_key = :limit_per_key WHERE id = :batch

-- name: supersede_batch
-- Let a newer generation begin; chunks that are on their way into this one are waited for.
UPDATE batches SET superseded = 1, seal_asked = 0 WHERE id = :batch

-- name: use_batch
-- Note that a table was sent again: its batch must not be forgotten in the middle.
UPDATE batches SET used_at = :now WHERE id = :batch

-- name: set_sealed
-- Seal a batch, or open it again.
UPDATE batches SET sealed = :sealed, seal_asked = 0, changed_at = :now WHERE id = :batch

-- name: read_batches
-- Return batches with their counters and what tells why nothing moves.
SELECT b.id,
    b.batch_id, q.name, b.name, b.sealed, b.seal_asked, {counts b}, b.created_at, b.changed_at,
    (SELECT max(w.seen_at) FROM workers w WHERE w.queue = b.queue), q.lease_expired_at,
    b.generation, b.changed, b.replaced, b.made_by, b.limit_by,
    b.limit_per_key, q.paused, q.processing, {limits l}
FROM batches b JOIN organizations o ON o.id = b.organization JOIN queues q ON q.id = b.queue
LEFT JOIN queue_limits l ON l.queue = q.id
WHERE o.name = :organization AND b.batch_id = :batch_id AND b.superseded = 0

-- name: list_top_errors
-- Return the errors that most dead letters of a batch ended with.
SELECT error, count FROM batch_errors INDEXED BY batch_errors_by_count
WHERE batch = :batch AND count > 0 ORDER BY count DESC LIMIT 5

-- name: list_waiting_of_batch
-- Return with which errors the next jobs of a batch wait for their retry, and until when.
SELECT last_error, due_at FROM jobs INDEXED BY jobs_retrying_of_batch
WHERE batch = :batch AND status = 1 AND due_at IS NOT NULL ORDER BY due_at LIMIT 100

-- name: list_waiting_of_queue
-- Return with which errors the oldest jobs of a queue wait for their retry, and until when.
SELECT last_error, due_at FROM jobs INDEXED BY jobs_retrying
WHERE queue = :queue AND status = 1 AND due_at IS NOT NULL ORDER BY seq LIMIT 100

-- name: list_ahead
-- Return the batches of the first claimable jobs of a queue, in the order of claims.
SELECT (SELECT b.batch_id FROM batches b WHERE b.id = jobs.batch),
    (SELECT b.name FROM batches b WHERE b.id = jobs.batch)
FROM jobs INDEXED BY jobs_ready
WHERE queue = (
    SELECT q.id FROM queues q JOIN organizations o ON o.id = q.organization
    WHERE o.name = :organization AND q.name = :name
) AND status = 1 AND due_at IS NULL
ORDER BY priority DESC, round, seq LIMIT :limit

-- name: list_open_batches
-- Return how many batches of each queue are not settled.
SELECT o.name, q.name,
    count(*) FILTER (WHERE b.sealed = 0 AND b.superseded = 0),
    count(*) FILTER (WHERE b.sealed = 1 OR b.superseded = 1), min(b.created_at)
FROM batches b INDEXED BY batches_open
CROSS JOIN queues q ON q.id = b.queue CROSS JOIN organizations o ON o.id = q.organization
WHERE b.queue > 0 AND b.forgotten = 0
    AND ((b.sealed = 0 AND b.superseded = 0) OR b.pending + b.scheduled + b.processing > 0)
GROUP BY b.queue ORDER BY b.queue LIMIT :limit

-- Schemas
-- =======

-- name: keep_schema
-- Keep a schema of a batch.
INSERT INTO batch_schemas (batch, schema_id, schema) VALUES (:batch, :schema_id, :schema)
ON CONFLICT DO NOTHING

-- name: bring_schema
-- Keep the schema of a job, which came with another batch, with the job's own as well.
INSERT INTO batch_schemas (batch, schema_id, schema)
SELECT j.batch, s.schema_id, s.schema
FROM jobs j JOIN batch_schemas s ON s.batch = :batch AND s.schema_id = j.schema_id
WHERE j.seq = :seq
ON CONFLICT DO NOTHING

-- name: read_payload_schema
-- Return the schema of a job's payload.
SELECT s.schema_id, s.schema
FROM organizations o JOIN jobs j ON j.organization = o.id
    JOIN batch_schemas s ON s.batch = j.batch AND s.schema_id = j.schema_id
WHERE o.name = :organization AND j.seq = :seq

-- name: keep_result_schema
-- Keep the schema of the results of a job's batch, unless it has one.
INSERT INTO batch_schemas (batch, schema_id, schema)
SELECT batch, 0, :schema FROM jobs
WHERE organization = :organization AND seq = :seq AND batch IS NOT NULL
ON CONFLICT DO NOTHING

-- name: read_result_schema_of_job
-- Return the schema of the results of a job's batch.
SELECT s.schema FROM jobs j JOIN batch_schemas s ON s.batch = j.batch AND s.schema_id = 0
WHERE j.organization = :organization AND j.seq = :seq

-- name: read_result_schema
-- Return the schema of the results of a batch.
SELECT s.schema
FROM organizations o JOIN batches b ON b.organization = o.id
    JOIN batch_schemas s ON s.batch = b.id AND s.schema_id = 0
WHERE o.name = :organization AND b.batch_id = :batch_id AND b.superseded = 0

-- Chunks
-- ======

-- name: read_chunk
-- Return the outcome of a chunk that is stored.
SELECT rows, duplicates, changed, replaced FROM upload_chunks WHERE batch = :batch
    AND upload_id = :upload_id AND number = :number

-- name: write_chunk
-- Keep the outcome of a chunk.
INSERT INTO upload_chunks (batch, upload_id, number, rows, duplicates, changed, replaced)
VALUES (:batch, :upload_id, :number, :rows, :duplicates, :changed, :replaced)

-- name: list_chunks
-- Return runs of chunks that are stored: within one, number and place grow together.
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
WHERE first.batch = :batch AND first.upload_id = :upload_id AND NOT EXISTS (
    SELECT 1 FROM upload_chunks AS before WHERE before.batch = first.batch
        AND before.upload_id = first.upload_id AND before.number = first.number - 1
)
ORDER BY first.number LIMIT :limit

-- name: forget_chunks
-- Remove the outcomes of a batch's chunks.
DELETE FROM upload_chunks WHERE batch = :batch

-- Uploads
-- =======

-- name: begin_upload
-- Note that an upload is not finished.
INSERT INTO uploads (batch, part_id, rows_id, seen_at) VALUES (:batch, :part_id, :rows_id, :now)
ON CONFLICT (batch, part_id, rows_id) DO UPDATE SET seen_at = excluded.seen_at

-- name: hear_upload
-- Note that an upload goes on.
UPDATE uploads SET seen_at = :now WHERE batch = :batch AND part_id = :part_id AND rows_id = :rows_id

-- name: finish_upload
-- Note that an upload's last row is in.
DELETE FROM uploads WHERE batch = :batch AND part_id = :part_id AND rows_id = :rows_id

-- name: find_upload
-- Return whether an upload of a batch goes on, or of a part.
SELECT 1 FROM uploads
WHERE batch = :batch AND seen_at > :since AND (:part_id = '' OR part_id = :part_id) LIMIT 1

-- name: forget_uploads
-- Remove a batch's uploads.
DELETE FROM uploads WHERE batch = :batch

-- name: ask_seal
-- Note that an upload has ended while others go on.
UPDATE batches SET seal_asked = 1, changed_at = :now WHERE id = :batch

-- name: find_sealable
-- Return a batch of which an upload has ended, and whose others are gone.
SELECT b.id FROM batches b INDEXED BY batches_seal_asked WHERE b.seal_asked = 1 AND b.id > 0
    AND NOT EXISTS (SELECT 1 FROM uploads u WHERE u.batch = b.id AND u.seen_at > :heard_since)
ORDER BY b.id LIMIT 1

-- Parts
-- =====

-- name: begin_part
-- Note that a part of a batch has begun.
INSERT INTO batch_parts (batch, part_id) VALUES (:batch, :part_id) ON CONFLICT DO NOTHING

-- name: finish_part
-- Note that a part's last row is in; chunks that are on their way into it are waited for.
INSERT INTO batch_parts (batch, part_id, finished, rows) VALUES (:batch, :part_id, :finished, :rows)
ON CONFLICT (batch, part_id) DO UPDATE SET finished = excluded.finished, rows = excluded.rows

-- name: reopen_part
-- Note that a part got another row.
UPDATE batch_parts SET finished = 0 WHERE batch = :batch AND part_id = :part_id

-- name: list_parts
-- Return parts of a batch by id.
SELECT part_id, finished, rows FROM batch_parts WHERE batch = :batch AND part_id > :after
ORDER BY part_id LIMIT :limit

-- name: forget_parts
-- Remove a batch's parts.
DELETE FROM batch_parts WHERE batch = :batch

-- Links: jobs that are in a batch though another made them
-- ========================================================

-- name: add_link
-- Make a job part of a batch.
INSERT INTO batch_links (batch, job) VALUES (:batch, :job) ON CONFLICT DO NOTHING

-- name: find_link
-- Return whether a job is linked to a batch.
SELECT 1 FROM batch_links WHERE batch = :batch AND job = :job

-- name: read_last_error
-- Return the error of a job.
SELECT last_error FROM jobs WHERE seq = :seq

-- name: mark_linked
-- Note on a job that it has links.
UPDATE jobs SET linked = 1 WHERE seq = :seq

-- name: unmark_linked
-- Note on a job that it has no links, where that is so.
UPDATE jobs SET linked = 0
WHERE seq = :seq AND NOT EXISTS (SELECT 1 FROM batch_links WHERE job = :seq)

-- name: list_links
-- Return jobs that are linked to a batch.
SELECT job FROM batch_links WHERE batch = :batch ORDER BY job LIMIT :limit

-- name: remove_link
-- Remove a link.
DELETE FROM batch_links WHERE batch = :batch AND job = :job

-- Cancel and retry
-- ================

-- name: read_request
-- Return how far a call is that came before.
SELECT progress FROM requests WHERE organization = :organization AND request_id = :request_id

-- name: write_request
-- Keep how far a call is.
INSERT INTO requests (organization, request_id, at, progress) VALUES (:organization, :request_id,
    :at, :progress)
ON CONFLICT (organization, request_id) DO UPDATE SET progress = excluded.progress

-- name: forget_requests
-- Remove calls that nobody repeats any longer.
DELETE FROM requests WHERE at < :before

-- name: cancel_older
-- Note that older generations of a batch are to be cancelled.
UPDATE batches SET cancel_after = 0
WHERE organization = :organization AND batch_id = :batch_id AND generation < :generation
    AND forgotten = 0
    AND pending + scheduled > 0

-- name: find_cancelled
-- Return a batch that is being cancelled, and the place to go on from.
SELECT id, cancel_after FROM batches INDEXED BY batches_cancelled
WHERE cancel_after IS NOT NULL AND id > 0 ORDER BY id LIMIT 1

-- name: note_cancelled
-- Note how far a batch is cancelled.
UPDATE batches SET cancel_after = :cancel_after WHERE id = :batch

-- name: list_generations
-- Return the generations of a batch.
SELECT id, generation FROM batches
WHERE organization = :organization AND batch_id = :batch_id AND forgotten = 0 ORDER BY generation

-- name: read_generation_counts
-- Return the counters of generations.
SELECT {counts}
FROM batches WHERE id = :batch

-- name: lock_jobs_of_batch
-- Return a batch's own jobs and those that others made, by number, to be changed.
SELECT jobs.seq, {locked_columns} FROM jobs WHERE jobs.batch = :batch AND jobs.seq > :after
UNION ALL
SELECT l.job, {locked_columns} FROM batch_links l CROSS JOIN jobs ON jobs.seq = l.job
WHERE l.batch = :batch AND l.job > :after
ORDER BY 1 LIMIT :limit

-- name: lock_ready
-- Return claimable jobs of a queue, to be changed.
SELECT jobs.seq, {locked_columns} FROM jobs INDEXED BY jobs_ready
WHERE queue = :queue AND status = 1 AND due_at IS NULL AND seq <= :highest
ORDER BY priority DESC, round, seq LIMIT :limit

-- name: lock_retrying
-- Return jobs of a queue that wait for their retry, to be changed.
SELECT jobs.seq, {locked_columns} FROM jobs INDEXED BY jobs_retrying
WHERE queue = :queue AND status = 1 AND due_at IS NOT NULL AND seq <= :highest
ORDER BY seq LIMIT :limit

-- name: lock_dead
-- Return dead letters of a queue, to be changed.
SELECT jobs.seq, {locked_columns} FROM jobs INDEXED BY jobs_dead
WHERE queue = :queue AND status = 6 AND seq > :after
ORDER BY seq LIMIT :limit

-- name: find_remembered
-- Return which of these batches are not forgotten.
SELECT 1 FROM batches WHERE id = :batch AND forgotten = 0

-- name: change_payload
-- Give a job another payload.
UPDATE jobs SET payload = :payload WHERE seq = :seq

-- Queues
-- ======

-- name: read_queue
-- Return a queue's counters.
SELECT q.id, {counts q}
FROM queues q JOIN organizations o ON o.id = q.organization
WHERE o.name = :organization AND q.name = :name

-- name: read_oldest_claimable
-- Return when the oldest claimable job was made: priority by priority the first of its next round
-- and of the one after, since each batch has a job in one of them.
WITH RECURSIVE priorities (priority) AS (
    SELECT max(priority) FROM jobs INDEXED BY jobs_ready
    WHERE queue = :queue AND status = 1 AND due_at IS NULL
    UNION ALL
    SELECT (
        SELECT j.priority FROM jobs j INDEXED BY jobs_ready
        WHERE j.queue = :queue AND j.status = 1 AND j.due_at IS NULL
            AND j.priority < priorities.priority
        ORDER BY j.priority DESC LIMIT 1
    )
    FROM priorities WHERE priorities.priority IS NOT NULL
)
SELECT min(min(first.created_at, coalesce((
    SELECT j.created_at FROM jobs j INDEXED BY jobs_ready
    WHERE j.queue = :queue AND j.status = 1 AND j.due_at IS NULL
        AND j.priority = first.priority AND j.round > first.round
    ORDER BY j.round, j.seq LIMIT 1
), first.created_at)))
FROM priorities CROSS JOIN jobs first ON first.seq = (
    SELECT j.seq FROM jobs j INDEXED BY jobs_ready
    WHERE j.queue = :queue AND j.status = 1 AND j.due_at IS NULL
        AND j.priority = priorities.priority
    ORDER BY j.round, j.seq LIMIT 1
)
WHERE priorities.priority IS NOT NULL

-- name: list_queues
-- Return the oldest queues: of each organization the first, then of each the second, and so on;
-- with when the oldest job was made that waits for its retry, and how many workers are there.
SELECT o.name, q.name, q.paused, (
    SELECT created_at FROM jobs WHERE queue = q.id AND status = 1 AND due_at IS NOT NULL
    ORDER BY seq LIMIT 1
), (SELECT count(*) FROM workers WHERE queue = q.id AND seen_at > :seen)
FROM (
    SELECT id, organization, name, paused,
        row_number() OVER (PARTITION BY organization ORDER BY id) AS place
    FROM queues WHERE id > 0 ORDER BY place, id LIMIT :limit
) q CROSS JOIN organizations o ON o.id = q.organization
ORDER BY q.place, q.id

-- name: read_control
-- Return what holds a queue back.
SELECT q.paused, {limits l}
FROM queues q JOIN organizations o ON o.id = q.organization
LEFT JOIN queue_limits l ON l.queue = q.id
WHERE o.name = :organization AND q.name = :name

-- name: set_paused
-- Pause a queue, or resume it.
UPDATE queues SET paused = :paused WHERE id = :queue

-- name: put_limits
-- Set a queue's limits.
INSERT INTO queue_limits (queue, {limits})
VALUES (:queue, :rate, :burst, :level, :filled_at, :max_in_flight,
    :throttled_from, :throttled_to, :throttled_at, :held_until, :set_at)
ON CONFLICT (queue) DO UPDATE SET rate = excluded.rate, burst = excluded.burst,
    level = excluded.level, filled_at = excluded.filled_at,
    max_in_flight = excluded.max_in_flight, throttled_from = excluded.throttled_from,
    throttled_to = excluded.throttled_to, throttled_at = excluded.throttled_at,
    held_until = excluded.held_until, set_at = excluded.set_at

-- name: list_throttled
-- Return the queues that are slower, with their limits.
SELECT o.name, q.name, {limits l}
FROM queue_limits l JOIN queues q ON q.id = l.queue JOIN organizations o ON o.id = q.organization
WHERE l.throttled_at IS NOT NULL ORDER BY q.id LIMIT :limit

-- name: remove_limits
-- Remove a queue's limits.
DELETE FROM queue_limits WHERE queue = :queue

-- Workers
-- =======

-- name: forget_workers
-- Forget the workers of an organization that were not heard of for long.
DELETE FROM workers WHERE organization = :organization AND seen_at < :before

-- name: count_other_workers
-- Return how many workers an organization has besides this one.
SELECT count(*) FROM workers WHERE organization = :organization AND worker_id <> :worker_id

-- name: put_worker
-- Add a worker, or update it.
INSERT INTO workers (worker_id, organization, queue, hostname, worker_type, max_concurrency,
    version, metadata, registered_at, seen_at)
VALUES (:worker_id, :organization, :queue, :hostname, :worker_type, :max_concurrency, :version,
    :metadata, :registered_at, :seen_at)
ON CONFLICT (organization, worker_id) DO UPDATE SET queue = excluded.queue, hostname = excluded.hostname,
    worker_type = excluded.worker_type, max_concurrency = excluded.max_concurrency,
    version = excluded.version, metadata = excluded.metadata, seen_at = excluded.seen_at

-- name: touch_worker
-- Note that a worker lives.
UPDATE workers SET seen_at = :seen_at, current_jobs = :current_jobs, status = :status, metadata = :metadata
WHERE organization = :organization AND worker_id = :worker_id

-- name: remove_worker
-- Forget a worker.
DELETE FROM workers WHERE organization = :organization AND worker_id = :worker_id

-- name: find_queue_of_worker
-- Return the queue that a worker is registered for.
SELECT q.name FROM workers w JOIN queues q ON q.id = w.queue
    JOIN organizations o ON o.id = w.organization
WHERE w.worker_id = :worker_id AND o.name = :organization

-- API keys
-- ========

-- name: add_key
-- Keep a new key.
INSERT INTO keys (key_id, organization, name, role, queues, digest, created_at, expires_at,
    created_by)
VALUES (:key_id, :organization, :name, :role, :queues, :digest, :created_at, :expires_at,
    :created_by)

-- name: revoke_key
-- End a key, unless it ended before.
UPDATE keys SET revoked_at = :now
WHERE key_id = :key_id AND organization = (SELECT id FROM organizations WHERE name = :organization)
    AND revoked_at IS NULL

-- name: find_key
-- Return a key.
SELECT o.name, k.key_id, k.name, k.role, k.queues, k.digest, k.created_at, k.expires_at,
    k.revoked_at, k.created_by, k.last_used_at
FROM keys k JOIN organizations o ON o.id = k.organization WHERE k.key_id = :key_id
    AND o.name = :organization

-- name: list_keys
-- Return every key, oldest first.
SELECT o.name, k.key_id, k.name, k.role, k.queues, k.digest, k.created_at, k.expires_at,
    k.revoked_at, k.created_by, k.last_used_at
FROM keys k INDEXED BY keys_by_age JOIN organizations o ON o.id = k.organization
ORDER BY k.created_at, k.key_id

-- name: list_keys_of_organization
-- Return a page of an organization's keys, oldest first.
SELECT o.name, k.key_id, k.name, k.role, k.queues, k.digest, k.created_at, k.expires_at,
    k.revoked_at, k.created_by, k.last_used_at
FROM organizations o CROSS JOIN keys k INDEXED BY keys_of_organization ON k.organization = o.id
WHERE o.name = :organization AND (k.created_at, k.key_id) > (:made_at, :key_id)
ORDER BY k.created_at, k.key_id LIMIT :limit

-- name: count_keys
-- Return how many keys an organization has, and how long their queues' names are together.
SELECT count(*), coalesce(sum(length(k.queues)), 0)
FROM organizations o CROSS JOIN keys k INDEXED BY keys_of_organization ON k.organization = o.id
WHERE o.name = :organization

-- Audit
-- =====

-- name: touch_key
-- Note when a key was used, unless a later time is noted.
UPDATE keys SET last_used_at = :at
WHERE key_id = :key_id AND coalesce(last_used_at, 0) < :at

-- name: add_audit
-- Keep an entry.
INSERT INTO audit (at, kind, times, organization, key_id, key_name, peer, action, target, outcome)
VALUES (:at, :kind, :times, :organization, :key_id, :key_name, :peer, :action, :target, :outcome)

-- name: prune_audit
-- Let go of entries of a kind beyond the newest so many.
DELETE FROM audit WHERE kind = :kind AND seq <= (
    SELECT seq FROM audit WHERE kind = :kind ORDER BY seq DESC LIMIT 1 OFFSET :kept
)

-- name: list_audit
-- Return entries, newest first.
SELECT seq, at, kind, times, organization, key_id, key_name, peer, action, target, outcome
FROM audit WHERE seq < :before ORDER BY seq DESC LIMIT :limit

-- name: list_audit_of
-- Return entries of an organization, newest first.
SELECT seq, at, kind, times, organization, key_id, key_name, peer, action, target, outcome
FROM audit WHERE organization = :organization AND seq < :before
ORDER BY seq DESC LIMIT :limit

-- What an operator looks through
-- ==============================

-- name: list_queues_of_organization
-- Return queues by name with their counters and limits.
SELECT q.name, q.id, {counts q}, q.paused, {limits l}
FROM organizations o CROSS JOIN queues q ON q.organization = o.id
LEFT JOIN queue_limits l ON l.queue = q.id
WHERE o.name = :organization AND q.name >= :lowest AND q.name <= :highest
ORDER BY q.name LIMIT :limit

-- name: list_batches_of_organization
-- Return batches by name and time, newest first.
SELECT b.id, b.batch_id
FROM organizations o CROSS JOIN batches b INDEXED BY batches_listed ON b.organization = o.id
WHERE o.name = :organization AND b.superseded = 0 AND b.forgotten = 0 AND b.id < :before
    AND b.created_at >= :since AND b.created_at < :until
    AND (:text = '' OR instr(b.name, :text) OR b.batch_id = :text)
ORDER BY b.id DESC LIMIT :limit

-- name: list_batches_of_queue
-- Return batches of a queue by name and time, newest first.
SELECT b.id, b.batch_id
FROM organizations o CROSS JOIN queues q ON q.organization = o.id
CROSS JOIN batches b INDEXED BY batches_listed_of_queue ON b.queue = q.id
WHERE o.name = :organization AND q.name = :name AND b.superseded = 0 AND b.forgotten = 0
    AND b.id < :before AND b.created_at >= :since AND b.created_at < :until
    AND (:text = '' OR instr(b.name, :text) OR b.batch_id = :text)
ORDER BY b.id DESC LIMIT :limit

-- name: find_last_listed
-- Return the last place that a listing of jobs looks at, where it does not come to the end.
SELECT jobs.seq, jobs.created_at FROM organizations o CROSS JOIN jobs
WHERE o.name = :organization AND jobs.seq >= o.id - 1 << {place_bits}
    AND jobs.seq < min(:before, o.id << {place_bits})
ORDER BY jobs.seq DESC LIMIT 1 OFFSET :searched

-- name: list_jobs
-- Return jobs by queue, status, text and time, newest first, with when they are due.
SELECT jobs.seq, {job_columns}, q.name,
    NULL, NULL, NULL, jobs.due_at
FROM organizations o CROSS JOIN jobs CROSS JOIN queues q ON q.id = jobs.queue
WHERE o.name = :organization AND jobs.organization = o.id
    AND jobs.seq < min(:before, o.id << {place_bits})
    AND jobs.seq >= max(:last, o.id - 1 << {place_bits}) AND (:statuses >> jobs.status) & 1
    AND (NOT :waiting OR jobs.status = 1 AND jobs.due_at IS NOT NULL)
    AND jobs.created_at >= :since AND jobs.created_at < :until
    AND (:text = '' OR instr(jobs.last_error, :text) OR jobs.worker_id = :text
        OR jobs.idempotency_key = :key OR jobs.seq = :number)
    AND (:queues IS NULL OR q.name IN (SELECT value FROM json_each(:queues)))
ORDER BY jobs.seq DESC LIMIT :limit

-- name: list_workers
-- Return workers, those that were heard of last first.
SELECT w.worker_id, q.name, w.hostname, w.worker_type, w.max_concurrency, w.version, w.metadata,
    w.status, w.current_jobs, w.registered_at, w.seen_at
FROM organizations o CROSS JOIN workers w INDEXED BY workers_listed ON w.organization = o.id
CROSS JOIN queues q ON q.id = w.queue
WHERE o.name = :organization
ORDER BY w.seen_at DESC

-- Retention
-- =========

-- name: strip_jobs
-- Take payload, result and tags from jobs that settled long ago.
UPDATE jobs SET payload = x'', payload_digest = digest_of_payload(payload), result = NULL,
    tags = NULL, pruned = 1
WHERE seq IN (
    SELECT seq FROM jobs INDEXED BY jobs_settled
    WHERE status IN (4, 7) AND pruned = 0 AND completed_at <= :before
    ORDER BY completed_at LIMIT :limit
)

-- name: find_old_jobs
-- Return jobs in no batch that settled long ago.
SELECT seq, queue, status, {is_expired} FROM jobs INDEXED BY jobs_pruned
WHERE pruned = 1 AND batch IS NULL AND linked = 0 AND completed_at <= :before
ORDER BY completed_at LIMIT :limit

-- name: find_old_dead_letters
-- Return dead letters in no batch that died long ago.
SELECT seq, queue, status, {is_expired} FROM jobs INDEXED BY jobs_dead_alone
WHERE status = 6 AND batch IS NULL AND linked = 0 AND completed_at <= :before
ORDER BY completed_at LIMIT :limit

-- name: find_old_batch
-- Return a batch that settled long ago. Older generations go first: while there are any,
-- the newest one's name is not free.
SELECT b.id FROM batches b INDEXED BY batches_settled
WHERE b.forgotten = 0 AND (b.sealed = 1 OR b.superseded = 1)
    AND b.pending + b.scheduled + b.processing = 0
    AND (b.deadletter > 0) = :has_dead_letters AND max(b.changed_at, b.used_at) <= :before
    AND NOT EXISTS (
        SELECT 1 FROM batches o
        WHERE o.organization = b.organization AND o.batch_id = b.batch_id
            AND o.generation < b.generation
    )
ORDER BY max(b.changed_at, b.used_at) LIMIT 1

-- name: begin_forgetting
-- Let nobody find a batch any longer that settled long ago. Older generations go first:
-- while there are any, the newest one's name is not free.
UPDATE batches SET forgotten = 1, superseded = 1 WHERE id = :batch

-- name: find_being_forgotten
-- Return a batch that is being removed.
SELECT id FROM batches INDEXED BY batches_forgotten
WHERE forgotten = 1 AND id > 0 ORDER BY id LIMIT 1

-- name: find_forgotten
-- Return a batch of this name that is being removed; who is at it is waited for.
SELECT id FROM batches WHERE organization = :organization AND batch_id = :batch_id
    AND forgotten = 1 LIMIT 1

-- name: list_own_jobs
-- Return jobs that a batch made.
SELECT seq, queue, status, {is_expired} FROM jobs INDEXED BY jobs_of_batch
WHERE batch = :batch ORDER BY seq LIMIT :limit

-- name: hand_over
-- Make a job another batch's own.
UPDATE jobs SET batch = :batch WHERE seq = :seq

-- name: forget_attempts
-- Remove attempts of jobs.
DELETE FROM attempts WHERE job = :job

-- name: remove_jobs
-- Remove jobs.
DELETE FROM jobs WHERE seq = :seq

-- name: forget_errors
-- Remove a batch's errors.
DELETE FROM batch_errors WHERE batch = :batch

-- name: forget_schemas
-- Remove a batch's schemas.
DELETE FROM batch_schemas WHERE batch = :batch

-- name: note_last_batch
-- Keep a batch's number from being given away again.
INSERT INTO meta (name, value) VALUES ('last_batch', :batch)
ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)

-- name: forget_batch
-- Remove a batch, unless it has been handed a job just now.
DELETE FROM batches WHERE id = :batch

-- Checks
-- ======

-- name: recount_queues
-- Return the counters of queues, as they are kept and as they are counted.
SELECT q.id, o.name || '/' || q.name,
    {counts q},
    count(*) FILTER (WHERE j.status = 1), count(*) FILTER (WHERE j.status = 1 AND j.due_at > 0),
    count(*) FILTER (WHERE j.status = 2), count(*) FILTER (WHERE j.status = 3),
    count(*) FILTER (WHERE j.status = 4), count(*) FILTER (WHERE j.status = 5),
    count(*) FILTER (WHERE j.status = 6), count(*) FILTER (WHERE j.status = 7),
    count(*) FILTER (WHERE {is_expired j})
FROM queues q JOIN organizations o ON o.id = q.organization LEFT JOIN jobs j ON j.queue = q.id
GROUP BY q.id

-- name: recount_batches
-- Return the counters of batches, as they are kept and as they are counted.
SELECT b.id, o.name || '/' || b.batch_id || ' generation ' || b.generation,
    {counts b},
    count(*) FILTER (WHERE j.status = 1), count(*) FILTER (WHERE j.status = 1 AND j.due_at > 0),
    count(*) FILTER (WHERE j.status = 2), count(*) FILTER (WHERE j.status = 3),
    count(*) FILTER (WHERE j.status = 4), count(*) FILTER (WHERE j.status = 5),
    count(*) FILTER (WHERE j.status = 6), count(*) FILTER (WHERE j.status = 7),
    count(*) FILTER (WHERE {is_expired j})
FROM batches b JOIN organizations o ON o.id = b.organization
LEFT JOIN (
    SELECT batch, seq FROM jobs WHERE batch IS NOT NULL
    UNION ALL SELECT batch, job FROM batch_links
) AS place ON place.batch = b.id
LEFT JOIN jobs j ON j.seq = place.seq
WHERE b.forgotten = 0
GROUP BY b.id
