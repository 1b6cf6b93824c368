"""When a store looks after the keys that its jobs take turns and are limited by.

A step at a time, whenever it is swept: held jobs that have room are let out, where the transaction
that should have done so passed over them, and the rows of keys go that no job needs any longer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from spooled_pipelines.server.core.upkeep.retention import earliest

if TYPE_CHECKING:
    from spooled_pipelines.server.core.runtime.clock import Clock

# What tells rows apart; the order of the walk.
Place = tuple[int, ...]
# Rows that one step looks at.
STEP_KEYS = 200
# How long at most a held job waits that was passed over.
LIMITS_EVERY_MS = 5_000
_TURNS_EVERY_MS = 60_000
# Between two steps, so that other calls come first.
_PAUSE_MS = 20
_LOWEST = -(1 << 63)


class KeySteps(Protocol):
    """Looks after the next `STEP_KEYS` rows each, and returns their places."""

    async def limits(self, after: Place) -> list[Place]:
        """Let held jobs out that have room; remove limits (queue, key) that no job needs."""

    async def turns(self, after: Place) -> list[Place]:
        """Remove turns of keys (participant, queue, priority, released) that change nothing."""


class KeyUpkeep:
    """Takes a step where it is time."""

    def __init__(self, clock: Clock) -> None:
        self._limits = _Walk(clock, (0, _LOWEST), LIMITS_EVERY_MS)
        self._turns = _Walk(clock, (_LOWEST, 0, 0, 0), _TURNS_EVERY_MS)

    async def take_step(self, steps: KeySteps) -> int | None:
        """Return when to come again; None where there are no keys."""
        limits = await self._limits.take_step(steps.limits)
        return earliest(limits, await self._turns.take_step(steps.turns))


class _Walk:
    """Goes through all rows, a step at a time, and after the last begins again in a while."""

    def __init__(self, clock: Clock, start: Place, every_ms: int) -> None:
        self._clock, self._start, self._every_ms = clock, start, every_ms
        self._after, self._due, self._is_needed = start, 0, False

    async def take_step(self, step: Callable[[Place], Awaitable[list[Place]]]) -> int | None:
        now = self._clock.now()
        if now >= self._due:
            seen = await step(self._after)
            self._is_needed = bool(seen) or self._after != self._start
            more = len(seen) == STEP_KEYS
            self._after = seen[-1] if more else self._start
            self._due = now + (_PAUSE_MS if more else self._every_ms)
        return self._due if self._is_needed else None
