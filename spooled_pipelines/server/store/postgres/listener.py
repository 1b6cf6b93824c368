"""Hears what other servers on the database did, and comes back when the connection is lost."""

from __future__ import annotations

from contextlib import AsyncExitStack

import psycopg
from psycopg import sql

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.lifecycle import Loop, LoopMonitor
from spooled_pipelines.server.core.notifier import CommitEvent
from spooled_pipelines.server.store.postgres import notify_payloads
from spooled_pipelines.server.store.postgres.context import StoreContext
from spooled_pipelines.server.store.postgres.database import Connection, borrowed, connect, fetch


class Listener(Loop):
    """Listens on a connection of its own, and connects again when that is lost.

    `start` returns once it listens, so that nothing that is committed later is missed.
    """

    first_pause_seconds, longest_pause_seconds = 0.05, 2.0
    expected_errors = (*Loop.expected_errors, psycopg.Error)

    def __init__(self, url: str, context: StoreContext, monitor: LoopMonitor) -> None:
        super().__init__("PostgreSQL listener", monitor)
        self._url = url
        self._context = context
        self._connection: Connection | None = None

    async def _start(self, cleanup: AsyncExitStack) -> None:
        # Here and not in the loop: a store whose database is away cannot be opened.
        self._connection = await self._connect()
        cleanup.push_async_callback(self._disconnect)
        await super()._start(cleanup)

    async def _connect(self) -> Connection:
        connection = await connect(self._url)
        try:
            channel = sql.Identifier(self._context.channel)
            await connection.execute(sql.SQL("LISTEN {}").format(channel))
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _work(self) -> None:
        if self._connection is None:
            connection = await self._connect()
            try:
                await self._catch_up()
            except BaseException:
                await connection.close()
                raise
            self._connection = connection

    async def _wait(self) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            async for notice in connection.notifies():
                sender, changes = notify_payloads.unpacked(notice.payload)
                if sender != self._context.sender:
                    self._heard(changes)
        finally:
            await self._disconnect()

    def _heard(self, changes: CommitEvent) -> None:
        for job_id in changes.released_jobs:
            self._context.leases.pop(ids.job_number(self._context.prefix, job_id) or 0, None)
        self._context.publish(changes)

    async def _catch_up(self) -> None:
        """Wake everyone, to look for themselves: what happened meanwhile was not heard."""
        await self._context.pool.check()
        leases = self._context.leases
        values = {"seqs": list(leases), "leases": list(leases.values())}
        async with borrowed(self._context.pool) as connection:
            ended = [seq for (seq,) in await fetch(connection, "find_ended_leases", **values)]
        changes = CommitEvent(everything=True)
        changes.released_jobs = [ids.job_id(self._context.prefix, seq) for seq in ended]
        self._heard(changes)
