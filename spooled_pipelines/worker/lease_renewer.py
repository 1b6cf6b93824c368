"""Renewing the leases of jobs that are not finished."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from spooled_pipelines.client import AsyncSpooledClient
from spooled_pipelines.errors import ConflictError, NotFoundError, SpooledError
from spooled_pipelines.worker.clock import Clock
from spooled_pipelines.worker.lease_table import LeasedJob, LeaseTable
from spooled_pipelines.worker.log import log_job, logger
from spooled_pipelines.worker.retry import is_transient

_CONCURRENCY = 32


class LeaseRenewer:
    """Renews each lease when a third of it has passed, whatever the handlers do meanwhile.

    `on_lost` is called with each job whose lease the server says is gone.
    """

    def __init__(
        self,
        client: AsyncSpooledClient,
        clock: Clock,
        leases: LeaseTable,
        lease_seconds: int,
        *,
        on_lost: Callable[[LeasedJob], None],
    ) -> None:
        self._client = client
        self._clock = clock
        self._leases = leases
        self._lease_seconds = lease_seconds
        self._on_lost = on_lost
        self._slots = asyncio.Semaphore(_CONCURRENCY)

    async def run(self) -> None:
        """Renew until cancelled.

        Raises:
            SpooledError: trying again would not help.
        """
        # Often enough that a lease is never much older than a third.
        pause = self._lease_seconds / 12
        while True:
            await self._clock.sleep(pause)
            due = self._leases.due(self._clock.monotonic())
            await asyncio.gather(*(self._renew(leased) for leased in due))

    async def _renew(self, leased: LeasedJob) -> None:
        async with self._slots:
            if leased.outcome is not None:
                return
            asked_at = self._clock.monotonic()
            try:
                await self._client.renew_lease(leased.job, lease_seconds=self._lease_seconds)
            except (ConflictError, NotFoundError) as error:
                # Where the handler ended meanwhile, its own settling says what became of the job.
                if leased.outcome is None:
                    leased.lost = True
                    log_job(
                        logging.WARNING,
                        "lease lost, the result of what still runs will be dropped:",
                        leased,
                        reason=error.code,
                    )
                    self._on_lost(leased)
            except SpooledError as error:
                if not is_transient(error):
                    raise
                logger.warning("leases not renewed, trying again: %s", error)
            else:
                self._leases.renewed(leased, asked_at)
