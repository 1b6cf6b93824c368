"""One transaction: statements by name, then counters, notices and the commit in one go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import psycopg

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.clock import Clock
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.notifier import CommitEvent, publish
from spooled_pipelines.server.core.records import changes_of
from spooled_pipelines.server.store.postgres import notify_payloads
from spooled_pipelines.server.store.postgres.counter_deltas import Tally
from spooled_pipelines.server.store.postgres.database import (
    ROLLED_BACK,
    Connection,
    Pool,
    fetch,
    lent,
    send,
)
from spooled_pipelines.server.store.postgres.id_cache import Names
from spooled_pipelines.server.store.postgres.queries import SQL

T = TypeVar("T")
Rows = list[tuple[Any, ...]]
Cursor = psycopg.AsyncCursor[tuple[Any, ...]]
_ATTEMPTS = 3


class Ground:
    """What every transaction of a store stands on."""

    def __init__(
        self, pool: Pool, clock: Clock, prefix: str, on_commit: Callable[[CommitEvent], None]
    ) -> None:
        self.pool = pool
        self.clock = clock
        self.prefix = prefix
        self.names = Names()
        self.channel = notify_payloads.channel(prefix)
        # Tells our own notices from others'.
        self.sender = ids.new_lease_id()[:8]
        # The leases that this server handed out and that last, by the number of the job.
        self.leases: dict[int, str] = {}
        # A claim passes over what a sweep has locked, so within a server they take turns: what is
        # due is claimable at once.
        self.turns = asyncio.Lock()
        self._on_commit = on_commit

    def publish(self, changes: CommitEvent) -> None:
        """Tell those who wait in this server."""
        publish(self._on_commit, changes)

    async def owner(self, organization: str) -> int:
        """The organization's number; it is made if it is not there."""
        known = self.names.known_organization(organization)
        if known is not None:
            return known
        async with lent(self.pool) as connection:
            return await self.names.organization(connection, organization)

    async def place(self, organization: str, queue_name: str) -> tuple[int, int]:
        """The organization's and the queue's number; they are made if they are not there."""
        known = self.names.known_queue(organization, queue_name)
        if known is not None:
            return known
        async with lent(self.pool) as connection:
            return await self.names.queue(connection, organization, queue_name)


class Transaction:
    """Begun with `begin` and ended with `commit`, within one or more of `pipeline`."""

    def __init__(self, connection: Connection, ground: Ground) -> None:
        self.connection = connection
        self.now = ground.clock.now()
        self.prefix = ground.prefix
        self.tally = Tally()
        self.changes = CommitEvent()
        # From here on nobody can say whether it was done, until the answer comes.
        self.is_committing = False
        self.committing_since = 0.0
        self._ground = ground

    def pipeline(self) -> AbstractAsyncContextManager[object]:
        """Statements within it go out together; only `rows` waits."""
        return self.connection.pipeline()

    async def numbers(self, count: int) -> int:
        """Before `begin`: the first of `count` fresh numbers of jobs."""
        async with self.pipeline():
            await self.send("begin")
            await self.send("no_sync")
            first = await self.start("take_numbers", count=count)
            await self.send("commit")
            ((number,),) = await first.fetchall()
        return int(number)

    async def begin(self) -> None:
        await send(self.connection, "begin")

    async def rows(self, statement: str, **values: Any) -> Rows:
        """What a statement finds."""
        return await fetch(self.connection, statement, **values)

    async def start(self, statement: str, **values: Any) -> Cursor:
        """Like `rows`, but within a pipeline it waits only when the rows are fetched."""
        cursor = self.connection.cursor(binary=True)
        await cursor.execute(SQL[statement], values)
        return cursor

    async def send(self, statement: str, **values: Any) -> None:
        """A statement whose outcome does not matter, but for its failure."""
        await send(self.connection, statement, **values)

    async def batches_of(
        self, jobs: Iterable[tuple[int, int | None, bool]]
    ) -> dict[int, tuple[int, ...]]:
        """Every batch that each job (number, batch, linked) is in.

        The jobs are locked: a link that is made before the lock is seen here, since this is a
        statement of its own, and one that is made later counts what it then finds.
        """
        jobs = tuple(jobs)
        found: dict[int, tuple[int, ...]] = {
            seq: () if batch is None else (batch,) for seq, batch, _ in jobs
        }
        linked = sorted(seq for seq, _, is_linked in jobs if is_linked)
        if linked:
            for seq, batch in await self.rows("batches_of_jobs", seqs=linked):
                found[seq] += (batch,)
        return found

    async def commit(self) -> None:
        """Write the counters, tell the other servers, commit."""
        tally = self.tally
        await self._gather_changes()
        if tally.queues or tally.expired:
            await self.send("count_queues", **tally.queue_rows())
        if tally.batches:
            await self.send("count_batches", now=self.now, **tally.batch_rows())
        if tally.errors:
            await self.send("count_errors", **tally.error_rows())
        for payload in notify_payloads.packed(self._ground.sender, self._for_others()):
            await self.send("notify", channel=self._ground.channel, payload=payload)
        self.is_committing = True
        self.committing_since = time.perf_counter()
        await self.send("commit")

    async def _gather_changes(self) -> None:
        tally, names = self.tally, self._ground.names
        batches = tally.batches.keys() | tally.touched
        ready = await names.queue_topics(self.connection, tally.ready_queues)
        controlled = await names.queue_topics(self.connection, tally.controlled)
        changed = await names.batch_topics(self.connection, batches)
        self.changes = CommitEvent(
            ready_queues=set(ready.values()),
            batches=set(changed.values()),
            released_jobs=[ids.job_id(self.prefix, seq) for seq, _ in tally.released],
            due=tally.due,
            controlled={organization for organization, _ in controlled.values()},
            keys=tally.keys,
        )

    def _for_others(self) -> CommitEvent:
        """Nobody but the server that handed out a lease waits for its end."""
        own = self._ground.leases
        released = [
            ids.job_id(self.prefix, seq)
            for seq, lease_id in self.tally.released
            if own.get(seq) != lease_id
        ]
        changes = self.changes
        return CommitEvent(
            changes.ready_queues,
            changes.batches,
            released,
            changes.due,
            controlled=changes.controlled,
            keys=changes.keys,
        )


async def run(ground: Ground, body: Callable[[Transaction], Awaitable[T]]) -> T:
    """Run a transaction, again where it surely was not committed; tell what it changed.

    RefusedError UNAVAILABLE where the database went away.
    """
    attempt = 0
    while True:
        attempt += 1
        transaction: Transaction | None = None
        try:
            async with lent(ground.pool) as connection:
                transaction = Transaction(connection, ground)
                result = await body(transaction)
                seconds = time.perf_counter() - transaction.committing_since
            break
        except ROLLED_BACK as error:
            if attempt >= _ATTEMPTS:
                message = "the store is too busy with the same jobs; the call may be repeated"
                raise RefusedError("UNAVAILABLE", message) from error
        except RefusedError as refusal:
            if refusal.code != "UNAVAILABLE" or attempt >= _ATTEMPTS:
                raise
            if transaction is None or transaction.is_committing:
                raise
            # The other idle connections are as old as this one was.
            await ground.pool.check()
    changes = transaction.changes
    changes.jobs = changes_of(transaction.tally.queues.values())
    # Reads commit nothing.
    changes.commit_seconds = seconds if transaction.is_committing else None
    for seq, lease_id in transaction.tally.released:
        if ground.leases.get(seq) == lease_id:
            del ground.leases[seq]
    ground.publish(transaction.changes)
    return result
