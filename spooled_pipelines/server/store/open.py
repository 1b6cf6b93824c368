"""Make the store that a URL names."""

from __future__ import annotations

from spooled_pipelines.server.config.settings import shown_store
from spooled_pipelines.server.core.errors import StoreUnavailableError
from spooled_pipelines.server.core.jobs.rules import MAX_DELIVERIES
from spooled_pipelines.server.core.limits.quotas import UNLIMITED, Quotas
from spooled_pipelines.server.core.runtime.clock import Clock
from spooled_pipelines.server.core.upkeep.retention import KEEP_ALL, Retention
from spooled_pipelines.server.store import JobStore
from spooled_pipelines.server.store.migrations import MigrationMode
from spooled_pipelines.server.store.sqlite.connections.database import path_of
from spooled_pipelines.server.store.sqlite.store import SqliteStore


def store_may_be_there(url: str) -> bool:
    """Return False where there is surely no store: a file that is not there."""
    return not url.startswith("sqlite:") or path_of(url).exists()


def open_store(
    url: str,
    clock: Clock,
    retention: Retention = KEEP_ALL,
    quotas: Quotas = UNLIMITED,
    migrate: MigrationMode = MigrationMode.AUTO,
    max_deliveries: int = MAX_DELIVERIES,
) -> JobStore:
    """Return the store that a URL names, not opened yet.

    StoreUnavailableError where there is no such kind of store.
    """
    scheme = url.partition(":")[0]
    if scheme == "sqlite":
        return SqliteStore(url, clock, retention, quotas, max_deliveries, migrate=migrate)
    if scheme in ("postgresql", "postgres"):
        try:
            # An extra of its own, and slow to import.
            from spooled_pipelines.server.store.postgres.store import PostgresStore
        except ImportError as error:
            raise StoreUnavailableError(
                "the store is PostgreSQL, and psycopg is not installed; "
                "pip install 'spooled-pipelines[postgres]'"
            ) from error
        return PostgresStore(url, clock, retention, quotas, migrate, max_deliveries)
    raise StoreUnavailableError(
        f"a store must be sqlite:///PATH or postgresql://HOST/DATABASE, got {shown_store(url)!r}"
    )
