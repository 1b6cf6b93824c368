"""A batch is the set of jobs that its rows are, and its counters follow each of them."""

from __future__ import annotations

from spooled_pipelines.server.core.batches.records import BatchOpening, BatchRecord
from spooled_pipelines.server.core.jobs.settlements import Failure
from spooled_pipelines.server.store.requests import BatchJobs
from tests.support.store_kit import ORGANIZATION, StoreKit, chunk, holder, refused, settle_one


async def record(kit: StoreKit, batch_id: str = "b") -> BatchRecord:
    (found,) = await kit.store.batches(ORGANIZATION, [batch_id])
    return found


async def test_each_row_is_a_job_of_the_batch(kit: StoreKit) -> None:
    await kit.open_batch()
    stored = await kit.store.add_chunk(ORGANIZATION, chunk("b", ["x", "y", "z"]))
    assert (stored.rows, stored.first, list(stored.duplicates)) == (3, 1, [])
    assert await kit.counts() == await kit.queue_counts() == {"pending": 3}
    page = await kit.store.jobs(ORGANIZATION, BatchJobs("b", (), 0, 10, False))
    assert [job.seq for job in page.jobs] == [1, 2, 3]
    assert [job.job_id for job in page.jobs] == [kit.job_id(seq) for seq in (1, 2, 3)]


async def test_columns_and_single_values_mean_the_same(kit: StoreKit) -> None:
    await kit.open_batch()
    later = kit.clock.now() + 5_000
    await kit.add(
        "b",
        "x",
        "y",
        priorities=[1, 2],
        max_retries=[4, 5],
        timeout_seconds=[6, 7],
        scheduled_at=[None, later],
        tags=[b"\n\x00", None],
    )
    await kit.add("b", "z", number=1, priorities=3, max_retries=8, timeout_seconds=9, tags=b"")
    page = await kit.store.jobs(ORGANIZATION, BatchJobs("b", (), 0, 10, False))
    rows = [(j.priority, j.max_retries, j.timeout_seconds, j.scheduled_at) for j in page.jobs]
    assert rows == [(1, 4, 6, None), (2, 5, 7, later), (3, 8, 9, None)]
    assert await kit.counts() == {"pending": 2, "scheduled": 1}
    assert kit.changed().due == later


async def test_the_same_key_twice_in_a_chunk_is_one_job(kit: StoreKit) -> None:
    await kit.open_batch()
    stored = await kit.store.add_chunk(ORGANIZATION, chunk("b", ["x", "y", "x", "x"]))
    assert list(stored.duplicates) == [2, 3]
    assert stored.seqs[0] == stored.seqs[2] == stored.seqs[3] != stored.seqs[1]
    assert await kit.counts() == {"pending": 2}


async def test_the_same_key_in_two_chunks_is_one_job(kit: StoreKit) -> None:
    await kit.open_batch()
    assert await kit.add("b", "x", "y") == (2, [])
    assert await kit.add("b", "y", "z", number=1) == (1, [0])
    assert await kit.counts() == {"pending": 3}


async def test_a_job_of_two_batches_counts_in_both_whatever_happens_to_it(kit: StoreKit) -> None:
    await kit.open_batch("a")
    await kit.open_batch("b")
    await kit.add("a", "x", "y")
    assert await kit.add("b", "y", "z") == (1, [0])
    assert await kit.counts("a") == await kit.counts("b") == {"pending": 2}
    assert await kit.queue_counts() == {"pending": 3}
    for _ in range(3):
        await kit.complete(await kit.claim_one())
    assert await kit.counts("a") == await kit.counts("b") == {"completed": 2}
    assert await kit.queue_counts() == {"completed": 3}


