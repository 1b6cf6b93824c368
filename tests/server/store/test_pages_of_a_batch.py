"""A batch's jobs in pages: each once, oldest first, also while they change."""

from __future__ import annotations

from spooled_pipelines.server.core.jobs.columns import columns_of_jobs
from spooled_pipelines.server.core.jobs.records import JobRecord, Status
from spooled_pipelines.server.store.requests import BatchJobs
from tests.support.store_kit import ORGANIZATION, StoreKit, chunk, struct


async def listed(
    kit: StoreKit, *statuses: int, limit: int = 2, omit_payload: bool = False
) -> list[JobRecord]:
    jobs: list[JobRecord] = []
    after: int | None = 0
    while after is not None:
        query = BatchJobs("b", statuses, after, limit, omit_payload)
        page = await kit.store.jobs(ORGANIZATION, query)
        assert 0 < len(page.jobs) <= limit or not jobs
        # By column it is the same page.
        columns = await kit.store.job_columns(ORGANIZATION, query, None)
        assert columns == columns_of_jobs(page.jobs, page.after)
        jobs += page.jobs
        after = page.after
    return jobs


async def test_pages_hold_each_job_once_in_the_order_of_their_enqueue(kit: StoreKit) -> None:
    keys = chunk("b", ["early", "late"]).keys
    early = await kit.enqueue(idempotency_key=keys[0])
    await kit.open_batch()
    await kit.add("b", "1", "2", "early", priorities=[1, 2, 3])
    late = await kit.enqueue(idempotency_key=keys[1])
    await kit.add("b", "3", "late", "1", number=1)
    jobs = await listed(kit)
    assert [job.seq for job in jobs] == sorted({job.seq for job in jobs})
    assert [job.job_id for job in jobs] == [
        early,
        *[job.job_id for job in jobs[1:3]],
        late,
        jobs[4].job_id,
    ]
    assert len(jobs) == 5


async def test_a_page_boundary_is_no_place_to_lose_a_job(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", *(str(n) for n in range(7)))
    for limit in range(1, 9):
        assert len(await listed(kit, limit=limit)) == 7


async def test_only_the_statuses_asked_for(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", *"123456")
    done = [await kit.claim_one() for _ in range(2)]
    for job in done:
        await kit.complete(job)
    running = await kit.claim_one()
    assert [j.job_id for j in await listed(kit, Status.COMPLETED)] == [j.job_id for j in done]
    both = await listed(kit, Status.PROCESSING, Status.COMPLETED, limit=1)
    assert [j.job_id for j in both] == [*[j.job_id for j in done], running.job_id]
    assert await listed(kit, Status.CANCELLED) == []


async def test_payloads_are_left_out_on_request(kit: StoreKit) -> None:
    await kit.open_batch()
    await kit.add("b", "1")
    (job,) = await listed(kit, omit_payload=True)
    assert job.payload is None
    (job,) = await listed(kit)
    assert job.payload == struct(name="1")


async def test_a_page_is_bounded_in_bytes_too(kit: StoreKit) -> None:
    await kit.open_batch()
    payloads = [struct(text="x" * size) for size in (100_000, 100_000, 100_000, 1_000_000, 1)]
    await kit.add("b", *"12345", payloads=payloads)
    page = await kit.store.jobs(ORGANIZATION, BatchJobs("b", (), 0, 100, False))
    assert len(page.jobs) == 2
    # What is larger than a page by itself is a page.
    page = await kit.store.jobs(ORGANIZATION, BatchJobs("b", (), page.jobs[1].seq + 1, 100, False))
    assert len(page.jobs) == 1
    assert len(await listed(kit, limit=100)) == 5


async def test_columns_hold_jobs_of_the_queues_asked_for(kit: StoreKit) -> None:
    keys = chunk("b", ["elsewhere"]).keys
    await kit.enqueue(idempotency_key=keys[0], queue_name="other")
    await kit.open_batch()
    await kit.add("b", "1", "elsewhere", "2")
    query = BatchJobs("b", (), 0, 100)
    jobs = (await kit.store.jobs(ORGANIZATION, query)).jobs
    for queues in ({"other"}, {"q"}, {"q", "other"}, {"none"}):
        columns = await kit.store.job_columns(ORGANIZATION, query, queues)
        assert list(columns.seqs) == [job.seq for job in jobs if job.queue_name in queues]


async def test_a_batch_without_jobs_is_one_empty_page(kit: StoreKit) -> None:
    await kit.open_batch()
    assert await listed(kit) == []
