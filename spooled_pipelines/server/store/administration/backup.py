"""`backup` and `check`: what an operator does to a store from outside of the server."""

from __future__ import annotations

import asyncio
from pathlib import Path

from spooled_pipelines.server.core.errors import StoreUnavailableError
from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.server.store.sqlite.connections.database import path_of
from spooled_pipelines.server.store.sqlite.upkeep import backup


def back_up(url: str, destination: Path) -> int:
    """Copy a SQLite store, also while a server runs on it; returns the copy's size in bytes.

    StoreUnavailableError or OSError say why there is no copy.
    """
    if not is_sqlite(url):
        raise StoreUnavailableError(
            "only SQLite stores are backed up this way; for PostgreSQL use pg_dump --schema=spooled"
        )
    return backup.back_up(path_of(url), destination)


def find_faults(url: str) -> list[str]:
    """Return a sentence for each thing that is wrong with the schema, the counters or the file.

    Writes nothing. StoreUnavailableError where there is no store, or one of another version.
    """
    if is_sqlite(url):
        return backup.find_faults(path_of(url))
    # What there is to say of the URL itself.
    open_store(url, SystemClock())
    from spooled_pipelines.server.store.postgres.upkeep import inspection

    return asyncio.run(inspection.find_faults(url))


def is_sqlite(url: str) -> bool:
    """Return whether the store is a file."""
    return url.partition(":")[0] == "sqlite"
