# Made from spooled_pipelines/batch/aio/room.py by `make proto`: change that, not this.
"""Waits until a batch has fewer open jobs, where there is a limit (`max_outstanding`)."""

from __future__ import annotations

from contextlib import closing

from spooled_pipelines.batch.outstanding import Outstanding
from spooled_pipelines.batch.sync.v1_fallback import get_jobs, queue_stats
from spooled_pipelines.batch.sync.watch import watch_stream
from spooled_pipelines.rpc.decode import job_status_from
from spooled_pipelines.rpc.sync.connection import Calls
from spooled_pipelines.rpc.sync.runtime import monotonic, sleep

_PAUSE_FIRST_SECONDS, _PAUSE_SECONDS, _PAUSE_GROWTH = 0.05, 1.0, 1.5


def wait_for_room(calls: Calls, batch_id: str, room: Outstanding, rows: int) -> None:
    """With the batch extension: until the server's statistics leave room for so many rows."""
    with closing(watch_stream(calls, batch_id, None)) as changes:
        for stats in changes:
            room.learned(stats.open)
            if room.admits(rows):
                return


class QueueRoom:
    """Without it: by the queue's statistics, and by asking for the jobs where those are too many.

    Keeps the ids of the jobs that may be open, no more than the limit.
    """

    def __init__(self, calls: Calls, queue_name: str, limit: int) -> None:
        self._calls = calls
        self._queue_name = queue_name
        self._limit = limit
        self._open: set[str] = set()

    def sent(self, job_ids: list[str]) -> None:
        """What became of rows; an empty id is no job."""
        self._open.update(job_id for job_id in job_ids if job_id)

    def wait_for(self, rows: int) -> None:
        """Until there is room for so many rows."""
        pause = _PAUSE_FIRST_SECONDS
        settled = None
        while len(self._open) + rows > self._limit:
            started = monotonic()
            queue = queue_stats(self._calls, self._queue_name)
            if not queue.pending + queue.scheduled + queue.processing + queue.failed:
                # All that is on the queue is settled, and so are the batch's jobs.
                self._open.clear()
            elif settled != (queue.completed, queue.deadletter, queue.total):
                settled = (queue.completed, queue.deadletter, queue.total)
                self._ask()
            if len(self._open) + rows > self._limit:
                # Looking must not become most of what the server does.
                sleep(max(pause, 2 * (monotonic() - started)))
                pause = min(_PAUSE_GROWTH * pause, _PAUSE_SECONDS)

    def _ask(self) -> None:
        job_ids = sorted(self._open)
        with closing(get_jobs(self._calls, job_ids)) as jobs:
            asked = iter(job_ids)
            for job in jobs:
                job_id = next(asked)
                if job is None or job_status_from(job.status).settled:
                    self._open.discard(job_id)
