"""Connections to PostgreSQL: what each is told when it is made, and which failures mean what."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any, Protocol

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.array import ListBinaryDumper
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from spooled_pipelines.server.core.errors import RefusedError, StoreUnavailableError
from spooled_pipelines.server.store.postgres.queries import SQL

_log = logging.getLogger(__name__)

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Pool = AsyncConnectionPool[Connection]

SCHEMA = "spooled"
# Surely not committed, and worth trying again. psycopg's classes of one SQLSTATE class have no
# base of their own in common.
ROLLED_BACK = (
    psycopg.errors.TransactionRollback,
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
)
_CONNECTIONS_MAX = 12
_CONNECT_SECONDS = 10
# How long a call waits for a connection while the database is away; then it is UNAVAILABLE.
_WAIT_SECONDS = 3.0
# The pool's own pauses grow to twice what an outage has lasted, and a call would wait for the end
# of one although the database is back.
_TRY_AGAIN_SECONDS = 1.0
# A server that is stopped in the middle of something must not hold up the others for ever.
# Every statement has the index it needs, and none is worth compiling: left alone, the planner
# takes a table that it has not looked at yet for empty.
_SETTINGS = f"""
SET search_path = {SCHEMA};
SET jit = off;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET idle_in_transaction_session_timeout = '30s';
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
        connection = await psycopg.AsyncConnection.connect(
            url, autocommit=True, connect_timeout=_CONNECT_SECONDS, application_name="spooled"
        )
    except (psycopg.Error, UnicodeError) as error:
        reason = " ".join(str(error).split())
        raise StoreUnavailableError(f"cannot connect to {shown(url)}: {reason}") from error
    await configure(connection)
    return connection


def make_pool(url: str) -> Pool:
    """Return the connections of a store, not opened yet."""
    return AsyncConnectionPool(
        url,
        kwargs={
            "autocommit": True,
            "connect_timeout": _CONNECT_SECONDS,
            "application_name": "spooled",
        },
        configure=configure,
        min_size=2,
        max_size=_CONNECTIONS_MAX,
        timeout=_WAIT_SECONDS,
        reconnect_timeout=_TRY_AGAIN_SECONDS,
        reconnect_failed=_go_on_trying,
        open=False,
    )


async def _go_on_trying(pool: Pool) -> None:
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
async def borrowed(pool: Pool) -> AsyncIterator[Connection]:
    """Borrow a connection for a while; failures come out as RefusedError.

    psycopg's own errors of class 40 (serialization, deadlock) are left to who can try again.
    """
    try:
        async with pool.connection() as connection:
            try:
                yield connection
            except BaseException:
                await _leave(connection)
                raise
    except ROLLED_BACK:
        raise
    except (PoolTimeout, PoolClosed) as error:
        raise unavailable() from error
    except psycopg.Error as error:
        if is_lost(error):
            raise unavailable() from error
        # Not the message: it may show a key.
        kind = f"{type(error).__name__} {error.sqlstate or ''}".strip()
        _log.error("PostgreSQL refused a statement: %s", kind)
        raise RefusedError("INTERNAL", f"the store could not commit: {kind}") from error


async def _leave(connection: Connection) -> None:
    """End what was begun, so that the next one finds the connection as it should be."""
    if not connection.closed:
        with contextlib.suppress(psycopg.Error):
            await connection.rollback()


def is_lost(error: psycopg.Error) -> bool:
    """Return whether the connection, or the whole database, went away."""
    state = error.sqlstate
    if isinstance(error, ROLLED_BACK):
        return False
    if state is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    # Connections lost, too many of them, ended by an operator or for idling; a standby.
    return state[:2] in ("08", "57") or state in ("53300", "25P03", "25006")


def unavailable() -> RefusedError:
    """Return the refusal while the database is away; what was asked may have been done or not."""
    return RefusedError(
        "UNAVAILABLE", "the database of the store is away; the call may be repeated"
    )
