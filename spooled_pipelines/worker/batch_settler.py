"""Settling many jobs with one message, by the Settle stream of the batch extension."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from spooled_pipelines.client import AsyncSpooledClient
from spooled_pipelines.errors import SpooledError, UnavailableError
from spooled_pipelines.rpc.aio.runtime import AsyncBidiStream
from spooled_pipelines.wire import batch_v1
from spooled_pipelines.wire.methods import BATCH
from spooled_pipelines.worker.clock import Clock
from spooled_pipelines.worker.lease_table import LeasedJob
from spooled_pipelines.worker.outcome import Completed, Failed, truncated

# Messages that are not answered yet.
_IN_FLIGHT = 3
# While more outcomes are to come, messages are at least this far apart: each is a commit of its own
# for the server, which costs more than many a job.
_INTERVAL_SECONDS = 0.05
_BATCH_MAX = 500
_BATCH_BYTES = 1 << 20


class BatchSettler:
    """Sends what gathers in `outcomes` over one stream, until that breaks or is cancelled.

    `on_answer` gets each job with the server's answer; jobs without one are back in `outcomes` at
    the end. `expects_more` says whether outcomes are to come that are worth a short wait.
    """

    def __init__(
        self,
        client: AsyncSpooledClient,
        clock: Clock,
        outcomes: asyncio.Queue[LeasedJob],
        on_answer: Callable[[LeasedJob, batch_v1.JobSettled], None],
        expects_more: Callable[[], bool],
    ) -> None:
        self._client = client
        self._clock = clock
        self._outcomes = outcomes
        self._on_answer = on_answer
        self._expects_more = expects_more
        self._unanswered: deque[list[LeasedJob]] = deque()
        self._room = asyncio.Semaphore(_IN_FLIGHT)

    async def run(self) -> SpooledError:
        """Return what the stream ended with; UNIMPLEMENTED: the server has no Settle."""
        stream = self._client.connection.bidi_stream(BATCH["Settle"])
        tasks = [asyncio.ensure_future(work) for work in (self._read(stream), self._write(stream))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    await task
        except SpooledError as error:
            return error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            stream.cancel()
            for batch in self._unanswered:
                for leased in batch:
                    self._outcomes.put_nowait(leased)
        return UnavailableError("the stream of outcomes ended")

    async def _write(self, stream: AsyncBidiStream) -> None:
        next_at = 0.0
        while True:
            await self._room.acquire()
            batch = [await self._outcomes.get()]
            # From here on it is not lost, should this be cancelled.
            self._unanswered.append(batch)
            pause = next_at - self._clock.monotonic()
            if pause > 0 and self._outcomes.qsize() < _BATCH_MAX and self._expects_more():
                await self._clock.sleep(pause)
            next_at = self._clock.monotonic() + _INTERVAL_SECONDS
            await stream.write(self._filled(batch))

    async def _read(self, stream: AsyncBidiStream) -> None:
        while True:
            answer = await stream.read()
            if answer is None:
                return
            batch = self._unanswered.popleft()
            self._room.release()
            for leased, settled in zip(batch, answer.settled, strict=True):
                self._on_answer(leased, settled)

    def _filled(self, batch: list[LeasedJob]) -> batch_v1.SettleRequest:
        """Return a message of bounded size: the batch's one job and what has gathered behind it."""
        request = batch_v1.SettleRequest()
        size = _add(request, batch[0])
        while len(batch) < _BATCH_MAX and size < _BATCH_BYTES and not self._outcomes.empty():
            leased = self._outcomes.get_nowait()
            size += _add(request, leased)
            batch.append(leased)
        return request


def _add(request: batch_v1.SettleRequest, leased: LeasedJob) -> int:
    """Put the job's outcome into the message; return how many bytes of result that are."""
    leased.sends += 1
    job, outcome = leased.job, leased.outcome
    message = request.outcomes.add(
        job_id=job.id, worker_id=job.assigned_worker_id or "", lease_id=job.lease_id or ""
    )
    if isinstance(outcome, Completed):
        message.completed.SetInParent()
        if outcome.encoded is None:
            return 0
        message.completed.result = outcome.encoded
        return len(outcome.encoded)
    if isinstance(outcome, Failed):
        message.failed.error = truncated(outcome.error)
        message.failed.final = not outcome.retry
        if outcome.delay_seconds is not None:
            message.failed.retry_delay_secs = outcome.delay_seconds
    else:
        message.returned.SetInParent()
    return 0
