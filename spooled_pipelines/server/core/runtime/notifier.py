"""The notifier: commits wake those who subscribed to what they changed, so that nobody polls."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spooled_pipelines.server.core.errors import stopping

if TYPE_CHECKING:
    from typing_extensions import Self

# An organization and the name of its queue, or the id of its batch.
QualifiedName = tuple[str, str]
Topic = Hashable
Alike = Callable[[QualifiedName], Sequence[QualifiedName]]
_log = logging.getLogger(__name__)


@dataclass
class CommitEvent:
    """What a commit changed, for those who wait."""

    ready_queues: set[QualifiedName] = field(default_factory=set)
    batches: set[QualifiedName] = field(default_factory=set)
    # Jobs whose lease ended: settled, or taken back.
    released_jobs: list[str] = field(default_factory=list)
    # The earliest moment (ms) at which something that was just written becomes due.
    due: int | None = None
    # Queues whose rate lets no job out before this moment (ms); for this server's streams alone.
    held_until: dict[QualifiedName, int] = field(default_factory=dict)
    # Organizations of which a queue was paused, resumed or limited.
    controlled: set[str] = field(default_factory=set)
    # A key was made or revoked.
    keys: bool = False
    # What changed is not known: everyone who waits must look again.
    everything: bool = False
    # What happened to how many jobs of each queue; of our own commits alone.
    flows: dict[QualifiedName, Counter[str]] = field(default_factory=dict)
    # How many changes of a job's status, and how long the commit took where it was our own.
    jobs: int = 0
    commit_seconds: float | None = None

    def due_at(self, moment: int) -> None:
        """Note that something is due at this moment."""
        if self.due is None or moment < self.due:
            self.due = moment

    def merge(self, other: CommitEvent) -> None:
        """Add what another operation of the same commit changed."""
        self.ready_queues |= other.ready_queues
        self.batches |= other.batches
        self.released_jobs += other.released_jobs
        self.held_until.update(other.held_until)
        self.controlled |= other.controlled
        self.keys = self.keys or other.keys
        self.everything = self.everything or other.everything
        self.jobs += other.jobs
        for queue, flow in other.flows.items():
            self.flows[queue] = self.flows.get(queue, Counter()) + flow
        if other.due is not None:
            self.due_at(other.due)


def publish(observe: Callable[[CommitEvent], None], event: CommitEvent) -> None:
    """Tell an observer of a commit; what it fails with is logged, since the commit stands."""
    try:
        observe(event)
    # Whatever it is: what was committed must be answered.
    except Exception:  # noqa: BLE001
        _log.exception("an observer of commits failed")


class Subscription:
    """A wait for some topics. A wake-up is kept until it is drained, so that none is lost."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._topics: set[Topic] = set()
        self._woken: set[Topic] = set()
        self._event = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for topic in tuple(self._topics):
            self.unwatch(topic)

    def watch(self, topic: Topic) -> None:
        """Be woken for this topic as well; see `queue_topic` and its like."""
        self._topics.add(topic)
        self._notifier.subscriptions[topic].add(self)

    def unwatch(self, topic: Topic) -> None:
        """Be woken for this topic no longer."""
        self._topics.discard(topic)
        subscriptions = self._notifier.subscriptions.get(topic)
        if subscriptions is not None:
            subscriptions.discard(self)
            if not subscriptions:
                del self._notifier.subscriptions[topic]

    def watches(self, topic: Topic) -> bool:
        """Return whether it waits for this topic; for a job's end it does so once."""
        return topic in self._topics

    def wake(self, topic: Topic = None) -> None:
        """Let the wait go on, because of this topic."""
        self._woken.add(topic)
        self._event.set()

    async def wait(self) -> set[Topic]:
        """Wait until a topic changed since the last return; return which did.

        RefusedError UNAVAILABLE once the notifier is closed.
        """
        if self._notifier.closed:
            raise stopping()
        await self._event.wait()
        if self._notifier.closed:
            raise stopping()
        return self.drain()

    def drain(self) -> set[Topic]:
        """Return at once which topics changed since the last return."""
        self._event.clear()
        woken, self._woken = self._woken, set()
        return woken


