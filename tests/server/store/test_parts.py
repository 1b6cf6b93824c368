"""A batch that comes in parts is sealed when all of them are in, and not before."""

from __future__ import annotations

import asyncio

import pytest

from spooled_pipelines.server.core.batches.records import (
    BatchOpening,
    BatchRecord,
    ExpectedParts,
    PartRecord,
)
from tests.support.store_kit import ORGANIZATION, StoreKit, chunk, refused


async def begin(kit: StoreKit, *parts: str, generation: int = 0) -> None:
    for part in parts:
        opening = BatchOpening("b", "q", "", generation, part)
        await kit.store.open_batch(ORGANIZATION, opening)


async def add(kit: StoreKit, part: str, *names: str, upload_id: str = "u") -> list[int]:
    """The places of the rows that made no job."""
    await begin(kit, part)
    rows = chunk("b", names, upload_id=f"{part} {upload_id}", part_id=part)
    return list((await kit.store.add_chunk(ORGANIZATION, rows)).duplicates)


async def finish(kit: StoreKit, part: str, rows: int = 1, generation: int = 0) -> None:
    kept = PartRecord(part, True, rows)
    assert await kit.store.finish_part(ORGANIZATION, "b", generation, kept) == kept


async def seal(kit: StoreKit, *parts: str, count: int | None = None) -> BatchRecord:
    expected = ExpectedParts(count, parts)
    return await kit.store.seal_batch(ORGANIZATION, "b", 0, expected)


async def parts(kit: StoreKit, after: str = "", limit: int = 10) -> list[tuple[str, bool, int]]:
    return [tuple(p) for p in await kit.store.batch_parts(ORGANIZATION, "b", after, limit)]


async def test_a_part_that_was_half_sent_does_not_count(kit: StoreKit) -> None:
    await add(kit, "x", "1", "2")
    await add(kit, "y", "3")
    await finish(kit, "y")
    for expected in ({}, {"count": 2}):
        with refused("FAILED_PRECONDITION", "not finished are 'x'"):
            await seal(kit, **expected)
    with refused("FAILED_PRECONDITION", "has 1 finished parts, and missing are 'x'"):
        await seal(kit, "x", "y")
    await finish(kit, "x", 2)
    assert await parts(kit) == [("x", True, 2), ("y", True, 1)]
    assert (await seal(kit, count=2)).sealed


async def test_parts_are_expected_by_number_or_by_name(kit: StoreKit) -> None:
    await begin(kit, "x", "y")
    await finish(kit, "x")
    await finish(kit, "y")
    with refused("FAILED_PRECONDITION", "has 2 finished parts, and expected are 3"):
        await seal(kit, count=3)
    with refused("FAILED_PRECONDITION", "expected are 1; they are 'x', 'y'; name those meant"):
        await seal(kit, count=1)
    with refused("FAILED_PRECONDITION", "missing are 'w', 'z'"):
        await seal(kit, "z", "x", "w")
    # Those that are not meant do not matter, be they whole or not.
    await begin(kit, "v")
    assert (await seal(kit, "x", "x")).sealed


async def test_many_missing_parts_are_named_shortly(kit: StoreKit) -> None:
    await begin(kit, *(f"{n:02}" for n in range(12)))
    with refused("FAILED_PRECONDITION", "'08', '09' and 2 more"):
        await seal(kit)


async def test_a_batch_without_parts_is_sealed_as_ever(kit: StoreKit) -> None:
    await kit.open_batch()
    with refused("FAILED_PRECONDITION", "has 0 finished parts, and expected are 1"):
        await seal(kit, count=1)
    assert (await seal(kit, count=0)).sealed
    assert (await seal(kit)).sealed


async def test_a_new_row_makes_a_finished_part_unfinished_and_a_known_one_does_not(
    kit: StoreKit,
) -> None:
    await add(kit, "x", "1", "2")
    await finish(kit, "x", 2)
    await seal(kit)
    assert await add(kit, "x", "2", "1", upload_id="again") == [0, 1]
    assert await parts(kit) == [("x", True, 2)]
    await add(kit, "x", "2", "3", upload_id="more")
    assert await parts(kit) == [("x", False, 2)]
    (record,) = await kit.store.batches(ORGANIZATION, ["b"])
    assert not record.sealed
    with refused("FAILED_PRECONDITION", "'x'"):
        await seal(kit, count=1)
    await finish(kit, "x", 3)
    assert (await seal(kit, count=1)).sealed


async def test_a_job_of_another_batch_is_new_to_the_part_too(kit: StoreKit) -> None:
    await kit.open_batch("other")
    await kit.add("other", "1")
    await begin(kit, "x")
    await finish(kit, "x", 0)
    assert await add(kit, "x", "1") == [0]
    assert await parts(kit) == [("x", False, 0)]


async def test_the_same_part_twice_at_once_is_there_once(kit: StoreKit) -> None:
    await begin(kit, "x")
    names = [str(n) for n in range(40)]

    async def attempt(upload: str) -> int:
        made = 0
        for number, first in enumerate(range(0, 40, 10)):
            rows = chunk("b", names[first : first + 10], number, upload_id=upload, part_id="x")
            made += 10 - len((await kit.store.add_chunk(ORGANIZATION, rows)).duplicates)
        await finish(kit, "x", 40)
        return made

    assert sum(await asyncio.gather(attempt("u"), attempt("v"))) == 40
    assert await parts(kit) == [("x", True, 40)]
    assert (await seal(kit, count=1)).counts.total == 40


async def test_beginning_a_part_again_changes_nothing(kit: StoreKit) -> None:
    await begin(kit, "x")
    await finish(kit, "x", 7)
    await begin(kit, "x")
    assert await parts(kit) == [("x", True, 7)]


async def test_parts_are_listed_in_the_order_of_their_ids(kit: StoreKit) -> None:
    await begin(kit, "b", "é", "a", "B", "10", "2")
    assert [part for part, *_ in await parts(kit)] == ["10", "2", "B", "a", "b", "é"]
    assert [part for part, *_ in await parts(kit, "B", 2)] == ["a", "b"]
    assert await parts(kit, "é") == []


async def test_a_new_generation_has_no_parts_yet(kit: StoreKit) -> None:
    await begin(kit, "x")
    await finish(kit, "x")
    await begin(kit, "y", generation=1)
    assert await parts(kit) == [("y", False, 0)]
    with refused("FAILED_PRECONDITION", "generation 0 was meant"):
        await finish(kit, "x")
    await finish(kit, "y", generation=1)


@pytest.mark.parametrize("call", ["finish_part", "batch_parts"])
async def test_another_organizations_parts_are_not_there(kit: StoreKit, call: str) -> None:
    await begin(kit, "x")
    arguments = {"finish_part": ("b", 0, PartRecord("x", True, 1)), "batch_parts": ("b", "", 1)}
    with refused("NOT_FOUND", "no batch 'b'"):
        await getattr(kit.store, call)("other", *arguments[call])
