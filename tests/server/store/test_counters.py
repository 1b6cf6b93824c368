"""Whatever happens, in whatever order, each counter equals a recount."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Coroutine

import pytest

from spooled_pipelines.server.core.errors import RefusedError
from spooled_pipelines.server.core.jobs.records import JobRecord
from spooled_pipelines.server.core.jobs.settlements import Failure
from tests.support.store_kit import ORGANIZATION, StoreKit, chunk, holder, settle_one

STEPS = 120


class Walk:
    """Random operations over few names, so that they meet."""

    def __init__(self, kit: StoreKit, seed: int) -> None:
        self.kit = kit
        self.random = random.Random(seed)
        self.claimed: list[JobRecord] = []
        self.number = 0

    def name(self) -> str:
        return str(self.random.randrange(30))

    async def step(self) -> None:
        choices = [self.enqueue, self.chunk, self.chunk, self.claim, self.claim, self.settle]
        choices += [self.settle, self.fail, self.wait, self.seal, self.renew, self.reopen]
        await self.random.choice(choices)()

    async def enqueue(self) -> None:
        (key,) = chunk("b", [self.name()]).keys
        due = self.kit.clock.now() + self.random.choice([-1_000, 5_000])
        await self.kit.enqueue(
            self.random.choice("qr"),
            idempotency_key=self.random.choice([None, key]),
            max_retries=1,
            scheduled_at=self.random.choice([None, due]),
        )

    async def chunk(self) -> None:
        self.number += 1
        names = [self.name() for _ in range(self.random.randrange(1, 8))]
        batch_id = self.random.choice("ab")
        due = [self.kit.clock.now() + self.random.choice([-1, 5_000]) for _ in names]
        options = {"number": self.number, "max_retries": 1, "scheduled_at": due}
        await self.kit.open_batch(batch_id)
        first = await self.kit.add(batch_id, *names, **options)
        assert await self.kit.add(batch_id, *names, **options) == first

    async def claim(self) -> None:
        self.claimed += await self.kit.claim(
            self.random.randrange(1, 5), seconds=5, queue_name=self.random.choice("qr")
        )

    async def settle(self) -> None:
        if self.claimed:
            job = self.claimed.pop(self.random.randrange(len(self.claimed)))
            await self.try_to(self.kit.complete(job))

    async def fail(self) -> None:
        if self.claimed:
            job = self.claimed.pop()
            retry = self.random.random() < 0.5
            await self.try_to(
                settle_one(self.kit.store, ORGANIZATION, holder(job), Failure("broken", retry))
            )

    async def renew(self) -> None:
        if self.claimed:
            who = holder(self.random.choice(self.claimed))
            await self.try_to(self.kit.store.renew(ORGANIZATION, who, 9_000))

    async def wait(self) -> None:
        self.kit.clock.advance(self.random.choice([1, 6, 70]))
        await self.kit.store.sweep()

    async def seal(self) -> None:
        await self.try_to(self.kit.store.seal_batch(ORGANIZATION, self.random.choice("ab")))

    async def reopen(self) -> None:
        if self.random.random() < 0.2:
            await self.kit.reopen()

    @staticmethod
    async def try_to(operation: Coroutine[object, object, object]) -> None:
        # Stale leases and batches that are not there yet are part of the walk.
        with contextlib.suppress(RefusedError):
            await operation


@pytest.mark.parametrize("seed", range(8))
async def test_counters_equal_a_recount_after_every_step(kit: StoreKit, seed: int) -> None:
    walk = Walk(kit, seed)
    for _ in range(STEPS):
        await walk.step()
        assert await kit.store.recount() == []
