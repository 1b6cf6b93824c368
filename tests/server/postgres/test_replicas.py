"""Several servers on one database: each sees what the others do, and none takes another's job."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from spooled_pipelines.server.core.batches.records import BatchOpening
from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.jobs.records import JobRecord
from spooled_pipelines.server.core.jobs.settlements import Failure
from spooled_pipelines.server.core.limits.queue_limits import QueueLimits
from spooled_pipelines.server.core.limits.quotas import Quotas
from spooled_pipelines.server.store.requests import ControlChange
from tests.support.replica import Replica
from tests.support.store_kit import ORGANIZATION, chunk, give_back, holder, new_job, settle_one

Replicas = Callable[..., Awaitable[list[Replica]]]
QUEUE, BATCH = (ORGANIZATION, "q"), (ORGANIZATION, "b")


async def test_a_job_enqueued_on_one_wakes_the_claimers_of_another(replicas: Replicas) -> None:
    here, there = await replicas(2)
    job_id = await here.enqueue()
    await there.hears(lambda changes: QUEUE in changes.ready_queues)
    assert (await there.claim_one()).job_id == job_id


async def test_settling_on_one_wakes_the_watchers_of_another(replicas: Replicas) -> None:
    here, there = await replicas(2)
    await here.open_batch()
    await here.add("b", "x")
    await there.hears(lambda changes: BATCH in changes.batches)
    job = await here.claim_one()
    there.changed()
    await here.complete(job)
    await there.hears(lambda changes: BATCH in changes.batches)
    assert await there.counts() == {"completed": 1}
    there.changed()
    await here.store.seal_batch(ORGANIZATION, "b")
    await there.hears(lambda changes: BATCH in changes.batches)


async def test_who_gave_a_lease_hears_that_it_ended_elsewhere(replicas: Replicas) -> None:
    here, there = await replicas(2)
    await here.enqueue()
    job = await here.claim_one()
    await there.complete(job)
    await here.hears(lambda changes: job.job_id in changes.released_jobs)


async def test_the_end_of_ones_own_lease_is_told_to_nobody_else(replicas: Replicas) -> None:
    here, there = await replicas(2)
    await here.enqueue()
    job = await here.claim_one()
    await here.complete(job)
    assert job.job_id in here.changes.released_jobs
    await here.enqueue("later")
    await there.hears(lambda changes: (ORGANIZATION, "later") in changes.ready_queues)
    assert there.changes.released_jobs == []


async def test_a_sweep_tells_of_more_leases_than_fit_into_one_notice(replicas: Replicas) -> None:
    here, there = await replicas(2)
    await here.open_batch()
    await here.add("b", *map(str, range(600)))
    taken = [job for _ in range(6) for job in await here.claim(100)]
    here.clock.advance(31)
    await there.store.sweep()
    ended = {job.job_id for job in taken}
    await here.hears(lambda changes: ended <= set(changes.released_jobs))


async def test_everyone_knows_when_something_is_due(replicas: Replicas) -> None:
    here, there = await replicas(2)
    due = here.clock.now() + 60_000
    await here.enqueue(scheduled_at=due)
    await there.hears(lambda changes: changes.due == due)
    assert await there.store.sweep() == due


async def test_no_job_is_leased_twice(replicas: Replicas) -> None:
    jobs = 2_000
    both = await replicas(2)
    await both[0].open_batch()
    await both[0].add("b", *map(str, range(jobs)))

    async def take(replica: Replica, number: int) -> list[JobRecord]:
        taken: list[JobRecord] = []
        while claimed := await replica.claim(17, worker=f"w{number}"):
            taken += claimed
        return taken

    lots = await asyncio.gather(*(take(both[n % 2], n) for n in range(12)))
    taken = [job for lot in lots for job in lot]
    # Who finds everything locked by another stops early, so that some may be left.
    taken += await take(both[0], 0)
    assert len(taken) == len({job.seq for job in taken}) == jobs
    assert len({job.lease_id for job in taken}) == jobs
    assert await both[1].counts() == {"processing": jobs}


async def test_what_another_has_locked_is_looked_at_again(replicas: Replicas) -> None:
    here, there = await replicas(2)
    await here.enqueue()
    connection = cast("Any", here.store)._pool.connection()
    async with connection as other, other.transaction():
        await other.execute("SELECT FROM jobs FOR UPDATE")
        assert await there.claim() == []
        there.changed()
        # The other one dies, and tells nobody.
        await there.hears(lambda changes: QUEUE in changes.ready_queues)
    assert len(await there.claim()) == 1


async def test_the_same_rows_in_another_order_at_the_same_time(replicas: Replicas) -> None:
    both = await replicas(2)
    names = list(map(str, range(3_000)))
    uploads = []
    for number, (replica, order) in enumerate(
        zip(both * 2, (names, names[::-1], names[1::2] + names[::2], names), strict=True)
    ):
        batch_id = f"b{number}"
        await replica.open_batch(batch_id)
        uploads.append(replica.add(batch_id, *order))
    created = [count for count, _ in await asyncio.gather(*uploads)]
    assert sum(created) == len(names)
    for number in range(4):
        assert await both[0].counts(f"b{number}") == {"pending": len(names)}
    assert await both[0].queue_counts() == {"pending": len(names)}


async def test_the_same_chunk_at_the_same_time_has_one_outcome(replicas: Replicas) -> None:
    both = await replicas(2)
    await both[0].open_batch()
    rows = chunk("b", ["x", "y", "x", "z"])
    outcomes = await asyncio.gather(
        *(replica.store.add_chunk(ORGANIZATION, rows) for replica in both * 3)
    )
    assert {(tuple(found.seqs), tuple(found.duplicates)) for found in outcomes} == {
        (tuple(outcomes[0].seqs), (2,))
    }
    assert await both[0].counts() == {"pending": 3}


async def test_one_settle_wins(replicas: Replicas) -> None:
    both = await replicas(2)
    for _ in range(20):
        await both[0].enqueue()
        job = await both[0].claim_one()
        settles = [replica.complete(job) for replica in both * 2]
        outcomes = await asyncio.gather(*settles, return_exceptions=True)
        refusals = [outcome for outcome in outcomes if outcome is not None]
        assert len(refusals) == 3
        assert all(isinstance(refusal, RefusedError) for refusal in refusals)


async def test_counters_stay_true_while_everything_happens_at_once(replicas: Replicas) -> None:
    """Links, settles, expiries and seals of the same jobs, from both sides, in every order."""
    both = await replicas(2)
    names = list(map(str, range(400)))
    for number in range(4):
        await both[0].open_batch(f"b{number}")

    async def upload(replica: Replica, number: int) -> None:
        for start in range(0, len(names), 40):
            part = names[start : start + 40]
            await replica.add(f"b{number}", *part, number=start)
            if start % 80 == 0:
                await replica.store.seal_batch(ORGANIZATION, f"b{number}")

    async def work(replica: Replica, number: int) -> None:
        for turn in range(30):
            jobs = await replica.claim(10, worker=f"w{number}")
            for place, job in enumerate(jobs):
                # Time flies: the lease may have run out.
                with contextlib.suppress(RefusedError):
                    await settle(replica, job, place % 4, turn % 2 == 0)

    async def settle(replica: Replica, job: JobRecord, way: int, retry: bool) -> None:
        if way == 0:
            await settle_one(replica.store, ORGANIZATION, holder(job), Failure("it broke", retry))
        elif way == 1:
            await give_back(replica.store, ORGANIZATION, [holder(job)])
        elif way == 2:
            await replica.complete(job)

    async def keep_time(replica: Replica) -> None:
        for _ in range(20):
            replica.clock.advance(8)
            await replica.store.sweep()

    await asyncio.gather(
        *(upload(both[n % 2], n) for n in range(4)),
        *(work(both[n % 2], n) for n in range(4)),
        *(keep_time(replica) for replica in both),
    )
    for number in range(4):
        counts = await both[0].counts(f"b{number}")
        assert sum(counts.values()) - counts.get("waiting", 0) == len(names)
    assert await both[1].store.recount() == []


async def test_enqueues_of_one_key_from_both_sides_make_one_job(replicas: Replicas) -> None:
    both = await replicas(2)
    keys = [f"k{n}" for n in range(50)]
    found = await asyncio.gather(
        *(
            replica.store.enqueue(ORGANIZATION, new_job(idempotency_key=key))
            for key in keys
            for replica in both * 2
        )
    )
    assert sum(outcome.created for outcome in found) == len(keys)
    assert len({outcome.job_id for outcome in found}) == len(keys)


async def test_a_text_with_a_zero_character_comes_back_as_it_was(replicas: Replicas) -> None:
    (here,) = await replicas(1)
    opening = BatchOpening("b", "q", "a\0name")
    assert (await here.store.open_batch(ORGANIZATION, opening)).name == "a\0name"
    await here.enqueue(idempotency_key="k\0")
    job = await here.claim_one()
    assert job.idempotency_key == "k\0"
    await settle_one(here.store, ORGANIZATION, holder(job), Failure("it \0 broke", True))
    assert (await here.job(job.job_id)).last_error == "it \0 broke"


@pytest.mark.parametrize("key", ["0" * 32, "h" + "x" * 15, "t", "x" * 16, "F" * 32])
async def test_keys_of_every_shape_come_back_as_they_were(replicas: Replicas, key: str) -> None:
    (here,) = await replicas(1)
    await here.enqueue(idempotency_key=key)
    assert (await here.claim_one()).idempotency_key == key


async def test_a_quota_is_one_for_all_of_them(replicas: Replicas) -> None:
    """Chunks and single jobs, the same keys among them, from both sides at once."""
    stores = await replicas(2, quotas=Quotas(50))
    await stores[0].open_batch()
    made = [
        replica.store.add_chunk(
            ORGANIZATION, chunk("b", [f"r{n}", f"r{n + 1}"], number=n, upload_id=str(place))
        )
        for n in range(20)
        for place, replica in enumerate(stores)
    ]
    made += [
        replica.store.enqueue(ORGANIZATION, new_job(idempotency_key=str(n)))
        for n in range(40)
        for replica in stores
    ]
    for outcome in await asyncio.gather(*made, return_exceptions=True):
        if isinstance(outcome, BaseException):
            assert isinstance(outcome, RefusedError), outcome
            assert outcome.code == "RESOURCE_EXHAUSTED"
    # What did not fit as a chunk leaves room for single jobs.
    for replica in stores * 2:
        with contextlib.suppress(RefusedError):
            await replica.enqueue()
    assert sum((await stores[0].queue_counts()).values()) == 50


async def test_a_queues_limits_hold_over_all_servers_of_a_database(replicas: Replicas) -> None:
    servers = await replicas(3)
    here = servers[0]
    await here.open_batch()
    await here.add("b", *map(str, range(200)))
    limits = QueueLimits(jobs_per_second=10.0, burst=15, max_in_flight=20)
    await here.store.set_control(ORGANIZATION, "q", ControlChange(limits=limits))
    for server in servers[1:]:
        await server.hears(lambda changes: ORGANIZATION in changes.controlled)

    async def all_claim() -> list[JobRecord]:
        claims = [server.claim(4) for server in servers for _ in range(5)]
        return [job for jobs in await asyncio.gather(*claims) for job in jobs]

    first = await all_claim()
    assert len(first) == 15
    here.clock.advance(10)
    assert len(await all_claim()) == 5
    for server in servers:
        server.changed()
    await here.complete(first[0])
    await servers[2].hears(lambda changes: QUEUE in changes.ready_queues)
    assert len(await all_claim()) == 1
