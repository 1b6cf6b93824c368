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
from spooled_pipelines.types import Job
from spooled_pipelines.worker.flow import Load, Pace
from spooled_pipelines.worker.handling import Handling
from spooled_pipelines.worker.held import Held, HeldJob
from spooled_pipelines.worker.intake import Intake
from spooled_pipelines.worker.leases import Leases
from spooled_pipelines.worker.life import Life
from spooled_pipelines.worker.log import log_job, logger
from spooled_pipelines.worker.outcome import Completed, Failed, Outcome, Returned
from spooled_pipelines.worker.processes import ProcessRunner
from spooled_pipelines.worker.runners import (
    Gathering,
    LoopRunner,
    Runner,
    ThreadRunner,
    await_lots,
    run_lots,
)
from spooled_pipelines.worker.settings import WorkerSettings
from spooled_pipelines.worker.settler import Settled, Settler
from spooled_pipelines.worker.watch import Watch

# How long a stopping worker waits for the answer to its last question for jobs.
_LAST_ANSWER_SECONDS = 3.0
# How long it waits, once it is over, for the server to hear what it gives back.
_GIVE_BACK_SECONDS = 2.0


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
    """Everything here belongs to the event loop's thread, except what may be read: `counts`."""

    def __init__(
        self,
        client: AsyncSpooledClient,
        settings: WorkerSettings,
        handling: Handling,
        on_settled: Callable[[Settled], None] | None,
        on_ended: Callable[[HeldJob, float], None] | None = None,
    ) -> None:
        self._client = client
        self._settings = settings
        self._on_settled = on_settled
        self._on_ended = on_ended
        self.counts: Counter[str] = Counter()
        self._stopping = asyncio.Event()
        self._giving_up = asyncio.Event()
        self._quiet = asyncio.Event()
        self.held = Held(settings.lease_seconds)
        self._pace = Pace(time.monotonic())
        self._runner = _runner(handling, settings, self._finished)
        self._gathering = None if handling.rows is None else Gathering(handling.rows, self._runner)
        self.settler = Settler(client, self.held, on_settled=self._settled)
        self._leases = Leases(client, self.held, settings.lease_seconds, lost=self._lease_lost)
        self.watch = Watch(self.held, self._runner, self._end)
        # Handlers that were told to end and still have a slot.
        self._overrun: set[HeldJob] = set()
        self.intake = Intake(
            client,
            settings,
            load=self._load,
            load_of=lambda queue_name: self.held.unfinished_of[queue_name],
            rate=lambda: self._pace.rate(time.monotonic()),
            take=self._take,
        )
        self._life = Life(
            client,
            settings,
            running=lambda: min(self.held.unfinished, settings.slots),
            drain=self.stop,
        )

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def hanging(self) -> int:
        """Slots whose handlers were told to end and have not."""
        return self.watch.hanging() if self._overrun else 0

    def stop(self) -> None:
        """Take no more jobs, finish what runs, give back what has not begun, end."""
        self._stopping.set()
        self.intake.stop()

    def give_up(self) -> None:
        """Give back what runs as well, and end."""
        self._giving_up.set()
        self.stop()

    async def run(self, started: Callable[[], None]) -> WorkerReport:
        """Until stopped, or the queues are empty where so told. Raises what ends all work."""
        await self._life.register()
        logger.info(
            "worker %s takes jobs from queue=%s, %d at once",
            self._settings.worker_id,
            self._settings.queue_names,
            self._settings.concurrency,
        )
        started()
        intake = asyncio.ensure_future(self.intake.run())
        helpers = [
            asyncio.ensure_future(work)
            for work in (
                self.settler.run(),
                self._leases.run(),
                self._life.beat(),
                self.watch.run(),
            )
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
        """Finish and settle what runs within the grace time; give back the rest."""
        deadline = time.monotonic() + self._settings.grace_seconds
        await asyncio.wait(
            [intake], timeout=min(_LAST_ANSWER_SECONDS, self._settings.grace_seconds)
        )
        intake.cancel()
        if self._gathering is not None:
            self._gathering.flush()
        if self.settler.takes_back:
            for held in self._runner.take_waiting():
                self._end(held, Returned())
        if self.held.unfinished:
            logger.info("stopping: %d jobs to finish", self.held.unfinished)
        giving_up = asyncio.ensure_future(self._giving_up.wait())
        await self._until_quiet(deadline, [giving_up, *helpers])
        giving_up.cancel()
        for held in self.held:
            if held.outcome is None and not held.lost:
                log_job(logging.WARNING, "given back, it was not finished:", held)
                self._end(held, Returned())
        await self._until_quiet(time.monotonic() + _GIVE_BACK_SECONDS, helpers)
        for held in self.held:
            if not held.lost:
                self.counts["abandoned"] += 1
                log_job(logging.WARNING, "given up, its lease will run out:", held)

    async def _until_quiet(self, deadline: float, others: list[Any]) -> None:
        """Until every job is off hand, the deadline, or something else has ended."""
        while any(not held.lost for held in self.held):
            self._quiet.clear()
            quiet = asyncio.ensure_future(self._quiet.wait())
            left = max(0.0, deadline - time.monotonic())
            done, _ = await asyncio.wait(
                [quiet, *others], timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            quiet.cancel()
            if quiet not in done:
                return

    def _load(self) -> Load:
        stuck = self.hanging() * self._settings.jobs_per_call
        return Load(self.held.unfinished + stuck, self.settler.unacknowledged)

    def _take(self, job: Job, claimed_at: float) -> None:
        held = self.held.add(job, claimed_at)
        if self._gathering is None:
            self._runner.submit([held])
        else:
            self._gathering.submit(held)

    def _finished(self, held: HeldJob, outcome: Outcome | None) -> None:
        now = time.monotonic()
        self._pace.note(1, now)
        self._overrun.discard(held)
        if held.began is not None and self._on_ended is not None:
            self._on_ended(held, now - held.began)
        if held.outcome is None:
            if outcome is None or held.lost:
                self.settler.lose(held, "lease lost")
            else:
                self.held.finish(held, outcome)
                self.settler.settle(held)
        self.intake.room()

    def _end(self, held: HeldJob, outcome: Outcome | None) -> None:
        """Tell the handler to end; the job's outcome is this one, or none where it is lost."""
        held.cancelled, held.cancelled_at = True, time.monotonic()
        if held.began is not None:
            self._overrun.add(held)
        if outcome is not None:
            self.held.finish(held, outcome)
            self.settler.settle(held)
        if held.end is not None:
            held.end()

    def _lease_lost(self, held: HeldJob) -> None:
        if not held.cancelled:
            self._end(held, None)
        if all(each.lost for each in self.held):
            self._quiet.set()

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
        self.intake.room()
        if not len(self.held):
            self._quiet.set()


def _runner(
    handling: Handling,
    settings: WorkerSettings,
    finished: Callable[[HeldJob, Outcome | None], None],
) -> Runner:
    if settings.executor == "process":
        return ProcessRunner(handling, settings.concurrency, finished)
    if handling.is_async:
        return LoopRunner(await_lots(handling), settings.concurrency, finished)
    run = run_lots(handling)
    return ThreadRunner(lambda lot: run([held.job for held in lot]), settings.concurrency, finished)
