"""Outcomes to a server that takes many in one message (the Settle of the batch extension)."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from spooled_pipelines.client import AsyncSpooledClient
from spooled_pipelines.errors import (
    InvalidArgumentError,
    LossyValueError,
    SpooledError,
    UnavailableError,
)
from spooled_pipelines.rpc.aio.runtime import AsyncConversation
from spooled_pipelines.rpc.methods import BATCH
from spooled_pipelines.rpc.struct import to_struct
from spooled_pipelines.wire import batch_v1
from spooled_pipelines.worker.held import HeldJob
from spooled_pipelines.worker.outcome import Completed, Failed, cut, refused

# Messages that are not answered yet.
_IN_FLIGHT = 3
# While more outcomes are to come, messages are at least this far apart: each is a commit of its own
# for the server, which costs more than many a job.
_APART_SECONDS = 0.05
_GROUP_MAX = 500
_GROUP_BYTES = 1 << 20


class Groups:
    """Sends what gathers in `outcomes` over one stream, until that breaks or is cancelled.

    `heard` gets each job with the server's answer; what got none is back in `outcomes` at the end.
    `more` says whether outcomes are to come that are worth a short wait.
    """

    def __init__(
        self,
        client: AsyncSpooledClient,
        outcomes: asyncio.Queue[HeldJob],
        heard: Callable[[HeldJob, batch_v1.JobSettled], None],
        more: Callable[[], bool],
    ) -> None:
        self._client = client
        self._outcomes = outcomes
        self._heard = heard
        self._more = more
        self._asked: deque[list[HeldJob]] = deque()
        self._room = asyncio.Semaphore(_IN_FLIGHT)

    async def run(self) -> SpooledError:
        """Returns what the stream ended with; UNIMPLEMENTED says: not here."""
        stream = self._client.calls.conversation(BATCH["Settle"])
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
            for group in self._asked:
                for held in group:
                    self._outcomes.put_nowait(held)
        return UnavailableError("the stream of outcomes ended")

    async def _write(self, stream: AsyncConversation) -> None:
        next_at = 0.0
        while True:
            await self._room.acquire()
            group = [await self._outcomes.get()]
            # From here on it is not lost, should this be cancelled.
            self._asked.append(group)
            pause = next_at - time.monotonic()
            if pause > 0 and self._outcomes.qsize() < _GROUP_MAX and self._more():
                await asyncio.sleep(pause)
            next_at = time.monotonic() + _APART_SECONDS
            await stream.write(self._filled(group))

    async def _read(self, stream: AsyncConversation) -> None:
        while True:
            answer = await stream.read()
            if answer is None:
                return
            group = self._asked.popleft()
            self._room.release()
            for held, settled in zip(group, answer.settled, strict=True):
                self._heard(held, settled)

    def _filled(self, group: list[HeldJob]) -> batch_v1.SettleRequest:
        """The group's one job and what has gathered behind it, as a message of bounded size."""
        request = batch_v1.SettleRequest()
        size = _add(request, group[0])
        while len(group) < _GROUP_MAX and size < _GROUP_BYTES and not self._outcomes.empty():
            held = self._outcomes.get_nowait()
            size += _add(request, held)
            group.append(held)
        return request


def _add(request: batch_v1.SettleRequest, held: HeldJob) -> int:
    """Put the job's outcome into the message; returns how many bytes of result that are."""
    held.sends += 1
    job, outcome = held.job, held.outcome
    said = request.outcomes.add(
        job_id=job.id, worker_id=job.assigned_worker_id or "", lease_id=job.lease_id or ""
    )
    if isinstance(outcome, Completed):
        said.completed.SetInParent()
        if outcome.result is None:
            return 0
        try:
            result = to_struct(outcome.result, what="result").SerializeToString()
        except (InvalidArgumentError, LossyValueError) as error:
            outcome = held.outcome = refused(f"the result cannot be kept: {error}")
        else:
            said.completed.result = result
            return len(result)
    if isinstance(outcome, Failed):
        said.failed.error = cut(outcome.error)
        said.failed.final = not outcome.retry
        if outcome.delay_seconds is not None:
            said.failed.retry_delay_secs = outcome.delay_seconds
    else:
        said.returned.SetInParent()
    return 0
