"""Connections that die without a word are cut, so that callers who wait for answers are told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Any

import psycopg

_log = logging.getLogger(__name__)

_Connection = psycopg.AsyncConnection[tuple[Any, ...]]
# An answer that takes longer is asked after, over a connection of its own, which gets so long.
PATIENCE_SECONDS, _PROBE_SECONDS = 2.0, 3.0
# Whether the database works on something of ours, or did a moment ago; and whose process we are
# to it. Between us and it there may be a pooler, whose processes are not the ones that we know.
_ASK = """
SELECT pg_backend_pid(), EXISTS (
    SELECT FROM pg_stat_activity WHERE pid = %s
        AND (state = 'active' OR state_change > clock_timestamp() - interval '1 s')
)
"""


@contextlib.contextmanager
def watched(connection: _Connection, conninfo: str) -> Iterator[None]:
    """Cut the connection if, while we wait for it, the database has nothing to do for us."""
    watch = _Watch(connection, conninfo)
    try:
        yield
    finally:
        watch.end()


class _Watch:
    """A timer, and behind it a task that asks after the connection again and again."""

    def __init__(self, connection: _Connection, conninfo: str) -> None:
        self._connection = connection
        self._conninfo = conninfo
        self._task: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(PATIENCE_SECONDS, self._begin)

    def end(self) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._run(), name="spooled-watchdog")

    async def _run(self) -> None:
        # The lock is held by the caller that waits for an answer.
        while not self._connection.lock.locked() or await self._is_worked_on():  # noqa: ASYNC110
            await asyncio.sleep(PATIENCE_SECONDS)
        _log.error(
            "a connection to PostgreSQL is cut: it has not answered for %g s, and the database is "
            "not working on anything for it",
            PATIENCE_SECONDS,
        )
        cut(self._connection)

    async def _is_worked_on(self) -> bool:
        try:
            return await asyncio.wait_for(self._ask(), _PROBE_SECONDS)
        except (psycopg.Error, asyncio.TimeoutError):
            return False

    async def _ask(self) -> bool:
        probe = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
        try:
            cursor = await probe.execute(_ASK, (self._connection.info.backend_pid,))
            ((pid, is_active),) = await cursor.fetchall()
            return bool(is_active) or pid != probe.info.backend_pid
        finally:
            cut(probe)
            await probe.close()


def cut(connection: _Connection) -> None:
    """End a connection on our side, so that callers who wait for it find it lost."""
    with contextlib.suppress(psycopg.Error, OSError):
        copy = socket.socket(fileno=socket.dup(connection.fileno()))
        with copy:
            copy.shutdown(socket.SHUT_RDWR)
