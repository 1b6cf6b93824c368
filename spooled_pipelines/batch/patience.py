"""How long to go on against a server that is away: decided without waiting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import monotonic

from spooled_pipelines.errors import SpooledError
from spooled_pipelines.rpc.retry import RetryPolicy, delay_before_retry

# A server that is restarted is back within this; whoever is away longer is reported.
PATIENCE_SECONDS = 60.0
_MANY = 1 << 30


class Patience:
    """Tries again with growing waits, until nothing has moved for `seconds`.

    A policy that never tries again (`max_attempts=1`) is respected; otherwise what counts is
    the time since something moved, not the number of tries.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        seconds: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        attempts = 1 if policy.max_attempts == 1 else _MANY
        self._policy = replace(policy, max_attempts=attempts)
        self._seconds = seconds
        self._clock = clock
        self._moved = clock()
        self._attempt = 0

    def moved(self) -> None:
        """Something was acknowledged: begin anew."""
        self._moved = self._clock()
        self._attempt = 0

    def delay(self, error: SpooledError) -> float | None:
        """Seconds to wait before the next try, or None: give up and raise `error`."""
        self._attempt += 1
        left = self._seconds - (self._clock() - self._moved)
        return delay_before_retry(
            self._policy, error, self._attempt, repeatable=True, time_left=left
        )
