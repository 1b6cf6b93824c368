"""Hears what other servers on the database did, and comes back when the connection is lost."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack

import psycopg
from psycopg import sql

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.errors import StoreUnavailableError
from spooled_pipelines.server.core.runtime.lifecycle import Loop, LoopMonitor
from spooled_pipelines.server.core.runtime.notifier import CommitEvent
from spooled_pipelines.server.store.postgres.connections import notify_payloads
from spooled_pipelines.server.store.postgres.connections.database import (
    Connection,
    borrowed,
    connect,
    fetch,
)
from spooled_pipelines.server.store.postgres.transactions.context import StoreContext

_log = logging.getLogger(__name__)

# How often it says something itself, and after how long without a word it is taken for deaf.
_BEAT_SECONDS, _DEAF_SECONDS = 2.0, 5.0
# How often everyone looks for themselves, whatever was heard.
_LOOK_SECONDS = 30.0


class Listener(Loop):
    """Listens on a connection of its own, and connects again when that is lost.

    `start` returns once it listens, so that nothing that is committed later is missed.
    """

    first_pause_seconds, longest_pause_seconds = 0.05, 1.0
    expected_errors = (*Loop.expected_errors, psycopg.Error)

    def __init__(self, url: str, context: StoreContext, monitor: LoopMonitor) -> None:
        super().__init__("PostgreSQL listener", monitor)
        self._url = url
        self._context = context
        self._channel = context.channel
        self._connection: Connection | None = None
        self._heard_at = self._looked_at = 0.0

    async def _start(self, cleanup: AsyncExitStack) -> None:
        # Here and not in the loop: a store whose database is away cannot be opened.
        self._connection = await self._connect()
        cleanup.push_async_callback(self._disconnect)
        await super()._start(cleanup)

    async def _connect(self) -> Connection:
        connection = await connect(self._url)
        try:
            channel = sql.Identifier(self._channel)
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
            self._context.pool.is_away = False
            try:
                await self._catch_up()
            except BaseException:
                await connection.close()
                raise
            self._connection = connection
        self._heard_at = self._looked_at = asyncio.get_running_loop().time()

    async def _wait(self) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            while True:
                async for notice in connection.notifies(timeout=_BEAT_SECONDS):
                    self._take(notice.payload)
                await self._beat()
        except Exception:
            await self._lost()
            raise
        finally:
            await self._disconnect()

    def _take(self, payload: str) -> None:
        """Do what a notice says; what is none of ours says that something may have changed."""
        self._heard_at = asyncio.get_running_loop().time()
        try:
            sender, changes = notify_payloads.unpacked(payload)
        except ValueError:
            _log.warning("a notice on channel %s is not ours; looking at everything", self._channel)
            sender, changes = "", CommitEvent(everything=True)
        if sender != self._context.sender:
            self._heard(changes)

    async def _beat(self) -> None:
        """Say something, which is to be heard; and look at everything now and then.

        A connection may be deaf without a word: then what was committed elsewhere is never heard.
        """
        now = asyncio.get_running_loop().time()
        if now - self._heard_at > _DEAF_SECONDS:
            raise StoreUnavailableError(
                f"nothing was heard on channel {self._channel} for {_DEAF_SECONDS:g} s"
            )
        if now - self._looked_at > _LOOK_SECONDS:
            self._looked_at = now
            self._heard(CommitEvent(everything=True))
        async with borrowed(self._context.pool) as connection:
            await self._context.follow_clock(connection)

    async def _lost(self) -> None:
        """Let nobody wait for what is not heard: who asks again is told that the store is away."""
        self._context.pool.is_away = True
        await self._context.pool.replace_idle()
        self._heard(CommitEvent(everything=True))

    def _heard(self, changes: CommitEvent) -> None:
        for job_id in changes.released_jobs:
            self._context.leases.pop(ids.job_number(self._context.prefix, job_id) or 0, None)
        self._context.publish(changes)

    async def _catch_up(self) -> None:
        """Wake everyone, to look for themselves: what happened meanwhile was not heard."""
        await self._context.pool.replace_idle()
        leases = self._context.leases
        values = {"seqs": list(leases), "leases": list(leases.values())}
        async with borrowed(self._context.pool) as connection:
            ended = [seq for (seq,) in await fetch(connection, "find_ended_leases", **values)]
        changes = CommitEvent(everything=True)
        changes.released_jobs = [ids.job_id(self._context.prefix, seq) for seq in ended]
        self._heard(changes)
