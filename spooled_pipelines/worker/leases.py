"""Keeping the leases of what is not finished."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from spooled_pipelines.client import AsyncSpooledClient
from spooled_pipelines.errors import ConflictError, NotFoundError, SpooledError
from spooled_pipelines.worker.faults import is_passing
from spooled_pipelines.worker.held import Held, HeldJob
from spooled_pipelines.worker.log import log_job, logger

_AT_ONCE = 32


class Leases:
    """Renews each lease when a third of it has passed, whatever the handlers do meanwhile."""

    def __init__(
        self,
        client: AsyncSpooledClient,
        held: Held,
        lease_seconds: int,
        *,
        lost: Callable[[HeldJob], None],
    ) -> None:
        self._lost = lost
        self._client = client
        self._held = held
        self._lease_seconds = lease_seconds
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Until cancelled. Raises what trying again does not cure."""
        # Looks often enough that a lease is never much older than a third.
        pause = self._lease_seconds / 12
        while True:
            await asyncio.sleep(pause)
            due = self._held.due(time.monotonic())
            await asyncio.gather(*(self._renew(held) for held in due))

    async def _renew(self, held: HeldJob) -> None:
        async with self._slots:
            if held.outcome is not None:
                return
            asked_at = time.monotonic()
            try:
                await self._client.renew_lease(held.job, lease_seconds=self._lease_seconds)
            except (ConflictError, NotFoundError) as error:
                # Where the handler ended meanwhile, its own settling says what became of the job.
                if held.outcome is None:
                    held.lost = True
                    log_job(
                        logging.WARNING,
                        "lease lost, the result of what still runs will be dropped:",
                        held,
                        reason=error.code,
                    )
                    self._lost(held)
            except SpooledError as error:
                if not is_passing(error):
                    raise
                logger.warning("leases not renewed, trying again: %s", error)
            else:
                self._held.renewed(held, asked_at)
