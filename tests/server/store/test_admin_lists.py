"""What an operator looks at: queues, batches, workers and a batch's jobs, a page at a time."""

from __future__ import annotations

from typing import Any

import pytest

from spooled_pipelines.server.core.batches.records import BatchOpening
from spooled_pipelines.server.core.jobs.records import JobRecord, Status, WorkerRecord
from spooled_pipelines.server.core.jobs.settlements import Failure
from spooled_pipelines.server.core.limits.queue_limits import QueueLimits
from spooled_pipelines.server.store import limits
from spooled_pipelines.server.store.requests import (
    NEWEST,
    BatchListing,
    ControlChange,
    Heartbeat,
    JobListing,
    JobSearch,
)
from tests.support.store_kit import ORGANIZATION, StoreKit, holder, new_job, refused, settle_one

QUEUES = ("a", "b.1", "b_2", "c", "d-4")


async def queue_names(kit: StoreKit, *queues: str, limit: int = 2) -> list[str]:
    names: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await kit.store.list_queues(ORGANIZATION, queues or None, after, limit)
        assert len(page.queues) <= limit
        names += [queue.queue_name for queue in page.queues]
        after = page.after
    return names


async def batch_ids(kit: StoreKit, *queues: str, limit: int = 2) -> list[str]:
    found: list[str] = []
    before: int | None = NEWEST
    while before is not None:
        listing = BatchListing(queues or None, before=before, limit=limit)
        page = await kit.store.list_batches(ORGANIZATION, listing)
        assert len(page.batches) <= limit
        found += [batch.batch_id for batch in page.batches]
        before = page.before
    return found


async def found_jobs(
    kit: StoreKit, *statuses: int, text: str = "", limit: int = 2, batch_id: str = "b"
) -> list[JobRecord]:
    jobs: list[JobRecord] = []
    after: int | None = 0
    while after is not None:
        page = await kit.store.jobs(ORGANIZATION, JobSearch(batch_id, statuses, text, after, limit))
        assert len(page.jobs) <= limit
        jobs += page.jobs
        after = page.after
    return jobs


async def test_queues_are_listed_by_name_each_once(kit: StoreKit) -> None:
    for name in reversed(QUEUES):
        await kit.enqueue(name)
    await kit.store.enqueue("other", new_job("theirs"))
    for limit in range(1, 7):
        assert await queue_names(kit, limit=limit) == list(QUEUES)
    assert await queue_names(kit, "c", "a", "theirs", "none") == ["a", "c"]
    page = await kit.store.list_queues("nobody", None, "", 10)
    assert (page.queues, page.after) == ([], None)


async def test_a_listed_queue_is_as_it_is_when_asked_for_alone(kit: StoreKit) -> None:
    await kit.enqueue("q", priority=1)
    await kit.enqueue("q", scheduled_at=kit.clock.now() + 60_000)
    kit.clock.advance(5)
    await kit.enqueue("q", priority=2)
    await kit.enqueue("r")
    (job,) = await kit.claim(1)
    await kit.complete(job)
    await kit.store.set_control(ORGANIZATION, "q", ControlChange(limits=QueueLimits(5.0, 2, 7)))
    await kit.store.set_control(ORGANIZATION, "r", ControlChange(paused=True))
    page = await kit.store.list_queues(ORGANIZATION, None, "", 10)
    for listed in page.queues:
        assert listed.record == await kit.store.queue(ORGANIZATION, listed.queue_name)
        assert listed.control == await kit.store.control(ORGANIZATION, listed.queue_name)
    assert [listed.control.paused for listed in page.queues] == [False, True]


async def test_batches_are_listed_newest_first_in_their_newest_generation(kit: StoreKit) -> None:
    for name, queue in (("one", "q"), ("two", "r"), ("three", "q"), ("four", "r")):
        await kit.open_batch(name, queue)
    await kit.store.open_batch("other", BatchOpening("theirs", "q", ""))
    for limit in range(1, 6):
        assert await batch_ids(kit, limit=limit) == ["four", "three", "two", "one"]
        assert await batch_ids(kit, "q", limit=limit) == ["three", "one"]
        assert await batch_ids(kit, "q", "r", limit=limit) == ["four", "three", "two", "one"]
    assert await batch_ids(kit, "nowhere") == []
    await kit.store.open_batch(ORGANIZATION, BatchOpening("one", "q", "again", generation=1))
    assert await batch_ids(kit) == ["one", "four", "three", "two"]
    page = await kit.store.list_batches(ORGANIZATION, BatchListing(None, limit=1))
    assert page.batches == await kit.store.batches(ORGANIZATION, ["one"])


