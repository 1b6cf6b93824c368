"""The watchdog over running handlers: time-outs, leases that have run out, handlers that hang."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from spooled_pipelines.worker.clock import Clock
from spooled_pipelines.worker.handlers.executors import JobExecutor, JobGroup, Locate
from spooled_pipelines.worker.jobs.lease_table import LeasedJob, LeaseTable
from spooled_pipelines.worker.jobs.outcome import Outcome, timed_out
from spooled_pipelines.worker.log import log_job

_CHECK_SECONDS = 0.25
# A handler that was told to end and still runs after this is named in the log.
_PATIENCE_SECONDS = 5.0


class Watchdog:
    """Ends handlers that may not go on: `cancel(leased, outcome)`, None where the lease is lost."""

    def __init__(
        self,
        clock: Clock,
        leases: LeaseTable,
        executor: JobExecutor,
        cancel: Callable[[LeasedJob, Outcome | None], None],
    ) -> None:
        self._clock = clock
        self._leases = leases
        self._executor = executor
        self._cancel = cancel
        # The groups that the log has named already, by their identity.
        self._logged: set[int] = set()
        leases.watched_at = clock.monotonic()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self._clock.sleep(_CHECK_SECONDS)
            now = self._leases.watched_at = self._clock.monotonic()
            running = list(self._executor.running())
            for group, _ in running:
                for leased in group:
                    self._check(leased, now)
            self._log_hanging(running, now)

    def _check(self, leased: LeasedJob, now: float) -> None:
        if leased.started_at is None or leased.cancelled or leased.outcome is not None:
            return
        limit = leased.timeout_seconds
        if now >= leased.expires_at:
            leased.lost = True
            self._cancel(leased, None)
        elif limit and now >= leased.started_at + limit:
            self._cancel(leased, timed_out(limit))

    def hanging(self) -> int:
        """Return how many slots are with handlers that were told to end and have not."""
        return sum(
            all(leased.cancelled for leased in group) for group, _ in self._executor.running()
        )

    def _log_hanging(self, running: Sequence[tuple[JobGroup, Locate]], now: float) -> None:
        self._logged &= {id(group) for group, _ in running}
        for group, locate in running:
            first = group[0]
            if id(group) in self._logged or not all(leased.cancelled for leased in group):
                continue
            if now >= first.cancelled_at + _PATIENCE_SECONDS:
                self._logged.add(id(group))
                log_job(
                    logging.ERROR,
                    "handler hangs, it was told to end and still runs:",
                    first,
                    seconds=round(now - (first.started_at or now)),
                    at=locate(),
                )
