"""The key of a job with another payload: said by row, counted on the batch, replaced on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from spooled_pipelines.server.core.batches.records import ChunkStored
from spooled_pipelines.server.core.jobs.records import JobRecord, Status
from spooled_pipelines.server.core.jobs.settlements import Failure
from spooled_pipelines.server.core.upkeep.retention import Retention
from spooled_pipelines.server.store.open import open_store
from spooled_pipelines.server.store.requests import BatchSelector, KeyQuery
from tests.support.doc_tables import table_under
from tests.support.store_kit import ORGANIZATION, StoreKit, chunk, holder, settle_one, struct

UNSTARTED = (Status.PENDING, Status.SCHEDULED)
RETRIABLE = (*UNSTARTED, Status.DEADLETTER, Status.CANCELLED)
KEYS = chunk("b", ["x", "y", "z"]).keys


async def send(kit: StoreKit, *payloads: bytes, number: int = 1, **options: Any) -> ChunkStored:
    """Rows of the keys x, y, z … with these payloads."""
    names = ["x", "y", "z"][: len(payloads)]
    return await kit.store.add_chunk(
        ORGANIZATION, chunk("b", names, number, payloads=list(payloads), **options)
    )


async def said(kit: StoreKit) -> tuple[int, int]:
    (record,) = await kit.store.batches(ORGANIZATION, ["b"])
    return record.changed, record.replaced


@pytest.fixture
async def filled(kit: StoreKit) -> StoreKit:
    """A batch of x, y and z, each with the payload {"n": 1}."""
    await kit.open_batch()
    await send(kit, *[struct(n=1)] * 3, number=0)
    kit.changed()
    return kit


async def test_a_row_with_another_payload_is_said_and_the_job_keeps_its_own(
    filled: StoreKit,
) -> None:
    stored = await send(filled, struct(n=1), struct(n=2), struct(n="1"))
    assert (stored.duplicates, stored.changed, stored.replaced) == ([0, 1, 2], [1, 2], [])
    assert await said(filled) == (2, 0)
    assert (ORGANIZATION, "b") in filled.changed().batches
    jobs = await filled.claim(3)
    assert {job.payload for job in jobs} == {struct(n=1)}


async def test_the_order_of_fields_is_no_other_payload(kit: StoreKit) -> None:
    inner = struct(deep={"a": 1, "b": [{"c": 1, "d": 2}]})
    other = struct(deep={"b": [{"d": 2, "c": 1}], "a": 1})
    first, again = struct(a=1) + inner, other + struct(a=1)
    await kit.open_batch()
    await send(kit, first, number=0)
    assert (await send(kit, again)).changed == []
    assert (await send(kit, again + struct(b=None), number=2)).changed == [0]


async def test_the_answer_that_is_asked_for_again_is_the_same(filled: StoreKit) -> None:
    rows = (struct(n=1), struct(n=2), struct(n=3))
    for number, replaceable in enumerate(((), UNSTARTED), start=1):
        first = await send(filled, *rows, number=number, replaceable=replaceable)
        again = await send(filled, *rows, number=number, replaceable=replaceable)
        assert [list(places) for places in first[3:]] == [list(places) for places in again[3:]]
        # A chunk that is stored may come without its payloads.
        short = await send(filled, number=number, replaceable=replaceable, keys=KEYS)
        assert list(short.changed) == list(first.changed) == [1, 2]
    assert await said(filled) == (4, 2)


async def test_what_replaced_a_payload_is_not_changed_when_it_comes_again(
    filled: StoreKit,
) -> None:
    """As after a crash, in another upload."""
    rows = (struct(n=1), struct(n=2), struct(n=3))
    assert (await send(filled, *rows, replaceable=UNSTARTED)).replaced == [1, 2]
    again = await send(filled, *rows, upload_id="v", replaceable=UNSTARTED)
    assert (again.duplicates, again.changed) == ([0, 1, 2], [])
    assert sorted(job.payload or b"" for job in await filled.claim(3)) == sorted(rows)


async def state(kit: StoreKit, name: str) -> JobRecord:
    """The job x in this state, as the only job of its batch."""
    await kit.open_batch()
    due = kit.clock.now() + 60_000 if name == "scheduled" else None
    await send(kit, struct(n=1), number=0, scheduled_at=[due])
    if name == "cancelled":
        await kit.store.cancel(ORGANIZATION, BatchSelector("b"))
    elif name not in ("scheduled", "pending"):
        job = await kit.claim_one()
        if name == "completed":
            await kit.complete(job)
        elif name != "processing":
            failure = Failure("broken", retry=name == "waiting")
            await settle_one(kit.store, ORGANIZATION, holder(job), failure)
    return await kit.job(kit.job_id(1))


def replaced() -> dict[str, list[bool]]:
    """The table of docs/states.md: of each state whether it is replaced, by the mode."""
    cells = table_under("states.md", "A job's payload")
    return {name: [one == "replaced" for one in modes] for name, *modes in cells}


REPLACED = replaced()


def test_the_page_says_it_of_every_state() -> None:
    assert REPLACED.keys() == {*Status.NAMES.values(), "waiting"} - {"failed"}


@pytest.mark.parametrize("name", REPLACED)
async def test_only_what_has_not_started_gets_the_payload_and_nothing_else_of_it_changes(
    kit: StoreKit, name: str
) -> None:
    before = await state(kit, name)
    other: dict[str, Any] = {
        "priorities": 9,
        "max_retries": 0,
        "timeout_seconds": 1,
        "scheduled_at": [10**15],
    }
    stored = await send(kit, struct(n=2), replaceable=UNSTARTED, **other)
    assert stored.changed == [0]
    is_replaced, is_retriable = REPLACED[name]
    assert list(stored.replaced) == [0] * is_replaced
    payload = struct(n=2 if is_replaced else 1)
    assert await kit.job(before.job_id) == before._replace(payload=payload)
    more = await send(kit, struct(n=3), number=2, replaceable=RETRIABLE)
    assert list(more.replaced) == [0] * is_retriable


async def test_of_two_rows_with_one_key_the_last_is_what_the_job_gets(kit: StoreKit) -> None:
    await kit.open_batch()
    keys = [KEYS[0]] * 3
    rows: dict[str, Any] = {"keys": keys, "payloads": [struct(n=1), struct(n=2), struct(n=1)]}
    kept = await kit.store.add_chunk(ORGANIZATION, chunk("b", "123", **rows))
    assert (kept.duplicates, kept.changed) == ([1, 2], [1])
    rows["payloads"] = [struct(n=3), struct(n=1), struct(n=1)]
    again = await kit.store.add_chunk(
        ORGANIZATION, chunk("b", "123", 1, replaceable=UNSTARTED, **rows)
    )
    assert (again.changed, again.replaced) == ([0, 1], [0, 1])
    assert (await kit.claim_one()).payload == struct(n=1)


async def test_a_job_of_another_queue_is_neither_compared_nor_replaced(kit: StoreKit) -> None:
    """A key that is limited to a queue must neither read nor write what is on another."""
    job_id = await kit.enqueue("other", idempotency_key=KEYS[0])
    await kit.open_batch()
    stored = await send(kit, struct(n=2), replaceable=UNSTARTED)
    assert (list(stored.duplicates), list(stored.changed)) == ([0], [])
    assert (await kit.job(job_id)).payload == struct(n=1)


@pytest.fixture
async def keeping(store_url: str) -> AsyncIterator[StoreKit]:
    """Keeps payloads for a day."""
    kit = StoreKit(lambda clock: open_store(store_url, clock, Retention(86_400, None)))
    await kit.open()
    yield kit
    await kit.store.close()


@pytest.mark.parametrize("name", ["completed", "cancelled"])
async def test_a_payload_that_was_taken_away_is_compared_and_stays_away(
    keeping: StoreKit, name: str
) -> None:
    await state(keeping, name)
    keeping.clock.advance(2 * 86_400)
    await keeping.store.sweep()
    assert (await keeping.job(keeping.job_id(1))).payload == b""
    assert list((await send(keeping, struct(n=1))).changed) == []
    other = await send(keeping, b"", number=2, replaceable=RETRIABLE)
    assert (list(other.changed), list(other.replaced)) == ([0], [])
    query = KeyQuery("q", [KEYS[0]] * 2, [struct(n=1), struct(n=2)])
    assert await keeping.store.find_keys(ORGANIZATION, query) == ([0, 1], [1])


async def test_keys_are_found_with_those_whose_job_has_another_payload(filled: StoreKit) -> None:
    payloads = [struct(n=1), struct(n=2), struct(n=1), struct(n=2)]
    query = KeyQuery("q", ["none", *KEYS], payloads)
    assert await filled.store.find_keys(ORGANIZATION, query) == ([1, 2, 3], [1, 3])
    assert await said(filled) == (0, 0)


async def test_a_claim_gets_the_old_payload_or_the_new_one_and_the_outcome_says_which(
    kit: StoreKit,
) -> None:
    """At the same time: what was replaced is what the workers get, row by row."""
    await kit.open_batch()
    names = [str(n) for n in range(60)]
    await kit.add("b", *names)
    rows: dict[str, Any] = {
        "payloads": [struct(new=n) for n in range(60)],
        "replaceable": UNSTARTED,
    }

    async def work() -> list[JobRecord]:
        claimed: list[JobRecord] = []
        while len(claimed) < len(names):
            # Those that are being replaced are passed over, and come a little later.
            claimed += await kit.claim(3)
        return claimed

    stored, jobs = await asyncio.gather(
        kit.store.add_chunk(ORGANIZATION, chunk("b", names, 1, **rows)), work()
    )
    replaced = {kit.job_id(stored.seqs[place]) for place in stored.replaced}
    assert list(stored.changed) == list(range(60))
    assert {job.job_id for job in jobs if b"new" in (job.payload or b"")} == replaced
