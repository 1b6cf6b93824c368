"""How long what is settled is kept, and when to look for what is older."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from spooled_pipelines.durations import seconds_in
from spooled_pipelines.server.core.runtime.operator_log import operator_log

if TYPE_CHECKING:
    # asyncio is not needed to read settings.
    from spooled_pipelines.server.core.runtime.clock import Clock

# How many jobs one commit prunes, so that others are not held up for long.
STEP_JOBS = 1_000
# Between two such commits, so that leases and other calls come first.
_PAUSE_MS = 20
# How far beyond its time something may be kept.
_EVERY_MS = 60_000


@dataclass(frozen=True)
class Retention:
    """Seconds that something is kept; None: for ever.

    Attributes:
        settled: payload, result and tags of a job, since it completed or was cancelled.
        keys: jobs in no batch with their idempotency keys, since the same moment; at least as
            long as `settled`.
        batches: batches with their statistics, jobs and keys, since they settled; at least as
            long as `settled`.
        dead_letters: dead letters, since they died; a batch that has some stays as long as they do.
    """

    settled: float | None = None
    keys: float | None = None
    batches: float | None = None
    dead_letters: float | None = None

    def __post_init__(self) -> None:
        for name in ("settled", "keys", "batches", "dead_letters"):
            seconds = getattr(self, name)
            if seconds is not None and seconds < 0:
                raise ValueError(f"{name.replace('_', ' ')} cannot be kept for {seconds} s")
        for name in ("keys", "batches"):
            seconds = getattr(self, name)
            if seconds is not None and (self.settled is None or seconds < self.settled):
                raise ValueError(f"{name} must be kept at least as long as settled jobs")


KEEP_ALL = Retention()


def seconds_of(duration: str) -> float:
    """Return the seconds of "90s", "12h" or "1d 12h"; ValueError for anything else.

    A number alone is refused: it may be meant in days, and what is pruned is gone.
    """
    seconds = None if duration.strip()[-1:].isdigit() else seconds_in(duration)
    if seconds is None:
        raise ValueError(f"{duration!r} is not a duration; write 90s, 30m, 12h or 7d")
    return seconds


def retention_of(
    keep_settled: str | None,
    keep_keys: str | None,
    keep_batches: str | None = None,
    keep_dead_letters: str | None = None,
) -> Retention:
    """Return the retention that the options of `serve` say; ValueError if they contradict."""
    given = (keep_settled, keep_keys, keep_batches, keep_dead_letters)
    return Retention(*(None if text is None else seconds_of(text) for text in given))


class Pruned(NamedTuple):
    """How many jobs a step pruned, and whether there may be more."""

    jobs: int
    more: bool


class Steps(Protocol):
    """A step each of letting go of what is as old as `before` (ms)."""

    async def strip(self, before: int) -> Pruned:
        """Take payload, result and tags from jobs that completed or were cancelled."""

    async def forget(self, before: int) -> Pruned:
        """Remove such jobs that are in no batch, and their keys."""

    async def forget_dead(self, before: int) -> Pruned:
        """Remove dead letters that are in no batch, and their keys."""

    async def forget_batches(self, before: int, before_dead: int | None) -> Pruned:
        """Remove settled batches, and their jobs that are in no other batch, which are counted.

        Those that have dead letters where these are as old as `before_dead`; None: never.
        """


class Pruner:
    """Takes small steps whenever the store is swept, and says when it wants to be asked again."""

    def __init__(self, retention: Retention, clock: Clock) -> None:
        self._retention = retention
        self._clock = clock
        self._due = 0
        # What was pruned since the last line of the log about it.
        self._done: Counter[str] = Counter()
        self._said_at = 0

    async def take_step(self, steps: Steps) -> int | None:
        """Prune a step's worth of what is too old; return when to come again."""
        if self._retention == KEEP_ALL:
            return None
        now = self._clock.now()
        if now >= self._due:
            more = await self._take(steps, now)
            if self._done and (not more or now - self._said_at >= _EVERY_MS):
                self._say(now)
            self._due = now + (_PAUSE_MS if more else _EVERY_MS)
        return self._due

    async def _take(self, steps: Steps, now: int) -> bool:
        settled, keys, batches, dead = (
            None if seconds is None else now - int(seconds * 1000)
            for seconds in (
                self._retention.settled,
                self._retention.keys,
                self._retention.batches,
                self._retention.dead_letters,
            )
        )
        taken = {}
        if settled is not None:
            taken["payloads"] = await steps.strip(settled)
        if keys is not None:
            taken["jobs in no batch"] = await steps.forget(keys)
        if dead is not None:
            taken["dead letters in no batch"] = await steps.forget_dead(dead)
        if batches is not None:
            taken["jobs of batches"] = await steps.forget_batches(batches, dead)
        for what, step in taken.items():
            if step.jobs:
                self._done[what] += step.jobs
        return any(step.more for step in taken.values())

    def _say(self, now: int) -> None:
        done, self._done, self._said_at = self._done, Counter(), now
        what = ", ".join(f"{count} {name}" for name, count in done.items())
        operator_log.info("pruned: %s", what, extra={"about": {"pruned": done}})


def earliest(*moments: int | None) -> int | None:
    """Return the first of these moments, if there is any."""
    return min((moment for moment in moments if moment is not None), default=None)
