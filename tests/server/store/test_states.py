"""docs/states.md is the specification: what is done to a job or a batch ends as it says there."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import pytest

from spooled_pipelines.server.core.batches.records import BatchOpening, PartRecord
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.jobs.records import JobRecord, Status
from spooled_pipelines.server.core.jobs.rules import MAX_DELIVERIES
from spooled_pipelines.server.core.jobs.settlements import Death, Failure, GiveBack, Revision
from spooled_pipelines.server.store.requests import BatchJobs, BatchSelector, QueueSelector
from tests.support.doc_tables import table_under
from tests.support.store_kit import ORGANIZATION, StoreKit, give_back, holder, settle_one

# A schedule and a retry are due within this, and a lease lasts longer.
DUE_SECONDS = 60
LEASE_SECONDS = 3_600

Rows = dict[tuple[str, str], str]
Event = Callable[[StoreKit, JobRecord], Awaitable[object]]


def table(heading: str) -> Rows:
    """(state, event) to the state after it, of the table under this heading."""
    cells = table_under("states.md", heading)
    return {(state, event): after for state, event, after in cells}


JOBS, BATCHES = table("A job's life"), table("A batch's life")


async def scheduled(kit: StoreKit) -> JobRecord:
    due = kit.clock.now() + DUE_SECONDS * 1_000
    await kit.add("b", "x", scheduled_at=[due], max_retries=1)
    return await the_job(kit)


async def pending(kit: StoreKit) -> JobRecord:
    await kit.add("b", "x", max_retries=1)
    return await the_job(kit)


async def processing(kit: StoreKit) -> JobRecord:
    await pending(kit)
    return await kit.claim_one(seconds=LEASE_SECONDS)


async def waiting(kit: StoreKit) -> JobRecord:
    job = await processing(kit)
    await settle_one(kit.store, ORGANIZATION, holder(job), Failure("boom", True))
    return job


async def on_its_last_try(kit: StoreKit) -> JobRecord:
    await waiting(kit)
    kit.clock.advance(DUE_SECONDS)
    return await kit.claim_one(seconds=LEASE_SECONDS)


async def delivered_too_often(kit: StoreKit) -> JobRecord:
    job = await processing(kit)
    for _ in range(MAX_DELIVERIES - 1):
        await settle_one(kit.store, ORGANIZATION, holder(job), GiveBack(begun=True))
        job = await kit.claim_one(seconds=LEASE_SECONDS)
    return job


async def completed(kit: StoreKit) -> JobRecord:
    job = await processing(kit)
    await kit.complete(job)
    return job


async def deadletter(kit: StoreKit) -> JobRecord:
    job = await processing(kit)
    await settle_one(kit.store, ORGANIZATION, holder(job), Failure("boom", False))
    return job


async def cancelled(kit: StoreKit) -> JobRecord:
    job = await pending(kit)
    await kit.store.cancel(ORGANIZATION, BatchSelector("b", None))
    return job


async def cancelled_early(kit: StoreKit) -> JobRecord:
    job = await scheduled(kit)
    await kit.store.cancel(ORGANIZATION, BatchSelector("b", None))
    return job


STATES: dict[str, Callable[[StoreKit], Awaitable[JobRecord]]] = {
    "scheduled": scheduled,
    "pending": pending,
    "waiting": waiting,
    "processing": processing,
    "processing, on its last try": on_its_last_try,
    "processing, delivered too often": delivered_too_often,
    "completed": completed,
    "deadletter": deadletter,
    "cancelled": cancelled,
    "cancelled, not due yet": cancelled_early,
}


async def advance(kit: StoreKit, seconds: float) -> None:
    kit.clock.advance(seconds)
    await kit.store.sweep()


EVENTS: dict[str, Event] = {
    "it is due": lambda kit, _: advance(kit, DUE_SECONDS),
    "its lease runs out": lambda kit, _: advance(kit, LEASE_SECONDS),
    "somebody claims it": lambda kit, _: kit.claim(10, worker="another"),
    "its holder completes it": lambda kit, job: kit.complete(job),
    "its holder fails it": lambda kit, job: settle_one(
        kit.store, ORGANIZATION, holder(job), Failure("b", True)
    ),
    "its holder fails it for good": lambda kit, job: settle_one(
        kit.store, ORGANIZATION, holder(job), Failure("b", False)
    ),
    "its holder gives it back undelivered": lambda kit, job: give_back(
        kit.store, ORGANIZATION, [holder(job)]
    ),
    "its holder gives it back unfinished": lambda kit, job: settle_one(
        kit.store, ORGANIZATION, holder(job), GiveBack(begun=True)
    ),
    "its process dies with it alone": lambda kit, job: settle_one(
        kit.store, ORGANIZATION, holder(job), Death("b", -9, others=0)
    ),
    "its process dies with several": lambda kit, job: settle_one(
        kit.store, ORGANIZATION, holder(job), Death("b", 1, others=1)
    ),
    "its holder snoozes it": lambda kit, job: settle_one(
        kit.store, ORGANIZATION, holder(job), GiveBack(after_ms=1_000 * DUE_SECONDS)
    ),
    "its holder is throttled": lambda kit, job: settle_one(
        kit.store, ORGANIZATION, holder(job), GiveBack(after_ms=1_000 * DUE_SECONDS, throttles=True)
    ),
    "its batch is cancelled": lambda kit, _: kit.store.cancel(
        ORGANIZATION, BatchSelector("b", None)
    ),
    "its queue is purged": lambda kit, _: kit.store.cancel(ORGANIZATION, QueueSelector("q")),
    "its batch is retried": lambda kit, _: kit.store.retry(ORGANIZATION, BatchSelector("b"), ""),
    "its batch is retried with what was cancelled": lambda kit, _: kit.store.retry(
        ORGANIZATION, BatchSelector("b"), "", True
    ),
    "its queue's dead letters are retried": lambda kit, _: kit.store.retry(
        ORGANIZATION, QueueSelector("q"), ""
    ),
    "it is requeued by itself": lambda kit, job: kit.store.revise(
        ORGANIZATION, [Revision(job.job_id)]
    ),
    "it is discarded": lambda kit, job: kit.store.revise(
        ORGANIZATION, [Revision(job.job_id, discard=True)]
    ),
}


TAKE_TIME = ("it is due", "its lease runs out")


async def the_job(kit: StoreKit) -> JobRecord:
    (job,) = (await kit.store.jobs(ORGANIZATION, BatchJobs("b", (), 0, 10, False))).jobs
    return job


async def state(kit: StoreKit) -> str:
    """What the job's record and the counters of its queue and its batch say alike."""
    name = Status.NAMES[(await the_job(kit)).status]
    counts = await kit.counts()
    assert counts == await kit.queue_counts()
    assert counts.pop(name) == 1
    if counts:
        assert (name, counts) == ("pending", {"waiting": 1})
        return "waiting"
    return name


