"""Many unary calls at once: as many as the server takes in, each retried until it is answered."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from typing import Any

from spooled_pipelines.batch.flow_control import RETRY_SECONDS, AdaptiveLimit, RetryBudget
from spooled_pipelines.errors import RateLimitError, SpooledError
from spooled_pipelines.rpc.aio.connection import AsyncConnection
from spooled_pipelines.rpc.aio.runtime import monotonic, sleep
from spooled_pipelines.wire.methods import Method

# Responses are yielded in order; one slow call holds up this many limits' worth of others at most.
_AHEAD = 4


@dataclass(eq=False)
class _Row:
    """A request and, once there is one, its response."""

    number: int
    request: bytes
    answer: Any = None
    budget: RetryBudget | None = None


async def pipelined(
    connection: AsyncConnection,
    method: Method,
    requests: Iterable[bytes],
    limit: AdaptiveLimit,
    answers: type[SpooledError],
    retry_seconds: float = RETRY_SECONDS,
) -> AsyncGenerator[Any, None]:
    """Yield the response to each request, in the requests' order.

    A request is repeated if its response may have been lost, so that the call must be idempotent.
    Requests are read only as there is room for them.

    Args:
        connection: the server.
        method: what is called.
        requests: their wire bytes.
        limit: how many are on their way at once; it is told of every response.
        answers: the class of errors that are yielded in place of a response.
        retry_seconds: how long each request is retried.

    Raises:
        SpooledError: a request failed for good; the responses before it were yielded.
    """
    running = _AsyncConcurrentCalls(connection, method, requests, limit, answers, retry_seconds)
    try:
        while True:
            while running.rows and (answer := running.rows[0].answer) is not None:
                if isinstance(answer, SpooledError) and not isinstance(answer, answers):
                    raise answer
                running.rows.popleft()
                yield answer
            await running.start_more()
            if not running.rows:
                return
            await running.wait()
    finally:
        running.cancel()


class _AsyncConcurrentCalls:
    """The requests that were read and whose responses were not yielded yet (`rows`), in order."""

    def __init__(
        self,
        connection: AsyncConnection,
        method: Method,
        requests: Iterable[bytes],
        limit: AdaptiveLimit,
        answers: type[SpooledError],
        retry_seconds: float,
    ) -> None:
        self.rows: deque[_Row] = deque()
        self._policy = connection.settings.retry
        self._many = connection.many(method)
        self._numbered = enumerate(requests)
        self._limit = limit
        self._answers = answers
        self._retry_seconds = retry_seconds
        self._flying: dict[int, _Row] = {}
        # Requests to retry: when, and which.
        self._retries: list[tuple[float, int, _Row]] = []
        self._ended = False

    async def start_more(self) -> None:
        """Start as many calls as the limit allows."""
        while len(self._flying) < self._limit.limit and not self._limit.wait():
            row = self._next()
            if row is None:
                return
            self._flying[row.number] = row
            await self._many.start(row.number, row.request)

    async def wait(self) -> None:
        """Return once there is a response, or time to start another call."""
        pause = self._pause()
        if self._flying:
            for number, took, answer in await self._many.completed(pause):
                self._arrived(self._flying.pop(number), took, answer)
        elif pause:
            await sleep(pause)

    def _pause(self) -> float | None:
        """Return the seconds until more can be started; None if only a response makes room."""
        if len(self._flying) >= self._limit.limit:
            return None
        held = self._limit.wait()
        if self._retries:
            return max(held, self._retries[0][0] - monotonic(), 0)
        return held or None

    def cancel(self) -> None:
        """End the calls that are in flight."""
        self._many.cancel()

    def _next(self) -> _Row | None:
        if self._retries and self._retries[0][0] <= monotonic():
            return heapq.heappop(self._retries)[2]
        if self._ended or len(self.rows) >= _AHEAD * self._limit.limit:
            return None
        number, request = next(self._numbered, (0, None))
        if request is None:
            self._ended = True
            return None
        row = _Row(number, request)
        self.rows.append(row)
        return row

    def _arrived(self, row: _Row, took: float, answer: Any) -> None:
        if not isinstance(answer, SpooledError):
            self._limit.answered(took)
            row.answer = answer
            return
        if isinstance(answer, RateLimitError):
            self._limit.refused(answer.retry_after)
        if isinstance(answer, self._answers):
            row.answer = answer
            return
        if row.budget is None:
            row.budget = RetryBudget(self._policy, self._retry_seconds)
        delay = row.budget.next_delay(answer)
        if delay is None:
            row.answer = answer
            # Later requests would be in vain; earlier ones are waited for.
            self._ended = True
        else:
            heapq.heappush(self._retries, (monotonic() + delay, row.number, row))
