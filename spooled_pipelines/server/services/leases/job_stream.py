"""Jobs that are pushed to a worker as they come, never more than it asked for."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from spooled_pipelines.server.auth import Caller
from spooled_pipelines.server.core.jobs.records import JobRecord
from spooled_pipelines.server.core.limits.in_flight import ANSWER_BYTES, JOB_ANSWER_BYTES, Share
from spooled_pipelines.server.core.runtime.notifier import job_topic, queue_topic
from spooled_pipelines.server.services.context import ServiceContext
from spooled_pipelines.server.services.leases.claiming import Consumer, claim, give_back
from spooled_pipelines.server.store.requests import ClaimRequest
from spooled_pipelines.wire import limits

# The most jobs that a subscription claims at once, so that several streams share what comes.
_LOT = 10


class JobStream:
    """A stream of jobs for one consumer.

    It pushes while fewer than `max_concurrent` of its jobs hold their lease, or, where that is
    None, as many as were asked for.
    """

    def __init__(
        self,
        context: ServiceContext,
        caller: Caller,
        consumer: Consumer,
        *,
        lease_ms: int,
        max_concurrent: int | None = None,
    ) -> None:
        self._context = context
        self._caller = caller
        self._consumer = consumer
        self._lease_ms = lease_ms
        self._lease_id: str | None = None
        self._max_concurrent = max_concurrent
        self._asked = 0
        self._held: set[str] = set()
        self._subscription = context.notifier.subscribe()

    def ask(self, count: int, lease_ms: int, lease_id: str | None) -> None:
        """Push `count` jobs, now or as they come, in place of the rest of an earlier request.

        All get the lease of this id; without one, each gets a lease of its own.
        """
        self._asked = count
        self._lease_ms, self._lease_id = lease_ms, lease_id
        self._subscription.wake()

    def resize(self, max_concurrent: int, lease_ms: int) -> None:
        """Push while fewer jobs than this hold their lease."""
        self._max_concurrent = max_concurrent
        self._lease_ms = lease_ms
        self._subscription.wake()

    async def jobs(self) -> AsyncGenerator[tuple[JobRecord, Share], None]:
        """Yield claimed jobs until it is closed; RefusedError when the server stops.

        Each has its share of what waits to be read.
        """
        context, caller, consumer, subscription = (
            self._context,
            self._caller,
            self._consumer,
            self._subscription,
        )
        with subscription:
            subscription.watch(queue_topic(caller.organization, consumer.queue_name))
            while True:
                room = self._room()
                claimed: list[JobRecord] = []
                if room > 0:
                    # No job is claimed while too much waits to be read.
                    share = await context.unread.take(
                        caller.organization, min(room * JOB_ANSWER_BYTES, ANSWER_BYTES)
                    )
                    asked = ClaimRequest(
                        consumer.queue_name,
                        consumer.worker_id,
                        self._lease_ms,
                        room,
                        lease_id=self._lease_id,
                    )
                    try:
                        claimed = await claim(context, caller, asked)
                    finally:
                        share.resize(sum(map(_size, claimed)))
                if not claimed:
                    await subscription.wait()
                    continue
                self._note(claimed)
                claimed.reverse()
                try:
                    while claimed:
                        size = _size(claimed[-1])
                        # Nothing of it is kept here.
                        yield claimed.pop(), share.split(size)
                finally:
                    give_back(context, caller, claimed)

    def _room(self) -> int:
        if self._max_concurrent is None:
            return min(self._asked, limits.DEQUEUE_MAX)
        # Those whose lease ended are watched no longer.
        self._held = {
            job_id for job_id in self._held if self._subscription.watches(job_topic(job_id))
        }
        return min(self._max_concurrent - len(self._held), _LOT)

    def _note(self, claimed: list[JobRecord]) -> None:
        if self._max_concurrent is None:
            self._asked = max(self._asked - len(claimed), 0)
            return
        for job in claimed:
            self._held.add(job.job_id)
            self._subscription.watch(job_topic(job.job_id))


def _size(job: JobRecord) -> int:
    return len(job.payload or b"") + len(job.tags or b"")
