"""Outcomes on their way to the server: many at once, each until it is heard."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from spooled_pipelines.client import AsyncSpooledClient
from spooled_pipelines.errors import (
    ConflictError,
    InvalidArgumentError,
    LeaseLostError,
    NotFoundError,
    RateLimitError,
    SpooledError,
)
from spooled_pipelines.types import Job, JobStatus
from spooled_pipelines.wire import batch_v1, spooled_v1
from spooled_pipelines.worker.faults import is_passing
from spooled_pipelines.worker.flow import Backoff
from spooled_pipelines.worker.groups import Groups
from spooled_pipelines.worker.held import Held, HeldJob
from spooled_pipelines.worker.lines import Line
from spooled_pipelines.worker.log import log_job, logger
from spooled_pipelines.worker.outcome import Completed, Failed, Returned, refused

SettledStatus = Literal["completed", "retrying", "deadletter", "returned", "lost"]

_DEADLETTER = spooled_v1.JobStatus.JOB_STATUS_DEADLETTER
# What it is called when the server took it, and the job is not dead.
_TOLD: dict[type, SettledStatus] = {Completed: "completed", Failed: "retrying"}
# Outcomes under way side by side. The server commits together what arrives together. Some
# servers allow a connection no more than 100 streams, and the worker has other calls to make.
_LINES_MAX = 64


@dataclass(frozen=True)
class Settled:
    """What became of one run of a job, as the server acknowledged it.

    ``"returned"``: given back unfinished, as a worker that stops does. ``"lost"``: the lease was
    gone, the result was not taken, and the job runs again.
    """

    job: Job
    status: SettledStatus


class Settler:
    """Sends each outcome, and sends it again while the server is away.

    Whether an outcome still counts is for the server to say, by its lease: a worker that was cut
    off sends what it has when the server is back.
    """

    def __init__(
        self,
        client: AsyncSpooledClient,
        held: Held,
        *,
        on_settled: Callable[[HeldJob, Settled], None],
    ) -> None:
        self._client = client
        self._held = held
        self._on_settled = on_settled
        self._outcomes: asyncio.Queue[HeldJob] = asyncio.Queue()
        # Whether the server takes outcomes in groups, as far as is known.
        self._takes_groups = True
        self._asking: set[asyncio.Task[None]] = set()
        self._lines: set[asyncio.Task[None]] = set()
        self._idle_lines = 0
        self._hopeless: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._cut_off = False
        self.unacknowledged = 0

    @property
    def takes_back(self) -> bool:
        """Whether the server takes a job back without counting it as a try that failed."""
        return self._takes_groups

    def settle(self, held: HeldJob) -> None:
        """Send the job's outcome, now or as soon as there is a server."""
        self.unacknowledged += 1
        self._outcomes.put_nowait(held)
        if not self._takes_groups:
            self._draw_lines(1)

    def lose(self, held: HeldJob, reason: str) -> None:
        """Drop the outcome: the lease is gone."""
        log_job(logging.WARNING, "lease lost, result dropped:", held, reason=reason)
        self._acknowledge(held, "lost")

    async def run(self) -> None:
        """Until cancelled. Raises what no repeating cures, such as a key that was revoked."""
        try:
            await self._in_groups()
            self._takes_groups = False
            self._draw_lines(self._outcomes.qsize())
            await self._hopeless
        finally:
            running = [*self._lines, *self._asking]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _in_groups(self) -> None:
        """Many outcomes in a message; returns where the server does not know that."""
        backoff = Backoff(0.05, 5.0)

        def heard(held: HeldJob, answer: batch_v1.JobSettled) -> None:
            self._cut_off = False
            backoff.reset()
            self._heard(held, answer)

        def more() -> bool:
            return self._held.unfinished > 0

        while True:
            error = await Groups(self._client, self._outcomes, heard, more).run()
            if error.code == "UNIMPLEMENTED":
                return
            await self._wait_out(error, backoff)

    def _heard(self, held: HeldJob, answer: batch_v1.JobSettled) -> None:
        outcome = held.outcome
        if answer.status == _DEADLETTER:
            self._settled(held, "deadletter")
        elif answer.status:
            self._settled(held, _TOLD.get(type(outcome), "returned"))
        elif answer.code == "INVALID_ARGUMENT" and isinstance(outcome, Completed):
            held.outcome = refused(f"the result cannot be kept: {answer.message}")
            self._outcomes.put_nowait(held)
        elif answer.code == "FAILED_PRECONDITION" and held.sends > 1:
            task = asyncio.ensure_future(self._ask_what_it_is(held))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        else:
            self._settled(held, "lost")

    async def _ask_what_it_is(self, held: HeldJob) -> None:
        try:
            status = await self._outcome_before(held)
        except SpooledError:
            # Sent again, it is asked again.
            self._outcomes.put_nowait(held)
        else:
            self._settled(held, status)

    def _settled(self, held: HeldJob, status: SettledStatus) -> None:
        self.unacknowledged -= 1
        if status == "lost":
            self.lose(held, "refused by the server")
        else:
            self._acknowledge(held, status)

    def _draw_lines(self, wanted: int) -> None:
        # Lines are made as they are needed: a quiet worker has one.
        while (
            wanted and self._outcomes.qsize() > self._idle_lines and len(self._lines) < _LINES_MAX
        ):
            wanted -= 1
            task = asyncio.ensure_future(self._send_all())
            self._lines.add(task)
            task.add_done_callback(self._line_ended)

    def _line_ended(self, task: asyncio.Task[None]) -> None:
        self._lines.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._hopeless.done():
            self._hopeless.set_exception(error)

    async def _send_all(self) -> None:
        """One outcome after another over one line, which is made anew when it breaks."""
        line: Line | None = None
        try:
            while True:
                self._idle_lines += 1
                try:
                    held = await self._outcomes.get()
                finally:
                    self._idle_lines -= 1
                backoff = Backoff(0.05, 5.0)
                while True:
                    line = line or Line(self._client)
                    try:
                        status = await self._send(line, held)
                        break
                    except SpooledError as error:
                        await line.close()
                        line = None
                        await self._wait_out(error, backoff)
                self._cut_off = False
                self._settled(held, status)
        finally:
            if line is not None:
                await line.close()

    async def _wait_out(self, error: SpooledError, backoff: Backoff) -> None:
        if not is_passing(error):
            raise error
        # All outcomes under way meet the same outage: one line about it is enough.
        if not self._cut_off:
            self._cut_off = True
            logger.warning(
                "results wait for the server (%d so far): %s", self.unacknowledged, error
            )
        pause = backoff.next()
        await asyncio.sleep(
            max(pause, error.retry_after) if isinstance(error, RateLimitError) else pause
        )

    async def _send(self, line: Line, held: HeldJob) -> SettledStatus:
        outcome = held.outcome
        if outcome is None:
            return "lost"
        held.sends += 1
        try:
            if isinstance(outcome, Completed):
                try:
                    await line.settle(held.job, outcome)
                    return "completed"
                except InvalidArgumentError as error:
                    outcome = held.outcome = refused(f"the result cannot be kept: {error}")
            retried = await line.settle(held.job, outcome)
            if isinstance(outcome, Returned):
                return "returned"
            return "retrying" if retried else "deadletter"
        except (LeaseLostError, NotFoundError, InvalidArgumentError):
            return "lost"
        except ConflictError:
            return await self._outcome_before(held)

    async def _outcome_before(self, held: HeldJob) -> SettledStatus:
        """The job is settled already: by an earlier sending whose answer was lost, perhaps."""
        if held.sends == 1:
            return "lost"
        job = await self._client.get_job(held.job.id)
        if job.assigned_worker_id not in (held.job.assigned_worker_id, None):
            return "lost"
        if isinstance(held.outcome, Returned):
            return "lost"
        if isinstance(held.outcome, Failed):
            return "deadletter" if job.status is JobStatus.DEADLETTER else "lost"
        return "completed" if job.status is JobStatus.COMPLETED else "lost"

    def _acknowledge(self, held: HeldJob, status: SettledStatus) -> None:
        self._held.remove(held)
        self._on_settled(held, Settled(held.job, status))
