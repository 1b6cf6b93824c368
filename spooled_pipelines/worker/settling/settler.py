"""Settling: outcomes on their way to the server, each until it is acknowledged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from spooled_pipelines.client import AsyncSpooledClient
from spooled_pipelines.errors import (
    ConflictError,
    InvalidArgumentError,
    LeaseLostError,
    NotFoundError,
    SpooledError,
)
from spooled_pipelines.types import Job, JobStatus
from spooled_pipelines.wire import batch_v1, spooled_v1
from spooled_pipelines.worker.clock import Clock
from spooled_pipelines.worker.jobs.context import JobContext
from spooled_pipelines.worker.jobs.lease_table import LeasedJob, LeaseTable
from spooled_pipelines.worker.jobs.outcome import Completed, Failed, Returned, rejected_result
from spooled_pipelines.worker.log import log_job, logger
from spooled_pipelines.worker.retry import Backoff, is_transient
from spooled_pipelines.worker.settling.batch_settler import BatchSettler, OutcomeQueue
from spooled_pipelines.worker.settling.result_schemas import ResultSchemas, fail_all
from spooled_pipelines.worker.settling.settle_channels import SettleChannel

SettledStatus = Literal["completed", "retrying", "deadletter", "returned", "lost"]

_DEADLETTER = spooled_v1.JobStatus.JOB_STATUS_DEADLETTER
# The status where the server took the outcome and the job is not dead.
_ACCEPTED: dict[type, SettledStatus] = {Completed: "completed", Failed: "retrying"}
# Outcomes under way side by side. The server commits together what arrives together. Some
# servers allow a connection no more than 100 streams, and the worker has other calls to make.
_CHANNELS_MAX = 64
_RETRY_SECONDS, _RETRY_MAX_SECONDS = 0.05, 5.0


@dataclass(frozen=True)
class Settled:
    """What became of one run of a job, as the server acknowledged it.

    ``"returned"``: given back unfinished, as by a worker that stops, or by Throttled and Snooze.
    ``"lost"``: the lease was gone, the result was not taken, and the job runs again.
    """

    context: JobContext
    status: SettledStatus

    @property
    def job(self) -> Job:
        """The job as it was claimed; one that came in a chunk is decoded when it is looked at."""
        return self.context.job


class Settler:
    """Sends each outcome, and sends it again while the server is away.

    Whether an outcome still counts is for the server to say, by its lease: a worker that was cut
    off sends what it has when the server is back.
    """

    def __init__(
        self,
        client: AsyncSpooledClient,
        clock: Clock,
        leases: LeaseTable,
        *,
        on_settled: Callable[[Sequence[LeasedJob], SettledStatus], None],
    ) -> None:
        self._client = client
        self._clock = clock
        self._leases = leases
        self._on_settled = on_settled
        self._outcomes = OutcomeQueue()
        self._result_schemas = ResultSchemas(client, clock)
        # Whether the server has the batch extension's Settle, as far as is known.
        self._has_settle = True
        self._lookups: set[asyncio.Task[None]] = set()
        self._channels: set[asyncio.Task[None]] = set()
        self._idle_channels = 0
        self._fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outage_logged = False
        self.unacknowledged = 0

    @property
    def can_return_jobs(self) -> bool:
        """Whether the server takes a job back without counting it as a failed attempt."""
        return self._has_settle

    def settle(self, jobs: Sequence[LeasedJob]) -> None:
        """Send the jobs' outcomes, now or as soon as there is a server."""
        self.unacknowledged += len(jobs)
        unknown = self._result_schemas.unknown(jobs)
        if unknown:
            task = asyncio.ensure_future(self._learn_and_put(jobs, unknown))
            self._lookups.add(task)
            task.add_done_callback(self._lookups.discard)
        else:
            self._put(jobs)

    async def _learn_and_put(
        self, jobs: Sequence[LeasedJob], unknown: dict[int, LeasedJob]
    ) -> None:
        try:
            await self._result_schemas.learn(unknown)
        except SpooledError as error:
            fail_all(jobs, error)
        self._put(jobs)

    def _put(self, jobs: Sequence[LeasedJob]) -> None:
        self._result_schemas.refuse_misfits(jobs)
        self._outcomes.put(jobs)
        if not self._has_settle:
            self._open_channels(len(jobs))

    def drop(self, leased: LeasedJob, reason: str) -> None:
        """Drop the outcome: the lease is gone."""
        log_job(logging.WARNING, "lease lost, result dropped:", leased, reason=reason)
        self._acknowledge([leased], "lost")

    async def run(self) -> None:
        """Send outcomes until cancelled.

        Raises:
            SpooledError: trying again would not help, as with a key that was revoked.
        """
        try:
            await self._settle_in_batches()
            self._has_settle = False
            self._open_channels(len(self._outcomes))
            await self._fatal
        finally:
            running = [*self._channels, *self._lookups]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _settle_in_batches(self) -> None:
        """Send many outcomes in a message; return where the server has no Settle."""
        backoff = Backoff(_RETRY_SECONDS, _RETRY_MAX_SECONDS)

        def on_completed(jobs: Sequence[LeasedJob]) -> None:
            self._outage_is_over()
            backoff.reset()
            self.unacknowledged -= len(jobs)
            self._acknowledge(jobs, "completed")

        def expects_more() -> bool:
            return self._leases.unfinished > 0

        while True:
            error = await BatchSettler(
                self._client,
                self._clock,
                self._outcomes,
                on_completed,
                self._on_answer,
                expects_more,
            ).run()
            if error.code == "UNIMPLEMENTED":
                return
            await self._wait_out(error, backoff)

    def _on_answer(self, leased: LeasedJob, answer: batch_v1.JobSettled) -> None:
        self._outage_is_over()
        outcome = leased.outcome
        if answer.status == _DEADLETTER:
            self._settled(leased, "deadletter")
        elif answer.status:
            self._settled(leased, _ACCEPTED.get(type(outcome), "returned"))
        elif answer.code == "INVALID_ARGUMENT" and isinstance(outcome, Completed):
            leased.outcome = rejected_result(f"the result cannot be kept: {answer.message}")
            self._outcomes.put([leased])
        elif answer.code == "FAILED_PRECONDITION" and leased.sends > 1:
            task = asyncio.ensure_future(self._look_up(leased))
            self._lookups.add(task)
            task.add_done_callback(self._lookups.discard)
        else:
            self._settled(leased, "lost")

    async def _look_up(self, leased: LeasedJob) -> None:
        try:
            status = await self._earlier_outcome(leased)
        except SpooledError:
            # The outcome is sent again, and its answer looked up again.
            self._outcomes.put([leased])
        else:
            self._settled(leased, status)

    def _settled(self, leased: LeasedJob, status: SettledStatus) -> None:
        self.unacknowledged -= 1
        if status == "lost":
            self.drop(leased, "refused by the server")
        else:
            self._acknowledge([leased], status)

    def _open_channels(self, wanted: int) -> None:
        # Channels are opened as they are needed: a quiet worker has one.
        while (
            wanted
            and len(self._outcomes) > self._idle_channels
            and len(self._channels) < _CHANNELS_MAX
        ):
            wanted -= 1
            task = asyncio.ensure_future(self._settle_over_a_channel())
            self._channels.add(task)
            task.add_done_callback(self._channel_ended)

    def _channel_ended(self, task: asyncio.Task[None]) -> None:
        self._channels.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._fatal.done():
            self._fatal.set_exception(error)

    async def _settle_over_a_channel(self) -> None:
        """Send one outcome after another over a channel, and open another when it breaks."""
        channel: SettleChannel | None = None
        try:
            while True:
                self._idle_channels += 1
                try:
                    leased = await self._outcomes.get()
                finally:
                    self._idle_channels -= 1
                backoff = Backoff(_RETRY_SECONDS, _RETRY_MAX_SECONDS)
                while True:
                    channel = channel or SettleChannel(self._client)
                    try:
                        status = await self._send(channel, leased)
                        break
                    except SpooledError as error:
                        await channel.close()
                        channel = None
                        await self._wait_out(error, backoff)
                self._outage_is_over()
                self._settled(leased, status)
        finally:
            if channel is not None:
                await channel.close()

    async def _wait_out(self, error: SpooledError, backoff: Backoff) -> None:
        if not is_transient(error):
            raise error
        # All outcomes under way meet the same outage: one line about it is enough.
        if self.unacknowledged and not self._outage_logged:
            self._outage_logged = True
            logger.warning(
                "results wait for the server (%d so far): %s", self.unacknowledged, error
            )
        await self._clock.sleep(backoff.after(error))

    def _outage_is_over(self) -> None:
        if self._outage_logged:
            self._outage_logged = False
            logger.info("the server takes results again")

    async def _send(self, channel: SettleChannel, leased: LeasedJob) -> SettledStatus:
        outcome = leased.outcome
        if outcome is None:
            return "lost"
        leased.sends += 1
        try:
            if isinstance(outcome, Completed):
                try:
                    await channel.settle(leased.job, outcome)
                    return "completed"
                except InvalidArgumentError as error:
                    outcome = rejected_result(f"the result cannot be kept: {error}")
                    leased.outcome = outcome
            retried = await channel.settle(leased.job, outcome)
            if isinstance(outcome, Returned):
                return "returned"
            return "retrying" if retried else "deadletter"
        except (LeaseLostError, NotFoundError, InvalidArgumentError):
            return "lost"
        except ConflictError:
            return await self._earlier_outcome(leased)

    async def _earlier_outcome(self, leased: LeasedJob) -> SettledStatus:
        """Return what a job is that is settled already, perhaps by a send whose answer was lost."""
        if leased.sends == 1:
            return "lost"
        job = await self._client.get_job(leased.job_id)
        if job.assigned_worker_id not in (leased.job.assigned_worker_id, None):
            return "lost"
        if isinstance(leased.outcome, Returned):
            return "lost"
        if isinstance(leased.outcome, Failed):
            return "deadletter" if job.status is JobStatus.DEADLETTER else "lost"
        return "completed" if job.status is JobStatus.COMPLETED else "lost"

    def _acknowledge(self, jobs: Sequence[LeasedJob], status: SettledStatus) -> None:
        self._leases.remove(jobs)
        self._on_settled(jobs, status)
