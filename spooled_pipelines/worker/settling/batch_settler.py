"""Settling many jobs with one message, by the Settle stream of the batch extension."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain

from spooled_pipelines.client import AsyncSpooledClient
from spooled_pipelines.errors import SpooledError, UnavailableError
from spooled_pipelines.rpc.aio.runtime import AsyncBidiStream
from spooled_pipelines.wire import batch_v1, spooled_v1
from spooled_pipelines.wire.methods import BATCH
from spooled_pipelines.worker.clock import Clock
from spooled_pipelines.worker.jobs.lease_table import LeasedJob
from spooled_pipelines.worker.jobs.leased_chunk import LeasedChunk
from spooled_pipelines.worker.jobs.outcome import Completed, Failed, Returned, truncated

# Messages that are not answered yet.
_IN_FLIGHT = 3
# While more outcomes are to come, messages are at least this far apart: each is a commit of its own
# for the server, which costs more than many a job.
_INTERVAL_SECONDS = 0.05
_BATCH_MAX = 5_000
_BATCH_BYTES = 1 << 20
# Of jobs that came alone, each of which is named with its lease.
_SINGLE_MAX = 500
# Of one chunk: fewer are sent as if they had come alone, since each chunk is a commit of its own.
_CHUNK_MIN = 10
_COMPLETED = spooled_v1.JobStatus.JOB_STATUS_COMPLETED


class OutcomeQueue:
    """Jobs whose outcomes wait to be sent, in the order of their ends."""

    def __init__(self) -> None:
        self._jobs: deque[LeasedJob] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, jobs: Sequence[LeasedJob]) -> None:
        """Add jobs."""
        self._jobs.extend(jobs)
        self._wake(len(jobs))

    def take(self, most: int) -> list[LeasedJob]:
        """Return the first ones, of which there may be none."""
        return [self._jobs.popleft() for _ in range(min(most, len(self._jobs)))]

    def put_back(self, jobs: Sequence[LeasedJob]) -> None:
        """Make these the first ones again."""
        self._jobs.extendleft(reversed(jobs))

    async def get(self) -> LeasedJob:
        """Wait for the first one, and return it."""
        await self.wait()
        return self._jobs.popleft()

    async def wait(self) -> None:
        """Wait until there is one."""
        while not self._jobs:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                # Another may have the job that this one was woken for.
                self._wake(1)
                raise

    def _wake(self, count: int) -> None:
        while count and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                count -= 1


class BatchSettler:
    """Sends what gathers in `outcomes` over one stream, until that breaks or is cancelled.

    `on_completed` gets jobs that the server has completed, `on_answer` each other one with the
    server's answer; jobs without one are back in `outcomes` at the end. `expects_more` says whether
    outcomes are to come that are worth a short wait.
    """

    def __init__(
        self,
        client: AsyncSpooledClient,
        clock: Clock,
        outcomes: OutcomeQueue,
        on_completed: Callable[[Sequence[LeasedJob]], None],
        on_answer: Callable[[LeasedJob, batch_v1.JobSettled], None],
        expects_more: Callable[[], bool],
    ) -> None:
        self._client = client
        self._clock = clock
        self._outcomes = outcomes
        self._on_completed = on_completed
        self._on_answer = on_answer
        self._expects_more = expects_more
        self._unanswered: deque[_Lot] = deque()
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
            for lot in self._unanswered:
                self._outcomes.put(lot.jobs())
        return UnavailableError("the stream of outcomes ended")

    async def _write(self, stream: AsyncBidiStream) -> None:
        next_at = 0.0
        while True:
            await self._room.acquire()
            lot = _Lot()
            # From here on nothing of it is lost, should this be cancelled.
            self._unanswered.append(lot)
            await self._outcomes.wait()
            pause = next_at - self._clock.monotonic()
            if pause > 0 and len(self._outcomes) < _BATCH_MAX and self._expects_more():
                await self._clock.sleep(pause)
            next_at = self._clock.monotonic() + _INTERVAL_SECONDS
            await stream.write(lot.fill(self._outcomes))

    async def _read(self, stream: AsyncBidiStream) -> None:
        while True:
            answer = await stream.read()
            if answer is None:
                return
            lot = self._unanswered.popleft()
            self._room.release()
            for leased, settled in zip(lot.single, answer.settled, strict=True):
                if settled.status == _COMPLETED:
                    self._on_completed([leased])
                else:
                    self._on_answer(leased, settled)
            for jobs, chunk in zip(lot.chunks.values(), answer.chunks, strict=True):
                others = {each.index: each.settled for each in chunk.exceptions}
                for index, settled in others.items():
                    self._on_answer(jobs[index], settled)
                self._on_completed(
                    [leased for index, leased in enumerate(jobs) if index not in others]
                    if others
                    else jobs
                )


class _Lot:
    """The jobs of one message: those that came alone, and those of each chunk."""

    def __init__(self) -> None:
        self.single: list[LeasedJob] = []
        self.chunks: dict[int, list[LeasedJob]] = {}

    def jobs(self) -> list[LeasedJob]:
        return [*self.single, *chain.from_iterable(self.chunks.values())]

    def fill(self, outcomes: OutcomeQueue) -> batch_v1.SettleRequest:
        """Return a message of bounded size with what is in the queue, one outcome at least."""
        jobs = outcomes.take(_BATCH_MAX)
        size = 0
        last: list[LeasedJob] = []
        for taken, leased in enumerate(jobs):
            if size >= _BATCH_BYTES or len(self.single) >= _SINGLE_MAX:
                outcomes.put_back(jobs[taken:])
                break
            outcome = leased.outcome
            if type(outcome) is Completed and outcome.encoded is not None:
                size += len(outcome.encoded)
            leased.sends += 1
            # Those of one chunk mostly come together.
            if not last or last[0].chunk is not leased.chunk:
                chunk = leased.chunk
                last = self.single if chunk is None else self.chunks.setdefault(id(chunk), [])
            last.append(leased)
        for key, part in list(self.chunks.items()):
            if len(part) < _CHUNK_MIN and len(self.single) + len(part) <= _SINGLE_MAX:
                self.single += self.chunks.pop(key)
        request = batch_v1.SettleRequest()
        for leased in self.single:
            _add(request, leased)
        for jobs in self.chunks.values():
            if jobs[0].chunk is not None:
                _add_chunk(request, jobs[0].chunk, jobs)
        return request


def _add(request: batch_v1.SettleRequest, leased: LeasedJob) -> None:
    outcome = leased.outcome
    held = leased.chunk or leased.job
    worker_id = held.worker_id if isinstance(held, LeasedChunk) else held.assigned_worker_id
    message = request.outcomes.add(
        job_id=leased.job_id, worker_id=worker_id or "", lease_id=held.lease_id or ""
    )
    if isinstance(outcome, Completed):
        message.completed.SetInParent()
        if outcome.encoded is not None:
            message.completed.result = outcome.encoded
    else:
        _fill_exception(message, leased)


def _add_chunk(
    request: batch_v1.SettleRequest, chunk: LeasedChunk, jobs: Sequence[LeasedJob]
) -> None:
    results = [
        each.outcome.encoded if isinstance(each.outcome, Completed) else b"" for each in jobs
    ]
    without = [index for index, result in enumerate(results) if result is None]
    message = request.chunks.add(
        queue_name=chunk.queue_name,
        worker_id=chunk.worker_id,
        lease_id=chunk.lease_id,
        job_ids=[chunk.job_ids[leased.index] for leased in jobs],
    )
    if len(without) < len(jobs):
        message.results.extend(result or b"" for result in results)
        message.without_result.extend(without)
    for index, leased in enumerate(jobs):
        if not isinstance(leased.outcome, Completed):
            _fill_exception(message.exceptions.add(index=index), leased)


def fill_return(message: batch_v1.Return, outcome: Returned) -> None:
    """Say that a job goes back, and when it is to run again."""
    message.SetInParent()
    message.throttles = outcome.throttles
    if outcome.after_ms is not None:
        message.after_ms = outcome.after_ms


def _fill_exception(
    message: batch_v1.JobOutcome | batch_v1.JobException, leased: LeasedJob
) -> None:
    outcome = leased.outcome
    if not isinstance(outcome, Failed):
        is_postponed = isinstance(outcome, Returned) and outcome.after_ms is not None
        message.returned.begun = leased.started_at is not None and not is_postponed
        if isinstance(outcome, Returned):
            fill_return(message.returned, outcome)
    elif outcome.exit_code is not None:
        message.died.error = truncated(outcome.error)
        message.died.exit_code = outcome.exit_code
        message.died.others = outcome.others
    else:
        message.failed.error = truncated(outcome.error)
        message.failed.final = not outcome.retry
        if outcome.delay_seconds is not None:
            message.failed.retry_delay_secs = outcome.delay_seconds
