"""Workers say that they live; their names belong to their organization."""

from __future__ import annotations

import pytest

from spooled_pipelines.server.core.jobs.records import WorkerRecord
from spooled_pipelines.server.store.requests import Heartbeat
from tests.support.store_kit import ORGANIZATION, StoreKit, refused

WORKER = WorkerRecord("w", "q", "host", "python", 4, "1", "{}")


async def seen(kit: StoreKit) -> int | None:
    await kit.open_batch()
    return (await kit.store.batches(ORGANIZATION, ["b"]))[0].worker_seen_at


async def test_a_registered_worker_is_seen_on_its_queue_until_it_leaves(kit: StoreKit) -> None:
    assert await seen(kit) is None
    await kit.store.register_worker(ORGANIZATION, WORKER)
    assert await seen(kit) == kit.clock.now()
    kit.clock.advance(10)
    await kit.store.heartbeat(ORGANIZATION, Heartbeat("w", 1, "healthy", "{}"))
    assert await seen(kit) == kit.clock.now()
    assert await kit.store.deregister_worker(ORGANIZATION, "w")
    assert await seen(kit) is None
    assert not await kit.store.deregister_worker(ORGANIZATION, "w")


async def test_registering_again_moves_the_worker(kit: StoreKit) -> None:
    await kit.store.register_worker(ORGANIZATION, WORKER)
    await kit.store.register_worker(ORGANIZATION, WORKER._replace(queue_name="other"))
    assert await seen(kit) is None


async def test_a_worker_id_is_each_organizations_own(kit: StoreKit) -> None:
    await kit.store.register_worker(ORGANIZATION, WORKER)
    with refused("NOT_FOUND", "no worker 'w'"):
        await kit.store.heartbeat("other", Heartbeat("w", 0, "healthy", "{}"))
    assert not await kit.store.deregister_worker("other", "w")
    await kit.store.register_worker("other", WORKER._replace(queue_name="theirs", version="2"))
    await kit.store.heartbeat("other", Heartbeat("w", 9, "busy", "{}"))
    assert await kit.store.queue_of_worker(ORGANIZATION, "w") == "q"
    (own,) = await kit.store.list_workers(ORGANIZATION, None, 10)
    assert (own.worker, own.current_jobs) == (WORKER, 0)
    assert await kit.store.deregister_worker("other", "w")
    await kit.store.heartbeat(ORGANIZATION, Heartbeat("w", 0, "healthy", "{}"))


async def test_workers_that_are_silent_for_a_day_make_room(
    kit: StoreKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("sqlite", "postgres"):
        monkeypatch.setattr(
            f"spooled_pipelines.server.store.{place}.callers.workers.WORKERS_MAX", 2
        )
    for name in ("w1", "w2", "w1"):
        await kit.store.register_worker(ORGANIZATION, WORKER._replace(worker_id=name))
    with refused("RESOURCE_EXHAUSTED", "workers"):
        await kit.store.register_worker(ORGANIZATION, WORKER._replace(worker_id="w3"))
    await kit.store.register_worker("other", WORKER)
    kit.clock.advance(24 * 3_600)
    await kit.store.heartbeat(ORGANIZATION, Heartbeat("w2", 0, "healthy", "{}"))
    kit.clock.advance(1)
    await kit.store.register_worker(ORGANIZATION, WORKER._replace(worker_id="w3"))
    found = await kit.store.list_workers(ORGANIZATION, None, 10)
    assert [one.worker.worker_id for one in found] == ["w3", "w2"]


async def test_asking_for_jobs_makes_no_queue(kit: StoreKit) -> None:
    assert await kit.claim(queue_name="nobody") == []
    page = await kit.store.list_queues(ORGANIZATION, None, "", 10)
    assert [queue.queue_name for queue in page.queues] == []


async def test_queues_of_an_organization_are_bounded(
    kit: StoreKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("sqlite", "postgres"):
        monkeypatch.setattr(
            f"spooled_pipelines.server.store.{place}.connections.id_cache.QUEUES_MAX", 2
        )
    for name in ("q1", "q2", "q1"):
        await kit.store.register_worker(ORGANIZATION, WORKER._replace(queue_name=name))
    with refused("RESOURCE_EXHAUSTED", "queues"):
        await kit.store.register_worker(ORGANIZATION, WORKER._replace(queue_name="q3"))
    await kit.store.register_worker("other", WORKER)


async def test_the_queues_of_one_organization_hide_no_others(kit: StoreKit) -> None:
    for name in ("a", "b", "c"):
        await kit.store.register_worker(ORGANIZATION, WORKER._replace(queue_name=name))
    await kit.store.register_worker("other", WORKER._replace(queue_name="late"))
    found = (await kit.store.depths(2)).queues
    assert [(one.organization, one.queue_name) for one in found] == [
        (ORGANIZATION, "a"),
        ("other", "late"),
    ]
