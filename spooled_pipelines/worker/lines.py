"""Ways to tell a plain server what became of a job: one at a time on each, many side by side.

Such a server takes no job back; one that is returned is left the shortest lease there is.
"""

from __future__ import annotations

from typing import Protocol

from spooled_pipelines.client import AsyncSpooledClient
from spooled_pipelines.client.aio.process import AsyncProcessStream
from spooled_pipelines.client.answers import CompleteAnswer, FailAnswer, Refusal, RenewAnswer
from spooled_pipelines.errors import ServerError, UnavailableError
from spooled_pipelines.rpc.values import Job
from spooled_pipelines.wire.limits import LEASE_SECONDS_MIN
from spooled_pipelines.worker.outcome import Completed, Failed, Outcome, Returned


class Line(Protocol):
    """Takes one outcome after another; errors are the client's."""

    async def settle(self, job: Job, outcome: Outcome) -> bool:
        """Returns when the server has it: whether the job will be tried again."""

    async def close(self) -> None: ...


class ConversationLine:
    """A ProcessJobs conversation in which each request waits for its answer.

    An answer does not name its job; this way there is only one that it can belong to. A message
    on an open stream costs both sides a quarter of what a call of its own does, and some dozens
    of such lines give the server as much to commit together.
    """

    def __init__(self, client: AsyncSpooledClient) -> None:
        self._stream: AsyncProcessStream = client.process_jobs()

    async def settle(self, job: Job, outcome: Outcome) -> bool:
        if isinstance(outcome, Completed):
            await self._stream.complete(job, result=outcome.result)
        elif isinstance(outcome, Failed):
            await self._stream.fail(job, outcome.error, retry=outcome.retry)
        else:
            await self._stream.renew_lease(job, lease_seconds=LEASE_SECONDS_MIN)
        async for answer in self._stream:
            if isinstance(answer, Refusal):
                raise answer.error
            if isinstance(answer, FailAnswer):
                return answer.will_retry
            if isinstance(answer, CompleteAnswer | RenewAnswer):
                return False
            raise ServerError(f"the server sent a {type(answer).__name__} that nobody asked for")
        raise UnavailableError("the server ended the conversation before it answered")

    async def close(self) -> None:
        await self._stream.aclose()


class CallLine:
    """A call for each outcome, for servers that hold no conversations."""

    def __init__(self, client: AsyncSpooledClient) -> None:
        self._client = client

    async def settle(self, job: Job, outcome: Outcome) -> bool:
        if isinstance(outcome, Completed):
            await self._client.complete(job, result=outcome.result)
            return False
        if isinstance(outcome, Returned):
            await self._client.renew_lease(job, lease_seconds=LEASE_SECONDS_MIN)
            return False
        return (await self._client.fail(job, outcome.error, retry=outcome.retry)).will_retry

    async def close(self) -> None:
        """There is nothing to close."""
