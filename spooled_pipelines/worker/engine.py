"""The worker's inside: one event loop that takes, runs, renews, settles and says good-bye."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spooled_pipelines.client import AsyncSpooledClient
from spooled_pipelines.rpc.values import Job
from spooled_pipelines.worker.flow import Load, Pace
from spooled_pipelines.worker.held import Held, HeldJob
from spooled_pipelines.worker.intake import Intake
from spooled_pipelines.worker.leases import Leases
from spooled_pipelines.worker.life import Life
from spooled_pipelines.worker.log import log_job, logger
from spooled_pipelines.worker.outcome import Completed, Failed, Outcome
from spooled_pipelines.worker.runners import Handler, make_runner
from spooled_pipelines.worker.settings import WorkerSettings
from spooled_pipelines.worker.settler import Settled, Settler

# How long a stopping worker waits for the answer to its last question for jobs.
_LAST_ANSWER_SECONDS = 3.0


@dataclass(frozen=True)
class WorkerReport:
    """What a worker did, in runs of jobs.

    ``returned``: jobs given back unfinished when it stopped, for another worker to do.
    ``abandoned``: those that the server did not hear of any more; their leases run out, and then
    another worker gets them.
    """

    completed: int = 0
    retrying: int = 0
    deadletter: int = 0
    lost: int = 0
    returned: int = 0
    abandoned: int = 0

    @property
    def settled(self) -> int:
        return self.completed + self.retrying + self.deadletter


class Engine:
    """Everything here belongs to the event loop's thread, except `counts`, which may be read."""

    def __init__(
        self,
        client: AsyncSpooledClient,
        settings: WorkerSettings,
        handler: Handler,
        on_settled: Callable[[Settled], None] | None,
    ) -> None:
        self._client = client
        self._settings = settings
        self._on_settled = on_settled
        self.counts: Counter[str] = Counter()
        self._stopping = asyncio.Event()
        self._quiet = asyncio.Event()
        self._held = Held(settings.lease_seconds)
        self._pace = Pace(time.monotonic())
        self._runner = make_runner(handler, settings.concurrency, self._finished)
        self._settler = Settler(client, self._held, on_settled=self._settled)
        self._leases = Leases(client, self._held, settings.lease_seconds)
        self._intake = Intake(
            client,
            settings,
            load=lambda: Load(self._held.unfinished, self._settler.unacknowledged),
            rate=lambda: self._pace.rate(time.monotonic()),
            take=self._take,
        )
        self._life = Life(
            client,
            settings,
            running=lambda: min(self._held.unfinished, settings.concurrency),
            drain=self.stop,
        )

    def stop(self) -> None:
        """Take no more jobs, finish what was taken, end."""
        self._stopping.set()
        self._intake.stop()

    async def run(self, started: Callable[[], None]) -> WorkerReport:
        """Until stopped, or the queue is empty where so told. Raises what ends all work."""
        await self._life.register()
        logger.info(
            "worker %s takes jobs from queue=%s, %d at once",
            self._settings.worker_id,
            self._settings.queue_name,
            self._settings.concurrency,
        )
        started()
        intake = asyncio.ensure_future(self._intake.run())
        helpers = [
            asyncio.ensure_future(work)
            for work in (self._settler.run(), self._leases.run(), self._life.beat())
        ]
        try:
            stopping = asyncio.ensure_future(self._stopping.wait())
            await asyncio.wait([intake, stopping, *helpers], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            self.stop()
            await self._wind_up(intake, helpers)
        finally:
            self._runner.close()
            for task in (intake, *helpers):
                task.cancel()
            ended = await asyncio.gather(intake, *helpers, return_exceptions=True)
        await self._life.sign_off()
        for end in ended:
            if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError):
                raise end
        return self.report()

    def report(self) -> WorkerReport:
        return WorkerReport(**self.counts)

    async def _wind_up(self, intake: asyncio.Task[None], helpers: list[asyncio.Task[None]]) -> None:
        """Finish and settle what is held, within the grace time."""
        deadline = time.monotonic() + self._settings.grace_seconds
        await asyncio.wait(
            [intake], timeout=min(_LAST_ANSWER_SECONDS, self._settings.grace_seconds)
        )
        intake.cancel()
        if len(self._held):
            logger.info("stopping: %d jobs to finish", len(self._held))
        while len(self._held):
            self._quiet.clear()
            quiet = asyncio.ensure_future(self._quiet.wait())
            waited: list[asyncio.Future[Any]] = [quiet, *helpers]
            left = max(0.0, deadline - time.monotonic())
            done, _ = await asyncio.wait(waited, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            quiet.cancel()
            if quiet not in done:
                break
        for held in self._held:
            self.counts["abandoned"] += 1
            log_job(logging.WARNING, "given up, its lease will run out:", held)

    def _take(self, job: Job, claimed_at: float) -> None:
        self._runner.submit(self._held.add(job, claimed_at))

    def _finished(self, held: HeldJob, outcome: Outcome | None) -> None:
        self._pace.note(1, time.monotonic())
        if outcome is None or held.lost:
            self._settler.lose(held, "lease lost")
        else:
            self._held.finish(held, outcome)
            self._settler.settle(held)
        self._intake.room()

    def _settled(self, held: HeldJob, settled: Settled) -> None:
        self.counts[settled.status] += 1
        outcome = held.outcome
        if isinstance(outcome, Failed) and settled.status != "lost":
            log_job(
                logging.INFO if outcome.discarded else logging.WARNING,
                "job discarded" if outcome.discarded else "job failed",
                held,
                status=settled.status,
                error=outcome.kind,
                at=outcome.place,
            )
        elif isinstance(outcome, Completed):
            log_job(logging.DEBUG, "job " + settled.status, held)
        if self._on_settled is not None:
            try:
                self._on_settled(settled)
            except Exception:  # noqa: BLE001 - somebody's callback: its fault must not cost jobs
                logger.exception("on_settled raised")
        self._intake.room()
        if not len(self._held):
            self._quiet.set()
