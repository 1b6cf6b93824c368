"""The schema: made and brought up to date by whichever server comes first."""

from __future__ import annotations

import psycopg
from psycopg import sql

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.errors import StoreUnavailableError
from spooled_pipelines.server.store.postgres.database import SCHEMA, Connection, shown
from spooled_pipelines.server.store.postgres.queries import MIGRATIONS, SQL

SCHEMA_VERSION = MIGRATIONS[-1][0]
_OLDEST_SERVER = 140_000
# "SPLD": whoever migrates holds this lock of the database.
_LOCK = 0x53504C44


async def prepare(connection: Connection, url: str) -> str:
    """Bring the schema up to date; returns what the ids of this store begin with.

    StoreUnavailableError where the database is too old, or its schema newer than this server.
    """
    if connection.info.server_version < _OLDEST_SERVER:
        version = connection.info.server_version // 10_000
        raise StoreUnavailableError(f"{shown(url)} is PostgreSQL {version}; 14 or newer is needed")
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StoreUnavailableError(f"{shown(url)} is encoded in {encoding}; it must be UTF8")
    try:
        if await _version(connection) < SCHEMA_VERSION:
            await _migrate(connection)
        version = await _version(connection)
        if version > SCHEMA_VERSION:
            raise StoreUnavailableError(
                f"{shown(url)} has schema version {version}, and this server knows up to "
                f"{SCHEMA_VERSION}; use a newer server"
            )
        cursor = await connection.execute(SQL["id_prefix"])
        row = await cursor.fetchone()
    except psycopg.Error as error:
        reason = " ".join(str(error).split())
        raise StoreUnavailableError(f"{shown(url)} cannot be used as a store: {reason}") from error
    if row is None:
        raise StoreUnavailableError(f"{shown(url)} has lost the row of its table spooled.store")
    return str(row[0])


async def _version(connection: Connection) -> int:
    cursor = await connection.execute(
        "SELECT to_regclass(%s) IS NOT NULL", (f"{SCHEMA}.migrations",)
    )
    if await cursor.fetchone() == (False,):
        return 0
    cursor = await connection.execute("SELECT coalesce(max(number), 0) FROM migrations")
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def _migrate(connection: Connection) -> None:
    """A second server waits, and then finds it done."""
    # Before the transaction: only a transaction's start looks at what others did to the catalog.
    await connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
    try:
        async with connection.transaction():
            await _run_missing(connection)
    finally:
        await connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


async def _run_missing(connection: Connection) -> None:
    """All in one transaction: whoever dies in the middle leaves nothing behind."""
    version = await _version(connection)
    if not version:
        name = sql.Identifier(SCHEMA)
        await connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(name))
        await connection.execute(
            "CREATE TABLE migrations (number integer PRIMARY KEY, "
            "applied_at timestamptz NOT NULL DEFAULT now())"
        )
    for number, statements in MIGRATIONS:
        if number > version:
            await connection.execute(statements.encode())
            await connection.execute("INSERT INTO migrations (number) VALUES (%s)", (number,))
    if not version:
        await connection.execute("INSERT INTO store VALUES (%s, 1)", (ids.new_prefix(),))
