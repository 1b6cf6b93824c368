"""Arrow schemas: those of payloads stay with their jobs, those of results with the batch."""

from __future__ import annotations

from typing import Any

from spooled_pipelines.server.core.batches.records import BatchOpening
from spooled_pipelines.server.core.batches.rules import named_schema
from spooled_pipelines.server.core.jobs.records import JobRecord
from spooled_pipelines.server.core.upkeep.retention import Retention
from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.server.store.requests import BatchJobs
from tests.support.store_kit import ORGANIZATION, StoreKit, refused, struct

DAY = 86_400


async def add(kit: StoreKit, batch_id: str, schema: str, *names: str, **more: Any) -> int:
    """Upload rows with a schema; its number."""
    named = named_schema(batch_id, 0, schema.encode())
    await kit.store.open_batch(ORGANIZATION, BatchOpening(batch_id, "q", "", schema=named))
    await kit.add(batch_id, *names, upload_id=schema, schema_id=named.schema_id, **more)
    return named.schema_id


async def jobs(kit: StoreKit, batch_id: str = "b") -> list[JobRecord]:
    return (await kit.store.jobs(ORGANIZATION, BatchJobs(batch_id, range(1, 8), 0, 100))).jobs


async def schema_of(kit: StoreKit, job: JobRecord) -> tuple[int, bytes]:
    return await kit.store.payload_schema(ORGANIZATION, job.job_id)


async def test_each_job_has_the_schema_of_its_upload(kit: StoreKit) -> None:
    one = await add(kit, "b", "one", "a")
    two = await add(kit, "b", "two", "b", "c")
    await kit.add("b", "d", upload_id="none")
    claimed = sorted(await kit.claim(10))
    assert [job.schema_id for job in claimed] == [one, two, two, None]
    assert [job.schema_id for job in await jobs(kit)] == [one, two, two, None]
    expected = [(one, b"one"), (two, b"two"), (two, b"two")]
    assert [await schema_of(kit, job) for job in claimed[:3]] == expected
    with refused("NOT_FOUND", "came with a schema"):
        await schema_of(kit, claimed[3])
    with refused("NOT_FOUND"):
        await kit.store.payload_schema("other", claimed[0].job_id)


async def test_a_payload_that_is_replaced_brings_its_schema(kit: StoreKit) -> None:
    one = await add(kit, "first", "one", "a", "b")
    two = await add(kit, "b", "two", "a", payloads=[struct(name="new")], replaceable=(1, 2))
    replaced, kept = await jobs(kit, "first")
    assert await schema_of(kit, replaced) == (two, b"two")
    assert await schema_of(kit, kept) == (one, b"one")
    # A job that no batch made has nowhere to keep one.
    key = await kit.enqueue(idempotency_key="lone")
    assert (await kit.job(key)).schema_id is None


async def test_a_job_that_outlives_its_batch_keeps_its_schema(store_url: str) -> None:
    kit = StoreKit(lambda clock: open_store(store_url, clock, Retention(DAY, None, 10 * DAY)))
    await kit.open()
    one = await add(kit, "old", "one", "a", "b")
    await kit.store.seal_batch(ORGANIZATION, "old")
    for job in await kit.claim(10):
        await kit.complete(job)
    kit.clock.advance(9 * DAY)
    await add(kit, "b", "two", "a", "new")
    kit.clock.advance(2 * DAY)
    while (moment := await kit.store.sweep()) is not None and moment - kit.clock.now() < 1_000:
        kit.clock.advance((moment - kit.clock.now()) / 1_000)
    with refused("NOT_FOUND"):
        await kit.counts("old")
    inherited, _ = await jobs(kit)
    assert await schema_of(kit, inherited) == (one, b"one")
    await kit.store.close()


async def test_the_first_schema_of_results_is_that_of_the_batch(kit: StoreKit) -> None:
    await add(kit, "b", "one", "a", "b")
    assert await kit.store.result_schema(ORGANIZATION, "b") is None
    first, second = await jobs(kit)
    keep = kit.store.keep_result_schema
    assert await keep(ORGANIZATION, first.job_id, b"these") == b"these"
    assert await keep(ORGANIZATION, second.job_id, b"others") == b"these"
    assert await kit.store.result_schema(ORGANIZATION, "b") == b"these"
    assert await kit.store.result_schema("other", "b") is None
    lone = await kit.enqueue()
    with refused("NOT_FOUND", "that a batch has made"):
        await keep(ORGANIZATION, lone, b"x")
    with refused("NOT_FOUND"):
        await keep("other", first.job_id, b"x")
