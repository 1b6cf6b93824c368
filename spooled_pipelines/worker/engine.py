"""The worker's engine: one event loop that fetches, runs, renews, settles and deregisters."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spooled_pipelines.client import AsyncSpooledClient
from spooled_pipelines.types import Job
from spooled_pipelines.worker.clock import Clock
from spooled_pipelines.worker.fetching.admission import Admission
from spooled_pipelines.worker.fetching.fetch_policy import Load, RateEstimate
from spooled_pipelines.worker.fetching.fetcher import Fetcher
from spooled_pipelines.worker.handlers.executors import (
    AsyncioExecutor,
    Batcher,
    JobExecutor,
    OnFinished,
    ThreadExecutor,
    async_call,
    sync_call,
)
from spooled_pipelines.worker.handlers.handler import BoundHandler
from spooled_pipelines.worker.handlers.processes import ProcessExecutor
from spooled_pipelines.worker.handlers.running_log import RunningLog
from spooled_pipelines.worker.jobs.lease_table import HANGING_SECONDS, LeasedJob, LeaseTable
from spooled_pipelines.worker.jobs.leased_chunk import LeasedChunk
from spooled_pipelines.worker.jobs.outcome import Completed, Failed, Outcome, Returned
from spooled_pipelines.worker.log import FailureLog, log_job, logger
from spooled_pipelines.worker.settings import WorkerSettings
from spooled_pipelines.worker.settling.settler import Settled, SettledStatus, Settler
from spooled_pipelines.worker.supervision.lease_renewer import LeaseRenewer
from spooled_pipelines.worker.supervision.registration import Registration
from spooled_pipelines.worker.supervision.watchdog import Watchdog

# How long a draining worker waits for the answer to its last request for jobs.
_LAST_ANSWER_SECONDS = 3.0
# How long it waits, at the end, for the server to acknowledge what it gives back.
_GIVE_BACK_SECONDS = 2.0
# So many jobs in hand that there is room for none.
_NO_ROOM = 1_000_000


@dataclass(frozen=True)
class WorkerReport:
    """What a worker did, in runs of jobs.

    ``returned``: jobs given back for another worker to do: unfinished when it stopped, or before
    they began, since its slots were taken by others that came at the same time.
    ``abandoned``: jobs whose return the server did not acknowledge; another worker gets them when
    their leases have run out.
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
    """Everything here belongs to the event loop's thread, except `counts`, which others may read.

    `connect` makes another client, for another event loop. `on_ended` is called with each job whose
    handler has ended, and the seconds that it took.
    """

    def __init__(
        self,
        client: AsyncSpooledClient,
        connect: Callable[[], AsyncSpooledClient],
        clock: Clock,
        settings: WorkerSettings,
        handler: BoundHandler,
        on_settled: Callable[[Settled], None] | None,
        on_ended: Callable[[LeasedJob, float], None] | None = None,
    ) -> None:
        self.clock = clock
        self._settings = settings
        self._on_settled = on_settled
        self._on_ended = on_ended
        self.counts: Counter[str] = Counter()
        self.counts_by_queue: Counter[tuple[str, str]] = Counter()
        self._stopping = asyncio.Event()
        self._aborting = asyncio.Event()
        self._idle = asyncio.Event()
        self._failures = FailureLog()
        self.leases = LeaseTable(settings.lease_seconds)
        self._rate = RateEstimate(clock.monotonic())
        self._executor = _executor(clock, handler, settings, self._on_finished)
        self._admission = Admission(self._begin)
        self._batcher = None if handler.batch is None else Batcher(handler.batch, self._executor)
        self.settler = Settler(client, clock, self.leases, on_settled=self._on_jobs_settled)
        self._renewer = LeaseRenewer(
            connect, clock, self.leases, settings.lease_seconds, on_lost=self._on_lease_lost
        )
        self._watchdog = Watchdog(clock, self.leases, self._executor, self._cancel)
        # Jobs whose handlers were told to end and still have a slot.
        self._cancelled_running: set[LeasedJob] = set()
        self._fetcher = Fetcher(
            client,
            clock,
            settings,
            load=self._load,
            unfinished_of=lambda queue_name: self.leases.unfinished_by_queue[queue_name],
            rate=lambda: self._rate.rate(clock.monotonic()),
            on_jobs=self._on_fetched,
            give_back=self._give_back,
        )
        self._registration = Registration(
            client,
            clock,
            settings,
            running=lambda: min(self.leases.unfinished, settings.slots),
            drain=self.stop,
        )

    def why_not_live(self) -> str | None:
        """Return why only a restart helps; None where the worker is live. From any thread."""
        if self.clock.monotonic() - self.leases.watched_at > HANGING_SECONDS:
            return "the event loop hangs"
        concurrency = self._settings.concurrency
        if self.hanging() >= concurrency:
            return f"all {concurrency} slots are taken by handlers that do not end"
        return None

    def why_not_ready(self) -> str | None:
        """Return why the worker takes no jobs; None where it does. From any thread."""
        if self._stopping.is_set():
            return "stopping"
        if not self._fetcher.server_answers:
            return "the server does not answer"
        return self.why_not_live()

    def hanging(self) -> int:
        """Return how many slots are with handlers that were told to end and have not."""
        return self._watchdog.hanging() if self._cancelled_running else 0

    def stop(self) -> None:
        """Drain: fetch no more jobs, finish what runs, give back what has not begun, end."""
        self._stopping.set()
        self._fetcher.stop()

    def abort(self) -> None:
        """Give back what runs as well, and end."""
        self._aborting.set()
        self.stop()

    async def run(self, on_started: Callable[[], None]) -> WorkerReport:
        """Work until stopped or, with `stop_when_empty`, until the queues are empty.

        Raises:
            SpooledError: work cannot go on, as with a key that was revoked.
        """
        await self._registration.register()
        logger.info(
            "worker %s takes jobs from queue=%s, %d at once",
            self._settings.worker_id,
            self._settings.queue_names,
            self._settings.concurrency,
        )
        on_started()
        fetching = asyncio.ensure_future(self._fetcher.run())
        services = [
            asyncio.ensure_future(work)
            for work in (
                self.settler.run(),
                self._renewer.run(),
                self._registration.heartbeat_forever(),
                self._watchdog.run(),
            )
        ]
        try:
            stopping = asyncio.ensure_future(self._stopping.wait())
            await self.clock.wait([fetching, stopping, *services])
            stopping.cancel()
            self.stop()
            await self._drain(fetching, services)
        finally:
            self._executor.close()
            for task in (fetching, *services):
                task.cancel()
            ended = await asyncio.gather(fetching, *services, return_exceptions=True)
            self._failures.flush()
        await self._registration.deregister()
        for end in ended:
            if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError):
                raise end
        return self.report()

    def report(self) -> WorkerReport:
        """Return what was done so far."""
        return WorkerReport(**self.counts)

    async def _drain(
        self, fetching: asyncio.Task[None], services: Sequence[asyncio.Task[None]]
    ) -> None:
        """Finish and settle what runs within the grace time; give back the rest."""
        deadline = self.clock.monotonic() + self._settings.grace_seconds
        last_answer = min(_LAST_ANSWER_SECONDS, self._settings.grace_seconds)
        await self.clock.wait([fetching], last_answer)
        fetching.cancel()
        if self._batcher is not None:
            self._batcher.flush()
        if self.settler.can_return_jobs:
            for leased in (*self._admission.take_waiting(), *self._executor.take_waiting()):
                self._cancel(leased, Returned())
        if self.leases.unfinished:
            logger.info("stopping: %d jobs to finish", self.leases.unfinished)
        aborting = asyncio.ensure_future(self._aborting.wait())
        await self._until_idle(deadline, [aborting, *services])
        aborting.cancel()
        for leased in self.leases:
            if leased.outcome is None and not leased.lost:
                log_job(logging.WARNING, "given back, it was not finished:", leased)
                self._cancel(leased, Returned())
        await self._until_idle(self.clock.monotonic() + _GIVE_BACK_SECONDS, services)
        for leased in self.leases:
            if not leased.lost:
                self.counts["abandoned"] += 1
                log_job(logging.WARNING, "abandoned, its lease will run out:", leased)

    async def _until_idle(self, deadline: float, others: Sequence[asyncio.Task[object]]) -> None:
        """Wait until no job is in hand, the deadline, or the end of one of the others."""
        while any(not leased.lost for leased in self.leases):
            self._idle.clear()
            idle = asyncio.ensure_future(self._idle.wait())
            left = max(0.0, deadline - self.clock.monotonic())
            done = await self.clock.wait([idle, *others], left)
            idle.cancel()
            if idle not in done:
                return

    def _load(self) -> Load:
        hanging = self.hanging() * self._settings.jobs_per_call
        held_back = _NO_ROOM if self._admission.is_closed else 0
        unfinished = self.leases.unfinished + hanging + held_back
        return Load(unfinished, self.settler.unacknowledged, self.leases.payload_bytes)

    def _on_fetched(self, jobs: Job | LeasedChunk, claimed_at: float) -> None:
        if not self.leases.unfinished:
            self._rate.begin(self.clock.monotonic())
        if isinstance(jobs, Job):
            taken = [self.leases.add(jobs, claimed_at)]
        else:
            taken = self.leases.add_chunk(jobs, claimed_at)
        if self._settings.executor == "process":
            # What kills a process takes along nothing of another.
            self._begin(taken, jobs.run_alone)
        else:
            self._admission.enter(taken, jobs.run_alone)

    def _give_back(self, job: Job, claimed_at: float) -> bool:
        """Return a job that has not begun, for another worker; False where that cannot be."""
        if not self.settler.can_return_jobs:
            return False
        self._cancel(self.leases.add(job, claimed_at), Returned())
        return True

    def _begin(self, jobs: Sequence[LeasedJob], is_alone: bool) -> None:
        if self._batcher is not None and not is_alone:
            self._batcher.submit(jobs)
            return
        most = self._settings.jobs_per_call
        for start in range(0, len(jobs), most):
            self._executor.submit(list(jobs[start : start + most]))

    def _on_finished(self, ended: Sequence[tuple[LeasedJob, Outcome | None]]) -> None:
        now = self.clock.monotonic()
        self._rate.record(len(ended), now)
        if self._cancelled_running:
            self._cancelled_running.difference_update(leased for leased, _ in ended)
        self._admission.leave(leased for leased, _ in ended)
        if self._on_ended is not None:
            for leased, _ in ended:
                if leased.started_at is not None:
                    self._on_ended(leased, now - leased.started_at)
        undecided = [(leased, outcome) for leased, outcome in ended if leased.outcome is None]
        for leased, outcome in undecided:
            if outcome is None or leased.lost:
                self.settler.drop(leased, "lease lost")
        finished = self.leases.finish(undecided)
        if finished:
            self.settler.settle(finished)
        self._fetcher.notify_room()

    def _cancel(self, leased: LeasedJob, outcome: Outcome | None) -> None:
        """Tell the handler to end; the job's outcome is this one, or none where it is lost."""
        leased.cancel(self.clock.monotonic())
        if leased.started_at is not None:
            self._cancelled_running.add(leased)
        if outcome is not None:
            self.leases.finish([(leased, outcome)])
            self.settler.settle([leased])
        if leased.interrupt is not None:
            leased.interrupt()
        self._admission.leave([leased])

    def _on_lease_lost(self, leased: LeasedJob) -> None:
        if not leased.cancelled:
            self._cancel(leased, None)
        if all(each.lost for each in self.leases):
            self._idle.set()

    def _on_jobs_settled(self, jobs: Sequence[LeasedJob], status: SettledStatus) -> None:
        self.counts[status] += len(jobs)
        self.counts_by_queue.update((leased.queue_name, status) for leased in jobs)
        if status != "completed" or logger.isEnabledFor(logging.DEBUG):
            for leased in jobs:
                _log_settled(self._failures, leased, status)
        if self._on_settled is not None:
            for leased in jobs:
                try:
                    self._on_settled(Settled(leased.context, status))
                except Exception:  # noqa: BLE001, PERF203 - a user's callback: its fault must not cost jobs
                    logger.exception("on_settled raised")
        self._fetcher.notify_room()
        if not len(self.leases):
            self._idle.set()


