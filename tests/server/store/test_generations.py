"""A newer generation cancels those before it, and the server sees that through after any death."""

from __future__ import annotations

from spooled_pipelines.server.core.batches.records import BatchOpening
from spooled_pipelines.server.store.limits import STEP_JOBS
from tests.support.store_kit import ORGANIZATION, StoreKit, refused

FRESH = BatchOpening("b", "q", "", generation=1, cancels_older=True)


async def fill(kit: StoreKit, rows: int) -> None:
    await kit.open_batch()
    await kit.add("b", *map(str, range(rows)))


async def test_what_the_older_generation_had_not_started_is_cancelled_when_the_newer_begins(
    kit: StoreKit,
) -> None:
    await fill(kit, STEP_JOBS + 5)
    running = await kit.claim_one()
    record = await kit.store.open_batch(ORGANIZATION, FRESH)
    assert (record.generation, sum(record.counts)) == (1, 0)
    assert await kit.queue_counts() == {"processing": 1, "cancelled": STEP_JOBS + 4}
    await kit.complete(running)


async def test_an_opening_that_is_refused_cancels_nothing(kit: StoreKit) -> None:
    await fill(kit, 3)
    with refused("FAILED_PRECONDITION", "is on queue 'q'"):
        await kit.store.open_batch(ORGANIZATION, FRESH._replace(queue_name="other"))
    await kit.store.open_batch(ORGANIZATION, FRESH._replace(generation=2, cancels_older=False))
    with refused("FAILED_PRECONDITION", "has begun again"):
        await kit.store.open_batch(ORGANIZATION, FRESH)
    assert await kit.queue_counts() == {"pending": 3}


async def test_a_batch_keeps_who_made_each_generation(kit: StoreKit) -> None:
    async def opened(made_by: str, generation: int = 0) -> str:
        opening = BatchOpening("b", "q", "", generation=generation, made_by=made_by)
        return (await kit.store.open_batch(ORGANIZATION, opening)).made_by

    assert await opened("airflow/bläu/part") == "airflow/bläu/part"
    assert await opened("airflow/red/part") == "airflow/bläu/part"
    assert await opened("", generation=1) == ""
