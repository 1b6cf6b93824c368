"""Workers say that they live; their names belong to their organization."""

from __future__ import annotations

from spooled_pipelines.server.core.records import WorkerRecord
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


async def test_another_organizations_worker_id_is_taken(kit: StoreKit) -> None:
    await kit.store.register_worker(ORGANIZATION, WORKER)
    with refused("ALREADY_EXISTS", "'w' is taken"):
        await kit.store.register_worker("other", WORKER)
    with refused("NOT_FOUND", "no worker 'w'"):
        await kit.store.heartbeat("other", Heartbeat("w", 0, "healthy", "{}"))
    assert not await kit.store.deregister_worker("other", "w")
    await kit.store.heartbeat(ORGANIZATION, Heartbeat("w", 0, "healthy", "{}"))
