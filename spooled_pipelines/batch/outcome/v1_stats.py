"""Statistics of a batch on a server without the batch extension, from its queue and its jobs."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator

from spooled_pipelines.batch.spill.database import insert, spill_database
from spooled_pipelines.rpc.decode import job_status_from
from spooled_pipelines.types import BatchStats, JobStatus, QueueStats, Stall
from spooled_pipelines.wire import spooled_v1

_TOP_ERRORS = 5
_PAGE_ROWS = 1_000
_SETTLED = [status.value for status in JobStatus if status.settled]
_OPEN_BEHIND = f"""
SELECT id FROM jobs WHERE id > ? AND status NOT IN ({", ".join("?" * len(_SETTLED))})
ORDER BY id LIMIT {_PAGE_ROWS}
"""  # noqa: S608 - the words are our own


class JobStatusTable:
    """The status of each of many jobs, pending at first; on the disk, in flat memory."""

    def __init__(self, job_ids: Iterable[str]) -> None:
        self._jobs = spill_database(
            "CREATE TABLE jobs (id TEXT PRIMARY KEY, status TEXT NOT NULL) WITHOUT ROWID"
        )
        rows = ((job_id, JobStatus.PENDING.value) for job_id in job_ids)
        insert(self._jobs, "INSERT OR IGNORE INTO jobs VALUES (?, ?)", rows)
        (self.total,) = self._jobs.execute("SELECT count(*) FROM jobs").fetchone()
        self._counts = Counter({JobStatus.PENDING: self.total})

    def open(self) -> Iterator[str]:
        """Yield the jobs not known to be settled; updates during the iteration are respected."""
        last = ""
        while rows := self._jobs.execute(_OPEN_BEHIND, (last, *_SETTLED)).fetchall():
            yield from (job_id for (job_id,) in rows)
            (last,) = rows[-1]

    def learn(self, job_id: str, status: JobStatus) -> None:
        """Record the status of a job; an id that is not in the table is ignored."""
        known = self._jobs.execute("SELECT status FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if known is None or known == (status.value,):
            return
        self._jobs.execute("UPDATE jobs SET status = ? WHERE id = ?", (status.value, job_id))
        self._counts[JobStatus(known[0])] -= 1
        self._counts[status] += 1

    def missing(self, job_id: str) -> None:
        """Record that the server does not know a job: the second time it is forgotten.

        Once may be too early, where a server's replicas hear of new jobs one after the other.
        """
        known = self._jobs.execute("SELECT status FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if known == (JobStatus.UNSPECIFIED.value,):
            self._jobs.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
            self._counts[JobStatus.UNSPECIFIED] -= 1
            self.total -= 1
        else:
            self.learn(job_id, JobStatus.UNSPECIFIED)

    def counts(self) -> Counter[JobStatus]:
        """Return the number of jobs by status."""
        return Counter(self._counts)


class JobTracker:
    """Exact statistics of a batch whose jobs are all known; those still open are asked for.

    If the queue has never held other jobs, its statistics are the batch's and nothing is asked.
    """

    def __init__(self, batch_id: str, queue_name: str, name: str, job_ids: Iterable[str]) -> None:
        self._batch_id = batch_id
        self._queue_name = queue_name
        self._name = name
        self._jobs = JobStatusTable(job_ids)
        self._asked: deque[str] = deque()
        self._errors: Counter[str] = Counter()
        self._looked_at: tuple[int, int, int] | None = None

    def to_ask(self, queue: QueueStats) -> Iterator[str]:
        """Yield the jobs whose status has to be asked for, given the queue's statistics."""
        self._asked.clear()
        is_missing = self._jobs.counts()[JobStatus.UNSPECIFIED] > 0
        is_news = is_missing or _fingerprint(queue) != self._looked_at
        if is_news and not self._alone(queue):
            for job_id in self._jobs.open():
                self._asked.append(job_id)
                yield job_id

    def learn(self, job: spooled_v1.Job | None) -> None:
        """Record a job as the server returned it, in the order of `to_ask`; None: it has none.

        What a server has forgotten settled long ago, and counts no longer.
        """
        job_id = self._asked.popleft()
        if job is None:
            self._jobs.missing(job_id)
            return
        status = job_status_from(job.status)
        self._jobs.learn(job.id, status)
        if status is JobStatus.DEADLETTER:
            self._errors[job.last_error] += 1

    def stats(self, queue: QueueStats) -> BatchStats:
        """Return the statistics, once the jobs of `to_ask` were recorded."""
        self._looked_at = _fingerprint(queue)
        if self._alone(queue):
            counted = _counts(queue)
            counted[JobStatus.CANCELLED] = self._jobs.total - counted.total()
        else:
            counted = self._jobs.counts()
        return _stats(self._batch_id, self._queue_name, self._name, counted, self._errors)

    def _alone(self, queue: QueueStats) -> bool:
        """Return whether the queue has only ever held this batch, so that their numbers agree.

        With dead letters the jobs are asked for even so, since their errors are wanted.
        """
        return queue.total == self._jobs.total and not queue.deadletter


