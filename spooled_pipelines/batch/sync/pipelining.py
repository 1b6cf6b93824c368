# Generated from spooled_pipelines/batch/aio/pipelining.py by `make generate`: do not edit.
"""Many unary calls at once: as many as the server takes in, each tried until it is answered."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

from spooled_pipelines.batch.flow_control import RETRY_SECONDS, AdaptiveLimit, RetryBudget
from spooled_pipelines.errors import RateLimitError, SpooledError
from spooled_pipelines.rpc.sync.connection import Calls
from spooled_pipelines.rpc.sync.runtime import monotonic, sleep
from spooled_pipelines.wire.methods import Method

# One slow answer does not hold up the others, up to so many windows of them: results come in order.
_AHEAD = 4


@dataclass(eq=False)
class _Row:
    """A request, and what became of it."""

    number: int
    request: bytes
    answer: Any = None
    budget: RetryBudget | None = None


def pipelined(
    calls: Calls,
    method: Method,
    requests: Iterable[bytes],
    limit: AdaptiveLimit,
    answers: type[SpooledError],
    retry_seconds: float = RETRY_SECONDS,
) -> Generator[Any, None]:
    """The response to each request, in the requests' order.

    Each is repeated where its answer may have been lost, so that the call has to be one which may
    come twice. Requests are taken only as there is room for them.

    Args:
        calls: the server.
        method: what is called.
        requests: their wire bytes.
        limit: how many are on their way at once; it is told of every response.
        answers: an error that is as good as a response, and comes in the place of one.
        retry_seconds: how long each is tried again.

    Raises:
        SpooledError: a request failed for good. What came before it was answered and yielded.
    """
    running = _Running(calls, method, requests, limit, answers, retry_seconds)
    try:
        while True:
            while running.rows and (answer := running.rows[0].answer) is not None:
                if isinstance(answer, SpooledError) and not isinstance(answer, answers):
                    raise answer
                running.rows.popleft()
                yield answer
            running.fill()
            if not running.rows:
                return
            running.learn()
    finally:
        running.cancel()


class _Running:
    """`rows`: those that were taken and not told of yet, in order."""

    def __init__(
        self,
        calls: Calls,
        method: Method,
        requests: Iterable[bytes],
        limit: AdaptiveLimit,
        answers: type[SpooledError],
        retry_seconds: float,
    ) -> None:
        self.rows: deque[_Row] = deque()
        self._policy = calls.settings.retry
        self._many = calls.many(method)
        self._numbered = enumerate(requests)
        self._limit = limit
        self._answers = answers
        self._retry_seconds = retry_seconds
        self._flying: dict[int, _Row] = {}
        # Those that are to be tried again: when, and which.
        self._again: list[tuple[float, int, _Row]] = []
        self._ended = False

    def fill(self) -> None:
        """Start as many as may be on their way now."""
        while len(self._flying) < self._limit.limit and not self._limit.wait():
            row = self._next()
            if row is None:
                return
            self._flying[row.number] = row
            self._many.start(row.number, row.request)

    def learn(self) -> None:
        """Wait until there is something new: an answer, or a time to go on."""
        pause = self._pause()
        if self._flying:
            for number, took, answer in self._many.ended(pause):
                self._arrived(self._flying.pop(number), took, answer)
        elif pause:
            sleep(pause)

    def _pause(self) -> float | None:
        """Seconds until more can be started; None: nothing but an answer makes room."""
        if len(self._flying) >= self._limit.limit:
            return None
        held = self._limit.wait()
        if self._again:
            return max(held, self._again[0][0] - monotonic(), 0)
        return held or None

    def cancel(self) -> None:
        """Ends what is on its way."""
        self._many.cancel()

    def _next(self) -> _Row | None:
        if self._again and self._again[0][0] <= monotonic():
            return heapq.heappop(self._again)[2]
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
            # Those behind it would be in vain; those before it are waited for.
            self._ended = True
        else:
            heapq.heappush(self._again, (monotonic() + delay, row.number, row))