async def test_a_batch_takes_in_jobs_of_single_enqueues_as_they_stand(kit: StoreKit) -> None:
    keys = chunk("b", ["x", "y", "z"]).keys
    for key in keys:
        await kit.enqueue("other", idempotency_key=key)
    await kit.complete(await kit.claim_one(queue_name="other"))
    dying = await kit.claim_one(queue_name="other")
    await settle_one(kit.store, ORGANIZATION, holder(dying), Failure("broken", False))
    await kit.open_batch()
    assert await kit.add("b", "x", "y", "z") == (0, [0, 1, 2])
    assert await kit.counts() == {"pending": 1, "completed": 1, "deadletter": 1}
    assert (await record(kit)).top_errors == (("broken", 1),)
    assert await kit.queue_counts() == {}


async def test_a_linked_job_that_waits_for_its_retry_stays_in_step(kit: StoreKit) -> None:
    (key,) = chunk("b", ["x"]).keys
    await kit.enqueue(idempotency_key=key)
    await settle_one(
        kit.store, ORGANIZATION, holder(await kit.claim_one()), Failure("broken", True)
    )
    await kit.open_batch()
    await kit.add("b", "x")
    assert await kit.counts() == {"pending": 1, "waiting": 1}
    kit.clock.advance(60)
    await kit.complete(await kit.claim_one())
    assert await kit.counts() == {"completed": 1}


async def test_keys_that_are_no_hashes_work_as_well(kit: StoreKit) -> None:
    await kit.open_batch()
    keys = ["short", "F" * 32, "f" * 32, "g" * 32, "é" * 255]
    assert await kit.add("b", *"12345", keys=keys) == (5, [])
    assert await kit.add("b", *"12345", keys=keys, number=1) == (0, [0, 1, 2, 3, 4])
    page = await kit.store.jobs(ORGANIZATION, BatchJobs("b", (), 0, 10, False))
    assert [job.idempotency_key for job in page.jobs] == keys