def _fingerprint(queue: QueueStats) -> tuple[int, int, int]:
    """Return what changes whenever a job of the queue settles."""
    return queue.completed, queue.deadletter, queue.total


def stats_from_queue(
    batch_id: str, name: str, before: QueueStats | None, queue: QueueStats
) -> BatchStats:
    """Return a batch's statistics as far as its queue shows them, if its jobs are not known.

    It is settled once the queue has no open job at all. Completed and dead jobs are those since
    `before`, including other batches' on the same queue.
    """
    counted = _counts(queue)
    if before is not None:
        counted[JobStatus.COMPLETED] = max(0, queue.completed - before.completed)
        counted[JobStatus.DEADLETTER] = max(0, queue.deadletter - before.deadletter)
    return _stats(batch_id, queue.queue_name, name, counted, Counter())


def _counts(queue: QueueStats) -> Counter[JobStatus]:
    # A server that counts jobs waiting for their next try as failed means: not done yet.
    return Counter(
        {
            JobStatus.PENDING: queue.pending + queue.failed,
            JobStatus.SCHEDULED: queue.scheduled,
            JobStatus.PROCESSING: queue.processing,
            JobStatus.COMPLETED: queue.completed,
            JobStatus.DEADLETTER: queue.deadletter,
        }
    )


def _stats(
    batch_id: str,
    queue_name: str,
    name: str,
    counted: Counter[JobStatus],
    errors: Counter[str],
) -> BatchStats:
    total = counted.total()
    settled = sum(count for status, count in counted.items() if status.settled)
    pending = counted[JobStatus.PENDING] + counted[JobStatus.FAILED]
    pending += counted[JobStatus.UNSPECIFIED]
    return BatchStats(
        batch_id=batch_id,
        queue_name=queue_name,
        name=name,
        sealed=True,
        settled=settled == total,
        total=total,
        pending=pending,
        scheduled=counted[JobStatus.SCHEDULED],
        processing=counted[JobStatus.PROCESSING],
        completed=counted[JobStatus.COMPLETED],
        deadletter=counted[JobStatus.DEADLETTER],
        cancelled=counted[JobStatus.CANCELLED],
        stalls=_stalls(queue_name, counted),
        top_errors=tuple(errors.most_common(_TOP_ERRORS)),
    )


def _stalls(queue_name: str, counted: Counter[JobStatus]) -> tuple[Stall, ...]:
    """Return the causes of a stall that are visible from outside."""
    if counted[JobStatus.PROCESSING]:
        return ()
    if counted[JobStatus.PENDING]:
        message = f"No job is being processed: is a worker running for the queue {queue_name!r}?"
        return (Stall("no_worker", message),)
    if counted[JobStatus.SCHEDULED]:
        return (Stall("all_due_later", "Every open job is due later."),)
    return ()
