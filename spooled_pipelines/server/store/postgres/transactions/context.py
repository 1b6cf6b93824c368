"""What every transaction of a store shares: connections, clock, names, leases."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.limits.quotas import Quotas
from spooled_pipelines.server.core.runtime.clock import Clock
from spooled_pipelines.server.core.runtime.notifier import CommitEvent, publish
from spooled_pipelines.server.store.postgres.connections import notify_payloads
from spooled_pipelines.server.store.postgres.connections.database import (
    Connection,
    Pool,
    borrowed,
    fetch,
)
from spooled_pipelines.server.store.postgres.connections.id_cache import IdCache
from spooled_pipelines.server.store.postgres.transactions.claim_front import ClaimFront

# Longer than a claim or a sweep takes.
_TURN_SECONDS = 1.0
_PRECISE_SECONDS = 1.0


class StoreContext:
    """What every transaction of a store stands on."""

    def __init__(
        self,
        pool: Pool,
        clock: Clock,
        prefix: str,
        quotas: Quotas,
        max_deliveries: int,
        on_commit: Callable[[CommitEvent], None],
    ) -> None:
        self.pool = pool
        self.quotas = quotas
        self.max_deliveries = max_deliveries
        self.clock = clock
        self.prefix = prefix
        self.names = IdCache()
        self.channel = notify_payloads.channel(prefix)
        # Tells our own notices from others'.
        self.sender = ids.new_lease_id()[:8]
        # The leases that this server handed out and that last, by the number of the job.
        self.leases: dict[int, str] = {}
        # By the number of the queue.
        self.fronts: defaultdict[int, ClaimFront] = defaultdict(ClaimFront)
        # A claim passes over what a sweep has locked, so within a server they take turns: what is
        # due is claimable at once.
        self._claim_lock = asyncio.Lock()
        # When the claims began that are under way.
        self._claims: list[int] = []
        self._on_commit = on_commit
        # Whether the clock follows the database's already.
        self._follows = False

    @contextlib.asynccontextmanager
    async def claim_turn(self) -> AsyncIterator[None]:
        """Take one's turn, or go ahead without: those before may wait for a lost connection."""
        turn = self._claim_lock
        try:
            if turn.locked():
                await asyncio.wait_for(turn.acquire(), _TURN_SECONDS)
            else:
                # Without the task that a time-out takes.
                await turn.acquire()
        except asyncio.TimeoutError:
            yield
            return
        try:
            yield
        finally:
            turn.release()

    @contextlib.contextmanager
    def claiming(self) -> Iterator[None]:
        """Note that a claim is under way, of which no lease begins before this moment."""
        now = self.clock.now()
        self._claims.append(now)
        try:
            yield
        finally:
            self._claims.remove(now)

    def before_claims(self, now: int) -> int:
        """Return `now`, or when the first claim began that is under way.

        A lease that ends later is not to be taken back: that claim would get the job, with a lease
        that begins before the other has ended.
        """
        return min(self._claims, default=now)

    async def follow_clock(self, connection: Connection) -> None:
        """Read the database's clock, which all its servers follow, and say that we are there."""
        began = time.monotonic()
        payload = notify_payloads.beat(self.sender)
        ((_, now),) = await fetch(connection, "beat", channel=self.channel, payload=payload)
        # Halfway there and back; a slow answer says little.
        taken = time.monotonic() - began
        # What may be right already stays: a guess that differs would set the clock back.
        is_right = self._follows and now <= self.clock.now() <= now + taken * 1000
        if taken < _PRECISE_SECONDS and not is_right:
            self.clock.follow(now + round(taken * 500))
            self._follows = True

    def publish(self, changes: CommitEvent) -> None:
        """Tell those who wait in this server."""
        publish(self._on_commit, changes)

    async def owner(self, organization: str) -> int:
        """Return the organization's number; make the organization if it is not there."""
        known = self.names.known_organization(organization)
        if known is not None:
            return known
        async with borrowed(self.pool) as connection:
            return await self.names.organization(connection, organization)

    async def place(self, organization: str, queue_name: str) -> tuple[int, int]:
        """Return the organization's and the queue's number; make what is not there."""
        known = self.names.known_queue(organization, queue_name)
        if known is not None:
            return known
        async with borrowed(self.pool) as connection:
            return await self.names.queue(connection, organization, queue_name)

    async def find_place(self, organization: str, queue_name: str) -> tuple[int, int] | None:
        """Return the organization's and the queue's number; None where there is no such queue."""
        known = self.names.known_queue(organization, queue_name)
        if known is not None:
            return known
        async with borrowed(self.pool) as connection:
            return await self.names.find_queue(connection, organization, queue_name)