async def test_a_chunk_sent_again_has_its_first_outcome(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", "old", upload_id="other")
    first = await kit.store.add_chunk(ORGANIZATION, chunk("b", ["x", "old", "y", "x"]))
    await kit.complete(await kit.claim_one())
    again = await kit.store.add_chunk(ORGANIZATION, chunk("b", ["x", "old", "y", "x"]))
    assert (list(again.seqs), list(again.duplicates)) == (list(first.seqs), [1, 3])
    clean = await kit.store.add_chunk(ORGANIZATION, chunk("b", ["p", "q"], number=1))
    replayed = await kit.store.add_chunk(ORGANIZATION, chunk("b", ["p", "q"], number=1))
    assert list(replayed.seqs) == [clean.first, clean.first + 1]
    assert not replayed.duplicates
    assert await kit.counts() == {"pending": 4, "completed": 1}


async def test_a_chunk_number_used_again_for_other_rows_is_refused(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.open_batch("other")
    await kit.add("other", "old", "older")
    await kit.add("b", "x", "old")
    # The last is a job, though none of this batch.
    for names in (["x", "z"], ["x"], ["x", "old", "x"], ["x", "older"]):
        with refused("FAILED_PRECONDITION", "chunk 0 of upload 'u' came before with other rows"):
            await kit.add("b", *names)
    assert await kit.add("b", "x", "old") == (1, [1])
    assert await kit.counts() == {"pending": 2}


async def test_another_upload_of_the_same_rows_creates_nothing(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", "x", "y")
    assert await kit.add("b", "x", "y", upload_id="again") == (0, [0, 1])


async def test_sealing_forgets_the_outcomes(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", "x", "y")
    await kit.store.seal_batch(ORGANIZATION, "b")
    assert await kit.add("b", "x", "y") == (0, [0, 1])


async def test_opening_again_finds_the_batch_as_it_is(kit: StoreKit) -> None:
    first = await kit.store.open_batch(ORGANIZATION, BatchOpening("b", "q", "flights"))
    await kit.add("b", "x")
    kit.clock.advance(5)
    again = await kit.store.open_batch(ORGANIZATION, BatchOpening("b", "q", ""))
    assert (again.name, again.created_at) == ("flights", first.created_at)
    assert again.counts.total == 1
    renamed = await kit.store.open_batch(ORGANIZATION, BatchOpening("b", "q", "planes"))
    assert renamed.name == "planes"


async def test_a_batch_stays_on_its_queue(kit: StoreKit) -> None:
    await kit.open_batch("b", "q")
    with refused("FAILED_PRECONDITION", "is on queue 'q', not 'r'"):
        await kit.open_batch("b", "r")


async def test_a_batch_is_settled_when_it_is_sealed_and_nothing_is_open(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", "x")
    await kit.complete(await kit.claim_one())
    assert not (await record(kit)).settled
    assert (await kit.store.seal_batch(ORGANIZATION, "b")).settled
    assert (await kit.store.seal_batch(ORGANIZATION, "b")).settled


async def test_an_empty_batch_is_settled_when_it_is_sealed(kit: StoreKit) -> None:
    await kit.open_batch()
    assert not (await record(kit)).settled
    assert (await kit.store.seal_batch(ORGANIZATION, "b")).settled


async def test_a_new_row_opens_a_sealed_batch_again_and_a_known_one_does_not(
    kit: StoreKit,
) -> None:
    await kit.open_batch()
    await kit.add("b", "x")
    await kit.store.seal_batch(ORGANIZATION, "b")
    await kit.add("b", "x", upload_id="second")
    assert (await record(kit)).sealed
    await kit.add("b", "x", "y", upload_id="third")
    assert not (await record(kit)).sealed
    await kit.store.seal_batch(ORGANIZATION, "b")
    # A job that another batch made is new to this one, too.
    await kit.open_batch("c")
    await kit.add("c", "z")
    await kit.add("b", "z", upload_id="fourth")
    assert not (await record(kit)).sealed


async def test_the_most_frequent_errors_are_told(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", *(str(n) for n in range(21)), max_retries=0)
    # Those that differ in a number alone are one.
    errors = [f"error {'abcdef'[n]} of job {place}" for n in range(6) for place in range(n + 1)]
    for error in errors:
        await settle_one(
            kit.store, ORGANIZATION, holder(await kit.claim_one()), Failure(error, False)
        )
    top = (await record(kit)).top_errors
    assert top == tuple((f"error {'abcdef'[n]} of job …", n + 1) for n in (5, 4, 3, 2, 1))


async def test_a_change_says_which_batch_it_concerns(kit: StoreKit) -> None:
    await kit.open_batch("a")
    await kit.open_batch("b")
    await kit.add("a", "x")
    await kit.add("b", "x", "y")
    kit.changed()
    shared = await kit.claim_one()
    assert kit.changed().batches == {(ORGANIZATION, "a"), (ORGANIZATION, "b")}
    await kit.claim_one()
    assert kit.changed().batches == {(ORGANIZATION, "b")}
    before = (await record(kit, "a")).changed_at
    kit.clock.advance(3)
    await kit.complete(shared)
    assert (await record(kit, "a")).changed_at == before + 3_000
    await kit.store.seal_batch(ORGANIZATION, "b")
    assert (ORGANIZATION, "b") in kit.changed().batches


async def test_another_organizations_batch_is_not_there(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", "x")
    for call in (
        kit.store.batches("other", ["b"]),
        kit.store.seal_batch("other", "b"),
        kit.store.jobs("other", BatchJobs("b", (), 0, 10, False)),
        kit.store.add_chunk("other", chunk("b", ["x"])),
    ):
        with refused("NOT_FOUND", "no batch 'b'"):
            await call
    await kit.store.open_batch("other", BatchOpening("b", "q", ""))
    stored = await kit.store.add_chunk("other", chunk("b", ["x"]))
    assert not stored.duplicates
    assert await kit.counts() == {"pending": 1}


async def test_batches_come_in_the_order_asked_for(kit: StoreKit) -> None:
    for batch_id in ("a", "b", "c"):
        await kit.open_batch(batch_id)
    found = await kit.store.batches(ORGANIZATION, ["c", "a", "c"])
    assert [batch.batch_id for batch in found] == ["c", "a", "c"]
    with refused("NOT_FOUND", "no batch 'x'"):
        await kit.store.batches(ORGANIZATION, ["a", "x"])