def of_jobs(start: str, event: str) -> str:
    """What the page says a job is then."""
    if event == "its lease runs out" and start in ("scheduled", "waiting"):
        # So much later it is due as well.
        event = "it is due"
    return JOBS.get((start, event), start.partition(",")[0])


def changes_it(start: str, event: str) -> bool:
    return of_jobs(start, event) != start.partition(",")[0]


@pytest.mark.parametrize(
    ("start", "event"),
    [(start, event) for start in STATES for event in EVENTS if changes_it(start, event)],
)
async def test_a_job_becomes_what_the_page_says(kit: StoreKit, start: str, event: str) -> None:
    await kit.open_batch()
    job = await STATES[start](kit)
    assert await state(kit) == start.partition(",")[0]
    with contextlib.suppress(RefusedError):
        await EVENTS[event](kit, job)
    assert await state(kit) == of_jobs(start, event)


@pytest.mark.parametrize("start", STATES)
async def test_a_job_stays_what_it_is_where_the_page_says_nothing(
    kit: StoreKit, start: str
) -> None:
    await kit.open_batch()
    job = await STATES[start](kit)
    # What takes time comes last: other events would find it due.
    for event in sorted(EVENTS, key=lambda event: event in TAKE_TIME):
        if not changes_it(start, event):
            with contextlib.suppress(RefusedError):
                await EVENTS[event](kit, job)
            assert await state(kit) == start.partition(",")[0], event


