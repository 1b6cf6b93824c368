"""What every service works with."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from google.protobuf.message import Message

from spooled_pipelines.server.auth import Caller
from spooled_pipelines.server.core.limits.in_flight import UNREAD_BYTES, ByteBudget
from spooled_pipelines.server.core.runtime.clock import Clock
from spooled_pipelines.server.core.runtime.lifecycle import BackgroundTasks
from spooled_pipelines.server.core.runtime.notifier import Notifier
from spooled_pipelines.server.core.runtime.presence import POLLED_MS
from spooled_pipelines.server.core.runtime.queue_names import QueueNames
from spooled_pipelines.server.services.validation.structs import SURELY_SMALL_BYTES
from spooled_pipelines.server.store import JobStore
from spooled_pipelines.wire import limits

T = TypeVar("T")
_QUEUES_REMEMBERED = 10_000
# The row or job is refused: linked to it, the key would see what became of that job.
KEY_ELSEWHERE = "idempotency_key is that of a job in a queue that this API key may not touch"


@dataclass
class LastPolled:
    """When each queue was last asked for jobs, which tells whether anyone works on it."""

    _asked: OrderedDict[tuple[str, str], int] = field(default_factory=OrderedDict)

    def note(self, organization: str, queue_name: str, now: int) -> None:
        """Note that this queue was asked for jobs."""
        self._asked[organization, queue_name] = now
        self._asked.move_to_end((organization, queue_name))
        if len(self._asked) > _QUEUES_REMEMBERED:
            self._asked.popitem(last=False)

    def last(self, organization: str, queue_name: str) -> int | None:
        """Return when that was, in milliseconds since the epoch."""
        return self._asked.get((organization, queue_name))


class LargeMessages:
    """Checks that take long: in a thread, and of each organization one at a time."""

    def __init__(self) -> None:
        self._turns = ByteBudget(1)

    async def check(self, organization: str, check: Callable[[], T]) -> T:
        """Return what the check returns."""
        turn = await self._turns.take(organization, 1)
        try:
            return await asyncio.to_thread(check)
        finally:
            turn.release()


@dataclass(frozen=True)
class ServiceContext:
    """The store, the notifier, the clock, the strictness, and the tasks that outlive their call."""

    store: JobStore
    notifier: Notifier
    clock: Clock
    require_lease_id: bool
    names: QueueNames = field(default_factory=QueueNames)
    background: BackgroundTasks = field(default_factory=BackgroundTasks)
    last_polled: LastPolled = field(default_factory=LastPolled)
    large: LargeMessages = field(default_factory=LargeMessages)
    # What is made for clients and waits to be read by them.
    unread: ByteBudget = field(default_factory=lambda: ByteBudget(UNREAD_BYTES))

    async def checked(self, caller: Caller, message: Message, check: Callable[[], T]) -> T:
        """Return what a check of this message returns; of a large one, without stopping others."""
        if message.ByteSize() <= SURELY_SMALL_BYTES:
            return check()
        return await self.large.check(caller.organization, check)

    async def keys_elsewhere(self, caller: Caller, keys: Sequence[str]) -> list[int]:
        """Return the places of keys of jobs in queues that the caller's key may not touch."""
        if caller.queues is None or not any(keys):
            return []
        # More are refused as a whole.
        some = list(keys[: limits.CHUNK_ROWS_MAX])
        return await self.store.keys_elsewhere(caller.organization, caller.queues, some)

    def has_consumer(self, organization: str, queue_name: str) -> bool:
        """Return whether a stream takes jobs of this queue, or a Dequeue did a moment ago."""
        if self.notifier.has_takers((organization, queue_name)):
            return True
        asked = self.last_polled.last(organization, queue_name)
        return asked is not None and self.clock.now() - asked < POLLED_MS
