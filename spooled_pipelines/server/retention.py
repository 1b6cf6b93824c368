"""How long what is settled is kept, and when to look for what is older."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from spooled_pipelines.server.clock import Clock

# How many jobs one commit lets go of, so that others are not held up for long.
STEP_JOBS = 1_000
# Between two such commits, so that leases and other calls come first.
_PAUSE_MS = 20
# How far beyond its time something may be kept.
_EVERY_MS = 60_000
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")

Step = Callable[[int], Awaitable[bool]]


@dataclass(frozen=True)
class Retention:
    """Seconds since a job completed or was cancelled; None: for ever.

    Attributes:
        settled: how long payload, result and tags are kept.
        keys: how long jobs in no batch are kept at all, their idempotency keys with them; at
            least as long as `settled`.
    """

    settled: float | None = None
    keys: float | None = None

    def __post_init__(self) -> None:
        for name, seconds in (("settled", self.settled), ("keys", self.keys)):
            if seconds is not None and seconds < 0:
                raise ValueError(f"{name} jobs cannot be kept for {seconds} s")
        if self.keys is not None and (self.settled is None or self.keys < self.settled):
            raise ValueError("keys must be kept at least as long as settled jobs")


KEEP_ALL = Retention()


def seconds_of(duration: str) -> float:
    """The seconds of "90s", "30m", "12h" or "7d"; ValueError else."""
    match = _DURATION.fullmatch(duration.strip())
    if match is None:
        raise ValueError(f"{duration!r} is no duration; write 90s, 30m, 12h or 7d")
    return float(match[1]) * _UNITS[match[2]]


def retention_of(keep_settled: str | None, keep_keys: str | None) -> Retention:
    """What the two options of `serve` say; ValueError where they make no sense."""
    return Retention(
        None if keep_settled is None else seconds_of(keep_settled),
        None if keep_keys is None else seconds_of(keep_keys),
    )


class Pruner:
    """Takes small steps whenever the store is swept, and says when it wants to be asked again."""

    def __init__(self, retention: Retention, clock: Clock) -> None:
        self._retention = retention
        self._clock = clock
        self._due = 0

    async def take_step(self, strip: Step, forget: Step) -> int | None:
        """Let go of a step's worth of what is too old; returns when to come again."""
        settled, keys = self._retention.settled, self._retention.keys
        if settled is None:
            return None
        now = self._clock.now()
        if now >= self._due:
            more = await strip(now - int(settled * 1000))
            if keys is not None:
                more = await forget(now - int(keys * 1000)) or more
            self._due = now + (_PAUSE_MS if more else _EVERY_MS)
        return self._due


def earliest(*moments: int | None) -> int | None:
    """The first of these moments, where there is any."""
    return min((moment for moment in moments if moment is not None), default=None)
