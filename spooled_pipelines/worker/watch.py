"""Looks after what runs: time-outs, leases that the clock says are over, handlers that hang."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from spooled_pipelines.worker.held import Held, HeldJob
from spooled_pipelines.worker.log import log_job
from spooled_pipelines.worker.outcome import Outcome, timed_out
from spooled_pipelines.worker.runners import Runner

_EVERY_SECONDS = 0.25
# A handler that was told to end and does not is named after this.
_PATIENCE_SECONDS = 5.0


class Watch:
    """Ends handlers that may not go on: `end(held, outcome)`, None where the lease is lost."""

    def __init__(
        self, held: Held, runner: Runner, end: Callable[[HeldJob, Outcome | None], None]
    ) -> None:
        self._held = held
        self._runner = runner
        self._end = end
        self._named: set[int] = set()
        self.ticked_at = time.monotonic()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            now = self.ticked_at = time.monotonic()
            for held in self._held:
                if held.began is None or held.cancelled or held.outcome is not None:
                    continue
                limit = held.job.timeout_seconds
                if now >= held.lease_ends:
                    held.lost = True
                    self._end(held, None)
                elif limit and now >= held.began + limit:
                    self._end(held, timed_out(limit))
            self._name_those_that_hang(now)

    def hanging(self) -> int:
        """How many slots are with handlers that were told to end and have not."""
        return sum(all(held.cancelled for held in lot) for lot, _ in self._runner.running())

    def _name_those_that_hang(self, now: float) -> None:
        running = list(self._runner.running())
        self._named &= {id(lot) for lot, _ in running}
        for lot, place in running:
            first = lot[0]
            if id(lot) in self._named or not all(held.cancelled for held in lot):
                continue
            if now >= first.cancelled_at + _PATIENCE_SECONDS:
                self._named.add(id(lot))
                log_job(
                    logging.ERROR,
                    "handler hangs, it was told to end and still runs:",
                    first,
                    seconds=round(now - (first.began or now)),
                    at=place,
                )
