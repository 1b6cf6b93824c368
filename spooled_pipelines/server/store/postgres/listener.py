"""Hears what other servers on the database did, and comes back when the connection is lost."""

from __future__ import annotations

import asyncio
import logging

import psycopg
from psycopg import sql

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.errors import RefusedError, StoreUnavailableError
from spooled_pipelines.server.core.notifier import Changes
from spooled_pipelines.server.store.postgres import notify_payloads
from spooled_pipelines.server.store.postgres.database import Connection, connect, fetch, lent
from spooled_pipelines.server.store.postgres.transaction import Ground

_log = logging.getLogger(__name__)
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 2.0


class Listener:
    """One connection of its own: `start`, then `stop`."""

    def __init__(self, url: str, ground: Ground) -> None:
        self._url = url
        self._ground = ground
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns once it listens, so that nothing that is committed later is missed."""
        self._first = await self._connect()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Listen no longer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            # A task that is cancelled before its first step closes nothing.
            await self._first.close()

    async def _connect(self) -> Connection:
        connection = await connect(self._url)
        try:
            channel = sql.Identifier(self._ground.channel)
            await connection.execute(sql.SQL("LISTEN {}").format(channel))
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _run(self) -> None:
        connection: Connection | None = self._first
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                missed = connection is None
                async with connection or await self._connect() as listening:
                    if missed:
                        await self._catch_up()
                        pause = _FIRST_PAUSE_SECONDS
                    await self._listen(listening)
            except (StoreUnavailableError, RefusedError, psycopg.Error):
                _log.warning("the connection that listens is lost; connecting again")
            connection = None
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _listen(self, connection: Connection) -> None:
        async for notice in connection.notifies():
            sender, changes = notify_payloads.unpacked(notice.payload)
            if sender != self._ground.sender:
                self._heard(changes)

    def _heard(self, changes: Changes) -> None:
        for job_id in changes.released_jobs:
            self._ground.leases.pop(ids.job_number(self._ground.prefix, job_id) or 0, None)
        self._ground.publish(changes)

    async def _catch_up(self) -> None:
        """Whatever happened meanwhile was not heard: wake everyone, to look for themselves."""
        await self._ground.pool.check()
        leases = self._ground.leases
        values = {"seqs": list(leases), "leases": list(leases.values())}
        async with lent(self._ground.pool) as connection:
            ended = [seq for (seq,) in await fetch(connection, "ended_leases", **values)]
        changes = Changes(everything=True)
        changes.released_jobs = [ids.job_id(self._ground.prefix, seq) for seq in ended]
        self._heard(changes)
        _log.warning("listening again")