async def of_rows(kit: StoreKit, *, sealed: bool, settled: bool, dead: bool = False) -> None:
    """A batch whose only row is done, dead or not begun."""
    await kit.open_batch()
    await kit.add("b", "x")
    if settled:
        await settle(kit, retry=not dead)
    if sealed:
        await kit.store.seal_batch(ORGANIZATION, "b")


async def of_parts(kit: StoreKit) -> None:
    await kit.store.open_batch(ORGANIZATION, BatchOpening("b", "q", "", part_id="p"))
    await kit.add("b", "x", part_id="p")


async def settle(kit: StoreKit, *, retry: bool = True) -> None:
    job = await kit.claim_one()
    if retry:
        await kit.complete(job)
    else:
        await settle_one(kit.store, ORGANIZATION, holder(job), Failure("boom", False))


async def begin(kit: StoreKit) -> None:
    await kit.store.open_batch(ORGANIZATION, BatchOpening("b", "q", "", generation=1))


BATCH_STATES: dict[str, Callable[[StoreKit], Awaitable[None]]] = {
    "open": lambda kit: of_rows(kit, sealed=False, settled=False),
    "open, all of its jobs settled": lambda kit: of_rows(kit, sealed=False, settled=True),
    "open, a part of it half sent": of_parts,
    "sealed": lambda kit: of_rows(kit, sealed=True, settled=False),
    "settled": lambda kit: of_rows(kit, sealed=True, settled=True, dead=True),
}

BATCH_EVENTS: dict[str, Callable[[StoreKit], Awaitable[object]]] = {
    "it is sealed": lambda kit: kit.store.seal_batch(ORGANIZATION, "b"),
    "its part is finished": lambda kit: kit.store.finish_part(
        ORGANIZATION, "b", 0, PartRecord("p", True, 1)
    ),
    "a new row comes": lambda kit: kit.add("b", "y", number=1),
    "a row comes that it has already": lambda kit: kit.add("b", "x", upload_id="again"),
    "its last job settles": settle,
    "it is cancelled": lambda kit: kit.store.cancel(ORGANIZATION, BatchSelector("b", None)),
    "its dead letters are retried": lambda kit: kit.store.retry(
        ORGANIZATION, BatchSelector("b"), ""
    ),
    "a newer generation begins": begin,
}


async def batch_state(kit: StoreKit) -> str:
    (batch,) = await kit.store.batches(ORGANIZATION, ["b"])
    if batch.settled:
        return "settled"
    return "sealed" if batch.sealed else "open"


@pytest.mark.parametrize("event", BATCH_EVENTS)
@pytest.mark.parametrize("start", BATCH_STATES)
async def test_a_batch_becomes_what_the_page_says(kit: StoreKit, start: str, event: str) -> None:
    await BATCH_STATES[start](kit)
    before = start.partition(",")[0]
    assert await batch_state(kit) == before
    if event == "its last job settles" and "settled" in start:
        assert await kit.claim() == []
        return
    with contextlib.suppress(RefusedError):
        await BATCH_EVENTS[event](kit)
    assert await batch_state(kit) == BATCHES.get((start, event), before)


def test_the_page_names_nothing_that_is_not_tried() -> None:
    for rows, states, events, ends in (
        (JOBS, STATES, EVENTS, STATES),
        (BATCHES, BATCH_STATES, BATCH_EVENTS, BATCH_STATES),
    ):
        assert rows
        assert {state for state, _ in rows} <= set(states)
        assert {event for _, event in rows} <= set(events)
        assert set(rows.values()) <= set(ends)
