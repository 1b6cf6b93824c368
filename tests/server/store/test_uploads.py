"""A seal counts for the upload that made it: nothing passes on half of another one's rows."""

from __future__ import annotations

from spooled_pipelines.server.core.batches.records import BatchOpening, BatchRecord, PartRecord
from spooled_pipelines.server.core.batches.rules import UPLOAD_GONE_MS
from tests.support.store_kit import ORGANIZATION, StoreKit, refused

GONE_SECONDS = UPLOAD_GONE_MS / 1_000


async def begin(kit: StoreKit, rows_id: str, part_id: str = "", again: int = 0) -> None:
    opening = BatchOpening("b", "q", "", part_id=part_id, rows_id=rows_id)
    await kit.store.open_batch(ORGANIZATION, opening)
    upload_id = f"{rows_id}{again}"
    await kit.add("b", f"row of {rows_id}", upload_id=upload_id, part_id=part_id)


async def seal(kit: StoreKit, rows_id: str = "") -> BatchRecord:
    return await kit.store.seal_batch(ORGANIZATION, "b", rows_id=rows_id)


async def state(kit: StoreKit) -> tuple[bool, bool]:
    """Whether the batch is sealed, and whether that was asked for."""
    (record,) = await kit.store.batches(ORGANIZATION, ["b"])
    return record.sealed, record.seal_asked


async def test_the_last_upload_of_a_batch_seals_it(kit: StoreKit) -> None:
    await begin(kit, "a")
    await begin(kit, "b")
    record = await seal(kit, "a")
    assert (record.sealed, record.seal_asked) == (False, True)
    assert (await seal(kit, "b")).sealed
    # The answer to the first may have been lost.
    assert (await seal(kit, "a")).sealed


async def test_the_same_rows_are_one_upload_however_often_they_come(kit: StoreKit) -> None:
    await begin(kit, "a")
    await begin(kit, "a", again=1)
    assert (await seal(kit, "a")).sealed


async def test_the_server_seals_once_the_others_are_gone(kit: StoreKit) -> None:
    await begin(kit, "a")
    await begin(kit, "b")
    await seal(kit, "a")
    kit.changed()
    kit.clock.advance(GONE_SECONDS - 1)
    assert await kit.store.sweep() == kit.clock.now() + 1_000
    await kit.store.hear_upload(ORGANIZATION, "b", "", "b")
    kit.clock.advance(GONE_SECONDS - 1)
    await kit.store.sweep()
    assert await state(kit) == (False, True)
    kit.clock.advance(1)
    await kit.store.sweep()
    assert await state(kit) == (True, False)
    assert kit.changed().batches == {(ORGANIZATION, "b")}


async def test_a_seal_of_nobodys_is_refused_while_an_upload_goes_on(kit: StoreKit) -> None:
    await begin(kit, "a")
    with refused("FAILED_PRECONDITION", "another upload of batch 'b'"):
        await seal(kit)
    kit.clock.advance(GONE_SECONDS)
    assert (await seal(kit)).sealed


async def test_a_part_is_finished_by_the_last_of_its_uploads(kit: StoreKit) -> None:
    part = PartRecord("x", True, 1)
    await begin(kit, "a", part_id="x")
    await begin(kit, "b", part_id="x")
    await begin(kit, "c", part_id="y")
    with refused("FAILED_PRECONDITION", "another upload of part 'x'"):
        await kit.store.finish_part(ORGANIZATION, "b", 0, part, "a")
    assert await kit.store.finish_part(ORGANIZATION, "b", 0, part, "b") == part
    await begin(kit, "d")
    with refused("FAILED_PRECONDITION", "begun but not finished are 'y'"):
        await seal(kit, "d")
    # Refused, and yet finished: it holds nobody back.
    await kit.store.finish_part(ORGANIZATION, "b", 0, part._replace(part_id="y"), "c")
    assert (await seal(kit)).sealed


async def test_uploads_of_an_older_generation_hold_nothing_back(kit: StoreKit) -> None:
    await begin(kit, "a")
    await begin(kit, "b")
    await seal(kit, "a")
    await kit.store.open_batch(ORGANIZATION, BatchOpening("b", "q", "", 1))
    kit.clock.advance(GONE_SECONDS)
    await kit.store.sweep()
    assert await state(kit) == (False, False)
    assert (await kit.store.seal_batch(ORGANIZATION, "b", 1)).sealed