async def test_batches_are_found_by_name_and_time(kit: StoreKit) -> None:
    async def found(listing: BatchListing) -> list[str]:
        page = await kit.store.list_batches(ORGANIZATION, listing)
        return [batch.batch_id for batch in page.batches]

    began = kit.clock.now()
    for number, (name, queue) in enumerate((("x-1", "q"), ("y\0", "q"), ("x-2", "r"))):
        await kit.store.open_batch(ORGANIZATION, BatchOpening(f"b{number}", queue, name))
        kit.clock.advance(60)
    for queues in (None, ["q", "r"]):
        assert await found(BatchListing(queues, "x-")) == ["b2", "b0"]
        assert await found(BatchListing(queues, "y\0")) == ["b1"]
        assert await found(BatchListing(queues, "b1")) == ["b1"]
        assert await found(BatchListing(queues, since=began + 60_000)) == ["b2", "b1"]
        assert await found(BatchListing(queues, until=began + 60_000)) == ["b0"]
    assert await found(BatchListing(["q"], "x-")) == ["b0"]


async def listed(kit: StoreKit, **asked: Any) -> list[JobRecord]:
    jobs: list[JobRecord] = []
    before: int | None = NEWEST
    while before is not None:
        query = JobListing(**{"queues": None, **asked, "before": before, "limit": 2})
        page = await kit.store.jobs(ORGANIZATION, query)
        jobs += page.jobs
        before = page.after
    return jobs


@pytest.fixture
async def mixed(kit: StoreKit) -> list[str]:
    """A job of each kind: retrying, dead, running, scheduled, and one of another queue."""
    await kit.store.enqueue("other", new_job("q"))
    for _ in range(3):
        await kit.enqueue("q", max_retries=1)
    retrying, dead, running = await kit.claim(3, worker="w-7")
    await settle_one(kit.store, ORGANIZATION, holder(retrying), Failure("HTTP 503", True, 90))
    await settle_one(kit.store, ORGANIZATION, holder(dead), Failure("100%", False))
    kit.clock.advance(5)
    scheduled = await kit.enqueue("q", scheduled_at=kit.clock.now() + 60_000)
    elsewhere = await kit.enqueue("r")
    return [retrying.job_id, dead.job_id, running.job_id, scheduled, elsewhere]


async def test_jobs_are_listed_newest_first_by_queue_status_text_and_time(
    kit: StoreKit, mixed: list[str]
) -> None:
    async def found(**asked: Any) -> list[int]:
        return [mixed.index(job.job_id) for job in await listed(kit, **asked)]

    assert await found() == [4, 3, 2, 1, 0]
    assert await found(queues=["r"]) == [4]
    assert await found(queues=["q", "none"]) == [3, 2, 1, 0]
    assert await found(statuses=[Status.PENDING]) == [4, 0]
    assert await found(waiting=True) == [0]
    assert await found(statuses=[Status.DEADLETTER, Status.PROCESSING]) == [2, 1]
    assert await found(text="HTTP") == [0]
    assert await found(text="%") == [1]
    assert await found(text="w-7") == [2, 1, 0]
    assert await found(text="\0") == []
    assert await found(text=mixed[3]) == [3]
    assert await found(text=mixed[3], queues=["r"]) == []
    now = kit.clock.now()
    assert await found(since=now) == [4, 3]
    assert await found(until=now) == [2, 1, 0]
    (retrying,) = await listed(kit, waiting=True)
    assert retrying.due_at == now - 5_000 + 90_000
    assert retrying._replace(due_at=None) == (await kit.job(mixed[0]))._replace(payload=None)
    assert (await kit.store.jobs("nobody", JobListing(None))).jobs == []


