"""What every service works with."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from spooled_pipelines.server.core.clock import Clock
from spooled_pipelines.server.core.lifecycle import BackgroundTasks
from spooled_pipelines.server.core.notifier import Notifier, queue_topic
from spooled_pipelines.server.core.presence import OFFLINE_MS
from spooled_pipelines.server.store import JobStore

_QUEUES_REMEMBERED = 10_000


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


@dataclass(frozen=True)
class ServiceContext:
    """The store, the notifier, the clock, the strictness, and the tasks that outlive their call."""

    store: JobStore
    notifier: Notifier
    clock: Clock
    require_lease_id: bool
    background: BackgroundTasks = field(default_factory=BackgroundTasks)
    last_polled: LastPolled = field(default_factory=LastPolled)

    def has_consumer(self, organization: str, queue_name: str) -> bool:
        """Return whether a stream takes jobs of this queue, or a Dequeue did a moment ago."""
        if self.notifier.has_subscribers(queue_topic(organization, queue_name)):
            return True
        asked = self.last_polled.last(organization, queue_name)
        return asked is not None and self.clock.now() - asked < OFFLINE_MS
