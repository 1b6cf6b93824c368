"""Connections to PostgreSQL: what each is told when it is made, and which failures mean what."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator
from typing import Any, NamedTuple, Protocol

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.array import ListBinaryDumper
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from spooled_pipelines.server.core.errors import RefusedError, StoreUnavailableError
from spooled_pipelines.server.store.postgres.connections.watchdog import (
    PATIENCE_SECONDS,
    cut,
    watched,
)
from spooled_pipelines.server.store.postgres.queries import SQL

_log = logging.getLogger(__name__)

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

SCHEMA = "spooled"
# Surely not committed, and worth trying again. psycopg's classes of one SQLSTATE class have no
# base of their own in common.
ROLLED_BACK = (
    psycopg.errors.TransactionRollback,
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
)
_CONNECTIONS_MAX = 12
_CONNECT_SECONDS = 5
# What the kernel is told: a connection whose other end is gone is lost in seconds, not in hours.
_KEEPALIVE = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
# How long a call waits for a connection while the database is away; then it is UNAVAILABLE.
_WAIT_SECONDS = 3.0
# While the database is known to be away, one call at a time tries to reach it, for so long at most;
# the others are refused at once.
_ASK_SECONDS = 1.0
# Idle connections are not replaced more often than this, however many calls find theirs lost.
_REPLACED_SECONDS = 1.0
# The pool's own pauses grow to twice what an outage has lasted, and a call would wait for the end
# of one although the database is back.
_TRY_AGAIN_SECONDS = 1.0
# A server that is stopped in the middle of something must not hold up the others for ever.
# Every statement has the index it needs, and none is worth compiling: left alone, the planner
# takes a table that it has not looked at yet for empty. Nor is one worth planning for its values:
# statistics of jobs that waited say that none has a lease, and a plan for 2,000 of them then reads
# the whole table.
_SETTINGS = f"""
SET search_path = {SCHEMA};
SET jit = off;
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET idle_in_transaction_session_timeout = '30s';
SET lock_timeout = '10s';
SET statement_timeout = '60s';
SET default_transaction_isolation = 'read committed';
SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') = 'off';
""".encode()


class Snapshot(Protocol):
    """What is read: what is committed, or what one's own transaction sees."""

    @property
    def connection(self) -> Connection: ...
    @property
    def prefix(self) -> str: ...
    @property
    def now(self) -> int: ...
    async def rows(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Return what a statement finds."""


class Committed(NamedTuple):
    """What is committed, over a connection that is nobody else's meanwhile."""

    connection: Connection
    prefix: str
    now: int

    async def rows(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Return what a statement finds."""
        return await fetch(self.connection, statement, **values)


def shown(url: str) -> str:
    """Return the database for a message: without password."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        return "the database"
    place = parts.get("host") or "the local socket"
    return f"database {parts.get('dbname') or parts.get('user') or ''!r} on {place}"


async def configure(connection: Connection) -> None:
    """Make a new connection ours."""
    # Numbers always as int8: a type that follows the value would prepare a statement many times.
    connection.adapters.register_dumper(int, Int8Dumper)
    connection.adapters.register_dumper(int, Int8BinaryDumper)
    connection.adapters.register_dumper(list, ListBinaryDumper)
    await connection.execute(_SETTINGS)


def _options(url: str) -> dict[str, Any]:
    """Return what a connection is made with; what the URL says itself counts."""
    options = {
        **_KEEPALIVE,
        "connect_timeout": _CONNECT_SECONDS,
        "application_name": "spooled",
    }
    said = conninfo_to_dict(url)
    return {name: value for name, value in options.items() if name not in said}


async def connect(url: str) -> Connection:
    """Return a connection of its own; StoreUnavailableError says why there is none."""
    try:
        conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # Not what libpq says: it shows the part that it does not understand.
        raise StoreUnavailableError(
            "the URL of the store is not one of PostgreSQL; special characters in user and "
            "password must be percent-encoded"
        ) from None
    try:
        options = _options(url)
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True, **options)
    except (psycopg.Error, UnicodeError) as error:
        reason = " ".join(str(error).split())
        raise StoreUnavailableError(f"cannot connect to {shown(url)}: {reason}") from error
    await configure(connection)
    return connection


class Pool(AsyncConnectionPool[Connection]):
    """The connections of a store, none of which is waited for without an end."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._url = url
        self._replaced_at = 0.0
        self._is_asking = False
        # Whether the listener lost its connection, and has no other yet.
        self.is_away = False

    @functools.cached_property
    def where(self) -> str:
        """How another connection to the same database is made."""
        return make_conninfo(self._url, **_options(self._url))

    @staticmethod
    async def check_connection(conn: Connection) -> None:
        """Raise where a connection is lost, or does not answer soon."""
        timer = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, cut, conn)
        try:
            await AsyncConnectionPool.check_connection(conn)
        finally:
            timer.cancel()

    async def replace_idle(self) -> None:
        """Make the idle connections new: they are as old as one that was lost."""
        now = asyncio.get_running_loop().time()
        if now - self._replaced_at > _REPLACED_SECONDS:
            self._replaced_at = now
            await self.drain()

    async def refuse_if_away(self) -> None:
        """RefusedError where the database was away a moment ago, and still is."""
        if self.is_away and not self._is_asking:
            self._is_asking = True
            try:
                with contextlib.suppress(psycopg.Error, asyncio.TimeoutError):
                    async with await asyncio.wait_for(
                        psycopg.AsyncConnection.connect(self.where), _ASK_SECONDS
                    ):
                        self.is_away = False
            finally:
                self._is_asking = False
        if self.is_away:
            raise unavailable()


def make_pool(url: str) -> Pool:
    """Return the connections of a store, not opened yet."""
    return Pool(
        url,
        kwargs={"autocommit": True, **_options(url)},
        configure=configure,
        min_size=2,
        max_size=_CONNECTIONS_MAX,
        timeout=_WAIT_SECONDS,
        reconnect_timeout=_TRY_AGAIN_SECONDS,
        reconnect_failed=_go_on_trying,
        open=False,
    )


async def _go_on_trying(pool: AsyncConnectionPool[Connection]) -> None:
    await pool.check()


async def fetch(connection: Connection, statement: str, **values: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a statement of queries.sql."""
    cursor = connection.cursor(binary=True)
    await cursor.execute(SQL[statement], values)
    return await cursor.fetchall()


async def send(connection: Connection, statement: str, **values: Any) -> None:
    """Run a statement that gives no rows; within a pipeline it is not waited for."""
    await connection.cursor(binary=True).execute(SQL[statement], values)


@contextlib.asynccontextmanager
async def borrowed(pool: Pool, *, tries_again: bool = False) -> AsyncIterator[Connection]:
    """Borrow a connection for a while; failures come out as RefusedError.

    psycopg's own errors of class 40 (serialization, deadlock) are left to those who try again.
    """
    await pool.refuse_if_away()
    try:
        async with pool.connection() as connection:
            try:
                with watched(connection, pool.where):
                    yield connection
            except BaseException:
                await _leave(connection)
                raise
    except (PoolTimeout, PoolClosed) as error:
        raise unavailable() from error
    except psycopg.Error as error:
        if tries_again and isinstance(error, ROLLED_BACK):
            raise
        if is_lost(error):
            raise unavailable() from error
        if _may_pass(error):
            _log.warning("PostgreSQL cannot take this now: %s", type(error).__name__)
            raise RefusedError(
                "UNAVAILABLE",
                f"the store's database cannot take this now ({type(error).__name__}); "
                "nothing of the call was done, and it may be repeated",
            ) from error
        # Not the message: it may show a key.
        kind = f"{type(error).__name__} {error.sqlstate or ''}".strip()
        _log.error("PostgreSQL refused a statement: %s", kind)
        raise RefusedError("INTERNAL", f"the store could not commit: {kind}") from error


async def _leave(connection: Connection) -> None:
    """End what was begun, so that the next one finds the connection as it should be."""
    if not connection.closed:
        timer = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, cut, connection)
        try:
            with contextlib.suppress(psycopg.Error):
                await connection.rollback()
        finally:
            timer.cancel()


def is_lost(error: psycopg.Error) -> bool:
    """Return whether the connection, or the whole database, went away."""
    state = error.sqlstate
    if isinstance(error, ROLLED_BACK):
        return False
    if state is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    # Connections lost, too many of them, ended by an operator or for idling; a standby.
    return state[:2] in ("08", "57") or state in ("53300", "25P03", "25006")


def _may_pass(error: psycopg.Error) -> bool:
    """Return whether the same may be done later: rolled back, no room, locked, an I/O error."""
    state = error.sqlstate or ""
    return state[:2] in ("40", "53", "58") or state == "55P03"


def unavailable() -> RefusedError:
    """Return the refusal while the database is away; what was asked may have been done or not."""
    return RefusedError(
        "UNAVAILABLE", "the database of the store is away; the call may be repeated"
    )
