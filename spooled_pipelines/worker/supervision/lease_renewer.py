"""Renewing the leases of jobs that are not finished."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence

from spooled_pipelines.client import AsyncSpooledClient
from spooled_pipelines.errors import ConflictError, NotFoundError, SpooledError
from spooled_pipelines.wire import batch_v1
from spooled_pipelines.wire.methods import BATCH
from spooled_pipelines.worker.clock import Clock
from spooled_pipelines.worker.handlers.event_loop import run_in_thread
from spooled_pipelines.worker.jobs.lease_table import LeasedJob, LeaseTable
from spooled_pipelines.worker.jobs.leased_chunk import LeasedChunk
from spooled_pipelines.worker.jobs.outcome import Returned
from spooled_pipelines.worker.log import log_job, logger
from spooled_pipelines.worker.retry import is_transient

_CONCURRENCY = 32


class LeaseRenewer:
    """Renews each lease when a third of it has passed, whatever the handlers do meanwhile.

    It has a thread, an event loop and a connection of its own, so that an async handler that
    blocks the worker's loop keeps its lease. `on_lost` is called in the worker's loop, with each
    job whose lease the server says is gone.
    """

    def __init__(
        self,
        connect: Callable[[], AsyncSpooledClient],
        clock: Clock,
        leases: LeaseTable,
        lease_seconds: int,
        *,
        on_lost: Callable[[LeasedJob], None],
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._leases = leases
        self._lease_seconds = lease_seconds
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Renew until cancelled.

        Raises:
            SpooledError: trying again would not help.
        """
        await run_in_thread("spooled-leases", self._renew_forever)

    async def _renew_forever(self) -> None:
        slots = asyncio.Semaphore(_CONCURRENCY)
        # Often enough that a lease is never much older than a third.
        pause = self._lease_seconds / 12
        async with self._connect() as client:
            while True:
                await self._clock.sleep(pause)
                due = self._leases.due(self._clock.monotonic())
                chunks: defaultdict[int, list[LeasedJob]] = defaultdict(list)
                for leased in due:
                    # A job that came alone is a chunk of one.
                    chunks[id(leased.chunk or leased)].append(leased)
                await asyncio.gather(
                    *(self._renew(client, slots, jobs) for jobs in chunks.values())
                )

    async def _renew(
        self, client: AsyncSpooledClient, slots: asyncio.Semaphore, jobs: list[LeasedJob]
    ) -> None:
        """Renew the leases of jobs of one chunk, or of one job that came alone."""
        async with slots:
            # A plain server is told so by the shortest lease, which this would make longer.
            jobs = [leased for leased in jobs if not isinstance(leased.outcome, Returned)]
            if not jobs:
                return
            asked_at = self._clock.monotonic()
            lost: Sequence[int] = ()
            try:
                if jobs[0].chunk is None:
                    await client.renew_lease(jobs[0].job, lease_seconds=self._lease_seconds)
                else:
                    lost = await self._renew_chunk(client, jobs[0].chunk, jobs)
            except (ConflictError, NotFoundError) as error:
                self._loop.call_soon_threadsafe(self._lose, jobs[0], error.code)
                return
            except SpooledError as error:
                if not is_transient(error):
                    raise
                logger.warning("leases not renewed, trying again: %s", error)
                return
            for index in lost:
                self._loop.call_soon_threadsafe(self._lose, jobs[index], "LEASE_EXPIRED")
            for leased in jobs:
                self._leases.renewed(leased, asked_at)

    async def _renew_chunk(
        self, client: AsyncSpooledClient, chunk: LeasedChunk, jobs: list[LeasedJob]
    ) -> Sequence[int]:
        """Return the places of those that are lost."""
        request = batch_v1.RenewChunkRequest(
            queue_name=chunk.queue_name,
            worker_id=chunk.worker_id,
            lease_id=chunk.lease_id,
            job_ids=[leased.job_id for leased in jobs],
            extension_secs=self._lease_seconds,
        )
        renewed = await client.connection.unary(BATCH["RenewChunk"], request, repeatable=True)
        return list(renewed.lost)

    def _lose(self, leased: LeasedJob, reason: str | None) -> None:
        # Where the handler ended meanwhile, its own settling says what became of the job.
        if leased.outcome is not None or leased.lost:
            return
        leased.lost = True
        log_job(
            logging.WARNING,
            "lease lost, the result of what still runs will be dropped:",
            leased,
            reason=reason,
        )
        self._on_lost(leased)
