"""A batch on a server that knows no batches, seen through its queue and its jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from spooled_pipelines.batch.outcome.known_jobs import KnownJobs
from spooled_pipelines.rpc.decode import job_status_from
from spooled_pipelines.types import BatchStats, JobStatus, QueueStats, Stall
from spooled_pipelines.wire import spooled_v1

_TOP_ERRORS = 5


class JobsView:
    """Exact: every job of the batch is known, and those still open are asked for.

    Without any work to do for it where the queue holds this batch's jobs alone.
    """

    def __init__(self, batch_id: str, queue_name: str, name: str, job_ids: Iterable[str]) -> None:
        self._batch_id = batch_id
        self._queue_name = queue_name
        self._name = name
        self._jobs = KnownJobs(job_ids)
        self._errors: Counter[str] = Counter()
        self._looked_at: tuple[int, int, int] | None = None

    def to_ask(self, queue: QueueStats) -> Iterator[str]:
        """The jobs whose status has to be asked for, given where the queue stands."""
        if _settled(queue) != self._looked_at and not self._alone(queue):
            yield from self._jobs.open()

    def learn(self, job: spooled_v1.Job) -> None:
        status = job_status_from(job.status)
        self._jobs.learn(job.id, status)
        if status is JobStatus.DEADLETTER:
            self._errors[job.last_error] += 1

    def stats(self, queue: QueueStats) -> BatchStats:
        """What is known after `to_ask` was asked for."""
        self._looked_at = _settled(queue)
        if self._alone(queue):
            counted = _counts(queue)
            counted[JobStatus.CANCELLED] = self._jobs.total - counted.total()
        else:
            counted = self._jobs.counts()
        return _stats(self._batch_id, self._queue_name, self._name, counted, self._errors)

    def _alone(self, queue: QueueStats) -> bool:
        """Nothing else was ever on the queue, so its numbers are the batch's.

        With dead letters the jobs are asked for even so: their errors are wanted.
        """
        return queue.total == self._jobs.total and not queue.deadletter


def _settled(queue: QueueStats) -> tuple[int, int, int]:
    """Changes whenever a job of the queue settles."""
    return queue.completed, queue.deadletter, queue.total


def queue_as_batch(
    batch_id: str, name: str, before: QueueStats | None, queue: QueueStats
) -> BatchStats:
    """As good as the queue tells it, where the batch's jobs are not known.

    Settled once nothing at all is open on the queue. Completed and dead are those since
    `before`, other batches' on the same queue included.
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
    """A server without the extension names no causes; these two can be seen from outside."""
    if counted[JobStatus.PROCESSING]:
        return ()
    if counted[JobStatus.PENDING]:
        message = f"No job is being processed: is a worker running for the queue {queue_name!r}?"
        return (Stall("no_worker", message),)
    if counted[JobStatus.SCHEDULED]:
        return (Stall("all_due_later", "Every open job is due later."),)
    return ()