def _log_settled(failures: FailureLog, leased: LeasedJob, status: SettledStatus) -> None:
    outcome = leased.outcome
    if isinstance(outcome, Failed) and status != "lost":
        failures.add(
            logging.INFO if outcome.discarded else logging.WARNING,
            "job discarded" if outcome.discarded else "job failed",
            leased,
            status=status,
            error=outcome.error_type,
            at=outcome.location,
        )
    elif isinstance(outcome, Completed):
        log_job(logging.DEBUG, "job " + status, leased)
    elif isinstance(outcome, Returned) and outcome.after_ms is not None:
        event = "job throttled" if outcome.throttles else "job snoozed"
        level = logging.DEBUG if outcome.throttles else logging.INFO
        log_job(level, event, leased, status=status, after_ms=outcome.after_ms)


def _executor(
    clock: Clock,
    handler: BoundHandler,
    settings: WorkerSettings,
    on_finished: OnFinished,
) -> JobExecutor:
    concurrency = settings.concurrency
    descriptor = settings.running_log
    jobs = settings.jobs_per_call
    log = None if descriptor is None else RunningLog(descriptor, concurrency, jobs)
    if settings.executor == "process":
        return ProcessExecutor(clock, handler, concurrency, on_finished, log)
    if handler.is_async:
        return AsyncioExecutor(clock, async_call(handler), concurrency, on_finished, log)
    run = sync_call(handler)
    return ThreadExecutor(
        clock,
        lambda group: run([leased.context for leased in group]),
        concurrency,
        on_finished,
        log,
    )
