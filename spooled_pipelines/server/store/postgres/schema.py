"""The schema, which the first server makes and the first newer one brings up to date."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.errors import StoreUnavailableError
from spooled_pipelines.server.store.postgres.database import SCHEMA, Connection, shown
from spooled_pipelines.server.store.postgres.queries import MIGRATIONS, SQL
from spooled_pipelines.server.store.sql import Migration

SCHEMA_VERSION = MIGRATIONS[-1].number
_OLDEST_SERVER = 140_000
# "SPLD": who migrates holds this lock of the database.
_LOCK = 0x53504C44
_LOCK_PAUSE_SECONDS = 0.1
# A migration that waits for a table keeps everybody else waiting behind it. So it gives up soon,
# lets the others through, and tries again.
_TABLE_LOCK_TIMEOUT = "2s"
_TABLE_LOCK_ATTEMPTS, _TABLE_LOCK_PAUSE_SECONDS = 30, 1.0
# What CREATE INDEX CONCURRENTLY leaves behind when it fails.
_INVALID_INDEXES = """
SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND NOT i.indisvalid
"""


# Of the table and database (a dump makes others), then of the cluster and of its timeline (which
# a restore to a point in time begins).
_ORIGIN = (
    "SELECT 'store'::regclass::oid, oid FROM pg_database WHERE datname = current_database()",
    "SELECT system_identifier, timeline_id FROM pg_control_system(), pg_control_checkpoint()",
)


class _Version(NamedTuple):
    """What schema a database has, and the oldest version whose servers can use it."""

    number: int
    compatible_from: int


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
        # Of a large table an index takes its time; a lock is waited for as the migration says.
        await connection.execute("SET statement_timeout = 0; SET lock_timeout = 0")
        if (await _version(connection)).number < SCHEMA_VERSION:
            await _migrate(connection)
        schema = await _version(connection)
        if schema.compatible_from > SCHEMA_VERSION:
            raise StoreUnavailableError(
                f"{shown(url)} has schema version {schema.number}, and this server knows up to "
                f"{SCHEMA_VERSION}; use a newer server"
            )
        await _number_after_restore(connection)
        cursor = await connection.execute(SQL["read_id_prefix"])
        row = await cursor.fetchone()
    except psycopg.Error as error:
        reason = " ".join(str(error).split())
        raise StoreUnavailableError(f"{shown(url)} cannot be used as a store: {reason}") from error
    if row is None:
        raise StoreUnavailableError(f"{shown(url)} has lost the row of its table spooled.store")
    return str(row[0])


async def _number_after_restore(connection: Connection) -> None:
    """Pass over the numbers that were handed out since the backup which this database is of."""
    origin = " ".join(
        [str(part) for query in _ORIGIN for part in await _one_row(connection, query)]
    )
    async with connection.transaction():
        following, known = await _one_row(
            connection, "SELECT next_seq, origin FROM store FOR UPDATE"
        )
        if known != origin:
            if following > 1:
                following = ids.number_after_restore(following)
            values = (following, origin)
            await connection.execute("UPDATE store SET next_seq = %s, origin = %s", values)


async def _one_row(connection: Connection, query: str) -> tuple[Any, ...]:
    """Return a row; none where this user may not ask."""
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
        return await (await connection.execute(query.encode())).fetchone() or ()
    return ()


async def _version(connection: Connection) -> _Version:
    cursor = await connection.execute(
        "SELECT to_regclass(%s) IS NOT NULL", (f"{SCHEMA}.migrations",)
    )
    if await cursor.fetchone() == (False,):
        return _Version(0, 0)
    cursor = await connection.execute(
        "SELECT coalesce(max(number), 0), coalesce(max(compatible_from), 0) FROM migrations"
    )
    row = await cursor.fetchone()
    return _Version(*row) if row else _Version(0, 0)


async def _migrate(connection: Connection) -> None:
    """Run what is missing; a second server waits, and then finds it done."""
    # Asked again and again: a statement that waits for the lock would be one that
    # CREATE INDEX CONCURRENTLY waits for.
    while not await _is_locked(connection):  # noqa: ASYNC110
        await asyncio.sleep(_LOCK_PAUSE_SECONDS)
    try:
        version = (await _version(connection)).number
        if not version:
            await _create(connection)
        for migration in MIGRATIONS:
            if migration.number > max(version, 1):
                await _run(connection, migration)
    finally:
        await connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


async def _is_locked(connection: Connection) -> bool:
    cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,))
    return await cursor.fetchone() == (True,)


async def _create(connection: Connection) -> None:
    """Make the schema of the first migration, or nothing at all."""
    async with connection.transaction():
        name = sql.Identifier(SCHEMA)
        await connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(name))
        await connection.execute(
            "CREATE TABLE migrations (number integer PRIMARY KEY, "
            "compatible_from integer NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        await connection.execute(MIGRATIONS[0].statements.encode())
        await connection.execute(
            "INSERT INTO store (id_prefix, next_seq) VALUES (%s, 1)", (ids.new_prefix(),)
        )
        await _note(connection, MIGRATIONS[0])


async def _run(connection: Connection, migration: Migration) -> None:
    """Run one migration, again where others hold the tables that it needs."""
    run = _run_concurrently if migration.is_concurrent else _run_in_transaction
    for _ in range(_TABLE_LOCK_ATTEMPTS - 1):
        with contextlib.suppress(psycopg.errors.LockNotAvailable):
            await run(connection, migration)
            return
        await asyncio.sleep(_TABLE_LOCK_PAUSE_SECONDS)
    await run(connection, migration)


async def _run_in_transaction(connection: Connection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{_TABLE_LOCK_TIMEOUT}'".encode())
        await connection.execute(migration.statements.encode())
        await _note(connection, migration)


async def _run_concurrently(connection: Connection, migration: Migration) -> None:
    """Run statement by statement: after a crash in the middle each must be fit to be run again."""
    cursor = await connection.execute(_INVALID_INDEXES, (SCHEMA,))
    for (index,) in await cursor.fetchall():
        drop = sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier(SCHEMA, index))
        await connection.execute(drop)
    for statement in migration.statements.split(";\n"):
        if statement.strip():
            await connection.execute(statement.encode())
    await _note(connection, migration)


async def _note(connection: Connection, migration: Migration) -> None:
    await connection.execute(
        "INSERT INTO migrations (number, compatible_from) VALUES (%s, %s)",
        (migration.number, migration.compatible_from),
    )
