"""The schema, which the first server makes and the first newer one brings up to date."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import psycopg
from psycopg import sql

from spooled_pipelines.server.core import ids
from spooled_pipelines.server.core.errors import StoreUnavailableError
from spooled_pipelines.server.core.page_tokens import new_page_key
from spooled_pipelines.server.store.migrations import (
    Applied,
    MigrationMode,
    lacks,
    may_run,
    missing,
    missing_objects,
    note_applied,
)
from spooled_pipelines.server.store.postgres.connections.database import SCHEMA, Connection, shown
from spooled_pipelines.server.store.postgres.queries import MIGRATIONS, SQL
from spooled_pipelines.server.store.sql import Migration
from spooled_pipelines.server.store.tables import refuse_half_copy

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


async def prepare(connection: Connection, url: str, mode: MigrationMode) -> tuple[str, bytes]:
    """Bring the schema up to date, where that may be.

    Return what this store's ids begin with, and what its page tokens are made with.

    StoreUnavailableError where the database is too old, or its schema newer than this program.
    """
    _refuse_unfit(connection, url)
    try:
        # Of a large table an index takes its time; a lock is waited for as the migration says.
        await connection.execute("SET statement_timeout = 0; SET lock_timeout = 0")
        noted = await _applied(connection, url)
        steps = missing(shown(url), MIGRATIONS, noted or ())
        if may_run(shown(url), steps, is_new=noted is None, mode=mode):
            await _migrate(connection, url)
        else:
            there = await _objects(connection)
            refuse_half_copy(shown(url), there)
            if gone := missing_objects(MIGRATIONS, noted or (), there):
                raise lacks(shown(url), gone)
        await _number_after_restore(connection)
        return await _identity(connection, url)
    except psycopg.Error as error:
        raise _unusable(error, url) from error


async def look(connection: Connection, url: str) -> tuple[list[Migration], bool]:
    """Return the migrations that are missing, and whether there is no store; write nothing."""
    _refuse_unfit(connection, url)
    try:
        noted = await _applied(connection, url)
    except psycopg.Error as error:
        raise _unusable(error, url) from error
    return missing(shown(url), MIGRATIONS, noted or ()), noted is None


async def find_faults(connection: Connection, url: str) -> list[str]:
    """Return what is missing of the schema, and which indexes are not whole, a sentence each."""
    noted = await _applied(connection, url) or ()
    there = await _objects(connection)
    refuse_half_copy(shown(url), there)
    gone = missing_objects(MIGRATIONS, noted, there)
    faults = [f"{what} is missing" for what in gone]
    cursor = await connection.execute(_INVALID_INDEXES, (SCHEMA,))
    return faults + [f"the index {name} is not valid" async for (name,) in cursor]


async def _identity(connection: Connection, url: str) -> tuple[str, bytes]:
    row = await (await connection.execute(SQL["read_identity"])).fetchone()
    if row is None:
        raise StoreUnavailableError(f"{shown(url)} has lost the row of its table spooled.store")
    return str(row[0]), bytes(row[1])


def _refuse_unfit(connection: Connection, url: str) -> None:
    if connection.info.server_version < _OLDEST_SERVER:
        version = connection.info.server_version // 10_000
        raise StoreUnavailableError(f"{shown(url)} is PostgreSQL {version}; 14 or newer is needed")
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StoreUnavailableError(f"{shown(url)} is encoded in {encoding}; it must be UTF8")


def _unusable(error: psycopg.Error, url: str) -> StoreUnavailableError:
    reason = " ".join(str(error).split())
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        reason += "; the page about PostgreSQL has the GRANTs that each role needs"
    return StoreUnavailableError(f"{shown(url)} cannot be used as a store: {reason}")


async def _number_after_restore(connection: Connection) -> None:
    """Pass over the numbers that were handed out since the backup which this database is of."""
    origin = " ".join(
        [str(part) for query in _ORIGIN for part in await _one_row(connection, query)]
    )
    async with connection.transaction():
        place, known = await _one_row(
            connection,
            "SELECT greatest(first_place, (SELECT max(following) FROM job_places)), origin "
            "FROM store FOR UPDATE",
        )
        if known == origin:
            return
        if place > 1:
            place = ids.place_after_restore(place)
            await connection.execute("UPDATE store SET first_place = %s", (place,))
            await connection.execute("UPDATE job_places SET following = %s", (place,))
        await connection.execute("UPDATE store SET origin = %s", (origin,))


async def _one_row(connection: Connection, query: str) -> tuple[Any, ...]:
    """Return a row; none where this user may not ask."""
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
        return await (await connection.execute(query.encode())).fetchone() or ()
    return ()


async def _applied(connection: Connection, url: str) -> list[Applied] | None:
    """Return the migrations that the database notes; None where there is no store."""
    cursor = await connection.execute(
        "SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'migrations' "
        "AND relnamespace = to_regnamespace(%s))",
        (SCHEMA,),
    )
    if await cursor.fetchone() == (False,):
        return None
    try:
        cursor = await connection.execute("SELECT name, checksum, compatible_from FROM migrations")
    except psycopg.errors.UndefinedColumn:
        raise StoreUnavailableError(
            f"{shown(url)} does not note its migrations by name: it was made by a version "
            "before 0.1"
        ) from None
    return [Applied(*row) async for row in cursor]


async def _objects(connection: Connection) -> set[str]:
    cursor = await connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s)", (SCHEMA,)
    )
    return {name async for (name,) in cursor}


async def _migrate(connection: Connection, url: str) -> None:
    """Run what is missing; a second server waits, and then finds it done."""
    # Asked again and again: a statement that waits for the lock would be one that
    # CREATE INDEX CONCURRENTLY waits for.
    while not await _is_locked(connection):  # noqa: ASYNC110
        await asyncio.sleep(_LOCK_PAUSE_SECONDS)
    try:
        noted = await _applied(connection, url)
        steps = missing(shown(url), MIGRATIONS, noted or ())
        for step in steps:
            began = time.monotonic()
            if noted is None and step is steps[0]:
                await _create(connection)
            else:
                await _run(connection, step)
            note_applied(shown(url), step, time.monotonic() - began)
    finally:
        await connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


async def _is_locked(connection: Connection) -> bool:
    cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,))
    return await cursor.fetchone() == (True,)


async def _create(connection: Connection) -> None:
    """Make the schema of the first migration, or nothing at all."""
    async with connection.transaction():
        name = sql.Identifier(SCHEMA)
        # Even IF NOT EXISTS asks for CREATE on the database, which a role need not have where
        # somebody else made the schema for it.
        cursor = await connection.execute("SELECT to_regnamespace(%s) IS NULL", (SCHEMA,))
        if await cursor.fetchone() == (True,):
            await connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
        await connection.execute(
            "CREATE TABLE migrations (name text PRIMARY KEY, checksum text NOT NULL, "
            "compatible_from integer NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        await connection.execute(MIGRATIONS[0].statements.encode())
        await connection.execute(
            "INSERT INTO store (id_prefix, page_key, first_place) VALUES (%s, %s, 1)",
            (ids.new_prefix(), new_page_key()),
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
        "INSERT INTO migrations (name, checksum, compatible_from) VALUES (%s, %s, %s)",
        (migration.name, migration.checksum, migration.compatible_from),
    )
