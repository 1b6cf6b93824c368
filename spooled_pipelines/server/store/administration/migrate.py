"""`migrate`: make the schema of a store or bring it up to date, or say what that would do."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store.administration.backup import is_sqlite
from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.server.store.sql import Migration
from spooled_pipelines.server.store.sqlite.connections import database
from spooled_pipelines.server.store.sqlite.upkeep import backup


def missing_migrations(url: str) -> list[Migration]:
    """Return the migrations that a store lacks, in order, all where there is none.

    StoreUnavailableError where it cannot be read, or is newer than this program. Writes nothing.
    """
    # What there is to say of the URL itself.
    open_store(url, SystemClock())
    if not is_sqlite(url):
        from spooled_pipelines.server.store.postgres.upkeep import inspection

        return asyncio.run(inspection.missing_migrations(url))
    path = database.path_of(url)
    is_new = not path.exists() or not path.stat().st_size
    with closing(sqlite3.connect(":memory:")) if is_new else backup.existing(path) as connection:
        return database.lacking(connection, path)


def migrate(url: str) -> list[Migration]:
    """Run what a store lacks, and return it; each step is a line of the log.

    StoreUnavailableError where the store cannot be opened, or is newer than this program.
    """
    steps = missing_migrations(url)
    if steps:
        asyncio.run(_open_and_close(url))
    return steps


async def _open_and_close(url: str) -> None:
    store = open_store(url, SystemClock())
    await store.open(lambda _: None)
    await store.close()
