"""What settles and strips a job changes nothing that is indexed, and what is noted of it goes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from spooled_pipelines.server.store.postgres.store import PostgresStore
from spooled_pipelines.server.store.postgres.upkeep import pruning
from tests.support.store_kit import StoreKit, execute

# What `complete_jobs`, `complete_chunk`, `renew_chunk` and `strip_jobs` set.
_SET = {"status", "completed_at", "lease_expires_at", "result", "payload", "payload_digest"}
_SET |= {"tags", "pruned"}
_INDEXED = """
SELECT DISTINCT a.attname FROM pg_index i
JOIN pg_depend d ON d.objid = i.indexrelid AND d.refobjid = i.indrelid
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE i.indrelid = 'spooled.jobs'::regclass
"""
_VALUES = "SELECT {} FROM spooled.jobs"
_NOTED = "SELECT coalesce(sum(cardinality(jobs)), 0) FROM spooled.{}"
_FOLLOWING = "phase, starts_by, placed_key, running_key, alone_since"


@pytest.fixture
async def kit(database: str) -> AsyncIterator[StoreKit]:
    """A store with a batch of two jobs."""
    kit = StoreKit(lambda clock: PostgresStore(database, clock))
    await kit.open()
    await kit.open_batch()
    await kit.add("b", "one", "two")
    yield kit
    await kit.store.close()


async def strip(kit: StoreKit) -> None:
    assert isinstance(kit.store, PostgresStore)
    while (await pruning.strip(kit.store.context, kit.clock.now())).more:
        pass


async def test_settling_and_stripping_change_nothing_that_is_indexed(
    kit: StoreKit, database: str
) -> None:
    columns = {name for (name,) in execute(database, _INDEXED)}
    assert {"phase", "due_at", "batch", "idempotency_key"} <= columns
    assert not columns & _SET
    followed = []
    for job in await kit.claim(2):
        followed += execute(database, _VALUES.format(_FOLLOWING))
        await kit.complete(job)
        followed += execute(database, _VALUES.format(_FOLLOWING))
    await strip(kit)
    assert execute(database, _VALUES.format("pruned")) == [(True,)] * 2
    followed += execute(database, _VALUES.format(_FOLLOWING))
    assert set(followed) == {(None,) * 5}


async def test_leases_and_settlements_are_noted_as_long_as_they_are_needed(
    kit: StoreKit, database: str
) -> None:
    for job in await kit.claim(2):
        await kit.complete(job)
    for table in ("leases", "settlements"):
        assert execute(database, _NOTED.format(table)) == [(2,)]
    assert await kit.store.sweep() is None
    await strip(kit)
    for table in ("leases", "settlements"):
        assert execute(database, _NOTED.format(table)) == [(0,)]
