"""What is looked at in a database beside the servers on it, without writing anything."""

from __future__ import annotations

from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store.migrations import MigrationMode, may_run
from spooled_pipelines.server.store.postgres.connections import schema
from spooled_pipelines.server.store.postgres.connections.database import (
    Committed,
    Connection,
    connect,
    shown,
)
from spooled_pipelines.server.store.postgres.reads import reading
from spooled_pipelines.server.store.sql import Migration


async def missing_migrations(url: str) -> list[Migration]:
    """Return the migrations that the database lacks, in order."""
    async with await _reading(url) as connection:
        return (await schema.look(connection, url))[0]


async def find_faults(url: str) -> list[str]:
    """Return a sentence for each thing that is wrong with the schema or the counters."""
    async with await _reading(url) as connection:
        steps, is_new = await schema.look(connection, url)
        may_run(shown(url), steps, is_new=is_new, mode=MigrationMode.REFUSE)
        faults = await schema.find_faults(connection, url)
        if faults:
            return faults
        mismatches = await reading.recount(Committed(connection, "", SystemClock().now()))
        return [line for mismatch in mismatches for line in mismatch.sentences()]


async def _reading(url: str) -> Connection:
    connection = await connect(url)
    await connection.execute("SET default_transaction_read_only = on; SET statement_timeout = 0")
    return connection
