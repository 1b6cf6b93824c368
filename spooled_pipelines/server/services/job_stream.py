"""Pushing jobs to a worker as they come, never more than it asked for."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from spooled_pipelines.server.core.notifier import job_key, queue_key
from spooled_pipelines.server.core.records import JobRecord
from spooled_pipelines.server.services.claiming import Taker, claim, give_back
from spooled_pipelines.server.services.context import Caller, Services
from spooled_pipelines.wire import limits

# A subscription claims so many at once at most, so that several streams share what comes.
_LOT = 10


class Pusher:
    """Jobs for one taker over one stream.

    Either it pushes as long as fewer than `max_concurrent` of its jobs hold their lease, or (where
    that is None) as many as were asked for.
    """

    def __init__(
        self,
        services: Services,
        caller: Caller,
        taker: Taker,
        *,
        lease_ms: int,
        max_concurrent: int | None = None,
    ) -> None:
        self._services = services
        self._caller = caller
        self._taker = taker
        self._lease_ms = lease_ms
        self._max_concurrent = max_concurrent
        self._asked = 0
        self._held: set[str] = set()
        self._waiter = services.hub.waiter()

    def ask(self, count: int, lease_ms: int) -> None:
        """Push so many jobs, now or as they come; replaces what is left of an earlier request."""
        self._asked = count
        self._lease_ms = lease_ms
        self._waiter.wake()

    def resize(self, max_concurrent: int, lease_ms: int) -> None:
        """Push as long as fewer than this hold their lease."""
        self._max_concurrent = max_concurrent
        self._lease_ms = lease_ms
        self._waiter.wake()

    async def jobs(self) -> AsyncGenerator[JobRecord, None]:
        """Claimed jobs; ends only by being closed, or with the server's end (a RefusedError)."""
        services, caller, taker, waiter = (
            self._services,
            self._caller,
            self._taker,
            self._waiter,
        )
        with waiter:
            waiter.watch(queue_key(caller.organization, taker.queue_name))
            while True:
                room = self._room()
                claimed: list[JobRecord] = []
                if room > 0:
                    claimed = await claim(services, caller, taker, self._lease_ms, room)
                if not claimed:
                    await waiter.wait()
                    continue
                self._note(claimed)
                handed = 0
                try:
                    for job in claimed:
                        handed += 1
                        yield job
                finally:
                    give_back(services, caller, claimed[handed:])

    def _room(self) -> int:
        if self._max_concurrent is None:
            return min(self._asked, limits.DEQUEUE_MAX)
        # Those whose lease ended are watched no longer.
        self._held = {job_id for job_id in self._held if self._waiter.watches(job_key(job_id))}
        return min(self._max_concurrent - len(self._held), _LOT)

    def _note(self, claimed: list[JobRecord]) -> None:
        if self._max_concurrent is None:
            self._asked = max(self._asked - len(claimed), 0)
            return
        for job in claimed:
            self._held.add(job.job_id)
            self._waiter.watch(job_key(job.job_id))