def queue_topic(organization: str, queue_name: str) -> Topic:
    """Return the topic of a queue that has jobs to claim."""
    return ("queue", organization, queue_name)


def batch_topic(organization: str, batch_id: str) -> Topic:
    """Return the topic of a batch's statistics."""
    return ("batch", organization, batch_id)


def control_topic(organization: str) -> Topic:
    """Return the topic of queues that are paused, resumed or limited.

    An operator does so seldom enough for all of the organization's watchers to look again.
    """
    return ("control", organization)


def job_topic(job_id: str) -> Topic:
    """Return the topic of a job whose lease ends: it is settled, or taken back."""
    return ("job", job_id)


class Notifier:
    """Wakes subscriptions when a commit changed their topics. For the event loop's thread alone."""

    def __init__(self, alike: Alike = lambda name: [name]) -> None:
        self.closed = False
        # Every name of a queue: who waits for one is woken for all.
        self._alike = alike
        self.subscriptions: defaultdict[Topic, set[Subscription]] = defaultdict(set)
        # Set when the sweeper has to look at the time again.
        self.sweeper_woken = asyncio.Event()
        # When the sweeper will sweep, and whether it has to do so at once.
        self.next_sweep: int | None = None
        self.sweep_requested = False
        # When to wake those who wait for a queue that its rate holds back.
        self._held_until: dict[QualifiedName, int] = {}
        # Set when the API keys have to be read again.
        self.api_keys_changed = asyncio.Event()

    def subscribe(self) -> Subscription:
        """Return a new subscription, without topics yet."""
        return Subscription(self)

    def has_subscribers(self, topic: Topic) -> bool:
        """Return whether anyone waits for this topic, such as an open stream for its queue."""
        return topic in self.subscriptions

    def has_takers(self, name: QualifiedName) -> bool:
        """Return whether anyone waits for jobs of a queue, by whichever of its names."""
        return any(self.has_subscribers(queue_topic(*each)) for each in self._alike(name))

    def publish(self, event: CommitEvent) -> None:
        """Wake everyone whom this commit concerns."""
        for name in event.ready_queues:
            self._wake_queue(name)
        for name in event.batches:
            self._wake(batch_topic(*name))
        if event.released_jobs:
            self._release(event.released_jobs)
        for organization in event.controlled:
            self._wake(control_topic(organization))
        for name, moment in event.held_until.items():
            if self.has_takers(name):
                self._held_until[name] = moment
                self.sweeper_woken.set()
        if event.everything:
            for topic in tuple(self.subscriptions):
                self._wake(topic)
            self.request_sweep()
        if event.keys or event.everything:
            self.api_keys_changed.set()
        due = event.due
        if due is not None and (self.next_sweep is None or due < self.next_sweep):
            self.next_sweep = due
            self.sweeper_woken.set()

    def _release(self, job_ids: list[str]) -> None:
        topics = set(map(job_topic, job_ids))
        # Many jobs may be released at once, and few are watched.
        for topic in topics & self.subscriptions.keys():
            for subscription in tuple(self.subscriptions[topic]):
                subscription.unwatch(topic)
                subscription.wake()

    def request_sweep(self) -> None:
        """Let the sweeper sweep now."""
        self.sweep_requested = True
        self.sweeper_woken.set()

    def wake_rate_limited(self, now: int) -> int | None:
        """Wake those whose queue lets a job out by now; return when the next queue does."""
        for name in [name for name, moment in self._held_until.items() if moment <= now]:
            del self._held_until[name]
            self._wake_queue(name)
        return min(self._held_until.values(), default=None)

    def close(self) -> None:
        """Wake everyone, to find that the server is stopping."""
        self.closed = True
        for subscriptions in list(self.subscriptions.values()):
            for subscription in subscriptions:
                subscription.wake()

    def _wake_queue(self, name: QualifiedName) -> None:
        for each in self._alike(name):
            self._wake(queue_topic(*each))

    def _wake(self, topic: Topic) -> None:
        # `get`: a look must not make an entry.
        for subscription in self.subscriptions.get(topic, ()):
            subscription.wake(topic)
