"""A client that comes back after a cut is told which chunks are stored, and sends the others."""

from __future__ import annotations

from spooled_pipelines.server.core.batches.records import BatchOpening, ChunkRange
from tests.support.store_kit import ORGANIZATION, StoreKit, chunk, refused


async def told(kit: StoreKit, upload_id: str = "u", batch_id: str = "b") -> list[tuple[int, int]]:
    found = await kit.store.stored_chunks(ORGANIZATION, batch_id, upload_id)
    assert all(isinstance(one, ChunkRange) for one in found)
    return [tuple(one) for one in found]


async def test_the_stored_chunks_of_an_upload_are_told_as_runs(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.open_batch("other")
    assert await told(kit) == []
    for number in (4, 0, 1, 9, 5, 2):
        await kit.add("b", f"row {number}", number=number)
    await kit.add("b", "elsewhere", number=3, upload_id="v")
    await kit.add("other", "too", number=3)
    assert await told(kit) == [(0, 2), (4, 5), (9, 9)]
    assert await told(kit, "v") == [(3, 3)]
    await kit.reopen()
    assert await told(kit) == [(0, 2), (4, 5), (9, 9)]


async def test_a_stored_chunk_comes_again_without_its_payloads(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", "was there", upload_id="before")
    first = await kit.store.add_chunk(ORGANIZATION, chunk("b", ["one", "was there", "two"]))
    bare = chunk("b", ["one", "was there", "two"], payloads=[])
    again = await kit.store.add_chunk(ORGANIZATION, bare)
    assert list(again.seqs) == list(first.seqs)
    assert list(again.duplicates) == [1]
    assert await kit.counts() == {"pending": 3}


async def test_a_chunk_that_is_not_stored_has_to_come_whole(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", "one")
    with refused("FAILED_PRECONDITION", "chunk 1 of upload 'u' is not stored yet"):
        await kit.add("b", "two", number=1, payloads=[])
    # Its rows are jobs, but of another chunk.
    with refused("FAILED_PRECONDITION", "send it with its payloads"):
        await kit.add("b", "one", number=1, payloads=[])
    with refused("FAILED_PRECONDITION", "came before with other rows"):
        await kit.add("b", "two", number=0, payloads=[])
    assert await told(kit) == [(0, 0)]
    assert await kit.add("b", "two", number=1) == (1, [])


async def test_chunks_are_remembered_until_the_seal_and_of_the_newest_generation(
    kit: StoreKit,
) -> None:
    await kit.open_batch()
    await kit.add("b", "one")
    await kit.store.open_batch(ORGANIZATION, BatchOpening("b", "q", "", 1))
    assert await told(kit) == []
    await kit.add("b", "two", number=7, generation=1)
    assert await told(kit) == [(7, 7)]
    await kit.store.seal_batch(ORGANIZATION, "b", 1)
    assert await told(kit) == []
    with refused("NOT_FOUND", "there is no batch 'absent'"):
        await told(kit, batch_id="absent")
