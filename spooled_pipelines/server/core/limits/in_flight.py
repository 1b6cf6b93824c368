"""Bytes in flight, bounded for each organization."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import NamedTuple

# Answers of one organization that are made, or wait to be read: each is in memory twice, here and
# in gRPC.
UNREAD_BYTES = 128 << 20
# What an answer with jobs counts as until it is made: of one job, and at most.
JOB_ANSWER_BYTES, ANSWER_BYTES = 1 << 20, 4 << 20


class ByteBudget:
    """At most `most` bytes at once for each organization; what is more waits, in its order.

    One message alone always passes, so that none waits for ever. For one event loop's thread alone.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._used: dict[str, int] = {}
        self._waiting: dict[str, deque[tuple[int, asyncio.Future[None]]]] = {}

    async def take(self, organization: str, size: int) -> Share:
        """Return a share of this size, once there is room for it; one of nothing never waits."""
        if not size:
            return Share(self, organization, 0)
        if organization in self._waiting or not self._fits(organization, size):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            entry = (size, turn)
            self._waiting.setdefault(organization, deque()).append(entry)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.give_back(organization, size)
                else:
                    # It may have been passed over already.
                    with contextlib.suppress(KeyError, ValueError):
                        self._waiting[organization].remove(entry)
                    self._admit(organization)
                raise
        else:
            self._used[organization] = self._used.get(organization, 0) + size
        return Share(self, organization, size)

    def give_back(self, organization: str, size: int) -> None:
        """Make room for those who wait."""
        left = self._used.get(organization, 0) - size
        if left > 0:
            self._used[organization] = left
        else:
            self._used.pop(organization, None)
        self._admit(organization)

    def _fits(self, organization: str, size: int) -> bool:
        used = self._used.get(organization, 0)
        return not used or used + size <= self._most

    def _admit(self, organization: str) -> None:
        waiting = self._waiting.get(organization)
        if waiting is None:
            return
        while waiting and self._fits(organization, waiting[0][0]):
            size, turn = waiting.popleft()
            if not turn.done():
                self._used[organization] = self._used.get(organization, 0) + size
                turn.set_result(None)
        if not waiting:
            del self._waiting[organization]


class Share:
    """Some bytes of a budget, which go back once, at the latest when nobody holds it."""

    __slots__ = ("_budget", "_loop", "_organization", "_size")

    def __init__(self, budget: ByteBudget, organization: str, size: int) -> None:
        self._budget = budget
        self._loop = asyncio.get_running_loop()
        self._organization = organization
        self._size = size

    @property
    def counts(self) -> bool:
        """Whether it is of any size."""
        return self._size > 0

    def resize(self, size: int) -> None:
        """Make it as large as this, whether there is room or not."""
        more, self._size = self._size - size, size
        self._budget.give_back(self._organization, more)

    def split(self, size: int) -> Share:
        """Return a part of it as one of its own."""
        size = min(size, self._size)
        self._size -= size
        return Share(self._budget, self._organization, size)

    def release(self) -> None:
        """Give all of it back."""
        if self._size:
            self.resize(0)

    def __del__(self) -> None:
        if self._size:
            # In whichever thread garbage is collected; and where the loop is closed nobody waits.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(
                    self._budget.give_back, self._organization, self._size
                )


class Received:
    """One message, as bytes, and its share of its organization's bytes in flight."""

    __slots__ = ("_share", "data")

    def __init__(self, data: bytes, share: Share | None) -> None:
        self.data = data
        self._share = share

    def release(self) -> None:
        """Say that nothing of it is kept any longer."""
        if self._share is not None:
            self._share.release()


class HeldAnswer(NamedTuple):
    """An answer of a stream, as bytes, whose share was taken before it was made."""

    data: bytes
    share: Share
