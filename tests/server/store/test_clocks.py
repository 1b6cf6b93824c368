"""Leases last as long as they were given for, whatever the clocks of machines are set to."""

from __future__ import annotations

import pytest

from spooled_pipelines.server.core.runtime import clock as clocks
from spooled_pipelines.server.core.runtime.clock import SystemClock
from spooled_pipelines.server.store.open import open_store
from tests.support.store_kit import ORGANIZATION, StoreKit, new_job

HOURS = 2 * 3_600


@pytest.fixture
def follows(store_url: str) -> bool:
    """Whether the store follows the clock of its database, and not the server's."""
    return store_url.startswith("postgresql")


async def test_a_clock_that_is_set_forward_ends_no_lease(kit: StoreKit, follows: bool) -> None:
    await kit.enqueue()
    job = await kit.claim_one(seconds=30)
    kit.clock.advance(20)
    if not follows:
        kit.clock.jump(HOURS)
    await kit.store.sweep()
    await kit.complete(job)
    assert await kit.queue_counts() == {"completed": 1}


async def test_a_clock_that_is_set_back_keeps_no_lease(kit: StoreKit, follows: bool) -> None:
    await kit.enqueue()
    await kit.claim_one(seconds=5)
    if not follows:
        kit.clock.jump(-HOURS)
    kit.clock.advance(5)
    await kit.store.sweep()
    assert len(await kit.claim()) == 1


async def test_the_clock_is_moved_along_once(kit: StoreKit, follows: bool) -> None:
    await kit.enqueue()
    job = await kit.claim_one(seconds=30)
    if not follows:
        kit.clock.jump(HOURS)
    for _ in range(3):
        await kit.enqueue("another")
    expiry = (await kit.job(job.job_id)).lease_expires_at
    assert expiry == kit.clock.now() + 30_000


async def test_servers_whose_clocks_differ_agree_on_leases(
    store_url: str, follows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not follows:
        return
    kits = []
    wall = clocks._wall
    for hours in (0, HOURS, -HOURS):
        monkeypatch.setattr(clocks, "_wall", lambda hours=hours: wall() + hours * 1_000)
        kit = StoreKit(lambda _: open_store(store_url, SystemClock()))
        await kit.open()
        kits.append(kit)
    for kit in kits:
        await kit.store.enqueue(ORGANIZATION, new_job())
        job = await kit.claim_one(seconds=30)
        for other in kits:
            await other.store.sweep()
        await kits[0].complete(job)
    for kit in kits:
        await kit.store.close()


def test_a_system_clock_tells_by_how_much_it_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, steady = [1_000_000], [5_000]
    monkeypatch.setattr(clocks, "_wall", lambda: wall[0])
    monkeypatch.setattr(clocks, "_steady", lambda: steady[0])
    clock = SystemClock()
    wall[0] += 100
    steady[0] += 100
    assert (clock.step, clock.now()) == (0, 1_000_100)
    wall[0] += 7_200_000
    assert clock.step == 7_200_000
    clock.forget_step(clock.step)
    assert clock.step == 0
    # One that follows another goes on whatever the machine's is set to.
    clock.follow(3_000)
    wall[0] -= 7_200_000
    steady[0] += 1
    assert (clock.step, clock.now()) == (0, 3_001)


def test_a_clock_that_follows_another_does_not_go_back_but_where_that_was_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steady = [5_000]
    monkeypatch.setattr(clocks, "_steady", lambda: steady[0])
    clock = SystemClock()
    clock.follow(100_000)
    # The guess before was half a second late, and the next one is as early.
    for guess in (100_500, 99_600):
        clock.follow(guess)
        assert clock.now() == 100_500
    steady[0] += 899
    assert clock.now() == 100_500
    steady[0] += 11
    assert clock.now() == 100_510
    clock.follow(50_000)
    assert clock.now() == 50_000
