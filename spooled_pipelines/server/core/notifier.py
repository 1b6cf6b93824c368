"""Who waits for what: claimers for jobs, watchers for batches. Woken, never polled."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spooled_pipelines.server.core.errors import stopping

if TYPE_CHECKING:
    from typing_extensions import Self

Topic = tuple[str, str]
_log = logging.getLogger(__name__)


@dataclass
class Changes:
    """What a commit changed, for those who wait. Topics are (organization, name)."""

    ready_queues: set[Topic] = field(default_factory=set)
    batches: set[Topic] = field(default_factory=set)
    # Jobs whose lease ended: settled, or taken back.
    released_jobs: list[str] = field(default_factory=list)
    # The earliest moment (ms) at which something that was just written becomes due.
    due: int | None = None
    # Queues whose rate lets no job out before this moment (ms); for this server's streams alone.
    held_until: dict[Topic, int] = field(default_factory=dict)
    # Organizations of which a queue was paused, resumed or limited.
    controlled: set[str] = field(default_factory=set)
    # A key was made or revoked.
    keys: bool = False
    # What changed is not known: everyone who waits must look again.
    everything: bool = False
    # How many changes of a job's status, and how long the commit took where it was our own.
    jobs: int = 0
    commit_seconds: float | None = None

    def due_at(self, moment: int) -> None:
        """Something is due at this moment."""
        if self.due is None or moment < self.due:
            self.due = moment

    def merge(self, other: Changes) -> None:
        """Add what another operation of the same commit changed."""
        self.ready_queues |= other.ready_queues
        self.batches |= other.batches
        self.released_jobs += other.released_jobs
        self.held_until.update(other.held_until)
        self.controlled |= other.controlled
        self.keys = self.keys or other.keys
        self.everything = self.everything or other.everything
        self.jobs += other.jobs
        if other.due is not None:
            self.due_at(other.due)


def publish(observe: Callable[[Changes], None], changes: Changes) -> None:
    """Tell an observer of commits; what it fails with is logged, since the commit stands."""
    try:
        observe(changes)
    # Whatever it is: what was committed must be answered.
    except Exception:  # noqa: BLE001
        _log.exception("an observer of commits failed")


class Waiter:
    """One who waits for some topics. A wake is kept until it is taken, so that none is lost."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._keys: set[Hashable] = set()
        self._woken: set[Hashable] = set()
        self._event = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for key in tuple(self._keys):
            self.unwatch(key)

    def watch(self, key: Hashable) -> None:
        """Be woken for this as well; see `queue_key` and its like."""
        self._keys.add(key)
        self._hub.waiters[key].add(self)

    def unwatch(self, key: Hashable) -> None:
        """Be woken for this no longer."""
        self._keys.discard(key)
        waiters = self._hub.waiters.get(key)
        if waiters is not None:
            waiters.discard(self)
            if not waiters:
                del self._hub.waiters[key]

    def watches(self, key: Hashable) -> bool:
        """Whether it waits for this (for a job's end, it does so once)."""
        return key in self._keys

    def wake(self, key: Hashable = None) -> None:
        """Let it go on, for this."""
        self._woken.add(key)
        self._event.set()

    async def wait(self) -> set[Hashable]:
        """Until something changed since the last return, and what: the keys that it watches.

        RefusedError UNAVAILABLE at the end.
        """
        if self._hub.closed:
            raise stopping()
        await self._event.wait()
        if self._hub.closed:
            raise stopping()
        return self.taken()

    def taken(self) -> set[Hashable]:
        """What it was woken for so far, at once."""
        self._event.clear()
        woken, self._woken = self._woken, set()
        return woken


def queue_key(organization: str, queue_name: str) -> Hashable:
    """The queue has jobs that can be claimed."""
    return ("queue", organization, queue_name)


def batch_key(organization: str, batch_id: str) -> Hashable:
    """The batch's statistics changed."""
    return ("batch", organization, batch_id)


def control_key(organization: str) -> Hashable:
    """Some queue of the organization was paused, resumed or limited.

    An operator does so seldom enough for all of the organization's watchers to look again.
    """
    return ("control", organization)


def job_key(job_id: str) -> Hashable:
    """The job's lease ended: settled, or taken back."""
    return ("job", job_id)


class Hub:
    """Passes on what commits changed. Lives on the event loop's thread alone."""

    def __init__(self) -> None:
        self.closed = False
        self.waiters: defaultdict[Hashable, set[Waiter]] = defaultdict(set)
        # Set when the timer has to look at the time again.
        self.timer = asyncio.Event()
        # When the timer will sweep, and whether it has to do so at once: something may be due
        # earlier than it knew.
        self.timer_target: int | None = None
        self.sweep_asked = False
        # When to wake those who wait for a queue that its rate holds back.
        self._held_until: dict[Topic, int] = {}
        # Set when the keys that are let in have to be read again.
        self.keys = asyncio.Event()

    def waiter(self) -> Waiter:
        """Someone new who waits."""
        return Waiter(self)

    def is_watched(self, key: Hashable) -> bool:
        """Whether anyone waits for this, such as an open stream for its queue."""
        return key in self.waiters

    def publish(self, changes: Changes) -> None:
        """Wake everyone whom these changes concern."""
        for topic in changes.ready_queues:
            self._wake(queue_key(*topic))
        for topic in changes.batches:
            self._wake(batch_key(*topic))
        for job_id in changes.released_jobs:
            for waiter in tuple(self.waiters.get(job_key(job_id), ())):
                waiter.unwatch(job_key(job_id))
                waiter.wake()
        for organization in changes.controlled:
            self._wake(control_key(organization))
        for topic, moment in changes.held_until.items():
            if self.is_watched(queue_key(*topic)):
                self._held_until[topic] = moment
                self.timer.set()
        if changes.everything:
            for key in tuple(self.waiters):
                self._wake(key)
            self.ask_for_sweep()
        if changes.keys or changes.everything:
            self.keys.set()
        due = changes.due
        if due is not None and (self.timer_target is None or due < self.timer_target):
            self.ask_for_sweep()

    def ask_for_sweep(self) -> None:
        """Let the timer sweep now."""
        self.sweep_asked = True
        self.timer.set()

    def wake_held(self, now: int) -> int | None:
        """Wake those whose queue lets a job out by now; returns when the next one does."""
        for topic in [topic for topic, moment in self._held_until.items() if moment <= now]:
            del self._held_until[topic]
            self._wake(queue_key(*topic))
        return min(self._held_until.values(), default=None)

    def close(self) -> None:
        """Wake everyone, to find that the server is stopping."""
        self.closed = True
        for waiters in list(self.waiters.values()):
            for waiter in waiters:
                waiter.wake()
        self.timer.set()
        self.keys.set()

    def _wake(self, key: Hashable) -> None:
        # `get`: looking must not make an entry.
        for waiter in self.waiters.get(key, ()):
            waiter.wake(key)