async def test_a_listing_looks_at_a_bounded_number_of_jobs_and_ends_before_its_time(
    kit: StoreKit, mixed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("sqlite", "postgres"):
        monkeypatch.setattr(f"spooled_pipelines.server.store.{module}.reads.listing.LISTED_MAX", 2)
    page = await kit.store.jobs(ORGANIZATION, JobListing(None, [Status.DEADLETTER]))
    assert (page.jobs, page.after is not None) == ([], True)
    (dead,) = await listed(kit, statuses=[Status.DEADLETTER])
    assert dead.job_id == mixed[1]
    late = JobListing(None, since=kit.clock.now() + 2 * 86_400_000)
    assert (await kit.store.jobs(ORGANIZATION, late)).after is None


async def test_workers_are_listed_last_heard_of_first(kit: StoreKit) -> None:
    for number, queue in enumerate(("q", "r", "q")):
        worker = WorkerRecord(f"w{number}", queue, "host\0é", "python", 4, "1", "{}")
        await kit.store.register_worker(ORGANIZATION, worker)
        kit.clock.advance(1)
    await kit.store.register_worker(
        "other", WorkerRecord("theirs", "q", "host", "python", 4, "1", "{}")
    )
    registered = kit.clock.now() - 3_000
    await kit.store.heartbeat(ORGANIZATION, Heartbeat("w0", 3, "draining", "{}"))
    listed = await kit.store.list_workers(ORGANIZATION, None, 10)
    assert [worker.worker.worker_id for worker in listed] == ["w0", "w2", "w1"]
    first = listed[0]
    assert (first.status, first.current_jobs) == ("draining", 3)
    assert (first.registered_at, first.seen_at) == (registered, kit.clock.now())
    assert first.worker == WorkerRecord("w0", "q", "host\0é", "python", 4, "1", "{}")
    of_queue = await kit.store.list_workers(ORGANIZATION, ["r"], 10)
    assert [worker.worker.worker_id for worker in of_queue] == ["w1"]
    assert len(await kit.store.list_workers(ORGANIZATION, None, 2)) == 2


@pytest.fixture
async def jobs(kit: StoreKit) -> list[str]:
    """Seven jobs of batch "b": two died, one is done."""
    await kit.open_batch()
    await kit.add("b", *"0123456")
    for error in ("a timeout of 5 s", "100% broken\0 here"):
        (job,) = await kit.claim(1, worker="worker-7")
        await settle_one(kit.store, ORGANIZATION, holder(job), Failure(error, False))
    (done,) = await kit.claim(1, worker="worker-8")
    await kit.complete(done)
    return [job.job_id for job in await found_jobs(kit)]


async def test_a_batch_is_searched_by_status_and_text(kit: StoreKit, jobs: list[str]) -> None:
    async def found(*statuses: int, text: str = "") -> list[int]:
        return [jobs.index(job.job_id) for job in await found_jobs(kit, *statuses, text=text)]

    assert len(jobs) == 7
    assert await found(Status.DEADLETTER) == [0, 1]
    assert await found(Status.COMPLETED, Status.DEADLETTER) == [0, 1, 2]
    assert await found(text="timeout") == [0]
    assert await found(text="100% broken\0 here") == [1]
    assert await found(text="%") == [1]
    assert await found(text="worker-8") == [2]
    assert await found(Status.COMPLETED, text="worker-7") == []
    assert await found(text=jobs[4]) == [4]
    job = await kit.job(jobs[5])
    assert job.idempotency_key is not None
    assert await found(text=job.idempotency_key) == [5]
    assert await found(text="nothing has this") == []
    (whole,) = await found_jobs(kit, text=jobs[2])
    assert whole == (await kit.job(jobs[2]))._replace(payload=None, result=None)


async def test_a_search_looks_at_a_bounded_number_of_jobs_and_goes_on(
    kit: StoreKit, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("sqlite", "postgres"):
        monkeypatch.setattr(
            f"spooled_pipelines.server.store.{module}.reads.listing.SEARCHED_MAX", 2
        )
    assert limits.SEARCHED_MAX == 10_000
    page = await kit.store.jobs(ORGANIZATION, JobSearch("b", [Status.COMPLETED], "", 0, 10))
    assert (page.jobs, page.after is not None) == ([], True)
    (done,) = await found_jobs(kit, Status.COMPLETED)
    assert done.job_id == jobs[2]
    assert [job.job_id for job in await found_jobs(kit, limit=3)] == jobs


async def test_a_search_finds_jobs_that_others_made(kit: StoreKit, jobs: list[str]) -> None:
    await kit.open_batch("second")
    await kit.add("second", "3", "new", "0")
    found = [job.job_id for job in await found_jobs(kit, batch_id="second")]
    assert found[:2] == [jobs[0], jobs[3]]
    assert len(found) == 3
    with refused("NOT_FOUND", "no batch"):
        await kit.store.jobs("other", JobSearch("b", [], "", 0, 10))
